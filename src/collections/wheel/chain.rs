//! A bag of 64-bit items in linked chunks of 256 bytes: adding never moves what is there, and an empty bag
//! costs 8 bytes. It knows nothing of time.

use crate::collections::relocate::relocate_box;
use crate::sys::defrag::Mover;

/// Items of a chunk, such that a chunk is 256 bytes.
const ITEMS: usize = 30;

/// Bytes of one chunk.
pub(super) const CHUNK_BYTES: usize = size_of::<Chunk>();

struct Chunk {
    next: Option<Box<Chunk>>,
    len: usize,
    items: [u64; ITEMS],
}

/// Whether an operation has changed the number of chunks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    Same,
    OneMore,
    OneLess,
}

/// A bag of items; the last one put in comes out first.
#[derive(Default)]
pub(super) struct Chain(Option<Box<Chunk>>);

impl Chain {
    pub(super) const EMPTY: Chain = Chain(None);

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The items of one chunk, found by going down the chain as far as `skip` says (or to its end).
    pub(super) fn some(&self, skip: usize) -> &[u64] {
        let Some(mut chunk) = self.0.as_deref() else { return &[] };
        for _ in 0..skip {
            match chunk.next.as_deref() {
                Some(next) => chunk = next,
                None => break,
            }
        }
        &chunk.items[..chunk.len]
    }

    /// Moves the blocks of up to `max` chunks behind the first `skip`, for active defragmentation. True if
    /// there are more.
    pub(super) fn relocate_some(&mut self, skip: usize, max: usize, mover: &mut Mover) -> bool {
        let mut link = &mut self.0;
        for number in 0..skip + max {
            let Some(chunk) = link else { return false };
            if number >= skip {
                relocate_box(chunk, mover);
            }
            link = &mut chunk.next;
        }
        link.is_some()
    }

    pub(super) fn push(&mut self, item: u64) -> Chunks {
        if let Some(chunk) = &mut self.0
            && chunk.len < ITEMS
        {
            chunk.items[chunk.len] = item;
            chunk.len += 1;
            return Chunks::Same;
        }
        let mut chunk = Box::new(Chunk { next: self.0.take(), len: 1, items: [0; ITEMS] });
        chunk.items[0] = item;
        self.0 = Some(chunk);
        Chunks::OneMore
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Chunks)> {
        let chunk = self.0.as_mut()?;
        // A chunk in a chain is never empty.
        chunk.len -= 1;
        let item = chunk.items[chunk.len];
        if chunk.len > 0 {
            return Some((item, Chunks::Same));
        }
        self.0 = chunk.next.take();
        Some((item, Chunks::OneLess))
    }
}

impl Drop for Chain {
    /// In a loop: the drop of a list that owns its tail would otherwise recurse as deep as it is long.
    fn drop(&mut self) {
        let mut rest = self.0.take();
        while let Some(mut chunk) = rest {
            rest = chunk.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_items_in_chunks_of_256_bytes() {
        assert_eq!((CHUNK_BYTES, size_of::<Chain>()), (256, 8));
        let mut chain = Chain::EMPTY;
        let mut chunks = 0;
        let mut count = |change| match change {
            Chunks::OneMore => chunks += 1,
            Chunks::OneLess => chunks -= 1,
            Chunks::Same => {}
        };
        (0..1000).for_each(|item| count(chain.push(item)));
        for item in (0..1000).rev() {
            let (popped, change) = chain.pop().unwrap();
            assert_eq!(popped, item);
            count(change);
        }
        assert!(chain.pop().is_none() && chain.is_empty());
        assert_eq!(chunks, 0);
    }

    #[test]
    fn long_chains_are_dropped() {
        let mut chain = Chain::EMPTY;
        (0..if cfg!(miri) { 1000 } else { 3_000_000 }).for_each(|item| {
            chain.push(item);
        });
    }
}
