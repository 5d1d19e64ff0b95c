//! Eviction: which key goes when memory is short. LRU and LFU are approximated by sampling into a pool of
//! the best victims, as Redis does; keys are remembered by their hash only.

use super::access::AccessClock;
use super::change::{Effect, event};
use super::{Db, Keyspace, dispose, removal_command};
use crate::collections::hash::hash_key;
use crate::sys::alloc::used_memory;
use crate::util::rng::Rng;
use crate::value::Entry;

/// Victims remembered between rounds.
const POOL_SIZE: usize = 16;
/// Wheel items looked at per volatile key wanted: some are stale.
const STALE_FACTOR: usize = 4;

/// Volatile keys are rare when more entries than this have to be looked at for one of them.
const RARE_FROM: usize = 16;

/// Which keys may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    AllKeys,
    /// Those with an expiry.
    Volatile,
}

/// Which of them goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one unused for the longest time, or used least (see `AccessClock::policy`).
    Idleness,
    /// The one whose time is over first.
    Ttl,
    /// Any.
    Random,
}

/// A remembered victim.
#[derive(Clone, Copy)]
struct Victim {
    score: u64,
    db: usize,
    hash: u64,
}

/// Bytes that some steps have freed.
#[derive(Default)]
struct Freed {
    bytes: usize,
}

impl Freed {
    fn count<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let before = used_memory();
        let result = step();
        self.bytes += before.saturating_sub(used_memory());
        result
    }
}

/// The best victims seen so far, worst first.
#[derive(Default)]
pub struct Pool {
    victims: Vec<Victim>,
    next_db: usize,
}

impl Keyspace {
    /// Removes one key: the bytes that were freed at once by that alone, without what it takes to tell of it
    /// (records, messages to clients that track), which would lead to more evictions. Nothing: no key may go.
    pub fn evict_one(&mut self, scope: Scope, order: Order, samples: usize) -> Option<usize> {
        let found = match order {
            Order::Random => self.random_victim(scope),
            Order::Idleness | Order::Ttl => self.best_victim(scope, order, samples),
        };
        let (db, hash) = found?;
        let mut freed = Freed::default();
        let d = &mut self.dbs[db];
        let entry = freed.count(|| {
            let entry = d.table.remove_by_hash(hash, |_| true).expect("the victim was just seen");
            d.forget(&entry);
            entry
        });
        self.stats.evicted += 1;
        self.changes.record_removal(db, entry.key(), removal_command(self.lazy_free.eviction));
        self.changes.record(db, entry.key(), event::EVICTED, Effect::Modified);
        freed.count(|| dispose(&self.background, entry, self.lazy_free.eviction));
        Some(freed.bytes)
    }

    /// Forgets victims (the policy changed).
    pub fn clear_eviction_pool(&mut self) {
        self.pool.victims.clear();
    }

    fn best_victim(&mut self, scope: Scope, order: Order, samples: usize) -> Option<(usize, u64)> {
        for _ in 0..2 {
            // Equal victims are kept in the order in which they came: another database is first each time.
            let mut dbs: Vec<usize> = (0..self.dbs.len()).filter(|db| !self.dbs[*db].is_empty()).collect();
            let first = self.rng.below(dbs.len().max(1) as u64) as usize;
            dbs.rotate_left(first);
            dbs.into_iter().for_each(|db| self.sample_into_pool(db, scope, order, samples));
            while let Some(victim) = self.pool.victims.pop() {
                let Some(d) = self.dbs.get(victim.db) else { continue };
                let may_go = |e: &Entry| scope == Scope::AllKeys || e.expiry().is_some();
                let entry = d.table.get_by_hash(victim.hash, may_go);
                // One that was used, or given more time, since it was seen is no victim any more.
                if entry.is_some_and(|e| score(&self.access, order, &e) >= victim.score) {
                    return Some((victim.db, victim.hash));
                }
            }
        }
        // Sampling may miss the few keys of a sparse database: then any will do.
        self.random_victim(scope)
    }

    fn sample_into_pool(&mut self, db: usize, scope: Scope, order: Order, samples: usize) {
        let (access, rng, pool) = (self.access, &mut self.rng, &mut self.pool.victims);
        let d = &self.dbs[db];
        let mut consider = |hash: u64, entry: &Entry| {
            insert_victim(pool, Victim { score: score(&access, order, entry), db, hash });
        };
        if scope == Scope::AllKeys {
            d.table.sample(&mut || rng.next_u64(), samples, &mut |e| consider(hash_key(e.key()), &e));
        } else {
            sample_volatile(d, rng, samples, &mut consider);
        }
    }

    fn random_victim(&mut self, scope: Scope) -> Option<(usize, u64)> {
        let databases = self.dbs.len();
        for _ in 0..databases {
            self.pool.next_db = (self.pool.next_db + 1) % databases;
            let db = self.pool.next_db;
            let (rng, d) = (&mut self.rng, &self.dbs[db]);
            if scope == Scope::AllKeys {
                if let Some(entry) = d.table.random(&mut || rng.next_u64()) {
                    return Some((db, hash_key(entry.key())));
                }
            } else if d.volatile > 0 {
                let mut found = None;
                sample_volatile(d, rng, POOL_SIZE, &mut |hash, _| found = found.or(Some(hash)));
                // Only stale items were seen: walk, which is rare and ends at the first hit.
                let walk = || d.table.iter().find(|e| e.expiry().is_some()).map(|e| e.key().to_vec());
                let found = found.or_else(|| walk().map(|k| hash_key(&k)));
                return found.map(|hash| (db, hash));
            }
        }
        None
    }
}

/// Visits about `samples` volatile entries at random, with their hashes. Where they are not too rare they
/// are picked out of the table; else the wheel knows them, though it prefers those whose deadline was set
/// lately.
fn sample_volatile(d: &Db, rng: &mut Rng, samples: usize, visit: &mut dyn FnMut(u64, &Entry)) {
    if d.volatile == 0 {
        return;
    }
    let entries_each = d.table.len().div_ceil(d.volatile);
    if entries_each <= RARE_FROM {
        d.table.sample(&mut || rng.next_u64(), samples * entries_each, &mut |e| {
            if e.expiry().is_some() {
                visit(hash_key(e.key()), &e);
            }
        });
    } else if let Some(wheel) = &d.wheel {
        let mut left = samples;
        wheel.sample(&mut || rng.next_u64(), samples * STALE_FACTOR, &mut |hash| {
            if left > 0
                && let Some(e) = d.table.get_by_hash(hash, |e| e.expiry().is_some())
            {
                left -= 1;
                visit(hash, &e);
            }
        });
    }
}

/// How good a victim an entry is: the higher, the better.
fn score(access: &AccessClock, order: Order, entry: &Entry) -> u64 {
    match order {
        Order::Ttl => u64::MAX - entry.expiry().unwrap_or(i64::MAX).max(0) as u64,
        Order::Idleness | Order::Random => access.idleness(entry.clock()),
    }
}

/// Puts a victim into the sorted pool if it is better than the worst one there.
fn insert_victim(pool: &mut Vec<Victim>, victim: Victim) {
    if pool.iter().any(|v| v.hash == victim.hash && v.db == victim.db) {
        return;
    }
    if pool.len() == POOL_SIZE {
        if pool[0].score >= victim.score {
            return;
        }
        pool.remove(0);
    }
    let at = pool.partition_point(|v| v.score < victim.score);
    pool.insert(at, victim);
}
