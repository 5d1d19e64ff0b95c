//! Snapshots: SAVE, BGSAVE, save points, and what happens when one fails. The format is `rdb`'s, the process
//! that writes in the background `child`'s, reading them again `load`'s.

use super::child::{self, Child, Job, plain, remove_unfinished};
use super::commands::restore::compression;
use super::gate::bit;
use super::{REDIS_VERSION, Server};
use crate::config::MaxmemoryPolicy;
use crate::rdb::{self, Ages, Observer, Options, Purpose, Version, Written};
use crate::sys::file::{OutFile, Sending, rename_durably};
use crate::sys::fork::{ChildEnd, Pid};
use crate::sys::{alloc, process, signals};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// After a failed snapshot, save points wait so long before they try again, in seconds.
const RETRY_SECONDS: i64 = 5;

/// What is known of snapshots.
#[derive(Default)]
pub struct Snapshots {
    /// Whether save points act, and FLUSHALL and SHUTDOWN save: not in a server that only tests know.
    pub automatic: bool,
    /// A BGSAVE waits for the end of a child.
    pub scheduled: bool,
    /// Seconds since 1970 of the last snapshot, or of the start.
    pub last_save_s: i64,
    /// How the last one in the background ended.
    pub last_failed: bool,
    /// Seconds it took.
    pub last_duration_s: Option<u64>,
    /// Bytes that copy-on-write cost it.
    pub last_cow: u64,
    /// Snapshots since the start.
    pub saves: u64,
    /// Figures of the last loading.
    pub loaded: super::load::Loaded,
    /// Changes there were at the last snapshot.
    saved_dirty: u64,
    /// Changes there were when the child was started.
    child_dirty: u64,
    /// Seconds since 1970 when one was tried last.
    last_try_s: i64,
    /// The data was emptied to be loaded again, which is no FLUSHALL.
    reloading: bool,
}

impl Snapshots {
    /// Says that the data is emptied now to be loaded again.
    pub(super) fn note_reload(&mut self) {
        self.reloading = true;
    }
}

/// The reply to writes while the last snapshot could not be written.
const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
                       persist to disk. Commands that may modify the data set are disabled, because this \
                       instance is configured to report errors during writes if RDB snapshotting fails \
                       (stop-writes-on-bgsave-error option). Please check the Redis logs for details about \
                       the RDB error.";

/// Where the snapshot of a process is until it is whole.
fn unfinished(pid: Pid) -> PathBuf {
    PathBuf::from(format!("temp-{pid}.rdb"))
}

/// Waits for each key as rdb-key-save-delay says.
struct Slowly(i32);

impl Observer for Slowly {
    fn key_saved(&mut self, saved: u64) -> ControlFlow<()> {
        child::delay(self.0, saved);
        ControlFlow::Continue(())
    }
}

impl Server {
    /// Lets save points act: this server keeps its data.
    pub(super) fn begin_saving(&mut self) {
        self.snapshots.automatic = true;
        self.snapshots.last_save_s = self.now.wall_ms / 1000;
        signals::set_doomed_file(&unfinished(process::pid() as Pid));
    }

    /// Changes since the last snapshot.
    pub fn unsaved_changes(&self) -> u64 {
        self.keyspace.changes.dirty - self.snapshots.saved_dirty
    }

    /// Forgets what the snapshot had to hold: the data was loaded just now.
    pub(super) fn mark_saved(&mut self, dirty: u64) {
        self.snapshots.saved_dirty = dirty;
        self.snapshots.last_save_s = self.clock.wall_ms() / 1000;
    }

    /// How snapshots are written now.
    pub(super) fn snapshot_options(&self, purpose: Purpose) -> Options {
        let policy = self.config.maxmemory_policy;
        let ages = match policy {
            MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => Ages::Idle,
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => Ages::Frequency,
            _ => Ages::None,
        };
        Options {
            compression: compression(self.config.rdbcompression),
            checksum: self.config.rdbchecksum,
            version: match self.config.rdb_version {
                0 => Version::Lowest,
                version => Version::Pinned(version),
            },
            purpose,
            ages,
            server_version: REDIS_VERSION,
            created_s: self.clock.wall_ms() / 1000,
            used_memory: alloc::used_memory() as u64,
            facts: Vec::new(),
        }
    }

    /// Writes a snapshot to a file that replaces the one at `path` when it is whole and on disk.
    fn write_snapshot(&self, path: &Path, temp: &Path, observer: &mut dyn Observer) -> io::Result<Written> {
        let sending = match self.config.rdb_save_incremental_fsync {
            true => Sending::Incremental,
            false => Sending::AtEnd,
        };
        let written = OutFile::create(temp, sending).and_then(|file| {
            let libraries = self.runner.scripts.functions.sources();
            let options = self.snapshot_options(Purpose::Snapshot);
            let (file, written) = rdb::write(file, &self.keyspace, &libraries, &options, observer)?;
            file.finish()?;
            rename_durably(temp, path)?;
            Ok(written)
        });
        if written.is_err() {
            remove_unfinished(temp);
        }
        written
    }

    /// SAVE: writes a snapshot while everybody waits.
    pub(super) fn save_now(&mut self) -> io::Result<()> {
        let temp = unfinished(process::pid() as Pid);
        let path = PathBuf::from(&self.config.dbfilename);
        let mut observer = Slowly(self.config.rdb_key_save_delay);
        self.snapshots.saves += 1;
        match self.write_snapshot(&path, &temp, &mut observer) {
            Ok(_) => {
                log::info!(target: "aikv", "DB saved on disk");
                self.mark_saved(self.keyspace.changes.dirty);
                self.snapshots.last_failed = false;
                self.update_disk_gate();
                Ok(())
            }
            Err(error) => {
                log::error!(target: "aikv", "Failed to persist data: {}", plain(&error));
                Err(error)
            }
        }
    }

    /// BGSAVE: starts a child that writes a snapshot.
    pub(super) fn save_in_background(&mut self) -> io::Result<()> {
        self.snapshots.scheduled = false;
        self.snapshots.saves += 1;
        self.snapshots.last_try_s = self.now.wall_ms / 1000;
        self.snapshots.child_dirty = self.keyspace.changes.dirty;
        let path = PathBuf::from(&self.config.dbfilename);
        let started = self.start_child(Job::Snapshot, unfinished, |server, reporter| {
            let temp = unfinished(process::pid() as Pid);
            server.write_snapshot(&path, &temp, reporter).map(drop)
        });
        match &started {
            Ok(()) => {
                let pid = self.child.as_ref().map_or(0, |child| child.pid);
                log::info!(target: "aikv", "Background saving started by pid {pid}");
            }
            Err(error) => {
                log::error!(target: "aikv", "Failed to persist data: can't fork: {}", plain(error));
                self.snapshots.last_failed = true;
                self.update_disk_gate();
            }
        }
        started
    }

    /// The child that wrote a snapshot came to its end.
    pub(super) fn snapshot_ended(&mut self, child: &Child, end: ChildEnd) {
        let seconds = self.now.mono_ms().saturating_sub(child.started_ms) / 1000;
        self.snapshots.last_duration_s = Some(seconds);
        self.snapshots.last_cow = child.cow_peak;
        match end {
            // It may have come to its end just before: what was saved meanwhile counts.
            _ if child.killed => log::warn!(target: "aikv", "Background saving was stopped"),
            ChildEnd::Exited(0) => {
                log::info!(target: "aikv", "Background saving terminated with success");
                self.mark_saved(self.snapshots.child_dirty);
                self.snapshots.last_failed = false;
            }
            ChildEnd::Exited(_) => {
                log::error!(target: "aikv", "Background saving error");
                self.snapshots.last_failed = true;
            }
            ChildEnd::Killed(signal) => {
                log::warn!(target: "aikv", "Background saving terminated by signal {signal}");
                self.snapshots.last_failed = true;
            }
        }
        self.update_disk_gate();
    }

    /// Starts a snapshot that a save point or BGSAVE SCHEDULE asks for.
    pub(super) fn save_if_due(&mut self) {
        if self.child.is_some() || self.is_loading() {
            return;
        }
        let now_s = self.now.wall_ms / 1000;
        let patient = !self.snapshots.last_failed || now_s - self.snapshots.last_try_s > RETRY_SECONDS;
        if !patient {
            return;
        }
        let (changes, age_s) = (self.unsaved_changes(), now_s - self.snapshots.last_save_s);
        let reached =
            |point: &&crate::config::SavePoint| changes >= point.changes && age_s > point.seconds as i64;
        let due = self.config.save.iter().find(reached).filter(|_| self.snapshots.automatic && changes > 0);
        if let Some(point) = due {
            log::info!(target: "aikv", "{changes} changes in {} seconds. Saving...", point.seconds);
        }
        if due.is_some() || self.snapshots.scheduled {
            // It is logged, and tried again.
            let _ = self.save_in_background();
        }
    }

    /// Whether the configuration asks for snapshots.
    pub(super) fn has_save_points(&self) -> bool {
        self.snapshots.automatic && !self.config.save.is_empty()
    }

    /// Refuses writes while the disk does not take them, or lets them in again.
    pub(super) fn update_disk_gate(&mut self) {
        let refused =
            self.snapshots.last_failed && self.config.stop_writes_on_bgsave_error && self.has_save_points();
        self.disk_error = refused.then(|| MISCONF.to_string()).or_else(|| self.log_error());
        self.arm(bit::DISK, self.disk_error.is_some());
    }

    /// FLUSHALL: a snapshot of what is gone is of no use; one of nothing is.
    pub(super) fn flushed_all(&mut self) {
        if std::mem::take(&mut self.snapshots.reloading) || self.is_loading() {
            return;
        }
        let saving = self.child.as_ref().is_some_and(|child| child.job == Job::Snapshot);
        if saving && !self.has_save_points() {
            self.kill_child(Job::Snapshot);
        }
        if self.has_save_points() {
            if saving {
                // Its snapshot must not replace the one that is written now.
                self.kill_child_now();
            }
            // The failure is in the log; the data is gone all the same.
            let _ = self.save_now();
        }
    }
}
