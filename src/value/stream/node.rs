//! One node of a stream: a listpack of entries, byte for byte as Redis writes it in RDB files. Knows its
//! first ID (the *master* ID) and nothing of other nodes.
//!
//! - Head: number of live entries, number of deleted ones, the fields of the first entry (their number, then
//!   each), 0.
//! - Entry: flags, milliseconds and sequence number less those of the master ID; then the values if the
//!   fields are those of the head, else the number of fields and field and value in turn; last the number
//!   of elements that the entry has before this one.
//! - A deleted entry keeps its place and has a flag.

use super::id::Id;
use crate::collections::buffer::Buffer;
use crate::collections::listpack::{self, Appender, Value};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// Flags and the two parts of the ID.
const FIXED: usize = 3;

/// What the head of a node says, and where what it describes is.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Entries that are not deleted.
    pub live: u64,
    /// Entries that are.
    pub deleted: u64,
    deleted_at: usize,
    fields: usize,
    fields_at: usize,
}

/// Reads the head. Its fields are not passed over.
#[inline]
pub fn head(lp: &[u8]) -> Head {
    let live_at = listpack::first(lp).expect("a node has a head");
    let (live, deleted_at) = int(lp, live_at);
    let (deleted, fields_count_at) = int(lp, deleted_at);
    let (fields, fields_at) = int(lp, fields_count_at);
    Head { live: live as u64, deleted: deleted as u64, deleted_at, fields: fields as usize, fields_at }
}

/// The integer at `at` and the offset behind it.
#[inline]
fn int(lp: &[u8], at: usize) -> (i64, usize) {
    let (value, after) = listpack::get_with_after(lp, at);
    match value {
        Value::Int(n) => (n, after),
        Value::Str(_) => panic!("a number is expected here in a node of a stream"),
    }
}

/// An entry.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// Its ID.
    pub id: Id,
    lp: &'a [u8],
    /// Offset of the flags.
    at: usize,
    flags: i64,
    /// Number of fields.
    fields: usize,
    /// Offset of the first field's name in the head, where it is there.
    names_at: usize,
    /// Offset of the first value, or of the first field and its value.
    data_at: usize,
}

impl<'a> Item<'a> {
    /// Reads the entry at `at`.
    #[inline]
    fn read(lp: &'a [u8], head: &Head, master: Id, at: usize) -> Item<'a> {
        let (flags, ms_at) = int(lp, at);
        let (ms, seq_at) = int(lp, ms_at);
        let (seq, data_at) = int(lp, seq_at);
        let id = Id { ms: master.ms.wrapping_add(ms as u64), seq: master.seq.wrapping_add(seq as u64) };
        let (fields, data_at) = if flags & SAME_FIELDS != 0 {
            (head.fields, data_at)
        } else {
            let (fields, data_at) = int(lp, data_at);
            (fields as usize, data_at)
        };
        Item { id, lp, at, flags, fields, names_at: head.fields_at, data_at }
    }

    /// Whether it is deleted.
    #[inline]
    fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    /// Number of elements behind the fixed ones, the number of fields not counted.
    #[inline]
    fn data_len(&self) -> usize {
        if self.flags & SAME_FIELDS != 0 { self.fields } else { 2 * self.fields }
    }

    /// Offset behind it.
    #[inline]
    fn end(&self) -> usize {
        listpack::advance(self.lp, self.data_at, self.data_len() + 1).0
    }

    /// Fields and values.
    #[inline]
    pub fn fields(&self) -> Fields<'a> {
        let names_at = (self.flags & SAME_FIELDS != 0).then_some(self.names_at);
        Fields { lp: self.lp, names_at, data_at: self.data_at, left: self.fields }
    }
}

/// Fields and values of an entry.
#[derive(Clone)]
pub struct Fields<'a> {
    lp: &'a [u8],
    names_at: Option<usize>,
    data_at: usize,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Value<'a>, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name_at = self.names_at.unwrap_or(self.data_at);
        let (name, after_name) = listpack::get_with_after(self.lp, name_at);
        let value_at = match &mut self.names_at {
            Some(at) => {
                *at = after_name;
                self.data_at
            }
            None => after_name,
        };
        let (value, after_value) = listpack::get_with_after(self.lp, value_at);
        self.data_at = after_value;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// The entries of a node, deleted ones too, from one end.
#[derive(Clone)]
pub struct Walk<'a> {
    lp: &'a [u8],
    head: Head,
    master: Id,
    /// Forward: offset of the next entry. Backward: offset behind it.
    at: usize,
}

impl<'a> Walk<'a> {
    /// From the first entry on.
    pub fn forward(lp: &'a [u8], master: Id) -> Self {
        let head = head(lp);
        let (at, _) = listpack::advance(lp, head.fields_at, head.fields + 1);
        Walk { lp, head, master, at }
    }

    /// From the last entry back.
    pub fn backward(lp: &'a [u8], master: Id) -> Self {
        Walk { lp, head: head(lp), master, at: listpack::end(lp) }
    }

    /// The next entry, forward.
    #[inline]
    pub fn next(&mut self) -> Option<Item<'a>> {
        if self.at == listpack::end(self.lp) {
            return None;
        }
        let item = Item::read(self.lp, &self.head, self.master, self.at);
        self.at = item.end();
        Some(item)
    }

    /// The next live entry, forward.
    #[inline]
    pub fn next_live(&mut self) -> Option<Item<'a>> {
        loop {
            let item = self.next()?;
            if !item.is_deleted() {
                return Some(item);
            }
        }
    }

    /// The next live entry, backward.
    #[inline]
    pub fn prev_live(&mut self) -> Option<Item<'a>> {
        loop {
            let item = self.prev()?;
            if !item.is_deleted() {
                return Some(item);
            }
        }
    }

    /// The next entry, backward.
    #[inline]
    pub fn prev(&mut self) -> Option<Item<'a>> {
        let mut at = listpack::prev(self.lp, self.at)?;
        let (elements, _) = int(self.lp, at);
        if elements == 0 {
            return None;
        }
        for _ in 0..elements {
            at = listpack::prev(self.lp, at).expect("an entry has as many elements as it says");
        }
        self.at = at;
        Some(Item::read(self.lp, &self.head, self.master, at))
    }
}

/// The live entry with this ID.
pub fn find<'a>(lp: &'a [u8], master: Id, id: Id) -> Option<Item<'a>> {
    let mut walk = Walk::forward(lp, master);
    loop {
        let item = walk.next()?;
        if item.id >= id {
            return (item.id == id && !item.is_deleted()).then_some(item);
        }
    }
}

/// A node with one entry, whose ID is the master ID.
pub fn create<'a>(
    id: Id,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    capacity: usize,
) -> Vec<u8> {
    let mut lp = Vec::with_capacity(capacity);
    lp.extend_from_slice(&listpack::EMPTY);
    let mut to = Appender::new(&mut lp);
    [1, 0, pairs.clone().count() as i64].iter().for_each(|n| to.push(Value::Int(*n)));
    pairs.clone().for_each(|(field, _)| to.push(Value::new(field)));
    to.push(Value::Int(0));
    to.finish();
    append_entry(&mut lp, id, id, pairs, Names::OfHead);
    lp
}

/// Appends an entry, whose ID must be higher than those that are there.
pub fn append<'a>(
    lp: &mut Vec<u8>,
    master: Id,
    id: Id,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) {
    let live = head(lp).live;
    let live_at = listpack::first(lp).expect("a node has a head");
    listpack::set_int(lp, live_at, live as i64 + 1);
    let head = head(lp);
    let mut at = head.fields_at;
    let mut fields = 0;
    let mut same = pairs.clone().all(|(field, _)| {
        fields += 1;
        let (name, after) = listpack::get_with_after(lp, at);
        at = after;
        fields <= head.fields && name == Value::new(field)
    });
    same &= fields == head.fields;
    append_entry(lp, master, id, pairs, if same { Names::OfHead } else { Names::Own });
}

/// Where the names of an entry's fields are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// In the head of the node.
    OfHead,
    /// In the entry.
    Own,
}

fn append_entry<'a>(
    lp: &mut Vec<u8>,
    master: Id,
    id: Id,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    names: Names,
) {
    let mut to = Appender::new(lp);
    to.push(Value::Int(if names == Names::OfHead { SAME_FIELDS } else { 0 }));
    to.push(Value::Int(id.ms.wrapping_sub(master.ms) as i64));
    to.push(Value::Int(id.seq.wrapping_sub(master.seq) as i64));
    let mut elements = FIXED;
    if names == Names::Own {
        to.push(Value::Int(pairs.clone().count() as i64));
        elements += 1;
    }
    for (field, value) in pairs {
        if names == Names::Own {
            to.push(Value::new(field));
            elements += 1;
        }
        to.push(Value::new(value));
        elements += 1;
    }
    to.push(Value::Int(elements as i64));
    to.finish();
}

/// Marks the live entry with this ID as deleted. The number of live entries left; none when it is not there.
pub fn delete(lp: &mut impl Buffer, master: Id, id: Id) -> Option<u64> {
    let item = find(lp.bytes(), master, id)?;
    let (at, flags) = (item.at, item.flags);
    listpack::set_int(lp, at, flags | DELETED);
    Some(count_deleted(lp, 1))
}

/// Marks live entries from the first on as deleted until `stop` says so, given an entry's ID and how many
/// were marked before it. Says how many it marked.
pub fn delete_front(lp: &mut impl Buffer, master: Id, mut stop: impl FnMut(Id, u64) -> bool) -> u64 {
    let mut marks = Vec::new();
    let mut walk = Walk::forward(lp.bytes(), master);
    while let Some(item) = walk.next() {
        if stop(item.id, marks.len() as u64) {
            break;
        }
        if !item.is_deleted() {
            marks.push((item.at, item.flags));
        }
    }
    // A flag more never takes more bytes, so the offsets stay right.
    marks.iter().for_each(|(at, flags)| listpack::set_int(lp, *at, flags | DELETED));
    if !marks.is_empty() {
        count_deleted(lp, marks.len() as u64);
    }
    marks.len() as u64
}

/// Brings the head up to date after `more` entries were marked. The number of live entries left.
fn count_deleted(lp: &mut impl Buffer, more: u64) -> u64 {
    let before = head(lp.bytes());
    let live = before.live - more;
    listpack::set_int(lp, before.deleted_at, (before.deleted + more) as i64);
    let live_at = listpack::first(lp.bytes()).expect("a node has a head");
    listpack::set_int(lp, live_at, live as i64);
    live
}

/// Reads elements one after the other, where the bytes are a listpack but perhaps no node.
struct Reader<'a> {
    lp: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn is_done(&self) -> bool {
        self.at == listpack::end(self.lp)
    }

    fn int(&mut self) -> Option<i64> {
        if self.is_done() {
            return None;
        }
        let (value, after) = listpack::get_with_after(self.lp, self.at);
        self.at = after;
        match value {
            Value::Int(n) => Some(n),
            Value::Str(_) => None,
        }
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.int()?).ok()
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        let (at, passed) = listpack::advance(self.lp, self.at, count);
        self.at = at;
        (passed == count).then_some(())
    }
}

/// Whether a listpack is a node with this master ID: head, entries, their counts, and IDs in order. The
/// highest ID is given.
pub fn check(lp: &[u8], master: Id) -> Option<Id> {
    let mut reader = Reader { lp, at: listpack::first(lp)? };
    let (live, deleted, fields) = (reader.count()?, reader.count()?, reader.count()?);
    reader.skip(fields)?;
    if reader.int()? != 0 {
        return None;
    }
    let (mut found, mut found_deleted, mut last) = (0, 0, None);
    while !reader.is_done() {
        let flags = reader.int()?;
        let (ms, seq) = (reader.int()? as u64, reader.int()? as u64);
        let id = Id { ms: master.ms.wrapping_add(ms), seq: master.seq.wrapping_add(seq) };
        if id < master || last.is_some_and(|last| id <= last) {
            return None;
        }
        last = Some(id);
        let (data, own_count) = match flags & SAME_FIELDS != 0 {
            true => (fields, 0),
            false => (reader.count()?.checked_mul(2)?, 1),
        };
        reader.skip(data)?;
        if reader.count()? != FIXED + data + own_count {
            return None;
        }
        found += 1;
        found_deleted += usize::from(flags & DELETED != 0);
    }
    let counts = found_deleted == deleted && live.checked_add(deleted) == Some(found);
    last.filter(|_| counts)
}
