//! The nodes of a stream in the order of their IDs: full ones of exact size in a tree, and the last one,
//! which grows, beside it. So a short stream has no tree, and appending looks nothing up. Knows no groups.

use super::id::Id;
use super::node::{self, Item, Walk};
use crate::collections::relocate::{rebuild_map, relocate_slice, relocate_vec};
use crate::sys::defrag::Mover;
use crate::value::Direction;
use std::collections::{BTreeMap, btree_map};

/// A node that is not the last one is seldom longer; the next one is given this room at once.
const ROOM_MAX: usize = 4096;
/// Nodes whose blocks are moved at once.
const RELOCATED: usize = 64;

/// Nodes by master ID. None is without a live entry.
#[derive(Clone, Default)]
pub struct Nodes {
    full: BTreeMap<Id, Box<[u8]>>,
    /// The last node; there is none only when there are no nodes.
    tail: Option<(Id, Vec<u8>)>,
}

impl Nodes {
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.full.len() + usize::from(self.tail.is_some())
    }

    /// The last node.
    #[inline]
    pub fn tail(&self) -> Option<(Id, &[u8])> {
        self.tail.as_ref().map(|(id, lp)| (*id, lp.as_slice()))
    }

    /// The last node, to be appended to.
    #[inline]
    pub fn tail_mut(&mut self) -> Option<(Id, &mut Vec<u8>)> {
        self.tail.as_mut().map(|(id, lp)| (*id, lp))
    }

    /// Bytes worth reserving for a node that is begun now: the first one grows as it needs.
    pub fn room(&self) -> usize {
        self.tail.as_ref().map_or(0, |(_, lp)| lp.len().min(ROOM_MAX))
    }

    /// Adds a node behind all others; the one that was the last is cut to its size.
    pub fn push(&mut self, id: Id, lp: Vec<u8>) {
        if let Some((id, lp)) = self.tail.replace((id, lp)) {
            self.full.insert(id, lp.into_boxed_slice());
        }
    }

    /// The first node.
    pub fn first(&self) -> Option<(Id, &[u8])> {
        self.iter(Id::MIN).next()
    }

    /// Removes a node.
    pub fn remove(&mut self, id: Id) {
        if self.tail.as_ref().is_some_and(|(tail, _)| *tail == id) {
            self.tail = self.full.pop_last().map(|(id, lp)| (id, lp.into_vec()));
        } else {
            self.full.remove(&id);
        }
    }

    /// The node that holds `id`, or would.
    fn node_of(&self, id: Id) -> Option<Id> {
        match &self.tail {
            Some((tail, _)) if *tail <= id => Some(*tail),
            _ => self.full.range(..=id).next_back().map(|(node, _)| *node),
        }
    }

    fn bytes(&self, node: Id) -> Option<&[u8]> {
        match &self.tail {
            Some((tail, lp)) if *tail == node => Some(lp),
            _ => self.full.get(&node).map(|lp| &**lp),
        }
    }

    /// The live entry with this ID.
    pub fn get(&self, id: Id) -> Option<Item<'_>> {
        let master = self.node_of(id)?;
        node::find(self.bytes(master)?, master, id)
    }

    /// Deletes the entry with this ID; false when it is not there.
    pub fn delete(&mut self, id: Id) -> bool {
        let Some(master) = self.node_of(id) else { return false };
        let left = match &mut self.tail {
            Some((tail, lp)) if *tail == master => node::delete(lp, master, id),
            _ => self.full.get_mut(&master).and_then(|lp| node::delete(lp, master, id)),
        };
        if left == Some(0) {
            self.remove(master);
        }
        left.is_some()
    }

    /// Deletes live entries of one node from the first on; see [`node::delete_front`].
    pub fn delete_front(&mut self, master: Id, stop: impl FnMut(Id, u64) -> bool) -> u64 {
        let (deleted, left) = match &mut self.tail {
            Some((tail, lp)) if *tail == master => {
                (node::delete_front(lp, master, stop), node::head(lp).live)
            }
            _ => {
                let lp = self.full.get_mut(&master).expect("the caller found the node");
                (node::delete_front(lp, master, stop), node::head(lp).live)
            }
        };
        if left == 0 {
            self.remove(master);
        }
        deleted
    }

    /// The nodes from the one that holds `start` on.
    pub fn iter(&self, start: Id) -> Iter<'_> {
        let first = self.full.range(..=start).next_back().map_or(Id::MIN, |(id, _)| *id);
        let only_tail = self.tail.as_ref().is_some_and(|(id, _)| *id <= start);
        let full = if only_tail { self.full.range(Id::MAX..) } else { self.full.range(first..) };
        Iter { full, tail: self.tail() }
    }

    /// The nodes from the one that holds `end` back.
    pub fn iter_back(&self, end: Id) -> Iter<'_> {
        Iter { full: self.full.range(..=end), tail: self.tail().filter(|(id, _)| *id <= end) }
    }

    /// Live entries between two IDs, both included.
    pub fn range(&self, start: Id, end: Id, direction: Direction) -> Range<'_> {
        let nodes = match direction {
            // The empty range is empty in the tree, too.
            _ if start > end => Iter { full: self.full.range(Id::MAX..), tail: None },
            Direction::Forward => self.iter(start),
            Direction::Backward => self.iter_back(end),
        };
        Range { nodes, walk: None, start, end, direction }
    }

    /// Moves the blocks of some nodes from the one with this ID on, for active defragmentation; at the start
    /// (the lowest ID) the last node and, if it is small, the tree as well. Gives the ID to go on from.
    pub fn relocate_some(&mut self, from: Id, mover: &mut Mover) -> Option<Id> {
        if from == Id::MIN {
            rebuild_map(&mut self.full, mover);
            if let Some((_, lp)) = &mut self.tail {
                relocate_vec(lp, mover);
            }
        }
        let mut nodes = self.full.range_mut(from..);
        nodes.by_ref().take(RELOCATED).for_each(|(_, lp)| relocate_slice(lp, mover));
        nodes.next().map(|(id, _)| *id)
    }

    /// Bytes of memory beside the entry's: exact but for nodes that are not among the first `samples` (0: all
    /// are measured).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        let count = self.full.len();
        let taken = if samples == 0 { count } else { samples.min(count) };
        let sum: usize = self.full.values().take(taken).map(|lp| lp.len()).sum();
        let full = (sum as f64 / taken.max(1) as f64 * count as f64) as usize;
        let tree = super::tree_bytes::<Id, Box<[u8]>>(count);
        full + tree + self.tail.as_ref().map_or(0, |(_, lp)| lp.capacity())
    }
}

/// Nodes in order, from either end.
#[derive(Clone)]
pub struct Iter<'a> {
    full: btree_map::Range<'a, Id, Box<[u8]>>,
    tail: Option<(Id, &'a [u8])>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Id, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.full.next().map(|(id, lp)| (*id, &**lp)).or_else(|| self.tail.take())
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.tail.take().or_else(|| self.full.next_back().map(|(id, lp)| (*id, &**lp)))
    }
}

/// Live entries in order.
#[derive(Clone)]
pub struct Range<'a> {
    nodes: Iter<'a>,
    walk: Option<Walk<'a>>,
    start: Id,
    end: Id,
    direction: Direction,
}

impl<'a> Iterator for Range<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        let forward = self.direction == Direction::Forward;
        loop {
            let Some(walk) = &mut self.walk else {
                self.walk = Some(match forward {
                    true => self.nodes.next().map(|(id, lp)| Walk::forward(lp, id))?,
                    false => self.nodes.next_back().map(|(id, lp)| Walk::backward(lp, id))?,
                });
                continue;
            };
            let item = if forward { walk.next_live() } else { walk.prev_live() };
            match item {
                None => self.walk = None,
                Some(item) if (self.start..=self.end).contains(&item.id) => return Some(item),
                Some(item) if forward == (item.id > self.end) => return None,
                Some(_) => {}
            }
        }
    }
}
