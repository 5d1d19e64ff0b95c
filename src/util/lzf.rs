//! LZF: the fast compression of strings in RDB files and of the inner nodes of long lists, both directions.
//! The format is Marc Lehmann's: a control byte below 32 is followed by that many literal bytes plus one; in
//! any other its top three bits are a match length less two (7: one more byte adds to it) and its low five
//! with the next byte the distance less one. Knows bytes only; nothing a file holds makes it read or write
//! out of bounds.

/// Longest run of literal bytes behind one control byte.
const LITERALS_MAX: usize = 32;
/// Longest match: 2 + 7 + 255.
const MATCH_MAX: usize = 264;
/// Farthest match.
const DISTANCE_MAX: usize = 1 << 13;
/// Shortest match worth a reference.
const MATCH_MIN: usize = 3;
/// Three bytes of a reference give at most `MATCH_MAX` bytes: no input grows by more than this factor.
const GROWTH_MAX: usize = MATCH_MAX / 3;

/// Compresses `input` to at most `max` bytes; none when it does not fit.
pub fn compress(input: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(max.min(input.len()));
    Compressor::default().compress(input, max, &mut out).then_some(out)
}

/// Most bits of a hash of three bytes.
const BITS_MAX: u32 = 14;

/// Compresses one text after the other. What it keeps of a text is not cleared for the next: positions count
/// on, and those of earlier texts are known by being too small.
pub struct Compressor {
    /// By hash of three bytes: `base` plus the offset of where they were seen last.
    seen: Box<[u32]>,
    base: u32,
}

impl Default for Compressor {
    fn default() -> Self {
        Compressor { seen: Box::default(), base: 1 }
    }
}

impl Compressor {
    /// Compresses `input` to at most `max` bytes in `out`, whose old content goes; false when it does not fit
    /// (then `out` holds nothing of use).
    pub fn compress(&mut self, input: &[u8], max: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Ok(len) = u32::try_from(input.len()) else { return false };
        let bits = (u32::BITS - len.leading_zeros()).clamp(8, BITS_MAX);
        self.make_room(1 << bits, len);
        let base = self.base;
        let seen = &mut self.seen[..1 << bits];
        let (mut at, mut literals) = (0, 0);
        while at + MATCH_MIN <= input.len() {
            let word = u32::from_le_bytes([input[at], input[at + 1], input[at + 2], 0]);
            let slot = (word.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize;
            let before = std::mem::replace(&mut seen[slot], base + at as u32);
            let start = before.wrapping_sub(base) as usize;
            let length = match before >= base && at - start <= DISTANCE_MAX {
                true => match_length(input, start, at),
                false => 0,
            };
            if length < MATCH_MIN {
                at += 1;
                continue;
            }
            push_literals(out, &input[literals..at]);
            push_match(out, at - start, length);
            at += length;
            literals = at;
            if out.len() > max {
                break;
            }
        }
        push_literals(out, &input[literals..]);
        self.base += len;
        out.len() <= max
    }

    /// Room for hashes and for positions of a text of `len` bytes.
    fn make_room(&mut self, slots: usize, len: u32) {
        if self.seen.len() < slots {
            self.seen = vec![0; slots].into_boxed_slice();
            self.base = 1;
        }
        if self.base.checked_add(len).is_none() {
            self.seen.fill(0);
            self.base = 1;
        }
    }
}

fn match_length(input: &[u8], start: usize, at: usize) -> usize {
    let longest = MATCH_MAX.min(input.len() - at);
    let (old, new) = (&input[start..start + longest], &input[at..at + longest]);
    let words = |bytes: &'_ [u8]| u64::from_le_bytes(*bytes.first_chunk().expect("chunks have eight bytes"));
    let mut length = 0;
    for (old, new) in old.chunks_exact(8).zip(new.chunks_exact(8)) {
        let differing = words(old) ^ words(new);
        if differing != 0 {
            return length + differing.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + old[length..].iter().zip(&new[length..]).take_while(|(a, b)| a == b).count()
}

fn push_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn push_match(out: &mut Vec<u8>, distance: usize, length: usize) {
    let (far, short) = (distance - 1, length - 2);
    if short < 7 {
        out.push((short << 5 | far >> 8) as u8);
    } else {
        out.extend_from_slice(&[(7 << 5 | far >> 8) as u8, (short - 7) as u8]);
    }
    out.push(far as u8);
}

/// Decompresses to exactly `len` bytes; none when the input is damaged or gives another length.
pub fn decompress(input: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > input.len().saturating_mul(GROWTH_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    decompress_into(input, len, &mut out)?;
    Some(out)
}

/// As [`decompress`], into a buffer that is used again and again; what was in it goes.
pub fn decompress_into(input: &[u8], len: usize, out: &mut Vec<u8>) -> Option<()> {
    if len > input.len().saturating_mul(GROWTH_MAX) {
        out.clear();
        return None;
    }
    // What is there is written over, so it need not be cleared.
    out.resize(len + SLACK, 0);
    let done = unpack(input, len, out);
    out.truncate(if done.is_some() { len } else { 0 });
    done
}

/// Bytes behind the text, which may be written to: copies of a fixed length take fewer steps than those of
/// the right one.
const SLACK: usize = LITERALS_MAX;
/// Matches are copied in pieces of this length.
const PIECE: usize = 16;

/// Decompresses to the first `len` bytes of `out`, which has `SLACK` more.
fn unpack(input: &[u8], len: usize, out: &mut [u8]) -> Option<()> {
    let (mut from, mut to) = (0, 0);
    while let Some(control) = input.get(from) {
        let control = usize::from(*control);
        from += 1;
        if control < LITERALS_MAX {
            let count = control + 1;
            if count > len - to {
                return None;
            }
            match input[from..].first_chunk::<LITERALS_MAX>() {
                Some(chunk) => out[to..to + LITERALS_MAX].copy_from_slice(chunk),
                None => out[to..to + count].copy_from_slice(input.get(from..from + count)?),
            }
            from += count;
            to += count;
        } else {
            let mut length = (control >> 5) + 2;
            if control >> 5 == 7 {
                length += usize::from(*input.get(from)?);
                from += 1;
            }
            let distance = ((control & 0x1f) << 8 | usize::from(*input.get(from)?)) + 1;
            from += 1;
            if length > len - to {
                return None;
            }
            copy_match(out, to, to.checked_sub(distance)?, length);
            to += length;
        }
    }
    (to == len).then_some(())
}

/// Copies `length` bytes from `start` to `to`; they may reach beyond it, which repeats them.
#[inline]
fn copy_match(out: &mut [u8], to: usize, start: usize, length: usize) {
    let distance = to - start;
    if distance >= PIECE || distance >= length && length <= PIECE {
        for at in (0..length).step_by(PIECE) {
            let piece: [u8; PIECE] = *out[start + at..].first_chunk().expect("there is slack behind");
            out[to + at..to + at + PIECE].copy_from_slice(&piece);
        }
    } else {
        for at in 0..length {
            out[to + at] = out[start + at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    #[test]
    fn round_trips() {
        let mut rng = Rng::from_seed(5);
        for round in 0..2_000 {
            let letters = 1 + rng.below(20);
            let len = rng.below(if round % 50 == 0 { 40_000 } else { 400 });
            let text: Vec<u8> = (0..len).map(|_| rng.below(letters) as u8).collect();
            let packed = compress(&text, text.len() * 2 + 16).unwrap();
            assert_eq!(decompress(&packed, text.len()), Some(text.clone()), "round {round}");
            assert_eq!(decompress(&packed, text.len() + 1), None);
        }
        let (mut compressor, mut out) = (Compressor::default(), Vec::new());
        for round in 0..500 {
            let len = rng.below(if round % 50 == 0 { 40_000 } else { 100 });
            let text: Vec<u8> = (0..len).map(|_| rng.below(3) as u8).collect();
            let fits = compressor.compress(&text, text.len() / 2, &mut out);
            assert!(!fits || decompress(&out, text.len()) == Some(text), "round {round}");
            compressor.base = if round == 250 { u32::MAX - 50 } else { compressor.base };
        }
        assert_eq!(compress(b"abcdefgh", 7), None);
        assert!(compress(&[7; 4096], 4000).unwrap().len() < 100);
    }

    #[test]
    fn reads_what_redis_wrote() {
        // From the payload of DUMP of 40 times `a`, Redis 7.0.
        let packed = [0x01, 0x61, 0x61, 0xe0, 0x1b, 0x00, 0x01, 0x61, 0x61];
        assert_eq!(decompress(&packed, 40), Some(vec![b'a'; 40]));
    }

    #[test]
    fn damage_is_refused() {
        let mut rng = Rng::from_seed(6);
        for _ in 0..20_000 {
            let mut bytes = vec![0; rng.below(40) as usize];
            rng.fill(&mut bytes);
            let _ = decompress(&bytes, rng.below(300) as usize);
        }
        assert_eq!(decompress(&[0x20, 0x00], 3), None);
        assert_eq!(decompress(&[], usize::MAX), None);
        assert_eq!(decompress(&[], 0), Some(vec![]));
    }
}
