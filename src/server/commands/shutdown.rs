//! SHUTDOWN, and the end of the process by a signal.

use crate::command::Outcome;
use crate::command::args::{Cursor, is};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec};
use crate::config::ShutdownFlags;
use crate::server::aof::State;
use crate::server::child::Job;
use crate::server::script::SHUT_DOWN;
use crate::server::table::Handler;
use crate::server::{NetOp, Server, ServerCtx};
use crate::sys::signals::{self, Signal, Urgency};

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

/// The data could not be saved.
const SHUTDOWN_FAILED: CmdError = CmdError::new("ERR Errors trying to SHUTDOWN. Check logs.");

fn shutdown(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut cursor = Cursor::new(ctx.args, 1);
    let (mut asked, mut abort) = (ShutdownFlags::DEFAULT, false);
    while !cursor.is_done() {
        let word = cursor.take()?;
        match () {
            () if is(word, "save") => asked = asked.with(ShutdownFlags::SAVE),
            () if is(word, "nosave") => asked = asked.with(ShutdownFlags::NOSAVE),
            () if is(word, "now") => asked = asked.with(ShutdownFlags::NOW),
            () if is(word, "force") => asked = asked.with(ShutdownFlags::FORCE),
            () if is(word, "abort") => abort = true,
            () => return Err(error::SYNTAX),
        }
    }
    let both = ShutdownFlags::SAVE.with(ShutdownFlags::NOSAVE);
    if asked.contains(both) || (abort && asked != ShutdownFlags::DEFAULT) {
        return Err(error::SYNTAX);
    }
    if abort {
        return abort_shutdown(ctx);
    }
    if !asked.contains(ShutdownFlags::NOSAVE) && ctx.server.runner.scripts.is_busy() {
        return Err(ctx.server.runner.busy_error());
    }
    log::warn!(target: "aikv", "User requested shutdown...");
    if !ctx.server.shut_down(asked) {
        return Err(SHUTDOWN_FAILED);
    }
    // No reply: the client sees the end of the connection.
    ctx.client.close_now();
    Ok(Outcome::Done)
}

fn abort_shutdown(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.shutdown_asked.take().ok_or(NO_SHUTDOWN)?;
    log::warn!(target: "aikv", "Shutdown manually aborted.");
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

impl Server {
    /// Notes that a signal asked for the end of the process; the cron sees to it.
    pub fn shutdown_by_signal(&mut self, signal: Signal) {
        log::warn!(target: "aikv", "Received {} scheduling shutdown...", signal_name(signal));
        self.shutdown_asked = Some(signal);
        // The data is whole only when a script that runs has ended; one that has not written is stopped.
        if let Some(run) = self.runner.scripts.run.as_mut().filter(|run| !run.wrote) {
            run.kill = Some(SHUT_DOWN);
        }
    }

    /// Ends the process if a signal asked for it.
    pub(in crate::server) fn shut_down_if_asked(&mut self) {
        let Some(signal) = self.shutdown_asked.take() else { return };
        let flags = match signal {
            Signal::Interrupt => self.config.shutdown_on_sigint,
            _ => self.config.shutdown_on_sigterm,
        };
        if !self.shut_down(flags) {
            let name = signal_name(signal);
            log::warn!(
                target: "aikv",
                "{name} received but errors trying to shut down the server, check the logs for more \
                 information"
            );
        }
    }

    /// Saves what is to be saved and ends the process; false if that failed and the process goes on.
    fn shut_down(&mut self, asked: ShutdownFlags) -> bool {
        signals::set_urgency(Urgency::ShuttingDown);
        if self.child.as_ref().is_some_and(|child| child.job == Job::Snapshot) {
            log::warn!(target: "aikv", "There is a child saving an .rdb. Killing it!");
        }
        if !self.may_end_rewrite(asked) {
            signals::set_urgency(Urgency::Normal);
            return false;
        }
        self.kill_child_now();
        self.kill_sessions();
        let by_points = self.has_save_points() && !asked.contains(ShutdownFlags::NOSAVE);
        if (by_points || asked.contains(ShutdownFlags::SAVE)) && !self.is_loading() {
            log::info!(target: "aikv", "Saving the final RDB snapshot before exiting.");
            if self.save_now().is_err() {
                if !asked.contains(ShutdownFlags::FORCE) {
                    log::error!(target: "aikv", "Error trying to save the DB, can't exit.");
                    signals::set_urgency(Urgency::Normal);
                    return false;
                }
                log::error!(target: "aikv", "Error trying to save the DB, exiting anyway.");
            }
        }
        if self.aof.takes_effects() {
            log::info!(target: "aikv", "Calling fsync() on the AOF file.");
        }
        if !self.flush_log_and_wait() && !asked.contains(ShutdownFlags::FORCE) {
            log::error!(target: "aikv", "The append-only log is not on disk, can't exit.");
            signals::set_urgency(Urgency::Normal);
            return false;
        }
        log::warn!(target: "aikv", "AiKv is now ready to exit, bye bye...");
        self.net_ops.push(NetOp::Exit(0));
        true
    }
}

impl Server {
    /// Whether the child that rewrites the log may be killed: while it writes the first base, there is no
    /// other log.
    fn may_end_rewrite(&self, asked: ShutdownFlags) -> bool {
        if self.child.as_ref().is_none_or(|child| child.job != Job::LogRewrite) {
            return true;
        }
        if self.aof.state != State::WaitRewrite {
            log::warn!(target: "aikv", "There is a child rewriting the AOF. Killing it!");
            return true;
        }
        let force = asked.contains(ShutdownFlags::FORCE);
        let then = if force { "Exit anyway." } else { "can't exit." };
        log::warn!(target: "aikv", "Writing initial AOF, {then}");
        force
    }
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Interrupt => "SIGINT",
        _ => "SIGTERM",
    }
}
