//! Moving live blocks so that sparse slabs of the allocator become empty and go back to the system: what is
//! worth moving, and the move itself. Knows no structure: owners hand in their blocks and replace their
//! pointers. A reader comes to learn which blocks active defragmentation moves, and what a look costs.
//!
//! jemalloc serves blocks up to 14 KiB from slabs, runs of pages with blocks of one size (a *bin*). A slab is
//! given back only when its last block is free. So a block is moved if its slab is fuller neither than the
//! average of its bin (full slabs apart, which nobody empties) nor the slab that new blocks come from: the
//! rule of Redis, here from the figures of jemalloc's `experimental.utilization.query` (about 70 ns a look).
//! The number of full slabs is not among them; it is read once a slice and counted on from there.

use super::alloc;
use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

/// What [`Mover::wants`] says yes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// Blocks in slabs that are to become empty.
    Sparse,
    /// All blocks: for tests of those who own them.
    Everything,
}

/// The largest block that lies in a slab, in bytes.
const SMALL_MAX: usize = 14 << 10;
/// Size classes are multiples of this.
const QUANTUM: usize = 8;

/// Decides which blocks are moved, and moves them.
pub struct Mover {
    select: Select,
    query: Option<alloc::Mib<3>>,
    batch_query: Option<alloc::Mib<3>>,
    bins: Vec<Bin>,
    /// The bin of a size: index by size in quanta.
    bin_of: Vec<u8>,
    /// Counts slices: what a bin knows is of this one or stale.
    slice: u64,
    /// Blocks that were moved.
    pub hits: u64,
    /// Blocks that were looked at and stayed.
    pub misses: u64,
}

/// What is remembered of a bin.
struct Bin {
    size: usize,
    /// `stats.arenas.<all>.bins.<i>` and below.
    curslabs: Option<alloc::Mib<6>>,
    nonfull: Option<alloc::Mib<6>>,
    /// The slice in which the rest was read.
    slice: u64,
    full_slabs: usize,
    /// The slab that new blocks came from at the last look; when it is another one, this one is full.
    current: usize,
}

/// The answer of `experimental.utilization.query`: the slab that new blocks come from, and of the slab of the
/// block and of its bin the numbers of blocks.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Utilization {
    current: usize,
    free: usize,
    blocks: usize,
    bytes: usize,
    bin_free: usize,
    bin_blocks: usize,
}

/// The answer of `experimental.utilization.batch_query` for one address.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Slab {
    free: usize,
    blocks: usize,
    bytes: usize,
}

impl Default for Mover {
    fn default() -> Self {
        Mover::new(Select::Sparse)
    }
}

impl Mover {
    /// A mover that has moved nothing yet.
    pub fn new(select: Select) -> Mover {
        let count = alloc::read::<u32>(c"arenas.nbins").unwrap_or(0) as usize;
        let bins: Vec<Bin> = (0..count).map(Bin::new).collect();
        let bin_of = |quanta: usize| bins.partition_point(|bin| bin.size < quanta * QUANTUM) as u8;
        Mover {
            select,
            query: alloc::Mib::of(c"experimental.utilization.query"),
            batch_query: alloc::Mib::of(c"experimental.utilization.batch_query"),
            bin_of: (0..=SMALL_MAX / QUANTUM).map(bin_of).collect(),
            bins,
            slice: 0,
            hits: 0,
            misses: 0,
        }
    }

    /// Begins a slice of moving: until [`Mover::end_slice`] the thread allocates and frees past its cache,
    /// which would give blocks of sparse slabs out again and keep emptied slabs.
    pub fn begin_slice(&mut self) {
        alloc::set_thread_cache(false);
        alloc::refresh();
        self.slice += 1;
    }

    /// Ends a slice.
    pub fn end_slice(&mut self) {
        alloc::set_thread_cache(true);
    }

    /// Whether the block that `address` points into had better lie elsewhere. Counts nothing.
    pub fn wants(&mut self, address: *const u8) -> bool {
        if self.select == Select::Everything {
            return true;
        }
        let Some(found) = self.query.as_ref().and_then(|query| query.ask::<_, Utilization>(address)) else {
            return false;
        };
        // Large blocks have pages of their own; the current slab is where they would be moved to.
        let in_current = address.addr().wrapping_sub(found.current) < found.bytes;
        if found.free == 0 || found.blocks <= 1 || in_current {
            return false;
        }
        let slice = self.slice;
        let quanta = (found.bytes / found.blocks / QUANTUM).min(SMALL_MAX / QUANTUM);
        let Some(bin) = self.bin_of.get(quanta).and_then(|bin| self.bins.get_mut(usize::from(*bin))) else {
            return false;
        };
        bin.note(slice, found.current);
        let (mut slabs, mut used) = (found.bin_blocks / found.blocks, found.bin_blocks - found.bin_free);
        let full = bin.full_slabs.min(slabs);
        slabs -= full;
        used = used.saturating_sub(full * found.blocks);
        if found.current != 0
            && let Some(query) = &self.batch_query
            && let Some(current) = query.ask::<_, Slab>(found.current as *const u8)
        {
            slabs = slabs.saturating_sub(1);
            used = used.saturating_sub(current.blocks - current.free);
        }
        // An eighth in favour of moving, or slabs that are all alike would stay as they are.
        (found.blocks - found.free) * slabs <= used + used / 8
    }

    /// Moves a block if that is wanted: its new place, or none when it stays where it is.
    ///
    /// # Safety
    /// `block` is a live block of the global allocator that was asked for with `layout`. The caller owns it
    /// alone; when there is a new place, the block is there, and the old one is free: all pointers to it have
    /// to be replaced before anything reads them.
    #[inline]
    pub unsafe fn moved(&mut self, block: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
        if !self.wants(block.as_ptr()) {
            self.misses += 1;
            return None;
        }
        // SAFETY: the caller's promise.
        Some(unsafe { self.carry(block, layout) })
    }

    /// Moves a block.
    ///
    /// # Safety
    /// As for [`Mover::moved`].
    unsafe fn carry(&mut self, block: NonNull<u8>, layout: Layout) -> NonNull<u8> {
        self.hits += 1;
        // SAFETY: the layout is that of a live block, so its size is not 0; both blocks have room for it, and
        // a new block is no part of a live one.
        unsafe {
            let new = alloc::allocate_uncached(layout);
            let Some(new) = NonNull::new(new) else { handle_alloc_error(layout) };
            block.copy_to_nonoverlapping(new, layout.size());
            alloc::free_uncached(block.as_ptr(), layout);
            new
        }
    }

    /// Counts a container that was built anew, since nobody can reach its blocks.
    pub fn note_rebuilt(&mut self) {
        self.hits += 1;
    }
}

impl Bin {
    fn new(index: usize) -> Bin {
        Bin {
            size: alloc::bin_size(index),
            curslabs: alloc::bin_stat(index, "curslabs"),
            nonfull: alloc::bin_stat(index, "nonfull_slabs"),
            slice: u64::MAX,
            full_slabs: 0,
            current: 0,
        }
    }

    /// Brings the number of full slabs up to date.
    fn note(&mut self, slice: u64, current: usize) {
        if self.slice != slice {
            let read = |stat: &Option<alloc::Mib<6>>| stat.as_ref().and_then(|stat| stat.read::<usize>());
            let (slabs, nonfull) = (read(&self.curslabs).unwrap_or(0), read(&self.nonfull).unwrap_or(0));
            // The current slab is neither full nor among those that jemalloc calls not full.
            let others = slabs.saturating_sub(usize::from(current != 0));
            (self.slice, self.full_slabs) = (slice, others.saturating_sub(nonfull));
        } else if self.current != current {
            self.full_slabs += 1;
        }
        self.current = current;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;
    use std::alloc::{alloc, dealloc};

    #[test]
    fn blocks_of_sparse_slabs_are_gathered() {
        // A class of its own, so that other tests do not disturb the figures much.
        let layout = Layout::from_size_align(3_000, 8).unwrap();
        let mut rng = Rng::from_seed(3);
        // SAFETY: the size is not 0; all blocks are freed once, at the end or when they are dropped here.
        let blocks: Vec<NonNull<u8>> = (0..4_000u32)
            .map(|i| unsafe {
                let block = NonNull::new(alloc(layout)).unwrap();
                block.cast().write(i);
                block
            })
            .collect();
        let (mut live, dead): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|_| rng.below(10) < 3);
        // SAFETY: as above.
        dead.into_iter().for_each(|block| unsafe { dealloc(block.as_ptr(), layout) });
        // SAFETY: as above.
        let mut marks: Vec<u32> = live.iter().map(|block| unsafe { block.cast().read() }).collect();
        let before = alloc::stats().fragmented;
        let mut mover = Mover::default();
        for _ in 0..3 {
            mover.begin_slice();
            for block in &mut live {
                // SAFETY: the block is ours, and the list holds the only pointer to it.
                if let Some(new) = unsafe { mover.moved(*block, layout) } {
                    *block = new;
                }
            }
            mover.end_slice();
        }
        let after = alloc::stats().fragmented;
        let (hits, count) = (mover.hits, live.len() as u64);
        assert!(hits > count / 3 && hits < count, "{hits} of {count}");
        assert!(before > after + 3_000_000, "{before} {after}");
        for block in live.into_iter().rev() {
            // SAFETY: as above.
            unsafe {
                assert_eq!(Some(block.cast().read()), marks.pop());
                dealloc(block.as_ptr(), layout);
            }
        }
    }

    #[test]
    fn bins_are_told_by_their_slabs() {
        let mover = Mover::default();
        assert!(mover.bins.len() > 30 && mover.query.is_some() && mover.batch_query.is_some());
        for (i, bin) in mover.bins.iter().enumerate() {
            // SAFETY: the size is not 0; the block is freed with its layout.
            unsafe {
                let layout = Layout::from_size_align(bin.size, 8).unwrap();
                let block = alloc(layout);
                let found: Utilization = mover.query.as_ref().unwrap().ask(block.cast_const()).unwrap();
                assert_eq!(found.bytes / found.blocks, bin.size);
                assert_eq!(usize::from(mover.bin_of[bin.size / QUANTUM]), i);
                dealloc(block, layout);
            }
        }
        assert_eq!(mover.bins.last().unwrap().size, SMALL_MAX);
    }

    #[test]
    fn alignment_and_contents_are_kept() {
        let mut mover = Mover::new(Select::Everything);
        for (size, align) in [(1, 1), (24, 8), (192, 64), (4096, 64), (100_000, 8), (40, 32)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the block is ours and freed once, with its layout.
            unsafe {
                let block = NonNull::new(alloc(layout)).unwrap();
                block.write_bytes(0x5a, size);
                let used = alloc::used_memory();
                let new = mover.moved(block, layout).unwrap();
                assert_eq!(alloc::used_memory(), used);
                assert!(new.addr().get().is_multiple_of(align));
                assert!((0..size).all(|i| new.add(i).read() == 0x5a));
                dealloc(new.as_ptr(), layout);
            }
        }
        assert_eq!((mover.hits, mover.misses), (6, 0));
    }
}
