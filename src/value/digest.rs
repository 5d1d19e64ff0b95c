//! Digests of values for DEBUG DIGEST and DIGEST-VALUE: equal when type and content are, however they are
//! encoded. They are those of Redis 7.4 to the byte, so that the data of two servers can be compared; Redis
//! 7.0 differs in scores that are no integers. Knows no database and no command.

use super::stream::{Id, Stream};
use super::string::{self, Digits};
use super::{Direction, Entry, Kind, hash, kind, list, set, stream, zset};
use crate::collections::listpack;
use crate::util::crc::sha1;
use crate::util::num::push_f64;

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

/// What stands in the digest for the fact that a key has an expiry; when it is, is left out.
const EXPIRES: &[u8] = b"!!expire!!";
/// The same for a field of a hash.
const FIELD_EXPIRES: &[u8] = b"!!hexpire!!";

/// The number of a type in digests: the tags of Redis' objects.
fn type_number(kind: Kind) -> u32 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::Zset => 3,
        Kind::Hash => 4,
        Kind::Stream => 6,
    }
}

/// The digest of an entry's value, and whether it has an expiry (DEBUG DIGEST-VALUE).
pub fn of_value(entry: &Entry) -> Digest {
    let mut mix = Mix::default();
    mix_value(&mut mix, entry);
    mix.digest()
}

fn mix_value(mix: &mut Mix, entry: &Entry) {
    mix.next(&type_number(kind(entry)).to_be_bytes());
    match kind(entry) {
        Kind::String => mix.next(string::bytes(entry, &mut Digits::default())),
        Kind::List => list::view(entry).walk(0, Direction::Forward, &mut |value| {
            mix.next(value.bytes(&mut listpack::Digits::default()));
            true
        }),
        Kind::Set => set::view(entry).iter().for_each(|member| {
            mix.any_order(member.bytes(&mut listpack::Digits::default()));
        }),
        Kind::Zset => zset::view(entry).iter().for_each(|(member, score)| {
            let mut text = Vec::with_capacity(24);
            // Both zeros are the same score.
            push_f64(&mut text, score + 0.0);
            mix.any_order(&of_parts(&[member.bytes(&mut listpack::Digits::default()), &text]).0);
        }),
        Kind::Hash => hash::view(entry, i64::MIN).iter().for_each(|item| {
            let (mut field, mut value) = (listpack::Digits::default(), listpack::Digits::default());
            let mut element = of_parts(&[item.field.bytes(&mut field), item.value.bytes(&mut value)]);
            if item.expiry.is_some() {
                element.any_order(FIELD_EXPIRES);
            }
            mix.any_order(&element.0);
        }),
        Kind::Stream => mix_stream(mix, stream::view(entry)),
    }
    if entry.expiry().is_some() {
        mix.any_order(EXPIRES);
    }
}

/// Only the entries: groups are no part of Redis' digests.
fn mix_stream(mix: &mut Mix, stream: &Stream) {
    for item in stream.range(Id::MIN, Id::MAX, Direction::Forward) {
        mix.next(format!("{}.{}", item.id.ms, item.id.seq).as_bytes());
        for (field, value) in item.fields() {
            mix.next(field.bytes(&mut listpack::Digits::default()));
            mix.next(value.bytes(&mut listpack::Digits::default()));
        }
    }
}

/// An element that has parts.
fn of_parts(parts: &[&[u8]]) -> Mix {
    let mut mix = Mix::default();
    parts.iter().for_each(|part| mix.next(part));
    mix
}

/// Adds a database to the digest of all data (DEBUG DIGEST): databases come in order, and those without
/// entries are left out by the caller.
pub fn add_database<E: std::ops::Deref<Target = Entry>>(
    all: &mut Mix,
    db: usize,
    entries: impl Iterator<Item = E>,
) {
    all.next(&(db as u32).to_be_bytes());
    for entry in entries {
        let mut mix = Mix::default();
        mix.next(entry.key());
        mix_value(&mut mix, &entry);
        all.any_order(&mix.digest());
    }
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
    }

    #[test]
    fn digests_are_those_of_redis() {
        // From redis-server 7.0: DEBUG DIGEST-VALUE of `SET k 12`, and the same with an expiry.
        let digest = |expiry| of_value(&Entry::new(b"k", Kind::String as u8, NewPayload::Int(12), expiry));
        assert_eq!(crate::util::crc::hex(&digest(None)), "655ac46b180ad2f61a3cee25f0b1780fa2ec879a");
        assert_eq!(crate::util::crc::hex(&digest(Some(5))), "83df3a94c43338a2db2a05ddb5dbb794b842c619");
        assert_eq!(digest(Some(5)), digest(Some(6)));
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
