//! The packed encodings of old versions: ziplist (until Redis 6) and zipmap (until 2.4). They are read once,
//! element by element with every length checked, and never kept.
//!
//! - Ziplist: total bytes (u32), offset of the last entry (u32), number of entries (u16, 65535: unknown), the
//!   entries, 0xff. An entry is the length of the one before, its own encoding, its bytes. Little endian
//!   except for the lengths of strings.
//! - Zipmap: number of pairs (255: more), then for each the length and bytes of the key, the length of the
//!   value, one byte of slack, the value and the slack, then 0xff.

use crate::collections::listpack::Value;

const HEAD: usize = 10;
const END: u8 = 0xff;
/// The number of entries that says: count them.
const UNKNOWN: usize = 0xffff;
/// The first byte of a length of five bytes, in both formats.
const LONG: u8 = 0xfe;

/// The elements of a ziplist; none when it is not a whole one.
pub(super) fn ziplist(bytes: &[u8]) -> Option<Vec<Value<'_>>> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let (total, last, count) = (u32_at(0)?, u32_at(4)?, u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?));
    if total != bytes.len() || total <= HEAD || bytes[total - 1] != END {
        return None;
    }
    let body = &bytes[..total - 1];
    let (mut at, mut before, mut values) = (HEAD, None::<usize>, Vec::new());
    while at < body.len() {
        let rest = &body[at..];
        let (previous, head) = match *rest.first()? {
            LONG => (u32::from_le_bytes(*rest.get(1..)?.first_chunk()?) as usize, 5),
            END => return None,
            short => (usize::from(short), 1),
        };
        if previous != before.map_or(0, |start| at - start) {
            return None;
        }
        let (value, size) = ziplist_value(rest.get(head..)?)?;
        values.push(value);
        before = Some(at);
        at += head + size;
    }
    let counted = usize::from(count) == UNKNOWN || usize::from(count) == values.len();
    let tail = before.unwrap_or(HEAD);
    (counted && last == tail).then_some(values)
}

/// The value at the start of these bytes, and how many of them it takes.
fn ziplist_value(bytes: &[u8]) -> Option<(Value<'_>, usize)> {
    let first = *bytes.first()?;
    let string = |head: usize, len: usize| {
        let end = head.checked_add(len)?;
        Some((Value::Str(bytes.get(head..end)?), end))
    };
    match first >> 6 {
        0 => return string(1, usize::from(first & 0x3f)),
        1 => return string(2, usize::from(first & 0x3f) << 8 | usize::from(*bytes.get(1)?)),
        2 => return string(5, u32::from_be_bytes(*bytes.get(1..)?.first_chunk()?) as usize),
        _ => {}
    }
    let width = match first {
        0xfe => 1,
        0xc0 => 2,
        0xf0 => 3,
        0xd0 => 4,
        0xe0 => 8,
        // Four bits, of 1 to 13 for 0 to 12.
        0xf1..=0xfd => return Some((Value::Int(i64::from(first & 0x0f) - 1), 1)),
        _ => return None,
    };
    let mut wide = [0; 8];
    wide[8 - width..].copy_from_slice(bytes.get(1..1 + width)?);
    // Shifting down from the top spreads the sign.
    Some((Value::Int(i64::from_le_bytes(wide) >> (64 - 8 * width)), 1 + width))
}

/// The pairs of a zipmap; none when it is not a whole one or has no pair, as none was ever written.
pub(super) fn zipmap(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let count = *bytes.first()?;
    let mut rest = bytes.get(1..)?;
    let mut pairs = Vec::new();
    while *rest.first()? != END {
        let (key, tail) = zipmap_string(rest, 0)?;
        let (value, tail) = zipmap_string(tail, 1)?;
        pairs.push((key, value));
        rest = tail;
    }
    let counted = count >= LONG || usize::from(count) == pairs.len();
    (counted && rest.len() == 1 && !pairs.is_empty()).then_some(pairs)
}

/// The string at the start of these bytes, which has its length before it and perhaps a byte that says how
/// many unused ones follow; and what is behind it.
fn zipmap_string(bytes: &[u8], slack_bytes: usize) -> Option<(&[u8], &[u8])> {
    let (len, head) = match *bytes.first()? {
        LONG => (u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?) as usize, 5),
        END => return None,
        short => (usize::from(short), 1),
    };
    let tail = bytes.get(head..)?;
    let (slack, tail) = match slack_bytes {
        0 => (0, tail),
        _ => (usize::from(*tail.first()?), &tail[1..]),
    };
    let (string, tail) = tail.split_at_checked(len)?;
    Some((string, tail.get(slack..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ziplists_of_redis_are_read() {
        // RPUSH l a 1 300 -70000 on Redis 2.6: from the description of the format.
        let list = [
            0x18, 0, 0, 0, 0x11, 0, 0, 0, 4, 0, // head
            0, 1, b'a', // a
            3, 0xf2, // 1
            2, 0xc0, 0x2c, 1, // 300
            4, 0xf0, 0x90, 0xee, 0xfe, // -70000 in three bytes
            0xff,
        ];
        let mut list = list.to_vec();
        list[0] = list.len() as u8;
        list[4] = list.len() as u8 - 6;
        let values = [Value::Str(b"a"), Value::Int(1), Value::Int(300), Value::Int(-70_000)];
        assert_eq!(ziplist(&list), Some(values.to_vec()));
        for cut in 0..list.len() {
            assert_eq!(ziplist(&list[..cut]), None, "cut {cut}");
        }
        assert_eq!(ziplist(&[11, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0xff]), Some(vec![]));
    }

    #[test]
    fn zipmaps_of_redis_are_read() {
        let map = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff";
        assert_eq!(zipmap(map), Some(vec![(&b"foo"[..], &b"bar"[..]), (b"hello", b"world")]));
        for cut in 0..map.len() {
            assert_eq!(zipmap(&map[..cut]), None, "cut {cut}");
        }
        assert_eq!(zipmap(b"\x03\x01a\x01\x00b\xff"), None);
    }

    #[test]
    fn damage_never_panics() {
        let mut rng = crate::util::rng::Rng::from_seed(3);
        for _ in 0..50_000 {
            let mut bytes = vec![0; rng.below(40) as usize];
            rng.fill(&mut bytes);
            let len = bytes.len() as u32;
            if len >= 11 {
                bytes[..4].copy_from_slice(&len.to_le_bytes());
                bytes[len as usize - 1] = END;
            }
            let _ = (ziplist(&bytes), zipmap(&bytes));
        }
    }
}
