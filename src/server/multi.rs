//! Transactions: queued commands and watched keys. EXEC is a caller of `call` like any other.

use super::client::Client;
use super::table::Command;
use crate::keyspace::change::{Change, Effect};
use crate::keyspace::{Key, Keyspace};
use crate::resp::OwnedArgs;
use std::collections::HashMap;

/// A queued command.
pub struct Queued {
    /// Its row.
    pub command: &'static Command,
    /// Its arguments.
    pub args: OwnedArgs,
}

/// An open transaction.
#[derive(Default)]
pub struct Multi {
    /// Commands in order.
    pub queue: Vec<Queued>,
    /// Whether a command was refused while queuing: EXEC aborts.
    pub aborted: bool,
}

impl Multi {
    /// Heap bytes of the queue.
    pub fn memory_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Queued>()
            + self.queue.iter().map(|q| q.args.memory_bytes()).sum::<usize>()
    }
}

/// A key a client watches.
pub struct Watched {
    /// Database.
    pub db: usize,
    /// Key.
    pub key: Box<[u8]>,
    /// Whether it existed, its time not over, when WATCH came.
    pub existed: bool,
    /// Whether it changed since.
    pub changed: bool,
}

impl Watched {
    /// Heap bytes.
    pub fn memory_bytes(&self) -> usize {
        self.key.len() + size_of::<Watched>()
    }
}

/// Who watches what.
#[derive(Default)]
pub struct Watches {
    by_key: HashMap<(usize, Box<[u8]>), Vec<u64>>,
    /// Clients that watch at least one key.
    clients: usize,
}

impl Watches {
    /// Number of keys watched.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }

    /// Number of clients that watch.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Lets a client watch a key.
    pub fn watch(&mut self, client: &mut Client, ks: &Keyspace, key: &[u8]) {
        if client.watched.iter().any(|w| w.db == client.db && *w.key == *key) {
            return;
        }
        self.clients += usize::from(client.watched.is_empty());
        self.by_key.entry((client.db, key.into())).or_default().push(client.id);
        let existed = ks.peek(client.db, Key::new(key)).is_some();
        client.watched.push(Watched { db: client.db, key: key.into(), existed, changed: false });
    }

    /// Ends all watches of a client.
    pub fn unwatch(&mut self, client: &mut Client) {
        self.clients -= usize::from(!client.watched.is_empty());
        for watched in client.watched.drain(..) {
            let place = (watched.db, watched.key);
            let Some(ids) = self.by_key.get_mut(&place) else { continue };
            ids.retain(|id| *id != client.id);
            if ids.is_empty() {
                self.by_key.remove(&place);
            }
        }
    }

    /// Clients that watch something `change` may touch.
    pub fn watching(&self, change: &Change) -> Vec<u64> {
        match change {
            Change::Key { effect: Effect::EventOnly, .. } => Vec::new(),
            Change::Key { db, key, .. } => self.by_key.get(&(*db, key.clone())).cloned().unwrap_or_default(),
            Change::Flush(_) | Change::Swap(..) => {
                let mut ids: Vec<u64> = self.by_key.values().flatten().copied().collect();
                ids.sort_unstable();
                ids.dedup();
                ids
            }
        }
    }
}

/// Marks the watched keys of a client that `change` touches. A key that did not exist when it was watched
/// and does not exist now is not touched by a flush or a swap.
pub fn mark_watched(client: &mut Client, change: &Change, ks: &Keyspace) {
    for w in &mut client.watched {
        w.changed |= match change {
            Change::Key { db, key, effect, .. } => {
                w.db == *db && w.key == *key && (w.existed || *effect != Effect::Expired)
            }
            Change::Flush(db) => w.existed && db.is_none_or(|db| w.db == db),
            Change::Swap(a, b) => {
                let is_there = || ks.peek(w.db, Key::new(&w.key)).is_some();
                (w.db == *a || w.db == *b) && (w.existed || is_there())
            }
        };
    }
}
