//! Deadlines of parts of values: fields of hashes that expire. They share the wheel of their database with
//! keys: an item stands for the earliest deadline of anything about an entry. Knows no command.
//!
//! Whoever changes a value that may have such parts says what its earliest deadline was before
//! ([`Keyspace::parts_changed`]); everything else that brings, takes or replaces entries does so by itself.

use super::change::{Effect, event};
use super::{Db, Expiry, Free, Key, Keyspace, dispose};
use crate::value::{Entry, hash, next_part_expiry};

/// Fields removed per turn of the loop, so that a turn stays short however big a hash is.
pub(super) const TURN_FIELDS: usize = 1000;

/// The earliest deadline of an entry or of a part of it.
pub(super) fn deadline(entry: &Entry) -> Option<i64> {
    match (entry.expiry(), next_part_expiry(entry)) {
        (Some(key), Some(part)) => Some(key.min(part)),
        (key, part) => key.or(part),
    }
}

/// Whether [`deadline`] gives one.
#[inline]
pub(super) fn has_deadline(entry: &Entry) -> bool {
    entry.expiry().is_some() || next_part_expiry(entry).is_some()
}

impl Db {
    /// Number of keys that have parts with a deadline (INFO's subexpiry).
    pub fn with_volatile_parts(&self) -> usize {
        self.parts
    }

    /// Notes that the earliest deadline of the parts of an entry is another one.
    #[inline]
    pub(super) fn refile_parts(&mut self, hash: u64, old: Option<i64>, new: Option<i64>, now_ms: i64) {
        if old == new {
            return;
        }
        self.parts = self.parts + usize::from(new.is_some()) - usize::from(old.is_some());
        if let Some(new) = new
            && old.is_none_or(|old| new < old)
        {
            self.wheel_at(now_ms).file(hash, new);
        }
    }

    /// Counts an entry that has left the table.
    #[inline]
    pub(super) fn forget(&mut self, entry: &Entry) {
        self.volatile -= usize::from(entry.expiry().is_some());
        self.parts -= usize::from(next_part_expiry(entry).is_some());
    }
}

impl Keyspace {
    /// Says that the parts of a key's value may have other deadlines than before, when the earliest was
    /// `old` (see [`next_part_expiry`]).
    #[inline]
    pub fn parts_changed(&mut self, db: usize, key: Key<'_>, old: Option<i64>, new: Option<i64>) {
        self.dbs[db].refile_parts(key.hash, old, new, self.now_ms);
    }

    /// Removes those of these fields of a hash that are over: a command has come upon them. Nothing happens
    /// while expiry is somebody else's. False if nothing is left of the hash.
    pub fn expire_fields<'f>(
        &mut self,
        db: usize,
        key: Key<'_>,
        fields: impl IntoIterator<Item = &'f [u8]>,
    ) -> bool {
        if self.expiry == Expiry::Hide {
            return true;
        }
        let (now_ms, over_ms) = (self.now_ms, self.over_ms());
        let Some(mut entry) = self.dbs[db].table.get_mut(key.hash, key.bytes) else { return false };
        let old = next_part_expiry(&entry);
        let mut removed = 0;
        for field in fields {
            let found = hash::view(&entry, i64::MIN).item(field);
            if found.is_some_and(|item| item.expiry.is_some_and(|at| at <= over_ms)) {
                hash::remove(&mut entry, field);
                self.changes.record_field_removal(db, key.bytes, field);
                removed += 1;
            }
        }
        let (new, empty) = (next_part_expiry(&entry), hash::view(&entry, i64::MIN).is_empty());
        drop(entry);
        self.dbs[db].refile_parts(key.hash, old, new, now_ms);
        self.note_expired_fields(db, key, removed, empty);
        !empty
    }

    /// Removes all fields of a hash that are over. False if nothing is left of the hash.
    pub fn expire_all_fields(&mut self, db: usize, key: Key<'_>) -> bool {
        if self.expiry == Expiry::Hide {
            return true;
        }
        self.expire_some_fields(db, key, usize::MAX).1
    }

    /// Removes up to `max` fields of a hash that are over: their number, and whether anything is left.
    fn expire_some_fields(&mut self, db: usize, key: Key<'_>, max: usize) -> (usize, bool) {
        let (now_ms, over_ms, changes) = (self.now_ms, self.over_ms(), &mut self.changes);
        let Some(mut entry) = self.dbs[db].table.get_mut(key.hash, key.bytes) else { return (0, false) };
        let old = next_part_expiry(&entry);
        let removed = hash::remove_due(&mut entry, over_ms, max, &mut |field| {
            changes.record_field_removal(db, key.bytes, field);
        });
        let (new, empty) = (next_part_expiry(&entry), hash::view(&entry, i64::MIN).is_empty());
        drop(entry);
        self.dbs[db].refile_parts(key.hash, old, new, now_ms);
        self.note_expired_fields(db, key, removed, empty);
        (removed, !empty)
    }

    /// Counts and reports fields that were removed, and removes a hash of nothing.
    fn note_expired_fields(&mut self, db: usize, key: Key<'_>, removed: usize, empty: bool) {
        if removed == 0 {
            return;
        }
        self.stats.expired_parts += removed as u64;
        self.changes.record(db, key.bytes, event::FIELDS_EXPIRED, Effect::Modified);
        if empty {
            self.remove(db, key, Free::Expired);
            self.changes.record(db, key.bytes, event::DEL, Effect::EventOnly);
        }
    }

    /// The wheel's question about an entry: when is it, or the next part of it, due? What is due now is
    /// removed: the key, or up to `fields` of its fields, of which the number is taken off.
    pub(super) fn resolve_due(&mut self, db: usize, hash: u64, fields: &mut usize) -> Option<i64> {
        let now_ms = self.now_ms;
        let d = &mut self.dbs[db];
        let entry = d.table.get_by_hash(hash, has_deadline)?;
        let due = deadline(&entry)?;
        if due > now_ms || (*fields == 0 && entry.expiry().is_none_or(|at| at > now_ms)) {
            return Some(due);
        }
        if entry.expiry().is_some_and(|at| at <= now_ms) {
            let gone = |e: &Entry| e.expiry().is_some_and(|at| at <= now_ms);
            let entry = d.table.remove_by_hash(hash, gone)?;
            d.forget(&entry);
            super::note_expired(&mut self.stats, &mut self.changes, self.lazy_free, db, &entry);
            dispose(&self.background, entry, self.lazy_free.expire);
            return None;
        }
        let name = entry.key().to_vec();
        let key = Key { bytes: &name, hash };
        let (removed, left) = self.expire_some_fields(db, key, *fields);
        *fields -= removed;
        if !left {
            return None;
        }
        self.dbs[db].table.get(hash, &name).and_then(|entry| deadline(&entry))
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::{AccessClock, Policy};
    use super::super::expire::tests::settle;
    use super::super::{Ttl, change::listener};
    use super::*;
    use crate::collections::entry::NewPayload;
    use crate::sys::background::Background;
    use crate::util::rng::Rng;
    use crate::value::hash::{FieldTtl, Limits};
    use crate::value::{Kind, kind};
    use std::collections::{BTreeMap, HashMap};

    const START_MS: i64 = 1_767_225_600_000;
    /// Small, so that hashes of both encodings occur.
    const LIMITS: Limits = Limits { max_listpack_entries: 4, max_listpack_value: 64 };

    fn keyspace() -> Keyspace {
        let mut ks = Keyspace::new(2, AccessClock::new(Policy::Lru, START_MS), 5, Background::inline());
        ks.begin(START_MS);
        ks
    }

    fn set(ks: &mut Keyspace, db: usize, name: &[u8], field: &[u8], ttl: FieldTtl) {
        let key = Key::new(name);
        if !ks.exists(db, key) {
            ks.insert(db, key, Kind::Hash, hash::empty(), None);
        }
        let mut entry = ks.write(db, key).unwrap();
        let old = next_part_expiry(&entry);
        hash::set(&mut entry, &LIMITS, field, b"v", ttl);
        let new = next_part_expiry(&entry);
        drop(entry);
        ks.parts_changed(db, key, old, new);
    }

    /// Fields with deadlines, by database and key; a string has none and is left out.
    type Model = HashMap<(usize, String), BTreeMap<String, Option<i64>>>;

    fn check(ks: &Keyspace, model: &Model) {
        for db in 0..2 {
            let hashes = ks.db(db).table().iter().filter(|e| kind(e) == Kind::Hash);
            let mut count = 0;
            for entry in hashes {
                let name = String::from_utf8(entry.key().to_vec()).unwrap();
                let items = hash::view(&entry, i64::MIN);
                let text = |value: crate::value::Value<'_>| String::from_utf8(value.to_vec()).unwrap();
                let seen: BTreeMap<_, _> = items.iter().map(|item| (text(item.field), item.expiry)).collect();
                assert_eq!(Some(&seen), model.get(&(db, name)));
                count += 1;
            }
            assert_eq!(count, model.keys().filter(|(d, _)| *d == db).count());
        }
        ks.check_invariants();
    }

    #[test]
    fn random_histories_agree_with_a_model() {
        let seed = std::env::var("AIKV_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(13);
        println!("AIKV_TEST_SEED={seed}");
        let mut rng = Rng::from_seed(seed);
        let (mut ks, mut model, mut now_ms) = (keyspace(), Model::new(), START_MS);
        for _ in 0..20_000 {
            let (db, name) = (rng.below(2) as usize, format!("k{}", rng.below(20)));
            let field = format!("f{}", rng.below(12));
            let key = Key::new(name.as_bytes());
            let at = now_ms + (1 << rng.below(20));
            let is_string = ks.peek(db, key).is_some_and(|e| kind(&e) == Kind::String);
            match rng.below(12) {
                0..=4 if !is_string => {
                    set(&mut ks, db, name.as_bytes(), field.as_bytes(), FieldTtl::At(at));
                    model.entry((db, name)).or_default().insert(field, Some(at));
                }
                5 if !is_string => {
                    set(&mut ks, db, name.as_bytes(), field.as_bytes(), FieldTtl::Clear);
                    model.entry((db, name)).or_default().insert(field, None);
                }
                6 => {
                    ks.remove(db, key, Free::User);
                    model.remove(&(db, name));
                }
                7 => {
                    ks.set(db, key, Kind::String, NewPayload::Int(1), Ttl::Keep);
                    model.remove(&(db, name));
                }
                8 if ks.exists(db, key) => {
                    let (to_db, to_name) = (rng.below(2) as usize, format!("k{}", rng.below(20)));
                    let to = Key::new(to_name.as_bytes());
                    if (to_db, &to_name) == (db, &name) {
                        continue;
                    }
                    let fields = model.get(&(db, name.clone())).cloned();
                    if rng.below(2) == 0 {
                        ks.transfer((db, key), (to_db, to));
                        model.remove(&(db, name));
                    } else {
                        ks.remove(to_db, to, Free::Server);
                        ks.copy((db, key), (to_db, to));
                    }
                    model.remove(&(to_db, to_name.clone()));
                    model.extend(fields.map(|fields| ((to_db, to_name), fields)));
                }
                9..=11 => {
                    now_ms += 1 << rng.below(14);
                    ks.begin(now_ms);
                    let over = |at: &Option<i64>| at.is_some_and(|at| at <= now_ms);
                    if rng.below(3) == 0 && model.contains_key(&(db, name.clone())) {
                        // A command comes upon a field before its time is noticed.
                        let left = ks.expire_fields(db, key, [field.as_bytes()]);
                        let fields = model.get_mut(&(db, name)).unwrap();
                        if fields.get(&field).is_some_and(over) {
                            fields.remove(&field);
                        }
                        assert_eq!(left, !fields.is_empty());
                    }
                    settle(&mut ks);
                    model.values_mut().for_each(|fields| fields.retain(|_, at| !over(at)));
                    model.retain(|_, fields| !fields.is_empty());
                }
                _ => {}
            }
            check(&ks, &model);
        }
        assert!(ks.stats.expired_parts > 1000);
    }

    #[test]
    fn a_big_hash_goes_in_many_short_turns() {
        let mut ks = keyspace();
        ks.changes.listening = listener::PROPAGATION;
        for i in 0..5000 {
            set(&mut ks, 0, b"h", format!("f{i}").as_bytes(), FieldTtl::At(START_MS + 10));
        }
        ks.begin(START_MS + 9);
        settle(&mut ks);
        assert_eq!(ks.db(0).with_volatile_parts(), 1);
        for turn in 1..=5 {
            // What is left over is due in the next millisecond.
            ks.begin(START_MS + 9 + turn);
            settle(&mut ks);
            let mut removals = Vec::new();
            ks.changes.move_implicit(&mut removals);
            assert_eq!(removals.len(), TURN_FIELDS);
        }
        assert_eq!((ks.db(0).len(), ks.db(0).with_volatile_parts()), (0, 0));
        assert_eq!(ks.stats.expired_parts, 5000);
    }

    #[test]
    fn replaced_deadlines_do_not_pile_up() {
        let mut ks = keyspace();
        for round in 0..20_000 {
            set(&mut ks, 0, b"h", b"f", FieldTtl::Clear);
            set(&mut ks, 0, b"h", b"f", FieldTtl::At(START_MS + 100_000 + round));
            settle(&mut ks);
        }
        let wheel = ks.dbs[0].wheel.as_ref().unwrap();
        assert!(wheel.len() <= 1100, "{} items", wheel.len());
    }
}
