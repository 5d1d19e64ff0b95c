//! Commands on keys of any type: DEL, EXISTS, RENAME, COPY, MOVE and their like. What they say about
//! expiry is in `expire`, walking over keys in `scan`, whole databases in `database`.

use super::args::{Cursor, db_index};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Acl, Flags, SPEC, Spec, access, key, range};
use super::{Ctx, DataFn, Outcome};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key};
use crate::value::kind;

const RENAME_FROM: Event = Event::new(class::GENERIC, "rename_from");
const RENAME_TO: Event = Event::new(class::GENERIC, "rename_to");
const MOVE_FROM: Event = Event::new(class::GENERIC, "move_from");
const MOVE_TO: Event = Event::new(class::GENERIC, "move_to");
const COPY_TO: Event = Event::new(class::GENERIC, "copy_to");

/// A count over the keys of several shards is the sum of the shards' replies.
const SUMMED: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const READ_FAST: Flags = Flags::READONLY.with(Flags::FAST);

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "del",
            arity: -2,
            flags: Flags::WRITE,
            acl: Acl::KEYSPACE,
            keys: &[range(1, -1, 1, access::RM | access::DELETE)],
            summary: "Deletes one or more keys.",
            complexity: "O(N) for N keys; a key with M elements counts as M.",
            usage: "key [key ...]",
            tips: SUMMED,
            ..SPEC
        },
        del,
    ),
    (
        Spec {
            name: "unlink",
            arity: -2,
            flags: Flags::WRITE.with(Flags::FAST),
            acl: Acl::KEYSPACE,
            keys: &[range(1, -1, 1, access::RM | access::DELETE)],
            since: "4.0.0",
            summary: "Deletes one or more keys; big values are freed by another thread.",
            complexity: "O(1) for each key, and O(M) in another thread for a value of M elements.",
            usage: "key [key ...]",
            tips: SUMMED,
            ..SPEC
        },
        unlink,
    ),
    (
        Spec {
            name: "exists",
            arity: -2,
            flags: READ_FAST,
            acl: Acl::KEYSPACE,
            keys: &[range(1, -1, 1, access::RO)],
            summary: "Counts how many of the keys exist.",
            complexity: "O(N) for N keys.",
            usage: "key [key ...]",
            tips: SUMMED,
            history: &[("3.0.3", "Accepts multiple `key` arguments.")],
            ..SPEC
        },
        exists,
    ),
    (
        Spec {
            name: "touch",
            arity: -2,
            flags: READ_FAST,
            acl: Acl::KEYSPACE,
            keys: &[range(1, -1, 1, access::RO)],
            since: "3.2.1",
            summary: "Counts how many of the keys exist and makes their last access now.",
            complexity: "O(N) for N keys.",
            usage: "key [key ...]",
            tips: SUMMED,
            ..SPEC
        },
        touch,
    ),
    (
        Spec {
            name: "type",
            arity: 2,
            flags: READ_FAST,
            acl: Acl::KEYSPACE,
            keys: &[key(1, access::RO)],
            summary: "Returns the type of the value at a key.",
            usage: "key",
            ..SPEC
        },
        type_of,
    ),
    (
        Spec {
            name: "rename",
            arity: 3,
            flags: Flags::WRITE,
            acl: Acl::KEYSPACE,
            keys: &[
                key(1, access::RW | access::ACCESS | access::DELETE),
                key(2, access::OW | access::UPDATE),
            ],
            summary: "Gives a key another name, replacing what had it.",
            usage: "key newkey",
            ..SPEC
        },
        rename,
    ),
    (
        Spec {
            name: "renamenx",
            arity: 3,
            flags: Flags::WRITE.with(Flags::FAST),
            acl: Acl::KEYSPACE,
            keys: &[
                key(1, access::RW | access::ACCESS | access::DELETE),
                key(2, access::OW | access::INSERT),
            ],
            summary: "Gives a key another name unless that is taken.",
            usage: "key newkey",
            history: &[("3.2.0", "Equal names are no error any more.")],
            ..SPEC
        },
        renamenx,
    ),
    (
        Spec {
            name: "copy",
            arity: -3,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            acl: Acl::KEYSPACE,
            keys: &[key(1, access::RO | access::ACCESS), key(2, access::OW | access::UPDATE)],
            since: "6.2.0",
            summary: "Copies value and expiry of a key to another key.",
            complexity: "O(N) for a value of N elements, O(1) for strings.",
            usage: "source destination [DB destination-db] [REPLACE]",
            ..SPEC
        },
        copy,
    ),
    (
        Spec {
            name: "move",
            arity: 3,
            flags: Flags::WRITE.with(Flags::FAST),
            acl: Acl::KEYSPACE,
            keys: &[key(1, access::RW | access::ACCESS | access::UPDATE)],
            summary: "Moves a key to another database.",
            usage: "key db",
            ..SPEC
        },
        move_to_db,
    ),
];

fn del(ctx: &mut Ctx<'_>) -> CmdResult {
    remove_keys(ctx, Free::User)
}

fn unlink(ctx: &mut Ctx<'_>) -> CmdResult {
    remove_keys(ctx, Free::Lazy)
}

fn remove_keys(ctx: &mut Ctx<'_>, free: Free) -> CmdResult {
    let mut removed = 0;
    ctx.each_key(1, 1, |ctx, _, key| {
        if ctx.ks.remove(ctx.db, key, free) {
            ctx.ks.changed(ctx.db, key.bytes, event::DEL);
            removed += 1;
        }
        Ok(())
    })?;
    ctx.reply.int(removed);
    Ok(Outcome::Done)
}

fn exists(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut found = 0;
    ctx.each_key(1, 1, |ctx, _, key| {
        found += i64::from(ctx.ks.read_untouched(ctx.db, key).is_some());
        Ok(())
    })?;
    ctx.reply.int(found);
    Ok(Outcome::Done)
}

fn touch(ctx: &mut Ctx<'_>) -> CmdResult {
    // A client that asked not to touch keys (CLIENT NO-TOUCH) does so with this command.
    let touching = std::mem::replace(&mut ctx.ks.touching, true);
    let mut found = 0;
    ctx.each_key(1, 1, |ctx, _, key| {
        found += i64::from(ctx.ks.read(ctx.db, key).is_some());
        Ok(())
    })?;
    ctx.ks.touching = touching;
    ctx.reply.int(found);
    Ok(Outcome::Done)
}

fn type_of(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let name = ctx.ks.read_untouched(ctx.db, key).map_or("none", |entry| kind(&entry).name());
    ctx.reply.simple(name);
    Ok(Outcome::Done)
}

/// What RENAME does where the new name is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Replace,
    Leave,
}

fn rename(ctx: &mut Ctx<'_>) -> CmdResult {
    give_name(ctx, Taken::Replace)?;
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn renamenx(ctx: &mut Ctx<'_>) -> CmdResult {
    let renamed = give_name(ctx, Taken::Leave)?;
    ctx.reply.int(i64::from(renamed));
    Ok(Outcome::Done)
}

fn give_name(ctx: &mut Ctx<'_>, taken: Taken) -> Result<bool, CmdError> {
    let (db, from, to) = (ctx.db, ctx.key(1), ctx.key(2));
    if ctx.ks.write(db, from).is_none() {
        return Err(error::NO_SUCH_KEY);
    }
    if from.bytes == to.bytes || (taken == Taken::Leave && ctx.ks.exists(db, to)) {
        return Ok(false);
    }
    ctx.ks.transfer((db, from), (db, to));
    ctx.ks.changed(db, from.bytes, RENAME_FROM);
    ctx.ks.changed_too(db, to.bytes, RENAME_TO);
    Ok(true)
}

fn copy(ctx: &mut Ctx<'_>) -> CmdResult {
    let (mut to_db, mut replace) = (ctx.db, false);
    let mut cursor = Cursor::new(ctx.args, 3);
    while !cursor.is_done() {
        if cursor.word("replace") {
            replace = true;
        } else if cursor.left() >= 2 && cursor.word("db") {
            to_db = db_index(cursor.take()?, ctx.ks.databases())?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    let (from, to) = (ctx.key(1), ctx.key(2));
    if ctx.db == to_db && from.bytes == to.bytes {
        return Err(error::SAME_OBJECT);
    }
    let copied = copy_key(ctx, from, (to_db, to), replace);
    ctx.reply.int(i64::from(copied));
    Ok(Outcome::Done)
}

fn copy_key(ctx: &mut Ctx<'_>, from: Key<'_>, (to_db, to): (usize, Key<'_>), replace: bool) -> bool {
    if ctx.ks.read(ctx.db, from).is_none() {
        return false;
    }
    if ctx.ks.exists(to_db, to) {
        if !replace {
            return false;
        }
        ctx.ks.remove(to_db, to, Free::Server);
    }
    ctx.ks.copy((ctx.db, from), (to_db, to));
    ctx.ks.changed(to_db, to.bytes, COPY_TO);
    true
}

fn move_to_db(ctx: &mut Ctx<'_>) -> CmdResult {
    let (db, key) = (ctx.db, ctx.key(1));
    let to_db = db_index(ctx.args.get(2), ctx.ks.databases())?;
    if to_db == db {
        return Err(error::SAME_OBJECT);
    }
    let moves = ctx.ks.write(db, key).is_some() && !ctx.ks.exists(to_db, key);
    if moves {
        ctx.ks.transfer((db, key), (to_db, key));
        ctx.ks.changed(db, key.bytes, MOVE_FROM);
        ctx.ks.changed_too(to_db, key.bytes, MOVE_TO);
    }
    ctx.reply.int(i64::from(moves));
    Ok(Outcome::Done)
}
