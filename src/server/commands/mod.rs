//! The server commands: those that need more than the keyspace. Same shape as the data families: const
//! rows beside their functions.

pub mod acl;
pub mod admin;
pub mod aof;
pub mod client;
pub(super) mod client_list;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
mod debug_data;
mod debug_look;
pub mod function;
pub mod info;
pub mod latency;
pub mod memory;
pub mod migrate;
pub mod module;
pub mod monitor;
pub mod pubsub;
pub mod replication;
pub mod restore;
pub mod save;
pub mod script;
pub mod shutdown;
pub mod slowlog;
pub mod tracking;
pub mod transaction;

use super::table::Handler;
use crate::command::CmdError;
use crate::command::spec::Spec;
use crate::config::{Caller, YesNoLocal};

/// The rows of all server commands, family by family.
pub const FAMILIES: &[&[(Spec, Handler)]] = &[
    connection::COMMANDS,
    transaction::COMMANDS,
    script::COMMANDS,
    function::COMMANDS,
    config::COMMANDS,
    shutdown::COMMANDS,
    admin::COMMANDS,
    aof::COMMANDS,
    debug::COMMANDS,
    info::COMMANDS,
    memory::COMMANDS,
    slowlog::COMMANDS,
    latency::COMMANDS,
    acl::COMMANDS,
    client::COMMANDS,
    tracking::COMMANDS,
    monitor::COMMANDS,
    restore::COMMANDS,
    migrate::COMMANDS,
    replication::COMMANDS,
    cluster::COMMANDS,
    module::COMMANDS,
    save::COMMANDS,
    pubsub::COMMANDS,
    command::COMMANDS,
];

/// Writes the lines of a HELP subcommand.
pub(super) fn help(ctx: &mut super::ServerCtx<'_>, container: &str, lines: &[&str]) {
    crate::command::help(&mut ctx.client.reply, container, lines);
}

/// Refuses callers whom an option enable-...-command does not let in; `name` is the command's, in lower case.
pub(super) fn check_protected(
    ctx: &super::ServerCtx<'_>,
    allowed: YesNoLocal,
    name: &str,
) -> Result<(), CmdError> {
    let peer = &ctx.client.peer;
    if allowed.allows(Caller { local: peer.is_local || peer.is_unix, loading: false }) {
        return Ok(());
    }
    Err(CmdError::text(format!(
        "ERR {} command not allowed. If the enable-{name}-command option is set to \"local\", you can run it \
         from a local connection, otherwise you need to set this option in the configuration file, and then \
         restart the server.",
        name.to_uppercase()
    )))
}
