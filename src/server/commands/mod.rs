//! The server commands: those that need more than the keyspace. Same shape as the data families: const
//! rows beside their functions.

pub mod client;
mod client_list;
pub mod command;
pub mod config;
pub mod connection;
pub mod info;
pub mod latency;
pub mod monitor;
pub mod shutdown;
pub mod slowlog;
pub mod transaction;

use super::table::Handler;
use crate::command::spec::Spec;

/// The rows of all server commands, family by family.
pub const FAMILIES: &[&[(Spec, Handler)]] = &[
    connection::COMMANDS,
    transaction::COMMANDS,
    config::COMMANDS,
    shutdown::COMMANDS,
    info::COMMANDS,
    slowlog::COMMANDS,
    latency::COMMANDS,
    client::COMMANDS,
    monitor::COMMANDS,
    command::COMMANDS,
];

/// Writes the lines of a HELP subcommand the way Redis' containers do.
pub(super) fn help(ctx: &mut super::ServerCtx<'_>, container: &str, lines: &[&str]) {
    let reply = &mut ctx.client.reply;
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
