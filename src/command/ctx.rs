//! What a data command sees: keyspace, arguments, reply, configuration. It cannot name a client or a
//! socket, and it cannot reach the log: it reports changes to the keyspace and says how they propagate.

use super::error::CmdError;
use crate::collections::hash::hash_key;
use crate::config::Config;
use crate::keyspace::change::listener;
use crate::keyspace::{Key, Keyspace};
use crate::resp::{Args, OwnedArgs, Reply};
use crate::value::list;

/// Keys whose memory is fetched together: enough to overlap, few enough to stay in the first-level cache.
const KEYS_AHEAD: usize = 16;

/// How the effect of a command is written to the log and to replicas.
#[derive(Default)]
pub enum Propagate {
    /// The command as it came, if it changed anything.
    #[default]
    Verbatim,
    /// The command as it came, even if it found nothing to change (FLUSHALL).
    Always,
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
    /// Whether a script runs it: what has no order of its own is given one.
    pub in_script: bool,
    /// Whether the user may read every key (SORT looks at keys that are not among its arguments).
    pub reads_all_keys: bool,
    /// Whether the command comes from the log, where it was written after it had been checked.
    pub from_log: bool,
    /// Bytes of output at which the client will be closed.
    pub output_max: usize,
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
        Ctx {
            ks,
            db,
            args,
            reply,
            config,
            name,
            propagate,
            may_block: false,
            in_script: false,
            reads_all_keys: true,
            from_log: false,
            output_max: usize::MAX,
            hashed,
        }
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

    /// Pending bytes from which on a reply need not be finished: a client with so much is cut off.
    pub fn reply_bytes_max(&self) -> usize {
        if self.in_script { usize::MAX } else { self.output_max }
    }

    /// Argument `i` as an integer.
    pub fn int(&self, i: usize) -> Result<i64, CmdError> {
        super::args::int(self.args.get(i))
    }

    /// Milliseconds since 1970 of this unit.
    pub fn now_ms(&self) -> i64 {
        self.ks.now_ms()
    }

    /// What has a deadline up to this time is over, see [`Keyspace::over_ms`].
    #[inline]
    pub fn over_ms(&self) -> i64 {
        self.ks.over_ms()
    }

    /// How lists are kept.
    #[inline]
    pub fn list_limits(&self) -> list::Limits {
        list::Limits {
            fill: self.config.list_max_listpack_size,
            compress_depth: self.config.list_compress_depth,
            plain_from: self.ks.list_plain_from,
        }
    }

    /// Whether anybody takes effects: else nothing has to be said about them.
    pub fn propagating(&self) -> bool {
        self.ks.changes.listening & listener::PROPAGATION != 0
    }

    /// Says that the command propagates as another one. Costs nothing when nobody takes effects.
    pub fn propagate_as(&mut self, argv: &[&[u8]]) {
        if self.propagating() {
            self.propagate = Propagate::As(vec![OwnedArgs::from_slices(argv)]);
        }
    }

    /// Runs `run` for every `step`th argument from `first` on as a key. Keys are hashed and their memory is
    /// fetched some ahead, so that the cache misses of a command with many keys overlap.
    pub fn each_key(
        &mut self,
        first: usize,
        step: usize,
        mut run: impl FnMut(&mut Self, usize, Key<'a>) -> Result<(), CmdError>,
    ) -> Result<(), CmdError> {
        let argc = self.args.len();
        if first + step >= argc {
            return run(self, first, self.key(first));
        }
        let mut hashes = [0u64; KEYS_AHEAD];
        let mut at = first;
        while at < argc {
            let chunk = (argc - at).div_ceil(step).min(KEYS_AHEAD);
            for (i, hash) in hashes[..chunk].iter_mut().enumerate() {
                *hash = hash_key(self.args.get(at + i * step));
                self.ks.prefetch_bucket(self.db, *hash);
            }
            hashes[..chunk].iter().for_each(|hash| self.ks.prefetch_entry(self.db, *hash));
            for (i, hash) in hashes[..chunk].iter().enumerate() {
                let index = at + i * step;
                run(self, index, Key { bytes: self.args.get(index), hash: *hash })?;
            }
            at += chunk * step;
        }
        Ok(())
    }
}
