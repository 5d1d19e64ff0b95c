//! Writing values. Each is written in the form of the lowest version that holds it without loss, unless a
//! later version is asked for. Packed encodings are written as they are.

use super::format::{
    VERSION_ACTIVE_CONSUMERS, VERSION_FIELD_EXPIRY, VERSION_LOWEST, container, kind as types,
};
use super::output::Output;
use super::stream::has_active_times;
use crate::collections::entry::Payload;
use crate::collections::listpack;
use crate::collections::quicklist::{Node, Quicklist};
use crate::value::{Direction, Entry, Kind, Value, hash, kind, list, set, stream, zset};
use std::io::Write;

/// The type that an entry's value is written as, for readers of `version` at least.
pub(super) fn type_of(entry: &Entry, version: u16) -> u8 {
    match kind(entry) {
        Kind::String => types::STRING,
        Kind::List => types::LIST_QUICKLIST_2,
        Kind::Set => match set::view(entry) {
            set::View::Intset(_) => types::SET_INTSET,
            set::View::Listpack(_) if version >= VERSION_ACTIVE_CONSUMERS => types::SET_LISTPACK,
            set::View::Listpack(_) | set::View::Table(_) => types::SET,
        },
        Kind::Zset => match zset::view(entry) {
            zset::View::Listpack(_) => types::ZSET_LISTPACK,
            zset::View::Skiplist(_) => types::ZSET_2,
        },
        Kind::Hash => {
            let view = hash::view(entry, i64::MIN);
            match (view.repr(), view.next_expiry()) {
                (hash::Repr::Table(_), None) => types::HASH,
                (hash::Repr::Table(_), Some(_)) => types::HASH_METADATA,
                (hash::Repr::ListpackEx(_), Some(_)) => types::HASH_LISTPACK_EX,
                (hash::Repr::Listpack(_) | hash::Repr::ListpackEx(_), _) => types::HASH_LISTPACK,
            }
        }
        Kind::Stream if has_active_times(stream::view(entry)) => types::STREAM_LISTPACKS_3,
        Kind::Stream => types::STREAM_LISTPACKS_2,
    }
}

/// Writes an entry's value in the form of a type that `type_of` gave.
pub(super) fn put<W: Write>(out: &mut Output<W>, entry: &Entry, as_type: u8) {
    match kind(entry) {
        Kind::String => put_string(out, entry),
        Kind::List => put_list(out, list::view(entry)),
        Kind::Set => put_set(out, set::view(entry), as_type),
        Kind::Zset => put_zset(out, zset::view(entry)),
        Kind::Hash => put_hash(out, hash::view(entry, i64::MIN)),
        Kind::Stream => super::stream::put(out, stream::view(entry), as_type),
    }
}

fn put_string<W: Write>(out: &mut Output<W>, entry: &Entry) {
    match entry.payload() {
        Payload::Int(n) => out.integer(n),
        Payload::Inline(bytes) => out.string(bytes),
        Payload::Blob(blob) => out.string(blob.as_slice()),
        Payload::Object(_) => unreachable!("a string is no object"),
    }
}

fn put_list<W: Write>(out: &mut Output<W>, list: list::View<'_>) {
    match list {
        list::View::Listpack(bytes) => {
            out.length(1);
            out.length(container::PACKED);
            out.string(bytes);
        }
        list::View::Quicklist(list) => put_quicklist(out, list),
    }
}

fn put_quicklist<W: Write>(out: &mut Output<W>, list: &Quicklist) {
    out.length(list.node_count() as u64);
    for node in list.nodes() {
        out.length(if node.is_plain() { container::PLAIN } else { container::PACKED });
        put_node(out, node);
    }
}

fn put_node<W: Write>(out: &mut Output<W>, node: &Node) {
    match node.lzf() {
        Some((data, len)) => out.lzf(data, len),
        None => out.string(node.contents(&mut Vec::new())),
    }
}

fn put_set<W: Write>(out: &mut Output<W>, set: set::View<'_>, as_type: u8) {
    match set {
        set::View::Intset(bytes) => out.string(bytes),
        set::View::Listpack(bytes) if as_type == types::SET_LISTPACK => out.string(bytes),
        set::View::Listpack(_) | set::View::Table(_) => {
            out.length(set.len() as u64);
            set.iter().for_each(|member| out.value(member));
        }
    }
}

fn put_zset<W: Write>(out: &mut Output<W>, zset: zset::View<'_>) {
    match zset {
        zset::View::Listpack(bytes) => out.string(bytes),
        zset::View::Skiplist(set) => {
            out.length(set.len() as u64);
            // The highest first: Redis inserts fastest at the head.
            for (member, score) in set.range(0..set.len(), Direction::Backward) {
                out.string(member);
                out.fixed64(score.to_bits());
            }
        }
    }
}

fn put_hash<W: Write>(out: &mut Output<W>, hash: hash::View<'_>) {
    match (hash.repr(), hash.next_expiry()) {
        (hash::Repr::Listpack(bytes), _) => out.string(bytes),
        (hash::Repr::ListpackEx(bytes), Some(next)) => {
            out.fixed64(next as u64);
            out.string(bytes);
        }
        (hash::Repr::ListpackEx(_), None) => {
            let pairs: Vec<Value<'_>> = hash.iter().flat_map(|item| [item.field, item.value]).collect();
            out.string(&listpack::from_values(pairs));
        }
        (hash::Repr::Table(_), next) => {
            if let Some(next) = next {
                out.fixed64(next as u64);
            }
            out.length(hash.len() as u64);
            for item in hash.iter() {
                if let Some(next) = next {
                    // Relative to the earliest, and 0 stands for none.
                    out.length(item.expiry.map_or(0, |at| (at - next) as u64 + 1));
                }
                out.value(item.field);
                out.value(item.value);
            }
        }
    }
}

const _: () =
    assert!(VERSION_LOWEST < VERSION_ACTIVE_CONSUMERS && VERSION_ACTIVE_CONSUMERS < VERSION_FIELD_EXPIRY);
