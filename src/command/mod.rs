//! Command rows and the data commands. A data command is `fn(&mut Ctx) -> CmdResult` beside its const
//! [`spec::Spec`] row; it sees the keyspace, its arguments and its reply, and knows no client.

pub mod args;
pub mod bitfield;
pub mod bitmap;
pub mod ctx;
pub mod database;
pub mod docs;
pub mod error;
pub mod expire;
pub mod generic;
pub mod geo;
pub mod geo_search;
pub mod hash;
pub mod hash_more;
pub mod hash_ttl;
pub mod hyperloglog;
pub mod keys;
pub mod lcs;
pub mod list;
pub mod list_move;
pub mod object;
pub mod scan;
pub mod set;
pub mod set_algebra;
pub mod sort;
pub mod spec;
pub mod stream;
pub mod stream_claim;
pub mod stream_group;
mod stream_id;
pub mod stream_info;
pub mod stream_read;
pub mod string;
pub mod string_number;
pub mod string_range;
pub mod usage;
pub mod zset;
pub mod zset_algebra;
pub mod zset_pop;
pub mod zset_range;

pub use ctx::{Ctx, Hashed, Propagate};
pub use error::{CmdError, CmdResult};
pub use spec::Spec;

use crate::resp::OwnedArgs;
use crate::value::{Entry, Kind, kind};

/// A command on data.
pub type DataFn = fn(&mut Ctx<'_>) -> CmdResult;

/// What a command that did not fail came to.
pub enum Outcome {
    /// It ran; its reply is written.
    Done,
    /// It has to wait; nothing is written. It is run again when a key is ready.
    Block(Box<BlockOn>),
    /// It is a script, or a transaction with one, that has run for long: it goes on later, while other
    /// clients are told that the server is busy.
    Park,
    /// It ran, and is to be answered with OK when this is dropped: by another thread while the client
    /// waits, or at once where nobody may wait.
    Free(Garbage),
}

/// Something whose dropping takes long.
pub struct Garbage {
    /// It.
    pub value: Box<dyn std::any::Any + Send>,
    /// Its number of parts.
    pub weight: usize,
}

/// What a blocked command waits for.
#[derive(Clone)]
pub struct BlockOn {
    /// Keys, in the order in which they were named.
    pub keys: Vec<Vec<u8>>,
    /// Kind of value that wakes it (see `value::Kind`), or any kind of write to the key.
    pub kind: Option<Kind>,
    /// Milliseconds to wait at most; 0 means for ever.
    pub timeout_ms: i64,
    /// The arguments to run it with again, where its own would mean something else by then (XREAD's `$`).
    pub args: Option<Box<OwnedArgs>>,
}

/// The rows of all data commands, family by family.
pub const FAMILIES: &[&[(Spec, DataFn)]] = &[
    generic::COMMANDS,
    expire::COMMANDS,
    scan::COMMANDS,
    object::COMMANDS,
    database::COMMANDS,
    string::COMMANDS,
    string_range::COMMANDS,
    string_number::COMMANDS,
    lcs::COMMANDS,
    bitmap::COMMANDS,
    bitfield::COMMANDS,
    stream::COMMANDS,
    stream_read::COMMANDS,
    stream_group::COMMANDS,
    stream_claim::COMMANDS,
    stream_info::COMMANDS,
    hash::COMMANDS,
    hash_more::COMMANDS,
    hash_ttl::COMMANDS,
    set::COMMANDS,
    set_algebra::COMMANDS,
    zset::COMMANDS,
    zset_range::COMMANDS,
    zset_algebra::COMMANDS,
    zset_pop::COMMANDS,
    geo::COMMANDS,
    geo_search::COMMANDS,
    hyperloglog::COMMANDS,
    list::COMMANDS,
    list_move::COMMANDS,
    sort::COMMANDS,
];

/// An entry that was looked up, if it is of this type; WRONGTYPE if it is of another.
#[inline]
pub fn of_kind<E: std::ops::Deref<Target = Entry>>(
    entry: Option<E>,
    wanted: Kind,
) -> Result<Option<E>, CmdError> {
    match entry {
        Some(entry) if kind(&entry) != wanted => Err(error::WRONG_TYPE),
        entry => Ok(entry),
    }
}

/// Stands in the row of a container (OBJECT): only its subcommands run.
pub fn container(_: &mut Ctx<'_>) -> CmdResult {
    unreachable!("containers are refused before they run")
}

/// Writes the lines of a HELP subcommand the way Redis' containers do.
pub fn help(reply: &mut crate::resp::Reply, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
