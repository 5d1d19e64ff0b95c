//! The execution unit: what one client's command, transaction or script does as a whole. When the outermost
//! call ends, its changes are read once: watchers are marked, blocked clients served, effects propagated.

use super::Server;
use super::client::Client;
use super::multi::mark_watched;
use super::table::Command;
use crate::command::Propagate;
use crate::command::spec::Flags;
use crate::keyspace::change::{Change, ChangeLog, Effect, listener};
use crate::resp::{Args, OwnedArgs};

/// Room for effects and changes that is kept from one unit to the next.
const OPS_KEPT: usize = 1024;
/// Copies of arguments whose memory is kept, and the bytes that each may have.
const SPARES_MAX: usize = 16;
const SPARE_BYTES_MAX: usize = 4096;

/// The running unit.
#[derive(Default)]
pub struct Unit {
    /// Nesting of calls.
    pub depth: u32,
    /// Nanoseconds spent in commands in this turn.
    pub command_ns: u64,
    /// Commands run in this turn.
    pub commands: u64,
    /// Whether a command of a transaction or script runs: it must answer at once, with one reply.
    pub no_waiting: bool,
    /// Whether a command of a caller's ran that names its keys: what it removed on its way (keys and fields
    /// whose time was over) belongs together. A walk over the keyspace, and the server itself, remove each
    /// for itself.
    pub together: bool,
    /// Whether what the running command changes is not to be written to the log (`redis.set_repl`).
    pub(super) muted: bool,
    /// The client whose command runs; 0: nobody's.
    pub(super) client: u64,
    /// Number of the unit's changes of which clients that track or listen were told already.
    told: usize,
    /// Pushes that wait for what the unit writes: slots, and where they begin in the output.
    pub(super) pushed: Vec<(usize, u64)>,
    /// Effects to be propagated, in order, with their databases.
    ops: Vec<(usize, OwnedArgs)>,
    /// Memory for further ones.
    spares: Vec<OwnedArgs>,
}

impl Unit {
    /// Keeps the unit open beyond the call that entered it: a parked script goes on in it.
    pub(super) fn hold(&mut self) {
        self.depth += 1;
    }

    /// Keeps the memory of effects that were written.
    fn keep_spares(&mut self, written: impl Iterator<Item = OwnedArgs>) {
        for args in written {
            if self.spares.len() < SPARES_MAX && args.memory_bytes() <= SPARE_BYTES_MAX {
                self.spares.push(args);
            }
        }
    }

    /// Adds a command that nobody ran (DEBUG REPLICATE).
    pub(super) fn propagate_also(&mut self, db: usize, args: OwnedArgs) {
        self.ops.push((db, args));
    }

    /// Adds the effect of a command, behind what the keyspace removed by itself until then: `changes` holds
    /// it. An effect that was already there is older than both.
    pub(super) fn propagate(
        &mut self,
        changes: &mut ChangeLog,
        db: usize,
        command: &Command,
        args: Args<'_>,
        how: Propagate,
    ) {
        if self.muted {
            return;
        }
        match how {
            // What a transaction or script did was added by its inner commands.
            Propagate::Verbatim if command.is(Flags::EXEC) || command.is(Flags::SCRIPT_RUNNER) => {}
            Propagate::Never => {}
            Propagate::Verbatim | Propagate::Always => {
                changes.move_implicit(&mut self.ops);
                let mut copy = self.spares.pop().unwrap_or_default();
                copy.fill(&args);
                self.ops.push((db, copy));
            }
            Propagate::As(commands) => {
                changes.move_implicit(&mut self.ops);
                self.ops.extend(commands.into_iter().map(|args| (db, args)));
            }
        }
    }
}

/// Something that takes the effects of units: the log, a replica's backlog. One encoding serves all.
pub trait Sink: Send {
    /// Takes the effects of one unit, in the protocol's request form.
    fn append(&mut self, bytes: &[u8]);
}

/// How the effects of a unit belong together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// All or none of them: more than one is wrapped in MULTI and EXEC.
    Whole,
    /// Each by itself: removals of keys whose time was over, or that had to make room.
    Apart,
}

/// The database effects were last written for, and who takes them.
#[derive(Default)]
pub struct Propagation {
    /// Takers of effects.
    pub sinks: Vec<Box<dyn Sink>>,
    selected: Option<usize>,
    buffer: Vec<u8>,
}

impl Propagation {
    /// Encodes the effects of a unit once and gives them to every sink, and to the caller.
    fn write(&mut self, ops: &[(usize, OwnedArgs)], taken: Taken) -> &[u8] {
        self.buffer.clear();
        let wrap = ops.len() > 1 && taken == Taken::Whole;
        if wrap {
            encode(&mut self.buffer, &OwnedArgs::from_slices(&[b"MULTI"]));
        }
        for (db, args) in ops {
            if self.selected != Some(*db) {
                let digits = db.to_string();
                encode(&mut self.buffer, &OwnedArgs::from_slices(&[b"SELECT", digits.as_bytes()]));
                self.selected = Some(*db);
            }
            encode(&mut self.buffer, args);
        }
        if wrap {
            encode(&mut self.buffer, &OwnedArgs::from_slices(&[b"EXEC"]));
        }
        for sink in &mut self.sinks {
            sink.append(&self.buffer);
        }
        &self.buffer
    }

    /// Forgets the selected database: the next effect names its own (a new log file begins).
    pub fn forget_selected(&mut self) {
        self.selected = None;
    }
}

fn encode(out: &mut Vec<u8>, args: &OwnedArgs) {
    let args = args.as_args();
    out.push(b'*');
    crate::util::num::push_u64(out, args.len() as u64);
    out.extend_from_slice(b"\r\n");
    for arg in args.iter() {
        out.push(b'$');
        crate::util::num::push_u64(out, arg.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

impl Server {
    /// Begins a unit or goes one level deeper. The outermost level fixes the unit's time.
    #[inline]
    pub(super) fn enter_unit(&mut self) {
        if self.unit.depth == 0 {
            self.unit.together = false;
            self.keyspace.begin(self.now.wall_ms);
        }
        self.unit.depth += 1;
    }

    /// Leaves a level; leaving the outermost one reads the change log.
    #[inline]
    pub(super) fn leave_unit(&mut self) {
        self.unit.depth -= 1;
        if self.unit.depth > 0 {
            return;
        }
        if !self.keyspace.changes.is_empty() || !self.unit.ops.is_empty() || !self.unit.pushed.is_empty() {
            self.end_of_unit();
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Reads the change log once for all who listen.
    fn end_of_unit(&mut self) {
        let apart = self.unit.ops.is_empty() && !self.unit.together;
        let taken = if apart { Taken::Apart } else { Taken::Whole };
        let mut ops = std::mem::take(&mut self.unit.ops);
        // What was found to be over since the last effect.
        self.keyspace.changes.move_implicit(&mut ops);
        if !ops.is_empty() {
            let mut propagation = std::mem::take(&mut self.propagation);
            self.append_to_log(propagation.write(&ops, taken));
            self.propagation = propagation;
            self.unit.keep_spares(ops.drain(..).map(|(_, args)| args));
        }
        if ops.capacity() <= OPS_KEPT {
            // The next unit writes to the same memory.
            self.unit.ops = ops;
        }
        let told = std::mem::take(&mut self.unit.told);
        let mut changes = self.keyspace.changes.take();
        for (i, change) in changes.drain(..).enumerate() {
            if self.aof.gating {
                self.unsynced.note_change(&change, self.aof.appended);
            }
            if i >= told {
                self.tell(&change);
            }
            self.note_ready(&change);
            if !self.watches.is_empty() && !self.mark_watchers(&change) {
                self.late_changes.push(change);
            }
        }
        if changes.capacity() <= OPS_KEPT {
            self.keyspace.changes.put_back(changes);
        }
        self.gate_pushes();
        self.serve_ready();
    }

    /// Tells clients that track keys, and those that listen to events, of what the unit has changed so far.
    /// For what must not come before it: a message of PUBLISH, a key that is read and tracked.
    pub(super) fn tell_changes(&mut self) {
        let changes = self.keyspace.changes.take();
        changes[self.unit.told..].iter().for_each(|change| self.tell(change));
        self.unit.told = changes.len();
        self.keyspace.changes.put_back(changes);
    }

    fn tell(&mut self, change: &Change) {
        if !self.tracking.is_empty() {
            self.track_change(change);
        }
        if let Change::Key { db, key, event, effect } = change
            && *effect != Effect::Silent
        {
            self.notify(*db, key, *event);
        }
    }

    /// Marks the clients that watch what changed. False if one of them is running: see `mark_late`.
    fn mark_watchers(&mut self, change: &Change) -> bool {
        let mut all = true;
        for id in self.watches.watching(change) {
            let Some(slot) = self.clients.slot_of(id) else { continue };
            match self.clients.get_mut(slot) {
                Some(client) => mark_watched(client, change, &self.keyspace),
                None => all = false,
            }
        }
        all
    }

    /// Marks the client that ran while others were marked.
    #[cold]
    pub(super) fn mark_late(&mut self, client: &mut Client) {
        for change in self.late_changes.drain(..) {
            mark_watched(client, &change, &self.keyspace);
        }
    }

    fn note_ready(&mut self, change: &Change) {
        match change {
            Change::Key { db, key, effect, .. } if *effect != Effect::EventOnly => {
                self.blocking.key_ready(*db, key);
            }
            Change::Key { .. } => {}
            Change::Swap(a, b) => {
                self.blocking.db_ready(*a);
                self.blocking.db_ready(*b);
            }
            // Whoever waits for a key whatever becomes of it has to look again.
            Change::Flush(Some(db)) => self.blocking.db_ready(*db),
            Change::Flush(None) => {
                self.flushed_all();
                (0..self.keyspace.databases()).for_each(|db| self.blocking.db_ready(db));
            }
        }
    }

    /// Whether effects are taken by anyone.
    #[inline]
    pub(super) fn propagating(&self) -> bool {
        self.keyspace.changes.listening & listener::PROPAGATION != 0
    }

    /// Adds a taker of effects.
    pub fn add_sink(&mut self, sink: Box<dyn Sink>) {
        self.propagation.sinks.push(sink);
        self.update_listeners();
    }

    /// Tells the change log who listens now.
    pub(super) fn update_listeners(&mut self) {
        let mut mask = 0;
        let mut listen = |on: bool, bits: u32| mask |= if on { bits } else { 0 };
        listen(!self.watches.is_empty(), listener::WATCH);
        listen(!self.blocking.is_empty(), listener::WAITERS);
        let taken = !self.propagation.sinks.is_empty() || self.aof.takes_effects();
        listen(taken && !self.is_loading(), listener::PROPAGATION);
        listen(self.aof.gating, listener::DURABILITY);
        listen(!self.tracking.is_empty(), listener::TRACKING);
        // Nobody is told of events on which nobody listens.
        listen(!self.pubsub.is_silent(), self.config.notify_keyspace_events.published());
        self.keyspace.changes.listening = mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::server::client::Peer;
    use crate::sys::background::Background;
    use crate::sys::clock::Clock;
    use std::sync::{Arc, Mutex};

    const START_MS: i64 = 1_767_225_600_000;

    /// Keeps what was propagated.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Sink for Kept {
        fn append(&mut self, bytes: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
    }

    /// A server with one client, and what it propagates.
    struct World {
        server: Server,
        slot: usize,
        kept: Kept,
    }

    impl World {
        fn new() -> World {
            crate::collections::hash::seed_hashes(7);
            let server = Server::new(Config::default(), Clock::fake(START_MS), 7, Background::inline());
            let (mut server, kept) = (server.unwrap(), Kept::default());
            server.propagation.sinks.push(Box::new(kept.clone()));
            server.update_listeners();
            let slot = server.accept(Peer { is_local: true, ..Peer::default() }).unwrap();
            World { server, slot, kept }
        }

        /// Runs inline requests and gives the commands that were propagated, each as one line.
        fn effects(&mut self, requests: &[&str]) -> Vec<String> {
            for request in requests {
                let input = &mut self.server.clients.get_mut(self.slot).unwrap().input;
                input.feed(format!("{request}\r\n").as_bytes());
                self.server.begin_turn();
                self.server.run(self.slot);
            }
            self.taken()
        }

        fn wait(&mut self, ms: u64) -> Vec<String> {
            self.server.clock.advance(ms * 1_000_000);
            self.server.begin_turn();
            while self.server.before_sleep() {}
            self.taken()
        }

        fn taken(&mut self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.kept.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            let commands = text.split('*').skip(1).map(|command| {
                let words = command.split("\r\n").skip(1).filter(|line| !line.starts_with('$'));
                words.collect::<Vec<_>>().join(" ").trim_end().to_string()
            });
            commands.collect()
        }
    }

    #[test]
    fn relative_times_propagate_as_absolute_ones() {
        let mut world = World::new();
        assert_eq!(
            world.effects(&["SET k v", "EXPIRE k 10"])[2],
            format!("PEXPIREAT k {}", START_MS + 10_000)
        );
        assert_eq!(world.effects(&["pexpire k 5 LT"]), [format!("PEXPIREAT k {} LT", START_MS + 5)]);
        assert_eq!(world.effects(&["EXPIRE k 10 LT", "EXPIRE none 1"]), [""; 0]);
        assert_eq!(world.effects(&["PERSIST k", "PERSIST k"]), ["PERSIST k"]);
        assert_eq!(world.effects(&["EXPIRE k -1"]), ["DEL k"]);
        world.effects(&["CONFIG SET lazyfree-lazy-expire yes", "SET k v"]);
        assert_eq!(world.effects(&["PEXPIREAT k 1"]), ["UNLINK k"]);
    }

    #[test]
    fn removals_of_the_keyspace_come_first_and_apart() {
        let mut world = World::new();
        world.effects(&["DEBUG SET-ACTIVE-EXPIRE 0"]);
        let set = ["SET a 1 PX 10", "SET b 1 PX 10", "SET c 1 PX 10"];
        world.effects(&set);
        assert_eq!(world.wait(20), [""; 0]);
        assert_eq!(world.effects(&["GET a"]), ["DEL a"]);
        world.effects(&["SET d 1 PX 10", "SET e 1 PX 10"]);
        world.wait(20);
        assert_eq!(world.effects(&["EXISTS d e"]), ["MULTI", "DEL d", "DEL e", "EXEC"]);
        assert_eq!(world.effects(&["SET b 2"]), ["MULTI", "DEL b", "SET b 2", "EXEC"]);
        assert_eq!(world.effects(&["SCAN 0 COUNT 100", "GET c"]), ["DEL c"]);
        world.effects(&set);
        world.effects(&["DEBUG SET-ACTIVE-EXPIRE 1"]);
        let mut removed = world.wait(20);
        removed.sort();
        assert_eq!(removed, ["DEL a", "DEL b", "DEL c"]);
    }

    #[test]
    fn in_a_transaction_removals_stand_where_they_happened() {
        let mut world = World::new();
        world.effects(&["SET other 1"]);
        let effects = world.effects(&["MULTI", "SET k 1 PXAT 1", "SET k 2 KEEPTTL", "EXEC"]);
        assert_eq!(effects.join("; "), "MULTI; SET k 1 PXAT 1; DEL k; SET k 2 KEEPTTL; EXEC");
        let effects = world.effects(&["MULTI", "SET a 1 PXAT 1", "SET b 1", "GET a", "EXEC"]);
        assert_eq!(effects.join("; "), "MULTI; SET a 1 PXAT 1; SET b 1; DEL a; EXEC");
    }

    #[test]
    fn commands_that_change_nothing_are_not_propagated_but_flushes_are() {
        let mut world = World::new();
        world.effects(&["SET a 1"]);
        assert_eq!(world.effects(&["DEL x", "RENAMENX a a", "COPY a a", "COPY x y", "MOVE a 0"]), [""; 0]);
        assert_eq!(world.effects(&["DEL a x"]), ["DEL a x"]);
        assert_eq!(world.effects(&["FLUSHDB", "FLUSHALL ASYNC"]), ["FLUSHDB", "FLUSHALL ASYNC"]);
        assert_eq!(
            world.effects(&["MULTI", "SET a 1", "GET a", "DEL a", "EXEC"]).join("; "),
            "MULTI; SET a 1; DEL a; EXEC"
        );
        assert_eq!(world.effects(&["SELECT 3", "SET a 1"]), ["SELECT 3", "SET a 1"]);
        assert_eq!(world.effects(&["DEBUG REPLICATE ONE two"]), ["ONE two"]);
    }
}
