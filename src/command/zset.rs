//! Sorted sets: adding, removing, scores, ranks, random members, ZSCAN, and what all sorted set commands
//! share. Ranges are in `zset_range`, unions and the like in `zset_algebra`, popping in `zset_pop`.

use super::args::is;
use super::error::{self, CmdError, CmdResult, wrong_arity};
use super::hash_more::{random_count, repeated_count};
use super::scan::{ScanOptions, Scanned, parse_cursor, reply_scan};
use super::spec::{Acl, Flags, KeySpec, SPEC, Spec, access, key};
use super::string::{ADDS, READS_FAST, READS_KEY};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::config::Config;
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key, Ttl};
use crate::resp::reply::Proto;
use crate::resp::{Args, Reply};
use crate::util::num;
use crate::value::{self, Entry, Kind, Value, zset};

/// What all sorted set commands share.
pub(super) const ZSET: Spec = Spec { group: "sorted-set", acl: Acl::SORTEDSET, ..SPEC };
/// Key specs of a command that removes members of its one key.
pub(super) const REMOVES_FROM_KEY: &[KeySpec] = &[key(1, access::RW | access::DELETE)];

const LOG_N: &str = "O(log(N)) for a sorted set of N members.";
const PER_MEMBER: &str = "O(M*log(N)) for M members and a sorted set of N.";

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "zadd",
            member: 3,
            arity: -4,
            flags: ADDS.with(Flags::FAST),
            keys: &[key(1, access::RW | access::UPDATE)],
            since: "1.2.0",
            summary: "Adds members to a sorted set or gives them other scores; creates the key if needed.",
            complexity: PER_MEMBER,
            usage: "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
            history: &[
                ("2.4.0", "Accepts multiple elements."),
                ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
                ("6.2.0", "Added the `GT` and `LT` options."),
            ],
            ..ZSET
        },
        zadd,
    ),
    (
        Spec {
            name: "zincrby",
            member: 3,
            arity: 4,
            flags: ADDS.with(Flags::FAST),
            keys: &[key(1, access::RW | access::ACCESS | access::UPDATE)],
            since: "1.2.0",
            summary: "Adds to the score of a member of a sorted set.",
            complexity: LOG_N,
            usage: "key increment member",
            ..ZSET
        },
        zincrby,
    ),
    (
        Spec {
            name: "zrem",
            member: 2,
            arity: -3,
            flags: Flags::WRITE.with(Flags::FAST),
            keys: REMOVES_FROM_KEY,
            since: "1.2.0",
            summary: "Removes members of a sorted set; the key goes with its last member.",
            complexity: PER_MEMBER,
            usage: "key member [member ...]",
            history: &[("2.4.0", "Accepts multiple elements.")],
            ..ZSET
        },
        zrem,
    ),
    (
        Spec {
            name: "zcard",
            arity: 2,
            flags: READS_FAST,
            keys: &[key(1, access::RO)],
            since: "1.2.0",
            summary: "Returns the number of members of a sorted set.",
            usage: "key",
            ..ZSET
        },
        zcard,
    ),
    (
        Spec {
            name: "zscore",
            member: 2,
            arity: 3,
            flags: READS_FAST,
            keys: READS_KEY,
            since: "1.2.0",
            summary: "Returns the score of a member of a sorted set.",
            usage: "key member",
            ..ZSET
        },
        zscore,
    ),
    (
        Spec {
            name: "zmscore",
            member: 2,
            arity: -3,
            flags: READS_FAST,
            keys: READS_KEY,
            since: "6.2.0",
            summary: "Returns the scores of some members of a sorted set.",
            complexity: "O(N) for N members asked for.",
            usage: "key member [member ...]",
            ..ZSET
        },
        zmscore,
    ),
    (
        Spec {
            name: "zrank",
            member: 2,
            summary: "Returns the number of members below a member of a sorted set.",
            ..RANK
        },
        |ctx| rank(ctx, Counted::FromLowest),
    ),
    (
        Spec {
            name: "zrevrank",
            member: 2,
            summary: "Returns the number of members above a member of a sorted set.",
            ..RANK
        },
        |ctx| rank(ctx, Counted::FromHighest),
    ),
    (
        Spec {
            name: "zrandmember",
            arity: -2,
            flags: Flags::READONLY,
            keys: READS_KEY,
            since: "6.2.0",
            summary: "Returns random members of a sorted set.",
            complexity: "O(N) for N members returned.",
            usage: "key [count [WITHSCORES]]",
            tips: &["nondeterministic_output"],
            ..ZSET
        },
        zrandmember,
    ),
    (
        Spec {
            name: "zscan",
            arity: -3,
            flags: Flags::READONLY,
            keys: READS_KEY,
            since: "2.8.0",
            summary: "Walks over members and scores of a sorted set, some at a time.",
            complexity: "O(1) a call; O(N) for the whole walk over N members.",
            usage: "key cursor [MATCH pattern] [COUNT count]",
            tips: &["nondeterministic_output"],
            ..ZSET
        },
        zscan,
    ),
];

const RANK: Spec = Spec {
    arity: -3,
    flags: READS_FAST,
    keys: READS_KEY,
    since: "2.0.0",
    complexity: LOG_N,
    usage: "key member [WITHSCORE]",
    history: &[("7.2.0", "Added the optional `WITHSCORE` argument.")],
    ..ZSET
};

const ZADD_EVENT: Event = Event::new(class::ZSET, "zadd");
const ZINCR_EVENT: Event = Event::new(class::ZSET, "zincr");
const ZREM_EVENT: Event = Event::new(class::ZSET, "zrem");

const NX_WITH_XX: CmdError = CmdError::new("ERR XX and NX options at the same time are not compatible");
const ORDER_CLASH: CmdError =
    CmdError::new("ERR GT, LT, and/or NX options at the same time are not compatible");
const ONE_INCREMENT: CmdError = CmdError::new("ERR INCR option supports a single increment-element pair");
const NAN_SCORE: CmdError = CmdError::new("ERR resulting score is not a number (NaN)");

// ---- what sorted set commands share ----

/// When sorted sets change their encoding.
#[inline]
pub(super) fn limits(config: &Config) -> zset::Limits {
    zset::Limits {
        max_listpack_entries: config.zset_max_listpack_entries,
        max_listpack_value: config.zset_max_listpack_value,
    }
}

/// Whether a reply shows scores beside the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scores {
    /// Members only.
    Without,
    /// A flat list of members and scores in RESP2, a list of pairs in RESP3.
    With,
}

impl Scores {
    /// Writes the head of a list of `count` members.
    #[inline]
    pub(super) fn head(self, reply: &mut Reply, count: usize) {
        let flat = self == Scores::With && reply.proto == Proto::Resp2;
        reply.array(if flat { 2 * count } else { count });
    }

    /// Writes a member.
    #[inline]
    pub(super) fn member(self, reply: &mut Reply, member: Value<'_>, score: f64) {
        if self == Scores::Without {
            return value::reply(member, reply);
        }
        if reply.proto == Proto::Resp3 {
            reply.array(2);
        }
        value::reply(member, reply);
        reply.double(score);
    }

    /// Writes a list of members.
    pub(super) fn list<'a>(
        self,
        reply: &mut Reply,
        count: usize,
        all: impl Iterator<Item = (Value<'a>, f64)>,
    ) {
        self.head(reply, count);
        all.for_each(|(member, score)| self.member(reply, member, score));
    }
}

/// Reports that `removed` members of a key are gone and `left` are left; the key goes with the last one.
pub(super) fn report_removed(ctx: &mut Ctx<'_>, key: Key<'_>, removed: usize, left: usize, event: Event) {
    if removed == 0 {
        return;
    }
    if left == 0 {
        ctx.ks.remove(ctx.db, key, Free::Server);
    }
    ctx.ks.changed(ctx.db, key.bytes, event);
    ctx.ks.changes.dirty += removed as u64 - 1;
    if left == 0 {
        ctx.ks.also(ctx.db, key.bytes, event::DEL);
    }
}

/// Stores a sorted set that was built apart under a key, or removes the key when nothing is in it. Gives the
/// number of members.
pub(super) fn store(ctx: &mut Ctx<'_>, to: Key<'_>, mut built: Entry, event: Event) -> usize {
    let count = zset::view(&built).len();
    if count == 0 {
        if ctx.ks.remove(ctx.db, to, Free::Server) {
            ctx.ks.changed(ctx.db, to.bytes, event::DEL);
        }
        return 0;
    }
    let mut inline = Vec::new();
    let payload = built.take_payload().as_new(&mut inline);
    ctx.ks.set(ctx.db, to, Kind::Zset, payload, Ttl::Clear);
    ctx.ks.changed(ctx.db, to.bytes, event);
    count
}

// ---- adding ----

/// Which members ZADD touches, by whether they are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Touches {
    #[default]
    All,
    /// NX.
    New,
    /// XX.
    Old,
}

/// Which new scores ZADD takes, compared with the old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Takes {
    #[default]
    All,
    /// GT.
    Greater,
    /// LT.
    Less,
}

/// What ZADD answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answers {
    #[default]
    Added,
    /// CH: added and changed members.
    Changed,
    /// INCR: scores are added to what is there; the answer is the sum.
    Sum,
}

/// The options of ZADD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Adding {
    touches: Touches,
    takes: Takes,
    answers: Answers,
}

impl Adding {
    /// Reads options from argument 2 on and gives the index of the first argument behind them.
    fn parse(args: Args<'_>) -> Result<(Adding, usize), CmdError> {
        // Nearly always there are none: scores begin with a digit or sign, options with a letter.
        if !args.get(2).first().is_some_and(u8::is_ascii_alphabetic) {
            return Self::check(&[], 2, args);
        }
        let words = ["nx", "xx", "gt", "lt", "ch", "incr"];
        let mut given = Vec::new();
        let mut at = 2;
        while let Some(word) = args.try_get(at).and_then(|arg| words.iter().find(|word| is(arg, word))) {
            given.push(*word);
            at += 1;
        }
        Self::check(&given, at, args)
    }

    fn check(given: &[&str], at: usize, args: Args<'_>) -> Result<(Adding, usize), CmdError> {
        let left = args.len() - at;
        if left == 0 || !left.is_multiple_of(2) {
            return Err(error::SYNTAX);
        }
        let has = |word: &str| given.contains(&word);
        if has("nx") && has("xx") {
            return Err(NX_WITH_XX);
        }
        if (has("gt") && has("lt")) || (has("nx") && (has("gt") || has("lt"))) {
            return Err(ORDER_CLASH);
        }
        if has("incr") && left > 2 {
            return Err(ONE_INCREMENT);
        }
        Ok((Adding::of_words(given), at))
    }

    /// What these options say, which fit each other.
    pub(super) fn of_words(given: &[&str]) -> Adding {
        let has = |word: &str| given.contains(&word);
        Adding {
            touches: match () {
                () if has("nx") => Touches::New,
                () if has("xx") => Touches::Old,
                () => Touches::All,
            },
            takes: match () {
                () if has("gt") => Takes::Greater,
                () if has("lt") => Takes::Less,
                () => Takes::All,
            },
            answers: match () {
                () if has("incr") => Answers::Sum,
                () if has("ch") => Answers::Changed,
                () => Answers::Added,
            },
        }
    }

    /// The score a member gets; none if it stays as it is.
    fn new_score(self, old: Option<f64>, score: f64) -> Result<Option<f64>, CmdError> {
        let Some(old) = old else { return Ok((self.touches != Touches::Old).then_some(score)) };
        if self.touches == Touches::New {
            return Ok(None);
        }
        let new = if self.answers == Answers::Sum { old + score } else { score };
        if new.is_nan() {
            return Err(NAN_SCORE);
        }
        let taken = match self.takes {
            Takes::All => true,
            Takes::Greater => new > old,
            Takes::Less => new < old,
        };
        Ok(taken.then_some(new))
    }
}

/// What was added.
#[derive(Default)]
struct Tally {
    added: usize,
    updated: usize,
    /// The score of the last member that was not passed over.
    score: Option<f64>,
}

/// A score as an argument.
#[inline]
fn score(text: &[u8]) -> Result<f64, CmdError> {
    /// Integers of so many digits are doubles without loss.
    const EXACT_DIGITS: usize = 15;
    if text.len() <= EXACT_DIGITS
        && let Some(n) = num::parse_i64(text)
    {
        return Ok(n as f64);
    }
    num::parse_f64(text).ok_or(error::NOT_FLOAT)
}

fn zadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (adding, first) = Adding::parse(ctx.args)?;
    let args = ctx.args;
    let member = |i: usize| args.get(first + 2 * i + 1);
    if args.len() - first == 2 {
        let one = score(args.get(first))?;
        return add(ctx, adding, &[one], member);
    }
    let count = (args.len() - first) / 2;
    let scores: Vec<f64> = (0..count).map(|i| score(args.get(first + 2 * i))).collect::<Result<_, _>>()?;
    add(ctx, adding, &scores, member)
}

fn zincrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    // An option in the place of the increment is an error of syntax, as in Redis.
    Adding::parse(args)?;
    let increment = score(args.get(2))?;
    let adding = Adding { answers: Answers::Sum, ..Adding::default() };
    add(ctx, adding, &[increment], |_| args.get(3))
}

/// Adds members with scores to argument 1 and answers.
pub(super) fn add<'a>(
    ctx: &mut Ctx<'a>,
    adding: Adding,
    scores: &[f64],
    member: impl Fn(usize) -> &'a [u8],
) -> CmdResult {
    let (db, key, limits) = (ctx.db, ctx.key(1), limits(ctx.config));
    let tally = if let Some(mut entry) = of_kind(ctx.ks.write(db, key), Kind::Zset)? {
        apply(&mut entry, &limits, adding, scores, member)?
    } else if adding.touches == Touches::Old {
        Tally::default()
    } else {
        let mut entry = ctx.ks.insert(db, key, Kind::Zset, zset::empty(), None);
        apply(&mut entry, &limits, adding, scores, member)?
    };
    let changed = tally.added + tally.updated;
    if changed > 0 {
        let event = if adding.answers == Answers::Sum { ZINCR_EVENT } else { ZADD_EVENT };
        ctx.ks.changed(db, key.bytes, event);
        ctx.ks.changes.dirty += changed as u64 - 1;
    }
    match (adding.answers, tally.score) {
        (Answers::Sum, Some(score)) => ctx.reply.double(score),
        (Answers::Sum, None) => ctx.reply.null(),
        (Answers::Changed, _) => ctx.reply.len_int(changed),
        (Answers::Added, _) => ctx.reply.len_int(tally.added),
    }
    Ok(Outcome::Done)
}

fn apply<'a>(
    entry: &mut Entry,
    limits: &zset::Limits,
    adding: Adding,
    scores: &[f64],
    member: impl Fn(usize) -> &'a [u8],
) -> Result<Tally, CmdError> {
    let mut tally = Tally::default();
    zset::prepare(entry, limits, scores.len(), member(0).len());
    for (i, score) in scores.iter().enumerate() {
        let (member, mut new) = (member(i), *score);
        if adding != Adding::default() {
            let old = zset::view(entry).score(member);
            let Some(taken) = adding.new_score(old, new)? else { continue };
            new = taken;
        }
        tally.score = Some(new);
        match zset::set(entry, limits, member, new) {
            None => tally.added += 1,
            Some(old) => tally.updated += usize::from(old != new),
        }
    }
    Ok(tally)
}

// ---- removing ----

fn zrem(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let (mut removed, mut left) = (0, 0);
    if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Zset)? {
        left = zset::view(&entry).len();
        for i in 2..ctx.args.len() {
            let gone = usize::from(zset::remove(&mut entry, ctx.args.get(i)).is_some());
            removed += gone;
            left -= gone;
            if left == 0 {
                break;
            }
        }
    }
    report_removed(ctx, key, removed, left, ZREM_EVENT);
    ctx.reply.len_int(removed);
    Ok(Outcome::Done)
}

// ---- looking ----

fn zcard(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)?;
    ctx.reply.len_int(entry.map_or(0, |entry| zset::view(&entry).len()));
    Ok(Outcome::Done)
}

fn reply_score(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zscore(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)?;
    reply_score(ctx.reply, entry.and_then(|entry| zset::view(&entry).score(ctx.args.get(2))));
    Ok(Outcome::Done)
}

fn zmscore(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)?;
    let view = entry.as_ref().map(|entry| zset::view(entry));
    ctx.reply.array(ctx.args.len() - 2);
    for i in 2..ctx.args.len() {
        reply_score(ctx.reply, view.and_then(|view| view.score(ctx.args.get(i))));
    }
    Ok(Outcome::Done)
}

/// Where ranks are counted from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    FromLowest,
    FromHighest,
}

fn rank(ctx: &mut Ctx<'_>, counted: Counted) -> CmdResult {
    let with_score = match ctx.args.len() {
        3 => false,
        4 if is(ctx.args.get(3), "withscore") => true,
        4 => return Err(error::SYNTAX),
        _ => return Err(wrong_arity(ctx.name)),
    };
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)?;
    let found = entry.and_then(|entry| {
        let view = zset::view(&entry);
        let (rank, score) = view.rank(ctx.args.get(2))?;
        Some((if counted == Counted::FromLowest { rank } else { view.len() - 1 - rank }, score))
    });
    match found {
        Some((rank, _)) if !with_score => ctx.reply.len_int(rank),
        Some((rank, score)) => {
            ctx.reply.array(2);
            ctx.reply.len_int(rank);
            ctx.reply.double(score);
        }
        None if with_score => ctx.reply.null_array(),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn zrandmember(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.args.len() == 2 {
        // Another generator than the keyspace's, which is borrowed with the entry.
        let mut rng = ctx.ks.rng.clone();
        match of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)? {
            Some(entry) => {
                let (member, _) = zset::view(&entry).random(&mut rng).expect("a sorted set has members");
                value::reply(member, ctx.reply);
            }
            None => ctx.reply.null(),
        }
        ctx.ks.rng = rng;
        return Ok(Outcome::Done);
    }
    let count = random_count(ctx.args.get(2))?;
    let scores = match ctx.args.len() {
        3 => Scores::Without,
        4 if is(ctx.args.get(3), "withscores") => Scores::With,
        _ => return Err(error::SYNTAX),
    };
    if scores == Scores::With && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    let (mut rng, bytes_max) = (ctx.ks.rng.clone(), ctx.reply_bytes_max());
    match of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)? {
        Some(entry) => {
            let view = zset::view(&entry);
            let reply = &mut *ctx.reply;
            if let Ok(wanted) = usize::try_from(count) {
                scores.head(reply, wanted.min(view.len()));
                view.sample(wanted, &mut rng, &mut |member, score| scores.member(reply, member, score));
            } else {
                let picks = repeated_count(count)?;
                scores.head(reply, picks);
                for _ in 0..picks {
                    if reply.pending_bytes() > bytes_max {
                        break;
                    }
                    let (member, score) = view.random(&mut rng).expect("a sorted set has members");
                    scores.member(reply, member, score);
                }
            }
        }
        None => ctx.reply.array(0),
    }
    ctx.ks.rng = rng;
    Ok(Outcome::Done)
}

fn zscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = parse_cursor(ctx.args.get(2))?;
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)? else {
        // A key that is not there is looked for before the options are.
        ctx.reply.array(2);
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let options = ScanOptions::parse(ctx.args, 3, Scanned::Elements)?;
    reply_scan(ctx.reply, |reply| {
        let mut found = 0;
        let mut digits = value::Digits::default();
        let mut text = Vec::new();
        let next = zset::view(&entry).scan(cursor, options.count, &mut |member, score| {
            if options.wants(member.bytes(&mut digits)) {
                text.clear();
                num::push_f64(&mut text, score);
                value::reply(member, reply);
                reply.bulk(&text);
                found += 2;
            }
        });
        (next, found)
    });
    Ok(Outcome::Done)
}
