//! Streams: entries in the order of their IDs, packed into nodes, and the groups that read them. Knows no
//! command. A stream may be empty and stays.
//!
//! - `id`: IDs. `node`: the bytes of one node. `nodes`: all nodes. `group`: consumer groups.
//! - Reading goes through [`view`], changing through [`view_mut`]. [`Stream::load_node`] and its like build a
//!   stream from a file.

mod group;
mod id;
mod node;
mod nodes;
#[cfg(test)]
mod tests;

pub use group::{Consumer, ConsumerId, Deliveries, Group, Pending};
pub use id::{Id, Text};
pub use node::{Fields, Item};
pub use nodes::Range;

use super::{Direction, Entry, Object, Unfit};
use crate::collections::entry::{NewPayload, Payload, PayloadMut};
use crate::collections::listpack;
use crate::collections::relocate::relocate_vec;
use crate::config::Config;
use crate::sys::defrag::Mover;
use nodes::Nodes;
use std::borrow::Cow;

/// Fields and values of an entry may not be longer in all than this, in bytes.
pub const ENTRY_BYTES_MAX: usize = 1 << 30;
/// A node is not made longer than this, whatever the limits are, in bytes.
const NODE_BYTES_MAX: usize = 1 << 30;

/// When a node is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a node; 0: no limit.
    pub node_max_bytes: usize,
    /// Entries of a node, deleted ones counted; 0: no limit.
    pub node_max_entries: u64,
}

impl Limits {
    /// As configured.
    pub fn from_config(config: &Config) -> Limits {
        Limits {
            node_max_bytes: config.stream_node_max_bytes,
            node_max_entries: config.stream_node_max_entries as u64,
        }
    }

    fn is_full(&self, lp: &[u8], adding: usize) -> bool {
        let max_bytes = match self.node_max_bytes {
            0 => NODE_BYTES_MAX,
            bytes => bytes.min(NODE_BYTES_MAX),
        };
        if lp.len() + adding >= max_bytes {
            return true;
        }
        let head = node::head(lp);
        self.node_max_entries != 0 && head.live + head.deleted >= self.node_max_entries
    }
}

/// What a stream knows of itself besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Number of entries.
    pub len: u64,
    /// ID of the first entry; the lowest ID when there is none.
    pub first_id: Id,
    /// The highest ID that ever was, or a higher one that was set.
    pub last_id: Id,
    /// The highest ID that XDEL deleted.
    pub max_deleted_id: Id,
    /// Number of entries that were ever added.
    pub entries_added: u64,
}

impl Meta {
    /// Whether there may be a hole among the entries from `start` on.
    fn has_hole_from(&self, start: Id) -> bool {
        self.len > 0
            && self.max_deleted_id != Id::MIN
            && self.first_id <= self.max_deleted_id
            && start <= self.max_deleted_id
    }

    /// The number of entries ever added up to this ID; none where that cannot be told.
    pub fn entries_up_to(&self, id: Id) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if id == self.last_id || (self.len == 0 && id < self.last_id) {
            return Some(self.entries_added);
        }
        let holes = self.max_deleted_id != Id::MIN && self.max_deleted_id >= self.first_id;
        if id > self.last_id || holes || id > self.first_id {
            return None;
        }
        let before = self.entries_added.wrapping_sub(self.len);
        Some(before.wrapping_add(u64::from(id == self.first_id)))
    }

    /// The number of entries that a group has not read yet; none where that cannot be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_hole_from(group.last_id) => read,
            _ => self.entries_up_to(group.last_id)?,
        };
        Some(self.entries_added.wrapping_sub(read) as i64)
    }

    /// Moves a group on to an entry that is delivered to it.
    fn advance(&self, group: &mut Group, id: Id) {
        match &mut group.entries_read {
            Some(read) if !self.has_hole_from(id) => *read += 1,
            read if self.entries_added > 0 => *read = self.entries_up_to(id),
            _ => {}
        }
        group.last_id = id;
    }
}

/// The ID that an entry is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// The time, or the next one after the last ID.
    Auto,
    /// The next one of these milliseconds.
    AutoSeq(u64),
    /// This one.
    Given(Id),
}

/// What a trimmed stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many entries, the last ones.
    Len(u64),
    /// Entries from this ID on.
    From(Id),
}

/// How exactly a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Exactly.
    Exact,
    /// By whole nodes; at most so many entries (0: no limit).
    Nodes(u64),
}

/// A stream.
#[derive(Clone, Default)]
pub struct Stream {
    nodes: Nodes,
    meta: Meta,
    /// By name.
    groups: Vec<Group>,
}

/// The stream of an entry, which must hold one.
#[inline]
pub fn view(entry: &Entry) -> &Stream {
    match entry.payload() {
        Payload::Object(Object::Stream(stream)) => stream,
        _ => unreachable!("a stream is an object"),
    }
}

/// The same, to be changed.
#[inline]
pub fn view_mut(entry: &mut Entry) -> &mut Stream {
    match entry.payload_mut() {
        PayloadMut::Object(Object::Stream(stream)) => stream,
        _ => unreachable!("a stream is an object"),
    }
}

/// A stream, to be stored.
pub fn payload(stream: Stream) -> NewPayload<'static, Object> {
    NewPayload::Object(Box::new(Object::Stream(Box::new(stream))))
}

impl Stream {
    /// What it knows of itself.
    #[inline]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> u64 {
        self.meta.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.meta.len == 0
    }

    // ---- entries ----

    /// The ID that a new entry gets; none when the wanted one is not higher than the last ID.
    #[inline]
    pub fn next_id(&self, wanted: NewId, now_ms: i64) -> Option<Id> {
        let last = self.meta.last_id;
        let id = match wanted {
            NewId::Auto if now_ms as u64 > last.ms => Id::new(now_ms as u64, 0),
            NewId::Auto => last.next()?,
            NewId::AutoSeq(ms) if ms == last.ms => Id::new(ms, last.seq.checked_add(1)?),
            NewId::AutoSeq(ms) => Id::new(ms, 0),
            NewId::Given(id) => id,
        };
        (id > last).then_some(id)
    }

    /// Appends an entry. Its ID must be higher than the last one, its fields and values no longer in all than
    /// [`ENTRY_BYTES_MAX`].
    pub fn append<'a>(
        &mut self,
        limits: &Limits,
        id: Id,
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    ) {
        debug_assert!(id > self.meta.last_id);
        let adding: usize = pairs.clone().map(|(field, value)| field.len() + value.len()).sum();
        match self.nodes.tail_mut().filter(|(_, lp)| !limits.is_full(lp, adding)) {
            Some((master, lp)) => node::append(lp, master, id, pairs),
            None => self.nodes.push(id, node::create(id, pairs, self.nodes.room())),
        }
        self.meta.len += 1;
        self.meta.entries_added += 1;
        self.meta.last_id = id;
        if self.meta.len == 1 {
            self.meta.first_id = id;
        }
    }

    /// The entry with this ID.
    pub fn get(&self, id: Id) -> Option<Item<'_>> {
        self.nodes.get(id)
    }

    /// The entries between two IDs, both included.
    pub fn range(&self, start: Id, end: Id, direction: Direction) -> Range<'_> {
        self.nodes.range(start, end, direction)
    }

    /// The last entry's ID.
    pub fn last_entry_id(&self) -> Option<Id> {
        self.range(Id::MIN, Id::MAX, Direction::Backward).next().map(|item| item.id)
    }

    /// The ID of the first entry, deleted or not, that is still there.
    pub fn first_kept_id(&self) -> Option<Id> {
        let (master, lp) = self.nodes.first()?;
        node::Walk::forward(lp, master).next().map(|item| item.id)
    }

    /// Deletes an entry; false when it is not there. [`Stream::settle`] has to follow.
    pub fn delete(&mut self, id: Id) -> bool {
        let found = self.nodes.delete(id);
        if found {
            self.meta.len -= 1;
            self.meta.max_deleted_id = self.meta.max_deleted_id.max(id);
        }
        found
    }

    /// Finds the first entry again after some were deleted.
    pub fn settle(&mut self) {
        if self.meta.len == 0 || self.nodes.get(self.meta.first_id).is_none() {
            let first = self.range(Id::MIN, Id::MAX, Direction::Forward).next();
            self.meta.first_id = first.map_or(Id::MIN, |item| item.id);
        }
    }

    /// Removes entries from the front; says how many.
    pub fn trim(&mut self, keep: Keep, precision: Precision) -> u64 {
        let mut deleted = 0;
        while let Some((master, lp)) = self.nodes.first() {
            if matches!(keep, Keep::Len(max) if self.meta.len <= max) {
                break;
            }
            let live = node::head(lp).live;
            if matches!(precision, Precision::Nodes(limit) if limit != 0 && deleted + live > limit) {
                break;
            }
            let whole = match keep {
                Keep::Len(max) => self.meta.len - live >= max,
                Keep::From(id) => node::Walk::backward(lp, master).prev().is_none_or(|last| last.id < id),
            };
            if !whole && precision != Precision::Exact {
                break;
            }
            if whole {
                self.nodes.remove(master);
                self.meta.len -= live;
                deleted += live;
                continue;
            }
            let len = self.meta.len;
            let from_node = self.nodes.delete_front(master, |id, deleted| match keep {
                Keep::Len(max) => len - deleted <= max,
                Keep::From(min) => id >= min,
            });
            self.meta.len -= from_node;
            deleted += from_node;
            break;
        }
        if deleted > 0 {
            self.settle();
        }
        deleted
    }

    /// Sets the last ID, and the other two where they are given.
    pub fn set_id(&mut self, last_id: Id, entries_added: Option<u64>, max_deleted_id: Option<Id>) {
        self.meta.last_id = last_id;
        self.meta.entries_added = entries_added.unwrap_or(self.meta.entries_added);
        self.meta.max_deleted_id = max_deleted_id.unwrap_or(self.meta.max_deleted_id);
    }

    // ---- groups ----

    /// The groups, ordered by name.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.groups.binary_search_by(|group| group.name().cmp(name))
    }

    /// The group of this name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.place(name).ok().map(|at| &self.groups[at])
    }

    /// The same, to be changed.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.place(name).ok().map(|at| &mut self.groups[at])
    }

    /// Adds a group; none when the name is taken.
    pub fn create_group(
        &mut self,
        name: &[u8],
        last_id: Id,
        entries_read: Option<u64>,
    ) -> Option<&mut Group> {
        let at = self.place(name).err()?;
        self.groups.insert(at, Group::new(name, last_id, entries_read));
        Some(&mut self.groups[at])
    }

    /// Removes a group; what it was.
    pub fn remove_group(&mut self, name: &[u8]) -> Option<Group> {
        self.place(name).ok().map(|at| self.groups.remove(at))
    }

    /// Delivers up to `count` entries (0: all) that a group has not read yet, showing each after the group
    /// has moved on to it. Without a consumer they do not become pending.
    pub fn deliver(
        &mut self,
        group: &[u8],
        consumer: Option<ConsumerId>,
        count: usize,
        now_ms: i64,
        each: &mut dyn FnMut(&Item<'_>, &Group),
    ) {
        let Ok(at) = self.place(group) else { return };
        let Stream { nodes, meta, groups } = self;
        let group = &mut groups[at];
        let Some(start) = group.last_id.next() else { return };
        let limit = if count == 0 { usize::MAX } else { count };
        for item in nodes.range(start, Id::MAX, Direction::Forward).take(limit) {
            meta.advance(group, item.id);
            if let Some(consumer) = consumer {
                group.deliver(item.id, consumer, now_ms);
            }
            each(&item, group);
        }
    }

    /// Shows a consumer up to `count` (0: all) of the IDs from `start` on that are pending for it, with their
    /// entries as far as these are still there.
    pub fn deliver_again(
        &mut self,
        group: &[u8],
        consumer: ConsumerId,
        start: Id,
        count: usize,
        now_ms: i64,
        each: &mut dyn FnMut(Id, Option<Item<'_>>),
    ) {
        let Ok(at) = self.place(group) else { return };
        let group = &mut self.groups[at];
        let limit = if count == 0 { usize::MAX } else { count };
        let ids: Vec<Id> = group.consumer(consumer).pending(start).take(limit).collect();
        for id in ids {
            let item = self.nodes.get(id);
            if item.is_some() {
                group.deliver_again(id, now_ms);
            }
            each(id, item);
        }
    }

    // ---- nodes, as files hold them ----

    /// Number of nodes.
    pub fn nodes_len(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes: master ID and listpack. See the head of `node.rs` for what is in them.
    pub fn nodes(&self) -> impl Iterator<Item = (Id, &[u8])> + '_ {
        self.nodes.iter(Id::MIN)
    }

    /// Adds a node behind all others, which must have lower IDs. Its bytes are checked. One without a live
    /// entry is passed over. The entries are counted, and the last and first ID follow them;
    /// [`Stream::load_meta`] has the last word.
    pub fn load_node(&mut self, master: Id, bytes: &[u8]) -> Result<(), Unfit> {
        let lp = listpack::adopt(bytes).ok_or(Unfit)?;
        let last = node::check(&lp, master).ok_or(Unfit)?;
        let behind = match self.nodes.tail() {
            Some(_) => master > self.meta.last_id,
            None => true,
        };
        if !behind {
            return Err(Unfit);
        }
        let live = node::head(&lp).live;
        self.meta.last_id = last;
        if live == 0 {
            return Ok(());
        }
        self.nodes.push(master, Cow::into_owned(lp));
        self.meta.len += live;
        self.meta.entries_added += live;
        if self.meta.len == live {
            self.settle();
        }
        Ok(())
    }

    /// Sets what a file says of the stream. Its length must be that of the nodes, its last ID not below
    /// theirs. The first ID is not taken from the file: it follows from the nodes.
    pub fn load_meta(&mut self, meta: Meta) -> Result<(), Unfit> {
        let fits = meta.len == self.meta.len && self.last_entry_id().is_none_or(|id| id <= meta.last_id);
        if !fits {
            return Err(Unfit);
        }
        self.meta = Meta { first_id: self.meta.first_id, ..meta };
        Ok(())
    }

    // ---- active defragmentation ----

    /// Moves the blocks of some nodes; see [`Nodes::relocate_some`].
    pub(super) fn relocate_nodes(&mut self, from: Id, mover: &mut Mover) -> Option<Id> {
        self.nodes.relocate_some(from, mover)
    }

    /// Moves the blocks of some consumers of a group, from a slot on, with the first the list of groups.
    /// Gives the group and slot to go on from.
    pub(super) fn relocate_group(
        &mut self,
        (group, slot): (usize, usize),
        mover: &mut Mover,
    ) -> Option<(usize, usize)> {
        if (group, slot) == (0, 0) {
            relocate_vec(&mut self.groups, mover);
        }
        match self.groups.get_mut(group)?.relocate_some(slot, mover) {
            Some(slot) => Some((group, slot)),
            None => (group + 1 < self.groups.len()).then_some((group + 1, 0)),
        }
    }

    // ---- figures ----

    /// Allocations that freeing it takes, about.
    pub fn free_effort(&self) -> usize {
        self.nodes.len() + self.groups.iter().map(Group::parts).sum::<usize>()
    }

    /// Bytes of memory beside the entry's: of the nodes, `samples` are measured (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        size_of::<Stream>()
            + self.nodes.memory_bytes(samples)
            + self.groups.capacity() * size_of::<Group>()
            + self.groups.iter().map(Group::memory_bytes).sum::<usize>()
    }

    /// Panics unless everything agrees with everything.
    #[cfg(test)]
    fn check(&self) {
        let mut live = 0;
        for (master, lp) in self.nodes() {
            assert!(listpack::is_valid(lp));
            let last = node::check(lp, master).expect("a node of ours is one");
            assert!(last <= self.meta.last_id && node::head(lp).live > 0);
            live += node::head(lp).live;
        }
        assert_eq!(live, self.meta.len);
        let first = self.range(Id::MIN, Id::MAX, Direction::Forward).next();
        assert_eq!(first.map_or(Id::MIN, |item| item.id), self.meta.first_id);
        self.groups.iter().for_each(Group::check);
    }
}

/// Bytes that a tree of the standard library takes, about: its nodes have room for 11 pairs and are half full
/// after appending.
fn tree_bytes<K, V>(len: usize) -> usize {
    const FILL: usize = 6;
    const ROOM: usize = 11;
    /// Links and lengths of a node.
    const LINKS: usize = 16;
    len.div_ceil(FILL) * (ROOM * (size_of::<K>() + size_of::<V>()) + LINKS)
}
