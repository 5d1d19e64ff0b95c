//! Taking in entries that come whole: from a snapshot, from RESTORE.

use super::{Key, Keyspace};
use crate::value::Entry;

impl Keyspace {
    /// Adds an entry with the clock and expiry it has. When its key is there, the entry is given back.
    pub fn adopt(&mut self, db: usize, entry: Entry) -> Result<(), Entry> {
        let bytes = entry.key().to_vec();
        let key = Key::new(&bytes);
        if self.exists(db, key) {
            return Err(entry);
        }
        self.insert_entry(db, key, entry);
        Ok(())
    }
}
