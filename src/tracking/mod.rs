//! Client-side caching: who is to be told when which keys change. It knows no server and no protocol: clients
//! are numbers, and what they are told is sent by `server/track.rs`.
//!
//! In the default modes the table holds, for each key that was read by a tracking client, the clients that
//! may have it cached; a change takes the key out of the table. In broadcast mode nothing is held for keys:
//! clients name prefixes, and changed keys are collected until the end of the loop's turn.

use crate::util::rng::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

/// A client's number.
pub type ClientId = u64;

/// Which keys are tracked for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those it reads.
    Default,
    /// Those it reads right after CLIENT CACHING YES.
    OptIn,
    /// Those it reads, but not right after CLIENT CACHING NO.
    OptOut,
    /// Those with its prefixes, read or not.
    Broadcast,
}

/// What CLIENT TRACKING ON asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which keys.
    pub mode: Mode,
    /// Whether the client's own changes are left out.
    pub noloop: bool,
    /// The client that is told instead of this one.
    pub redirect: Option<ClientId>,
    /// Prefixes to add in broadcast mode; none: all keys.
    pub prefixes: Vec<Box<[u8]>>,
}

/// A client that tracks.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// Which keys.
    pub mode: Mode,
    /// Whether the client's own changes are left out.
    pub noloop: bool,
    /// The client that is told instead of this one.
    pub redirect: Option<ClientId>,
    /// Whether that client was found to be gone.
    pub broken: bool,
    /// CLIENT CACHING was called for the next command.
    pub caching: bool,
    /// Its prefixes in broadcast mode: none begins with another.
    pub prefixes: BTreeSet<Box<[u8]>>,
    bytes: usize,
}

/// Bytes that a prefix takes beside its own, about: its places in two sets.
const PREFIX_BYTES: usize = 96;

impl Tracker {
    fn new(mode: Mode) -> Tracker {
        let prefixes = BTreeSet::new();
        Tracker { mode, noloop: false, redirect: None, broken: false, caching: false, prefixes, bytes: 0 }
    }

    /// Whether the keys of its running command are to be remembered.
    pub fn wants_reads(&self) -> bool {
        match self.mode {
            Mode::Default => true,
            Mode::OptIn => self.caching,
            Mode::OptOut => !self.caching,
            Mode::Broadcast => false,
        }
    }

    /// Heap bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Tracker>() + self.bytes
    }
}

/// Two prefixes of which one begins with the other: keys would be told twice.
#[derive(Debug, PartialEq, Eq)]
pub enum Overlap {
    /// A new prefix and one the client has.
    Existing(Box<[u8]>, Box<[u8]>),
    /// Two new ones.
    Given(Box<[u8]>, Box<[u8]>),
}

/// A prefix and what is to be told of it.
#[derive(Default)]
struct Prefix {
    clients: BTreeSet<ClientId>,
    /// Changed keys with who changed them; 0: nobody's command did.
    keys: BTreeMap<Box<[u8]>, ClientId>,
}

/// The changed keys of a prefix and who is to be told.
pub struct Broadcast {
    /// Clients in broadcast mode.
    pub clients: Vec<ClientId>,
    /// Keys, sorted, each with who changed it.
    pub keys: Vec<(Box<[u8]>, ClientId)>,
}

/// A tracked key.
struct Tracked {
    key: Arc<[u8]>,
    clients: BTreeSet<ClientId>,
}

/// Everything that is tracked.
#[derive(Default)]
pub struct Tracking {
    clients: HashMap<ClientId, Tracker>,
    /// Tracked keys in no order: one can be picked at random.
    table: Vec<Tracked>,
    places: HashMap<Arc<[u8]>, usize>,
    items: usize,
    prefixes: BTreeMap<Box<[u8]>, Prefix>,
    /// Prefixes with something to be told.
    noted: BTreeSet<Box<[u8]>>,
    /// Rounds in a row that did not bring the table below its limit.
    rounds_late: usize,
}

/// Keys dropped in one round when the table is too large; rounds in a row drop more and more.
const ROUND_KEYS: usize = 100;

impl Tracking {
    /// Whether no client tracks.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Number of clients that track.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Ids of the clients that track.
    pub fn ids(&self) -> Vec<ClientId> {
        let mut ids: Vec<ClientId> = self.clients.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Number of keys in the table.
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// Number of pairs of key and client in the table.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Number of prefixes.
    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// How a client tracks, if it does.
    pub fn get(&self, id: ClientId) -> Option<&Tracker> {
        self.clients.get(&id)
    }

    /// How a client tracks, if it does.
    pub fn get_mut(&mut self, id: ClientId) -> Option<&mut Tracker> {
        self.clients.get_mut(&id)
    }

    // ---- clients ----

    /// Lets a client track, or changes how it does. Prefixes add up. Nothing is changed by an error.
    pub fn enable(&mut self, id: ClientId, options: Options) -> Result<(), Overlap> {
        let Options { mode, noloop, redirect, mut prefixes } = options;
        if mode == Mode::Broadcast {
            check_overlap(self.clients.get(&id).map(|tracker| &tracker.prefixes), &prefixes)?;
            if prefixes.is_empty() {
                prefixes.push(Box::default());
            }
        }
        let tracker = self.clients.entry(id).or_insert_with(|| Tracker::new(mode));
        (tracker.mode, tracker.noloop, tracker.redirect, tracker.broken) = (mode, noloop, redirect, false);
        for prefix in prefixes {
            self.prefixes.entry(prefix.clone()).or_default().clients.insert(id);
            let bytes = prefix.len() + PREFIX_BYTES;
            tracker.bytes += if tracker.prefixes.insert(prefix) { bytes } else { 0 };
        }
        Ok(())
    }

    /// Ends a client's tracking. Its keys stay in the table until they change or it has to shrink; when
    /// nobody tracks any more the table goes.
    pub fn disable(&mut self, id: ClientId) {
        let Some(tracker) = self.clients.remove(&id) else { return };
        for prefix in tracker.prefixes {
            let Some(state) = self.prefixes.get_mut(&prefix) else { continue };
            state.clients.remove(&id);
            if state.clients.is_empty() {
                self.prefixes.remove(&prefix);
            }
        }
        if self.clients.is_empty() {
            self.clear();
        }
    }

    // ---- keys ----

    /// Remembers that a client may have a key cached.
    pub fn remember(&mut self, id: ClientId, key: &[u8]) {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => {
                let key: Arc<[u8]> = key.into();
                self.places.insert(key.clone(), self.table.len());
                self.table.push(Tracked { key, clients: BTreeSet::new() });
                self.table.len() - 1
            }
        };
        self.items += usize::from(self.table[place].clients.insert(id));
    }

    /// Takes a key that has changed out of the table: the clients that may have it cached.
    pub fn take(&mut self, key: &[u8]) -> BTreeSet<ClientId> {
        match self.places.get(key) {
            Some(place) => self.take_at(*place).1,
            None => BTreeSet::new(),
        }
    }

    fn take_at(&mut self, place: usize) -> (Arc<[u8]>, BTreeSet<ClientId>) {
        let Tracked { key, clients } = self.table.swap_remove(place);
        self.places.remove(&key);
        if let Some(moved) = self.table.get(place) {
            *self.places.get_mut(&moved.key).expect("each key in the table has its place") = place;
        }
        self.items -= clients.len();
        (key, clients)
    }

    /// Notes a changed key for those who are told of prefixes.
    pub fn note(&mut self, key: &[u8], by: ClientId) {
        for (prefix, state) in &mut self.prefixes {
            if key.starts_with(prefix) {
                if state.keys.is_empty() {
                    self.noted.insert(prefix.clone());
                }
                state.keys.insert(key.into(), by);
            }
        }
    }

    /// What is to be told of prefixes since the last time.
    pub fn take_broadcasts(&mut self) -> Vec<Broadcast> {
        let noted = std::mem::take(&mut self.noted);
        let mut take = |prefix: &[u8]| {
            let state = self.prefixes.get_mut(prefix)?;
            let clients = state.clients.iter().copied().collect();
            Some(Broadcast { clients, keys: std::mem::take(&mut state.keys).into_iter().collect() })
        };
        noted.iter().filter_map(|prefix| take(prefix)).collect()
    }

    /// Forgets all keys (they are all gone).
    pub fn clear(&mut self) {
        self.table.clear();
        self.places.clear();
        self.items = 0;
    }

    /// Takes keys out of a table that has more than `max` keys (0: no limit), at random, some in each call.
    pub fn shrink(&mut self, max: usize, rng: &mut Rng) -> Vec<(Arc<[u8]>, BTreeSet<ClientId>)> {
        let mut dropped = Vec::new();
        if max == 0 || self.table.len() <= max {
            self.rounds_late = 0;
            return dropped;
        }
        let effort = ROUND_KEYS * (self.rounds_late + 1);
        while self.table.len() > max && dropped.len() < effort {
            dropped.push(self.take_at(rng.below(self.table.len() as u64) as usize));
        }
        self.rounds_late = if self.table.len() > max { self.rounds_late + 1 } else { 0 };
        dropped
    }
}

/// Refuses prefixes of which one begins with another, among the given ones and those the client has.
fn check_overlap(own: Option<&BTreeSet<Box<[u8]>>>, given: &[Box<[u8]>]) -> Result<(), Overlap> {
    let mut seen: BTreeSet<Box<[u8]>> = BTreeSet::new();
    for prefix in given {
        if let Some(existing) = own.and_then(|own| overlapping(own, prefix)) {
            return Err(Overlap::Existing(prefix.clone(), existing.into()));
        }
        if let Some(first) = overlapping(&seen, prefix) {
            return Err(Overlap::Given(first.into(), prefix.clone()));
        }
        seen.insert(prefix.clone());
    }
    Ok(())
}

/// The member of a set in which none begins with another, that begins with `prefix` or the other way round.
fn overlapping<'a>(set: &'a BTreeSet<Box<[u8]>>, prefix: &[u8]) -> Option<&'a [u8]> {
    // The empty prefix alone may stand beside others: it is added when none is given.
    let before = set.first().filter(|first| first.is_empty());
    let below = || set.range::<[u8], _>((Unbounded, Excluded(prefix))).next_back();
    let from = || set.range::<[u8], _>((Included(prefix), Unbounded)).next();
    let found = before
        .or_else(|| below().filter(|p| prefix.starts_with(p)))
        .or_else(|| from().filter(|p| p.starts_with(prefix)));
    found.map(|found| &**found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: Mode, prefixes: &[&str]) -> Options {
        let prefixes = prefixes.iter().map(|p| p.as_bytes().into()).collect();
        Options { mode, noloop: false, redirect: None, prefixes }
    }

    #[test]
    fn random_reads_and_changes_agree_with_a_plain_set() {
        for seed in 0..10 {
            let mut rng = Rng::from_seed(seed);
            let mut tracking = Tracking::default();
            let mut model: BTreeSet<(Vec<u8>, ClientId)> = BTreeSet::new();
            tracking.enable(1, options(Mode::Default, &[])).unwrap();
            for _ in 0..3000 {
                let key = format!("k{}", rng.below(40)).into_bytes();
                let id = 1 + rng.below(5);
                match rng.below(100) {
                    0 => {
                        tracking.clear();
                        model.clear();
                    }
                    1 => {
                        let max = 1 + rng.below(10) as usize;
                        for (key, clients) in tracking.shrink(max, &mut rng) {
                            let had = model.iter().filter(|(k, _)| **k == *key).map(|(_, id)| *id);
                            assert_eq!(had.collect::<BTreeSet<_>>(), clients, "seed {seed}");
                            model.retain(|(k, _)| **k != *key);
                        }
                        assert!(tracking.keys() <= max);
                    }
                    2..40 => {
                        let had: BTreeSet<_> =
                            model.iter().filter(|(k, _)| *k == key).map(|(_, id)| *id).collect();
                        model.retain(|(k, _)| *k != key);
                        assert_eq!(tracking.take(&key), had, "seed {seed}");
                    }
                    _ => {
                        tracking.remember(id, &key);
                        model.insert((key, id));
                    }
                }
                assert_eq!(tracking.items(), model.len(), "seed {seed}");
            }
            tracking.disable(1);
            assert_eq!(tracking.keys(), 0);
        }
    }

    #[test]
    fn a_large_table_shrinks_faster_and_faster() {
        let mut tracking = Tracking::default();
        let mut rng = Rng::from_seed(1);
        (0..1000).for_each(|i| tracking.remember(1, format!("k{i}").as_bytes()));
        let rounds: Vec<usize> =
            std::iter::repeat_with(|| tracking.shrink(10, &mut rng).len()).take_while(|n| *n > 0).collect();
        assert_eq!(rounds, [100, 200, 300, 390]);
        assert!(tracking.shrink(0, &mut rng).is_empty());
    }

    #[test]
    fn prefixes_of_a_client_do_not_overlap() {
        let mut tracking = Tracking::default();
        let mut enable = |prefixes: &[&str]| tracking.enable(1, options(Mode::Broadcast, prefixes));
        assert_eq!(enable(&["foobar", "foo"]), Err(Overlap::Given((*b"foobar").into(), (*b"foo").into())));
        assert_eq!(enable(&["foo", "bar"]), Ok(()));
        assert_eq!(enable(&["x", "fo"]), Err(Overlap::Existing((*b"fo").into(), (*b"foo").into())));
        tracking.note(b"foo:1", 7);
        tracking.note(b"none", 7);
        tracking.note(b"foo:1", 8);
        let told = tracking.take_broadcasts();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].clients, [1]);
        assert_eq!(told[0].keys, [((*b"foo:1").into(), 8)]);
        assert!(tracking.take_broadcasts().is_empty());
        tracking.disable(1);
        assert_eq!(tracking.prefixes(), 0);
    }
}
