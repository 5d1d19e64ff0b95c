//! SHUTDOWN, and the end of the process by a signal.

use crate::command::Outcome;
use crate::command::args::{Cursor, is};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec};
use crate::server::script::SHUT_DOWN;
use crate::server::table::Handler;
use crate::server::{NetOp, Server, ServerCtx};
use crate::sys::signals::Signal;

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[(
    Spec {
        name: "shutdown",
        arity: -1,
        flags: Flags::ADMIN
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::NO_MULTI)
            .with(Flags::ALLOW_BUSY)
            .with(Flags::PAUSE_OK),
        group: "server",
        summary: "Saves the data if it is to be saved, and ends the server.",
        complexity: "O(N) when saving, where N is the total number of keys in all databases when saving, \
                     otherwise O(1)",
        usage: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        history: &[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")],
        ..SPEC
    },
    Handler::Server(shutdown),
)];

/// Nothing to abort.
const NO_SHUTDOWN: CmdError = CmdError::new("ERR No shutdown in progress.");

fn shutdown(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut cursor = Cursor::new(ctx.args, 1);
    let (mut save, mut nosave, mut abort, mut others) = (false, false, false, false);
    while !cursor.is_done() {
        let word = cursor.take()?;
        match () {
            () if is(word, "save") => save = true,
            () if is(word, "nosave") => nosave = true,
            () if is(word, "abort") => abort = true,
            () if is(word, "now") || is(word, "force") => others = true,
            () => return Err(error::SYNTAX),
        }
    }
    if (save && nosave) || (abort && (save || nosave || others)) {
        return Err(error::SYNTAX);
    }
    if abort {
        return Err(NO_SHUTDOWN);
    }
    if !nosave && ctx.server.runner.scripts.is_busy() {
        return Err(ctx.server.runner.busy_error());
    }
    log::warn!(target: "aikv", "User requested shutdown...");
    ctx.server.shut_down();
    // No reply: the client sees the end of the connection.
    ctx.client.close_now();
    Ok(Outcome::Done)
}

impl Server {
    /// Ends the process because a signal asked for it.
    pub fn shutdown_by_signal(&mut self, signal: Signal) {
        let name = match signal {
            Signal::Interrupt => "SIGINT",
            _ => "SIGTERM",
        };
        log::warn!(target: "aikv", "Received {name} scheduling shutdown...");
        if self.runner.is_parked() {
            return self.shut_down_after_script(signal);
        }
        self.shut_down();
    }

    /// The data is whole only when the script has ended; one that has not written is stopped.
    fn shut_down_after_script(&mut self, signal: Signal) {
        self.runner.signal = Some(signal);
        if let Some(run) = self.runner.scripts.run.as_mut().filter(|run| !run.wrote) {
            run.kill = Some(SHUT_DOWN);
        }
    }

    fn shut_down(&mut self) {
        log::warn!(target: "aikv", "AiKv is now ready to exit, bye bye...");
        self.net_ops.push(NetOp::Exit(0));
    }
}
