//! One element of a listpack: encoding byte and data, then the length of both, to be read from behind.
//!
//! Encodings, by the first byte: `0xxxxxxx` an integer of 7 bits; `10xxxxxx` a string of up to 63 bytes;
//! `110xxxxx` and one more byte an integer of 13 bits with sign; `1110xxxx` and one more byte a string of up
//! to 4095 bytes; f0 a string with a 4-byte length; f1, f2, f3, f4 integers of 2, 3, 4, 8 bytes.

use crate::util::num::parse_i64;

/// A string of up to 63 bytes, whose length is the other six bits.
pub(super) const STRING_6: u8 = 0x80;
const INT_13: u8 = 0xc0;
const STRING_12: u8 = 0xe0;
const STRING_32: u8 = 0xf0;
const INT_16: u8 = 0xf1;
const INT_24: u8 = 0xf2;
const INT_32: u8 = 0xf3;
const INT_64: u8 = 0xf4;
/// Longest decimal form of an i64.
const INT_DIGITS_MAX: usize = 20;

/// An element. A string that is the canonical form of an integer is kept as one, so equal elements are equal
/// values: `PartialEq` compares them as Redis compares the strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// An integer.
    Int(i64),
    /// Any other string. (In foreign listpacks it may be an integer: see `adopt`.)
    Str(&'a [u8]),
}

/// Room for the digits of an integer, so that every value can be seen as bytes.
#[derive(Default)]
pub struct Digits(itoa::Buffer);

impl<'a> Value<'a> {
    /// The value these bytes are kept as.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Value<'a> {
        // Most strings are no numbers: the first byte tells nearly always.
        match bytes.first() {
            Some(b'0'..=b'9' | b'-') if bytes.len() <= INT_DIGITS_MAX => {
                parse_i64(bytes).map_or(Value::Str(bytes), Value::Int)
            }
            _ => Value::Str(bytes),
        }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(self, digits: &'a mut Digits) -> &'a [u8] {
        match self {
            Value::Int(n) => digits.0.format(n).as_bytes(),
            Value::Str(bytes) => bytes,
        }
    }

    /// A copy of the bytes.
    pub fn to_vec(self) -> Vec<u8> {
        self.bytes(&mut Digits::default()).to_vec()
    }

    /// Number of bytes.
    pub fn len(self) -> usize {
        match self {
            Value::Int(_) => self.bytes(&mut Digits::default()).len(),
            Value::Str(bytes) => bytes.len(),
        }
    }

    /// Whether this is the empty string.
    pub fn is_empty(self) -> bool {
        matches!(self, Value::Str(b""))
    }

    /// The integer, if the value is the canonical form of one.
    #[inline]
    pub fn as_int(self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(n),
            Value::Str(bytes) => match Value::new(bytes) {
                Value::Int(n) => Some(n),
                Value::Str(_) => None,
            },
        }
    }

    /// The order of the bytes, by `memcmp` and then by length.
    pub fn compare_bytes(self, other: Value<'_>) -> std::cmp::Ordering {
        self.bytes(&mut Digits::default()).cmp(other.bytes(&mut Digits::default()))
    }
}

/// The element at `at` and how many bytes it takes in all. Short strings and small integers, which most
/// elements are, are told here; their length behind them is one byte.
#[inline(always)]
pub(super) fn decode(lp: &[u8], at: usize) -> (Value<'_>, usize) {
    let byte = lp[at];
    if byte & 0xc0 == STRING_6 {
        let len = usize::from(byte & 0x3f);
        return (Value::Str(&lp[at + 1..at + 1 + len]), len + 2);
    }
    if byte < STRING_6 {
        return (Value::Int(i64::from(byte)), 2);
    }
    if byte & 0xe0 == INT_13 {
        // The sign is the highest of 13 bits: moved to the top of a byte it spreads.
        let high = i64::from((byte << 3) as i8) << 5;
        return (Value::Int(high | i64::from(lp[at + 1])), 3);
    }
    decode_longer(&lp[at..])
}

fn decode_longer(entry: &[u8]) -> (Value<'_>, usize) {
    let string = |start: usize, len: usize| Value::Str(&entry[start..start + len]);
    let (value, length) = match entry[0] {
        byte @ STRING_12..STRING_32 => {
            let len = usize::from(byte & 0x0f) << 8 | usize::from(entry[1]);
            (string(2, len), 2 + len)
        }
        STRING_32 => {
            let len = little_endian(&entry[1..5]) as usize;
            (string(5, len), 5 + len)
        }
        byte @ INT_16..=INT_64 => {
            let width = int_width(byte);
            let shift = 64 - 8 * width as u32;
            let n = (little_endian(&entry[1..1 + width]) << shift) as i64 >> shift;
            (Value::Int(n), 1 + width)
        }
        byte => panic!("a listpack element cannot begin with {byte:#x}"),
    };
    (value, length + back_length_bytes(length))
}

/// How many bytes the element at `at` takes in all.
#[inline(always)]
pub(super) fn skip(lp: &[u8], at: usize) -> usize {
    let byte = lp[at];
    if byte & 0xc0 == STRING_6 {
        return usize::from(byte & 0x3f) + 2;
    }
    if byte < STRING_6 {
        return 2;
    }
    skip_longer(&lp[at..])
}

fn skip_longer(entry: &[u8]) -> usize {
    let length = head_length(entry).expect("the bytes are a listpack");
    length + back_length_bytes(length)
}

/// Bytes of encoding and data of the element that begins here; none when it cannot begin like this.
#[inline]
pub(super) fn head_length(entry: &[u8]) -> Option<usize> {
    let byte = *entry.first()?;
    Some(match byte {
        0..0x80 => 1,
        STRING_6..INT_13 => 1 + usize::from(byte & 0x3f),
        INT_13..STRING_12 => 2,
        STRING_12..STRING_32 => 2 + (usize::from(byte & 0x0f) << 8 | usize::from(*entry.get(1)?)),
        STRING_32 => 5 + little_endian(entry.get(1..5)?) as usize,
        INT_16..=INT_64 => 1 + int_width(byte),
        _ => return None,
    })
}

fn int_width(byte: u8) -> usize {
    match byte {
        INT_16 => 2,
        INT_24 => 3,
        INT_32 => 4,
        _ => 8,
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// How many bytes the length of an element takes behind it. (That 16,383 takes three is Redis' doing.)
#[inline]
pub(super) fn back_length_bytes(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// Of the `bytes` bytes that say the length behind an element, the one that is `i`th from the end.
#[inline]
pub(super) fn back_byte(length: usize, bytes: usize, i: usize) -> u8 {
    let more = if i + 1 < bytes { 0x80 } else { 0 };
    (length >> (7 * i) & 0x7f) as u8 | more
}

/// The length of the element that ends at `end`, and how many bytes that length takes: groups of seven bits,
/// the lowest last; all but the first have the top bit.
#[inline]
pub(super) fn back_length(lp: &[u8], end: usize) -> (usize, usize) {
    let last = lp[end - 1];
    if last & 0x80 == 0 {
        return (usize::from(last), 1);
    }
    let (mut length, mut bytes) = (0, 0);
    loop {
        let byte = lp[end - 1 - bytes];
        length |= usize::from(byte & 0x7f) << (7 * bytes);
        bytes += 1;
        if byte & 0x80 == 0 || bytes == 5 {
            return (length, bytes);
        }
    }
}

/// Bytes an element takes in all.
#[inline]
pub(super) fn encoded_length(value: &Value<'_>) -> usize {
    let length = match value {
        Value::Int(n) => match *n {
            0..=127 => 1,
            -4_096..=4_095 => 2,
            -32_768..=32_767 => 3,
            -8_388_608..=8_388_607 => 4,
            -2_147_483_648..=2_147_483_647 => 5,
            _ => 9,
        },
        Value::Str(bytes) => match bytes.len() {
            len @ 0..64 => 1 + len,
            len @ 64..4_096 => 2 + len,
            len => 5 + len,
        },
    };
    length + back_length_bytes(length)
}

/// Writes an element to the front of `to` and says how many bytes it took.
#[inline]
pub(super) fn write(to: &mut [u8], value: &Value<'_>) -> usize {
    let length = match value {
        Value::Int(n) => write_int(to, *n),
        Value::Str(bytes) => write_string(to, bytes),
    };
    let bytes = back_length_bytes(length);
    for i in 0..bytes {
        to[length + bytes - 1 - i] = back_byte(length, bytes, i);
    }
    length + bytes
}

fn write_int(to: &mut [u8], n: i64) -> usize {
    let (byte, width) = match n {
        0..=127 => {
            to[0] = n as u8;
            return 1;
        }
        -4_096..=4_095 => {
            to[0] = INT_13 | (n >> 8 & 0x1f) as u8;
            to[1] = n as u8;
            return 2;
        }
        -32_768..=32_767 => (INT_16, 2),
        -8_388_608..=8_388_607 => (INT_24, 3),
        -2_147_483_648..=2_147_483_647 => (INT_32, 4),
        _ => (INT_64, 8),
    };
    to[0] = byte;
    to[1..1 + width].copy_from_slice(&n.to_le_bytes()[..width]);
    1 + width
}

fn write_string(to: &mut [u8], bytes: &[u8]) -> usize {
    let len = bytes.len();
    let start = match len {
        0..64 => {
            to[0] = STRING_6 | len as u8;
            1
        }
        64..4_096 => {
            to[0] = STRING_12 | (len >> 8) as u8;
            to[1] = len as u8;
            2
        }
        _ => {
            let len = u32::try_from(len).expect("a listpack element is smaller than 4 GiB");
            to[0] = STRING_32;
            to[1..5].copy_from_slice(&len.to_le_bytes());
            5
        }
    };
    to[start..start + len].copy_from_slice(bytes);
    start + len
}
