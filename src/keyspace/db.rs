//! One database: the table of entries, and the wheel that knows when volatile keys are due.

use super::{Expiry, Key};
use crate::collections::dict::{Dict, Lookup, Mut};
use crate::collections::wheel::Wheel;
use crate::value::{Entry, next_part_expiry};

/// A database.
#[derive(Default)]
pub struct Db {
    pub(super) table: Dict<Entry>,
    /// Deadlines of volatile keys; made with the first.
    pub(super) wheel: Option<Box<Wheel>>,
    /// Keys with an expiry.
    pub(super) volatile: usize,
    /// Keys that have parts with a deadline.
    pub(super) parts: usize,
}

/// What a lookup found.
pub(super) enum Live<'a> {
    Missing,
    Found(Mut<'a, Entry>),
    /// The key's time was over: it is out of the table now.
    Expired(Entry),
}

impl Db {
    /// Number of keys, those whose time is over and that nobody has found yet included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Number of keys with an expiry.
    pub fn volatile(&self) -> usize {
        self.volatile
    }

    /// Bytes of the table and the wheel, without entries.
    pub fn overhead_bytes(&self) -> usize {
        self.table.memory_bytes() + self.wheel.as_ref().map_or(0, |w| w.memory_bytes())
    }

    /// The table, for walking over all entries.
    pub fn table(&self) -> &Dict<Entry> {
        &self.table
    }

    /// The entry of a key that is not over: whose deadline is behind `over_ms`.
    #[inline]
    pub(super) fn live(&mut self, key: Key<'_>, over_ms: i64, expiry: Expiry) -> Live<'_> {
        let over = |entry: &Entry| entry.expiry().is_some_and(|t| t <= over_ms);
        if expiry == Expiry::Hide {
            return match self.table.get_mut(key.hash, key.bytes) {
                Some(entry) if !over(&entry) => Live::Found(entry),
                _ => Live::Missing,
            };
        }
        match self.table.get_live(key.hash, key.bytes, over) {
            Lookup::Missing => Live::Missing,
            Lookup::Live(entry) => Live::Found(entry),
            Lookup::Dead(entry) => {
                self.volatile -= 1;
                self.parts -= usize::from(next_part_expiry(&entry).is_some());
                Live::Expired(entry)
            }
        }
    }

    /// Notes a key's new deadline. A key whose deadline was not brought forward keeps its place: the wheel
    /// asks again when the old one fires.
    pub(super) fn file(&mut self, hash: u64, old: Option<i64>, new: i64, now_ms: i64) {
        self.volatile += usize::from(old.is_none());
        if old.is_some_and(|old| old <= new) {
            return;
        }
        self.wheel_at(now_ms).file(hash, new);
    }

    /// The wheel, made now if there is none.
    pub(super) fn wheel_at(&mut self, now_ms: i64) -> &mut Wheel {
        self.wheel.get_or_insert_with(|| Box::new(Wheel::new(now_ms)))
    }

    /// Checks that the counts of volatile keys are right (walks small databases only).
    pub(super) fn check_invariants(&self) {
        if self.table.len() > 1000 {
            return;
        }
        let volatile = self.table.iter().filter(|e| e.expiry().is_some()).count();
        assert_eq!(volatile, self.volatile, "volatile keys are counted");
        let parts = self.table.iter().filter(|e| next_part_expiry(e).is_some()).count();
        assert_eq!(parts, self.parts, "keys with volatile parts are counted");
    }
}
