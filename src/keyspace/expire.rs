//! Active expiry: keys go at their time, whatever else has a TTL. The wheel says which hashes are due; the
//! entry says whether it is true.

use super::{Expiry, Keyspace, dispose, note_expired};
use crate::collections::wheel::Advance;

/// Keys removed or re-filed per turn of the loop, so that a turn stays short.
const TURN_BUDGET: usize = 400;
/// The wheel may hold this many items beyond twice the volatile keys before it is swept.
const STALE_ITEMS_MAX: usize = 1024;

impl Keyspace {
    /// The earliest time at which [`Keyspace::expire_due`] has work, if any.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        self.dbs.iter().filter_map(|d| d.wheel.as_ref()?.next_due_ms()).min()
    }

    /// Removes keys that are due. True if the budget ended before the work.
    pub fn expire_due(&mut self) -> bool {
        if self.expiry == Expiry::Hide {
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
        let stale = wheel.len() > 2 * self.dbs[db].volatile + STALE_ITEMS_MAX;
        let mut resolve = |hash| self.resolve_due(db, hash);
        let advance = wheel.advance(now_ms, TURN_BUDGET, &mut resolve);
        if stale {
            wheel.compact(TURN_BUDGET, &mut resolve);
        }
        let more = advance == Advance::More && wheel.next_due_ms().is_some_and(|t| t <= now_ms);
        if wheel.len() > 0 {
            self.dbs[db].wheel = Some(wheel);
        }
        more
    }

    /// The wheel's question: when is the key of this hash due? A key that is due now is removed.
    fn resolve_due(&mut self, db: usize, hash: u64) -> Option<i64> {
        let now_ms = self.now_ms;
        let d = &mut self.dbs[db];
        let deadline = d.table.get_by_hash(hash, |e| e.expiry().is_some())?.expiry()?;
        if deadline > now_ms {
            return Some(deadline);
        }
        let entry = d.table.remove_by_hash(hash, |e| e.expiry() == Some(deadline))?;
        d.volatile -= 1;
        note_expired(&mut self.stats, &mut self.changes, self.lazy_free, db, &entry);
        dispose(&self.background, entry, self.lazy_free.expire);
        None
    }
}
