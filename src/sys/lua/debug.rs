//! The machine under a debugger: it stops at every line ([`Step::Line`]), and what it stopped in can be
//! looked at: the place, the frames, local variables and their values as text, code evaluated beside the
//! script. Which lines matter and what a user says is not known here (`script/debugger`).
//!
//! Who looks does so on his own stack while the script's is stopped: an error of Lua's would jump from one to
//! the other. So only calls that cannot raise are used there, and no limit of memory holds meanwhile. Code
//! that a user gives runs on the script's stack, in a Lua coroutine of its own, protected.

use super::state::{State, bytes_at, c, context, push};
use super::vm::{Input, Step, Vm, suspend};
use super::{api, sandbox};
use crate::util::quote::push_quoted;
use mlua::ffi;
use std::ffi::{CStr, c_char, c_int};

/// Bytes that [`Notes`] hold at most.
pub const NOTES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a line of [`Notes`] costs beside its text.
const LINE_BYTES: usize = 64;
/// Tables inside of tables are shown so deep.
const DEPTH_MAX: usize = 10;
/// Slots of the Lua stack that showing a value takes at most.
const SHOW_SLOTS: c_int = 4 * DEPTH_MAX as c_int + 16;
/// Instructions between two looks at whether a script or evaluated code runs too long.
const INSTRUCTIONS: c_int = 100_000;

/// Lines for the user of a debugger, in order. What does not fit is left out, and that is noted.
#[derive(Debug, Default)]
pub struct Notes {
    lines: Vec<Vec<u8>>,
    bytes: usize,
    is_full: bool,
}

impl Notes {
    /// Adds a line.
    pub fn push(&mut self, line: Vec<u8>) {
        let bytes = line.len() + LINE_BYTES;
        if self.is_full || self.bytes + bytes > NOTES_BYTES_MAX {
            self.is_full = true;
            return;
        }
        self.bytes += bytes;
        self.lines.push(line);
    }

    /// Bytes that a further line may have.
    pub fn room(&self) -> usize {
        match self.is_full {
            true => 0,
            false => NOTES_BYTES_MAX.saturating_sub(self.bytes + LINE_BYTES),
        }
    }

    /// Takes all lines out; a last one tells if some were left out.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let mut notes = std::mem::take(self);
        if notes.is_full {
            notes.lines.push(b"<hint> Lines were left out here: there were too many.".to_vec());
        }
        notes.lines
    }
}

/// Which lines a script adds to the notes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Noting {
    /// Only those it asks for (`redis.debug`).
    #[default]
    Asked,
    /// Errors as well.
    Errors,
}

/// Where a script has stopped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// The line.
    pub line: i32,
    /// Whether that is a line of the script (not of evaluated code).
    pub in_script: bool,
    /// Whether it has run for a while on its way there; else it is about to begin the line.
    pub has_run: bool,
    /// Whether it has called `redis.breakpoint` since the last stop that was in the script.
    pub asked: bool,
}

/// A function that is being called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it was called as; none: the script itself, or unknown.
    pub name: Option<Vec<u8>>,
    /// The line it is at.
    pub line: i32,
}

/// Code to be evaluated: as an expression, and as it stands if it is none.
pub(super) struct Evaluation {
    expression: Vec<u8>,
    statement: Vec<u8>,
}

/// What a state knows of the debugger that watches it.
pub(super) struct Watch {
    /// Whether there is one.
    pub active: bool,
    /// What the script notes.
    pub noting: Noting,
    /// The notes.
    pub notes: Notes,
    /// The last line that was begun.
    pub line: c_int,
    /// Whether `redis.breakpoint` was called.
    pub asked: bool,
    /// The last stop.
    stop: Stop,
    /// The coroutine that stopped.
    stopped: State,
    /// The coroutine in which code is or was evaluated, with its value on top; null: there is none.
    thread: State,
    /// What became of it.
    status: c_int,
    /// Whether it runs.
    evaluating: bool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            active: false,
            noting: Noting::Asked,
            notes: Notes::default(),
            line: 0,
            asked: false,
            stop: Stop::default(),
            stopped: std::ptr::null_mut(),
            thread: std::ptr::null_mut(),
            status: ffi::LUA_OK,
            evaluating: false,
        }
    }
}

// ---- on the script's stack ----

/// Called by Lua for every line and every so many instructions of a script that is debugged.
unsafe extern "C-unwind" fn hook(l: State, place: *mut ffi::lua_Debug) {
    let ctx = context(l);
    let has_run = (*place).event == ffi::LUA_HOOKCOUNT;
    if (*ctx).killed.is_some() {
        api::raise_killed(l);
    }
    if (*ctx).watch.evaluating {
        // Its lines are not the script's.
        if !has_run {
            return;
        }
        if let Input::Kill(why) = suspend(ctx, Step::Interrupt) {
            (*ctx).killed = Some(why);
            api::raise_killed(l);
        }
        return;
    }
    ffi::lua_getinfo(l, c(c"Sl"), place);
    let watch = &raw mut (*ctx).watch;
    let in_script = CStr::from_ptr((*place).short_src.as_ptr()) == c"user_script";
    let line = (*place).currentline;
    let asked = in_script && std::mem::take(&mut (*watch).asked);
    ((*watch).line, (*watch).stopped) = (line, l);
    (*watch).stop = Stop { line, in_script, has_run, asked };
    let top = ffi::lua_gettop(l);
    loop {
        let input = suspend(ctx, Step::Line);
        (*watch).thread = std::ptr::null_mut();
        ffi::lua_settop(l, top);
        match input {
            Input::Evaluate(what) => evaluate(l, what),
            Input::Kill(why) => {
                (*ctx).killed = Some(why);
                api::raise_killed(l);
            }
            _ => return,
        }
    }
}

/// Runs code beside the script `l`; its value or error is on top of the coroutine in [`Watch::thread`].
unsafe fn evaluate(l: State, what: *const Evaluation) {
    let ctx = context(l);
    // The coroutine is the debugger's, not the script's: having it cannot fail. It stays on the stack of `l`.
    (*ctx).limiting = false;
    let thread = ffi::lua_newthread(l);
    (*ctx).limiting = true;
    (*ctx).watch.thread = thread;
    let mut status = load(thread, &(*what).expression);
    if status != ffi::LUA_OK && (*what).statement.first() != Some(&0x1b) {
        ffi::lua_settop(thread, 0);
        status = load(thread, &(*what).statement);
    }
    if status == ffi::LUA_OK {
        (*ctx).watch.evaluating = true;
        status = ffi::lua_pcall(thread, 0, 1, 0);
        (*ctx).watch.evaluating = false;
        // The end of this code is not the script's.
        (*ctx).killed = None;
    }
    (*ctx).watch.status = status;
}

unsafe fn load(thread: State, code: &[u8]) -> c_int {
    ffi::luaL_loadbuffer(thread, code.as_ptr().cast(), code.len(), c(c"@ldb_eval"))
}

/// `redis.breakpoint`: stops at the next line, if a debugger is there to stop for.
pub(super) unsafe extern "C-unwind" fn breakpoint(l: State) -> c_int {
    let watch = &raw mut (*context(l)).watch;
    (*watch).asked = (*watch).active;
    ffi::lua_pushboolean(l, c_int::from((*watch).active));
    1
}

/// `redis.debug`: shows its arguments to the user of the debugger, if there is one.
pub(super) unsafe extern "C-unwind" fn debug(l: State) -> c_int {
    let ctx = context(l);
    let notes = &raw mut (*ctx).watch.notes;
    let room = (*notes).room();
    if !(*ctx).watch.active || room == 0 {
        return 0;
    }
    let count = ffi::lua_gettop(l);
    // Nothing here raises an error, so that the line is dropped as it should be.
    (*ctx).limiting = false;
    let mut line = format!("<debug> line {}: ", (*ctx).watch.line).into_bytes();
    if ffi::lua_checkstack(l, SHOW_SLOTS) != 0 {
        for i in 1..=count {
            if i > 1 {
                line.extend_from_slice(b", ");
            }
            ffi::lua_pushvalue(l, i);
            show(l, &mut line, room, 0);
            ffi::lua_pop(l, 1);
        }
    }
    line.truncate(room);
    (*notes).push(line);
    (*ctx).limiting = true;
    0
}

/// Notes an error that is about to be raised or returned.
pub(super) unsafe fn note_error(l: State, text: &[u8]) {
    let watch = &raw mut (*context(l)).watch;
    if (*watch).noting == Noting::Errors {
        let notes = &mut (*watch).notes;
        notes.push([b"<error> ", &text[..text.len().min(notes.room() / 2)]].concat());
    }
}

// ---- values as text ----

/// Appends the value on top of the stack as text; it may stop when `out` has more than `max` bytes. Never
/// raises an error; no limit of memory may hold, and there must be [`SHOW_SLOTS`] on the stack.
unsafe fn show(l: State, out: &mut Vec<u8>, max: usize, depth: usize) {
    if depth == DEPTH_MAX {
        return out.extend_from_slice(b"<max recursion level reached! Nested table?>");
    }
    match ffi::lua_type(l, -1) {
        ffi::LUA_TSTRING => {
            let text = bytes_at(l, -1);
            push_quoted(out, &text[..text.len().min(max.saturating_add(1))]);
        }
        ffi::LUA_TBOOLEAN if ffi::lua_toboolean(l, -1) != 0 => out.extend_from_slice(b"true"),
        ffi::LUA_TBOOLEAN => out.extend_from_slice(b"false"),
        ffi::LUA_TNUMBER => show_number(ffi::lua_tonumber(l, -1), out),
        ffi::LUA_TNIL => out.extend_from_slice(b"nil"),
        ffi::LUA_TTABLE => show_table(l, out, max, depth + 1),
        kind => {
            let name = match kind {
                ffi::LUA_TFUNCTION => "function",
                ffi::LUA_TUSERDATA => "userdata",
                ffi::LUA_TTHREAD => "thread",
                _ => "light-userdata",
            };
            out.extend_from_slice(format!("\"{name}@{:p}\"", ffi::lua_topointer(l, -1)).as_bytes());
        }
    }
}

unsafe fn show_number(number: f64, out: &mut Vec<u8>) {
    let mut text = [0u8; 32];
    let len = libc::snprintf(text.as_mut_ptr().cast(), text.len(), c(c"%g"), number);
    out.extend_from_slice(&text[..usize::try_from(len).unwrap_or(0).min(text.len() - 1)]);
}

/// Shows the table on top: its values if its keys are 1, 2, ... in this order, else keys and values.
unsafe fn show_table(l: State, out: &mut Vec<u8>, max: usize, depth: usize) {
    let is_array = is_array(l);
    out.push(b'{');
    let mut is_first = true;
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        if out.len() > max {
            ffi::lua_pop(l, 2);
            return;
        }
        if !std::mem::take(&mut is_first) {
            out.extend_from_slice(b"; ");
        }
        if !is_array {
            out.push(b'[');
            ffi::lua_pushvalue(l, -2);
            show(l, out, max, depth);
            ffi::lua_pop(l, 1);
            out.extend_from_slice(b"]=");
        }
        show(l, out, max, depth);
        ffi::lua_pop(l, 1);
    }
    out.push(b'}');
}

unsafe fn is_array(l: State) -> bool {
    let mut expected = 1.0;
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        ffi::lua_pop(l, 1);
        if ffi::lua_type(l, -1) != ffi::LUA_TNUMBER || ffi::lua_tonumber(l, -1) != expected {
            ffi::lua_pop(l, 1);
            return false;
        }
        expected += 1.0;
    }
    true
}

/// A name of Lua's.
unsafe fn name_at(name: *const c_char) -> Option<Vec<u8>> {
    (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes().to_vec())
}

// ---- on the stack of who looks ----

impl Vm {
    /// Lets what was begun stop at every line, for a debugger. To be called before it is started.
    pub fn watch_lines(&mut self) {
        assert!(!self.is_running(), "the script was not started yet");
        // SAFETY: the context lives as long as `self`; the state is live, and a hook can be set at any time.
        unsafe {
            let ctx = self.context();
            (*ctx).watch = Watch { active: true, ..Watch::default() };
            let mask = ffi::LUA_MASKLINE | ffi::LUA_MASKCOUNT;
            ffi::lua_sethook((*ctx).main, Some(hook), mask, INSTRUCTIONS);
        }
    }

    /// The lines for the user.
    pub fn notes(&mut self) -> &mut Notes {
        // SAFETY: the context lives as long as `self`, and nothing runs in it while the notes are borrowed.
        unsafe { &mut (*self.context()).watch.notes }
    }

    /// Chooses what the script adds to them.
    pub fn set_noting(&mut self, noting: Noting) {
        // SAFETY: as above.
        unsafe { (*self.context()).watch.noting = noting }
    }

    /// Where the script has stopped ([`Step::Line`]).
    pub fn stop(&self) -> Stop {
        // SAFETY: as above.
        unsafe { (*self.context()).watch.stop }
    }

    /// Evaluates code beside the script that has stopped at a line, first as an expression. When that is
    /// done, the next step is [`Step::Line`] again, and [`Vm::evaluated`] has the value. Meanwhile there may
    /// be other steps; [`Vm::kill`] at an interrupt ends the evaluation only.
    pub fn evaluate(&mut self, code: &[u8]) -> Step {
        let what = Evaluation { expression: [b"return ", code].concat(), statement: code.to_vec() };
        // The fiber compiles it before it stops again.
        self.resume(Input::Evaluate(&raw const what))
    }

    /// The value that the evaluation came to, or the text of its error. It is complete if it has at most
    /// `max` bytes.
    pub fn evaluated(&mut self, max: usize) -> Result<Vec<u8>, Vec<u8>> {
        // SAFETY: the fiber has stopped in the hook, which keeps the coroutine until the next step; its value
        // is on top. See `show`.
        unsafe {
            let watch = &raw const (*self.context()).watch;
            let (l, status) = ((*watch).thread, (*watch).status);
            assert!(!l.is_null(), "code was evaluated");
            if ffi::lua_checkstack(l, SHOW_SLOTS) == 0 {
                return Err(b"stack overflow".to_vec());
            }
            match status {
                ffi::LUA_OK => {
                    let mut text = Vec::new();
                    show(l, &mut text, max, 0);
                    Ok(text)
                }
                _ => Err(error_text(l, max)),
            }
        }
    }

    /// Name and value of a local variable of the function that has stopped, by its number from 1 on. The
    /// value is complete if it has at most `max` bytes.
    pub fn local(&mut self, number: c_int, max: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        // SAFETY: the coroutine is stopped in the hook; see `show`.
        unsafe {
            let l = (*self.context()).watch.stopped;
            let mut frame: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_checkstack(l, SHOW_SLOTS) == 0 || ffi::lua_getstack(l, 0, &raw mut frame) == 0 {
                return None;
            }
            let name = name_at(ffi::lua_getlocal(l, &raw const frame, number))?;
            let mut text = Vec::new();
            show(l, &mut text, max, 0);
            ffi::lua_pop(l, 1);
            Some((name, text))
        }
    }

    /// The value of the local variable of this name in the innermost function that has one; `KEYS` and
    /// `ARGV` also when they are none. It is complete if it has at most `max` bytes.
    pub fn variable(&mut self, name: &[u8], max: usize) -> Option<Vec<u8>> {
        // SAFETY: as above.
        unsafe {
            let l = (*self.context()).watch.stopped;
            if ffi::lua_checkstack(l, SHOW_SLOTS) == 0 || !(push_local(l, name) || push_input(l, name)) {
                return None;
            }
            let mut text = Vec::new();
            show(l, &mut text, max, 0);
            ffi::lua_pop(l, 1);
            Some(text)
        }
    }

    /// The functions of the script that are being called, the innermost first. The flag says whether it is
    /// the one that has stopped.
    pub fn frames(&self) -> Vec<(Frame, bool)> {
        let mut frames = Vec::new();
        // SAFETY: as above; nothing is pushed.
        unsafe {
            let l = (*self.context()).watch.stopped;
            let mut frame: ffi::lua_Debug = std::mem::zeroed();
            for level in 0.. {
                if ffi::lua_getstack(l, level, &raw mut frame) == 0 {
                    break;
                }
                ffi::lua_getinfo(l, c(c"Snl"), &raw mut frame);
                if CStr::from_ptr(frame.short_src.as_ptr()) == c"user_script" {
                    frames.push((Frame { name: name_at(frame.name), line: frame.currentline }, level == 0));
                }
            }
        }
        frames
    }
}

/// Pushes the local variable of this name of the innermost function that has one.
unsafe fn push_local(l: State, name: &[u8]) -> bool {
    let mut frame: ffi::lua_Debug = std::mem::zeroed();
    for level in 0.. {
        if ffi::lua_getstack(l, level, &raw mut frame) == 0 {
            return false;
        }
        for i in 1.. {
            let found = ffi::lua_getlocal(l, &raw const frame, i);
            if found.is_null() {
                break;
            }
            if CStr::from_ptr(found).to_bytes() == name {
                return true;
            }
            ffi::lua_pop(l, 1);
        }
    }
    false
}

/// Pushes the keys or arguments of the script.
unsafe fn push_input(l: State, name: &[u8]) -> bool {
    if !matches!(name, b"KEYS" | b"ARGV") {
        return false;
    }
    ffi::lua_pushvalue(l, ffi::LUA_GLOBALSINDEX);
    if !sandbox::push_real(l, -1) {
        ffi::lua_pop(l, 1);
        return false;
    }
    push(l, name);
    ffi::lua_rawget_(l, -2);
    ffi::lua_insert(l, -3);
    ffi::lua_pop(l, 2);
    true
}

/// The text of the error on top: a string, or an error object of ours.
unsafe fn error_text(l: State, max: usize) -> Vec<u8> {
    if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
        push(l, b"err");
        ffi::lua_rawget_(l, -2);
        if ffi::lua_type(l, -1) != ffi::LUA_TSTRING {
            ffi::lua_pop(l, 1);
        }
    }
    let mut text = Vec::new();
    match ffi::lua_type(l, -1) {
        ffi::LUA_TSTRING => {
            let error = bytes_at(l, -1);
            text.extend_from_slice(&error[..error.len().min(max)]);
        }
        _ => show(l, &mut text, max, 0),
    }
    text
}
