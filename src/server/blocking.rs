//! Blocked clients. A command that has to wait returns `Outcome::Block`; its arguments are kept and it is
//! run again when a key it waits for is ready, keeping its place in the queue and its deadline.
//!
//! States of a client: running -> (`block`) waiting -> (`serve`: key ready, ran) running
//!                                                  -> (`time_out`, `unblock`) running, with another reply.

use super::Server;
use super::client::{Client, ReplyMode};
use super::durable::Held;
use super::gate::Reject;
use super::table::Command;
use crate::command::spec::OnTimeout;
use crate::command::{BlockOn, CmdError, Garbage, Hashed, Outcome};
use crate::keyspace::Key;
use crate::resp::OwnedArgs;
use crate::value::{Kind, kind};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// What a client waits for.
pub enum Blocked {
    /// Keys: a stored command that will be run again.
    Keys(Waiting),
    /// The end of CLIENT PAUSE: its input is not run.
    Postponed,
    /// The dropping of what its command removed; the answer is OK.
    Freeing,
    /// The end of a shutdown that waits.
    Shutdown,
    /// The end of its script, which is parked (`script.rs`).
    Script,
    /// The end of a loading (DEBUG LOADAOF).
    Loading,
    /// The beginning of a rewrite (BGREWRITEAOF).
    Rewrite,
    /// The log to be durable, here or in replicas (WAITAOF, WAIT).
    Log(LogWait),
}

/// What WAITAOF or WAIT waits for.
#[derive(Clone, Copy, Debug)]
pub struct LogWait {
    /// The log position that has to be durable here; None: it need not.
    pub position: Option<u64>,
    /// Replicas that have to have it.
    pub replicas: u64,
    /// Milliseconds since 1970 at which it gives up; 0: never.
    pub deadline_ms: i64,
    /// What it is told.
    pub answer: LogAnswer,
}

/// What a client that waited for the log is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogAnswer {
    /// Whether this server's log has its writes, and how many replicas' logs have (WAITAOF).
    LocalAndReplicas,
    /// How many replicas have its writes (WAIT).
    Replicas,
}

/// A stored command and what wakes it.
pub struct Waiting {
    /// The command's row.
    pub command: &'static Command,
    /// Its arguments.
    pub args: OwnedArgs,
    /// Keys and kind.
    pub on: BlockOn,
    /// Database of the keys.
    pub db: usize,
    /// Milliseconds since 1970 at which it gives up; 0: never.
    pub deadline_ms: i64,
    /// Monotonic nanoseconds at which it began.
    pub since_ns: u64,
}

/// A key of a database.
pub type Place = (usize, Vec<u8>);

/// Who waits for what.
#[derive(Default)]
pub struct Blocking {
    waiters: HashMap<Place, VecDeque<u64>>,
    /// Number of waiters that a key wakes whatever becomes of it, by key.
    any_write: HashMap<Place, usize>,
    deadlines: BTreeSet<(i64, u64)>,
    ready: Vec<Place>,
    /// Whether waiters are being served: keys that become ready by that are next, not in between.
    serving: bool,
    /// Number of blocked clients, postponed ones not counted.
    pub clients: usize,
}

impl Blocking {
    /// Whether nobody waits for a key.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Number of keys waited for.
    pub fn keys(&self) -> usize {
        self.waiters.len()
    }

    /// Number of keys waited for by clients that wake even when the key goes.
    pub fn any_write_keys(&self) -> usize {
        self.any_write.len()
    }

    /// Number of clients with a deadline.
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// The earliest deadline.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.deadlines.first().map(|(ms, _)| *ms)
    }

    /// Notes that a key was written; its waiters are served at the end of the unit.
    pub fn key_ready(&mut self, db: usize, key: &[u8]) {
        if self.waiters.is_empty() {
            return;
        }
        let place = (db, key.to_vec());
        if self.waiters.contains_key(&place) && !self.ready.contains(&place) {
            self.ready.push(place);
        }
    }

    /// Notes that all keys of a database may be ready (two changed places).
    pub fn db_ready(&mut self, db: usize) {
        let places: Vec<Place> = self.waiters.keys().filter(|(d, _)| *d == db).cloned().collect();
        places.into_iter().for_each(|(db, key)| self.key_ready(db, &key));
    }

    fn add(&mut self, id: u64, waiting: &Waiting) {
        for key in &waiting.on.keys {
            let queue = self.waiters.entry((waiting.db, key.clone())).or_default();
            if queue.contains(&id) {
                continue;
            }
            queue.push_back(id);
            if waiting.on.kind.is_none() {
                *self.any_write.entry((waiting.db, key.clone())).or_default() += 1;
            }
        }
        if waiting.deadline_ms > 0 {
            self.deadlines.insert((waiting.deadline_ms, id));
        }
    }

    fn remove(&mut self, id: u64, waiting: &Waiting) {
        for key in &waiting.on.keys {
            let place = (waiting.db, key.clone());
            let Some(queue) = self.waiters.get_mut(&place) else { continue };
            let before = queue.len();
            queue.retain(|other| *other != id);
            let removed = before - queue.len();
            if queue.is_empty() {
                self.waiters.remove(&place);
            }
            if waiting.on.kind.is_none()
                && let Some(count) = self.any_write.get_mut(&place)
            {
                *count -= removed;
                if *count == 0 {
                    self.any_write.remove(&place);
                }
            }
        }
        self.deadlines.remove(&(waiting.deadline_ms, id));
    }
}

/// The error of CLIENT UNBLOCK ... ERROR.
pub const UNBLOCKED: CmdError = CmdError::new("UNBLOCKED client unblocked via CLIENT UNBLOCK");

impl Server {
    /// Lets a client wait: its command will be run again.
    pub(super) fn block(
        &mut self,
        client: &mut Client,
        command: &'static Command,
        args: OwnedArgs,
        mut on: BlockOn,
    ) {
        let args = on.args.take().map_or(args, |kept| *kept);
        let deadline_ms = match on.timeout_ms {
            0 => 0,
            ms => self.now.wall_ms.saturating_add(ms),
        };
        let since_ns = self.now.mono_ns;
        let waiting = Waiting { command, args, on, db: client.db, deadline_ms, since_ns };
        self.blocking.add(client.id, &waiting);
        self.blocking.clients += 1;
        client.blocked = Some(Box::new(Blocked::Keys(waiting)));
        self.update_listeners();
    }

    /// Takes a client off all queues, without a reply. Its input goes on.
    pub(super) fn release(&mut self, client: &mut Client) -> Option<Waiting> {
        match *client.blocked.take()? {
            Blocked::Keys(waiting) => {
                self.blocking.remove(client.id, &waiting);
                self.blocking.clients -= 1;
                self.update_listeners();
                self.resume(client);
                Some(waiting)
            }
            Blocked::Freeing => {
                self.blocking.clients -= 1;
                self.resume(client);
                None
            }
            Blocked::Log(wait) => {
                self.blocking.deadlines.remove(&(wait.deadline_ms, client.id));
                self.blocking.clients -= 1;
                self.resume(client);
                None
            }
            Blocked::Postponed
            | Blocked::Shutdown
            | Blocked::Loading
            | Blocked::Rewrite
            | Blocked::Script => {
                self.resume(client);
                None
            }
        }
    }

    /// Ends a client's wait with an error or, without one, with its command's timeout reply.
    pub(super) fn unblock(&mut self, client: &mut Client, error: Option<&CmdError>) {
        if let Some(Blocked::Log(_)) = client.blocked.as_deref() {
            return self.end_log_wait(client, error);
        }
        let Some(waiting) = self.release(client) else { return };
        let id = waiting.command.id;
        self.unit.commands += 1;
        self.stats.commands.ran(id, 0, self.config.latency_tracking);
        match error {
            Some(error) => {
                self.stats.commands.failed(id);
                self.reply_error(client, error);
            }
            None => match waiting.command.spec.on_timeout {
                OnTimeout::Null => client.reply.null(),
                OnTimeout::NullArray | OnTimeout::NullArrayOrNull => client.reply.null_array(),
            },
        }
        self.queue_write(client);
    }

    /// Ends the waits whose deadline has passed.
    pub(super) fn time_out_blocked(&mut self) {
        while let Some((deadline_ms, id)) = self.blocking.deadlines.first().copied() {
            if deadline_ms > self.now.wall_ms {
                return;
            }
            self.blocking.deadlines.pop_first();
            let Some(mut client) = self.clients.slot_of(id).and_then(|slot| self.clients.take(slot)) else {
                continue;
            };
            self.unblock(&mut client, None);
            self.clients.put(client);
        }
    }

    /// Runs the commands of clients whose keys are ready, in the order in which they came to wait. Serving
    /// one may make other keys ready; it ends when none is.
    pub(super) fn serve_ready(&mut self) {
        if std::mem::replace(&mut self.blocking.serving, true) {
            return;
        }
        while !self.blocking.ready.is_empty() {
            for place in std::mem::take(&mut self.blocking.ready) {
                let Some(queue) = self.blocking.waiters.get(&place) else { continue };
                for id in queue.clone() {
                    self.serve(id, &place);
                }
            }
        }
        self.blocking.serving = false;
    }

    fn serve(&mut self, id: u64, place: &Place) {
        let Some(slot) = self.clients.slot_of(id) else { return };
        let Some(mut client) = self.clients.take(slot) else { return };
        if self.wakes(&client, place) {
            self.rerun(&mut client);
        }
        self.clients.put(client);
    }

    /// Whether the key is such that the client's command may go on.
    fn wakes(&self, client: &Client, (db, key): &Place) -> bool {
        let Some(Blocked::Keys(waiting)) = client.blocked.as_deref() else { return false };
        let found: Option<Kind> = self.keyspace.peek(*db, Key::new(key)).map(|entry| kind(&entry));
        match (waiting.on.kind, found) {
            (None, _) => true,
            (Some(wanted), found) => found == Some(wanted),
        }
    }

    /// Runs a stored command again. If it has to wait on, it keeps its place and deadline.
    fn rerun(&mut self, client: &mut Client) {
        let Some(Blocked::Keys(waiting)) = client.blocked.take().map(|b| *b) else { return };
        if let Err(Reject::Error(error)) = self.admit_again(client, waiting.command, waiting.args.as_args()) {
            return self.refuse_waiting(client, waiting, &error);
        }
        let (start, before) = (client.output_end(), self.aof.appended);
        let outer = std::mem::replace(&mut self.unit.client, client.id);
        self.enter_unit();
        let outcome = self.call(client, waiting.command, waiting.args.as_args(), Hashed::default());
        let served = match outcome {
            Outcome::Block(_) => {
                client.blocked = Some(Box::new(Blocked::Keys(waiting)));
                None
            }
            Outcome::Free(_) | Outcome::Park => unreachable!("a command that waits for keys does no more"),
            Outcome::Done => {
                self.blocking.remove(client.id, &waiting);
                self.blocking.clients -= 1;
                self.update_listeners();
                self.resume(client);
                self.queue_write(client);
                Some(waiting)
            }
        };
        self.leave_unit();
        if let Some(served) = served
            && (self.aof.gating || self.aof.appended != before)
        {
            self.gate_reply(client, served.command, &served.args.as_args(), start, before);
        }
        self.unit.client = outer;
        self.take_late_pushes(client);
    }

    /// Answers a client whose command may not run any more.
    fn refuse_waiting(&mut self, client: &mut Client, waiting: Waiting, error: &CmdError) {
        self.blocking.remove(client.id, &waiting);
        self.blocking.clients -= 1;
        self.update_listeners();
        self.resume(client);
        self.stats.commands.rejected(waiting.command.id);
        self.reply_error(client, error);
        self.queue_write(client);
    }

    /// Has garbage dropped in the background and answers OK when that is done. A client that does not want
    /// the answer waits for it here: it could not be told apart from that of a later command.
    pub(super) fn free_and_answer(&mut self, client: &mut Client, garbage: Garbage) {
        if client.reply_mode != ReplyMode::On {
            drop(garbage);
            return client.reply.ok();
        }
        let background = self.keyspace.background();
        background.drop_later(garbage.value, garbage.weight);
        if background.pending_objects() == 0 {
            return client.reply.ok();
        }
        background.tell_when_freed(client.id);
        self.blocking.clients += 1;
        client.blocked = Some(Box::new(Blocked::Freeing));
    }

    /// Answers the clients whose garbage is dropped.
    pub(super) fn answer_freed(&mut self) {
        for id in self.keyspace.background().freed() {
            let Some(mut client) = self.clients.slot_of(id).and_then(|slot| self.clients.take(slot)) else {
                continue;
            };
            if matches!(client.blocked.as_deref(), Some(Blocked::Freeing)) {
                self.release(&mut client);
                let start = client.output_end();
                client.reply.ok();
                let position = client.log_position;
                self.gate_from(&mut client, Held { start, position, wrote: true });
                self.queue_write(&mut client);
            }
            self.clients.put(client);
        }
    }

    /// Lets a client wait for the log.
    pub(super) fn block_on_log(&mut self, client: &mut Client, wait: LogWait) {
        if wait.deadline_ms > 0 {
            self.blocking.deadlines.insert((wait.deadline_ms, client.id));
        }
        self.blocking.clients += 1;
        client.blocked = Some(Box::new(Blocked::Log(wait)));
    }

    /// Lets a client's waiting input run in the next turn.
    pub(super) fn resume(&mut self, client: &Client) {
        if client.slot != usize::MAX {
            self.resumed.push(client.slot);
        }
    }
}

/// Writes the reply of a blocking command that may not wait.
pub(super) fn write_no_wait(client: &mut Client, on_timeout: OnTimeout) {
    match on_timeout {
        OnTimeout::Null | OnTimeout::NullArrayOrNull => client.reply.null(),
        OnTimeout::NullArray => client.reply.null_array(),
    }
}
