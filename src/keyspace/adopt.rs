//! Taking in entries that come whole: from a snapshot, from RESTORE.

use super::{Key, Keyspace};
use crate::collections::hash::hash_key;
use crate::value::Entry;

impl Keyspace {
    /// Adds an entry with the clock and expiry it has. When its key is there, the entry is given back.
    pub fn adopt(&mut self, db: usize, entry: Entry) -> Result<(), Entry> {
        let hash = hash_key(entry.key());
        self.adopt_hashed(db, hash, entry)
    }

    /// The same, when the hash of the key is known: of many entries, the buckets can be prefetched.
    #[inline]
    pub fn adopt_hashed(&mut self, db: usize, hash: u64, entry: Entry) -> Result<(), Entry> {
        // A key that is there may be over.
        let taken = self.dbs[db].table.contains(hash, entry.key())
            && self.exists(db, Key { bytes: entry.key(), hash });
        if taken {
            return Err(entry);
        }
        self.insert_entry(db, hash, entry);
        Ok(())
    }
}
