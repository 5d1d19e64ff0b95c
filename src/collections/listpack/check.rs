//! Whether bytes from a file or from RESTORE are a listpack: then, and only then, may the rest of this folder
//! read them.

use super::entry::{Value, back_length, back_length_bytes, head_length};
use super::{EMPTY, END, HEAD, UNKNOWN, from_values, iter};
use std::borrow::Cow;

/// Whether the bytes are a whole listpack: the total, each element with the length behind it, the end, and
/// the number of elements.
pub fn is_valid(lp: &[u8]) -> bool {
    if lp.len() < EMPTY.len() || lp[..4] != (lp.len() as u64).to_le_bytes()[..4] || lp[lp.len() - 1] != END {
        return false;
    }
    let end = lp.len() - 1;
    let (mut at, mut count) = (HEAD, 0usize);
    while at < end {
        let Some(length) = head_length(&lp[at..end]) else { return false };
        let bytes = back_length_bytes(length);
        match at.checked_add(length + bytes) {
            Some(after) if after <= end && back_length(lp, after) == (length, bytes) => at = after,
            _ => return false,
        }
        count += 1;
    }
    let known = u16::from_le_bytes([lp[4], lp[5]]);
    known == UNKNOWN || usize::from(known) == count
}

/// Foreign bytes as a listpack of ours: none when they are none; written anew when a string in them should
/// have been an integer, as comparing values relies on that.
pub fn adopt(lp: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !is_valid(lp) {
        return None;
    }
    let canonical = |value: Value<'_>| matches!(value, Value::Int(_)) || value.as_int().is_none();
    if iter(lp).all(canonical) {
        return Some(Cow::Borrowed(lp));
    }
    let settled = |value| match value {
        Value::Int(n) => Value::Int(n),
        Value::Str(bytes) => Value::new(bytes),
    };
    Some(Cow::Owned(from_values(iter(lp).map(settled))))
}
