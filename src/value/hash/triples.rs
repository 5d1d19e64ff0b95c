//! The small hash with deadlines, as Redis 7.4 keeps and stores it: a listpack of field, value, deadline. The
//! fields that expire come first, the earliest first; those without a deadline have 0 there.

use super::super::{Unfit, Value};
use super::{FieldTtl, Item};
use crate::collections::listpack;

const STRIDE: usize = 3;
/// What stands for no deadline.
const NONE: i64 = 0;
/// The latest deadline that a file may hold: 48 bits of milliseconds.
const EXPIRY_MAX: i64 = (1 << 48) - 1;

/// The deadline that a third element tells.
#[inline]
pub(super) fn deadline(value: Value<'_>) -> Option<i64> {
    value.as_int().filter(|at| *at != NONE)
}

/// The field at an offset.
#[inline]
pub(super) fn item(bytes: &[u8], at: usize) -> Item<'_> {
    let mut values = listpack::iter_between(bytes, at, listpack::end(bytes));
    let mut next = || values.next().expect("triples are whole");
    Item { field: next(), value: next(), expiry: deadline(next()) }
}

/// The earliest deadline.
#[inline]
pub(super) fn next_expiry(bytes: &[u8]) -> Option<i64> {
    item(bytes, listpack::first(bytes)?).expiry
}

/// Whether deadlines are numbers in the right order.
pub(super) fn check(bytes: &[u8]) -> Result<(), Unfit> {
    let mut before = i64::MIN;
    for value in listpack::iter(bytes).skip(STRIDE - 1).step_by(STRIDE) {
        let rank = match value {
            Value::Int(NONE) => i64::MAX,
            Value::Int(at @ 1..=EXPIRY_MAX) => at,
            _ => return Err(Unfit),
        };
        if rank < before {
            return Err(Unfit);
        }
        before = rank;
    }
    Ok(())
}

/// From a listpack of pairs: no field has a deadline.
pub(super) fn from_pairs(pairs: &[u8]) -> Box<[u8]> {
    let mut triples = Vec::with_capacity(listpack::len(pairs) / 2 * STRIDE);
    let mut values = listpack::iter(pairs);
    while let (Some(field), Some(value)) = (values.next(), values.next()) {
        triples.extend([field, value, Value::Int(NONE)]);
    }
    listpack::from_values(triples).into_boxed_slice()
}

/// Sets the field that was found at `at`, or a new one.
pub(super) fn set(bytes: &mut Box<[u8]>, at: Option<usize>, field: &[u8], value: &[u8], ttl: FieldTtl) {
    let wanted = match ttl {
        FieldTtl::Keep => None,
        FieldTtl::Clear => Some(None),
        FieldTtl::At(at) => Some(Some(at)),
    };
    let Some(at) = at else {
        return insert(bytes, Value::new(field), Value::new(value), wanted.flatten());
    };
    let value_at = listpack::after(bytes, at);
    listpack::replace(bytes, value_at, Value::new(value));
    if let Some(expiry) = wanted {
        set_expiry(bytes, at, expiry);
    }
}

/// Sets or removes the deadline of the field at `at`.
pub(super) fn set_expiry(bytes: &mut Box<[u8]>, at: usize, expiry: Option<i64>) {
    let old = item(bytes, at);
    if old.expiry == expiry {
        return;
    }
    let (field, value) = (old.field.to_vec(), old.value.to_vec());
    listpack::delete(bytes, at, STRIDE);
    insert(bytes, Value::new(&field), Value::new(&value), expiry);
}

/// Puts a field in its place by deadline, behind those of the same.
fn insert(bytes: &mut Box<[u8]>, field: Value<'_>, value: Value<'_>, expiry: Option<i64>) {
    let mut at = listpack::end(bytes);
    if let Some(new) = expiry {
        let mut place = listpack::first(bytes);
        while let Some(here) = place {
            if item(bytes, here).expiry.is_none_or(|old| old > new) {
                at = here;
                break;
            }
            let (after, _) = listpack::advance(bytes, here, STRIDE);
            place = (after < listpack::end(bytes)).then_some(after);
        }
    }
    listpack::splice(bytes, at, 0, &[field, value, Value::Int(expiry.unwrap_or(NONE))]);
}

/// Removes up to `max` fields that are over, showing each; says how many.
pub(super) fn remove_due(
    bytes: &mut Box<[u8]>,
    now_ms: i64,
    max: usize,
    each: &mut dyn FnMut(&[u8]),
) -> usize {
    let Some(first) = listpack::first(bytes) else { return 0 };
    let mut due = 0;
    let mut values = listpack::iter(bytes);
    while due < max
        && let (Some(field), Some(_), Some(at)) = (values.next(), values.next(), values.next())
        && deadline(at).is_some_and(|at| at <= now_ms)
    {
        each(field.bytes(&mut listpack::Digits::default()));
        due += 1;
    }
    listpack::delete(bytes, first, due * STRIDE);
    due
}
