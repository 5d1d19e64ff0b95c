//! The library `bit`: operations on numbers as 32-bit words.

use super::state::{CFunction, State, push, set_function};
use mlua::ffi;
use std::ffi::c_int;

const FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"tobit", tobit),
    (b"bnot", bnot),
    (b"band", band),
    (b"bor", bor),
    (b"bxor", bxor),
    (b"lshift", lshift),
    (b"rshift", rshift),
    (b"arshift", arshift),
    (b"rol", rol),
    (b"ror", ror),
    (b"bswap", bswap),
    (b"tohex", tohex),
];

/// Pushes the library.
pub(super) unsafe fn push_table(l: State) {
    ffi::lua_createtable(l, 0, 16);
    for (name, function) in FUNCTIONS {
        set_function(l, name, *function);
    }
}

/// An argument as a word: rounded, and its low 32 bits taken. Adding 1.5 * 2^52 brings them to the low bits
/// of the double, for numbers within 2^51.
unsafe fn word(l: State, index: c_int) -> u32 {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    (ffi::luaL_checknumber(l, index) + MAGIC).to_bits() as u32
}

unsafe fn give(l: State, word: u32) -> c_int {
    ffi::lua_pushnumber(l, f64::from(word as i32));
    1
}

unsafe fn fold(l: State, operation: fn(u32, u32) -> u32) -> c_int {
    let mut all = word(l, 1);
    for i in 2..=ffi::lua_gettop(l) {
        all = operation(all, word(l, i));
    }
    give(l, all)
}

unsafe fn shift(l: State, operation: fn(u32, u32) -> u32) -> c_int {
    let (bits, by) = (word(l, 1), word(l, 2) & 31);
    give(l, operation(bits, by))
}

unsafe extern "C-unwind" fn tobit(l: State) -> c_int {
    give(l, word(l, 1))
}

unsafe extern "C-unwind" fn bnot(l: State) -> c_int {
    give(l, !word(l, 1))
}

unsafe extern "C-unwind" fn band(l: State) -> c_int {
    fold(l, |a, b| a & b)
}

unsafe extern "C-unwind" fn bor(l: State) -> c_int {
    fold(l, |a, b| a | b)
}

unsafe extern "C-unwind" fn bxor(l: State) -> c_int {
    fold(l, |a, b| a ^ b)
}

unsafe extern "C-unwind" fn lshift(l: State) -> c_int {
    shift(l, |a, n| a << n)
}

unsafe extern "C-unwind" fn rshift(l: State) -> c_int {
    shift(l, |a, n| a >> n)
}

unsafe extern "C-unwind" fn arshift(l: State) -> c_int {
    shift(l, |a, n| (a as i32 >> n) as u32)
}

unsafe extern "C-unwind" fn rol(l: State) -> c_int {
    shift(l, u32::rotate_left)
}

unsafe extern "C-unwind" fn ror(l: State) -> c_int {
    shift(l, u32::rotate_right)
}

unsafe extern "C-unwind" fn bswap(l: State) -> c_int {
    give(l, word(l, 1).swap_bytes())
}

/// The last digits of a word: 8, or as many as the second argument says; negative: in capitals.
unsafe extern "C-unwind" fn tohex(l: State) -> c_int {
    let bits = word(l, 1);
    let wanted = if ffi::lua_type(l, 2) == ffi::LUA_TNONE { 8 } else { word(l, 2) as i32 };
    let digits: &[u8; 16] = if wanted < 0 { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let text: [u8; 8] = std::array::from_fn(|i| digits[(bits >> (28 - 4 * i) & 15) as usize]);
    push(l, &text[8 - wanted.unsigned_abs().min(8) as usize..]);
    1
}
