//! The databases: typed access to entries, expiry, eviction and the change log. It knows no client, no
//! command and no clock: the unit's time is handed in by [`Keyspace::begin`].

pub mod access;
mod adopt;
pub mod change;
mod db;
pub mod evict;
mod expire;
mod keys;
mod parts;
pub mod relocate;

use crate::collections::dict::Mut;
use crate::collections::entry::NewPayload;
use crate::collections::hash::hash_key;
use crate::sys::background::Background;
use crate::util::rng::Rng;
use crate::value::{self, Entry, Kind, MemberTable, Object, kind, next_part_expiry};
use access::AccessClock;
use change::{ChangeLog, Effect, Event, event};
pub use db::Db;

/// A key and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key.
    pub bytes: &'a [u8],
    /// [`hash_key`] of it.
    pub hash: u64,
}

impl<'a> Key<'a> {
    /// Hashes a key.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Key { bytes, hash: hash_key(bytes) }
    }
}

/// What becomes of a key's expiry when its value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// It stays.
    Keep,
    /// It goes.
    Clear,
    /// It is set, in milliseconds since 1970.
    At(i64),
}

/// What becomes of keys whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// They are removed when found or when due.
    Remove,
    /// They are hidden but stay (writes are paused, or somebody else decides).
    Hide,
    /// They are as alive as others: a log is replayed, in which their removal comes by itself.
    Ignore,
}

/// Which frees are handed to the background thread: the `lazyfree-lazy-...` options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LazyFree {
    /// Evicted keys.
    pub eviction: bool,
    /// Expired keys.
    pub expire: bool,
    /// Values overwritten or removed as a side effect.
    pub server_del: bool,
    /// DEL.
    pub user_del: bool,
}

/// Counters that INFO shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyspaceStats {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys removed because their time was over.
    pub expired: u64,
    /// Fields of hashes removed because their time was over.
    pub expired_parts: u64,
    /// Keys removed to make room.
    pub evicted: u64,
    /// Microseconds spent on active expiry.
    pub expire_us: u64,
    /// Turns of active expiry that ended at their budget.
    pub expire_cap_reached: u64,
}

/// All databases of a server.
pub struct Keyspace {
    dbs: Vec<Db>,
    /// What changed in this unit.
    pub changes: ChangeLog,
    /// Counters.
    pub stats: KeyspaceStats,
    /// Ages entries.
    pub access: AccessClock,
    /// Random choices; seeded, so that runs can be repeated.
    pub rng: Rng,
    /// What becomes of keys whose time is over.
    pub expiry: Expiry,
    /// Whether reads update access clocks.
    pub touching: bool,
    /// Which frees go to the background thread.
    pub lazy_free: LazyFree,
    /// Bytes from which on an element of a list gets a node of its own (for tests); 0: when it fills one.
    pub list_plain_from: usize,
    background: Background,
    pool: evict::Pool,
    now_ms: i64,
}

/// A value with more allocations than this is freed in the background where that is wanted.
const LAZY_FREE_EFFORT: usize = 64;
/// A value with more allocations than this is freed in the background whatever the options say: nobody is to
/// wait for it.
const FREE_EFFORT_MAX: usize = 1024;

impl Keyspace {
    /// `databases` empty databases.
    pub fn new(databases: usize, access: AccessClock, seed: u64, background: Background) -> Self {
        Keyspace {
            dbs: (0..databases).map(|_| Db::default()).collect(),
            changes: ChangeLog::default(),
            stats: KeyspaceStats::default(),
            access,
            rng: Rng::from_seed(seed),
            expiry: Expiry::Remove,
            touching: true,
            lazy_free: LazyFree::default(),
            list_plain_from: 0,
            background,
            pool: evict::Pool::default(),
            now_ms: 0,
        }
    }

    /// Begins a unit: one `now` for all its commands, in milliseconds since 1970.
    #[inline]
    pub fn begin(&mut self, now_ms: i64) {
        if now_ms / 1000 != self.now_ms / 1000 {
            self.access.set_now(now_ms);
        }
        self.now_ms = now_ms;
    }

    /// The unit's time.
    #[inline]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// What has a deadline up to this time is over: keys, and fields of hashes. While a log is replayed
    /// nothing is, however late it has become; see [`Expiry::Ignore`].
    #[inline]
    pub fn over_ms(&self) -> i64 {
        if self.expiry == Expiry::Ignore { i64::MIN } else { self.now_ms }
    }

    /// Number of databases.
    pub fn databases(&self) -> usize {
        self.dbs.len()
    }

    /// One database.
    pub fn db(&self, db: usize) -> &Db {
        &self.dbs[db]
    }

    /// Makes room for so many keys in a database that has held none.
    pub fn expect(&mut self, db: usize, keys: usize) {
        self.dbs[db].table.expect(keys);
    }

    /// Brings the memory that a lookup of `hash` will touch into the cache: the bucket's line.
    #[inline]
    pub fn prefetch_bucket(&self, db: usize, hash: u64) {
        self.dbs[db].table.prefetch_bucket(hash);
    }

    /// The second stage: the entry's line.
    #[inline]
    pub fn prefetch_entry(&self, db: usize, hash: u64) {
        self.dbs[db].table.prefetch_entry(hash);
    }

    /// The third stage, for requests that name a member of a collection: its table, if it has one.
    #[inline]
    pub fn member_table(&self, db: usize, key: Key<'_>) -> Option<MemberTable<'_>> {
        let entry = self.dbs[db].table.get(key.hash, key.bytes)?;
        value::member_table(entry.into_payload())
    }

    // ---- looking up ----

    /// The entry for reading: counts a hit or miss, ages the entry, and gives the miss event.
    #[inline]
    pub fn read(&mut self, db: usize, key: Key<'_>) -> Option<Mut<'_, Entry>> {
        self.read_as(db, key, Trace::Full)
    }

    /// The same without ageing the entry (TTL, TYPE, EXISTS).
    pub fn read_untouched(&mut self, db: usize, key: Key<'_>) -> Option<Mut<'_, Entry>> {
        self.read_as(db, key, Trace::Counted)
    }

    /// The same without the miss event either (OBJECT).
    pub fn inspect(&mut self, db: usize, key: Key<'_>) -> Option<Mut<'_, Entry>> {
        self.read_as(db, key, Trace::Quiet)
    }

    #[inline]
    fn read_as(&mut self, db: usize, key: Key<'_>, trace: Trace) -> Option<Mut<'_, Entry>> {
        let touching = self.touching && trace == Trace::Full;
        let over_ms = self.over_ms();
        match self.dbs[db].live(key, over_ms, self.expiry) {
            db::Live::Found(mut entry) => {
                self.stats.hits += 1;
                if touching {
                    touch_entry(&mut entry, &self.access, &mut self.rng);
                }
                return Some(entry);
            }
            db::Live::Expired(entry) => {
                note_expired(&mut self.stats, &mut self.changes, self.lazy_free, db, &entry);
                dispose(&self.background, entry, self.lazy_free.expire);
            }
            db::Live::Missing => {}
        }
        self.stats.misses += 1;
        if trace != Trace::Quiet {
            self.changes.record(db, key.bytes, event::KEY_MISS, Effect::EventOnly);
        }
        None
    }

    /// The entry for writing: no statistics.
    #[inline]
    pub fn write(&mut self, db: usize, key: Key<'_>) -> Option<Mut<'_, Entry>> {
        let (touching, over_ms) = (self.touching, self.over_ms());
        match self.dbs[db].live(key, over_ms, self.expiry) {
            db::Live::Found(mut entry) => {
                if touching {
                    touch_entry(&mut entry, &self.access, &mut self.rng);
                }
                Some(entry)
            }
            db::Live::Expired(entry) => {
                note_expired(&mut self.stats, &mut self.changes, self.lazy_free, db, &entry);
                dispose(&self.background, entry, self.lazy_free.expire);
                None
            }
            db::Live::Missing => None,
        }
    }

    /// The entry for looking at, without any trace.
    pub fn peek(&self, db: usize, key: Key<'_>) -> Option<crate::collections::dict::Ref<'_, Entry>> {
        let over_ms = self.over_ms();
        self.dbs[db].table.get(key.hash, key.bytes).filter(|e| e.expiry().is_none_or(|t| t > over_ms))
    }

    /// Whether the key is there and its time is over (WATCH needs to know).
    pub fn is_expired(&self, db: usize, key: Key<'_>) -> bool {
        let over_ms = self.over_ms();
        self.dbs[db].table.get(key.hash, key.bytes).is_some_and(|e| e.expiry().is_some_and(|t| t <= over_ms))
    }

    /// Whether a key exists, removing it if its time is over; no statistics.
    pub fn exists(&mut self, db: usize, key: Key<'_>) -> bool {
        let touching = std::mem::replace(&mut self.touching, false);
        let found = self.write(db, key).is_some();
        self.touching = touching;
        found
    }

    // ---- changing ----

    /// Creates a key or replaces its value. True if the key was there. The caller reports the change.
    #[inline]
    pub fn set(
        &mut self,
        db: usize,
        key: Key<'_>,
        new_kind: Kind,
        payload: NewPayload<'_, Object>,
        ttl: Ttl,
    ) -> bool {
        let (now_ms, over_ms) = (self.now_ms, self.over_ms());
        let mut payload = Some(payload);
        let mut taken = || payload.take().expect("the payload is used once");
        let d = &mut self.dbs[db];
        let mut parts = (None, None);
        // What is hidden is replaced as well.
        let found = match d.live(key, over_ms, Expiry::Remove) {
            db::Live::Found(mut entry) => {
                let clock = self.access.touched(entry.clock(), &mut self.rng);
                entry.set_clock(clock);
                if new_kind == Kind::String && kind(&entry) == Kind::String {
                    crate::value::string::set(&mut entry, taken());
                } else {
                    let effort = crate::value::free_effort(&entry);
                    parts.0 = next_part_expiry(&entry);
                    let old = entry.replace_payload(new_kind as u8, taken());
                    parts.1 = next_part_expiry(&entry);
                    crate::value::string::clear_changed(&mut entry);
                    if effort > LAZY_FREE_EFFORT {
                        self.background.drop_later(Box::new(old), 1);
                    }
                }
                let old = entry.expiry();
                match ttl {
                    Ttl::Clear if old.is_some() => entry.set_expiry(None),
                    Ttl::At(at) => entry.set_expiry(Some(at)),
                    Ttl::Keep | Ttl::Clear => {}
                }
                Some(old)
            }
            db::Live::Expired(entry) => {
                note_expired(&mut self.stats, &mut self.changes, self.lazy_free, db, &entry);
                dispose(&self.background, entry, self.lazy_free.expire);
                None
            }
            db::Live::Missing => None,
        };
        if let Some(old) = found {
            d.refile_parts(key.hash, parts.0, parts.1, now_ms);
            match ttl {
                Ttl::At(at) => d.file(key.hash, old, at, now_ms),
                Ttl::Clear => d.volatile -= usize::from(old.is_some()),
                Ttl::Keep => {}
            }
            return true;
        }
        let expiry = match ttl {
            Ttl::At(at) => Some(at),
            Ttl::Keep | Ttl::Clear => None,
        };
        let payload = taken();
        self.insert(db, key, new_kind, payload, expiry);
        false
    }

    /// Adds a key that is known to be absent.
    pub fn insert(
        &mut self,
        db: usize,
        key: Key<'_>,
        new_kind: Kind,
        payload: NewPayload<'_, Object>,
        expiry: Option<i64>,
    ) -> Mut<'_, Entry> {
        let mut entry = Entry::new(key.bytes, new_kind as u8, payload, expiry);
        entry.set_clock(self.access.fresh());
        self.insert_entry(db, key.hash, entry)
    }

    /// Adds a complete entry under a key that is known to be absent.
    fn insert_entry(&mut self, db: usize, hash: u64, entry: Entry) -> Mut<'_, Entry> {
        self.changes.record(db, entry.key(), event::NEW, Effect::EventOnly);
        let now_ms = self.now_ms;
        let d = &mut self.dbs[db];
        // A key that is over may still be there, hidden.
        if self.expiry == Expiry::Hide
            && let Some(hidden) = d.table.remove(hash, entry.key())
        {
            d.forget(&hidden);
        }
        if let Some(at) = entry.expiry() {
            d.file(hash, None, at, now_ms);
        }
        d.refile_parts(hash, None, next_part_expiry(&entry), now_ms);
        d.table.insert_new(hash, entry)
    }

    /// Removes a key. True if it was there. The caller reports the change.
    pub fn remove(&mut self, db: usize, key: Key<'_>, free: Free) -> bool {
        let Some(entry) = self.take(db, key) else { return false };
        let lazy = match free {
            Free::User => self.lazy_free.user_del,
            Free::Server => self.lazy_free.server_del,
            Free::Expired => self.lazy_free.expire,
            Free::Lazy => true,
        };
        dispose(&self.background, entry, lazy);
        true
    }

    /// The command by which the removal of a key whose time is over is propagated.
    pub fn expire_command(&self) -> &'static [u8] {
        removal_command(self.lazy_free.expire)
    }

    /// Takes a key out of its database.
    fn take(&mut self, db: usize, key: Key<'_>) -> Option<Entry> {
        if self.expiry == Expiry::Hide && !self.exists(db, key) {
            return None;
        }
        let over_ms = self.over_ms();
        let d = &mut self.dbs[db];
        let entry = d.table.remove(key.hash, key.bytes)?;
        d.forget(&entry);
        if entry.expiry().is_some_and(|at| at <= over_ms) {
            note_expired(&mut self.stats, &mut self.changes, self.lazy_free, db, &entry);
            dispose(&self.background, entry, self.lazy_free.expire);
            return None;
        }
        Some(entry)
    }

    /// Sets or clears the expiry of a key that exists. The caller reports the change.
    pub fn set_expiry(&mut self, db: usize, key: Key<'_>, expiry: Option<i64>) {
        let now_ms = self.now_ms;
        let d = &mut self.dbs[db];
        let mut entry = d.table.get_mut(key.hash, key.bytes).expect("the caller found the key");
        let old = entry.expiry();
        entry.set_expiry(expiry);
        drop(entry);
        match expiry {
            Some(at) => d.file(key.hash, old, at, now_ms),
            None => d.volatile -= usize::from(old.is_some()),
        }
    }

    // ---- reporting ----

    /// Reports a write: the one call that WATCH, tracking, notifications, blocked clients and the log
    /// depend on.
    #[inline]
    pub fn changed(&mut self, db: usize, key: &[u8], event: Event) {
        self.changes.dirty += 1;
        self.changes.record(db, key, event, Effect::Modified);
    }

    /// Reports a write that counts as `count` changes (elements added or removed), perhaps as none.
    #[inline]
    pub fn changed_by(&mut self, db: usize, key: &[u8], event: Event, count: usize) {
        self.changes.dirty += count as u64;
        self.changes.record(db, key, event, Effect::Modified);
    }

    /// Reports that the write of another key, which was counted, changed this key too (RENAME's new name).
    pub fn changed_too(&mut self, db: usize, key: &[u8], event: Event) {
        self.changes.record(db, key, event, Effect::Modified);
    }

    /// Reports a further event of a write that was already counted.
    pub fn also(&mut self, db: usize, key: &[u8], event: Event) {
        self.changes.record(db, key, event, Effect::EventOnly);
    }

    /// Reports that a key was modified, without an event of its own.
    pub fn modified(&mut self, db: usize, key: &[u8]) {
        self.changes.record(db, key, Event::new(0, ""), Effect::Silent);
    }

    /// Hands something to the background thread to be dropped there; `weight` is its number of parts.
    pub fn drop_later(&self, garbage: Box<dyn std::any::Any + Send>, weight: usize) {
        self.background.drop_later(garbage, weight);
    }

    /// The worker that frees and syncs.
    pub fn background(&self) -> &Background {
        &self.background
    }

    /// Changes who drops things: a fork has no threads. Gives back who did.
    pub fn replace_background(&mut self, background: Background) -> Background {
        std::mem::replace(&mut self.background, background)
    }

    /// Checks what must always hold; called at the end of units in tests and debug builds.
    pub fn check_invariants(&self) {
        for d in &self.dbs {
            d.check_invariants();
        }
    }
}

/// Who frees a removed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// DEL: in the background if `lazyfree-lazy-user-del`.
    User,
    /// A side effect: in the background if `lazyfree-lazy-server-del`.
    Server,
    /// A command that found the key's time over: in the background if `lazyfree-lazy-expire`.
    Expired,
    /// UNLINK: in the background.
    Lazy,
}

/// What a read leaves behind besides the count of hits and misses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// The entry is aged; a miss gives an event.
    Full,
    /// A miss gives an event.
    Counted,
    /// Nothing.
    Quiet,
}

#[inline]
fn touch_entry(entry: &mut Entry, access: &AccessClock, rng: &mut Rng) {
    let old = entry.clock();
    let new = access.touched(old, rng);
    if new != old {
        entry.set_clock(new);
    }
}

/// Frees an entry here, or in the background when that is wanted and worth it, or when it would keep clients
/// waiting.
fn dispose(background: &Background, entry: Entry, lazy: bool) {
    let effort = crate::value::free_effort(&entry);
    if effort > if lazy { LAZY_FREE_EFFORT } else { FREE_EFFORT_MAX } {
        // One object of the counters, however many parts it has.
        background.drop_later(Box::new(entry), 1);
    }
}

/// Counts and reports a key that was removed because its time was over.
fn note_expired(
    stats: &mut KeyspaceStats,
    changes: &mut ChangeLog,
    lazy_free: LazyFree,
    db: usize,
    entry: &Entry,
) {
    stats.expired += 1;
    changes.record_removal(db, entry.key(), removal_command(lazy_free.expire));
    changes.record(db, entry.key(), event::EXPIRED, Effect::Expired);
}

/// The command by which a removal of the keyspace's own is propagated.
fn removal_command(lazy: bool) -> &'static [u8] {
    if lazy { b"UNLINK" } else { b"DEL" }
}
