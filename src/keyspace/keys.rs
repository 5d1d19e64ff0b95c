//! Operations on whole keys and databases: rename, move, copy, random, scan, flush, swap.

use super::change::Change;
use super::{Db, Expiry, Free, Key, Keyspace};
use crate::value::{Entry, duplicate};

/// A random key that is over but stays ([`Expiry::Hide`]) is passed over this often before it is taken
/// anyway: there may be no other.
const RANDOM_TRIES_MAX: usize = 100;

impl Keyspace {
    /// Gives the value and expiry of one key to another, which may be in another database; what was there
    /// goes. Both keys must differ and the source exist. The caller reports the changes.
    pub fn transfer(&mut self, from: (usize, Key<'_>), to: (usize, Key<'_>)) {
        let entry = self.take(from.0, from.1).expect("the caller found the source");
        self.remove(to.0, to.1, Free::Server);
        let entry = entry.renamed(to.1.bytes);
        self.insert_entry(to.0, to.1.hash, entry);
    }

    /// Copies value and expiry of a key that exists to a key that does not.
    pub fn copy(&mut self, from: (usize, Key<'_>), to: (usize, Key<'_>)) {
        let source = self.peek(from.0, from.1).expect("the caller found the source");
        let mut entry = duplicate(&source, to.1.bytes);
        entry.set_clock(self.access.fresh());
        self.insert_entry(to.0, to.1.hash, entry);
    }

    /// A random key, if there is any.
    pub fn random_key(&mut self, db: usize) -> Option<Vec<u8>> {
        let mut tries = 0;
        loop {
            let (over_ms, rng) = (self.over_ms(), &mut self.rng);
            let entry = self.dbs[db].table.random(&mut || rng.next_u64())?;
            let (over, key) = (entry.expiry().is_some_and(|t| t <= over_ms), entry.key().to_vec());
            tries += 1;
            if !over || (self.expiry == Expiry::Hide && tries > RANDOM_TRIES_MAX) {
                return Some(key);
            }
            // Removes it, so that this ends.
            self.exists(db, Key::new(&key));
        }
    }

    /// Visits about `count` entries from `cursor` on and returns where to go on; 0 is start and end. Keys
    /// whose time is over are removed instead of visited.
    pub fn scan(&mut self, db: usize, cursor: u64, count: usize, visit: &mut dyn FnMut(&Entry)) -> u64 {
        let over_ms = self.over_ms();
        let mut over: Vec<Vec<u8>> = Vec::new();
        let next = self.dbs[db].table.scan(cursor, count, &mut |entry| {
            if entry.expiry().is_some_and(|t| t <= over_ms) {
                over.push(entry.key().to_vec());
            } else {
                visit(&entry);
            }
        });
        for key in over {
            self.exists(db, Key::new(&key));
        }
        next
    }

    /// All entries that are not over.
    pub fn entries(&self, db: usize) -> impl Iterator<Item = crate::collections::dict::Ref<'_, Entry>> {
        let over_ms = self.over_ms();
        self.dbs[db].table.iter().filter(move |e| e.expiry().is_none_or(|t| t > over_ms))
    }

    /// Mean time to live of some volatile keys, in milliseconds (INFO's avg_ttl).
    pub fn average_ttl_ms(&self, db: usize) -> i64 {
        const SAMPLES: usize = 64;
        let d = &self.dbs[db];
        let (mut sum, mut count) = (0i128, 0);
        if let Some(wheel) = &d.wheel {
            let mut rng = self.rng.clone();
            wheel.sample(&mut || rng.next_u64(), SAMPLES, &mut |hash| {
                let found = d.table.get_by_hash(hash, |e| e.expiry().is_some());
                if let Some(expiry) = found.and_then(|e| e.expiry()) {
                    sum += i128::from(expiry.saturating_sub(self.now_ms).max(0));
                    count += 1;
                }
            });
        }
        if count == 0 { 0 } else { (sum / count) as i64 }
    }

    /// Empties a database, or all. Gives what was in them: dropping it takes long.
    pub fn flush(&mut self, db: Option<usize>) -> Vec<Db> {
        let range = db.map_or(0..self.dbs.len(), |db| db..db + 1);
        let flushed = self.dbs[range].iter_mut().filter(|db| !db.is_empty()).map(std::mem::take).collect();
        self.changes.record_other(Change::Flush(db));
        flushed
    }

    /// Exchanges two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        self.changes.record_other(Change::Swap(a, b));
    }

    /// Changes the number of databases before there are any keys.
    pub fn set_databases(&mut self, databases: usize) {
        assert!(self.dbs.iter().all(Db::is_empty), "only an empty keyspace is resized");
        self.dbs.resize_with(databases, Db::default);
    }
}
