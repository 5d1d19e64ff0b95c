//! What the packed encodings (listpack, intset) ask of the memory they lie in: to be bytes in which a gap can
//! be opened or closed. Implemented for vectors, boxed slices of exact size, shared blobs; the value layer
//! adds the inline bytes of an entry. Knows nothing of what the bytes mean.

use super::blob::Blob;

/// Growable bytes in one piece.
pub trait Buffer {
    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// The bytes, to be changed in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Puts a gap of `inserted` bytes of any content in the place of the `removed` bytes at `at`, and gives
    /// all bytes.
    fn splice(&mut self, at: usize, removed: usize, inserted: usize) -> &mut [u8];
}

impl Buffer for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn splice(&mut self, at: usize, removed: usize, inserted: usize) -> &mut [u8] {
        let (old, tail) = (self.len(), at + removed);
        if inserted > removed {
            self.resize(old + inserted - removed, 0);
        }
        self.copy_within(tail..old, at + inserted);
        self.truncate(old + inserted - removed);
        self
    }
}

/// Always of exact size: every change of length reallocates, which mostly stays in the same block.
impl Buffer for Box<[u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn splice(&mut self, at: usize, removed: usize, inserted: usize) -> &mut [u8] {
        let mut vec = std::mem::take(self).into_vec();
        vec.reserve_exact(inserted.saturating_sub(removed));
        Buffer::splice(&mut vec, at, removed, inserted);
        *self = vec.into_boxed_slice();
        self
    }
}

impl Buffer for Blob {
    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.make_mut()
    }

    fn splice(&mut self, at: usize, removed: usize, inserted: usize) -> &mut [u8] {
        let (old, tail) = (self.len(), at + removed);
        let new = old + inserted - removed;
        if inserted > removed {
            self.reserve_block(new);
            self.resize(new);
        }
        let bytes = self.make_mut();
        bytes.copy_within(tail..old, at + inserted);
        if inserted < removed {
            self.truncate(new);
            self.give_back();
        }
        self.make_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::testing::Random;

    fn check<B: Buffer>(mut buffer: B, random: &mut Random) {
        let mut model: Vec<u8> = vec![];
        for round in 0..if cfg!(miri) { 100 } else { 5_000u32 } {
            let at = random.below(model.len() as u64 + 1) as usize;
            let removed = random.below((model.len() - at) as u64 + 1).min(random.below(60)) as usize;
            let inserted = random.below(50) as usize;
            let bytes = Buffer::splice(&mut buffer, at, removed, inserted);
            bytes[at..at + inserted].fill(round as u8);
            model.splice(at..at + removed, std::iter::repeat_n(round as u8, inserted));
            assert_eq!(buffer.bytes(), model);
            buffer.bytes_mut().iter_mut().chain(&mut model).for_each(|byte| *byte ^= 1);
            if model.len() > 3_000 {
                Buffer::splice(&mut buffer, 10, 2_900, 0);
                model.drain(10..2_910);
            }
        }
    }

    #[test]
    fn all_agree_with_splice() {
        let mut random = Random::from_env();
        check(Vec::new(), &mut random);
        check(Box::from([]), &mut random);
        check(Blob::new(), &mut random);
    }

    #[test]
    fn a_shared_blob_is_copied_first() {
        let mut blob = Blob::from_slice(b"hello");
        let other = blob.clone();
        Buffer::splice(&mut blob, 1, 3, 0);
        assert_eq!((blob.as_slice(), other.as_slice()), (&b"ho"[..], &b"hello"[..]));
    }
}
