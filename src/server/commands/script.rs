//! EVAL and its kin, and SCRIPT. How a script runs is in `server/script.rs`, the cache in `script/cache.rs`.

use crate::command::Outcome;
use crate::command::args::{self, is};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Begin, Find, Flags, KeySpec, SPEC, Spec, access};
use crate::script::What;
use crate::script::cache::{Origin, ScriptId};
use crate::server::client::DebugMode;
use crate::server::script::NOT_ALLOWED;
use crate::server::table::{Handler, ScriptSource};
use crate::server::{Server, ServerCtx};

/// Flags of all rows that run scripts.
const RUNNER: Flags = Flags::NOSCRIPT
    .with(Flags::SKIP_MONITOR)
    .with(Flags::NO_MANDATORY_KEYS)
    .with(Flags::STALE)
    .with(Flags::SCRIPT_RUNNER);

/// The count of keys at argument 2, the keys behind it. `notes`: what COMMAND INFO says of them.
pub(super) const fn keys(access: u32, notes: &'static str) -> KeySpec {
    let find = Find::KeyNum { at: 0, first: 1, step: 1 };
    KeySpec { begin: Begin::Index(2), find, access, notes }
}

const RW: u32 = access::RW | access::ACCESS | access::UPDATE;
const RO: u32 = access::RO | access::ACCESS;
const RW_NOTES: &str = "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE";
const RO_NOTES: &str = "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS";

/// A row that runs scripts which may write.
pub(super) const WRITING: Spec = Spec {
    arity: -3,
    flags: RUNNER.with(Flags::MAY_REPLICATE),
    acl: Acl::SCRIPTING,
    keys: &[keys(RW, RW_NOTES)],
    group: "scripting",
    since: "2.6.0",
    complexity: "Depends on the script that is executed.",
    ..SPEC
};

/// A row that runs scripts which may not write.
pub(super) const READING: Spec =
    Spec { flags: RUNNER.with(Flags::READONLY), keys: &[keys(RO, RO_NOTES)], since: "7.0.0", ..WRITING };

const BODY_USAGE: &str = "script numkeys [key [key ...]] [arg [arg ...]]";
const SHA_USAGE: &str = "sha1 numkeys [key [key ...]] [arg [arg ...]]";
const TO_ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:one_succeeded"];
const TO_ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const SUBCOMMAND: Spec =
    Spec { flags: Flags::NOSCRIPT, acl: Acl::SCRIPTING, group: "scripting", since: "2.6.0", ..SPEC };

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec { name: "eval", summary: "Runs a script.", usage: BODY_USAGE, ..WRITING },
        Handler::Script(eval, ScriptSource::Body),
    ),
    (
        Spec {
            name: "evalsha",
            summary: "Runs a cached script by its SHA1 digest.",
            usage: SHA_USAGE,
            keys: &[keys(RW, "")],
            ..WRITING
        },
        Handler::Script(evalsha, ScriptSource::Sha),
    ),
    (
        Spec { name: "eval_ro", summary: "Runs a script that only reads.", usage: BODY_USAGE, ..READING },
        Handler::Script(eval_ro, ScriptSource::Body),
    ),
    (
        Spec {
            name: "evalsha_ro",
            summary: "Runs a cached script that only reads by its SHA1 digest.",
            usage: SHA_USAGE,
            keys: &[keys(RO, "")],
            ..READING
        },
        Handler::Script(evalsha_ro, ScriptSource::Sha),
    ),
    (
        Spec {
            name: "script",
            arity: -2,
            flags: Flags::CONTAINER,
            acl: Acl(0),
            summary: "A container for Lua scripts management commands.",
            complexity: "Depends on subcommand.",
            ..SUBCOMMAND
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "script|debug",
            arity: 3,
            since: "3.2.0",
            summary: "Lets EVAL run in the debugger, in a forked process (YES) or in the server (SYNC).",
            usage: "<YES | SYNC | NO>",
            ..SUBCOMMAND
        },
        Handler::Server(debug),
    ),
    (
        Spec {
            name: "script|exists",
            arity: -3,
            summary: "Tells which scripts are in the cache.",
            complexity: "O(N) with N being the number of scripts to check (so checking a single script is an \
                         O(1) operation).",
            usage: "sha1 [sha1 ...]",
            tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
            ..SUBCOMMAND
        },
        Handler::Server(exists),
    ),
    (
        Spec {
            name: "script|flush",
            arity: -2,
            summary: "Empties the script cache.",
            complexity: "O(N) with N being the number of scripts in cache",
            usage: "[ASYNC | SYNC]",
            tips: TO_ALL_NODES,
            history: &[("6.2.0", "Added the `ASYNC` and `SYNC` flushing mode modifiers.")],
            ..SUBCOMMAND
        },
        Handler::Server(flush),
    ),
    (
        Spec {
            name: "script|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            since: "5.0.0",
            summary: "Returns helpful text about the different subcommands.",
            ..SUBCOMMAND
        },
        Handler::Server(help),
    ),
    (
        Spec {
            name: "script|kill",
            arity: 2,
            flags: Flags::NOSCRIPT.with(Flags::ALLOW_BUSY),
            summary: "Stops a script that runs too long.",
            tips: TO_ALL_SHARDS,
            ..SUBCOMMAND
        },
        Handler::Server(kill),
    ),
    (
        Spec {
            name: "script|load",
            arity: 3,
            flags: Flags::NOSCRIPT.with(Flags::STALE),
            summary: "Puts a script into the script cache.",
            complexity: "O(N) with N being the length in bytes of the script body.",
            usage: "script",
            tips: TO_ALL_NODES,
            ..SUBCOMMAND
        },
        Handler::Server(load),
    ),
    (
        Spec {
            name: "script|show",
            arity: 3,
            since: "8.0.0",
            summary: "Returns the text of a cached script.",
            usage: "sha1",
            ..SUBCOMMAND
        },
        Handler::Server(show),
    ),
];

/// No such script in the cache.
const NO_SCRIPT: CmdError = CmdError::new("NOSCRIPT No matching script. Please use EVAL.");
/// Bounds of the count of keys.
pub(super) const TOO_MANY_KEYS: CmdError =
    CmdError::new("ERR Number of keys can't be greater than number of args");
pub(super) const NEGATIVE_KEYS: CmdError = CmdError::new("ERR Number of keys can't be negative");

/// Whether a script may write, by the command it is run with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Any,
    ReadOnly,
}

/// The count of keys in argument 2; `not_a_number` is the error for something else.
#[inline]
pub(super) fn key_count(ctx: &ServerCtx<'_>, not_a_number: CmdError) -> Result<usize, CmdError> {
    let count = args::int(ctx.args.get(2)).map_err(|_| not_a_number)?;
    let left = ctx.args.len() - 3;
    match usize::try_from(count) {
        Err(_) => Err(NEGATIVE_KEYS),
        Ok(count) if count > left => Err(TOO_MANY_KEYS),
        Ok(count) => Ok(count),
    }
}

fn eval(ctx: &mut ServerCtx<'_>) -> CmdResult {
    debug_or_run_body(ctx, Mode::Any)
}

fn eval_ro(ctx: &mut ServerCtx<'_>) -> CmdResult {
    debug_or_run_body(ctx, Mode::ReadOnly)
}

fn evalsha(ctx: &mut ServerCtx<'_>) -> CmdResult {
    run_sha(ctx, Mode::Any)
}

fn evalsha_ro(ctx: &mut ServerCtx<'_>) -> CmdResult {
    run_sha(ctx, Mode::ReadOnly)
}

fn debug_or_run_body(ctx: &mut ServerCtx<'_>, mode: Mode) -> CmdResult {
    match ctx.client.debug {
        DebugMode::Off => run_body(ctx, mode),
        _ => Server::debug_script(ctx, |ctx| run_body(ctx, mode)),
    }
}

fn run_body(ctx: &mut ServerCtx<'_>, mode: Mode) -> CmdResult {
    let key_count = key_count(ctx, error::NOT_INTEGER)?;
    let body = ctx.args.get(1);
    let server = &mut *ctx.server;
    let scripts = &mut server.runner.scripts;
    if scripts.is_running() {
        return Err(NOT_ALLOWED);
    }
    let id = match scripts.cache.find_body(body) {
        Some(id) => id,
        None => scripts.cache.add(body, Origin::Eval, &mut server.stats.counters.evicted_scripts)?,
    };
    run(ctx, id, key_count, mode)
}

fn run_sha(ctx: &mut ServerCtx<'_>, mode: Mode) -> CmdResult {
    let id = ctx.server.runner.scripts.cache.find_sha(ctx.args.get(1));
    if id.is_none() && ctx.args.get(1).len() != 40 {
        return Err(NO_SCRIPT);
    }
    if ctx.client.debug != DebugMode::Off {
        return Err(CmdError::new("ERR Please use EVAL instead of EVALSHA for debugging"));
    }
    let key_count = key_count(ctx, error::NOT_INTEGER)?;
    run(ctx, id.ok_or(NO_SCRIPT)?, key_count, mode)
}

fn run(ctx: &mut ServerCtx<'_>, id: ScriptId, key_count: usize, mode: Mode) -> CmdResult {
    let (server, args) = (&mut *ctx.server, ctx.args);
    let flags = server.runner.scripts.cache.get(id).flags;
    let read_only = mode == Mode::ReadOnly;
    server.check_script(flags, read_only)?;
    if !server.monitors.is_empty() {
        server.show_to_monitors(ctx.client, ctx.command, args);
    }
    let watched = server.watches_scripts();
    let (first, last) = (3, 3 + key_count);
    let cache = &mut server.runner.scripts.cache;
    let (keys, rest) = ((first..last).map(|i| args.get(i)), (last..args.len()).map(|i| args.get(i)));
    cache.begin(id, keys, rest, watched);
    cache.touch(id);
    server.run_script(ctx.client, ctx.command, What::Script(id), flags, read_only)
}

fn debug(ctx: &mut ServerCtx<'_>) -> CmdResult {
    const MODES: [(&str, DebugMode); 3] =
        [("no", DebugMode::Off), ("yes", DebugMode::Forked), ("sync", DebugMode::Sync)];
    if !ctx.client.reply.is_empty() {
        return Err(CmdError::new("ERR SCRIPT DEBUG must be called outside a pipeline"));
    }
    let mode = MODES.iter().find(|(name, _)| is(ctx.args.get(2), name));
    let (_, mode) = mode.ok_or(CmdError::new("ERR Use SCRIPT DEBUG YES/SYNC/NO"))?;
    ctx.client.debug = *mode;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn exists(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.array(ctx.args.len() - 2);
    for sha in ctx.args.iter().skip(2) {
        let found = ctx.server.runner.scripts.cache.find_sha(sha);
        ctx.client.reply.int(i64::from(found.is_some()));
    }
    Ok(Outcome::Done)
}

/// What a FLUSH waits for: SYNC or ASYNC in argument 2, else as the option says. None: it is neither.
pub(super) fn flush_is_async(ctx: &ServerCtx<'_>) -> Option<bool> {
    match (ctx.args.len(), ctx.args.try_get(2)) {
        (2, _) => Some(ctx.server.config.lazyfree_lazy_user_flush),
        (3, Some(word)) if is(word, "sync") => Some(false),
        (3, Some(word)) if is(word, "async") => Some(true),
        _ => None,
    }
}

fn flush(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let Some(is_async) = flush_is_async(ctx) else {
        return Err(CmdError::new("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    };
    let (old, parts) = ctx.server.runner.scripts.cache.flush();
    match is_async {
        true => ctx.server.keyspace.background().drop_later(old, parts),
        false => drop(old),
    }
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn kill(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.kill_script(ScriptSource::Body)?;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn load(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let body = ctx.args.get(2);
    let cache = &mut ctx.server.runner.scripts.cache;
    let id = match cache.find_body(body) {
        Some(id) => id,
        None => cache.add(body, Origin::Load, &mut ctx.server.stats.counters.evicted_scripts)?,
    };
    // Whoever loads a script counts on it, even if it came with EVAL before.
    cache.keep(id);
    ctx.client.reply.bulk(&cache.get(id).sha);
    Ok(Outcome::Done)
}

fn show(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let cache = &ctx.server.runner.scripts.cache;
    let id = cache.find_sha(ctx.args.get(2)).ok_or(NO_SCRIPT)?;
    ctx.client.reply.bulk(&cache.get(id).body);
    Ok(Outcome::Done)
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    const LINES: &[&str] = &[
        "DEBUG (YES|SYNC|NO)",
        "    Choose how EVAL runs on this connection: in the debugger in a forked process,",
        "    whose changes are thrown away (YES), in the debugger in the server, which",
        "    waits meanwhile (SYNC), or as always (NO).",
        "EXISTS <sha1> [<sha1> ...]",
        "    Tell for each digest whether its script is in the cache.",
        "FLUSH [ASYNC|SYNC]",
        "    Empty the script cache, in the background or at once. Without a mode",
        "    lazyfree-lazy-user-flush decides.",
        "KILL",
        "    Stop the script that runs, if it has not written yet.",
        "LOAD <script>",
        "    Put a script into the cache without running it.",
        "SHOW <sha1>",
        "    Return the text of a script in the cache.",
    ];
    super::help(ctx, "SCRIPT", LINES);
    Ok(Outcome::Done)
}
