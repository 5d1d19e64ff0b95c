//! The string commands that set and get whole values. Parts of values are in `string_range`, numbers in
//! `string_number`. GET and SET are the hot path: no allocation besides what is stored, one lookup.

use super::error::{self, CmdError, CmdResult, invalid_expire, wrong_arity};
use super::spec::{Acl, Deprecated, Flags, KeySpec, SPEC, Spec, access, key, range};
use super::{Ctx, DataFn, Outcome, Propagate, of_kind};
use crate::command::args::{Cursor, int, is};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key, Ttl};
use crate::resp::{Args, OwnedArgs};
use crate::value::{Kind, kind, string};

const SET_EVENT: Event = Event::new(class::STRING, "set");
const EXPIRE_EVENT: Event = Event::new(class::GENERIC, "expire");
const PERSIST_EVENT: Event = Event::new(class::GENERIC, "persist");

/// What all string commands share.
pub(super) const STRING: Spec = Spec { group: "string", acl: Acl::STRING, ..SPEC };
/// Key specs of a command that reads its one key.
pub(super) const READS_KEY: &[KeySpec] = &[key(1, access::RO | access::ACCESS)];
/// Key specs of a command that reads and changes its one key.
pub(super) const UPDATES_KEY: &[KeySpec] = &[key(1, access::RW | access::ACCESS | access::UPDATE)];
/// Flags of a command that adds data.
pub(super) const ADDS: Flags = Flags::WRITE.with(Flags::DENYOOM);
/// Flags of a quick command that reads.
pub(super) const READS_FAST: Flags = Flags::READONLY.with(Flags::FAST);

const OVERWRITES_KEY: &[KeySpec] = &[key(1, access::OW | access::UPDATE)];
const PER_KEY_SET: &str = "O(N) where N is the number of keys to set.";
const MULTI_SHARD: &str = "request_policy:multi_shard";

const fn since_2_6_12(replaced_by: &'static str) -> Option<Deprecated> {
    Some(Deprecated { since: "2.6.12", replaced_by })
}

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "get",
            arity: 2,
            flags: READS_FAST,
            keys: READS_KEY,
            summary: "Returns the string value of a key.",
            usage: "key",
            ..STRING
        },
        get,
    ),
    (
        Spec {
            name: "set",
            arity: -3,
            flags: ADDS,
            keys: &[KeySpec {
                notes: "RW and ACCESS due to the optional `GET` argument",
                ..key(1, access::RW | access::ACCESS | access::UPDATE | access::VARIABLE_FLAGS)
            }],
            summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't \
                      exist.",
            usage: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
                    PXAT unix-time-milliseconds | KEEPTTL]",
            history: &[
                ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
                ("6.0.0", "Added the `KEEPTTL` option."),
                ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
                ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
            ],
            get_keys: Some(set_keys),
            ..STRING
        },
        set,
    ),
    (
        Spec {
            name: "setnx",
            arity: 3,
            flags: ADDS.with(Flags::FAST),
            keys: &[key(1, access::OW | access::INSERT)],
            summary: "Set the string value of a key only when the key doesn't exist.",
            usage: "key value",
            deprecated: since_2_6_12("`SET` with the `NX` argument"),
            ..STRING
        },
        setnx,
    ),
    (
        Spec {
            name: "setex",
            arity: 4,
            flags: ADDS,
            keys: OVERWRITES_KEY,
            since: "2.0.0",
            summary: "Sets the string value and expiration time of a key. Creates the key if it doesn't \
                      exist.",
            usage: "key seconds value",
            deprecated: since_2_6_12("`SET` with the `EX` argument"),
            ..STRING
        },
        |ctx| set_with_time(ctx, SECONDS),
    ),
    (
        Spec {
            name: "psetex",
            arity: 4,
            flags: ADDS,
            keys: OVERWRITES_KEY,
            since: "2.6.0",
            summary: "Sets both string value and expiration time in milliseconds of a key. The key is \
                      created \
                      if it doesn't exist.",
            usage: "key milliseconds value",
            deprecated: since_2_6_12("`SET` with the `PX` argument"),
            ..STRING
        },
        |ctx| set_with_time(ctx, MILLISECONDS),
    ),
    (
        Spec {
            name: "getset",
            arity: 3,
            flags: ADDS.with(Flags::FAST),
            keys: UPDATES_KEY,
            summary: "Returns the previous string value of a key after setting it to a new value.",
            usage: "key value",
            deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`SET` with the `!GET` argument" }),
            ..STRING
        },
        getset,
    ),
    (
        Spec {
            name: "getex",
            arity: -2,
            flags: Flags::WRITE.with(Flags::FAST),
            keys: &[KeySpec {
                notes: "RW and UPDATE because it changes the TTL",
                ..key(1, access::RW | access::ACCESS | access::UPDATE)
            }],
            since: "6.2.0",
            summary: "Returns the string value of a key after setting its expiration time.",
            usage: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
                    PXAT unix-time-milliseconds | PERSIST]",
            ..STRING
        },
        getex,
    ),
    (
        Spec {
            name: "getdel",
            arity: 2,
            flags: Flags::WRITE.with(Flags::FAST),
            keys: &[key(1, access::RW | access::ACCESS | access::DELETE)],
            since: "6.2.0",
            summary: "Returns the string value of a key after deleting the key.",
            usage: "key",
            ..STRING
        },
        getdel,
    ),
    (
        Spec {
            name: "mget",
            arity: -2,
            flags: READS_FAST,
            keys: &[range(1, -1, 1, access::RO | access::ACCESS)],
            summary: "Atomically returns the string values of one or more keys.",
            complexity: "O(N) where N is the number of keys to retrieve.",
            usage: "key [key ...]",
            tips: &[MULTI_SHARD],
            ..STRING
        },
        mget,
    ),
    (
        Spec {
            name: "mset",
            arity: -3,
            flags: ADDS,
            keys: &[range(1, -1, 2, access::OW | access::UPDATE)],
            since: "1.0.1",
            summary: "Atomically creates or modifies the string values of one or more keys.",
            complexity: PER_KEY_SET,
            usage: "key value [key value ...]",
            tips: &[MULTI_SHARD, "response_policy:all_succeeded"],
            ..STRING
        },
        mset,
    ),
    (
        Spec {
            name: "msetnx",
            arity: -3,
            flags: ADDS,
            keys: &[range(1, -1, 2, access::OW | access::INSERT)],
            since: "1.0.1",
            summary: "Atomically modifies the string values of one or more keys only when all keys don't \
                      exist.",
            complexity: PER_KEY_SET,
            usage: "key value [key value ...]",
            ..STRING
        },
        msetnx,
    ),
];

// ---- getting ----

fn get(ctx: &mut Ctx<'_>) -> CmdResult {
    reply_value(ctx, ctx.key(1))?;
    Ok(Outcome::Done)
}

/// Answers the value of a key, or null. Says whether the key is there.
#[inline]
fn reply_value(ctx: &mut Ctx<'_>, key: Key<'_>) -> Result<bool, CmdError> {
    match of_kind(ctx.ks.read(ctx.db, key), Kind::String)? {
        Some(entry) => {
            string::reply(&entry, ctx.reply);
            Ok(true)
        }
        None => {
            ctx.reply.null();
            Ok(false)
        }
    }
}

fn mget(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.array(ctx.args.len() - 1);
    ctx.each_key(1, 1, |ctx, _, key| {
        match ctx.ks.read(ctx.db, key).filter(|entry| kind(entry) == Kind::String) {
            Some(entry) => string::reply(&entry, ctx.reply),
            None => ctx.reply.null(),
        }
        Ok(())
    })?;
    Ok(Outcome::Done)
}

fn getset(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    reply_value(ctx, key)?;
    store(ctx, key, 2, Ttl::Clear);
    ctx.propagate_as(&[b"SET", key.bytes, ctx.args.get(2)]);
    Ok(Outcome::Done)
}

fn getdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    if reply_value(ctx, key)? {
        ctx.ks.remove(ctx.db, key, Free::Server);
        ctx.ks.changed(ctx.db, key.bytes, event::DEL);
        ctx.propagate_as(&[b"DEL", key.bytes]);
    }
    Ok(Outcome::Done)
}

fn getex(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = Options::parse(ctx.args, Form::Getex)?;
    let key = ctx.key(1);
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::String)? else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    let had_expiry = entry.expiry().is_some();
    string::reply(&entry, ctx.reply);
    drop(entry);
    let at = match options.time {
        Some(time) => Some(time.deadline_ms(ctx.now_ms(), ctx.name)?),
        None => None,
    };
    match at {
        Some(at) if at <= ctx.over_ms() => {
            ctx.ks.remove(ctx.db, key, Free::Expired);
            ctx.ks.changed(ctx.db, key.bytes, event::DEL);
            let lazy = ctx.ks.lazy_free.expire;
            ctx.propagate_as(&[if lazy { b"UNLINK" } else { b"DEL" }, key.bytes]);
        }
        Some(at) => {
            ctx.ks.set_expiry(ctx.db, key, Some(at));
            ctx.ks.changed(ctx.db, key.bytes, EXPIRE_EVENT);
            ctx.propagate_as(&[b"PEXPIREAT", key.bytes, itoa::Buffer::new().format(at).as_bytes()]);
        }
        None if options.persist && had_expiry => {
            ctx.ks.set_expiry(ctx.db, key, None);
            ctx.ks.changed(ctx.db, key.bytes, PERSIST_EVENT);
            ctx.propagate_as(&[b"PERSIST", key.bytes]);
        }
        None => {}
    }
    Ok(Outcome::Done)
}

// ---- setting ----

fn set(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.args.len() > 3 {
        return set_with_options(ctx);
    }
    store(ctx, ctx.key(1), 2, Ttl::Clear);
    ctx.reply.ok();
    Ok(Outcome::Done)
}

/// Stores argument `value` under a key and reports it.
#[inline]
fn store(ctx: &mut Ctx<'_>, key: Key<'_>, value: usize, ttl: Ttl) {
    let payload = string::payload(ctx.args.get(value), ctx.args.blob(value));
    ctx.ks.set(ctx.db, key, Kind::String, payload, ttl);
    ctx.ks.changed(ctx.db, key.bytes, SET_EVENT);
}

/// Stores argument `value` under a key that is known to be absent and reports it.
fn store_new(ctx: &mut Ctx<'_>, key: Key<'_>, value: usize, ttl: Ttl) {
    let payload = string::payload(ctx.args.get(value), ctx.args.blob(value));
    let expiry = if let Ttl::At(at) = ttl { Some(at) } else { None };
    ctx.ks.insert(ctx.db, key, Kind::String, payload, expiry);
    ctx.ks.changed(ctx.db, key.bytes, SET_EVENT);
}

fn set_with_options(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = Options::parse(ctx.args, Form::Set)?;
    let ttl = match options.time {
        Some(time) => Ttl::At(time.deadline_ms(ctx.now_ms(), ctx.name)?),
        None if options.keep_ttl => Ttl::Keep,
        None => Ttl::Clear,
    };
    let key = ctx.key(1);
    let found = match options.condition {
        _ if options.get => Some(reply_value(ctx, key)?),
        Condition::Always => None,
        _ => Some(ctx.ks.write(ctx.db, key).is_some()),
    };
    let holds = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => found == Some(false),
        Condition::IfPresent => found == Some(true),
    };
    if !holds {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(Outcome::Done);
    }
    match found {
        Some(false) => store_new(ctx, key, 2, ttl),
        _ => store(ctx, key, 2, ttl),
    }
    if let Ttl::At(at) = ttl {
        ctx.ks.also(ctx.db, key.bytes, EXPIRE_EVENT);
        propagate_deadline(ctx, key, 2, at);
    } else if options.get {
        propagate_without_get(ctx);
    }
    if !options.get {
        ctx.reply.ok();
    }
    Ok(Outcome::Done)
}

fn setnx(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let found = ctx.ks.write(ctx.db, key).is_some();
    if !found {
        store_new(ctx, key, 2, Ttl::Clear);
    }
    ctx.reply.int(i64::from(!found));
    Ok(Outcome::Done)
}

/// SETEX and PSETEX.
fn set_with_time(ctx: &mut Ctx<'_>, unit: Unit) -> CmdResult {
    let time = Time { text: ctx.args.get(2), unit, from: From::Now };
    let at = time.deadline_ms(ctx.now_ms(), ctx.name)?;
    let key = ctx.key(1);
    store(ctx, key, 3, Ttl::At(at));
    ctx.ks.also(ctx.db, key.bytes, EXPIRE_EVENT);
    propagate_deadline(ctx, key, 3, at);
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn mset(ctx: &mut Ctx<'_>) -> CmdResult {
    expect_pairs(ctx)?;
    store_pairs(ctx)?;
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn msetnx(ctx: &mut Ctx<'_>) -> CmdResult {
    expect_pairs(ctx)?;
    let mut found = false;
    ctx.each_key(1, 2, |ctx, _, key| {
        found = found || ctx.ks.write(ctx.db, key).is_some();
        Ok(())
    })?;
    if !found {
        store_pairs(ctx)?;
    }
    ctx.reply.int(i64::from(!found));
    Ok(Outcome::Done)
}

fn expect_pairs(ctx: &Ctx<'_>) -> Result<(), CmdError> {
    if ctx.args.len() % 2 == 1 { Ok(()) } else { Err(wrong_arity(ctx.name)) }
}

fn store_pairs(ctx: &mut Ctx<'_>) -> Result<(), CmdError> {
    ctx.each_key(1, 2, |ctx, at, key| {
        store(ctx, key, at + 1, Ttl::Clear);
        Ok(())
    })
}

// ---- how it propagates ----

/// A relative deadline would mean another time when it is replayed.
fn propagate_deadline(ctx: &mut Ctx<'_>, key: Key<'_>, value: usize, at_ms: i64) {
    if !ctx.propagating() {
        return;
    }
    let mut argv = OwnedArgs::from_slices(&[b"SET", key.bytes]);
    argv.push_from(&ctx.args, value);
    argv.push(b"PXAT");
    argv.push(itoa::Buffer::new().format(at_ms).as_bytes());
    ctx.propagate = Propagate::As(vec![argv]);
}

/// Nobody reads the old value when the command is replayed.
fn propagate_without_get(ctx: &mut Ctx<'_>) {
    if !ctx.propagating() {
        return;
    }
    let mut argv = OwnedArgs::default();
    let keep = |i: &usize| *i < 3 || !is(ctx.args.get(*i), "get");
    (0..ctx.args.len()).filter(keep).for_each(|i| argv.push_from(&ctx.args, i));
    ctx.propagate = Propagate::As(vec![argv]);
}

// ---- options ----

/// Which command's options are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Set,
    Getex,
}

/// When SET may set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// The options of SET and GETEX.
struct Options<'a> {
    condition: Condition,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    time: Option<Time<'a>>,
}

/// Milliseconds of a unit of time.
type Unit = i64;
const SECONDS: Unit = 1000;
const MILLISECONDS: Unit = 1;

/// Where a time is counted from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Now,
    Epoch,
}

/// A time that is not yet read: errors in it come after those of the syntax.
#[derive(Clone, Copy)]
struct Time<'a> {
    text: &'a [u8],
    unit: Unit,
    from: From,
}

/// Words that take a time.
const TIME_WORDS: &[(&str, Unit, From)] = &[
    ("ex", SECONDS, From::Now),
    ("px", MILLISECONDS, From::Now),
    ("exat", SECONDS, From::Epoch),
    ("pxat", MILLISECONDS, From::Epoch),
];

impl Time<'_> {
    /// Milliseconds since 1970; `name` is the command's, for the error.
    fn deadline_ms(&self, now_ms: i64, name: &str) -> Result<i64, CmdError> {
        let n = int(self.text)?;
        let base_ms = if self.from == From::Now { now_ms } else { 0 };
        let at = n.checked_mul(self.unit).and_then(|ms| ms.checked_add(base_ms)).filter(|_| n > 0);
        at.ok_or_else(|| invalid_expire(name))
    }
}

impl<'a> Options<'a> {
    /// Reads the options. A word may come twice; words that contradict each other are a syntax error.
    fn parse(args: Args<'a>, form: Form) -> Result<Options<'a>, CmdError> {
        let mut options =
            Options { condition: Condition::Always, get: false, keep_ttl: false, persist: false, time: None };
        let (first, set) = match form {
            Form::Set => (3, true),
            Form::Getex => (2, false),
        };
        let mut cursor = Cursor::new(args, first);
        while !cursor.is_done() {
            if set && options.condition != Condition::IfPresent && cursor.word("nx") {
                options.condition = Condition::IfAbsent;
            } else if set && options.condition != Condition::IfAbsent && cursor.word("xx") {
                options.condition = Condition::IfPresent;
            } else if set && cursor.word("get") {
                options.get = true;
            } else if set && options.time.is_none() && cursor.word("keepttl") {
                options.keep_ttl = true;
            } else if !set && options.time.is_none() && cursor.word("persist") {
                options.persist = true;
            } else {
                options.time = Some(options.parse_time(&mut cursor)?);
            }
        }
        Ok(options)
    }

    fn parse_time(&self, cursor: &mut Cursor<'a>) -> Result<Time<'a>, CmdError> {
        let word = cursor.take()?;
        let found = TIME_WORDS.iter().find(|(name, ..)| is(word, name));
        let &(_, unit, from) = found.ok_or(error::SYNTAX)?;
        let other = self.time.is_some_and(|time| time.unit != unit || time.from != from);
        if other || self.keep_ttl || self.persist {
            return Err(error::SYNTAX);
        }
        Ok(Time { text: cursor.take()?, unit, from })
    }
}

/// The key of SET: it is read only for GET.
fn set_keys(args: &Args<'_>, out: &mut Vec<(usize, u32)>) -> bool {
    let get = (3..args.len()).any(|i| is(args.get(i), "get"));
    let flags = if get { access::RW | access::ACCESS } else { access::OW };
    out.push((1, flags | access::UPDATE));
    true
}
