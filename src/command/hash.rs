//! The hash commands that set, get and remove fields. Deadlines of fields are set in `hash_ttl`; numbers and
//! walks are in `hash_more`. A field whose time is over is removed by whoever comes upon it by name; what
//! lists a whole hash passes it over, and only HLEN counts it.

use super::error::{CmdError, CmdResult, wrong_arity};
use super::spec::{Acl, Deprecated, Flags, KeySpec, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key};
use crate::resp::Reply;
use crate::value::hash::{self, FieldTtl};
use crate::value::{self, Entry, Kind, Limits, Value, next_part_expiry};

/// What all hash commands share.
pub(super) const HASH: Spec = Spec { group: "hash", acl: Acl::HASH, since: "2.0.0", ..SPEC };
/// Key specs of a command that returns data of its hash.
pub(super) const READS: &[KeySpec] = &[key(1, access::RO | access::ACCESS)];
/// Key specs of a command that returns only figures about its hash.
pub(super) const ASKS: &[KeySpec] = &[key(1, access::RO)];
/// Key specs of a command that changes its hash.
pub(super) const UPDATES: &[KeySpec] = &[key(1, access::RW | access::UPDATE)];
/// Flags of a quick command that adds data.
pub(super) const ADDS: Flags = Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST);
/// Flags of a quick command that reads.
pub(super) const READS_FAST: Flags = Flags::READONLY.with(Flags::FAST);

/// A field was set.
pub(super) const HSET: Event = Event::new(class::HASH, "hset");
/// A field was removed by a command.
pub(super) const HDEL: Event = Event::new(class::HASH, "hdel");

const PER_FIELD: &str = "O(N) for N fields.";
const WHOLE: &str = "O(N) for N fields in the hash.";
const UNORDERED: &[&str] = &["nondeterministic_output_order"];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "hset",
            member: 2,
            arity: -4,
            flags: ADDS,
            keys: UPDATES,
            summary: "Sets fields of a hash; tells how many are new.",
            complexity: PER_FIELD,
            usage: "key field value [field value ...]",
            history: &[("4.0.0", "Accepts multiple `field` and `value` arguments.")],
            ..HASH
        },
        |ctx| {
            let created = set_fields(ctx)?;
            ctx.reply.len_int(created);
            Ok(Outcome::Done)
        },
    ),
    (
        Spec {
            name: "hmset",
            member: 2,
            arity: -4,
            flags: ADDS,
            keys: UPDATES,
            summary: "Sets fields of a hash.",
            complexity: PER_FIELD,
            usage: "key field value [field value ...]",
            deprecated: Some(Deprecated {
                since: "4.0.0",
                replaced_by: "`HSET` with multiple field-value pairs",
            }),
            ..HASH
        },
        |ctx| {
            set_fields(ctx)?;
            ctx.reply.ok();
            Ok(Outcome::Done)
        },
    ),
    (
        Spec {
            name: "hsetnx",
            member: 2,
            arity: 4,
            flags: ADDS,
            keys: &[key(1, access::RW | access::INSERT)],
            summary: "Sets a field of a hash only if it is not there.",
            usage: "key field value",
            ..HASH
        },
        hsetnx,
    ),
    (
        Spec {
            name: "hget",
            member: 2,
            arity: 3,
            flags: READS_FAST,
            keys: READS,
            summary: "Returns the value of a field.",
            usage: "key field",
            ..HASH
        },
        |ctx| {
            with_field(ctx, |value, reply| match value {
                Some(value) => value::reply(value, reply),
                None => reply.null(),
            })
        },
    ),
    (
        Spec {
            name: "hexists",
            member: 2,
            arity: 3,
            flags: READS_FAST,
            keys: ASKS,
            summary: "Tells whether a field is there.",
            usage: "key field",
            ..HASH
        },
        |ctx| with_field(ctx, |value, reply| reply.int(i64::from(value.is_some()))),
    ),
    (
        Spec {
            name: "hstrlen",
            member: 2,
            arity: 3,
            flags: READS_FAST,
            keys: ASKS,
            since: "3.2.0",
            summary: "Returns the length of a field's value.",
            usage: "key field",
            ..HASH
        },
        |ctx| with_field(ctx, |value, reply| reply.len_int(value.map_or(0, Value::len))),
    ),
    (
        Spec {
            name: "hmget",
            member: 2,
            arity: -3,
            flags: READS_FAST,
            keys: READS,
            summary: "Returns the values of some fields.",
            complexity: PER_FIELD,
            usage: "key field [field ...]",
            ..HASH
        },
        hmget,
    ),
    (
        Spec {
            name: "hdel",
            member: 2,
            arity: -3,
            flags: Flags::WRITE.with(Flags::FAST),
            keys: &[key(1, access::RW | access::DELETE)],
            summary: "Removes fields, and the hash with its last one.",
            complexity: PER_FIELD,
            usage: "key field [field ...]",
            history: &[("2.4.0", "Accepts multiple `field` arguments.")],
            ..HASH
        },
        hdel,
    ),
    (
        Spec {
            name: "hlen",
            arity: 2,
            flags: READS_FAST,
            keys: ASKS,
            summary: "Returns the number of fields.",
            usage: "key",
            ..HASH
        },
        hlen,
    ),
    (
        Spec {
            name: "hgetall",
            arity: 2,
            flags: Flags::READONLY,
            keys: READS,
            summary: "Returns all fields with their values.",
            complexity: WHOLE,
            usage: "key",
            tips: UNORDERED,
            ..HASH
        },
        hgetall,
    ),
    (
        Spec {
            name: "hkeys",
            arity: 2,
            flags: Flags::READONLY,
            keys: READS,
            summary: "Returns all fields.",
            complexity: WHOLE,
            usage: "key",
            tips: UNORDERED,
            ..HASH
        },
        |ctx| list(ctx, |item| item.field),
    ),
    (
        Spec {
            name: "hvals",
            arity: 2,
            flags: Flags::READONLY,
            keys: READS,
            summary: "Returns the values of all fields.",
            complexity: WHOLE,
            usage: "key",
            tips: UNORDERED,
            ..HASH
        },
        |ctx| list(ctx, |item| item.value),
    ),
];

// ---- changing ----

/// Lets `change` work on the hash of a key, which is made if it is not there, and keeps account of the
/// deadlines of its fields. WRONGTYPE comes before anything is changed.
#[inline]
pub(super) fn change_or_create<R>(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    change: impl FnOnce(&mut Entry, &hash::Limits) -> R,
) -> Result<R, CmdError> {
    let limits = Limits::from_config(ctx.config).hash;
    let (result, old, new);
    if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Hash)? {
        old = next_part_expiry(&entry);
        result = change(&mut entry, &limits);
        new = next_part_expiry(&entry);
    } else {
        let mut entry = ctx.ks.insert(ctx.db, key, Kind::Hash, hash::empty(), None);
        old = None;
        result = change(&mut entry, &limits);
        new = next_part_expiry(&entry);
    }
    if old != new {
        ctx.ks.parts_changed(ctx.db, key, old, new);
    }
    Ok(result)
}

/// The same for a hash that is there; `change` also says how many fields it removed or changed. A hash that
/// has become empty is removed; then the last value is true.
pub(super) fn change_existing<R>(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    change: impl FnOnce(&mut Entry, &hash::Limits) -> R,
) -> Result<Option<(R, bool)>, CmdError> {
    let limits = Limits::from_config(ctx.config).hash;
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Hash)? else { return Ok(None) };
    let old = next_part_expiry(&entry);
    let result = change(&mut entry, &limits);
    let (new, empty) = (next_part_expiry(&entry), hash::view(&entry, i64::MIN).is_empty());
    drop(entry);
    if old != new {
        ctx.ks.parts_changed(ctx.db, key, old, new);
    }
    if empty {
        ctx.ks.remove(ctx.db, key, Free::Server);
    }
    Ok(Some((result, empty)))
}

/// HSET and HMSET: sets all pairs from argument 2 on and says how many fields are new.
fn set_fields(ctx: &mut Ctx<'_>) -> Result<usize, CmdError> {
    let args = ctx.args;
    let (pairs, rest) = ((args.len() - 2) / 2, args.len() % 2);
    if rest != 0 {
        return Err(wrong_arity(ctx.name));
    }
    let key = ctx.key(1);
    let created = change_or_create(ctx, key, |entry, limits| {
        if pairs > 1 {
            hash::prepare(entry, limits, pairs, args.iter().skip(2));
        }
        let set = |i: &usize| hash::set(entry, limits, args.get(*i), args.get(i + 1), FieldTtl::Clear);
        (2..args.len()).step_by(2).filter(set).count()
    })?;
    ctx.ks.changed_by(ctx.db, key.bytes, HSET, pairs);
    Ok(created)
}

fn hsetnx(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, field, value) = (ctx.key(1), ctx.args.get(2), ctx.args.get(3));
    if find_for_change(ctx, key, field, |value| value.is_some())? {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    }
    change_or_create(ctx, key, |entry, limits| hash::set(entry, limits, field, value, FieldTtl::Clear))?;
    ctx.ks.changed(ctx.db, key.bytes, HSET);
    ctx.reply.int(1);
    Ok(Outcome::Done)
}

/// Looks at the value of a field that is about to be changed; one whose time is over is removed.
pub(super) fn find_for_change<R>(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    field: &[u8],
    look: impl FnOnce(Option<Value<'_>>) -> R,
) -> Result<R, CmdError> {
    let over_ms = ctx.over_ms();
    let Some(entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Hash)? else { return Ok(look(None)) };
    let hash = hash::view(&entry, over_ms);
    let (result, has_due) = (look(hash.get(field)), hash.has_due());
    drop(entry);
    if has_due {
        ctx.ks.expire_fields(ctx.db, key, [field]);
    }
    Ok(result)
}

fn hdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.key(1));
    let found = change_existing(ctx, key, |entry, _| {
        let mut removed = 0;
        for field in args.iter().skip(2) {
            removed += usize::from(hash::remove(entry, field));
            if removed > 0 && hash::view(entry, i64::MIN).is_empty() {
                break;
            }
        }
        removed
    })?;
    let (removed, empty) = found.unwrap_or((0, false));
    if removed > 0 {
        ctx.ks.changed_by(ctx.db, key.bytes, HDEL, removed);
        if empty {
            ctx.ks.also(ctx.db, key.bytes, event::DEL);
        }
    }
    ctx.reply.len_int(removed);
    Ok(Outcome::Done)
}

// ---- reading ----

/// Answers about the field of argument 2; one whose time is over is not there, and is removed.
#[inline]
fn with_field(ctx: &mut Ctx<'_>, answer: impl FnOnce(Option<Value<'_>>, &mut Reply)) -> CmdResult {
    let (over_ms, key, field) = (ctx.over_ms(), ctx.key(1), ctx.args.get(2));
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)? else {
        answer(None, ctx.reply);
        return Ok(Outcome::Done);
    };
    let hash = hash::view(&entry, over_ms);
    let value = hash.get(field);
    let due = value.is_none() && hash.has_due();
    answer(value, ctx.reply);
    drop(entry);
    if due {
        ctx.ks.expire_fields(ctx.db, key, [field]);
    }
    Ok(Outcome::Done)
}

fn hmget(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, over_ms, key) = (ctx.args, ctx.over_ms(), ctx.key(1));
    let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)?;
    let hash = entry.as_ref().map(|entry| hash::view(entry, over_ms));
    ctx.reply.array(args.len() - 2);
    for field in args.iter().skip(2) {
        match hash.and_then(|hash| hash.get(field)) {
            Some(value) => value::reply(value, ctx.reply),
            None => ctx.reply.null(),
        }
    }
    let has_due = hash.is_some_and(|hash| hash.has_due());
    drop(entry);
    if has_due {
        ctx.ks.expire_fields(ctx.db, key, args.iter().skip(2));
    }
    Ok(Outcome::Done)
}

fn hlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)?;
    ctx.reply.len_int(entry.map_or(0, |entry| hash::view(&entry, i64::MIN).len()));
    Ok(Outcome::Done)
}

fn hgetall(ctx: &mut Ctx<'_>) -> CmdResult {
    let (over_ms, key) = (ctx.over_ms(), ctx.key(1));
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)? else {
        ctx.reply.map(0);
        return Ok(Outcome::Done);
    };
    let hash = hash::view(&entry, over_ms);
    ctx.reply.map(hash.live_len());
    for item in hash.iter() {
        value::reply(item.field, ctx.reply);
        value::reply(item.value, ctx.reply);
    }
    Ok(Outcome::Done)
}

/// HKEYS and HVALS.
fn list(ctx: &mut Ctx<'_>, part: impl Fn(hash::Item<'_>) -> Value<'_>) -> CmdResult {
    let (over_ms, key) = (ctx.over_ms(), ctx.key(1));
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Hash)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let hash = hash::view(&entry, over_ms);
    ctx.reply.array(hash.live_len());
    hash.iter().for_each(|item| value::reply(part(item), ctx.reply));
    Ok(Outcome::Done)
}
