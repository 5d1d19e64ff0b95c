//! The big hash: a table of fields, and the deadlines of those that expire in order. Knows no limits and no
//! clock: whether a deadline is over is the caller's to say.

use crate::collections::dict::Dict;
use crate::collections::element::Field;
use crate::collections::hash::hash_key;
use crate::collections::relocate::rebuild_set;
use crate::sys::defrag::Mover;
use std::collections::BTreeSet;

/// Fields with their values.
#[derive(Default)]
pub struct Table {
    fields: Dict<Field>,
    /// (deadline in milliseconds since 1970, hash of the field). Of fields that share both, one stands here.
    deadlines: BTreeSet<(i64, u64)>,
}

impl Table {
    /// The fields.
    #[inline]
    pub fn fields(&self) -> &Dict<Field> {
        &self.fields
    }

    /// The earliest deadline.
    #[inline]
    pub fn next_expiry(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Number of fields that are over.
    pub fn count_due(&self, now_ms: i64) -> usize {
        let due = self.deadlines.range(..=(now_ms, u64::MAX));
        due.map(|&(deadline, hash)| self.sharing(deadline, hash)).sum()
    }

    /// Number of fields with a deadline, at least.
    pub fn volatile(&self) -> usize {
        self.deadlines.len()
    }

    /// Sets a field. `expiry`: none leaves what an old field has. True if the field is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], expiry: Option<Option<i64>>) -> bool {
        let hash = hash_key(name);
        let Some(mut field) = self.fields.get_mut(hash, name) else {
            self.insert_new(hash, name, value, expiry.flatten());
            return true;
        };
        field.set_value(value);
        let old = field.expiry();
        if let Some(new) = expiry
            && new != old
        {
            field.set_expiry(new);
            drop(field);
            self.refile(hash, old, new);
        }
        false
    }

    /// Adds a field that is not there.
    pub fn insert_new(&mut self, hash: u64, name: &[u8], value: &[u8], expiry: Option<i64>) {
        self.fields.insert_new(hash, Field::new(name, value, expiry));
        self.refile(hash, None, expiry);
    }

    /// Sets or removes a field's deadline; false if there is no such field.
    pub fn set_expiry(&mut self, name: &[u8], expiry: Option<i64>) -> bool {
        let hash = hash_key(name);
        let Some(mut field) = self.fields.get_mut(hash, name) else { return false };
        let old = field.expiry();
        field.set_expiry(expiry);
        drop(field);
        self.refile(hash, old, expiry);
        true
    }

    /// Removes a field; false if there is no such field.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let hash = hash_key(name);
        let Some(field) = self.fields.remove(hash, name) else { return false };
        self.refile(hash, field.expiry(), None);
        true
    }

    /// Removes up to `max` fields whose deadline is over, showing each; says how many.
    pub fn remove_due(&mut self, now_ms: i64, max: usize, each: &mut dyn FnMut(&[u8])) -> usize {
        let mut removed = 0;
        while removed < max {
            let Some(&(deadline, hash)) = self.deadlines.first().filter(|first| first.0 <= now_ms) else {
                break;
            };
            let field = self.fields.remove_by_hash(hash, |field| field.expiry() == Some(deadline));
            let field = field.expect("every deadline is that of a field");
            self.refile(hash, Some(deadline), None);
            each(field.name());
            removed += 1;
        }
        removed
    }

    /// Bytes the allocator spends on table and deadlines, without the fields.
    pub fn memory_bytes(&self) -> usize {
        // A B-tree of the standard library is about three quarters full.
        self.fields.memory_bytes() + self.deadlines.len() * size_of::<(i64, u64)>() * 4 / 3
    }

    /// Moves blocks of one bucket of fields, and builds the deadlines anew (at the start, if they are few),
    /// for active defragmentation; see `Dict::relocate_some`. Deadlines name fields by hash.
    pub fn relocate_some(&mut self, cursor: u64, mover: &mut Mover) -> u64 {
        if cursor == 0 {
            rebuild_set(&mut self.deadlines, mover);
        }
        self.fields.relocate_some(cursor, mover, &mut Field::relocate)
    }

    /// A copy.
    pub fn duplicate(&self) -> Table {
        let mut copy = Table::default();
        for field in &self.fields {
            copy.insert_new(hash_key(field.name()), field.name(), field.value(), field.expiry());
        }
        copy
    }

    /// Moves a field's deadline, when the field itself already has the new one or is gone.
    fn refile(&mut self, hash: u64, old: Option<i64>, new: Option<i64>) {
        if let Some(old) = old
            && self.sharing(old, hash) == 0
        {
            self.deadlines.remove(&(old, hash));
        }
        if let Some(new) = new {
            self.deadlines.insert((new, hash));
        }
    }

    /// Number of fields of this hash and deadline: one, unless hashes collide.
    fn sharing(&self, deadline: i64, hash: u64) -> usize {
        let mut count = 0;
        // The predicate sees every field of this hash, as it accepts none.
        self.fields.get_by_hash(hash, |field| {
            count += usize::from(field.expiry() == Some(deadline));
            false
        });
        count
    }
}
