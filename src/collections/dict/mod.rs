//! The hash table of the server, `Dict`: extendible hashing. A directory indexed by the top bits of the hash
//! points to segments of at most 63 cache-line buckets; a full segment grows by one size class or is split
//! in two, and nothing else ever moves, so no operation stops the server. The table keeps 8-byte handles of
//! elements and knows of them only how to get key and hash. It does not know what a database is.
//!
//! - `segment`: bit layouts, one segment. `handle`: `Slot`, `Ref`, `Mut`. `walk`: SCAN, iteration, sampling.
//!   `relocate`: active defragmentation.
//! - A lookup touches the directory word, one bucket line and the element.
//! - Elements lie in the order of their hashes, so a scan cursor is a position in the space of hashes and
//!   holds whatever grows, splits, merges or shrinks meanwhile.
//!
//! Source of the idea: Fagin et al., "Extendible hashing", 1979.

mod handle;
mod relocate;
mod segment;
mod walk;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;

pub use handle::{Lookup, Mut, Ref, Slot};
pub use walk::{DictStats, Iter};

use super::prefetch;
use handle::lend;
use segment::{
    DEEPEST, LONGEST, Segment, home, length_for, longer, slot_address, slot_window, slot_word, tag_of, window,
};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Two neighbour segments become one when together they hold at most this many elements: half of what a
/// segment takes before it is split, so merging and splitting cannot alternate.
const MERGED_MAX: u32 = 192;
/// Segments are made for no more than this many elements each: hashes are not even, and most segments shall
/// have room for theirs before they have to be split.
const EXPECTED_MAX: u32 = 360;
/// The directory is halved when it has this many words for every segment (and no segment needs the depth).
const SPARSE_DIRECTORY: usize = 8;
/// How many buckets ahead elements are prefetched when all of a segment are hashed again.
const REHASH_AHEAD: u32 = 6;

/// A hash table of handles `E`. The caller computes hashes (`hash_key`) and hands them in.
pub struct Dict<E: Slot> {
    /// 2^depth packed segments; empty as long as nothing was inserted.
    directory: Vec<u64>,
    /// 63 - depth, see `index`.
    shift: u32,
    len: usize,
    segments: usize,
    /// How many segments have the depth of the directory.
    deepest: usize,
    segment_bytes: usize,
    elements: PhantomData<E>,
}

/// Where a lookup found its element.
struct Found {
    segment: Segment,
    bucket: u32,
    lane: u32,
}

impl Found {
    #[inline(always)]
    fn word(&self) -> u64 {
        self.segment.bucket(self.bucket).words[self.lane as usize]
    }

    #[inline(always)]
    fn place(&self) -> NonNull<u64> {
        let first = self.segment.bucket_ptr(self.bucket).cast::<u64>();
        // SAFETY: the words are the first field of a bucket and `lane` is one of them.
        unsafe { first.add(self.lane as usize) }
    }
}

impl<E: Slot> Default for Dict<E> {
    fn default() -> Self {
        Dict::new()
    }
}

impl<E: Slot> Dict<E> {
    /// An empty table; it allocates nothing.
    pub const fn new() -> Self {
        Dict {
            directory: Vec::new(),
            shift: 63,
            len: 0,
            segments: 0,
            deepest: 0,
            segment_bytes: 0,
            elements: PhantomData,
        }
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes the allocator spends on the table itself, without the elements.
    pub fn memory_bytes(&self) -> usize {
        self.segment_bytes + super::size_class(self.directory.capacity() * size_of::<u64>())
    }

    /// The element of this key.
    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<Ref<'_, E>> {
        let found = self.find(hash, |element| element.key() == key)?;
        // SAFETY: a found lane is occupied, and the loan borrows the table.
        Some(unsafe { Ref::new(found.word()) })
    }

    /// The element of this key, to be changed.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<Mut<'_, E>> {
        let found = self.find(hash, |element| element.key() == key)?;
        // SAFETY: a found lane is occupied, and the loan borrows the table exclusively.
        Some(unsafe { Mut::new(found.place()) })
    }

    /// Whether there is an element of this key.
    #[inline]
    pub fn contains(&self, hash: u64, key: &[u8]) -> bool {
        self.find(hash, |element| element.key() == key).is_some()
    }

    /// The first element with exactly this 64-bit hash that `pred` accepts.
    pub fn get_by_hash(&self, hash: u64, mut pred: impl FnMut(&E) -> bool) -> Option<Ref<'_, E>> {
        let found = self.find(hash, |element| element.hash() == hash && pred(element))?;
        // SAFETY: a found lane is occupied, and the loan borrows the table.
        Some(unsafe { Ref::new(found.word()) })
    }

    /// As `get_by_hash`, to be changed.
    pub fn get_mut_by_hash(&mut self, hash: u64, mut pred: impl FnMut(&E) -> bool) -> Option<Mut<'_, E>> {
        let found = self.find(hash, |element| element.hash() == hash && pred(element))?;
        // SAFETY: a found lane is occupied, and the loan borrows the table exclusively.
        Some(unsafe { Mut::new(found.place()) })
    }

    /// Inserts an element whose key is not in the table yet; `hash` is its hash.
    #[inline]
    pub fn insert_new(&mut self, hash: u64, element: E) -> Mut<'_, E> {
        debug_assert!(element.hash() == hash, "the hash of an element's key");
        debug_assert!(!self.contains(hash, element.key()), "an element is inserted twice");
        let mut segment = match self.segment(hash) {
            Some(segment) if segment.header().count < segment.header().limit => segment,
            _ => self.make_room(hash),
        };
        let word = slot_word(element.into_ptr(), window(hash, segment.depth));
        segment.header_mut().count += 1;
        self.len += 1;
        let place = segment.place(word, tag_of(hash));
        // SAFETY: the lane was just filled, and the loan borrows the table exclusively.
        unsafe { Mut::new(place) }
    }

    /// The element of this key, for changing; one that `is_dead` is taken out instead. One lookup for
    /// both, so that expiry on access costs nothing.
    #[inline]
    pub fn get_live(&mut self, hash: u64, key: &[u8], is_dead: impl FnOnce(&E) -> bool) -> Lookup<'_, E> {
        let Some(found) = self.find(hash, |element| element.key() == key) else { return Lookup::Missing };
        let address = slot_address(found.word());
        // SAFETY: a found lane holds the address of a live element.
        if is_dead(unsafe { lend::<E>(&address) }) {
            return Lookup::Dead(self.take(hash, found));
        }
        // SAFETY: the place is a filled slot of this table, borrowed as long as the table is.
        Lookup::Live(unsafe { Mut::new(found.place()) })
    }

    /// Takes the element of this key out.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<E> {
        let found = self.find(hash, |element| element.key() == key)?;
        Some(self.take(hash, found))
    }

    /// Takes the first element with exactly this 64-bit hash that `pred` accepts out.
    pub fn remove_by_hash(&mut self, hash: u64, mut pred: impl FnMut(&E) -> bool) -> Option<E> {
        let found = self.find(hash, |element| element.hash() == hash && pred(element))?;
        Some(self.take(hash, found))
    }

    /// First stage of hiding the memory latency of a lookup to come.
    #[inline]
    pub fn prefetch_directory(&self, hash: u64) {
        prefetch(self.directory.as_ptr().wrapping_add(self.index(hash)));
    }

    /// Second stage, when the directory word has arrived: fetches the home bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if let Some(segment) = self.segment(hash) {
            let home = home(window(hash, segment.depth), segment.depth, segment.length);
            prefetch(segment.bucket_ptr(home).as_ptr());
        }
    }

    /// The line that an insertion touches besides: the counts of the segment.
    #[inline]
    pub fn prefetch_counts(&self, hash: u64) {
        if let Some(segment) = self.segment(hash) {
            prefetch(std::ptr::from_ref(segment.header()));
        }
    }

    /// Third stage, when the home bucket has arrived: fetches the likely element (its first two lines when
    /// it begins in the second half of one).
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        let Some(segment) = self.segment(hash) else { return };
        let window = window(hash, segment.depth);
        let bucket = segment.bucket(home(window, segment.depth, segment.length));
        for lane in bucket.lanes_with(tag_of(hash)) {
            let word = bucket.words[lane as usize];
            if slot_window(word) == window {
                let address = slot_address(word).as_ptr();
                prefetch(address);
                if address.addr() & 63 > 32 {
                    prefetch(address.wrapping_add(32));
                }
            }
        }
    }

    /// Removes and drops all elements at once. For big tables see `drain_some`.
    pub fn clear(&mut self) {
        while !self.drain_some(usize::MAX) {}
    }

    /// Drops up to `max` elements; true when none is left. After the first call the table is only good for
    /// further calls or for being dropped, until it has answered true: then it is empty and new.
    pub fn drain_some(&mut self, max: usize) -> bool {
        let mut left = max;
        while let Some(&word) = self.directory.last() {
            // SAFETY: a directory word names a live segment, and `self` is borrowed exclusively.
            let segment = unsafe { Segment::unpack(word) };
            left -= self.drain_segment(segment, left);
            if segment.header().count > 0 {
                return false;
            }
            let words = 1 << (self.depth() - segment.depth);
            self.directory.truncate(self.directory.len() - words);
            self.drop_segment(segment);
        }
        debug_assert!(self.len == 0 && self.segments == 0);
        self.directory = Vec::new();
        self.shift = 63;
        self.deepest = 0;
        true
    }

    /// Drops up to `max` elements of one segment and says how many it were.
    fn drain_segment(&mut self, mut segment: Segment, max: usize) -> usize {
        let mut dropped = 0;
        for index in 0..segment.length {
            for lane in segment.bucket(index).occupied() {
                if dropped == max {
                    return dropped;
                }
                let bucket = segment.bucket_mut(index);
                let address = slot_address(bucket.words[lane as usize]);
                bucket.vacate(lane);
                segment.header_mut().count -= 1;
                self.len -= 1;
                dropped += 1;
                // SAFETY: the lane was occupied and is free now, so this is the one owner.
                drop(unsafe { E::from_ptr(address) });
            }
        }
        dropped
    }

    #[inline(always)]
    fn depth(&self) -> u32 {
        63 - self.shift
    }

    /// The directory index of a hash: its top `depth` bits. Two shifts, as depth may be 0.
    #[inline(always)]
    fn index(&self, hash: u64) -> usize {
        ((hash >> 1) >> self.shift) as usize
    }

    /// The segment a hash belongs to; none in a new table.
    #[inline(always)]
    fn segment(&self, hash: u64) -> Option<Segment> {
        let word = *self.directory.get(self.index(hash))?;
        // SAFETY: a directory word names a live segment; the `_mut` methods are used only where `self` is
        // borrowed exclusively.
        Some(unsafe { Segment::unpack(word) })
    }

    /// The lookup: probes from the home bucket on as long as elements have passed the bucket.
    #[inline(always)]
    fn find(&self, hash: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<Found> {
        let segment = self.segment(hash)?;
        let window = window(hash, segment.depth);
        let tag = tag_of(hash);
        let home = home(window, segment.depth, segment.length);
        let mut index = home;
        loop {
            let bucket = segment.bucket(index);
            for lane in bucket.lanes_with(tag) {
                let word = bucket.words[lane as usize];
                if slot_window(word) != window {
                    continue;
                }
                let address = slot_address(word);
                // SAFETY: an occupied lane holds a live element, and the table is borrowed.
                if is_it(unsafe { lend(&address) }) {
                    return Some(Found { segment, bucket: index, lane });
                }
            }
            if bucket.overflow() == 0 {
                return None;
            }
            index = segment.after(index);
            if index == home {
                return None;
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, hash: u64, found: Found) -> E {
        let mut segment = found.segment;
        let word = segment.take(found.bucket, found.lane);
        let header = segment.header_mut();
        header.count -= 1;
        self.len -= 1;
        // Looking at the neighbour costs a cache miss: only at every eighth count.
        if header.count < header.low || (header.count.is_multiple_of(8) && header.count <= MERGED_MAX / 2) {
            self.shrink(hash, segment);
        }
        // SAFETY: the lane is free now, so this is the one owner.
        unsafe { E::from_ptr(slot_address(word)) }
    }

    /// Gives a new table the shape it will have with so many elements, so that it need not grow step by step
    /// while they come. One that is in use is left as it is.
    pub fn expect(&mut self, elements: usize) {
        if !self.directory.is_empty() || elements <= EXPECTED_MAX as usize {
            return;
        }
        let depth = (elements / EXPECTED_MAX as usize).ilog2() + 1;
        let length = length_for((elements >> depth) as u32);
        let segments = 1usize << depth;
        self.directory.reserve_exact(segments);
        for _ in 0..segments {
            let segment = self.new_segment(length, depth);
            self.directory.push(segment.pack());
        }
        self.shift = 63 - depth;
        self.deepest = segments;
    }

    /// The deepest a segment may be: beyond what good hashes ever need by a factor of eight, so that crafted
    /// hashes cannot make the directory larger than half a byte an element.
    fn depth_limit(&self) -> u32 {
        self.len.max(1).ilog2().saturating_sub(4).min(DEEPEST)
    }

    /// The segment of `hash`, with room for one more element.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, hash: u64) -> Segment {
        if self.directory.is_empty() {
            let first = self.new_segment(1, 0);
            self.directory.push(first.pack());
            self.shift = 63;
            self.deepest = 1;
        }
        assert!(self.directory.len() == 1 << self.depth(), "insertion into a table that is being drained");
        loop {
            let segment = self.segment(hash).expect("a whole directory has a word for every hash");
            if segment.header().count < segment.header().limit {
                return segment;
            }
            if segment.length >= LONGEST && segment.depth < self.depth_limit() {
                self.split(hash, segment);
            } else {
                self.resize(hash, segment, longer(segment.length));
            }
        }
    }

    /// Puts all elements of a segment into a new one of another length.
    fn resize(&mut self, hash: u64, segment: Segment, length: u32) {
        let mut new = self.new_segment(length, segment.depth);
        segment.for_each(|word, tag| {
            new.place(word, tag);
        });
        new.header_mut().count = segment.header().count;
        self.point(hash, new);
        self.drop_segment(segment);
    }

    /// Splits a segment in two by the hash bit below its depth. Elements are read only when the window of
    /// hash bits in the slots moves on, at every fourth depth.
    fn split(&mut self, hash: u64, segment: Segment) {
        let depth = segment.depth;
        if depth == self.depth() {
            self.double_directory();
        }
        let side_of = |word: u64| (slot_window(word) >> (15 - (depth & 3)) & 1) as usize;
        let mut counts = [0u32; 2];
        segment.for_each(|word, _| counts[side_of(word)] += 1);
        let mut halves = counts.map(|count| self.new_segment(length_for(count), depth + 1));
        if (depth + 1).is_multiple_of(4) {
            self.place_rehashed(segment, &mut halves, side_of);
        } else {
            segment.for_each(|word, tag| {
                halves[side_of(word)].place(word, tag);
            });
        }
        // The top bit below the depth tells the halves apart in the directory.
        let bit = 1u64 << (63 - depth);
        for (side, half) in halves.iter_mut().enumerate() {
            half.header_mut().count = counts[side];
            self.point(if side == 0 { hash & !bit } else { hash | bit }, *half);
        }
        if depth + 1 == self.depth() {
            self.deepest += 2;
        }
        self.drop_segment(segment);
    }

    /// Places all elements of a segment that is split, with windows computed from their keys.
    fn place_rehashed(&self, segment: Segment, halves: &mut [Segment; 2], side_of: impl Fn(u64) -> usize) {
        let depth = halves[0].depth;
        let prefetch_bucket = |index: u32| {
            if index < segment.length {
                let bucket = segment.bucket(index);
                bucket
                    .occupied()
                    .for_each(|lane| prefetch(slot_address(bucket.words[lane as usize]).as_ptr()));
            }
        };
        (0..REHASH_AHEAD).for_each(prefetch_bucket);
        for index in 0..segment.length {
            prefetch_bucket(index + REHASH_AHEAD);
            let bucket = segment.bucket(index);
            for lane in bucket.occupied() {
                let word = bucket.words[lane as usize];
                let address = slot_address(word);
                // SAFETY: an occupied lane holds a live element, and the table is borrowed.
                let hash = unsafe { lend::<E>(&address) }.hash();
                halves[side_of(word)].place(slot_word(address, window(hash, depth)), bucket.tag(lane));
            }
        }
    }

    /// Gives memory back after a removal: merges the segment with its neighbours while it is nearly empty,
    /// then shortens it, then halves a sparse directory.
    #[cold]
    #[inline(never)]
    fn shrink(&mut self, hash: u64, mut segment: Segment) {
        while let Some(merged) = self.merge(hash, segment) {
            segment = merged;
        }
        let header = segment.header();
        if header.count < header.low {
            let length = length_for(header.count + header.count / 8);
            if length < segment.length {
                self.resize(hash, segment, length);
            }
        }
        if self.deepest == 0 && self.depth() > 0 && self.directory.len() >= SPARSE_DIRECTORY * self.segments {
            self.halve_directory();
        }
    }

    /// Merges a segment with the other half of the segment one depth up, if they are few enough together.
    fn merge(&mut self, hash: u64, segment: Segment) -> Option<Segment> {
        let depth = segment.depth;
        if depth == 0 {
            return None;
        }
        let other_hash = hash ^ (1 << (64 - depth));
        let other = self.segment(other_hash).expect("a whole directory has a word for every hash");
        let count = segment.header().count + other.header().count;
        if other.depth != depth || count > MERGED_MAX {
            return None;
        }
        let mut merged = self.new_segment(length_for(count), depth - 1);
        for (half, half_hash) in [(segment, hash), (other, other_hash)] {
            // When the window moves back by four bits, these are the ones the directory has told apart.
            let regained =
                if depth.is_multiple_of(4) { Some(window(half_hash, depth - 1) & 0xf000) } else { None };
            half.for_each(|word, tag| {
                let window = slot_window(word);
                let window = regained.map_or(window, |bits| bits | window >> 4);
                merged.place(slot_word(slot_address(word), window), tag);
            });
        }
        merged.header_mut().count = count;
        if depth == self.depth() {
            self.deepest -= 2;
        }
        self.point(hash, merged);
        self.drop_segment(segment);
        self.drop_segment(other);
        Some(merged)
    }

    /// Lets all directory words of `hash` at the depth of the segment name the segment.
    fn point(&mut self, hash: u64, segment: Segment) {
        let words = 1usize << (self.depth() - segment.depth);
        let first = self.index(hash) & !(words - 1);
        self.directory[first..first + words].fill(segment.pack());
    }

    fn double_directory(&mut self) {
        let old = self.directory.len();
        self.directory.reserve_exact(old);
        self.directory.resize(old * 2, 0);
        for i in (0..old).rev() {
            let word = self.directory[i];
            self.directory[2 * i..2 * i + 2].fill(word);
        }
        self.shift -= 1;
        self.deepest = 0;
    }

    fn halve_directory(&mut self) {
        let half = self.directory.len() / 2;
        for i in 0..half {
            self.directory[i] = self.directory[2 * i];
        }
        self.directory.truncate(half);
        self.directory.shrink_to_fit();
        self.shift += 1;
        let depth = self.depth();
        // SAFETY: a directory word names a live segment.
        let is_deepest = |&&word: &&u64| unsafe { Segment::unpack(word) }.depth == depth;
        // A segment of the directory's own depth has exactly one word.
        self.deepest = self.directory.iter().filter(is_deepest).count();
    }

    fn new_segment(&mut self, length: u32, depth: u32) -> Segment {
        let segment = Segment::alloc(length, depth);
        self.segments += 1;
        self.segment_bytes += segment.bytes();
        segment
    }

    /// Frees a segment no directory word names any more and whose elements have moved out.
    fn drop_segment(&mut self, segment: Segment) {
        self.segments -= 1;
        self.segment_bytes -= segment.bytes();
        // SAFETY: callers hold the last copy: it was replaced in, or cut off, the directory.
        unsafe { segment.free() }
    }
}

impl<E: Slot> Drop for Dict<E> {
    fn drop(&mut self) {
        self.clear();
    }
}
