//! Command rows and the data commands. A data command is `fn(&mut Ctx) -> CmdResult` beside its const
//! [`spec::Spec`] row; it sees the keyspace, its arguments and its reply, and knows no client.

pub mod args;
pub mod ctx;
pub mod docs;
pub mod error;
pub mod keys;
pub mod spec;
pub mod string;
pub mod usage;

pub use ctx::{Ctx, Hashed, Propagate};
pub use error::{CmdError, CmdResult};
pub use spec::Spec;

/// A command on data.
pub type DataFn = fn(&mut Ctx<'_>) -> CmdResult;

/// What a command that did not fail came to.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It ran; its reply is written.
    Done,
    /// It has to wait; nothing is written. It is run again when a key is ready.
    Block(Box<BlockOn>),
}

/// What a blocked command waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockOn {
    /// Keys, in the order in which they were named.
    pub keys: Vec<Vec<u8>>,
    /// Kind of value that wakes it (see `value::Kind`), or any kind of write to the key.
    pub kind: Option<crate::value::Kind>,
    /// Milliseconds to wait at most; 0 means for ever.
    pub timeout_ms: i64,
}

/// The rows of all data commands, family by family.
pub const FAMILIES: &[&[(Spec, DataFn)]] = &[string::COMMANDS];
