//! Values between the protocol and Lua: the reply to a script's command becomes a Lua value, what a script
//! returns becomes a reply. Numbers lose their fraction on the way out, as they always did.

use super::state::{State, bytes_at, need_stack, push, push_field_table, set_field, set_string};
use super::vm::{Failure, place};
use mlua::ffi;
use std::ffi::c_int;

/// Takes the value that a script returned, piece by piece. Sizes of aggregates are numbers of elements,
/// those of maps numbers of pairs.
pub trait Out {
    /// Nothing.
    fn null(&mut self);
    /// A truth value of a script that speaks RESP3.
    fn bool(&mut self, value: bool);
    /// An integer.
    fn int(&mut self, value: i64);
    /// A string.
    fn bulk(&mut self, value: &[u8]);
    /// A status line.
    fn status(&mut self, text: &[u8]);
    /// An error inside an aggregate.
    fn error(&mut self, failure: &Failure);
    /// A number with a fraction.
    fn double(&mut self, value: f64);
    /// A big number.
    fn big_number(&mut self, digits: &[u8]);
    /// A text with its format, of three bytes.
    fn verbatim(&mut self, format: [u8; 3], text: &[u8]);
    /// Head of an array.
    fn array(&mut self, len: usize);
    /// Head of a map.
    fn map(&mut self, len: usize);
    /// Head of a set.
    fn set(&mut self, len: usize);
}

/// Field names of [`place::NAMES`] by their places.
mod name {
    use super::{c_int, place};
    pub const ERR: c_int = place::FIRST_NAME;
    pub const OK: c_int = ERR + 1;
    pub const DOUBLE: c_int = ERR + 2;
    pub const BIG_NUMBER: c_int = ERR + 3;
    pub const VERBATIM: c_int = ERR + 4;
    pub const MAP: c_int = ERR + 5;
    pub const SET: c_int = ERR + 6;
    pub const FORMAT: c_int = ERR + 7;
    pub const STRING: c_int = ERR + 8;
}

// ---- the protocol -> Lua ----

/// Pushes a reply.
pub(super) unsafe fn push_reply(l: State, reply: &[u8]) {
    let end = push_value(l, reply, 0);
    debug_assert_eq!(end, reply.len(), "a call has one reply");
}

/// Pushes the value that begins at `at`; where it ends.
unsafe fn push_value(l: State, reply: &[u8], at: usize) -> usize {
    need_stack(l, 6);
    let (line, next) = line_at(reply, at + 1);
    match reply[at] {
        b'+' => push_field_table(l, b"ok", line),
        b'-' => push_reply_error(l, line),
        b':' => ffi::lua_pushnumber(l, integer(line) as f64),
        b'$' if line == b"-1" => ffi::lua_pushboolean(l, 0),
        b'$' => {
            let len = integer(line) as usize;
            push(l, &reply[next..next + len]);
            return next + len + 2;
        }
        b'*' if line == b"-1" => ffi::lua_pushboolean(l, 0),
        b'*' | b'>' => return push_array(l, reply, next, integer(line) as usize),
        b'_' => ffi::lua_pushnil(l),
        b'#' => ffi::lua_pushboolean(l, c_int::from(line == b"t")),
        b',' => {
            ffi::lua_createtable(l, 0, 1);
            ffi::lua_pushnumber(l, float(line));
            set_field(l, b"double");
        }
        b'(' => push_field_table(l, b"big_number", line),
        b'=' => {
            let len = integer(line) as usize;
            let (format, text) = (&reply[next..next + 3], &reply[next + 4..next + len]);
            ffi::lua_createtable(l, 0, 1);
            ffi::lua_createtable(l, 0, 2);
            set_string(l, b"format", format);
            set_string(l, b"string", text);
            set_field(l, b"verbatim_string");
            return next + len + 2;
        }
        b'%' => return push_map(l, reply, next, integer(line) as usize),
        b'~' => return push_set(l, reply, next, integer(line) as usize),
        b'|' => return skip_attribute(l, reply, next, integer(line) as usize),
        other => unreachable!("the reply writer knows no {other}"),
    }
    next
}

/// A line without its end, and where the next begins.
fn line_at(reply: &[u8], at: usize) -> (&[u8], usize) {
    let len = reply[at..].iter().position(|b| *b == b'\r').expect("a reply has whole lines");
    (&reply[at..at + len], at + len + 2)
}

fn integer(line: &[u8]) -> i64 {
    crate::util::num::parse_i64(line).expect("the reply writer writes integers")
}

fn float(line: &[u8]) -> f64 {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// An error is a table, marked as counted.
unsafe fn push_reply_error(l: State, line: &[u8]) {
    match line.contains(&b' ') {
        true => push_field_table(l, b"err", line),
        false => super::api::push_error_object(l, line),
    }
    ffi::lua_pushboolean(l, 1);
    set_field(l, b"ignore_error_stats_update");
}

unsafe fn push_array(l: State, reply: &[u8], mut at: usize, len: usize) -> usize {
    ffi::lua_createtable(l, len as c_int, 0);
    for i in 1..=len {
        at = push_value(l, reply, at);
        ffi::lua_rawseti_(l, -2, i as c_int);
    }
    at
}

unsafe fn push_map(l: State, reply: &[u8], mut at: usize, len: usize) -> usize {
    ffi::lua_createtable(l, 0, 1);
    ffi::lua_createtable(l, 0, len as c_int);
    for _ in 0..len {
        at = push_value(l, reply, at);
        at = push_value(l, reply, at);
        // Nothing cannot be a key.
        match ffi::lua_type(l, -2) {
            ffi::LUA_TNIL => ffi::lua_pop(l, 2),
            _ => ffi::lua_rawset(l, -3),
        }
    }
    set_field(l, b"map");
    at
}

unsafe fn push_set(l: State, reply: &[u8], mut at: usize, len: usize) -> usize {
    ffi::lua_createtable(l, 0, 1);
    ffi::lua_createtable(l, 0, len as c_int);
    for _ in 0..len {
        at = push_value(l, reply, at);
        match ffi::lua_type(l, -1) {
            ffi::LUA_TNIL => ffi::lua_pop(l, 1),
            _ => {
                ffi::lua_pushboolean(l, 1);
                ffi::lua_rawset(l, -3);
            }
        }
    }
    set_field(l, b"set");
    at
}

/// Scripts do not see attributes.
unsafe fn skip_attribute(l: State, reply: &[u8], mut at: usize, len: usize) -> usize {
    for _ in 0..2 * len {
        at = push_value(l, reply, at);
        ffi::lua_pop(l, 1);
    }
    push_value(l, reply, at)
}

// ---- Lua -> the protocol ----

/// Replaces the top by a field of the table there; its type.
unsafe fn field(l: State, name: c_int) -> c_int {
    ffi::lua_pushvalue(l, name);
    ffi::lua_rawget_(l, -2);
    ffi::lua_type(l, -1)
}

/// Whether the table on top is an error reply.
pub(super) unsafe fn is_error(l: State) -> bool {
    let is_text = field(l, name::ERR) == ffi::LUA_TSTRING;
    ffi::lua_pop(l, 1);
    is_text
}

/// The error that the table on top is.
pub(super) unsafe fn failure(l: State) -> Failure {
    let text_of = |name: &[u8]| {
        push(l, name);
        ffi::lua_rawget_(l, -2);
        let text = (ffi::lua_isstring(l, -1) != 0).then(|| bytes_at(l, -1).to_vec());
        ffi::lua_pop(l, 1);
        text
    };
    let text = text_of(b"err").unwrap_or_else(|| b"ERR unknown error".to_vec());
    let place = text_of(b"source").zip(text_of(b"line"));
    push(l, b"ignore_error_stats_update");
    ffi::lua_rawget_(l, -2);
    let counted = ffi::lua_type(l, -1) == ffi::LUA_TBOOLEAN && ffi::lua_toboolean(l, -1) != 0;
    ffi::lua_pop(l, 1);
    Failure { text, place, counted }
}

/// An aggregate that is being written. Its table is on the stack.
enum Frame {
    /// Elements: the next, and how many are left.
    Array { next: c_int, left: c_int },
    /// Pairs; above the table lies the key of the last one, or nil.
    MapKey,
    /// As before, but above the key lies a value that is still to be written.
    MapValue,
    /// Keys only.
    Set,
}

/// Writes the value on top of the stack, and takes it off. The walk keeps its own stack, so that nesting
/// as deep as Lua's stack is no danger.
pub(super) unsafe fn write(l: State, resp: u8, out: &mut dyn Out) {
    let mut frames: Vec<Frame> = Vec::new();
    write_top(l, resp, out, &mut frames);
    while let Some(frame) = frames.last_mut() {
        let more = match frame {
            Frame::Array { left: 0, .. } => {
                ffi::lua_pop(l, 1);
                false
            }
            Frame::Array { next, left } => {
                ffi::lua_rawgeti_(l, -1, *next);
                (*next, *left) = (*next + 1, *left - 1);
                true
            }
            Frame::MapKey if ffi::lua_next(l, -2) != 0 => {
                ffi::lua_pushvalue(l, -2);
                *frame = Frame::MapValue;
                true
            }
            Frame::MapValue => {
                *frame = Frame::MapKey;
                true
            }
            Frame::Set if ffi::lua_next(l, -2) != 0 => {
                ffi::lua_pop(l, 1);
                ffi::lua_pushvalue(l, -1);
                true
            }
            Frame::MapKey | Frame::Set => {
                ffi::lua_pop(l, 1);
                false
            }
        };
        match more {
            true => write_top(l, resp, out, &mut frames),
            false => drop(frames.pop()),
        }
    }
}

/// Writes a plain value and takes it off; of an aggregate only its head, and adds its frame.
unsafe fn write_top(l: State, resp: u8, out: &mut dyn Out, frames: &mut Vec<Frame>) {
    if ffi::lua_checkstack(l, 6) == 0 {
        let text = b"ERR reached lua stack limit".to_vec();
        out.error(&Failure { text, ..Failure::default() });
        return ffi::lua_pop(l, 1);
    }
    match ffi::lua_type(l, -1) {
        ffi::LUA_TSTRING => out.bulk(bytes_at(l, -1)),
        ffi::LUA_TNUMBER => out.int(truncated(ffi::lua_tonumber(l, -1))),
        ffi::LUA_TBOOLEAN => {
            let value = ffi::lua_toboolean(l, -1) != 0;
            match (resp, value) {
                (2, true) => out.int(1),
                (2, false) => out.null(),
                _ => out.bool(value),
            }
        }
        ffi::LUA_TTABLE => return write_table(l, out, frames),
        _ => out.null(),
    }
    ffi::lua_pop(l, 1);
}

/// A number without its fraction; one that does not fit becomes the least, as the processor has it.
fn truncated(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

unsafe fn write_table(l: State, out: &mut dyn Out, frames: &mut Vec<Frame>) {
    // A field that is found stays above the table; both go.
    let mut popped = 2;
    if field(l, name::ERR) == ffi::LUA_TSTRING {
        ffi::lua_pop(l, 1);
        out.error(&failure(l));
        popped = 1;
    } else if another(l, name::OK) == ffi::LUA_TSTRING {
        out.status(bytes_at(l, -1));
    } else if another(l, name::DOUBLE) == ffi::LUA_TNUMBER {
        out.double(ffi::lua_tonumber(l, -1));
    } else if another(l, name::BIG_NUMBER) == ffi::LUA_TSTRING {
        out.big_number(bytes_at(l, -1));
    } else if another(l, name::VERBATIM) == ffi::LUA_TTABLE && write_verbatim(l, out) {
    } else if another(l, name::MAP) == ffi::LUA_TTABLE {
        out.map(count_pairs(l));
        return begin_pairs(l, Frame::MapKey, frames);
    } else if another(l, name::SET) == ffi::LUA_TTABLE {
        out.set(count_pairs(l));
        return begin_pairs(l, Frame::Set, frames);
    } else {
        ffi::lua_pop(l, 1);
        let left = count_elements(l);
        out.array(left as usize);
        return frames.push(Frame::Array { next: 1, left });
    }
    ffi::lua_pop(l, popped);
}

/// Puts another field of the table in the place of the one on top; its type.
unsafe fn another(l: State, name: c_int) -> c_int {
    ffi::lua_pop(l, 1);
    field(l, name)
}

/// Writes the text in the table on top, if it is one.
unsafe fn write_verbatim(l: State, out: &mut dyn Out) -> bool {
    let is_text = field(l, name::FORMAT) == ffi::LUA_TSTRING && {
        ffi::lua_pushvalue(l, name::STRING);
        ffi::lua_rawget_(l, -3);
        let is_text = ffi::lua_type(l, -1) == ffi::LUA_TSTRING;
        if is_text {
            let mut format = *b"   ";
            bytes_at(l, -2).iter().zip(&mut format).for_each(|(from, to)| *to = *from);
            out.verbatim(format, bytes_at(l, -1));
        }
        ffi::lua_pop(l, 1);
        is_text
    };
    ffi::lua_pop(l, 1);
    is_text
}

/// Takes the outer table away, and puts a nil above the inner one for the walk to begin.
unsafe fn begin_pairs(l: State, frame: Frame, frames: &mut Vec<Frame>) {
    ffi::lua_remove(l, -2);
    ffi::lua_pushnil(l);
    frames.push(frame);
}

unsafe fn count_pairs(l: State) -> usize {
    let mut pairs = 0;
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, -2) != 0 {
        ffi::lua_pop(l, 1);
        pairs += 1;
    }
    pairs
}

unsafe fn count_elements(l: State) -> c_int {
    let mut count = 0;
    loop {
        ffi::lua_rawgeti_(l, -1, count + 1);
        let ended = ffi::lua_type(l, -1) == ffi::LUA_TNIL;
        ffi::lua_pop(l, 1);
        if ended {
            return count;
        }
        count += 1;
    }
}
