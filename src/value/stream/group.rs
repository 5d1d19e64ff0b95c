//! A consumer group: how far it has read, its consumers, and what was delivered to them and not yet
//! acknowledged (*pending*). Knows no entries: an ID may be pending that is no longer in the stream.
//!
//! Consumers have numbers for as long as they are there; a pending ID names its consumer by number.

use super::id::Id;
use crate::collections::relocate::{rebuild_map, rebuild_set, relocate_slice, relocate_vec};
use crate::sys::defrag::Mover;
use crate::value::Unfit;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A consumer of a group. Valid until the consumer is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(u32);

impl ConsumerId {
    /// Stands for no consumer while a group is built from a file.
    const NOBODY: ConsumerId = ConsumerId(u32::MAX);
}

/// Who reads.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Box<[u8]>,
    /// Milliseconds since 1970 at which it last asked for something.
    pub seen_ms: i64,
    /// Milliseconds since 1970 at which it last got something; none: never.
    pub active_ms: Option<i64>,
    pending: BTreeSet<Id>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Number of its pending IDs.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Its pending IDs from one on.
    pub fn pending(&self, from: Id) -> impl Iterator<Item = Id> + '_ {
        self.pending.range(from..).copied()
    }
}

/// A pending ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// To whom it was delivered.
    pub consumer: ConsumerId,
    /// When, in milliseconds since 1970.
    pub delivered_ms: i64,
    /// How often.
    pub deliveries: u64,
}

/// What a claim does to the number of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deliveries {
    /// One more.
    Count,
    /// None.
    Keep,
    /// Sets it.
    Set(u64),
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct Group {
    name: Box<[u8]>,
    /// The last ID that was delivered.
    pub last_id: Id,
    /// Number of entries of the stream up to it, deleted ones counted; none when that is not known.
    pub entries_read: Option<u64>,
    pending: BTreeMap<Id, Pending>,
    slots: Vec<Option<Consumer>>,
    /// Numbers of the consumers, by name.
    order: Vec<ConsumerId>,
    /// Numbers that are free.
    free: Vec<ConsumerId>,
}

impl Group {
    /// A group without consumers.
    pub(super) fn new(name: &[u8], last_id: Id, entries_read: Option<u64>) -> Group {
        Group {
            name: name.into(),
            last_id,
            entries_read,
            pending: BTreeMap::new(),
            slots: Vec::new(),
            order: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    // ---- consumers ----

    fn slot(&self, id: ConsumerId) -> &Consumer {
        self.slots[id.0 as usize].as_ref().expect("a consumer is there until it is removed")
    }

    /// A consumer.
    pub fn consumer(&self, id: ConsumerId) -> &Consumer {
        self.slot(id)
    }

    /// A consumer, to note when it was seen.
    pub fn consumer_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        self.slots[id.0 as usize].as_mut().expect("a consumer is there until it is removed")
    }

    /// Number of consumers.
    pub fn consumers_len(&self) -> usize {
        self.order.len()
    }

    /// The consumers, ordered by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> + '_ {
        self.order.iter().map(|id| self.slot(*id))
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.order.binary_search_by(|id| (*self.slot(*id).name).cmp(name))
    }

    /// The consumer of this name.
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.place(name).ok().map(|at| self.order[at])
    }

    /// Adds a consumer that was seen at a time and never got anything; none when the name is taken.
    pub fn create_consumer(&mut self, name: &[u8], seen_ms: i64) -> Option<ConsumerId> {
        let at = self.place(name).err()?;
        let consumer = Consumer { name: name.into(), seen_ms, active_ms: None, pending: BTreeSet::new() };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.0 as usize] = Some(consumer);
                id
            }
            None => {
                self.slots.push(Some(consumer));
                ConsumerId(u32::try_from(self.slots.len() - 1).expect("fewer consumers than 4 billion"))
            }
        };
        self.order.insert(at, id);
        Some(id)
    }

    /// Removes a consumer with all that is pending for it; says how much that was.
    pub fn remove_consumer(&mut self, id: ConsumerId) -> usize {
        let at = self.place(&self.slot(id).name).expect("a consumer stands in the order");
        self.order.remove(at);
        let consumer = self.slots[id.0 as usize].take().expect("the consumer was just there");
        self.free.push(id);
        consumer.pending.iter().for_each(|entry| {
            self.pending.remove(entry);
        });
        consumer.pending.len()
    }

    // ---- pending IDs ----

    /// Number of pending IDs.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// A pending ID.
    pub fn get_pending(&self, id: Id) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// The pending IDs from one on.
    pub fn pending(&self, from: Id) -> impl Iterator<Item = (Id, &Pending)> + '_ {
        self.pending.range(from..).map(|(id, pending)| (*id, pending))
    }

    /// The lowest and the highest pending ID.
    pub fn pending_bounds(&self) -> Option<(Id, Id)> {
        Some((*self.pending.first_key_value()?.0, *self.pending.last_key_value()?.0))
    }

    /// The first pending ID from a bound on.
    pub fn next_pending(&self, from: Bound<Id>) -> Option<Id> {
        self.pending.range((from, Bound::Unbounded)).next().map(|(id, _)| *id)
    }

    /// Delivers an entry for the first time; if it is pending (the group was set back), it becomes this
    /// consumer's.
    pub fn deliver(&mut self, id: Id, consumer: ConsumerId, now_ms: i64) {
        let new = Pending { consumer, delivered_ms: now_ms, deliveries: 1 };
        let old = self.pending.insert(id, new);
        if let Some(old) = old.filter(|old| old.consumer != consumer) {
            self.consumer_mut(old.consumer).pending.remove(&id);
        }
        let consumer = self.consumer_mut(consumer);
        consumer.pending.insert(id);
        consumer.active_ms = Some(now_ms);
    }

    /// Notes that a consumer was shown an ID again that is pending for it.
    pub fn deliver_again(&mut self, id: Id, now_ms: i64) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.delivered_ms = now_ms;
            pending.deliveries += 1;
        }
    }

    /// Makes an ID pending for a consumer, whether it was pending for another one, for this one, or not at
    /// all; then it counts as delivered once before. What is pending now is given.
    pub fn claim(
        &mut self,
        id: Id,
        consumer: ConsumerId,
        delivered_ms: i64,
        deliveries: Deliveries,
        now_ms: i64,
    ) -> Pending {
        let old = self.pending.get(&id).copied();
        let before = old.map_or(1, |old| old.deliveries);
        let deliveries = match deliveries {
            Deliveries::Count => before.saturating_add(1),
            Deliveries::Keep => before,
            Deliveries::Set(n) => n,
        };
        let new = Pending { consumer, delivered_ms, deliveries };
        self.pending.insert(id, new);
        if let Some(old) = old.filter(|old| old.consumer != consumer) {
            self.consumer_mut(old.consumer).pending.remove(&id);
        }
        let consumer = self.consumer_mut(consumer);
        consumer.pending.insert(id);
        consumer.active_ms = Some(now_ms);
        new
    }

    /// Takes an ID off the pending ones; what it was.
    pub fn acknowledge(&mut self, id: Id) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.consumer_mut(pending.consumer).pending.remove(&id);
        Some(pending)
    }

    // ---- building from a file ----

    /// Adds a pending ID that [`Group::assign`] will give to a consumer: files have those of a group first,
    /// then the consumers with their IDs.
    pub fn load_pending(&mut self, id: Id, delivered_ms: i64, deliveries: u64) -> Result<(), Unfit> {
        let pending = Pending { consumer: ConsumerId::NOBODY, delivered_ms, deliveries };
        self.pending.insert(id, pending).map_or(Ok(()), |_| Err(Unfit))
    }

    /// Gives a pending ID that was loaded to a consumer.
    pub fn assign(&mut self, id: Id, consumer: ConsumerId) -> Result<(), Unfit> {
        let pending = self.pending.get_mut(&id).ok_or(Unfit)?;
        if pending.consumer != ConsumerId::NOBODY {
            return Err(Unfit);
        }
        pending.consumer = consumer;
        self.consumer_mut(consumer).pending.insert(id);
        Ok(())
    }

    /// Whether every pending ID belongs to a consumer: what a file holds has to end like this.
    pub fn is_whole(&self) -> bool {
        self.pending.values().all(|pending| pending.consumer != ConsumerId::NOBODY)
    }

    /// Moves its blocks and those of some consumers from a slot on, for active defragmentation. Trees of
    /// pending IDs are built anew when they are small; big ones stay where they are. Gives the slot to go on
    /// from.
    pub(super) fn relocate_some(&mut self, from: usize, mover: &mut Mover) -> Option<usize> {
        /// Elements of trees, and consumers, that are looked at together.
        const ELEMENTS: usize = 256;
        if from == 0 {
            relocate_slice(&mut self.name, mover);
            rebuild_map(&mut self.pending, mover);
            relocate_vec(&mut self.slots, mover);
            relocate_vec(&mut self.order, mover);
            relocate_vec(&mut self.free, mover);
        }
        let mut elements = 0;
        for slot in from..self.slots.len() {
            if elements >= ELEMENTS {
                return Some(slot);
            }
            elements += 1;
            let Some(consumer) = &mut self.slots[slot] else { continue };
            relocate_slice(&mut consumer.name, mover);
            rebuild_set(&mut consumer.pending, mover);
            elements += consumer.pending.len();
        }
        None
    }

    // ---- figures ----

    /// Allocations that freeing it takes, about.
    pub(super) fn parts(&self) -> usize {
        self.pending.len() + self.order.len()
    }

    /// Bytes of memory beside its own struct.
    pub(super) fn memory_bytes(&self) -> usize {
        let consumers = self
            .consumers()
            .map(|consumer| consumer.name.len() + super::tree_bytes::<Id, ()>(consumer.pending.len()));
        self.name.len()
            + super::tree_bytes::<Id, Pending>(self.pending.len())
            + self.slots.capacity() * size_of::<Option<Consumer>>()
            + (self.order.capacity() + self.free.capacity()) * size_of::<ConsumerId>()
            + consumers.sum::<usize>()
    }

    /// Panics unless group and consumers agree on what is pending.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let of_consumers: usize = self.consumers().map(Consumer::pending_len).sum();
        assert_eq!(of_consumers, self.pending.len());
        for (id, pending) in &self.pending {
            assert!(self.slot(pending.consumer).pending.contains(id));
        }
        assert!(self.order.is_sorted_by_key(|id| &self.slot(*id).name));
    }
}
