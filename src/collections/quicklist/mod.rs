//! The long list: listpacks of limited size in a row. Nodes are grouped in chunks that know their number of
//! elements, so that an index is found by looking at few numbers; both ends are always at hand. Nodes away
//! from the ends can be kept compressed. It knows no list commands.
//!
//! - `node`: one listpack or big element, the limits.
//! - An element is named by its index; every operation that changes the list takes the limits in force.

mod node;
#[cfg(test)]
mod tests;

pub use node::{Limits, Node};

use super::buffer::Buffer;
use super::listpack::{self, Value};
use super::relocate::relocate_deque;
use super::size_class;
use super::sorted::Direction;
use crate::sys::defrag::Mover;
use std::collections::VecDeque;

/// Nodes of a chunk. With fewer, finding a node in its chunk is faster and finding the chunk is slower.
const CHUNK_MAX: usize = 128;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The head: index 0.
    Front,
    /// The tail.
    Back,
}

/// A list of strings.
#[derive(Clone, Debug, Default)]
pub struct Quicklist {
    chunks: VecDeque<Chunk>,
    len: usize,
    nodes: usize,
}

/// Some nodes in a row.
#[derive(Clone, Debug, Default)]
struct Chunk {
    nodes: VecDeque<Node>,
    /// Elements of all of them.
    len: usize,
}

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    chunk: usize,
    node: usize,
}

impl Quicklist {
    /// An empty list.
    pub fn new() -> Self {
        Quicklist::default()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes
    }

    /// The nodes in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.chunks.iter().flat_map(|chunk| &chunk.nodes)
    }

    /// Bytes the allocator spends on the list.
    pub fn memory_bytes(&self) -> usize {
        let chunk = |chunk: &Chunk| {
            let data: usize = chunk.nodes.iter().map(Node::allocated_bytes).sum();
            data + size_class(chunk.nodes.capacity() * size_of::<Node>())
        };
        size_class(self.chunks.capacity() * size_of::<Chunk>()) + self.chunks.iter().map(chunk).sum::<usize>()
    }

    /// The element of this index. `scratch` is used when its node is compressed.
    pub fn get<'a>(&'a self, index: usize, scratch: &'a mut Vec<u8>) -> Option<Value<'a>> {
        let (spot, index) = self.locate(index)?;
        let node = self.node(spot);
        let bytes = node.contents(scratch);
        if node.is_plain() {
            return Some(Value::new(bytes));
        }
        listpack::seek(bytes, index).map(|at| listpack::get(bytes, at))
    }

    /// Shows elements from the one at `index` on, in a direction, until `each` says false.
    pub fn walk(&self, index: usize, direction: Direction, each: &mut impl FnMut(Value<'_>) -> bool) {
        let Some((mut spot, mut index)) = self.locate(index) else { return };
        let mut scratch = Vec::new();
        loop {
            let node = self.node(spot);
            if !walk_node(node, node.contents(&mut scratch), index, direction, each) {
                return;
            }
            let next = match direction {
                Direction::Forward => self.after(spot),
                Direction::Backward => self.before(spot),
            };
            let Some(next) = next else { return };
            spot = next;
            index = match direction {
                Direction::Forward => 0,
                Direction::Backward => self.node(spot).len() - 1,
            };
        }
    }

    /// Adds an element at an end.
    pub fn push(&mut self, end: End, element: &[u8], limits: &Limits) {
        let edge = match end {
            End::Front => self.chunks.front_mut().map(|chunk| (&mut chunk.len, chunk.nodes.front_mut())),
            End::Back => self.chunks.back_mut().map(|chunk| (&mut chunk.len, chunk.nodes.back_mut())),
        };
        if let Some((chunk_len, Some(node))) = edge
            && node.has_room(element.len(), limits)
        {
            let value = Value::new(element);
            match end {
                End::Front => listpack::prepend(node.listpack(), value),
                End::Back => listpack::append(node.listpack(), value),
            }
            node.count += 1;
            *chunk_len += 1;
            self.len += 1;
            return;
        }
        self.push_node(end, Node::of(element, limits));
        self.settle(None, limits);
    }

    /// Adds a listpack of some elements at the tail, as a node as it is.
    pub fn push_listpack(&mut self, listpack: Vec<u8>) {
        if !listpack::is_empty(&listpack) {
            self.push_node(End::Back, Node::packed(listpack.into_boxed_slice()));
        }
    }

    /// Adds an element at the tail in a node of its own.
    pub fn push_plain(&mut self, element: &[u8]) {
        self.push_node(End::Back, Node::plain(element));
    }

    /// Inserts before the element at `index`; at the tail when the index is the length.
    pub fn insert(&mut self, index: usize, element: &[u8], limits: &Limits) {
        if index == 0 {
            return self.push(End::Front, element, limits);
        }
        // The place behind an element is as good as the one before the next, and always has a node.
        let Some((spot, before)) = self.locate(index - 1) else {
            return self.push(End::Back, element, limits);
        };
        let (at, next) = (before + 1, self.after(spot));
        let (node, len) = (self.node(spot), element.len());
        let touched = if node.has_room(len, limits) {
            self.insert_into(spot, at, element);
            spot
        } else if at < node.len() {
            self.split(spot, at);
            // The chunk may have been split as well.
            let (spot, _) = self.locate(index - 1).expect("the index is in the list");
            self.add_node(Spot { node: spot.node + 1, ..spot }, Node::of(element, limits));
            return self.settle_around(index, limits);
        } else if let Some(next) = next.filter(|next| self.node(*next).has_room(len, limits)) {
            self.insert_into(next, 0, element);
            next
        } else {
            self.add_node(Spot { node: spot.node + 1, ..spot }, Node::of(element, limits));
            return self.settle_around(index, limits);
        };
        self.settle(Some(touched), limits);
    }

    /// Replaces the element at `index`, which must be there.
    pub fn replace(&mut self, index: usize, element: &[u8], limits: &Limits) {
        let (spot, at) = self.locate(index).expect("the index is in the list");
        let (plain, large) = (self.node(spot).is_plain(), limits.is_large(element.len()));
        if plain != large {
            self.remove_range(index, 1, limits);
            return self.insert(index, element, limits);
        }
        let node = self.node_mut(spot);
        if plain {
            *node = Node::plain(element);
        } else {
            let listpack = node.listpack();
            let at = listpack::seek(listpack.bytes(), at).expect("the index is in the node");
            listpack::replace(listpack, at, Value::new(element));
        }
        self.settle(Some(spot), limits);
    }

    /// Removes `count` elements from the one at `index` on, fewer at the end; says how many.
    pub fn remove_range(&mut self, index: usize, count: usize, limits: &Limits) -> usize {
        let Some((mut spot, mut at)) = self.locate(index) else { return 0 };
        let count = count.min(self.len - index);
        let mut left = count;
        while left > 0 {
            let here = self.node(spot).len();
            let n = left.min(here - at);
            if n == here {
                self.drop_node(spot);
            } else {
                let listpack = self.node_mut(spot).listpack();
                let offset = listpack::seek(listpack.bytes(), at).expect("the index is in the node");
                listpack::delete(listpack, offset, n);
                self.count_down(spot, n);
                spot.node += 1;
            }
            left -= n;
            at = 0;
            if self.chunks.get(spot.chunk).is_some_and(|chunk| spot.node == chunk.nodes.len()) {
                spot = Spot { chunk: spot.chunk + 1, node: 0 };
            }
        }
        self.settle_around(index, limits);
        count
    }

    /// Removes up to `max` elements that equal `element`, beginning at the side the direction comes from;
    /// says how many.
    pub fn remove_equal(
        &mut self,
        element: &[u8],
        max: usize,
        direction: Direction,
        limits: &Limits,
    ) -> usize {
        let mut removed = 0;
        let mut spot = match direction {
            Direction::Forward => (self.nodes > 0).then_some(Spot { chunk: 0, node: 0 }),
            Direction::Backward => self.last_spot(),
        };
        let mut scratch = Vec::new();
        while let Some(here) = spot.filter(|_| removed < max) {
            let node = self.node(here);
            let mut found = matches_in(node, node.contents(&mut scratch), element);
            let keep = max - removed;
            match direction {
                Direction::Forward => found.truncate(keep),
                Direction::Backward => drop(found.drain(..found.len().saturating_sub(keep))),
            }
            removed += found.len();
            spot = self.remove_in_node(here, &found, direction, limits);
        }
        self.settle(None, limits);
        removed
    }

    /// Brings compression of all nodes in line with the limits, for a list that was built from nodes.
    pub fn settle_all(&mut self, limits: &Limits) {
        let (depth, nodes) = (limits.compress_depth as usize, self.nodes);
        let all = self.chunks.iter_mut().flat_map(|chunk| &mut chunk.nodes);
        for (i, node) in all.enumerate() {
            if depth == 0 || i < depth || nodes - 1 - i < depth {
                node.unpack();
            } else {
                node.pack();
            }
        }
    }

    /// Moves the blocks of one chunk of nodes (up to 128) for active defragmentation. Gives the cursor to go
    /// on from; 0 is the start, none the end. Nobody but the list has their addresses.
    pub fn relocate_some(&mut self, cursor: usize, mover: &mut Mover) -> Option<usize> {
        if cursor == 0 {
            relocate_deque(&mut self.chunks, mover);
        }
        let chunk = self.chunks.get_mut(cursor)?;
        relocate_deque(&mut chunk.nodes, mover);
        chunk.nodes.iter_mut().for_each(|node| node.relocate_data(mover));
        (cursor + 1 < self.chunks.len()).then_some(cursor + 1)
    }

    /// The only node's listpack, if there is only one node and it is one.
    pub fn single_listpack(&self) -> Option<&[u8]> {
        let node = self.chunks.front()?.nodes.front()?;
        (self.nodes == 1 && !node.is_plain() && node.lzf().is_none()).then(|| Buffer::bytes(node))
    }

    // ---- finding ----

    fn node(&self, spot: Spot) -> &Node {
        &self.chunks[spot.chunk].nodes[spot.node]
    }

    fn node_mut(&mut self, spot: Spot) -> &mut Node {
        &mut self.chunks[spot.chunk].nodes[spot.node]
    }

    /// The node of an element, and its index there; counted from the nearer end.
    fn locate(&self, index: usize) -> Option<(Spot, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let (chunk, rest) = find(self.chunks.iter().map(|chunk| chunk.len), index);
            let (node, rest) = find(self.chunks[chunk].nodes.iter().map(Node::len), rest);
            return Some((Spot { chunk, node }, rest));
        }
        let (back, rest) = find(self.chunks.iter().rev().map(|chunk| chunk.len), self.len - 1 - index);
        let chunk = self.chunks.len() - 1 - back;
        let nodes = &self.chunks[chunk].nodes;
        let (back, rest) = find(nodes.iter().rev().map(Node::len), rest);
        let node = nodes.len() - 1 - back;
        Some((Spot { chunk, node }, nodes[node].len() - 1 - rest))
    }

    fn after(&self, spot: Spot) -> Option<Spot> {
        if spot.node + 1 < self.chunks[spot.chunk].nodes.len() {
            return Some(Spot { node: spot.node + 1, ..spot });
        }
        (spot.chunk + 1 < self.chunks.len()).then_some(Spot { chunk: spot.chunk + 1, node: 0 })
    }

    fn before(&self, spot: Spot) -> Option<Spot> {
        if spot.node > 0 {
            return Some(Spot { node: spot.node - 1, ..spot });
        }
        let chunk = spot.chunk.checked_sub(1)?;
        Some(Spot { chunk, node: self.chunks[chunk].nodes.len() - 1 })
    }

    fn last_spot(&self) -> Option<Spot> {
        let chunk = self.chunks.len().checked_sub(1)?;
        Some(Spot { chunk, node: self.chunks[chunk].nodes.len() - 1 })
    }

    // ---- nodes ----

    fn push_node(&mut self, end: End, node: Node) {
        let full = |chunk: Option<&Chunk>| chunk.is_none_or(|chunk| chunk.nodes.len() == CHUNK_MAX);
        let (len, nodes) = (node.len(), 1);
        let chunk = match end {
            End::Front => {
                if full(self.chunks.front()) {
                    self.chunks.push_front(Chunk::default());
                }
                let chunk = self.chunks.front_mut().expect("there is a chunk");
                chunk.nodes.push_front(node);
                chunk
            }
            End::Back => {
                if full(self.chunks.back()) {
                    self.chunks.push_back(Chunk::default());
                }
                let chunk = self.chunks.back_mut().expect("there is a chunk");
                chunk.nodes.push_back(node);
                chunk
            }
        };
        chunk.len += len;
        self.len += len;
        self.nodes += nodes;
    }

    /// Inserts a node before the one at `spot`, or behind the last of the chunk.
    fn add_node(&mut self, mut spot: Spot, node: Node) {
        if self.chunks[spot.chunk].nodes.len() == CHUNK_MAX {
            let half = self.chunks[spot.chunk].split();
            self.chunks.insert(spot.chunk + 1, half);
            if spot.node > CHUNK_MAX / 2 {
                spot = Spot { chunk: spot.chunk + 1, node: spot.node - CHUNK_MAX / 2 };
            }
        }
        let chunk = &mut self.chunks[spot.chunk];
        chunk.len += node.len();
        self.len += node.len();
        self.nodes += 1;
        chunk.nodes.insert(spot.node, node);
    }

    fn drop_node(&mut self, spot: Spot) {
        let chunk = &mut self.chunks[spot.chunk];
        let node = chunk.nodes.remove(spot.node).expect("the node is there");
        chunk.len -= node.len();
        self.len -= node.len();
        self.nodes -= 1;
        if chunk.nodes.is_empty() {
            self.chunks.remove(spot.chunk);
        }
    }

    fn count_down(&mut self, spot: Spot, n: usize) {
        self.node_mut(spot).count -= n as u32;
        self.chunks[spot.chunk].len -= n;
        self.len -= n;
    }

    fn insert_into(&mut self, spot: Spot, at: usize, element: &[u8]) {
        let node = self.node_mut(spot);
        let listpack = node.listpack();
        let bytes = listpack.bytes();
        let offset = listpack::seek(bytes, at).unwrap_or(listpack::end(bytes));
        listpack::insert(listpack, offset, Value::new(element));
        node.count += 1;
        self.chunks[spot.chunk].len += 1;
        self.len += 1;
    }

    /// Moves the elements of a listpack node from `at` on to a new node behind it.
    fn split(&mut self, spot: Spot, at: usize) {
        let node = self.node_mut(spot);
        let moved = node.len() - at;
        let listpack = node.listpack();
        let bytes = listpack.bytes();
        let offset = listpack::seek(bytes, at).expect("the index is in the node");
        let tail = listpack::from_values(listpack::iter_between(bytes, offset, listpack::end(bytes)));
        let tail = Node::packed(tail.into_boxed_slice());
        listpack::delete(listpack, offset, moved);
        self.count_down(spot, moved);
        self.add_node(Spot { node: spot.node + 1, ..spot }, tail);
    }

    /// Removes the elements at these offsets of a node, and gives the node to look at next.
    fn remove_in_node(
        &mut self,
        spot: Spot,
        offsets: &[usize],
        direction: Direction,
        limits: &Limits,
    ) -> Option<Spot> {
        let before = self.before(spot);
        if offsets.len() == self.node(spot).len() {
            let chunks = self.chunks.len();
            let last = self.after(spot).is_none();
            let last_of_chunk = spot.node + 1 == self.chunks[spot.chunk].nodes.len();
            self.drop_node(spot);
            return match direction {
                Direction::Backward => before,
                Direction::Forward if last => None,
                // The next node took this one's place, or the next chunk took the chunk's.
                Direction::Forward if !last_of_chunk => Some(spot),
                Direction::Forward if self.chunks.len() < chunks => Some(Spot { chunk: spot.chunk, node: 0 }),
                Direction::Forward => Some(Spot { chunk: spot.chunk + 1, node: 0 }),
            };
        }
        if !offsets.is_empty() {
            let listpack = self.node_mut(spot).listpack();
            offsets.iter().rev().for_each(|at| listpack::delete(listpack, *at, 1));
            self.count_down(spot, offsets.len());
            if limits.compress_depth > 0 && !self.is_edge(spot, limits) {
                self.node_mut(spot).pack();
            }
        }
        match direction {
            Direction::Forward => self.after(spot),
            Direction::Backward => before,
        }
    }

    // ---- merging and compression ----

    /// After a change around an index: merges nodes that have become small, then `settle`.
    fn settle_around(&mut self, index: usize, limits: &Limits) {
        let Some((spot, _)) = self.locate(index.min(self.len.saturating_sub(1))) else { return };
        // Both neighbours of the place may be halves of a node that was split.
        let spot =
            self.before(spot).map_or(spot, |before| self.merge_with_next(before, limits).unwrap_or(spot));
        let spot = self.merge_with_next(spot, limits).unwrap_or(spot);
        let next = self.after(spot);
        self.settle(Some(spot), limits);
        for other in [self.before(spot), next].into_iter().flatten() {
            self.settle(Some(other), limits);
        }
    }

    /// Merges a node with the next one if both fit into one; gives the place of the result.
    fn merge_with_next(&mut self, spot: Spot, limits: &Limits) -> Option<Spot> {
        let next = self.after(spot)?;
        if !self.node(spot).can_merge(self.node(next), limits) {
            return None;
        }
        let (mut scratch, count) = (Vec::new(), self.node(next).len());
        let raw = listpack::raw(self.node(next).contents(&mut scratch)).to_vec();
        self.drop_node(next);
        let node = self.node_mut(spot);
        let listpack = node.listpack();
        let end = listpack::end(listpack.bytes());
        listpack::splice_raw(listpack, end, end, 0, &raw, count);
        node.count += count as u32;
        self.chunks[spot.chunk].len += count;
        self.len += count;
        Some(spot)
    }

    /// Keeps nodes at the ends unpacked, and packs those that have just moved away from them and the one
    /// that was touched.
    fn settle(&mut self, touched: Option<Spot>, limits: &Limits) {
        let depth = limits.compress_depth as usize;
        if depth == 0 || self.nodes == 0 {
            return;
        }
        if let Some(spot) = touched.filter(|spot| !self.is_edge(*spot, limits)) {
            self.node_mut(spot).pack();
        }
        let mut front = Some(Spot { chunk: 0, node: 0 });
        let mut back = self.last_spot();
        for i in 0..=depth.min(self.nodes) {
            let inner = i == depth && self.nodes > 2 * depth;
            for spot in [front, back].into_iter().flatten() {
                if inner {
                    self.node_mut(spot).pack();
                } else if i < depth {
                    self.node_mut(spot).unpack();
                }
            }
            front = front.and_then(|spot| self.after(spot));
            back = back.and_then(|spot| self.before(spot));
        }
    }

    /// Whether the node is one of those at the ends that are not compressed.
    fn is_edge(&self, spot: Spot, limits: &Limits) -> bool {
        let nodes_before: usize = self.chunks.iter().take(spot.chunk).map(|chunk| chunk.nodes.len()).sum();
        let index = nodes_before + spot.node;
        let depth = limits.compress_depth as usize;
        index < depth || self.nodes - 1 - index < depth
    }

    /// Checks counts and nodes (tests).
    #[cfg(test)]
    fn check(&self, limits: &Limits) {
        assert_eq!(self.nodes().map(Node::len).sum::<usize>(), self.len);
        assert_eq!(self.nodes().count(), self.nodes);
        for chunk in &self.chunks {
            assert!(!chunk.nodes.is_empty() && chunk.nodes.len() <= CHUNK_MAX);
            assert_eq!(chunk.nodes.iter().map(Node::len).sum::<usize>(), chunk.len);
        }
        let depth = limits.compress_depth as usize;
        for (i, node) in self.nodes().enumerate() {
            let mut scratch = vec![];
            let bytes = node.contents(&mut scratch);
            assert!(node.is_plain() || (listpack::is_valid(bytes) && listpack::len(bytes) == node.len()));
            let edge = i < depth || self.nodes - 1 - i < depth;
            assert!(node.lzf().is_none() || !edge, "nodes at the ends are unpacked");
        }
    }
}

impl Chunk {
    /// Cuts the second half off.
    fn split(&mut self) -> Chunk {
        let nodes = self.nodes.split_off(CHUNK_MAX / 2);
        let len = nodes.iter().map(Node::len).sum();
        self.len -= len;
        Chunk { nodes, len }
    }
}

/// In which of some counts the item of this index is, and its index there.
#[inline]
fn find(counts: impl Iterator<Item = usize>, mut index: usize) -> (usize, usize) {
    for (i, count) in counts.enumerate() {
        if index < count {
            return (i, index);
        }
        index -= count;
    }
    unreachable!("the index is below the sum of the counts")
}

/// Shows the elements of a node from an index on; false when `each` has said false.
#[inline]
fn walk_node(
    node: &Node,
    bytes: &[u8],
    index: usize,
    direction: Direction,
    each: &mut impl FnMut(Value<'_>) -> bool,
) -> bool {
    if node.is_plain() {
        return each(Value::new(bytes));
    }
    let at = listpack::seek(bytes, index).expect("the index is in the node");
    match direction {
        Direction::Forward => listpack::iter_between(bytes, at, listpack::end(bytes)).all(each),
        Direction::Backward => {
            let (front, _) = listpack::advance(bytes, at, 1);
            listpack::iter_between(bytes, listpack::first(bytes).unwrap_or(at), front).rev().all(each)
        }
    }
}

/// Offsets of the elements of a node that equal `element`.
fn matches_in(node: &Node, bytes: &[u8], element: &[u8]) -> Vec<usize> {
    if node.is_plain() {
        return if bytes == element { vec![0] } else { vec![] };
    }
    let wanted = Value::new(element);
    listpack::offsets(bytes).filter(|at| listpack::get(bytes, *at) == wanted).collect()
}
