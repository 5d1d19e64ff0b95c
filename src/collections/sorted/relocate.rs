//! Active defragmentation of a big sorted set, some blocks at a time: leaf by leaf the nodes of the tree and
//! the members, then the table. A member has two owners of its address, the table and the tree (a leaf, and
//! the inner nodes of which it is the first); a leaf has its neighbours and its parent.

use super::SortedSet;
use super::hash_key;
use super::member::Link;
use super::tree::Tree;
use crate::sys::defrag::Mover;
use std::alloc::Layout;

/// Cursors from here on are those of the table.
const TABLE: u64 = 1 << 63;

impl SortedSet {
    /// Moves the blocks of one leaf with its members (up to 62), or of one bucket of the table. Gives the
    /// cursor to go on from; 0 is the start, none the end. Between the calls anything may happen to the set.
    ///
    /// Safe because addresses of members and nodes are held by the tree and the table alone, and all copies
    /// are replaced before the call ends; iterators borrow the set.
    pub fn relocate_some(&mut self, cursor: u64, mover: &mut Mover) -> Option<u64> {
        if cursor < TABLE {
            let members = &mut self.members;
            let next = self.tree.relocate_leaf(cursor as usize, mover, &mut |link, mover| {
                if !mover.wants(link.address()) {
                    mover.misses += 1;
                    return link;
                }
                // SAFETY: links of the tree name live members; the bytes are not used after the move.
                let bytes = unsafe { link.bytes() };
                let member = members.get_mut(hash_key(bytes), bytes);
                let mut member = member.expect("what the tree names is in the table");
                member.relocate(mover);
                member.link()
            });
            return Some(next.map_or(TABLE, |rank| rank as u64));
        }
        // The members themselves were moved with their leaves.
        match self.members.relocate_some(cursor - TABLE, mover, &mut |_, _| ()) {
            0 => None,
            next => Some(TABLE + next),
        }
    }
}

impl Tree {
    /// Moves the leaf with the member of this rank, the inner nodes above whose first leaf it is, and, by
    /// `member`, its members. The rank behind the leaf, if there is one.
    fn relocate_leaf(
        &mut self,
        rank: usize,
        mover: &mut Mover,
        member: &mut dyn FnMut(Link, &mut Mover) -> Link,
    ) -> Option<usize> {
        let mut place = self.locate_rank(rank)?;
        let first_above = place.way[..self.height]
            .iter()
            .rposition(|step| step.is_some_and(|(_, at)| at > 0))
            .map_or(0, |level| level + 1);
        for level in first_above..self.height {
            let (node, at) = place.way[level].expect("the way leads through all levels");
            // SAFETY: a live inner node of this tree, which is borrowed exclusively; its address is replaced
            // in its parent, the only one that has it.
            if let Some(new) = unsafe { mover.moved(node.cast(), Layout::new::<super::node::Inner>()) } {
                self.replace_child(&place, level, new);
                place.way[level] = Some((new.cast(), at));
            }
        }
        // SAFETY: as above, a leaf; its neighbours have its address as well.
        if let Some(new) = unsafe { mover.moved(place.leaf.cast(), Layout::new::<super::node::Leaf>()) } {
            self.replace_child(&place, self.height, new);
            place.leaf = new.cast();
            // SAFETY: neighbours are live leaves of this tree, which is borrowed exclusively.
            unsafe {
                let (prev, next) = ((*place.leaf.as_ptr()).prev, (*place.leaf.as_ptr()).next);
                if let Some(prev) = prev {
                    (*prev.as_ptr()).next = Some(place.leaf);
                }
                if let Some(next) = next {
                    (*next.as_ptr()).prev = Some(place.leaf);
                }
            }
        }
        // SAFETY: the leaf is alive, and the tree is borrowed exclusively.
        let leaf = unsafe { place.leaf.as_mut() };
        for slot in 0..leaf.len() {
            let old = leaf.link(slot);
            let new = member(old, mover);
            if new != old {
                leaf.links[slot] = Some(new);
                if slot == 0 {
                    self.replace_first(&place, new);
                }
            }
        }
        let behind = rank - place.slot + leaf.len();
        (behind < self.len).then_some(behind)
    }

    /// Tells the parent of the node at a level of the way (the leaf's is the height) its new address.
    fn replace_child(&mut self, place: &super::tree::Place, level: usize, new: super::node::Node) {
        match level.checked_sub(1).and_then(|above| place.way[above]) {
            None => self.root = Some(new),
            // SAFETY: a live inner node of this tree, which is borrowed exclusively.
            Some((mut parent, at)) => unsafe { parent.as_mut() }.entries.children[at] = Some(new),
        }
    }

    /// Tells the inner nodes above a leaf the new address of its first member, as far as it is their child's
    /// first.
    fn replace_first(&mut self, place: &super::tree::Place, new: Link) {
        for (mut node, at) in place.way[..self.height].iter().rev().flatten().copied() {
            // SAFETY: as above.
            unsafe { node.as_mut() }.entries.firsts[at] = Some(new);
            if at > 0 {
                return;
            }
        }
    }
}
