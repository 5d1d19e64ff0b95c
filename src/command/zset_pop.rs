//! Popping members of sorted sets: ZPOPMIN, ZPOPMAX, ZMPOP and the forms that wait.

use super::args::{Cursor, timeout_ms};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Flags, KeySpec, OnTimeout, Spec, access, key, keynum, range};
use super::zset::{Scores, ZSET, report_removed};
use super::{BlockOn, Ctx, DataFn, Outcome, of_kind};
use crate::keyspace::Key;
use crate::keyspace::change::{Event, class};
use crate::resp::reply::Proto;
use crate::util::num;
use crate::value::{Direction, Kind, zset};

const POPS: u32 = access::RW | access::ACCESS | access::DELETE;

const POP: Spec = Spec {
    arity: -2,
    flags: Flags::WRITE.with(Flags::FAST),
    keys: &[key(1, POPS)],
    since: "5.0.0",
    complexity: "O(log(N)*M) for M members popped off a sorted set of N.",
    usage: "key [count]",
    ..ZSET
};
const BLOCKING_POP: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.with(Flags::FAST).with(Flags::BLOCKING),
    keys: &[range(1, -2, 1, POPS)],
    since: "5.0.0",
    complexity: "O(log(N)) for a sorted set of N members.",
    usage: "key [key ...] timeout",
    history: &[("6.0.0", "`timeout` is interpreted as a double instead of an integer.")],
    on_timeout: OnTimeout::NullArray,
    ..ZSET
};
const MPOP_COST: &str = "O(K) + O(M*log(N)) for K keys and M members popped off a sorted set of N.";
const MPOP_KEYS: &[KeySpec] = &[keynum(1, POPS)];
const BMPOP_KEYS: &[KeySpec] = &[keynum(2, POPS)];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "zpopmin",
            summary: "Removes and returns the members of a sorted set with the lowest scores.",
            ..POP
        },
        |ctx| pop(ctx, &MIN),
    ),
    (
        Spec {
            name: "zpopmax",
            summary: "Removes and returns the members of a sorted set with the highest scores.",
            ..POP
        },
        |ctx| pop(ctx, &MAX),
    ),
    (
        Spec {
            name: "bzpopmin",
            summary: "Pops the member with the lowest score off the first sorted set that has one; waits \
                      until there is one.",
            ..BLOCKING_POP
        },
        |ctx| blocking_pop(ctx, &MIN),
    ),
    (
        Spec {
            name: "bzpopmax",
            summary: "Pops the member with the highest score off the first sorted set that has one; waits \
                      until there is one.",
            ..BLOCKING_POP
        },
        |ctx| blocking_pop(ctx, &MAX),
    ),
    (
        Spec {
            name: "zmpop",
            arity: -4,
            flags: Flags::WRITE,
            keys: MPOP_KEYS,
            since: "7.0.0",
            summary: "Pops members off the first sorted set that has some.",
            complexity: MPOP_COST,
            usage: "numkeys key [key ...] <MIN | MAX> [COUNT count]",
            ..ZSET
        },
        zmpop,
    ),
    (
        Spec {
            name: "bzmpop",
            arity: -5,
            flags: Flags::WRITE.with(Flags::BLOCKING),
            keys: BMPOP_KEYS,
            since: "7.0.0",
            summary: "Pops members off the first sorted set that has some; waits until one has.",
            complexity: MPOP_COST,
            usage: "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
            on_timeout: OnTimeout::NullArray,
            ..ZSET
        },
        bzmpop,
    ),
];

const FEW_KEYS: CmdError = CmdError::new("ERR numkeys should be greater than 0");
const SMALL_COUNT: CmdError = CmdError::new("ERR count should be greater than 0");

/// The end that is popped.
struct End {
    /// From it.
    direction: Direction,
    /// What is reported.
    event: Event,
    /// The command that pops there: how every pop propagates.
    command: &'static [u8],
}

const MIN: End =
    End { direction: Direction::Forward, event: Event::new(class::ZSET, "zpopmin"), command: b"ZPOPMIN" };
const MAX: End =
    End { direction: Direction::Backward, event: Event::new(class::ZSET, "zpopmax"), command: b"ZPOPMAX" };

/// What comes before the popped members in the reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One list (of pairs, where `Nested`).
    Plain(Pairs),
    /// The key is the first element of the list.
    AfterKey,
    /// The key, and a list of pairs.
    BesideKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairs {
    Flat,
    Nested,
}

/// Pops up to `count` members of a key and answers. Gives the number popped; none if there is no such key.
fn pop_key(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    end: &End,
    count: usize,
    form: Form,
) -> Result<Option<usize>, CmdError> {
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Zset)? else { return Ok(None) };
    let (view, reply) = (zset::view(&entry), &mut *ctx.reply);
    let len = view.len();
    let popped = count.min(len);
    let ranks = match end.direction {
        Direction::Forward => 0..popped,
        Direction::Backward => len - popped..len,
    };
    let nested = match form {
        Form::Plain(Pairs::Flat) => {
            reply.array(2 * popped);
            false
        }
        Form::Plain(Pairs::Nested) => {
            reply.array(popped);
            true
        }
        Form::AfterKey => {
            reply.array(2 * popped + 1);
            reply.bulk(key.bytes);
            false
        }
        Form::BesideKey => {
            reply.array(2);
            reply.bulk(key.bytes);
            reply.array(popped);
            true
        }
    };
    for (member, score) in view.range(ranks.clone(), end.direction) {
        if nested {
            reply.array(2);
        }
        Scores::Without.member(reply, member, score);
        reply.double(score);
    }
    zset::remove_range(&mut entry, ranks, &mut |_, _| {});
    drop(entry);
    report_removed(ctx, key, popped, len - popped, end.event);
    Ok(Some(popped))
}

fn pop(ctx: &mut Ctx<'_>, end: &End) -> CmdResult {
    let (count, pairs) = match ctx.args.len() {
        2 => (1, Pairs::Flat),
        3 => {
            let count = num::parse_i64(ctx.args.get(2)).and_then(|n| usize::try_from(n).ok());
            let nested = ctx.reply.proto == Proto::Resp3;
            let pairs = if nested { Pairs::Nested } else { Pairs::Flat };
            (count.ok_or(error::OUT_OF_RANGE_POSITIVE)?, pairs)
        }
        _ => return Err(error::SYNTAX),
    };
    let key = ctx.key(1);
    if pop_key(ctx, key, end, count, Form::Plain(pairs))?.is_none() {
        ctx.reply.array(0);
    }
    Ok(Outcome::Done)
}

/// Pops off the first of some keys that is there and says how that propagates. False if none is.
fn pop_first(
    ctx: &mut Ctx<'_>,
    keys: std::ops::Range<usize>,
    end: &End,
    count: usize,
    form: Form,
) -> Result<bool, CmdError> {
    for i in keys {
        let key = ctx.key(i);
        let Some(popped) = pop_key(ctx, key, end, count, form)? else { continue };
        match form {
            Form::BesideKey => {
                let popped = popped.to_string();
                ctx.propagate_as(&[end.command, key.bytes, popped.as_bytes()]);
            }
            Form::AfterKey | Form::Plain(_) => ctx.propagate_as(&[end.command, key.bytes]),
        }
        return Ok(true);
    }
    Ok(false)
}

fn wait_for(ctx: &Ctx<'_>, keys: std::ops::Range<usize>, timeout_ms: i64) -> Outcome {
    let keys = keys.map(|i| ctx.args.get(i).to_vec()).collect();
    Outcome::Block(Box::new(BlockOn { keys, kind: Some(Kind::Zset), timeout_ms, args: None }))
}

fn blocking_pop(ctx: &mut Ctx<'_>, end: &End) -> CmdResult {
    let last = ctx.args.len() - 1;
    let timeout_ms = timeout_ms(ctx.args.get(last))?;
    if pop_first(ctx, 1..last, end, 1, Form::AfterKey)? {
        return Ok(Outcome::Done);
    }
    Ok(wait_for(ctx, 1..last, timeout_ms))
}

/// The arguments of ZMPOP from the number of keys on: keys, end, count.
fn parse_mpop(ctx: &Ctx<'_>, at: usize) -> Result<(std::ops::Range<usize>, &'static End, usize), CmdError> {
    let positive = |text: &[u8], error: CmdError| {
        num::parse_i64(text).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).ok_or(error)
    };
    let count_of_keys = positive(ctx.args.get(at), FEW_KEYS)?;
    let keys = at + 1..(at + 1).saturating_add(count_of_keys);
    let mut cursor = Cursor::new(ctx.args, keys.end);
    let end = match () {
        () if cursor.word("min") => &MIN,
        () if cursor.word("max") => &MAX,
        () => return Err(error::SYNTAX),
    };
    let mut count = None;
    while !cursor.is_done() {
        if count.is_none() && cursor.left() >= 2 && cursor.word("count") {
            count = Some(positive(cursor.take()?, SMALL_COUNT)?);
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok((keys, end, count.unwrap_or(1)))
}

fn zmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let (keys, end, count) = parse_mpop(ctx, 1)?;
    if !pop_first(ctx, keys, end, count, Form::BesideKey)? {
        ctx.reply.null_array();
    }
    Ok(Outcome::Done)
}

fn bzmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let (keys, end, count) = parse_mpop(ctx, 2)?;
    let timeout_ms = timeout_ms(ctx.args.get(1))?;
    if pop_first(ctx, keys.clone(), end, count, Form::BesideKey)? {
        return Ok(Outcome::Done);
    }
    Ok(wait_for(ctx, keys, timeout_ms))
}
