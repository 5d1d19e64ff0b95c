//! The ACL log: what was refused lately, similar refusals counted together.

use std::collections::VecDeque;

/// Why something was refused, and how far it came: later ones were nearer to being allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The command.
    Command,
    /// A key.
    Key,
    /// The name or password of a login.
    Auth,
    /// A channel.
    Channel,
}

impl Reason {
    /// The word of ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Auth => "auth",
            Reason::Channel => "channel",
        }
    }
}

/// Where it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// As a request.
    Toplevel,
    /// In a transaction.
    Multi,
    /// In a script or function.
    Lua,
}

impl Context {
    /// The word of ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Context::Toplevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// What was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Where.
    pub context: Context,
    /// The command, key, channel, or how a login was tried.
    pub object: Vec<u8>,
    /// The user.
    pub user: Vec<u8>,
    /// The client, as CLIENT LIST shows it.
    pub client: Vec<u8>,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Number, growing for ever.
    pub id: u64,
    /// How often it was refused.
    pub count: u64,
    /// What; of similar refusals the last.
    pub refusal: Refusal,
    /// Milliseconds since 1970 of the first.
    pub created_ms: i64,
    /// Milliseconds since 1970 of the last.
    pub updated_ms: i64,
}

/// The log, newest first.
#[derive(Default)]
pub struct AclLog {
    entries: VecDeque<Entry>,
    next_id: u64,
}

/// Entries that are looked through for a similar one.
const LOOKED_THROUGH: usize = 10;
/// Refusals further apart are not the same, in milliseconds.
const GROUPED_MS: i64 = 60_000;

impl AclLog {
    /// Adds a refusal and drops what is beyond `max` entries.
    pub fn add(&mut self, refusal: Refusal, now_ms: i64, max: usize) {
        if max == 0 {
            return self.entries.clear();
        }
        let similar = |e: &Entry| {
            let old = &e.refusal;
            now_ms - e.updated_ms <= GROUPED_MS
                && (old.reason, old.context) == (refusal.reason, refusal.context)
                && old.object == refusal.object
                && old.user == refusal.user
        };
        let place = self.entries.iter().take(LOOKED_THROUGH).position(similar);
        let entry = match place.and_then(|at| self.entries.remove(at)) {
            Some(old) => Entry { count: old.count + 1, updated_ms: now_ms, refusal, ..old },
            None => {
                self.next_id += 1;
                let id = self.next_id - 1;
                Entry { id, count: 1, refusal, created_ms: now_ms, updated_ms: now_ms }
            }
        };
        self.entries.push_front(entry);
        self.entries.truncate(max);
    }

    /// Entries, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
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
