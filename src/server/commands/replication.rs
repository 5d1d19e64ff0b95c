//! ROLE and WAIT as a server without replicas answers them. Replication itself is not there yet; its commands
//! (REPLICAOF, PSYNC, FAILOVER and the like) will stand here.

use crate::command::args::{self, Cursor};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::command::{Outcome, Propagate};
use crate::server::ServerCtx;
use crate::server::blocking::{LogAnswer, LogWait};
use crate::server::table::Handler;
use crate::util::num;

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "role",
            arity: 1,
            flags: Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST),
            acl: Acl::ADMIN.with(Acl::DANGEROUS),
            group: "server",
            since: "2.8.12",
            summary: "Tells whether the server is a primary, and which replicas it has.",
            ..SPEC
        },
        Handler::Server(role),
    ),
    (
        Spec {
            name: "wait",
            arity: 3,
            flags: Flags::BLOCKING,
            acl: Acl::CONNECTION,
            since: "3.0.0",
            summary: "Waits until the client's writes have reached so many replicas.",
            usage: "numreplicas timeout",
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..SPEC
        },
        Handler::Server(wait),
    ),
];

fn role(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let reply = &mut ctx.client.reply;
    reply.array(3);
    reply.bulk_str("master");
    // The offset that INFO tells: without replicas nothing is counted.
    reply.int(0);
    reply.array(0);
    Ok(Outcome::Done)
}

/// The last argument of WAIT and WAITAOF is in milliseconds.
const NOT_A_TIMEOUT: CmdError = CmdError::new("ERR timeout is not an integer or out of range");

/// The timeout of WAIT and WAITAOF as the time at which it is over, in milliseconds since 1970; 0: never.
pub(super) fn deadline_ms(timeout: &[u8], now_ms: i64) -> Result<i64, CmdError> {
    match num::parse_i64(timeout).ok_or(NOT_A_TIMEOUT)? {
        ..0 => Err(error::TIMEOUT_NEGATIVE),
        0 => Ok(0),
        ms => ms.checked_add(now_ms).ok_or(error::TIMEOUT_OUT_OF_RANGE),
    }
}

fn wait(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.propagate = Propagate::Never;
    let mut cursor = Cursor::new(ctx.args, 1);
    // Fewer than none is none, as in Redis.
    let replicas = args::int(cursor.take()?)?.max(0) as u64;
    let deadline_ms = deadline_ms(cursor.take()?, ctx.server.now.wall_ms)?;
    let wait = LogWait { position: None, replicas, deadline_ms, answer: LogAnswer::Replicas };
    ctx.server.wait_for_log(ctx.client, wait);
    Ok(Outcome::Done)
}
