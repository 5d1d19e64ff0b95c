//! String commands.

use super::error::{self, CmdError, CmdResult, invalid_expire};
use super::spec::{Acl, Flags, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome};
use crate::command::args::Cursor;
use crate::keyspace::Ttl;
use crate::keyspace::change::{Event, class};
use crate::value::string::{self, Digits};
use crate::value::{Kind, kind};

const SET_EVENT: Event = Event::new(class::STRING, "set");
const EXPIRE_EVENT: Event = Event::new(class::GENERIC, "expire");

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "get",
            arity: 2,
            flags: Flags::READONLY.with(Flags::FAST),
            acl: Acl::STRING,
            keys: &[key(1, access::RO | access::ACCESS)],
            group: "string",
            summary: "Returns the string value of a key.",
            usage: "key",
            ..SPEC
        },
        get,
    ),
    (
        Spec {
            name: "set",
            arity: -3,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            acl: Acl::STRING,
            keys: &[key(1, access::RW | access::ACCESS | access::UPDATE | access::VARIABLE_FLAGS)],
            group: "string",
            summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
            usage: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
                    PXAT unix-time-milliseconds | KEEPTTL]",
            ..SPEC
        },
        set,
    ),
];

fn get(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let Some(entry) = ctx.ks.read(ctx.db, key) else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    if kind(&entry) != Kind::String {
        return Err(error::WRONG_TYPE);
    }
    string::reply(&entry, ctx.reply);
    Ok(Outcome::Done)
}

/// When SET may set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// The options of SET.
struct SetOptions {
    condition: Condition,
    get: bool,
    ttl: Ttl,
}

fn set(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = parse_set_options(ctx)?;
    let key = ctx.key(1);
    if (options.condition != Condition::Always || options.get) && !may_set(ctx, key, &options)? {
        return Ok(Outcome::Done);
    }
    let payload = string::payload(ctx.args.get(2), ctx.args.blob(2));
    ctx.ks.set(ctx.db, key, Kind::String, payload, options.ttl);
    ctx.ks.changed(ctx.db, key.bytes, SET_EVENT);
    if let Ttl::At(_) = options.ttl {
        ctx.ks.also(ctx.db, key.bytes, EXPIRE_EVENT);
    }
    if !options.get {
        ctx.reply.ok();
    }
    Ok(Outcome::Done)
}

/// Looks at the old value: answers it for GET, and says whether the condition holds. Without GET a failed
/// condition is answered here.
fn may_set(ctx: &mut Ctx<'_>, key: crate::keyspace::Key<'_>, options: &SetOptions) -> Result<bool, CmdError> {
    let entry = if options.get { ctx.ks.read(ctx.db, key) } else { ctx.ks.write(ctx.db, key) };
    let exists = entry.is_some();
    if options.get {
        match entry {
            Some(entry) if kind(&entry) != Kind::String => return Err(error::WRONG_TYPE),
            Some(entry) => string::reply(&entry, ctx.reply),
            None => ctx.reply.null(),
        }
    }
    let holds = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => !exists,
        Condition::IfPresent => exists,
    };
    if !holds && !options.get {
        ctx.reply.null();
    }
    Ok(holds)
}

fn parse_set_options(ctx: &Ctx<'_>) -> Result<SetOptions, CmdError> {
    let mut options = SetOptions { condition: Condition::Always, get: false, ttl: Ttl::Clear };
    let mut cursor = Cursor::new(ctx.args, 3);
    while !cursor.is_done() {
        if cursor.word("nx") && options.condition != Condition::IfPresent {
            options.condition = Condition::IfAbsent;
        } else if cursor.word("xx") && options.condition != Condition::IfAbsent {
            options.condition = Condition::IfPresent;
        } else if cursor.word("get") {
            options.get = true;
        } else if options.ttl == Ttl::Clear {
            options.ttl = parse_ttl(ctx, &mut cursor)?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(options)
}

fn parse_ttl(ctx: &Ctx<'_>, cursor: &mut Cursor<'_>) -> Result<Ttl, CmdError> {
    if cursor.word("keepttl") {
        return Ok(Ttl::Keep);
    }
    let (unit_ms, base_ms) = match () {
        () if cursor.word("ex") => (1000, ctx.now_ms()),
        () if cursor.word("px") => (1, ctx.now_ms()),
        () if cursor.word("exat") => (1000, 0),
        () if cursor.word("pxat") => (1, 0),
        () => return Err(error::SYNTAX),
    };
    let n = cursor.int()?;
    let at = n.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base_ms)).filter(|_| n > 0);
    at.map(Ttl::At).ok_or_else(|| invalid_expire(ctx.name))
}

/// Keeps the helper in sight of the families to come.
pub fn with_digits<R>(f: impl FnOnce(&mut Digits) -> R) -> R {
    f(&mut Digits::default())
}
