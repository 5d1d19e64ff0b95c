//! Digests of values for DEBUG DIGEST and DIGEST-VALUE: equal exactly when type and content are, however
//! they are encoded. The digests are our own; they can be compared between AiKv servers only.

use super::string::{self, Digits};
use super::stream::{Id, Stream};
use super::{Direction, Entry, Kind, hash, kind, list, set, stream, zset};
use crate::collections::listpack;
use crate::util::crc::sha1;

/// 160 bits.
pub type Digest = [u8; 20];

/// Combines the digests of parts.
#[derive(Clone, Copy, Default)]
pub struct Mix(Digest);

impl Mix {
    /// Adds a part of something without order: a member of a set, an entry of a database.
    pub fn any_order(&mut self, part: &[u8]) {
        let digest = sha1(part);
        self.0.iter_mut().zip(digest).for_each(|(a, b)| *a ^= b);
    }

    /// Adds the next part of something with an order.
    pub fn next(&mut self, part: &[u8]) {
        self.any_order(part);
        self.0 = sha1(&self.0);
    }

    /// What was mixed; all zero when nothing was.
    pub fn digest(self) -> Digest {
        self.0
    }
}

/// The digest of an entry's value and expiry.
pub fn of_value(entry: &Entry) -> Digest {
    let mut mix = Mix::default();
    mix.next(kind(entry).name().as_bytes());
    match kind(entry) {
        Kind::String => mix.next(string::bytes(entry, &mut Digits::default())),
        Kind::List => list::view(entry).walk(0, Direction::Forward, &mut |value| {
            mix.next(value.bytes(&mut listpack::Digits::default()));
            true
        }),
        Kind::Set => set::view(entry).iter().for_each(|member| mix.any_order(&member.to_vec())),
        Kind::Zset => zset::view(entry).iter().for_each(|(member, score)| {
            // Both zeros are the same score.
            mix.any_order(&of_parts(&[&member.to_vec(), &(score + 0.0).to_le_bytes()]));
        }),
        Kind::Hash => hash::view(entry, i64::MIN).iter().for_each(|item| {
            let expiry = item.expiry.unwrap_or(0).to_le_bytes();
            mix.any_order(&of_parts(&[&item.field.to_vec(), &item.value.to_vec(), &expiry]));
        }),
        Kind::Stream => mix_stream(&mut mix, stream::view(entry)),
    }
    if let Some(at) = entry.expiry() {
        mix.next(&at.to_le_bytes());
    }
    mix.digest()
}

/// Entries, the last ID, groups and who has what pending. Times and numbers of deliveries are left out: what
/// reaches the log of them is not exact.
fn mix_stream(mix: &mut Mix, stream: &Stream) {
    for item in stream.range(Id::MIN, Id::MAX, Direction::Forward) {
        mix.next(&item.id.to_bytes());
        for (field, value) in item.fields() {
            mix.next(field.bytes(&mut listpack::Digits::default()));
            mix.next(value.bytes(&mut listpack::Digits::default()));
        }
    }
    mix.next(&stream.meta().last_id.to_bytes());
    for group in stream.groups() {
        mix.next(group.name());
        mix.next(&group.last_id.to_bytes());
        for (id, pending) in group.pending(Id::MIN) {
            mix.next(&id.to_bytes());
            mix.next(group.consumer(pending.consumer).name());
        }
    }
}

/// The digest of an element that has parts.
fn of_parts(parts: &[&[u8]]) -> Digest {
    let mut mix = Mix::default();
    parts.iter().for_each(|part| mix.next(part));
    mix.digest()
}

/// The digest of an entry as part of the data set: key, value and expiry.
pub fn of_entry(db: usize, entry: &Entry) -> Digest {
    let mut mix = Mix::default();
    mix.next(&(db as u64).to_le_bytes());
    mix.next(entry.key());
    mix.next(&of_value(entry));
    mix.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::entry::NewPayload;

    #[test]
    fn encodings_do_not_matter_and_contents_do() {
        let entry = |payload| Entry::new(b"k", Kind::String as u8, payload, None);
        let int = of_value(&entry(NewPayload::Int(12)));
        assert_eq!(int, of_value(&entry(NewPayload::Inline(b"12"))));
        assert_ne!(int, of_value(&entry(NewPayload::Inline(b"13"))));
        assert_ne!(int, of_value(&Entry::new(b"k", Kind::String as u8, NewPayload::Int(12), Some(5))));
        assert_ne!(of_entry(0, &entry(NewPayload::Int(1))), of_entry(1, &entry(NewPayload::Int(1))));
    }

    #[test]
    fn order_counts_only_where_there_is_one() {
        let (mut a, mut b) = (Mix::default(), Mix::default());
        [b"1", b"2"].iter().for_each(|part| a.any_order(*part));
        [b"2", b"1"].iter().for_each(|part| b.any_order(*part));
        assert_eq!(a.digest(), b.digest());
        a.next(b"x");
        a.next(b"y");
        b.next(b"y");
        b.next(b"x");
        assert_ne!(a.digest(), b.digest());
    }
}
