//! XREAD and XREADGROUP, which may wait. A read for a group moves the group on and makes what it delivers
//! pending; it propagates as the claims that have the same effect.

use super::args::{int, is};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Begin, Find, Flags, KeySpec, OnTimeout, Spec, access};
use super::stream::{STREAM, noted, reply_entry};
use super::stream_group::{CREATE_CONSUMER, set_id_effect};
use super::{BlockOn, Ctx, DataFn, Outcome, Propagate, of_kind, stream_claim, stream_id};
use crate::keyspace::Key;
use crate::resp::{Args, OwnedArgs, Proto, Reply};
use crate::value::stream::{self, ConsumerId, Id, Stream};
use crate::value::{Direction, Kind};

/// Keys: the first half of what follows STREAMS.
const fn after_streams(from: i32) -> KeySpec {
    KeySpec {
        begin: Begin::Keyword("STREAMS", from),
        find: Find::Range { last: -1, step: 1, limit: 2 },
        access: access::RO | access::ACCESS,
        notes: "",
    }
}

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "xread",
            arity: -4,
            flags: Flags::READONLY.with(Flags::BLOCKING),
            keys: &[after_streams(1)],
            summary: "Returns the entries of several streams with IDs greater than the ones given. Waits \
                      until there are some if asked to.",
            complexity: "O(N) with N being the number of entries returned.",
            usage: "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
            on_timeout: OnTimeout::NullArray,
            get_keys: Some(keys),
            ..STREAM
        },
        |ctx| {
            let read = Read::parse(ctx.args, ctx.name, Reader::Anyone)?;
            xread(ctx, &read)
        },
    ),
    (
        Spec {
            name: "xreadgroup",
            arity: -7,
            flags: Flags::WRITE.with(Flags::BLOCKING),
            keys: &[after_streams(4)],
            summary: "Returns new or pending entries of several streams for a consumer of a group. Waits \
                      until there are some if asked to.",
            complexity: "O(N) with N being the number of entries returned.",
            usage: "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] \
                    id [id ...]",
            on_timeout: OnTimeout::NullArray,
            get_keys: Some(keys),
            ..STREAM
        },
        |ctx| {
            let read = Read::parse(ctx.args, ctx.name, Reader::Group)?;
            xreadgroup(ctx, &read)
        },
    ),
];

const TIMEOUT_NOT_INTEGER: CmdError = CmdError::new("ERR timeout is not an integer or out of range");
const GROUP_IN_XREAD: CmdError =
    CmdError::new("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.");
const NOACK_IN_XREAD: CmdError =
    CmdError::new("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.");
const NO_GROUP_OPTION: CmdError = CmdError::new("ERR Missing GROUP option for XREADGROUP");
const DOLLAR_IN_GROUP: CmdError = CmdError::new(
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
     consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return \
     an empty result set.",
);
const PLUS_IN_GROUP: CmdError = CmdError::new(
    "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this \
     consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return \
     an empty result set.",
);
const GREATER_IN_XREAD: CmdError = CmdError::new(
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
);
const LAST_IS_LOWEST: CmdError = CmdError::new("ERR the stream last element ID is 0-0");

/// Which of the two commands it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Anyone,
    Group,
}

/// The options of both commands.
struct Read<'a> {
    /// Group and consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    /// Entries per stream at most; 0: all.
    count: usize,
    block_ms: Option<i64>,
    noack: bool,
    /// Index of the first key.
    first: usize,
    /// Number of keys, and of IDs behind them.
    streams: usize,
}

impl<'a> Read<'a> {
    fn parse(args: Args<'a>, name: &str, reader: Reader) -> Result<Read<'a>, CmdError> {
        let mut read = Read { group: None, count: 0, block_ms: None, noack: false, first: 0, streams: 0 };
        let mut at = 1;
        while at < args.len() {
            let (word, more) = (args.get(at), args.len() - 1 - at);
            if is(word, "BLOCK") && more >= 1 {
                at += 1;
                read.block_ms = Some(block_ms(args.get(at))?);
            } else if is(word, "COUNT") && more >= 1 {
                at += 1;
                read.count = int(args.get(at))?.max(0) as usize;
            } else if is(word, "STREAMS") && more >= 1 {
                read.first = at + 1;
                if more % 2 != 0 {
                    return Err(unbalanced(name, reader));
                }
                read.streams = more / 2;
                break;
            } else if is(word, "GROUP") && more >= 2 {
                if reader == Reader::Anyone {
                    return Err(GROUP_IN_XREAD);
                }
                read.group = Some((args.get(at + 1), args.get(at + 2)));
                at += 2;
            } else if is(word, "NOACK") {
                if reader == Reader::Anyone {
                    return Err(NOACK_IN_XREAD);
                }
                read.noack = true;
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        match read.first {
            0 => Err(error::SYNTAX),
            _ if reader == Reader::Group && read.group.is_none() => Err(NO_GROUP_OPTION),
            _ => Ok(read),
        }
    }

    /// Index of the ID of the key at `at`.
    fn id_at(&self, at: usize) -> usize {
        at + self.streams
    }

    fn keys(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.streams
    }

    /// Waits for the keys, or answers that there is nothing. `args` are those to run it with again.
    fn wait(&self, ctx: &mut Ctx<'_>, wakes: Option<Kind>, args: Option<Box<OwnedArgs>>) -> CmdResult {
        let Some(timeout_ms) = self.block_ms else {
            ctx.reply.null_array();
            return Ok(Outcome::Done);
        };
        let keys = self.keys().map(|at| ctx.args.get(at).to_vec()).collect();
        Ok(Outcome::Block(Box::new(BlockOn { keys, kind: wakes, timeout_ms, args })))
    }
}

fn block_ms(bytes: &[u8]) -> Result<i64, CmdError> {
    match int(bytes) {
        Err(_) => Err(TIMEOUT_NOT_INTEGER),
        Ok(..0) => Err(error::TIMEOUT_NEGATIVE),
        Ok(ms) if ms > i64::MAX / 2 => Err(error::TIMEOUT_OUT_OF_RANGE),
        Ok(ms) => Ok(ms),
    }
}

fn unbalanced(name: &str, reader: Reader) -> CmdError {
    let sign = if reader == Reader::Group { '>' } else { '$' };
    CmdError::text(format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{sign}' must be specified."
    ))
}

/// The keys, found as the commands find them: a group may be called `STREAMS`.
fn keys(args: &Args<'_>, out: &mut Vec<(usize, u32)>) -> bool {
    let read = Read::parse(*args, "", Reader::Group).or_else(|error| match error {
        error if error == NO_GROUP_OPTION => Read::parse(*args, "", Reader::Anyone),
        error => Err(error),
    });
    let Ok(read) = read else { return false };
    out.extend(read.keys().map(|at| (at, access::RO | access::ACCESS)));
    true
}

/// Writes the head of the whole reply.
fn reply_streams(reply: &mut Reply, streams: usize) {
    match reply.proto {
        Proto::Resp2 => reply.array(streams),
        Proto::Resp3 => reply.map(streams),
    }
}

/// Writes the key in front of a stream's entries.
fn reply_key(reply: &mut Reply, key: &[u8]) {
    if reply.proto == Proto::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

// ---- XREAD ----

fn xread(ctx: &mut Ctx<'_>, read: &Read<'_>) -> CmdResult {
    let mut afters = Vec::with_capacity(read.streams);
    for at in read.keys() {
        let found = of_kind(ctx.ks.read(ctx.db, ctx.key(at)), Kind::Stream)?;
        let last = found.map(|entry| stream::view(&entry).meta().last_id);
        afters.push(match ctx.args.get(read.id_at(at)) {
            b"$" => last.unwrap_or(Id::MIN),
            b"+" => match last {
                Some(last) => last.prev().ok_or(LAST_IS_LOWEST)?,
                None => Id::MIN,
            },
            b">" => return Err(GREATER_IN_XREAD),
            id => stream_id::strict(id, 0)?,
        });
    }
    let mark = ctx.reply.mark();
    let mut served = 0;
    for (at, after) in read.keys().zip(&afters) {
        let key = ctx.key(at);
        let Some(entry) = ctx.ks.peek(ctx.db, key) else { continue };
        let stream = stream::view(&entry);
        if stream.last_entry_id().is_none_or(|last| last <= *after) {
            continue;
        }
        let Some(start) = after.next() else { continue };
        served += 1;
        reply_key(ctx.reply, key.bytes);
        let inner = ctx.reply.mark();
        let limit = if read.count == 0 { usize::MAX } else { read.count };
        let mut found = 0;
        for item in stream.range(start, Id::MAX, Direction::Forward).take(limit) {
            reply_entry(ctx.reply, &item);
            found += 1;
        }
        ctx.reply.insert_head(inner, |reply| reply.array(found));
    }
    if served > 0 {
        ctx.reply.insert_head(mark, |reply| reply_streams(reply, served));
        return Ok(Outcome::Done);
    }
    let kept = kept_args(ctx.args, read, &afters);
    read.wait(ctx, Some(Kind::Stream), kept)
}

/// The arguments with `$` replaced by the ID it stood for: run again, it would stand for a later one.
fn kept_args(args: Args<'_>, read: &Read<'_>, afters: &[Id]) -> Option<Box<OwnedArgs>> {
    let ids = read.first + read.streams;
    if read.block_ms.is_none() || !(ids..args.len()).any(|at| args.get(at) == b"$") {
        return None;
    }
    let mut out = OwnedArgs::default();
    for at in 0..args.len() {
        match at.checked_sub(ids) {
            Some(i) if args.get(at) == b"$" => out.push(&afters[i].text()),
            _ => out.push_from(&args, at),
        }
    }
    Some(Box::new(out))
}

// ---- XREADGROUP ----

/// What a consumer asks of a stream.
#[derive(Clone, Copy)]
enum Wanted {
    /// Entries that the group has not read yet.
    New,
    /// What is pending for the consumer after this ID.
    After(Id),
}

fn no_group(key: &[u8], group: &[u8]) -> CmdError {
    let text = super::stream_group::no_group(key, group);
    CmdError::text([text.as_bytes(), b" in XREADGROUP with GROUP option"].concat())
}

fn xreadgroup(ctx: &mut Ctx<'_>, read: &Read<'_>) -> CmdResult {
    let (group, consumer) = read.group.ok_or(NO_GROUP_OPTION)?;
    let mut wanted = Vec::with_capacity(read.streams);
    for at in read.keys() {
        let key = ctx.key(at);
        let found = of_kind(ctx.ks.read(ctx.db, key), Kind::Stream)?;
        if found.is_none_or(|entry| stream::view(&entry).group(group).is_none()) {
            return Err(no_group(key.bytes, group));
        }
        wanted.push(match ctx.args.get(read.id_at(at)) {
            b"$" => return Err(DOLLAR_IN_GROUP),
            b"+" => return Err(PLUS_IN_GROUP),
            b">" => Wanted::New,
            id => match stream_id::strict(id, 0)? {
                Id::MAX => Wanted::New,
                id => Wanted::After(id),
            },
        });
    }
    let mark = ctx.reply.mark();
    let mut served = 0;
    let mut effects = Vec::new();
    for (at, wanted) in read.keys().zip(wanted) {
        let key = ctx.key(at);
        served += usize::from(read_for(ctx, key, read, (group, consumer), wanted, &mut effects));
    }
    // Whatever is propagated of it is in the effects.
    ctx.propagate = Propagate::As(effects);
    if served > 0 {
        ctx.reply.insert_head(mark, |reply| reply_streams(reply, served));
        return Ok(Outcome::Done);
    }
    // The group may go with its key, whatever comes in its place.
    read.wait(ctx, None, None)
}

/// Reads one stream for a consumer. True if there is a reply.
fn read_for(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    read: &Read<'_>,
    (group_name, consumer_name): (&[u8], &[u8]),
    wanted: Wanted,
    effects: &mut Vec<OwnedArgs>,
) -> bool {
    let (now_ms, propagating) = (ctx.now_ms(), ctx.propagating());
    let mut entry = ctx.ks.write(ctx.db, key).expect("the key was just there");
    let stream = stream::view_mut(&mut entry);
    let last = stream.last_entry_id();
    let group = stream.group_mut(group_name).expect("the group was just there");
    let (consumer, is_new) = stream_claim::consumer_now(group, consumer_name, now_ms);
    if is_new && read.noack && propagating {
        let words: [&[u8]; 5] = [b"XGROUP", b"CREATECONSUMER", key.bytes, group_name, consumer_name];
        effects.push(OwnedArgs::from_slices(&words));
    }
    let mut delivered = 0;
    let served = match wanted {
        Wanted::New if last.is_none_or(|last| last <= group.last_id) => false,
        Wanted::New => {
            reply_key(ctx.reply, key.bytes);
            let mark = ctx.reply.mark();
            let owner = (!read.noack).then_some(consumer);
            stream.deliver(group_name, owner, read.count, now_ms, &mut |item, group| {
                reply_entry(ctx.reply, item);
                delivered += 1;
                if let Some(pending) = group.get_pending(item.id).filter(|_| propagating && !read.noack) {
                    effects.push(stream_claim::claim_effect(key.bytes, group, &item.id.text(), pending));
                }
            });
            ctx.reply.insert_head(mark, |reply| reply.array(delivered));
            true
        }
        Wanted::After(after) => {
            reply_key(ctx.reply, key.bytes);
            let start = after.next().expect("the highest ID asks for new entries");
            reply_pending(ctx.reply, stream, group_name, consumer, start, (read.count, now_ms));
            true
        }
    };
    if delivered > 0 && propagating {
        let group = stream.group(group_name).expect("the group was just there");
        effects.push(set_id_effect(key.bytes, group));
    }
    drop(entry);
    if is_new {
        noted(ctx.ks, ctx.db, key.bytes, CREATE_CONSUMER);
    }
    // What a consumer reads again is not counted as a change.
    ctx.ks.changes.dirty += u64::from(delivered > 0);
    served
}

/// Writes what is pending for a consumer from `start` on; what is no longer in the stream has null for an
/// entry.
fn reply_pending(
    reply: &mut Reply,
    stream: &mut Stream,
    group: &[u8],
    consumer: ConsumerId,
    start: Id,
    (count, now_ms): (usize, i64),
) {
    let mark = reply.mark();
    let mut found = 0;
    stream.deliver_again(group, consumer, start, count, now_ms, &mut |id, item| {
        found += 1;
        match item {
            Some(item) => reply_entry(reply, &item),
            None => {
                reply.array(2);
                stream_id::reply(reply, id);
                reply.null_array();
            }
        }
    });
    reply.insert_head(mark, |reply| reply.array(found));
}
