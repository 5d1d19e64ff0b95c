//! The data types. Each type is a file or folder of its own whose encodings are private to it; nothing here
//! knows a key, a database or the wire. Reading goes through views (`list::view(&entry)` and so on), changes
//! through functions that take the entry and the limits in force and convert it when it outgrows its
//! encoding.

#[cfg(test)]
mod bench;
pub mod digest;
pub mod hash;
pub mod hyperloglog;
pub mod list;
mod packed;
pub mod relocate;
pub mod set;
pub mod stream;
pub mod string;
#[cfg(test)]
mod tests;
pub mod zset;

pub use crate::collections::listpack::{Digits, Value};
pub use crate::collections::sorted::Direction;

use crate::collections::dict::{Dict, Slot};
use crate::collections::element::Field;
use crate::collections::entry::{NewPayload, Payload};
use crate::collections::{listpack, size_class, sorted};
use crate::config::Config;
use crate::resp::Reply;
use crate::util::rng::Rng;
use std::fmt;

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

/// A value that needs an allocation of its own: the big encodings. Strings and small collections live in
/// their entry or in a blob.
pub enum Object {
    /// A long list.
    List(list::Quicklist),
    /// A big set.
    Set(set::Table),
    /// A big sorted set.
    Zset(zset::SortedSet),
    /// A big hash, or one with deadlines.
    Hash(hash::Large),
    /// A stream.
    Stream(Box<stream::Stream>),
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Object::List(_) => "List",
            Object::Set(_) => "Set",
            Object::Zset(_) => "Zset",
            Object::Hash(_) => "Hash",
            Object::Stream(_) => "Stream",
        })
    }
}

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
        Kind::List => list::view(entry).encoding(),
        Kind::Set => set::view(entry).encoding(),
        Kind::Zset => zset::view(entry).encoding(),
        Kind::Hash => hash::view(entry, i64::MIN).encoding(),
        Kind::Stream => "stream",
    }
}

/// Number of elements of a collection; 1 for a string, and for a stream, which may be empty and stays.
pub fn len(entry: &Entry) -> usize {
    match kind(entry) {
        Kind::String | Kind::Stream => 1,
        Kind::List => list::view(entry).len(),
        Kind::Set => set::view(entry).len(),
        Kind::Zset => zset::view(entry).len(),
        Kind::Hash => hash::view(entry, i64::MIN).len(),
    }
}

/// Whether the value is a collection of nothing, which may not stay in a database.
pub fn is_empty(entry: &Entry) -> bool {
    len(entry) == 0
}

/// The earliest deadline of a part of the value (a field of a hash), if there is one.
pub fn next_part_expiry(entry: &Entry) -> Option<i64> {
    match entry.payload() {
        Payload::Object(Object::Hash(_)) => hash::view(entry, i64::MIN).next_expiry(),
        _ => None,
    }
}

/// The table in which a big collection finds its members, for fetching their memory ahead.
#[derive(Clone, Copy)]
pub enum MemberTable<'a> {
    /// Of a set.
    Set(&'a set::Table),
    /// Of a hash.
    Hash(&'a Dict<Field>),
    /// Of a sorted set.
    Zset(&'a Dict<sorted::Member>),
}

impl MemberTable<'_> {
    /// Brings a part of the memory that a lookup of `hash` will touch into the cache. The stages follow from
    /// one another; between two of them there is to be work on other members.
    #[inline]
    pub fn prefetch(self, stage: Stage, hash: u64) {
        match self {
            MemberTable::Set(table) => stage.of(table, hash),
            MemberTable::Hash(table) => stage.of(table, hash),
            MemberTable::Zset(table) => stage.of(table, hash),
        }
    }
}

/// What is fetched of a table, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The word that tells where the bucket is.
    Directory,
    /// The bucket.
    Bucket,
    /// The bucket, and what an insertion touches besides.
    BucketForInsert,
    /// The member.
    Member,
}

impl Stage {
    #[inline(always)]
    fn of<E: Slot>(self, table: &Dict<E>, hash: u64) {
        match self {
            Stage::Directory => table.prefetch_directory(hash),
            Stage::Bucket => table.prefetch_bucket(hash),
            Stage::BucketForInsert => {
                table.prefetch_bucket(hash);
                table.prefetch_counts(hash);
            }
            Stage::Member => table.prefetch_entry(hash),
        }
    }
}

/// The table of a big collection; none if the value is small or has no members.
#[inline]
pub fn member_table(value: Payload<'_, Object>) -> Option<MemberTable<'_>> {
    match value {
        Payload::Object(Object::Set(table)) => Some(MemberTable::Set(table)),
        Payload::Object(Object::Hash(hash::Large::Table(table))) => Some(MemberTable::Hash(table.fields())),
        Payload::Object(Object::Zset(set)) => Some(MemberTable::Zset(set.table())),
        _ => None,
    }
}

/// An empty collection of this kind under no key, to build a value in before it is stored; see
/// [`Entry::take_payload`].
pub fn draft(kind: Kind) -> Entry {
    let payload = match kind {
        Kind::Set => set::empty(),
        Kind::List | Kind::Zset | Kind::Hash => NewPayload::Inline(&listpack::EMPTY),
        Kind::String => NewPayload::Inline(b""),
        Kind::Stream => stream::payload(stream::Stream::default()),
    };
    Entry::new(b"", kind as u8, payload, None)
}

/// Bytes of memory that key and value take together: exact except for the elements of big tables, of which
/// `samples` are measured.
pub fn memory_bytes_sampled(entry: &Entry, samples: usize) -> usize {
    let apart = match entry.payload() {
        Payload::Inline(_) | Payload::Int(_) => 0,
        Payload::Blob(blob) => blob.allocated_bytes(),
        Payload::Object(object) => size_class(size_of::<Object>()) + object_bytes(object, samples),
    };
    entry.allocated_bytes() + apart
}

/// [`memory_bytes_sampled`] with five samples, as MEMORY USAGE has it.
pub fn memory_bytes(entry: &Entry) -> usize {
    memory_bytes_sampled(entry, 5)
}

fn object_bytes(object: &Object, samples: usize) -> usize {
    let estimate = |len: usize, sizes: &mut dyn Iterator<Item = usize>| {
        let samples = if samples == 0 { len } else { samples.min(len) };
        let sum: usize = sizes.take(samples).sum();
        (sum as f64 / samples.max(1) as f64 * len as f64) as usize
    };
    match object {
        Object::List(list) => list.memory_bytes(),
        Object::Set(table) => {
            table.memory_bytes() + estimate(table.len(), &mut table.iter().map(|m| m.allocated_bytes()))
        }
        Object::Zset(set) => {
            let members = set.members();
            set.memory_bytes() + estimate(set.len(), &mut members.iter().map(|m| m.allocated_bytes()))
        }
        Object::Hash(hash::Large::Triples(bytes)) => size_class(bytes.len()),
        Object::Hash(hash::Large::Table(table)) => {
            let fields = table.fields();
            table.memory_bytes() + estimate(fields.len(), &mut fields.iter().map(|f| f.allocated_bytes()))
        }
        Object::Stream(stream) => stream.memory_bytes(samples),
    }
}

/// Allocations that freeing the value takes: decides whether the background thread does it.
pub fn free_effort(entry: &Entry) -> usize {
    match entry.payload() {
        Payload::Object(Object::List(list)) => list.node_count(),
        Payload::Object(Object::Set(table)) => table.len(),
        Payload::Object(Object::Zset(set)) => set.len(),
        Payload::Object(Object::Hash(hash::Large::Table(table))) => table.fields().len(),
        Payload::Object(Object::Stream(stream)) => stream.free_effort(),
        _ => 1,
    }
}

/// A copy of value and expiry under another key. Blobs are shared until one of the two is changed.
pub fn duplicate(entry: &Entry, key: &[u8]) -> Entry {
    let payload = match entry.payload() {
        Payload::Inline(bytes) => NewPayload::Inline(bytes),
        Payload::Int(n) => NewPayload::Int(n),
        Payload::Blob(blob) => NewPayload::Blob(blob.clone()),
        Payload::Object(object) => NewPayload::Object(Box::new(duplicate_object(object))),
    };
    let mut copy = Entry::new(key, entry.kind(), payload, entry.expiry());
    copy.set_flag(string::CHANGED, entry.flag(string::CHANGED));
    copy
}

fn duplicate_object(object: &Object) -> Object {
    match object {
        Object::List(list) => Object::List(list.clone()),
        Object::Set(table) => Object::Set(set::duplicate(table)),
        Object::Zset(set) => Object::Zset(set.duplicate()),
        Object::Hash(hash::Large::Triples(bytes)) => Object::Hash(hash::Large::Triples(bytes.clone())),
        Object::Hash(hash::Large::Table(table)) => Object::Hash(hash::Large::Table(table.duplicate())),
        Object::Stream(stream) => Object::Stream(stream.clone()),
    }
}

/// Foreign bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// What the bytes of a packed encoding in a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedKind {
    /// A list, or a node of one.
    List,
    /// A set of integers.
    Intset,
    /// A small set.
    Set,
    /// A small sorted set.
    Zset,
    /// A small hash.
    Hash,
    /// A small hash with deadlines.
    HashWithExpiry,
}

/// A key that is read from a file, and its deadline.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'a> {
    /// The key.
    pub key: &'a [u8],
    /// In milliseconds since 1970.
    pub expiry: Option<i64>,
}

impl Fresh<'_> {
    /// The entry with its value.
    pub fn entry(self, kind: Kind, payload: NewPayload<'_, Object>) -> Entry {
        Entry::new(self.key, kind as u8, payload, self.expiry)
    }
}

/// A new entry with a value that a file holds as packed bytes, in the encoding the limits ask for. The bytes
/// are checked: structure, order, no member twice.
pub fn load(fresh: Fresh<'_>, limits: &Limits, kind: PackedKind, bytes: &[u8]) -> Result<Entry, Unfit> {
    match kind {
        PackedKind::List => list::load(fresh, &limits.list, bytes),
        PackedKind::Intset => set::load_intset(fresh, &limits.set, bytes),
        PackedKind::Set => set::load_listpack(fresh, &limits.set, bytes),
        PackedKind::Zset => zset::load(fresh, &limits.zset, bytes),
        PackedKind::Hash => hash::load(fresh, &limits.hash, bytes, 2),
        PackedKind::HashWithExpiry => hash::load(fresh, &limits.hash, bytes, 3),
    }
}

/// When collections change their encodings: the options of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of lists.
    pub list: list::Limits,
    /// Of sets.
    pub set: set::Limits,
    /// Of sorted sets.
    pub zset: zset::Limits,
    /// Of hashes.
    pub hash: hash::Limits,
}

impl Limits {
    /// As configured.
    pub fn from_config(config: &Config) -> Limits {
        Limits {
            list: list::Limits {
                fill: config.list_max_listpack_size,
                compress_depth: config.list_compress_depth,
                plain_from: 0,
            },
            set: set::Limits {
                max_intset_entries: config.set_max_intset_entries,
                max_listpack_entries: config.set_max_listpack_entries,
                max_listpack_value: config.set_max_listpack_value,
            },
            zset: zset::Limits {
                max_listpack_entries: config.zset_max_listpack_entries,
                max_listpack_value: config.zset_max_listpack_value,
            },
            hash: hash::Limits {
                max_listpack_entries: config.hash_max_listpack_entries,
                max_listpack_value: config.hash_max_listpack_value,
            },
        }
    }
}

/// Writes an element as a bulk string.
#[inline]
pub fn reply(value: Value<'_>, reply: &mut Reply) {
    match value {
        Value::Int(n) => reply.bulk_int(n),
        Value::Str(bytes) => reply.bulk(bytes),
    }
}

/// Shows `count` of `len` items, every choice equally likely, in their order (selection sampling: Knuth, The
/// Art of Computer Programming 3.4.2, algorithm S).
fn select<T>(
    items: impl Iterator<Item = T>,
    len: usize,
    count: usize,
    rng: &mut Rng,
    each: &mut dyn FnMut(T),
) {
    let (mut wanted, mut left) = (count.min(len), len);
    for item in items {
        if wanted == 0 {
            return;
        }
        if (rng.below(left as u64) as usize) < wanted {
            each(item);
            wanted -= 1;
        }
        left -= 1;
    }
}
