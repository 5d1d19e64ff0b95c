//! MONITOR: a connection that is shown every command as it runs. `call`'s callers feed; here is what a
//! line looks like, who gets it, and how a client begins and ends to monitor.

use crate::command::Outcome;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec};
use crate::resp::Args;
use crate::server::client::{Client, Role};
use crate::server::gate::bit;
use crate::server::table::{Command, Handler};
use crate::server::{Server, ServerCtx, redact};
use crate::util::quote::push_quoted;

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[(
    Spec {
        name: "monitor",
        arity: 1,
        flags: Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE),
        group: "server",
        summary: "Shows the connection every command that the server runs.",
        complexity: "",
        ..SPEC
    },
    Handler::Server(monitor),
)];

/// Inside a transaction each command has one reply.
const NOT_HERE: CmdError = CmdError::new("ERR MONITOR isn't allowed for DENY BLOCKING client");

fn monitor(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.server.unit.no_waiting {
        return Err(NOT_HERE);
    }
    // A client that monitors already gets no second reply, as in Redis.
    if ctx.client.role != Role::Monitor {
        ctx.client.role = Role::Monitor;
        ctx.server.monitors.push(ctx.client.slot);
        ctx.server.arm(bit::MONITORS, true);
        ctx.client.reply.ok();
    }
    Ok(Outcome::Done)
}

impl Server {
    /// Makes a monitoring client a normal one again.
    pub(in crate::server) fn end_monitoring(&mut self, client: &mut Client) {
        if client.role == Role::Monitor {
            client.role = Role::Normal;
            self.monitors.retain(|slot| *slot != client.slot);
            self.arm(bit::MONITORS, !self.monitors.is_empty());
        }
    }

    /// Shows a command that ran to the clients that monitor: `+time [db address] "name" "argument" ...`.
    /// Operators' commands are not shown; secrets are cut.
    #[cold]
    pub(in crate::server) fn feed_monitors(
        &mut self,
        client: &mut Client,
        command: &Command,
        args: Args<'_>,
    ) {
        if !command.is(Flags::SKIP_MONITOR) {
            self.show_to_monitors(client, command, args);
        }
    }

    /// Shows a command that monitors are not shown by itself: one that runs a script shows itself, so that it
    /// comes before the commands of the script.
    pub(in crate::server) fn show_to_monitors(
        &mut self,
        client: &mut Client,
        command: &Command,
        args: Args<'_>,
    ) {
        if command.is(Flags::ADMIN) || self.is_loading() {
            return;
        }
        let us = self.clock.wall_us();
        let mut line = format!("+{}.{:06} [{} ", us / 1_000_000, us % 1_000_000, client.db).into_bytes();
        line.extend_from_slice(source_of(client).as_bytes());
        line.push(b']');
        for arg in redact(command, args) {
            line.push(b' ');
            push_quoted(&mut line, &arg);
        }
        line.extend_from_slice(b"\r\n");
        for slot in self.monitors.clone() {
            if slot != client.slot {
                self.send_to(slot, &line);
            } else if client.close.is_none() {
                client.reply.raw(&line);
            }
        }
    }
}

/// Where a command came from, as a line names it.
fn source_of(client: &Client) -> String {
    match client.role {
        Role::Internal | Role::Script => "lua".to_owned(),
        _ if client.peer.is_unix => format!("unix:{}", client.peer.addr.trim_end_matches(":0")),
        _ => client.peer.addr.clone(),
    }
}
