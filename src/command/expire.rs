//! Commands on the expiry of keys. Relative times propagate as absolute ones, so that a log replayed later
//! gives the same deadlines.

use super::args;
use super::error::{CmdError, CmdResult, invalid_expire};
use super::spec::{Acl, Flags, KeySpec, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Expiry, Free};

const EXPIRE: Event = Event::new(class::GENERIC, "expire");
const PERSIST: Event = Event::new(class::GENERIC, "persist");

/// The reply of TTL and its like for a key without expiry.
const NO_EXPIRY: i64 = -1;
/// The reply of TTL and its like for a key that does not exist.
const NO_KEY: i64 = -2;

const SETS: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.with(Flags::FAST),
    acl: Acl::KEYSPACE,
    keys: &[key(1, access::RW | access::UPDATE)],
    history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
    ..SPEC
};
const ASKED_KEY: &[KeySpec] = &[key(1, access::RO | access::ACCESS)];
const ASKS: Spec = Spec {
    arity: 2,
    flags: Flags::READONLY.with(Flags::FAST),
    acl: Acl::KEYSPACE,
    keys: ASKED_KEY,
    usage: "key",
    ..SPEC
};
const ASKS_REMAINING: Spec =
    Spec { tips: &["nondeterministic_output"], history: &[("2.8.0", "Added the -2 reply.")], ..ASKS };

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "expire",
            summary: "Sets the time to live of a key in seconds.",
            usage: "key seconds [NX | XX | GT | LT]",
            ..SETS
        },
        |ctx| expire(ctx, Unit::Seconds, Base::Now),
    ),
    (
        Spec {
            name: "pexpire",
            since: "2.6.0",
            summary: "Sets the time to live of a key in milliseconds.",
            usage: "key milliseconds [NX | XX | GT | LT]",
            ..SETS
        },
        |ctx| expire(ctx, Unit::Milliseconds, Base::Now),
    ),
    (
        Spec {
            name: "expireat",
            since: "1.2.0",
            summary: "Sets the Unix time in seconds at which a key expires.",
            usage: "key unix-time-seconds [NX | XX | GT | LT]",
            ..SETS
        },
        |ctx| expire(ctx, Unit::Seconds, Base::Epoch),
    ),
    (
        Spec {
            name: "pexpireat",
            since: "2.6.0",
            summary: "Sets the Unix time in milliseconds at which a key expires.",
            usage: "key unix-time-milliseconds [NX | XX | GT | LT]",
            ..SETS
        },
        |ctx| expire(ctx, Unit::Milliseconds, Base::Epoch),
    ),
    (
        Spec {
            name: "persist",
            arity: 2,
            flags: Flags::WRITE.with(Flags::FAST),
            acl: Acl::KEYSPACE,
            keys: &[key(1, access::RW | access::UPDATE)],
            since: "2.2.0",
            summary: "Removes the expiry of a key.",
            usage: "key",
            ..SPEC
        },
        persist,
    ),
    (
        Spec { name: "ttl", summary: "Returns the time to live of a key in seconds.", ..ASKS_REMAINING },
        |ctx| deadline(ctx, Unit::Seconds, Base::Now),
    ),
    (
        Spec {
            name: "pttl",
            since: "2.6.0",
            summary: "Returns the time to live of a key in milliseconds.",
            ..ASKS_REMAINING
        },
        |ctx| deadline(ctx, Unit::Milliseconds, Base::Now),
    ),
    (
        Spec {
            name: "expiretime",
            since: "7.0.0",
            summary: "Returns the Unix time in seconds at which a key expires.",
            ..ASKS
        },
        |ctx| deadline(ctx, Unit::Seconds, Base::Epoch),
    ),
    (
        Spec {
            name: "pexpiretime",
            since: "7.0.0",
            summary: "Returns the Unix time in milliseconds at which a key expires.",
            ..ASKS
        },
        |ctx| deadline(ctx, Unit::Milliseconds, Base::Epoch),
    ),
];

/// What a time is counted in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// What a time is counted from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Now,
    Epoch,
}

/// When EXPIRE may set: all of these hold.
#[derive(Clone, Copy, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(ctx: &Ctx<'_>) -> Result<Conditions, CmdError> {
        let mut set = Conditions::default();
        for option in ctx.args.iter().skip(3) {
            let flags = [("nx", &mut set.nx), ("xx", &mut set.xx), ("gt", &mut set.gt), ("lt", &mut set.lt)];
            let Some((_, flag)) = flags.into_iter().find(|(word, _)| args::is(option, word)) else {
                let mut text = b"ERR Unsupported option ".to_vec();
                text.extend_from_slice(option);
                return Err(CmdError::text(text));
            };
            *flag = true;
        }
        if set.nx && (set.xx || set.gt || set.lt) {
            return Err(NX_WITH_OTHERS);
        }
        if set.gt && set.lt {
            return Err(GT_WITH_LT);
        }
        Ok(set)
    }

    /// Whether a key with expiry `old` may get `new`. No expiry counts as one that is never over.
    fn hold(self, old: Option<i64>, new: i64) -> bool {
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old.is_none_or(|old| new <= old)
            || self.lt && old.is_some_and(|old| new >= old))
    }
}

/// NX excludes the conditions that need an expiry.
const NX_WITH_OTHERS: CmdError =
    CmdError::new("ERR NX and XX, GT or LT options at the same time are not compatible");
/// GT and LT exclude each other.
const GT_WITH_LT: CmdError = CmdError::new("ERR GT and LT options at the same time are not compatible");

fn expire(ctx: &mut Ctx<'_>, unit: Unit, base: Base) -> CmdResult {
    let conditions = Conditions::parse(ctx)?;
    let given = ctx.int(2)?;
    let ms = if unit == Unit::Seconds { given.checked_mul(1000) } else { Some(given) };
    let base_ms = if base == Base::Now { ctx.now_ms() } else { 0 };
    let at = ms.and_then(|ms| ms.checked_add(base_ms)).ok_or_else(|| invalid_expire(ctx.name))?;
    let (db, key) = (ctx.db, ctx.key(1));
    let Some(entry) = ctx.ks.write(db, key) else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    if !conditions.hold(entry.expiry(), at) {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    }
    drop(entry);
    // A time that has passed removes the key, unless expiry is somebody else's to decide (a log is
    // replayed, a primary will send the removal).
    if at <= ctx.now_ms() && ctx.ks.expiry == Expiry::Remove {
        ctx.ks.remove(db, key, Free::Expired);
        ctx.ks.changed(db, key.bytes, event::DEL);
        let command = ctx.ks.expire_command();
        ctx.propagate_as(&[command, key.bytes]);
    } else {
        ctx.ks.set_expiry(db, key, Some(at));
        ctx.ks.changed(db, key.bytes, EXPIRE);
        let mut digits = itoa::Buffer::new();
        let mut argv: Vec<&[u8]> = vec![b"PEXPIREAT", key.bytes, digits.format(at).as_bytes()];
        argv.extend(ctx.args.iter().skip(3));
        ctx.propagate_as(&argv);
    }
    ctx.reply.int(1);
    Ok(Outcome::Done)
}

fn persist(ctx: &mut Ctx<'_>) -> CmdResult {
    let (db, key) = (ctx.db, ctx.key(1));
    let volatile = ctx.ks.write(db, key).is_some_and(|entry| entry.expiry().is_some());
    if volatile {
        ctx.ks.set_expiry(db, key, None);
        ctx.ks.changed(db, key.bytes, PERSIST);
    }
    ctx.reply.int(i64::from(volatile));
    Ok(Outcome::Done)
}

/// TTL and EXPIRETIME in both units.
fn deadline(ctx: &mut Ctx<'_>, unit: Unit, base: Base) -> CmdResult {
    let (now_ms, key) = (ctx.now_ms(), ctx.key(1));
    let found = ctx.ks.read_untouched(ctx.db, key).map(|entry| entry.expiry());
    let answer = match found {
        None => NO_KEY,
        Some(None) => NO_EXPIRY,
        Some(Some(at)) => {
            let ms = if base == Base::Now { at.saturating_sub(now_ms) } else { at }.max(0);
            if unit == Unit::Seconds { ms.saturating_add(500) / 1000 } else { ms }
        }
    };
    ctx.reply.int(answer);
    Ok(Outcome::Done)
}
