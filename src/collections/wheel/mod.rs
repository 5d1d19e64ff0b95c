//! A hierarchical timing wheel that remembers only the 64-bit hash of what is due: 8 bytes an item. The truth
//! (does the key still live, when does it end) is asked from the owner when an item comes up, so that a
//! deadline can be prolonged or removed without touching the wheel. It knows no clock and no keys.
//!
//! How it works:
//! - Level 0 has slots of 1 ms, and a slot of each higher level is as long as 128 of the level below; six
//!   levels of 256 slots reach 278 years ahead, and what is later waits in one list.
//! - An item is filed in the lowest level where its deadline is less than 256 slots ahead.
//! - The items of a slot of a higher level are moved down while the slot before it passes. As two slots are
//!   just the 256 slots of the level below, they fit there from the first moment on; a million items in one
//!   slot are therefore spread over all that time and have their exact place long before they are due.
//! - All work is counted in items and bounded by the caller's budget.
//!
//! The owner's duties: file an item when a key gets a deadline that is earlier than the one (if any) its
//! item was filed for; nothing when a deadline is prolonged or removed. A hash may be filed more than once;
//! `compact` removes such duplicates when there are too many.
//!
//! Source of the idea: Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987.

mod chain;
mod relocate;
#[cfg(test)]
mod tests;

pub use relocate::Cursor as RelocateCursor;

use chain::{CHUNK_BYTES, Chain, Chunks};
use std::collections::VecDeque;

const LEVELS: usize = 6;
const SLOTS: usize = 256;
/// A slot of level k is 2^(k * STEP) ms long.
const STEP: u32 = 7;
/// A clock that goes back by less than this many ms is taken to stand still; beyond it all items are asked
/// for their deadlines again.
const BACKWARD_TOLERANCE_MS: i64 = 1000;
/// Items beyond the last level are looked at again after this many of its slots: well before the 256 that
/// it can tell apart.
const FAR_SLOTS: i64 = 128;

/// 2^64 divided by the golden ratio: spreads small numbers over all bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whether more work is waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// Nothing is left to do now.
    Idle,
    /// The budget is used up and there is more to do: call again soon.
    More,
}

/// The slots of one level.
struct Level {
    slots: [Chain; SLOTS],
    /// One bit a slot: not empty.
    occupied: [u64; SLOTS / 64],
}

impl Level {
    fn new() -> Box<Level> {
        Box::new(Level { slots: [Chain::EMPTY; SLOTS], occupied: [0; SLOTS / 64] })
    }

    fn mark(&mut self, slot: usize) {
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    fn unmark(&mut self, slot: usize) {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
    }

    /// How many slots after `from` (around the end) the first occupied one is, if any.
    fn distance_from(&self, from: usize) -> Option<usize> {
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (from / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (from % 64);
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                return Some((slot + SLOTS - from) % SLOTS);
            }
        }
        None
    }
}

/// Chains taken out of their slots, to be filed again by truth; and, while duplicates are being removed,
/// which hashes are surely filed already.
#[derive(Default)]
struct Refiling {
    /// Each with the time at which its items need attention, earliest first.
    chains: VecDeque<(i64, Chain)>,
    seen: Option<Box<Seen>>,
}

/// A hash at its place means: the slots hold an item for it, or its key was gone. Places are shared, so a
/// hash can be forgotten; then its duplicate stays for the next sweep, in which other hashes share places.
struct Seen {
    places: Vec<u64>,
    /// Odd; another one in each sweep.
    factor: u64,
}

impl Seen {
    fn place_of(&self, hash: u64) -> usize {
        (hash.wrapping_mul(self.factor) >> 32) as usize & (self.places.len() - 1)
    }
}

impl Refiling {
    fn note(&mut self, hash: u64) {
        if let Some(seen) = &mut self.seen {
            let place = seen.place_of(hash);
            seen.places[place] = hash;
        }
    }

    /// Whether an item of this hash is superfluous. Hash 0 is the mark of a free place.
    fn knows(&self, hash: u64) -> bool {
        self.seen.as_ref().is_some_and(|seen| hash != 0 && seen.places[seen.place_of(hash)] == hash)
    }
}

/// The wheel. Times are milliseconds since any epoch, from 0 up.
pub struct Wheel {
    /// The wheel's time: everything due before it was handed out.
    now: i64,
    /// No slot needs attention before this time.
    next_event: i64,
    levels: [Option<Box<Level>>; LEVELS],
    far: Chain,
    far_event: i64,
    refiling: Refiling,
    /// How often `compact` has begun.
    sweeps: u64,
    len: usize,
    chunks: usize,
}

impl Wheel {
    /// An empty wheel; it allocates nothing.
    pub fn new(now_ms: i64) -> Self {
        Wheel {
            now: now_ms.max(0),
            next_event: i64::MAX,
            levels: [const { None }; LEVELS],
            far: Chain::EMPTY,
            far_event: i64::MAX,
            refiling: Refiling::default(),
            sweeps: 0,
            len: 0,
            chunks: 0,
        }
    }

    /// Number of items, duplicates included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes the wheel has allocated.
    pub fn memory_bytes(&self) -> usize {
        let levels = self.levels.iter().flatten().count() * size_of::<Level>();
        let chains = self.refiling.chains.capacity() * size_of::<(i64, Chain)>();
        let seen = self.refiling.seen.as_ref().map_or(0, |seen| seen.places.len() * size_of::<u64>());
        self.chunks * CHUNK_BYTES + levels + chains + seen
    }

    /// Shows about `n` items from random places; stale ones are among them. For choosing keys to evict and
    /// for estimates: quick, and only roughly uniform.
    pub fn sample(&self, random: &mut dyn FnMut() -> u64, n: usize, visit: &mut dyn FnMut(u64)) {
        const PER_SLOT: usize = 4;
        /// A long chain is walked down for up to 2^this chunks, seldom so far: the cost stays small on the
        /// average, and what lies deep is seen sometimes.
        const SKIP_BITS_MAX: u64 = 12;
        let mut left = n;
        let mut show = |chain: &Chain, random: &mut dyn FnMut() -> u64| {
            let skip = random() & ((1 << (random() % (SKIP_BITS_MAX + 1))) - 1);
            let items = chain.some(skip as usize);
            let start = random() as usize % items.len().max(1);
            let most = PER_SLOT.min(items.len()).min(left);
            (0..most).for_each(|i| visit(items[(start + i) % items.len()]));
            left -= most;
            left > 0
        };
        let first = random() as usize;
        for level in (0..LEVELS).filter_map(|i| self.levels[(first + i) % LEVELS].as_ref()) {
            let from = random() as usize % SLOTS;
            let mut offset = 0;
            while offset < SLOTS {
                let Some(distance) = level.distance_from((from + offset) % SLOTS) else { break };
                offset += distance;
                if offset >= SLOTS || !show(&level.slots[(from + offset) % SLOTS], random) {
                    break;
                }
                offset += 1;
            }
        }
        let others = std::iter::once(&self.far).chain(self.refiling.chains.iter().map(|(_, chain)| chain));
        for chain in others {
            if !show(chain, random) {
                return;
            }
        }
    }

    /// Files an item. A deadline that has passed is due at the next `advance`.
    pub fn file(&mut self, hash: u64, deadline_ms: i64) {
        self.refiling.note(hash);
        self.len += 1;
        let deadline = deadline_ms.max(self.now);
        for level in 0..LEVELS {
            let unit = deadline >> (STEP * level as u32);
            if unit - self.unit(level) < SLOTS as i64 {
                let change = self.push(level, unit, hash);
                self.count(change);
                self.next_event = self.next_event.min(event_of(level, unit));
                return;
            }
        }
        if self.far.is_empty() {
            self.far_event = (self.unit(LEVELS - 1) + FAR_SLOTS) << (STEP * (LEVELS as u32 - 1));
            self.next_event = self.next_event.min(self.far_event);
        }
        let change = self.far.push(hash);
        self.count(change);
    }

    /// The earliest time `advance` has work: never later than the earliest deadline filed (or than the time
    /// of the last call, if that deadline had passed before), often earlier.
    pub fn next_due_ms(&self) -> Option<i64> {
        let refiling = self.refiling.chains.front().map_or(i64::MAX, |&(event, _)| event);
        if self.is_empty() { None } else { Some(self.next_event.min(refiling)) }
    }

    /// Moves the wheel's time to `now_ms` (below 2^62) and asks for the truth of up to `budget` items that
    /// are due or have to move: `resolve(hash)` gives the key's deadline if it lives on (then the item is
    /// filed again), or none if it is gone or was ended by the call (then the item is forgotten).
    pub fn advance(
        &mut self,
        now_ms: i64,
        budget: usize,
        resolve: &mut dyn FnMut(u64) -> Option<i64>,
    ) -> Advance {
        if now_ms < self.now - BACKWARD_TOLERANCE_MS {
            self.start_over(now_ms.max(0));
        }
        let now = now_ms.max(self.now);
        if self.next_due_ms().is_none_or(|due| due > now) {
            self.now = now;
            return Advance::Idle;
        }
        let mut left = budget;
        // What is due comes first, in the order of time, ...
        loop {
            if !self.empty_slots(0, now, &mut left, resolve) {
                return Advance::More;
            }
            let next = self.first_slot(start_of);
            if next > now {
                break;
            }
            self.now = next;
        }
        self.now = now;
        if self.far_event <= now {
            self.refiling.seen = None;
            self.refiling.chains.push_front((now, std::mem::take(&mut self.far)));
            self.far_event = i64::MAX;
        }
        // ... then what only has to get nearer to its place, and does not hold the time up.
        if !self.refile_until(now, now + 1, &mut left, resolve)
            || !self.empty_slots(1, now, &mut left, resolve)
        {
            return Advance::More;
        }
        self.next_event = self.first_slot(event_of).min(self.far_event);
        Advance::Idle
    }

    /// Removes duplicates and files everything by its truth, up to `budget` items a call: for an owner that
    /// sees more than twice as many items as keys with deadlines. The first call begins a sweep, which ends
    /// with `Idle`. `advance` goes on working in between. For the time of a sweep it takes up to 8 bytes an
    /// item.
    pub fn compact(&mut self, budget: usize, resolve: &mut dyn FnMut(u64) -> Option<i64>) -> Advance {
        if self.refiling.seen.is_none() && self.refiling.chains.is_empty() {
            self.take_all(None);
            self.sweeps += 1;
            self.refiling.seen = Some(Box::new(Seen {
                places: vec![0; (self.len / 2 + 1).next_power_of_two()],
                factor: self.sweeps.wrapping_mul(GOLDEN) | 1,
            }));
        }
        let mut left = budget;
        if self.refile_until(i64::MAX, self.now, &mut left, resolve) { Advance::Idle } else { Advance::More }
    }

    /// Files the items of all waiting chains whose time is up to `until`, none before `earliest`; false
    /// when the budget ends first.
    fn refile_until(
        &mut self,
        until: i64,
        earliest: i64,
        left: &mut usize,
        resolve: &mut dyn FnMut(u64) -> Option<i64>,
    ) -> bool {
        while let Some((event, chain)) = self.refiling.chains.front_mut() {
            if *event > until {
                return true;
            }
            if *left == 0 {
                return false;
            }
            *left -= 1;
            match chain.pop() {
                None => drop(self.refiling.chains.pop_front()),
                Some((hash, change)) => {
                    self.count(change);
                    self.len -= 1;
                    if !self.refiling.knows(hash) {
                        self.ask(hash, earliest, resolve);
                    }
                }
            }
        }
        self.refiling = Refiling::default();
        true
    }

    /// Empties one slot of each level, lower levels first: with `ahead` 0 the slot of the wheel's time, with
    /// 1 the one after it (of all levels but the lowest). False when the budget ends first.
    fn empty_slots(
        &mut self,
        ahead: i64,
        now: i64,
        left: &mut usize,
        resolve: &mut dyn FnMut(u64) -> Option<i64>,
    ) -> bool {
        for level in ahead as usize..LEVELS {
            let slot = slot_of(self.unit(level) + ahead);
            while let Some(slots) = &mut self.levels[level] {
                let chain = &mut slots.slots[slot];
                if *left == 0 && !chain.is_empty() {
                    return false;
                }
                let Some((hash, change)) = chain.pop() else { break };
                if chain.is_empty() {
                    slots.unmark(slot);
                }
                *left -= 1;
                self.count(change);
                self.len -= 1;
                // Later than now in any case, so that no answer can keep `advance` busy for ever.
                self.ask(hash, now + 1, resolve);
            }
        }
        true
    }

    /// Asks for the truth of an item that is in hand and files it again if it lives.
    fn ask(&mut self, hash: u64, earliest: i64, resolve: &mut dyn FnMut(u64) -> Option<i64>) {
        match resolve(hash) {
            Some(deadline) => self.file(hash, deadline.max(earliest)),
            None => self.refiling.note(hash),
        }
    }

    /// The clock went back: slots say nothing any more, so all items are asked again.
    fn start_over(&mut self, now: i64) {
        self.take_all(Some(i64::MIN));
        self.refiling.seen = None;
        self.refiling.chains.iter_mut().for_each(|(event, _)| *event = i64::MIN);
        self.now = now;
    }

    /// Takes all chains out of their slots to be filed again, in the order in which they need attention, or
    /// all at the given time.
    fn take_all(&mut self, at: Option<i64>) {
        let mut chains = Vec::new();
        for level in 0..LEVELS {
            let unit = self.unit(level);
            let Some(mut slots) = self.levels[level].take() else { continue };
            while let Some(distance) = slots.distance_from(slot_of(unit)) {
                let unit = unit + distance as i64;
                slots.unmark(slot_of(unit));
                let chain = std::mem::take(&mut slots.slots[slot_of(unit)]);
                chains.push((at.unwrap_or(event_of(level, unit)), chain));
            }
        }
        if !self.far.is_empty() {
            chains.push((at.unwrap_or(self.far_event), std::mem::take(&mut self.far)));
        }
        chains.sort_by_key(|&(event, _)| event);
        self.refiling.chains.extend(chains);
        (self.far_event, self.next_event) = (i64::MAX, i64::MAX);
    }

    /// The earliest time, in the sense of `time_of(level, unit)`, of all occupied slots.
    fn first_slot(&self, time_of: fn(usize, i64) -> i64) -> i64 {
        let first = |level: usize| {
            let unit = self.unit(level);
            let distance = self.levels[level].as_ref()?.distance_from(slot_of(unit))?;
            Some(time_of(level, unit + distance as i64))
        };
        (0..LEVELS).filter_map(first).min().unwrap_or(i64::MAX)
    }

    fn push(&mut self, level: usize, unit: i64, hash: u64) -> Chunks {
        let slots = self.levels[level].get_or_insert_with(Level::new);
        let slot = slot_of(unit);
        slots.mark(slot);
        slots.slots[slot].push(hash)
    }

    /// The wheel's time in slots of a level.
    fn unit(&self, level: usize) -> i64 {
        self.now >> (STEP * level as u32)
    }

    fn count(&mut self, change: Chunks) {
        match change {
            Chunks::Same => {}
            Chunks::OneMore => self.chunks += 1,
            Chunks::OneLess => self.chunks -= 1,
        }
    }
}

fn slot_of(unit: i64) -> usize {
    unit as usize % SLOTS
}

/// When the time of a slot begins; it cannot pass before the slot is empty.
fn start_of(level: usize, unit: i64) -> i64 {
    unit << (STEP * level as u32)
}

/// When a slot needs attention: on level 0 when its time comes, above when that of the slot before comes.
fn event_of(level: usize, unit: i64) -> i64 {
    if level == 0 { unit } else { start_of(level, unit - 1) }
}
