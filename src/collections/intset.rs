//! The intset: a sorted set of integers in one run of bytes, as Redis writes it in RDB files: width of an
//! integer (u32: 2, 4 or 8), their number (u32), the integers, all little endian. The width is that of the
//! widest integer there ever was. Knows no set commands and no limits.

use super::buffer::Buffer;

/// An intset of nothing.
pub const EMPTY: [u8; 8] = [2, 0, 0, 0, 0, 0, 0, 0];

const HEAD: usize = 8;

/// Whether these bytes, of an intset or a listpack, are an intset: a listpack begins with its size, which
/// is 7 or 9 and more.
#[inline]
pub fn is_intset(bytes: &[u8]) -> bool {
    matches!(bytes[..4], [2 | 4 | 8, 0, 0, 0])
}

/// Number of integers.
#[inline]
pub fn len(set: &[u8]) -> usize {
    (set.len() - HEAD) / width(set)
}

/// The integer of this index; the order is ascending.
#[inline]
pub fn get(set: &[u8], index: usize) -> i64 {
    let item = |width: usize| &set[HEAD + index * width..];
    match width(set) {
        2 => i64::from(i16::from_le_bytes(head_of(item(2)))),
        4 => i64::from(i32::from_le_bytes(head_of(item(4)))),
        _ => i64::from_le_bytes(head_of(item(8))),
    }
}

/// The integers in ascending order.
pub fn iter(set: &[u8]) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator {
    (0..len(set)).map(|index| get(set, index))
}

/// The index of an integer, or the one it would have.
pub fn search(set: &[u8], value: i64) -> Result<usize, usize> {
    let (mut low, mut high) = (0, len(set));
    // Ascending insertions end here at once.
    if high > 0 && get(set, high - 1) < value {
        return Err(high);
    }
    while low < high {
        let middle = (low + high) / 2;
        match get(set, middle).cmp(&value) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Ok(middle),
        }
    }
    Err(low)
}

/// Whether the integer is there.
pub fn contains(set: &[u8], value: i64) -> bool {
    search(set, value).is_ok()
}

/// Adds an integer; false if it was there.
pub fn insert(set: &mut impl Buffer, value: i64) -> bool {
    let Err(index) = search(set.bytes(), value) else { return false };
    let wanted = width_of(value);
    if wanted > width(set.bytes()) {
        widen(set, wanted);
    }
    let width = width(set.bytes());
    let at = HEAD + index * width;
    let bytes = set.splice(at, 0, width);
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    set_len(bytes, width);
    true
}

/// Removes an integer; false if it was not there.
pub fn remove(set: &mut impl Buffer, value: i64) -> bool {
    let Ok(index) = search(set.bytes(), value) else { return false };
    let width = width(set.bytes());
    set_len(set.splice(HEAD + index * width, width, 0), width);
    true
}

/// Whether foreign bytes are an intset: widths and length fit, and the integers ascend.
pub fn is_valid(set: &[u8]) -> bool {
    if set.len() < HEAD || !is_intset(set) {
        return false;
    }
    let count = u32::from_le_bytes(head_of(&set[4..])) as u64;
    set.len() as u64 == HEAD as u64 + count * width(set) as u64
        && (1..len(set)).all(|index| get(set, index - 1) < get(set, index))
}

fn width(set: &[u8]) -> usize {
    usize::from(set[0])
}

fn width_of(value: i64) -> usize {
    match value {
        -32_768..=32_767 => 2,
        -2_147_483_648..=2_147_483_647 => 4,
        _ => 8,
    }
}

fn head_of<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("an intset has whole integers")
}

/// Writes all integers wider.
fn widen(set: &mut impl Buffer, width: usize) {
    let values: Vec<i64> = iter(set.bytes()).collect();
    let old = set.bytes().len();
    let bytes = set.splice(HEAD, old - HEAD, values.len() * width);
    for (to, value) in bytes[HEAD..].chunks_exact_mut(width).zip(&values) {
        to.copy_from_slice(&value.to_le_bytes()[..width]);
    }
    bytes[0] = width as u8;
}

fn set_len(set: &mut [u8], width: usize) {
    let count = u32::try_from((set.len() - HEAD) / width).expect("an intset has less than 2^32 integers");
    set[4..HEAD].copy_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::testing::Random;
    use std::collections::BTreeSet;

    #[test]
    fn bytes_are_those_of_redis() {
        let mut set = EMPTY.to_vec();
        for value in [3, 1, 2] {
            assert!(insert(&mut set, value));
        }
        assert_eq!(set, [2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 2, 0, 3, 0]);
        insert(&mut set, 70_000);
        let wider = [4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x70, 0x11, 1, 0];
        assert_eq!(set, wider);
        assert!(is_valid(&set) && is_intset(&set));
        assert!(!is_intset(&crate::collections::listpack::EMPTY));
    }

    #[test]
    fn agrees_with_a_set() {
        let mut random = Random::from_env();
        let (mut set, mut model) = (EMPTY.to_vec(), BTreeSet::new());
        for round in 0..if cfg!(miri) { 200 } else { 20_000u64 } {
            let widest = 6 + (round / 100 % 59) as u32;
            let value = random.next() as i64 >> (64 - widest);
            if random.below(3) > 0 {
                assert_eq!(insert(&mut set, value), model.insert(value));
            } else {
                assert_eq!(remove(&mut set, value), model.remove(&value));
            }
            assert_eq!(len(&set), model.len());
            assert_eq!(contains(&set, value ^ 1), model.contains(&(value ^ 1)));
            if round % 64 == 0 {
                assert!(is_valid(&set) && iter(&set).eq(model.iter().copied()));
            }
            if model.len() > 200 {
                (set, model) = (EMPTY.to_vec(), BTreeSet::new());
            }
        }
    }

    #[test]
    fn damage_is_found() {
        for bad in [
            &[2, 0, 0, 0, 1, 0, 0][..],
            &[2, 0, 0, 0, 1, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 2, 0],
            &[2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 2, 0],
        ] {
            assert!(!is_valid(bad));
        }
    }
}
