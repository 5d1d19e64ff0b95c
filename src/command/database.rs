//! Commands on whole databases: DBSIZE, SWAPDB, FLUSHDB, FLUSHALL.

use super::args::{self, db_index};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Acl, Flags, SPEC, Spec};
use super::{Ctx, DataFn, Garbage, Outcome, Propagate};
use crate::keyspace::Db;

const FLUSH: Spec = Spec {
    arity: -1,
    flags: Flags::WRITE,
    acl: Acl::KEYSPACE.with(Acl::DANGEROUS),
    group: "server",
    complexity: "O(N) for N keys, in another thread except inside a transaction.",
    usage: "[ASYNC | SYNC]",
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    history: &[
        ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
        ("6.2.0", "Added the `SYNC` flushing mode modifier."),
    ],
    ..SPEC
};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "dbsize",
            arity: 1,
            flags: Flags::READONLY.with(Flags::FAST),
            acl: Acl::KEYSPACE,
            group: "server",
            summary: "Returns the number of keys in the database.",
            tips: &["request_policy:all_shards", "response_policy:agg_sum"],
            ..SPEC
        },
        dbsize,
    ),
    (
        Spec {
            name: "swapdb",
            arity: 3,
            flags: Flags::WRITE.with(Flags::FAST),
            acl: Acl::KEYSPACE.with(Acl::DANGEROUS),
            group: "server",
            since: "4.0.0",
            summary: "Exchanges the contents of two databases.",
            complexity: "O(N) for N clients that watch or wait for keys of them.",
            usage: "index1 index2",
            ..SPEC
        },
        swapdb,
    ),
    (Spec { name: "flushdb", summary: "Removes all keys of the database.", ..FLUSH }, flushdb),
    (Spec { name: "flushall", summary: "Removes all keys of all databases.", ..FLUSH }, flushall),
];

/// SWAPDB's first number is none.
const FIRST_INDEX: CmdError = CmdError::new("ERR invalid first DB index");
/// SWAPDB's second number is none.
const SECOND_INDEX: CmdError = CmdError::new("ERR invalid second DB index");

fn dbsize(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.len_int(ctx.ks.db(ctx.db).len());
    Ok(Outcome::Done)
}

fn swapdb(ctx: &mut Ctx<'_>) -> CmdResult {
    // That one is no number is found before that the other is out of range.
    args::int32(ctx.args.get(1)).map_err(|_| FIRST_INDEX)?;
    args::int32(ctx.args.get(2)).map_err(|_| SECOND_INDEX)?;
    let a = db_index(ctx.args.get(1), ctx.ks.databases())?;
    let b = db_index(ctx.args.get(2), ctx.ks.databases())?;
    if a != b {
        ctx.ks.swap(a, b);
    }
    ctx.ks.changes.dirty += 1;
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn flushdb(ctx: &mut Ctx<'_>) -> CmdResult {
    flush(ctx, Some(ctx.db))
}

fn flushall(ctx: &mut Ctx<'_>) -> CmdResult {
    flush(ctx, None)
}

/// Who waits for the memory of a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FlushMode {
    /// The client.
    Sync,
    /// Nobody.
    Async,
}

fn flush(ctx: &mut Ctx<'_>, db: Option<usize>) -> CmdResult {
    let mode = match ctx.args.try_get(1) {
        None if ctx.config.lazyfree_lazy_user_flush => FlushMode::Async,
        None => FlushMode::Sync,
        Some(word) if ctx.args.len() == 2 && args::is(word, "sync") => FlushMode::Sync,
        Some(word) if ctx.args.len() == 2 && args::is(word, "async") => FlushMode::Async,
        Some(_) => return Err(error::SYNTAX),
    };
    let flushed = ctx.ks.flush(db);
    let weight = flushed.iter().map(Db::len).sum();
    ctx.ks.changes.dirty += weight as u64;
    ctx.propagate = Propagate::Always;
    if mode == FlushMode::Sync && weight > 0 {
        return Ok(Outcome::Free(Garbage { value: Box::new(flushed), weight }));
    }
    if weight > 0 {
        ctx.ks.drop_later(Box::new(flushed), weight);
    }
    ctx.reply.ok();
    Ok(Outcome::Done)
}
