//! The change log: every write is reported once, by [`Keyspace::changed`](super::Keyspace::changed), and
//! read once, at the end of the unit, by whoever listens (WATCH, tracking, notifications, blocked clients,
//! the log). Nothing is recorded that nobody listens to, so a plain write pays one addition.

use crate::resp::OwnedArgs;

/// Classes of keyspace events: the letters of `notify-keyspace-events`.
pub mod class {
    use crate::config::NotifyFlags;
    /// `g`: commands on keys of any type.
    pub const GENERIC: u32 = NotifyFlags::GENERIC.bits();
    /// `$`: strings.
    pub const STRING: u32 = NotifyFlags::STRING.bits();
    /// `l`: lists.
    pub const LIST: u32 = NotifyFlags::LIST.bits();
    /// `s`: sets.
    pub const SET: u32 = NotifyFlags::SET.bits();
    /// `h`: hashes.
    pub const HASH: u32 = NotifyFlags::HASH.bits();
    /// `z`: sorted sets.
    pub const ZSET: u32 = NotifyFlags::ZSET.bits();
    /// `x`: a key expired.
    pub const EXPIRED: u32 = NotifyFlags::EXPIRED.bits();
    /// `e`: a key was evicted.
    pub const EVICTED: u32 = NotifyFlags::EVICTED.bits();
    /// `t`: streams.
    pub const STREAM: u32 = NotifyFlags::STREAM.bits();
    /// `m`: a key was not found.
    pub const KEY_MISS: u32 = NotifyFlags::KEY_MISS.bits();
    /// `n`: a key is new.
    pub const NEW: u32 = NotifyFlags::NEW.bits();
}

/// What happened to a key: the class and name of its keyspace event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// A bit of [`class`].
    pub class: u32,
    /// The event's name.
    pub name: &'static str,
}

impl Event {
    /// An event of a class.
    pub const fn new(class: u32, name: &'static str) -> Self {
        Event { class, name }
    }
}

/// Events that the keyspace itself gives.
pub mod event {
    use super::{Event, class};
    /// The key's time was over.
    pub const EXPIRED: Event = Event::new(class::EXPIRED, "expired");
    /// The key had to make room.
    pub const EVICTED: Event = Event::new(class::EVICTED, "evicted");
    /// A read found nothing.
    pub const KEY_MISS: Event = Event::new(class::KEY_MISS, "keymiss");
    /// The key did not exist before.
    pub const NEW: Event = Event::new(class::NEW, "new");
    /// Fields of a hash were over.
    pub const FIELDS_EXPIRED: Event = Event::new(class::HASH, "hexpired");
    /// The key was removed.
    pub const DEL: Event = Event::new(class::GENERIC, "del");
}

/// Who listens, as bits besides the event classes.
pub mod listener {
    /// A client watches a key.
    pub const WATCH: u32 = 1 << 20;
    /// A client tracks keys it has read.
    pub const TRACKING: u32 = 1 << 21;
    /// A client waits for a key.
    pub const WAITERS: u32 = 1 << 22;
    /// Effects are written to the log or to replicas.
    pub const PROPAGATION: u32 = 1 << 23;
    /// Replies wait until the writes they show are durable.
    pub const DURABILITY: u32 = 1 << 24;
    /// Everyone who must know which keys were modified.
    pub const MODIFIED: u32 = WATCH | TRACKING | WAITERS | DURABILITY;
}

/// How far a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The value or its expiry changed.
    Modified,
    /// Removed because its time was over: a watched key that was already over stays valid.
    Expired,
    /// Only an event; the key is as it was.
    EventOnly,
    /// The value changed, and there is no event.
    Silent,
}

/// One entry of the log.
#[derive(Debug)]
pub enum Change {
    /// Something happened to a key.
    Key {
        /// Database.
        db: usize,
        /// The key.
        key: Box<[u8]>,
        /// What happened.
        event: Event,
        /// How far it went.
        effect: Effect,
    },
    /// A database was emptied: its number, or all of them.
    Flush(Option<usize>),
    /// Two databases changed places.
    Swap(usize, usize),
}

/// The changes of the running unit.
#[derive(Default)]
pub struct ChangeLog {
    /// Event classes and listeners for whom changes are recorded.
    pub listening: u32,
    /// Changes since the last snapshot (INFO's rdb_changes_since_last_save).
    pub dirty: u64,
    entries: Vec<Change>,
    /// Removals by expiry and eviction, to be written before the effect of the command that found them.
    implicit: Vec<(usize, OwnedArgs)>,
}

impl ChangeLog {
    /// Whether there is nothing to read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.implicit.is_empty()
    }

    /// Records a change to a key if anyone listens.
    #[inline]
    pub fn record(&mut self, db: usize, key: &[u8], event: Event, effect: Effect) {
        let modified = if effect == Effect::EventOnly { 0 } else { listener::MODIFIED };
        if self.listening & (event.class | modified) != 0 {
            self.entries.push(Change::Key { db, key: key.into(), event, effect });
        }
    }

    /// Records a change that is no key's. That everything is gone is of interest always.
    pub fn record_other(&mut self, change: Change) {
        if self.listening & listener::MODIFIED != 0 || matches!(change, Change::Flush(None)) {
            self.entries.push(change);
        }
    }

    /// Records that the keyspace removed a key by itself.
    pub fn record_removal(&mut self, db: usize, key: &[u8], command: &[u8]) {
        if self.listening & listener::PROPAGATION != 0 {
            self.implicit.push((db, OwnedArgs::from_slices(&[command, key])));
        }
    }

    /// Records that the keyspace removed a field of a hash by itself.
    pub fn record_field_removal(&mut self, db: usize, key: &[u8], field: &[u8]) {
        if self.listening & listener::PROPAGATION != 0 {
            self.implicit.push((db, OwnedArgs::from_slices(&[b"HDEL", key, field])));
        }
    }

    /// Takes the changes, oldest first.
    pub fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.entries)
    }

    /// Gives back changes that were taken to be looked at, or the memory they were in, before there were
    /// others.
    pub fn put_back(&mut self, changes: Vec<Change>) {
        assert!(self.entries.is_empty(), "nothing changes while the log is looked at");
        self.entries = changes;
    }

    /// Moves the removals that the keyspace made by itself behind other effects.
    #[inline]
    pub fn move_implicit(&mut self, effects: &mut Vec<(usize, OwnedArgs)>) {
        effects.append(&mut self.implicit);
    }
}
