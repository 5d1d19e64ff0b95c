//! Active defragmentation of all databases: a walk over tables, entries, values and wheels in small steps,
//! between which anything may happen to them. It changes addresses only: no access clock, no counter, no
//! event. When to walk, and for how long, is the caller's to say.

use super::Keyspace;
use crate::collections::hash::hash_key;
use crate::collections::wheel::RelocateCursor;
use crate::sys::defrag::Mover;
use crate::value::relocate::{Cursor, relocate, relocate_some};
use crate::value::{Entry, free_effort};
use std::collections::VecDeque;

/// Where a walk is. A walk holds positions and keys, never a pointer.
#[derive(Debug, Default)]
pub struct Walk {
    db: usize,
    at: At,
    /// Big values of the bucket that came last, to be done in steps of their own.
    later: VecDeque<Later>,
    /// Keys of which something was moved, since the caller last took the number.
    pub key_hits: u64,
    /// Keys of which nothing was moved.
    pub key_misses: u64,
}

#[derive(Debug)]
enum At {
    /// A bucket of the table.
    Table(u64),
    Wheel(RelocateCursor),
}

impl Default for At {
    fn default() -> At {
        At::Table(0)
    }
}

/// A value that is moved in steps.
#[derive(Debug)]
struct Later {
    key: Box<[u8]>,
    at: Cursor,
    hit: bool,
}

impl Walk {
    fn count(&mut self, hit: bool) {
        self.key_hits += u64::from(hit);
        self.key_misses += u64::from(!hit);
    }
}

impl Keyspace {
    /// Goes on with a walk: moves the blocks of some entries with values of up to `parts_max` parts, or some
    /// parts of a big value. False when the walk has come to its end; it begins anew with the next call.
    pub fn relocate_some(&mut self, walk: &mut Walk, parts_max: usize, mover: &mut Mover) -> bool {
        if let Some(later) = walk.later.pop_front() {
            self.relocate_later(walk, later, mover);
            return true;
        }
        let Some(db) = self.dbs.get_mut(walk.db) else {
            (walk.db, walk.at) = (0, At::default());
            return false;
        };
        match walk.at {
            At::Table(cursor) => {
                let next = db.table.relocate_some(cursor, mover, &mut |entry, mover| {
                    walk.take(entry, parts_max, mover);
                });
                walk.at = if next == 0 { At::Wheel(RelocateCursor::default()) } else { At::Table(next) };
            }
            At::Wheel(cursor) => {
                let next = db.wheel.as_mut().and_then(|wheel| wheel.relocate_some(cursor, mover));
                match next {
                    Some(next) => walk.at = At::Wheel(next),
                    None => (walk.db, walk.at) = (walk.db + 1, At::default()),
                }
            }
        }
        true
    }

    /// Moves some parts of a big value, if it is still there. If it is another one now, that does no harm.
    fn relocate_later(&mut self, walk: &mut Walk, mut later: Later, mover: &mut Mover) {
        let hash = hash_key(&later.key);
        let Some(mut entry) = self.dbs[walk.db].table.get_mut(hash, &later.key) else {
            return walk.count(later.hit);
        };
        let hits = mover.hits;
        let next = relocate_some(&mut entry, later.at, mover);
        later.hit |= mover.hits > hits;
        match next {
            Some(at) => walk.later.push_front(Later { at, ..later }),
            None => walk.count(later.hit),
        }
    }
}

impl Walk {
    /// Moves an entry, with its value if that is small.
    fn take(&mut self, entry: &mut Entry, parts_max: usize, mover: &mut Mover) {
        let hits = mover.hits;
        relocate(entry, mover);
        if free_effort(entry) > parts_max {
            let (key, hit) = (entry.key().into(), mover.hits > hits);
            return self.later.push_back(Later { key, at: Cursor::Start, hit });
        }
        let mut at = Some(Cursor::Start);
        while let Some(cursor) = at {
            at = relocate_some(entry, cursor, mover);
        }
        self.count(mover.hits > hits);
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::{AccessClock, Policy};
    use super::super::expire::tests::settle;
    use super::super::{Free, Key, Ttl};
    use super::*;
    use crate::collections::entry::NewPayload;
    use crate::sys::background::Background;
    use crate::sys::defrag::Select;
    use crate::util::rng::Rng;
    use crate::value::{self, Kind, digest, set, zset};
    use std::collections::HashMap;

    const START_MS: i64 = 1_767_225_600_000;

    /// What a key should be: the number its value was made from, and its deadline.
    type Model = HashMap<(usize, String), (u64, Option<i64>)>;

    /// A value that follows from a number: a string, short or long, a set or a sorted set.
    fn fill(ks: &mut Keyspace, db: usize, key: Key<'_>, number: u64, expiry: Option<i64>) {
        let ttl = expiry.map_or(Ttl::Clear, Ttl::At);
        match number % 4 {
            0 => drop(ks.set(db, key, Kind::String, NewPayload::Int(number as i64), ttl)),
            1 => {
                let text = vec![number as u8; 250 + number as usize % 500];
                ks.set(db, key, Kind::String, value::string::payload(&text, None), ttl);
            }
            _ => {
                let mut draft = value::draft(if number % 4 == 2 { Kind::Set } else { Kind::Zset });
                for i in 0..number % 400 {
                    let member = format!("member:{number}:{i}").into_bytes();
                    if number % 4 == 2 {
                        let limits = set::Limits {
                            max_intset_entries: 8,
                            max_listpack_entries: 8,
                            max_listpack_value: 64,
                        };
                        set::add(&mut draft, &limits, &set::Probe::new(&member));
                    } else {
                        let limits = zset::Limits { max_listpack_entries: 8, max_listpack_value: 64 };
                        zset::set(&mut draft, &limits, &member, (i * 7 % 13) as f64);
                    }
                }
                let kind = value::kind(&draft);
                let mut inline = Vec::new();
                ks.set(db, key, kind, draft.take_payload().as_new(&mut inline), ttl);
            }
        }
    }

    fn check(ks: &Keyspace, model: &Model) {
        for ((db, name), (number, expiry)) in model {
            let key = Key::new(name.as_bytes());
            let entry = ks.peek(*db, key).expect("a key of the model is there");
            let mut other =
                Keyspace::new(1, AccessClock::new(Policy::Lru, START_MS), 5, Background::inline());
            fill(&mut other, 0, key, *number, *expiry);
            let wanted = other.peek(0, key).expect("it was just made");
            assert_eq!(digest::of_value(&entry), digest::of_value(&wanted), "{name}");
            assert_eq!(entry.expiry(), *expiry);
        }
        assert_eq!(ks.db(0).len() + ks.db(1).len(), model.len());
        ks.check_invariants();
    }

    #[test]
    fn a_walk_goes_on_while_everything_changes() {
        let seed = std::env::var("AIKV_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(17);
        println!("AIKV_TEST_SEED={seed}");
        let mut rng = Rng::from_seed(seed);
        let mut ks = Keyspace::new(2, AccessClock::new(Policy::Lru, START_MS), 5, Background::inline());
        let (mut model, mut now_ms, mut walks) = (Model::new(), START_MS, 0);
        let (mut walk, mut mover) = (Walk::default(), Mover::new(Select::Everything));
        ks.begin(now_ms);
        for round in 0..12_000 {
            walks += usize::from(!ks.relocate_some(&mut walk, 100, &mut mover));
            // The number of keys grows to a few hundred, and shrinks to nothing.
            let keys = [500, 30][round / 3_000 % 2];
            let (db, name) = (rng.below(2) as usize, format!("k{}", rng.below(keys)));
            let key = Key::new(name.as_bytes());
            match rng.below(10) {
                0..=4 => {
                    let number = rng.below(10_000);
                    let expiry = (rng.below(3) == 0).then(|| now_ms + (1 << rng.below(22)));
                    fill(&mut ks, db, key, number, expiry);
                    // An empty collection would not stay.
                    if number % 4 >= 2 && number.is_multiple_of(400) {
                        ks.remove(db, key, Free::Server);
                        model.remove(&(db, name));
                    } else {
                        model.insert((db, name), (number, expiry));
                    }
                }
                5..=7 => {
                    assert_eq!(ks.remove(db, key, Free::User), model.remove(&(db, name)).is_some());
                }
                8 => {
                    now_ms += 1 << rng.below(12);
                    ks.begin(now_ms);
                    settle(&mut ks);
                    model.retain(|_, (_, expiry)| expiry.is_none_or(|at| at > now_ms));
                }
                _ if rng.below(500) == 0 => {
                    ks.flush(Some(db));
                    model.retain(|(other, _), _| *other != db);
                }
                _ => {}
            }
            if round % 500 == 0 {
                check(&ks, &model);
            }
        }
        check(&ks, &model);
        assert!(walks > 1 && walk.key_hits > 500 && walk.key_misses == 0, "{walks} walks, {walk:?}");
    }
}
