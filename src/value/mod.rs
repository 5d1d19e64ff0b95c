//! The data types. Each type is a file of its own whose encodings are private to it; nothing here knows a
//! key, a database or the wire.

pub mod digest;
pub mod string;

use crate::collections::entry::{NewPayload, Payload};

/// The type of a value, as TYPE names it. The numbers are the tags kept in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A string of bytes (or an integer).
    String = 0,
    /// A list.
    List = 1,
    /// A set.
    Set = 2,
    /// A sorted set.
    Zset = 3,
    /// A hash.
    Hash = 4,
    /// A stream.
    Stream = 5,
}

/// All kinds, indexed by their tag.
pub const KINDS: [Kind; 6] = [Kind::String, Kind::List, Kind::Set, Kind::Zset, Kind::Hash, Kind::Stream];

impl Kind {
    /// The word of TYPE.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Zset => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }

    /// The kind with this tag.
    #[inline]
    pub fn from_tag(tag: u8) -> Kind {
        KINDS[tag as usize]
    }

    /// The kind of this name (SCAN's TYPE).
    pub fn from_name(name: &[u8]) -> Option<Kind> {
        KINDS.into_iter().find(|k| name.eq_ignore_ascii_case(k.name().as_bytes()))
    }
}

/// A value that needs an allocation of its own. Strings never do: they live in their entry or in a blob.
#[derive(Debug)]
pub enum Object {}

/// A key with its value, expiry and access clock.
pub type Entry = crate::collections::entry::Entry<Object>;

/// The type of an entry's value.
#[inline]
pub fn kind(entry: &Entry) -> Kind {
    Kind::from_tag(entry.kind())
}

/// The encoding of an entry's value, as OBJECT ENCODING names it.
pub fn encoding(entry: &Entry) -> &'static str {
    match kind(entry) {
        Kind::String => string::encoding(entry),
        other => other.name(),
    }
}

/// Bytes of memory that key and value take together.
pub fn memory_bytes(entry: &Entry) -> usize {
    let apart = match entry.payload() {
        Payload::Inline(_) | Payload::Int(_) => 0,
        Payload::Blob(blob) => blob.allocated_bytes(),
        Payload::Object(never) => match *never {},
    };
    entry.allocated_bytes() + apart
}

/// Allocations that freeing the value takes: decides whether the background thread does it.
pub fn free_effort(_entry: &Entry) -> usize {
    1
}

/// A copy of value and expiry under another key.
pub fn duplicate(entry: &Entry, key: &[u8]) -> Entry {
    let payload = match entry.payload() {
        Payload::Inline(bytes) => NewPayload::Inline(bytes),
        Payload::Int(n) => NewPayload::Int(n),
        Payload::Blob(blob) => NewPayload::Blob(blob.clone()),
        Payload::Object(never) => match *never {},
    };
    let mut copy = Entry::new(key, entry.kind(), payload, entry.expiry());
    copy.set_flag(string::CHANGED, entry.flag(string::CHANGED));
    copy
}
