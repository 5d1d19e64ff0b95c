//! Active defragmentation of a table: directory, segments and elements are moved, some at a time. It changes
//! addresses only, never which element is where.

use super::handle::{Mut, Slot};
use super::segment::{Segment, home, slot_address, window};
use super::walk::{CURSOR_BITS, next_cursor};
use super::{Dict, Found};
use crate::collections::prefetch;
use crate::collections::relocate::relocate_vec;
use crate::sys::defrag::Mover;

/// How many buckets ahead elements are prefetched.
const AHEAD: u32 = 2;

impl<E: Slot> Dict<E> {
    /// Moves blocks of one bucket: at the first of a segment that of the segment, at the first of all that of
    /// the directory, and whatever `each` moves of the bucket's elements (up to 7, for as long as nothing
    /// collides). Gives the cursor to go on from; 0 is the start and the end, as in `Dict::scan`. Between the
    /// calls anything may happen to the table: a bucket may then come twice or be left out.
    ///
    /// Safe because only the table knows the addresses: directory words name segments, slot words elements,
    /// and both are replaced here. Loans of elements borrow the table and have ended.
    pub fn relocate_some(
        &mut self,
        cursor: u64,
        mover: &mut Mover,
        each: &mut dyn FnMut(&mut E, &mut Mover),
    ) -> u64 {
        let at = cursor & ((1 << CURSOR_BITS) - 1);
        if at == 0 {
            relocate_vec(&mut self.directory, mover);
        }
        let hash = at << (64 - CURSOR_BITS);
        let Some(mut segment) = self.segment(hash) else { return 0 };
        let index = home(window(hash, segment.depth), segment.depth, segment.length);
        if index == 0 && segment.relocate(mover) {
            self.point(hash, segment);
        }
        self.prefetch_elements(segment, index + AHEAD);
        for lane in segment.bucket(index).occupied() {
            let place = Found { segment, bucket: index, lane }.place();
            // SAFETY: the lane is occupied, and the table is borrowed exclusively.
            let mut element = unsafe { Mut::<E>::new(place) };
            each(&mut element, mover);
        }
        match next_cursor(segment, at) {
            end if end == 1 << CURSOR_BITS => 0,
            next => next,
        }
    }

    fn prefetch_elements(&self, segment: Segment, index: u32) {
        if index < segment.length {
            let bucket = segment.bucket(index);
            bucket.occupied().for_each(|lane| prefetch(slot_address(bucket.words[lane as usize]).as_ptr()));
        }
    }
}
