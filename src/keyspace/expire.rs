//! Active expiry: keys, and fields of hashes, go at their time, whatever else has a TTL. The wheel says which
//! hashes are due; the entry says whether it is true.

use super::parts::TURN_FIELDS;
use super::{Db, Expiry, Keyspace};
use crate::collections::wheel::Advance;

/// Keys removed or re-filed per turn of the loop, so that a turn stays short.
const TURN_BUDGET: usize = 400;
/// The wheel may hold this many items beyond twice the volatile keys before it is swept.
const STALE_ITEMS_MAX: usize = 1024;

/// Items of a wheel from which on it is swept: most of them are duplicates, or their keys are gone.
fn stale_from(d: &Db) -> usize {
    2 * (d.volatile + d.parts) + STALE_ITEMS_MAX
}

impl Db {
    fn wheel_is_stale(&self) -> bool {
        self.wheel.as_ref().is_some_and(|wheel| wheel.len() > stale_from(self))
    }
}

impl Keyspace {
    /// The earliest time at which [`Keyspace::expire_due`] has work, if any: a key may be due, or a wheel
    /// has to be swept, which is at once.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        let next = |d: &Db| {
            let due_ms = d.wheel.as_ref()?.next_due_ms()?;
            Some(if d.wheel_is_stale() { due_ms.min(self.now_ms) } else { due_ms })
        };
        self.dbs.iter().filter_map(next).min()
    }

    /// Removes keys that are due. True if the budget ended before the work.
    pub fn expire_due(&mut self) -> bool {
        if self.expiry != Expiry::Remove {
            return false;
        }
        let mut more = false;
        for db in 0..self.dbs.len() {
            if self.dbs[db].wheel.is_some() {
                more |= self.expire_due_in(db);
            }
        }
        self.stats.expire_cap_reached += u64::from(more);
        more
    }

    fn expire_due_in(&mut self, db: usize) -> bool {
        let now_ms = self.now_ms;
        let Some(mut wheel) = self.dbs[db].wheel.take() else { return false };
        let stale = wheel.len() > stale_from(&self.dbs[db]);
        let mut fields = TURN_FIELDS;
        let mut resolve = |hash| self.resolve_due(db, hash, &mut fields);
        let mut advance = wheel.advance(now_ms, TURN_BUDGET, &mut resolve);
        if stale {
            advance = wheel.compact(TURN_BUDGET, &mut resolve);
        }
        if !wheel.is_empty() {
            self.dbs[db].wheel = Some(wheel);
        }
        advance == Advance::More
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::access::{AccessClock, Policy};
    use super::super::{Free, Key, Ttl};
    use super::*;
    use crate::collections::entry::NewPayload;
    use crate::sys::background::Background;
    use crate::util::rng::Rng;
    use crate::value::Kind;
    use std::collections::HashMap;

    const START_MS: i64 = 1_767_225_600_000;

    fn keyspace(databases: usize) -> Keyspace {
        let access = AccessClock::new(Policy::Lru, START_MS);
        let mut ks = Keyspace::new(databases, access, 5, Background::inline());
        ks.begin(START_MS);
        ks
    }

    fn set(ks: &mut Keyspace, db: usize, name: &str, ttl: Ttl) {
        ks.set(db, Key::new(name.as_bytes()), Kind::String, NewPayload::Int(1), ttl);
    }

    /// Runs turns until there is nothing to do and says how many it took.
    pub(in super::super) fn settle(ks: &mut Keyspace) -> usize {
        let mut turns = 0;
        while ks.next_expiry_ms().is_some_and(|t| t <= ks.now_ms()) {
            ks.expire_due();
            turns += 1;
            assert!(turns < 10_000, "expiry comes to an end");
        }
        turns
    }

    #[test]
    fn due_keys_go_at_their_time_beside_many_others() {
        let many = 100_000;
        let mut ks = keyspace(1);
        for i in 0..many {
            set(&mut ks, 0, &format!("other:{i}"), Ttl::At(START_MS + 3_600_000 + i));
        }
        for i in 0..1000 {
            set(&mut ks, 0, &format!("due:{i}"), Ttl::At(START_MS + 5000));
        }
        ks.begin(START_MS + 4999);
        settle(&mut ks);
        assert_eq!(ks.db(0).len() as i64, many + 1000, "nothing goes early");
        ks.begin(START_MS + 5000);
        let turns = settle(&mut ks);
        assert_eq!(ks.db(0).len() as i64, many);
        assert_eq!(ks.stats.expired, 1000);
        assert!(turns <= 4, "{turns} turns");
    }

    #[test]
    fn replaced_expiries_do_not_pile_up() {
        let mut ks = keyspace(1);
        for round in 0..200 {
            for i in 0..100 {
                set(&mut ks, 0, &format!("k{i}"), Ttl::Clear);
                set(&mut ks, 0, &format!("k{i}"), Ttl::At(START_MS + 100_000 + round));
            }
            settle(&mut ks);
            let wheel = ks.dbs[0].wheel.as_ref().expect("there are volatile keys");
            assert!(wheel.len() <= stale_from(&ks.dbs[0]), "{} items", wheel.len());
        }
        ks.begin(START_MS + 100_199);
        settle(&mut ks);
        assert!(ks.db(0).is_empty());
    }

    #[test]
    fn random_histories_agree_with_a_model() {
        let seed = std::env::var("AIKV_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(11);
        println!("AIKV_TEST_SEED={seed}");
        let mut rng = Rng::from_seed(seed);
        let mut ks = keyspace(2);
        let mut model: HashMap<(usize, String), Option<i64>> = HashMap::new();
        let mut now_ms = START_MS;
        for _ in 0..20_000 {
            let (db, name) = (rng.below(2) as usize, format!("k{}", rng.below(200)));
            let key = Key::new(name.as_bytes());
            let ttl_ms = 1 << rng.below(24);
            match rng.below(8) {
                0..=2 => {
                    set(&mut ks, db, &name, Ttl::At(now_ms + ttl_ms));
                    model.insert((db, name), Some(now_ms + ttl_ms));
                }
                3 => {
                    set(&mut ks, db, &name, Ttl::Clear);
                    model.insert((db, name), None);
                }
                4 => {
                    assert_eq!(ks.remove(db, key, Free::User), model.remove(&(db, name)).is_some());
                }
                5 if ks.exists(db, key) => {
                    let expiry = (rng.below(3) > 0).then_some(now_ms + ttl_ms);
                    ks.set_expiry(db, key, expiry);
                    model.insert((db, name), expiry);
                }
                6 => {
                    now_ms += 1 << rng.below(16);
                    ks.begin(now_ms);
                    model.retain(|_, expiry| expiry.is_none_or(|t| t > now_ms));
                    settle(&mut ks);
                    let len = |db| model.keys().filter(|(d, _)| *d == db).count();
                    assert_eq!((ks.db(0).len(), ks.db(1).len()), (len(0), len(1)));
                }
                _ => assert_eq!(ks.exists(db, key), model.contains_key(&(db, name))),
            }
            ks.check_invariants();
        }
    }

    #[test]
    fn a_hidden_key_makes_way_for_a_new_one() {
        let mut ks = keyspace(1);
        set(&mut ks, 0, "k", Ttl::At(START_MS + 1));
        ks.begin(START_MS + 1);
        ks.expiry = Expiry::Hide;
        let key = Key::new(b"k");
        assert!(ks.write(0, key).is_none());
        ks.insert(0, key, Kind::String, NewPayload::Int(2), None);
        assert_eq!((ks.db(0).len(), ks.db(0).volatile()), (1, 0));
        assert!(ks.write(0, key).is_some_and(|entry| entry.expiry().is_none()));
        ks.check_invariants();
    }
}
