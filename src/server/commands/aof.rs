//! Commands about the append-only log: BGREWRITEAOF, and WAITAOF, which waits until a client's writes are on
//! disk.

use super::replication::deadline_ms;
use crate::command::args::Cursor;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::command::{Outcome, args};
use crate::server::aof::{Scheduled, State};
use crate::server::blocking::{Blocked, LogAnswer, LogWait};
use crate::server::client::Client;
use crate::server::table::Handler;
use crate::server::{Server, ServerCtx};

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "bgrewriteaof",
            arity: 1,
            flags: Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::NO_ASYNC_LOADING),
            group: "server",
            summary: "Writes the append-only log anew, in the background.",
            ..SPEC
        },
        Handler::Server(bgrewriteaof),
    ),
    (
        Spec {
            name: "waitaof",
            arity: 4,
            flags: Flags::BLOCKING,
            acl: Acl::CONNECTION,
            group: "generic",
            since: "7.2.0",
            summary: "Waits until the client's writes are on disk, in this server's log and in replicas'.",
            usage: "numlocal numreplicas timeout",
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..SPEC
        },
        Handler::Server(waitaof),
    ),
];

fn bgrewriteaof(ctx: &mut ServerCtx<'_>) -> CmdResult {
    match ctx.server.ask_for_rewrite() {
        // The reply comes when the child is there.
        Ok(Scheduled::Started) if ctx.server.wait_for_rewrite(ctx.client.id) => {
            ctx.client.blocked = Some(Box::new(Blocked::Rewrite));
        }
        Ok(Scheduled::Started) => {
            ctx.client.reply.simple("Background append only file rewriting started");
        }
        Ok(Scheduled::Later) => {
            ctx.client.reply.simple("Background append only file rewriting scheduled");
        }
        Err(error) => return Err(CmdError::text(format!("ERR {error}"))),
    }
    Ok(Outcome::Done)
}

/// There is no log to wait for.
const NO_LOG: CmdError =
    CmdError::new("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
/// The first argument of WAITAOF.
const NOT_LOCAL: CmdError = CmdError::new("ERR value is out of range, must be between 0 and 1");

fn waitaof(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut cursor = Cursor::new(ctx.args, 1);
    let local = match args::int(cursor.take()?)? {
        0 => false,
        1 => true,
        _ => return Err(NOT_LOCAL),
    };
    let replicas = match args::int(cursor.take()?)? {
        n @ 0.. => n as u64,
        _ => return Err(crate::command::error::OUT_OF_RANGE_POSITIVE),
    };
    let timeout = cursor.take()?;
    let deadline_ms = deadline_ms(timeout, ctx.server.now.wall_ms)?;
    if local && ctx.server.aof.state == State::Off {
        return Err(NO_LOG);
    }
    let position = local.then_some(ctx.client.log_position);
    let wait = LogWait { position, replicas, deadline_ms, answer: LogAnswer::LocalAndReplicas };
    ctx.server.wait_for_log(ctx.client, wait);
    Ok(Outcome::Done)
}

impl Server {
    /// Answers WAIT or WAITAOF, at once or, if what it waits for is not there and waiting is allowed, later.
    pub(super) fn wait_for_log(&mut self, client: &mut Client, wait: LogWait) {
        if self.is_satisfied(wait) || self.unit.no_waiting {
            self.write_acks(client, wait.answer);
        } else {
            self.block_on_log(client, wait);
        }
    }

    /// Whether the log of this server holds a client's writes on disk.
    fn has_synced(&self, position: u64) -> bool {
        self.aof.state == State::On && self.aof.failure.is_none() && self.aof.synced >= position
    }

    fn is_satisfied(&mut self, wait: LogWait) -> bool {
        let synced = wait.position.is_none_or(|position| self.has_synced(position));
        if !synced {
            self.aof.want_sync();
        }
        synced && wait.replicas == 0
    }

    /// How many logs, of this server and of replicas, hold a client's writes.
    fn write_acks(&self, client: &mut Client, answer: LogAnswer) {
        if answer == LogAnswer::LocalAndReplicas {
            client.reply.array(2);
            client.reply.int(i64::from(self.has_synced(client.log_position)));
        }
        client.reply.int(0);
    }

    /// Ends the wait of clients whose writes are on disk now; after the log was switched off, of all who
    /// wait for it.
    pub(in crate::server) fn answer_log_waits(&mut self) {
        if self.blocking.clients == 0 {
            return;
        }
        let waiting = |c: &Client| match c.blocked.as_deref() {
            Some(Blocked::Log(wait)) => Some((c.slot, *wait)),
            _ => None,
        };
        let waits: Vec<(usize, LogWait)> = self.clients.iter().filter_map(waiting).collect();
        for (slot, wait) in waits {
            let gone = wait.position.is_some() && self.aof.state == State::Off;
            if !gone && !self.is_satisfied(wait) {
                continue;
            }
            let Some(mut client) = self.clients.take(slot) else { continue };
            self.end_log_wait(&mut client, gone.then_some(&NO_LOG));
            self.clients.put(client);
        }
    }

    /// Ends a client's wait with an error or with what there is.
    pub(in crate::server) fn end_log_wait(&mut self, client: &mut Client, error: Option<&CmdError>) {
        let answer = match client.blocked.as_deref() {
            Some(Blocked::Log(wait)) => wait.answer,
            _ => unreachable!("only who waits for the log comes here"),
        };
        self.release(client);
        match error {
            Some(error) => self.reply_error(client, error),
            None => self.write_acks(client, answer),
        }
        self.queue_write(client);
    }
}
