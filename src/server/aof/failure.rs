//! When the disk does not take the log: what the operator and the clients are told, whose connection ends,
//! and how it goes on. The states are described in `mod.rs`.

use super::State;
use crate::aof::log::LogFile;
use crate::server::Server;
use crate::server::client::Close;
use std::io;

/// Milliseconds after which a failed write is tried again.
const RETRY_MS: u64 = 1000;

/// What is wrong with the log.
#[derive(Debug)]
pub enum Failure {
    /// The last write did not come through; nothing of it is in the file.
    Write(io::Error),
    /// The file may have lost what was written to it.
    Broken(io::Error),
}

impl Failure {
    /// The failure of a write to a file.
    pub fn of_write(file: Option<&LogFile>, error: io::Error) -> Failure {
        match file {
            Some(file) if !file.is_broken() => Failure::Write(error),
            _ => Failure::Broken(error),
        }
    }

    /// The system's error.
    pub fn error(&self) -> &io::Error {
        match self {
            Failure::Write(error) | Failure::Broken(error) => error,
        }
    }
}

impl Server {
    /// The log cannot be written: writes are refused from now on. Clients who wait for a write of theirs to
    /// become durable are cut off: nobody can tell them what became of it. Who only read goes on.
    pub(super) fn log_failed(&mut self, failure: Failure) {
        let text = crate::util::text::plain_error(failure.error());
        match &failure {
            Failure::Write(_) => log::error!(
                target: "aikv",
                "Failed to persist data: writing the append-only log: {text}. Writes are refused until it \
                 works again."
            ),
            Failure::Broken(_) => log::error!(
                target: "aikv",
                "Failed to persist data: syncing the append-only log: {text}. Writes are refused until a \
                 rewrite (BGREWRITEAOF) succeeds."
            ),
        }
        if matches!(failure, Failure::Broken(_)) {
            if self.aof.file.as_ref().is_some_and(|file| file.is_broken()) {
                self.aof.buffer.clear();
            }
            self.aof.rewrite.schedule();
        }
        let was_gating = self.aof.gating;
        let worse = !matches!((&self.aof.failure, &failure), (Some(Failure::Broken(_)), Failure::Write(_)));
        if worse {
            self.aof.failure = Some(failure);
        }
        self.aof.last_sync_ms = self.now.mono_ms();
        if was_gating {
            self.cut_off_writers();
        }
        self.update_durability();
        self.update_disk_gate();
    }

    /// Ends the connections of clients whose write was not acknowledged yet.
    fn cut_off_writers(&mut self) {
        let synced = self.aof.synced;
        for slot in self.gated.clone() {
            let wrote = |c: &crate::server::client::Client| {
                c.held.iter().any(|gate| gate.wrote && gate.position > synced)
            };
            if self.clients.get(slot).is_some_and(wrote) {
                self.close_client(slot, Close::Now);
            }
        }
    }

    /// Tries a failed write again.
    pub(super) fn retry_log(&mut self) {
        let now_ms = self.now.mono_ms();
        let due = now_ms.saturating_sub(self.aof.last_sync_ms) >= RETRY_MS;
        if !due || !matches!(self.aof.failure, Some(Failure::Write(_))) || !self.aof.jobs.is_empty() {
            return;
        }
        self.aof.last_sync_ms = now_ms;
        let failure = self.aof.failure.take();
        if let Some(file) = &self.aof.file {
            file.resume();
        }
        self.write_log();
        if self.aof.failure.is_some() {
            return;
        }
        drop(failure);
        log::warn!(target: "aikv", "AOF write error looks solved. The server can write again.");
        if self.aof.synced < self.aof.written {
            self.sync_later();
        }
        self.log_recovered();
    }

    /// Writes are taken again.
    pub(super) fn log_recovered(&mut self) {
        self.aof.failure = None;
        self.update_durability();
        self.update_disk_gate();
    }

    /// Why writes are refused because of the log.
    pub(in crate::server) fn log_error(&self) -> Option<String> {
        let failure = self.aof.failure.as_ref().filter(|_| self.aof.state != State::Off)?;
        let text = crate::util::text::plain_error(failure.error());
        Some(format!("MISCONF Errors writing to the AOF file: {text}"))
    }
}
