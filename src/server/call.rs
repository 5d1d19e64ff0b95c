//! `call`: the one function in which every command of every source runs.

use super::Server;
use super::client::{Client, Role};
use super::gate::bit;
use super::table::{Command, Handler};
use super::{ServerCtx, blocking};
use crate::command::spec::Flags;
use crate::command::{CmdError, CmdResult, Ctx, Hashed, Outcome, Propagate};
use crate::resp::{Args, Mark};
use crate::stats::slowlog::{SlowEntry, shorten};

impl Server {
    /// Runs a command for a client: the handler, then what is counted, logged and propagated of it. The
    /// reply is in the client's output; an error takes back a half-written one. Must run inside a unit.
    #[inline]
    pub(super) fn call(
        &mut self,
        client: &mut Client,
        command: &'static Command,
        args: Args<'_>,
        hashed: Hashed,
    ) -> Outcome {
        debug_assert!(self.unit.depth > 0, "commands run inside a unit");
        let mark = client.reply.mark();
        let dirty = self.keyspace.changes.dirty;
        self.unit.together |= !command.is(Flags::TOUCHES_ARBITRARY_KEYS);
        let start_ns = self.now.mono_ns;
        let (result, propagate) = self.run_handler(client, command, args, hashed);
        self.read_clock();
        let outcome = self.settle(client, command, args, mark, start_ns, result);
        if client.tracks {
            self.remember_reads(command, args);
        }
        let changed = self.keyspace.changes.dirty != dirty || matches!(propagate, Propagate::Always);
        if changed && self.propagating() {
            self.unit.propagate(&mut self.keyspace.changes, client.db, command, args, propagate);
        }
        outcome
    }

    /// Counts a call that is complete and writes its error; one that goes on later is only noted.
    #[inline]
    pub(super) fn settle(
        &mut self,
        client: &mut Client,
        command: &'static Command,
        args: Args<'_>,
        mark: Mark,
        start_ns: u64,
        result: CmdResult,
    ) -> Outcome {
        let ns = self.now.mono_ns - start_ns;
        self.unit.command_ns += ns;
        match &result {
            Ok(Outcome::Block(_)) => {}
            Ok(Outcome::Park) => self.note_parked(command, args, start_ns),
            _ => self.count_call(client, command, args, ns),
        }
        match result {
            Ok(outcome) => outcome,
            Err(error) => {
                client.reply.rewind(mark);
                self.stats.commands.failed(command.id);
                self.reply_error(client, &error);
                Outcome::Done
            }
        }
    }

    /// Counts a call that is complete (one that has to wait is counted when it comes to its end).
    #[inline]
    fn count_call(&mut self, client: &Client, command: &Command, args: Args<'_>, ns: u64) {
        if client.role == Role::Internal {
            return;
        }
        self.stats.commands.ran(command.id, ns, self.config.latency_tracking);
        self.unit.commands += 1;
        if ns >= self.slow_ns {
            self.note_slow(client, command, args, ns);
        }
    }

    #[inline]
    fn run_handler(
        &mut self,
        client: &mut Client,
        command: &'static Command,
        args: Args<'_>,
        hashed: Hashed,
    ) -> (CmdResult, Propagate) {
        match command.handler {
            Handler::Data(run) => {
                let restricted = client.gates & bit::ACL != 0 && command.is(Flags::READS_OTHER_KEYS);
                let reads_all_keys = !restricted || self.reads_any_key(client, command, &args);
                let output_max = client.output_max(&self.config);
                let mut ctx = Ctx::new(
                    &mut self.keyspace,
                    client.db,
                    args,
                    &mut client.reply,
                    &self.config,
                    command.spec.name,
                    hashed,
                );
                ctx.reads_all_keys = reads_all_keys;
                ctx.in_script = client.role == Role::Script;
                ctx.from_log = self.armed & bit::LOADING != 0;
                ctx.output_max = output_max;
                let result = run(&mut ctx);
                (result, ctx.propagate)
            }
            Handler::Server(run) | Handler::Script(run, _) => {
                let mut ctx =
                    ServerCtx { server: self, client, args, command, propagate: Propagate::Verbatim };
                let result = run(&mut ctx);
                (result, ctx.propagate)
            }
            Handler::Container => unreachable!("containers are refused before they run"),
        }
    }

    /// Runs a command that a connected client sent and lets the client wait if the command has to.
    #[inline]
    pub(super) fn call_for_client(
        &mut self,
        client: &mut Client,
        command: &'static Command,
        args: Args<'_>,
        hashed: Hashed,
    ) {
        match self.call(client, command, args, hashed) {
            Outcome::Done => {}
            Outcome::Block(on) => self.block(client, command, args.to_owned(), *on),
            Outcome::Park => self.park(client),
            Outcome::Free(garbage) => self.free_and_answer(client, garbage),
        }
        if !self.monitors.is_empty() {
            self.feed_monitors(client, command, args);
        }
    }

    /// Runs a command inside a transaction or script: one that has to wait answers at once as if its time
    /// were over. `Park`: it is a script that goes on later; otherwise it is done.
    pub(super) fn call_without_waiting(
        &mut self,
        client: &mut Client,
        command: &'static Command,
        args: Args<'_>,
    ) -> Outcome {
        let outer = std::mem::replace(&mut self.unit.no_waiting, true);
        let outcome = self.call(client, command, args, Hashed::default());
        self.unit.no_waiting = outer;
        match outcome {
            Outcome::Done => {}
            Outcome::Block(_) => {
                blocking::write_no_wait(client, command.spec.on_timeout);
                self.count_call(client, command, args, 0);
            }
            Outcome::Free(garbage) => {
                // Nobody can be made to wait here, and who asked for SYNC wants the memory back: as in Redis.
                drop(garbage);
                client.reply.ok();
            }
            Outcome::Park => return Outcome::Park,
        }
        if !self.monitors.is_empty() {
            self.feed_monitors(client, command, args);
        }
        Outcome::Done
    }

    /// Writes an error reply and counts it.
    pub(super) fn reply_error(&mut self, client: &mut Client, error: &CmdError) {
        client.reply.error(error.as_bytes());
        if !error.is_counted() {
            self.count_error(error.code());
        }
    }

    /// Counts an error reply by its code.
    pub(super) fn count_error(&mut self, code: &[u8]) {
        self.stats.counters.error_replies += 1;
        if let Some(codes) = self.stats.errors.count(code) {
            let names: Vec<_> = codes.keys().map(|code| String::from_utf8_lossy(code)).collect();
            log::warn!(
                target: "aikv",
                "Errorstats stopped adding new errors: there are too many codes. CONFIG RESETSTAT begins \
                 anew."
            );
            log::warn!(target: "aikv", "Current errors code list ({}): {}", names.len(), names.join(", "));
            let weight = codes.len();
            self.keyspace.background().drop_later(Box::new(codes), weight);
        }
    }

    /// Records a slow command in the slow log, the latency monitor and the server's log.
    #[cold]
    fn note_slow(&mut self, client: &Client, command: &Command, args: Args<'_>, ns: u64) {
        let (us, ms) = (ns / 1000, ns / 1_000_000);
        let threshold_ms = self.config.latency_monitor_threshold;
        if threshold_ms > 0 && ms >= threshold_ms {
            let event = if command.is(Flags::FAST) { "fast-command" } else { "command" };
            self.stats.latency.add(event, self.now.wall_ms / 1000, ms);
        }
        let slower_than = self.config.slowlog_log_slower_than;
        let off = slower_than < 0 || self.config.slowlog_max_len == 0;
        if off || us < slower_than as u64 || command.is(Flags::SKIP_SLOWLOG) {
            return;
        }
        let shown = super::redact(command, args);
        let args = shorten(shown.iter().map(Vec::as_slice));
        if us >= SLOW_LOG_LINE_US {
            let count = if self.config.hide_user_data_from_log { 1 } else { args.len() };
            let words: Vec<_> = args[..count].iter().map(|a| String::from_utf8_lossy(a)).collect();
            log::warn!(target: "aikv", "Slow command: {} took {}ms", words.join(" "), ms);
        }
        let entry = SlowEntry {
            id: 0,
            unix_seconds: self.now.wall_ms / 1000,
            us,
            args,
            peer: client.peer.addr.clone(),
            client_name: client.name.clone(),
        };
        self.stats.slowlog.add(entry, self.config.slowlog_max_len);
    }

    /// Recomputes the duration from which on [`Server::note_slow`] has to look.
    pub fn update_slow_threshold(&mut self) {
        let slowlog_ns = match self.config.slowlog_log_slower_than {
            us @ 0.. => (us as u64).saturating_mul(1000),
            _ => u64::MAX,
        };
        let latency_ns = match self.config.latency_monitor_threshold {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        self.slow_ns = slowlog_ns.min(latency_ns);
    }
}

/// Only commands at least this slow get a line in the server's log, whatever the slow log records.
const SLOW_LOG_LINE_US: u64 = 10_000;
