//! The set commands on members of one set, and SMOVE. Sets with each other are in `set_algebra`.

use super::args::{Cursor, int};
use super::error::{self, CmdError, CmdResult};
use super::hash_more::{random_count, repeated_count};
use super::scan::{ScanOptions, Scanned, empty_scan, parse_cursor, reply_scan};
use super::spec::{Acl, Flags, KeySpec, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome, Propagate, of_kind};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key};
use crate::resp::OwnedArgs;
use crate::value::set::{self, Probe};
use crate::value::{self, Digits, Entry, Kind, Limits, Value};

/// What all set commands share.
pub(super) const SET: Spec = Spec { group: "set", acl: Acl::SET, ..SPEC };

const SADD: Event = Event::new(class::SET, "sadd");
const SREM: Event = Event::new(class::SET, "srem");
const SPOP: Event = Event::new(class::SET, "spop");

const READS: &[KeySpec] = &[key(1, access::RO | access::ACCESS)];
const ASKS: &[KeySpec] = &[key(1, access::RO)];
const READS_FAST: Flags = Flags::READONLY.with(Flags::FAST);
const WRITES_FAST: Flags = Flags::WRITE.with(Flags::FAST);
const PER_MEMBER: &str = "O(N) for N members named.";

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "sadd",
            member: 2,
            arity: -3,
            flags: WRITES_FAST.with(Flags::DENYOOM),
            keys: &[key(1, access::RW | access::INSERT)],
            summary: "Adds members to a set; tells how many are new.",
            complexity: PER_MEMBER,
            usage: "key member [member ...]",
            history: &[("2.4.0", "Accepts multiple `member` arguments.")],
            ..SET
        },
        sadd,
    ),
    (
        Spec {
            name: "srem",
            member: 2,
            arity: -3,
            flags: WRITES_FAST,
            keys: &[key(1, access::RW | access::DELETE)],
            summary: "Removes members, and the set with its last one.",
            complexity: PER_MEMBER,
            usage: "key member [member ...]",
            history: &[("2.4.0", "Accepts multiple `member` arguments.")],
            ..SET
        },
        srem,
    ),
    (
        Spec {
            name: "smove",
            arity: 4,
            flags: WRITES_FAST,
            keys: &[
                key(1, access::RW | access::ACCESS | access::DELETE),
                key(2, access::RW | access::INSERT),
            ],
            summary: "Moves a member from one set to another.",
            usage: "source destination member",
            ..SET
        },
        smove,
    ),
    (
        Spec {
            name: "sismember",
            member: 2,
            arity: 3,
            flags: READS_FAST,
            keys: ASKS,
            summary: "Tells whether something is a member.",
            usage: "key member",
            ..SET
        },
        |ctx| {
            let (key, member) = (ctx.key(1), Probe::new(ctx.args.get(2)));
            let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Set)?;
            ctx.reply.int(entry.map_or(0, |entry| i64::from(set::view(&entry).contains(&member))));
            Ok(Outcome::Done)
        },
    ),
    (
        Spec {
            name: "smismember",
            member: 2,
            arity: -3,
            flags: READS_FAST,
            keys: READS,
            since: "6.2.0",
            summary: "Tells of each of some things whether it is a member.",
            complexity: PER_MEMBER,
            usage: "key member [member ...]",
            ..SET
        },
        smismember,
    ),
    (
        Spec {
            name: "scard",
            arity: 2,
            flags: READS_FAST,
            keys: ASKS,
            summary: "Returns the number of members.",
            usage: "key",
            ..SET
        },
        |ctx| {
            let key = ctx.key(1);
            let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Set)?;
            ctx.reply.len_int(entry.map_or(0, |entry| set::view(&entry).len()));
            Ok(Outcome::Done)
        },
    ),
    (
        Spec {
            name: "smembers",
            arity: 2,
            flags: Flags::READONLY,
            keys: READS,
            summary: "Returns all members.",
            complexity: "O(N) for N members of the set.",
            usage: "key",
            tips: &["nondeterministic_output_order"],
            ..SET
        },
        smembers,
    ),
    (
        Spec {
            name: "srandmember",
            arity: -2,
            flags: Flags::READONLY,
            keys: READS,
            summary: "Returns random members.",
            complexity: "O(N) for N members returned.",
            usage: "key [count]",
            tips: &["nondeterministic_output"],
            history: &[("2.6.0", "Added the optional `count` argument.")],
            ..SET
        },
        srandmember,
    ),
    (
        Spec {
            name: "spop",
            arity: -2,
            flags: WRITES_FAST,
            keys: &[key(1, access::RW | access::ACCESS | access::DELETE)],
            summary: "Takes random members out of a set.",
            complexity: "O(N) for N members taken.",
            usage: "key [count]",
            tips: &["nondeterministic_output"],
            history: &[("3.2.0", "Added the `count` argument.")],
            ..SET
        },
        spop,
    ),
    (
        Spec {
            name: "sscan",
            arity: -3,
            flags: Flags::READONLY,
            keys: READS,
            since: "2.8.0",
            summary: "Walks over the members of a set, some at a time.",
            complexity: "O(1) a call; O(N) for the whole walk over N members.",
            usage: "key cursor [MATCH pattern] [COUNT count]",
            tips: &["nondeterministic_output"],
            ..SET
        },
        sscan,
    ),
];

// ---- changing ----

/// Lets `change` work on the set of a key, which is made if it is not there.
#[inline]
fn change_or_create<R>(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    change: impl FnOnce(&mut Entry, bool) -> R,
) -> Result<R, CmdError> {
    if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Set)? {
        return Ok(change(&mut entry, false));
    }
    let mut entry = ctx.ks.insert(ctx.db, key, Kind::Set, set::empty(), None);
    Ok(change(&mut entry, true))
}

fn sadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.key(1));
    let limits = Limits::from_config(ctx.config).set;
    let add_all = |entry: &mut Entry, is_new: bool| {
        if is_new || args.len() > 3 {
            set::prepare(entry, &limits, args.get(2), args.len() - 2);
        }
        let add = |member: &&[u8]| set::add(entry, &limits, &Probe::new(member));
        args.iter().skip(2).filter(add).count()
    };
    let added = change_or_create(ctx, key, add_all)?;
    if added > 0 {
        ctx.ks.changed_by(ctx.db, key.bytes, SADD, added);
    }
    ctx.reply.len_int(added);
    Ok(Outcome::Done)
}

fn srem(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.key(1));
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Set)? else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    let (mut removed, mut empty) = (0, false);
    for member in args.iter().skip(2) {
        if set::remove(&mut entry, &Probe::new(member)) {
            removed += 1;
            empty = set::view(&entry).is_empty();
            if empty {
                break;
            }
        }
    }
    drop(entry);
    if removed > 0 {
        ctx.ks.changed_by(ctx.db, key.bytes, SREM, removed);
        remove_if_empty(ctx, key, empty);
    }
    ctx.reply.len_int(removed);
    Ok(Outcome::Done)
}

/// Removes a set of nothing; its change is reported already.
fn remove_if_empty(ctx: &mut Ctx<'_>, key: Key<'_>, empty: bool) {
    if empty {
        ctx.ks.remove(ctx.db, key, Free::Server);
        ctx.ks.also(ctx.db, key.bytes, event::DEL);
    }
}

fn smove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (from, to) = (ctx.key(1), ctx.key(2));
    let member = Probe::new(ctx.args.get(3));
    let limits = Limits::from_config(ctx.config).set;
    let moved = match of_kind(ctx.ks.write(ctx.db, from), Kind::Set)? {
        None => false,
        Some(entry) => set::view(&entry).contains(&member),
    };
    let found = ctx.ks.exists(ctx.db, from);
    if found {
        of_kind(ctx.ks.write(ctx.db, to), Kind::Set)?;
    }
    ctx.reply.int(i64::from(moved));
    if !moved || from.bytes == to.bytes {
        return Ok(Outcome::Done);
    }
    let mut entry = ctx.ks.write(ctx.db, from).expect("the source was just seen");
    set::remove(&mut entry, &member);
    let empty = set::view(&entry).is_empty();
    drop(entry);
    ctx.ks.changed(ctx.db, from.bytes, SREM);
    remove_if_empty(ctx, from, empty);
    let added = change_or_create(ctx, to, |entry, is_new| {
        if is_new {
            set::prepare(entry, &limits, member.bytes(), 1);
        }
        set::add(entry, &limits, &member)
    })?;
    if added {
        ctx.ks.changed(ctx.db, to.bytes, SADD);
    }
    Ok(Outcome::Done)
}

// ---- taking out ----

/// Members that one propagated SREM names at most.
const SREM_BATCH: usize = 1024;

fn spop(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    if ctx.args.len() > 2 {
        return spop_many(ctx, key);
    }
    let mut rng = ctx.ks.rng.clone();
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Set)? else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    let mut popped = Vec::new();
    set::pop(&mut entry, &mut rng, &mut |member| {
        value::reply(member, ctx.reply);
        popped = member.to_vec();
    });
    let empty = set::view(&entry).is_empty();
    drop(entry);
    ctx.ks.rng = rng;
    ctx.ks.changed(ctx.db, key.bytes, SPOP);
    remove_if_empty(ctx, key, empty);
    ctx.propagate_as(&[b"SREM", key.bytes, &popped]);
    Ok(Outcome::Done)
}

fn spop_many(ctx: &mut Ctx<'_>, key: Key<'_>) -> CmdResult {
    if ctx.args.len() > 3 {
        return Err(error::SYNTAX);
    }
    let count = int(ctx.args.get(2)).ok().and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(error::OUT_OF_RANGE_POSITIVE)?;
    let mut rng = ctx.ks.rng.clone();
    let found = of_kind(ctx.ks.write(ctx.db, key), Kind::Set)?;
    let Some(mut entry) = found.filter(|_| count > 0) else {
        ctx.reply.set(0);
        return Ok(Outcome::Done);
    };
    let len = set::view(&entry).len();
    if count >= len {
        ctx.reply.set(len);
        set::view(&entry).iter().for_each(|member| value::reply(member, ctx.reply));
        drop(entry);
        ctx.ks.changed_by(ctx.db, key.bytes, SPOP, len);
        remove_if_empty(ctx, key, true);
        let command: &[u8] = if ctx.ks.lazy_free.server_del { b"UNLINK" } else { b"DEL" };
        ctx.propagate_as(&[command, key.bytes]);
        return Ok(Outcome::Done);
    }
    let mut popped: Vec<Vec<u8>> = Vec::with_capacity(count);
    ctx.reply.set(count);
    set::view(&entry).sample(count, &mut rng, &mut |member| {
        value::reply(member, ctx.reply);
        popped.push(member.to_vec());
    });
    for member in &popped {
        set::remove(&mut entry, &Probe::new(member));
    }
    drop(entry);
    ctx.ks.rng = rng;
    ctx.ks.changed_by(ctx.db, key.bytes, SPOP, count);
    if ctx.propagating() {
        let removals = popped.chunks(SREM_BATCH).map(|members| {
            let mut args = OwnedArgs::from_slices(&[b"SREM", key.bytes]);
            members.iter().for_each(|member| args.push(member));
            args
        });
        ctx.propagate = Propagate::As(removals.collect());
    }
    Ok(Outcome::Done)
}

// ---- reading ----

fn smismember(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.key(1));
    let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Set)?;
    let set = entry.as_ref().map(|entry| set::view(entry));
    ctx.reply.array(args.len() - 2);
    for member in args.iter().skip(2) {
        let is_member = set.is_some_and(|set| set.contains(&Probe::new(member)));
        ctx.reply.int(i64::from(is_member));
    }
    Ok(Outcome::Done)
}

fn smembers(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Set)? else {
        ctx.reply.set(0);
        return Ok(Outcome::Done);
    };
    ctx.reply.set(set::view(&entry).len());
    set::view(&entry).iter().for_each(|member| value::reply(member, ctx.reply));
    Ok(Outcome::Done)
}

fn parse_count(ctx: &Ctx<'_>) -> Result<Option<i64>, CmdError> {
    let mut cursor = Cursor::new(ctx.args, 2);
    if cursor.is_done() {
        return Ok(None);
    }
    if cursor.left() > 1 {
        return Err(error::SYNTAX);
    }
    random_count(cursor.take()?).map(Some)
}

fn srandmember(ctx: &mut Ctx<'_>) -> CmdResult {
    let (count, key) = (parse_count(ctx)?, ctx.key(1));
    let (mut rng, bytes_max) = (ctx.ks.rng.clone(), ctx.reply_bytes_max());
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Set)? else {
        match count {
            None => ctx.reply.null(),
            Some(_) => ctx.reply.array(0),
        }
        return Ok(Outcome::Done);
    };
    let set = set::view(&entry);
    let one = |rng: &mut _| set.random(rng).expect("a set is not empty");
    match count {
        None => value::reply(one(&mut rng), ctx.reply),
        Some(count @ 0..) => {
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(set.len());
            ctx.reply.array(count);
            set.sample(count, &mut rng, &mut |member| value::reply(member, ctx.reply));
        }
        Some(count) => {
            let picks = repeated_count(count)?;
            ctx.reply.array(picks);
            for _ in 0..picks {
                if ctx.reply.pending_bytes() > bytes_max {
                    break;
                }
                value::reply(one(&mut rng), ctx.reply);
            }
        }
    }
    drop(entry);
    ctx.ks.rng = rng;
    Ok(Outcome::Done)
}

fn sscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let (cursor, key) = (parse_cursor(ctx.args.get(2))?, ctx.key(1));
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::Set)? else {
        empty_scan(ctx.reply);
        return Ok(Outcome::Done);
    };
    let options = ScanOptions::parse(ctx.args, 3, Scanned::Elements)?;
    reply_scan(ctx.reply, |reply| {
        let mut found = 0;
        let wants = |member: Value<'_>| options.wants(member.bytes(&mut Digits::default()));
        let next = set::view(&entry).scan(cursor, options.count, &mut |member| {
            if wants(member) {
                value::reply(member, reply);
                found += 1;
            }
        });
        (next, found)
    });
    Ok(Outcome::Done)
}
