//! MODULE. AiKv has no modules and loads none: the list is empty, and who may ask for loading is told so.

use crate::command::Outcome;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec};
use crate::server::ServerCtx;
use crate::server::table::Handler;

const ADMIN: Flags = Flags::ADMIN.with(Flags::NOSCRIPT);
const LOADING: Flags = ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::PROTECTED);

/// What the rows share.
const MODULE: Spec = Spec { group: "server", since: "4.0.0", ..SPEC };

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "module",
            arity: -2,
            flags: Flags::CONTAINER,
            summary: "Commands about modules.",
            complexity: "Depends on subcommand.",
            ..MODULE
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "module|list",
            arity: 2,
            flags: ADMIN,
            summary: "Lists the loaded modules: there are none.",
            complexity: "O(N) where N is the number of loaded modules.",
            tips: &["nondeterministic_output_order"],
            ..MODULE
        },
        Handler::Server(list),
    ),
    (
        Spec {
            name: "module|load",
            arity: -3,
            flags: LOADING,
            summary: "Would load a module; AiKv loads none and says so.",
            usage: "path [arg [arg ...]]",
            ..MODULE
        },
        Handler::Server(load),
    ),
    (
        Spec {
            name: "module|loadex",
            arity: -3,
            flags: LOADING,
            since: "7.0.0",
            summary: "Would load a module with options; AiKv loads none and says so.",
            usage: "path [CONFIG name value [CONFIG name value ...]] [ARGS arg [arg ...]]",
            ..MODULE
        },
        Handler::Server(load),
    ),
    (
        Spec {
            name: "module|unload",
            arity: 3,
            flags: LOADING,
            summary: "Would unload a module; there are none.",
            usage: "name",
            ..MODULE
        },
        Handler::Server(unload),
    ),
    (
        Spec {
            name: "module|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            since: "5.0.0",
            summary: "Explains the subcommands.",
            ..MODULE
        },
        Handler::Server(help),
    ),
];

/// A module was to be loaded.
const NO_MODULES: CmdError = CmdError::new("ERR Error loading the extension: modules are not supported");
/// A module was to be unloaded.
const NO_SUCH_MODULE: CmdError = CmdError::new("ERR Error unloading module: no such module with that name");

fn list(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.array(0);
    Ok(Outcome::Done)
}

fn load(ctx: &mut ServerCtx<'_>) -> CmdResult {
    check_allowed(ctx)?;
    Err(NO_MODULES)
}

fn unload(ctx: &mut ServerCtx<'_>) -> CmdResult {
    check_allowed(ctx)?;
    Err(NO_SUCH_MODULE)
}

fn check_allowed(ctx: &ServerCtx<'_>) -> Result<(), CmdError> {
    super::check_protected(ctx, ctx.server.config.enable_module_command, "module")
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "MODULE",
        &[
            "LIST",
            "    List the loaded modules: there are none.",
            "LOAD <path> [<arg> ...]",
            "    Refused: modules are not supported.",
            "LOADEX <path> [CONFIG <name> <value> ...] [ARGS <arg> ...]",
            "    Refused: modules are not supported.",
            "UNLOAD <name>",
            "    Refused: there are none.",
        ],
    );
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, YesNoLocal};
    use crate::server::Server;
    use crate::server::client::Peer;
    use crate::sys::background::Background;
    use crate::sys::clock::Clock;

    /// The reply to a request, where the option lets some callers in.
    fn reply(allowed: YesNoLocal, is_local: bool, request: &str) -> String {
        crate::collections::hash::seed_hashes(7);
        let config = Config { enable_module_command: allowed, protected_mode: false, ..Config::default() };
        let mut server = Server::new(config, Clock::fake(1), 7, Background::inline()).unwrap();
        let slot = server.accept(Peer { is_local, ..Peer::default() }).unwrap();
        let client = server.clients.get_mut(slot).unwrap();
        client.input.feed(format!("{request}\r\n").as_bytes());
        server.run(slot);
        let reply = server.clients.get_mut(slot).unwrap().reply.take();
        String::from_utf8(reply).unwrap()
    }

    #[test]
    fn who_may_ask_for_modules_is_told_that_there_are_none() {
        let refused = "-ERR MODULE command not allowed. If the enable-module-command option is set to";
        for request in ["MODULE LOAD x.so", "MODULE LOADEX x.so ARGS a", "MODULE UNLOAD x"] {
            for (allowed, is_local) in
                [(YesNoLocal::No, true), (YesNoLocal::No, false), (YesNoLocal::Local, false)]
            {
                assert!(reply(allowed, is_local, request).starts_with(refused), "{request}");
            }
            for (allowed, is_local) in [(YesNoLocal::Yes, false), (YesNoLocal::Local, true)] {
                let told = match request.contains("UNLOAD") {
                    true => "-ERR Error unloading module: no such module with that name\r\n",
                    false => "-ERR Error loading the extension: modules are not supported\r\n",
                };
                assert_eq!(reply(allowed, is_local, request), told, "{request}");
            }
        }
        assert_eq!(reply(YesNoLocal::No, false, "MODULE LIST"), "*0\r\n");
    }
}
