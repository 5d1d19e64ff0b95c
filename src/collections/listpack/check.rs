//! Whether bytes from a file or from RESTORE are a listpack: then, and only then, may the rest of this folder
//! read them.

use super::entry::{STRING_6, Value, back_byte, back_length_bytes, decode, head_length};
use super::{END, HEAD, UNKNOWN, from_values, iter};
use std::borrow::Cow;

/// Whether the bytes are a whole listpack: the total, each element with the length behind it, the end, and
/// the number of elements.
pub fn is_valid(lp: &[u8]) -> bool {
    walk(lp, |_| {}).is_some()
}

/// Foreign bytes as a listpack of ours: none when they are none; written anew when a string in them should
/// have been an integer, as comparing values relies on that.
pub fn adopt(lp: &[u8]) -> Option<Cow<'_, [u8]>> {
    adopt_with(lp, |_| {})
}

/// [`adopt`], which also shows each element as it stands in the result. When the bytes turn out to be no
/// listpack, some have been shown.
#[inline]
pub fn adopt_with<'a>(lp: &'a [u8], mut each: impl FnMut(Value<'a>)) -> Option<Cow<'a, [u8]>> {
    let mut is_ours = true;
    walk(lp, |value| {
        let value = match value {
            Value::Str(bytes) => Value::new(bytes),
            int => {
                each(int);
                return;
            }
        };
        is_ours &= matches!(value, Value::Str(_));
        each(value);
    })?;
    if is_ours {
        return Some(Cow::Borrowed(lp));
    }
    let settled = |value| match value {
        Value::Int(n) => Value::Int(n),
        Value::Str(bytes) => Value::new(bytes),
    };
    Some(Cow::Owned(from_values(iter(lp).map(settled))))
}

/// Walks over bytes that may be anything, and shows what is there; none as soon as it is no listpack.
#[inline(always)]
fn walk<'a>(lp: &'a [u8], mut each: impl FnMut(Value<'a>)) -> Option<()> {
    let (head, rest) = lp.split_first_chunk::<HEAD>()?;
    let (&last, elements) = rest.split_last()?;
    if head[..4] != (lp.len() as u64).to_le_bytes()[..4] || last != END {
        return None;
    }
    let (mut at, mut count) = (0, 0usize);
    while at < elements.len() {
        let byte = elements[at];
        // Nearly all are short strings; the length behind them is one byte.
        if byte & 0xc0 == STRING_6 {
            let end = at + 1 + usize::from(byte & 0x3f);
            if usize::from(*elements.get(end)?) != end - at {
                return None;
            }
            each(Value::Str(&elements[at + 1..end]));
            at = end + 1;
        } else {
            at = longer(elements, at, &mut each)?;
        }
        count += 1;
    }
    let known = u16::from_le_bytes([head[4], head[5]]);
    (known == UNKNOWN || usize::from(known) == count).then_some(())
}

/// Shows the element at `at`, and says where it ends.
fn longer<'a>(elements: &'a [u8], at: usize, each: &mut impl FnMut(Value<'a>)) -> Option<usize> {
    let length = head_length(&elements[at..])?;
    let bytes = back_length_bytes(length);
    let after = at.checked_add(length + bytes).filter(|after| *after <= elements.len())?;
    if (0..bytes).any(|i| elements[after - 1 - i] != back_byte(length, bytes, i)) {
        return None;
    }
    each(decode(elements, at).0);
    Some(after)
}
