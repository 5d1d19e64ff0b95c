//! Commands that move elements from list to list, that pop from the first of several lists, and that wait
//! for an element. A waiting command returns what it waits for and is run again when a key is ready; it
//! propagates as the plain command that it came to.

use super::args::{Cursor, is, natural, timeout_ms};
use super::error::{self, CmdError, CmdResult};
use super::list::{Removed, pop_command, pop_elements, pop_event, push_event, removed};
use super::spec::{Acl, Deprecated, Flags, KeySpec, OnTimeout, SPEC, Spec, access, key, keynum, range};
use super::{BlockOn, Ctx, DataFn, Outcome, of_kind};
use crate::value::list::{self, End};
use crate::value::{Entry, Kind, reply};
use std::ops::Range;

const GROUP: &str = "list";
const POPPED: u32 = access::RW | access::ACCESS | access::DELETE;
const MOVES: &[KeySpec] = &[key(1, POPPED), key(2, access::RW | access::INSERT)];
const WRITE_OOM: Flags = Flags::WRITE.with(Flags::DENYOOM);
const WAITS: Flags = Flags::WRITE.with(Flags::BLOCKING);
const FRACTIONS: &[(&str, &str)] =
    &[("6.0.0", "`timeout` is interpreted as a double instead of an integer.")];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "lmove",
            arity: 5,
            flags: WRITE_OOM,
            acl: Acl::LIST,
            keys: MOVES,
            group: GROUP,
            since: "6.2.0",
            summary: "Moves an element from an end of a list to an end of another and returns it.",
            usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
            ..SPEC
        },
        lmove,
    ),
    (
        Spec {
            name: "rpoplpush",
            arity: 3,
            flags: WRITE_OOM,
            acl: Acl::LIST,
            keys: MOVES,
            group: GROUP,
            since: "1.2.0",
            summary: "Moves the last element of a list to the head of another and returns it.",
            usage: "source destination",
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`LMOVE` with the `RIGHT` and `LEFT` arguments",
            }),
            ..SPEC
        },
        rpoplpush,
    ),
    (
        Spec {
            name: "lmpop",
            arity: -4,
            flags: Flags::WRITE,
            acl: Acl::LIST,
            keys: &[keynum(1, POPPED)],
            group: GROUP,
            since: "7.0.0",
            summary: "Removes and returns elements from an end of the first list that has any.",
            complexity: "O(N+M) for N keys and M elements returned.",
            usage: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
            ..SPEC
        },
        lmpop,
    ),
    (
        Spec {
            name: "blpop",
            arity: -3,
            flags: WAITS,
            acl: Acl::LIST,
            keys: &[range(1, -2, 1, POPPED)],
            group: GROUP,
            since: "2.0.0",
            summary: "Removes and returns the head of the first list that has any, waiting for one.",
            complexity: "O(N) for N keys.",
            usage: "key [key ...] timeout",
            history: FRACTIONS,
            on_timeout: OnTimeout::NullArray,
            ..SPEC
        },
        blpop,
    ),
    (
        Spec {
            name: "brpop",
            arity: -3,
            flags: WAITS,
            acl: Acl::LIST,
            keys: &[range(1, -2, 1, POPPED)],
            group: GROUP,
            since: "2.0.0",
            summary: "Removes and returns the tail of the first list that has any, waiting for one.",
            complexity: "O(N) for N keys.",
            usage: "key [key ...] timeout",
            history: FRACTIONS,
            on_timeout: OnTimeout::NullArray,
            ..SPEC
        },
        brpop,
    ),
    (
        Spec {
            name: "blmove",
            arity: 6,
            flags: WRITE_OOM.with(Flags::BLOCKING),
            acl: Acl::LIST,
            keys: MOVES,
            group: GROUP,
            since: "6.2.0",
            summary: "Moves an element from list to list as LMOVE does, waiting for one.",
            usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
            on_timeout: OnTimeout::NullArrayOrNull,
            ..SPEC
        },
        blmove,
    ),
    (
        Spec {
            name: "brpoplpush",
            arity: 4,
            flags: WRITE_OOM.with(Flags::BLOCKING),
            acl: Acl::LIST,
            keys: MOVES,
            group: GROUP,
            since: "2.2.0",
            summary: "Moves an element from list to list as RPOPLPUSH does, waiting for one.",
            usage: "source destination timeout",
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
            }),
            history: FRACTIONS,
            on_timeout: OnTimeout::NullArrayOrNull,
            ..SPEC
        },
        brpoplpush,
    ),
    (
        Spec {
            name: "blmpop",
            arity: -5,
            flags: WAITS,
            acl: Acl::LIST,
            keys: &[keynum(2, POPPED)],
            group: GROUP,
            since: "7.0.0",
            summary: "Removes and returns elements as LMPOP does, waiting for a list that has any.",
            complexity: "O(N+M) for N keys and M elements returned.",
            usage: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
            on_timeout: OnTimeout::NullArray,
            ..SPEC
        },
        blmpop,
    ),
];

fn end_of(bytes: &[u8]) -> Result<End, CmdError> {
    match bytes {
        _ if is(bytes, "left") => Ok(End::Front),
        _ if is(bytes, "right") => Ok(End::Back),
        _ => Err(error::SYNTAX),
    }
}

/// Waits for a list under one of the keys.
fn wait_for(ctx: &Ctx<'_>, keys: Range<usize>, timeout_ms: i64) -> CmdResult {
    let keys = keys.map(|i| ctx.args.get(i).to_vec()).collect();
    Ok(Outcome::Block(Box::new(BlockOn { keys, kind: Some(Kind::List), timeout_ms, args: None })))
}

// ---- from list to list ----

fn lmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (from, to) = (end_of(ctx.args.get(3))?, end_of(ctx.args.get(4))?);
    if !move_element(ctx, from, to)? {
        ctx.reply.null();
    }
    Ok(Outcome::Done)
}

fn rpoplpush(ctx: &mut Ctx<'_>) -> CmdResult {
    if !move_element(ctx, End::Back, End::Front)? {
        ctx.reply.null();
    }
    Ok(Outcome::Done)
}

fn blmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (from, to) = (end_of(ctx.args.get(3))?, end_of(ctx.args.get(4))?);
    let timeout_ms = timeout_ms(ctx.args.get(5))?;
    if !move_element(ctx, from, to)? {
        return wait_for(ctx, 1..2, timeout_ms);
    }
    let args = ctx.args;
    ctx.propagate_as(&[b"LMOVE", args.get(1), args.get(2), args.get(3), args.get(4)]);
    Ok(Outcome::Done)
}

fn brpoplpush(ctx: &mut Ctx<'_>) -> CmdResult {
    let timeout_ms = timeout_ms(ctx.args.get(3))?;
    if !move_element(ctx, End::Back, End::Front)? {
        return wait_for(ctx, 1..2, timeout_ms);
    }
    let args = ctx.args;
    ctx.propagate_as(&[b"RPOPLPUSH", args.get(1), args.get(2)]);
    Ok(Outcome::Done)
}

/// Moves an element from the list at argument 1 to the one at argument 2, which may be the same, and replies
/// with it. False if there is no source.
fn move_element(ctx: &mut Ctx<'_>, from: End, to: End) -> Result<bool, CmdError> {
    let (db, source, target, limits) = (ctx.db, ctx.key(1), ctx.key(2), ctx.list_limits());
    if of_kind(ctx.ks.write(db, source), Kind::List)?.is_none() {
        return Ok(false);
    }
    of_kind(ctx.ks.write(db, target), Kind::List)?;
    let mut entry = ctx.ks.write(db, source).expect("it was just found");
    let len = list::view(&entry).len();
    let index = if from == End::Front { 0 } else { len - 1 };
    let mut scratch = Vec::new();
    let value = list::view(&entry).get(index, &mut scratch).expect("a list is not empty");
    reply(value, ctx.reply);
    let element = value.to_vec();
    let is_rotation = source.bytes == target.bytes;
    let left = if is_rotation { len } else { len - 1 };
    if len > 1 {
        list::remove_range(&mut entry, &limits, index, 1);
        if is_rotation {
            list::push(&mut entry, &limits, to, std::iter::once(&element[..]));
        }
    }
    drop(entry);
    if !is_rotation {
        let add = |entry: &mut Entry| list::push(entry, &limits, to, std::iter::once(&element[..]));
        let is_there = ctx.ks.write(db, target).map(|mut entry| add(&mut entry)).is_some();
        if !is_there {
            add(&mut ctx.ks.insert(db, target, Kind::List, list::empty(), None));
        }
    }
    ctx.ks.changed_too(db, target.bytes, push_event(to));
    removed(ctx, source, pop_event(from), Removed { count: 1, left });
    Ok(true)
}

// ---- from the first list that has any ----

/// What LMPOP and BLMPOP take: `numkeys key [key ...] <LEFT | RIGHT> [COUNT count]`.
struct ManyPop {
    keys: Range<usize>,
    end: End,
    count: usize,
}

const NUMKEYS: CmdError = CmdError::new("ERR numkeys should be greater than 0");
const COUNT: CmdError = CmdError::new("ERR count should be greater than 0");

fn parse_many(ctx: &Ctx<'_>, numkeys_at: usize) -> Result<ManyPop, CmdError> {
    let positive = |bytes, error: CmdError| match natural(bytes, error.clone())? {
        0 => Err(error),
        n => Ok(n),
    };
    let numkeys = positive(ctx.args.get(numkeys_at), NUMKEYS)?;
    let first = numkeys_at + 1;
    let keys = first..first.checked_add(numkeys).ok_or(error::SYNTAX)?;
    let mut cursor = Cursor::new(ctx.args, keys.end);
    let (end, mut count) = (end_of(cursor.take()?)?, None);
    while !cursor.is_done() {
        if count.is_some() || cursor.left() < 2 || !cursor.word("count") {
            return Err(error::SYNTAX);
        }
        count = Some(positive(cursor.take()?, COUNT)?);
    }
    Ok(ManyPop { keys, end, count: count.unwrap_or(1) })
}

/// How the elements popped from a list are replied, beside its key.
#[derive(Clone, Copy)]
enum Shape {
    /// One, as it is.
    One,
    /// Up to so many, as an array.
    Array(usize),
}

/// Pops from the first of the lists at some arguments that is there, and replies with its key and elements.
/// False if there is none.
fn pop_first(ctx: &mut Ctx<'_>, keys: Range<usize>, end: End, shape: Shape) -> Result<bool, CmdError> {
    let limits = ctx.list_limits();
    for i in keys {
        let key = ctx.key(i);
        let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::List)? else { continue };
        ctx.reply.array(2);
        ctx.reply.bulk(key.bytes);
        let count = match shape {
            Shape::One => 1,
            Shape::Array(count) => {
                let count = count.min(list::view(&entry).len());
                ctx.reply.array(count);
                count
            }
        };
        let popped = pop_elements(&mut entry, &limits, end, count, ctx.reply);
        drop(entry);
        removed(ctx, key, pop_event(end), popped);
        match shape {
            Shape::One => ctx.propagate_as(&[pop_command(end), key.bytes]),
            Shape::Array(_) => {
                let mut digits = itoa::Buffer::new();
                ctx.propagate_as(&[pop_command(end), key.bytes, digits.format(count).as_bytes()]);
            }
        }
        return Ok(true);
    }
    Ok(false)
}

fn lmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let ManyPop { keys, end, count } = parse_many(ctx, 1)?;
    if !pop_first(ctx, keys, end, Shape::Array(count))? {
        ctx.reply.null_array();
    }
    Ok(Outcome::Done)
}

fn blmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let ManyPop { keys, end, count } = parse_many(ctx, 2)?;
    let timeout_ms = timeout_ms(ctx.args.get(1))?;
    if pop_first(ctx, keys.clone(), end, Shape::Array(count))? {
        return Ok(Outcome::Done);
    }
    wait_for(ctx, keys, timeout_ms)
}

fn blpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_or_wait(ctx, End::Front)
}

fn brpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_or_wait(ctx, End::Back)
}

fn pop_or_wait(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    let last = ctx.args.len() - 1;
    let timeout_ms = timeout_ms(ctx.args.get(last))?;
    if pop_first(ctx, 1..last, end, Shape::One)? {
        return Ok(Outcome::Done);
    }
    wait_for(ctx, 1..last, timeout_ms)
}
