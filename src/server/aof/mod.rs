//! The append-only log of a running server: takes the effects of units, writes them once per turn of the
//! loop, has them synced, and knows up to which position they are durable. Come here to learn when a write is
//! on disk. File formats are in `crate::aof`; starting and loading in `open.rs` and `server/load.rs`, the
//! rewrite in `rewrite.rs`, replies that wait in `server/durable.rs`.
//!
//! A *position* counts the bytes of effects since the start of the process, whatever file they are in. Always
//! `synced <= written <= appended`.
//!
//! How bytes get to the disk depends on `appendfsync`:
//! - `always`: what a turn appended is shipped to the thread that syncs, which writes and syncs it in one go;
//!   meanwhile the next shipment gathers. Replies wait for their position (group commit). Clients that were
//!   just answered are about to write again: a shipment waits a little for as many of them as wrote
//!   before, so that they do not fall into two halves that take turns at the disk.
//! - `everysec`, `no`: written before the turn's replies leave; synced once a second by the thread, or never.
//!   While a sync runs, a write may have to wait for it, so it is put off for up to two seconds.
//!
//! What can fail, and how it goes on:
//! - [`Failure::Write`]: nothing of the last write is in the file; it is tried again every second.
//! - [`Failure::Broken`]: a sync failed, so the disk may have less than was written. Nothing is retried as if
//!   it had worked: only a rewrite, which writes all data anew, ends it; it is tried by itself.
//!
//! In both states writes are refused (MISCONF) and reads go on.

mod failure;
#[cfg(test)]
mod late_tests;
mod open;
mod rewrite;
mod switch;
#[cfg(test)]
mod tests;

use super::Server;
use crate::aof::log::{Annotator, Delivery, LogFile, MARK_BYTES, Shipment};
use crate::aof::manifest::{Folder, Manifest};
use crate::config::Appendfsync;
use crate::sys::background::Completion;
pub use failure::Failure;
pub use open::Found;
pub use rewrite::{Rewrite, Scheduled};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// About the time that a client that writes again costs the loop, in nanoseconds.
const WRITER_NS: u64 = 10_000;
/// Milliseconds between two syncs under `everysec`.
const SYNC_PERIOD_MS: u64 = 1000;
/// Milliseconds a write is put off for while a sync runs.
const POSTPONE_MS: u64 = 2000;
/// Milliseconds without an append after which a checksum line covers what stands behind the last one.
const QUIET_MS: u64 = 1000;

/// Whether there is a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    /// No.
    #[default]
    Off,
    /// Effects are appended.
    On,
    /// It was switched on and becomes valid with the end of a rewrite; effects are kept for that end.
    WaitRewrite,
}

/// A job in the thread that syncs.
struct Job {
    token: u64,
    /// The position that is durable when it ends well.
    upto: u64,
    file: Arc<LogFile>,
    /// The bytes on their way, and how they got there. None: only a sync.
    shipment: Option<Arc<Mutex<Shipped>>>,
    /// Clients whose writes are in the shipment.
    writers: u64,
    /// When it began, in monotonic nanoseconds.
    begun_ns: u64,
}

/// How long a shipment waits for more.
#[derive(Clone, Copy, Default)]
struct Hold {
    /// Clients with whose writes it goes at once.
    writers: u64,
    /// When it goes all the same, in monotonic nanoseconds.
    until_ns: u64,
}

impl Hold {
    /// After a job of this length, with so many clients that have written in it or since it began. Those
    /// who write again at once take the loop about [`WRITER_NS`] each. Waiting for all of them gets more done
    /// than serving one half while the other is on its way to the disk, because each half costs a sync; but
    /// never for longer than two syncs take.
    fn after(writers: u64, job_ns: u64, now_ns: u64) -> Hold {
        Hold { writers, until_ns: now_ns + 2 * (writers * WRITER_NS).min(job_ns) }
    }
}

/// A shipment and, when it has ended, how.
struct Shipped {
    shipment: Shipment,
    delivery: Option<Delivery>,
}

/// The log.
#[derive(Default)]
pub struct Aof {
    /// Whether there is one.
    pub state: State,
    /// Where its files are.
    pub folder: Folder,
    /// Which files it has.
    pub manifest: Manifest,
    /// Bytes of effects appended since the start.
    pub appended: u64,
    /// Of these, written to the file.
    pub written: u64,
    /// Of these, on disk.
    pub synced: u64,
    /// Whether replies wait for `synced`.
    pub gating: bool,
    /// What is wrong.
    pub failure: Option<Failure>,
    /// The rewrite.
    pub rewrite: Rewrite,
    /// Syncs that came late (INFO `aof_delayed_fsync`).
    pub delayed_syncs: u64,
    /// Microseconds spent writing in the loop.
    pub flush_us: u64,
    /// Bytes of the base when it was written or loaded.
    pub base_size: u64,
    /// Bytes of all files after the last rewrite: what growth is measured by.
    pub rewrite_base_size: u64,
    /// Bytes of all files but the one that is written.
    pub earlier_size: u64,
    file: Option<Arc<LogFile>>,
    annotator: Option<Annotator>,
    buffer: Vec<u8>,
    /// Clients whose writes are in the buffer.
    writers: u64,
    /// The position at which the buffer begins.
    shipped: u64,
    hold: Hold,
    /// Whether the buffer waits for more.
    holding: bool,
    jobs: VecDeque<Job>,
    next_token: u64,
    /// When the last sync under `everysec` began, and since when a write is put off, in monotonic
    /// milliseconds.
    last_sync_ms: u64,
    postponed_since_ms: Option<u64>,
    last_append_ms: u64,
    /// Somebody waits for a sync that the policy would not make (WAITAOF).
    sync_wanted: bool,
}

impl Aof {
    /// Whether effects are taken.
    #[inline]
    pub fn takes_effects(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes that wait to be written.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Jobs in the thread that syncs.
    pub fn pending_syncs(&self) -> usize {
        self.jobs.len()
    }

    /// Bytes of all files of the log.
    pub fn current_size(&self) -> u64 {
        self.earlier_size + self.annotator.as_ref().map_or(0, |a| a.length)
    }

    /// The position up to which replies may leave.
    #[inline]
    pub fn durable(&self) -> u64 {
        if self.gating { self.synced } else { u64::MAX }
    }

    /// Asks for a sync that the policy would not make by itself.
    pub fn want_sync(&mut self) {
        self.sync_wanted = true;
    }

    /// Whether a shipment waits for less time than the loop would sleep.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    fn is_shipping(&self) -> bool {
        self.jobs.iter().any(|job| job.shipment.is_some())
    }

    /// Notes a client that has written; `before` is the position of what it wrote last before.
    #[inline]
    pub(super) fn note_writer(&mut self, before: u64) {
        self.writers += u64::from(before <= self.shipped);
    }

    /// Lets the thread work on a file.
    fn job(
        &mut self,
        upto: u64,
        begun_ns: u64,
        shipment: Option<Arc<Mutex<Shipped>>>,
    ) -> (u64, Arc<LogFile>) {
        let file = Arc::clone(self.file.as_ref().expect("there is a file"));
        self.next_token += 1;
        let (token, writers) = (self.next_token, std::mem::take(&mut self.writers));
        let job = Job { token, upto, file: Arc::clone(&file), shipment, writers, begun_ns };
        self.jobs.push_back(job);
        (self.next_token, file)
    }

    /// Closes the run of bytes behind the last checksum line.
    fn mark(&mut self) {
        if let Some(annotator) = &mut self.annotator {
            annotator.mark(&mut self.buffer);
        }
    }
}

impl Server {
    /// Takes the effects of a unit, which were encoded for all sinks.
    pub(super) fn append_to_log(&mut self, bytes: &[u8]) {
        let aof = &mut self.aof;
        let Some(annotator) = &mut aof.annotator else { return };
        if aof.file.as_ref().is_some_and(|file| file.is_broken()) {
            // Only the base of a rewrite will hold it.
            aof.appended += bytes.len() as u64;
            return;
        }
        if self.config.aof_timestamp_enabled {
            annotator.time(&mut aof.buffer, self.now.wall_ms / 1000);
        }
        annotator.commands(&mut aof.buffer, bytes);
        if self.config.aof_checksum && annotator.unmarked() >= MARK_BYTES {
            annotator.mark(&mut aof.buffer);
        }
        aof.appended += bytes.len() as u64;
        aof.last_append_ms = self.now.mono_ms();
    }

    /// Whether the operator lets the disk rest while a child writes.
    fn syncs_suspended(&self) -> bool {
        self.config.no_appendfsync_on_rewrite && self.has_child()
    }

    /// Decides anew whether replies wait. Who waited in vain goes on.
    pub(super) fn update_durability(&mut self) {
        let aof = &mut self.aof;
        let promised = aof.state == State::On && self.config.appendfsync == Appendfsync::Always;
        self.aof.gating = promised && self.aof.failure.is_none() && !self.syncs_suspended();
        self.update_listeners();
        self.release_replies();
    }

    /// Brings what was appended to the file, as the policy has it. Called once per turn, before the replies.
    pub(super) fn flush_log(&mut self) {
        let aof = &self.aof;
        let idle = aof.buffer.is_empty() && aof.synced == aof.appended;
        if idle || aof.file.is_none() || aof.failure.is_some() {
            return;
        }
        self.flush_log_now();
    }

    fn flush_log_now(&mut self) {
        let begin_ns = self.clock.mono_ns();
        let suspended = self.syncs_suspended();
        match self.config.appendfsync {
            Appendfsync::Always if !suspended => self.ship(),
            _ if self.aof.is_shipping() => {}
            policy => {
                if self.may_write_now(policy) {
                    self.write_log();
                }
                self.sync_if_due(policy, suspended);
            }
        }
        self.aof.flush_us += (self.clock.mono_ns() - begin_ns) / 1000;
    }

    /// Ships the buffer to the thread, which writes and syncs it; one shipment at a time.
    fn ship(&mut self) {
        let now_ns = self.clock.mono_ns();
        let aof = &mut self.aof;
        aof.holding = aof.jobs.is_empty()
            && !aof.buffer.is_empty()
            && aof.writers < aof.hold.writers
            && now_ns < aof.hold.until_ns;
        if aof.jobs.is_empty() && !aof.holding {
            self.ship_now();
        }
    }

    fn ship_now(&mut self) {
        let delay = Duration::from_micros(self.debug.aof_flush_sleep_us);
        let aof = &mut self.aof;
        let Some(file) = aof.file.clone() else { return };
        let bytes = std::mem::take(&mut aof.buffer);
        let shipped = Shipped { shipment: Shipment { file, bytes, delay }, delivery: None };
        let shipped = Arc::new(Mutex::new(shipped));
        aof.holding = false;
        let begun_ns = self.clock.mono_ns();
        aof.shipped = aof.appended;
        let (token, _) = aof.job(aof.appended, begun_ns, Some(Arc::clone(&shipped)));
        let work = move || {
            let mut shipped = shipped.lock().unwrap_or_else(PoisonError::into_inner);
            let (delivery, result) = shipped.shipment.deliver();
            shipped.delivery = Some(delivery);
            result
        };
        self.keyspace.background().work_later(Box::new(work), token);
        if self.keyspace.background().pending_syncs() == 0 {
            self.background_woke();
        }
    }

    /// Under `everysec` a write is put off while a sync runs, for up to two seconds.
    fn may_write_now(&mut self, policy: Appendfsync) -> bool {
        let now_ms = self.now.mono_ms();
        let aof = &mut self.aof;
        if policy != Appendfsync::Everysec || aof.jobs.is_empty() || aof.buffer.is_empty() {
            aof.postponed_since_ms = None;
            return true;
        }
        let since_ms = *aof.postponed_since_ms.get_or_insert(now_ms);
        if now_ms - since_ms < POSTPONE_MS {
            return false;
        }
        aof.postponed_since_ms = None;
        aof.delayed_syncs += 1;
        log::info!(
            target: "aikv",
            "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without \
             waiting for fsync to complete, this may slow down the server."
        );
        true
    }

    /// Writes the buffer here and now.
    fn write_log(&mut self) {
        if self.debug.aof_flush_sleep_us > 0 && !self.aof.buffer.is_empty() {
            self.clock.sleep(self.debug.aof_flush_sleep_us * 1000);
        }
        let aof = &mut self.aof;
        let Some(file) = &aof.file else { return };
        let result = if aof.buffer.is_empty() { Ok(()) } else { file.write(&aof.buffer) };
        match result {
            Ok(()) => {
                aof.buffer.clear();
                aof.buffer.shrink_to(BUFFER_KEPT_BYTES);
                aof.written = aof.appended;
            }
            Err(error) => self.log_failed(Failure::of_write(self.aof.file.as_deref(), error)),
        }
    }

    fn sync_if_due(&mut self, policy: Appendfsync, suspended: bool) {
        let now_ms = self.now.mono_ms();
        let aof = &mut self.aof;
        let due = aof.sync_wanted
            || (policy == Appendfsync::Everysec && now_ms - aof.last_sync_ms >= SYNC_PERIOD_MS);
        if !due || suspended || !aof.jobs.is_empty() || aof.failure.is_some() || aof.synced == aof.written {
            return;
        }
        aof.sync_wanted = false;
        aof.last_sync_ms = now_ms;
        self.sync_later();
    }

    /// Lets the thread sync what was written so far.
    fn sync_later(&mut self) {
        let upto = self.aof.written;
        let (token, file) = self.aof.job(upto, self.clock.mono_ns(), None);
        self.keyspace.background().work_later(Box::new(move || file.sync()), token);
    }

    /// The thread has ended a job.
    pub(super) fn log_job_ended(&mut self, completion: Completion) {
        let Some(at) = self.aof.jobs.iter().position(|job| job.token == completion.token) else {
            return self.rewrite_step_ended(completion.token, completion.result);
        };
        let job = self.aof.jobs.remove(at).expect("it was found");
        let delivery = job.shipment.as_ref().map(|shipped| {
            let mut shipped = shipped.lock().unwrap_or_else(PoisonError::into_inner);
            let delivery = shipped.delivery.expect("the job has ended");
            (delivery, std::mem::take(&mut shipped.shipment.bytes))
        });
        let current = self.aof.file.as_ref().is_some_and(|file| Arc::ptr_eq(file, &job.file));
        match (completion.result, delivery) {
            (Ok(()), delivery) => {
                // Once a file broke, only a rewrite makes its positions durable.
                if !matches!(self.aof.failure, Some(Failure::Broken(_))) {
                    self.aof.written = self.aof.written.max(job.upto);
                    self.aof.synced = self.aof.synced.max(job.upto);
                }
                if let Some((_, bytes)) = delivery {
                    let now_ns = self.clock.mono_ns();
                    let writers = self.aof.writers + job.writers;
                    self.aof.hold = Hold::after(writers, now_ns - job.begun_ns, now_ns);
                    self.reuse_buffer(bytes);
                }
                self.release_replies();
                self.answer_log_waits();
                self.flush_log();
            }
            (Err(error), Some((Delivery::NotWritten, mut bytes))) if current && !job.file.is_broken() => {
                // What was appended meanwhile stands behind it.
                bytes.append(&mut self.aof.buffer);
                self.aof.buffer = bytes;
                self.log_failed(Failure::Write(error));
            }
            // A file that was replaced by a rewrite under way: only the rewrite can make it good.
            (Err(error), _) => self.log_failed(Failure::Broken(error)),
        }
    }

    /// Saves an allocation per turn.
    fn reuse_buffer(&mut self, mut bytes: Vec<u8>) {
        if self.aof.buffer.capacity() == 0 && bytes.capacity() <= BUFFER_KEPT_BYTES {
            bytes.clear();
            self.aof.buffer = bytes;
        }
    }

    /// Periodic work: the checksum of a quiet log, a failed write again, rewrites that are due.
    pub(super) fn tend_log(&mut self) {
        let quiet = self.now.mono_ms().saturating_sub(self.aof.last_append_ms) >= QUIET_MS;
        if quiet && self.config.aof_checksum && self.aof.failure.is_none() {
            let before = self.aof.buffer.len();
            self.aof.mark();
            if self.aof.buffer.len() > before {
                self.flush_log_now();
            }
        }
        self.flush_log();
        self.retry_log();
        self.rewrite_if_due();
    }

    /// Writes and syncs everything, waiting for it (at the end, and before the log is read again). False if
    /// that failed.
    pub(super) fn flush_log_and_wait(&mut self) -> bool {
        if self.aof.file.is_none() {
            return true;
        }
        self.wait_for_log_jobs();
        if self.config.aof_checksum {
            self.aof.mark();
        }
        if matches!(self.aof.failure, Some(Failure::Write(_))) {
            self.aof.failure = None;
        }
        if self.aof.failure.is_none() {
            self.write_log();
        }
        if self.aof.failure.is_none() {
            self.sync_later();
            self.wait_for_log_jobs();
        }
        self.update_durability();
        self.aof.failure.is_none()
    }

    fn wait_for_log_jobs(&mut self) {
        while !self.aof.jobs.is_empty() {
            self.keyspace.background().wait_idle();
            self.background_woke();
        }
    }
}

/// A buffer larger than this is given back.
const BUFFER_KEPT_BYTES: usize = 1 << 20;
