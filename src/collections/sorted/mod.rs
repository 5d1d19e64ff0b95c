//! The big sorted set: members with scores, found by their bytes in O(1) and by score, bytes or rank in
//! O(log n). A table owns the members, one block each; a tree of links keeps them in order of score, then of
//! bytes. Here the two are kept together, which is what makes the links safe. It knows no commands.
//!
//! - `member`: the block. `node`, `tree`: the order. Ranges of any kind are ranges of ranks: a [`Cut`]
//!   between two members is turned into the number of members before it. `relocate`: active
//!   defragmentation.

mod member;
mod node;
mod relocate;
mod tree;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;

pub use member::Member;

use super::dict::{Dict, Ref};
use super::hash::hash_key;
use super::prefetch;
use member::Link;
use node::Leaf;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use tree::Tree;

/// How many members ahead of an iteration are prefetched.
const AHEAD: usize = 8;

/// Which side of the members that equal it a cut is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// They come after the cut.
    Before,
    /// They come before the cut.
    After,
}

/// A place between two members.
#[derive(Clone, Copy, Debug)]
pub enum Cut<'a> {
    /// Where a score begins or ends.
    Score(f64, Side),
    /// Before or after these bytes; of use where all scores are the same.
    Lex(&'a [u8], Side),
    /// Before the member of this score and these bytes, or where it would be.
    Member(f64, &'a [u8]),
}

/// The way of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Backward,
}

/// A sorted set. Scores are never NaN. Hashes are those of `hash_key`.
#[derive(Default)]
pub struct SortedSet {
    /// Fields drop in this order; neither drop looks at the other.
    tree: Tree,
    members: Dict<Member>,
}

impl SortedSet {
    /// An empty set.
    pub fn new() -> Self {
        SortedSet::default()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The table of members, in which they can be looked for by their hash.
    #[inline]
    pub fn table(&self) -> &Dict<Member> {
        &self.members
    }

    /// The score of a member.
    #[inline]
    pub fn score(&self, hash: u64, bytes: &[u8]) -> Option<f64> {
        Some(self.members.get(hash, bytes)?.score())
    }

    /// Adds a member, or gives it another score; the old score if it was there.
    pub fn insert(&mut self, hash: u64, bytes: &[u8], score: f64) -> Option<f64> {
        debug_assert!(!score.is_nan());
        let Some(mut member) = self.members.get_mut(hash, bytes) else {
            let member = self.members.insert_new(hash, Member::new(bytes, score));
            self.tree.insert(member.link(), score, bytes);
            return None;
        };
        let (old, link) = (member.score(), member.link());
        if old == score {
            // The sign of a zero is kept as it was: both are the same score.
        } else if self.tree.rescore_in_place(link, bytes, old, score) {
            member.set_score(score);
        } else {
            self.tree.remove(old, bytes, link);
            member.set_score(score);
            self.tree.insert(link, score, bytes);
        }
        Some(old)
    }

    /// Removes a member; its score if it was there.
    pub fn remove(&mut self, hash: u64, bytes: &[u8]) -> Option<f64> {
        let (score, link) = {
            let member = self.members.get(hash, bytes)?;
            (member.score(), member.link())
        };
        self.tree.remove(score, bytes, link);
        self.members.remove(hash, bytes);
        Some(score)
    }

    /// The number of members before this one, and its score.
    pub fn rank(&self, hash: u64, bytes: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(hash, bytes)?;
        Some((self.tree.count_before(&Cut::Member(score, bytes)), score))
    }

    /// Number of members before the cut.
    pub fn count_before(&self, cut: Cut<'_>) -> usize {
        self.tree.count_before(&cut)
    }

    /// The members of these ranks (cut off at the end), in ascending or descending order.
    pub fn range(&self, ranks: Range<usize>, direction: Direction) -> Iter<'_> {
        let end = ranks.end.min(self.len());
        let left = end.saturating_sub(ranks.start);
        let first = match direction {
            Direction::Forward => ranks.start,
            Direction::Backward => end.wrapping_sub(1),
        };
        let place = if left > 0 { self.tree.locate_rank(first) } else { None };
        let (leaf, slot) = place.map_or((None, 0), |place| (Some(place.leaf), place.slot));
        Iter { leaf, slot, left, direction, set: PhantomData }
    }

    /// Removes the members of these ranks, showing each before it goes, and says how many they were.
    pub fn remove_range(&mut self, ranks: Range<usize>, each: &mut dyn FnMut(&[u8], f64)) -> usize {
        let wanted = ranks.end.min(self.len()).saturating_sub(ranks.start);
        let mut removed = 0;
        while removed < wanted {
            let place = self.tree.locate_rank(ranks.start).expect("the range was cut to the set");
            let mut gone = Vec::with_capacity(node::LEAF_MAX);
            removed += self.tree.remove_run(place, wanted - removed, &mut |link| gone.push(link));
            for link in gone {
                // SAFETY: the table still owns the member.
                let (bytes, score) = unsafe { (link.bytes(), link.score()) };
                each(bytes, score);
                let member = self.members.remove(hash_key(bytes), bytes);
                debug_assert!(member.is_some_and(|member| member.link() == link));
            }
        }
        removed
    }

    /// Members in the order of the table, some at a time: see `Dict::scan`.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], f64)) -> u64 {
        self.members.scan(cursor, count, &mut |member| visit(member.bytes(), member.score()))
    }

    /// A random member; `random` gives 64 random bits a call.
    pub fn random(&self, random: &mut dyn FnMut() -> u64) -> Option<Ref<'_, Member>> {
        self.members.random(random)
    }

    /// The members by their bytes.
    pub fn members(&self) -> &Dict<Member> {
        &self.members
    }

    /// Bytes the allocator spends on table and tree, without the members.
    pub fn memory_bytes(&self) -> usize {
        self.members.memory_bytes() + self.tree.memory_bytes()
    }

    /// A copy.
    pub fn duplicate(&self) -> SortedSet {
        let mut copy = SortedSet::new();
        for (bytes, score) in self.range(0..self.len(), Direction::Forward) {
            copy.insert(hash_key(bytes), bytes, score);
        }
        copy
    }

    /// Checks that tree and table agree (tests).
    #[cfg(test)]
    fn check(&self) {
        self.tree.check();
        assert_eq!(self.tree.len, self.members.len());
    }
}

impl<'a> Ref<'a, Member> {
    /// Bytes and score, for as long as the table is borrowed.
    #[inline]
    pub fn into_pair(self) -> (&'a [u8], f64) {
        // SAFETY: the block lives and stays as it is for `'a`.
        unsafe { (self.link().bytes(), self.score()) }
    }
}

impl std::fmt::Debug for SortedSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SortedSet({} members)", self.len())
    }
}

/// Members in order, with their scores.
pub struct Iter<'a> {
    leaf: Option<NonNull<Leaf>>,
    slot: usize,
    left: usize,
    direction: Direction,
    set: PhantomData<&'a SortedSet>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        // SAFETY: leaves live and stay as they are as long as the set is borrowed.
        let leaf = unsafe { self.leaf?.as_ref() };
        let link = leaf.link(self.slot);
        match self.direction {
            Direction::Forward => {
                prefetch_link(leaf, self.slot + AHEAD);
                self.slot += 1;
                if self.slot == leaf.len() {
                    (self.leaf, self.slot) = (leaf.next, 0);
                }
            }
            Direction::Backward => {
                prefetch_link(leaf, self.slot.wrapping_sub(AHEAD));
                if self.slot == 0 {
                    self.leaf = leaf.prev;
                    // SAFETY: as above.
                    self.slot = self.leaf.map_or(0, |prev| unsafe { prev.as_ref() }.len() - 1);
                } else {
                    self.slot -= 1;
                }
            }
        }
        // SAFETY: links of a tree name members of its table, which is borrowed for `'a`.
        Some(unsafe { (link.bytes(), link.score()) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[inline(always)]
fn prefetch_link(leaf: &Leaf, slot: usize) {
    if let Some(Some(link)) = leaf.links.get(slot) {
        prefetch(Link::address(*link));
    }
}
