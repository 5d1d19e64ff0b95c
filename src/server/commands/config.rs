//! CONFIG GET, SET, REWRITE, RESETSTAT, and what a changed option takes effect on.

use crate::command::Outcome;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::config::{Apply, Caller, Engine, Pending, Scope, SetError, Syntax};
use crate::server::table::Handler;
use crate::server::{NetOp, Server, ServerCtx, memory};

const ADMIN: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE);

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "config",
            arity: -2,
            flags: Flags::CONTAINER,
            group: "server",
            since: "2.0.0",
            summary: "Commands about options.",
            complexity: "Depends on subcommand.",
            ..SPEC
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "config|get",
            arity: -3,
            flags: ADMIN,
            group: "server",
            since: "2.0.0",
            summary: "Tells the values of the options that match the patterns.",
            complexity: "O(N) when N is the number of configuration parameters provided",
            usage: "parameter [parameter ...]",
            history: &[("7.0.0", "Added the ability to pass multiple pattern parameters in one call")],
            ..SPEC
        },
        Handler::Server(config_get),
    ),
    (
        Spec {
            name: "config|set",
            arity: -4,
            flags: ADMIN.with(Flags::SENSITIVE_OPTIONS),
            group: "server",
            since: "2.0.0",
            summary: "Changes options of the running server, all or none.",
            complexity: "O(N) when N is the number of configuration parameters provided",
            usage: "parameter value [parameter value ...]",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            history: &[("7.0.0", "Added the ability to set multiple parameters in one call.")],
            ..SPEC
        },
        Handler::Server(config_set),
    ),
    (
        Spec {
            name: "config|resetstat",
            arity: 2,
            flags: ADMIN,
            group: "server",
            since: "2.0.0",
            summary: "Sets the server's counters back to zero.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..SPEC
        },
        Handler::Server(config_resetstat),
    ),
    (
        Spec {
            name: "config|rewrite",
            arity: 2,
            flags: ADMIN,
            group: "server",
            since: "2.8.0",
            summary: "Writes the changed options to the configuration file.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..SPEC
        },
        Handler::Server(config_rewrite),
    ),
    (
        Spec {
            name: "config|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            acl: Acl(0),
            group: "server",
            since: "5.0.0",
            summary: "Explains the subcommands.",
            ..SPEC
        },
        Handler::Server(config_help),
    ),
];

fn config_get(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let patterns: Vec<&[u8]> = ctx.args.iter().skip(2).collect();
    let found = ctx.server.config.get_all(&patterns);
    let reply = &mut ctx.client.reply;
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk_str(name);
        reply.bulk_str(&value);
    }
    Ok(Outcome::Done)
}

fn config_set(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.args.len() % 2 == 1 {
        return Err(crate::command::error::wrong_arity("config|set"));
    }
    let words: Vec<&[u8]> = ctx.args.iter().skip(2).collect();
    let pairs: Vec<(&[u8], &[u8])> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let caller = Caller { local: ctx.client.peer.is_local, loading: ctx.server.is_loading() };
    let saved = ctx.server.config.clone();
    let pending = ctx.server.config.set_for(&pairs, caller).map_err(|e| set_error(&e))?;
    if pending.iter().any(|step| step.apply == Apply::RequirePass) {
        ctx.server.apply_password(Some(ctx.client));
    }
    for (i, step) in pending.iter().enumerate() {
        if let Err(reason) = ctx.server.apply(step.apply) {
            ctx.server.config.restore(saved);
            // What took effect already takes the old values again.
            for done in &pending[..i] {
                if let Err(error) = ctx.server.apply(done.apply) {
                    log::error!(target: "aikv", "Putting {} back: {error}", done.option);
                }
            }
            return Err(set_error(&SetError::not_applied(*step, &reason)));
        }
    }
    // Also what follows from options without a step of their own (lazy frees, use counters).
    ctx.server.apply_all();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn set_error(error: &SetError) -> CmdError {
    match error {
        SetError::Loading => CmdError::text(error.to_string()),
        _ => CmdError::text(format!("ERR {error}")),
    }
}

fn config_resetstat(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.stats.reset();
    ctx.server.defrag.reset(ctx.server.now.mono_ns);
    ctx.server.keyspace.stats = Default::default();
    ctx.server.keyspace.background().reset_freed_objects();
    ctx.server.memory.exceeded_since_ns = None;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn config_rewrite(ctx: &mut ServerCtx<'_>) -> CmdResult {
    rewrite(ctx, Scope::Changed)
}

/// CONFIG REWRITE with all options, also those that have their default (DEBUG CONFIG-REWRITE-FORCE-ALL).
pub(super) fn rewrite_all(ctx: &mut ServerCtx<'_>) -> CmdResult {
    rewrite(ctx, Scope::Everything)
}

fn rewrite(ctx: &mut ServerCtx<'_>, scope: Scope) -> CmdResult {
    let path = ctx.server.process.config_file.clone();
    if path.is_empty() {
        return Err(CmdError::new("ERR The server is running without a config file"));
    }
    let failed = |reason: String| CmdError::text(format!("ERR Rewriting config file: {reason}"));
    let path = std::path::Path::new(&path);
    let old = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let syntax = Syntax::of(path, old.as_bytes());
    ctx.server.config.users = ctx.server.user_lines();
    let new = ctx.server.config.rewrite(&old, syntax, scope).map_err(|e| failed(e.to_string()))?;
    crate::sys::file::write_atomically(path, new.as_bytes()).map_err(|e| failed(e.to_string()))?;
    log::info!(target: "aikv", "CONFIG REWRITE executed with success.");
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn config_help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "CONFIG",
        &[
            "GET <pattern> [<pattern> ...]",
            "    Return parameters that match the glob patterns, with their values.",
            "SET <parameter> <value> [<parameter> <value> ...]",
            "    Set parameters: all of them or, if one is refused, none.",
            "RESETSTAT",
            "    Set the counters of INFO back to zero.",
            "REWRITE",
            "    Write the changed parameters to the configuration file.",
        ],
    );
    Ok(Outcome::Done)
}

impl Server {
    /// Puts all options into effect (at start).
    pub(in crate::server) fn apply_all(&mut self) {
        self.keyspace.access.policy = memory::access_policy(&self.config);
        self.keyspace.lazy_free = memory::lazy_free(&self.config);
        self.arm_from_config();
        self.update_listeners();
        self.update_slow_threshold();
        self.apply_client_memory();
        self.update_durability();
    }

    /// Puts a changed option into effect. The error says why that is not possible.
    fn apply(&mut self, apply: Apply) -> Result<(), String> {
        match apply {
            Apply::Bind => self.apply_listeners("Failed to bind to specified addresses."),
            Apply::Port => self.apply_listeners("Unable to listen on this port. Check server logs."),
            Apply::ProcTitle => {
                self.set_process_title();
                Ok(())
            }
            Apply::Slowlog => {
                self.stats.slowlog.trim(self.config.slowlog_max_len);
                self.apply_all();
                Ok(())
            }
            Apply::Maxmemory => {
                self.keyspace.clear_eviction_pool();
                self.apply_all();
                self.make_room();
                Ok(())
            }
            Apply::Scripts => {
                self.runner.scripts.set_limit(self.config.lua_memory_limit as usize);
                Ok(())
            }
            Apply::Maxclients => self.apply_maxclients(),
            Apply::Locale => match crate::sys::locale::Collation::named(&self.config.locale_collate) {
                Some(_) => Ok(()),
                None => Err("Invalid locale name".into()),
            },
            Apply::Log => crate::sys::log::reconfigure(self.config.log_options()).map_err(|e| e.to_string()),
            Apply::Appendonly => self.apply_appendonly(),
            Apply::AofGc => {
                self.delete_history();
                Ok(())
            }
            Apply::Save => {
                self.update_disk_gate();
                Ok(())
            }
            Apply::Dir => self.apply_dir(),
            Apply::OomScoreAdj => self.apply_oom_score(),
            Apply::JemallocThread => self.apply_jemalloc_thread(),
            Apply::CrashLog => {
                self.apply_crash_log();
                Ok(())
            }
            Apply::Watchdog => {
                self.apply_watchdog();
                Ok(())
            }
            _ => {
                self.apply_all();
                Ok(())
            }
        }
    }

    /// Enters another data directory. That of engine `aidb` is locked and holds its log.
    fn apply_dir(&mut self) -> Result<(), String> {
        let entered = std::env::current_dir().unwrap_or_default();
        let same = std::fs::canonicalize(&self.config.dir).is_ok_and(|dir| dir == entered);
        if self.config.storage_engine == Engine::Aidb && !same {
            return Err("the data directory of engine aidb cannot be changed while it runs".to_owned());
        }
        crate::sys::process::chdir(&self.config.dir).map_err(|e| crate::util::text::plain_error(&e))
    }

    /// Lets `net` listen on other addresses, if that can be.
    fn apply_listeners(&mut self, failure: &str) -> Result<(), String> {
        if let Err(error) = (self.listen_check)(&self.config, &self.process.addresses) {
            log::warn!(target: "aikv", "Could not listen: {error}");
            return Err(failure.to_owned());
        }
        self.net_ops.push(NetOp::Rebind);
        Ok(())
    }

    /// As many descriptors as clients may come, and some for the server itself.
    fn apply_maxclients(&mut self) -> Result<(), String> {
        let wanted = u64::from(self.config.maxclients) + RESERVED_FILES;
        if crate::sys::process::raise_open_files(wanted) >= wanted {
            return Ok(());
        }
        Err("The operating system is not able to handle the specified number of clients, try with a lower \
             number"
            .to_string())
    }
}

/// Descriptors kept free for files, listeners and the like.
pub const RESERVED_FILES: u64 = 32;

/// Keeps the type in sight where only its parts are used.
const _: fn(&Pending) -> Apply = |pending| pending.apply;
