//! The sandbox: which names a script sees, and tables it cannot change.
//!
//! Lua 5.1 knows no read-only tables. A protected table is an empty stand-in whose metatable reads from the
//! real one and refuses writes; `getmetatable` gives another such stand-in. Scripts never get hold of a real
//! table: what of Lua's own library would read or write past the metatable (`rawset`, `next`,
//! `table.insert`, ...) is replaced in `base.rs` by functions that know stand-ins.

use super::state::{Original, State, error, push, set_field, set_function, set_string};
use super::vm::{Role, place};
use super::{api, base, bits, json, msgpack, pack, register};
use mlua::ffi;
use std::ffi::{c_int, c_void};

/// Key in the metatable of a stand-in under which its real table is.
static REAL: u8 = 0;

/// A library's name, and what pushes it.
type Library = (&'static [u8], unsafe fn(State));

/// What of Lua's own library stays as it is.
const KEPT: &[(&[u8], &[&[u8]])] = &[
    (
        b"string",
        &[b"byte", b"char", b"dump", b"format", b"gfind", b"len", b"lower", b"reverse", b"sub", b"upper"],
    ),
    (b"table", &[b"concat", b"foreachi", b"getn", b"maxn", b"setn"]),
    (b"os", &[b"clock"]),
    (b"coroutine", &[b"create", b"resume", b"running", b"status", b"wrap", b"yield"]),
    (
        b"math",
        &[
            b"abs", b"acos", b"asin", b"atan", b"atan2", b"ceil", b"cos", b"cosh", b"deg", b"exp", b"floor",
            b"fmod", b"frexp", b"huge", b"ldexp", b"log", b"log10", b"max", b"min", b"mod", b"modf", b"pi",
            b"pow", b"rad", b"sin", b"sinh", b"sqrt", b"tan", b"tanh",
        ],
    ),
];

/// Functions of Lua's base library that stay as they are.
const KEPT_BASE: &[&[u8]] = &[
    b"_VERSION",
    b"assert",
    b"error",
    b"gcinfo",
    b"getfenv",
    b"getmetatable",
    b"ipairs",
    b"rawequal",
    b"select",
    b"tonumber",
    b"tostring",
    b"type",
    b"xpcall",
];

fn real_key() -> *mut c_void {
    (&raw const REAL).cast_mut().cast()
}

/// Builds the sandbox in a new state.
pub(super) unsafe fn set_up(l: State, role: Role) {
    ffi::lua_checkstack(l, 60);
    for open in
        [ffi::luaopen_base, ffi::luaopen_table, ffi::luaopen_string, ffi::luaopen_math, ffi::luaopen_os]
    {
        ffi::lua_pushcclosure(l, open, 0);
        push(l, b"");
        ffi::lua_call(l, 1, 0);
    }
    base::remember(l);
    ffi::lua_settop(l, 0);
    ffi::lua_pushvalue(l, ffi::LUA_GLOBALSINDEX);
    let original = ffi::luaL_ref(l, ffi::LUA_REGISTRYINDEX);
    ffi::lua_pushcclosure(l, api::on_error, 0);
    push_globals(l, role);
    push_scripts_globals(l);
    push_load_globals(l, role);
    push(l, b"KEYS");
    push(l, b"ARGV");
    for name in place::NAMES {
        push(l, name);
    }
    debug_assert_eq!(ffi::lua_gettop(l), place::TOP, "the bottom of the stack is as named");
    forget_library(l, original);
    protect_strings(l);
    ffi::lua_gc(l, ffi::LUA_GCCOLLECT, 0);
}

/// Lets go of Lua's own libraries, of which not all is used: they hang on a list of Lua's and on the globals
/// it began with, which every function of the library refers to.
unsafe fn forget_library(l: State, globals: c_int) {
    ffi::lua_pushnil(l);
    ffi::lua_setfield(l, ffi::LUA_REGISTRYINDEX, c"_LOADED".as_ptr());
    ffi::lua_rawgeti_(l, ffi::LUA_REGISTRYINDEX, globals);
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        ffi::lua_pop(l, 1);
        ffi::lua_pushvalue(l, -1);
        ffi::lua_pushnil(l);
        ffi::lua_rawset(l, -4);
    }
    ffi::lua_pop(l, 1);
    ffi::luaL_unref(l, ffi::LUA_REGISTRYINDEX, globals);
}

/// Pushes the table behind the globals: what of the library is kept, and ours.
unsafe fn push_globals(l: State, role: Role) {
    ffi::lua_createtable(l, 0, 64);
    for name in KEPT_BASE {
        push(l, name);
        push(l, name);
        ffi::lua_rawget_(l, ffi::LUA_GLOBALSINDEX);
        ffi::lua_rawset(l, -3);
    }
    base::add_base(l);
    for (library, names) in KEPT {
        ffi::lua_createtable(l, 0, names.len() as c_int + 8);
        push(l, library);
        ffi::lua_rawget_(l, ffi::LUA_GLOBALSINDEX);
        for name in *names {
            push(l, name);
            push(l, name);
            ffi::lua_rawget_(l, -3);
            ffi::lua_rawset(l, -4);
        }
        ffi::lua_pop(l, 1);
        base::add_to(l, library);
        protect(l);
        set_field(l, library);
    }
    let ours: [Library; 4] = [
        (b"cjson", json::push_main),
        (b"cmsgpack", msgpack::push_table),
        (b"struct", pack::push_table),
        (b"bit", bits::push_table),
    ];
    for (name, push_table) in ours {
        push_table(l);
        protect(l);
        set_field(l, name);
    }
    api::push_table(l, role);
    protect(l);
    set_field(l, b"redis");
    if role == Role::Scripts {
        ffi::lua_pushcclosure(l, api::on_error, 0);
        set_field(l, b"__redis__err__handler");
    }
    refuse_unknown(l);
}

/// Pushes the metatable of the globals that scripts see, and puts those in the place of Lua's own.
unsafe fn push_scripts_globals(l: State) {
    ffi::lua_createtable(l, 0, 0);
    ffi::lua_pushvalue(l, place::GLOBALS);
    stand_in(l, -2);
    // The metatable stays on the stack, so that its `__index` can be changed.
    ffi::lua_getmetatable(l, -1);
    ffi::lua_insert(l, -2);
    ffi::lua_pushvalue(l, -1);
    ffi::lua_replace(l, ffi::LUA_GLOBALSINDEX);
    push(l, b"_G");
    ffi::lua_insert(l, -2);
    ffi::lua_rawset(l, place::GLOBALS);
}

/// Pushes what a library sees while it is loaded: hardly more than the means to register functions.
unsafe fn push_load_globals(l: State, role: Role) {
    if role == Role::Scripts {
        return ffi::lua_pushnil(l);
    }
    ffi::lua_createtable(l, 0, 1);
    ffi::lua_createtable(l, 0, 16);
    set_function(l, b"register_function", register::register_function);
    api::add_common(l);
    refuse_unknown(l);
    protect(l);
    set_field(l, b"redis");
    refuse_unknown(l);
}

/// Lets reading an unknown name of the table on top be an error.
unsafe fn refuse_unknown(l: State) {
    ffi::lua_createtable(l, 0, 1);
    set_function(l, b"__index", api::no_such_global);
    ffi::lua_setmetatable(l, -2);
}

/// Chooses the table that the globals are read from: one of the places on the stack.
pub(super) unsafe fn set_globals(l: State, from: c_int) {
    for key in [true, false] {
        match key {
            true => push(l, b"__index"),
            false => ffi::lua_pushlightuserdata(l, real_key()),
        }
        ffi::lua_pushvalue(l, from);
        ffi::lua_rawset(l, place::GLOBALS_META);
    }
}

/// Puts a stand-in in the place of the table on top.
pub(super) unsafe fn protect(l: State) {
    ffi::lua_createtable(l, 0, 0);
    ffi::lua_insert(l, -2);
    stand_in(l, -2);
}

/// Makes the empty table at `index` a stand-in for the one on top, which is taken off.
unsafe fn stand_in(l: State, index: c_int) {
    ffi::lua_createtable(l, 0, 4);
    // ... empty, real, meta
    ffi::lua_pushvalue(l, -2);
    set_field(l, b"__index");
    set_function(l, b"__newindex", refuse_write);
    push_hidden_metatable(l);
    set_field(l, b"__metatable");
    ffi::lua_pushlightuserdata(l, real_key());
    ffi::lua_pushvalue(l, -3);
    ffi::lua_rawset(l, -3);
    ffi::lua_remove(l, -2);
    ffi::lua_setmetatable(l, index);
}

/// Pushes what `getmetatable` gives for a stand-in: an empty table that cannot be changed either, the same
/// for all.
unsafe fn push_hidden_metatable(l: State) {
    ffi::lua_pushlightuserdata(l, real_key());
    ffi::lua_rawget_(l, ffi::LUA_REGISTRYINDEX);
    if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
        return;
    }
    ffi::lua_pop(l, 1);
    ffi::lua_createtable(l, 0, 0);
    ffi::lua_createtable(l, 0, 3);
    set_function(l, b"__newindex", refuse_write);
    ffi::lua_pushboolean(l, 0);
    set_field(l, b"__metatable");
    ffi::lua_pushlightuserdata(l, real_key());
    ffi::lua_createtable(l, 0, 0);
    ffi::lua_rawset(l, -3);
    ffi::lua_setmetatable(l, -2);
    ffi::lua_pushlightuserdata(l, real_key());
    ffi::lua_pushvalue(l, -2);
    ffi::lua_rawset(l, ffi::LUA_REGISTRYINDEX);
}

/// Strings have a metatable that all share: it is hidden, and reads from the protected library.
unsafe fn protect_strings(l: State) {
    push(l, b"");
    ffi::lua_getmetatable(l, -1);
    push(l, b"string");
    ffi::lua_rawget_(l, place::GLOBALS);
    ffi::lua_pushvalue(l, -1);
    ffi::lua_insert(l, -3);
    set_field(l, b"__index");
    // ... library, metatable
    ffi::lua_createtable(l, 0, 1);
    ffi::lua_pushvalue(l, -3);
    set_field(l, b"__index");
    protect(l);
    set_field(l, b"__metatable");
    ffi::lua_settop(l, place::TOP);
}

/// Pushes the real table behind the stand-in at `index`. False, and nothing pushed, if it is none.
pub(super) unsafe fn push_real(l: State, index: c_int) -> bool {
    if ffi::lua_type(l, index) != ffi::LUA_TTABLE || ffi::lua_getmetatable(l, index) == 0 {
        return false;
    }
    ffi::lua_pushlightuserdata(l, real_key());
    ffi::lua_rawget_(l, -2);
    ffi::lua_remove(l, -2);
    if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
        return true;
    }
    ffi::lua_pop(l, 1);
    false
}

/// Whether the value at `index` is a stand-in.
pub(super) unsafe fn is_protected(l: State, index: c_int) -> bool {
    let real = push_real(l, index);
    if real {
        ffi::lua_pop(l, 1);
    }
    real
}

/// Raises the error of a write to a protected table.
pub(super) unsafe extern "C-unwind" fn refuse_write(l: State) -> c_int {
    error(l, c"Attempt to modify a readonly table")
}

/// Raises it if argument 1 is protected.
pub(super) unsafe fn check_writable(l: State) {
    if is_protected(l, 1) {
        refuse_write(l);
    }
}

/// Names and values that libraries have besides functions.
pub(super) unsafe fn set_module(l: State, name: &[u8], version: &[u8]) {
    set_string(l, b"_NAME", name);
    set_string(l, b"_VERSION", version);
}

/// Remembers a function of a library of Lua's own.
pub(super) unsafe fn remember(l: State, library: Option<&[u8]>, name: &[u8], original: Original) {
    match library {
        Some(library) => {
            push(l, library);
            ffi::lua_rawget_(l, ffi::LUA_GLOBALSINDEX);
            push(l, name);
            ffi::lua_rawget_(l, -2);
            ffi::lua_remove(l, -2);
        }
        None => {
            push(l, name);
            ffi::lua_rawget_(l, ffi::LUA_GLOBALSINDEX);
        }
    }
    original.remember(l);
}
