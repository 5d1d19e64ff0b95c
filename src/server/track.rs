//! Client-side caching on the server: remembers what tracking clients read, and tells them what changed. The
//! tables are in `tracking/`, the form of a message in `push.rs`, CLIENT TRACKING in `commands/tracking.rs`.

use super::Server;
use super::client::Client;
use super::push::{Encoded, Push};
use super::table::Command;
use crate::command::keys::find_keys;
use crate::command::spec::{Flags, access};
use crate::keyspace::change::{Change, Effect};
use crate::resp::Args;
use crate::tracking::{ClientId, Mode};

/// Who gets an invalidation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The client that tracks.
    Itself,
    /// The client it redirects to.
    Another,
}

/// The same message for clients that track for themselves and for those that redirect.
struct Invalidation<'a> {
    itself: Encoded<'a>,
    another: Encoded<'a>,
}

impl<'a> Invalidation<'a> {
    fn new(keys: Option<&'a [&'a [u8]]>) -> Self {
        let push = |redirected| Encoded::new(Push::Invalidate { keys, redirected });
        Invalidation { itself: push(false), another: push(true) }
    }
}

impl Server {
    /// Remembers the keys that a command has read for the client that tracks.
    #[cold]
    pub(super) fn remember_reads(&mut self, command: &Command, args: Args<'_>) {
        let id = self.unit.client;
        let wants = self.tracking.get(id).is_some_and(|tracker| tracker.wants_reads());
        // A script reads through its inner commands.
        if !wants || !command.is(Flags::READONLY) || command.is(Flags::SCRIPT_RUNNER) {
            return;
        }
        // What changed before the read is not news to who read it.
        self.tell_changes();
        let mut keys = Vec::new();
        find_keys(command.spec, &args, &mut keys);
        for (index, _) in keys.iter().filter(|(_, flags)| flags & access::NOT_KEY == 0) {
            self.tracking.remember(id, args.get(*index));
        }
    }

    /// CLIENT CACHING counts for one command, or for one transaction.
    #[cold]
    pub(super) fn end_caching(&mut self, client: &Client, command: &Command) {
        if client.multi.is_none()
            && !command.is(Flags::KEEPS_CACHING)
            && let Some(tracker) = self.tracking.get_mut(client.id)
        {
            tracker.caching = false;
        }
    }

    /// Tells the clients that track of one change.
    pub(super) fn track_change(&mut self, change: &Change) {
        match change {
            Change::Key { key, effect, .. } if *effect != Effect::EventOnly => {
                // Nobody's command made a key's time run out.
                let by = if *effect == Effect::Expired { 0 } else { self.unit.client };
                self.tracking.note(key, by);
                let ids = self.tracking.take(key);
                self.invalidate(key, ids);
            }
            Change::Key { .. } | Change::Swap(..) => {}
            Change::Flush(_) => {
                self.tracking.clear();
                let mut all = Invalidation::new(None);
                self.tracking.ids().into_iter().for_each(|id| self.send_invalidation(id, &mut all));
            }
        }
    }

    /// Tells clients in the default modes that a key which they may have cached changed.
    fn invalidate(&mut self, key: &[u8], ids: impl IntoIterator<Item = ClientId>) {
        let keys = [key];
        let mut message = Invalidation::new(Some(&keys));
        for id in ids {
            let running = self.unit.client;
            let tells = self
                .tracking
                .get(id)
                .is_some_and(|tracker| tracker.mode != Mode::Broadcast && !(tracker.noloop && id == running));
            if tells {
                self.send_invalidation(id, &mut message);
            }
        }
    }

    fn send_invalidation(&mut self, id: ClientId, message: &mut Invalidation<'_>) {
        let Some(tracker) = self.tracking.get_mut(id) else { return };
        let (target, to) = match tracker.redirect {
            None => (id, Target::Itself),
            Some(other) => (other, Target::Another),
        };
        match (self.clients.slot_of(target), to) {
            (Some(slot), Target::Itself) => self.push_to(slot, &mut message.itself),
            (Some(slot), Target::Another) => self.push_to(slot, &mut message.another),
            (None, _) => {
                tracker.broken = true;
                if let Some(slot) = self.clients.slot_of(id) {
                    self.push_to(slot, &mut Encoded::new(Push::RedirectBroken(target)));
                }
            }
        }
    }

    /// Tells the clients in broadcast mode of the keys that changed in this turn: for each prefix one
    /// message.
    pub(super) fn broadcast_invalidations(&mut self) {
        if self.tracking.prefixes() == 0 {
            return;
        }
        for broadcast in self.tracking.take_broadcasts() {
            let all: Vec<&[u8]> = broadcast.keys.iter().map(|(key, _)| &**key).collect();
            let mut to_all = Invalidation::new(Some(&all));
            for id in broadcast.clients {
                if !self.tracking.get(id).is_some_and(|tracker| tracker.noloop) {
                    self.send_invalidation(id, &mut to_all);
                    continue;
                }
                let others = broadcast.keys.iter().filter(|(_, by)| *by != id);
                let others: Vec<&[u8]> = others.map(|(key, _)| &**key).collect();
                if !others.is_empty() {
                    self.send_invalidation(id, &mut Invalidation::new(Some(&others)));
                }
            }
        }
    }

    /// Keeps the table of tracked keys at its limit: clients are told to forget the keys it drops.
    pub(super) fn limit_tracking_table(&mut self) {
        let max = self.config.tracking_table_max_keys;
        if self.tracking.keys() <= max {
            // Also where there is no limit; forgets that the table was too large.
            self.tracking.shrink(max, &mut self.keyspace.rng);
            return;
        }
        for (key, ids) in self.tracking.shrink(max, &mut self.keyspace.rng) {
            self.invalidate(&key, ids);
        }
    }

    /// Ends a client's tracking.
    pub(super) fn end_tracking(&mut self, client: &mut Client) {
        if client.tracks {
            client.tracks = false;
            self.tracking.disable(client.id);
            self.arm(super::gate::bit::TRACKING, !self.tracking.is_empty());
            self.update_listeners();
        }
    }
}
