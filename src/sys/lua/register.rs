//! `redis.register_function`: how a library names its functions while it is loaded.

use super::api::raise;
use super::state::{State, bytes_at, context};
use super::vm::Function;
use mlua::ffi;
use std::ffi::c_int;

/// A function that a library registered.
#[derive(Debug, Default)]
pub struct Registration {
    /// Its name.
    pub name: Vec<u8>,
    /// Its description, if it has one.
    pub description: Option<Vec<u8>>,
    /// Names of its flags.
    pub flags: Vec<Vec<u8>>,
    /// What runs.
    pub callback: Option<Function>,
}

/// What is wrong with an argument.
type Wrong = &'static str;

/// A name that cannot be a function's or a library's.
pub(super) const BAD_NAME: Wrong = "Library names can only contain letters, numbers, or underscores(_) \
                                    and must be at least one character long";

/// The function that libraries call. What it reads is gathered in the state's context, so that an error of
/// Lua's leaves nothing behind.
pub(super) unsafe extern "C-unwind" fn register_function(l: State) -> c_int {
    if all(l).is_none() {
        raise(l, b"redis.register_function can only be called on FUNCTION LOAD command");
    }
    if let Some(wrong) = register(l) {
        raise(l, wrong.as_bytes());
    }
    0
}

unsafe fn register(l: State) -> Option<Wrong> {
    let read = match ffi::lua_gettop(l) {
        1 => read_named,
        2 => read_positional,
        _ => return Some("wrong number of arguments to redis.register_function"),
    };
    all(l)?.push(Registration::default());
    let wrong = read(l).or_else(|| check(all(l)?));
    if wrong.is_some() {
        let callback = all(l)?.pop().and_then(|r| r.callback);
        if let Some(function) = callback {
            ffi::luaL_unref(l, ffi::LUA_REGISTRYINDEX, function.0);
        }
    }
    wrong
}

unsafe fn all<'a>(l: State) -> Option<&'a mut Vec<Registration>> {
    let registered = &mut (*context(l)).registered;
    registered.as_mut()
}

unsafe fn last<'a>(l: State) -> &'a mut Registration {
    all(l).and_then(|all| all.last_mut()).expect("it was just added")
}

/// Whether the last registration can stand beside the others.
fn check(all: &[Registration]) -> Option<Wrong> {
    let (last, others) = all.split_last()?;
    let fits = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    if last.name.is_empty() || !last.name.iter().all(fits) {
        return Some(BAD_NAME);
    }
    let same = |other: &Registration| other.name.eq_ignore_ascii_case(&last.name);
    others.iter().any(same).then_some("Function already exists in the library")
}

/// The string or number at `index`.
unsafe fn text_at(l: State, index: c_int) -> Option<Vec<u8>> {
    match ffi::lua_type(l, index) {
        ffi::LUA_TSTRING => Some(bytes_at(l, index).to_vec()),
        ffi::LUA_TNUMBER => Some(ffi::lua_tonumber(l, index).to_string().into_bytes()),
        _ => None,
    }
}

/// Keeps the function on top, and takes it off.
unsafe fn keep_callback(l: State) {
    let function = ffi::luaL_ref(l, ffi::LUA_REGISTRYINDEX);
    if let Some(old) = last(l).callback.replace(Function(function)) {
        ffi::luaL_unref(l, ffi::LUA_REGISTRYINDEX, old.0);
    }
}

unsafe fn read_positional(l: State) -> Option<Wrong> {
    match text_at(l, 1) {
        Some(name) => last(l).name = name,
        None => return Some("first argument to redis.register_function must be a string"),
    }
    if ffi::lua_type(l, 2) != ffi::LUA_TFUNCTION {
        return Some("second argument to redis.register_function must be a function");
    }
    keep_callback(l);
    None
}

unsafe fn read_named(l: State) -> Option<Wrong> {
    if ffi::lua_type(l, 1) != ffi::LUA_TTABLE {
        return Some(
            "calling redis.register_function with a single argument is only applicable to Lua table \
             (representing named arguments).",
        );
    }
    let mut named = false;
    ffi::lua_pushnil(l);
    while ffi::lua_next(l, 1) != 0 {
        if ffi::lua_type(l, -2) != ffi::LUA_TSTRING {
            return Some("named argument key given to redis.register_function is not a string");
        }
        let key = bytes_at(l, -2);
        named |= key.eq_ignore_ascii_case(b"function_name");
        if let Some(wrong) = read_argument(l, key) {
            return Some(wrong);
        }
        ffi::lua_settop(l, 2);
    }
    if !named {
        return Some("redis.register_function must get a function name argument");
    }
    if last(l).callback.is_none() {
        return Some("redis.register_function must get a callback argument");
    }
    None
}

/// Reads the value on top as the argument `key`.
unsafe fn read_argument(l: State, key: &[u8]) -> Option<Wrong> {
    let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
    let kind = ffi::lua_type(l, -1);
    match () {
        () if is("function_name") => match text_at(l, -1) {
            Some(name) => last(l).name = name,
            None => return Some("function_name argument given to redis.register_function must be a string"),
        },
        () if is("description") => match text_at(l, -1) {
            Some(text) => last(l).description = Some(text),
            None => return Some("description argument given to redis.register_function must be a string"),
        },
        () if is("callback") => match kind {
            ffi::LUA_TFUNCTION => keep_callback(l),
            _ => return Some("callback argument given to redis.register_function must be a function"),
        },
        () if is("flags") => match kind {
            ffi::LUA_TTABLE => return read_flags(l),
            _ => {
                return Some(
                    "flags argument to redis.register_function must be a table representing function flags",
                );
            }
        },
        () => return Some("unknown argument given to redis.register_function"),
    }
    None
}

unsafe fn read_flags(l: State) -> Option<Wrong> {
    for i in 1.. {
        ffi::lua_rawgeti_(l, -1, i);
        if ffi::lua_type(l, -1) == ffi::LUA_TNIL {
            break;
        }
        let known = text_at(l, -1).filter(|flag| is_flag(flag));
        ffi::lua_pop(l, 1);
        match known {
            Some(flag) => last(l).flags.push(flag.to_ascii_lowercase()),
            None => return Some("unknown flag given"),
        }
    }
    ffi::lua_pop(l, 1);
    None
}

/// Names of flags that functions and scripts may have.
pub const FLAGS: [&str; 5] = ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

fn is_flag(name: &[u8]) -> bool {
    FLAGS.iter().any(|flag| name.eq_ignore_ascii_case(flag.as_bytes()))
}
