//! The small sorted set: a listpack of members and scores in turn, in order of score, then of bytes. Scores
//! that are whole numbers are integers there, others their shortest text, as Redis writes them.

use super::super::Value;
use super::{Cut, Side};
use crate::collections::buffer::Buffer;
use crate::collections::listpack::{self, Digits};
use crate::util::num;
use std::cmp::Ordering;

const STRIDE: usize = 2;
/// Whole numbers beyond this are written as text (half of the range of an i64, as in Redis).
const MAX_INT: f64 = (i64::MAX / 2) as f64;

/// The score that a second element tells.
#[inline]
pub(super) fn score(value: Value<'_>) -> f64 {
    match value {
        Value::Int(n) => n as f64,
        Value::Str(text) => num::parse_f64(text).unwrap_or(0.0),
    }
}

/// Whether this is a score.
pub(super) fn is_score(value: Value<'_>) -> bool {
    matches!(value, Value::Int(_)) || matches!(value, Value::Str(text) if num::parse_f64(text).is_some())
}

/// A score as an element; `text` gives the room.
fn element(score: f64, text: &mut Vec<u8>) -> Value<'_> {
    if score.abs() <= MAX_INT && score.trunc() == score {
        return Value::Int(score as i64);
    }
    text.clear();
    num::push_f64(text, score);
    Value::new(text)
}

/// The pair at an offset.
#[inline]
pub(super) fn get(bytes: &[u8], at: usize) -> (Value<'_>, f64) {
    (listpack::get(bytes, at), score(listpack::get(bytes, listpack::after(bytes, at))))
}

/// Offset of the member.
#[inline]
pub(super) fn find(bytes: &[u8], member: &[u8]) -> Option<usize> {
    listpack::find(bytes, listpack::first(bytes)?, Value::new(member), STRIDE)
}

/// All pairs in order, with their offsets.
fn walk(bytes: &[u8]) -> impl Iterator<Item = (usize, Value<'_>, f64)> {
    let (mut at, end) = (listpack::first(bytes).unwrap_or(usize::MAX), listpack::end(bytes));
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (member, middle) = listpack::get_with_after(bytes, at);
        let (value, after) = listpack::get_with_after(bytes, middle);
        let here = std::mem::replace(&mut at, after);
        Some((here, member, score(value)))
    })
}

/// Index and score of the member at an offset.
pub(super) fn rank(bytes: &[u8], member: &[u8]) -> Option<(usize, f64)> {
    let wanted = Value::new(member);
    let found = walk(bytes).enumerate().find(|(_, (_, member, _))| *member == wanted);
    found.map(|(index, (_, _, score))| (index, score))
}

/// Whether a member is before the cut.
#[inline]
pub(super) fn is_before(member: Value<'_>, score: f64, cut: &Cut<'_>) -> bool {
    let bytes = |other: &[u8]| member.bytes(&mut Digits::default()).cmp(other);
    match cut {
        Cut::Score(cut, Side::Before) => score < *cut,
        Cut::Score(cut, Side::After) => score <= *cut,
        Cut::Lex(cut, Side::Before) => bytes(cut) == Ordering::Less,
        Cut::Lex(cut, Side::After) => bytes(cut) != Ordering::Greater,
        Cut::Member(cut, other) => score < *cut || (score == *cut && bytes(other) == Ordering::Less),
    }
}

/// Number of members before the cut.
pub(super) fn count_before(bytes: &[u8], cut: &Cut<'_>) -> usize {
    walk(bytes).take_while(|(_, member, score)| is_before(*member, *score, cut)).count()
}

/// Adds a member that is not there, or gives the one found at `old` another score.
pub(super) fn insert(lp: &mut impl Buffer, old: Option<usize>, member: &[u8], score: f64) {
    let mut text = Vec::new();
    let element = element(score, &mut text);
    if let Some(old) = old {
        if stays(lp.bytes(), old, score) {
            let at = listpack::after(lp.bytes(), old);
            return listpack::replace(lp, at, element);
        }
        listpack::delete(lp, old, STRIDE);
    }
    let at = place(lp.bytes(), member, score);
    listpack::splice(lp, at, 0, &[Value::new(member), element]);
}

/// Whether the member at `at` keeps its place with another score. (A neighbour of the very same score makes
/// it no: the bytes would have to be compared.)
fn stays(bytes: &[u8], at: usize, new: f64) -> bool {
    let behind = listpack::after(bytes, listpack::after(bytes, at));
    let after = (behind < listpack::end(bytes)).then(|| get(bytes, behind).1);
    let before = listpack::prev(bytes, at).map(|at| score(listpack::get(bytes, at)));
    before.is_none_or(|score| score < new) && after.is_none_or(|score| new < score)
}

/// Where a member that is not there belongs.
fn place(bytes: &[u8], member: &[u8], new: f64) -> usize {
    let end = listpack::end(bytes);
    // Members often come in order: look at the last one first.
    if last(bytes).is_none_or(|(_, score)| score < new) {
        return end;
    }
    let mut at = listpack::first(bytes).unwrap_or(end);
    while at < end {
        let (value, next) = listpack::get_with_after(bytes, listpack::after(bytes, at));
        let old = score(value);
        if old > new || (old == new && !is_before(listpack::get(bytes, at), old, &Cut::Member(new, member))) {
            return at;
        }
        at = next;
    }
    end
}

fn last(bytes: &[u8]) -> Option<(Value<'_>, f64)> {
    let score = listpack::last(bytes)?;
    Some(get(bytes, listpack::prev(bytes, score)?))
}

/// Removes the pair at `at`.
pub(super) fn remove(lp: &mut impl Buffer, at: usize) {
    listpack::delete(lp, at, STRIDE);
}

/// Offset of the pair of this index, or the end.
pub(super) fn seek(bytes: &[u8], index: usize) -> usize {
    listpack::seek(bytes, index * STRIDE).unwrap_or(listpack::end(bytes))
}

/// Pairs between two offsets, in a direction.
pub(super) fn range(bytes: &[u8], front: usize, back: usize) -> listpack::Iter<'_> {
    listpack::iter_between(bytes, front, back)
}
