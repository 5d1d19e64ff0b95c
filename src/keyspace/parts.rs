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
        let now_ms = self.now_ms;
        let Some(mut entry) = self.dbs[db].table.get_mut(key.hash, key.bytes) else { return false };
        let old = next_part_expiry(&entry);
        let mut removed = 0;
        for field in fields {
            let found = hash::view(&entry, i64::MIN).item(field);
            if found.is_some_and(|item| item.expiry.is_some_and(|at| at <= now_ms)) {
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
        let (now_ms, changes) = (self.now_ms, &mut self.changes);
        let Some(mut entry) = self.dbs[db].table.get_mut(key.hash, key.bytes) else { return (0, false) };
        let old = next_part_expiry(&entry);
        let removed = hash::remove_due(&mut entry, now_ms, max, &mut |field| {
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
