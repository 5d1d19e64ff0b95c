//! Strings seen as rows of bits, for the bitmap commands: counting, searching, combining, and integers of
//! any width at any place. Bit 0 is the highest bit of the first byte. Works a machine word at a time
//! wherever there are enough bytes; knows no key and no reply.

/// Widest integer that [`get`] and [`put`] handle, in bits.
pub const WIDTH_MAX: u32 = 64;

const WORD: usize = size_of::<u64>();
/// Bytes that an integer of [`WIDTH_MAX`] bits can touch.
const SPAN_MAX: usize = WORD + 1;

/// Number of ones in the bits `first..=last`, both within `bytes`.
pub fn count_range(bytes: &[u8], first: u64, last: u64) -> u64 {
    let (from, to) = ((first / 8) as usize, (last / 8) as usize);
    let before = bytes[from] & !tail_mask(first);
    let behind = bytes[to] & !head_mask(last);
    count(&bytes[from..=to]) - u64::from(before.count_ones()) - u64::from(behind.count_ones())
}

/// Number of ones.
pub fn count(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<WORD>();
    let ones: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    ones + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// A value that a bit can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bit {
    /// 0.
    Clear,
    /// 1.
    Set,
}

/// The first bit of the given value among the bits `first..=last`, both within `bytes`.
pub fn find(bytes: &[u8], wanted: Bit, first: u64, last: u64) -> Option<u64> {
    // Where zeros are looked for, bytes are turned over, so that below only ones are.
    let flip = if wanted == Bit::Clear { 0xff } else { 0 };
    let (from, to) = ((first / 8) as usize, (last / 8) as usize);
    let place = |at: usize, byte: u8| at as u64 * 8 + u64::from(byte.leading_zeros());
    let edge = |at: usize| {
        let mut byte = bytes[at] ^ flip;
        byte &= if at == from { tail_mask(first) } else { 0xff };
        byte &= if at == to { head_mask(last) } else { 0xff };
        (byte != 0).then(|| place(at, byte))
    };
    if let Some(found) = edge(from) {
        return Some(found);
    }
    if from == to {
        return None;
    }
    let at = from + 1 + uniform_bytes(&bytes[from + 1..to], flip);
    if at < to { Some(place(at, bytes[at] ^ flip)) } else { edge(to) }
}

/// How many bytes at the front are all `value`.
fn uniform_bytes(bytes: &[u8], value: u8) -> usize {
    let pattern = [value; WORD];
    let (words, _) = bytes.as_chunks::<WORD>();
    let at = words.iter().take_while(|word| **word == pattern).count() * WORD;
    at + bytes[at..].iter().take_while(|byte| **byte == value).count()
}

/// Ones from the bit on to the end of its byte.
fn tail_mask(bit: u64) -> u8 {
    0xff >> (bit % 8)
}

/// Ones from the start of its byte up to the bit.
fn head_mask(bit: u64) -> u8 {
    !(0x7f >> (bit % 8))
}

/// How two rows of bits are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Both.
    And,
    /// At least one.
    Or,
    /// Exactly one.
    Xor,
}

/// Combines `bytes` into `target`, which is at least as long; the shorter one counts as filled up with zeros.
pub fn combine(op: Op, target: &mut [u8], bytes: &[u8]) {
    let (head, tail) = target.split_at_mut(bytes.len());
    // Plain loops over equally long slices: the compiler makes vector instructions of them.
    let pairs = head.iter_mut().zip(bytes);
    match op {
        Op::And => {
            pairs.for_each(|(to, from)| *to &= from);
            tail.fill(0);
        }
        Op::Or => pairs.for_each(|(to, from)| *to |= from),
        Op::Xor => pairs.for_each(|(to, from)| *to ^= from),
    }
}

/// Turns every bit over.
pub fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

/// One bit; those past the end are clear.
pub fn bit(bytes: &[u8], at: u64) -> Bit {
    let byte = usize::try_from(at / 8).ok().and_then(|i| bytes.get(i)).copied().unwrap_or(0);
    if byte & (0x80 >> (at % 8)) != 0 { Bit::Set } else { Bit::Clear }
}

/// Gives a bit within `bytes` a value.
pub fn put_bit(bytes: &mut [u8], at: u64, value: Bit) {
    let mask = 0x80 >> (at % 8);
    let byte = &mut bytes[(at / 8) as usize];
    match value {
        Bit::Set => *byte |= mask,
        Bit::Clear => *byte &= !mask,
    }
}

/// The unsigned integer of `width` bits (1 to [`WIDTH_MAX`]) at bit `at`; bits past the end are clear.
pub fn get(bytes: &[u8], at: u64, width: u32) -> u64 {
    let first = usize::try_from(at / 8).unwrap_or(usize::MAX).min(bytes.len());
    let (window, _) = load(&bytes[first..]);
    (window >> shift_of(at, width)) as u64 & mask_of(width)
}

/// Stores the low `width` bits of `value` at bit `at`; all of them lie within `bytes`.
pub fn put(bytes: &mut [u8], at: u64, width: u32, value: u64) {
    let place = &mut bytes[(at / 8) as usize..];
    let (window, len) = load(place);
    let (shift, mask) = (shift_of(at, width), mask_of(width));
    let changed = window & !(u128::from(mask) << shift) | u128::from(value & mask) << shift;
    place[..len].copy_from_slice(&changed.to_be_bytes()[..len]);
}

/// The first bytes, as many as an integer can touch, at the high end of a number, and how many they are.
fn load(bytes: &[u8]) -> (u128, usize) {
    let mut window = [0u8; size_of::<u128>()];
    let len = bytes.len().min(SPAN_MAX);
    window[..len].copy_from_slice(&bytes[..len]);
    (u128::from_be_bytes(window), len)
}

fn shift_of(at: u64, width: u32) -> u32 {
    u128::BITS - (at % 8) as u32 - width
}

fn mask_of(width: u32) -> u64 {
    u64::MAX >> (WIDTH_MAX - width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    const SEED: u64 = 20_261_122;

    fn row(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|byte| (0..8).map(move |i| byte >> (7 - i) & 1)).collect()
    }

    /// Bytes with long runs of zeros and ones, so that searches have to go far.
    fn runs(rng: &mut Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + rng.below(6) {
            let byte = [0, 0xff, rng.next_u64() as u8][rng.below(3) as usize];
            bytes.extend(std::iter::repeat_n(byte, 1 + rng.below(20) as usize));
        }
        bytes
    }

    #[test]
    fn counting_and_searching_agree_with_a_row_of_bits() {
        let mut rng = Rng::from_seed(SEED);
        for round in 0..3_000 {
            let bytes = runs(&mut rng);
            let row = row(&bytes);
            let (a, b) = (rng.below(row.len() as u64), rng.below(row.len() as u64));
            let (first, last) = (a.min(b), a.max(b));
            let part = &row[first as usize..=last as usize];
            let ones = part.iter().filter(|bit| **bit == 1).count() as u64;
            assert_eq!(count_range(&bytes, first, last), ones, "seed {SEED} round {round}");
            for (wanted, digit) in [(Bit::Set, 1), (Bit::Clear, 0)] {
                let place = part.iter().position(|bit| *bit == digit).map(|i| i as u64 + first);
                assert_eq!(find(&bytes, wanted, first, last), place, "seed {SEED} round {round}");
            }
        }
    }

    #[test]
    fn integers_agree_with_a_row_of_bits() {
        let mut rng = Rng::from_seed(SEED);
        for round in 0..3_000 {
            let mut bytes = runs(&mut rng);
            let width = 1 + rng.below(u64::from(WIDTH_MAX)) as u32;
            let mut padded = row(&bytes);
            padded.resize(padded.len() + 100, 0);
            let number = |bits: &[u8]| bits.iter().fold(0u64, |number, bit| number << 1 | u64::from(*bit));
            let at = rng.below(padded.len() as u64 - 64);
            let want = number(&padded[at as usize..][..width as usize]);
            assert_eq!(get(&bytes, at, width), want, "seed {SEED} round {round}");
            if (at + u64::from(width)) as usize <= bytes.len() * 8 {
                let value = rng.next_u64();
                let before = row(&bytes);
                put(&mut bytes, at, width, value);
                assert_eq!(get(&bytes, at, width), value & mask_of(width), "seed {SEED} round {round}");
                let (after, end) = (row(&bytes), at as usize + width as usize);
                assert_eq!(before[..at as usize], after[..at as usize]);
                assert_eq!(before[end..], after[end..]);
            }
        }
    }

    #[test]
    fn single_bits_and_combinations() {
        let mut bytes = vec![0b1010_0000, 0x01];
        assert_eq!((bit(&bytes, 2), bit(&bytes, 1)), (Bit::Set, Bit::Clear));
        assert_eq!((bit(&bytes, 15), bit(&bytes, u64::MAX)), (Bit::Set, Bit::Clear));
        put_bit(&mut bytes, 1, Bit::Set);
        put_bit(&mut bytes, 15, Bit::Clear);
        assert_eq!(bytes, [0b1110_0000, 0]);
        for (op, want) in [(Op::And, [0x80, 0]), (Op::Or, [0xe1, 7]), (Op::Xor, [0x61, 7])] {
            let mut target = [0b1110_0000, 7];
            combine(op, &mut target, &[0x81]);
            assert_eq!(target, want, "{op:?}");
        }
        invert(&mut bytes);
        assert_eq!(bytes, [0x1f, 0xff]);
    }
}
