//! The machine: compiles code, runs it step by step on a stack of its own, and gives what it returned.
//!
//! States: idle -> (`begin`, `begin_load`) ready -> (`resume`) waiting for an answer, or done
//! -> (`end`) idle.

use super::convert::{self, Out};
use super::register::Registration;
use super::state::{self, Context, State, bytes_at, push};
use super::{api, sandbox};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use mlua::ffi;
use std::ffi::{CStr, c_int};

/// Size of a script's stack. Lua limits nested C calls to 200, of which one may take 10 KiB, and the pattern
/// matcher recurses once per item of a pattern, whose length is limited; pages not touched cost nothing.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Percentage of the live bytes at which the collector begins anew.
const GC_PAUSE: c_int = 200;

/// Compiling makes much garbage and runs little: after so many, the collector goes a step.
const COMPILES_PER_STEP: u32 = 50;
/// Size of that step, in KiB.
const STEP_KIB: c_int = 200;

/// What always lies at the bottom of the main coroutine's stack.
pub(super) mod place {
    use std::ffi::c_int;
    /// The function that notes where an error was raised.
    pub const ON_ERROR: c_int = 1;
    /// The table behind the globals.
    pub const GLOBALS: c_int = 2;
    /// The metatable of the globals that scripts see.
    pub const GLOBALS_META: c_int = 3;
    /// What a library sees while it is loaded.
    pub const LOAD_GLOBALS: c_int = 4;
    /// The string `KEYS`.
    pub const KEYS: c_int = 5;
    /// The string `ARGV`.
    pub const ARGV: c_int = 6;
    /// The first of the [`NAMES`].
    pub const FIRST_NAME: c_int = 7;
    /// Names of the fields that make a table a reply of a certain kind.
    pub const NAMES: [&[u8]; 9] =
        [b"err", b"ok", b"double", b"big_number", b"verbatim_string", b"map", b"set", b"format", b"string"];
    /// The last of them.
    pub const TOP: c_int = FIRST_NAME + NAMES.len() as c_int - 1;
}

/// What a state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// EVAL: keys and arguments are globals.
    Scripts,
    /// FCALL: keys and arguments are the function's own.
    Functions,
}

/// A function that is kept in a state until it is [`Vm::forget`]-ed.
#[derive(Debug)]
pub struct Function(pub(super) c_int);

/// Why a script has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It called a command ([`Vm::args`]); [`Vm::reply`] goes on.
    Call,
    /// It asks whether its user may run a command ([`Vm::args`]); [`Vm::answer`] goes on.
    MayRun,
    /// It has run for a while; [`Vm::proceed`] or [`Vm::kill`] goes on.
    Interrupt,
    /// It is about to begin a line, or has run for a while: it is debugged ([`Vm::watch_lines`]).
    /// [`Vm::proceed`], [`Vm::evaluate`] or [`Vm::kill`] goes on.
    Line,
    /// It has ended: [`Vm::returned`] tells how.
    Done,
}

/// What a stopped script is told.
pub(super) enum Input {
    /// Run what was begun.
    Start,
    /// The reply to its command, in the protocol; it lives until the next step.
    Reply(*const u8, usize),
    /// Whether the command may run; nothing: there is no such command.
    Answer(Option<bool>),
    /// Go on.
    Proceed,
    /// Raise this error, wherever it is.
    Kill(&'static str),
    /// Evaluate code beside the script, then stop again; it lives until the next step.
    Evaluate(*const super::debug::Evaluation),
}

/// An argument of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg<'a> {
    /// A string.
    Bytes(&'a [u8]),
    /// A number.
    Number(f64),
}

/// How a script ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Returned {
    /// It returned a value: [`Vm::write_result`].
    Value,
    /// It returned an error reply.
    Error(Failure),
    /// It raised an error.
    Raised(Failure),
    /// It failed without an error object: out of memory, or while handling an error.
    Broken(Vec<u8>),
}

/// An error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Code and text.
    pub text: Vec<u8>,
    /// Source (`@user_script`) and line.
    pub place: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether it is a command's error that was counted already.
    pub counted: bool,
}

/// How the run that ended last came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Ready { arguments: c_int, results: c_int, handler: c_int },
    Running,
    Done { status: c_int },
}

/// A Lua state and the stack its scripts run on.
pub struct Vm {
    context: *mut Context,
    fiber: Coroutine<Input, Step, (), DefaultStack>,
    role: Role,
    phase: Box<Phase>,
    /// Compilations so far.
    compiled: u32,
}

// SAFETY: the state, its context and the stack belong to this value alone and hold nothing bound to a
// thread; nobody else has their addresses.
unsafe impl Send for Vm {}

impl Vm {
    /// A fresh sandbox. Scripts may hold `limit` bytes (0: any number); `seed` is that of `math.random`.
    pub fn new(role: Role, limit: usize, seed: u64) -> Vm {
        let context = Box::into_raw(Box::new(Context::new(limit, seed)));
        // SAFETY: the context lives until `drop`; the state is new, and no limit holds while it is set up,
        // so nothing in it can fail.
        unsafe {
            let main = ffi::lua_newstate(state::allocate, context.cast());
            assert!(!main.is_null(), "there is memory for a Lua state");
            (*context).main = main;
            sandbox::set_up(main, role);
            ffi::lua_gc(main, ffi::LUA_GCSETPAUSE, GC_PAUSE);
        }
        let mut phase = Box::new(Phase::Idle);
        let fiber = fiber(context, &raw mut *phase);
        Vm { context, fiber, role, phase, compiled: 0 }
    }

    fn main(&self) -> State {
        // SAFETY: the context lives as long as `self`.
        unsafe { (*self.context).main }
    }

    pub(super) fn context(&self) -> *mut Context {
        self.context
    }

    /// Bytes the state holds.
    pub fn used_bytes(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.context).used }
    }

    /// Changes the bytes that scripts may hold; 0: any number.
    pub fn set_limit(&mut self, bytes: usize) {
        // SAFETY: as above.
        unsafe { (*self.context).limit = bytes }
    }

    /// Whether a script is in the middle of its run.
    pub fn is_running(&self) -> bool {
        *self.phase == Phase::Running
    }

    /// Compiles code; `name` is what errors call it (`@user_script`). The error is Lua's text.
    pub fn compile(&mut self, name: &CStr, code: &[u8]) -> Result<Function, Vec<u8>> {
        if code.first() == Some(&0x1b) {
            return Err(b"precompiled code is not accepted".to_vec());
        }
        let l = self.main();
        self.compiled += 1;
        // SAFETY: the state is live; loading is protected, and after it no limit holds, so that keeping the
        // function cannot fail.
        unsafe {
            if self.compiled.is_multiple_of(COMPILES_PER_STEP) {
                ffi::lua_gc(l, ffi::LUA_GCSTEP, STEP_KIB);
            }
            (*self.context).limiting = true;
            let status = ffi::luaL_loadbuffer(l, code.as_ptr().cast(), code.len(), name.as_ptr());
            (*self.context).limiting = false;
            if status != ffi::LUA_OK {
                let text = bytes_at(l, -1).to_vec();
                ffi::lua_pop(l, 1);
                return Err(text);
            }
            Ok(Function(ffi::luaL_ref(l, ffi::LUA_REGISTRYINDEX)))
        }
    }

    /// Drops a function.
    pub fn forget(&mut self, function: Function) {
        // SAFETY: the state is live; a reference is given back once, since it is taken by value.
        unsafe { ffi::luaL_unref(self.main(), ffi::LUA_REGISTRYINDEX, function.0) }
    }

    // ---- running ----

    /// Makes a function ready to run with keys and arguments. `watched` lets it stop for
    /// [`Step::Interrupt`].
    pub fn begin<'a>(
        &mut self,
        function: &Function,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        args: impl ExactSizeIterator<Item = &'a [u8]>,
        watched: bool,
    ) {
        let l = self.prepare(watched);
        // SAFETY: the state is idle and its stack as `prepare` left it, with room for 20 values.
        let arguments = unsafe {
            if self.role == Role::Scripts {
                ffi::lua_pushvalue(l, place::KEYS);
                push_array(l, keys);
                ffi::lua_rawset(l, place::GLOBALS);
                ffi::lua_pushvalue(l, place::ARGV);
                push_array(l, args);
                ffi::lua_rawset(l, place::GLOBALS);
                ffi::lua_rawgeti_(l, ffi::LUA_REGISTRYINDEX, function.0);
                // A script may have changed its own environment: the next run gets the globals again.
                ffi::lua_pushvalue(l, ffi::LUA_GLOBALSINDEX);
                ffi::lua_setfenv(l, -2);
                0
            } else {
                ffi::lua_rawgeti_(l, ffi::LUA_REGISTRYINDEX, function.0);
                push_array(l, keys);
                push_array(l, args);
                2
            }
        };
        *self.phase = Phase::Ready { arguments, results: 1, handler: place::ON_ERROR };
    }

    /// Makes the code of a library ready to run: it may register functions and little else.
    pub fn begin_load(&mut self, chunk: &Function) {
        let l = self.prepare(true);
        // SAFETY: as in `begin`.
        unsafe {
            (*self.context).registered = Some(Vec::new());
            sandbox::set_globals(l, place::LOAD_GLOBALS);
            ffi::lua_rawgeti_(l, ffi::LUA_REGISTRYINDEX, chunk.0);
        }
        *self.phase = Phase::Ready { arguments: 0, results: 0, handler: 0 };
    }

    fn prepare(&mut self, watched: bool) -> State {
        assert!(*self.phase == Phase::Idle, "one script runs at a time");
        let (l, ctx) = (self.main(), self.context);
        // SAFETY: the state is idle: nothing but its bottom is on the stack.
        unsafe {
            ((*ctx).resp, (*ctx).repl, (*ctx).killed) = (2, api::REPL_ALL, None);
            *(*ctx).json = super::json::Settings::default();
            if (*ctx).watch.active {
                (*ctx).watch = super::debug::Watch::default();
            }
            match watched {
                true => ffi::lua_sethook(l, Some(api::hook), ffi::LUA_MASKCOUNT, state::HOOK_INSTRUCTIONS),
                false => ffi::lua_sethook(l, None, 0, 0),
            };
        }
        l
    }

    /// Runs what was begun up to its first step.
    pub fn start(&mut self) -> Step {
        self.resume(Input::Start)
    }

    /// Goes on with the reply to the command, in the protocol.
    pub fn reply(&mut self, reply: &[u8]) -> Step {
        self.resume(Input::Reply(reply.as_ptr(), reply.len()))
    }

    /// Goes on with whether the command may run; nothing: there is no such command.
    pub fn answer(&mut self, may_run: Option<bool>) -> Step {
        self.resume(Input::Answer(may_run))
    }

    /// Goes on after an interrupt.
    pub fn proceed(&mut self) -> Step {
        self.resume(Input::Proceed)
    }

    /// Goes on after an interrupt with an error that the script cannot catch.
    pub fn kill(&mut self, why: &'static str) -> Step {
        self.resume(Input::Kill(why))
    }

    #[inline]
    pub(super) fn resume(&mut self, input: Input) -> Step {
        // SAFETY: the context lives; the limit holds only here, where errors are caught on the fiber.
        unsafe { (*self.context).limiting = true };
        let step = match self.fiber.resume(input) {
            CoroutineResult::Yield(step) => step,
            CoroutineResult::Return(()) => unreachable!("the fiber never ends"),
        };
        // SAFETY: as above.
        unsafe { (*self.context).limiting = false };
        step
    }

    /// Number of arguments of the call that waits.
    pub fn arg_count(&self) -> usize {
        // SAFETY: the coroutine that calls is alive while its call waits.
        unsafe { ffi::lua_gettop((*self.context).calling) as usize }
    }

    /// Arguments of the call that waits.
    pub fn args(&self) -> impl Iterator<Item = Arg<'_>> {
        // SAFETY: as above; the arguments were found to be strings and numbers, and stay on the stack of
        // the coroutine until the answer.
        let l = unsafe { (*self.context).calling };
        (1..=self.arg_count() as c_int).map(move |i| unsafe {
            // SAFETY: see above.
            match ffi::lua_type(l, i) {
                ffi::LUA_TNUMBER => Arg::Number(ffi::lua_tonumber(l, i)),
                _ => Arg::Bytes(bytes_at(l, i)),
            }
        })
    }

    /// The protocol version that replies to the script's commands have.
    pub fn resp(&self) -> u8 {
        // SAFETY: the context lives as long as `self`.
        unsafe { (*self.context).resp }
    }

    /// Whether what the script's commands change is written to the log ([`redis.set_repl`]).
    pub fn propagates(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.context).repl & api::REPL_AOF != 0 }
    }

    // ---- the end of a run ----

    /// How the run ended.
    pub fn returned(&self) -> Returned {
        let Phase::Done { status } = *self.phase else { unreachable!("the script has ended") };
        let l = self.main();
        // SAFETY: a finished run left its one result or error above the bottom of the stack; no limit holds.
        unsafe {
            let is_table = ffi::lua_gettop(l) > place::TOP && ffi::lua_type(l, -1) == ffi::LUA_TTABLE;
            match (status, is_table) {
                (ffi::LUA_OK, true) if convert::is_error(l) => Returned::Error(convert::failure(l)),
                (ffi::LUA_OK, _) => Returned::Value,
                (_, true) => Returned::Raised(convert::failure(l)),
                (_, false) if ffi::lua_type(l, -1) == ffi::LUA_TSTRING => {
                    Returned::Broken(bytes_at(l, -1).to_vec())
                }
                (_, false) => Returned::Broken(b"execution failure".to_vec()),
            }
        }
    }

    /// Writes the value that was returned.
    pub fn write_result(&mut self, out: &mut dyn Out) {
        assert!(matches!(*self.phase, Phase::Done { status: ffi::LUA_OK }), "the script returned a value");
        // SAFETY: as above.
        unsafe { convert::write(self.main(), (*self.context).resp, out) }
    }

    /// Makes the state idle again.
    pub fn end(&mut self) {
        assert!(*self.phase != Phase::Running, "the script has ended");
        // SAFETY: nothing runs on the state.
        unsafe {
            let l = self.main();
            ffi::lua_settop(l, place::TOP);
            state::trim_buffer(self.context);
            // What one script has piled up is not in the way of the next.
            let (used, limit) = ((*self.context).used, (*self.context).limit);
            if limit > 0 && used > limit / 2 {
                if self.role == Role::Scripts {
                    ffi::lua_pushvalue(l, place::KEYS);
                    ffi::lua_pushnil(l);
                    ffi::lua_rawset(l, place::GLOBALS);
                    ffi::lua_pushvalue(l, place::ARGV);
                    ffi::lua_pushnil(l);
                    ffi::lua_rawset(l, place::GLOBALS);
                }
                ffi::lua_gc(l, ffi::LUA_GCCOLLECT, 0);
            }
        }
        *self.phase = Phase::Idle;
    }

    /// Ends the loading of a library: what it has registered, in order.
    pub fn end_load(&mut self) -> Vec<Registration> {
        self.end();
        // SAFETY: as above.
        unsafe {
            sandbox::set_globals(self.main(), place::GLOBALS);
            (*self.context).registered.take().unwrap_or_default()
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: the fiber is stopped, in its loop or in a script of this state; what is on its stack has no
        // destructors that count, and is never gone on with. Then nobody uses the state, then its context.
        unsafe {
            if self.fiber.started() {
                self.fiber.force_reset();
            }
            (*self.context).limiting = false;
            ffi::lua_close(self.main());
            drop(Box::from_raw(self.context));
        }
    }
}

/// The stack on which all scripts of a state run: it takes one after the other.
fn fiber(ctx: *mut Context, phase: *mut Phase) -> Coroutine<Input, Step, (), DefaultStack> {
    let stack = DefaultStack::new(STACK_BYTES).expect("there is address space for a script's stack");
    Coroutine::with_stack(stack, move |yielder: &Yielder<Input, Step>, _first: Input| {
        // SAFETY: context and phase outlive the fiber; only one of the fiber and its owner runs at a time.
        unsafe {
            (*ctx).yielder = yielder;
            loop {
                let Phase::Ready { arguments, results, handler } = *phase else {
                    unreachable!("a script was begun")
                };
                *phase = Phase::Running;
                let status = ffi::lua_pcall((*ctx).main, arguments, results, handler);
                *phase = Phase::Done { status };
                yielder.suspend(Step::Done);
            }
        }
    })
}

/// Hands control to the owner of the machine; what it answers.
pub(super) unsafe fn suspend(ctx: *mut Context, step: Step) -> Input {
    (*(*ctx).yielder).suspend(step)
}

unsafe fn push_array<'a>(l: State, items: impl ExactSizeIterator<Item = &'a [u8]>) {
    ffi::lua_createtable(l, items.len() as c_int, 0);
    for (i, item) in items.enumerate() {
        push(l, item);
        ffi::lua_rawseti_(l, -2, i as c_int + 1);
    }
}
