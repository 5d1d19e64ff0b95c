//! Sets with each other: intersection, union, difference. The cheap order is chosen: an intersection walks
//! the smallest set, a difference walks the first set or all the others, whichever is less work.

use super::args::{self, Cursor};
use super::error::{self, CmdError, CmdResult};
use super::set::SET;
use super::spec::{Flags, KeySpec, Spec, access, key, keynum, range};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::collections::dict::Ref;
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key, Keyspace, Ttl};
use crate::resp::Args;
use crate::value::set::{self, Probe, View};
use crate::value::{self, Digits, Entry, Kind, Limits, Value, draft};

const READ_ALL: &[KeySpec] = &[range(1, -1, 1, access::RO | access::ACCESS)];
const STORES: &[KeySpec] =
    &[key(1, access::OW | access::UPDATE), range(2, -1, 1, access::RO | access::ACCESS)];
const ALL_MEMBERS: &str = "O(N) for N members of all sets.";
const SMALLEST: &str = "O(N*M) for N members of the smallest of M sets.";

const READING: Spec = Spec {
    arity: -2,
    flags: Flags::READONLY,
    keys: READ_ALL,
    complexity: ALL_MEMBERS,
    usage: "key [key ...]",
    tips: &["nondeterministic_output_order"],
    ..SET
};
const STORING: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.with(Flags::DENYOOM),
    keys: STORES,
    complexity: ALL_MEMBERS,
    usage: "destination key [key ...]",
    ..SET
};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "sinter",
            summary: "Returns the members that all of some sets share.",
            complexity: SMALLEST,
            ..READING
        },
        |ctx| answer(ctx, Op::Intersection),
    ),
    (
        Spec {
            name: "sinterstore",
            summary: "Stores the members that all of some sets share under a key.",
            complexity: SMALLEST,
            ..STORING
        },
        |ctx| store(ctx, Op::Intersection),
    ),
    (
        Spec {
            name: "sintercard",
            arity: -3,
            flags: Flags::READONLY,
            keys: &[keynum(1, access::RO | access::ACCESS)],
            since: "7.0.0",
            summary: "Counts the members that all of some sets share.",
            complexity: SMALLEST,
            usage: "numkeys key [key ...] [LIMIT limit]",
            ..SET
        },
        sintercard,
    ),
    (Spec { name: "sunion", summary: "Returns the members of all of some sets.", ..READING }, |ctx| {
        answer(ctx, Op::Union)
    }),
    (
        Spec {
            name: "sunionstore",
            summary: "Stores the members of all of some sets under a key.",
            ..STORING
        },
        |ctx| store(ctx, Op::Union),
    ),
    (
        Spec {
            name: "sdiff",
            summary: "Returns the members of a set that are in none of the others.",
            ..READING
        },
        |ctx| answer(ctx, Op::Difference),
    ),
    (
        Spec {
            name: "sdiffstore",
            summary: "Stores the members of a set that are in none of the others under a key.",
            ..STORING
        },
        |ctx| store(ctx, Op::Difference),
    ),
];

/// What is made of sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Intersection,
    Union,
    Difference,
}

impl Op {
    /// The event of the command that stores the result.
    const fn stored(self) -> Event {
        let name = match self {
            Op::Intersection => "sinterstore",
            Op::Union => "sunionstore",
            Op::Difference => "sdiffstore",
        };
        Event::new(class::SET, name)
    }
}

/// Looks the keys up once for what reading leaves behind: all of them must be sets or absent.
fn touch(ctx: &mut Ctx<'_>, keys: std::ops::Range<usize>) -> Result<(), CmdError> {
    for i in keys {
        let key = ctx.key(i);
        of_kind(ctx.ks.read(ctx.db, key), Kind::Set)?;
    }
    Ok(())
}

/// The entries of these keys, to be read together.
fn entries<'k>(
    ks: &'k Keyspace,
    db: usize,
    args: &Args<'_>,
    keys: std::ops::Range<usize>,
) -> Vec<Option<Ref<'k, Entry>>> {
    keys.map(|i| ks.peek(db, Key::new(args.get(i)))).collect()
}

fn views<'e>(entries: &'e [Option<Ref<'_, Entry>>]) -> Vec<Option<View<'e>>> {
    entries.iter().map(|entry| entry.as_ref().map(|entry| set::view(entry))).collect()
}

fn answer(ctx: &mut Ctx<'_>, op: Op) -> CmdResult {
    let keys = 1..ctx.args.len();
    touch(ctx, keys.clone())?;
    let entries = entries(ctx.ks, ctx.db, &ctx.args, keys);
    let limits = Limits::from_config(ctx.config).set;
    let (reply, mut found) = (&mut *ctx.reply, 0);
    let mark = reply.mark();
    compute(op, &views(&entries), &limits, &mut |member| {
        value::reply(member, reply);
        found += 1;
        true
    });
    reply.insert_head(mark, |head| head.set(found));
    Ok(Outcome::Done)
}

fn store(ctx: &mut Ctx<'_>, op: Op) -> CmdResult {
    let keys = 2..ctx.args.len();
    touch(ctx, keys.clone())?;
    let entries = entries(ctx.ks, ctx.db, &ctx.args, keys);
    let limits = Limits::from_config(ctx.config).set;
    let mut result = match op {
        Op::Union => unite(&views(&entries), &limits),
        Op::Intersection | Op::Difference => {
            let mut result = draft(Kind::Set);
            compute(op, &views(&entries), &limits, &mut |member| {
                set::add(&mut result, &limits, &Probe::of(member, &mut Digits::default()));
                true
            });
            result
        }
    };
    drop(entries);
    let (len, key) = (set::view(&result).len(), ctx.key(1));
    if len > 0 {
        let mut inline = Vec::new();
        let payload = result.take_payload().as_new(&mut inline);
        ctx.ks.set(ctx.db, key, Kind::Set, payload, Ttl::Clear);
        ctx.ks.changed(ctx.db, key.bytes, op.stored());
    } else if ctx.ks.remove(ctx.db, key, Free::Server) {
        ctx.ks.changed(ctx.db, key.bytes, event::DEL);
    }
    ctx.reply.len_int(len);
    Ok(Outcome::Done)
}

const NO_KEYS: CmdError = CmdError::new("ERR numkeys should be greater than 0");
const TOO_MANY_KEYS: CmdError = CmdError::new("ERR Number of keys can't be greater than number of args");
const NEGATIVE_LIMIT: CmdError = CmdError::new("ERR LIMIT can't be negative");

fn sintercard(ctx: &mut Ctx<'_>) -> CmdResult {
    let positive = |n: &i64| *n > 0;
    let count = args::int(ctx.args.get(1)).ok().filter(positive).ok_or(NO_KEYS)? as usize;
    if count > ctx.args.len() - 2 {
        return Err(TOO_MANY_KEYS);
    }
    let mut cursor = Cursor::new(ctx.args, 2 + count);
    let mut limit = usize::MAX;
    while !cursor.is_done() {
        if cursor.left() < 2 || !cursor.word("limit") {
            return Err(error::SYNTAX);
        }
        let given = args::int(cursor.take()?).ok().and_then(|n| usize::try_from(n).ok());
        limit = match given.ok_or(NEGATIVE_LIMIT)? {
            0 => usize::MAX,
            limit => limit,
        };
    }
    let keys = 2..2 + count;
    touch(ctx, keys.clone())?;
    let entries = entries(ctx.ks, ctx.db, &ctx.args, keys);
    let limits = Limits::from_config(ctx.config).set;
    let mut found = 0;
    compute(Op::Intersection, &views(&entries), &limits, &mut |_| {
        found += 1;
        found < limit
    });
    ctx.reply.len_int(found);
    Ok(Outcome::Done)
}

// ---- the algebra ----

/// Takes a member; false ends the walk.
type Each<'e> = &'e mut dyn FnMut(Value<'_>) -> bool;

/// Shows the members of the result, each once. Absent sets are empty.
fn compute(op: Op, sets: &[Option<View<'_>>], limits: &set::Limits, each: Each<'_>) {
    match op {
        Op::Intersection => intersect(sets, each),
        Op::Union => show(&unite(sets, limits), each),
        Op::Difference => subtract(sets, limits, each),
    }
}

fn show(result: &Entry, each: Each<'_>) {
    set::view(result).iter().all(each);
}

fn intersect(sets: &[Option<View<'_>>], each: Each<'_>) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<View<'_>>>>() else { return };
    sets.sort_by_key(|set| set.len());
    let (smallest, others) = sets.split_first().expect("there is at least one key");
    for member in smallest.iter() {
        let mut digits = Digits::default();
        let probe = Probe::of(member, &mut digits);
        if others.iter().all(|set| set.contains(&probe)) && !each(member) {
            return;
        }
    }
}

fn unite(sets: &[Option<View<'_>>], limits: &set::Limits) -> Entry {
    let mut result = draft(Kind::Set);
    // The longest set first decides about the encoding.
    let mut sets: Vec<View<'_>> = sets.iter().copied().flatten().collect();
    sets.sort_by_key(|set| std::cmp::Reverse(set.len()));
    for (i, set) in sets.iter().enumerate() {
        for member in set.iter() {
            let mut digits = Digits::default();
            let probe = Probe::of(member, &mut digits);
            if i == 0 && set::view(&result).is_empty() {
                set::prepare(&mut result, limits, probe.bytes(), set.len());
            }
            set::add(&mut result, limits, &probe);
        }
    }
    result
}

fn subtract(sets: &[Option<View<'_>>], limits: &set::Limits, each: Each<'_>) {
    let Some((Some(first), others)) = sets.split_first() else { return };
    let mut others: Vec<View<'_>> = others.iter().copied().flatten().collect();
    let looking = first.len() * (others.len() + 1) / 2;
    let walking = first.len() + others.iter().map(|set| set.len()).sum::<usize>();
    if looking <= walking {
        // The biggest first: it most likely has the member.
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        for member in first.iter() {
            let mut digits = Digits::default();
            let probe = Probe::of(member, &mut digits);
            if !others.iter().any(|set| set.contains(&probe)) && !each(member) {
                return;
            }
        }
        return;
    }
    let mut result = unite(&[Some(*first)], limits);
    for member in others.iter().flat_map(|set| set.iter()) {
        let mut digits = Digits::default();
        set::remove(&mut result, &Probe::of(member, &mut digits));
        if set::view(&result).is_empty() {
            return;
        }
    }
    show(&result, each);
}
