//! Active defragmentation of values: moves their blocks, those of big collections some at a time. Only
//! addresses change, no encoding and no content. Knows no key and no time.

use super::stream::Id;
use super::{Entry, Object, hash};
use crate::collections::element::Member;
use crate::collections::entry::PayloadMut;
use crate::collections::relocate::{relocate_box, relocate_slice};
use crate::sys::defrag::Mover;

/// Where the moving of the parts of a value goes on. Any cursor may be used with any value: at worst parts
/// are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// At the beginning.
    Start,
    /// At a chunk of a list.
    Chunk(usize),
    /// At a place in the table of a set or hash.
    Bucket(u64),
    /// At a place in a sorted set.
    Sorted(u64),
    /// At a node of a stream.
    Node(Id),
    /// At a group of a stream and a slot of its consumers.
    Group((usize, usize)),
}

/// Moves the entry's own block and that of its value; the parts of a collection stay.
pub fn relocate(entry: &mut Entry, mover: &mut Mover) {
    entry.relocate(mover);
    match entry.payload_mut() {
        PayloadMut::Object(Object::Hash(hash::Large::Triples(bytes))) => relocate_slice(bytes, mover),
        PayloadMut::Object(Object::Stream(stream)) => relocate_box(stream, mover),
        _ => {}
    }
}

/// Moves some parts of a collection (of which there are [`super::free_effort`]): about a hundred. Gives the
/// cursor to go on from; none when all is done, or when the value has no parts.
pub fn relocate_some(entry: &mut Entry, at: Cursor, mover: &mut Mover) -> Option<Cursor> {
    let PayloadMut::Object(object) = entry.payload_mut() else { return None };
    let bucket = |next| if next == 0 { None } else { Some(Cursor::Bucket(next)) };
    match (object, at) {
        (Object::List(list), at) => {
            let at = if let Cursor::Chunk(at) = at { at } else { 0 };
            list.relocate_some(at, mover).map(Cursor::Chunk)
        }
        (Object::Set(table), at) => {
            let at = if let Cursor::Bucket(at) = at { at } else { 0 };
            bucket(table.relocate_some(at, mover, &mut Member::relocate))
        }
        (Object::Hash(hash::Large::Table(table)), at) => {
            let at = if let Cursor::Bucket(at) = at { at } else { 0 };
            bucket(table.relocate_some(at, mover))
        }
        (Object::Hash(hash::Large::Triples(_)), _) => None,
        (Object::Zset(set), at) => {
            let at = if let Cursor::Sorted(at) = at { at } else { 0 };
            set.relocate_some(at, mover).map(Cursor::Sorted)
        }
        (Object::Stream(stream), Cursor::Group(at)) => stream.relocate_group(at, mover).map(Cursor::Group),
        (Object::Stream(stream), at) => {
            let from = if let Cursor::Node(from) = at { from } else { Id::MIN };
            let next = stream.relocate_nodes(from, mover).map(Cursor::Node);
            next.or((!stream.groups().is_empty()).then_some(Cursor::Group((0, 0))))
        }
    }
}

/// Moves everything an entry holds, however long it takes.
pub fn relocate_all(entry: &mut Entry, mover: &mut Mover) {
    relocate(entry, mover);
    let mut at = Some(Cursor::Start);
    while let Some(cursor) = at {
        at = relocate_some(entry, cursor, mover);
    }
}
