//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use crate::command::Outcome;
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec, access, range};
use crate::server::client::Client;
use crate::server::gate::Reject;
use crate::server::multi::Queued;
use crate::server::table::Handler;
use crate::server::{Server, ServerCtx};

const TRANSACTION: Flags = Flags::NOSCRIPT
    .with(Flags::LOADING)
    .with(Flags::STALE)
    .with(Flags::ALLOW_BUSY)
    .with(Flags::IMMEDIATE_IN_MULTI);

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "multi",
            arity: 1,
            flags: TRANSACTION.with(Flags::FAST),
            acl: Acl::TRANSACTION,
            group: "transactions",
            since: "1.2.0",
            summary: "Begins a transaction: commands are queued until EXEC.",
            ..SPEC
        },
        Handler::Server(multi),
    ),
    (
        Spec {
            name: "exec",
            arity: 1,
            flags: Flags::NOSCRIPT
                .with(Flags::LOADING)
                .with(Flags::STALE)
                .with(Flags::SKIP_SLOWLOG)
                .with(Flags::IMMEDIATE_IN_MULTI)
                .with(Flags::EXEC),
            acl: Acl::TRANSACTION,
            group: "transactions",
            since: "1.2.0",
            summary: "Runs the queued commands of a transaction.",
            complexity: "Depends on commands in the transaction",
            ..SPEC
        },
        Handler::Server(exec),
    ),
    (
        Spec {
            name: "discard",
            arity: 1,
            flags: TRANSACTION.with(Flags::FAST),
            acl: Acl::TRANSACTION,
            group: "transactions",
            since: "2.0.0",
            summary: "Ends a transaction without running it.",
            complexity: "O(N), when N is the number of queued commands",
            ..SPEC
        },
        Handler::Server(discard),
    ),
    (
        Spec {
            name: "watch",
            arity: -2,
            flags: TRANSACTION.with(Flags::FAST),
            acl: Acl::TRANSACTION,
            keys: &[range(1, -1, 1, access::RO)],
            group: "transactions",
            since: "2.2.0",
            summary: "Lets the next transaction fail if one of these keys changes before it.",
            complexity: "O(1) for every key.",
            usage: "key [key ...]",
            ..SPEC
        },
        Handler::Server(watch),
    ),
    (
        Spec {
            name: "unwatch",
            arity: 1,
            flags: Flags::NOSCRIPT
                .with(Flags::LOADING)
                .with(Flags::STALE)
                .with(Flags::FAST)
                .with(Flags::ALLOW_BUSY),
            acl: Acl::TRANSACTION,
            group: "transactions",
            since: "2.2.0",
            summary: "Ends all watches of the connection.",
            ..SPEC
        },
        Handler::Server(unwatch),
    ),
];

fn multi(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.client.multi.is_some() {
        return Err(CmdError::new("ERR MULTI calls can not be nested"));
    }
    ctx.client.multi = Some(Box::default());
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn discard(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.client.multi.take().is_none() {
        return Err(CmdError::new("ERR DISCARD without MULTI"));
    }
    end_watches(ctx);
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn watch(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.client.multi.is_some() {
        return Err(CmdError::new("ERR WATCH inside MULTI is not allowed"));
    }
    for key in ctx.args.iter().skip(1) {
        ctx.server.watches.watch(ctx.client, &ctx.server.keyspace, key);
    }
    ctx.server.update_listeners();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn unwatch(ctx: &mut ServerCtx<'_>) -> CmdResult {
    end_watches(ctx);
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn end_watches(ctx: &mut ServerCtx<'_>) {
    ctx.server.watches.unwatch(ctx.client);
    ctx.server.update_listeners();
}

/// Whether a watched key changed, or was there and its time has come since.
fn watched_changed(ctx: &ServerCtx<'_>) -> bool {
    let gone = |w: &crate::server::multi::Watched| {
        w.existed && ctx.server.keyspace.is_expired(w.db, crate::keyspace::Key::new(&w.key))
    };
    ctx.client.watched.iter().any(|w| w.changed || gone(w))
}

fn exec(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let Some(multi) = ctx.client.multi.take() else {
        return Err(CmdError::new("ERR EXEC without MULTI"));
    };
    let changed = watched_changed(ctx);
    end_watches(ctx);
    if multi.aborted {
        return Err(error::EXEC_ABORT);
    }
    if changed {
        ctx.client.reply.null_array();
        return Ok(Outcome::Done);
    }
    ctx.client.reply.array(multi.queue.len());
    Ok(ctx.server.run_queue(ctx.client, multi.queue.into_iter()))
}

impl Server {
    /// Runs the commands of a transaction. `Park`: one is a script that goes on later, and the rest after it.
    pub(in crate::server) fn run_queue(
        &mut self,
        client: &mut Client,
        mut queue: std::vec::IntoIter<Queued>,
    ) -> Outcome {
        while let Some(Queued { command, args }) = queue.next() {
            let args = args.as_args();
            match self.admit_queued(client, command, &args) {
                Err(Reject::Error(error)) => self.reply_error(client, &error),
                _ => {
                    if let Outcome::Park = self.call_without_waiting(client, command, args) {
                        self.park_queue(queue);
                        return Outcome::Park;
                    }
                }
            }
            self.drop_excess_output(client);
        }
        Outcome::Done
    }
}
