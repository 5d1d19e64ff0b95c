//! Active defragmentation of a wheel, some blocks at a time. What waits to be filed again stays where it is:
//! it is gone soon. Wheels know hashes, no addresses, and nobody knows theirs.

use super::{LEVELS, SLOTS, Wheel};
use crate::collections::relocate::relocate_box;
use crate::sys::defrag::Mover;

/// Chunks (of 256 bytes) that one call looks at.
const CHUNKS: usize = 256;
/// How far down a chain moves reach, in chunks: going there takes time at each call. What lies deeper (beyond
/// 245,000 items of one slot) is not moved.
const DEEPEST: usize = 1 << 13;

/// Where a walk of moves goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Slots of all levels, one after the other; then the list of what is far away.
    slot: usize,
    /// Chunks of the slot that are done.
    chunk: usize,
}

impl Wheel {
    /// Moves some blocks. Gives the cursor to go on from; none at the end.
    pub fn relocate_some(&mut self, cursor: Cursor, mover: &mut Mover) -> Option<Cursor> {
        let Cursor { mut slot, chunk } = cursor;
        if slot == LEVELS * SLOTS {
            let more = self.far.relocate_some(chunk, CHUNKS, mover) && chunk < DEEPEST;
            return more.then_some(Cursor { slot, chunk: chunk + CHUNKS });
        }
        let Some(level) = &mut self.levels[slot / SLOTS] else {
            return Some(Cursor { slot: (slot / SLOTS + 1) * SLOTS, chunk: 0 });
        };
        if slot.is_multiple_of(SLOTS) && chunk == 0 {
            relocate_box(level, mover);
        }
        if chunk == 0 {
            // Empty slots are passed over at once.
            let from = slot % SLOTS;
            match level.distance_from(from) {
                Some(distance) if from + distance < SLOTS => slot += distance,
                _ => return Some(Cursor { slot: slot - from + SLOTS, chunk: 0 }),
            }
        }
        let more = level.slots[slot % SLOTS].relocate_some(chunk, CHUNKS, mover) && chunk < DEEPEST;
        Some(if more { Cursor { slot, chunk: chunk + CHUNKS } } else { Cursor { slot: slot + 1, chunk: 0 } })
    }
}
