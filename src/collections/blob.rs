//! A byte buffer behind one pointer, shared by counting, for values too long to be inline: a command reads
//! it, a reply keeps it alive while it is written, and the next writer copies it if that is still going on.
//! It knows nothing of keys or strings as a data type.
//!
//! One block holds a header of 16 bytes (references, length, capacity) and the bytes. The size is exact
//! unless the buffer was grown by appending.

use super::size_class;
use crate::sys::defrag::Mover;
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

const HEAD: usize = size_of::<Head>();
const ALIGN: usize = 8;
/// Appending doubles the capacity below this size and adds this much above: the rule of Redis' strings.
const GREEDY: usize = 1 << 20;
/// Lengths have 48 bits.
const MAX_LEN: usize = (1 << 48) - 1;
/// More references than this mean that references leak.
const MAX_REFS: u32 = u32::MAX / 2;

/// The block's first 16 bytes. Length and capacity have 48 bits each.
#[repr(C)]
struct Head {
    refs: AtomicU32,
    len_high: u16,
    capacity_high: u16,
    len_low: u32,
    capacity_low: u32,
}

/// The buffer of all empty blobs without capacity; it is never written nor freed.
static EMPTY: Head =
    Head { refs: AtomicU32::new(1), len_high: 0, capacity_high: 0, len_low: 0, capacity_low: 0 };

/// A thin, counted, growable byte buffer. `clone` shares; writing to a shared one copies first.
#[repr(transparent)]
pub struct Blob {
    head: NonNull<Head>,
}

// SAFETY: the count is atomic, and the bytes are written only by an owner that is alone.
unsafe impl Send for Blob {}
// SAFETY: as above; a shared blob only lends its bytes out for reading.
unsafe impl Sync for Blob {}

impl Head {
    fn len(&self) -> usize {
        (self.len_high as usize) << 32 | self.len_low as usize
    }

    fn capacity(&self) -> usize {
        (self.capacity_high as usize) << 32 | self.capacity_low as usize
    }
}

impl Default for Blob {
    fn default() -> Self {
        Blob::new()
    }
}

impl Blob {
    /// An empty buffer; it allocates nothing.
    pub fn new() -> Self {
        Blob { head: NonNull::from(&EMPTY) }
    }

    /// An empty buffer with room for exactly `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        // SAFETY: the layout is not empty.
        Blob::in_block(capacity, 0, |layout| unsafe { alloc(layout) })
    }

    /// A buffer of `len` zeros, for instance to be filled from a socket piece by piece. Big ones cost
    /// nothing before they are touched.
    pub fn zeroed(len: usize) -> Self {
        // SAFETY: the layout is not empty.
        Blob::in_block(len, len, |layout| unsafe { alloc_zeroed(layout) })
    }

    /// A buffer with a copy of the bytes.
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut blob = Blob::with_capacity(bytes.len());
        blob.append(bytes);
        blob
    }

    /// The bytes.
    #[inline(always)]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `len` bytes behind the head are initialised, and nobody writes them while they
        // are lent out: a writer must be alone and borrow exclusively.
        unsafe { std::slice::from_raw_parts(self.bytes(), self.len()) }
    }

    /// Number of bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.head().len()
    }

    /// Whether there are no bytes.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes fit without moving.
    pub fn capacity(&self) -> usize {
        self.head().capacity()
    }

    /// Whether a write would have to copy.
    pub fn is_shared(&self) -> bool {
        !self.is_static() && self.head().refs.load(Ordering::Acquire) != 1
    }

    /// The bytes, to be changed in place; copies them first when they are shared.
    pub fn make_mut(&mut self) -> &mut [u8] {
        self.own(self.len());
        // SAFETY: the bytes are initialised, and this blob is alone and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.bytes(), self.len()) }
    }

    /// Appends; grows greedily (doubles below 1 MiB, then adds 1 MiB). `bytes` cannot be part of this buffer.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.append(bytes);
    }

    /// Appends what `read` puts into a zeroed buffer of `want` bytes; it returns how many it put there.
    pub fn append_with<T>(
        &mut self,
        want: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, T>,
    ) -> Result<usize, T> {
        let len = self.len();
        self.resize(len + want);
        let result = read(&mut self.make_mut()[len..]);
        let n = result.as_ref().map_or(0, |n| *n);
        assert!(n <= want, "read no more than was asked for");
        self.truncate(len + n);
        result
    }

    /// Makes room for `additional` more bytes, greedily.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.len().checked_add(additional).expect("a blob fits the address space");
        if wanted > self.capacity() || self.is_shared() {
            let greedy = if wanted < GREEDY { wanted * 2 } else { wanted + GREEDY };
            self.own(if wanted > self.capacity() { greedy } else { wanted });
        }
    }

    /// Cuts off, or fills up with zeros (greedily, as appending).
    pub fn resize(&mut self, len: usize) {
        let old = self.len();
        if len <= old {
            return self.truncate(len);
        }
        self.reserve(len - old);
        // SAFETY: there is room for `len` bytes, and this blob is alone and borrowed exclusively.
        unsafe {
            self.bytes().add(old).write_bytes(0, len - old);
            self.set_len(len);
        }
    }

    /// Cuts off all bytes from `len` on; the capacity stays.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            if self.is_shared() {
                *self = Blob::from_slice(&self.as_slice()[..len]);
            } else {
                // SAFETY: these bytes are initialised, and the blob is alone.
                unsafe { self.set_len(len) }
            }
        }
    }

    /// Gives unused capacity back. A shared buffer stays as it is.
    pub fn shrink_to_fit(&mut self) {
        if self.capacity() > self.len() && !self.is_shared() {
            if self.is_empty() {
                *self = Blob::new();
            } else {
                self.reallocate(self.len());
            }
        }
    }

    /// Makes room for `capacity` bytes in all, and for no more than the allocator would round up to anyway:
    /// for buffers that grow often and by little, and are to stay small.
    pub fn reserve_block(&mut self, capacity: usize) {
        if capacity > self.capacity() || self.is_shared() {
            self.own(size_class(HEAD + capacity.max(self.len())) - HEAD);
        }
    }

    /// Gives capacity back when half of it is unused.
    pub fn give_back(&mut self) {
        if self.len() < self.capacity() / 2 && !self.is_shared() {
            let capacity = size_class(HEAD + self.len()) - HEAD;
            if !self.is_empty() && capacity < self.capacity() {
                self.reallocate(capacity);
            }
        }
    }

    /// Moves the block for active defragmentation. A shared one stays: nobody knows the other owners, replies
    /// that are being written among them.
    pub fn relocate(&mut self, mover: &mut Mover) {
        if self.is_static() || self.is_shared() {
            return;
        }
        let layout = layout_of(self.capacity());
        // SAFETY: the block has this layout, and this blob is its only owner: only owners count references
        // up.
        if let Some(block) = unsafe { mover.moved(self.head.cast(), layout) } {
            self.head = block.cast();
        }
    }

    /// Bytes the allocator spends on the buffer, whoever shares it.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        if self.is_static() { 0 } else { size_class(layout_of(self.capacity()).size()) }
    }

    /// The unused capacity, to be written to; then `set_len`. Copies the bytes first when they are shared.
    pub fn spare_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        self.own(self.capacity());
        let (len, capacity) = (self.len(), self.capacity());
        // SAFETY: these bytes of the block are nobody's value; the blob is alone and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.bytes().add(len).cast(), capacity - len) }
    }

    /// Sets the length.
    ///
    /// # Safety
    /// The first `len` bytes are initialised and within the capacity, and the blob is not shared (as after
    /// `spare_mut`).
    pub unsafe fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity() && !self.is_shared());
        if self.is_static() {
            return;
        }
        // SAFETY: the block is not the static one and this blob is its only owner, borrowed exclusively.
        let head = unsafe { self.head.as_mut() };
        (head.len_high, head.len_low) = ((len >> 32) as u16, len as u32);
    }

    /// The same bytes, shared, for replies that outlive the borrow of the value.
    pub fn into_bytes(self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self)
    }

    /// Gives up the handle without counting down, for `from_ptr`.
    #[inline(always)]
    pub(super) fn into_ptr(self) -> NonNull<u8> {
        ManuallyDrop::new(self).head.cast()
    }

    /// # Safety
    /// `address` came from `into_ptr`, and this is its only use.
    #[inline(always)]
    pub(super) unsafe fn from_ptr(address: NonNull<u8>) -> Blob {
        Blob { head: address.cast() }
    }

    fn in_block(capacity: usize, len: usize, allocate: impl FnOnce(Layout) -> *mut u8) -> Self {
        if capacity == 0 {
            return Blob::new();
        }
        let layout = layout_of(capacity);
        let Some(block) = NonNull::new(allocate(layout)) else { handle_alloc_error(layout) };
        let head = block.cast();
        // SAFETY: the block has room for a head and is aligned to 8.
        unsafe { head.write(head_of(len, capacity)) }
        Blob { head }
    }

    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: a blob holds one reference, so the block is alive.
        unsafe { self.head.as_ref() }
    }

    #[inline(always)]
    fn is_static(&self) -> bool {
        std::ptr::eq(self.head.as_ptr(), &EMPTY)
    }

    /// The first byte behind the head.
    #[inline(always)]
    fn bytes(&self) -> *mut u8 {
        // SAFETY: the head is part of the block, so this is at most one past its end.
        unsafe { self.head.as_ptr().add(1).cast() }
    }

    /// Makes this blob the only owner of its bytes, with room for `capacity` or more.
    fn own(&mut self, capacity: usize) {
        if self.is_shared() || (self.is_static() && capacity > 0) {
            let mut copy = Blob::with_capacity(capacity.max(self.len()));
            copy.append(self.as_slice());
            *self = copy;
        } else if capacity > self.capacity() {
            self.reallocate(capacity);
        }
    }

    /// Changes the capacity of a block that is not shared, not static and not to become empty.
    fn reallocate(&mut self, capacity: usize) {
        debug_assert!(!self.is_static() && !self.is_shared() && capacity >= self.len() && capacity > 0);
        let len = self.len();
        let layout = layout_of(capacity);
        // SAFETY: the block was allocated with the layout of its capacity; this blob is its only owner.
        let block = unsafe { realloc(self.head.as_ptr().cast(), layout_of(self.capacity()), layout.size()) };
        let Some(block) = NonNull::new(block) else { handle_alloc_error(layout) };
        self.head = block.cast();
        // SAFETY: the block still begins with a head, which belongs to this blob alone.
        unsafe { self.head.write(head_of(len, capacity)) }
    }

    /// Appends where there is room and the blob is alone.
    fn append(&mut self, bytes: &[u8]) {
        let len = self.len();
        assert!(bytes.len() <= self.capacity() - len);
        // SAFETY: there is room behind the `len` bytes, and a blob in the making or after `own` is alone.
        unsafe {
            self.bytes().add(len).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            self.set_len(len + bytes.len());
        }
    }
}

fn head_of(len: usize, capacity: usize) -> Head {
    Head {
        refs: AtomicU32::new(1),
        len_high: (len >> 32) as u16,
        capacity_high: (capacity >> 32) as u16,
        len_low: len as u32,
        capacity_low: capacity as u32,
    }
}

fn layout_of(capacity: usize) -> Layout {
    assert!(capacity <= MAX_LEN, "a blob has at most 2^48 bytes");
    Layout::from_size_align(HEAD + capacity, ALIGN).expect("a blob fits the address space")
}

impl Clone for Blob {
    fn clone(&self) -> Self {
        if !self.is_static() {
            let refs = self.head().refs.fetch_add(1, Ordering::Relaxed);
            assert!(refs < MAX_REFS, "references to a blob leak");
        }
        Blob { head: self.head }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // The load spares the only owner an atomic write.
        if self.is_static()
            || (self.head().refs.load(Ordering::Acquire) != 1
                && self.head().refs.fetch_sub(1, Ordering::Release) != 1)
        {
            return;
        }
        // What other owners did with the bytes comes before their end.
        fence(Ordering::Acquire);
        // SAFETY: this was the last reference, and the block was allocated with this layout.
        unsafe { dealloc(self.head.as_ptr().cast(), layout_of(self.capacity())) }
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({})", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::testing::Random;
    use crate::sys::defrag::Select;

    #[test]
    fn agrees_with_vectors() {
        let mut random = Random::from_env();
        let mut blobs: Vec<(Blob, Vec<u8>)> = vec![(Blob::new(), vec![])];
        let mut mover = Mover::new(Select::Everything);
        for _ in 0..if cfg!(miri) { 300 } else { 20_000 } {
            let which = random.below(blobs.len() as u64) as usize;
            let len = random.below(300) as usize;
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let (blob, model) = &mut blobs[which];
            match random.below(11) {
                9 => blob.relocate(&mut mover),
                0 | 1 => {
                    blob.extend_from_slice(&bytes);
                    model.extend_from_slice(&bytes);
                }
                2 => {
                    blob.resize(len);
                    model.resize(len, 0);
                }
                3 => {
                    blob.truncate(len);
                    model.truncate(len);
                }
                4 => blob.shrink_to_fit(),
                5 => blob.make_mut().iter_mut().chain(model).for_each(|byte| *byte ^= 0x55),
                6 => {
                    let spare = blob.spare_mut();
                    let count = spare.len().min(5);
                    spare[..count].fill(MaybeUninit::new(9));
                    // SAFETY: `count` more bytes were written.
                    unsafe { blob.set_len(blob.len() + count) }
                    model.extend_from_slice(&[9; 5][..count]);
                }
                7 => {
                    let copy = (blob.clone(), model.clone());
                    // The buffer without capacity is everybody's and counts as nobody's.
                    assert_eq!(blob.is_shared(), blob.capacity() > 0);
                    blobs.push(copy);
                }
                8 if blobs.len() > 1 => drop(blobs.swap_remove(which)),
                _ => blobs[which] = (Blob::from_slice(&bytes), bytes),
            }
            assert!(blobs.len() < 10_000);
            for (blob, model) in &blobs[blobs.len().saturating_sub(20)..] {
                assert_eq!(blob.as_slice(), model);
                assert!(blob.capacity() >= blob.len());
            }
        }
    }

    #[test]
    fn sizes_are_exact_until_appending() {
        assert_eq!((size_of::<Blob>(), HEAD), (8, 16));
        let mut blob = Blob::from_slice(&[1; 100]);
        assert_eq!((blob.capacity(), blob.allocated_bytes()), (100, 128));
        blob.extend_from_slice(b"x");
        assert_eq!(blob.capacity(), 202);
        blob.shrink_to_fit();
        assert_eq!(blob.capacity(), 101);
        assert_eq!((Blob::new().allocated_bytes(), Blob::zeroed(0).len()), (0, 0));
        let mut big = Blob::zeroed(GREEDY);
        assert!(big.as_slice().iter().step_by(4096).all(|&byte| byte == 0));
        big.extend_from_slice(b"x");
        assert_eq!(big.capacity(), 2 * GREEDY + 1);
        // A reply keeps the old bytes while a writer goes on.
        let reply = blob.clone().into_bytes();
        blob.make_mut()[0] = 7;
        assert_eq!((reply[0], blob.as_slice()[0], blob.is_shared()), (1, 7, false));
    }

    #[test]
    fn threads_share_a_blob() {
        let blob = Blob::from_slice(b"shared");
        let threads: Vec<_> = (0..4u8)
            .map(|id| {
                let mut mine = blob.clone();
                std::thread::spawn(move || {
                    mine.make_mut()[0] = id;
                    assert_eq!(&mine.as_slice()[1..], b"hared");
                })
            })
            .collect();
        drop(blob);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
