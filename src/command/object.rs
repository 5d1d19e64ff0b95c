//! OBJECT: how a value is kept, and how long ago and how often it was used. Looking leaves no trace.

use super::error::{CmdError, CmdResult};
use super::spec::{Acl, Flags, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome};
use crate::collections::entry::Payload;
use crate::config::MaxmemoryPolicy;
use crate::keyspace::access::Policy;
use crate::value::{Entry, encoding};

const LOOK: Spec = Spec {
    arity: 3,
    flags: Flags::READONLY,
    acl: Acl::KEYSPACE,
    keys: &[key(2, access::RO)],
    since: "2.2.3",
    usage: "key",
    tips: &["nondeterministic_output"],
    ..SPEC
};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "object",
            arity: -2,
            flags: Flags::CONTAINER,
            since: "2.2.3",
            summary: "Looks at how values are kept.",
            complexity: "Depends on subcommand.",
            ..SPEC
        },
        super::container,
    ),
    (
        Spec { name: "object|encoding", summary: "Returns the name of a value's encoding.", ..LOOK },
        object_encoding,
    ),
    (
        Spec { name: "object|refcount", summary: "Returns the number of references to a value.", ..LOOK },
        object_refcount,
    ),
    (
        Spec { name: "object|idletime", summary: "Returns the seconds since a key was last used.", ..LOOK },
        object_idletime,
    ),
    (
        Spec {
            name: "object|freq",
            since: "4.0.0",
            summary: "Returns the logarithmic counter of a key's uses.",
            ..LOOK
        },
        object_freq,
    ),
    (
        Spec {
            name: "object|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            acl: Acl::KEYSPACE,
            since: "6.2.0",
            summary: "Describes the subcommands.",
            ..SPEC
        },
        object_help,
    ),
];

/// IDLETIME while entries count uses.
const NO_IDLE_TIME: CmdError = CmdError::new(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
     policies at runtime LRU and LFU data will take some time to adjust.",
);
/// FREQ while entries hold the time of their last use.
const NO_FREQUENCY: CmdError = CmdError::new(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

/// Answers with what `look` finds out, or null.
fn look<T>(ctx: &mut Ctx<'_>, look: impl FnOnce(&Entry) -> T) -> Option<T> {
    let key = ctx.key(2);
    let found = ctx.ks.inspect(ctx.db, key).map(|entry| look(&entry));
    if found.is_none() {
        ctx.reply.null();
    }
    found
}

fn object_encoding(ctx: &mut Ctx<'_>) -> CmdResult {
    if let Some(name) = look(ctx, encoding) {
        ctx.reply.bulk_str(name);
    }
    Ok(Outcome::Done)
}

/// The reference count of a value that is shared by all keys that have it.
const SHARED: i64 = i32::MAX as i64;
/// Integers below this are shared, in Redis' terms: there as here they cost no memory of their own.
const SHARED_INTEGERS: i64 = 10_000;

fn object_refcount(ctx: &mut Ctx<'_>) -> CmdResult {
    use MaxmemoryPolicy::{AllkeysLfu, AllkeysLru, VolatileLfu, VolatileLru};
    let is_small =
        |entry: &Entry| matches!(entry.payload(), Payload::Int(n) if (0..SHARED_INTEGERS).contains(&n));
    // What is shared has no age of its own, so nothing is where ages decide what is evicted.
    let ages = matches!(ctx.config.maxmemory_policy, AllkeysLfu | AllkeysLru | VolatileLfu | VolatileLru);
    let shared = ctx.config.maxmemory == 0 || !ages;
    if let Some(count) = look(ctx, |entry| if shared && is_small(entry) { SHARED } else { 1 }) {
        ctx.reply.int(count);
    }
    Ok(Outcome::Done)
}

fn object_idletime(ctx: &mut Ctx<'_>) -> CmdResult {
    if let Some(clock) = look(ctx, Entry::clock) {
        if ctx.ks.access.policy != Policy::Lru {
            return Err(NO_IDLE_TIME);
        }
        ctx.reply.int(i64::from(ctx.ks.access.idle_seconds(clock)));
    }
    Ok(Outcome::Done)
}

fn object_freq(ctx: &mut Ctx<'_>) -> CmdResult {
    if let Some(clock) = look(ctx, Entry::clock) {
        if ctx.ks.access.policy == Policy::Lru {
            return Err(NO_FREQUENCY);
        }
        ctx.reply.int(i64::from(ctx.ks.access.frequency(clock)));
    }
    Ok(Outcome::Done)
}

fn object_help(ctx: &mut Ctx<'_>) -> CmdResult {
    super::help(
        ctx.reply,
        "OBJECT",
        &[
            "ENCODING <key>",
            "    Name the form in which the value of <key> is kept in memory.",
            "FREQ <key>",
            "    Tell the use counter of <key>, which grows with the logarithm of its uses.",
            "IDLETIME <key>",
            "    Tell how many seconds ago <key> was used last.",
            "REFCOUNT <key>",
            "    Tell how many references there are to the value of <key>.",
        ],
    );
    Ok(Outcome::Done)
}
