//! The listpack: a list of strings and integers in one run of bytes, the form of all small collections and of
//! the nodes of long lists, byte for byte as Redis writes it in RDB files. Functions over bytes and over any
//! [`Buffer`]; an element is named by its offset. It knows nothing of fields, scores or keys.
//!
//! - `entry`: how one element is written. `check`: whether foreign bytes are a listpack.
//! - Layout: total bytes (u32), number of elements (u16, 65535: unknown), elements, 0xff. All little endian.
//! - An element ends with its own length, so the walk goes both ways.
//!
//! Reading trusts the bytes (it panics on damage, never leaves them): what comes from outside goes through
//! [`is_valid`] first.

mod check;
mod entry;
#[cfg(test)]
mod tests;

pub use check::{adopt, adopt_with, is_valid};
pub use entry::{Digits, Value};

use super::buffer::Buffer;
use entry::{back_length, decode, encoded_length, skip, write};

/// A listpack of nothing.
pub const EMPTY: [u8; 7] = [7, 0, 0, 0, 0, 0, END];
/// A listpack is not grown beyond this size, in bytes.
pub const MAX_BYTES: usize = 1 << 30;

/// Offset of the first element.
const HEAD: usize = 6;
/// The byte after the last element.
const END: u8 = 0xff;
/// The count of elements that says: count them.
const UNKNOWN: u16 = u16::MAX;

/// Number of elements. Linear beyond 65,534 of them.
#[inline]
pub fn len(lp: &[u8]) -> usize {
    match u16::from_le_bytes([lp[4], lp[5]]) {
        UNKNOWN => offsets(lp).count(),
        count => usize::from(count),
    }
}

/// Bytes of the listpack at the beginning of `bytes`, as its head says.
#[inline]
pub fn total_bytes(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

/// Whether there is no element.
#[inline]
pub fn is_empty(lp: &[u8]) -> bool {
    lp[HEAD] == END
}

/// Offset behind the last element: inserting there appends.
#[inline]
pub fn end(lp: &[u8]) -> usize {
    lp.len() - 1
}

/// The first element.
#[inline]
pub fn first(lp: &[u8]) -> Option<usize> {
    (!is_empty(lp)).then_some(HEAD)
}

/// The last element.
#[inline]
pub fn last(lp: &[u8]) -> Option<usize> {
    prev(lp, end(lp))
}

/// The element after the one at `at`.
#[inline]
pub fn next(lp: &[u8], at: usize) -> Option<usize> {
    let at = after(lp, at);
    (lp[at] != END).then_some(at)
}

/// The element before the one at `at`, or before the end.
#[inline]
pub fn prev(lp: &[u8], at: usize) -> Option<usize> {
    if at <= HEAD {
        return None;
    }
    let (length, bytes) = back_length(lp, at);
    Some(at - bytes - length)
}

/// Offset behind the element at `at`: that of the next one, or the end.
#[inline]
pub fn after(lp: &[u8], at: usize) -> usize {
    at + skip(lp, at)
}

/// The element at `at`.
#[inline]
pub fn get(lp: &[u8], at: usize) -> Value<'_> {
    decode(lp, at).0
}

/// The element of this index; walks from the nearer end.
pub fn seek(lp: &[u8], index: usize) -> Option<usize> {
    let count = len(lp);
    if index >= count {
        return None;
    }
    if index <= count / 2 {
        let mut at = HEAD;
        for _ in 0..index {
            at = after(lp, at);
        }
        return Some(at);
    }
    let mut at = last(lp)?;
    for _ in index + 1..count {
        at = prev(lp, at)?;
    }
    Some(at)
}

/// Offset behind the next `count` elements from `at` on, and how many there were (fewer at the end).
pub fn advance(lp: &[u8], mut at: usize, count: usize) -> (usize, usize) {
    let mut passed = 0;
    while passed < count && lp[at] != END {
        at = after(lp, at);
        passed += 1;
    }
    (at, passed)
}

/// The first element from `from` on that equals `wanted`, looking only at every `stride`th (1: at all).
pub fn find(lp: &[u8], from: usize, wanted: Value<'_>, stride: usize) -> Option<usize> {
    match wanted {
        Value::Str(wanted) if wanted.len() <= SHORT_MAX => find_short(lp, from, wanted, stride),
        _ => find_any(lp, from, |lp, at| get(lp, at) == wanted, stride),
    }
}

/// Strings up to this length are told by their first byte, which has the length.
const SHORT_MAX: usize = 63;

/// `find` for a string whose encoding can be compared as it is.
fn find_short(lp: &[u8], from: usize, wanted: &[u8], stride: usize) -> Option<usize> {
    let len = wanted.len();
    let (first, last) = (0x80 | len as u8, wanted.last().copied().unwrap_or(0x80));
    // Names that begin alike end differently: the last byte mostly spares the call of `memcmp`.
    let is_it =
        |lp: &[u8], at: usize| lp[at] == first && lp[at + len] == last && lp[at + 1..at + 1 + len] == *wanted;
    find_any(lp, from, is_it, stride)
}

#[inline(always)]
fn find_any(lp: &[u8], from: usize, is_it: impl Fn(&[u8], usize) -> bool, stride: usize) -> Option<usize> {
    let mut at = from;
    while lp[at] != END {
        if is_it(lp, at) {
            return Some(at);
        }
        for _ in 0..stride {
            at += skip(lp, at);
        }
    }
    None
}

/// The element at `at` and the offset behind it.
#[inline]
pub fn get_with_after(lp: &[u8], at: usize) -> (Value<'_>, usize) {
    let (value, size) = decode(lp, at);
    (value, at + size)
}

/// Offsets of all elements.
pub fn offsets(lp: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::successors(first(lp), |&at| next(lp, at))
}

/// All elements, or those from an offset on; from both ends.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    lp: &'a [u8],
    front: usize,
    back: usize,
}

/// All elements in order.
pub fn iter(lp: &[u8]) -> Iter<'_> {
    Iter { lp, front: HEAD, back: end(lp) }
}

/// The elements between two offsets: from the one at `front`, up to the one that ends at `back`.
pub fn iter_between(lp: &[u8], front: usize, back: usize) -> Iter<'_> {
    Iter { lp, front, back }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (value, size) = decode(self.lp, self.front);
        self.front += size;
        Some(value)
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.back = prev(self.lp, self.back)?;
        Some(get(self.lp, self.back))
    }
}

/// Replaces the `removed` elements that start at `at` by `values`.
pub fn splice(lp: &mut impl Buffer, at: usize, removed: usize, values: &[Value<'_>]) {
    let bytes = lp.bytes();
    let (tail, removed) = advance(bytes, at, removed);
    let inserted: usize = values.iter().map(encoded_length).sum();
    let bytes = gap(lp, at, tail, inserted, removed, values.len());
    let mut to = at;
    for value in values {
        to += write(&mut bytes[to..], value);
    }
}

/// Replaces the bytes of the `removed` elements from `at` to `tail` by those of `count` elements of another
/// listpack, as they are.
pub fn splice_raw(lp: &mut impl Buffer, at: usize, tail: usize, removed: usize, raw: &[u8], count: usize) {
    gap(lp, at, tail, raw.len(), removed, count)[at..at + raw.len()].copy_from_slice(raw);
}

/// The bytes of all elements, as `splice_raw` takes them.
pub fn raw(lp: &[u8]) -> &[u8] {
    &lp[HEAD..end(lp)]
}

/// Inserts before the element at `at`, or appends at `end`.
pub fn insert(lp: &mut impl Buffer, at: usize, value: Value<'_>) {
    splice(lp, at, 0, &[value]);
}

/// Appends.
pub fn append(lp: &mut impl Buffer, value: Value<'_>) {
    let at = end(lp.bytes());
    splice(lp, at, 0, &[value]);
}

/// Inserts before all others.
pub fn prepend(lp: &mut impl Buffer, value: Value<'_>) {
    splice(lp, HEAD, 0, &[value]);
}

/// Replaces the element at `at`.
pub fn replace(lp: &mut impl Buffer, at: usize, value: Value<'_>) {
    splice(lp, at, 1, &[value]);
}

/// Appends values one after the other; cheaper than one by one.
pub fn extend<'a>(lp: &mut Vec<u8>, values: impl IntoIterator<Item = Value<'a>>) {
    let mut appender = Appender::new(lp);
    values.into_iter().for_each(|value| appender.push(value));
    appender.finish();
}

/// Appends to a listpack that is a vector: end and head are written once, by [`Appender::finish`], without
/// which the bytes are no listpack.
#[must_use = "the listpack is whole only after `finish`"]
pub struct Appender<'a> {
    lp: &'a mut Vec<u8>,
    count: usize,
}

impl<'a> Appender<'a> {
    /// Opens the end.
    #[inline]
    pub fn new(lp: &'a mut Vec<u8>) -> Self {
        // A count that is unknown stays so: whatever is added to it does not fit.
        let count = usize::from(u16::from_le_bytes([lp[4], lp[5]]));
        lp.pop();
        Appender { lp, count }
    }

    /// Appends one value.
    #[inline]
    pub fn push(&mut self, value: Value<'_>) {
        let at = self.lp.len();
        self.lp.resize(at + encoded_length(&value), 0);
        write(&mut self.lp[at..], &value);
        self.count += 1;
    }

    /// Closes the end.
    #[inline]
    pub fn finish(self) {
        self.lp.push(END);
        set_head(self.lp, self.count);
    }
}

/// Replaces the element at `at` by an integer; in place when that takes as many bytes.
#[inline]
pub fn set_int(lp: &mut impl Buffer, at: usize, n: i64) {
    let value = Value::Int(n);
    if encoded_length(&value) == skip(lp.bytes(), at) {
        write(&mut lp.bytes_mut()[at..], &value);
    } else {
        replace(lp, at, value);
    }
}

/// Deletes `count` elements from the one at `at` on.
pub fn delete(lp: &mut impl Buffer, at: usize, count: usize) {
    splice(lp, at, count, &[]);
}

/// Bytes an element takes.
pub fn size_of_value(value: Value<'_>) -> usize {
    encoded_length(&value)
}

/// Whether `more` bytes can be added.
pub fn has_room(lp: &[u8], more: usize) -> bool {
    lp.len().saturating_add(more) <= MAX_BYTES
}

/// A new listpack of these elements.
pub fn from_values<'a>(values: impl IntoIterator<Item = Value<'a>>) -> Vec<u8> {
    let mut lp = EMPTY.to_vec();
    extend(&mut lp, values);
    lp
}

/// Opens or closes a gap between elements and brings the head up to date.
fn gap<B: Buffer>(
    lp: &mut B,
    at: usize,
    tail: usize,
    inserted: usize,
    removed: usize,
    added: usize,
) -> &mut [u8] {
    let head = lp.bytes();
    let known = u16::from_le_bytes([head[4], head[5]]);
    let bytes = lp.splice(at, tail - at, inserted);
    let count = match known {
        // Redis does not count again either.
        UNKNOWN => usize::MAX,
        known => usize::from(known) + added - removed,
    };
    set_head(bytes, count);
    bytes
}

fn set_head(lp: &mut [u8], count: usize) {
    let total = u32::try_from(lp.len()).expect("a listpack is smaller than 4 GiB");
    lp[..4].copy_from_slice(&total.to_le_bytes());
    lp[4..HEAD].copy_from_slice(&u16::try_from(count).unwrap_or(UNKNOWN).to_le_bytes());
}
