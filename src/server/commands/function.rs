//! FCALL, FCALL_RO and FUNCTION. Libraries are kept in `script/functions.rs`.

use super::script::{Mode, READING, WRITING, flush_is_async, key_count};
use crate::command::args::is;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::command::{Outcome, Propagate};
use crate::rdb::{Compression, dump};
use crate::resp::Reply;
use crate::script::What;
use crate::script::functions::{FunctionInfo, Library, Policy};
use crate::server::table::{Handler, ScriptSource};
use crate::server::{Server, ServerCtx};
use crate::util::glob::{self, Case};

const USAGE: &str = "function numkeys [key [key ...]] [arg [arg ...]]";
const COMPLEXITY: &str = "Depends on the function that is executed.";
const TO_ALL: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
/// Milliseconds in which a library has to have registered its functions.
const LOAD_MS_MAX: u64 = 500;

const SUBCOMMAND: Spec =
    Spec { flags: Flags::NOSCRIPT, acl: Acl::SCRIPTING, group: "scripting", since: "7.0.0", ..SPEC };

/// A subcommand that changes libraries.
const CHANGING: Spec = Spec { flags: Flags::NOSCRIPT.with(Flags::WRITE), tips: TO_ALL, ..SUBCOMMAND };

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "fcall",
            summary: "Runs a function.",
            usage: USAGE,
            since: "7.0.0",
            complexity: COMPLEXITY,
            ..WRITING
        },
        Handler::Script(fcall, ScriptSource::Function),
    ),
    (
        Spec {
            name: "fcall_ro",
            summary: "Runs a function that only reads.",
            usage: USAGE,
            complexity: COMPLEXITY,
            ..READING
        },
        Handler::Script(fcall_ro, ScriptSource::Function),
    ),
    (
        Spec {
            name: "function",
            arity: -2,
            flags: Flags::CONTAINER,
            acl: Acl(0),
            summary: "A container for function commands.",
            complexity: "Depends on subcommand.",
            ..SUBCOMMAND
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "function|delete",
            arity: 3,
            summary: "Removes a library and its functions.",
            usage: "library-name",
            ..CHANGING
        },
        Handler::Server(delete),
    ),
    (
        Spec {
            name: "function|dump",
            arity: 2,
            summary: "Returns all libraries as bytes for FUNCTION RESTORE.",
            complexity: "O(N) where N is the number of functions",
            ..SUBCOMMAND
        },
        Handler::Server(dump_all),
    ),
    (
        Spec {
            name: "function|flush",
            arity: -2,
            summary: "Removes all libraries.",
            complexity: "O(N) where N is the number of functions deleted",
            usage: "[ASYNC | SYNC]",
            ..CHANGING
        },
        Handler::Server(flush),
    ),
    (
        Spec {
            name: "function|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            summary: "Returns helpful text about the different subcommands.",
            ..SUBCOMMAND
        },
        Handler::Server(help),
    ),
    (
        Spec {
            name: "function|kill",
            arity: 2,
            flags: Flags::NOSCRIPT.with(Flags::ALLOW_BUSY),
            summary: "Stops a function that runs too long.",
            tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
            ..SUBCOMMAND
        },
        Handler::Server(kill),
    ),
    (
        Spec {
            name: "function|list",
            arity: -2,
            summary: "Returns the libraries and their functions.",
            complexity: "O(N) where N is the number of functions",
            usage: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
            tips: &["nondeterministic_output_order"],
            ..SUBCOMMAND
        },
        Handler::Server(list),
    ),
    (
        Spec {
            name: "function|load",
            arity: -3,
            flags: Flags::NOSCRIPT.with(Flags::WRITE).with(Flags::DENYOOM),
            summary: "Loads a library.",
            complexity: "O(1) (considering compilation time is redundant)",
            usage: "[REPLACE] function-code",
            ..CHANGING
        },
        Handler::Server(load),
    ),
    (
        Spec {
            name: "function|restore",
            arity: -3,
            flags: Flags::NOSCRIPT.with(Flags::WRITE).with(Flags::DENYOOM),
            summary: "Adds the libraries that FUNCTION DUMP gave.",
            complexity: "O(N) where N is the number of functions on the payload",
            usage: "serialized-value [FLUSH | APPEND | REPLACE]",
            ..CHANGING
        },
        Handler::Server(restore),
    ),
    (
        Spec {
            name: "function|stats",
            arity: 2,
            flags: Flags::NOSCRIPT.with(Flags::ALLOW_BUSY),
            summary: "Tells which function runs, and how many there are.",
            tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
            ..SUBCOMMAND
        },
        Handler::Server(stats),
    ),
];

const NOT_FOUND: CmdError = CmdError::new("ERR Function not found");
const BAD_KEY_COUNT: CmdError = CmdError::new("ERR Bad number of keys provided");

/// Too many arguments for a subcommand.
fn wrong_arguments(ctx: &ServerCtx<'_>) -> CmdError {
    let before = b"ERR unknown subcommand or wrong number of arguments for '";
    CmdError::text([before, ctx.args.get(1), b"'. Try FUNCTION HELP."].concat())
}

fn fcall(ctx: &mut ServerCtx<'_>) -> CmdResult {
    call(ctx, Mode::Any)
}

fn fcall_ro(ctx: &mut ServerCtx<'_>) -> CmdResult {
    call(ctx, Mode::ReadOnly)
}

fn call(ctx: &mut ServerCtx<'_>, mode: Mode) -> CmdResult {
    if !ctx.server.monitors.is_empty() {
        ctx.server.show_to_monitors(ctx.client, ctx.command, ctx.args);
    }
    let args = ctx.args;
    let function = ctx.server.runner.scripts.functions.find(args.get(1)).ok_or(NOT_FOUND)?;
    let (name, flags) = (function.name.clone(), function.flags);
    let key_count = key_count(ctx, BAD_KEY_COUNT)?;
    let read_only = mode == Mode::ReadOnly;
    let server = &mut *ctx.server;
    server.check_script(flags, read_only)?;
    let watched = server.watches_scripts();
    let (first, last) = (3, 3 + key_count);
    let (keys, rest) = ((first..last).map(|i| args.get(i)), (last..args.len()).map(|i| args.get(i)));
    let begun = server.runner.scripts.functions.begin(&name, keys, rest, watched);
    assert!(begun, "the function was found");
    server.run_script(ctx.client, ctx.command, What::Function(name), flags, read_only)
}

impl Server {
    /// Notes that the libraries have changed: a write, though of no key.
    fn libraries_changed(&mut self) {
        self.keyspace.changes.dirty += 1;
    }

    /// Tells when a library has run too long; a client without a connection (the log) may take its time.
    fn load_watch(&self, slot: usize) -> impl FnMut() -> bool + use<> {
        let clock = self.clock.clone();
        let start_ns = clock.mono_ns();
        move || slot != usize::MAX && clock.mono_ns() - start_ns > LOAD_MS_MAX * 1_000_000
    }
}

fn load(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let last = ctx.args.len() - 1;
    let mut policy = Policy::Append;
    for word in (2..last).map(|i| ctx.args.get(i)) {
        if !is(word, "replace") {
            return Err(CmdError::text([&b"ERR Unknown option given: "[..], word].concat()));
        }
        policy = Policy::Replace;
    }
    let watch = ctx.server.load_watch(ctx.client.slot);
    let name = ctx.server.runner.scripts.functions.load(ctx.args.get(last), policy, watch)?;
    ctx.server.libraries_changed();
    ctx.client.reply.bulk(&name);
    Ok(Outcome::Done)
}

fn delete(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if !ctx.server.runner.scripts.functions.delete(ctx.args.get(2)) {
        return Err(CmdError::new("ERR Library not found"));
    }
    ctx.server.libraries_changed();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn flush(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.args.len() > 3 {
        return Err(wrong_arguments(ctx));
    }
    let Some(is_async) = flush_is_async(ctx) else {
        return Err(CmdError::new("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    };
    let (old, parts) = ctx.server.runner.scripts.functions.flush();
    match is_async {
        true => ctx.server.keyspace.background().drop_later(old, parts),
        false => drop(old),
    }
    ctx.server.libraries_changed();
    ctx.propagate = Propagate::Always;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn dump_all(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let compression = match ctx.server.config.rdbcompression {
        true => Compression::Lzf,
        false => Compression::Off,
    };
    let payload = ctx.server.runner.scripts.functions.dump(compression);
    ctx.client.reply.bulk(&payload);
    Ok(Outcome::Done)
}

fn restore(ctx: &mut ServerCtx<'_>) -> CmdResult {
    const POLICIES: [(&str, Policy); 3] =
        [("flush", Policy::Flush), ("append", Policy::Append), ("replace", Policy::Replace)];
    if ctx.args.len() > 4 {
        return Err(wrong_arguments(ctx));
    }
    let policy = match ctx.args.try_get(3) {
        None => Policy::Append,
        Some(word) => POLICIES.iter().find(|(name, _)| is(word, name)).map(|(_, policy)| *policy).ok_or(
            CmdError::new("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."),
        )?,
    };
    let payload = ctx.args.get(2);
    let checksum = match ctx.server.debug.skip_checksums {
        true => dump::Checksum::Skip,
        false => dump::Checksum::Verify,
    };
    if !dump::verify(payload, checksum) {
        return Err(CmdError::new("ERR DUMP payload version or checksum are wrong"));
    }
    let watch = ctx.server.load_watch(ctx.client.slot);
    ctx.server.runner.scripts.functions.restore(payload, policy, watch)?;
    ctx.server.libraries_changed();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn kill(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.kill_script(ScriptSource::Function)?;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn list(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let (mut with_code, mut pattern) = (false, None);
    let mut at = 2;
    while let Some(word) = ctx.args.try_get(at) {
        at += 1;
        if !with_code && is(word, "withcode") {
            with_code = true;
        } else if pattern.is_none() && is(word, "libraryname") {
            pattern =
                Some(ctx.args.try_get(at).ok_or(CmdError::new("ERR library name argument was not given"))?);
            at += 1;
        } else {
            return Err(CmdError::text([&b"ERR Unknown argument "[..], word].concat()));
        }
    }
    let fits = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name, Case::Insensitive));
    let libraries = &ctx.server.runner.scripts.functions;
    let shown: Vec<_> = libraries.libraries().filter(|(name, _)| fits(name)).collect();
    let reply = &mut ctx.client.reply;
    reply.array(shown.len());
    for (name, library) in shown {
        write_library(reply, name, library, with_code);
    }
    Ok(Outcome::Done)
}

fn write_library(reply: &mut Reply, name: &[u8], library: &Library, with_code: bool) {
    reply.map(3 + usize::from(with_code));
    reply.bulk_str("library_name");
    reply.bulk(name);
    reply.bulk_str("engine");
    reply.bulk_str("LUA");
    reply.bulk_str("functions");
    reply.array(library.functions.len());
    library.functions.iter().for_each(|function| write_function(reply, function));
    if with_code {
        reply.bulk_str("library_code");
        reply.bulk(&library.code);
    }
}

fn write_function(reply: &mut Reply, function: &FunctionInfo) {
    reply.map(3);
    reply.bulk_str("name");
    reply.bulk(&function.name);
    reply.bulk_str("description");
    match &function.description {
        Some(text) => reply.bulk(text),
        None => reply.null(),
    }
    reply.bulk_str("flags");
    let flags: Vec<_> = function.flags.names().collect();
    reply.set(flags.len());
    flags.into_iter().for_each(|flag| reply.simple(flag));
}

fn stats(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let runner = &ctx.server.runner;
    let run = runner.scripts.run.as_ref();
    if run.is_some_and(|run| matches!(run.what, What::Script(_))) {
        return Err(runner.busy_error());
    }
    let reply = &mut ctx.client.reply;
    reply.map(2);
    reply.bulk_str("running_script");
    match run {
        None => reply.null(),
        Some(run) => {
            reply.map(3);
            reply.bulk_str("name");
            reply.bulk(&runner.scripts.running_name());
            reply.bulk_str("command");
            let args: Vec<&[u8]> = runner.parked_args().map_or(Vec::new(), |args| args.iter().collect());
            reply.array(args.len());
            args.into_iter().for_each(|arg| reply.bulk(arg));
            reply.bulk_str("duration_ms");
            reply.int(((ctx.server.now.mono_ns - run.since_ns) / 1_000_000) as i64);
        }
    }
    reply.bulk_str("engines");
    reply.map(1);
    reply.bulk_str("LUA");
    reply.map(2);
    reply.bulk_str("libraries_count");
    reply.len_int(runner.scripts.functions.len());
    reply.bulk_str("functions_count");
    reply.len_int(runner.scripts.functions.function_count());
    Ok(Outcome::Done)
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    const LINES: &[&str] = &[
        "DELETE <library-name>",
        "    Remove a library and its functions.",
        "DUMP",
        "    Return all libraries as bytes for RESTORE.",
        "FLUSH [ASYNC|SYNC]",
        "    Remove all libraries, in the background or at once. Without a mode",
        "    lazyfree-lazy-user-flush decides.",
        "KILL",
        "    Stop the function that runs, if it has not written yet.",
        "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
        "    Return the libraries whose names match, their engine and functions, and their code.",
        "LOAD [REPLACE] <code>",
        "    Load a library from its source. One of the same name is replaced only with REPLACE.",
        "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
        "    Add the libraries of a DUMP: after removing all others (FLUSH), beside them (APPEND, the",
        "    default), or in the place of those with the same names (REPLACE).",
        "STATS",
        "    Return which function runs, with its command and for how long, and counts for each engine.",
    ];
    super::help(ctx, "FUNCTION", LINES);
    Ok(Outcome::Done)
}
