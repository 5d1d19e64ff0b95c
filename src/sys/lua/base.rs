//! What of Lua's own library is replaced: functions that would reach past protected tables, that take
//! compiled code, that would change the collector for all, or that need limits Lua 5.1 does not have.

use super::api;
use super::sandbox::{check_writable, is_protected, push_real, remember as remember_one};
use super::state::{
    CFunction, Original, State, argument_error, buffer, bytes_at, c, check_buffer, check_bytes, context,
    error, set_function,
};
use mlua::ffi;
use std::ffi::{c_char, c_int};

/// The longest pattern with special characters, in bytes: the matcher recurses once per item of it.
const PATTERN_BYTES_MAX: usize = 16 * 1024;
/// What `math.random` divides its numbers by.
const RANDOM_MAX: f64 = i32::MAX as f64;

/// A library (none: the globals), a name in it, the function that is remembered.
type Row = (Option<&'static [u8]>, &'static [u8], Original);

const REMEMBERED: &[Row] = &[
    (Some(b"string"), b"find", Original::Find),
    (Some(b"string"), b"match", Original::Match),
    (Some(b"string"), b"gmatch", Original::Gmatch),
    (Some(b"string"), b"gsub", Original::Gsub),
    (Some(b"table"), b"insert", Original::Insert),
    (Some(b"table"), b"remove", Original::Remove),
    (Some(b"table"), b"sort", Original::Sort),
    (Some(b"table"), b"foreach", Original::Foreach),
    (None, b"next", Original::Next),
    (None, b"setfenv", Original::Setfenv),
    (None, b"collectgarbage", Original::Collectgarbage),
];

const BASE: &[(&[u8], CFunction)] = &[
    (b"collectgarbage", collect_garbage),
    (b"load", load),
    (b"loadstring", loadstring),
    (b"next", next),
    (b"pairs", pairs),
    (b"pcall", api::protected_call),
    (b"rawget", rawget),
    (b"rawset", rawset),
    (b"setfenv", setfenv),
    (b"setmetatable", setmetatable),
    (b"unpack", unpack),
    (b"xpcall", api::protected_call_with_handler),
];

const STRING: &[(&[u8], CFunction)] =
    &[(b"find", find), (b"gmatch", gmatch), (b"gsub", gsub), (b"match", matches), (b"rep", rep)];
const TABLE: &[(&[u8], CFunction)] =
    &[(b"foreach", foreach), (b"insert", insert), (b"remove", remove), (b"sort", sort)];
const MATH: &[(&[u8], CFunction)] = &[(b"random", random), (b"randomseed", randomseed)];

/// Remembers the functions of Lua's own that ours call.
pub(super) unsafe fn remember(l: State) {
    for (library, name, original) in REMEMBERED {
        remember_one(l, *library, name, *original);
    }
}

unsafe fn add(l: State, functions: &[(&[u8], CFunction)]) {
    for (name, function) in functions {
        set_function(l, name, *function);
    }
}

/// Adds the replacements of base functions to the table on top.
pub(super) unsafe fn add_base(l: State) {
    add(l, BASE);
}

/// Adds the replacements of a library's functions to the table on top.
pub(super) unsafe fn add_to(l: State, library: &[u8]) {
    match library {
        b"string" => add(l, STRING),
        b"table" => add(l, TABLE),
        b"math" => add(l, MATH),
        _ => {}
    }
}

// ---- tables ----

/// Puts the real table in the place of a stand-in as argument 1.
unsafe fn see_real(l: State) {
    if push_real(l, 1) {
        ffi::lua_replace(l, 1);
    }
}

unsafe extern "C-unwind" fn next(l: State) -> c_int {
    see_real(l);
    Original::Next.run(l)
}

/// Gives `next` and the table as it came: a real table never reaches the script.
unsafe extern "C-unwind" fn pairs(l: State) -> c_int {
    ffi::luaL_checktype(l, 1, ffi::LUA_TTABLE);
    ffi::lua_pushcclosure(l, next, 0);
    ffi::lua_pushvalue(l, 1);
    ffi::lua_pushnil(l);
    3
}

unsafe extern "C-unwind" fn rawget(l: State) -> c_int {
    ffi::luaL_checktype(l, 1, ffi::LUA_TTABLE);
    ffi::luaL_checkany(l, 2);
    ffi::lua_settop(l, 2);
    see_real(l);
    ffi::lua_rawget_(l, 1);
    1
}

unsafe extern "C-unwind" fn rawset(l: State) -> c_int {
    ffi::luaL_checktype(l, 1, ffi::LUA_TTABLE);
    ffi::luaL_checkany(l, 2);
    ffi::luaL_checkany(l, 3);
    ffi::lua_settop(l, 3);
    check_writable(l);
    ffi::lua_rawset(l, 1);
    1
}

unsafe extern "C-unwind" fn setmetatable(l: State) -> c_int {
    let kind = ffi::lua_type(l, 2);
    ffi::luaL_checktype(l, 1, ffi::LUA_TTABLE);
    if kind != ffi::LUA_TNIL && kind != ffi::LUA_TTABLE {
        argument_error(l, 2, c"nil or table expected");
    }
    check_writable(l);
    if ffi::luaL_getmetafield_(l, 1, c(c"__metatable")) != 0 {
        error(l, c"cannot change a protected metatable");
    }
    ffi::lua_settop(l, 2);
    ffi::lua_setmetatable(l, 1);
    1
}

unsafe extern "C-unwind" fn insert(l: State) -> c_int {
    check_writable(l);
    Original::Insert.run(l)
}

unsafe extern "C-unwind" fn remove(l: State) -> c_int {
    check_writable(l);
    Original::Remove.run(l)
}

unsafe extern "C-unwind" fn sort(l: State) -> c_int {
    check_writable(l);
    Original::Sort.run(l)
}

unsafe extern "C-unwind" fn foreach(l: State) -> c_int {
    see_real(l);
    Original::Foreach.run(l)
}

/// Values of a table from one index to another; the count cannot overflow, as it can in Lua's own.
unsafe extern "C-unwind" fn unpack(l: State) -> c_int {
    ffi::luaL_checktype(l, 1, ffi::LUA_TTABLE);
    let first = ffi::luaL_optinteger(l, 2, 1);
    let last = match ffi::lua_type(l, 3) {
        ffi::LUA_TNONE | ffi::LUA_TNIL => ffi::lua_objlen(l, 1) as i64,
        _ => ffi::luaL_checkinteger(l, 3),
    };
    if first > last {
        return 0;
    }
    let count = i128::from(last) - i128::from(first) + 1;
    let fits = i32::try_from(first).is_ok() && i32::try_from(last).is_ok() && count < 1 << 30;
    if !fits || ffi::lua_checkstack(l, count as c_int) == 0 {
        error(l, c"too many results to unpack");
    }
    for i in first..=last {
        ffi::lua_rawgeti_(l, 1, i as c_int);
    }
    count as c_int
}

// ---- code ----

unsafe extern "C-unwind" fn setfenv(l: State) -> c_int {
    // Level 0 would be the globals of the whole state.
    if ffi::lua_type(l, 1) != ffi::LUA_TFUNCTION && ffi::lua_tonumber(l, 1) as i64 == 0 {
        error(l, c"'setfenv' cannot change environment of given object");
    }
    if is_protected(l, 1) {
        argument_error(l, 1, c"number expected, got table");
    }
    Original::Setfenv.run(l)
}

/// Compiles the code on top of the stack, or leaves nil and why not.
unsafe fn compile(l: State, code: &[u8], name: *const c_char) -> c_int {
    let status = if code.first() == Some(&0x1b) {
        ffi::lua_pushstring_(l, c(c"precompiled code is not accepted"));
        ffi::LUA_ERRSYNTAX
    } else {
        ffi::luaL_loadbuffer(l, code.as_ptr().cast(), code.len(), name)
    };
    if status == ffi::LUA_OK {
        return 1;
    }
    ffi::lua_pushnil(l);
    ffi::lua_insert(l, -2);
    2
}

unsafe extern "C-unwind" fn loadstring(l: State) -> c_int {
    let code = check_bytes(l, 1);
    let name = match ffi::lua_type(l, 2) {
        ffi::LUA_TNONE | ffi::LUA_TNIL => code_name(l, 1),
        _ => ffi::luaL_checklstring(l, 2, std::ptr::null_mut()),
    };
    compile(l, code, name)
}

/// The code itself is its name.
unsafe fn code_name(l: State, index: c_int) -> *const c_char {
    ffi::lua_tolstring(l, index, std::ptr::null_mut())
}

/// Gathers all pieces before it compiles: no code of the script's runs while the parser works.
unsafe extern "C-unwind" fn load(l: State) -> c_int {
    ffi::luaL_checktype(l, 1, ffi::LUA_TFUNCTION);
    let name = match ffi::lua_type(l, 2) {
        ffi::LUA_TNONE | ffi::LUA_TNIL => c(c"=(load)"),
        _ => ffi::luaL_checklstring(l, 2, std::ptr::null_mut()),
    };
    ffi::lua_settop(l, 2);
    // A piece's function may call `load` itself, and may fail in it: what is ours ends at `end`.
    let ctx = context(l);
    let start = buffer(ctx).len();
    let mut end = start;
    loop {
        ffi::lua_pushvalue(l, 1);
        ffi::lua_call(l, 0, 1);
        buffer(ctx).truncate(end);
        match ffi::lua_type(l, -1) {
            ffi::LUA_TNIL => break,
            ffi::LUA_TSTRING if bytes_at(l, -1).is_empty() => break,
            ffi::LUA_TSTRING => {}
            _ => error(l, c"reader function must return a string"),
        }
        let piece = bytes_at(l, -1);
        check_buffer(l, piece.len());
        buffer(ctx).extend_from_slice(piece);
        end = buffer(ctx).len();
        ffi::lua_pop(l, 1);
    }
    let code = &buffer(ctx)[start..end];
    let results = compile(l, code, name);
    buffer(ctx).truncate(start);
    results
}

/// How and when garbage is collected is the same for all scripts.
unsafe extern "C-unwind" fn collect_garbage(l: State) -> c_int {
    if ffi::lua_type(l, 1) == ffi::LUA_TSTRING
        && matches!(bytes_at(l, 1), b"stop" | b"restart" | b"setpause" | b"setstepmul")
    {
        ffi::lua_pushnumber(l, 0.0);
        return 1;
    }
    Original::Collectgarbage.run(l)
}

// ---- strings ----

/// Refuses a pattern (argument 2) that would need too deep a recursion.
unsafe fn check_pattern(l: State) {
    ffi::luaL_checklstring(l, 1, std::ptr::null_mut());
    if check_bytes(l, 2).len() > PATTERN_BYTES_MAX {
        error(l, c"pattern too complex");
    }
}

unsafe extern "C-unwind" fn find(l: State) -> c_int {
    ffi::luaL_checklstring(l, 1, std::ptr::null_mut());
    let plain = ffi::lua_toboolean(l, 4) != 0;
    let special = |b: &u8| b"^$*+?.([%-".contains(b);
    if !plain && check_bytes(l, 2).iter().any(special) {
        check_pattern(l);
    }
    Original::Find.run(l)
}

unsafe extern "C-unwind" fn matches(l: State) -> c_int {
    check_pattern(l);
    Original::Match.run(l)
}

unsafe extern "C-unwind" fn gmatch(l: State) -> c_int {
    check_pattern(l);
    Original::Gmatch.run(l)
}

unsafe extern "C-unwind" fn gsub(l: State) -> c_int {
    check_pattern(l);
    Original::Gsub.run(l)
}

unsafe extern "C-unwind" fn rep(l: State) -> c_int {
    let piece = check_bytes(l, 1);
    let times = usize::try_from(ffi::luaL_checkinteger(l, 2)).unwrap_or(0);
    let Some(total) = piece.len().checked_mul(times).filter(|total| *total < usize::MAX / 4) else {
        error(l, c"resulting string too large")
    };
    if total == 0 {
        super::state::push(l, b"");
        return 1;
    }
    let room: *mut u8 = ffi::lua_newuserdata(l, total).cast();
    std::ptr::copy_nonoverlapping(piece.as_ptr(), room, piece.len());
    let mut done = piece.len();
    while done < total {
        let more = done.min(total - done);
        std::ptr::copy_nonoverlapping(room, room.add(done), more);
        done += more;
    }
    ffi::lua_pushlstring_(l, room.cast(), total);
    1
}

// ---- numbers ----

/// The next random number, from 0 up to less than 1: the well-known generator with 48 bits of state.
unsafe fn next_random(l: State) -> f64 {
    let ctx = context(l);
    (*ctx).random = (*ctx).random.wrapping_mul(0x5_deec_e66d).wrapping_add(11) & ((1 << 48) - 1);
    ((*ctx).random >> 17) as f64 % RANDOM_MAX / RANDOM_MAX
}

unsafe extern "C-unwind" fn random(l: State) -> c_int {
    let r = next_random(l);
    let int = |i: c_int| f64::from(ffi::luaL_checkinteger(l, i) as i32);
    let number = match ffi::lua_gettop(l) {
        0 => r,
        1 => {
            let upper = int(1);
            if upper < 1.0 {
                argument_error(l, 1, c"interval is empty");
            }
            (r * upper).floor() + 1.0
        }
        2 => {
            let (lower, upper) = (int(1), int(2));
            if lower > upper {
                argument_error(l, 2, c"interval is empty");
            }
            (r * (upper - lower + 1.0)).floor() + lower
        }
        _ => error(l, c"wrong number of arguments"),
    };
    ffi::lua_pushnumber(l, number);
    1
}

unsafe extern "C-unwind" fn randomseed(l: State) -> c_int {
    let seed = ffi::luaL_checkinteger(l, 1) as u32;
    (*context(l)).random = u64::from(seed) << 16 | 0x330e;
    0
}
