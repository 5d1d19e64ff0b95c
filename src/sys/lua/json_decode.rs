//! The library `cjson`: JSON to Lua values.

use super::json::{Settings, settings};
use super::state::{State, argument_error, c, check_bytes, context, error, error_on_top, push};
use mlua::ffi;
use std::ffi::{CStr, c_char, c_int};

/// A piece of JSON. Strings are in the buffer of the state.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Comma,
    Colon,
    String,
    Number(f64),
    Bool(bool),
    Null,
    End,
    Error(&'static CStr),
}

impl Token {
    fn name(self) -> &'static CStr {
        match self {
            Token::ObjectBegin => c"T_OBJ_BEGIN",
            Token::ObjectEnd => c"T_OBJ_END",
            Token::ArrayBegin => c"T_ARR_BEGIN",
            Token::ArrayEnd => c"T_ARR_END",
            Token::Comma => c"T_COMMA",
            Token::Colon => c"T_COLON",
            Token::String => c"T_STRING",
            Token::Number(_) => c"T_NUMBER",
            Token::Bool(_) => c"T_BOOLEAN",
            Token::Null => c"T_NULL",
            Token::End => c"T_END",
            Token::Error(text) => text,
        }
    }
}

/// A walk over JSON.
struct Parser {
    l: State,
    text: &'static [u8],
    at: usize,
    /// Where the last token began.
    token_at: usize,
    depth: c_int,
    settings: Settings,
}

/// `cjson.decode`.
pub(super) unsafe extern "C-unwind" fn decode(l: State) -> c_int {
    if ffi::lua_gettop(l) != 1 {
        argument_error(l, 1, c"expected 1 argument");
    }
    let text: &'static [u8] = check_bytes(l, 1);
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        error(l, c"JSON parser does not support UTF-16 or UTF-32");
    }
    let mut parser = Parser { l, text, at: 0, token_at: 0, depth: 0, settings: *settings(l) };
    let first = parser.next();
    parser.value(first);
    match parser.next() {
        Token::End => 1,
        other => parser.unexpected(c"the end", other),
    }
}

impl Parser {
    /// The byte at a place; zero beyond the end.
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &'static [u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    fn fail(&mut self, text: &'static CStr) -> Token {
        self.token_at = self.at;
        Token::Error(text)
    }

    unsafe fn next(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.peek(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            _ => return self.next_long(),
        };
        self.at += 1;
        single
    }

    /// A token of more than one character.
    unsafe fn next_long(&mut self) -> Token {
        let words = [
            (&b"true"[..], Token::Bool(true)),
            (&b"false"[..], Token::Bool(false)),
            (&b"null"[..], Token::Null),
        ];
        match self.peek(0) {
            0 => return Token::End,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' if !self.settings.decode_invalid && self.is_invalid_number() => {
                return self.fail(c"invalid number");
            }
            b'-' | b'0'..=b'9' => return self.number(),
            _ => {}
        }
        for (word, token) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        let begins_number = matches!(self.peek(0), b'+' | b'i' | b'I' | b'n' | b'N');
        if self.settings.decode_invalid && begins_number && self.is_invalid_number() {
            return self.number();
        }
        self.fail(c"invalid token")
    }

    /// Whether C would read a number here that JSON does not allow.
    fn is_invalid_number(&self) -> bool {
        if self.peek(0) == b'+' {
            return true;
        }
        let text = self.rest();
        let text = text.strip_prefix(b"-").unwrap_or(text);
        match text {
            [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
            [first, ..] if *first <= b'9' => false,
            _ => {
                let word = text.get(..3).unwrap_or(b"");
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    unsafe fn number(&mut self) -> Token {
        // Lua's strings end with a zero, so C reads no further than the text.
        let begin: *const c_char = self.rest().as_ptr().cast();
        let mut end: *mut c_char = std::ptr::null_mut();
        let number = libc::strtod(begin, &raw mut end);
        let len = end as usize - begin as usize;
        if len == 0 {
            return self.fail(c"invalid number");
        }
        self.at += len;
        Token::Number(number)
    }

    /// Reads a string into the buffer.
    unsafe fn string(&mut self) -> Token {
        self.at += 1;
        let out = &mut (*context(self.l)).buffer;
        out.clear();
        loop {
            let plain = self.rest().iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0)).count();
            out.extend_from_slice(&self.rest()[..plain]);
            self.at += plain;
            match self.peek(0) {
                b'"' => break,
                b'\\' => {}
                _ => return self.fail(c"unexpected end of string"),
            }
            let escaped = match self.peek(1) {
                b'u' => {
                    let Some((character, len)) = self.unicode_escape() else {
                        return self.fail(c"invalid unicode escape code");
                    };
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    self.at += len;
                    continue;
                }
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'b' => 0x08,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 0x0c,
                b'r' => b'\r',
                _ => return self.fail(c"invalid escape code"),
            };
            out.push(escaped);
            self.at += 2;
        }
        self.at += 1;
        Token::String
    }

    /// The character of an escape `\u` with four hexadecimal digits, or of a pair of them, and its length.
    fn unicode_escape(&self) -> Option<(char, usize)> {
        let unit = |from: usize| {
            let digits = self.rest().get(from..from + 4)?;
            let value = |n: u32, b: &u8| Some(n << 4 | char::from(*b).to_digit(16)?);
            digits.iter().try_fold(0, value)
        };
        let first = unit(2)?;
        if !(0xd800..0xe000).contains(&first) {
            return Some((char::from_u32(first)?, 6));
        }
        let second = unit(8).filter(|_| self.peek(6) == b'\\' && self.peek(7) == b'u')?;
        if first >= 0xdc00 || !(0xdc00..0xe000).contains(&second) {
            return None;
        }
        let code = 0x1_0000 + ((first & 0x3ff) << 10 | second & 0x3ff);
        Some((char::from_u32(code)?, 12))
    }

    unsafe fn unexpected(&self, expected: &CStr, found: Token) -> ! {
        ffi::lua_settop(self.l, 1);
        let text = c(c"Expected %s but found %s at character %d");
        let (expected, found) = (expected.as_ptr(), found.name().as_ptr());
        ffi::lua_pushfstring(self.l, text, expected, found, self.token_at as c_int + 1);
        error_on_top(self.l)
    }

    unsafe fn descend(&mut self) {
        self.depth += 1;
        if self.depth > self.settings.decode_depth || ffi::lua_checkstack(self.l, 6) == 0 {
            ffi::lua_settop(self.l, 1);
            let text = c(c"Found too many nested data structures (%d) at character %d");
            ffi::lua_pushfstring(self.l, text, self.depth, self.at as c_int);
            error_on_top(self.l);
        }
    }

    /// Pushes the string that was read last.
    unsafe fn push_string(&self) {
        push(self.l, &(*context(self.l)).buffer);
    }

    /// Pushes the value that begins with `token`.
    unsafe fn value(&mut self, token: Token) {
        match token {
            Token::String => self.push_string(),
            Token::Number(number) => ffi::lua_pushnumber(self.l, number),
            Token::Bool(value) => ffi::lua_pushboolean(self.l, c_int::from(value)),
            Token::Null => ffi::lua_pushlightuserdata(self.l, std::ptr::null_mut()),
            Token::ObjectBegin => self.object(),
            Token::ArrayBegin => self.array(),
            other => self.unexpected(c"value", other),
        }
    }

    unsafe fn object(&mut self) {
        self.descend();
        ffi::lua_createtable(self.l, 0, 0);
        let mut token = self.next();
        while token != Token::ObjectEnd {
            if token != Token::String {
                self.unexpected(c"object key string", token);
            }
            self.push_string();
            token = self.next();
            if token != Token::Colon {
                self.unexpected(c"colon", token);
            }
            token = self.next();
            self.value(token);
            ffi::lua_rawset(self.l, -3);
            token = self.next();
            match token {
                Token::ObjectEnd => break,
                Token::Comma => token = self.next(),
                other => self.unexpected(c"comma or object end", other),
            }
            if token == Token::ObjectEnd {
                self.unexpected(c"object key string", token);
            }
        }
        self.depth -= 1;
    }

    unsafe fn array(&mut self) {
        self.descend();
        ffi::lua_createtable(self.l, 0, 0);
        let mut token = self.next();
        let mut index = 0;
        while index > 0 || token != Token::ArrayEnd {
            self.value(token);
            index += 1;
            ffi::lua_rawseti_(self.l, -2, index);
            match self.next() {
                Token::ArrayEnd => break,
                Token::Comma => token = self.next(),
                other => self.unexpected(c"comma or array end", other),
            }
        }
        self.depth -= 1;
    }
}
