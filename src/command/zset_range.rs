//! Ranges of sorted sets, by rank, score or bytes: ZRANGE with all its older forms, ZRANGESTORE, counting,
//! and removal of ranges. Every range is turned into one of ranks, which the value reads or removes.

use super::args::{Cursor, int};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Deprecated, Flags, KeySpec, Spec, access, key};
use super::string::{ADDS, READS_FAST, READS_KEY};
use super::zset::{REMOVES_FROM_KEY, Scores, ZSET, limits, report_removed, store};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::keyspace::change::{Event, class};
use crate::util::num;
use crate::value::zset::{self, Cut, Side};
use crate::value::{Digits, Direction, Kind, draft};
use std::ops::Range;

const LOG_N_M: &str = "O(log(N)+M) for a sorted set of N members and M of them in the range.";
const LOG_N: &str = "O(log(N)) for a sorted set of N members.";

/// Key specs of a command that makes one key from another.
pub(super) const STORES_OTHER: &[KeySpec] =
    &[key(1, access::OW | access::UPDATE), key(2, access::RO | access::ACCESS)];

const RANGE: Spec = Spec { arity: -4, flags: Flags::READONLY, keys: READS_KEY, complexity: LOG_N_M, ..ZSET };
const COUNT: Spec =
    Spec { arity: 4, flags: READS_FAST, keys: READS_KEY, complexity: LOG_N, usage: "key min max", ..ZSET };
const REMOVE: Spec = Spec {
    arity: 4,
    flags: Flags::WRITE,
    keys: REMOVES_FROM_KEY,
    complexity: LOG_N_M,
    usage: "key min max",
    ..ZSET
};

const fn since_6_2(replaced_by: &'static str) -> Option<Deprecated> {
    Some(Deprecated { since: "6.2.0", replaced_by })
}

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "zrange",
            since: "1.2.0",
            summary: "Returns the members of a sorted set within a range of ranks, scores or bytes.",
            usage: "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
            history: &[("6.2.0", "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options.")],
            ..RANGE
        },
        |ctx| range(ctx, None, None),
    ),
    (
        Spec {
            name: "zrangestore",
            arity: -5,
            flags: ADDS,
            keys: STORES_OTHER,
            since: "6.2.0",
            summary: "Stores the members of a sorted set within a range in a key.",
            usage: "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
            ..RANGE
        },
        zrangestore,
    ),
    (
        Spec {
            name: "zrevrange",
            since: "1.2.0",
            summary: "Returns the members of a sorted set within a range of ranks, highest first.",
            usage: "key start stop [WITHSCORES]",
            deprecated: since_6_2("`ZRANGE` with the `REV` argument"),
            ..RANGE
        },
        |ctx| range(ctx, Some(By::Rank), Some(Direction::Backward)),
    ),
    (
        Spec {
            name: "zrangebyscore",
            since: "1.0.5",
            summary: "Returns the members of a sorted set within a range of scores.",
            usage: "key min max [WITHSCORES] [LIMIT offset count]",
            deprecated: since_6_2("`ZRANGE` with the `BYSCORE` argument"),
            history: &[("2.0.0", "Added the `WITHSCORES` modifier.")],
            ..RANGE
        },
        |ctx| range(ctx, Some(By::Score), Some(Direction::Forward)),
    ),
    (
        Spec {
            name: "zrevrangebyscore",
            since: "2.2.0",
            summary: "Returns the members of a sorted set within a range of scores, highest first.",
            usage: "key max min [WITHSCORES] [LIMIT offset count]",
            deprecated: since_6_2("`ZRANGE` with the `REV` and `BYSCORE` arguments"),
            history: &[("2.1.6", "`min` and `max` can be exclusive.")],
            ..RANGE
        },
        |ctx| range(ctx, Some(By::Score), Some(Direction::Backward)),
    ),
    (
        Spec {
            name: "zrangebylex",
            since: "2.8.9",
            summary: "Returns the members of a sorted set within a range of bytes.",
            usage: "key min max [LIMIT offset count]",
            deprecated: since_6_2("`ZRANGE` with the `BYLEX` argument"),
            ..RANGE
        },
        |ctx| range(ctx, Some(By::Lex), Some(Direction::Forward)),
    ),
    (
        Spec {
            name: "zrevrangebylex",
            since: "2.8.9",
            summary: "Returns the members of a sorted set within a range of bytes, highest first.",
            usage: "key max min [LIMIT offset count]",
            deprecated: since_6_2("`ZRANGE` with the `REV` and `BYLEX` arguments"),
            ..RANGE
        },
        |ctx| range(ctx, Some(By::Lex), Some(Direction::Backward)),
    ),
    (
        Spec {
            name: "zcount",
            since: "2.0.0",
            summary: "Counts the members of a sorted set within a range of scores.",
            ..COUNT
        },
        |ctx| count(ctx, By::Score),
    ),
    (
        Spec {
            name: "zlexcount",
            since: "2.8.9",
            summary: "Counts the members of a sorted set within a range of bytes.",
            ..COUNT
        },
        |ctx| count(ctx, By::Lex),
    ),
    (
        Spec {
            name: "zremrangebyrank",
            since: "2.0.0",
            summary: "Removes the members of a sorted set within a range of ranks.",
            usage: "key start stop",
            ..REMOVE
        },
        |ctx| remove(ctx, By::Rank, Event::new(class::ZSET, "zremrangebyrank")),
    ),
    (
        Spec {
            name: "zremrangebyscore",
            since: "1.2.0",
            summary: "Removes the members of a sorted set within a range of scores.",
            ..REMOVE
        },
        |ctx| remove(ctx, By::Score, Event::new(class::ZSET, "zremrangebyscore")),
    ),
    (
        Spec {
            name: "zremrangebylex",
            since: "2.8.9",
            summary: "Removes the members of a sorted set within a range of bytes.",
            ..REMOVE
        },
        |ctx| remove(ctx, By::Lex, Event::new(class::ZSET, "zremrangebylex")),
    ),
];

const STORE_EVENT: Event = Event::new(class::ZSET, "zrangestore");

const NOT_A_SCORE: CmdError = CmdError::new("ERR min or max is not a float");
const NOT_LEX: CmdError = CmdError::new("ERR min or max not valid string range item");
const LIMIT_BY_RANK: CmdError =
    CmdError::new("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
const SCORES_BY_LEX: CmdError =
    CmdError::new("ERR syntax error, WITHSCORES not supported in combination with BYLEX");

/// What a range is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// One end of a range of scores or bytes.
#[derive(Clone, Copy)]
enum Bound<'a> {
    Lowest,
    Highest,
    At(Cut<'a>),
}

/// Which end of a range is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    /// The side of equal members on which an end is that takes them in, or leaves them out.
    fn side(self, first: Option<&u8>) -> Side {
        let exclusive = first == Some(&b'(');
        if exclusive == (self == End::Max) { Side::Before } else { Side::After }
    }
}

/// A range.
#[derive(Clone, Copy)]
enum Span<'a> {
    /// Ranks, counted from the end where negative; both ends belong to it.
    Ranks(i64, i64),
    Cuts(Bound<'a>, Bound<'a>),
}

fn score_bound<'a>(text: &[u8], end: End) -> Result<Bound<'a>, CmdError> {
    let number = text.strip_prefix(b"(").unwrap_or(text);
    let score = num::parse_f64_lax(number).ok_or(NOT_A_SCORE)?;
    Ok(Bound::At(Cut::Score(score, end.side(text.first()))))
}

fn lex_bound(text: &[u8], end: End) -> Result<Bound<'_>, CmdError> {
    match text {
        b"-" => Ok(Bound::Lowest),
        b"+" => Ok(Bound::Highest),
        [b'[' | b'(', bytes @ ..] => Ok(Bound::At(Cut::Lex(bytes, end.side(text.first())))),
        _ => Err(NOT_LEX),
    }
}

impl<'a> Span<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, CmdError> {
        Ok(match by {
            By::Rank => Span::Ranks(int(min)?, int(max)?),
            By::Score => Span::Cuts(score_bound(min, End::Min)?, score_bound(max, End::Max)?),
            By::Lex => Span::Cuts(lex_bound(min, End::Min)?, lex_bound(max, End::Max)?),
        })
    }

    /// The ranks it covers; ranks given are counted in this direction.
    fn ranks(self, view: zset::View<'_>, direction: Direction) -> Range<usize> {
        match self {
            Span::Ranks(start, stop) => {
                let len = view.len() as i64;
                let place = |i: i64| if i < 0 { i.saturating_add(len) } else { i };
                let (start, stop) = (place(start).max(0), place(stop).min(len - 1));
                if start > stop {
                    return 0..0;
                }
                match direction {
                    Direction::Forward => start as usize..stop as usize + 1,
                    Direction::Backward => (len - 1 - stop) as usize..(len - start) as usize,
                }
            }
            Span::Cuts(from, to) => {
                let before = |bound| match bound {
                    Bound::Lowest => 0,
                    Bound::Highest => view.len(),
                    Bound::At(cut) => view.count_before(cut),
                };
                let start = before(from);
                start..before(to).max(start)
            }
        }
    }
}

/// The arguments of ZRANGE and its like.
struct Query<'a> {
    span: Span<'a>,
    direction: Direction,
    /// LIMIT: members to pass over, and to show at most (negative: all).
    limit: (i64, i64),
    scores: Scores,
}

impl<'a> Query<'a> {
    /// Reads the arguments from `at` on: both ends, options. What the command's name says is given.
    fn parse(
        ctx: &Ctx<'a>,
        at: usize,
        mut by: Option<By>,
        mut direction: Option<Direction>,
    ) -> Result<Self, CmdError> {
        let storing = at > 2;
        let (mut limit, mut scores) = ((0, -1), Scores::Without);
        let mut cursor = Cursor::new(ctx.args, at + 2);
        while !cursor.is_done() {
            if !storing && cursor.word("withscores") {
                scores = Scores::With;
            } else if cursor.left() >= 3 && cursor.word("limit") {
                limit = (cursor.int()?, cursor.int()?);
            } else if direction.is_none() && cursor.word("rev") {
                direction = Some(Direction::Backward);
            } else if by.is_none() && cursor.word("bylex") {
                by = Some(By::Lex);
            } else if by.is_none() && cursor.word("byscore") {
                by = Some(By::Score);
            } else {
                return Err(error::SYNTAX);
            }
        }
        let (by, direction) = (by.unwrap_or(By::Rank), direction.unwrap_or(Direction::Forward));
        if limit.1 != -1 && by == By::Rank {
            return Err(LIMIT_BY_RANK);
        }
        if scores == Scores::With && by == By::Lex {
            return Err(SCORES_BY_LEX);
        }
        let (first, second) = (ctx.args.get(at), ctx.args.get(at + 1));
        let highest_first = by != By::Rank && direction == Direction::Backward;
        let (min, max) = if highest_first { (second, first) } else { (first, second) };
        Ok(Query { span: Span::parse(by, min, max)?, direction, limit, scores })
    }

    /// The ranks to be shown.
    fn ranks(&self, view: zset::View<'_>) -> Range<usize> {
        let ranks = self.span.ranks(view, self.direction);
        if let Span::Ranks(..) = self.span {
            return ranks;
        }
        let Ok(skipped) = usize::try_from(self.limit.0) else { return 0..0 };
        let left = ranks.len().saturating_sub(skipped);
        let shown = usize::try_from(self.limit.1).map_or(left, |limit| limit.min(left));
        match self.direction {
            Direction::Forward => {
                let start = ranks.start + skipped.min(ranks.len());
                start..start + shown
            }
            Direction::Backward => {
                let end = ranks.end - skipped.min(ranks.len());
                end - shown..end
            }
        }
    }
}

fn range(ctx: &mut Ctx<'_>, by: Option<By>, direction: Option<Direction>) -> CmdResult {
    let query = Query::parse(ctx, 2, by, direction)?;
    match of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)? {
        Some(entry) => {
            let view = zset::view(&entry);
            let ranks = query.ranks(view);
            query.scores.list(ctx.reply, ranks.len(), view.range(ranks, query.direction));
        }
        None => ctx.reply.array(0),
    }
    Ok(Outcome::Done)
}

fn zrangestore(ctx: &mut Ctx<'_>) -> CmdResult {
    let query = Query::parse(ctx, 3, None, None)?;
    let (to, limits) = (ctx.key(1), limits(ctx.config));
    let mut built = draft(Kind::Zset);
    if let Some(entry) = of_kind(ctx.ks.read(ctx.db, ctx.key(2)), Kind::Zset)? {
        let view = zset::view(&entry);
        let ranks = query.ranks(view);
        zset::prepare(&mut built, &limits, ranks.len(), 0);
        for (member, score) in view.range(ranks, Direction::Forward) {
            zset::set(&mut built, &limits, member.bytes(&mut Digits::default()), score);
        }
    }
    let stored = store(ctx, to, built, STORE_EVENT);
    ctx.reply.len_int(stored);
    Ok(Outcome::Done)
}

fn count(ctx: &mut Ctx<'_>, by: By) -> CmdResult {
    let span = Span::parse(by, ctx.args.get(2), ctx.args.get(3))?;
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)?;
    let found = entry.map_or(0, |entry| span.ranks(zset::view(&entry), Direction::Forward).len());
    ctx.reply.len_int(found);
    Ok(Outcome::Done)
}

fn remove(ctx: &mut Ctx<'_>, by: By, event: Event) -> CmdResult {
    let span = Span::parse(by, ctx.args.get(2), ctx.args.get(3))?;
    let key = ctx.key(1);
    let (mut removed, mut left) = (0, 0);
    if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Zset)? {
        let ranks = span.ranks(zset::view(&entry), Direction::Forward);
        removed = zset::remove_range(&mut entry, ranks, &mut |_, _| {});
        left = zset::view(&entry).len();
    }
    report_removed(ctx, key, removed, left, event);
    ctx.reply.len_int(removed);
    Ok(Outcome::Done)
}
