//! The library `struct`: numbers and strings to and from bytes by a format.

use super::state::{
    CFunction, State, argument_error, buffer, check_buffer, check_bytes, context, error, error_on_top, push,
    set_function,
};
use mlua::ffi;
use std::ffi::c_int;

/// Largest integer, in bytes.
const INTEGER_BYTES_MAX: usize = 32;
/// Alignment of `!` without a number: that of a double.
const NATIVE_ALIGN: usize = 8;

const FUNCTIONS: &[(&[u8], CFunction)] = &[(b"pack", pack), (b"unpack", unpack), (b"size", size)];

/// Pushes the library.
pub(super) unsafe fn push_table(l: State) {
    ffi::lua_createtable(l, 0, 4);
    for (name, function) in FUNCTIONS {
        set_function(l, name, *function);
    }
}

/// What an option stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Unsigned,
    Signed,
    Pad,
    Float,
    Double,
    /// Bytes: as many as the number says.
    Chars,
    /// Bytes up to a zero.
    Text,
    /// It only changed how the rest is read.
    Control,
}

/// A walk over a format.
struct Format {
    bytes: &'static [u8],
    at: usize,
    big_endian: bool,
    align: usize,
}

impl Format {
    /// The format in argument 1; it lives as long as the call.
    unsafe fn new(l: State) -> Format {
        let bytes: &'static [u8] = check_bytes(l, 1);
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Format { bytes: &bytes[..end], at: 0, big_endian: cfg!(target_endian = "big"), align: 1 }
    }

    /// The number that follows, or `default`.
    unsafe fn number(&mut self, l: State, default: usize) -> usize {
        let from = self.at;
        let mut number: i32 = 0;
        while let Some(digit) = self.bytes.get(self.at).filter(|b| b.is_ascii_digit()) {
            let next = number.checked_mul(10).and_then(|n| n.checked_add(i32::from(digit - b'0')));
            let Some(next) = next else { error(l, c"integral size overflow") };
            number = next;
            self.at += 1;
        }
        if self.at == from { default } else { number as usize }
    }

    /// The next option: what it is, its size in bytes, and the bytes in front of it when it begins at
    /// `position`.
    unsafe fn next(&mut self, l: State, position: usize) -> Option<(Item, usize, usize)> {
        let option = *self.bytes.get(self.at)?;
        self.at += 1;
        let (item, size) = match option {
            b'b' => (Item::Signed, 1),
            b'B' => (Item::Unsigned, 1),
            b'h' => (Item::Signed, 2),
            b'H' => (Item::Unsigned, 2),
            b'l' => (Item::Signed, 8),
            b'L' | b'T' => (Item::Unsigned, 8),
            b'i' => (Item::Signed, self.integer_size(l)),
            b'I' => (Item::Unsigned, self.integer_size(l)),
            b'f' => (Item::Float, 4),
            b'd' => (Item::Double, 8),
            b'x' => (Item::Pad, 1),
            b'c' => (Item::Chars, self.number(l, 1)),
            b's' => (Item::Text, 0),
            other => {
                self.control(l, other);
                (Item::Control, 0)
            }
        };
        Some((item, size, self.gap(item, position, size)))
    }

    unsafe fn integer_size(&mut self, l: State) -> usize {
        let size = self.number(l, 4);
        if size > INTEGER_BYTES_MAX {
            let text = c"integral size %d is larger than limit of %d";
            ffi::lua_pushfstring(l, text.as_ptr(), size as c_int, INTEGER_BYTES_MAX as c_int);
            error_on_top(l);
        }
        size
    }

    unsafe fn control(&mut self, l: State, option: u8) {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(l, NATIVE_ALIGN);
                if !align.is_power_of_two() {
                    ffi::lua_pushfstring(l, c"alignment %d is not a power of 2".as_ptr(), align as c_int);
                    error_on_top(l);
                }
                self.align = align;
            }
            other => {
                let text =
                    ffi::lua_pushfstring(l, c"invalid format option '%c'".as_ptr(), c_int::from(other));
                ffi::luaL_argerror(l, 1, text);
            }
        }
    }

    fn gap(&self, item: Item, position: usize, size: usize) -> usize {
        if size == 0 || item == Item::Chars {
            return 0;
        }
        let align = size.min(self.align);
        // Sizes like 3 have no alignment of their own: the formula of the library is kept for them.
        align.wrapping_sub(position & (align - 1)) & (align - 1)
    }

    /// Brings bytes from the low end first to the order of the format, or back.
    fn order(&self, bytes: &mut [u8]) {
        if self.big_endian {
            bytes.reverse();
        }
    }
}

/// The low bytes of a number.
fn integer_bytes(number: f64) -> [u8; INTEGER_BYTES_MAX] {
    let value = if number < 0.0 { number as i64 as u64 } else { number as u64 };
    let mut bytes = [0; INTEGER_BYTES_MAX];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    bytes
}

unsafe extern "C-unwind" fn pack(l: State) -> c_int {
    let mut format = Format::new(l);
    let ctx = context(l);
    buffer(ctx).clear();
    let mut arg = 1;
    while let Some((item, size, gap)) = format.next(l, buffer(ctx).len()) {
        check_buffer(l, gap + size);
        let length = buffer(ctx).len();
        buffer(ctx).resize(length + gap, 0);
        arg += c_int::from(!matches!(item, Item::Pad | Item::Control));
        match item {
            Item::Control => {}
            Item::Pad => buffer(ctx).push(0),
            Item::Chars | Item::Text => {
                let text = check_bytes(l, arg);
                let wanted = if size == 0 { text.len() } else { size };
                if text.len() < wanted {
                    argument_error(l, arg + 1, c"string too short");
                }
                check_buffer(l, wanted + 1);
                buffer(ctx).extend_from_slice(&text[..wanted]);
                if item == Item::Text {
                    buffer(ctx).push(0);
                }
            }
            _ => {
                let number = ffi::luaL_checknumber(l, arg);
                let mut bytes = match item {
                    Item::Float => padded(&(number as f32).to_le_bytes()),
                    Item::Double => padded(&number.to_le_bytes()),
                    _ => integer_bytes(number),
                };
                format.order(&mut bytes[..size]);
                buffer(ctx).extend_from_slice(&bytes[..size]);
            }
        }
    }
    push(l, &(*ctx).buffer);
    buffer(ctx).clear();
    1
}

fn padded(bytes: &[u8]) -> [u8; INTEGER_BYTES_MAX] {
    let mut padded = [0; INTEGER_BYTES_MAX];
    padded[..bytes.len()].copy_from_slice(bytes);
    padded
}

/// A number of `bytes` with the low end first; of more than eight the rest says nothing.
fn integer(bytes: &[u8], signed: bool) -> f64 {
    let mut word = [0u8; 8];
    let used = bytes.len().min(8);
    word[..used].copy_from_slice(&bytes[..used]);
    let value = u64::from_le_bytes(word);
    if !signed {
        return value as f64;
    }
    let unused = 64 - 8 * used as u32;
    let extended = if unused >= 64 { 0 } else { (value << unused) as i64 >> unused };
    extended as f64
}

unsafe extern "C-unwind" fn unpack(l: State) -> c_int {
    let mut format = Format::new(l);
    let data = check_bytes(l, 2);
    let start = ffi::luaL_optinteger(l, 3, 1);
    if start < 1 {
        argument_error(l, 3, c"offset must be 1 or greater");
    }
    let mut at = usize::try_from(start - 1).unwrap_or(usize::MAX);
    let mut results = 0;
    while let Some((item, mut size, gap)) = format.next(l, at) {
        at = at.saturating_add(gap);
        if size > data.len() || at > data.len() - size {
            argument_error(l, 2, c"data string too short");
        }
        if ffi::lua_checkstack(l, 4) == 0 {
            error(l, c"stack overflow (too many results)");
        }
        match item {
            Item::Pad | Item::Control => {}
            Item::Chars => {
                if size == 0 {
                    size = previous_size(l, &mut results, data.len(), at);
                }
                push(l, &data[at..at + size]);
                results += 1;
            }
            Item::Text => {
                let Some(len) = data[at..].iter().position(|b| *b == 0) else {
                    error(l, c"unfinished string in data")
                };
                push(l, &data[at..at + len]);
                size = len + 1;
                results += 1;
            }
            _ => {
                let mut bytes = padded(&data[at..at + size]);
                format.order(&mut bytes[..size]);
                ffi::lua_pushnumber(l, number(item, &bytes, size));
                results += 1;
            }
        }
        at += size;
    }
    ffi::lua_pushnumber(l, (at + 1) as f64);
    results + 1
}

fn number(item: Item, bytes: &[u8; INTEGER_BYTES_MAX], size: usize) -> f64 {
    match item {
        Item::Float => f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        Item::Double => f64::from_le_bytes(std::array::from_fn(|i| bytes[i])),
        _ => integer(&bytes[..size], item == Item::Signed),
    }
}

/// The size of `c0`: the number that was read last, which is taken away.
unsafe fn previous_size(l: State, results: &mut c_int, data_len: usize, at: usize) -> usize {
    if *results == 0 || ffi::lua_type(l, -1) != ffi::LUA_TNUMBER {
        error(l, c"format 'c0' needs a previous size");
    }
    let size = ffi::lua_tonumber(l, -1);
    ffi::lua_pop(l, 1);
    *results -= 1;
    if !(0.0..=(data_len - at) as f64).contains(&size) {
        argument_error(l, 2, c"data string too short");
    }
    size as usize
}

unsafe extern "C-unwind" fn size(l: State) -> c_int {
    let mut format = Format::new(l);
    let mut at: usize = 0;
    while let Some((item, size, gap)) = format.next(l, at) {
        match item {
            Item::Text => argument_error(l, 1, c"option 's' has no fixed size"),
            Item::Chars if size == 0 => argument_error(l, 1, c"option 'c0' has no fixed size"),
            _ => at = at.saturating_add(gap + size),
        }
    }
    ffi::lua_pushnumber(l, at as f64);
    1
}
