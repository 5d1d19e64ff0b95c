//! DEBUG: a look inside, and switches for tests. One row a subcommand: name, arguments, function and help.
//! It is refused unless the option enable-debug-command lets the caller in.

use super::{debug_data as data, debug_look as look};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec};
use crate::command::{Outcome, args};
use crate::server::ServerCtx;
use crate::server::table::Handler;
use crate::util::{memsize, num};
use std::ops::RangeInclusive;

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[(
    Spec {
        name: "debug",
        arity: -2,
        flags: Flags::ADMIN
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::PROTECTED),
        group: "server",
        summary: "Looks inside the server and switches parts of it, for tests.",
        complexity: "Depends on subcommand.",
        usage: "subcommand [argument [argument ...]]",
        ..SPEC
    },
    Handler::Server(debug),
)];

/// What DEBUG has set for the life of the process.
#[derive(Clone, Debug, Default)]
pub struct Debug {
    /// The cron does nothing (PAUSE-CRON).
    pub pause_cron: bool,
    /// Scripts may run commands that are denied to them (SET-DISABLE-DENY-SCRIPTS).
    pub allow_denied_in_scripts: bool,
    /// Checksums of loaded data are not looked at (SET-SKIP-CHECKSUM-VALIDATION).
    pub skip_checksums: bool,
    /// Reply buffers keep their size (REPLYBUFFER RESIZING 0).
    pub keep_reply_buffers: bool,
    /// Microseconds to wait in each flush of the log (AOF-FLUSH-SLEEP).
    pub aof_flush_sleep_us: u64,
}

/// A subcommand.
struct Sub {
    name: &'static str,
    /// Number of arguments after the name.
    argc: RangeInclusive<usize>,
    run: fn(&mut ServerCtx<'_>) -> CmdResult,
    /// The arguments as HELP shows them.
    usage: &'static str,
    about: &'static str,
}

const fn sub(
    name: &'static str,
    argc: RangeInclusive<usize>,
    run: fn(&mut ServerCtx<'_>) -> CmdResult,
    usage: &'static str,
    about: &'static str,
) -> Sub {
    Sub { name, argc, run, usage, about }
}

/// No upper bound.
const ANY: usize = usize::MAX;

/// All subcommands but HELP, in the order of its lines.
const SUBCOMMANDS: &[Sub] = &[
    sub("AOF-FLUSH-SLEEP", 1..=1, aof_flush_sleep, "<microseconds>", "Wait in each flush of the log."),
    sub("ASSERT", 0..=ANY, assert, "", "End the process by a failed assertion."),
    sub("CHANGE-REPL-ID", 0..=0, accept, "", "Accepted; there is no replication history yet."),
    sub("CLIENT-EVICTION", 0..=0, look::client_eviction, "", "Show the memory that clients take."),
    sub("CLIENT-ENFORCE-REPLY-LIST", 1..=1, accept, "<0|1>", "Accepted; replies have one buffer here."),
    sub(
        "CONFIG-REWRITE-FORCE-ALL",
        0..=0,
        super::config::rewrite_all,
        "",
        "CONFIG REWRITE with all options.",
    ),
    sub("DICT-RESIZING", 1..=1, accept, "<0|1>", "Accepted; tables grow in small steps here."),
    sub("DIGEST", 0..=0, look::digest, "", "Digest of all data."),
    sub("DIGEST-VALUE", 0..=ANY, look::digest_value, "<key> [<key> ...]", "Digest of each key's value."),
    sub(
        "DISK-FAULT",
        1..=3,
        data::disk_fault,
        "NONE | <WRITE|SYNC|RENAME> <SHORT|ENOSPC|EIO|EACCES> [<bytes>]",
        "Let the disk fail.",
    ),
    sub("ERROR", 1..=1, error_reply, "<text>", "Reply with this error."),
    sub("HTSTATS", 1..=2, look::htstats, "<db> [full]", "Figures about a database's table."),
    sub("HTSTATS-KEY", 1..=2, look::htstats_key, "<key> [full]", "Figures about a value's table."),
    sub("LEAK", 1..=1, leak, "<text>", "Lose memory of the size of <text>."),
    sub("LISTPACK", 1..=1, look::listpack, "<key>", "Write the elements of a packed value to the log."),
    sub("LOADAOF", 0..=0, load_log, "", "Forget all data and load the log."),
    sub("LOG", 1..=1, log_line, "<text>", "Write <text> to the server's log."),
    sub("MALLCTL", 1..=1, look::mallctl, "<name>", "One of the allocator's numbers."),
    sub("MALLCTL-STR", 2..=2, look::mallctl_action, "<name> VOID", "One of the allocator's actions."),
    sub("OBJECT", 1..=1, look::object, "<key>", "How a key's value is kept."),
    sub("OOM", 0..=ANY, out_of_memory, "", "Ask for more memory than there can be."),
    sub("PANIC", 0..=ANY, panic, "", "End the process by a panic."),
    sub("PAUSE-CRON", 1..=1, pause_cron, "<0|1>", "Stop or go on with periodic work."),
    sub("POPULATE", 1..=3, populate, "<count> [<prefix>] [<size>]", "Create strings <prefix>:<n>."),
    sub("PROTOCOL", 1..=1, look::protocol, "<type>", "Reply with a sample of a protocol type."),
    sub("QUICKLIST", 1..=2, look::quicklist, "<key> [<0|1>]", "Write the nodes of a long list to the log."),
    sub(
        "QUICKLIST-PACKED-THRESHOLD",
        1..=1,
        quicklist_packed_threshold,
        "<size>",
        "Bytes from which on a list element gets its own node.",
    ),
    sub("RELOAD", 0..=ANY, data::reload, "[MERGE] [NOFLUSH] [NOSAVE]", "Save a snapshot and load it."),
    sub("REPLICATE", 1..=ANY, replicate, "<argument> [...]", "Send a command to the replicas."),
    sub(
        "REPLYBUFFER",
        2..=2,
        reply_buffer,
        "<setting> <value>",
        "PEAK-RESET-TIME <NEVER|RESET|ms>, RESIZING <0|1>.",
    ),
    sub("SDSLEN", 1..=1, look::sdslen, "<key>", "Lengths of a key and its string."),
    sub("SEGFAULT", 0..=ANY, segfault, "", "End the process by a memory fault."),
    sub(
        "SET-ACTIVE-EXPIRE",
        1..=1,
        set_active_expire,
        "<0|1>",
        "Whether keys go at their time by themselves.",
    ),
    sub(
        "SET-DISABLE-DENY-SCRIPTS",
        1..=1,
        set_disable_deny_scripts,
        "<0|1>",
        "Let scripts run all commands.",
    ),
    sub(
        "SET-SKIP-CHECKSUM-VALIDATION",
        1..=1,
        set_skip_checksums,
        "<0|1>",
        "Load data whatever its checksum.",
    ),
    sub("SLEEP", 1..=1, sleep, "<seconds>", "Do nothing, and let everyone wait."),
    sub("STRINGMATCH-LEN", 2..=2, look::string_match, "<pattern> <text>", "Whether a glob pattern matches."),
    sub("STRINGMATCH-TEST", 0..=0, look::string_match_test, "", "Match random patterns."),
    sub("STRUCTSIZE", 0..=0, look::struct_size, "", "Sizes of the main structures."),
];

fn debug(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::check_protected(ctx, ctx.server.config.enable_debug_command, "debug")?;
    let (name, argc) = (ctx.args.get(1), ctx.args.len() - 2);
    if args::is(name, "help") && argc == 0 {
        return help(ctx);
    }
    let found = SUBCOMMANDS.iter().find(|sub| args::is(name, sub.name) && sub.argc.contains(&argc));
    match found {
        Some(sub) => (sub.run)(ctx),
        None => Err(wrong_subcommand(ctx)),
    }
}

/// The error for a subcommand that does not exist in this form.
fn wrong_subcommand(ctx: &ServerCtx<'_>) -> CmdError {
    /// Bytes of the name that are repeated.
    const SHOWN_MAX: usize = 128;
    let name = ctx.args.get(1);
    let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
    text.extend_from_slice(&name[..name.len().min(SHOWN_MAX)]);
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(&ctx.args.get(0).to_ascii_uppercase());
    text.extend_from_slice(b" HELP.");
    CmdError::text(text)
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let lines = SUBCOMMANDS.iter().flat_map(|sub| {
        [format!("{} {}", sub.name, sub.usage).trim_end().to_string(), format!("    {}", sub.about)]
    });
    let lines: Vec<String> = lines.collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    super::help(ctx, "DEBUG", &lines);
    Ok(Outcome::Done)
}

// ---- switches ----

/// A number as C's `atoi` reads it: what follows the digits is left out, no digits are 0.
fn lax_int(bytes: &[u8]) -> i64 {
    let sign = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let digits = bytes[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    num::parse_i64(&bytes[..sign + digits]).unwrap_or(0)
}

/// Argument 2 as a switch.
fn switch(ctx: &ServerCtx<'_>) -> bool {
    lax_int(ctx.args.get(2)) != 0
}

/// For what is done already or means nothing here.
fn accept(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn set_active_expire(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.active_expire = switch(ctx);
    accept(ctx)
}

fn pause_cron(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.debug.pause_cron = switch(ctx);
    accept(ctx)
}

fn set_disable_deny_scripts(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.debug.allow_denied_in_scripts = switch(ctx);
    accept(ctx)
}

fn set_skip_checksums(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.debug.skip_checksums = switch(ctx);
    accept(ctx)
}

fn aof_flush_sleep(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.debug.aof_flush_sleep_us = lax_int(ctx.args.get(2)).max(0) as u64;
    accept(ctx)
}

/// The argument of QUICKLIST-PACKED-THRESHOLD is out of bounds.
const BAD_THRESHOLD: CmdError =
    CmdError::new("ERR argument must be a memory value bigger than 1 and smaller than 4gb");

fn quicklist_packed_threshold(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let max = u64::from(u32::MAX);
    let size = memsize::parse_memory(ctx.args.get(2)).filter(|size| *size <= max).ok_or(BAD_THRESHOLD)?;
    // Zero brings the usual behaviour back.
    ctx.server.keyspace.list_plain_from = size as usize;
    accept(ctx)
}

fn reply_buffer(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let (setting, value) = (ctx.args.get(2), ctx.args.get(3));
    if args::is(setting, "peak-reset-time") {
        ctx.server.peaks.reply_peak_reset_ms = match value {
            _ if args::is(value, "never") => None,
            _ if args::is(value, "reset") => Some(crate::server::limits::PEAK_RESET_MS),
            _ => Some(args::int(value)?.max(0) as u64),
        };
    } else if args::is(setting, "resizing") {
        ctx.server.debug.keep_reply_buffers = lax_int(value) == 0;
    } else {
        return Err(wrong_subcommand(ctx));
    }
    accept(ctx)
}

// ---- actions ----

fn sleep(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let seconds = num::parse_f64(ctx.args.get(2)).unwrap_or(0.0).clamp(0.0, 1e9);
    ctx.server.clock.sleep((seconds * 1e9) as u64);
    accept(ctx)
}

fn log_line(ctx: &mut ServerCtx<'_>) -> CmdResult {
    log::warn!(target: "aikv", "DEBUG LOG: {}", String::from_utf8_lossy(ctx.args.get(2)));
    accept(ctx)
}

fn error_reply(ctx: &mut ServerCtx<'_>) -> CmdResult {
    Err(CmdError::text(ctx.args.get(2)))
}

fn leak(ctx: &mut ServerCtx<'_>) -> CmdResult {
    Box::leak(ctx.args.get(2).to_vec().into_boxed_slice());
    accept(ctx)
}

fn replicate(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.unit.propagate_also(ctx.client.db, ctx.args.skip(2).to_owned());
    accept(ctx)
}

fn populate(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let positive = |i: usize| match args::int(ctx.args.get(i))? {
        n @ 0.. => Ok(n as usize),
        _ => Err(error::OUT_OF_RANGE_POSITIVE),
    };
    let count = positive(2)?;
    let size = if ctx.args.len() == 5 { Some(positive(4)?).filter(|size| *size > 0) } else { None };
    let prefix = ctx.args.try_get(3).unwrap_or(b"key");
    look::populate(&mut ctx.server.keyspace, ctx.client.db, prefix, count, size);
    accept(ctx)
}

fn assert(_: &mut ServerCtx<'_>) -> CmdResult {
    panic!("DEBUG ASSERT was called");
}

fn panic(ctx: &mut ServerCtx<'_>) -> CmdResult {
    panic!("DEBUG PANIC called at Unix time {}", ctx.server.now.wall_ms / 1000);
}

fn segfault(ctx: &mut ServerCtx<'_>) -> CmdResult {
    crate::sys::crash::segfault();
    accept(ctx)
}

fn out_of_memory(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let huge: Vec<u8> = Vec::with_capacity(isize::MAX as usize);
    std::hint::black_box(&huge);
    accept(ctx)
}

fn load_log(ctx: &mut ServerCtx<'_>) -> CmdResult {
    use crate::server::blocking::Blocked;
    use crate::server::replay::Asked;
    if let Err(failure) = ctx.server.reload_log(Asked::Client(ctx.client.id)) {
        ctx.server.fail(failure);
        return Ok(Outcome::Done);
    }
    ctx.client.blocked = Some(Box::new(Blocked::Loading));
    Ok(Outcome::Done)
}
