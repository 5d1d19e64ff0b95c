//! Error replies by code (`ERR`, `WRONGTYPE`, ...): INFO errorstats. Codes come from clients too (scripts),
//! so their number is limited.

use std::collections::BTreeMap;

/// Different codes counted; beyond that counting is off until CONFIG RESETSTAT, as in Redis.
const CODES_MAX: usize = 128;

/// Counts by code.
#[derive(Default)]
pub struct ErrorStats {
    codes: BTreeMap<Vec<u8>, u64>,
    disabled: bool,
}

impl ErrorStats {
    /// Counts an error reply. When there are too many codes, what was counted of them is given back to be
    /// dropped.
    pub fn count(&mut self, code: &[u8]) -> Option<BTreeMap<Vec<u8>, u64>> {
        if let Some(n) = self.codes.get_mut(code) {
            *n += 1;
        } else if !self.disabled {
            if self.codes.len() >= CODES_MAX {
                let off = BTreeMap::from([(b"ERRORSTATS_DISABLED".to_vec(), 1)]);
                self.disabled = true;
                return Some(std::mem::replace(&mut self.codes, off));
            }
            self.codes.insert(code.to_vec(), 1);
        }
        None
    }

    /// Codes and counts, sorted by code.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.codes.iter().map(|(code, n)| (code.as_slice(), *n))
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        *self = ErrorStats::default();
    }
}
