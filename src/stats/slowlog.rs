//! The slow log: the last commands that took longer than `slowlog-log-slower-than`.

use std::collections::VecDeque;

/// Arguments kept of one command.
const ARGS_MAX: usize = 32;
/// Bytes kept of one argument.
const ARG_BYTES_MAX: usize = 128;

/// A slow command.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Number, growing for ever.
    pub id: u64,
    /// Seconds since 1970.
    pub unix_seconds: i64,
    /// Duration in microseconds.
    pub us: u64,
    /// Arguments, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub peer: String,
    /// The client's name.
    pub client_name: Vec<u8>,
}

/// The log, newest first.
#[derive(Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds an entry and drops what is beyond `max` entries.
    pub fn add(&mut self, mut entry: SlowEntry, max: usize) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(entry);
        self.trim(max);
    }

    /// Drops the oldest entries beyond `max`.
    pub fn trim(&mut self, max: usize) {
        self.entries.truncate(max);
    }

    /// Entries, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the entries; numbers go on.
    pub fn reset(&mut self) {
        self.entries.clear();
    }
}

/// Shortens an argv for the log the way Redis does: `... (N more arguments)`, `... (N more bytes)`.
pub fn shorten<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let len = args.len();
    let mut out = Vec::with_capacity(len.min(ARGS_MAX));
    for (i, arg) in args.enumerate() {
        if len > ARGS_MAX && i == ARGS_MAX - 1 {
            out.push(format!("... ({} more arguments)", len - ARGS_MAX + 1).into_bytes());
            break;
        }
        if arg.len() > ARG_BYTES_MAX {
            let mut short = arg[..ARG_BYTES_MAX].to_vec();
            short.extend_from_slice(format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX).as_bytes());
            out.push(short);
        } else {
            out.push(arg.to_vec());
        }
    }
    out
}
