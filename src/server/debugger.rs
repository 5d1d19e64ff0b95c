//! Sessions of the script debugger: SCRIPT DEBUG chooses for a client how its next EVAL runs. In a forked
//! session a child does all of it: it alone has the connection from then on, and what the script changes ends
//! with it. In a session of the server itself everybody waits, and the changes stay. What the user sees and
//! may do is in `script/debugger`; this file begins and ends sessions and runs their commands.
//!
//! The rules for the child are those of `sys/fork`: it uses no lock, no log, no thread and no descriptor of
//! the server's but the one connection; it never leaves the unit it runs in, so that nothing is propagated.

use super::client::{Client, Close, DebugMode, ReplyMode};
use super::{Server, ServerCtx};
use crate::command::Outcome;
use crate::command::error::{CmdError, CmdResult};
use crate::script::ScriptStep as Step;
use crate::script::debugger::{Debugger, Next, Wire};
use crate::sys::background::Background;
use crate::sys::fork::{self, Pid};
use crate::sys::{log as logger, process};
use std::mem;

/// Forked sessions at a time: their clients are no clients of the server any more, so that `maxclients` does
/// not limit them.
const SESSIONS_MAX: usize = 64;
/// Milliseconds after which a script without a stop is stopped if `busy-reply-threshold` says never.
const LIMIT_MS: u64 = 5_000;

const NO_CONNECTION: CmdError = CmdError::new("ERR The Lua debugger needs a connection of its own");
const IN_TRANSACTION: CmdError =
    CmdError::new("ERR A forked debugging session cannot begin inside a transaction");
const IN_PIPELINE: CmdError = CmdError::new("ERR A debugging session must begin outside a pipeline");
const TOO_MANY: CmdError =
    CmdError::new("ERR Fork() failed: can't run EVAL in debugging mode: too many sessions");

/// Gives the way past the event loop to a client by its descriptor; `net` gives it to the server.
pub type OpenWire = fn(i32) -> Box<dyn Wire>;

/// The session in which the running script is debugged.
pub struct Session {
    debugger: Debugger,
    wire: Box<dyn Wire>,
}

impl Server {
    /// Runs a script, by `run`, in a session as the client has chosen it.
    #[cold]
    pub(super) fn debug_script(
        ctx: &mut ServerCtx<'_>,
        run: impl FnOnce(&mut ServerCtx<'_>) -> CmdResult,
    ) -> CmdResult {
        let open_wire = ctx.server.open_wire.filter(|_| ctx.client.slot != usize::MAX);
        let open_wire = open_wire.ok_or(NO_CONNECTION)?;
        if !ctx.client.held.is_empty() {
            // What waits for the log would have to be sent first.
            return Err(IN_PIPELINE);
        }
        match ctx.client.debug {
            DebugMode::Forked => fork_session(ctx, open_wire, run),
            _ => {
                log::info!(target: "aikv", "Synchronous session of the script debugger started");
                let result = hold_session(ctx, open_wire, run);
                log::info!(target: "aikv", "Synchronous session of the script debugger ended");
                // The end of the connection tells the user of the end of the session.
                ctx.client.close.get_or_insert(Close::AfterReply);
                result
            }
        }
    }

    /// Whether the script that runs is debugged.
    pub(super) fn is_debugging(&self) -> bool {
        self.runner.session.is_some()
    }

    /// The script that is about to start is debugged, if there is a session.
    pub(super) fn begin_debugging(&mut self) {
        if let Some(session) = &mut self.runner.session {
            session.debugger.begin(self.runner.scripts.vm());
        }
    }

    /// The script is at a line: its next step.
    pub(super) fn debug_line(&mut self) -> Step {
        let mut session = self.runner.session.take().expect("only a debugged script stops at lines");
        let Session { debugger, wire } = &mut *session;
        let mut next = debugger.stopped(self.runner.scripts.vm(), wire, &self.clock);
        let step = loop {
            match next {
                Next::Step(step) => break step,
                Next::Command(words) => {
                    self.runner.session = Some(session);
                    self.run_for_debugger(&words);
                    session = self.runner.session.take().expect("commands leave the session");
                    let Session { debugger, wire } = &mut *session;
                    next = debugger.answered(self.runner.scripts.vm(), wire, &self.clock);
                }
            }
        };
        self.runner.session = Some(session);
        // What the user took is not the script's, nor its next command's.
        self.read_clock();
        step
    }

    /// Code that the user lets evaluate runs for a while: its next step.
    pub(super) fn debug_interrupt(&mut self) -> Step {
        let session = self.runner.session.as_mut().expect("only a debugged script evaluates");
        session.debugger.interrupted(self.runner.scripts.vm(), &self.clock)
    }

    /// The session, if the command that is about to run is shown in it, and the machine.
    pub(super) fn showing_debugger(&mut self) -> Option<(&mut Debugger, &mut crate::script::Machine)> {
        let session = self.runner.session.as_mut()?;
        let vm = self.runner.scripts.vm();
        session.debugger.shows_calls().then_some((&mut session.debugger, vm))
    }

    /// Collects children whose sessions have ended.
    pub(super) fn collect_sessions(&mut self) {
        self.runner.forked_sessions.retain(|pid| match fork::try_wait(*pid) {
            Ok(end) => end.is_none(),
            Err(error) => {
                log::warn!(target: "aikv", "Waiting for debugging session {pid}: {error}");
                false
            }
        });
    }

    /// Ends all forked sessions: the process is about to end, too.
    pub(super) fn kill_sessions(&mut self) {
        for pid in mem::take(&mut self.runner.forked_sessions) {
            log::info!(target: "aikv", "Killing debugging session {pid}");
            if let Err(error) = fork::kill(pid, libc::SIGKILL).and_then(|()| fork::wait(pid).map(drop)) {
                log::warn!(target: "aikv", "Killing debugging session {pid}: {error}");
            }
        }
    }

    /// Makes this process, a fork of the server, one that shares nothing with it but a client's connection.
    fn become_session(&mut self, client: &Client) {
        fork::close_inherited(&[client.peer.fd, logger::raw_fd()]);
        process::set_title("aikv-script-debug");
        self.set_oom_score_of_child();
        // The threads are the parent's, and so are the descriptors that these would close.
        mem::forget(self.keyspace.replace_background(Background::inline()));
        mem::forget(mem::take(&mut self.aof));
        mem::forget(self.child.take());
        self.propagation.sinks.clear();
        self.monitors.clear();
        self.config.save.clear();
        // Of those that scripts may run, no command ends processes, writes files or begins children.
        self.debug.allow_denied_in_scripts = false;
        self.update_listeners();
    }
}

/// Holds a session in this process.
fn hold_session(
    ctx: &mut ServerCtx<'_>,
    open_wire: OpenWire,
    run: impl FnOnce(&mut ServerCtx<'_>) -> CmdResult,
) -> CmdResult {
    let server = &mut *ctx.server;
    let mut wire = open_wire(ctx.client.peer.fd);
    if !server.unit.no_waiting && ctx.client.reply_mode == ReplyMode::On {
        // What was answered before comes before. (In a transaction its own reply waits there.)
        send_replies(ctx.client, &mut *wire);
    }
    let limit_ms = match server.config.busy_reply_threshold {
        0 => LIMIT_MS,
        ms => ms,
    };
    let debugger = Debugger::new(ctx.args.get(1), limit_ms, server.clock.mono_ns());
    server.runner.session = Some(Box::new(Session { debugger, wire }));
    let result = run(ctx);
    let runner = &mut ctx.server.runner;
    let mut session = runner.session.take().expect("the session is ended here");
    session.debugger.finish(&mut runner.scripts.cache.vm, &mut *session.wire);
    if session.debugger.user_has_gone() {
        ctx.client.close = Some(Close::Now);
    }
    result
}

/// Lets a child hold the session, and the client go.
fn fork_session(
    ctx: &mut ServerCtx<'_>,
    open_wire: OpenWire,
    run: impl FnOnce(&mut ServerCtx<'_>) -> CmdResult,
) -> CmdResult {
    if ctx.server.unit.no_waiting {
        return Err(IN_TRANSACTION);
    }
    ctx.server.collect_sessions();
    if ctx.server.runner.forked_sessions.len() >= SESSIONS_MAX {
        return Err(TOO_MANY);
    }
    let begin_ns = ctx.server.clock.mono_ns();
    let forked = fork::fork(|| hold_forked_session(&mut *ctx, open_wire, run));
    let pid: Pid = forked.map_err(|error| {
        CmdError::text(format!("ERR Fork() failed: can't run EVAL in debugging mode: {error}"))
    })?;
    let server = &mut *ctx.server;
    server.note_fork(begin_ns);
    server.runner.forked_sessions.push(pid);
    if !server.monitors.is_empty() {
        server.show_to_monitors(ctx.client, ctx.command, ctx.args);
    }
    ctx.client.close_now();
    Ok(Outcome::Done)
}

/// The child's life; its status.
fn hold_forked_session(
    ctx: &mut ServerCtx<'_>,
    open_wire: OpenWire,
    run: impl FnOnce(&mut ServerCtx<'_>) -> CmdResult,
) -> i32 {
    ctx.server.become_session(ctx.client);
    log::info!(target: "aikv", "Forked for a session of the script debugger");
    let result = hold_session(ctx, open_wire, run);
    let client = &mut *ctx.client;
    if let Err(error) = result {
        // No part of a reply is there: a script's is written when it has ended.
        client.reply.error(error.as_bytes());
    }
    if client.reply_mode == ReplyMode::On && client.close.is_none() {
        send_replies(client, &mut *open_wire(client.peer.fd));
    }
    log::info!(target: "aikv", "Forked session of the script debugger ended");
    0
}

/// Sends a client what waits for it. Who does not take it is noticed when he is read from.
fn send_replies(client: &mut Client, wire: &mut dyn Wire) {
    let bytes = client.reply.take();
    // Places in the output are counted from its beginning.
    client.bytes_out += bytes.len() as u64;
    let _noticed_later = wire.write_all(&bytes);
}
