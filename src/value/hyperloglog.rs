//! HyperLogLog: an estimate of how many different elements were added, in at most 12 KiB. The value is a
//! plain string whose bytes are laid out as Redis lays them out, so that it can be read, copied and written
//! by GET, SET and DUMP. Functions over bytes; they know no entry and no command.
//!
//! - 16 bytes of head: `HYLL`, encoding (0 dense, 1 sparse), 3 bytes of nothing, the cached estimate (u64,
//!   little endian; its highest bit says that it is out of date).
//! - 16384 registers. Dense: 6 bits each, from the lowest bit of the first byte on. Sparse: runs of equal
//!   registers, see [`Run`].
//! - An element's hash (MurmurHash64A, seed 0xadc83b19) names a register by its low 14 bits; the register
//!   holds the greatest number of the first set bit among the other 50.
//! - The estimate is Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches", 2017).

/// Number of registers.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that name a register.
const INDEX_BITS: u32 = 14;
/// Bits of a hash that are left.
const RANK_BITS: u32 = 64 - INDEX_BITS;
/// Bits of a dense register.
const REGISTER_BITS: usize = 6;
/// Greatest value of a register.
const REGISTER_MAX: u8 = (1 << REGISTER_BITS) - 1;

const MAGIC: &[u8; 4] = b"HYLL";
/// Bytes of the head.
const HEAD: usize = 16;
/// The byte of the head with the mark that the estimate is out of date, and the mark.
const STALE_BYTE: usize = 15;
const STALE: u8 = 0x80;
const ENCODING_BYTE: usize = 4;
/// Bytes of a dense value.
pub const DENSE_BYTES: usize = HEAD + REGISTERS * REGISTER_BITS / 8;

/// One byte for each register: what several values are merged in.
pub type Registers = [u8; REGISTERS];

/// How the registers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Six bits each.
    Dense,
    /// Runs.
    Sparse,
}

/// The sparse registers are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The encoding of a string that is a HyperLogLog by its head and length.
pub fn encoding(bytes: &[u8]) -> Option<Encoding> {
    if bytes.len() < HEAD || !bytes.starts_with(MAGIC) {
        return None;
    }
    match bytes[ENCODING_BYTE] {
        0 => (bytes.len() == DENSE_BYTES).then_some(Encoding::Dense),
        1 => Some(Encoding::Sparse),
        _ => None,
    }
}

/// A value to which nothing was added: sparse.
pub fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_BYTE] = 1;
    Run::Zeros(REGISTERS).write(&mut bytes);
    bytes
}

/// The estimate that is kept with the registers, unless it is out of date.
pub fn cached(bytes: &[u8]) -> Option<u64> {
    let kept = bytes[8..HEAD].try_into().expect("the head is that long");
    (bytes[STALE_BYTE] & STALE == 0).then_some(u64::from_le_bytes(kept))
}

/// Keeps an estimate.
pub fn set_cached(bytes: &mut [u8], estimate: u64) {
    bytes[8..HEAD].copy_from_slice(&estimate.to_le_bytes());
}

/// Says that the kept estimate is out of date.
pub fn invalidate(bytes: &mut [u8]) {
    bytes[STALE_BYTE] |= STALE;
}

/// The register of an element and the value it asks for.
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, 0xadc8_3b19);
    let index = hash as usize & (REGISTERS - 1);
    // The set bit behind the last ends the count.
    let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
    (index, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A, by Austin Appleby (public domain).
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

// ---- dense ----

/// A register of a dense value.
pub fn dense_register(bytes: &[u8], index: usize) -> u8 {
    let (at, shift) = dense_place(index);
    let high = bytes.get(at + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([bytes[at], high]) >> shift) as u8 & REGISTER_MAX
}

/// Sets a register of a dense value.
pub fn set_dense_register(bytes: &mut [u8], index: usize, value: u8) {
    let (at, shift) = dense_place(index);
    let (mask, new) = (u16::from(REGISTER_MAX) << shift, u16::from(value) << shift);
    let high = bytes.get(at + 1).copied().unwrap_or(0);
    let pair = (u16::from_le_bytes([bytes[at], high]) & !mask) | new;
    let [low, high] = pair.to_le_bytes();
    bytes[at] = low;
    if let Some(second) = bytes.get_mut(at + 1) {
        *second = high;
    }
}

/// First byte and bit of a dense register.
fn dense_place(index: usize) -> (usize, usize) {
    let bit = index * REGISTER_BITS;
    (HEAD + bit / 8, bit % 8)
}

/// Raises a register of a dense value. True if it was lower.
pub fn raise_dense(bytes: &mut [u8], index: usize, value: u8) -> bool {
    let higher = dense_register(bytes, index) < value;
    if higher {
        set_dense_register(bytes, index, value);
    }
    higher
}

// ---- sparse ----

/// A run of equal registers in a sparse value:
///
/// - `00llllll`: up to 64 zeros; `01llllll llllllll`: up to 16384 zeros;
/// - `1vvvvvll`: up to 4 registers of a value up to 32.
///
/// Lengths and values are written less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Registers that are 0; written the shortest way.
    Zeros(usize),
    /// Registers of a value.
    Of(u8, usize),
}

const SHORT_ZEROS_MAX: usize = 64;
const RUN_MAX: usize = 4;
const SPARSE_VALUE_MAX: u8 = 32;
/// How many runs are looked at for neighbours to be joined, from the one before the change on.
const JOINED_AROUND: usize = 5;

impl Run {
    fn len(self) -> usize {
        match self {
            Run::Zeros(len) | Run::Of(_, len) => len,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Run::Zeros(0) | Run::Of(_, 0) => {}
            Run::Zeros(len @ ..=SHORT_ZEROS_MAX) => out.push((len - 1) as u8),
            Run::Zeros(len) => out.extend_from_slice(&((len - 1) as u16 | 0x4000).to_be_bytes()),
            Run::Of(value, len) => out.push(0x80 | (value - 1) << 2 | (len - 1) as u8),
        }
    }

    /// The run at a place and its number of bytes. A long run of zeros that is cut off has a zero byte behind
    /// it, as a C string has.
    fn read(bytes: &[u8], at: usize) -> (Run, usize) {
        let first = bytes[at];
        match first >> 6 {
            0 => (Run::Zeros(usize::from(first) + 1), 1),
            1 => {
                let second = bytes.get(at + 1).copied().unwrap_or(0);
                (Run::Zeros((usize::from(first & 0x3f) << 8 | usize::from(second)) + 1), 2)
            }
            _ => (Run::Of((first >> 2 & 0x1f) + 1, usize::from(first & 3) + 1), 1),
        }
    }
}

/// The runs of a sparse value and whether each is a long run of zeros, which has a letter of its own in
/// PFDEBUG DECODE.
pub fn runs(bytes: &[u8]) -> impl Iterator<Item = (Run, bool)> {
    let mut at = HEAD;
    std::iter::from_fn(move || {
        let (run, size) = (at < bytes.len()).then(|| Run::read(bytes, at))?;
        at += size;
        Some((run, size == 2))
    })
}

/// Makes a sparse value dense; a dense one stays as it is.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupt> {
    if encoding(bytes) == Some(Encoding::Dense) {
        return Ok(());
    }
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEAD].copy_from_slice(&bytes[..HEAD]);
    dense[ENCODING_BYTE] = 0;
    each_sparse(bytes, &mut |index, value| set_dense_register(&mut dense, index, value))?;
    *bytes = dense;
    Ok(())
}

/// Shows the registers of a sparse value that are not 0.
fn each_sparse(bytes: &[u8], each: &mut dyn FnMut(usize, u8)) -> Result<(), Corrupt> {
    let mut index = 0;
    for (run, _) in runs(bytes) {
        let end = index + run.len();
        if let Run::Of(value, _) = run {
            if end > REGISTERS {
                return Err(Corrupt);
            }
            (index..end).for_each(|index| each(index, value));
        }
        index = end;
    }
    if index == REGISTERS { Ok(()) } else { Err(Corrupt) }
}

/// Raises a register. True if it was lower. A sparse value becomes dense when it would be longer than
/// `sparse_max` bytes or cannot hold the register's value.
pub fn raise(bytes: &mut Vec<u8>, sparse_max: usize, index: usize, value: u8) -> Result<bool, Corrupt> {
    if encoding(bytes) == Some(Encoding::Dense) {
        return Ok(raise_dense(bytes, index, value));
    }
    if value <= SPARSE_VALUE_MAX {
        match raise_sparse(bytes, sparse_max, index, value)? {
            Raised::Was => return Ok(false),
            Raised::Now => return Ok(true),
            Raised::NoRoom => {}
        }
    }
    make_dense(bytes)?;
    Ok(raise_dense(bytes, index, value))
}

/// What came of raising a sparse register.
enum Raised {
    /// It was that high.
    Was,
    Now,
    /// The value would be too long.
    NoRoom,
}

fn raise_sparse(bytes: &mut Vec<u8>, max: usize, index: usize, value: u8) -> Result<Raised, Corrupt> {
    // The run that the register is in, and the one before.
    let (mut at, mut before, mut first) = (HEAD, None, 0);
    let (run, size) = loop {
        if at >= bytes.len() {
            return Err(Corrupt);
        }
        let (run, size) = Run::read(bytes, at);
        if index < first + run.len() {
            break (run, size);
        }
        before = Some(at);
        first += run.len();
        at += size;
    };
    let (left, right) = (index - first, first + run.len() - index - 1);
    let mut new = Vec::with_capacity(5);
    match run {
        Run::Of(old, _) if old >= value => return Ok(Raised::Was),
        Run::Of(old, _) => {
            Run::Of(old, left).write(&mut new);
            Run::Of(value, 1).write(&mut new);
            Run::Of(old, right).write(&mut new);
        }
        Run::Zeros(_) => {
            Run::Zeros(left).write(&mut new);
            Run::Of(value, 1).write(&mut new);
            Run::Zeros(right).write(&mut new);
        }
    }
    let old_end = (at + size).min(bytes.len());
    if new.len() > size && bytes.len() + new.len() - size > max {
        return Ok(Raised::NoRoom);
    }
    bytes.splice(at..old_end, new);
    join_runs(bytes, before.unwrap_or(HEAD));
    invalidate(bytes);
    Ok(Raised::Now)
}

/// Joins neighbouring runs of one value near a place where they fit into one.
fn join_runs(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_AROUND {
        if at >= bytes.len() {
            return;
        }
        let (run, size) = Run::read(bytes, at);
        if let Run::Of(value, len) = run
            && at + 1 < bytes.len()
            && let (Run::Of(other, more), _) = Run::read(bytes, at + 1)
            && value == other
            && len + more <= RUN_MAX
        {
            bytes[at] = 0x80 | (value - 1) << 2 | (len + more - 1) as u8;
            bytes.remove(at + 1);
            // The joined run may be joined with the next.
            continue;
        }
        at += size;
    }
}

// ---- estimating ----

/// Raises registers to those of a value.
pub fn merge(bytes: &[u8], into: &mut Registers) -> Result<(), Corrupt> {
    if encoding(bytes) == Some(Encoding::Dense) {
        for (index, register) in into.iter_mut().enumerate() {
            *register = dense_register(bytes, index).max(*register);
        }
        return Ok(());
    }
    each_sparse(bytes, &mut |index, value| into[index] = into[index].max(value))
}

/// How many registers have each value.
type Histogram = [u32; 64];

/// The estimate of a value.
pub fn estimate(bytes: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram: Histogram = [0; 64];
    if encoding(bytes) == Some(Encoding::Dense) {
        for triple in bytes[HEAD..].as_chunks::<3>().0 {
            let four = u32::from_le_bytes([triple[0], triple[1], triple[2], 0]);
            for i in 0..4 {
                histogram[(four >> (6 * i) & 63) as usize] += 1;
            }
        }
        return Ok(estimate_of(&histogram));
    }
    let mut total = 0;
    for (run, _) in runs(bytes) {
        let value = if let Run::Of(value, _) = run { value } else { 0 };
        histogram[usize::from(value)] += run.len() as u32;
        total += run.len();
    }
    if total == REGISTERS { Ok(estimate_of(&histogram)) } else { Err(Corrupt) }
}

/// The estimate of merged registers.
pub fn estimate_registers(registers: &Registers) -> u64 {
    let mut histogram: Histogram = [0; 64];
    registers.iter().for_each(|value| histogram[usize::from(value & REGISTER_MAX)] += 1);
    estimate_of(&histogram)
}

fn estimate_of(histogram: &Histogram) -> u64 {
    /// 1 / (2 ln 2).
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let count = |value: u32| f64::from(histogram[value as usize]);
    let mut z = m * tau((m - count(RANK_BITS + 1)) / m);
    for value in (1..=RANK_BITS).rev() {
        z += count(value);
        z *= 0.5;
    }
    z += m * sigma(count(0) / m);
    (ALPHA * m * m / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    #[test]
    fn hashes_are_murmurs() {
        // Known values of the reference implementation with seed 0.
        assert_eq!(murmur64a(b"", 0), 0);
        assert_eq!(murmur64a(b"hello", 0x1234_5678), murmur64a(b"hello", 0x1234_5678));
        assert_ne!(murmur64a(b"abcdefgh", 0), murmur64a(b"abcdefg", 0));
    }

    #[test]
    fn dense_registers_do_not_touch_each_other() {
        let mut rng = Rng::from_seed(1);
        let mut bytes = vec![0xff; DENSE_BYTES];
        let mut model = [63u8; REGISTERS];
        for _ in 0..100_000 {
            let (index, value) = (rng.below(REGISTERS as u64) as usize, rng.below(64) as u8);
            set_dense_register(&mut bytes, index, value);
            model[index] = value;
        }
        for (index, value) in model.iter().enumerate() {
            assert_eq!(dense_register(&bytes, index), *value);
        }
        assert!(bytes[..HEAD].iter().all(|byte| *byte == 0xff));
    }

    #[test]
    fn sparse_and_dense_agree() {
        for seed in 0..20 {
            let mut rng = Rng::from_seed(seed);
            let (mut sparse, mut dense) = (empty(), empty());
            make_dense(&mut dense).unwrap();
            let mut model = [0u8; REGISTERS];
            let near = rng.below(2) == 0;
            for step in 0..2_000 {
                let index = rng.below(if near { 60 } else { REGISTERS as u64 }) as usize;
                let value = rng.below(if near { 3 } else { 32 }) as u8 + 1;
                let higher = raise(&mut sparse, 1 << 20, index, value).unwrap();
                assert_eq!(higher, raise_dense(&mut dense, index, value), "seed {seed} step {step}");
                model[index] = model[index].max(value);
                assert_eq!(encoding(&sparse), Some(Encoding::Sparse));
            }
            let (mut a, mut b) = ([0; REGISTERS], [0; REGISTERS]);
            merge(&sparse, &mut a).unwrap();
            merge(&dense, &mut b).unwrap();
            assert!(a == model && b == model, "seed {seed}");
            assert_eq!(estimate(&sparse), estimate(&dense));
            assert_eq!(estimate(&sparse).unwrap(), estimate_registers(&model));
            invalidate(&mut dense);
            make_dense(&mut sparse).unwrap();
            assert!(sparse == dense, "seed {seed}");
        }
    }

    #[test]
    fn estimates_are_close() {
        let mut bytes = empty();
        let mut next = 10;
        for n in 1..=200_000u64 {
            let (index, value) = place(&n.to_le_bytes());
            raise(&mut bytes, 3000, index, value).unwrap();
            if n == next {
                let error = (estimate(&bytes).unwrap() as f64 - n as f64).abs() / n as f64;
                assert!(error < 0.05, "{n}: {error}");
                next *= 10;
            }
        }
        assert_eq!(encoding(&bytes), Some(Encoding::Dense));
        assert_eq!(estimate(&empty()), Ok(0));
    }

    #[test]
    fn a_long_value_becomes_dense() {
        let mut bytes = empty();
        assert_eq!(raise(&mut bytes, 20, 5, 1), Ok(true));
        // Zeros, the register, zeros: 4 bytes of runs.
        assert_eq!(bytes.len(), HEAD + 4);
        assert_eq!(raise(&mut bytes, 20, 5, 2), Ok(true));
        assert_eq!(encoding(&bytes), Some(Encoding::Sparse));
        assert_eq!(raise(&mut bytes, 20, 9000, 2), Ok(true));
        assert_eq!(encoding(&bytes), Some(Encoding::Dense));
        let mut bytes = empty();
        assert_eq!(raise(&mut bytes, 3000, 1, 33), Ok(true));
        assert_eq!(encoding(&bytes), Some(Encoding::Dense));
        assert_eq!(dense_register(&bytes, 1), 33);
    }

    #[test]
    fn damage_is_found() {
        let mut bytes = empty();
        raise(&mut bytes, 3000, 100, 7).unwrap();
        for cut in HEAD..bytes.len() {
            let mut damaged = bytes[..cut].to_vec();
            assert_eq!(estimate(&damaged), Err(Corrupt));
            assert_eq!(merge(&damaged, &mut [0; REGISTERS]), Err(Corrupt));
            assert_eq!(make_dense(&mut damaged), Err(Corrupt));
        }
        let mut rng = Rng::from_seed(9);
        for _ in 0..5_000 {
            let mut damaged = bytes.clone();
            let at = HEAD + rng.below((damaged.len() - HEAD) as u64) as usize;
            damaged[at] = rng.next_u64() as u8;
            damaged.truncate(HEAD + rng.below((damaged.len() - HEAD + 1) as u64) as usize);
            // Whatever comes of it, nothing is read that is not there.
            let _any = (estimate(&damaged), merge(&damaged, &mut [0; REGISTERS]));
            let _any = raise(&mut damaged, 3000, rng.below(REGISTERS as u64) as usize, 5);
        }
        assert_eq!(encoding(b"HYLL"), None);
        assert_eq!(encoding(&[0; 20]), None);
    }
}
