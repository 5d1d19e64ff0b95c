//! Ways through a table that are not lookups: SCAN, iteration, random elements, statistics. It relies on the
//! order of elements in a segment and changes nothing.

use super::Dict;
use super::handle::{Ref, Slot};
use super::segment::{
    LANES, LONGEST, Segment, fraction, fraction_bits, home, slot_window, window, window_start,
};

/// Bits of a scan cursor: a position among the top 48 bits of hashes.
pub(super) const CURSOR_BITS: u32 = 48;
/// A scan call gives up after this many buckets for every element asked for, as tables may be sparse.
const SCAN_BUCKETS: usize = 10;
/// Random picks give up rejecting after this many tries and take what comes next.
const RANDOM_TRIES: u32 = 200;

/// What a table looks like inside, for DEBUG HTSTATS and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DictStats {
    /// Elements.
    pub entries: usize,
    /// Slots in all segments.
    pub slots: usize,
    /// Segments.
    pub segments: usize,
    /// The directory has 2^depth words.
    pub depth: u32,
    /// Buckets of the longest segment; over 63 only when hashes collide in their top bits.
    pub longest_segment: u32,
    /// Elements that are not in their home bucket.
    pub displaced: usize,
    /// The longest way of an element from its home bucket, in buckets (0 = at home).
    pub max_chain: u32,
    /// Bytes of the table without the elements.
    pub bytes: usize,
}

/// A place in the walk through all buckets, in directory order.
#[derive(Clone, Copy, Default)]
struct Position {
    index: usize,
    bucket: u32,
}

/// An iterator over all elements in the order of their hashes (nearly: inside a segment by bucket).
pub struct Iter<'a, E: Slot> {
    dict: &'a Dict<E>,
    at: Position,
    lane: u32,
}

impl<'a, E: Slot> Iterator for Iter<'a, E> {
    type Item = Ref<'a, E>;

    fn next(&mut self) -> Option<Ref<'a, E>> {
        loop {
            let segment = self.dict.segment_at(self.at.index)?;
            let bucket = segment.bucket(self.at.bucket);
            if let Some(lane) = bucket.occupied().find(|&lane| lane >= self.lane) {
                self.lane = lane + 1;
                // SAFETY: the lane is occupied, and the loan borrows the table.
                return Some(unsafe { Ref::new(bucket.words[lane as usize]) });
            }
            self.lane = 0;
            self.at = self.dict.next_position(self.at, segment);
        }
    }
}

impl<'a, E: Slot> IntoIterator for &'a Dict<E> {
    type Item = Ref<'a, E>;
    type IntoIter = Iter<'a, E>;

    fn into_iter(self) -> Iter<'a, E> {
        self.iter()
    }
}

impl<E: Slot> Dict<E> {
    /// Visits the elements from `cursor` on, whole buckets at a time, until `count` of them were visited or
    /// ten buckets for each were seen, and gives the cursor to go on from; 0 is the start and the end.
    /// An element that is in the table from the call with 0 to the call that gives 0 is visited exactly once,
    /// whatever else happens to the table between the calls.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Ref<'_, E>)) -> u64 {
        let count = count.max(1);
        let mut at = cursor & ((1 << CURSOR_BITS) - 1);
        let mut visited = 0;
        for _ in 0..count.saturating_mul(SCAN_BUCKETS) {
            let Some(segment) = self.segment(at << (64 - CURSOR_BITS)) else { return 0 };
            visited += self.scan_bucket(segment, at, visit);
            at = next_cursor(segment, at);
            if at == 1 << CURSOR_BITS {
                return 0;
            }
            if visited >= count {
                break;
            }
        }
        at
    }

    /// Visits the elements whose home is the bucket of the cursor `at` and whose hash is not below it.
    fn scan_bucket(&self, segment: Segment, at: u64, visit: &mut dyn FnMut(Ref<'_, E>)) -> usize {
        let depth = segment.depth;
        let at_window = window(at << (64 - CURSOR_BITS), depth);
        let at_fraction = fraction(at_window, depth);
        let home_index = home(at_window, depth, segment.length);
        // A cursor from a time when the segment was deeper may be finer than the window.
        let finer = at & ((1 << (CURSOR_BITS - 16 - window_start(depth))) - 1) != 0;
        let mut visited = 0;
        let mut index = home_index;
        loop {
            let bucket = segment.bucket(index);
            for lane in bucket.occupied() {
                let word = bucket.words[lane as usize];
                let fraction = fraction(slot_window(word), depth);
                if segment.home_of(word) != home_index || fraction < at_fraction {
                    continue;
                }
                // SAFETY: the lane is occupied, and the loan borrows the table.
                let element = unsafe { Ref::<E>::new(word) };
                if finer && fraction == at_fraction && element.hash() >> (64 - CURSOR_BITS) < at {
                    continue;
                }
                visited += 1;
                visit(element);
            }
            if bucket.overflow() == 0 {
                return visited;
            }
            index = segment.after(index);
            if index == home_index {
                return visited;
            }
        }
    }

    /// All elements.
    pub fn iter(&self) -> Iter<'_, E> {
        Iter { dict: self, at: Position::default(), lane: 0 }
    }

    /// A random element; `random` gives 64 random bits a call. Every element is equally likely, except
    /// in tables whose hashes collide.
    pub fn random(&self, random: &mut dyn FnMut() -> u64) -> Option<Ref<'_, E>> {
        if self.is_empty() {
            return None;
        }
        // Slots are drawn, and free ones rejected. To make all slots equally likely, a segment counts only at
        // the first of its directory words, and a bucket is drawn from a range that is the same for all.
        let range = if self.directory.len() == 1 { self.segment_at(0)?.length } else { LONGEST };
        for _ in 0..RANDOM_TRIES {
            let bits = random();
            let index = (bits >> 32) as usize & (self.directory.len() - 1);
            let segment = self.segment_at(index)?;
            let bucket = ((u64::from(bits as u32 >> 3) * u64::from(range.max(segment.length))) >> 29) as u32;
            if bucket >= segment.length || index & (self.words_of(segment) - 1) != 0 {
                continue;
            }
            let lane = bits as u32 & 7;
            let bucket = segment.bucket(bucket);
            if lane < LANES && bucket.tag(lane) != 0 {
                // SAFETY: the lane is occupied, and the loan borrows the table.
                return Some(unsafe { Ref::new(bucket.words[lane as usize]) });
            }
        }
        let mut found = None;
        self.walk(self.random_position(random)?, &mut |element| {
            found = Some(element);
            false
        });
        found
    }

    /// Visits up to `count` elements that lie together at a random place: fewer cache misses than as many
    /// calls of `random`.
    pub fn sample<'a>(
        &'a self,
        random: &mut dyn FnMut() -> u64,
        count: usize,
        visit: &mut dyn FnMut(Ref<'a, E>),
    ) {
        let mut left = count.min(self.len);
        let Some(start) = self.random_position(random) else { return };
        if left == 0 {
            return;
        }
        self.walk(start, &mut |element| {
            visit(element);
            left -= 1;
            left > 0
        });
    }

    /// The look inside. Walks the whole table.
    pub fn stats(&self) -> DictStats {
        let mut stats = DictStats {
            entries: self.len,
            segments: self.segments,
            depth: self.depth(),
            bytes: self.memory_bytes(),
            ..DictStats::default()
        };
        let mut at = Position::default();
        while let Some(segment) = self.segment_at(at.index) {
            if at.bucket == 0 {
                stats.slots += (segment.length * LANES) as usize;
                stats.longest_segment = stats.longest_segment.max(segment.length);
            }
            let bucket = segment.bucket(at.bucket);
            for lane in bucket.occupied() {
                let home = segment.home_of(bucket.words[lane as usize]);
                let chain = (at.bucket + segment.length - home) % segment.length;
                stats.displaced += usize::from(chain > 0);
                stats.max_chain = stats.max_chain.max(chain);
            }
            at = self.next_position(at, segment);
        }
        stats
    }

    fn segment_at(&self, index: usize) -> Option<Segment> {
        let word = *self.directory.get(index)?;
        // SAFETY: a directory word names a live segment, and nothing here uses the `_mut` methods.
        Some(unsafe { Segment::unpack(word) })
    }

    /// How many directory words name the segment.
    fn words_of(&self, segment: Segment) -> usize {
        1 << (self.depth() - segment.depth)
    }

    fn next_position(&self, at: Position, segment: Segment) -> Position {
        if at.bucket + 1 < segment.length {
            return Position { index: at.index, bucket: at.bucket + 1 };
        }
        let words = self.words_of(segment);
        Position { index: (at.index & !(words - 1)) + words, bucket: 0 }
    }

    fn random_position(&self, random: &mut dyn FnMut() -> u64) -> Option<Position> {
        let bits = random();
        let index = (bits >> 32) as usize & self.directory.len().checked_sub(1)?;
        let segment = self.segment_at(index)?;
        let bucket = (((bits & 0xffff_ffff) * u64::from(segment.length)) >> 32) as u32;
        Some(Position { index, bucket })
    }

    /// Hands out elements from a position on, around the end, until `each` says false or, at the latest,
    /// when the walk is back at the start.
    fn walk<'a>(&'a self, start: Position, each: &mut dyn FnMut(Ref<'a, E>) -> bool) {
        let mut at = start;
        let mut left = self.len;
        while left > 0 {
            let Some(segment) = self.segment_at(at.index) else {
                at = Position::default();
                continue;
            };
            let bucket = segment.bucket(at.bucket);
            for lane in bucket.occupied() {
                left = left.saturating_sub(1);
                // SAFETY: the lane is occupied, and the loan borrows the table.
                if !each(unsafe { Ref::new(bucket.words[lane as usize]) }) {
                    return;
                }
            }
            at = self.next_position(at, segment);
        }
    }
}

/// The first cursor whose home is a later bucket than that of `at`: 2^48 at the end of the table.
pub(super) fn next_cursor(segment: Segment, at: u64) -> u64 {
    let depth = segment.depth;
    let bits = fraction_bits(depth);
    let at_window = window(at << (64 - CURSOR_BITS), depth);
    let home_index = u64::from(home(at_window, depth, segment.length));
    let next = ((home_index + 1) << bits).div_ceil(u64::from(segment.length));
    let start = at & !((1 << (CURSOR_BITS - depth)) - 1);
    start + (next << (CURSOR_BITS - depth - bits))
}
