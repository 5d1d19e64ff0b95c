//! The ID of a stream's entry: milliseconds and a sequence number within them. Knows no stream.

use std::ops::Deref;

/// An entry's ID. The order is that of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Milliseconds since 1970, or whatever the client takes for them.
    pub ms: u64,
    /// Number among the entries of the same millisecond.
    pub seq: u64,
}

impl Id {
    /// The lowest ID; no entry has it.
    pub const MIN: Id = Id { ms: 0, seq: 0 };
    /// The highest ID.
    pub const MAX: Id = Id { ms: u64::MAX, seq: u64::MAX };

    /// An ID.
    pub const fn new(ms: u64, seq: u64) -> Id {
        Id { ms, seq }
    }

    /// The ID after this one; none after the highest.
    #[inline]
    pub fn next(self) -> Option<Id> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Id { ms: self.ms, seq }),
            None => self.ms.checked_add(1).map(|ms| Id { ms, seq: 0 }),
        }
    }

    /// The ID before this one; none before the lowest.
    #[inline]
    pub fn prev(self) -> Option<Id> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Id { ms: self.ms, seq }),
            None => self.ms.checked_sub(1).map(|ms| Id { ms, seq: u64::MAX }),
        }
    }

    /// 16 bytes, big endian, as RDB files hold it.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.seq)).to_be_bytes()
    }

    /// From 16 bytes, big endian.
    pub fn from_bytes(bytes: [u8; 16]) -> Id {
        let n = u128::from_be_bytes(bytes);
        Id { ms: (n >> 64) as u64, seq: n as u64 }
    }

    /// The text `ms-seq`.
    #[inline]
    pub fn text(self) -> Text {
        let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (ms, seq) = (ms.format(self.ms).as_bytes(), seq.format(self.seq).as_bytes());
        let mut text = Text { bytes: [0; TEXT_MAX], len: (ms.len() + 1 + seq.len()) as u8 };
        text.bytes[..ms.len()].copy_from_slice(ms);
        text.bytes[ms.len()] = b'-';
        text.bytes[ms.len() + 1..][..seq.len()].copy_from_slice(seq);
        text
    }
}

/// Two numbers of 20 digits and the sign between them.
const TEXT_MAX: usize = 41;

/// The text of an ID, without an allocation.
pub struct Text {
    bytes: [u8; TEXT_MAX],
    len: u8,
}

impl Deref for Text {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_texts_and_bytes() {
        let id = Id::new(5, u64::MAX);
        assert_eq!((id.next(), Id::MAX.next()), (Some(Id::new(6, 0)), None));
        assert_eq!((Id::new(6, 0).prev(), Id::MIN.prev()), (Some(id), None));
        assert_eq!(
            (&*Id::MAX.text(), Id::MAX.text().len()),
            (&b"18446744073709551615-18446744073709551615"[..], 41)
        );
        assert_eq!(&*Id::new(12, 0).text(), b"12-0");
        assert_eq!(Id::from_bytes(id.to_bytes()), id);
        assert_eq!(Id::new(1, 2).to_bytes()[..9], [0, 0, 0, 0, 0, 0, 0, 1, 0]);
    }
}
