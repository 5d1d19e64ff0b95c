//! SAVE, BGSAVE and LASTSAVE.

use crate::command::args::Cursor;
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::command::{Outcome, Propagate};
use crate::server::ServerCtx;
use crate::server::child::{Job, plain};
use crate::server::table::Handler;

const SAVING: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::NO_ASYNC_LOADING);

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "save",
            arity: 1,
            flags: SAVING.with(Flags::NO_MULTI),
            group: "server",
            summary: "Writes a snapshot of all databases to disk while everybody waits.",
            complexity: "O(N) where N is the total number of keys in all databases.",
            ..SPEC
        },
        Handler::Server(save),
    ),
    (
        Spec {
            name: "bgsave",
            arity: -1,
            flags: SAVING,
            group: "server",
            summary: "Writes a snapshot of all databases to disk in the background.",
            usage: "[SCHEDULE]",
            history: &[("3.2.2", "Added the `SCHEDULE` option.")],
            ..SPEC
        },
        Handler::Server(bgsave),
    ),
    (
        Spec {
            name: "lastsave",
            arity: 1,
            flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
            acl: Acl::ADMIN.with(Acl::DANGEROUS),
            group: "server",
            summary: "Returns the Unix time of the last successful snapshot.",
            tips: &["nondeterministic_output"],
            ..SPEC
        },
        Handler::Server(lastsave),
    ),
];

/// There is a snapshot under way.
const SAVE_RUNNING: CmdError = CmdError::new("ERR Background save already in progress");
/// A child that does something else is at work.
const OTHER_CHILD: CmdError = CmdError::new(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to \
     schedule a BGSAVE whenever possible.",
);

fn child_job(ctx: &ServerCtx<'_>) -> Option<Job> {
    ctx.server.child.as_ref().map(|child| child.job)
}

fn failed(error: &std::io::Error) -> CmdError {
    CmdError::text(format!("ERR Failed to persist data: {}", plain(error)))
}

fn save(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if child_job(ctx) == Some(Job::Snapshot) {
        return Err(SAVE_RUNNING);
    }
    ctx.propagate = Propagate::Never;
    ctx.server.save_now().map_err(|error| failed(&error))?;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn bgsave(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut cursor = Cursor::new(ctx.args, 1);
    let scheduled = cursor.word("schedule");
    if !cursor.is_done() {
        return Err(error::SYNTAX);
    }
    let in_transaction = ctx.server.unit.no_waiting;
    match child_job(ctx) {
        Some(Job::Snapshot) => return Err(SAVE_RUNNING),
        Some(Job::LogRewrite) if !scheduled && !in_transaction => return Err(OTHER_CHILD),
        // Inside a transaction the data is not yet what it will be.
        job if job.is_some() || in_transaction => {
            ctx.server.snapshots.scheduled = true;
            ctx.client.reply.simple("Background saving scheduled");
            return Ok(Outcome::Done);
        }
        _ => {}
    }
    ctx.server.save_in_background().map_err(|error| failed(&error))?;
    ctx.client.reply.simple("Background saving started");
    Ok(Outcome::Done)
}

fn lastsave(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.int(ctx.server.snapshots.last_save_s);
    Ok(Outcome::Done)
}
