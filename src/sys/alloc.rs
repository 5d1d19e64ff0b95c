//! The memory allocator: jemalloc behind our own `GlobalAlloc`, with the counters that `maxmemory` and INFO
//! read. Knows no keyspace. A reader comes to learn what "used memory" means and what it costs to ask.
//!
//! Used memory is what the program holds, in size classes: per thread, jemalloc counts the bytes given out
//! and taken back. The thread that asks (the reactor) reads its own two counters, which costs about a
//! nanosecond; other threads add what they did to a shared sum when they call [`publish`] and when they
//! end. Nothing here takes a lock, so a forked child may ask too.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// The allocator of the whole program, tests included. Miri cannot call C and keeps the system's.
#[cfg(not(miri))]
#[global_allocator]
static GLOBAL: Jemalloc = Jemalloc;

/// jemalloc built with 8-byte size classes (`JEMALLOC_SYS_WITH_LG_QUANTUM=3` in `.cargo/config.toml`).
/// The stock wrapper assumes classes of 16 and then hands out misaligned blocks; this one names every
/// alignment above 8, and stays right (only fatter) when built without the variable.
pub struct Jemalloc;

/// Options jemalloc reads at its first call. One arena, since one thread does nearly all allocating; free
/// pages go back to the system after about two seconds; no cache of blocks above 4 KiB.
#[cfg(not(miri))]
#[used]
// SAFETY: jemalloc's documented hook; the type is that of its weak `const char *malloc_conf`.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: Option<&'static std::ffi::c_char> = {
    const TEXT: &std::ffi::CStr =
        c"narenas:1,background_thread:false,dirty_decay_ms:2000,muzzy_decay_ms:0,tcache_max:4096";
    // SAFETY: the pointer is to a constant that lives as long as the program.
    Some(unsafe { &*TEXT.as_ptr() })
};

/// The alignment every block has whatever its size (the smallest size class).
const QUANTUM: usize = 8;

fn flags_of(layout: Layout) -> std::ffi::c_int {
    if layout.align() <= QUANTUM { 0 } else { tikv_jemalloc_sys::MALLOCX_ALIGN(layout.align()) }
}

// SAFETY: blocks come from jemalloc with at least the layout's size and alignment (sizes below 8 round up to
// the class of 8, which is 8-aligned) and stay valid until given back; null is returned on failure, and no
// path unwinds.
unsafe impl GlobalAlloc for Jemalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= QUANTUM {
            // SAFETY: malloc may be called with any size.
            return unsafe { tikv_jemalloc_sys::malloc(layout.size()) }.cast();
        }
        // SAFETY: the size of a global allocation is never 0, as mallocx requires.
        unsafe { tikv_jemalloc_sys::mallocx(layout.size(), flags_of(layout)) }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= QUANTUM {
            // SAFETY: calloc may be called with any size.
            return unsafe { tikv_jemalloc_sys::calloc(1, layout.size()) }.cast();
        }
        let flags = flags_of(layout) | tikv_jemalloc_sys::MALLOCX_ZERO;
        // SAFETY: as in `alloc`.
        unsafe { tikv_jemalloc_sys::mallocx(layout.size(), flags) }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller passes a block of ours with the layout it was asked with, so the size is within
        // the block's class and the flags are those of the request.
        unsafe { tikv_jemalloc_sys::sdallocx(block.cast(), layout.size(), flags_of(layout)) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= QUANTUM {
            // SAFETY: the block is ours and live, the new size is not 0.
            return unsafe { tikv_jemalloc_sys::realloc(block.cast(), new_size) }.cast();
        }
        // SAFETY: as above; the alignment is asked for again.
        unsafe { tikv_jemalloc_sys::rallocx(block.cast(), new_size, flags_of(layout)) }.cast()
    }
}

/// What threads other than the asking one hold, as far as they have published it.
static PUBLISHED: AtomicI64 = AtomicI64::new(0);

/// The calling thread's view of jemalloc's counters.
#[derive(Clone, Copy)]
struct Counters {
    allocated: *const u64,
    deallocated: *const u64,
    /// What this thread has added to [`PUBLISHED`]; its own reading must not count it twice.
    published: i64,
}

thread_local! {
    static COUNTERS: Cell<Counters> = const {
        Cell::new(Counters { allocated: std::ptr::null(), deallocated: std::ptr::null(), published: 0 })
    };
    /// Publishes the last state of a thread when it ends. Apart from the counters, so that reading those
    /// needs no check whether they are already destroyed.
    static AT_EXIT: PublishAtExit = const { PublishAtExit };
}

struct PublishAtExit;

impl Drop for PublishAtExit {
    fn drop(&mut self) {
        publish();
    }
}

#[inline]
fn counters() -> Counters {
    let counters = COUNTERS.get();
    if counters.allocated.is_null() { find_counters() } else { counters }
}

#[cold]
fn find_counters() -> Counters {
    let found = Counters {
        allocated: read_ctl(c"thread.allocatedp").unwrap_or(&ZERO),
        deallocated: read_ctl(c"thread.deallocatedp").unwrap_or(&ZERO),
        published: 0,
    };
    COUNTERS.set(found);
    // The thread may be ending already; then what it still frees stays uncounted.
    let _ = AT_EXIT.try_with(|_| ());
    found
}

/// Stands for jemalloc's counters where there are none (Miri).
static ZERO: u64 = 0;

impl Counters {
    #[inline]
    fn held(self) -> i64 {
        // SAFETY: both point to counters of this thread, which live as long as the thread and are written by
        // no other (or to `ZERO`).
        unsafe { (*self.allocated).wrapping_sub(*self.deallocated) as i64 }
    }
}

/// Bytes the program holds, by size class: those of the calling thread to the byte, those of other threads
/// as of their last [`publish`]. About a nanosecond; call it from the reactor before any command.
#[inline]
pub fn used_memory() -> usize {
    let own = counters();
    let total = own.held() - own.published + PUBLISHED.load(Ordering::Relaxed);
    usize::try_from(total).unwrap_or(0)
}

/// Adds what the calling thread has allocated and freed since its last call to the sum that other threads
/// see. Helper threads call it after each job; the end of a thread does it by itself.
pub fn publish() {
    let mut own = counters();
    let held = own.held();
    PUBLISHED.fetch_add(held - own.published, Ordering::Relaxed);
    own.published = held;
    COUNTERS.set(own);
}

/// The size of the block that a request of `size` bytes (alignment <= 8) gets. Needs no allocation.
#[inline]
pub fn size_class(size: usize) -> usize {
    if cfg!(miri) {
        return size.next_multiple_of(QUANTUM);
    }
    // SAFETY: a pure function for sizes other than 0.
    unsafe { tikv_jemalloc_sys::nallocx(size.max(1), 0) }
}

/// The size of the block at `block`: at least what was asked for. 0 for null (and under Miri).
///
/// # Safety
/// `block` must be null or the start of a live allocation of the global allocator.
#[inline]
pub unsafe fn usable_size<T: ?Sized>(block: *const T) -> usize {
    if cfg!(miri) {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { tikv_jemalloc_sys::malloc_usable_size(block.cast()) }
}

/// Totals over all threads, in bytes, for INFO memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocStats {
    /// Held by the program (jemalloc's own account of it, with what its caches keep).
    pub allocated: usize,
    /// In pages that hold at least one live block.
    pub active: usize,
    /// Of jemalloc in physical memory.
    pub resident: usize,
    /// In pages given back lazily (the system may not have taken them yet).
    pub muzzy: usize,
    /// Of address space kept for later, without physical memory.
    pub retained: usize,
    /// In slabs (runs of pages with blocks of one size) and free: what active defragmentation can win.
    pub fragmented: usize,
}

impl AllocStats {
    /// [`AllocStats::fragmented`] in percent of what the program holds.
    pub fn fragmented_percent(&self) -> f64 {
        self.fragmented as f64 * 100.0 / self.allocated.max(1) as f64
    }
}

/// Reads the totals. Takes about 20 microseconds and jemalloc's locks: for cron, not for commands.
pub fn stats() -> AllocStats {
    refresh();
    let size = |name| read_ctl::<usize>(name).unwrap_or(0);
    let page = read_ctl::<usize>(c"arenas.page").unwrap_or(4096);
    AllocStats {
        allocated: size(c"stats.allocated"),
        active: size(c"stats.active"),
        resident: size(c"stats.resident"),
        // 4096 is MALLCTL_ARENAS_ALL.
        muzzy: size(c"stats.arenas.4096.pmuzzy") * page,
        retained: size(c"stats.retained"),
        fragmented: SMALL_BINS.with(|bins| bins.iter().map(SmallBin::free_bytes).sum()),
    }
}

/// Brings jemalloc's statistics up to date, which are as of the last call otherwise.
pub(super) fn refresh() {
    let _ = write_ctl(c"epoch", 1u64);
}

/// The statistics of the blocks of one size.
struct SmallBin {
    size: usize,
    blocks_per_slab: usize,
    slabs: Option<Mib<6>>,
    blocks: Option<Mib<6>>,
}

thread_local! {
    /// Names are looked up once. (Per thread, since a lock would be in the way of a forked child.)
    static SMALL_BINS: Vec<SmallBin> = {
        let count = read_ctl::<u32>(c"arenas.nbins").unwrap_or(0) as usize;
        (0..count).map(SmallBin::new).collect()
    };
}

impl SmallBin {
    fn new(index: usize) -> SmallBin {
        SmallBin {
            size: bin_size(index),
            blocks_per_slab: bin_fact::<u32>(index, "nregs").unwrap_or(0) as usize,
            slabs: bin_stat(index, "curslabs"),
            blocks: bin_stat(index, "curregs"),
        }
    }

    fn free_bytes(&self) -> usize {
        self.fill().free() * self.size
    }

    fn fill(&self) -> BinFill {
        let read = |stat: &Option<Mib<6>>| stat.as_ref().and_then(|stat| stat.read::<usize>()).unwrap_or(0);
        let (slabs, used) = (read(&self.slabs), read(&self.blocks));
        BinFill { size: self.size, slabs, room: slabs * self.blocks_per_slab, used }
    }
}

/// How full the slabs of one size of blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinFill {
    /// Bytes of a block.
    pub size: usize,
    /// Number of slabs.
    pub slabs: usize,
    /// Number of blocks for which they have room.
    pub room: usize,
    /// Number of blocks in use, or kept by the threads' caches.
    pub used: usize,
}

impl BinFill {
    /// Number of free blocks.
    pub fn free(&self) -> usize {
        self.room.saturating_sub(self.used)
    }
}

/// How full the slabs are, of all sizes that have some, the smallest first; as of the last [`stats`].
pub fn bin_fills() -> Vec<BinFill> {
    SMALL_BINS.with(|bins| bins.iter().map(SmallBin::fill).filter(|fill| fill.slabs > 0).collect())
}

/// Bytes of the blocks of a bin.
pub(super) fn bin_size(index: usize) -> usize {
    bin_fact(index, "size").unwrap_or(0)
}

fn bin_fact<T: Copy>(index: usize, name: &str) -> Option<T> {
    let name = std::ffi::CString::new(format!("arenas.bin.{index}.{name}")).ok()?;
    read_ctl(&name)
}

/// The way to a number of a bin, summed over all arenas.
pub(super) fn bin_stat(index: usize, name: &str) -> Option<Mib<6>> {
    let name = std::ffi::CString::new(format!("stats.arenas.4096.bins.{index}.{name}")).ok()?;
    Mib::of(&name)
}

/// A name of jemalloc's that was looked up, `N` parts long.
pub(super) struct Mib<const N: usize>([usize; N]);

impl<const N: usize> Mib<N> {
    /// Looks a name up.
    pub(super) fn of(name: &std::ffi::CStr) -> Option<Mib<N>> {
        if cfg!(miri) {
            return None;
        }
        let (mut mib, mut parts) = ([0; N], N);
        // SAFETY: the pointers describe room for `N` parts.
        let code =
            unsafe { tikv_jemalloc_sys::mallctlnametomib(name.as_ptr(), mib.as_mut_ptr(), &mut parts) };
        (code == 0 && parts == N).then_some(Mib(mib))
    }

    /// Reads the value, whose type `T` must be the one documented for the name.
    pub(super) fn read<T: Copy>(&self) -> Option<T> {
        self.call::<(), T>(None)
    }

    /// Gives a question and reads the answer; both types must be those documented for the name, and the
    /// answer one for which all bits are valid.
    pub(super) fn ask<Q: Copy, A: Copy>(&self, question: Q) -> Option<A> {
        self.call(Some(question))
    }

    #[inline]
    fn call<Q: Copy, A: Copy>(&self, mut question: Option<Q>) -> Option<A> {
        let mut answer = std::mem::MaybeUninit::<A>::uninit();
        let mut size = size_of::<A>();
        let (new, new_size) = match &mut question {
            Some(question) => ((&raw mut *question).cast(), size_of::<Q>()),
            None => (std::ptr::null_mut(), 0),
        };
        // SAFETY: pointers and sizes describe one answer and perhaps one question; jemalloc refuses others.
        let code = unsafe {
            let out = answer.as_mut_ptr().cast();
            tikv_jemalloc_sys::mallctlbymib(self.0.as_ptr(), N, out, &mut size, new, new_size)
        };
        // SAFETY: on success jemalloc has written all of it.
        (code == 0 && size == size_of::<A>()).then(|| unsafe { answer.assume_init() })
    }
}

/// Reads one of jemalloc's values. `T` must be the type documented for the name.
pub(super) fn read<T: Copy>(name: &std::ffi::CStr) -> Option<T> {
    read_ctl(name)
}

/// Lets the calling thread keep freed blocks for its next allocations, or not; turning it off gives all of
/// them back to their slabs.
pub(super) fn set_thread_cache(on: bool) {
    let _ = write_ctl(c"thread.tcache.enabled", on);
}

/// Allocates past the thread's cache: in the slab that jemalloc is filling. Null on failure.
///
/// # Safety
/// The size of the layout is not 0.
pub(super) unsafe fn allocate_uncached(layout: Layout) -> *mut u8 {
    if cfg!(miri) {
        // SAFETY: the caller's promise.
        return unsafe { std::alloc::alloc(layout) };
    }
    let flags = flags_of(layout) | tikv_jemalloc_sys::MALLOCX_TCACHE_NONE;
    // SAFETY: the caller's promise.
    unsafe { tikv_jemalloc_sys::mallocx(layout.size(), flags) }.cast()
}

/// Frees past the thread's cache.
///
/// # Safety
/// The block is a live one of the global allocator, asked for with this layout.
pub(super) unsafe fn free_uncached(block: *mut u8, layout: Layout) {
    if cfg!(miri) {
        // SAFETY: the caller's promise.
        return unsafe { std::alloc::dealloc(block, layout) };
    }
    let flags = flags_of(layout) | tikv_jemalloc_sys::MALLOCX_TCACHE_NONE;
    // SAFETY: as in `dealloc`.
    unsafe { tikv_jemalloc_sys::sdallocx(block.cast(), layout.size(), flags) }
}

/// Gives all free pages of jemalloc back to the system (MEMORY PURGE). False when jemalloc refuses.
pub fn purge() -> bool {
    flush_thread_cache();
    act_ctl(c"arena.4096.purge")
}

/// Empties the calling thread's cache of small blocks into the arena.
pub fn flush_thread_cache() -> bool {
    act_ctl(c"thread.tcache.flush")
}

/// Lets a thread of jemalloc's own give free pages back (`jemalloc-bg-thread`), instead of whoever happens
/// to free memory. To be called after daemonizing. False when it cannot be changed.
pub fn set_background_thread(on: bool) -> bool {
    write_ctl(c"background_thread", on)
}

/// jemalloc's version, as INFO `mem_allocator` shows it: `jemalloc-5.3.1`.
pub fn name() -> String {
    let Some(version) = read_ctl::<*const std::ffi::c_char>(c"version") else {
        return "libc".to_owned();
    };
    // SAFETY: jemalloc gives a static string ending with NUL.
    let version = unsafe { std::ffi::CStr::from_ptr(version) }.to_string_lossy();
    format!("jemalloc-{}", version.split('-').next().unwrap_or_default())
}

/// One of jemalloc's numbers by its name, whatever its width (DEBUG MALLCTL).
pub fn control_value(name: &std::ffi::CStr) -> Option<i64> {
    let wide = read_ctl::<u64>(name).map(|value| value as i64);
    let narrow = || read_ctl::<u32>(name).map(i64::from);
    wide.or_else(narrow).or_else(|| read_ctl::<u8>(name).map(i64::from))
}

/// Triggers one of jemalloc's actions by its name (DEBUG MALLCTL-STR name VOID). False if there is none.
pub fn control_action(name: &std::ffi::CStr) -> bool {
    act_ctl(name)
}

/// Reads one of jemalloc's values. `T` must be the type documented for the name.
fn read_ctl<T: Copy>(name: &std::ffi::CStr) -> Option<T> {
    if cfg!(miri) {
        return None;
    }
    let mut value = std::mem::MaybeUninit::<T>::uninit();
    let mut size = size_of::<T>();
    // SAFETY: out pointer and size describe one `T`; jemalloc refuses a size that is not the value's.
    let code = unsafe {
        let out = value.as_mut_ptr().cast();
        tikv_jemalloc_sys::mallctl(name.as_ptr(), out, &mut size, std::ptr::null_mut(), 0)
    };
    // SAFETY: on success jemalloc has written all of it.
    (code == 0 && size == size_of::<T>()).then(|| unsafe { value.assume_init() })
}

/// Sets one of jemalloc's values. `T` must be the type documented for the name.
fn write_ctl<T: Copy>(name: &std::ffi::CStr, mut value: T) -> bool {
    if cfg!(miri) {
        return false;
    }
    let none = std::ptr::null_mut();
    let new = (&raw mut value).cast();
    // SAFETY: the new-value pointer and size describe one `T`; jemalloc refuses other sizes.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), none, none.cast(), new, size_of::<T>()) == 0 }
}

/// Triggers one of jemalloc's actions, which take and give no value.
fn act_ctl(name: &std::ffi::CStr) -> bool {
    let none = std::ptr::null_mut();
    // SAFETY: null pointers say that nothing is read or written.
    !cfg!(miri) && unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), none, none.cast(), none, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    #[test]
    fn options_reached_jemalloc() {
        assert_eq!(read_ctl::<u32>(c"opt.narenas"), Some(1));
        assert_eq!(read_ctl::<isize>(c"opt.dirty_decay_ms"), Some(2000));
        assert_eq!(read_ctl::<usize>(c"arenas.quantum"), Some(8));
        assert!(name().starts_with("jemalloc-5."), "{}", name());
    }

    #[test]
    fn blocks_are_aligned_zeroed_and_kept() {
        let mut rng = Rng::from_seed(17);
        let mut live: Vec<(*mut u8, Layout)> = Vec::new();
        for _ in 0..5_000 {
            let layout = Layout::from_size_align(1 + rng.below(600) as usize, 1 << rng.below(9)).unwrap();
            // SAFETY: the size is not 0; every block is freed once, with its layout.
            unsafe {
                let block = match rng.below(2) {
                    0 => Jemalloc.alloc(layout),
                    _ => Jemalloc.alloc_zeroed(layout),
                };
                assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()), "{layout:?}");
                block.write_bytes(0xaa, layout.size());
                live.push((block, layout));
                if live.len() > 100 {
                    let (block, layout) = live.swap_remove(rng.below(100) as usize);
                    let grown = Layout::from_size_align(layout.size() * 2, layout.align()).unwrap();
                    let moved = Jemalloc.realloc(block, layout, grown.size());
                    assert!(
                        moved.addr().is_multiple_of(layout.align()) && *moved.add(layout.size() - 1) == 0xaa
                    );
                    assert!(usable_size(moved) >= grown.size());
                    Jemalloc.dealloc(moved, grown);
                    let zeroed = Jemalloc.alloc_zeroed(layout);
                    assert!((0..layout.size()).all(|i| *zeroed.add(i) == 0), "{layout:?}");
                    Jemalloc.dealloc(zeroed, layout);
                }
            }
        }
        for (block, layout) in live {
            // SAFETY: as above.
            unsafe { Jemalloc.dealloc(block, layout) }
        }
    }

    #[test]
    fn size_classes() {
        assert_eq!([1, 8, 9, 17, 24, 33, 49].map(size_class), [8, 8, 16, 24, 24, 40, 56]);
        let text = vec![0u8; 33].into_boxed_slice();
        // SAFETY: a live allocation.
        assert_eq!(unsafe { usable_size(text.as_ptr()) }, 40);
    }

    #[test]
    fn used_memory_is_exact_and_follows_other_threads() {
        // Other tests' threads may publish meanwhile, so the parts are looked at, not the sum.
        let before = counters().held();
        let block = std::hint::black_box(vec![1u8; 1000]);
        assert_eq!(counters().held() - before, size_class(1000) as i64);
        drop(block);
        assert_eq!(counters().held(), before);
        let thread = std::thread::spawn(|| {
            let kept = std::hint::black_box(vec![1u8; 64 << 20]);
            publish();
            kept
        });
        let kept = thread.join().expect("the thread does not panic");
        // Half of it, since what other tests hand from thread to thread is counted late.
        assert!(PUBLISHED.load(Ordering::Relaxed) > 32 << 20);
        assert!(used_memory() > 32 << 20);
        drop(kept);
    }

    #[test]
    fn totals() {
        let block = std::hint::black_box(vec![1u8; 8 << 20]);
        let stats = stats();
        assert!(stats.allocated >= block.len() && stats.active >= stats.allocated, "{stats:?}");
        assert!(stats.resident >= stats.active);
        assert!(purge());
    }
}
