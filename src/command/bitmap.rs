//! Strings as bitmaps: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Integers of any width (BITFIELD) are in
//! `bitfield`; the work on the bits themselves is in `util::bits`.

use super::args::{int, is};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Acl, Flags, KeySpec, SPEC, Spec, access, key, range};
use super::string_range::{Length, change};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::collections::blob::Blob;
use crate::collections::entry::NewPayload;
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Ttl};
use crate::util::bits::{self, Bit, Op};
use crate::util::num::parse_i64;
use crate::value::string::{self, Digits};
use crate::value::{Entry, Kind};

/// A bitmap changed.
pub(super) const SETBIT_EVENT: Event = Event::new(class::STRING, "setbit");
const SET_EVENT: Event = Event::new(class::STRING, "set");

/// What all bitmap commands share.
pub(super) const BITMAP: Spec = Spec { group: "bitmap", acl: Acl::BITMAP, ..SPEC };
/// Key specs of a command that reads its one key.
pub(super) const READS_KEY: &[KeySpec] = &[key(1, access::RO | access::ACCESS)];

/// BITCOUNT and BITPOS may be told to count in bits.
const UNIT_ADDED: &[(&str, &str)] = &[("7.0.0", "Added the `BYTE|BIT` option.")];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "setbit",
            arity: 4,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            keys: &[key(1, access::RW | access::ACCESS | access::UPDATE)],
            since: "2.2.0",
            summary: "Sets or clears the bit at offset of the string value. Creates the key if it doesn't \
                      exist.",
            usage: "key offset value",
            ..BITMAP
        },
        setbit,
    ),
    (
        Spec {
            name: "getbit",
            arity: 3,
            flags: Flags::READONLY.with(Flags::FAST),
            keys: READS_KEY,
            since: "2.2.0",
            summary: "Returns a bit value by offset.",
            usage: "key offset",
            ..BITMAP
        },
        getbit,
    ),
    (
        Spec {
            name: "bitcount",
            arity: -2,
            flags: Flags::READONLY,
            keys: READS_KEY,
            since: "2.6.0",
            summary: "Counts the number of set bits (population counting) in a string.",
            complexity: "O(N)",
            usage: "key [start end [BYTE | BIT]]",
            history: UNIT_ADDED,
            ..BITMAP
        },
        bitcount,
    ),
    (
        Spec {
            name: "bitpos",
            arity: -3,
            flags: Flags::READONLY,
            keys: READS_KEY,
            since: "2.8.7",
            summary: "Finds the first set (1) or clear (0) bit in a string.",
            complexity: "O(N)",
            usage: "key bit [start [end [BYTE | BIT]]]",
            history: UNIT_ADDED,
            ..BITMAP
        },
        bitpos,
    ),
    (
        Spec {
            name: "bitop",
            arity: -4,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            keys: &[key(2, access::OW | access::UPDATE), range(3, -1, 1, access::RO | access::ACCESS)],
            since: "2.6.0",
            summary: "Performs bitwise operations on multiple strings, and stores the result.",
            complexity: "O(N)",
            usage: "<AND | OR | XOR | NOT> destkey key [key ...]",
            ..BITMAP
        },
        bitop,
    ),
];

const BAD_OFFSET: CmdError = CmdError::new("ERR bit offset is not an integer or out of range");
const BAD_BIT: CmdError = CmdError::new("ERR bit is not an integer or out of range");
const NOT_A_BIT: CmdError = CmdError::new("ERR The bit argument must be 1 or 0.");
const NOT_OF_ONE: CmdError = CmdError::new("ERR BITOP NOT must be called with a single source key.");

// ---- single bits ----

/// The offset of a bit, counted in steps of `step` bits, within the longest string there may be.
pub(super) fn offset(text: &[u8], step: i64, len_max: usize) -> Result<u64, CmdError> {
    let offset = parse_i64(text).and_then(|n| n.checked_mul(step)).and_then(|n| u64::try_from(n).ok());
    offset.filter(|offset| offset / 8 < len_max as u64).ok_or(BAD_OFFSET)
}

/// Bytes of a string that bit `last` is the end of.
pub(super) fn bytes_to(last: u64) -> usize {
    (last / 8) as usize + 1
}

fn setbit(ctx: &mut Ctx<'_>) -> CmdResult {
    let at = offset(ctx.args.get(2), 1, ctx.config.proto_max_bulk_len)?;
    let value = match ctx.args.get(3) {
        b"0" => Bit::Clear,
        b"1" => Bit::Set,
        _ => return Err(BAD_BIT),
    };
    let key = ctx.key(1);
    let (old, length) = change(ctx.ks, ctx.db, key, bytes_to(at), |bytes, length| {
        let old = bits::bit(bytes, at);
        bits::put_bit(bytes, at, value);
        (old, length)
    })?;
    if old != value || length == Length::Grown {
        ctx.ks.changed(ctx.db, key.bytes, SETBIT_EVENT);
    }
    ctx.reply.int(i64::from(old == Bit::Set));
    Ok(Outcome::Done)
}

fn getbit(ctx: &mut Ctx<'_>) -> CmdResult {
    let at = offset(ctx.args.get(2), 1, ctx.config.proto_max_bulk_len)?;
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::String)?;
    let set = entry.is_some_and(|e| bits::bit(string::bytes(&e, &mut Digits::default()), at) == Bit::Set);
    ctx.reply.int(i64::from(set));
    Ok(Outcome::Done)
}

// ---- ranges ----

/// What a range is counted in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

fn unit(word: &[u8]) -> Result<Unit, CmdError> {
    match word {
        word if is(word, "bit") => Ok(Unit::Bit),
        word if is(word, "byte") => Ok(Unit::Byte),
        _ => Err(error::SYNTAX),
    }
}

/// The first and last bit that `start` and `end` (inclusive, from the end where negative) mean in a string
/// of `len` bytes, if any.
fn resolve(start: i64, end: i64, unit: Unit, len: usize) -> Option<(u64, u64)> {
    let bits_each = if unit == Unit::Byte { 8 } else { 1 };
    let total = len as i64 * 8 / bits_each;
    let place = |i: i64| if i < 0 { (total + i).max(0) } else { i };
    let (start, end) = (place(start), place(end).min(total - 1));
    (start <= end).then(|| ((start * bits_each) as u64, ((end + 1) * bits_each - 1) as u64))
}

fn bitcount(ctx: &mut Ctx<'_>) -> CmdResult {
    let arg = |i: usize| ctx.args.get(i);
    let (start, end, unit) = match ctx.args.len() {
        2 => (0, -1, Unit::Byte),
        4 => (int(arg(2))?, int(arg(3))?, Unit::Byte),
        5 => (int(arg(2))?, int(arg(3))?, unit(arg(4))?),
        _ => return Err(error::SYNTAX),
    };
    let backwards = start < 0 && end < 0 && start > end;
    let count = |entry: &Entry| {
        let mut digits = Digits::default();
        let bytes = string::bytes(entry, &mut digits);
        let range = resolve(start, end, unit, bytes.len()).filter(|_| !backwards);
        range.map_or(0, |(first, last)| bits::count_range(bytes, first, last))
    };
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::String)?;
    let ones = entry.map_or(0, |entry| count(&entry));
    ctx.reply.int(ones as i64);
    Ok(Outcome::Done)
}

fn bitpos(ctx: &mut Ctx<'_>) -> CmdResult {
    let arg = |i: usize| ctx.args.get(i);
    let wanted = match int(arg(2))? {
        0 => Bit::Clear,
        1 => Bit::Set,
        _ => return Err(NOT_A_BIT),
    };
    let argc = ctx.args.len();
    if argc > 6 {
        return Err(error::SYNTAX);
    }
    let start = if argc > 3 { int(arg(3))? } else { 0 };
    let unit = if argc == 6 { unit(arg(5))? } else { Unit::Byte };
    let end = if argc > 4 { Some(int(arg(4))?) } else { None };
    let find = |entry: &Entry| {
        let mut digits = Digits::default();
        let bytes = string::bytes(entry, &mut digits);
        let (first, last) = resolve(start, end.unwrap_or(-1), unit, bytes.len())?;
        // Without an end the string goes on with zeros.
        let behind = (wanted == Bit::Clear && end.is_none()).then_some(last + 1);
        bits::find(bytes, wanted, first, last).or(behind)
    };
    let place = match of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::String)? {
        Some(entry) => find(&entry),
        // A missing key is zeros without end.
        None if wanted == Bit::Clear => Some(0),
        None => None,
    };
    ctx.reply.int(place.map_or(-1, |bit| bit as i64));
    Ok(Outcome::Done)
}

// ---- whole bitmaps ----

/// Operations of BITOP on several strings.
const OPS: &[(&str, Op)] = &[("and", Op::And), ("or", Op::Or), ("xor", Op::Xor)];

fn bitop(ctx: &mut Ctx<'_>) -> CmdResult {
    let word = ctx.args.get(1);
    let op = OPS.iter().find(|(name, _)| is(word, name)).map(|(_, op)| *op);
    let not = op.is_none() && is(word, "not");
    if op.is_none() && !not {
        return Err(error::SYNTAX);
    }
    if not && ctx.args.len() != 4 {
        return Err(NOT_OF_ONE);
    }
    let mut result = combine_keys(ctx, op.unwrap_or(Op::Or))?;
    if not {
        bits::invert(result.make_mut());
    }
    let (key, len) = (ctx.key(2), result.len());
    if len > 0 {
        ctx.ks.set(ctx.db, key, Kind::String, NewPayload::Blob(result), Ttl::Clear);
        ctx.ks.changed(ctx.db, key.bytes, SET_EVENT);
    } else if ctx.ks.remove(ctx.db, key, Free::Server) {
        ctx.ks.changed(ctx.db, key.bytes, event::DEL);
    }
    ctx.reply.len_int(len);
    Ok(Outcome::Done)
}

/// Combines all source strings, as long as the longest; missing keys are empty strings.
fn combine_keys(ctx: &mut Ctx<'_>, op: Op) -> Result<Blob, CmdError> {
    let mut result: Option<Blob> = None;
    ctx.each_key(3, 1, |ctx, _, key| {
        let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::String)?;
        let mut digits = Digits::default();
        let bytes = entry.as_ref().map_or(&b""[..], |entry| string::bytes(entry, &mut digits));
        match &mut result {
            None => result = Some(Blob::from_slice(bytes)),
            Some(result) => {
                result.resize(result.len().max(bytes.len()));
                bits::combine(op, result.make_mut(), bytes);
            }
        }
        Ok(())
    })?;
    let mut result = result.unwrap_or_default();
    result.shrink_to_fit();
    Ok(result)
}
