//! RDB: the snapshot format of Redis, and the payloads of DUMP, which are values in the same form. Knows the
//! keyspace and its values; knows no file, no server and no clock: it writes to any `Write` and reads from
//! any `Read`, in steps.
//!
//! - `format`: the numbers. `output`, `input`: lengths and strings.
//! - `encode`, `decode`: values; `stream`: those of streams. `legacy`: the packed encodings of old versions.
//! - `write`, `read`: whole snapshots. `dump`: payloads. `check`: the report of `--check-rdb`.

pub mod check;
mod decode;
pub mod dump;
mod encode;
pub mod format;
mod input;
mod legacy;
#[cfg(test)]
mod old_tests;
mod output;
pub mod read;
mod stream;
#[cfg(test)]
mod tests;
pub mod write;

pub use output::Compression;
pub use read::{Age, Loader, Progress, Sink, read};
pub use write::{Ages, Observer, Options, Purpose, Version, Written, write};

use std::borrow::Cow;
use std::fmt;
use std::io;

/// What is wrong with a snapshot or payload, and where.
#[derive(Debug)]
pub struct RdbError {
    /// Bytes before the place at which it was noticed.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Debug)]
pub enum Fault {
    /// The source cannot be read.
    Io(io::Error),
    /// It ends too early.
    Ended,
    /// The bytes are not what they should be.
    Corrupt(Cow<'static, str>),
    /// The bytes may be right, but cannot be taken in: a module's data, too many databases, a later version.
    Refused(String),
}

impl Fault {
    /// Something that nobody knows.
    fn unknown(what: &str, number: impl fmt::Display) -> Fault {
        Fault::Corrupt(Cow::Owned(format!("Unknown RDB {what} {number}")))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io(error) => write!(f, "Read error: {error}"),
            Fault::Ended => f.write_str("Unexpected end of the data"),
            Fault::Corrupt(text) => f.write_str(text),
            Fault::Refused(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.fault, self.offset)
    }
}

impl std::error::Error for RdbError {}
