//! The `redis` table: calls of commands, replies, logging; the hook that stops long scripts; where errors
//! were raised.

use super::state::{
    CFunction, State, buffer, bytes_at, c, context, error_on_top, push, push_field_table, set_field,
    set_function, set_number, set_string,
};
use super::vm::{Input, Role, Step, suspend};
use super::{convert, debug};
use mlua::ffi;
use sha1::Digest;
use std::ffi::c_int;

/// Effects go to the log.
pub(super) const REPL_AOF: u8 = 1;
/// Effects go to replicas.
pub(super) const REPL_REPLICA: u8 = 2;
/// Effects go everywhere.
pub(super) const REPL_ALL: u8 = REPL_AOF | REPL_REPLICA;

/// Levels of `redis.log` with their names, from 0 on.
const LOG_LEVELS: [(&[u8], log::Level); 4] = [
    (b"LOG_DEBUG", log::Level::Trace),
    (b"LOG_VERBOSE", log::Level::Debug),
    (b"LOG_NOTICE", log::Level::Info),
    (b"LOG_WARNING", log::Level::Warn),
];

/// The version scripts see; the server answers it too (INFO).
const VERSION: &[u8] = b"7.4.1";
const VERSION_NUMBER: f64 = 0x0007_0401 as f64;

/// Functions of the `redis` table in scripts and functions.
const FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"call", call),
    (b"pcall", pcall),
    (b"sha1hex", sha1hex),
    (b"error_reply", error_reply),
    (b"status_reply", status_reply),
    (b"setresp", setresp),
    (b"set_repl", set_repl),
    (b"acl_check_cmd", acl_check_cmd),
];

/// Further ones in scripts: left from times when scripts were replicated whole, and for the debugger.
const SCRIPT_FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"replicate_commands", replicate_commands),
    (b"breakpoint", debug::breakpoint),
    (b"debug", debug::debug),
];

/// Pushes the `redis` table.
pub(super) unsafe fn push_table(l: State, role: Role) {
    ffi::lua_createtable(l, 0, 32);
    for (name, function) in FUNCTIONS {
        set_function(l, name, *function);
    }
    if role == Role::Scripts {
        for (name, function) in SCRIPT_FUNCTIONS {
            set_function(l, name, *function);
        }
    }
    add_common(l);
    let repl: [(&[u8], u8); 5] = [
        (b"REPL_NONE", 0),
        (b"REPL_AOF", REPL_AOF),
        (b"REPL_SLAVE", REPL_REPLICA),
        (b"REPL_REPLICA", REPL_REPLICA),
        (b"REPL_ALL", REPL_ALL),
    ];
    for (name, flags) in repl {
        set_number(l, name, f64::from(flags));
    }
}

/// Adds to the table on top what libraries see too while they are loaded.
pub(super) unsafe fn add_common(l: State) {
    set_function(l, b"log", log_line);
    for (level, (name, _)) in LOG_LEVELS.iter().enumerate() {
        set_number(l, name, level as f64);
    }
    set_string(l, b"REDIS_VERSION", VERSION);
    set_number(l, b"REDIS_VERSION_NUM", VERSION_NUMBER);
}

/// Pushes an error object, and tells the debugger, if there is one. See [`push_error_object`].
pub(super) unsafe fn push_error(l: State, text: &[u8]) {
    debug::note_error(l, text);
    push_error_object(l, text);
}

/// Pushes an error object. A text that begins with `-` has a code (or is a text of one word).
pub(super) unsafe fn push_error_object(l: State, text: &[u8]) {
    let text = match text.iter().rposition(|b| !matches!(b, b'\r' | b'\n')) {
        Some(last) => &text[..=last],
        None => b"",
    };
    let with_code = text.strip_prefix(b"-").filter(|text| text.contains(&b' '));
    if let Some(text) = with_code {
        return push_field_table(l, b"err", text);
    }
    ffi::lua_createtable(l, 0, 4);
    push(l, b"err");
    push(l, b"ERR ");
    push(l, text.strip_prefix(b"-").unwrap_or(text));
    ffi::lua_concat(l, 2);
    ffi::lua_rawset(l, -3);
}

/// Raises an error object.
pub(super) unsafe fn raise(l: State, text: &[u8]) -> ! {
    push_error(l, text);
    ffi::lua_error(l)
}

// ---- commands ----

unsafe extern "C-unwind" fn call(l: State) -> c_int {
    let failed = command(l);
    if failed { ffi::lua_error(l) } else { 1 }
}

unsafe extern "C-unwind" fn pcall(l: State) -> c_int {
    command(l);
    1
}

/// What is wrong with the arguments of a call, if anything.
unsafe fn wrong_arguments(l: State) -> Option<&'static [u8]> {
    let count = ffi::lua_gettop(l);
    if count == 0 {
        return Some(b"Please specify at least one argument for this redis lib call");
    }
    let fits = |i: c_int| matches!(ffi::lua_type(l, i), ffi::LUA_TSTRING | ffi::LUA_TNUMBER);
    if !(1..=count).all(fits) {
        return Some(b"Lua redis lib command arguments must be strings or integers");
    }
    None
}

/// Runs the command on the stack and leaves its reply there alone. True if that is an error.
unsafe fn command(l: State) -> bool {
    if let Some(text) = wrong_arguments(l) {
        ffi::lua_settop(l, 0);
        push_error(l, text);
        return true;
    }
    let ctx = context(l);
    (*ctx).calling = l;
    let Input::Reply(data, len) = suspend(ctx, Step::Call) else { unreachable!("a call gets a reply") };
    ffi::lua_settop(l, 0);
    let reply = std::slice::from_raw_parts(data, len);
    convert::push_reply(l, reply);
    reply.first() == Some(&b'-')
}

unsafe extern "C-unwind" fn acl_check_cmd(l: State) -> c_int {
    if let Some(text) = wrong_arguments(l) {
        raise(l, text);
    }
    let ctx = context(l);
    (*ctx).calling = l;
    match suspend(ctx, Step::MayRun) {
        Input::Answer(Some(may_run)) => ffi::lua_pushboolean(l, c_int::from(may_run)),
        _ => raise(l, b"Invalid command passed to redis.acl_check_cmd()"),
    }
    1
}

// ---- replies ----

unsafe fn one_string(l: State) -> bool {
    ffi::lua_gettop(l) == 1 && ffi::lua_type(l, 1) == ffi::LUA_TSTRING
}

unsafe extern "C-unwind" fn error_reply(l: State) -> c_int {
    match one_string(l) {
        false => push_error(l, b"wrong number or type of arguments"),
        true if bytes_at(l, 1).first() == Some(&b'-') => push_error(l, bytes_at(l, 1)),
        true => {
            push(l, b"-");
            ffi::lua_insert(l, 1);
            ffi::lua_concat(l, 2);
            push_error(l, bytes_at(l, 1));
        }
    }
    1
}

unsafe extern "C-unwind" fn status_reply(l: State) -> c_int {
    match one_string(l) {
        false => push_error(l, b"wrong number or type of arguments"),
        true => push_field_table(l, b"ok", bytes_at(l, 1)),
    }
    1
}

// ---- the rest ----

unsafe extern "C-unwind" fn sha1hex(l: State) -> c_int {
    if ffi::lua_gettop(l) != 1 {
        raise(l, b"wrong number of arguments");
    }
    let digest = hex(&sha1::Sha1::digest(bytes_at(l, 1)).into());
    push(l, &digest);
    1
}

/// A digest as 40 hex digits.
pub(super) fn hex(digest: &[u8; 20]) -> [u8; 40] {
    let digit = |i: usize| b"0123456789abcdef"[usize::from(digest[i / 2] >> (4 * (1 - i % 2)) & 15)];
    std::array::from_fn(digit)
}

unsafe extern "C-unwind" fn setresp(l: State) -> c_int {
    if ffi::lua_gettop(l) != 1 {
        raise(l, b"redis.setresp() requires one argument.");
    }
    match ffi::lua_tonumber(l, 1) {
        2.0 => (*context(l)).resp = 2,
        3.0 => (*context(l)).resp = 3,
        _ => raise(l, b"RESP version must be 2 or 3."),
    }
    0
}

unsafe extern "C-unwind" fn set_repl(l: State) -> c_int {
    if ffi::lua_gettop(l) != 1 {
        raise(l, b"redis.set_repl() requires one argument.");
    }
    let flags = ffi::lua_tonumber(l, 1) as i64;
    if flags & !i64::from(REPL_ALL) != 0 {
        raise(l, b"Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.");
    }
    (*context(l)).repl = flags as u8;
    0
}

unsafe extern "C-unwind" fn log_line(l: State) -> c_int {
    let count = ffi::lua_gettop(l);
    if count < 2 {
        raise(l, b"redis.log() requires two arguments or more.");
    }
    if ffi::lua_isnumber(l, 1) == 0 {
        raise(l, b"First argument must be a number (log level).");
    }
    let level = ffi::lua_tonumber(l, 1);
    if !(0.0..LOG_LEVELS.len() as f64).contains(&level) {
        raise(l, b"Invalid log level.");
    }
    let ctx = context(l);
    buffer(ctx).clear();
    for i in 2..=count {
        if ffi::lua_isstring(l, i) != 0 {
            let text = bytes_at(l, i);
            if !buffer(ctx).is_empty() {
                buffer(ctx).push(b' ');
            }
            buffer(ctx).extend_from_slice(text);
        }
    }
    let (_, level) = LOG_LEVELS[level as usize];
    log::log!(target: "aikv", level, "{}", String::from_utf8_lossy(buffer(ctx)));
    buffer(ctx).clear();
    0
}

/// Commands have been replicated by their effects since Redis 7: always true.
unsafe extern "C-unwind" fn replicate_commands(l: State) -> c_int {
    ffi::lua_pushboolean(l, 1);
    1
}

// ---- errors and the hook ----

/// Makes an error an object and notes where it was raised: at the function that raised it, or its caller
/// when that is one of C.
pub(super) unsafe extern "C-unwind" fn on_error(l: State) -> c_int {
    ffi::lua_settop(l, 1);
    if ffi::lua_type(l, 1) != ffi::LUA_TTABLE || super::sandbox::is_protected(l, 1) {
        ffi::lua_createtable(l, 0, 4);
        push(l, b"ERR ");
        push_as_text(l, 1);
        ffi::lua_concat(l, 2);
        set_field(l, b"err");
        ffi::lua_replace(l, 1);
    }
    // SAFETY: a lua_Debug is plain numbers and pointers; it is filled before it is read.
    let mut place: ffi::lua_Debug = std::mem::zeroed();
    for level in [1, 2] {
        if ffi::lua_getstack(l, level, &raw mut place) == 0 {
            return 1;
        }
        ffi::lua_getinfo(l, c(c"Sl"), &raw mut place);
        if *place.what != b'C' as std::ffi::c_char {
            break;
        }
    }
    ffi::lua_pushstring_(l, place.source);
    set_field(l, b"source");
    set_number(l, b"line", f64::from(place.currentline));
    1
}

/// Pushes what `tostring` says of the value at `index`.
unsafe fn push_as_text(l: State, index: c_int) {
    match ffi::lua_type(l, index) {
        ffi::LUA_TSTRING | ffi::LUA_TNUMBER => ffi::lua_pushvalue(l, index),
        ffi::LUA_TNIL => push(l, b"nil"),
        ffi::LUA_TBOOLEAN if ffi::lua_toboolean(l, index) != 0 => push(l, b"true"),
        ffi::LUA_TBOOLEAN => push(l, b"false"),
        kind => {
            let (name, address) = (ffi::lua_typename(l, kind), ffi::lua_topointer(l, index));
            ffi::lua_pushfstring(l, c(c"%s: %p"), name, address);
        }
    }
}

/// Called by Lua every [`super::state::HOOK_INSTRUCTIONS`]: the owner decides whether the script goes on.
/// One that has to end is stopped at every line from now on, so that it cannot catch the error and live.
pub(super) unsafe extern "C-unwind" fn hook(l: State, _: *mut ffi::lua_Debug) {
    let ctx = context(l);
    if (*ctx).killed.is_none() {
        match suspend(ctx, Step::Interrupt) {
            Input::Kill(why) => (*ctx).killed = Some(why),
            _ => return,
        }
    }
    ffi::lua_sethook(l, Some(hook), ffi::LUA_MASKLINE, 0);
    ffi::lua_sethook((*ctx).main, Some(hook), ffi::LUA_MASKLINE, 0);
    raise_killed(l)
}

/// Raises the error for which the script has to end.
pub(super) unsafe fn raise_killed(l: State) -> ! {
    let why = (*context(l)).killed.unwrap_or("");
    raise(l, why.as_bytes())
}

/// `pcall`: an error object of ours becomes its text, as it was before Redis 7.
pub(super) unsafe extern "C-unwind" fn protected_call(l: State) -> c_int {
    ffi::luaL_checkany(l, 1);
    let arguments = ffi::lua_gettop(l) - 1;
    let status = ffi::lua_pcall(l, arguments, ffi::LUA_MULTRET, 0);
    if status == ffi::LUA_OK {
        ffi::lua_checkstack(l, 1);
        ffi::lua_pushboolean(l, 1);
        ffi::lua_insert(l, 1);
        return ffi::lua_gettop(l);
    }
    if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
        push(l, b"err");
        ffi::lua_rawget_(l, -2);
        match ffi::lua_type(l, -1) {
            ffi::LUA_TSTRING => ffi::lua_replace(l, -2),
            _ => ffi::lua_pop(l, 1),
        }
    }
    ffi::lua_pushboolean(l, 0);
    ffi::lua_insert(l, -2);
    2
}

/// `xpcall`.
pub(super) unsafe extern "C-unwind" fn protected_call_with_handler(l: State) -> c_int {
    ffi::luaL_checkany(l, 2);
    ffi::lua_settop(l, 2);
    // The script's handler, on top, becomes part of ours.
    ffi::lua_pushcclosure(l, unless_killed, 1);
    ffi::lua_insert(l, 1);
    let status = ffi::lua_pcall(l, 0, ffi::LUA_MULTRET, 1);
    ffi::lua_checkstack(l, 1);
    ffi::lua_pushboolean(l, c_int::from(status == ffi::LUA_OK));
    ffi::lua_replace(l, 1);
    ffi::lua_gettop(l)
}

/// Calls the script's error handler, unless the script has to end: the handler would run inside the hook,
/// where no hook stops it.
unsafe extern "C-unwind" fn unless_killed(l: State) -> c_int {
    if (*context(l)).killed.is_none() {
        ffi::lua_pushvalue(l, ffi::lua_upvalueindex(1));
        ffi::lua_insert(l, 1);
        ffi::lua_call(l, ffi::lua_gettop(l) - 1, 1);
    }
    1
}

/// Raised by the metatable of the globals for a name that is none.
pub(super) unsafe extern "C-unwind" fn no_such_global(l: State) -> c_int {
    let name = match ffi::lua_type(l, 2) {
        ffi::LUA_TSTRING => ffi::lua_tolstring(l, 2, std::ptr::null_mut()),
        ffi::LUA_TNUMBER => {
            ffi::lua_pushvalue(l, 2);
            ffi::lua_tolstring(l, -1, std::ptr::null_mut())
        }
        kind => ffi::lua_typename(l, kind),
    };
    ffi::lua_pushfstring(l, c(c"Script attempted to access nonexistent global variable '%s'"), name);
    error_on_top(l)
}
