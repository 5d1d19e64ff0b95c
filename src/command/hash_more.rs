//! Hash commands beyond setting and getting: numbers in fields, random fields, HSCAN.

use super::args::Cursor;
use super::error::{self, CmdError, CmdResult};
use super::hash::{ADDS, HASH, READS, change_or_create, find_for_change};
use super::scan::{ScanOptions, Scanned, empty_scan, parse_cursor, reply_scan};
use super::spec::{Flags, KeySpec, Spec, access, key};
use super::{Ctx, DataFn, Outcome, args, of_kind};
use crate::keyspace::change::{Event, class};
use crate::resp::{OwnedArgs, Proto, Reply};
use crate::util::num::LongDouble;
use crate::value::hash::{self, FieldTtl, Item};
use crate::value::{self, Digits, Kind, Value};

const HINCRBY: Event = Event::new(class::HASH, "hincrby");
const HINCRBYFLOAT: Event = Event::new(class::HASH, "hincrbyfloat");

const COUNTS_IN: &[KeySpec] = &[key(1, access::RW | access::ACCESS | access::UPDATE)];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "hincrby",
            member: 2,
            arity: 4,
            flags: ADDS,
            keys: COUNTS_IN,
            summary: "Adds to the integer in a field; a field that is not there counts as 0.",
            usage: "key field increment",
            ..HASH
        },
        hincrby,
    ),
    (
        Spec {
            name: "hincrbyfloat",
            member: 2,
            arity: 4,
            flags: ADDS,
            keys: COUNTS_IN,
            since: "2.6.0",
            summary: "Adds to the floating point number in a field; a field that is not there counts as 0.",
            usage: "key field increment",
            ..HASH
        },
        hincrbyfloat,
    ),
    (
        Spec {
            name: "hrandfield",
            arity: -2,
            flags: Flags::READONLY,
            keys: READS,
            since: "6.2.0",
            summary: "Returns random fields of a hash.",
            complexity: "O(N) for N fields returned.",
            usage: "key [count [WITHVALUES]]",
            tips: &["nondeterministic_output"],
            ..HASH
        },
        hrandfield,
    ),
    (
        Spec {
            name: "hscan",
            arity: -3,
            flags: Flags::READONLY,
            keys: READS,
            since: "2.8.0",
            summary: "Walks over the fields of a hash, some at a time.",
            complexity: "O(1) a call; O(N) for the whole walk over N fields.",
            usage: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
            tips: &["nondeterministic_output"],
            ..HASH
        },
        hscan,
    ),
];

// ---- numbers ----

/// The value of a field is no integer.
const NOT_INTEGER: CmdError = CmdError::new("ERR hash value is not an integer");
/// The value of a field is no floating point number.
const NOT_FLOAT: CmdError = CmdError::new("ERR hash value is not a float");
/// HINCRBYFLOAT by what is no number.
const NAN_OR_INFINITY: CmdError = CmdError::new("ERR value is NaN or Infinity");

fn hincrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, field, delta) = (ctx.key(1), ctx.args.get(2), ctx.int(3)?);
    let old = find_for_change(ctx, key, field, |value| match value {
        None => Some(0),
        Some(value) => value.as_int(),
    })?;
    let old = old.ok_or(NOT_INTEGER)?;
    let sum = old.checked_add(delta).ok_or(error::OVERFLOW)?;
    let mut digits = itoa::Buffer::new();
    let text = digits.format(sum).as_bytes();
    change_or_create(ctx, key, |entry, limits| hash::set(entry, limits, field, text, FieldTtl::Keep))?;
    ctx.ks.changed(ctx.db, key.bytes, HINCRBY);
    ctx.reply.int(sum);
    Ok(Outcome::Done)
}

/// Adds with 80 bits of precision. It propagates as its result: other machines may round another way.
fn hincrbyfloat(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, field) = (ctx.key(1), ctx.args.get(2));
    let delta = LongDouble::parse(ctx.args.get(3)).ok_or(error::NOT_FLOAT)?;
    if delta.is_nan_or_inf() {
        return Err(NAN_OR_INFINITY);
    }
    let sum = find_for_change(ctx, key, field, |value| match value {
        None => Some(delta),
        Some(value) => LongDouble::parse(value.bytes(&mut Digits::default())).map(|old| old.add(delta)),
    })?;
    let sum = sum.ok_or(NOT_FLOAT)?;
    if sum.is_nan_or_inf() {
        return Err(error::NAN_OR_INFINITY);
    }
    let text = sum.to_string_human();
    let expiry = change_or_create(ctx, key, |entry, limits| {
        hash::set(entry, limits, field, &text, FieldTtl::Keep);
        hash::view(entry, i64::MIN).item(field).and_then(|item| item.expiry)
    })?;
    ctx.ks.changed(ctx.db, key.bytes, HINCRBYFLOAT);
    ctx.reply.bulk(&text);
    ctx.propagate_as(&[b"HSET", key.bytes, field, &text]);
    // HSET takes the deadline away, which this command keeps.
    if let (Some(at), super::Propagate::As(effects)) = (expiry, &mut ctx.propagate) {
        let at = at.to_string();
        let again: &[&[u8]] = &[b"HPEXPIREAT", key.bytes, at.as_bytes(), b"FIELDS", b"1", field];
        effects.push(OwnedArgs::from_slices(again));
    }
    Ok(Outcome::Done)
}

// ---- random fields ----

/// What HRANDFIELD is asked for.
struct Wanted {
    count: i64,
    values: bool,
}

/// Elements of a reply that may repeat itself are at most this many: clients read no longer arrays.
const REPEATED_MAX: u64 = u32::MAX as u64;

/// A count of random elements; the smallest integer has no opposite.
pub(super) fn random_count(bytes: &[u8]) -> Result<i64, CmdError> {
    match args::int(bytes)? {
        i64::MIN => Err(RANDOM_COUNT),
        count => Ok(count),
    }
}

const RANDOM_COUNT: CmdError = CmdError::new(
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
);

/// The number of picks for a negative count, which may repeat elements.
pub(super) fn repeated_count(count: i64) -> Result<usize, CmdError> {
    let picks = count.unsigned_abs();
    if picks > REPEATED_MAX { Err(error::OUT_OF_RANGE) } else { Ok(picks as usize) }
}

fn parse_wanted(ctx: &Ctx<'_>) -> Result<Option<Wanted>, CmdError> {
    if ctx.args.len() == 2 {
        return Ok(None);
    }
    let count = random_count(ctx.args.get(2))?;
    let mut cursor = Cursor::new(ctx.args, 3);
    let values = cursor.word("withvalues");
    if !cursor.is_done() {
        return Err(error::SYNTAX);
    }
    if values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    Ok(Some(Wanted { count, values }))
}

fn hrandfield(ctx: &mut Ctx<'_>) -> CmdResult {
    let (wanted, key, over_ms) = (parse_wanted(ctx)?, ctx.key(1), ctx.over_ms());
    let nothing = |reply: &mut Reply| if wanted.is_some() { reply.array(0) } else { reply.null() };
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)? else {
        nothing(ctx.reply);
        return Ok(Outcome::Done);
    };
    let has_due = hash::view(&entry, over_ms).has_due();
    drop(entry);
    let left = !has_due || ctx.ks.expire_all_fields(ctx.db, key);
    let (mut rng, bytes_max) = (ctx.ks.rng.clone(), ctx.reply_bytes_max());
    let entry = ctx.ks.peek(ctx.db, key).filter(|_| left);
    let Some(hash) = entry.as_ref().map(|entry| hash::view(entry, over_ms)) else {
        nothing(ctx.reply);
        return Ok(Outcome::Done);
    };
    match &wanted {
        None => match hash.random(&mut rng) {
            Some(item) => value::reply(item.field, ctx.reply),
            None => ctx.reply.null(),
        },
        Some(Wanted { count: count @ 0.., values }) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX).min(hash.live_len());
            head(ctx.reply, count, *values);
            hash.sample(count, &mut rng, &mut |item| random_item(ctx.reply, item, *values));
        }
        Some(Wanted { count, values }) => {
            let picks = if hash.live_len() == 0 { 0 } else { repeated_count(*count)? };
            head(ctx.reply, picks, *values);
            for _ in 0..picks {
                if ctx.reply.pending_bytes() > bytes_max {
                    break;
                }
                let item = hash.random(&mut rng).expect("the hash is not empty");
                random_item(ctx.reply, item, *values);
            }
        }
    }
    ctx.ks.rng = rng;
    Ok(Outcome::Done)
}

/// RESP3 has pairs, RESP2 a flat list.
fn head(reply: &mut Reply, count: usize, values: bool) {
    let flat = values && reply.proto == Proto::Resp2;
    reply.array(if flat { 2 * count } else { count });
}

fn random_item(reply: &mut Reply, item: Item<'_>, values: bool) {
    if values && reply.proto == Proto::Resp3 {
        reply.array(2);
    }
    value::reply(item.field, reply);
    if values {
        value::reply(item.value, reply);
    }
}

// ---- walking ----

fn hscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let (cursor, key, over_ms) = (parse_cursor(ctx.args.get(2))?, ctx.key(1), ctx.over_ms());
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)? else {
        empty_scan(ctx.reply);
        return Ok(Outcome::Done);
    };
    let options = ScanOptions::parse(ctx.args, 3, Scanned::Fields)?;
    reply_scan(ctx.reply, |reply| {
        let mut found = 0;
        let wants = |field: Value<'_>| options.wants(field.bytes(&mut Digits::default()));
        let next = hash::view(&entry, over_ms).scan(cursor, options.count, &mut |item| {
            if wants(item.field) {
                value::reply(item.field, reply);
                found += 1;
                if !options.no_values {
                    value::reply(item.value, reply);
                    found += 1;
                }
            }
        });
        (next, found)
    });
    Ok(Outcome::Done)
}
