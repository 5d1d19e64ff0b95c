//! The reactor: one epoll loop that moves bytes between sockets and the server. The only user of mio.
//!
//! mio is edge-triggered: readiness is kept in flags that only `WouldBlock` (or a short read) clears. A
//! turn stops at a budget; what is left waits on the next-round list and the next poll does not sleep.
//! Closing is deferred to the end of a round, and tokens carry the client's number, so that an event for
//! a closed connection never reaches its successor.

mod connection;
mod listener;
mod outgoing;

use crate::config::Config;
use crate::server::client::Close;
use crate::server::input::Turn;
use crate::server::{NetOp, Server};
use crate::sys::signals::{Signal, Signals};
use crate::sys::wire::Wire;
use connection::{Connection, Flow};
use listener::Listeners;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::time::Duration;

/// Tokens from here on are not clients.
const SPECIAL: usize = usize::MAX - 64;
const SIGNALS: Token = Token(SPECIAL);
const BACKGROUND: Token = Token(SPECIAL + 1);
/// Listener `i` has token `LISTENERS + i`.
const LISTENERS: usize = SPECIAL + 2;
/// Events taken from one poll.
const EVENTS_MAX: usize = 1024;
/// Bytes read from one connection in one turn.
const READ_BUDGET: usize = 16 * 1024;
/// Low bits of a token: the slot; above them low bits of the client's number, to tell stale events.
const SLOT_BITS: u32 = 24;

/// The event loop.
pub struct Reactor {
    poll: Poll,
    server: Server,
    listeners: Listeners,
    connections: Vec<Option<Connection>>,
    signals: Signals,
    /// Slots whose turn comes in this round.
    round: Vec<usize>,
    /// Slots whose turn comes in the next round.
    next_round: Vec<usize>,
    /// The buffer lent to clients that have no input of their own.
    scratch: Vec<u8>,
    /// Listeners at which accepting failed, and when it is tried again (monotonic milliseconds).
    accept_again: Vec<usize>,
    accept_again_ms: u64,
    /// How the process ends: its status, or why it failed.
    exit: Option<Result<i32, String>>,
}

impl Reactor {
    /// Binds the configured addresses. The error names the address.
    pub fn new(server: Server, signals: Signals) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let mut listeners = Listeners::default();
        listeners.bind(&server.config, poll.registry())?;
        poll.registry().register(&mut SourceFd(&signals.fd()), SIGNALS, Interest::READABLE)?;
        let wake_fd = server.keyspace.background().wake_fd();
        poll.registry().register(&mut SourceFd(&wake_fd), BACKGROUND, Interest::READABLE)?;
        let mut reactor = Reactor {
            poll,
            server,
            listeners,
            connections: Vec::new(),
            signals,
            round: Vec::new(),
            next_round: Vec::new(),
            scratch: vec![0; READ_BUDGET],
            accept_again: Vec::new(),
            accept_again_ms: 0,
            exit: None,
        };
        reactor.describe_listeners();
        reactor.server.listen_check = listener::probe;
        reactor.server.open_wire = Some(|fd| Box::new(Wire::new(fd)));
        reactor.server.dial = outgoing::dial;
        reactor.server.set_process_title();
        Ok(reactor)
    }

    /// The server, for what has to be done before the loop runs.
    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Addresses that are listened on, for the log.
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.addresses()
    }

    /// Kinds of transport that are served, for the log.
    pub fn transports(&self) -> String {
        let descriptions = self.listeners.descriptions();
        let name = |d: &String| d.trim_start_matches("name=").split(',').next().unwrap_or("").to_string();
        descriptions.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    /// Runs until the server ends; returns the exit status, or why it failed.
    pub fn run(mut self) -> Result<i32, String> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while self.exit.is_none() {
            self.turn(&mut events);
        }
        self.exit.unwrap_or(Ok(0))
    }

    /// One turn: wait, take events, run the clients that are ready, do what falls due, send.
    fn turn(&mut self, events: &mut Events) {
        let busy = !self.next_round.is_empty() || self.server.has_urgent_work();
        let timeout_ms = if busy { 0 } else { self.server.sleep_ms() };
        if let Err(error) = self.poll.poll(events, Some(Duration::from_millis(timeout_ms)))
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!(target: "aikv", "poll failed: {error}");
        }
        self.server.begin_turn();
        let begin_ns = self.server.now.mono_ns;
        std::mem::swap(&mut self.round, &mut self.next_round);
        for event in events.iter() {
            self.take_event(event);
        }
        self.run_round();
        self.retry_accepts();
        self.server.step_loading();
        self.server.run_cron();
        self.server.before_sleep();
        self.resume_clients();
        // Before the replies: who is told that a port was changed finds it changed.
        self.do_net_ops();
        self.send_replies();
        self.close_clients();
        self.server.end_turn(begin_ns);
    }

    fn take_event(&mut self, event: &mio::event::Event) {
        match event.token() {
            SIGNALS => self.take_signals(),
            BACKGROUND => self.server.background_woke(),
            Token(token) if token >= LISTENERS => self.accept(token - LISTENERS),
            Token(token) => {
                let slot = token & ((1 << SLOT_BITS) - 1);
                let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
                    return;
                };
                if connection.token() != token {
                    return;
                }
                if event.is_writable() {
                    connection.writable = true;
                    if connection.blocked_on_write {
                        connection.blocked_on_write = false;
                        self.server.pending_writes.push(slot);
                    }
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    connection.readable = true;
                    connection.ended |= event.is_read_closed() || event.is_error();
                    connection.failed |= event.is_error();
                    self.enqueue(slot);
                }
            }
        }
    }

    /// Puts a client on this round's list once.
    fn enqueue(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut)
            && !connection.queued
        {
            connection.queued = true;
            self.round.push(slot);
        }
    }

    /// Puts a client on the next round's list once.
    fn enqueue_next(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut)
            && !connection.queued
        {
            connection.queued = true;
            self.next_round.push(slot);
        }
    }

    fn run_round(&mut self) {
        let mut round = std::mem::take(&mut self.round);
        for slot in round.drain(..) {
            let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { continue };
            connection.queued = false;
            self.run_client(slot);
        }
        self.round = round;
    }

    /// One client's turn: read once, run a batch.
    fn run_client(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        let Some(client) = self.server.clients.get_mut(slot) else { return };
        if client.close.is_some() {
            // What is still to be sent to it goes out as the socket takes it, unless nobody is there.
            if connection.failed {
                self.server.close_client(slot, Close::Now);
            }
            return;
        }
        // Input that was not run yet holds back further reading: a client cannot fill the memory by
        // sending faster than it is served. A blocked client is read on, to notice its end.
        if connection.readable && !client.input.has_more() {
            client.input.lend(&mut self.scratch);
            match connection.read(&mut client.input, READ_BUDGET) {
                Flow::Bytes(n) => {
                    client.bytes_in += n as u64;
                    self.server.stats.counters.net_input_bytes += n as u64;
                    self.server.stats.counters.reads += 1;
                    self.server.check_input_limit(slot);
                }
                Flow::Nothing => {}
                Flow::End => {
                    client.input.give_back(&mut self.scratch);
                    self.server.close_client(slot, Close::Now);
                    return;
                }
            }
        } else if connection.ended && client.blocked.is_some() {
            // It has gone while it waits; the requests it left behind are nobody's any more.
            self.server.close_client(slot, Close::Now);
            return;
        }
        let turn = self.server.run(slot);
        if let Some(client) = self.server.clients.get_mut(slot) {
            client.input.give_back(&mut self.scratch);
        }
        if self.scratch.is_empty() {
            // A client kept the buffer for its unfinished batch.
            self.scratch = vec![0; READ_BUDGET];
        }
        if turn == Turn::More || self.may_read_on(slot) {
            self.enqueue_next(slot);
        }
    }

    /// Whether there may be bytes to read, and reading on makes sense: not while requests wait that cannot
    /// run now. (The edge that told of the bytes will not come again.)
    fn may_read_on(&self, slot: usize) -> bool {
        let readable = self.connections[slot].as_ref().is_some_and(|c| c.readable);
        let client = || self.server.clients.get(slot);
        readable && client().is_some_and(|c| c.close.is_none() && !c.input.has_more())
    }

    /// Lets clients go on whose wait has ended.
    fn resume_clients(&mut self) {
        for slot in std::mem::take(&mut self.server.resumed) {
            self.enqueue_next(slot);
        }
    }

    fn send_replies(&mut self) {
        let mut slots = std::mem::take(&mut self.server.pending_writes);
        for slot in slots.drain(..) {
            self.send(slot);
        }
        // Who used up his budget is on the new list.
        slots.append(&mut self.server.pending_writes);
        self.server.pending_writes = slots;
    }

    fn send(&mut self, slot: usize) {
        let Some(client) = self.server.clients.get_mut(slot) else { return };
        client.write_pending = false;
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        if client.close == Some(Close::Now) {
            return;
        }
        let open = client.open_bytes(self.server.aof.durable());
        let result = connection.write(&mut client.reply, open);
        if let Ok(n) = result {
            client.bytes_out += n as u64;
            if n > 0 {
                client.active_ms = self.server.now.mono_ms();
                if client.soft_limit_since_ms.is_some() {
                    client.note_drained(&self.server.config);
                }
            }
            self.server.stats.counters.net_output_bytes += n as u64;
            self.server.stats.counters.writes += 1;
        }
        let sent = client.reply.is_empty();
        // What waits for the log is asked for again when the log is durable.
        let held = client.open_bytes(self.server.aof.durable()) == 0;
        connection.blocked_on_write = result.is_ok() && !sent && !connection.writable;
        if result.is_ok() && !sent && !held && connection.writable {
            // Its budget ended, not the room in the socket: there will be no event.
            client.write_pending = true;
            self.server.pending_writes.push(slot);
        }
        if result.is_err() || (sent && client.close == Some(Close::AfterReply)) {
            self.server.close_client(slot, Close::Now);
        }
    }

    fn close_clients(&mut self) {
        for slot in std::mem::take(&mut self.server.pending_closes) {
            if self.server.clients.get(slot).is_none_or(|c| c.close != Some(Close::Now)) {
                continue;
            }
            if let Some(connection) = self.connections.get_mut(slot).and_then(Option::take) {
                connection.close(self.poll.registry());
            }
            self.server.closed(slot);
        }
    }

    // ---- connecting ----

    fn accept(&mut self, listener: usize) {
        let budget = self.server.config.max_new_connections_per_cycle.max(ACCEPTS_MIN) as usize;
        for _ in 0..budget {
            match self.listeners.accept(listener) {
                Ok(Some((stream, peer))) => self.admit(stream, peer),
                Ok(None) => return,
                Err(error) => {
                    log::warn!(target: "aikv", "Accepting client connection: {error}");
                    // Descriptors or memory ran out: those who wait are asked again a little later.
                    self.accept_again.push(listener);
                    return;
                }
            }
        }
        // More may be waiting, and the edge will not come again.
        self.listeners.rearm(listener, self.poll.registry());
    }

    /// Accepts again where that failed.
    fn retry_accepts(&mut self) {
        let now_ms = self.server.now.mono_ms();
        if self.accept_again.is_empty() || now_ms < self.accept_again_ms {
            return;
        }
        self.accept_again_ms = now_ms + ACCEPT_RETRY_MS;
        for listener in std::mem::take(&mut self.accept_again) {
            self.accept(listener);
        }
    }

    fn admit(&mut self, stream: connection::Stream, peer: crate::server::client::Peer) {
        let slot = match self.server.accept(peer) {
            Ok(slot) => slot,
            Err(refused) => return connection::refuse(stream, refused),
        };
        let id = self.server.clients.get(slot).map_or(0, |c| c.id);
        let token = slot | (id as usize & ((1 << (62 - SLOT_BITS)) - 1)) << SLOT_BITS;
        assert!(slot < 1 << SLOT_BITS, "slots fit their bits");
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        match Connection::register(stream, token, &self.server.config, self.poll.registry()) {
            Ok(connection) => {
                self.connections[slot] = Some(connection);
                // Data may have come with the connection; the edge tells, but asking now saves a poll.
                self.enqueue_next(slot);
            }
            Err(error) => {
                log::warn!(target: "aikv", "Registering a connection: {error}");
                self.server.close_client(slot, Close::Now);
            }
        }
    }

    // ---- the rest ----

    fn take_signals(&mut self) {
        for signal in self.signals.take() {
            match signal {
                Signal::Hangup | Signal::User1 => crate::sys::log::request_reopen(),
                Signal::Interrupt | Signal::Terminate => self.server.shutdown_by_signal(signal),
            }
        }
    }

    fn do_net_ops(&mut self) {
        for op in std::mem::take(&mut self.server.net_ops) {
            match op {
                NetOp::Exit(status) => {
                    // Before its clients notice: who comes again finds nobody.
                    self.listeners.remove_socket_files();
                    self.listeners = Listeners::default();
                    self.exit = Some(Ok(status));
                }
                NetOp::Fail(failure) => self.exit = Some(Err(failure)),
                NetOp::Rebind => self.rebind(),
            }
        }
    }

    /// Listens on the addresses that are configured now (CONFIG SET has tried them). If that fails all the
    /// same, the old ones and their options are taken again.
    fn rebind(&mut self) {
        let result = self.listen(self.server.config.clone());
        if let Err(error) = result {
            log::error!(target: "aikv", "Changing listeners: {error}");
            let config = &mut self.server.config;
            (config.port, config.bind) = (self.server.process.port, self.server.process.bind.clone());
            if let Err(error) = self.listen(self.server.config.clone()) {
                log::error!(target: "aikv", "Listening again: {error}");
            }
        }
        self.describe_listeners();
    }

    fn listen(&mut self, config: Config) -> io::Result<()> {
        let mut fresh = Listeners::default();
        let result = fresh.rebind(&mut self.listeners, &config, self.poll.registry());
        self.listeners = fresh;
        result
    }

    fn describe_listeners(&mut self) {
        let process = &mut self.server.process;
        process.listeners = self.listeners.descriptions();
        process.addresses = self.listeners.tcp_addresses();
        process.port = self.server.config.port;
        process.bind = self.server.config.bind.clone();
    }
}

/// Connections accepted per event at least.
const ACCEPTS_MIN: u32 = 10;
/// Milliseconds after which a failed accept is tried again.
const ACCEPT_RETRY_MS: u64 = 100;
