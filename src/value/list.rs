//! Lists: a listpack in or beside the entry while it fits one node, a quicklist beyond, and back when it has
//! shrunk to half of that. Knows no command. Reading goes through [`view`]; what changes a list takes its
//! entry and the limits in force. A list that has become empty is the caller's to remove.

use super::packed::{self, Packed};
use super::{Direction, Entry, Fresh, Kind, Object, Unfit, Value};
use crate::collections::buffer::Buffer;
use crate::collections::entry::{NewPayload, Payload, PayloadMut};
use crate::collections::listpack;
pub use crate::collections::quicklist::{End, Limits, Quicklist};

/// A list to be read.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// All elements in one listpack.
    Listpack(&'a [u8]),
    /// Listpacks in a row.
    Quicklist(&'a Quicklist),
}

/// The list of an entry, which must hold one.
#[inline]
pub fn view(entry: &Entry) -> View<'_> {
    match entry.payload() {
        Payload::Object(Object::List(list)) => View::Quicklist(list),
        _ => View::Listpack(packed::bytes(entry).expect("a list is packed or a quicklist")),
    }
}

impl<'a> View<'a> {
    /// Number of elements.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            View::Listpack(bytes) => listpack::len(bytes),
            View::Quicklist(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The encoding's name.
    pub fn encoding(self) -> &'static str {
        match self {
            View::Listpack(_) => "listpack",
            View::Quicklist(_) => "quicklist",
        }
    }

    /// The element of this index. `scratch` is used where it is compressed.
    pub fn get(self, index: usize, scratch: &'a mut Vec<u8>) -> Option<Value<'a>> {
        match self {
            View::Listpack(bytes) => listpack::seek(bytes, index).map(|at| listpack::get(bytes, at)),
            View::Quicklist(list) => list.get(index, scratch),
        }
    }

    /// Shows the elements from the one at `index` on, in a direction, until `each` says false.
    #[inline]
    pub fn walk(self, index: usize, direction: Direction, each: &mut impl FnMut(Value<'_>) -> bool) {
        match self {
            View::Quicklist(list) => list.walk(index, direction, each),
            View::Listpack(bytes) => {
                let Some(at) = listpack::seek(bytes, index) else { return };
                match direction {
                    Direction::Forward => {
                        listpack::iter_between(bytes, at, listpack::end(bytes)).all(each);
                    }
                    Direction::Backward => {
                        let first = listpack::first(bytes).unwrap_or(at);
                        listpack::iter_between(bytes, first, listpack::after(bytes, at)).rev().all(each);
                    }
                }
            }
        }
    }

    /// Shows up to `count` elements from the one at `index` on.
    #[inline]
    pub fn range(self, index: usize, count: usize, direction: Direction, each: &mut impl FnMut(Value<'_>)) {
        let mut left = count.min(self.len());
        if left > 0 {
            self.walk(index, direction, &mut |value| {
                each(value);
                left -= 1;
                left > 0
            });
        }
    }
}

/// The payload of an empty list.
pub fn empty() -> NewPayload<'static, Object> {
    NewPayload::Inline(&listpack::EMPTY)
}

/// Adds elements at an end, one after the other: at the front the last one comes first.
pub fn push<'a>(
    entry: &mut Entry,
    limits: &Limits,
    end: End,
    elements: impl Iterator<Item = &'a [u8]> + Clone,
) {
    let (count, bytes) = elements.clone().fold((0, 0), |(count, bytes), e| (count + 1, bytes + e.len()));
    if grow(entry, limits, count, bytes) {
        let list = quicklist(entry);
        elements.for_each(|element| list.push(end, element, limits));
        return;
    }
    let mut lp = Packed(entry);
    for element in elements {
        match end {
            End::Front => listpack::prepend(&mut lp, Value::new(element)),
            End::Back => listpack::append(&mut lp, Value::new(element)),
        }
    }
}

/// Inserts before the element at `index`, or at the tail when the index is the length.
pub fn insert(entry: &mut Entry, limits: &Limits, index: usize, element: &[u8]) {
    if grow(entry, limits, 1, element.len()) {
        return quicklist(entry).insert(index, element, limits);
    }
    let mut lp = Packed(entry);
    let at = listpack::seek(lp.bytes(), index).unwrap_or(listpack::end(lp.bytes()));
    listpack::insert(&mut lp, at, Value::new(element));
}

/// Replaces the element at `index`, which must be there.
pub fn replace(entry: &mut Entry, limits: &Limits, index: usize, element: &[u8]) {
    if grow(entry, limits, 1, element.len()) {
        quicklist(entry).replace(index, element, limits);
        return shrink(entry, limits);
    }
    let mut lp = Packed(entry);
    let at = listpack::seek(lp.bytes(), index).expect("the index is in the list");
    listpack::replace(&mut lp, at, Value::new(element));
}

/// Removes `count` elements from the one at `index` on, fewer at the end; says how many.
pub fn remove_range(entry: &mut Entry, limits: &Limits, index: usize, count: usize) -> usize {
    if let Some(list) = try_quicklist(entry) {
        let removed = list.remove_range(index, count, limits);
        shrink(entry, limits);
        return removed;
    }
    let mut lp = Packed(entry);
    let Some(at) = listpack::seek(lp.bytes(), index) else { return 0 };
    let before = listpack::len(lp.bytes());
    listpack::delete(&mut lp, at, count);
    count.min(before - index)
}

/// Removes up to `max` elements that equal `element`, beginning at the side the direction comes from; says
/// how many.
pub fn remove_equal(
    entry: &mut Entry,
    limits: &Limits,
    element: &[u8],
    max: usize,
    direction: Direction,
) -> usize {
    if let Some(list) = try_quicklist(entry) {
        let removed = list.remove_equal(element, max, direction, limits);
        shrink(entry, limits);
        return removed;
    }
    let mut lp = Packed(entry);
    let (bytes, wanted) = (lp.bytes(), Value::new(element));
    let mut found: Vec<usize> =
        listpack::offsets(bytes).filter(|at| listpack::get(bytes, *at) == wanted).collect();
    match direction {
        Direction::Forward => found.truncate(max),
        Direction::Backward => drop(found.drain(..found.len().saturating_sub(max))),
    }
    // From behind, so that the offsets before stay right.
    found.iter().rev().for_each(|at| listpack::delete(&mut lp, *at, 1));
    found.len()
}

/// Makes a value from a listpack of a file; see [`super::load`].
pub(super) fn load(fresh: Fresh<'_>, limits: &Limits, bytes: &[u8]) -> Result<Entry, Unfit> {
    let lp = listpack::adopt(bytes).ok_or(Unfit)?;
    let mut entry = fresh.entry(Kind::List, packed::payload(&lp));
    grow(&mut entry, limits, 0, 0);
    Ok(entry)
}

/// Makes the value a quicklist, for loaders that then push nodes; `fit` ends it.
pub fn make_quicklist(entry: &mut Entry) -> &mut Quicklist {
    if try_quicklist(entry).is_none() {
        let mut list = Quicklist::new();
        list.push_listpack(packed::bytes(entry).expect("the list is packed").to_vec());
        entry.set_payload(Kind::List as u8, NewPayload::Object(Box::new(Object::List(list))));
    }
    quicklist(entry)
}

/// Brings a list that was built node by node into the encoding that fits it.
pub fn fit(entry: &mut Entry, limits: &Limits) {
    if let Some(list) = try_quicklist(entry) {
        list.settle_all(limits);
        let (bytes, count) = limits.sizes();
        into_listpack(entry, bytes, count);
    } else {
        grow(entry, limits, 0, 0);
    }
}

fn try_quicklist(entry: &mut Entry) -> Option<&mut Quicklist> {
    match entry.payload_mut() {
        PayloadMut::Object(Object::List(list)) => Some(list),
        _ => None,
    }
}

fn quicklist(entry: &mut Entry) -> &mut Quicklist {
    try_quicklist(entry).expect("the list is a quicklist")
}

/// Makes the list a quicklist if so much more does not fit a listpack; true if it is one.
fn grow(entry: &mut Entry, limits: &Limits, count: usize, bytes: usize) -> bool {
    let View::Listpack(lp) = view(entry) else { return true };
    if !limits.exceeded(lp.len() + bytes, listpack::len(lp) + count) {
        return false;
    }
    make_quicklist(entry);
    true
}

/// Makes a quicklist that has become small a listpack again.
fn shrink(entry: &mut Entry, limits: &Limits) {
    let (bytes, count) = limits.sizes();
    into_listpack(entry, bytes / 2, count / 2);
}

fn into_listpack(entry: &mut Entry, max_bytes: usize, max_count: usize) {
    let View::Quicklist(list) = view(entry) else { return };
    let lp = match list.single_listpack() {
        Some(lp) if lp.len() <= max_bytes && list.len() <= max_count => lp.to_vec(),
        None if list.is_empty() => listpack::EMPTY.to_vec(),
        _ => return,
    };
    entry.set_payload(Kind::List as u8, packed::payload(&lp));
}
