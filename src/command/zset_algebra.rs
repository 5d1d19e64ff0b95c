//! Unions, intersections and differences of sorted sets and sets: ZUNION, ZINTER, ZDIFF, their STORE forms,
//! ZINTERCARD. A member of a plain set has the score 1.

use super::args::{Cursor, int, is};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Flags, KeySpec, Spec, access, key, keynum};
use super::string::ADDS;
use super::zset::{Scores, ZSET, limits, store};
use super::{Ctx, DataFn, Outcome};
use crate::collections::dict::Ref;
use crate::keyspace::change::{Event, class};
use crate::keyspace::{Key, Keyspace};
use crate::resp::Args;
use crate::util::num;
use crate::value::set::{self, Probe};
use crate::value::{Entry, Kind, Value, draft, kind, zset};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

const READS_MANY: &[KeySpec] = &[keynum(1, access::RO | access::ACCESS)];
const STORES_MANY: &[KeySpec] =
    &[key(1, access::OW | access::UPDATE), keynum(2, access::RO | access::ACCESS)];

const READ: Spec = Spec { arity: -3, flags: Flags::READONLY, keys: READS_MANY, since: "6.2.0", ..ZSET };
const STORE: Spec = Spec { arity: -4, flags: ADDS, keys: STORES_MANY, since: "2.0.0", ..ZSET };

const UNION_COST: &str = "O(N)+O(M*log(M)) for N members in all sets and M in the result.";
const INTER_COST: &str =
    "O(N*K)+O(M*log(M)) for K sets, N members in the smallest of them and M in the result.";
const DIFF_COST: &str = "O(N*K)+O(M*log(M)) for K sets, N members in the first of them and M in the result.";

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "zunion",
            summary: "Returns the union of sorted sets.",
            complexity: UNION_COST,
            usage: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] \
                    [WITHSCORES]",
            ..READ
        },
        |ctx| reply_result(ctx, &UNION),
    ),
    (
        Spec {
            name: "zinter",
            summary: "Returns the intersection of sorted sets.",
            complexity: INTER_COST,
            usage: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] \
                    [WITHSCORES]",
            ..READ
        },
        |ctx| reply_result(ctx, &INTER),
    ),
    (
        Spec {
            name: "zdiff",
            summary: "Returns the members of a sorted set that others do not have.",
            complexity: DIFF_COST,
            usage: "numkeys key [key ...] [WITHSCORES]",
            ..READ
        },
        |ctx| reply_result(ctx, &DIFF),
    ),
    (
        Spec {
            name: "zintercard",
            since: "7.0.0",
            summary: "Counts the members that all of some sorted sets have.",
            complexity: "O(N*K) for K sets and N members in the smallest of them.",
            usage: "numkeys key [key ...] [LIMIT limit]",
            ..READ
        },
        zintercard,
    ),
    (
        Spec {
            name: "zunionstore",
            summary: "Stores the union of sorted sets in a key.",
            complexity: UNION_COST,
            usage: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] \
                    [AGGREGATE <SUM | MIN | MAX>]",
            ..STORE
        },
        |ctx| store_result(ctx, &UNION),
    ),
    (
        Spec {
            name: "zinterstore",
            summary: "Stores the intersection of sorted sets in a key.",
            complexity: INTER_COST,
            usage: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] \
                    [AGGREGATE <SUM | MIN | MAX>]",
            ..STORE
        },
        |ctx| store_result(ctx, &INTER),
    ),
    (
        Spec {
            name: "zdiffstore",
            since: "6.2.0",
            summary: "Stores the members of a sorted set that others do not have in a key.",
            complexity: DIFF_COST,
            usage: "destination numkeys key [key ...]",
            ..STORE
        },
        |ctx| store_result(ctx, &DIFF),
    ),
];

const BAD_WEIGHT: CmdError = CmdError::new("ERR weight value is not a float");
const BAD_LIMIT: CmdError = CmdError::new("ERR LIMIT can't be negative");

/// How sets are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kindred {
    Union,
    Inter,
    Diff,
}

/// An operation and what storing its result reports.
struct Operation {
    kindred: Kindred,
    event: Event,
}

const UNION: Operation = Operation { kindred: Kindred::Union, event: Event::new(class::ZSET, "zunionstore") };
const INTER: Operation = Operation { kindred: Kindred::Inter, event: Event::new(class::ZSET, "zinterstore") };
const DIFF: Operation = Operation { kindred: Kindred::Diff, event: Event::new(class::ZSET, "zdiffstore") };

/// What becomes of the scores of a member that several sets have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn apply(self, old: f64, other: f64) -> f64 {
        match self {
            // Infinities of both signs cancel each other.
            Aggregate::Sum => Some(old + other).filter(|sum| !sum.is_nan()).unwrap_or(0.0),
            Aggregate::Min => {
                if other < old {
                    other
                } else {
                    old
                }
            }
            Aggregate::Max => {
                if other > old {
                    other
                } else {
                    old
                }
            }
        }
    }
}

/// Which options a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Reply,
    Store,
    Count,
}

/// The arguments of a command.
struct Plan {
    keys: Range<usize>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    scores: Scores,
    /// Most members to be counted; 0 means all.
    limit: usize,
}

impl Plan {
    /// Reads arguments from the number of keys on. Keys are looked up before options are read.
    fn parse(ctx: &mut Ctx<'_>, at: usize, kindred: Kindred, purpose: Purpose) -> Result<Plan, CmdError> {
        let count = int(ctx.args.get(at))?;
        if count < 1 {
            let text = format!("ERR at least 1 input key is needed for '{}' command", ctx.name);
            return Err(CmdError::text(text));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > ctx.args.len() - at - 1 {
            return Err(error::SYNTAX);
        }
        let keys = at + 1..at + 1 + count;
        for i in keys.clone() {
            let found = ctx.ks.read(ctx.db, ctx.key(i));
            if found.is_some_and(|entry| !matches!(kind(&entry), Kind::Zset | Kind::Set)) {
                return Err(error::WRONG_TYPE);
            }
        }
        let weights = vec![1.0; count];
        let (aggregate, scores) = (Aggregate::Sum, Scores::Without);
        let mut plan = Plan { keys, weights, aggregate, scores, limit: 0 };
        let mut cursor = Cursor::new(ctx.args, plan.keys.end);
        let scored = kindred != Kindred::Diff && purpose != Purpose::Count;
        while !cursor.is_done() {
            if scored && cursor.left() > count && cursor.word("weights") {
                for weight in &mut plan.weights {
                    *weight = num::parse_f64(cursor.take()?).ok_or(BAD_WEIGHT)?;
                }
            } else if scored && cursor.left() >= 2 && cursor.word("aggregate") {
                plan.aggregate = match cursor.take()? {
                    word if is(word, "sum") => Aggregate::Sum,
                    word if is(word, "min") => Aggregate::Min,
                    word if is(word, "max") => Aggregate::Max,
                    _ => return Err(error::SYNTAX),
                };
            } else if purpose == Purpose::Reply && cursor.word("withscores") {
                plan.scores = Scores::With;
            } else if purpose == Purpose::Count && cursor.left() >= 2 && cursor.word("limit") {
                let limit = num::parse_i64(cursor.take()?).and_then(|n| usize::try_from(n).ok());
                plan.limit = limit.ok_or(BAD_LIMIT)?;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(plan)
    }

    /// The entries of the keys.
    fn entries<'a>(&self, ks: &'a Keyspace, db: usize, args: Args<'_>) -> Vec<Option<Ref<'a, Entry>>> {
        self.keys.clone().map(|i| ks.peek(db, Key::new(args.get(i)))).collect()
    }

    /// The sets to be combined: the smallest first, except that a difference keeps their order.
    fn sources<'a>(&self, entries: &'a [Option<Ref<'a, Entry>>], kindred: Kindred) -> Vec<Source<'a>> {
        let source = |(entry, weight): (&'a Option<Ref<'a, Entry>>, &f64)| Source {
            members: entry.as_ref().map_or(Members::Nothing, |entry| match kind(entry) {
                Kind::Zset => Members::Zset(zset::view(entry)),
                _ => Members::Set(set::view(entry)),
            }),
            weight: *weight,
        };
        let mut sources: Vec<Source<'a>> = entries.iter().zip(&self.weights).map(source).collect();
        if kindred != Kindred::Diff {
            sources.sort_by_key(|source| source.len());
        }
        sources
    }
}

/// A set to be combined with others.
struct Source<'a> {
    members: Members<'a>,
    weight: f64,
}

#[derive(Clone, Copy)]
enum Members<'a> {
    Zset(zset::View<'a>),
    Set(set::View<'a>),
    Nothing,
}

/// A member of the result and its score.
type Scored<'a> = (Cow<'a, [u8]>, f64);

impl<'a> Source<'a> {
    fn len(&self) -> usize {
        match self.members {
            Members::Zset(view) => view.len(),
            Members::Set(view) => view.len(),
            Members::Nothing => 0,
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Scored<'a>> + 'a> {
        let bytes = |member: Value<'a>| match member {
            Value::Str(bytes) => Cow::Borrowed(bytes),
            Value::Int(_) => Cow::Owned(member.to_vec()),
        };
        match self.members {
            Members::Zset(view) => Box::new(view.iter().map(move |(member, score)| (bytes(member), score))),
            Members::Set(view) => Box::new(view.iter().map(move |member| (bytes(member), 1.0))),
            Members::Nothing => Box::new(std::iter::empty()),
        }
    }

    /// The score of a member, without the weight.
    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.members {
            Members::Zset(view) => view.score(member),
            Members::Set(view) => view.contains(&Probe::new(member)).then_some(1.0),
            Members::Nothing => None,
        }
    }

    /// A score with the weight: nothing times infinity is nothing.
    fn weighted(&self, score: f64) -> f64 {
        Some(self.weight * score).filter(|product| !product.is_nan()).unwrap_or(0.0)
    }
}

/// Members of all sets.
fn union<'a>(sources: &[Source<'a>], aggregate: Aggregate) -> Vec<Scored<'a>> {
    let mut all: HashMap<Cow<'a, [u8]>, f64> = HashMap::new();
    all.reserve(sources.last().map_or(0, Source::len));
    for source in sources {
        for (member, score) in source.iter() {
            let score = source.weighted(score);
            all.entry(member).and_modify(|old| *old = aggregate.apply(*old, score)).or_insert(score);
        }
    }
    all.into_iter().collect()
}

/// Shows the members that all sets have, until told to stop.
fn each_common<'a>(
    sources: &[Source<'a>],
    aggregate: Aggregate,
    each: &mut dyn FnMut(Scored<'a>) -> std::ops::ControlFlow<()>,
) {
    let Some((smallest, others)) = sources.split_first() else { return };
    'members: for (member, score) in smallest.iter() {
        let mut score = smallest.weighted(score);
        for other in others {
            let Some(found) = other.score(&member) else { continue 'members };
            score = aggregate.apply(score, found * other.weight);
        }
        if each((member, score)).is_break() {
            return;
        }
    }
}

/// Members of the first set that the others do not have.
fn difference<'a>(sources: &[Source<'a>]) -> Vec<Scored<'a>> {
    let Some((first, others)) = sources.split_first() else { return Vec::new() };
    first.iter().filter(|(member, _)| others.iter().all(|other| other.score(member).is_none())).collect()
}

/// The result of an operation, in order.
fn combine<'a>(plan: &Plan, kindred: Kindred, sources: &[Source<'a>]) -> Vec<Scored<'a>> {
    let mut result = match kindred {
        Kindred::Union => union(sources, plan.aggregate),
        Kindred::Diff => difference(sources),
        Kindred::Inter => {
            let mut common = Vec::new();
            each_common(sources, plan.aggregate, &mut |scored| {
                common.push(scored);
                std::ops::ControlFlow::Continue(())
            });
            common
        }
    };
    let order = |a: &Scored<'_>, b: &Scored<'_>| {
        // Both zeros are the same score.
        (a.1 + 0.0).total_cmp(&(b.1 + 0.0)).then_with(|| a.0.cmp(&b.0))
    };
    result.sort_unstable_by(order);
    result
}

fn reply_result(ctx: &mut Ctx<'_>, operation: &Operation) -> CmdResult {
    let plan = Plan::parse(ctx, 1, operation.kindred, Purpose::Reply)?;
    let entries = plan.entries(ctx.ks, ctx.db, ctx.args);
    let result = combine(&plan, operation.kindred, &plan.sources(&entries, operation.kindred));
    let members = result.iter().map(|(member, score)| (Value::Str(member), *score));
    plan.scores.list(ctx.reply, result.len(), members);
    Ok(Outcome::Done)
}

fn store_result(ctx: &mut Ctx<'_>, operation: &Operation) -> CmdResult {
    let plan = Plan::parse(ctx, 2, operation.kindred, Purpose::Store)?;
    let (to, limits) = (ctx.key(1), limits(ctx.config));
    let mut built = draft(Kind::Zset);
    {
        let entries = plan.entries(ctx.ks, ctx.db, ctx.args);
        let result = combine(&plan, operation.kindred, &plan.sources(&entries, operation.kindred));
        zset::prepare(&mut built, &limits, result.len(), 0);
        for (member, score) in &result {
            zset::set(&mut built, &limits, member, *score);
        }
    }
    let stored = store(ctx, to, built, operation.event);
    ctx.reply.len_int(stored);
    Ok(Outcome::Done)
}

fn zintercard(ctx: &mut Ctx<'_>) -> CmdResult {
    let plan = Plan::parse(ctx, 1, Kindred::Inter, Purpose::Count)?;
    let mut count = 0;
    {
        let entries = plan.entries(ctx.ks, ctx.db, ctx.args);
        each_common(&plan.sources(&entries, Kindred::Inter), plan.aggregate, &mut |_| {
            count += 1;
            if count == plan.limit {
                return std::ops::ControlFlow::Break(());
            }
            std::ops::ControlFlow::Continue(())
        });
    }
    ctx.reply.len_int(count);
    Ok(Outcome::Done)
}
