//! Admission: what may keep a command from running, as one ordered table of small functions. A bit mask
//! says which gates are armed; an unarmed gate costs nothing.

use super::Server;
use super::access;
use super::client::{Client, Role};
use super::table::Command;
use crate::command::error::{self, CmdError};
use crate::command::spec::Flags;
use crate::resp::{Args, Proto};

/// Gates, as bits of [`Server::armed`] and, where they hang on the client, of [`Client::gates`].
pub mod bit {
    /// Clients have to authenticate.
    pub const AUTH: u32 = 1 << 0;
    /// Data is being loaded.
    pub const LOADING: u32 = 1 << 1;
    /// There is a memory limit.
    pub const MEMORY: u32 = 1 << 2;
    /// The disk failed.
    pub const DISK: u32 = 1 << 3;
    /// Clients are paused.
    pub const PAUSE: u32 = 1 << 4;
    /// There are clients that monitor.
    pub const MONITORS: u32 = 1 << 5;
    /// The client is subscribed to something.
    pub const SUBSCRIBED: u32 = 1 << 6;
    /// There are clients that track.
    pub const TRACKING: u32 = 1 << 7;
    /// The client's user may not do everything.
    pub const ACL: u32 = 1 << 8;
    /// A script has run for long.
    pub const BUSY: u32 = 1 << 9;
}

/// Why a command does not run now.
pub enum Reject {
    /// It is answered with an error.
    Error(CmdError),
    /// It is run later: the client's input waits.
    Postpone,
}

type Gate = fn(&mut Server, &Client, &Command, &Args<'_>) -> Result<(), Reject>;

/// All gates in the order in which they are asked.
const GATES: &[(u32, Gate)] = &[
    (bit::AUTH, authenticated),
    (bit::ACL, access::permitted),
    (bit::MEMORY, memory),
    (bit::TRACKING, tracking_table),
    (bit::DISK, disk),
    (bit::SUBSCRIBED, subscribed),
    (bit::LOADING, loading),
    (bit::BUSY, busy_script),
    (bit::MONITORS, no_monitor),
    (bit::PAUSE, paused),
];

impl Server {
    /// Asks all armed gates.
    #[inline]
    pub(super) fn admit(
        &mut self,
        client: &Client,
        command: &Command,
        args: &Args<'_>,
    ) -> Result<(), Reject> {
        if self.armed | client.gates == 0 {
            return Ok(());
        }
        self.ask_gates(client, command, args)
    }

    /// Whether any gate is armed for this client.
    #[inline]
    pub(super) fn has_gates(&self, client: &Client) -> bool {
        self.armed | client.gates != 0
    }

    fn ask_gates(&mut self, client: &Client, command: &Command, args: &Args<'_>) -> Result<(), Reject> {
        let armed = self.armed | client.gates;
        for (bit, gate) in GATES {
            if armed & bit != 0 {
                gate(self, client, command, args)?;
            }
        }
        Ok(())
    }

    /// Asks the gates that count for a command of a transaction when it runs.
    pub(super) fn admit_queued(
        &mut self,
        client: &Client,
        command: &Command,
        args: &Args<'_>,
    ) -> Result<(), Reject> {
        // What the log holds ran once, and was admitted then.
        if client.role == Role::Internal {
            return Ok(());
        }
        if client.gates & bit::ACL != 0 {
            access::still_permitted(self, client, command, args)?;
        }
        // The disk was asked for the whole transaction, when EXEC came.
        let for_exec = bit::PAUSE | bit::MEMORY | bit::MONITORS | bit::TRACKING | bit::SUBSCRIBED;
        let when_run = self.armed & !(for_exec | bit::BUSY | bit::DISK);
        GATES
            .iter()
            .filter(|(bit, _)| when_run & bit != 0)
            .try_for_each(|(_, gate)| gate(self, client, command, args))
    }

    /// Asks the gates that count for a command of a script. Those about the state of the server no longer
    /// count once the script has written (`wrote`).
    pub(super) fn admit_in_script(
        &mut self,
        client: &Client,
        command: &Command,
        args: &Args<'_>,
        wrote: bool,
    ) -> Result<(), Reject> {
        if client.gates & bit::ACL != 0 {
            access::permitted_in_script(self, client, command, args)?;
        }
        if wrote || self.armed & bit::DISK == 0 || !command.is(Flags::WRITE) {
            Ok(())
        } else {
            self.no_disk()
        }
    }

    /// The refusal because of the disk, if there is a reason.
    fn no_disk(&self) -> Result<(), Reject> {
        match &self.disk_error {
            Some(reason) => Err(Reject::Error(CmdError::text(reason.clone()))),
            None => Ok(()),
        }
    }

    /// Whether the client's user may run a command (`redis.acl_check_cmd`).
    pub(super) fn may_run(&self, client: &Client, command: &Command, args: &Args<'_>) -> bool {
        let user = client.user.as_ref();
        user.is_none_or(|user| user.check(command.id, command.spec, args).is_ok())
    }

    /// Asks the gate that counts for a command that has waited: its user may have changed meanwhile.
    pub(super) fn admit_again(
        &mut self,
        client: &Client,
        command: &Command,
        args: Args<'_>,
    ) -> Result<(), Reject> {
        if client.gates & bit::ACL == 0 { Ok(()) } else { access::permitted(self, client, command, &args) }
    }

    /// Arms or disarms a gate.
    pub fn arm(&mut self, bit: u32, on: bool) {
        if on {
            self.armed |= bit;
        } else {
            self.armed &= !bit;
        }
    }

    /// Arms the gates that follow from the configuration.
    pub fn arm_from_config(&mut self) {
        self.arm(bit::MEMORY, self.config.maxmemory > 0);
    }
}

/// Whether the command is EXEC and would run such a one.
fn any_queued(client: &Client, command: &Command, is_one: impl Fn(&Command) -> bool) -> bool {
    let queue = client.multi.as_ref().map_or(&[][..], |multi| &multi.queue);
    command.is(Flags::EXEC) && queue.iter().any(|queued| is_one(queued.command))
}

fn authenticated(
    server: &mut Server,
    client: &Client,
    command: &Command,
    _: &Args<'_>,
) -> Result<(), Reject> {
    if client.authenticated || command.is(Flags::NO_AUTH) || !server.must_authenticate() {
        return Ok(());
    }
    Err(Reject::Error(error::NO_AUTH))
}

/// Makes room before commands that may need it, and refuses those that add data when there is none.
fn memory(server: &mut Server, client: &Client, command: &Command, _: &Args<'_>) -> Result<(), Reject> {
    if server.runner.scripts.is_busy() {
        // Nothing may change the data beside the script.
        return Ok(());
    }
    let enough = server.make_room();
    server.memory.exhausted = !enough;
    if enough {
        return Ok(());
    }
    let queued_denyoom = || any_queued(client, command, |queued| queued.is(Flags::DENYOOM));
    // Queuing grows memory too: inside MULTI everything but the end of it is refused.
    let queuing = client.multi.is_some() && !command.is(Flags::IMMEDIATE_IN_MULTI);
    if command.is(Flags::DENYOOM) || queuing || queued_denyoom() {
        return Err(Reject::Error(error::OOM));
    }
    Ok(())
}

/// Not a refusal: the table of tracked keys is kept at its limit.
fn tracking_table(server: &mut Server, _: &Client, _: &Command, _: &Args<'_>) -> Result<(), Reject> {
    server.limit_tracking_table();
    Ok(())
}

/// In RESP2 a subscribed client cannot tell a reply from a message: it may only change its subscriptions.
fn subscribed(_: &mut Server, client: &Client, command: &Command, _: &Args<'_>) -> Result<(), Reject> {
    if client.reply.proto == Proto::Resp3 || command.is(Flags::PUBSUB_OK) {
        return Ok(());
    }
    Err(Reject::Error(CmdError::text(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context",
        command.spec.name
    ))))
}

/// What writes is refused while the disk does not take it, and what asks whether the server is well.
fn disk(server: &mut Server, client: &Client, command: &Command, _: &Args<'_>) -> Result<(), Reject> {
    let writes = command.is(Flags::WRITE) || any_queued(client, command, |queued| queued.is(Flags::WRITE));
    if writes || command.is(Flags::ASKS_HEALTH) { server.no_disk() } else { Ok(()) }
}

fn loading(_: &mut Server, _: &Client, command: &Command, _: &Args<'_>) -> Result<(), Reject> {
    if command.is(Flags::LOADING) {
        return Ok(());
    }
    Err(Reject::Error(LOADING))
}

/// Data is not complete yet.
const LOADING: CmdError = CmdError::new("LOADING Redis is loading the dataset in memory");

/// While a script runs for long, only what can end it is served, and what changes no data.
fn busy_script(server: &mut Server, _: &Client, command: &Command, _: &Args<'_>) -> Result<(), Reject> {
    if command.is(Flags::ALLOW_BUSY) {
        return Ok(());
    }
    Err(Reject::Error(server.runner.busy_error()))
}

/// A client that monitors is no client of the data any more.
fn no_monitor(_: &mut Server, client: &Client, command: &Command, _: &Args<'_>) -> Result<(), Reject> {
    let on_data = Flags::WRITE | Flags::READONLY | Flags::MAY_REPLICATE;
    if client.role != Role::Monitor || !command.spec.flags.any(on_data) {
        return Ok(());
    }
    Err(Reject::Error(MONITOR_ON_DATA))
}

/// A command on keys from a client that monitors (Redis counts such clients among the replicas).
const MONITOR_ON_DATA: CmdError = CmdError::new("ERR Replica can't interact with the keyspace");

fn paused(server: &mut Server, client: &Client, command: &Command, _: &Args<'_>) -> Result<(), Reject> {
    let writes = |c: &Command| c.is(Flags::WRITE) || c.is(Flags::MAY_REPLICATE);
    let queued_writes = || any_queued(client, command, writes);
    // Queuing does nothing yet; what counts is what EXEC runs.
    let queuing = client.multi.is_some() && !command.is(Flags::IMMEDIATE_IN_MULTI);
    let held = match server.pause {
        Some(pause) if pause.all => !command.is(Flags::PAUSE_OK),
        Some(_) => !queuing && (writes(command) || queued_writes()),
        None => false,
    };
    if held { Err(Reject::Postpone) } else { Ok(()) }
}
