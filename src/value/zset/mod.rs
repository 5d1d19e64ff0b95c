//! Sorted sets: a listpack of members and scores while they are few and short, a tree with a table beyond
//! (`skiplist` to OBJECT ENCODING), never back. Knows no command.
//!
//! Every range is a range of ranks: [`View::ranks`] turns two cuts (of scores or of bytes) into one, and
//! counting, reading and removing take it from there. Reading goes through [`view`]; what changes a sorted
//! set takes its entry and the limits in force. One that has become empty is the caller's to remove.

mod pairs;
#[cfg(test)]
mod tests;

pub use crate::collections::sorted::{Cut, Side, SortedSet};

use super::packed::{self, Distinct, Packed};
use super::{Direction, Entry, Fresh, Kind, Object, Unfit, Value};
use crate::collections::entry::{NewPayload, Payload, PayloadMut};
use crate::collections::hash::hash_key;
use crate::collections::listpack::{self, Digits};
use crate::collections::sorted;
use crate::util::rng::Rng;
use std::collections::HashSet;
use std::ops::Range;

/// When a sorted set changes its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most members of a listpack.
    pub max_listpack_entries: usize,
    /// Longest member of a listpack, in bytes.
    pub max_listpack_value: usize,
}

/// A sorted set to be read.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// Members and scores in turn.
    Listpack(&'a [u8]),
    /// A tree with a table.
    Skiplist(&'a SortedSet),
}

/// The sorted set of an entry, which must hold one.
#[inline]
pub fn view(entry: &Entry) -> View<'_> {
    match entry.payload() {
        Payload::Object(Object::Zset(set)) => View::Skiplist(set),
        _ => View::Listpack(packed::bytes(entry).expect("a sorted set is packed or a tree")),
    }
}

/// Members in order, with their scores.
pub enum Iter<'a> {
    /// Of a listpack.
    Listpack(listpack::Iter<'a>, Direction),
    /// Of a tree.
    Skiplist(sorted::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Value<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Listpack(values, Direction::Forward) => {
                let member = values.next()?;
                Some((member, pairs::score(values.next()?)))
            }
            Iter::Listpack(values, Direction::Backward) => {
                let score = pairs::score(values.next_back()?);
                Some((values.next_back()?, score))
            }
            Iter::Skiplist(members) => members.next().map(|(bytes, score)| (Value::Str(bytes), score)),
        }
    }
}

impl<'a> View<'a> {
    /// Number of members.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            View::Listpack(bytes) => listpack::len(bytes) / 2,
            View::Skiplist(set) => set.len(),
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
            View::Skiplist(_) => "skiplist",
        }
    }

    /// The score of a member.
    #[inline]
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            View::Listpack(bytes) => pairs::find(bytes, member).map(|at| pairs::get(bytes, at).1),
            View::Skiplist(set) => set.score(hash_key(member), member),
        }
    }

    /// The number of members before this one, and its score.
    pub fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            View::Listpack(bytes) => pairs::rank(bytes, member),
            View::Skiplist(set) => set.rank(hash_key(member), member),
        }
    }

    /// Number of members before the cut.
    pub fn count_before(self, cut: Cut<'_>) -> usize {
        match self {
            View::Listpack(bytes) => pairs::count_before(bytes, &cut),
            View::Skiplist(set) => set.count_before(cut),
        }
    }

    /// The ranks of the members between two cuts; empty when they are the wrong way round.
    pub fn ranks(self, from: Cut<'_>, to: Cut<'_>) -> Range<usize> {
        let start = self.count_before(from);
        start..self.count_before(to).max(start)
    }

    /// The members of these ranks (cut off at the end).
    pub fn range(self, ranks: Range<usize>, direction: Direction) -> Iter<'a> {
        match self {
            View::Skiplist(set) => Iter::Skiplist(set.range(ranks, direction)),
            View::Listpack(bytes) => {
                let front = pairs::seek(bytes, ranks.start);
                let (back, _) = listpack::advance(bytes, front, 2 * ranks.len().min(self.len()));
                Iter::Listpack(pairs::range(bytes, front, back), direction)
            }
        }
    }

    /// All members in order.
    pub fn iter(self) -> Iter<'a> {
        self.range(0..self.len(), Direction::Forward)
    }

    /// A random member; all are equally likely.
    pub fn random(self, rng: &mut Rng) -> Option<(Value<'a>, f64)> {
        match self {
            View::Skiplist(set) => {
                let (bytes, score) = set.random(&mut || rng.next_u64())?.into_pair();
                Some((Value::Str(bytes), score))
            }
            View::Listpack(bytes) if !self.is_empty() => {
                let index = rng.below(self.len() as u64) as usize;
                Some(pairs::get(bytes, pairs::seek(bytes, index)))
            }
            View::Listpack(_) => None,
        }
    }

    /// Shows `count` different random members (all, if there are no more).
    pub fn sample(self, count: usize, rng: &mut Rng, each: &mut dyn FnMut(Value<'a>, f64)) {
        let len = self.len();
        match self {
            View::Skiplist(_) if count < len / 3 => {
                let mut seen = HashSet::with_capacity(count);
                while seen.len() < count {
                    let Some((Value::Str(bytes), score)) = self.random(rng) else { return };
                    if seen.insert(bytes.as_ptr()) {
                        each(Value::Str(bytes), score);
                    }
                }
            }
            _ => super::select(self.iter(), len, count, rng, &mut |(member, score)| each(member, score)),
        }
    }

    /// Shows some members from a cursor on and gives the next cursor; see `Dict::scan`. A listpack is shown
    /// whole.
    pub fn scan(self, cursor: u64, count: usize, each: &mut dyn FnMut(Value<'_>, f64)) -> u64 {
        match self {
            View::Skiplist(set) => {
                set.scan(cursor, count, &mut |bytes, score| each(Value::Str(bytes), score))
            }
            View::Listpack(_) => {
                self.iter().for_each(|(member, score)| each(member, score));
                0
            }
        }
    }
}

/// The payload of an empty sorted set.
pub fn empty() -> NewPayload<'static, Object> {
    NewPayload::Inline(&listpack::EMPTY)
}

/// Chooses the encoding before `adding` members, the longest of `longest` bytes, are added: what would be
/// outgrown is not even begun.
pub fn prepare(entry: &mut Entry, limits: &Limits, adding: usize, longest: usize) {
    let new = view(entry).is_empty();
    if adding > limits.max_listpack_entries || (new && longest > limits.max_listpack_value) {
        make_tree(entry);
    }
}

/// Adds a member or gives it another score (not NaN); the old score if it was there.
pub fn set(entry: &mut Entry, limits: &Limits, member: &[u8], score: f64) -> Option<f64> {
    if let View::Listpack(bytes) = view(entry) {
        let found = pairs::find(bytes, member);
        if let Some(at) = found {
            let old = pairs::get(bytes, at).1;
            if old != score {
                pairs::insert(&mut Packed(entry), found, member, score);
            }
            return Some(old);
        }
        let fits = listpack::len(bytes) / 2 < limits.max_listpack_entries
            && member.len() <= limits.max_listpack_value
            && listpack::has_room(bytes, member.len());
        if fits {
            pairs::insert(&mut Packed(entry), None, member, score);
            return None;
        }
    }
    make_tree(entry).insert(hash_key(member), member, score)
}

/// Removes a member; its score if it was there.
pub fn remove(entry: &mut Entry, member: &[u8]) -> Option<f64> {
    match view(entry) {
        View::Listpack(bytes) => {
            let at = pairs::find(bytes, member)?;
            let score = pairs::get(bytes, at).1;
            pairs::remove(&mut Packed(entry), at);
            Some(score)
        }
        View::Skiplist(_) => make_tree(entry).remove(hash_key(member), member),
    }
}

/// Removes the members of these ranks, showing each before it goes; says how many.
pub fn remove_range(entry: &mut Entry, ranks: Range<usize>, each: &mut dyn FnMut(Value<'_>, f64)) -> usize {
    let View::Listpack(bytes) = view(entry) else {
        return make_tree(entry).remove_range(ranks, &mut |bytes, score| each(Value::Str(bytes), score));
    };
    let front = pairs::seek(bytes, ranks.start);
    let removed = view(entry).range(ranks, Direction::Forward).map(|(m, s)| each(m, s)).count();
    listpack::delete(&mut Packed(entry), front, 2 * removed);
    removed
}

/// Makes the value a listpack when it fits one, for results that were built big; `longest` is the length of
/// the longest member.
pub fn fit(entry: &mut Entry, limits: &Limits, longest: usize) {
    let View::Skiplist(set) = view(entry) else { return };
    if set.len() > limits.max_listpack_entries || longest > limits.max_listpack_value {
        return;
    }
    let mut lp = listpack::EMPTY.to_vec();
    for (bytes, score) in set.range(0..set.len(), Direction::Forward) {
        pairs::insert(&mut lp, None, bytes, score);
    }
    entry.set_payload(Kind::Zset as u8, packed::payload(&lp));
}

/// Makes a value from a listpack of a file; see [`super::load`].
pub(super) fn load(fresh: Fresh<'_>, limits: &Limits, bytes: &[u8]) -> Result<Entry, Unfit> {
    let (mut members, mut count, mut fits, mut long) = (Distinct::new(), 0usize, true, false);
    let lp = listpack::adopt_with(bytes, |value| {
        if count.is_multiple_of(2) {
            members.add(value);
            long |= value.len() > limits.max_listpack_value;
        } else {
            fits &= pairs::is_score(value);
        }
        count += 1;
    });
    let lp = lp.filter(|_| fits && count.is_multiple_of(2)).ok_or(Unfit)?;
    if !members.all_are(listpack::iter(&lp).step_by(2)) {
        return Err(Unfit);
    }
    let mut entry = fresh.entry(Kind::Zset, packed::payload(&lp));
    if long || count / 2 > limits.max_listpack_entries || !in_order(&lp) {
        make_tree(&mut entry);
    }
    Ok(entry)
}

/// Whether a listpack of pairs is in order; one that is not becomes a tree, which is.
fn in_order(lp: &[u8]) -> bool {
    let mut before: Option<(Value<'_>, f64)> = None;
    Iter::Listpack(listpack::iter(lp), Direction::Forward).all(|(member, score)| {
        let mut digits = Digits::default();
        let cut = Cut::Member(score, member.bytes(&mut digits));
        let right = before.is_none_or(|(other, score)| pairs::is_before(other, score, &cut));
        before = Some((member, score));
        right
    })
}

/// The set as a tree, whatever it was.
pub fn make_tree(entry: &mut Entry) -> &mut SortedSet {
    if let View::Listpack(_) = view(entry) {
        let mut set = SortedSet::new();
        let mut digits = Digits::default();
        for (member, score) in view(entry).iter() {
            let bytes = member.bytes(&mut digits);
            set.insert(hash_key(bytes), bytes, score);
        }
        entry.set_payload(Kind::Zset as u8, NewPayload::Object(Box::new(Object::Zset(set))));
    }
    match entry.payload_mut() {
        PayloadMut::Object(Object::Zset(set)) => set,
        _ => unreachable!("the sorted set was made a tree"),
    }
}
