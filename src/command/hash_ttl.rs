//! Deadlines of fields: HEXPIRE and its like, HTTL and its like, HPERSIST, and the commands of Redis 8 that
//! get or set fields together with their deadlines. Relative times propagate as absolute ones, only for the
//! fields that were changed; a deadline that has passed removes the field, which propagates as HDEL.

use super::args::{Cursor, int, is};
use super::error::{CmdError, CmdResult, invalid_expire, wrong_arity};
use super::hash::{ADDS, HASH, HDEL, HSET, READS, READS_FAST, UPDATES, change_existing, change_or_create};
use super::spec::{Flags, KeySpec, Spec, access, key};
use super::{Ctx, DataFn, Outcome, Propagate, of_kind};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Expiry, Free, Key};
use crate::resp::{Args, OwnedArgs};
use crate::value::hash::{self, FieldTtl};
use crate::value::{self, Entry, Kind};

const HEXPIRE: Event = Event::new(class::HASH, "hexpire");
const HPERSIST: Event = Event::new(class::HASH, "hpersist");

/// The latest deadline of a field, in milliseconds since 1970: 46 bits are kept in files.
const DEADLINE_MAX_MS: i64 = (1 << 46) - 1;

/// There is no such field.
const NO_FIELD: i64 = -2;
/// The field has no deadline.
const NO_DEADLINE: i64 = -1;
/// The condition does not hold.
const NOT_MET: i64 = 0;
/// The deadline was set (or removed).
const DONE: i64 = 1;
/// The deadline has passed, and the field was removed.
const REMOVED: i64 = 2;

const SETS: Spec = Spec {
    arity: -6,
    flags: ADDS,
    keys: UPDATES,
    since: "7.4.0",
    complexity: "O(N) for N fields named.",
    ..HASH
};
const TELLS: Spec = Spec {
    arity: -5,
    flags: READS_FAST,
    keys: READS,
    since: "7.4.0",
    complexity: "O(N) for N fields named.",
    usage: "key FIELDS numfields field [field ...]",
    ..HASH
};
const GETS: Spec = Spec {
    arity: -5,
    flags: Flags::WRITE.with(Flags::FAST),
    since: "8.0.0",
    complexity: "O(N) for N fields named.",
    ..HASH
};
const GETEX_KEY: &[KeySpec] = &[key(1, access::RW | access::ACCESS | access::UPDATE)];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "hexpire",
            summary: "Sets the time to live of fields in seconds.",
            usage: "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            ..SETS
        },
        |ctx| expire(ctx, SECONDS_FROM_NOW),
    ),
    (
        Spec {
            name: "hpexpire",
            summary: "Sets the time to live of fields in milliseconds.",
            usage: "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            ..SETS
        },
        |ctx| expire(ctx, MILLISECONDS_FROM_NOW),
    ),
    (
        Spec {
            name: "hexpireat",
            summary: "Sets the Unix time in seconds at which fields expire.",
            usage: "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            ..SETS
        },
        |ctx| expire(ctx, UNIX_SECONDS),
    ),
    (
        Spec {
            name: "hpexpireat",
            summary: "Sets the Unix time in milliseconds at which fields expire.",
            usage: "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            ..SETS
        },
        |ctx| expire(ctx, UNIX_MILLISECONDS),
    ),
    (Spec { name: "httl", summary: "Returns the time to live of fields in seconds.", ..TELLS }, |ctx| {
        tell(ctx, SECONDS_FROM_NOW)
    }),
    (
        Spec { name: "hpttl", summary: "Returns the time to live of fields in milliseconds.", ..TELLS },
        |ctx| tell(ctx, MILLISECONDS_FROM_NOW),
    ),
    (
        Spec {
            name: "hexpiretime",
            summary: "Returns the Unix time in seconds at which fields expire.",
            ..TELLS
        },
        |ctx| tell(ctx, UNIX_SECONDS),
    ),
    (
        Spec {
            name: "hpexpiretime",
            summary: "Returns the Unix time in milliseconds at which fields expire.",
            ..TELLS
        },
        |ctx| tell(ctx, UNIX_MILLISECONDS),
    ),
    (
        Spec {
            name: "hpersist",
            flags: Flags::WRITE.with(Flags::FAST),
            keys: UPDATES,
            summary: "Removes the deadlines of fields.",
            ..TELLS
        },
        hpersist,
    ),
    (
        Spec {
            name: "hgetex",
            keys: GETEX_KEY,
            summary: "Returns the values of fields and sets or removes their deadlines.",
            usage: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
                    PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
            ..GETS
        },
        hgetex,
    ),
    (
        Spec {
            name: "hgetdel",
            keys: &[key(1, access::RW | access::ACCESS | access::DELETE)],
            summary: "Returns the values of fields and removes them, and the hash with its last one.",
            usage: "key FIELDS numfields field [field ...]",
            ..GETS
        },
        hgetdel,
    ),
    (
        Spec {
            name: "hsetex",
            arity: -6,
            flags: ADDS,
            keys: UPDATES,
            summary: "Sets fields together with their deadlines.",
            usage: "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
                    PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
            ..GETS
        },
        hsetex,
    ),
];

// ---- arguments ----

/// How a time is given: milliseconds of its unit, and whether it counts from now.
#[derive(Clone, Copy)]
struct Clock {
    unit_ms: i64,
    from_now: bool,
}

const SECONDS_FROM_NOW: Clock = Clock { unit_ms: 1000, from_now: true };
const MILLISECONDS_FROM_NOW: Clock = Clock { unit_ms: 1, from_now: true };
const UNIX_SECONDS: Clock = Clock { unit_ms: 1000, from_now: false };
const UNIX_MILLISECONDS: Clock = Clock { unit_ms: 1, from_now: false };

/// The words of HGETEX and HSETEX.
const CLOCKS: &[(&str, Clock)] = &[
    ("ex", SECONDS_FROM_NOW),
    ("px", MILLISECONDS_FROM_NOW),
    ("exat", UNIX_SECONDS),
    ("pxat", UNIX_MILLISECONDS),
];

const NEGATIVE_TIME: CmdError = CmdError::new("ERR invalid expire time, must be >= 0");
const FIELDS_MISSING: CmdError =
    CmdError::new("ERR Mandatory argument FIELDS is missing or not at the right position");
const COUNT_MISMATCH: CmdError =
    CmdError::new("ERR The `numfields` parameter must match the number of arguments");
const COUNT_TO_EXPIRE: CmdError = CmdError::new("ERR Parameter `numFields` should be greater than 0");
const COUNT_TO_TELL: CmdError = CmdError::new("ERR Number of fields must be a positive integer");

impl Clock {
    fn base_ms(self, ctx: &Ctx<'_>) -> i64 {
        if self.from_now { ctx.now_ms() } else { 0 }
    }

    /// The deadline that an argument names.
    fn deadline_ms(self, ctx: &Ctx<'_>, argument: &[u8]) -> Result<i64, CmdError> {
        let given = int(argument)?;
        if given < 0 {
            return Err(NEGATIVE_TIME);
        }
        let ms = given.checked_mul(self.unit_ms).filter(|ms| *ms <= DEADLINE_MAX_MS - self.base_ms(ctx));
        Ok(ms.ok_or_else(|| invalid_expire(ctx.name))? + self.base_ms(ctx))
    }
}

/// `FIELDS numfields field ...` from argument `at` on to the end: the index of the first field.
fn parse_fields(args: Args<'_>, at: usize, bad_count: CmdError) -> Result<usize, CmdError> {
    if !args.try_get(at).is_some_and(|word| is(word, "fields")) {
        return Err(FIELDS_MISSING);
    }
    let count = int(args.try_get(at + 1).unwrap_or(b"")).ok().filter(|count| *count > 0).ok_or(bad_count)?;
    if usize::try_from(count) != Ok(args.len() - at - 2) {
        return Err(COUNT_MISMATCH);
    }
    Ok(at + 2)
}

/// When HEXPIRE may set a deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    /// There is none.
    Nx,
    /// There is one.
    Xx,
    /// There is an earlier one.
    Gt,
    /// There is a later one, or none.
    Lt,
}

impl Condition {
    fn parse(word: &[u8]) -> Condition {
        let words =
            [("nx", Condition::Nx), ("xx", Condition::Xx), ("gt", Condition::Gt), ("lt", Condition::Lt)];
        words.iter().find(|(name, _)| is(word, name)).map_or(Condition::Always, |(_, condition)| *condition)
    }

    fn holds(self, old: Option<i64>, new: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::Nx => old.is_none(),
            Condition::Xx => old.is_some(),
            Condition::Gt => old.is_some_and(|old| old < new),
            Condition::Lt => old.is_none_or(|old| old > new),
        }
    }
}

// ---- setting deadlines ----

/// The hash of a key must be one, whatever is wrong with the other arguments.
fn check_kind(ctx: &mut Ctx<'_>, key: Key<'_>) -> Result<bool, CmdError> {
    Ok(of_kind(ctx.ks.write(ctx.db, key), Kind::Hash)?.is_some())
}

/// What becomes of fields whose deadline is being set.
struct Setting {
    at: i64,
    /// The deadline has passed: fields are removed.
    over: bool,
}

impl Setting {
    /// A time that has passed removes fields, unless expiry is somebody else's to decide.
    fn new(ctx: &Ctx<'_>, at: i64) -> Setting {
        Setting { at, over: at <= ctx.now_ms() && ctx.ks.expiry == Expiry::Remove }
    }

    /// Sets a field's deadline or removes the field.
    fn apply(&self, entry: &mut Entry, field: &[u8]) -> i64 {
        if self.over {
            hash::remove(entry, field);
            REMOVED
        } else {
            hash::set_expiry(entry, field, Some(self.at));
            DONE
        }
    }

    /// Reports fields that [`Setting::apply`] was used on and says how that propagates.
    fn report(&self, ctx: &mut Ctx<'_>, key: &[u8], fields: &[&[u8]], condition: Option<&[u8]>) {
        if fields.is_empty() {
            return;
        }
        if self.over {
            ctx.ks.stats.expired_parts += fields.len() as u64;
            ctx.ks.changed_by(ctx.db, key, HDEL, fields.len());
        } else {
            ctx.ks.changed_by(ctx.db, key, HEXPIRE, fields.len());
        }
        if !ctx.propagating() {
            return;
        }
        if self.over {
            let removals = fields.iter().map(|field| OwnedArgs::from_slices(&[b"HDEL", key, field]));
            ctx.propagate = Propagate::As(removals.collect());
        } else {
            let (at, count) = (self.at.to_string(), fields.len().to_string());
            let mut argv: Vec<&[u8]> = vec![b"HPEXPIREAT", key, at.as_bytes()];
            argv.extend(condition);
            argv.extend([&b"FIELDS"[..], count.as_bytes()]);
            argv.extend(fields);
            ctx.propagate_as(&argv);
        }
    }
}

fn expire(ctx: &mut Ctx<'_>, clock: Clock) -> CmdResult {
    let (args, key) = (ctx.args, ctx.key(1));
    check_kind(ctx, key)?;
    let at = clock.deadline_ms(ctx, args.get(2))?;
    let condition = Condition::parse(args.get(3));
    let given = (condition != Condition::Always).then(|| args.get(3));
    let first = parse_fields(args, if given.is_some() { 4 } else { 3 }, COUNT_TO_EXPIRE)?;
    let (setting, over_ms) = (Setting::new(ctx, at), ctx.over_ms());
    let mut answers = Vec::with_capacity(args.len() - first);
    let mut changed: Vec<&[u8]> = Vec::new();
    let found = change_existing(ctx, key, |entry, _| {
        for field in args.iter().skip(first) {
            answers.push(match hash::view(entry, over_ms).item(field) {
                None => NO_FIELD,
                Some(item) if !condition.holds(item.expiry, at) => NOT_MET,
                Some(_) => {
                    changed.push(field);
                    setting.apply(entry, field)
                }
            });
        }
    })?;
    answers.resize(args.len() - first, NO_FIELD);
    ctx.reply.array(answers.len());
    answers.iter().for_each(|answer| ctx.reply.int(*answer));
    setting.report(ctx, key.bytes, &changed, given);
    if found.is_some_and(|((), empty)| empty) {
        ctx.ks.also(ctx.db, key.bytes, event::DEL);
    }
    Ok(Outcome::Done)
}

fn hpersist(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key, over_ms) = (ctx.args, ctx.key(1), ctx.over_ms());
    check_kind(ctx, key)?;
    let first = parse_fields(args, 2, COUNT_TO_TELL)?;
    let mut answers = Vec::with_capacity(args.len() - first);
    let mut changed = 0;
    change_existing(ctx, key, |entry, _| {
        for field in args.iter().skip(first) {
            answers.push(match hash::view(entry, over_ms).item(field).map(|item| item.expiry) {
                None => NO_FIELD,
                Some(None) => NO_DEADLINE,
                Some(Some(_)) => {
                    hash::set_expiry(entry, field, None);
                    changed += 1;
                    DONE
                }
            });
        }
    })?;
    answers.resize(args.len() - first, NO_FIELD);
    ctx.reply.array(answers.len());
    answers.iter().for_each(|answer| ctx.reply.int(*answer));
    if changed > 0 {
        ctx.ks.changed_by(ctx.db, key.bytes, HPERSIST, changed);
    }
    Ok(Outcome::Done)
}

// ---- telling deadlines ----

/// HTTL and HEXPIRETIME in both units; seconds are rounded up.
fn tell(ctx: &mut Ctx<'_>, clock: Clock) -> CmdResult {
    let (args, key, over_ms) = (ctx.args, ctx.key(1), ctx.over_ms());
    let base_ms = clock.base_ms(ctx);
    let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)?;
    let first = parse_fields(args, 2, COUNT_TO_TELL)?;
    ctx.reply.array(args.len() - first);
    for field in args.iter().skip(first) {
        let item = entry.as_ref().and_then(|entry| hash::view(entry, over_ms).item(field));
        ctx.reply.int(match item.map(|item| item.expiry) {
            None => NO_FIELD,
            Some(None) => NO_DEADLINE,
            Some(Some(at)) => (at - base_ms + clock.unit_ms - 1) / clock.unit_ms,
        });
    }
    Ok(Outcome::Done)
}

// ---- getting with an effect ----

/// Answers the values of fields from argument `first` on and lets `change` do its work on each that is
/// there. Fields whose time was over are removed. Gives the fields that `change` says it changed, and whether
/// the hash is gone.
fn get_and<'a>(
    ctx: &mut Ctx<'a>,
    key: Key<'_>,
    first: usize,
    mut change: impl FnMut(&mut Entry, &[u8]) -> bool,
) -> Result<(Vec<&'a [u8]>, bool), CmdError> {
    let (args, over_ms) = (ctx.args, ctx.over_ms());
    ctx.reply.array(args.len() - first);
    let mut reply = std::mem::take(ctx.reply);
    let (mut changed, mut has_due) = (Vec::new(), false);
    let found = change_existing(ctx, key, |entry, _| {
        has_due = hash::view(entry, over_ms).has_due();
        for field in args.iter().skip(first) {
            match hash::view(entry, over_ms).get(field) {
                None => {
                    reply.null();
                    continue;
                }
                Some(value) => value::reply(value, &mut reply),
            }
            if change(entry, field) {
                changed.push(field);
            }
        }
    });
    *ctx.reply = reply;
    let Some(((), empty)) = found? else {
        (first..args.len()).for_each(|_| ctx.reply.null());
        return Ok((changed, false));
    };
    if has_due && !empty {
        ctx.ks.expire_fields(ctx.db, key, args.iter().skip(first));
    }
    Ok((changed, empty))
}

fn hgetdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    check_kind(ctx, key)?;
    let first = parse_fields(ctx.args, 2, COUNT_TO_TELL)?;
    let (removed, empty) = get_and(ctx, key, first, hash::remove)?;
    if removed.is_empty() {
        return Ok(Outcome::Done);
    }
    ctx.ks.changed_by(ctx.db, key.bytes, HDEL, removed.len());
    if empty {
        ctx.ks.also(ctx.db, key.bytes, event::DEL);
    }
    let mut argv: Vec<&[u8]> = vec![b"HDEL", key.bytes];
    argv.extend(removed);
    ctx.propagate_as(&argv);
    Ok(Outcome::Done)
}

fn hgetex(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.key(1));
    check_kind(ctx, key)?;
    let clock = CLOCKS.iter().find(|(word, _)| is(args.get(2), word));
    let persist = is(args.get(2), "persist");
    let setting = match clock {
        Some((_, clock)) => Some(Setting::new(ctx, clock.deadline_ms(ctx, args.get(3))?)),
        None => None,
    };
    let at = 2 + 2 * usize::from(setting.is_some()) + usize::from(persist);
    let first = parse_fields(args, at, COUNT_TO_TELL)?;
    let (changed, empty) = get_and(ctx, key, first, |entry, field| match &setting {
        Some(setting) => {
            setting.apply(entry, field);
            true
        }
        None => {
            let volatile = hash::view(entry, i64::MIN).item(field).is_some_and(|item| item.expiry.is_some());
            persist && volatile && hash::set_expiry(entry, field, None)
        }
    })?;
    if let Some(setting) = &setting {
        setting.report(ctx, key.bytes, &changed, None);
    } else if !changed.is_empty() {
        ctx.ks.changed_by(ctx.db, key.bytes, HPERSIST, changed.len());
        let count = changed.len().to_string();
        let mut argv: Vec<&[u8]> = vec![b"HPERSIST", key.bytes, b"FIELDS", count.as_bytes()];
        argv.extend(changed);
        ctx.propagate_as(&argv);
    }
    if empty {
        ctx.ks.also(ctx.db, key.bytes, event::DEL);
    }
    Ok(Outcome::Done)
}

// ---- HSETEX ----

/// When HSETEX sets its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exist {
    /// FNX: when none of them is there.
    None,
    /// FXX: when all of them are.
    All,
}

/// The arguments of HSETEX.
struct SetEx {
    condition: Option<Exist>,
    keep: bool,
    deadline: Option<i64>,
    /// Index of the first field.
    first: usize,
}

const ONE_CONDITION: CmdError = CmdError::new("ERR Only one of FXX or FNX arguments can be specified");
const ONE_TIME: CmdError =
    CmdError::new("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
const NO_TIME: CmdError = CmdError::new("ERR missing expire time");
const BAD_COUNT: CmdError = CmdError::new("ERR invalid number of fields");

impl SetEx {
    fn parse(ctx: &Ctx<'_>) -> Result<SetEx, CmdError> {
        let mut set = SetEx { condition: None, keep: false, deadline: None, first: 0 };
        let mut cursor = Cursor::new(ctx.args, 2);
        while let Some(word) = cursor.peek() {
            if cursor.word("fields") {
                set.first = SetEx::parse_pairs(ctx, &mut cursor)?;
                return Ok(set);
            }
            let exist = [("fnx", Exist::None), ("fxx", Exist::All)];
            if let Some((_, condition)) = exist.into_iter().find(|(name, _)| is(word, name)) {
                if set.condition.replace(condition).is_some() {
                    return Err(ONE_CONDITION);
                }
                cursor.take()?;
                continue;
            }
            let clock = CLOCKS.iter().find(|(name, _)| is(word, name));
            if clock.is_none() && !is(word, "keepttl") {
                let mut text = b"ERR unknown argument: ".to_vec();
                text.extend_from_slice(word);
                return Err(CmdError::text(text));
            }
            if set.keep || set.deadline.is_some() {
                return Err(ONE_TIME);
            }
            cursor.take()?;
            match clock {
                Some((_, clock)) => {
                    let time = cursor.take().map_err(|_| NO_TIME)?;
                    set.deadline = Some(clock.deadline_ms(ctx, time)?);
                }
                None => set.keep = true,
            }
        }
        Err(wrong_arity(ctx.name))
    }

    /// The count and the pairs behind FIELDS: the index of the first field.
    fn parse_pairs(ctx: &Ctx<'_>, cursor: &mut Cursor<'_>) -> Result<usize, CmdError> {
        if cursor.left() < 3 {
            return Err(wrong_arity(ctx.name));
        }
        let count = int(cursor.take()?).ok().and_then(|count| i32::try_from(count).ok());
        let count = count.filter(|count| *count > 0).ok_or(BAD_COUNT)?;
        if cursor.left() != 2 * count as usize {
            return Err(wrong_arity(ctx.name));
        }
        Ok(cursor.index())
    }
}

fn hsetex(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key, over_ms) = (ctx.args, ctx.key(1), ctx.over_ms());
    let set = SetEx::parse(ctx)?;
    let fields: Vec<&[u8]> = args.iter().skip(set.first).step_by(2).collect();
    let entry = of_kind(ctx.ks.write(ctx.db, key), Kind::Hash)?;
    let hash = entry.as_ref().map(|entry| hash::view(entry, over_ms));
    let is_there = |field: &&[u8]| hash.is_some_and(|hash| hash.item(field).is_some());
    let holds = match set.condition {
        None => true,
        Some(Exist::None) => !fields.iter().any(is_there),
        Some(Exist::All) => fields.iter().all(is_there),
    };
    let has_due = hash.is_some_and(|hash| hash.has_due());
    drop(entry);
    if has_due {
        ctx.ks.expire_fields(ctx.db, key, fields.iter().copied());
    }
    ctx.reply.int(i64::from(holds));
    if !holds {
        return Ok(Outcome::Done);
    }
    let setting = set.deadline.map(|at| Setting::new(ctx, at));
    let ttl = match &setting {
        _ if set.keep => FieldTtl::Keep,
        Some(Setting { at, over: false }) => FieldTtl::At(*at),
        _ => FieldTtl::Clear,
    };
    let empty = change_or_create(ctx, key, |entry, limits| {
        hash::prepare(entry, limits, fields.len(), args.iter().skip(set.first));
        for (i, field) in fields.iter().enumerate() {
            hash::set(entry, limits, field, args.get(set.first + 2 * i + 1), ttl);
            if let Some(setting @ Setting { over: true, .. }) = &setting {
                setting.apply(entry, field);
            }
        }
        hash::view(entry, i64::MIN).is_empty()
    })?;
    ctx.ks.changed_by(ctx.db, key.bytes, HSET, fields.len());
    report_set(ctx, key.bytes, &set, &setting, &fields);
    if empty {
        ctx.ks.remove(ctx.db, key, Free::Server);
        ctx.ks.also(ctx.db, key.bytes, event::DEL);
    }
    Ok(Outcome::Done)
}

/// The further event of HSETEX, and how it propagates: with an absolute time.
fn report_set(ctx: &mut Ctx<'_>, key: &[u8], set: &SetEx, setting: &Option<Setting>, fields: &[&[u8]]) {
    let Some(setting) = setting else { return };
    if setting.over {
        ctx.ks.stats.expired_parts += fields.len() as u64;
        ctx.ks.also(ctx.db, key, HDEL);
        let removals = fields.iter().map(|field| OwnedArgs::from_slices(&[b"HDEL", key, field]));
        ctx.propagate = Propagate::As(removals.collect());
        return;
    }
    ctx.ks.also(ctx.db, key, HEXPIRE);
    let (at, count) = (setting.at.to_string(), fields.len().to_string());
    let mut argv: Vec<&[u8]> = vec![b"HSETEX", key];
    argv.extend(set.condition.map(|condition| match condition {
        Exist::None => &b"FNX"[..],
        Exist::All => b"FXX",
    }));
    argv.extend([&b"PXAT"[..], at.as_bytes(), b"FIELDS", count.as_bytes()]);
    argv.extend(ctx.args.iter().skip(set.first));
    ctx.propagate_as(&argv);
}
