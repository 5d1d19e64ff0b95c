//! Replies that wait for the log: a reply leaves only when the log position it depends on is as durable as
//! the configuration promises. A client's output is cut into runs ([`Held`]), each with the position it
//! depends on; `net` sends up to the first run whose position is not durable yet. Replication and Raft can
//! report durable positions in the same way.
//!
//! What a reply depends on: a write on its own effects; a read on the unsynced writes of the keys it names; a
//! command that names no keys (KEYS, EXEC, a script) on everything. Other commands depend on nothing. A push
//! depends on all that was written up to the end of the unit it arose in: it may tell of that.

use super::Server;
use super::client::Client;
use super::table::Command;
use crate::collections::hash::hash_key;
use crate::command::keys::{FoundKey, find_keys};
use crate::command::spec::Flags;
use crate::keyspace::change::{Change, Effect};
use crate::resp::Args;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// A run of a client's output that waits for a position of the log. Offsets count all bytes ever sent to the
/// client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Offset of its first byte.
    pub start: u64,
    /// The position.
    pub position: u64,
    /// Whether the client wrote what stands at the position, or only saw it.
    pub wrote: bool,
}

/// Which keys have writes that are not durable yet.
#[derive(Default)]
pub struct Unsynced {
    /// The position of a key's last write, by a hash of database and key.
    keys: HashMap<u64, u64, BuildHasherDefault<AsIs>>,
    /// The same in order.
    order: VecDeque<(u64, u64)>,
    /// The last write that touched all keys.
    all: u64,
}

/// Takes a hash for what it is.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn place(db: usize, key: &[u8]) -> u64 {
    hash_key(key) ^ (db as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Unsynced {
    fn note(&mut self, place: u64, position: u64) {
        self.keys.insert(place, position);
        self.order.push_back((position, place));
    }

    /// Notes what a unit changed.
    pub fn note_change(&mut self, change: &Change, position: u64) {
        match change {
            Change::Key { effect: Effect::EventOnly, .. } => {}
            Change::Key { db, key, .. } => self.note(place(*db, key), position),
            Change::Flush(_) | Change::Swap(..) => self.all = position,
        }
    }

    /// The position that a reader of a key depends on.
    fn of_key(&self, db: usize, key: &[u8]) -> u64 {
        self.keys.get(&place(db, key)).copied().unwrap_or(0).max(self.all)
    }

    /// Forgets what is durable now.
    pub fn settle(&mut self, synced: u64) {
        while let Some((position, place)) = self.order.front().copied() {
            if position > synced {
                return;
            }
            self.order.pop_front();
            if self.keys.get(&place) == Some(&position) {
                self.keys.remove(&place);
            }
        }
    }
}

impl Client {
    /// Offset of the end of its output, in all bytes ever sent to it.
    #[inline]
    pub fn output_end(&self) -> u64 {
        self.bytes_out + self.reply.pending_bytes() as u64
    }

    /// How many bytes of its output may leave, given the durable position.
    #[inline]
    pub fn open_bytes(&mut self, durable: u64) -> usize {
        while self.held.front().is_some_and(|gate| gate.position <= durable) {
            self.held.pop_front();
        }
        match self.held.front() {
            None => usize::MAX,
            Some(gate) => (gate.start - self.bytes_out) as usize,
        }
    }

    /// Lets the output from `start` on wait for a position.
    fn hold(&mut self, gate: Held) {
        match self.held.back_mut() {
            Some(last) if last.position >= gate.position => last.wrote |= gate.wrote,
            _ => self.held.push_back(gate),
        }
    }
}

impl Server {
    /// After a command of a client: its reply, from `start` on, waits for what it depends on. `before` is the
    /// log's position before the command.
    pub(super) fn gate_reply(
        &mut self,
        client: &mut Client,
        command: &Command,
        args: &Args<'_>,
        start: u64,
        before: u64,
    ) {
        let appended = self.aof.appended;
        let wrote = appended != before && !command.is(Flags::READONLY);
        if appended != before {
            self.aof.note_writer(client.log_position);
            client.log_position = appended;
        }
        if !self.aof.gating || client.output_end() <= start {
            return;
        }
        let position = match appended == before {
            true => self.depends_on(client.db, command, args),
            false => appended,
        };
        self.gate_from(client, Held { start, position, wrote });
    }

    /// Lets a client's output from a place on wait for a position.
    pub(super) fn gate_from(&mut self, client: &mut Client, gate: Held) {
        if !self.aof.gating || gate.position <= self.aof.synced || client.slot == usize::MAX {
            return;
        }
        if client.held.is_empty() {
            self.gated.push(client.slot);
        }
        client.hold(gate);
    }

    /// Lets a push, which begins at `start` of a client's output, wait for what the running unit writes.
    #[cold]
    pub(super) fn gate_push(&mut self, client: &mut Client, start: u64) {
        if self.unit.depth > 0 {
            self.unit.pushed.push((client.slot, start));
        } else {
            let position = self.aof.appended;
            self.gate_from(client, Held { start, position, wrote: false });
        }
    }

    /// The unit's effects are in the log: its pushes wait for them.
    pub(super) fn gate_pushes(&mut self) {
        let position = self.aof.appended;
        for (slot, start) in std::mem::take(&mut self.unit.pushed) {
            if let Some(mut client) = self.clients.take(slot) {
                self.gate_from(&mut client, Held { start, position, wrote: false });
                self.clients.put(client);
            }
        }
    }

    /// The position that the reply of a command that changed nothing depends on.
    fn depends_on(&mut self, db: usize, command: &Command, args: &Args<'_>) -> u64 {
        if self.aof.synced == self.aof.appended {
            return 0;
        }
        if command.is(Flags::EXEC) || command.is(Flags::SCRIPT_RUNNER) {
            return self.aof.appended;
        }
        if !command.spec.flags.any(Flags::READONLY | Flags::WRITE) {
            return 0;
        }
        let mut keys: Vec<FoundKey> = Vec::new();
        let found = find_keys(command.spec, args, &mut keys) && !keys.is_empty();
        if !found {
            return self.aof.appended;
        }
        let positions = keys.iter().map(|(index, _)| self.unsynced.of_key(db, args.get(*index)));
        positions.max().unwrap_or(0)
    }

    /// More is durable now, or nothing is promised any more: output that waited may leave.
    pub(super) fn release_replies(&mut self) {
        let durable = self.aof.durable();
        self.unsynced.settle(durable);
        if self.gated.is_empty() {
            return;
        }
        let mut gated = std::mem::take(&mut self.gated);
        gated.retain(|slot| {
            let Some(client) = self.clients.get_mut(*slot) else {
                // It runs right now; it stays on the list.
                return self.clients.holds(*slot);
            };
            let waiting = client.held.len();
            client.open_bytes(durable);
            if client.held.len() < waiting && !client.write_pending {
                client.write_pending = true;
                self.pending_writes.push(*slot);
            }
            !client.held.is_empty()
        });
        self.gated = gated;
    }
}
