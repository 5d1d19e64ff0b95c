//! Publish/subscribe: who listens to which channels, patterns and shard channels. It knows no server, no
//! socket and no protocol: subscribers are slots, and what they are sent is written by `server/push.rs`.

use crate::collections::relocate::{rebuild_set, relocate_vec};
use crate::sys::defrag::Mover;
use crate::util::glob::{self, Case};
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// The name of a channel or a pattern, shared by the registry and the subscribers.
pub type Name = Arc<[u8]>;

/// What is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// All channels whose name matches a pattern.
    Pattern,
    /// A shard channel: a name space of its own, spread over a cluster by slot.
    Shard,
}

/// The subscriptions of one client.
#[derive(Default)]
pub struct Subscriptions {
    names: [BTreeSet<Name>; 3],
    bytes: usize,
}

/// Bytes that a subscription takes beside its name, about: its place in two sets and the name's counters.
const SUBSCRIPTION_BYTES: usize = 64;

impl Subscriptions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeSet::is_empty)
    }

    /// Number of subscriptions of a kind.
    pub fn len(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// The count that replies to subscribing and unsubscribing give: channels and patterns are counted
    /// together, shard channels by themselves.
    pub fn count_shown(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => self.len(Kind::Channel) + self.len(Kind::Pattern),
            Kind::Shard => self.len(Kind::Shard),
        }
    }

    /// The names of a kind, sorted.
    pub fn iter(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.names[kind as usize].iter()
    }

    /// Heap bytes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Up to `max` names of a kind behind one (or from the first on), sorted.
    pub fn names_after(&self, kind: Kind, after: Option<&Name>, max: usize) -> Vec<Name> {
        let from = after.map_or(Bound::Unbounded, |name| Bound::Excluded(&**name));
        let names = self.names[kind as usize].range::<[u8], _>((from, Bound::Unbounded));
        names.take(max).cloned().collect()
    }

    /// Shares a name that [`Pubsub::relocate_name`] gave, if it is subscribed to.
    pub fn share(&mut self, kind: Kind, name: &Name) {
        let names = &mut self.names[kind as usize];
        if names.contains(name) {
            names.replace(name.clone());
        }
    }

    /// Builds the sets of names anew, if they are small, for active defragmentation.
    pub fn relocate(&mut self, mover: &mut Mover) {
        self.names.iter_mut().for_each(|names| rebuild_set(names, mover));
    }
}

/// Names with more subscribers stay where they are: all would have to be told.
const MOVED_SUBSCRIBERS_MAX: usize = 64;

/// The subscribers of one name, sorted: sending walks slots in order. Most names have one or two, and then a
/// block of exact size is a tenth of a tree's.
#[derive(Default)]
pub struct Subscribers(Vec<usize>);

impl Subscribers {
    /// Their slots.
    pub fn slots(&self) -> &[usize] {
        &self.0
    }

    /// Adds a slot. False if it is there.
    fn insert(&mut self, slot: usize) -> bool {
        let Err(place) = self.0.binary_search(&slot) else { return false };
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.insert(place, slot);
        true
    }

    /// Takes a slot out. False if it is not there.
    fn remove(&mut self, slot: usize) -> bool {
        let Ok(place) = self.0.binary_search(&slot) else { return false };
        self.0.remove(place);
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.capacity() / 2);
        }
        true
    }
}

/// Everyone's subscriptions.
#[derive(Default)]
pub struct Pubsub {
    names: [HashMap<Name, Subscribers>; 3],
    clients: usize,
}

impl Pubsub {
    /// Whether nobody listens to channels or patterns, on which events are published.
    pub fn is_silent(&self) -> bool {
        self.names[Kind::Channel as usize].is_empty() && self.names[Kind::Pattern as usize].is_empty()
    }

    /// Number of clients with a subscription.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Number of names of a kind that have subscribers.
    pub fn len(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// Number of subscribers of a name.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.get(kind, name).map_or(0, |subscribers| subscribers.slots().len())
    }

    /// The subscribers of a name.
    pub fn get(&self, kind: Kind, name: &[u8]) -> Option<&Subscribers> {
        self.names[kind as usize].get(name)
    }

    /// The patterns that match a channel, each with its subscribers.
    pub fn matching<'a>(&'a self, channel: &'a [u8]) -> impl Iterator<Item = (&'a Name, &'a Subscribers)> {
        let patterns = self.names[Kind::Pattern as usize].iter();
        patterns.filter(move |(pattern, _)| glob::matches(pattern, channel, Case::Sensitive))
    }

    /// The names of a kind that have subscribers and match a pattern, sorted.
    pub fn active(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<&Name> {
        let wanted = |name: &&Name| pattern.is_none_or(|p| glob::matches(p, name, Case::Sensitive));
        let mut names: Vec<&Name> = self.names[kind as usize].keys().filter(wanted).collect();
        names.sort_unstable();
        names
    }

    /// Adds a subscription. False if the client had it already.
    pub fn subscribe(&mut self, own: &mut Subscriptions, slot: usize, kind: Kind, name: &[u8]) -> bool {
        if own.names[kind as usize].contains(name) {
            return false;
        }
        self.clients += usize::from(own.is_empty());
        let listeners = &mut self.names[kind as usize];
        let shared = match listeners.get_key_value(name) {
            Some((shared, _)) => shared.clone(),
            None => Name::from(name),
        };
        own.names[kind as usize].insert(shared.clone());
        own.bytes += name.len() + SUBSCRIPTION_BYTES;
        let is_new = listeners.entry(shared).or_default().insert(slot);
        assert!(is_new, "a client's subscriptions and the registry agree");
        true
    }

    /// Ends a subscription. False if there was none.
    pub fn unsubscribe(&mut self, own: &mut Subscriptions, slot: usize, kind: Kind, name: &[u8]) -> bool {
        if !own.names[kind as usize].remove(name) {
            return false;
        }
        own.bytes -= name.len() + SUBSCRIPTION_BYTES;
        let listeners = &mut self.names[kind as usize];
        let subscribers = listeners.get_mut(name).expect("a subscribed name is registered");
        let was_there = subscribers.remove(slot);
        assert!(was_there, "a client's subscriptions and the registry agree");
        if subscribers.slots().is_empty() {
            listeners.remove(name);
        }
        self.clients -= usize::from(own.is_empty());
        true
    }

    /// Moves a name, if that is wanted, for active defragmentation: its copy at a better place, and the slots
    /// of the subscribers, which [`Subscriptions::share`] it. Names are shared by counting, so whoever keeps
    /// the old one only keeps its memory.
    pub fn relocate_name(
        &mut self,
        kind: Kind,
        name: &[u8],
        mover: &mut Mover,
    ) -> Option<(Name, Vec<usize>)> {
        let listeners = &mut self.names[kind as usize];
        relocate_vec(&mut listeners.get_mut(name)?.0, mover);
        let (shared, subscribers) = listeners.get_key_value(name)?;
        if subscribers.slots().len() > MOVED_SUBSCRIBERS_MAX || !mover.wants(shared.as_ptr()) {
            mover.misses += 1;
            return None;
        }
        let slots = subscribers.slots().to_vec();
        let (old, subscribers) = listeners.remove_entry(name)?;
        let new = Name::from(&*old);
        listeners.insert(new.clone(), subscribers);
        mover.note_rebuilt();
        Some((new, slots))
    }

    /// Ends all subscriptions of a client.
    pub fn unsubscribe_all(&mut self, own: &mut Subscriptions, slot: usize) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            while let Some(name) = own.names[kind as usize].first().cloned() {
                self.unsubscribe(own, slot, kind, &name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::defrag::Select;
    use crate::util::rng::Rng;

    const KINDS: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

    #[test]
    fn random_subscriptions_agree_with_a_plain_list() {
        for seed in 0..20 {
            let mut rng = Rng::from_seed(seed);
            let mut registry = Pubsub::default();
            let mut mover = Mover::new(Select::Everything);
            let mut clients: Vec<Subscriptions> = (0..5).map(|_| Subscriptions::default()).collect();
            let mut model: BTreeSet<(usize, usize, Vec<u8>)> = BTreeSet::new();
            for _ in 0..2000 {
                let slot = rng.below(5) as usize;
                let kind = KINDS[rng.below(3) as usize];
                let name = format!("n{}", rng.below(8)).into_bytes();
                let entry = (kind as usize, slot, name.clone());
                match rng.below(20) {
                    1 => {
                        if let Some((new, slots)) = registry.relocate_name(kind, &name, &mut mover) {
                            slots.iter().for_each(|slot| clients[*slot].share(kind, &new));
                            assert_eq!(Arc::strong_count(&new), slots.len() + 2, "nobody keeps the old one");
                        }
                        clients[slot].relocate(&mut mover);
                    }
                    0 => {
                        registry.unsubscribe_all(&mut clients[slot], slot);
                        model.retain(|(_, s, _)| *s != slot);
                    }
                    2..=9 => {
                        let removed = registry.unsubscribe(&mut clients[slot], slot, kind, &name);
                        assert_eq!(removed, model.remove(&entry), "seed {seed}");
                    }
                    _ => {
                        let added = registry.subscribe(&mut clients[slot], slot, kind, &name);
                        assert_eq!(added, model.insert(entry), "seed {seed}");
                    }
                }
                let wanted = model.iter().filter(|(k, _, n)| *k == kind as usize && *n == name).count();
                assert_eq!(registry.subscribers(kind, &name), wanted, "seed {seed}");
                let own = model.iter().filter(|(k, s, _)| *k == kind as usize && *s == slot).count();
                assert_eq!(clients[slot].len(kind), own, "seed {seed}");
                let names: BTreeSet<&Vec<u8>> =
                    model.iter().filter(|(k, ..)| *k == kind as usize).map(|(.., n)| n).collect();
                assert_eq!(registry.len(kind), names.len(), "seed {seed}");
            }
        }
    }

    #[test]
    fn patterns_match_channels() {
        let mut registry = Pubsub::default();
        let mut own = Subscriptions::default();
        for pattern in ["news.*", "news.??", "other"] {
            registry.subscribe(&mut own, 3, Kind::Pattern, pattern.as_bytes());
        }
        let mut matching: Vec<&[u8]> = registry.matching(b"news.it").map(|(name, _)| &**name).collect();
        matching.sort_unstable();
        assert_eq!(matching, [&b"news.*"[..], b"news.??"]);
        assert_eq!(own.count_shown(Kind::Channel), 3);
        assert_eq!(own.count_shown(Kind::Shard), 0);
        assert!(!registry.is_silent());
        registry.unsubscribe_all(&mut own, 3);
        assert!(registry.is_silent() && own.is_empty() && registry.clients() == 0);
    }
}
