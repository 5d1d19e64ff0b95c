//! Reading arguments: numbers with Redis' error texts and a cursor over options. Knows no command.

use super::error::{self, CmdError};
use crate::resp::Args;
use crate::util::num;

/// An integer argument.
#[inline]
pub fn int(bytes: &[u8]) -> Result<i64, CmdError> {
    num::parse_i64(bytes).ok_or(error::NOT_INTEGER)
}

/// An integer argument within bounds; outside them `error` is given.
pub fn int_in(bytes: &[u8], min: i64, max: i64, error: CmdError) -> Result<i64, CmdError> {
    let n = int(bytes)?;
    if (min..=max).contains(&n) { Ok(n) } else { Err(error) }
}

/// An integer argument that is not negative; `error` is given for anything else.
pub fn natural(bytes: &[u8], error: CmdError) -> Result<usize, CmdError> {
    num::parse_i64(bytes).and_then(|n| usize::try_from(n).ok()).ok_or(error)
}

/// An integer argument that has to fit 32 bits.
pub fn int32(bytes: &[u8]) -> Result<i32, CmdError> {
    i32::try_from(int(bytes)?).map_err(|_| error::NOT_INT32)
}

/// The number of a database, of which there are `databases`.
pub fn db_index(bytes: &[u8], databases: usize) -> Result<usize, CmdError> {
    let index = usize::try_from(int32(bytes)?).map_err(|_| error::DB_OUT_OF_RANGE)?;
    if index < databases { Ok(index) } else { Err(error::DB_OUT_OF_RANGE) }
}

/// A floating point argument.
pub fn float(bytes: &[u8]) -> Result<f64, CmdError> {
    num::parse_f64(bytes).ok_or(error::NOT_FLOAT)
}

/// Whether an argument is this word, in any case.
#[inline]
pub fn is(bytes: &[u8], word: &str) -> bool {
    bytes.eq_ignore_ascii_case(word.as_bytes())
}

/// A blocking timeout in seconds (fractions allowed) as milliseconds; 0 means for ever.
pub fn timeout_ms(bytes: &[u8]) -> Result<i64, CmdError> {
    let seconds = num::parse_f64(bytes).ok_or(error::TIMEOUT_NOT_FLOAT)?;
    // Less than a millisecond below zero counts as zero.
    let ms = (seconds * 1000.0).ceil();
    if ms < 0.0 {
        return Err(error::TIMEOUT_NEGATIVE);
    }
    if ms > i64::MAX as f64 / 2.0 {
        return Err(error::TIMEOUT_OUT_OF_RANGE);
    }
    Ok(ms as i64)
}

/// A cursor over arguments: takes options from left to right.
pub struct Cursor<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at argument `at`.
    pub fn new(args: Args<'a>, at: usize) -> Self {
        Cursor { args, at }
    }

    /// Whether all arguments are taken.
    pub fn is_done(&self) -> bool {
        self.at >= self.args.len()
    }

    /// Number of arguments left.
    pub fn left(&self) -> usize {
        self.args.len().saturating_sub(self.at)
    }

    /// Index of the next argument.
    pub fn index(&self) -> usize {
        self.at
    }

    /// Looks at the next argument.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.args.try_get(self.at)
    }

    /// Takes the next argument; a missing one is a syntax error.
    pub fn take(&mut self) -> Result<&'a [u8], CmdError> {
        let bytes = self.args.try_get(self.at).ok_or(error::SYNTAX)?;
        self.at += 1;
        Ok(bytes)
    }

    /// Takes the next argument if it is this word.
    pub fn word(&mut self, word: &str) -> bool {
        let hit = self.peek().is_some_and(|bytes| is(bytes, word));
        self.at += usize::from(hit);
        hit
    }

    /// Takes the next argument as an integer; a missing one is a syntax error.
    pub fn int(&mut self) -> Result<i64, CmdError> {
        int(self.take()?)
    }

    /// Takes the next argument as a floating point number.
    pub fn float(&mut self) -> Result<f64, CmdError> {
        float(self.take()?)
    }
}
