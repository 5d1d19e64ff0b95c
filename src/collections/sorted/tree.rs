//! The order of a big sorted set: a B+ tree over (score, bytes) with the number of members below every child,
//! so that rank, member by rank and removal by rank cost a descent. It names members that the table owns.
//!
//! Invariants (checked by `check`): leaves are linked in order; an inner node knows first member, its score
//! and number of members of each child exactly; an inner node has two children at least; no leaf is empty.
//!
//! Room is made on the way down (a full child gives members to a sibling, or is split), so that insertion
//! never comes back up; removal comes back up to merge.

use super::member::Link;
use super::node::{Child, INNER_MAX, Inner, LEAF_MAX, Leaf, Node};
use super::{Cut, Side};
use std::cmp::Ordering;
use std::ptr::NonNull;

/// A sibling with more members than this takes none from a full leaf: it would soon be full itself.
const LEAF_TAKES: usize = LEAF_MAX * 7 / 8;
/// Nodes with fewer are merged with a sibling or get some of its.
const LEAF_MIN: usize = LEAF_MAX / 3;
const INNER_MIN: usize = INNER_MAX / 3;
/// More than any tree of less than 2^32 members needs.
const HEIGHT_MAX: usize = 12;

/// The tree. It does not own the members.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) root: Option<Node>,
    /// Levels above the leaves.
    pub(super) height: usize,
    pub(super) len: usize,
    leaves: usize,
    inners: usize,
}

// SAFETY: the nodes are owned by the tree alone; the members belong to the table beside it.
unsafe impl Send for Tree {}
// SAFETY: a shared tree is only read.
unsafe impl Sync for Tree {}

/// A place in a leaf with the way to it from the root.
pub(super) struct Place {
    pub(super) way: [Option<(NonNull<Inner>, usize)>; HEIGHT_MAX],
    pub(super) leaf: NonNull<Leaf>,
    pub(super) slot: usize,
}

/// # Safety
/// `node` is a live leaf of a tree the caller has borrowed, exclusively if it writes.
unsafe fn leaf<'a>(node: Node) -> &'a mut Leaf {
    // SAFETY: by contract.
    unsafe { node.cast().as_mut() }
}

/// # Safety
/// As `leaf`, of an inner node.
unsafe fn inner<'a>(node: Node) -> &'a mut Inner {
    // SAFETY: by contract.
    unsafe { node.cast().as_mut() }
}

impl Cut<'_> {
    /// Whether a member is before the cut.
    #[inline(always)]
    fn is_after(&self, score: f64, link: Link) -> bool {
        // SAFETY: links of a tree name live members.
        let bytes = || unsafe { link.bytes() };
        match self {
            Cut::Score(cut, Side::Before) => score < *cut,
            Cut::Score(cut, Side::After) => score <= *cut,
            Cut::Lex(cut, Side::Before) => bytes() < *cut,
            Cut::Lex(cut, Side::After) => bytes() <= *cut,
            Cut::Member(cut, member) => match score.partial_cmp(cut) {
                Some(Ordering::Equal) => bytes() < *member,
                order => order == Some(Ordering::Less),
            },
        }
    }

    /// Whether the cut falls into, or behind, the child that begins with this member.
    #[inline(always)]
    fn reaches(&self, inner: &Inner, at: usize) -> bool {
        let score = inner.entries.scores[at];
        match self {
            // The member itself is in the child it begins. Scores alone decide mostly: one cache line less.
            Cut::Member(cut, member) => match score.partial_cmp(cut) {
                // SAFETY: links of a tree name live members.
                Some(Ordering::Equal) => unsafe { inner.first(at).bytes() <= *member },
                order => order == Some(Ordering::Less),
            },
            Cut::Score(cut, Side::Before) => score < *cut,
            Cut::Score(cut, Side::After) => score <= *cut,
            Cut::Lex(..) => self.is_after(score, inner.first(at)),
        }
    }

    /// The score, rounded as in leaves.
    #[inline(always)]
    fn coarse(&self) -> Option<f32> {
        match self {
            Cut::Score(score, _) | Cut::Member(score, _) => Some(*score as f32),
            Cut::Lex(..) => None,
        }
    }

    /// How many members of a leaf are before the cut.
    #[inline]
    fn slot_in(&self, leaf: &Leaf) -> usize {
        // SAFETY: links of a tree name live members.
        let exact = |link: Link| self.is_after(unsafe { link.score() }, link);
        let coarse = self.coarse();
        let (mut low, mut high) = (0, leaf.len());
        while low < high {
            let middle = (low + high) / 2;
            let is_after = match coarse {
                Some(key) if leaf.keys[middle] < key => true,
                Some(key) if leaf.keys[middle] > key => false,
                _ => exact(leaf.link(middle)),
            };
            if is_after {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The child the cut falls into.
    #[inline]
    fn child_in(&self, inner: &Inner) -> usize {
        let (mut low, mut high) = (0, inner.len() - 1);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.reaches(inner, middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

impl Tree {
    /// Bytes the allocator spends on the nodes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.leaves * size_of::<Leaf>() + self.inners * super::super::size_class(size_of::<Inner>())
    }

    /// Number of members before the cut.
    pub(super) fn count_before(&self, cut: &Cut<'_>) -> usize {
        let Some(mut node) = self.root else { return 0 };
        let mut before = 0;
        for _ in 0..self.height {
            // SAFETY: the height says that this is an inner node; the tree is borrowed.
            let inner = unsafe { inner(node) };
            let at = cut.child_in(inner);
            before += inner.entries.counts[..at].iter().map(|count| *count as usize).sum::<usize>();
            node = inner.node(at);
        }
        // SAFETY: below the inner nodes are leaves; the tree is borrowed.
        before + cut.slot_in(unsafe { leaf(node) })
    }

    /// The place of the first member that is not before the cut, in the leaf the cut falls into.
    fn locate(&self, cut: &Cut<'_>) -> Option<Place> {
        let mut place = self.walk_down(|inner| cut.child_in(inner))?;
        // SAFETY: the tree is borrowed.
        place.slot = cut.slot_in(unsafe { place.leaf.as_ref() });
        Some(place)
    }

    /// The place of the member of this rank.
    pub(super) fn locate_rank(&self, rank: usize) -> Option<Place> {
        if rank >= self.len {
            return None;
        }
        let mut rest = rank;
        let mut place = self.walk_down(|inner| {
            let counts = &inner.entries.counts[..inner.len()];
            let mut at = 0;
            while rest >= counts[at] as usize {
                rest -= counts[at] as usize;
                at += 1;
            }
            at
        })?;
        place.slot = rest;
        Some(place)
    }

    fn walk_down(&self, mut choose: impl FnMut(&Inner) -> usize) -> Option<Place> {
        let mut node = self.root?;
        let mut way = [None; HEIGHT_MAX];
        for step in way.iter_mut().take(self.height) {
            // SAFETY: the height says that this is an inner node; the tree is borrowed.
            let inner = unsafe { inner(node) };
            let at = choose(inner);
            *step = Some((node.cast(), at));
            node = inner.node(at);
        }
        Some(Place { way, leaf: node.cast(), slot: 0 })
    }

    // ---- insertion ----

    /// Adds a member that is not in the tree.
    pub(super) fn insert(&mut self, link: Link, score: f64, bytes: &[u8]) {
        assert!(self.len < u32::MAX as usize, "a sorted set has less than 2^32 members");
        self.len += 1;
        let cut = Cut::Member(score, bytes);
        let mut node = self.root_with_room();
        for height in (0..self.height).rev() {
            // SAFETY: the height says that this is an inner node; the tree is borrowed exclusively.
            let inner = unsafe { inner(node) };
            let mut at = cut.child_in(inner);
            if self.is_full(inner.node(at), height) {
                self.make_room(inner, at, height, &cut, link);
                at = cut.child_in(inner);
            }
            inner.entries.counts[at] += 1;
            if at == 0 && !cut.reaches(inner, 0) {
                inner.entries.scores[0] = score;
                inner.entries.firsts[0] = Some(link);
            }
            node = inner.node(at);
        }
        // SAFETY: below the inner nodes are leaves; the tree is borrowed exclusively.
        let leaf = unsafe { leaf(node) };
        leaf.insert(cut.slot_in(leaf), link, score);
    }

    fn root_with_room(&mut self) -> Node {
        let Some(root) = self.root else {
            let first = self.new_leaf();
            self.root = Some(first.cast());
            return first.cast();
        };
        if !self.is_full(root, self.height) {
            return root;
        }
        assert!(self.height < HEIGHT_MAX, "a tree is not that high");
        let child = self.describe(root, self.height);
        let above = self.new_inner();
        // SAFETY: the node is new and nobody else's.
        unsafe { inner(above) }.insert(0, child);
        self.height += 1;
        self.root = Some(above);
        above
    }

    fn is_full(&self, node: Node, height: usize) -> bool {
        // SAFETY: callers name a live node of this tree with its height.
        unsafe { if height == 0 { leaf(node).len() == LEAF_MAX } else { inner(node).len() == INNER_MAX } }
    }

    /// What a parent has to know of a node that is not empty.
    fn describe(&self, node: Node, height: usize) -> Child {
        // SAFETY: callers name a live node of this tree with its height; its links name live members.
        unsafe {
            if height == 0 {
                let leaf = leaf(node);
                let first = leaf.link(0);
                Child { score: first.score(), first, count: leaf.len, node }
            } else {
                let inner = inner(node);
                Child { count: inner.total() as u32, node, ..inner.child(0) }
            }
        }
    }

    /// Makes room in the full child at `at` of `parent`, which has room itself.
    fn make_room(&mut self, parent: &mut Inner, at: usize, height: usize, cut: &Cut<'_>, new: Link) {
        let last = at + 1 == parent.len();
        if height > 0 {
            // SAFETY: a child of this height is an inner node; the tree is borrowed exclusively.
            let child = unsafe { inner(parent.node(at)) };
            let at_end = last && cut.reaches(child, child.len() - 1);
            self.split_inner(parent, at, if at_end { INNER_MAX - 2 } else { INNER_MAX / 2 });
            return;
        }
        // SAFETY: a child of height 0 is a leaf; the tree is borrowed exclusively.
        let child = unsafe { leaf(parent.node(at)) };
        let slot = cut.slot_in(child);
        // Members that come in order leave full leaves behind.
        if (last && slot == LEAF_MAX) || (at == 0 && slot == 0) {
            self.add_leaf(parent, at + usize::from(slot > 0), new);
            return;
        }
        for (left, right) in [(at.checked_sub(1), Some(at)), (Some(at), Some(at + 1).filter(|_| !last))] {
            if let (Some(left), Some(right)) = (left, right) {
                let other = if left == at { right } else { left };
                if parent.entries.counts[other] as usize <= LEAF_TAKES {
                    self.even_out(parent, left, right, 0);
                    return;
                }
            }
        }
        let right = self.new_leaf();
        self.link_after(parent.node(at).cast(), right);
        // SAFETY: two different leaves; the tree is borrowed exclusively.
        unsafe { leaf(right.cast()).take_back_of(leaf(parent.node(at)), LEAF_MAX / 2) };
        parent.insert(at + 1, self.describe(right.cast(), 0));
        parent.entries.counts[at] = (LEAF_MAX - LEAF_MAX / 2) as u32;
    }

    /// Adds an empty leaf at an edge of `parent`, for the member that is about to be inserted.
    fn add_leaf(&mut self, parent: &mut Inner, at: usize, first: Link) {
        let new = self.new_leaf();
        if at > 0 {
            self.link_after(parent.node(at - 1).cast(), new);
        } else {
            self.link_before(parent.node(0).cast(), new);
        }
        // SAFETY: the member that is about to be inserted is alive.
        let score = unsafe { first.score() };
        parent.insert(at, Child { score, first, count: 0, node: new.cast() });
    }

    fn split_inner(&mut self, parent: &mut Inner, at: usize, keep: usize) {
        // SAFETY: callers name an inner child; the tree is borrowed exclusively.
        let child = unsafe { inner(parent.node(at)) };
        let right = self.new_inner();
        // SAFETY: the node is new and nobody else's.
        unsafe { inner(right) }.take_back_of(child, INNER_MAX - keep);
        let described = self.describe(right, 1);
        parent.entries.counts[at] -= described.count;
        parent.insert(at + 1, described);
    }

    // ---- removal ----

    /// Removes the member; it must be in the tree.
    pub(super) fn remove(&mut self, score: f64, bytes: &[u8], link: Link) {
        let place = self.locate(&Cut::Member(score, bytes)).expect("the member is in the tree");
        self.remove_run(place, 1, &mut |removed| assert!(removed == link, "the member is in its place"));
    }

    /// Removes up to `max` members from a place on, within its leaf, and says how many.
    pub(super) fn remove_run(&mut self, place: Place, max: usize, each: &mut dyn FnMut(Link)) -> usize {
        // SAFETY: the place was just found in this tree, which is borrowed exclusively.
        let node = unsafe { leaf(place.leaf.cast()) };
        let n = max.min(node.len() - place.slot);
        node.links[place.slot..place.slot + n].iter().flatten().for_each(|link| each(*link));
        node.remove(place.slot, n);
        self.len -= n;
        for height in 0..self.height {
            let step = place.way[self.height - 1 - height];
            let (parent, at) = step.expect("there is a step for every level");
            // SAFETY: the way leads through live inner nodes; the tree is borrowed exclusively.
            let parent = unsafe { inner(parent.cast()) };
            parent.entries.counts[at] -= n as u32;
            self.mend(parent, at, height);
        }
        self.mend_root();
        n
    }

    /// Brings the parent up to date after removals below its child at `at`, which may be short or empty.
    fn mend(&mut self, parent: &mut Inner, at: usize, height: usize) {
        // SAFETY: a child with its height; the tree is borrowed exclusively.
        let len = unsafe {
            let node = parent.node(at);
            if height == 0 { leaf(node).len() } else { inner(node).len() }
        };
        if len > 0 {
            self.refresh_first(parent, at, height);
        }
        let min = if height == 0 { LEAF_MIN } else { INNER_MIN };
        if len >= min || parent.len() == 1 {
            return;
        }
        let left = at.saturating_sub(1);
        let right = left + 1;
        if self.merge(parent, left, right, height) {
            return;
        }
        self.even_out(parent, left, right, height);
    }

    /// Lets the parent know the first member of its child at `at` if it is another one.
    fn refresh_first(&mut self, parent: &mut Inner, at: usize, height: usize) {
        // SAFETY: a child with its height; the tree is borrowed exclusively.
        let first = unsafe {
            let node = parent.node(at);
            if height == 0 { leaf(node).link(0) } else { inner(node).first(0) }
        };
        if first != parent.first(at) {
            // SAFETY: links of a tree name live members.
            parent.entries.scores[at] = unsafe { first.score() };
            parent.entries.firsts[at] = Some(first);
        }
    }

    /// Puts two neighbours into one if they leave some room in it. One of them may be empty.
    fn merge(&mut self, parent: &mut Inner, left: usize, right: usize, height: usize) -> bool {
        let (left_node, right_node) = (parent.node(left), parent.node(right));
        if height == 0 {
            // SAFETY: two different leaves; the tree is borrowed exclusively.
            let (a, b) = unsafe { (leaf(left_node), leaf(right_node)) };
            if a.len() + b.len() > LEAF_TAKES {
                return false;
            }
            a.take_front_of(b, b.len());
            self.drop_leaf(right_node.cast());
        } else {
            // SAFETY: two different inner nodes; the tree is borrowed exclusively.
            let (a, b) = unsafe { (inner(left_node), inner(right_node)) };
            if a.len() + b.len() > INNER_MAX * 7 / 8 {
                return false;
            }
            a.take_front_of(b, b.len());
            self.drop_inner(right_node);
        }
        parent.entries.counts[left] += parent.entries.counts[right];
        parent.remove(right);
        // Nothing is left of two empty nodes only when the whole tree is empty: `mend_root`.
        if parent.entries.counts[left] > 0 {
            self.refresh_first(parent, left, height);
        }
        true
    }

    /// Gives two neighbours equally many; together they have enough that neither is empty then.
    fn even_out(&mut self, parent: &mut Inner, left: usize, right: usize, height: usize) {
        let (left_node, right_node) = (parent.node(left), parent.node(right));
        if height == 0 {
            // SAFETY: two different leaves; the tree is borrowed exclusively.
            let (a, b) = unsafe { (leaf(left_node), leaf(right_node)) };
            let half = (a.len() + b.len()) / 2;
            if a.len() > half {
                b.take_back_of(a, a.len() - half);
            } else {
                a.take_front_of(b, half - a.len());
            }
        } else {
            // SAFETY: two different inner nodes; the tree is borrowed exclusively.
            let (a, b) = unsafe { (inner(left_node), inner(right_node)) };
            let half = (a.len() + b.len()) / 2;
            if a.len() > half {
                b.take_back_of(a, a.len() - half);
            } else {
                a.take_front_of(b, half - a.len());
            }
        }
        parent.set(left, self.describe(left_node, height));
        parent.set(right, self.describe(right_node, height));
    }

    /// Takes useless levels away from the top.
    fn mend_root(&mut self) {
        while let Some(root) = self.root {
            if self.height > 0 {
                // SAFETY: the height says that this is an inner node; the tree is borrowed exclusively.
                let top = unsafe { inner(root) };
                if top.len() > 1 {
                    return;
                }
                self.root = Some(top.node(0));
                self.height -= 1;
                self.drop_inner(root);
            } else {
                if self.len == 0 {
                    self.root = None;
                    self.drop_leaf(root.cast());
                }
                return;
            }
        }
    }

    /// Gives a member another score where that leaves it between its neighbours; false: it does not, and
    /// nothing was done. The caller writes the score into the member.
    pub(super) fn rescore_in_place(&mut self, link: Link, bytes: &[u8], old: f64, new: f64) -> bool {
        let place = self.locate(&Cut::Member(old, bytes)).expect("the member is in the tree");
        // SAFETY: the place was just found in this tree, which is borrowed exclusively.
        let leaf = unsafe { leaf(place.leaf.cast()) };
        assert!(leaf.link(place.slot) == link, "the member is in its place");
        // At the edges of a leaf the neighbours, and what parents know, are elsewhere.
        if place.slot == 0 || place.slot + 1 == leaf.len() {
            return false;
        }
        let cut = Cut::Member(new, bytes);
        let (before, after) = (leaf.link(place.slot - 1), leaf.link(place.slot + 1));
        // SAFETY: links of a tree name live members.
        let fits = unsafe { cut.is_after(before.score(), before) && !cut.is_after(after.score(), after) };
        if fits {
            leaf.keys[place.slot] = new as f32;
        }
        fits
    }

    // ---- nodes ----

    fn new_leaf(&mut self) -> NonNull<Leaf> {
        self.leaves += 1;
        NonNull::from(Box::leak(Leaf::new()))
    }

    fn new_inner(&mut self) -> Node {
        self.inners += 1;
        NonNull::from(Box::leak(Inner::new())).cast()
    }

    /// Frees a leaf that nothing above names any more and takes it out of the row.
    fn drop_leaf(&mut self, node: NonNull<Leaf>) {
        self.leaves -= 1;
        // SAFETY: every leaf came from a box, and this was its only owner.
        let gone = unsafe { Box::from_raw(node.as_ptr()) };
        // SAFETY: neighbours in the row are live leaves of this tree, which is borrowed exclusively.
        unsafe {
            if let Some(mut prev) = gone.prev {
                prev.as_mut().next = gone.next;
            }
            if let Some(mut next) = gone.next {
                next.as_mut().prev = gone.prev;
            }
        }
    }

    fn drop_inner(&mut self, node: Node) {
        self.inners -= 1;
        // SAFETY: every inner node came from a box, and this was its only owner.
        drop(unsafe { Box::<Inner>::from_raw(node.cast().as_ptr()) });
    }

    fn link_after(&mut self, left: NonNull<Leaf>, new: NonNull<Leaf>) {
        // SAFETY: live leaves of this tree, which is borrowed exclusively.
        unsafe {
            let next = (*left.as_ptr()).next;
            ((*new.as_ptr()).prev, (*new.as_ptr()).next) = (Some(left), next);
            (*left.as_ptr()).next = Some(new);
            if let Some(next) = next {
                (*next.as_ptr()).prev = Some(new);
            }
        }
    }

    fn link_before(&mut self, right: NonNull<Leaf>, new: NonNull<Leaf>) {
        // SAFETY: as above.
        unsafe {
            let prev = (*right.as_ptr()).prev;
            ((*new.as_ptr()).prev, (*new.as_ptr()).next) = (prev, Some(right));
            (*right.as_ptr()).prev = Some(new);
            if let Some(prev) = prev {
                (*prev.as_ptr()).next = Some(new);
            }
        }
    }

    fn free_below(&mut self, node: Node, height: usize) {
        if height == 0 {
            // SAFETY: the tree is given up; every leaf came from a box and is freed once.
            drop(unsafe { Box::<Leaf>::from_raw(node.cast().as_ptr()) });
            return;
        }
        // SAFETY: as above, an inner node.
        let inner = unsafe { Box::<Inner>::from_raw(node.cast().as_ptr()) };
        for at in 0..inner.len() {
            self.free_below(inner.node(at), height - 1);
        }
    }

    /// Checks every invariant (tests).
    #[cfg(test)]
    pub(super) fn check(&self) {
        let Some(root) = self.root else {
            return assert_eq!((self.len, self.leaves, self.inners), (0, 0, 0));
        };
        let mut leaves = vec![];
        let (count, inners) = self.check_below(root, self.height, &mut leaves);
        assert_eq!((count, leaves.len(), inners), (self.len, self.leaves, self.inners));
        let mut before: Option<(f64, &[u8])> = None;
        for (i, &node) in leaves.iter().enumerate() {
            // SAFETY: a live leaf of this tree.
            let leaf = unsafe { leaf(node) };
            assert_eq!(leaf.prev, i.checked_sub(1).map(|i| leaves[i].cast()));
            assert_eq!(leaf.next, leaves.get(i + 1).map(|leaf| leaf.cast()));
            for slot in 0..leaf.len() {
                // SAFETY: links of a tree name live members.
                let (score, bytes) = unsafe { (leaf.link(slot).score(), leaf.link(slot).bytes()) };
                assert_eq!(leaf.keys[slot], score as f32);
                assert!(before.is_none_or(|(s, b)| s < score || (s == score && b < bytes)));
                before = Some((score, bytes));
            }
        }
    }

    #[cfg(test)]
    fn check_below(&self, node: Node, height: usize, leaves: &mut Vec<Node>) -> (usize, usize) {
        if height == 0 {
            leaves.push(node);
            // SAFETY: a live leaf of this tree.
            return (unsafe { leaf(node) }.len(), 0);
        }
        // SAFETY: a live inner node of this tree.
        let inner = unsafe { inner(node) };
        assert!(inner.len() > 1, "an inner node has two children");
        let (mut total, mut inners) = (0, 1);
        for at in 0..inner.len() {
            let known = inner.child(at);
            let (count, below) = self.check_below(known.node, height - 1, leaves);
            let real = self.describe(known.node, height - 1);
            assert_eq!((known.count as usize, known.first), (count, real.first));
            // SAFETY: links of a tree name live members.
            assert_eq!(known.score, unsafe { real.first.score() });
            total += count;
            inners += below;
        }
        (total, inners)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(root) = self.root.take() {
            self.free_below(root, self.height);
        }
    }
}
