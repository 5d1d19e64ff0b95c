//! The debugger of scripts: where a script stops, and what its user may ask and do there. The session is a
//! talk over a [`Wire`]: the server tells why the script stopped, the user sends commands, until one lets the
//! script go on. Knows no socket and no server; a command of the server that the user wants is handed out
//! ([`Next::Command`]).
//!
//! Commands, lines and marks are those that `redis-cli --ldb` knows from Redis 7.4.
//!
//! States: running -> (`stopped`: it stops here) talking -> running; talking -> evaluating -> talking.

mod protocol;
#[cfg(test)]
mod tests;

use crate::sys::clock::Clock;
use crate::sys::lua::{NOTES_BYTES_MAX, Noting, Step, Stop, Vm};
use crate::util::num::parse_i64;
use crate::util::text::eq_ignore_case;
use protocol::{CommandInput, InputError, encode, leading_number, show_reply};
use std::io::{Read, Write};

/// The way to the user. Reading waits; an error or the end means that nobody is there any more.
pub trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// Breakpoints at most.
const BREAKPOINTS_MAX: usize = 64;
/// Values and replies are cut to so many bytes until the user wants it otherwise.
const MAXLEN: usize = 256;
/// And to at least so many then.
const MAXLEN_MIN: usize = 60;
/// Arguments of a command that are shown.
const ARGS_SHOWN: usize = 10;
/// Lines shown around the current one.
const CONTEXT: i64 = 5;

const ABORTED: &str = "script aborted for user request";
const PROTOCOL_ERROR: &str = "protocol error";
const TOO_MUCH_INPUT: &str = "max client buffer reached";
const CLIENT_GONE: &str = "timeout during Lua debugging with client closing connection";
const EVALUATED_TOO_LONG: &str = "evaluated for too long";

const HELP: &[&str] = &[
    "AiKv Lua debugger help:",
    "[h]elp               Show this help.",
    "[s]tep               Run the current line and stop at the next.",
    "[n]ext               The same as step.",
    "[c]ontinue           Run up to the next breakpoint.",
    "[l]ist               Show the lines around the current one.",
    "[l]ist [line]        Show the lines around [line]; 0: the current one.",
    "[l]ist [line] [ctx]  Show [ctx] lines before and behind [line].",
    "[w]hole              Show the whole script.",
    "[p]rint              Show all local variables.",
    "[p]rint <var>        Show a variable: a local one, KEYS or ARGV.",
    "[b]reak              Show the breakpoints.",
    "[b]reak <line>       Add a breakpoint.",
    "[b]reak -<line>      Remove a breakpoint.",
    "[b]reak 0            Remove all breakpoints.",
    "[t]race              Show which functions are being called.",
    "[e]val <code>        Run Lua code that does not see the local variables.",
    "[r]edis <cmd>        Run a command of the server.",
    "[m]axlen [len]       Cut values and replies to [len] bytes; 0: do not cut.",
    "[a]bort              End the script. In sync mode what it has written stays.",
    "",
    "Functions for scripts:",
    "redis.debug(...)     Show values in this session.",
    "redis.breakpoint()   Stop at the next line.",
];

/// What the user can ask for, by its letter and its name.
const COMMANDS: &[(&str, &str, Action)] = &[
    ("h", "help", Action::Help),
    ("s", "step", Action::Step),
    ("n", "next", Action::Step),
    ("c", "continue", Action::Continue),
    ("l", "list", Action::List),
    ("w", "whole", Action::Whole),
    ("p", "print", Action::Print),
    ("b", "break", Action::Break),
    ("t", "trace", Action::Trace),
    ("e", "eval", Action::Eval),
    ("r", "redis", Action::Redis),
    ("m", "maxlen", Action::Maxlen),
    ("a", "abort", Action::Abort),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Help,
    Step,
    Continue,
    List,
    Whole,
    Print,
    Break,
    Trace,
    Eval,
    Redis,
    Maxlen,
    Abort,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The script's step.
    Step(Step),
    /// The user wants a command of the server: run it, tell of it ([`Debugger::note_call`] and what follows
    /// there), then [`Debugger::answered`].
    Command(Vec<Vec<u8>>),
}

/// What the script has stopped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Step,
    Breakpoint,
    Asked,
    TooLong,
}

/// How the run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Running,
    /// It has stopped at this line.
    Talking(i32, Reason),
    /// It has stopped, and evaluates what the user gave since then (monotonic nanoseconds).
    Evaluating(i32, Reason, u64),
}

/// A session.
pub struct Debugger {
    source: Vec<Vec<u8>>,
    breakpoints: Vec<i64>,
    /// Whether it stops at the next line, and shows the commands of this one.
    steps: bool,
    /// Values and replies are cut to so many bytes; none: they are not.
    maxlen: Option<usize>,
    /// Whether the user knows that.
    hinted: bool,
    input: CommandInput,
    /// Whether something could not be sent: nobody is there, and what was sent may end in the middle.
    gone: bool,
    activity: Activity,
    /// Since when the script has run without a stop, in monotonic nanoseconds.
    since_ns: u64,
    limit_ms: u64,
}

impl Debugger {
    /// A session for a script that begins now (monotonic nanoseconds); it stops at its first line. One that
    /// runs for `limit_ms` without a stop is stopped; what the user lets evaluate is ended then.
    pub fn new(body: &[u8], limit_ms: u64, now_ns: u64) -> Debugger {
        let len = body.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        let lines = body[..len].split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        Debugger {
            source: lines.take(if len == 0 { 0 } else { usize::MAX }).collect(),
            breakpoints: Vec::new(),
            steps: true,
            maxlen: Some(MAXLEN),
            hinted: false,
            input: CommandInput::default(),
            gone: false,
            activity: Activity::Running,
            since_ns: now_ns,
            limit_ms,
        }
    }

    // ---- the script's side ----

    /// The script is about to start.
    pub fn begin(&mut self, vm: &mut Vm) {
        vm.watch_lines();
        vm.set_noting(self.noting());
    }

    /// The script is at a line ([`Step::Line`]): it goes on, or stops until the user lets it go on.
    pub fn stopped(&mut self, vm: &mut Vm, wire: &mut dyn Wire, clock: &Clock) -> Next {
        if let Activity::Evaluating(line, reason, _) = self.activity {
            self.activity = Activity::Talking(line, reason);
            self.note_evaluated(vm);
            self.send(vm, wire);
            return self.talk(vm, wire, clock);
        }
        let stop = vm.stop();
        let Some(reason) = self.reason(stop, clock) else { return Next::Step(vm.proceed()) };
        self.activity = Activity::Talking(stop.line, reason);
        self.steps = false;
        vm.set_noting(self.noting());
        let why = match reason {
            Reason::Step => "step over",
            Reason::Breakpoint => "break point",
            Reason::Asked => "redis.breakpoint() called",
            Reason::TooLong => "timeout reached, infinite loop?",
        };
        vm.notes().push(format!("* Stopped at {}, stop reason = {why}", stop.line).into_bytes());
        self.note_line(vm, stop.line.into());
        self.send(vm, wire);
        self.talk(vm, wire, clock)
    }

    /// Evaluated code runs for a while ([`Step::Interrupt`]).
    pub fn interrupted(&mut self, vm: &mut Vm, clock: &Clock) -> Step {
        match self.activity {
            Activity::Evaluating(_, _, since_ns) if self.is_too_long(since_ns, clock) => {
                vm.kill(EVALUATED_TOO_LONG)
            }
            _ => vm.proceed(),
        }
    }

    /// The command that the user wanted was run.
    pub fn answered(&mut self, vm: &mut Vm, wire: &mut dyn Wire, clock: &Clock) -> Next {
        self.send(vm, wire);
        self.talk(vm, wire, clock)
    }

    /// The script has ended.
    pub fn finish(&mut self, vm: &mut Vm, wire: &mut dyn Wire) {
        vm.notes().push(b"<endsession>".to_vec());
        self.send(vm, wire);
    }

    /// Whether the user has gone, perhaps in the middle of a message: nothing more is for him.
    pub fn user_has_gone(&self) -> bool {
        self.gone
    }

    /// Sends what is in the notes.
    fn send(&mut self, vm: &mut Vm, wire: &mut dyn Wire) {
        let lines = vm.notes().take();
        self.gone = self.gone || wire.write_all(&encode(lines)).is_err();
    }

    fn is_too_long(&self, since_ns: u64, clock: &Clock) -> bool {
        clock.mono_ns().saturating_sub(since_ns) / 1_000_000 >= self.limit_ms
    }

    /// Why the script stops here, if it does.
    fn reason(&self, stop: Stop, clock: &Clock) -> Option<Reason> {
        let is_breakpoint = stop.in_script && self.breakpoints.contains(&stop.line.into());
        match () {
            () if stop.asked => Some(Reason::Asked),
            () if is_breakpoint => Some(Reason::Breakpoint),
            () if self.steps && stop.in_script => Some(Reason::Step),
            () if stop.has_run && self.is_too_long(self.since_ns, clock) => Some(Reason::TooLong),
            () => None,
        }
    }

    /// Lets the script go on.
    fn leave(&mut self, vm: &mut Vm, clock: &Clock) {
        self.activity = Activity::Running;
        self.since_ns = clock.mono_ns();
        vm.set_noting(self.noting());
    }

    fn noting(&self) -> Noting {
        if self.steps { Noting::Errors } else { Noting::Asked }
    }

    // ---- commands of the server ----

    /// Whether the command that is about to run is shown: the user's, or that of a line that is stepped over.
    pub fn shows_calls(&self) -> bool {
        match self.activity {
            Activity::Running => self.steps,
            Activity::Talking(..) => true,
            Activity::Evaluating(..) => false,
        }
    }

    /// Shows a command before it runs.
    pub fn note_call(&self, vm: &mut Vm, args: &[&[u8]]) {
        let mut line = b"<redis>".to_vec();
        let room = vm.notes().room() / 2;
        for arg in args.iter().take(ARGS_SHOWN) {
            line.push(b' ');
            line.extend_from_slice(&arg[..arg.len().min(room.saturating_sub(line.len()))]);
        }
        if args.len() > ARGS_SHOWN {
            line.extend_from_slice(format!(" ... ({} more)", args.len() - ARGS_SHOWN - 1).as_bytes());
        }
        vm.notes().push(line);
    }

    /// Shows why a command did not run. The text has its code in front.
    pub fn note_refusal(&self, vm: &mut Vm, error: &[u8]) {
        let line = match error.strip_prefix(b"ERR ") {
            Some(text) => [b"<error> ", text].concat(),
            None => [b"<error> -", error].concat(),
        };
        vm.notes().push(line);
    }

    /// Shows the reply of a command.
    pub fn note_reply(&mut self, vm: &mut Vm, reply: &[u8]) {
        if reply.first() == Some(&b'-') {
            vm.notes().push([b"<error> ", reply.trim_ascii_end()].concat());
        }
        let mut line = b"<reply> ".to_vec();
        let _rest = show_reply(&mut line, reply, self.value_max(vm));
        self.note_value(vm, line);
    }

    // ---- the talk ----

    /// Does what the user wants until that lets the script go on.
    fn talk(&mut self, vm: &mut Vm, wire: &mut dyn Wire, clock: &Clock) -> Next {
        loop {
            let words = match self.read_command(wire) {
                Ok(Some(words)) => words,
                Ok(None) => return Next::Step(self.go_on_alone(vm, clock)),
                Err(error) => {
                    self.leave(vm, clock);
                    return Next::Step(vm.kill(match error {
                        InputError::Protocol => PROTOCOL_ERROR,
                        InputError::TooMuch => TOO_MUCH_INPUT,
                    }));
                }
            };
            if let Some(next) = self.act(words, vm, clock) {
                return next;
            }
            self.send(vm, wire);
        }
    }

    /// The next command; none if nobody is there.
    fn read_command(&mut self, wire: &mut dyn Wire) -> Result<Option<Vec<Vec<u8>>>, InputError> {
        loop {
            if self.gone {
                return Ok(None);
            }
            if let Some(words) = self.input.next_command()? {
                return Ok(Some(words));
            }
            let mut bytes = [0; 16 * 1024];
            match wire.read(&mut bytes) {
                Ok(0) | Err(_) => return Ok(None),
                Ok(read) => self.input.push(&bytes[..read])?,
            }
        }
    }

    /// Nobody is there: the script runs to its end, unless it was stopped because it may have none.
    fn go_on_alone(&mut self, vm: &mut Vm, clock: &Clock) -> Step {
        let is_endless = matches!(self.activity, Activity::Talking(_, Reason::TooLong));
        self.breakpoints.clear();
        self.leave(vm, clock);
        if is_endless { vm.kill(CLIENT_GONE) } else { vm.proceed() }
    }

    /// Does one command. None: the answer is in the notes.
    fn act(&mut self, words: Vec<Vec<u8>>, vm: &mut Vm, clock: &Clock) -> Option<Next> {
        let Activity::Talking(line, reason) = self.activity else { unreachable!("there is a talk") };
        let named = |short: &str, long: &str| {
            eq_ignore_case(&words[0], short.as_bytes()) || eq_ignore_case(&words[0], long.as_bytes())
        };
        let action =
            COMMANDS.iter().find(|(short, long, _)| named(short, long)).map(|(_, _, action)| *action);
        match action {
            Some(Action::Help) => HELP.iter().for_each(|line| vm.notes().push(line.as_bytes().to_vec())),
            Some(Action::Step) => {
                self.steps = true;
                self.leave(vm, clock);
                return Some(Next::Step(vm.proceed()));
            }
            Some(Action::Continue) => {
                self.leave(vm, clock);
                return Some(Next::Step(vm.proceed()));
            }
            Some(Action::Abort) => {
                self.leave(vm, clock);
                return Some(Next::Step(vm.kill(ABORTED)));
            }
            Some(Action::Eval) => {
                self.activity = Activity::Evaluating(line, reason, clock.mono_ns());
                return Some(Next::Step(vm.evaluate(&words[1..].join(&b' '))));
            }
            Some(Action::Redis) if words.len() > 1 => return Some(Next::Command(words[1..].to_vec())),
            Some(Action::List) => self.list(vm, line.into(), &words[1..]),
            Some(Action::Whole) => self.note_lines(vm, 1, i64::MAX),
            Some(Action::Print) => match words.as_slice() {
                [_, name] => self.print(vm, name),
                _ => self.print_all(vm),
            },
            Some(Action::Break) => self.change_breakpoints(vm, &words[1..]),
            Some(Action::Trace) => self.trace(vm),
            Some(Action::Maxlen) => self.change_maxlen(vm, &words[1..]),
            Some(Action::Redis) | None => {
                let error = "<error> Unknown Redis Lua debugger command or wrong number of arguments.";
                vm.notes().push(error.as_bytes().to_vec());
            }
        }
        None
    }

    // ---- answers ----

    /// Shows a line of the script, with marks for the current one and for breakpoints.
    fn note_line(&self, vm: &mut Vm, number: i64) {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let text = at.and_then(|at| self.source.get(at));
        let text = text.map_or(&b"<out of range source code line>"[..], Vec::as_slice);
        let is_current = matches!(self.activity, Activity::Talking(line, _) if i64::from(line) == number);
        let mark = match (is_current, self.breakpoints.contains(&number)) {
            (true, true) => "->#",
            (true, false) => "-> ",
            (false, true) => "  #",
            (false, false) => "   ",
        };
        vm.notes().push([format!("{mark}{number:<3} ").as_bytes(), text].concat());
    }

    /// Shows the lines around one.
    fn note_lines(&self, vm: &mut Vm, around: i64, context: i64) {
        let (first, last) = (around.saturating_sub(context).max(1), around.saturating_add(context));
        let last = last.min(i64::try_from(self.source.len()).unwrap_or(i64::MAX));
        (first..=last).for_each(|number| self.note_line(vm, number));
    }

    fn list(&self, vm: &mut Vm, current: i64, args: &[Vec<u8>]) {
        let number = |i: usize| args.get(i).map(|arg| leading_number(arg));
        let around = number(0).filter(|line| *line > 0).unwrap_or(current);
        self.note_lines(vm, around, number(1).unwrap_or(CONTEXT));
    }

    /// Bytes of a value that is shown.
    fn value_max(&self, vm: &mut Vm) -> usize {
        const MARGIN: usize = 1024;
        self.maxlen.unwrap_or(NOTES_BYTES_MAX).min(vm.notes().room().saturating_sub(MARGIN))
    }

    /// Shows a line with a value, cut to what the user wants to see.
    fn note_value(&mut self, vm: &mut Vm, mut line: Vec<u8>) {
        let max = self.value_max(vm);
        let is_cut = line.len() > max;
        if is_cut {
            line.truncate(max);
            line.extend_from_slice(b" ...");
        }
        vm.notes().push(line);
        if is_cut && !std::mem::replace(&mut self.hinted, true) {
            let hint = "<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.";
            vm.notes().push(hint.as_bytes().to_vec());
        }
    }

    fn note_evaluated(&mut self, vm: &mut Vm) {
        let max = self.value_max(vm);
        match vm.evaluated(max) {
            Ok(value) => self.note_value(vm, [&b"<retval> "[..], &value].concat()),
            Err(text) => {
                let room = vm.notes().room();
                vm.notes().push([b"<error> ", &text[..text.len().min(room / 2)]].concat());
            }
        }
    }

    fn print(&mut self, vm: &mut Vm, name: &[u8]) {
        let max = self.value_max(vm);
        match vm.variable(name, max) {
            Some(value) => self.note_value(vm, [&b"<value> "[..], &value].concat()),
            None => vm.notes().push(b"No such variable.".to_vec()),
        }
    }

    fn print_all(&mut self, vm: &mut Vm) {
        let mut is_any = false;
        for number in 1.. {
            let max = self.value_max(vm);
            let Some((name, value)) = vm.local(number, max) else { break };
            // What Lua holds between two operations has no name.
            if name.starts_with(b"(*temporary)") {
                continue;
            }
            is_any = true;
            self.note_value(vm, [&b"<value> "[..], &name, b" = ", &value].concat());
        }
        if !is_any {
            vm.notes().push(b"No local variables in the current context.".to_vec());
        }
    }

    fn trace(&self, vm: &mut Vm) {
        for (frame, is_current) in vm.frames() {
            let name = frame.name.as_deref().unwrap_or(b"top level");
            let word: &[u8] = if is_current { b"In " } else { b"From " };
            vm.notes().push([word, name, b":"].concat());
            self.note_line(vm, frame.line.into());
        }
    }

    fn change_breakpoints(&mut self, vm: &mut Vm, args: &[Vec<u8>]) {
        if args.is_empty() {
            return self.note_breakpoints(vm);
        }
        for arg in args {
            let line = parse_i64(arg);
            let answer = match line {
                None => [b"Invalid argument:'", arg.as_slice(), b"'"].concat(),
                Some(0) => {
                    self.breakpoints.clear();
                    b"All breakpoints removed.".to_vec()
                }
                Some(line) if line > 0 => match self.add_breakpoint(line) {
                    Ok(()) => {
                        self.note_lines(vm, line, 1);
                        continue;
                    }
                    Err(why) => why.as_bytes().to_vec(),
                },
                Some(line) => {
                    let count = self.breakpoints.len();
                    self.breakpoints.retain(|breakpoint| line.checked_neg() != Some(*breakpoint));
                    match self.breakpoints.len() < count {
                        true => b"Breakpoint removed.".to_vec(),
                        false => b"No breakpoint in the specified line.".to_vec(),
                    }
                }
            };
            vm.notes().push(answer);
        }
    }

    fn add_breakpoint(&mut self, line: i64) -> Result<(), &'static str> {
        if self.breakpoints.len() == BREAKPOINTS_MAX {
            return Err("Too many breakpoints set.");
        }
        if self.breakpoints.contains(&line) || line > self.source.len() as i64 {
            return Err("Wrong line number.");
        }
        self.breakpoints.push(line);
        Ok(())
    }

    fn note_breakpoints(&self, vm: &mut Vm) {
        if self.breakpoints.is_empty() {
            return vm.notes().push(b"No breakpoints set. Use 'b <line>' to add one.".to_vec());
        }
        vm.notes().push(format!("{} breakpoints set:", self.breakpoints.len()).into_bytes());
        self.breakpoints.iter().for_each(|line| self.note_line(vm, *line));
    }

    fn change_maxlen(&mut self, vm: &mut Vm, args: &[Vec<u8>]) {
        if let [arg] = args {
            self.hinted = true;
            self.maxlen = match leading_number(arg) {
                0 => None,
                bytes => Some(usize::try_from(bytes).unwrap_or(0).max(MAXLEN_MIN)),
            };
        }
        vm.notes().push(match self.maxlen {
            Some(bytes) => format!("<value> replies are truncated at {bytes} bytes.").into_bytes(),
            None => b"<value> replies are unlimited.".to_vec(),
        });
    }
}
