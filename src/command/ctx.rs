//! What a data command sees: keyspace, arguments, reply, configuration. It cannot name a client or a
//! socket, and it cannot reach the log: it reports changes to the keyspace and says how they propagate.

use super::error::CmdError;
use crate::config::Config;
use crate::keyspace::{Key, Keyspace};
use crate::resp::{Args, OwnedArgs, Reply};

/// How the effect of a command is written to the log and to replicas.
#[derive(Default)]
pub enum Propagate {
    /// The command as it came, if it changed anything.
    #[default]
    Verbatim,
    /// These commands instead (in order), if it changed anything.
    As(Vec<OwnedArgs>),
    /// Not at all.
    Never,
}

/// Everything a data command may touch.
pub struct Ctx<'a> {
    /// All databases.
    pub ks: &'a mut Keyspace,
    /// Number of the selected database.
    pub db: usize,
    /// The arguments, name first.
    pub args: Args<'a>,
    /// Where the reply goes.
    pub reply: &'a mut Reply,
    /// Options: limits and encodings.
    pub config: &'a Config,
    /// The row's name, for error texts.
    pub name: &'static str,
    /// How the effect propagates.
    pub propagate: Propagate,
    /// Whether the caller may be made to wait (not inside MULTI and scripts).
    pub may_block: bool,
    /// The hash of the argument that was looked up ahead.
    hashed: Hashed,
}

/// The hash of one argument, computed before the command ran (for prefetching).
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashed {
    /// Index of the argument; 0 means none.
    pub index: u32,
    /// Its hash.
    pub hash: u64,
}

impl<'a> Ctx<'a> {
    /// A context for one run of a command.
    pub fn new(
        ks: &'a mut Keyspace,
        db: usize,
        args: Args<'a>,
        reply: &'a mut Reply,
        config: &'a Config,
        name: &'static str,
        hashed: Hashed,
    ) -> Self {
        let propagate = Propagate::Verbatim;
        Ctx { ks, db, args, reply, config, name, propagate, may_block: false, hashed }
    }

    /// Argument `i` as a key; the hash made while prefetching is used again.
    #[inline]
    pub fn key(&self, i: usize) -> Key<'a> {
        let bytes = self.args.get(i);
        if i == self.hashed.index as usize {
            return Key { bytes, hash: self.hashed.hash };
        }
        Key::new(bytes)
    }

    /// Argument `i` as an integer.
    pub fn int(&self, i: usize) -> Result<i64, CmdError> {
        super::args::int(self.args.get(i))
    }

    /// Milliseconds since 1970 of this unit.
    pub fn now_ms(&self) -> i64 {
        self.ks.now_ms()
    }

    /// Says that the command propagates as another one.
    pub fn propagate_as(&mut self, argv: &[&[u8]]) {
        self.propagate = Propagate::As(vec![OwnedArgs::from_slices(argv)]);
    }
}
