//! What a client may be told went wrong: each of the protocol's error texts once, exactly as Redis words
//! it. A command returns one with `?`; `call` rewinds a half-written reply and writes the error.

use std::borrow::Cow;

/// An error reply: code and text, without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmdError {
    text: Cow<'static, [u8]>,
    counted: bool,
}

impl CmdError {
    /// A fixed text.
    pub const fn new(text: &'static str) -> Self {
        CmdError { text: Cow::Borrowed(text.as_bytes()), counted: false }
    }

    /// A text made on the spot; it may hold bytes of the client's.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        CmdError { text: Cow::Owned(text.into()), counted: false }
    }

    /// The error of a command that a script ran, which was counted then.
    pub fn counted(text: impl Into<Vec<u8>>) -> Self {
        CmdError { text: Cow::Owned(text.into()), counted: true }
    }

    /// Whether the statistics know it already.
    pub fn is_counted(&self) -> bool {
        self.counted
    }

    /// The text, code first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The code: the first word when it is in capitals (`ERR`, `WRONGTYPE`), for errorstats.
    pub fn code(&self) -> &[u8] {
        self.text.split(|b| *b == b' ').next().unwrap_or(b"ERR")
    }
}

/// The result of running a command.
pub type CmdResult = Result<super::Outcome, CmdError>;

/// Shorthand for const texts.
const fn e(text: &'static str) -> CmdError {
    CmdError::new(text)
}

/// The value is of another type.
pub const WRONG_TYPE: CmdError = e("WRONGTYPE Operation against a key holding the wrong kind of value");
/// An option or its place is not understood.
pub const SYNTAX: CmdError = e("ERR syntax error");
/// A number was expected.
pub const NOT_INTEGER: CmdError = e("ERR value is not an integer or out of range");
/// A number does not fit 32 bits.
pub const NOT_INT32: CmdError = e("ERR value is out of range, value must between -2147483648 and 2147483647");
/// A floating point number was expected.
pub const NOT_FLOAT: CmdError = e("ERR value is not a valid float");
/// A number is below zero that may not be.
pub const OUT_OF_RANGE_POSITIVE: CmdError = e("ERR value is out of range, must be positive");
/// A number is outside its range.
pub const OUT_OF_RANGE: CmdError = e("ERR value is out of range");
/// The key must exist.
pub const NO_SUCH_KEY: CmdError = e("ERR no such key");
/// INCR and DECR would leave the 64-bit range.
pub const OVERFLOW: CmdError = e("ERR increment or decrement would overflow");
/// DECRBY of the smallest integer.
pub const DECR_OVERFLOW: CmdError = e("ERR decrement would overflow");
/// INCRBYFLOAT would give NaN or infinity.
pub const NAN_OR_INFINITY: CmdError = e("ERR increment would produce NaN or Infinity");
/// An index is outside a list or similar.
pub const INDEX_OUT_OF_RANGE: CmdError = e("ERR index out of range");
/// SETRANGE below zero.
pub const OFFSET_OUT_OF_RANGE: CmdError = e("ERR offset is out of range");
/// A string would be longer than proto-max-bulk-len.
pub const STRING_TOO_LONG: CmdError = e("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
/// A database number that does not exist.
pub const DB_OUT_OF_RANGE: CmdError = e("ERR DB index is out of range");
/// A SCAN cursor that is no number.
pub const INVALID_CURSOR: CmdError = e("ERR invalid cursor");
/// Two names are the same key where they may not be.
pub const SAME_OBJECT: CmdError = e("ERR source and destination objects are the same");
/// A blocking timeout below zero.
pub const TIMEOUT_NEGATIVE: CmdError = e("ERR timeout is negative");
/// A blocking timeout that is no number.
pub const TIMEOUT_NOT_FLOAT: CmdError = e("ERR timeout is not a float or out of range");
/// A blocking timeout too far away.
pub const TIMEOUT_OUT_OF_RANGE: CmdError = e("ERR timeout is out of range");
/// AUTH failed.
pub const WRONG_PASSWORD: CmdError = e("WRONGPASS invalid username-password pair or user is disabled.");
/// A command before AUTH.
pub const NO_AUTH: CmdError = e("NOAUTH Authentication required.");
/// Memory is used up.
pub const OOM: CmdError = e("OOM command not allowed when used memory > 'maxmemory'.");
/// EXEC after an error while queuing.
pub const EXEC_ABORT: CmdError = e("EXECABORT Transaction discarded because of previous errors.");
/// The protocol version of HELLO is unknown.
pub const NO_PROTO: CmdError = e("NOPROTO unsupported protocol version");

/// The arity error, naming the command.
pub fn wrong_arity(name: &str) -> CmdError {
    CmdError::text(format!("ERR wrong number of arguments for '{name}' command"))
}

/// An expire time that cannot be, naming the command.
pub fn invalid_expire(name: &str) -> CmdError {
    CmdError::text(format!("ERR invalid expire time in '{name}' command"))
}
