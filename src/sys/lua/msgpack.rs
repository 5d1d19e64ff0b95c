//! The library `cmsgpack`: Lua values to and from MessagePack.

use super::sandbox::set_module;
use super::state::{
    CFunction, State, argument_error, bytes_at, check_buffer, check_bytes, context, error, push,
    set_function, set_string,
};
use mlua::ffi;
use std::ffi::c_int;

/// Tables nested deeper are written as nil, so that circular references end.
const NESTING_MAX: u32 = 16;

const FUNCTIONS: &[(&[u8], CFunction)] =
    &[(b"pack", pack), (b"unpack", unpack), (b"unpack_one", unpack_one), (b"unpack_limit", unpack_limit)];

/// Pushes the library.
pub(super) unsafe fn push_table(l: State) {
    ffi::lua_createtable(l, 0, 8);
    for (name, function) in FUNCTIONS {
        set_function(l, name, *function);
    }
    set_module(l, b"cmsgpack", b"lua-cmsgpack 0.4.0");
    set_string(l, b"_DESCRIPTION", b"MessagePack for Lua");
}

// ---- writing ----

unsafe fn out<'a>(l: State) -> &'a mut Vec<u8> {
    &mut (*context(l)).buffer
}

unsafe extern "C-unwind" fn pack(l: State) -> c_int {
    let count = ffi::lua_gettop(l);
    if count == 0 {
        argument_error(l, 0, c"MessagePack pack needs input.");
    }
    out(l).clear();
    for i in 1..=count {
        ffi::lua_pushvalue(l, i);
        write(l, 0);
    }
    push(l, out(l));
    out(l).clear();
    1
}

/// Writes the value on top of the stack, and takes it off.
unsafe fn write(l: State, level: u32) {
    match ffi::lua_type(l, -1) {
        ffi::LUA_TSTRING => write_string(l, bytes_at(l, -1)),
        ffi::LUA_TBOOLEAN => out(l).push(if ffi::lua_toboolean(l, -1) != 0 { 0xc3 } else { 0xc2 }),
        ffi::LUA_TNUMBER => write_number(out(l), ffi::lua_tonumber(l, -1)),
        ffi::LUA_TTABLE if level < NESTING_MAX => {
            check_buffer(l, 16);
            if ffi::lua_checkstack(l, 6) == 0 {
                error(l, c"stack overflow (in function mp_encode_lua_table)");
            }
            write_table(l, level);
        }
        _ => out(l).push(0xc0),
    }
    ffi::lua_pop(l, 1);
}

unsafe fn write_string(l: State, text: &[u8]) {
    check_buffer(l, text.len() + 5);
    let out = out(l);
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len => write_len(out, 0xda, 0xdb, len),
    }
    out.extend_from_slice(text);
}

/// A length of two bytes or of four, each with its own first byte.
fn write_len(out: &mut Vec<u8>, short: u8, long: u8, len: usize) {
    match u16::try_from(len) {
        Ok(len) => {
            out.push(short);
            out.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            out.push(long);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: f64) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if number.trunc() == number && (-LIMIT..LIMIT).contains(&number) {
        return write_integer(out, number as i64);
    }
    let short = number as f32;
    if f64::from(short) == number {
        out.push(0xca);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn write_integer(out: &mut Vec<u8>, n: i64) {
    let (first, bytes) = match n {
        0..=0x7f => return out.push(n as u8),
        -32..=-1 => return out.push(n as u8),
        0x80..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -0x80..-32 => (0xd0, 1),
        -0x8000..-0x80 => (0xd1, 2),
        -0x8000_0000..-0x8000 => (0xd2, 4),
        _ => (0xd3, 8),
    };
    out.push(first);
    out.extend_from_slice(&n.to_be_bytes()[8 - bytes..]);
}

unsafe fn write_table(l: State, level: u32) {
    let Some(count) = array_len(l) else { return write_map(l, level) };
    match count {
        0..=15 => out(l).push(0x90 | count as u8),
        _ => write_len(out(l), 0xdc, 0xdd, count as usize),
    }
    for i in 1..=count {
        ffi::lua_rawgeti_(l, -1, i);
        write(l, level + 1);
    }
}

unsafe fn write_map(l: State, level: u32) {
    let mut pairs: usize = 0;
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        ffi::lua_pop(l, 1);
        pairs += 1;
    }
    match pairs {
        0..=15 => out(l).push(0x80 | pairs as u8),
        _ => write_len(out(l), 0xde, 0xdf, pairs),
    }
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        ffi::lua_pushvalue(l, -2);
        write(l, level + 1);
        write(l, level + 1);
    }
}

/// Length of the table on top if its keys are the numbers from 1 up to it, and nothing else.
unsafe fn array_len(l: State) -> Option<c_int> {
    let (mut count, mut max) = (0, 0.0);
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        ffi::lua_pop(l, 1);
        let index = if ffi::lua_type(l, -1) == ffi::LUA_TNUMBER { ffi::lua_tonumber(l, -1) } else { 0.0 };
        if index < 1.0 || index.trunc() != index || index > f64::from(c_int::MAX) {
            ffi::lua_pop(l, 1);
            return None;
        }
        max = index.max(max);
        count += 1;
    }
    (max == f64::from(count)).then_some(count)
}

// ---- reading ----

/// What is wrong with the bytes.
enum Bad {
    Missing,
    Format,
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Bad::Missing)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of `len` bytes, the high end first.
    fn number(&mut self, len: usize) -> Result<u64, Bad> {
        Ok(self.take(len)?.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn signed(&mut self, len: usize) -> Result<i64, Bad> {
        let unused = 64 - 8 * len as u32;
        Ok((self.number(len)? << unused) as i64 >> unused)
    }
}

/// Reads one value and pushes it. On an error the stack is in no special state.
unsafe fn read(l: State, input: &mut Input<'_>) -> Result<(), Bad> {
    if ffi::lua_checkstack(l, 6) == 0 {
        error(l, c"stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)");
    }
    let first = input.take(1)?[0];
    match first {
        0xcc..=0xcf => ffi::lua_pushnumber(l, input.number(1 << (first - 0xcc))? as f64),
        0xd0..=0xd3 => ffi::lua_pushnumber(l, input.signed(1 << (first - 0xd0))? as f64),
        0xc0 => ffi::lua_pushnil(l),
        0xc2 | 0xc3 => ffi::lua_pushboolean(l, c_int::from(first == 0xc3)),
        0xca => ffi::lua_pushnumber(l, f64::from(f32::from_bits(input.number(4)? as u32))),
        0xcb => ffi::lua_pushnumber(l, f64::from_bits(input.number(8)?)),
        0xd9..=0xdb => {
            let len = input.number(1 << (first - 0xd9))?;
            push(l, input.take(len as usize)?);
        }
        0xdc | 0xdd => {
            let len = input.number(2 << (first - 0xdc))?;
            return read_array(l, input, len);
        }
        0xde | 0xdf => {
            let len = input.number(2 << (first - 0xde))?;
            return read_map(l, input, len);
        }
        0x00..=0x7f => ffi::lua_pushnumber(l, f64::from(first)),
        0xe0..=0xff => ffi::lua_pushnumber(l, f64::from(first as i8)),
        0xa0..=0xbf => push(l, input.take(usize::from(first & 0x1f))?),
        0x90..=0x9f => return read_array(l, input, u64::from(first & 0xf)),
        0x80..=0x8f => return read_map(l, input, u64::from(first & 0xf)),
        _ => return Err(Bad::Format),
    }
    Ok(())
}

unsafe fn read_array(l: State, input: &mut Input<'_>, len: u64) -> Result<(), Bad> {
    ffi::lua_createtable(l, 0, 0);
    for i in 1..=len {
        read(l, input)?;
        ffi::lua_rawseti_(l, -2, i as c_int);
    }
    Ok(())
}

unsafe fn read_map(l: State, input: &mut Input<'_>, len: u64) -> Result<(), Bad> {
    ffi::lua_createtable(l, 0, 0);
    for _ in 0..len {
        read(l, input)?;
        read(l, input)?;
        // A nil or a NaN cannot be a key: Lua says so.
        ffi::lua_settable(l, -3);
    }
    Ok(())
}

/// Reads values from argument 1, at most `limit` of them, from `offset` on. `All`: the values alone are
/// given, else with where the next begins in front of them.
unsafe fn read_many(l: State, limit: i64, offset: i64) -> c_int {
    let all = limit == 0 && offset == 0;
    let data = check_bytes(l, 1);
    if offset < 0 || limit < 0 {
        let text = c"Invalid request to unpack with offset of %d and limit of %d.";
        ffi::lua_pushfstring(l, text.as_ptr(), offset as c_int, data.len() as c_int);
        super::state::error_on_top(l);
    }
    if offset > data.len() as i64 {
        let text = c"Start offset %d greater than input length %d.";
        ffi::lua_pushfstring(l, text.as_ptr(), offset as c_int, data.len() as c_int);
        super::state::error_on_top(l);
    }
    let mut input = Input(&data[offset as usize..]);
    let mut count = 0;
    while !input.0.is_empty() && (all || i64::from(count) < limit) {
        match read(l, &mut input) {
            Ok(()) => count += 1,
            Err(Bad::Missing) => error(l, c"Missing bytes in input."),
            Err(Bad::Format) => error(l, c"Bad data format in input."),
        }
    }
    if all {
        return count;
    }
    let next = if input.0.is_empty() { -1.0 } else { (data.len() - input.0.len()) as f64 };
    ffi::lua_pushnumber(l, next);
    ffi::lua_insert(l, 2);
    count + 1
}

unsafe extern "C-unwind" fn unpack(l: State) -> c_int {
    ffi::lua_settop(l, 1);
    read_many(l, 0, 0)
}

unsafe extern "C-unwind" fn unpack_one(l: State) -> c_int {
    let offset = ffi::luaL_optinteger(l, 2, 0);
    ffi::lua_settop(l, 1);
    read_many(l, 1, offset)
}

unsafe extern "C-unwind" fn unpack_limit(l: State) -> c_int {
    let limit = ffi::luaL_checkinteger(l, 2);
    let offset = ffi::luaL_optinteger(l, 3, 0);
    ffi::lua_settop(l, 1);
    read_many(l, limit, offset)
}
