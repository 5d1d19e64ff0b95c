//! A segment of the hash table: one header line and a run of buckets, each one cache line. This file holds
//! the bit layouts (directory word, slot word, bucket) and the operations inside one segment. It does not
//! know the directory, nor what an element is beyond its address. A reader comes here to see what a lookup
//! touches and why moving elements between segments needs no look at the elements.
//!
//! Bits of a hash, from the top: `depth` bits choose the segment, the next bits say where in the segment
//! (as a fraction of its length, so the order in a segment is the order of the hashes), the lowest 8 are
//! the tag. A slot keeps the 16 hash bits of a window that starts at `depth` rounded down to a multiple of
//! four: enough to find the place again after a regrowth or three splits out of four.

use crate::sys::defrag::Mover;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Slots of a bucket.
pub(super) const LANES: u32 = 7;
/// Buckets of the longest regular segment; it and its header fill 4096 bytes. Only a segment that may not
/// be split (see `depth_limit`) grows longer.
pub(super) const LONGEST: u32 = 63;
/// The deepest directory: beyond it the 48-bit scan cursor could not tell two buckets apart.
pub(super) const DEEPEST: u32 = 32;

/// Lengths of segments: with the header line each fills a size class of jemalloc.
const LENGTHS: [u32; 13] = [1, 2, 3, 5, 7, 11, 15, 23, 31, 39, 47, 55, LONGEST];
const LINE: usize = 64;
const POINTER: u64 = (1 << 48) - 1;
const LOW_BITS: u64 = 0x0001_0101_0101_0101;
const SEVEN_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const LANE_MARKS: u64 = 0x0080_8080_8080_8080;
const OVERFLOW_ONE: u64 = 1 << 56;
const OVERFLOW_MAX: u64 = 0xff;
/// In a directory word: "too long for 16 bits, look into the header".
const LENGTH_IN_HEADER: u32 = 0xffff;

/// First bit (from the top) of the window of hash bits kept in the slots of a segment of this depth.
#[inline(always)]
pub(super) fn window_start(depth: u32) -> u32 {
    depth & !3
}

/// The 16 hash bits a slot keeps in a segment of this depth.
#[inline(always)]
pub(super) fn window(hash: u64, depth: u32) -> u64 {
    (hash << window_start(depth)) >> 48
}

/// How many bits of the window are below the depth: 13 to 16.
#[inline(always)]
pub(super) fn fraction_bits(depth: u32) -> u32 {
    16 - (depth & 3)
}

/// The part of a window that is below the depth.
#[inline(always)]
pub(super) fn fraction(window: u64, depth: u32) -> u64 {
    window & ((1 << fraction_bits(depth)) - 1)
}

/// The bucket an element of this window belongs to; it grows with the hash.
#[inline(always)]
pub(super) fn home(window: u64, depth: u32, length: u32) -> u32 {
    ((fraction(window, depth) * u64::from(length)) >> fraction_bits(depth)) as u32
}

/// The tag of a hash: its lowest 8 bits, but never 0, which marks a free lane.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// A slot word: address below, window above.
#[inline(always)]
pub(super) fn slot_word(address: NonNull<u8>, window: u64) -> u64 {
    let address = address.as_ptr().expose_provenance() as u64;
    // Holds for user space on x86-64 and arm64 unless a program asks for 5-level addresses.
    assert!(address & !POINTER == 0, "an element lives above 2^48");
    address | window << 48
}

/// The address in a slot word of an occupied lane.
#[inline(always)]
pub(super) fn slot_address(word: u64) -> NonNull<u8> {
    let address = std::ptr::with_exposed_provenance_mut((word & POINTER) as usize);
    debug_assert!(word & POINTER != 0);
    // SAFETY: callers pass words of occupied lanes, which were made from a `NonNull` by `slot_word`.
    unsafe { NonNull::new_unchecked(address) }
}

/// The window in a slot word.
#[inline(always)]
pub(super) fn slot_window(word: u64) -> u64 {
    word >> 48
}

/// One cache line: seven slot words and a word with seven tags (byte i for lane i) and, in the top byte,
/// how many elements passed this full bucket on the way to a later one.
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) words: [u64; LANES as usize],
    meta: u64,
}

/// Lanes of a bucket, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Lanes(u64);

impl Iterator for Lanes {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let lane = self.0.trailing_zeros() / 8;
        self.0 &= self.0 - 1;
        Some(lane)
    }
}

impl Bucket {
    /// The lanes that hold this tag; exact, so tag 0 gives the free lanes.
    #[inline(always)]
    pub(super) fn lanes_with(&self, tag: u8) -> Lanes {
        let x = self.meta ^ (u64::from(tag) * LOW_BITS);
        Lanes(!(((x & SEVEN_BITS) + SEVEN_BITS) | x) & LANE_MARKS)
    }

    /// The lanes that hold an element.
    #[inline(always)]
    pub(super) fn occupied(&self) -> Lanes {
        Lanes(self.lanes_with(0).0 ^ LANE_MARKS)
    }

    /// The tag of a lane.
    #[inline(always)]
    pub(super) fn tag(&self, lane: u32) -> u8 {
        (self.meta >> (lane * 8)) as u8
    }

    /// How many elements passed this bucket; 255 means "that many or more".
    #[inline(always)]
    pub(super) fn overflow(&self) -> u64 {
        self.meta >> 56
    }

    /// Fills a free lane.
    #[inline(always)]
    fn fill(&mut self, lane: u32, word: u64, tag: u8) {
        self.words[lane as usize] = word;
        self.meta |= u64::from(tag) << (lane * 8);
    }

    /// Frees a lane; its word is stale from now on.
    #[inline(always)]
    pub(super) fn vacate(&mut self, lane: u32) {
        self.meta &= !(0xff << (lane * 8));
    }

    #[inline(always)]
    fn count_passer(&mut self) {
        if self.overflow() < OVERFLOW_MAX {
            self.meta += OVERFLOW_ONE;
        }
    }

    /// Once saturated the count is lost, and the bucket stays marked until the segment is rebuilt.
    #[inline(always)]
    fn forget_passer(&mut self) {
        debug_assert!(self.overflow() > 0);
        if self.overflow() < OVERFLOW_MAX {
            self.meta -= OVERFLOW_ONE;
        }
    }
}

/// The first line of a segment. Lookups never read it.
#[repr(C, align(64))]
pub(super) struct Header {
    /// Elements in the segment.
    pub(super) count: u32,
    /// At this count the segment must become longer (or be split) before the next insertion.
    pub(super) limit: u32,
    /// Below this count the segment should become shorter.
    pub(super) low: u32,
    length: u32,
}

/// How many elements a segment of this length takes: 29/32 of its slots. Measured: fuller segments make
/// probes long, emptier ones cost memory. A single bucket has no one to pass on to and may be full.
const fn limit_of(length: u32) -> u32 {
    if length == 1 { LANES } else { ((length as u64 * LANES as u64 * 29) / 32) as u32 }
}

/// The shortest regular length that takes `count` elements with room for a few more (a sixteenth).
/// A count beyond all regular lengths gives a longer one.
pub(super) fn length_for(count: u32) -> u32 {
    let wanted = count + count / 16 + 1;
    let irregular = || (u64::from(wanted) * 32).div_ceil(29 * u64::from(LANES)) as u32 + 1;
    LENGTHS.into_iter().find(|&length| limit_of(length) >= wanted).unwrap_or_else(irregular)
}

/// The next length for a segment that is full and stays whole.
pub(super) fn longer(length: u32) -> u32 {
    let regular = LENGTHS.into_iter().find(|&next| next > length);
    regular.unwrap_or_else(|| length.checked_add(length / 2).expect("a segment has under 2^32 buckets"))
}

/// A segment in hand: address, length in buckets and depth, which is also what a directory word holds.
/// The value is a plain copy; the table owns the memory and frees it with `free`.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    base: NonNull<u8>,
    pub(super) length: u32,
    pub(super) depth: u32,
}

impl Segment {
    /// A new empty segment.
    pub(super) fn alloc(length: u32, depth: u32) -> Segment {
        let layout = Segment::layout(length);
        // SAFETY: the layout has a size of at least two lines.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        let mut segment = Segment { base, length, depth };
        let low = if length == 1 { 0 } else { length * LANES / 2 - 2 };
        *segment.header_mut() = Header { count: 0, limit: limit_of(length), low, length };
        segment
    }

    /// Gives the memory back. The elements are not touched.
    ///
    /// # Safety
    /// The segment is alive, and neither this nor any other copy of the value is used afterwards.
    pub(super) unsafe fn free(self) {
        // SAFETY: `alloc` made the block with the same layout.
        unsafe { dealloc(self.base.as_ptr(), Segment::layout(self.length)) }
    }

    /// Moves the block for active defragmentation; true if it has another address, which the directory has to
    /// be told. The holder has the table exclusively (contract of `unpack`).
    pub(super) fn relocate(&mut self, mover: &mut Mover) -> bool {
        // SAFETY: `alloc` made the block with this layout; its other pointers are the directory's words.
        let moved = unsafe { mover.moved(self.base, Segment::layout(self.length)) };
        self.base = moved.unwrap_or(self.base);
        moved.is_some()
    }

    fn layout(length: u32) -> Layout {
        Layout::from_size_align((length as usize + 1) * LINE, LINE).expect("a segment fits the address space")
    }

    /// Bytes the allocator spends on the segment.
    pub(super) fn bytes(self) -> usize {
        super::super::size_class(Segment::layout(self.length).size())
    }

    /// The directory word: address (aligned to 64, so its low 6 bits are free) with the depth in these
    /// bits, and the length in the top 16.
    pub(super) fn pack(self) -> u64 {
        let address = self.base.as_ptr().expose_provenance() as u64;
        assert!(address & !POINTER == 0, "a segment lives above 2^48");
        address | u64::from(self.depth) | u64::from(self.length.min(LENGTH_IN_HEADER)) << 48
    }

    /// The segment of a directory word.
    ///
    /// # Safety
    /// `word` was made by `pack` and the segment has not been freed. While the value is used through its
    /// `_mut` methods nothing else may use the segment: the holder has the table exclusively.
    #[inline(always)]
    pub(super) unsafe fn unpack(word: u64) -> Segment {
        let address = std::ptr::with_exposed_provenance_mut((word & POINTER & !0x3f) as usize);
        // SAFETY: by contract the word holds the address of a block, which is not null.
        let base = unsafe { NonNull::new_unchecked(address) };
        let mut segment = Segment { base, length: (word >> 48) as u32, depth: word as u32 & 0x3f };
        if segment.length == LENGTH_IN_HEADER {
            segment.length = segment.header().length;
        }
        segment
    }

    #[inline(always)]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: a live segment (contract of `unpack`) begins with an initialised header.
        unsafe { self.base.cast().as_ref() }
    }

    #[inline(always)]
    pub(super) fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as in `header`; the caller has the table exclusively (contract of `unpack`).
        unsafe { self.base.cast().as_mut() }
    }

    #[inline(always)]
    pub(super) fn bucket_ptr(&self, index: u32) -> NonNull<Bucket> {
        debug_assert!(index < self.length);
        // SAFETY: the block has `length` lines after the header and index is below it.
        unsafe { self.base.add((index as usize + 1) * LINE).cast() }
    }

    #[inline(always)]
    pub(super) fn bucket(&self, index: u32) -> &Bucket {
        // SAFETY: the line is inside a live segment and was zeroed at first, which is a valid bucket.
        unsafe { self.bucket_ptr(index).as_ref() }
    }

    #[inline(always)]
    pub(super) fn bucket_mut(&mut self, index: u32) -> &mut Bucket {
        // SAFETY: as in `bucket`; the caller has the table exclusively (contract of `unpack`).
        unsafe { self.bucket_ptr(index).as_mut() }
    }

    /// The bucket after `index`, around the end.
    #[inline(always)]
    pub(super) fn after(&self, index: u32) -> u32 {
        if index + 1 == self.length { 0 } else { index + 1 }
    }

    /// The home bucket of a slot word in this segment.
    #[inline(always)]
    pub(super) fn home_of(&self, word: u64) -> u32 {
        home(slot_window(word), self.depth, self.length)
    }

    /// Puts an element in the first free lane from its home on, and gives the place of its word. The
    /// segment must have a free lane; the count is left to the caller.
    #[inline(always)]
    pub(super) fn place(&mut self, word: u64, tag: u8) -> NonNull<u64> {
        let mut index = self.home_of(word);
        loop {
            let bucket = self.bucket_mut(index);
            if let Some(lane) = bucket.lanes_with(0).next() {
                bucket.fill(lane, word, tag);
                return NonNull::from(&mut bucket.words[lane as usize]);
            }
            bucket.count_passer();
            index = self.after(index);
        }
    }

    /// Frees a lane and takes the element out of the counts of the buckets it had passed. The header's
    /// count is left to the caller.
    #[inline(always)]
    pub(super) fn take(&mut self, index: u32, lane: u32) -> u64 {
        let bucket = self.bucket_mut(index);
        let word = bucket.words[lane as usize];
        bucket.vacate(lane);
        let mut passed = self.home_of(word);
        while passed != index {
            self.bucket_mut(passed).forget_passer();
            passed = self.after(passed);
        }
        word
    }

    /// Hands every element (word, tag) to `each`, bucket by bucket.
    #[inline(always)]
    pub(super) fn for_each(&self, mut each: impl FnMut(u64, u8)) {
        for index in 0..self.length {
            let bucket = self.bucket(index);
            for lane in bucket.occupied() {
                each(bucket.words[lane as usize], bucket.tag(lane));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fill_their_size_classes() {
        for length in LENGTHS {
            let bytes = Segment::layout(length).size();
            assert_eq!(bytes, crate::collections::size_class(bytes));
            assert!(length_for(limit_of(length)) > length);
        }
        assert_eq!(size_of::<Bucket>(), LINE);
        assert_eq!(size_of::<Header>(), LINE);
        assert_eq!(limit_of(LONGEST), 399);
    }

    #[test]
    fn tags_match_exactly() {
        let mut bucket = Bucket { words: [0; 7], meta: 0 };
        assert_eq!(bucket.lanes_with(0).count(), 7);
        bucket.fill(2, 1, 1);
        bucket.fill(3, 2, 255);
        bucket.count_passer();
        assert_eq!(bucket.lanes_with(1).collect::<Vec<_>>(), [2]);
        assert_eq!(bucket.lanes_with(255).collect::<Vec<_>>(), [3]);
        assert_eq!(bucket.lanes_with(0).collect::<Vec<_>>(), [0, 1, 4, 5, 6]);
        assert_eq!(bucket.occupied().collect::<Vec<_>>(), [2, 3]);
        bucket.vacate(2);
        bucket.forget_passer();
        assert_eq!(bucket.meta, 255 << 24);
    }

    #[test]
    fn homes_keep_the_order_of_hashes() {
        for depth in 0..=DEEPEST {
            for length in [1, 2, 3, 7, 63, 1000] {
                let mut last = 0;
                for step in 0..4096u64 {
                    let hash = (step << 52) >> depth;
                    let home = home(window(hash, depth), depth, length);
                    assert!(home >= last && home < length);
                    last = home;
                }
            }
        }
    }
}
