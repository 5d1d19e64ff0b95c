//! What a Lua state carries with it, its allocator with its limit, and small helpers over the C API.

use super::register::Registration;
use super::vm::{Input, Step};
use corosensei::Yielder;
use mlua::ffi;
use mlua::ffi::lua_State;
use std::alloc::Layout;
use std::ffi::{c_char, c_int, c_void};

/// A Lua state, or one of its coroutines.
pub(super) type State = *mut lua_State;
/// A function that Lua can call.
pub(super) type CFunction = ffi::lua_CFunction;

/// Instructions between two looks at whether the script has run too long.
pub(super) const HOOK_INSTRUCTIONS: c_int = 100_000;
/// A buffer larger than this is given back when a script has ended.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Library functions that a function of ours calls after its own checks.
#[derive(Clone, Copy)]
pub(super) enum Original {
    Find,
    Match,
    Gmatch,
    Gsub,
    Insert,
    Remove,
    Sort,
    Foreach,
    Next,
    Setfenv,
    Collectgarbage,
}

/// Number of [`Original`]s.
const ORIGINALS: usize = 11;

/// What belongs to a state. Lua's functions reach it through the allocator's argument. It is only touched
/// through its raw pointer, field by field, since Lua may call back at any time.
pub(super) struct Context {
    /// The main coroutine of the state.
    pub main: State,
    /// Bytes that Lua holds.
    pub used: usize,
    /// Bytes it may hold at most while a script runs; 0: any number.
    pub limit: usize,
    /// Whether the limit holds now: the server's own work on the state must not fail.
    pub limiting: bool,
    /// The way back to the caller of the running step.
    pub yielder: *const Yielder<Input, Step>,
    /// Why the script has to end, once it has.
    pub killed: Option<&'static str>,
    /// Protocol version of the replies of `redis.call`.
    pub resp: u8,
    /// `redis.set_repl`.
    pub repl: u8,
    /// The coroutine that waits for an answer to its call.
    pub calling: State,
    /// Bytes that library functions gather.
    pub buffer: Vec<u8>,
    /// State of `math.random`.
    pub random: u64,
    /// Functions that the library that is being loaded has registered.
    pub registered: Option<Vec<Registration>>,
    /// What a debugger wants.
    pub watch: super::debug::Watch,
    /// The settings of `cjson`.
    pub json: *mut super::json::Settings,
    originals: [Option<CFunction>; ORIGINALS],
}

impl Context {
    pub(super) fn new(limit: usize, random: u64) -> Context {
        Context {
            main: std::ptr::null_mut(),
            used: 0,
            limit,
            limiting: false,
            yielder: std::ptr::null(),
            killed: None,
            resp: 2,
            repl: super::api::REPL_ALL,
            calling: std::ptr::null_mut(),
            buffer: Vec::new(),
            random,
            registered: None,
            watch: super::debug::Watch::default(),
            json: std::ptr::null_mut(),
            originals: [None; ORIGINALS],
        }
    }
}

/// The context of a state.
#[inline]
pub(super) unsafe fn context(l: State) -> *mut Context {
    let mut data: *mut c_void = std::ptr::null_mut();
    ffi::lua_getallocf(l, &raw mut data);
    data.cast()
}

/// The buffer of a state.
#[inline]
pub(super) unsafe fn buffer<'a>(ctx: *mut Context) -> &'a mut Vec<u8> {
    &mut (*ctx).buffer
}

/// Bytes in the buffer, checked against the limit; an error of Lua's beyond it.
pub(super) unsafe fn check_buffer(l: State, more: usize) {
    let ctx = context(l);
    let buffered = buffer(ctx).len().saturating_add(more);
    if (*ctx).limit > 0 && buffered.saturating_add((*ctx).used) > (*ctx).limit {
        buffer(ctx).clear();
        error(l, c"not enough memory");
    }
}

/// Gives back a buffer that has become large.
pub(super) unsafe fn trim_buffer(ctx: *mut Context) {
    let buffer = &mut (*ctx).buffer;
    buffer.clear();
    if buffer.capacity() > BUFFER_KEPT_BYTES {
        *buffer = Vec::new();
    }
}

impl Original {
    /// Remembers the function on top of the stack, and takes it off.
    pub(super) unsafe fn remember(self, l: State) {
        let function = ffi::lua_tocfunction(l, -1);
        ffi::lua_pop(l, 1);
        (&mut (*context(l)).originals)[self as usize] = function;
    }

    /// Runs the function in the place of the one that runs.
    pub(super) unsafe fn run(self, l: State) -> c_int {
        let function = (&(*context(l)).originals)[self as usize];
        function.expect("remembered at the start")(l)
    }
}

/// Lua's allocator: the program's, counted and limited.
pub(super) unsafe extern "C" fn allocate(
    data: *mut c_void,
    block: *mut c_void,
    old_size: usize,
    new_size: usize,
) -> *mut c_void {
    // Lua asks for blocks of doubles and pointers at most.
    const ALIGN: usize = 8;
    let ctx: *mut Context = data.cast();
    let layout = |size: usize| Layout::from_size_align(size, ALIGN).ok();
    if new_size == 0 {
        if let Some(old) = layout(old_size).filter(|_| !block.is_null()) {
            (*ctx).used -= old_size;
            std::alloc::dealloc(block.cast(), old);
        }
        return std::ptr::null_mut();
    }
    let grown = new_size.saturating_sub(old_size);
    if (*ctx).limiting && (*ctx).limit > 0 && grown > 0 && (*ctx).used.saturating_add(grown) > (*ctx).limit {
        return std::ptr::null_mut();
    }
    let (Some(new), Some(old)) = (layout(new_size), layout(old_size)) else { return std::ptr::null_mut() };
    let moved = match block.is_null() {
        true => std::alloc::alloc(new),
        false => std::alloc::realloc(block.cast(), old, new_size),
    };
    if !moved.is_null() {
        (*ctx).used = (*ctx).used + new_size - if block.is_null() { 0 } else { old_size };
    }
    moved.cast()
}

/// The bytes of the string at `index`, which must be a string. They live while it is on the stack.
#[inline]
pub(super) unsafe fn bytes_at<'a>(l: State, index: c_int) -> &'a [u8] {
    let mut len = 0;
    let data = ffi::lua_tolstring(l, index, &raw mut len);
    if data.is_null() {
        return &[];
    }
    std::slice::from_raw_parts(data.cast(), len)
}

/// The bytes of argument `index`, a string or a number; an error of Lua's otherwise.
pub(super) unsafe fn check_bytes<'a>(l: State, index: c_int) -> &'a [u8] {
    let mut len = 0;
    let data = ffi::luaL_checklstring(l, index, &raw mut len);
    std::slice::from_raw_parts(data.cast(), len)
}

/// Pushes a string.
#[inline]
pub(super) unsafe fn push(l: State, bytes: &[u8]) {
    ffi::lua_pushlstring_(l, bytes.as_ptr().cast(), bytes.len());
}

/// Pushes a table with one field, a string.
pub(super) unsafe fn push_field_table(l: State, field: &[u8], value: &[u8]) {
    ffi::lua_createtable(l, 0, 2);
    push(l, field);
    push(l, value);
    ffi::lua_rawset(l, -3);
}

/// Sets a field of the table below the top to the value on top.
pub(super) unsafe fn set_field(l: State, name: &[u8]) {
    push(l, name);
    ffi::lua_insert(l, -2);
    ffi::lua_rawset(l, -3);
}

/// Sets a field of the table on top to a function.
pub(super) unsafe fn set_function(l: State, name: &[u8], function: CFunction) {
    push(l, name);
    ffi::lua_pushcclosure(l, function, 0);
    ffi::lua_rawset(l, -3);
}

/// Sets a field of the table on top to a number.
pub(super) unsafe fn set_number(l: State, name: &[u8], value: f64) {
    push(l, name);
    ffi::lua_pushnumber(l, value);
    ffi::lua_rawset(l, -3);
}

/// Sets a field of the table on top to a string.
pub(super) unsafe fn set_string(l: State, name: &[u8], value: &[u8]) {
    push(l, name);
    push(l, value);
    ffi::lua_rawset(l, -3);
}

/// Raises an error with the place in the script in front of it.
pub(super) unsafe fn error(l: State, text: &std::ffi::CStr) -> ! {
    ffi::luaL_where(l, 1);
    ffi::lua_pushstring_(l, text.as_ptr());
    ffi::lua_concat(l, 2);
    ffi::lua_error(l)
}

/// Raises what is on top of the stack, a string, with the place in the script in front of it.
pub(super) unsafe fn error_on_top(l: State) -> ! {
    ffi::luaL_where(l, 1);
    ffi::lua_insert(l, -2);
    ffi::lua_concat(l, 2);
    ffi::lua_error(l)
}

/// Raises an error about an argument.
pub(super) unsafe fn argument_error(l: State, argument: c_int, text: &std::ffi::CStr) -> ! {
    ffi::luaL_argerror(l, argument, text.as_ptr());
    unreachable!("luaL_argerror does not return")
}

/// Makes sure of room on the stack.
pub(super) unsafe fn need_stack(l: State, slots: c_int) {
    if ffi::lua_checkstack(l, slots) == 0 {
        error(l, c"stack overflow");
    }
}

/// A pointer for C from a constant.
pub(super) const fn c(text: &'static std::ffi::CStr) -> *const c_char {
    text.as_ptr()
}
