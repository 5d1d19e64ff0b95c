//! SLOWLOG GET, LEN, RESET.

use crate::command::Outcome;
use crate::command::args::int;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec};
use crate::server::ServerCtx;
use crate::server::table::Handler;

const ADMIN: Flags = Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE);
/// Entries shown without a count.
const SHOWN: usize = 10;

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "slowlog",
            arity: -2,
            flags: Flags::CONTAINER,
            group: "server",
            since: "2.2.12",
            summary: "Commands about the log of slow commands.",
            complexity: "Depends on subcommand.",
            ..SPEC
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "slowlog|get",
            arity: -2,
            flags: ADMIN,
            group: "server",
            since: "2.2.12",
            summary: "Tells the newest entries of the slow log.",
            complexity: "O(N) where N is the number of entries returned",
            usage: "[count]",
            tips: &["request_policy:all_nodes", "nondeterministic_output"],
            history: &[("4.0.0", "Added client IP address, port and name to the reply.")],
            ..SPEC
        },
        Handler::Server(get),
    ),
    (
        Spec {
            name: "slowlog|len",
            arity: 2,
            flags: ADMIN,
            group: "server",
            since: "2.2.12",
            summary: "Counts the entries of the slow log.",
            tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
            ..SPEC
        },
        Handler::Server(len),
    ),
    (
        Spec {
            name: "slowlog|reset",
            arity: 2,
            flags: ADMIN,
            group: "server",
            since: "2.2.12",
            summary: "Empties the slow log.",
            complexity: "O(N) where N is the number of entries in the slowlog",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..SPEC
        },
        Handler::Server(reset),
    ),
    (
        Spec {
            name: "slowlog|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            group: "server",
            since: "6.2.0",
            summary: "Explains the subcommands.",
            ..SPEC
        },
        Handler::Server(help),
    ),
];

/// A count below -1.
const COUNT_RANGE: CmdError = CmdError::new("ERR count should be greater than or equal to -1");

fn get(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.args.len() > 3 {
        return Err(crate::command::error::wrong_arity("slowlog|get"));
    }
    let count = match ctx.args.try_get(2).map(int).transpose()? {
        None => SHOWN,
        Some(-1) => usize::MAX,
        Some(n) => usize::try_from(n).map_err(|_| COUNT_RANGE)?,
    };
    let slowlog = &ctx.server.stats.slowlog;
    let reply = &mut ctx.client.reply;
    reply.array(count.min(slowlog.len()));
    for entry in slowlog.iter().take(count) {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int(entry.unix_seconds);
        reply.int(entry.us as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk_str(&entry.peer);
        reply.bulk(&entry.client_name);
    }
    Ok(Outcome::Done)
}

fn len(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.len_int(ctx.server.stats.slowlog.len());
    Ok(Outcome::Done)
}

fn reset(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.stats.slowlog.reset();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return the newest entries, 10 unless told otherwise; -1 means all. An entry is its id,",
            "    time stamp, duration in microseconds, arguments, client address and client name.",
            "LEN",
            "    Return the number of entries.",
            "RESET",
            "    Forget all entries.",
        ],
    );
    Ok(Outcome::Done)
}
