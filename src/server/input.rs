//! One client's turn: parse what has come, look up commands and keys ahead so that their memory is in the
//! cache, then run the requests in order.

use super::Server;
use super::blocking::Blocked;
use super::client::{Client, Close, ReplyMode};
use super::gate::Reject;
use super::multi::Queued;
use super::table::{Command, Handler};
use crate::collections::hash::hash_key;
use crate::command::error::{CmdError, wrong_arity};
use crate::command::spec::Flags;
use crate::command::{Hashed, args::is};
use crate::keyspace::Key;
use crate::resp::request::{Limits, Request};
use crate::resp::{Args, Input};
use crate::value::{MemberTable, Stage};

/// What was found out of a request before it runs.
#[derive(Clone, Copy)]
pub struct Prepared {
    command: Option<&'static Command>,
    hashed: Hashed,
}

/// How many members are looked for at once.
const MEMBERS_AHEAD: usize = 64;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All input that can be run was run.
    Done,
    /// There is more: another turn is due.
    More,
}

impl Server {
    /// Parses and runs a client's input, at most one batch of it.
    pub fn run(&mut self, slot: usize) -> Turn {
        let Some(mut client) = self.clients.take(slot) else { return Turn::Done };
        if client.close.is_some() || client.blocked.is_some() {
            self.clients.put(client);
            return Turn::Done;
        }
        client.active_ms = self.now.mono_ms();
        // A client takes its input out while it runs: arguments are borrowed from it.
        let mut input = std::mem::take(&mut client.input);
        input.parse(self.request_limits(&client));
        client.noted_input = (input.pending_bytes(), input.buffer_capacity());
        client.input_room_peak = client.input_room_peak.max(client.noted_input.1);
        client.input_room = client.input_room.max(client.input_room_peak);
        let batch = self.prepare(&client, &input);
        self.run_batch(&mut client, &mut input, &batch);
        self.batch = batch;
        let open = client.close.is_none() && client.blocked.is_none();
        if open && let Some(error) = input.take_error() {
            self.protocol_error(&mut client, error.0);
        }
        let more = open && input.has_more();
        client.input = input;
        match client.blocked.as_deref() {
            Some(Blocked::Script) => self.keep_parked(client),
            _ => self.put_back(client),
        }
        if more { Turn::More } else { Turn::Done }
    }

    fn run_batch(&mut self, client: &mut Client, input: &mut Input, batch: &[Prepared]) {
        self.late_changes.clear();
        self.keyspace.touching = !client.no_touch;
        for prepared in batch {
            let Some(request) = input.next_request() else { break };
            let args = input.args(request);
            if self.process(client, *prepared, args) == Processed::Postponed {
                input.unget();
                break;
            }
            if client.close.is_some() || client.blocked.is_some() || self.is_over_output_limit(client) {
                break;
            }
        }
    }

    /// Puts a client back after its turn and sees to what it left.
    pub(super) fn put_back(&mut self, mut client: Box<Client>) {
        self.mark_late(&mut client);
        self.take_late_pushes(&mut client);
        self.note_memory_of(client.slot);
        if !client.reply.is_empty() {
            self.queue_write(&mut client);
            self.check_output_limit(&mut client);
        }
        match client.close {
            Some(Close::AfterReply) if !client.reply.is_empty() => {}
            Some(_) => {
                client.close_now();
                self.pending_closes.push(client.slot);
            }
            None => {}
        }
        self.clients.put(client);
    }

    fn request_limits(&self, client: &Client) -> Limits {
        Limits {
            bulk_bytes_max: self.config.proto_max_bulk_len as u64,
            unauthenticated: !client.authenticated && self.must_authenticate(),
        }
    }

    /// Looks up the commands of the ready requests and brings the memory of their keys into the cache.
    fn prepare(&mut self, client: &Client, input: &Input) -> Vec<Prepared> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        for request in input.ready() {
            let args = input.args(*request);
            let command = self.table.resolve(&args);
            batch.push(Prepared { command, hashed: Hashed::default() });
        }
        if batch.len() > 1 {
            self.prefetch(client.db, input, &mut batch);
        }
        batch
    }

    /// Pass by pass: all buckets first, then all entries, so that the cache misses overlap.
    fn prefetch(&self, db: usize, input: &Input, batch: &mut [Prepared]) {
        let mut with_members = false;
        for (prepared, request) in batch.iter_mut().zip(input.ready()) {
            let Some(first_key) = prepared.command.map(|c| c.first_key).filter(|i| *i > 0) else { continue };
            let args = input.args(*request);
            let Some(key) = args.try_get(first_key) else { continue };
            let hash = hash_key(key);
            prepared.hashed = Hashed { index: first_key as u32, hash };
            self.keyspace.prefetch_bucket(db, hash);
            with_members |= prepared.command.is_some_and(|command| command.spec.member > 0);
        }
        for prepared in batch.iter().filter(|p| p.hashed.index > 0) {
            self.keyspace.prefetch_entry(db, prepared.hashed.hash);
        }
        if with_members {
            for (batch, ready) in batch.chunks(MEMBERS_AHEAD).zip(input.ready().chunks(MEMBERS_AHEAD)) {
                self.prefetch_members(db, input, batch, ready);
            }
        }
    }

    /// The same for members of big collections: their tables and elements are misses as well.
    fn prefetch_members(&self, db: usize, input: &Input, batch: &[Prepared], ready: &[Request]) {
        let mut found: [Option<(MemberTable<'_>, u64, Stage)>; MEMBERS_AHEAD] = [None; MEMBERS_AHEAD];
        for ((prepared, request), found) in batch.iter().zip(ready).zip(&mut found) {
            let Some(command) = prepared.command.filter(|c| c.spec.member > 0) else { continue };
            let args = input.args(*request);
            let Some(member) = args.try_get(command.spec.member) else { continue };
            let Hashed { index, hash } = prepared.hashed;
            let key = Key { bytes: args.get(index as usize), hash };
            let Some(table) = self.keyspace.member_table(db, key) else { continue };
            let hash = hash_key(member);
            table.prefetch(Stage::Directory, hash);
            let bucket = if command.is(Flags::WRITE) { Stage::BucketForInsert } else { Stage::Bucket };
            *found = Some((table, hash, bucket));
        }
        let found = || found.iter().flatten();
        found().for_each(|(table, hash, bucket)| table.prefetch(*bucket, *hash));
        found().for_each(|(table, hash, _)| table.prefetch(Stage::Member, *hash));
    }

    /// Runs one request, or refuses, queues or postpones it.
    #[inline]
    fn process(&mut self, client: &mut Client, prepared: Prepared, args: Args<'_>) -> Processed {
        client.last_command = prepared.command;
        let command = match prepared.command {
            Some(command) if self.is_runnable(command, &args) => command,
            _ => return self.refuse_unrunnable(client, prepared.command, args),
        };
        // What a script declares counts where anybody looks.
        let looks = self.has_gates(client) || client.multi.is_some();
        let command = match command.is(Flags::SCRIPT_RUNNER) && looks {
            true => self.script_variant(command, &args),
            false => command,
        };
        let admitted = self.admit(client, command, &args);
        self.take_late_pushes(client);
        match admitted {
            Ok(()) => {}
            Err(Reject::Error(error)) => return self.refuse(client, Some(command), args, &error),
            Err(Reject::Postpone) => return self.postpone(client),
        }
        client.commands += 1;
        let (start, before) = (client.output_end(), self.aof.appended);
        let mark = client.reply.mark();
        if let Some(multi) = &mut client.multi
            && !command.is(Flags::IMMEDIATE_IN_MULTI)
        {
            if command.is(Flags::NO_MULTI) {
                return self.refuse(client, Some(command), args, &NOT_IN_MULTI);
            }
            multi.queue.push(Queued { command, args: args.to_owned() });
            client.reply.simple("QUEUED");
        } else {
            self.unit.client = client.id;
            self.enter_unit();
            self.call_for_client(client, command, args, prepared.hashed);
            self.leave_unit();
            self.unit.client = 0;
            if !self.late_changes.is_empty() {
                self.mark_late(client);
            }
        }
        if client.reply_mode != ReplyMode::On {
            let mark = if command.is(Flags::PUSH_REPLY) { client.reply.mark() } else { mark };
            match client.blocked.as_deref() {
                // The rest of its reply comes later.
                Some(Blocked::Script) => client.reply.rewind(mark),
                _ => self.suppress_reply(client, mark),
            }
        }
        if client.tracks {
            self.end_caching(client, command);
        }
        if self.aof.gating || self.aof.appended != before {
            self.gate_reply(client, command, &args, start, before);
        }
        self.take_late_pushes(client);
        Processed::Ran
    }

    /// Whether a row can run with these arguments at all.
    #[inline]
    pub(super) fn is_runnable(&self, command: &Command, args: &Args<'_>) -> bool {
        command.spec.arity_ok(args.len())
            && !matches!(command.handler, Handler::Container)
            && (command.subcommands.is_empty() || args.len() == 1 || command.is(Flags::OPEN_CONTAINER))
    }

    /// Answers a request that names no command, no subcommand, or has the wrong number of arguments.
    #[cold]
    fn refuse_unrunnable(
        &mut self,
        client: &mut Client,
        command: Option<&'static Command>,
        args: Args<'_>,
    ) -> Processed {
        if looks_like_http(&args) {
            log::warn!(
                target: "aikv",
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: \
                 commands to AiKv. Connection from {} aborted.",
                client.peer.addr
            );
            client.close_now();
            return Processed::Ran;
        }
        let error = match command {
            None => unknown_command(&args),
            Some(c) if args.len() > 1 && !c.subcommands.is_empty() => unknown_subcommand(&args),
            Some(c) => wrong_arity(c.spec.name),
        };
        self.refuse(client, command, args, &error)
    }

    /// Answers a request that does not run; an open transaction will not run either.
    #[cold]
    fn refuse(
        &mut self,
        client: &mut Client,
        command: Option<&'static Command>,
        args: Args<'_>,
        error: &CmdError,
    ) -> Processed {
        let mark = client.reply.mark();
        if let Some(command) = command {
            self.stats.commands.rejected(command.id);
        }
        match command {
            Some(exec) if exec.is(Flags::EXEC) => self.refuse_exec(client, exec, args, error),
            _ => {
                if let Some(multi) = &mut client.multi {
                    multi.aborted = true;
                }
                self.reply_error(client, error);
            }
        }
        if client.reply_mode != ReplyMode::On {
            self.suppress_reply(client, mark);
        }
        Processed::Ran
    }

    /// An EXEC that is refused ends the transaction, and says so.
    fn refuse_exec(&mut self, client: &mut Client, exec: &'static Command, args: Args<'_>, error: &CmdError) {
        let transaction = client.multi.take();
        self.watches.unwatch(client);
        self.update_listeners();
        let why = error.as_bytes();
        let why = why.strip_prefix(b"ERR ").unwrap_or(why);
        let text = [&b"EXECABORT Transaction discarded because of: "[..], why].concat();
        self.reply_error(client, &CmdError::text(text));
        if transaction.is_some() {
            // MULTI was shown; so is the end of the transaction.
            self.feed_monitors(client, exec, args);
        }
    }

    fn postpone(&mut self, client: &mut Client) -> Processed {
        client.blocked = Some(Box::new(Blocked::Postponed));
        self.postponed.push(client.slot);
        Processed::Postponed
    }

    /// CLIENT REPLY OFF and SKIP.
    #[cold]
    pub(super) fn suppress_reply(&mut self, client: &mut Client, mark: crate::resp::Mark) {
        client.reply.rewind(mark);
        client.reply_mode = match client.reply_mode {
            ReplyMode::SkipNext => ReplyMode::Skip,
            ReplyMode::Skip => ReplyMode::On,
            other => other,
        };
    }

    fn protocol_error(&mut self, client: &mut Client, text: String) {
        log::debug!(target: "aikv", "Protocol error from {}: {text}", client.peer.addr);
        let mark = client.reply.mark();
        self.reply_error(client, &CmdError::text(format!("ERR {text}")));
        if client.reply_mode != ReplyMode::On {
            self.suppress_reply(client, mark);
        }
        client.close = Some(Close::AfterReply);
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processed {
    Ran,
    Postponed,
}

/// A command that may not be queued.
const NOT_IN_MULTI: CmdError = CmdError::new("ERR Command not allowed inside a transaction");
/// Bytes of unknown names and arguments that are repeated in errors.
const SHOWN_BYTES_MAX: usize = 128;

fn unknown_command(args: &Args<'_>) -> CmdError {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(clip(args.get(0), SHOWN_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut shown = 0;
    for arg in args.iter().skip(1) {
        if shown >= SHOWN_BYTES_MAX {
            break;
        }
        let arg = clip(arg, SHOWN_BYTES_MAX - shown);
        text.push(b'\'');
        text.extend_from_slice(arg);
        text.extend_from_slice(b"' ");
        shown += arg.len() + 3;
    }
    CmdError::text(text)
}

/// The error for a subcommand that does not exist.
fn unknown_subcommand(args: &Args<'_>) -> CmdError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(clip(args.get(1), SHOWN_BYTES_MAX));
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(args.get(0).to_ascii_uppercase().as_slice());
    text.extend_from_slice(b" HELP.");
    CmdError::text(text)
}

/// At most `max` bytes, and none from the first zero byte on (it would end a C string).
fn clip(bytes: &[u8], max: usize) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    &bytes[..end.min(max)]
}

/// A web browser tricked into talking to the server sends these words first.
fn looks_like_http(args: &Args<'_>) -> bool {
    is(args.get(0), "post") || is(args.get(0), "host:")
}
