//! Commands that count in strings: INCR, DECR and INCRBYFLOAT.

use super::args::int;
use super::error::{self, CmdError, CmdResult};
use super::spec::{Flags, Spec};
use super::string::{ADDS, STRING, UPDATES_KEY};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::collections::entry::NewPayload;
use crate::keyspace::change::{Event, class};
use crate::util::num::LongDouble;
use crate::value::string::{self, Digits};
use crate::value::{Entry, Kind};

const INCRBY_EVENT: Event = Event::new(class::STRING, "incrby");
const INCRBYFLOAT_EVENT: Event = Event::new(class::STRING, "incrbyfloat");

/// What all of them share.
const COUNTER: Spec = Spec { flags: ADDS.with(Flags::FAST), keys: UPDATES_KEY, ..STRING };

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "incr",
            arity: 2,
            summary: "Increments the integer value of a key by one. Uses 0 as initial value if the key \
                      doesn't exist.",
            usage: "key",
            ..COUNTER
        },
        |ctx| add(ctx, 1),
    ),
    (
        Spec {
            name: "decr",
            arity: 2,
            summary: "Decrements the integer value of a key by one. Uses 0 as initial value if the key \
                      doesn't exist.",
            usage: "key",
            ..COUNTER
        },
        |ctx| add(ctx, -1),
    ),
    (
        Spec {
            name: "incrby",
            arity: 3,
            summary: "Increments the integer value of a key by a number. Uses 0 as initial value if the key \
                      doesn't exist.",
            usage: "key increment",
            ..COUNTER
        },
        incrby,
    ),
    (
        Spec {
            name: "decrby",
            arity: 3,
            summary: "Decrements a number from the integer value of a key. Uses 0 as initial value if the \
                      key \
                      doesn't exist.",
            usage: "key decrement",
            ..COUNTER
        },
        decrby,
    ),
    (
        Spec {
            name: "incrbyfloat",
            arity: 3,
            since: "2.6.0",
            summary: "Increment the floating point value of a key by a number. Uses 0 as initial value if \
                      the \
                      key doesn't exist.",
            usage: "key increment",
            ..COUNTER
        },
        incrbyfloat,
    ),
];

fn incrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let delta = ctx.int(2)?;
    add(ctx, delta)
}

fn decrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let delta = int(ctx.args.get(2))?.checked_neg().ok_or(error::DECR_OVERFLOW)?;
    add(ctx, delta)
}

/// Adds to an integer, in place.
fn add(ctx: &mut Ctx<'_>, delta: i64) -> CmdResult {
    let key = ctx.key(1);
    let sum = if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::String)? {
        let old = string::as_int(&entry).ok_or(error::NOT_INTEGER)?;
        let sum = old.checked_add(delta).ok_or(error::OVERFLOW)?;
        string::set_int(&mut entry, sum);
        sum
    } else {
        ctx.ks.insert(ctx.db, key, Kind::String, NewPayload::Int(delta), None);
        delta
    };
    ctx.ks.changed(ctx.db, key.bytes, INCRBY_EVENT);
    ctx.reply.int(sum);
    Ok(Outcome::Done)
}

/// Adds to a number with 80 bits of precision. It propagates as its result: other machines may round
/// another way.
fn incrbyfloat(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let delta = ctx.args.get(2);
    let text;
    if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::String)? {
        text = sum_of(&entry, delta)?;
        string::set(&mut entry, string::text_payload(&text));
    } else {
        text = finite(parse(delta)?)?;
        ctx.ks.insert(ctx.db, key, Kind::String, string::text_payload(&text), None);
    }
    ctx.ks.changed(ctx.db, key.bytes, INCRBYFLOAT_EVENT);
    ctx.reply.bulk(&text);
    ctx.propagate_as(&[b"SET", key.bytes, &text, b"KEEPTTL"]);
    Ok(Outcome::Done)
}

fn sum_of(entry: &Entry, delta: &[u8]) -> Result<Vec<u8>, CmdError> {
    let mut digits = Digits::default();
    let old = parse(string::bytes(entry, &mut digits))?;
    finite(old.add(parse(delta)?))
}

fn parse(text: &[u8]) -> Result<LongDouble, CmdError> {
    LongDouble::parse(text).ok_or(error::NOT_FLOAT)
}

/// The text of a result that is a number.
fn finite(value: LongDouble) -> Result<Vec<u8>, CmdError> {
    if value.is_nan_or_inf() { Err(error::NAN_OR_INFINITY) } else { Ok(value.to_string_human()) }
}
