//! Where a small collection lies: up to 255 bytes inside its entry, beyond that in a blob; so a small one
//! costs no allocation of its own and one cache miss less. Gives the packed encodings of all types a
//! [`Buffer`] to work on. Knows no encoding.

use super::{Entry, Object, Value};
use crate::collections::blob::Blob;
use crate::collections::buffer::Buffer;
use crate::collections::entry::{MAX_INLINE, NewPayload, Payload, PayloadMut};
use crate::collections::hash::hash_key;
use std::collections::HashSet;

/// A blob that shrinks to this size goes back into its entry; well below the size at which it leaves.
const BACK_INLINE: usize = 160;

/// The packed bytes; none when the value is an object.
#[inline(always)]
pub(super) fn bytes(entry: &Entry) -> Option<&[u8]> {
    match entry.payload() {
        Payload::Inline(bytes) => Some(bytes),
        Payload::Blob(blob) => Some(blob.as_slice()),
        Payload::Object(_) => None,
        Payload::Int(_) => unreachable!("a collection is not an integer"),
    }
}

/// The payload of these packed bytes.
pub(super) fn payload(bytes: &[u8]) -> NewPayload<'_, Object> {
    match bytes.len() {
        0..=MAX_INLINE => NewPayload::Inline(bytes),
        _ => NewPayload::Blob(Blob::from_slice(bytes)),
    }
}

/// Members that are compared by their marks at once.
const MARKS: usize = 32;

/// Tells whether members, which come one after the other, are all different. Their hashes are compared first:
/// the members themselves only when two hashes are the same.
pub(super) struct Distinct {
    /// One bit for each hash so far: nearly always it tells that a new one is no other.
    filter: u64,
    /// Pieces of the hashes of the first members.
    marks: [u32; MARKS],
    count: usize,
    /// The hashes of the others.
    more: Vec<u64>,
    /// Two marks are the same.
    in_doubt: bool,
}

impl Distinct {
    pub(super) fn new() -> Distinct {
        Distinct { filter: 0, marks: [0; MARKS], count: 0, more: Vec::new(), in_doubt: false }
    }

    /// Takes in a member as a listpack of ours keeps it.
    #[inline]
    pub(super) fn add(&mut self, member: Value<'_>) {
        let hash = match member {
            Value::Int(n) => hash_key(&i64::to_le_bytes(n)),
            Value::Str(bytes) => hash_key(bytes),
        };
        if self.count == MARKS {
            self.more.push(hash);
            return;
        }
        let mark = hash as u32;
        let bit = 1 << (hash >> 58);
        if self.filter & bit != 0 {
            self.in_doubt |= self.marks[..self.count].contains(&mark);
        }
        self.filter |= bit;
        self.marks[self.count] = mark;
        self.count += 1;
    }

    /// Whether all were different; `again` gives them once more.
    pub(super) fn all_are<'a>(mut self, again: impl Iterator<Item = Value<'a>>) -> bool {
        if !self.more.is_empty() {
            self.more.sort_unstable();
            self.in_doubt |= self.more.windows(2).any(|pair| pair[0] == pair[1]);
            let mut marks: Vec<u32> = self.more.iter().map(|hash| *hash as u32).collect();
            marks.sort_unstable();
            self.in_doubt |= self.marks.iter().any(|mark| marks.binary_search(mark).is_ok());
        }
        let mut seen = HashSet::new();
        !self.in_doubt || again.into_iter().all(|member| seen.insert(member))
    }
}

/// The packed bytes of an entry that holds some, to be changed.
pub(super) struct Packed<'a>(pub(super) &'a mut Entry);

impl Packed<'_> {
    fn blob(&mut self) -> Option<&mut Blob> {
        match self.0.payload_mut() {
            PayloadMut::Blob(blob) => Some(blob),
            _ => None,
        }
    }

    /// Moves inline bytes to a blob with room for `len`.
    fn move_out(&mut self, len: usize) {
        let mut blob = Blob::new();
        blob.reserve_block(len);
        blob.extend_from_slice(self.bytes());
        self.0.set_payload(self.0.kind(), NewPayload::Blob(blob));
    }

    fn move_in(&mut self) {
        let mut copy = [0; BACK_INLINE];
        let bytes = self.bytes();
        let len = bytes.len();
        copy[..len].copy_from_slice(bytes);
        self.0.set_payload(self.0.kind(), NewPayload::Inline(&copy[..len]));
    }
}

impl Buffer for Packed<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        bytes(self.0).expect("the encoding is packed")
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self.0.payload_mut() {
            PayloadMut::Inline(bytes) => bytes,
            PayloadMut::Blob(blob) => blob.make_mut(),
            _ => unreachable!("the encoding is packed"),
        }
    }

    fn splice(&mut self, at: usize, removed: usize, inserted: usize) -> &mut [u8] {
        let len = self.bytes().len() + inserted - removed;
        if self.blob().is_none() {
            if len <= MAX_INLINE {
                return self.0.splice_inline(at, removed, inserted);
            }
            self.move_out(len);
        }
        let blob = self.blob().expect("the bytes are in a blob");
        blob.splice(at, removed, inserted);
        if len <= BACK_INLINE {
            self.move_in();
        }
        self.bytes_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_apart() {
        for count in [1, 2, 10, 31, 32, 33, 34, 200, 5_000] {
            let names: Vec<String> = (0..count).map(|i| format!("member:{i}")).collect();
            let distinct = |names: &[String]| {
                let values = || names.iter().map(|name| Value::new(name.as_bytes()));
                let mut distinct = Distinct::new();
                values().for_each(|value| distinct.add(value));
                distinct.all_are(values())
            };
            assert!(distinct(&names), "{count}");
            for (from, to) in [(0, count - 1), (count / 2, 0), (count - 1, count / 2)] {
                let mut twice = names.clone();
                twice[to] = names[from].clone();
                assert_eq!(distinct(&twice), from == to, "{count}: {from} is {to}, too");
            }
        }
    }

    #[test]
    fn bytes_move_between_entry_and_blob() {
        let mut entry = Entry::new(b"key", 2, payload(b"abc"), Some(7));
        let mut packed = Packed(&mut entry);
        packed.splice(1, 1, 300)[1..301].fill(b'x');
        assert!(matches!(entry.payload(), Payload::Blob(_)));
        let copy = super::super::duplicate(&entry, b"copy");
        let mut packed = Packed(&mut entry);
        packed.splice(1, 100, 0);
        assert!(matches!(packed.0.payload(), Payload::Blob(_)));
        packed.splice(1, 100, 0);
        assert!(matches!(packed.0.payload(), Payload::Inline(_)));
        packed.splice(1, 99, 0);
        assert_eq!(packed.bytes(), b"axc");
        packed.bytes_mut()[1] = b'b';
        assert_eq!((bytes(&entry), entry.key(), entry.expiry()), (Some(&b"abc"[..]), &b"key"[..], Some(7)));
        assert_eq!(bytes(&copy).map(<[u8]>::len), Some(302));
    }
}
