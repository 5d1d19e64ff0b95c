//! The nodes of the tree: arrays that elements are moved into and out of. A leaf is 768 bytes and holds links
//! to members with their scores rounded to `f32`, which decides most comparisons without touching the member;
//! an inner node is 1 KiB and holds for each child its first member, that member's score, and the number of
//! members below. Nothing here knows the order of members.

use super::member::Link;
use std::ptr::NonNull;

/// Members in a leaf.
pub(super) const LEAF_MAX: usize = 62;
/// Children of an inner node.
pub(super) const INNER_MAX: usize = 36;

/// A leaf or an inner node; the height says which.
pub(super) type Node = NonNull<u8>;

/// A run of members in order.
pub(super) struct Leaf {
    pub(super) len: u32,
    pub(super) prev: Option<NonNull<Leaf>>,
    pub(super) next: Option<NonNull<Leaf>>,
    /// Scores, rounded: `a < b` follows from `a as f32 < b as f32`.
    pub(super) keys: [f32; LEAF_MAX],
    pub(super) links: [Option<Link>; LEAF_MAX],
}

/// A run of children in order.
pub(super) struct Inner {
    pub(super) len: u32,
    pub(super) entries: Entries,
}

/// What an inner node knows of its children, one array for each fact, as searches read only scores.
pub(super) struct Entries {
    /// Score of the first member below each child.
    pub(super) scores: [f64; INNER_MAX],
    /// The first member below each child.
    pub(super) firsts: [Option<Link>; INNER_MAX],
    pub(super) counts: [u32; INNER_MAX],
    pub(super) children: [Option<Node>; INNER_MAX],
}

/// What an inner node knows of one child.
#[derive(Clone, Copy)]
pub(super) struct Child {
    pub(super) score: f64,
    pub(super) first: Link,
    pub(super) count: u32,
    pub(super) node: Node,
}

/// Makes room for `n` at `at`, moving the rest of the first `len` up.
fn open<T: Copy>(items: &mut [T], len: usize, at: usize, n: usize) {
    items.copy_within(at..len, at + n);
}

/// Closes the gap of `n` at `at`, moving the rest of the first `len` down.
fn close<T: Copy>(items: &mut [T], len: usize, at: usize, n: usize) {
    items.copy_within(at + n..len, at);
}

impl Leaf {
    pub(super) fn new() -> Box<Leaf> {
        Box::new(Leaf { len: 0, prev: None, next: None, keys: [0.0; LEAF_MAX], links: [None; LEAF_MAX] })
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline(always)]
    pub(super) fn link(&self, slot: usize) -> Link {
        self.links[..self.len()][slot].expect("slots below the length are filled")
    }

    pub(super) fn insert(&mut self, slot: usize, link: Link, score: f64) {
        let len = self.len();
        open(&mut self.keys, len, slot, 1);
        open(&mut self.links, len, slot, 1);
        self.keys[slot] = score as f32;
        self.links[slot] = Some(link);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, slot: usize, n: usize) {
        let len = self.len();
        close(&mut self.keys, len, slot, n);
        close(&mut self.links, len, slot, n);
        self.len -= n as u32;
    }

    /// Moves the first `n` of `right` to the end of `self`.
    pub(super) fn take_front_of(&mut self, right: &mut Leaf, n: usize) {
        let len = self.len();
        self.keys[len..len + n].copy_from_slice(&right.keys[..n]);
        self.links[len..len + n].copy_from_slice(&right.links[..n]);
        self.len += n as u32;
        right.remove(0, n);
    }

    /// Moves the last `n` of `left` to the front of `self`.
    pub(super) fn take_back_of(&mut self, left: &mut Leaf, n: usize) {
        let (len, from) = (self.len(), left.len() - n);
        open(&mut self.keys, len, 0, n);
        open(&mut self.links, len, 0, n);
        self.keys[..n].copy_from_slice(&left.keys[from..from + n]);
        self.links[..n].copy_from_slice(&left.links[from..from + n]);
        self.len += n as u32;
        left.len -= n as u32;
    }
}

impl Entries {
    fn open(&mut self, len: usize, at: usize, n: usize) {
        open(&mut self.scores, len, at, n);
        open(&mut self.firsts, len, at, n);
        open(&mut self.counts, len, at, n);
        open(&mut self.children, len, at, n);
    }

    fn close(&mut self, len: usize, at: usize, n: usize) {
        close(&mut self.scores, len, at, n);
        close(&mut self.firsts, len, at, n);
        close(&mut self.counts, len, at, n);
        close(&mut self.children, len, at, n);
    }

    fn copy(&mut self, to: usize, other: &Entries, from: usize, n: usize) {
        self.scores[to..to + n].copy_from_slice(&other.scores[from..from + n]);
        self.firsts[to..to + n].copy_from_slice(&other.firsts[from..from + n]);
        self.counts[to..to + n].copy_from_slice(&other.counts[from..from + n]);
        self.children[to..to + n].copy_from_slice(&other.children[from..from + n]);
    }
}

impl Inner {
    pub(super) fn new() -> Box<Inner> {
        Box::new(Inner {
            len: 0,
            entries: Entries {
                scores: [0.0; INNER_MAX],
                firsts: [None; INNER_MAX],
                counts: [0; INNER_MAX],
                children: [None; INNER_MAX],
            },
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline(always)]
    pub(super) fn node(&self, at: usize) -> Node {
        self.entries.children[..self.len()][at].expect("children below the length are there")
    }

    #[inline(always)]
    pub(super) fn first(&self, at: usize) -> Link {
        self.entries.firsts[..self.len()][at].expect("children below the length are there")
    }

    /// Number of members below.
    pub(super) fn total(&self) -> usize {
        self.entries.counts[..self.len()].iter().map(|count| *count as usize).sum()
    }

    pub(super) fn child(&self, at: usize) -> Child {
        Child {
            score: self.entries.scores[at],
            first: self.first(at),
            count: self.entries.counts[at],
            node: self.node(at),
        }
    }

    pub(super) fn set(&mut self, at: usize, child: Child) {
        self.entries.scores[at] = child.score;
        self.entries.firsts[at] = Some(child.first);
        self.entries.counts[at] = child.count;
        self.entries.children[at] = Some(child.node);
    }

    pub(super) fn insert(&mut self, at: usize, child: Child) {
        self.entries.open(self.len(), at, 1);
        self.len += 1;
        self.set(at, child);
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.entries.close(self.len(), at, 1);
        self.len -= 1;
    }

    /// Moves the first `n` of `right` to the end of `self`.
    pub(super) fn take_front_of(&mut self, right: &mut Inner, n: usize) {
        self.entries.copy(self.len(), &right.entries, 0, n);
        self.len += n as u32;
        right.entries.close(right.len(), 0, n);
        right.len -= n as u32;
    }

    /// Moves the last `n` of `left` to the front of `self`.
    pub(super) fn take_back_of(&mut self, left: &mut Inner, n: usize) {
        self.entries.open(self.len(), 0, n);
        self.entries.copy(0, &left.entries, left.len() - n, n);
        self.len += n as u32;
        left.len -= n as u32;
    }
}

const _: () = assert!(size_of::<Leaf>() == 768 && size_of::<Inner>() <= 1024);
