//! Spellings that several files of this folder share.

use crate::util::quote::push_quoted;

/// `bytes` with the largest unit that divides it.
pub(super) fn with_unit(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// `text` in double quotes, with escapes for what is not printable ASCII.
pub(super) fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_quoted(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}
