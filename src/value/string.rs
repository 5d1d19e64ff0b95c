//! Strings: integers in the entry, short strings inline, long ones in a shared blob. Knows no command.
//! Encoding names and thresholds are those of OBJECT ENCODING: int, embstr (up to 44 bytes), raw.

use super::{Entry, Kind};
use crate::collections::blob::Blob;
use crate::collections::entry::{Flag, NewPayload, Payload, PayloadMut};
use crate::resp::Reply;
use crate::resp::reply::SHARED_BYTES_MIN;
use crate::util::num;

/// Longest string kept inside its entry, in bytes: one cache miss and one allocation less per access.
pub const INLINE_MAX: usize = 192;
/// Longest string that OBJECT ENCODING calls embstr.
const EMBSTR_MAX: usize = 44;
/// Longest decimal form of an i64.
const INT_DIGITS_MAX: usize = 20;
/// The flag of a string that was changed in place: its encoding is raw whatever its length.
pub(super) const CHANGED: Flag = Flag::A;

/// Room for the digits of an integer string, so that every string can be seen as bytes.
#[derive(Default)]
pub struct Digits(itoa::Buffer);

/// The bytes of a string value. Panics if the entry holds another type.
#[inline]
pub fn bytes<'a>(entry: &'a Entry, digits: &'a mut Digits) -> &'a [u8] {
    match entry.payload() {
        Payload::Inline(bytes) => bytes,
        Payload::Blob(blob) => blob.as_slice(),
        Payload::Int(n) => digits.0.format(n).as_bytes(),
        Payload::Object(_) => unreachable!("a string is no object"),
    }
}

/// Writes the string as a reply; a long one is shared, not copied.
#[inline]
pub fn reply(entry: &Entry, reply: &mut Reply) {
    match entry.payload() {
        Payload::Inline(bytes) => reply.bulk(bytes),
        Payload::Int(n) => reply.bulk_int(n),
        Payload::Blob(blob) if blob.len() >= SHARED_BYTES_MIN => reply.bulk_shared(blob.clone().into_bytes()),
        Payload::Blob(blob) => reply.bulk(blob.as_slice()),
        Payload::Object(_) => unreachable!("a string is no object"),
    }
}

/// Length in bytes.
pub fn len(entry: &Entry) -> usize {
    bytes(entry, &mut Digits::default()).len()
}

/// The value as an integer, if it is one.
#[inline]
pub fn as_int(entry: &Entry) -> Option<i64> {
    match entry.payload() {
        Payload::Int(n) => Some(n),
        Payload::Inline(bytes) => num::parse_i64(bytes),
        Payload::Blob(blob) => num::parse_i64(blob.as_slice()),
        Payload::Object(_) => unreachable!("a string is no object"),
    }
}

/// The integer that a new string is stored as, if it is the canonical form of one.
#[inline]
pub fn int_of(bytes: &[u8]) -> Option<i64> {
    // Most strings are no numbers: the first byte tells nearly always.
    match bytes.first() {
        Some(b'0'..=b'9' | b'-') if bytes.len() <= INT_DIGITS_MAX => num::parse_i64(bytes),
        _ => None,
    }
}

/// The payload for a new string, in its smallest encoding. A blob that is given is moved.
#[inline]
pub fn payload<'a>(bytes: &'a [u8], blob: Option<&Blob>) -> NewPayload<'a, super::Object> {
    if let Some(n) = int_of(bytes) {
        return NewPayload::Int(n);
    }
    if bytes.len() <= INLINE_MAX {
        return NewPayload::Inline(bytes);
    }
    NewPayload::Blob(blob.cloned().unwrap_or_else(|| Blob::from_slice(bytes)))
}

/// The payload for a new string that stays text even if it is the form of an integer (INCRBYFLOAT).
pub fn text_payload(bytes: &[u8]) -> NewPayload<'_, super::Object> {
    if bytes.len() <= INLINE_MAX {
        return NewPayload::Inline(bytes);
    }
    NewPayload::Blob(Blob::from_slice(bytes))
}

/// The encoding's name.
pub fn encoding(entry: &Entry) -> &'static str {
    match entry.payload() {
        Payload::Int(_) => "int",
        Payload::Inline(bytes) if bytes.len() <= EMBSTR_MAX && !entry.flag(CHANGED) => "embstr",
        _ => "raw",
    }
}

/// Replaces the value by a string in its smallest encoding.
#[inline]
pub fn set(entry: &mut Entry, payload: NewPayload<'_, super::Object>) {
    clear_changed(entry);
    entry.set_payload(Kind::String as u8, payload);
}

/// Forgets that the value was changed in place (it was replaced by another).
pub fn clear_changed(entry: &mut Entry) {
    if entry.flag(CHANGED) {
        entry.set_flag(CHANGED, false);
    }
}

/// Replaces the value by an integer, in place.
#[inline]
pub fn set_int(entry: &mut Entry, n: i64) {
    if let PayloadMut::Int(old) = entry.payload_mut() {
        *old = n;
        return;
    }
    set(entry, NewPayload::Int(n));
}

/// Writes the bytes in `range` as a reply; many bytes of a long string are shared, not copied.
pub fn reply_range(entry: &Entry, range: std::ops::Range<usize>, reply: &mut Reply) {
    match entry.payload() {
        Payload::Blob(blob) if range.len() >= SHARED_BYTES_MIN => {
            reply.bulk_shared(blob.clone().into_bytes().slice(range));
        }
        _ => reply.bulk(&bytes(entry, &mut Digits::default())[range]),
    }
}

/// Makes the string `len` bytes long at least (zero bytes are added) and lets `change` write to it.
pub fn change<R>(entry: &mut Entry, len: usize, change: impl FnOnce(&mut [u8]) -> R) -> R {
    let old = self::len(entry);
    let len = len.max(old);
    if len > INLINE_MAX {
        if !matches!(entry.payload(), Payload::Blob(_)) {
            // Fresh zeros: where they are many, the system gives them without a write.
            let mut blob = Blob::zeroed(len);
            blob.make_mut()[..old].copy_from_slice(bytes(entry, &mut Digits::default()));
            entry.set_payload(Kind::String as u8, NewPayload::Blob(blob));
        }
        let blob = make_blob(entry, len);
        blob.resize(len);
        return change(blob.make_mut());
    }
    if !matches!(entry.payload(), Payload::Inline(bytes) if bytes.len() == len) {
        let mut text = [0u8; INLINE_MAX];
        text[..old].copy_from_slice(bytes(entry, &mut Digits::default()));
        entry.set_payload(Kind::String as u8, NewPayload::Inline(&text[..len]));
    }
    entry.set_flag(CHANGED, true);
    match entry.payload_mut() {
        PayloadMut::Inline(bytes) => change(bytes),
        _ => unreachable!("the string was made inline"),
    }
}

/// Replaces the value by bytes that were changed apart from it: the encoding is raw.
pub fn replace_changed(entry: &mut Entry, bytes: &[u8]) {
    entry.set_payload(Kind::String as u8, text_payload(bytes));
    entry.set_flag(CHANGED, true);
}

/// Appends to the string.
pub fn append(entry: &mut Entry, tail: &[u8]) -> usize {
    let len = self::len(entry);
    if len + tail.len() <= INLINE_MAX {
        change(entry, len + tail.len(), |bytes| bytes[len..].copy_from_slice(tail));
    } else {
        make_blob(entry, len + tail.len()).extend_from_slice(tail);
    }
    len + tail.len()
}

/// The string as a blob of its own, with room for `capacity` bytes when it has to be made.
fn make_blob(entry: &mut Entry, capacity: usize) -> &mut Blob {
    if !matches!(entry.payload(), Payload::Blob(_)) {
        let mut blob = Blob::with_capacity(capacity);
        blob.extend_from_slice(bytes(entry, &mut Digits::default()));
        entry.set_payload(Kind::String as u8, NewPayload::Blob(blob));
    }
    entry.set_flag(CHANGED, true);
    match entry.payload_mut() {
        PayloadMut::Blob(blob) => blob,
        _ => unreachable!("the string was made a blob"),
    }
}
