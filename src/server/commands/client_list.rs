//! The line that CLIENT LIST and CLIENT INFO give of a client, and the filters of LIST and KILL. Field names,
//! order and meaning are those of Redis 7.4; monitoring tools read them.

use crate::command::args::is;
use crate::command::error::CmdError;
use crate::pubsub::Kind;
use crate::server::blocking::Blocked;
use crate::server::client::{Client, Close, Role};
use crate::tracking::{Mode, Tracker};
use crate::util::num::push_u64;

/// Output up to this size counts as the client's fixed buffer (`obl`), what is beyond as its list of reply
/// blocks (`oll`, `omem`): AiKv has one growing buffer, but tools look at `omem` for who does not read.
const FIXED_BUFFER_BYTES: usize = 16 * 1024;

/// What a client is to CLIENT LIST TYPE and CLIENT KILL TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Sends commands, or monitors.
    Normal,
    /// A replica of this server.
    Replica,
    /// The server this one copies.
    Primary,
    /// Is subscribed.
    Pubsub,
}

impl Class {
    /// The class of this name.
    pub fn parse(name: &[u8]) -> Result<Class, CmdError> {
        const NAMES: [(&str, Class); 5] = [
            ("normal", Class::Normal),
            ("slave", Class::Replica),
            ("replica", Class::Replica),
            ("pubsub", Class::Pubsub),
            ("master", Class::Primary),
        ];
        let found = NAMES.iter().find(|(word, _)| is(name, word));
        found
            .map(|(_, class)| *class)
            .ok_or_else(|| CmdError::text([&b"ERR Unknown client type '"[..], name, b"'"].concat()))
    }

    /// The class of a client.
    pub fn of(client: &Client) -> Class {
        match client.role {
            Role::Normal if client.subscriptions.is_some() => Class::Pubsub,
            Role::Normal | Role::Monitor | Role::Internal | Role::Script => Class::Normal,
        }
    }
}

/// What a line shows beside what the client itself knows.
#[derive(Clone, Copy)]
pub(in crate::server) struct Around<'a> {
    /// Given for the client that asks: its input is out of its place then.
    pub running: Option<Running>,
    /// Monotonic milliseconds.
    pub now_ms: u64,
    /// How keys are tracked for it.
    pub tracker: Option<&'a Tracker>,
}

/// What is known of the running client only.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Running {
    /// Bytes of the arguments of its command.
    pub argv_bytes: usize,
}

/// Appends the line of a client, with its line end.
pub(in crate::server) fn push_line(out: &mut Vec<u8>, client: &Client, around: Around<'_>) {
    let Around { running, now_ms, tracker } = around;
    let (qbuf, qbuf_capacity) = match running {
        Some(_) => client.noted_input,
        None => (client.input.pending_bytes(), client.input.buffer_capacity().max(client.input_room)),
    };
    let argv_bytes = match (running, client.blocked.as_deref()) {
        (Some(running), _) => running.argv_bytes,
        (None, Some(Blocked::Keys(waiting))) => waiting.args.as_args().bytes(),
        (None, _) => 0,
    };
    let multi = client.multi.as_deref();
    let multi_bytes = multi.map_or(0, |m| m.queue.iter().map(|q| q.args.as_args().bytes()).sum());
    let output = Output::of(client);
    let tracker_bytes = tracker.map_or(0, Tracker::memory_bytes);
    let total = client.memory_bytes() + tracker_bytes + running.map_or(0, |_| qbuf_capacity);
    let seconds_since = |ms: u64| now_ms.saturating_sub(ms) / 1000;
    let mut line = Line { out };
    line.number("id", client.id);
    line.text(" addr", client.peer.addr.as_bytes());
    line.text(" laddr", client.peer.laddr.as_bytes());
    line.signed(" fd", i64::from(client.peer.fd));
    line.text(" name", &client.name);
    line.number(" age", seconds_since(client.created_ms));
    line.number(" idle", seconds_since(client.active_ms));
    line.text(" flags", flags(client, tracker).as_bytes());
    line.number(" db", client.db as u64);
    for (name, kind) in [(" sub", Kind::Channel), (" psub", Kind::Pattern), (" ssub", Kind::Shard)] {
        line.number(name, client.subscriptions.as_ref().map_or(0, |s| s.len(kind)) as u64);
    }
    line.signed(" multi", multi.map_or(-1, |m| m.queue.len() as i64));
    line.number(" watch", client.watched.len() as u64);
    line.number(" qbuf", qbuf as u64);
    line.number(" qbuf-free", qbuf_capacity.saturating_sub(qbuf) as u64);
    line.number(" argv-mem", argv_bytes as u64);
    line.number(" multi-mem", multi_bytes as u64);
    line.number(" rbs", client.reply.buffer_capacity() as u64);
    line.number(" rbp", client.reply_peak as u64);
    line.number(" obl", output.fixed_bytes as u64);
    line.number(" oll", output.blocks as u64);
    line.number(" omem", output.block_bytes as u64);
    line.number(" tot-mem", total as u64);
    line.text(" events", if output.waits { b"rw" } else { b"r" });
    line.text(" cmd", client.last_command.map_or("NULL", |c| c.spec.name).as_bytes());
    line.text(" user", client.user.as_ref().map_or(b"(superuser)", |user| &user.name));
    line.signed(" redir", tracker.map_or(-1, |t| t.redirect.unwrap_or(0) as i64));
    line.number(" resp", client.reply.proto.number());
    line.text(" lib-name", &client.lib_name);
    line.text(" lib-ver", &client.lib_version);
    line.out.push(b'\n');
}

/// A client's pending output in the terms of Redis.
struct Output {
    fixed_bytes: usize,
    blocks: usize,
    block_bytes: usize,
    /// Whether it waits for room in the socket: it is not merely about to be sent.
    waits: bool,
}

impl Output {
    fn of(client: &Client) -> Output {
        let shared_bytes = client.reply.shared_bytes();
        let plain_bytes = client.reply.pending_bytes() - shared_bytes;
        let fixed_bytes = plain_bytes.min(FIXED_BUFFER_BYTES);
        let beyond_bytes = plain_bytes - fixed_bytes;
        Output {
            fixed_bytes,
            blocks: client.reply.shared_count() + beyond_bytes.div_ceil(FIXED_BUFFER_BYTES),
            block_bytes: shared_bytes + beyond_bytes,
            waits: !client.reply.is_empty() && !client.write_pending,
        }
    }
}

/// The letters of `flags=`.
fn flags(client: &Client, tracker: Option<&Tracker>) -> String {
    let letters = [
        ('O', client.role == Role::Monitor),
        ('P', client.subscriptions.is_some()),
        ('x', client.multi.is_some()),
        ('t', tracker.is_some()),
        ('R', tracker.is_some_and(|t| t.broken)),
        ('B', tracker.is_some_and(|t| t.mode == Mode::Broadcast)),
        ('b', client.blocked.is_some()),
        ('d', client.watched.iter().any(|w| w.changed)),
        ('c', client.close == Some(Close::AfterReply)),
        ('A', client.close == Some(Close::Now)),
        ('U', client.peer.is_unix),
        ('e', client.no_evict),
        ('T', client.no_touch),
    ];
    let set: String = letters.iter().filter(|(_, on)| *on).map(|(letter, _)| *letter).collect();
    if set.is_empty() { "N".to_owned() } else { set }
}

/// Writes `name=value` fields.
struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn text(&mut self, name: &str, value: &[u8]) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'=');
        self.out.extend_from_slice(value);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.text(name, b"");
        push_u64(self.out, value);
    }

    fn signed(&mut self, name: &str, value: i64) {
        self.text(name, value.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::Peer;

    #[test]
    fn a_line_has_the_fields_of_redis_in_their_order() {
        let peer = Peer { addr: "1.2.3.4:5".into(), laddr: "6.7.8.9:10".into(), fd: 8, ..Peer::default() };
        let mut client = Client::new(3, 0, peer, 1_000);
        client.name = b"worker".to_vec();
        client.reply.raw(&[b'x'; FIXED_BUFFER_BYTES + 10]);
        let mut line = Vec::new();
        push_line(&mut line, &client, Around { running: None, now_ms: 4_500, tracker: None });
        let line = String::from_utf8(line).unwrap();
        let start = "id=3 addr=1.2.3.4:5 laddr=6.7.8.9:10 fd=8 name=worker age=3 idle=3 flags=N db=0 sub=0 \
                     psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 \
                     rbs=16394 rbp=0 obl=16384 oll=1 omem=10 tot-mem=";
        assert!(line.starts_with(start), "{line}");
        assert!(
            line.ends_with(" events=rw cmd=NULL user=(superuser) redir=-1 resp=2 lib-name= lib-ver=\n"),
            "{line}"
        );
    }
}
