//! A member of a big sorted set: score and bytes in one block, owned by the table of members (`Member`) and
//! named by the tree (`Link`). Knows nothing of order.

use super::super::dict::Slot;
use super::super::element::{counted_size, read_counted, write_counted};
use super::super::size_class;
use crate::sys::defrag::Mover;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

const SCORE: usize = size_of::<f64>();

/// A score and the bytes it belongs to; the owning handle.
#[repr(transparent)]
pub struct Member {
    link: Link,
}

/// The address of a member that the table owns.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(NonNull<u8>);

// SAFETY: a member owns its block, like a box of bytes.
unsafe impl Send for Member {}
// SAFETY: a shared member is only read.
unsafe impl Sync for Member {}

// SAFETY: transparent around the pointer; blocks are aligned to 8; the bytes never change.
unsafe impl Slot for Member {
    #[inline(always)]
    fn into_ptr(self) -> NonNull<u8> {
        ManuallyDrop::new(self).link.0
    }

    #[inline(always)]
    unsafe fn from_ptr(address: NonNull<u8>) -> Self {
        Member { link: Link(address) }
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.bytes()
    }
}

impl Member {
    pub(super) fn new(bytes: &[u8], score: f64) -> Self {
        let layout = layout_of(bytes.len());
        // SAFETY: the layout has room for a score at least.
        let block = unsafe { alloc(layout) };
        let Some(block) = NonNull::new(block) else { handle_alloc_error(layout) };
        // SAFETY: the block was made for a score and a counted string.
        unsafe {
            block.cast().write(score);
            write_counted(block.add(SCORE), bytes);
        }
        Member { link: Link(block) }
    }

    /// The bytes.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block lives as long as `self`.
        unsafe { self.link.bytes() }
    }

    /// The score.
    #[inline(always)]
    pub fn score(&self) -> f64 {
        // SAFETY: the block lives as long as `self`; scores change only through `&mut self`.
        unsafe { self.link.score() }
    }

    /// Bytes the allocator spends on it.
    pub fn allocated_bytes(&self) -> usize {
        size_class(layout_of(self.bytes().len()).size())
    }

    pub(super) fn set_score(&mut self, score: f64) {
        // SAFETY: the block begins with the score and is ours alone.
        unsafe { self.link.0.cast().write(score) }
    }

    /// Moves the block for active defragmentation. The tree's links to it have to be replaced.
    pub(super) fn relocate(&mut self, mover: &mut Mover) {
        let layout = layout_of(self.bytes().len());
        // SAFETY: the block has this layout; besides this handle only the tree has its address, and the
        // caller replaces it there.
        if let Some(block) = unsafe { mover.moved(self.link.0, layout) } {
            self.link = Link(block);
        }
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let layout = layout_of(self.bytes().len());
        // SAFETY: the block was allocated with this layout, and this is the end of its only owner.
        unsafe { dealloc(self.link.0.as_ptr(), layout) }
    }
}

impl Link {
    /// # Safety
    /// The member is alive.
    #[inline(always)]
    pub(super) unsafe fn score(self) -> f64 {
        // SAFETY: a block begins with the score.
        unsafe { self.0.cast().read() }
    }

    /// # Safety
    /// The member is alive for `'a`.
    #[inline(always)]
    pub(super) unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: a counted string follows the score; it never changes.
        unsafe { read_counted(self.0.add(SCORE)) }
    }

    pub(super) fn address(self) -> *const u8 {
        self.0.as_ptr()
    }
}

fn layout_of(len: usize) -> Layout {
    Layout::from_size_align(SCORE + counted_size(len), 8).expect("a member fits the address space")
}
