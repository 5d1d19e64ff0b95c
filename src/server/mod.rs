//! The server without I/O: bytes in, bytes out, the clock handed in. It holds the parts and joins them; it
//! knows no socket. `net` (or a test) accepts clients, feeds their input, runs their turns, and sends what
//! [`Server::pending_writes`] names.

mod access;
pub mod aof;
pub mod blocking;
pub mod call;
pub mod child;
pub mod client;
pub mod commands;
pub mod cron;
pub mod debugger;
pub mod defrag;
pub mod durable;
pub mod gate;
pub mod input;
pub mod limits;
pub mod load;
pub mod memory;
pub mod multi;
pub mod outgoing;
mod push;
pub mod replay;
pub mod script;
pub mod snapshot;
pub mod table;
pub mod title;
mod track;
mod tuning;
pub mod unit;

use crate::acl::{Acl, Catalog};
use crate::command::Propagate;
use crate::command::spec::Flags;
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::access::AccessClock;
use crate::pubsub::Pubsub;
use crate::resp::Args;
use crate::stats::Stats;
use crate::sys::background::Background;
use crate::sys::clock::Clock;
use crate::tracking::Tracking;
use blocking::Blocking;
use client::{Client, Clients, Close, Peer};
use multi::Watches;
use std::net::SocketAddr;
use table::{Command, Table};
use unit::{Propagation, Unit};

/// The level of Redis that AiKv answers, by which clients decide what they may use.
pub const REDIS_VERSION: &str = "7.4.1";
/// AiKv's own version.
pub const AIKV_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a server command sees.
pub struct ServerCtx<'a> {
    /// The server.
    pub server: &'a mut Server,
    /// The client that runs it, out of its slot.
    pub client: &'a mut Client,
    /// Arguments, name first.
    pub args: Args<'a>,
    /// The row.
    pub command: &'static Command,
    /// How the effect propagates.
    pub propagate: Propagate,
}

/// The time, as of the last reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic nanoseconds.
    pub mono_ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

impl Now {
    /// Monotonic milliseconds.
    pub fn mono_ms(&self) -> u64 {
        self.mono_ns / 1_000_000
    }
}

/// CLIENT PAUSE.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// All commands wait; else only writes.
    pub all: bool,
    /// Milliseconds since 1970 at which it ends.
    pub until_ms: i64,
}

/// What `net` is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum NetOp {
    /// Listeners change: `port`, `bind` or a socket option was set.
    Rebind,
    /// The process ends with this status.
    Exit(i32),
    /// The process ends because of this failure.
    Fail(String),
}

/// A server.
pub struct Server {
    /// Options.
    pub config: Config,
    /// Data.
    pub keyspace: Keyspace,
    /// Connected clients.
    pub clients: Clients,
    /// Command rows.
    pub table: Table,
    /// The running unit.
    pub unit: Unit,
    /// Who waits for keys.
    pub blocking: Blocking,
    /// Who watches keys.
    pub watches: Watches,
    /// Users and what they may do.
    pub acl: Acl,
    /// Who is subscribed to what.
    pub pubsub: Pubsub,
    /// Who is told when which keys change.
    pub tracking: Tracking,
    /// Scripts and functions.
    pub runner: script::Runner,
    /// Takers of effects.
    pub propagation: Propagation,
    /// What is counted.
    pub stats: Stats,
    /// Active defragmentation.
    pub defrag: defrag::Defrag,
    /// The clock.
    pub clock: Clock,
    /// Its last reading.
    pub now: Now,
    /// Slots of clients with something to send.
    pub pending_writes: Vec<usize>,
    /// Slots of clients to be closed at once.
    pub pending_closes: Vec<usize>,
    /// Slots of clients whose waiting input may run.
    pub resumed: Vec<usize>,
    /// The append-only log.
    pub aof: aof::Aof,
    /// Which keys have writes that are not durable yet.
    pub unsynced: durable::Unsynced,
    /// Slots of clients with output that waits for the log.
    pub gated: Vec<usize>,
    /// The log that is being loaded; out of its place while a step of it runs.
    pub replay: Option<Box<replay::Replay>>,
    /// Whether a log is being loaded.
    pub replaying: bool,
    /// Things for `net` to do.
    pub net_ops: Vec<NetOp>,
    /// Slots of clients that are shown all commands (see `commands/monitor.rs`).
    pub monitors: Vec<usize>,
    /// CLIENT PAUSE.
    pub pause: Option<Pause>,
    /// Slots of clients that wait for the end of a pause.
    pub postponed: Vec<usize>,
    /// What is known of snapshots.
    pub snapshots: snapshot::Snapshots,
    /// The child that writes a snapshot or rewrites the log.
    pub child: Option<child::Child>,
    /// The loading of data that is under way.
    pub loading: Option<Box<load::Loading>>,
    /// To be called when the data is loaded.
    on_ready: Option<Box<dyn FnOnce() + Send>>,
    /// A signal that asked for the end of the process.
    shutdown_asked: Option<crate::sys::signals::Signal>,
    /// Why writes are refused, if they are.
    pub disk_error: Option<String>,
    /// Where the process stands.
    pub process: Process,
    /// Says whether the configured addresses can be listened on, given those that are listened on now.
    pub listen_check: ListenCheck,
    /// The way past the event loop to a client, for the debugger of scripts.
    pub open_wire: Option<debugger::OpenWire>,
    /// Connects to another server; `net` gives it.
    pub dial: outgoing::Dial,
    /// Connections to other servers that wait for their next use.
    pub links: outgoing::Links,
    /// Memory figures.
    pub memory: memory::Memory,
    /// Peak sizes that CLIENT and INFO show.
    pub peaks: limits::Peaks,
    /// Whether keys go at their time by themselves (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: bool,
    /// What DEBUG has set.
    pub debug: commands::debug::Debug,
    /// Gates that are asked.
    armed: u32,
    /// Commands at least this long are looked at by the slow log and the latency monitor.
    slow_ns: u64,
    /// Wall time minus monotonic time, in nanoseconds.
    wall_offset_ns: i64,
    cron: cron::Cron,
    batch: Vec<input::Prepared>,
    /// Changes to keys that the running client watches: it is marked when it is put back.
    late_changes: Vec<crate::keyspace::change::Change>,
    /// Pushes to clients that are running.
    late_pushes: Vec<push::Late>,
}

/// What does not change while the process runs, or comes from outside.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Forty hex digits, new at each start.
    pub run_id: String,
    /// The executable.
    pub executable: String,
    /// Its out-of-memory score before `oom-score-adj` changed it.
    pub oom_base: Option<i32>,
    /// The name it was started by.
    pub called_as: String,
    /// The configuration file, or empty.
    pub config_file: String,
    /// The TCP port that is listened on.
    pub port: u16,
    /// Milliseconds since 1970 of the start.
    pub started_ms: i64,
    /// Monotonic milliseconds of the start.
    pub started_mono_ms: u64,
    /// Descriptions of the listeners for INFO.
    pub listeners: Vec<String>,
    /// TCP addresses that are listened on.
    pub addresses: Vec<SocketAddr>,
    /// The option `bind` as it is in effect.
    pub bind: Vec<String>,
    /// Why the process ends, when that is a failure.
    pub failure: Option<String>,
}

/// Tries whether addresses can be listened on; `net` gives it to the server.
pub type ListenCheck = fn(&Config, &[SocketAddr]) -> std::io::Result<()>;

/// Why a connection is refused: the bytes to send before it is closed.
pub type Refused = &'static [u8];

impl Server {
    /// A server with empty databases. `seed` makes its random choices repeatable. The error says what is
    /// wrong with a rename-command directive.
    pub fn new(config: Config, clock: Clock, seed: u64, background: Background) -> Result<Server, String> {
        let table = Table::new(&config.renamed_commands).map_err(|(name, error)| match error {
            table::RenameError::Unknown => format!("No such command in rename-command: {name}"),
            table::RenameError::Taken => format!("Target command name already exists: {name}"),
        })?;
        let access = AccessClock::new(memory::access_policy(&config), clock.wall_ms());
        let keyspace = Keyspace::new(config.databases as usize, access, seed, background);
        let acl = Acl::new(Catalog::new(table.rows().iter().map(|c| c.spec).collect()));
        let stats = Stats::new(table.rows().len());
        let runner = script::Runner::new(config.lua_memory_limit as usize, seed);
        let mut server = Server {
            config,
            keyspace,
            clients: Clients::default(),
            table,
            unit: Unit::default(),
            blocking: Blocking::default(),
            watches: Watches::default(),
            acl,
            pubsub: Pubsub::default(),
            tracking: Tracking::default(),
            runner,
            propagation: Propagation::default(),
            stats,
            defrag: defrag::Defrag::default(),
            clock,
            now: Now::default(),
            pending_writes: Vec::new(),
            pending_closes: Vec::new(),
            resumed: Vec::new(),
            aof: aof::Aof::default(),
            unsynced: durable::Unsynced::default(),
            gated: Vec::new(),
            replay: None,
            replaying: false,
            net_ops: Vec::new(),
            monitors: Vec::new(),
            pause: None,
            postponed: Vec::new(),
            snapshots: snapshot::Snapshots::default(),
            child: None,
            loading: None,
            on_ready: None,
            shutdown_asked: None,
            disk_error: None,
            process: Process::default(),
            listen_check: |_, _| Ok(()),
            open_wire: None,
            dial: outgoing::no_network,
            links: outgoing::Links::default(),
            memory: memory::Memory::default(),
            peaks: limits::Peaks {
                reply_peak_reset_ms: Some(limits::PEAK_RESET_MS),
                ..limits::Peaks::default()
            },
            active_expire: true,
            debug: commands::debug::Debug::default(),
            armed: 0,
            slow_ns: u64::MAX,
            wall_offset_ns: 0,
            cron: cron::Cron::default(),
            batch: Vec::new(),
            late_changes: Vec::new(),
            late_pushes: Vec::new(),
        };
        server.begin(seed)?;
        Ok(server)
    }

    /// What a new server begins with.
    fn begin(&mut self, seed: u64) -> Result<(), String> {
        self.begin_turn();
        let mut rng = crate::util::rng::Rng::from_seed(seed);
        self.process.run_id = crate::util::rng::random_hex(&mut rng, 40);
        self.process.started_ms = self.now.wall_ms;
        self.process.started_mono_ms = self.now.mono_ms();
        self.apply_all();
        self.load_users()?;
        self.memory.startup = crate::sys::alloc::used_memory();
        Ok(())
    }

    /// Reads both clocks: called once per turn of the loop.
    pub fn begin_turn(&mut self) {
        let mono_ns = self.clock.mono_ns();
        self.wall_offset_ns = self.clock.wall_us() * 1000 - mono_ns as i64;
        self.now = Now { mono_ns, wall_ms: self.wall_at(mono_ns) };
    }

    /// Reads the monotonic clock: called once per command.
    #[inline]
    pub(crate) fn read_clock(&mut self) {
        let mono_ns = self.clock.mono_ns();
        self.now = Now { mono_ns, wall_ms: self.wall_at(mono_ns) };
    }

    #[inline]
    fn wall_at(&self, mono_ns: u64) -> i64 {
        ((mono_ns as i64 + self.wall_offset_ns) as u64 / 1_000_000) as i64
    }

    /// Microseconds since 1970 that a command answers: the time stands still while a script runs.
    pub fn answered_wall_us(&self) -> i64 {
        match &self.runner.scripts.run {
            Some(run) => (run.since_ns as i64 + self.wall_offset_ns) / 1000,
            None => self.clock.wall_us(),
        }
    }

    /// Counts a turn of the loop that began at `begin_ns`.
    pub fn end_turn(&mut self, begin_ns: u64) {
        self.read_clock();
        let us = (self.now.mono_ns - begin_ns) / 1000;
        let commands = std::mem::take(&mut self.unit.commands);
        let counters = &mut self.stats.counters;
        counters.loop_turns += 1;
        counters.loop_us += us;
        counters.loop_us_max = counters.loop_us_max.max(us);
        counters.commands += commands;
        counters.loop_commands_max = counters.loop_commands_max.max(commands);
        counters.loop_command_us += std::mem::take(&mut self.unit.command_ns) / 1000;
    }

    /// Whether the loop should go on without waiting.
    pub fn has_urgent_work(&self) -> bool {
        self.runner.is_parked()
            || self.memory.evicting
            || self.is_loading()
            || self.aof.is_holding()
            || !self.resumed.is_empty()
            || !self.pending_writes.is_empty()
    }

    /// The background thread has finished something.
    pub fn background_woke(&mut self) {
        for completion in self.keyspace.background().completions() {
            self.log_job_ended(completion);
        }
        self.answer_freed();
    }

    /// Whether data is being loaded.
    pub fn is_loading(&self) -> bool {
        self.loading.is_some() || self.replaying
    }

    // ---- clients ----

    /// A client connects. Refusals are the bytes it is sent before it is closed.
    pub fn accept(&mut self, peer: Peer) -> Result<usize, Refused> {
        if self.clients.len() >= self.config.maxclients as usize {
            self.stats.counters.rejected_connections += 1;
            return Err(b"-ERR max number of clients reached\r\n");
        }
        let unprotected = self.acl.default_user().nopass;
        if self.config.protected_mode && unprotected && !peer.is_local && !peer.is_unix {
            self.stats.counters.rejected_connections += 1;
            return Err(PROTECTED_MODE);
        }
        self.stats.counters.connections += 1;
        log::debug!(target: "aikv", "New connection from {}", peer.addr);
        let now_ms = self.now.mono_ms();
        let slot = self.clients.add(peer, now_ms).slot;
        let mut client = self.clients.take(slot).expect("just added");
        self.be_default_user(&mut client);
        self.clients.put(client);
        Ok(slot)
    }

    /// A client's connection ended.
    pub fn closed(&mut self, slot: usize) {
        let Some(mut client) = self.clients.take(slot) else { return };
        log::debug!(target: "aikv", "Closed connection from {}", client.peer.addr);
        self.forget(&mut client);
        self.clients.put(client);
        self.clients.remove(slot);
    }

    /// Takes a client out of everything that refers to it.
    fn forget(&mut self, client: &mut Client) {
        self.release(client);
        self.watches.unwatch(client);
        self.end_monitoring(client);
        self.end_subscriptions(client);
        self.end_tracking(client);
        self.late_pushes.retain(|push| push.slot != client.slot);
        self.postponed.retain(|slot| *slot != client.slot);
        self.resumed.retain(|slot| *slot != client.slot);
        self.pending_writes.retain(|slot| *slot != client.slot);
        self.gated.retain(|slot| *slot != client.slot);
        self.memory.clients_bytes = self.memory.clients_bytes.saturating_sub(client.accounted_bytes);
        self.update_listeners();
    }

    /// Notes that a client has something to send.
    #[inline]
    pub(crate) fn queue_write(&mut self, client: &mut Client) {
        if !client.write_pending && client.slot != usize::MAX {
            client.write_pending = true;
            self.pending_writes.push(client.slot);
        }
    }

    /// Adds bytes to the output of a client that is not running, unless it is about to be closed.
    pub fn send_to(&mut self, slot: usize, bytes: &[u8]) {
        if self.clients.get(slot).is_none_or(|c| c.close.is_some()) {
            return;
        }
        let Some(mut client) = self.clients.take(slot) else { return };
        client.reply.raw(bytes);
        self.queue_write(&mut client);
        self.check_output_limit(&mut client);
        self.clients.put(client);
    }

    /// Closes a client that is not running. From now on it takes part in nothing: a key it waited for goes
    /// to the next client, and no command is shown to it.
    pub fn close_client(&mut self, slot: usize, how: Close) {
        let Some(mut client) = self.clients.take(slot) else { return };
        client.close = Some(how);
        if how == Close::Now || client.reply.is_empty() {
            client.close = Some(Close::Now);
            self.release(&mut client);
            self.end_monitoring(&mut client);
            self.end_subscriptions(&mut client);
            self.pending_closes.push(slot);
        }
        self.clients.put(client);
    }

    /// Checks what must always hold between parts.
    #[cfg(debug_assertions)]
    fn check_invariants(&self) {
        assert_eq!(self.unit.depth, 0, "a unit ended");
        self.keyspace.check_invariants();
    }
}

/// Stands for a secret.
const REDACTED: &[u8] = b"(redacted)";

/// The arguments as they may be shown: secrets are cut. Of a command whose usage has words like `AUTH`
/// (HELLO, MIGRATE) only what follows such a word is a secret, of others all arguments are.
pub(crate) fn redact(command: &Command, args: Args<'_>) -> Vec<Vec<u8>> {
    let mut shown: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
    if command.is(Flags::SENSITIVE_OPTIONS) {
        for pair in shown[2.min(args.len())..].chunks_mut(2) {
            if crate::config::lookup(&pair[0]).is_some_and(|option| option.has(crate::config::SENSITIVE)) {
                pair.iter_mut().skip(1).for_each(|value| *value = REDACTED.to_vec());
            }
        }
    }
    if !command.is(Flags::SENSITIVE) {
        return shown;
    }
    let usage = command.spec.usage;
    let secrets_behind = |arg: &[u8]| {
        let word = ["AUTH2", "AUTH"].into_iter().find(|word| arg.eq_ignore_ascii_case(word.as_bytes()))?;
        let (_, behind) = usage.split_once(&format!("{word} "))?;
        // The words up to the end of the bracket or alternative.
        Some(behind.split([']', '|']).next()?.split_whitespace().count())
    };
    let first = 1 + usize::from(command.spec.container().is_some());
    let mut hide = if usage.contains("AUTH ") { 0 } else { usize::MAX };
    for arg in shown.iter_mut().skip(first) {
        if hide > 0 {
            *arg = REDACTED.to_vec();
            hide -= 1;
        } else {
            hide = secrets_behind(arg).unwrap_or(0);
        }
    }
    shown
}

/// Sent to a remote client when neither a password nor an open mode was configured.
const PROTECTED_MODE: &[u8] =
    b"-DENIED Redis is running in protected mode because protected mode is enabled \
and no password is set for the default user. In this mode connections are only accepted from the loopback \
interface. To connect from other computers, either set a password (requirepass), or allow it from this \
machine with CONFIG SET protected-mode no, or in the configuration file, or start the server with \
--protected-mode no.\r\n";
