//! The library `cjson`: its settings, and Lua values to JSON.

use super::json_decode::decode;
use super::sandbox::set_module;
use super::state::{
    CFunction, State, argument_error, bytes_at, c, check_buffer, context, error, error_on_top, push,
    set_field,
};
use mlua::ffi;
use std::ffi::{c_char, c_int};

/// What scripts can set. Each run begins with the defaults, so that scripts do not change each other's.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    /// Write very sparse arrays as objects, else refuse them.
    pub sparse_convert: bool,
    /// An array is sparse above this many places an element; 0: never.
    pub sparse_ratio: c_int,
    /// Up to this length no array is sparse.
    pub sparse_safe: c_int,
    /// Nesting that is written.
    pub encode_depth: c_int,
    /// Nesting that is read.
    pub decode_depth: c_int,
    /// Digits of numbers.
    pub precision: c_int,
    /// Kept only to be shown: the buffer is always kept.
    pub keep_buffer: bool,
    /// What becomes of infinity and NaN.
    pub invalid_numbers: Invalid,
    /// Read infinity, NaN and hexadecimal numbers.
    pub decode_invalid: bool,
}

/// What is written for infinity and NaN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    Refuse,
    Write,
    Null,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            keep_buffer: true,
            invalid_numbers: Invalid::Refuse,
            decode_invalid: true,
        }
    }
}

const FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"encode", encode),
    (b"decode", decode),
    (b"encode_sparse_array", encode_sparse_array),
    (b"encode_max_depth", encode_max_depth),
    (b"decode_max_depth", decode_max_depth),
    (b"encode_number_precision", encode_number_precision),
    (b"encode_keep_buffer", encode_keep_buffer),
    (b"encode_invalid_numbers", encode_invalid_numbers),
    (b"decode_invalid_numbers", decode_invalid_numbers),
    (b"new", new),
];

/// Pushes the library that all scripts share.
pub(super) unsafe fn push_main(l: State) {
    (*context(l)).json = push_table(l);
}

/// Pushes a library with settings of its own, which its functions hold as their upvalue.
unsafe fn push_table(l: State) -> *mut Settings {
    let settings: *mut Settings = ffi::lua_newuserdata(l, size_of::<Settings>()).cast();
    settings.write(Settings::default());
    ffi::lua_createtable(l, 0, 16);
    for (name, function) in FUNCTIONS {
        push(l, name);
        ffi::lua_pushvalue(l, -3);
        ffi::lua_pushcclosure(l, *function, 1);
        ffi::lua_rawset(l, -3);
    }
    ffi::lua_pushlightuserdata(l, std::ptr::null_mut());
    set_field(l, b"null");
    set_module(l, b"cjson", b"2.1.0");
    ffi::lua_remove(l, -2);
    settings
}

unsafe extern "C-unwind" fn new(l: State) -> c_int {
    push_table(l);
    1
}

/// The settings of the function that runs.
pub(super) unsafe fn settings(l: State) -> *mut Settings {
    ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)).cast()
}

// ---- settings ----

/// The settings, with the arguments filled up to `count`.
unsafe fn begin(l: State, count: c_int) -> *mut Settings {
    if ffi::lua_gettop(l) > count {
        argument_error(l, count + 1, c"found too many arguments");
    }
    ffi::lua_settop(l, count);
    settings(l)
}

unsafe fn integer_option(l: State, index: c_int, setting: *mut c_int, min: c_int, max: c_int) {
    if ffi::lua_type(l, index) != ffi::LUA_TNIL {
        let value = ffi::luaL_checkinteger(l, index);
        if !(i64::from(min)..=i64::from(max)).contains(&value) {
            let text = ffi::lua_pushfstring(l, c(c"expected integer between %d and %d"), min, max);
            ffi::luaL_argerror(l, 1, text);
        }
        *setting = value as c_int;
    }
    ffi::lua_pushnumber(l, f64::from(*setting));
}

/// Reads a switch: a truth value, or `on` and `off`.
unsafe fn switch_option(l: State, index: c_int, setting: *mut bool) {
    let options: [*const c_char; 3] = [c(c"off"), c(c"on"), std::ptr::null()];
    match ffi::lua_type(l, index) {
        ffi::LUA_TNIL => {}
        ffi::LUA_TBOOLEAN => *setting = ffi::lua_toboolean(l, index) != 0,
        _ => *setting = ffi::luaL_checkoption(l, index, std::ptr::null(), options.as_ptr()) == 1,
    }
    ffi::lua_pushboolean(l, c_int::from(*setting));
}

unsafe extern "C-unwind" fn encode_sparse_array(l: State) -> c_int {
    let s = begin(l, 3);
    switch_option(l, 1, &raw mut (*s).sparse_convert);
    integer_option(l, 2, &raw mut (*s).sparse_ratio, 0, c_int::MAX);
    integer_option(l, 3, &raw mut (*s).sparse_safe, 0, c_int::MAX);
    3
}

unsafe extern "C-unwind" fn encode_max_depth(l: State) -> c_int {
    let s = begin(l, 1);
    integer_option(l, 1, &raw mut (*s).encode_depth, 1, c_int::MAX);
    1
}

unsafe extern "C-unwind" fn decode_max_depth(l: State) -> c_int {
    let s = begin(l, 1);
    integer_option(l, 1, &raw mut (*s).decode_depth, 1, c_int::MAX);
    1
}

unsafe extern "C-unwind" fn encode_number_precision(l: State) -> c_int {
    let s = begin(l, 1);
    integer_option(l, 1, &raw mut (*s).precision, 1, 14);
    1
}

unsafe extern "C-unwind" fn encode_keep_buffer(l: State) -> c_int {
    let s = begin(l, 1);
    switch_option(l, 1, &raw mut (*s).keep_buffer);
    1
}

unsafe extern "C-unwind" fn decode_invalid_numbers(l: State) -> c_int {
    let s = begin(l, 1);
    switch_option(l, 1, &raw mut (*s).decode_invalid);
    1
}

unsafe extern "C-unwind" fn encode_invalid_numbers(l: State) -> c_int {
    let s = begin(l, 1);
    let options: [*const c_char; 4] = [c(c"off"), c(c"on"), c(c"null"), std::ptr::null()];
    let chosen = match ffi::lua_type(l, 1) {
        ffi::LUA_TNIL => None,
        ffi::LUA_TBOOLEAN => Some(ffi::lua_toboolean(l, 1)),
        _ => Some(ffi::luaL_checkoption(l, 1, std::ptr::null(), options.as_ptr())),
    };
    if let Some(chosen) = chosen {
        (*s).invalid_numbers = [Invalid::Refuse, Invalid::Write, Invalid::Null][chosen as usize];
    }
    match (*s).invalid_numbers {
        Invalid::Null => push(l, b"null"),
        other => ffi::lua_pushboolean(l, c_int::from(other == Invalid::Write)),
    }
    1
}

// ---- writing ----

unsafe fn out<'a>(l: State) -> &'a mut Vec<u8> {
    &mut (*context(l)).buffer
}

unsafe extern "C-unwind" fn encode(l: State) -> c_int {
    if ffi::lua_gettop(l) != 1 {
        argument_error(l, 1, c"expected 1 argument");
    }
    let s = *settings(l);
    out(l).clear();
    write(l, &s, 0);
    push(l, out(l));
    out(l).clear();
    1
}

unsafe fn refuse(l: State, index: c_int, why: &std::ffi::CStr) -> ! {
    let kind = ffi::lua_typename(l, ffi::lua_type(l, index));
    ffi::lua_pushfstring(l, c(c"Cannot serialise %s: %s"), kind, why.as_ptr());
    error_on_top(l)
}

/// Writes the value on top of the stack.
unsafe fn write(l: State, s: &Settings, depth: c_int) {
    match ffi::lua_type(l, -1) {
        ffi::LUA_TSTRING => write_string(l, bytes_at(l, -1)),
        ffi::LUA_TNUMBER => write_number(l, s, -1),
        ffi::LUA_TBOOLEAN if ffi::lua_toboolean(l, -1) != 0 => out(l).extend_from_slice(b"true"),
        ffi::LUA_TBOOLEAN => out(l).extend_from_slice(b"false"),
        ffi::LUA_TTABLE => write_table(l, s, depth + 1),
        ffi::LUA_TNIL => out(l).extend_from_slice(b"null"),
        ffi::LUA_TLIGHTUSERDATA if ffi::lua_touserdata(l, -1).is_null() => {
            out(l).extend_from_slice(b"null");
        }
        _ => refuse(l, -1, c"type not supported"),
    }
}

unsafe fn write_table(l: State, s: &Settings, depth: c_int) {
    if depth > s.encode_depth || ffi::lua_checkstack(l, 6) == 0 {
        ffi::lua_settop(l, 1);
        ffi::lua_pushfstring(l, c(c"Cannot serialise, excessive nesting (%d)"), depth);
        error_on_top(l);
    }
    check_buffer(l, 16);
    match array_len(l, s) {
        Some(len @ 1..) => {
            out(l).push(b'[');
            for i in 1..=len {
                if i > 1 {
                    out(l).push(b',');
                }
                ffi::lua_rawgeti_(l, -1, i);
                write(l, s, depth);
                ffi::lua_pop(l, 1);
            }
            out(l).push(b']');
        }
        _ => write_object(l, s, depth),
    }
}

unsafe fn write_object(l: State, s: &Settings, depth: c_int) {
    out(l).push(b'{');
    let mut first = true;
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        if !std::mem::take(&mut first) {
            out(l).push(b',');
        }
        match ffi::lua_type(l, -2) {
            ffi::LUA_TNUMBER => {
                out(l).push(b'"');
                write_number(l, s, -2);
                out(l).push(b'"');
            }
            ffi::LUA_TSTRING => write_string(l, bytes_at(l, -2)),
            _ => refuse(l, -2, c"table key must be a number or string"),
        }
        out(l).push(b':');
        write(l, s, depth);
        ffi::lua_pop(l, 1);
    }
    out(l).push(b'}');
}

/// Length of the array on top; nothing if it is none, or too sparse to be one.
unsafe fn array_len(l: State, s: &Settings) -> Option<c_int> {
    let (mut max, mut items) = (0.0f64, 0);
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        ffi::lua_pop(l, 1);
        let index = if ffi::lua_type(l, -1) == ffi::LUA_TNUMBER { ffi::lua_tonumber(l, -1) } else { 0.0 };
        if index < 1.0 || index.floor() != index || index > f64::from(c_int::MAX) {
            ffi::lua_pop(l, 1);
            return None;
        }
        max = max.max(index);
        items += 1;
    }
    let sparse = s.sparse_ratio > 0
        && max > f64::from(items) * f64::from(s.sparse_ratio)
        && max > f64::from(s.sparse_safe);
    if sparse && !s.sparse_convert {
        refuse(l, -1, c"excessively sparse array");
    }
    (!sparse).then_some(max as c_int)
}

unsafe fn write_string(l: State, text: &[u8]) {
    check_buffer(l, text.len().saturating_mul(2));
    let out = out(l);
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 | 0x7f => {
                let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

unsafe fn write_number(l: State, s: &Settings, index: c_int) {
    let number = ffi::lua_tonumber(l, index);
    if !number.is_finite() {
        match s.invalid_numbers {
            Invalid::Refuse => refuse(l, index, c"must not be NaN or Inf"),
            Invalid::Write if number.is_nan() => return out(l).extend_from_slice(b"nan"),
            Invalid::Write => {}
            Invalid::Null => return out(l).extend_from_slice(b"null"),
        }
    }
    // 14 digits, sign, point and exponent fit.
    let mut text = [0u8; 40];
    let len = libc::snprintf(text.as_mut_ptr().cast(), text.len(), c(c"%.*g"), s.precision, number);
    match usize::try_from(len) {
        Ok(len) if len < text.len() => out(l).extend_from_slice(&text[..len]),
        _ => error(l, c"number cannot be written"),
    }
}
