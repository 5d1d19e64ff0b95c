//! Scripts on the server. A script is a stepper (`sys/lua`): it stops for every command, which runs in
//! `call` like any other, and now and then to be asked whether it has run too long. One that has is parked:
//! the loop goes on and serves the others with BUSY errors, and the script gets a slice of each turn. Its
//! unit stays open meanwhile, so that nothing of it is seen before it ends.
//!
//! States of a client with a script: running -> (`drive`: too long) parked -> (`step_parked`: ended) running.

use super::Server;
use super::blocking::Blocked;
use super::client::{Client, Clients, ReplyMode, Role};
use super::debugger::Session;
use super::gate::{Reject, bit};
use super::multi::Queued;
use super::table::{Command, Handler, ScriptSource};
use crate::command::Outcome;
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Flags};
use crate::resp::{Args, OwnedArgs, Proto, Reply};
use crate::script::flags::{ScriptFlags, of_script};
use crate::script::{Arg, Failure, Out, ScriptStep as Step, Scripts, What};
use crate::sys::fork::Pid;
use crate::util::num;
use std::sync::Arc;

/// A parked script's share of a turn of the loop, in nanoseconds.
const SLICE_NS: u64 = 1_000_000;
/// Raised in a script that a client has stopped.
pub(super) const KILLED: &str = "Script killed by user with SCRIPT KILL...";
/// Raised in a script that stands in the way of the end of the process.
pub(super) const SHUT_DOWN: &str = "Script killed by the shutdown of the server";

const BUSY_SCRIPT: CmdError =
    CmdError::new("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
const BUSY_FUNCTION: CmdError =
    CmdError::new("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.");
const UNKNOWN: CmdError = CmdError::new("ERR Unknown Redis command called from script");
const WRONG_ARITY: CmdError = CmdError::new("ERR Wrong number of args calling Redis command from script");
pub(super) const NOT_ALLOWED: CmdError = CmdError::new("ERR This Redis command is not allowed from script");
const READ_ONLY: CmdError = CmdError::new("ERR Write commands are not allowed from read-only scripts.");
const RO_COMMAND: CmdError =
    CmdError::new("ERR Can not execute a script with write flag using *_ro command.");
const OOM: CmdError = CmdError::new(
    "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
);

/// What the server knows of scripts beside the scripts themselves.
pub struct Runner {
    /// The scripts.
    pub scripts: Scripts,
    /// The client that runs the commands of scripts, while none runs.
    client: Option<Box<Client>>,
    /// Room for the arguments of a script's command.
    args: OwnedArgs,
    /// The client of a parked script: it is out of its slot, as it is while it runs.
    parked: Option<Box<Client>>,
    /// The calls that are not complete because of it, the innermost first.
    calls: Vec<Pending>,
    /// What EXEC still has to run after the parked script.
    queue: Option<std::vec::IntoIter<Queued>>,
    /// Monotonic nanoseconds at which the parked script's slice is over.
    slice_end_ns: u64,
    /// The session in which the running script is debugged.
    pub(super) session: Option<Box<Session>>,
    /// Children that hold such sessions.
    pub(super) forked_sessions: Vec<Pid>,
}

/// A call that goes on later.
struct Pending {
    command: &'static Command,
    args: OwnedArgs,
    since_ns: u64,
}

impl Runner {
    /// No scripts yet. They may hold `limit` bytes (0: any number).
    pub fn new(limit: usize, seed: u64) -> Runner {
        let mut client = Clients::default().internal(0);
        client.role = Role::Script;
        Runner {
            scripts: Scripts::new(limit, seed),
            client: Some(client),
            args: OwnedArgs::default(),
            parked: None,
            calls: Vec::new(),
            queue: None,
            slice_end_ns: 0,
            session: None,
            forked_sessions: Vec::new(),
        }
    }

    /// Whether a script waits for its next slice.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// The arguments of the command whose script is parked.
    pub fn parked_args(&self) -> Option<Args<'_>> {
        self.calls.first().map(|call| call.args.as_args())
    }

    /// The error for commands that cannot run beside the running script.
    pub(super) fn busy_error(&self) -> CmdError {
        match self.scripts.run.as_ref().map(|run| &run.what) {
            Some(What::Function(_)) => BUSY_FUNCTION,
            _ => BUSY_SCRIPT,
        }
    }
}

/// Writes a script's value as a reply.
struct ReplyOut<'a> {
    reply: &'a mut Reply,
    /// Codes of the errors in it.
    errors: Vec<Vec<u8>>,
}

impl Out for ReplyOut<'_> {
    fn null(&mut self) {
        self.reply.null();
    }
    fn bool(&mut self, value: bool) {
        self.reply.bool(value);
    }
    fn int(&mut self, value: i64) {
        self.reply.int(value);
    }
    fn bulk(&mut self, value: &[u8]) {
        self.reply.bulk(value);
    }
    fn status(&mut self, text: &[u8]) {
        self.reply.simple(&one_line(text));
    }
    fn error(&mut self, failure: &Failure) {
        self.reply.error(&failure.text);
        if !failure.counted {
            self.errors.push(CmdError::text(failure.text.clone()).code().to_vec());
        }
    }
    fn double(&mut self, value: f64) {
        self.reply.double(value);
    }
    fn big_number(&mut self, digits: &[u8]) {
        self.reply.big_number(&one_line(digits));
    }
    fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        let format = format.map(|b| if b.is_ascii() { b } else { b'?' });
        self.reply.verbatim(std::str::from_utf8(&format).unwrap_or("txt"), text);
    }
    fn array(&mut self, len: usize) {
        self.reply.array(len);
    }
    fn map(&mut self, len: usize) {
        self.reply.map(len);
    }
    fn set(&mut self, len: usize) {
        self.reply.set(len);
    }
}

/// A text for one line of the protocol.
fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}

impl Server {
    // ---- before it runs ----

    /// The row whose flags count for these arguments: what the script declares.
    #[cold]
    pub(super) fn script_variant(&self, command: &'static Command, args: &Args<'_>) -> &'static Command {
        let Handler::Script(_, source) = command.handler else { return command };
        let cache = &self.runner.scripts.cache;
        let arg = args.get(1);
        let flags = match source {
            ScriptSource::Sha => cache.find_sha(arg).map(|id| cache.get(id).flags),
            ScriptSource::Function => self.runner.scripts.functions.find(arg).map(|f| f.flags),
            ScriptSource::Body => match cache.find_body(arg) {
                Some(id) => Some(cache.get(id).flags),
                None => of_script(arg).ok().map(|(flags, _)| flags),
            },
        };
        match flags {
            Some(flags) if !flags.has(ScriptFlags::UNDECLARED) => command.variants[flags.variant()],
            _ => command,
        }
    }

    /// Whether a script with these flags may run now.
    pub(super) fn check_script(&self, flags: ScriptFlags, read_only: bool) -> Result<(), CmdError> {
        if self.runner.scripts.is_running() {
            return Err(NOT_ALLOWED);
        }
        if flags.has(ScriptFlags::UNDECLARED) || flags.has(ScriptFlags::NO_WRITES) {
            return Ok(());
        }
        if read_only {
            return Err(RO_COMMAND);
        }
        if !flags.has(ScriptFlags::ALLOW_OOM) && self.is_out_of_memory() {
            return Err(OOM);
        }
        Ok(())
    }

    /// Whether memory was used up when the running command came.
    fn is_out_of_memory(&self) -> bool {
        self.config.maxmemory > 0 && self.memory.exhausted
    }

    /// Whether scripts are asked now and then whether they have run too long.
    pub(super) fn watches_scripts(&self) -> bool {
        self.config.busy_reply_threshold > 0
    }

    // ---- while it runs ----

    /// Runs the script that was begun on its machine.
    pub(super) fn run_script(
        &mut self,
        client: &mut Client,
        command: &'static Command,
        what: What,
        flags: ScriptFlags,
        read_only: bool,
    ) -> CmdResult {
        self.runner.scripts.begin(what, flags, read_only, self.now.mono_ns);
        let of_script = self.runner.client.as_mut().expect("no script runs");
        of_script.act_for(client);
        self.begin_debugging();
        let step = self.runner.scripts.vm().start();
        let may_park = (client.slot != usize::MAX || self.replaying) && !self.is_debugging();
        if self.drive(step, may_park) { self.end_script(client, command) } else { Ok(Outcome::Park) }
    }

    /// Runs the script up to its end (true), or until it has run too long.
    fn drive(&mut self, mut step: Step, may_park: bool) -> bool {
        loop {
            step = match step {
                Step::Call => self.call_of_script(),
                Step::MayRun => self.may_script_run(),
                Step::Line => self.debug_line(),
                Step::Interrupt if self.is_debugging() => self.debug_interrupt(),
                Step::Interrupt if may_park && self.is_slice_over() => return false,
                Step::Interrupt => self.runner.scripts.vm().proceed(),
                Step::Done => return true,
            };
        }
    }

    /// Whether the script has to let others run: it has run longer than the threshold, or its slice is over.
    fn is_slice_over(&mut self) -> bool {
        self.read_clock();
        let Some(run) = &mut self.runner.scripts.run else { return false };
        if run.busy {
            return self.now.mono_ns >= self.runner.slice_end_ns;
        }
        let ms = (self.now.mono_ns - run.since_ns) / 1_000_000;
        if ms < self.config.busy_reply_threshold {
            return false;
        }
        run.busy = true;
        let with = if matches!(run.what, What::Script(_)) { "SCRIPT KILL" } else { "FUNCTION KILL" };
        let name = self.runner.scripts.running_name();
        log::warn!(
            target: "aikv",
            "Slow script detected: still in execution after {ms} milliseconds. You can try killing the \
             script using the {with} command. Script name is: {}.",
            String::from_utf8_lossy(&name)
        );
        self.arm(bit::BUSY, true);
        true
    }

    /// Runs the command that the script called, and hands it the reply.
    fn call_of_script(&mut self) -> Step {
        let mut client = self.runner.client.take().expect("one command of a script runs at a time");
        let mut args = std::mem::take(&mut self.runner.args);
        fill(&mut args, self.runner.scripts.vm().args());
        self.run_for_script(&mut client, args.as_args());
        self.runner.args = args;
        let vm = self.runner.scripts.vm();
        let step = match client.reply.plain() {
            Some(reply) => vm.reply(reply),
            None => vm.reply(&client.reply.take()),
        };
        client.reply.clear();
        self.runner.client = Some(client);
        step
    }

    /// Runs the command that the user of the debugger wants, as if the script had called it.
    pub(super) fn run_for_debugger(&mut self, words: &[Vec<u8>]) {
        let mut client = self.runner.client.take().expect("no command of the script runs");
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.run_for_script(&mut client, OwnedArgs::from_slices(&words).as_args());
        client.reply.clear();
        self.runner.client = Some(client);
    }

    /// Runs a command of the script; its reply is in the output of `client`, which has no other.
    fn run_for_script(&mut self, client: &mut Client, args: Args<'_>) {
        let vm = self.runner.scripts.vm();
        client.reply.proto = if vm.resp() == 3 { Proto::Resp3 } else { Proto::Resp2 };
        let muted = !vm.propagates();
        let mark = client.reply.mark();
        if let Some((debugger, vm)) = self.showing_debugger() {
            debugger.note_call(vm, &args.iter().collect::<Vec<_>>());
        }
        match self.admit_of_script(client, args) {
            Ok(command) => {
                let outer = std::mem::replace(&mut self.unit.muted, muted);
                self.call_without_waiting(client, command, args);
                self.unit.muted = outer;
                if let Some((debugger, vm)) = self.showing_debugger() {
                    debugger.note_reply(vm, &client.reply.since(mark));
                }
            }
            Err(error) => {
                if let Some((debugger, vm)) = self.showing_debugger() {
                    debugger.note_refusal(vm, error.as_bytes());
                }
                self.reply_error(client, &error);
            }
        }
    }

    /// What keeps a command from running in the script.
    fn admit_of_script(&mut self, client: &Client, args: Args<'_>) -> Result<&'static Command, CmdError> {
        let command = self.table.resolve(&args).ok_or(UNKNOWN)?;
        let verdict = self.judge_of_script(client, command, &args);
        if verdict.is_err() {
            self.stats.commands.rejected(command.id);
        }
        verdict.map(|()| command)
    }

    fn judge_of_script(
        &mut self,
        client: &Client,
        command: &'static Command,
        args: &Args<'_>,
    ) -> Result<(), CmdError> {
        if !self.is_runnable(command, args) {
            let unknown = !command.subcommands.is_empty() && args.len() > 1;
            return Err(if unknown { UNKNOWN } else { WRONG_ARITY });
        }
        // Nothing lets a script run scripts, or change those that are kept.
        let denied = !self.debug.allow_denied_in_scripts || command.acl.has(Acl::SCRIPTING);
        if command.is(Flags::NOSCRIPT) && denied {
            return Err(NOT_ALLOWED);
        }
        let run = self.runner.scripts.run.as_ref().expect("a script runs");
        let (wrote, allow_oom) = (run.wrote, run.allow_oom);
        if run.read_only && command.spec.flags.any(Flags::WRITE | Flags::MAY_REPLICATE) {
            return Err(READ_ONLY);
        }
        if let Err(Reject::Error(error)) = self.admit_in_script(client, command, args, wrote) {
            return Err(error);
        }
        // A script that has written comes to its end.
        if command.is(Flags::DENYOOM) && !allow_oom && !wrote && self.is_out_of_memory() {
            return Err(error::OOM);
        }
        if command.is(Flags::WRITE)
            && let Some(run) = &mut self.runner.scripts.run
        {
            run.wrote = true;
        }
        Ok(())
    }

    /// Answers `redis.acl_check_cmd`.
    fn may_script_run(&mut self) -> Step {
        let client = self.runner.client.take().expect("no command of the script runs");
        let mut args = std::mem::take(&mut self.runner.args);
        fill(&mut args, self.runner.scripts.vm().args());
        let view = args.as_args();
        let command = self.table.resolve(&view).filter(|command| self.is_runnable(command, &view));
        let may_run = command.map(|command| self.may_run(&client, command, &view));
        self.runner.args = args;
        self.runner.client = Some(client);
        self.runner.scripts.vm().answer(may_run)
    }

    /// Ends the run: the value becomes the client's reply.
    fn end_script(&mut self, client: &mut Client, command: &'static Command) -> CmdResult {
        let mut out = ReplyOut { reply: &mut client.reply, errors: Vec::new() };
        let failure = self.runner.scripts.end(&mut out);
        let errors = out.errors;
        if !errors.is_empty() {
            self.stats.commands.failed(command.id);
        }
        errors.iter().for_each(|code| self.count_error(code));
        match failure {
            None => Ok(Outcome::Done),
            Some(failure) if failure.counted => Err(CmdError::counted(failure.text)),
            Some(failure) => Err(CmdError::text(failure.text)),
        }
    }

    // ---- parked ----

    /// Notes a call that goes on when the parked script has ended.
    #[cold]
    pub(super) fn note_parked(&mut self, command: &'static Command, args: Args<'_>, since_ns: u64) {
        self.runner.calls.push(Pending { command, args: args.to_owned(), since_ns });
    }

    /// Notes what EXEC still has to run.
    pub(super) fn park_queue(&mut self, queue: std::vec::IntoIter<Queued>) {
        self.runner.queue = Some(queue);
    }

    /// Lets a client wait for its parked script. Its unit stays open.
    #[cold]
    pub(super) fn park(&mut self, client: &mut Client) {
        client.blocked = Some(Box::new(Blocked::Script));
        self.unit.hold();
    }

    /// Keeps the client of a parked script out of its slot.
    #[cold]
    pub(super) fn keep_parked(&mut self, client: Box<Client>) {
        self.runner.parked = Some(client);
    }

    /// Gives the parked script its slice of this turn.
    pub(super) fn step_parked(&mut self) {
        let Some(mut client) = self.runner.parked.take() else { return };
        self.read_clock();
        self.runner.slice_end_ns = self.now.mono_ns + SLICE_NS;
        self.unit.client = client.id;
        self.keyspace.touching = !client.no_touch;
        let kill = self.runner.scripts.run.as_mut().and_then(|run| run.kill.take());
        let vm = self.runner.scripts.vm();
        let step = match kill {
            Some(why) => vm.kill(why),
            None => vm.proceed(),
        };
        let (mark, start, before) = (client.reply.mark(), client.output_end(), self.aof.appended);
        let ended = if self.drive(step, true) { self.finish_calls(&mut client) } else { None };
        match ended {
            Some(_) if client.role == Role::Internal => {
                self.leave_unit();
                self.replay_behind_script(client);
            }
            Some(call) => {
                client.blocked = None;
                self.leave_unit();
                if client.reply_mode != ReplyMode::On {
                    self.suppress_reply(&mut client, mark);
                }
                self.gate_reply(&mut client, call.command, &call.args.as_args(), start, before);
                self.resume(&client);
                self.put_back(client);
            }
            None => {
                if client.reply_mode != ReplyMode::On {
                    client.reply.rewind(mark);
                }
                self.runner.parked = Some(client);
            }
        }
        self.unit.client = 0;
    }

    /// Completes the calls that waited for the script; the outermost of them. Nothing, if another script of
    /// the same transaction has been parked.
    fn finish_calls(&mut self, client: &mut Client) -> Option<Pending> {
        self.arm(bit::BUSY, false);
        let mark = client.reply.mark();
        let script = self.runner.calls.remove(0);
        let result = self.end_script(client, script.command);
        self.settle(client, script.command, script.args.as_args(), mark, script.since_ns, result);
        let Some(exec) = self.runner.calls.pop() else { return Some(script) };
        let queue = self.runner.queue.take().expect("EXEC left its queue");
        if matches!(self.run_queue(client, queue), Outcome::Park) {
            self.runner.calls.push(exec);
            return None;
        }
        let mark = client.reply.mark();
        let done = Ok(Outcome::Done);
        self.settle(client, exec.command, exec.args.as_args(), mark, exec.since_ns, done);
        self.feed_monitors(client, exec.command, exec.args.as_args());
        Some(exec)
    }

    /// SCRIPT KILL and FUNCTION KILL: lets the parked script end with an error.
    pub(super) fn kill_script(&mut self, source: ScriptSource) -> Result<(), CmdError> {
        let busy = self.runner.busy_error();
        let Some(run) = &mut self.runner.scripts.run else {
            return Err(CmdError::new("NOTBUSY No scripts in execution right now."));
        };
        if run.wrote {
            return Err(CmdError::new(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can \
                 either wait the script termination or kill the server in a hard way using the SHUTDOWN \
                 NOSAVE command.",
            ));
        }
        let is_function = matches!(run.what, What::Function(_));
        if is_function != (source == ScriptSource::Function) {
            return Err(busy);
        }
        log::info!(target: "aikv", "Lua script killed by user with SCRIPT KILL.");
        run.kill = Some(KILLED);
        Ok(())
    }
}

impl Client {
    /// Takes over from the client whose script begins what counts for the script's commands.
    fn act_for(&mut self, caller: &Client) {
        (self.db, self.tracks) = (caller.db, caller.tracks);
        if caller.gates & bit::ACL != 0 || self.gates & bit::ACL != 0 {
            self.set_gate(bit::ACL, caller.gates & bit::ACL != 0);
            // Refusals are logged with where they came from.
            self.peer = caller.peer.clone();
            (self.id, self.name) = (caller.id, caller.name.clone());
            self.last_command = caller.last_command;
        }
        if self.user.as_ref().map(Arc::as_ptr) != caller.user.as_ref().map(Arc::as_ptr) {
            self.user = caller.user.clone();
        }
    }
}

/// Copies the arguments of a call.
fn fill<'a>(args: &mut OwnedArgs, call: impl Iterator<Item = Arg<'a>>) {
    args.clear();
    let mut text = Vec::new();
    for arg in call {
        match arg {
            Arg::Bytes(bytes) => args.push(bytes),
            Arg::Number(number) => {
                text.clear();
                push_number(&mut text, number);
                args.push(&text);
            }
        }
    }
}

/// A number as an argument: integers without a point or exponent, others as short as they can be.
fn push_number(text: &mut Vec<u8>, number: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.trunc() == number && (-EXACT..=EXACT).contains(&number) {
        num::push_i64(text, number as i64);
    } else {
        num::push_f64(text, number);
    }
}
