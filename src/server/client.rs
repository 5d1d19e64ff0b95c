//! What one client is: its input and output, its database, and the parts that only some clients have. The
//! presence of a part is the flag. A client knows no socket.

use super::blocking::Blocked;
use super::durable::Held;
use super::limits::FREE_OUTPUT_BYTES;
use super::multi::{Multi, Watched};
use super::table::Command;
use crate::acl::User;
use crate::collections::prefetch;
use crate::config::{BufferLimit, Config};
use crate::pubsub::Subscriptions;
use crate::resp::{Input, Reply};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A client.
pub struct Client {
    /// Number, growing for ever.
    pub id: u64,
    /// Its place in [`Clients`].
    pub slot: usize,
    /// Selected database.
    pub db: usize,
    /// Protocol version, unparsed and unsent bytes.
    pub input: Input,
    /// What is to be sent.
    pub reply: Reply,
    /// Where it comes from.
    pub peer: Peer,
    /// Whether it has authenticated (or need not).
    pub authenticated: bool,
    /// The user it is; none may do everything.
    pub user: Option<Arc<User>>,
    /// Gates that are asked for this client's commands beside those that are armed for all.
    pub gates: u32,
    /// Whether keys are tracked for it.
    pub tracks: bool,
    /// What it is subscribed to.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_version: Vec<u8>,
    /// What it is for.
    pub role: Role,
    /// An open transaction.
    pub multi: Option<Box<Multi>>,
    /// Keys whose change fails the transaction.
    pub watched: Vec<Watched>,
    /// What it waits for.
    pub blocked: Option<Box<Blocked>>,
    /// Whether and when it is to be closed.
    pub close: Option<Close>,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// SCRIPT DEBUG.
    pub debug: DebugMode,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// When it connected, on the monotonic clock in milliseconds.
    pub created_ms: u64,
    /// When it last sent a command, on the same clock.
    pub active_ms: u64,
    /// The last command it sent.
    pub last_command: Option<&'static Command>,
    /// Commands it sent.
    pub commands: u64,
    /// Bytes it sent.
    pub bytes_in: u64,
    /// Bytes it was sent.
    pub bytes_out: u64,
    /// Input bytes waiting and input capacity, noted while its input is taken out to run.
    pub noted_input: (usize, usize),
    /// Room its input has taken lately, in its own or a lent buffer (qbuf + qbuf-free of CLIENT LIST).
    pub input_room: usize,
    /// The most room since its last check.
    pub input_room_peak: usize,
    /// Most output that waited since the peak was last forgotten: the reply buffer is sized by it.
    pub reply_peak: usize,
    /// When that was, on the monotonic clock in milliseconds.
    pub reply_peak_since_ms: u64,
    /// Since when its output is above the soft limit, on the monotonic clock in milliseconds.
    pub soft_limit_since_ms: Option<u64>,
    /// Runs of its output that wait for the log (see `durable.rs`).
    pub held: VecDeque<Held>,
    /// The log position behind its last write.
    pub log_position: u64,
    /// Whether it is on the list of clients with something to send.
    pub write_pending: bool,
    /// Memory it was last accounted with, in bytes.
    pub accounted_bytes: usize,
}

/// Where a connection comes from.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Remote address, `ip:port` or `path:0`.
    pub addr: String,
    /// Local address.
    pub laddr: String,
    /// The descriptor's number, for CLIENT LIST; -1 without one.
    pub fd: i32,
    /// Whether it came over a Unix socket.
    pub is_unix: bool,
    /// Whether it comes from this machine.
    pub is_local: bool,
}

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// Sends commands.
    #[default]
    Normal,
    /// Is shown all commands.
    Monitor,
    /// Has no connection: runs commands for the server itself.
    Internal,
    /// Has no connection: runs the commands of scripts.
    Script,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// At once; nothing more is sent.
    Now,
    /// When its reply is sent.
    AfterReply,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// Nothing is sent.
    Off,
    /// The next command's reply is not sent.
    SkipNext,
    /// This command's reply is not sent.
    Skip,
}

/// SCRIPT DEBUG: how EVAL runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DebugMode {
    /// As always.
    #[default]
    Off,
    /// In the debugger, in a forked process.
    Forked,
    /// In the debugger, in the server: everybody waits.
    Sync,
}

impl Client {
    /// A new client.
    pub fn new(id: u64, slot: usize, peer: Peer, now_ms: u64) -> Self {
        Client {
            id,
            slot,
            db: 0,
            input: Input::new(),
            reply: Reply::default(),
            peer,
            authenticated: false,
            user: None,
            gates: 0,
            tracks: false,
            subscriptions: None,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_version: Vec::new(),
            role: Role::Normal,
            multi: None,
            watched: Vec::new(),
            blocked: None,
            close: None,
            reply_mode: ReplyMode::On,
            debug: DebugMode::Off,
            no_evict: false,
            no_touch: false,
            created_ms: now_ms,
            active_ms: now_ms,
            last_command: None,
            commands: 0,
            bytes_in: 0,
            bytes_out: 0,
            noted_input: (0, 0),
            input_room: 0,
            input_room_peak: 0,
            reply_peak: 0,
            reply_peak_since_ms: now_ms,
            soft_limit_since_ms: None,
            held: VecDeque::new(),
            log_position: 0,
            write_pending: false,
            accounted_bytes: 0,
        }
    }

    /// Closes it at once if nothing else was decided.
    pub fn close_now(&mut self) {
        self.close = Some(Close::Now);
    }

    /// Arms or disarms a gate for this client.
    pub fn set_gate(&mut self, bit: u32, on: bool) {
        if on {
            self.gates |= bit;
        } else {
            self.gates &= !bit;
        }
    }

    /// Makes it a user. Rules are only asked where there are some.
    pub fn set_user(&mut self, user: Arc<User>) {
        self.set_gate(super::gate::bit::ACL, !user.is_unrestricted());
        self.user = Some(user);
    }

    /// Whether it may send commands: it has authenticated, or need not.
    pub fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
        self.set_gate(super::gate::bit::AUTH, !authenticated);
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Client>()
            + self.input.memory_bytes()
            + self.reply.memory_bytes()
            + self.name.capacity()
            + self.lib_name.capacity()
            + self.lib_version.capacity()
            + self.peer.addr.capacity()
            + self.peer.laddr.capacity()
            + self.multi.as_ref().map_or(0, |m| m.memory_bytes())
            + self.subscriptions.as_ref().map_or(0, |s| s.memory_bytes())
            + self.watched.iter().map(Watched::memory_bytes).sum::<usize>()
    }

    /// The limit of its output buffer.
    pub fn output_limit(&self, config: &Config) -> BufferLimit {
        match self.subscriptions {
            Some(_) => config.client_output_buffer_limit.pubsub,
            None => config.client_output_buffer_limit.normal,
        }
    }

    /// Bytes of output at which it is closed, whatever else happens.
    #[inline]
    pub fn output_max(&self, config: &Config) -> usize {
        match self.output_limit(config).hard {
            // Nobody is at the other end of a client of the server's own.
            0 => usize::MAX,
            _ if self.slot == usize::MAX => usize::MAX,
            hard => usize::try_from(hard).unwrap_or(usize::MAX).max(FREE_OUTPUT_BYTES + 1),
        }
    }

    /// Some output has left: if the rest is below the soft limit, its time begins anew.
    pub fn note_drained(&mut self, config: &Config) {
        if (self.reply.pending_bytes() as u64) < self.output_limit(config).soft {
            self.soft_limit_since_ms = None;
        }
    }
}

/// All clients. A running client is taken out of its slot and put back, so that it and the server can be
/// changed side by side.
#[derive(Default)]
pub struct Clients {
    slots: Slab<Option<Box<Client>>>,
    by_id: HashMap<u64, usize>,
    next_id: u64,
}

impl Clients {
    /// Adds a client.
    pub fn add(&mut self, peer: Peer, now_ms: u64) -> &mut Client {
        self.next_id += 1;
        let entry = self.slots.vacant_entry();
        let (id, slot) = (self.next_id, entry.key());
        self.by_id.insert(id, slot);
        entry.insert(Some(Box::new(Client::new(id, slot, peer, now_ms)))).as_mut().expect("just added")
    }

    /// An id for a client without a connection.
    pub fn internal(&mut self, now_ms: u64) -> Box<Client> {
        let mut client = Client::new(0, usize::MAX, Peer::default(), now_ms);
        client.role = Role::Internal;
        client.set_authenticated(true);
        Box::new(client)
    }

    /// Number of clients.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The client in a slot, unless it is running.
    pub fn get(&self, slot: usize) -> Option<&Client> {
        self.slots.get(slot)?.as_deref()
    }

    /// The client in a slot, unless it is running.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Client> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// Whether a slot is in use, also by a client that runs.
    pub fn holds(&self, slot: usize) -> bool {
        self.slots.contains(slot)
    }

    /// The slot of a client.
    pub fn slot_of(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// Brings the memory of a client that a push touches into the cache.
    #[inline]
    pub fn prefetch(&self, slot: usize) {
        if let Some(Some(client)) = self.slots.get(slot) {
            prefetch(&raw const client.close);
            prefetch(&raw const client.reply);
            prefetch(&raw const client.subscriptions);
            prefetch(&raw const client.bytes_out);
            prefetch(&raw const client.reply_peak);
        }
    }

    /// Then the place its output goes to.
    #[inline]
    pub fn prefetch_output(&self, slot: usize) {
        if let Some(Some(client)) = self.slots.get(slot) {
            let end = client.reply.end();
            prefetch(end);
            prefetch(end.wrapping_add(64));
        }
    }

    /// Takes a client out to run it. It must be put back.
    pub fn take(&mut self, slot: usize) -> Option<Box<Client>> {
        self.slots.get_mut(slot)?.take()
    }

    /// Puts a client back.
    pub fn put(&mut self, client: Box<Client>) {
        let slot = client.slot;
        let old = self.slots[slot].replace(client);
        assert!(old.is_none(), "a client that was taken out is put back once");
    }

    /// Removes a client that is in its slot.
    pub fn remove(&mut self, slot: usize) -> Option<Box<Client>> {
        if !self.slots.contains(slot) {
            return None;
        }
        let client = self.slots.remove(slot).expect("a client is not removed while it runs");
        self.by_id.remove(&client.id);
        Some(client)
    }

    /// All clients but the running one.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().filter_map(|(_, c)| c.as_deref())
    }

    /// All clients but the running one.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slots.iter_mut().filter_map(|(_, c)| c.as_deref_mut())
    }

    /// Slots in use, for walking with changes in between.
    pub fn slots(&self) -> Vec<usize> {
        self.slots.iter().map(|(slot, _)| slot).collect()
    }
}
