//! The rewrite: a child writes all data into a new base while effects go to a new increment; at its end both
//! take the place of what was there.
//!
//! Phases: idle -> (the manifest names a new increment) preparing -> (a child writes the base) running
//!              -> (the manifest names the new base, old files go) finishing -> idle
//! Preparing and finishing sync files, so the thread that syncs does it; the log is complete at every moment:
//! a new increment is named before anything is written to it, an old file goes after its successor is named.
//! While the log waits for its first base ([`State::WaitRewrite`]) its increment is a temporary file that the
//! manifest names only together with the base.

use super::{Aof, Failure, State};
use crate::aof::log::{Annotator, LogFile};
use crate::aof::manifest::{Folder, Form, Kind, Manifest};
use crate::config::Appendfsync;
use crate::server::Server;
use crate::server::blocking::Blocked;
use crate::server::child::{self, Job};
use crate::sys::fork::{ChildEnd, Pid};
use crate::sys::{file, process};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Rewrites that fail in a row before the next ones are held back.
const FAILURES_MAX: u32 = 3;
/// Longest time between two attempts, in minutes.
const DELAY_MAX_MINUTES: i64 = 60;

/// The state of the rewrite.
pub struct Rewrite {
    /// It is to begin as soon as it can.
    pub scheduled: bool,
    /// Whether the last one came to a good end.
    pub last_ok: bool,
    /// Seconds the last one took.
    pub last_seconds: Option<i64>,
    /// Rewrites that came to a good end (INFO `aof_rewrites`).
    pub count: u64,
    /// Bytes of private memory the last child took.
    pub last_cow_bytes: u64,
    /// Failures since the last good end, the manual start or the switch.
    failures: u32,
    /// When the next attempt is due after too many failures, in seconds since 1970, and the pause before it.
    next_try: Option<i64>,
    delay_minutes: i64,
    phase: Phase,
    started_ms: i64,
    /// Clients who are told when the child runs.
    waiting: Vec<u64>,
}

impl Default for Rewrite {
    fn default() -> Self {
        Rewrite {
            scheduled: false,
            last_ok: true,
            last_seconds: None,
            count: 0,
            last_cow_bytes: 0,
            failures: 0,
            next_try: None,
            delay_minutes: 0,
            phase: Phase::Idle,
            started_ms: 0,
            waiting: Vec::new(),
        }
    }
}

enum Phase {
    Idle,
    /// The new increment and the manifest that names it.
    Preparing {
        token: u64,
        manifest: Manifest,
        file: Opened,
    },
    Running(Running),
    /// The manifest with the new base, as far as it was stored.
    Finishing {
        token: u64,
        manifest: Arc<Mutex<Manifest>>,
        position: u64,
        size: u64,
    },
}

type Opened = Arc<Mutex<Option<LogFile>>>;

/// What the child writes.
struct Running {
    temporary: PathBuf,
    form: Form,
    /// The log's position when it was forked: what came before is in the base.
    position: u64,
}

/// Whether a rewrite began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduled {
    /// It runs, or is about to.
    Started,
    /// It begins when the child that runs now has ended.
    Later,
}

impl Rewrite {
    /// Lets it begin as soon as it can.
    pub fn schedule(&mut self) {
        self.scheduled = true;
    }

    /// Whether it is under way.
    pub fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Failures since the last good end.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether a child works.
    pub fn has_child(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// Seconds since it began, while it runs.
    pub fn seconds(&self, now_ms: i64) -> Option<i64> {
        self.is_running().then(|| (now_ms - self.started_ms) / 1000)
    }

    /// Whether it failed so often that it has to wait.
    fn is_held_back(&mut self, now_s: i64) -> bool {
        if self.failures < FAILURES_MAX {
            (self.next_try, self.delay_minutes) = (None, 0);
            return false;
        }
        if let Some(at) = self.next_try {
            if now_s >= at {
                self.next_try = None;
            }
            return now_s < at;
        }
        self.delay_minutes = (self.delay_minutes * 2).clamp(1, DELAY_MAX_MINUTES);
        self.next_try = Some(now_s + self.delay_minutes * 60);
        log::warn!(
            target: "aikv",
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {} minutes",
            self.delay_minutes
        );
        true
    }
}

/// The base that the child of a process id writes, until it is whole.
fn unfinished(pid: Pid) -> PathBuf {
    PathBuf::from(format!("temp-rewriteaof-bg-{pid}.aof"))
}

impl Folder {
    /// The increment of a log that waits for its first base.
    fn temporary_incr(&self) -> PathBuf {
        self.file(&format!("temp-{}.incr.aof", self.log_name))
    }
}

// ---- beginning ----

impl Server {
    /// Whether a child process works.
    pub fn has_child(&self) -> bool {
        self.child.is_some()
    }

    /// BGREWRITEAOF. The error is for the client.
    pub(in crate::server) fn ask_for_rewrite(&mut self) -> Result<Scheduled, &'static str> {
        if self.aof.rewrite.is_running() {
            return Err("Background append only file rewriting already in progress");
        }
        if self.has_child() || self.unit.no_waiting {
            // Who asks wants it as soon as it can be.
            self.aof.rewrite.failures = 0;
            self.aof.rewrite.schedule();
            return Ok(Scheduled::Later);
        }
        match self.start_rewrite() {
            Ok(()) => Ok(Scheduled::Started),
            Err(_) => {
                Err("Can't execute an AOF background rewriting. Please check the server logs for more \
                           information.")
            }
        }
    }

    /// Begins a rewrite. The error was logged.
    pub(super) fn start_rewrite(&mut self) -> Result<(), ()> {
        let aof = &mut self.aof;
        aof.rewrite.scheduled = false;
        aof.rewrite.started_ms = self.now.wall_ms;
        let begun = match aof.state {
            State::On => {
                self.prepare_incr();
                Ok(())
            }
            State::Off => self.adopt_folder().and_then(|()| self.fork_rewrite()),
            State::WaitRewrite => self.begin_temporary_incr().and_then(|()| self.fork_rewrite()),
        };
        begun.map_err(|error| self.rewrite_failed(&error))
    }

    /// Without a log there may still be files of one.
    fn adopt_folder(&mut self) -> Result<(), String> {
        self.aof.folder = self.log_folder()?;
        self.aof.manifest = self.read_manifest()?.unwrap_or_default();
        self.aof.folder.create().map_err(|e| e.to_string())
    }

    /// Has the thread create the next increment and name it in the manifest.
    fn prepare_incr(&mut self) {
        let aof = &mut self.aof;
        let mut manifest = aof.manifest.clone();
        let name = manifest.new_incr(&aof.folder.log_name);
        let (path, stored) = (aof.folder.file(&name), aof.folder.manifest());
        log::info!(target: "aikv", "Creating AOF incr file {name} on background rewrite");
        let opened: Opened = Arc::default();
        let (give, named) = (Arc::clone(&opened), manifest.clone());
        let folder = aof.folder.clone();
        let work = move || {
            folder.create()?;
            let file = LogFile::create(&path)?;
            named.store(&stored).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
            *give.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
            Ok(())
        };
        aof.next_token += 1;
        let token = aof.next_token;
        aof.rewrite.phase = Phase::Preparing { token, manifest, file: opened };
        self.give_file_work(Box::new(work), token);
    }

    /// Gives work on files to the thread that syncs.
    fn give_file_work(&mut self, work: Box<dyn FnOnce() -> io::Result<()> + Send>, token: u64) {
        self.keyspace.background().work_later(work, token);
        if self.keyspace.background().pending_syncs() == 0 {
            self.background_woke();
        }
    }

    /// A step of the rewrite that the thread did has ended.
    pub(super) fn rewrite_step_ended(&mut self, token: u64, result: io::Result<()>) {
        match std::mem::replace(&mut self.aof.rewrite.phase, Phase::Idle) {
            Phase::Preparing { token: own, manifest, file } if own == token => {
                let file = file.lock().unwrap_or_else(PoisonError::into_inner).take();
                let begun = match (result, file) {
                    (Ok(()), Some(file)) => {
                        self.aof.manifest = manifest;
                        self.switch_file(file);
                        self.fork_rewrite()
                    }
                    (result, _) => Err(format!("a new increment: {}", text_of(result))),
                };
                if let Err(error) = begun {
                    self.rewrite_failed(&error);
                }
            }
            Phase::Finishing { token: own, manifest, position, size } if own == token => {
                let manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match result {
                    Ok(()) => self.rewrite_succeeded(manifest, position, size),
                    Err(error) => self.rewrite_failed(&format!("taking the new files over: {error}")),
                }
            }
            other => self.aof.rewrite.phase = other,
        }
    }

    /// From now on effects go to the next increment; what is left goes to the old one.
    fn switch_file(&mut self, file: LogFile) {
        if self.config.aof_checksum {
            self.aof.mark();
        }
        let broken = matches!(self.aof.failure, Some(Failure::Broken(_)));
        let always = self.config.appendfsync == Appendfsync::Always && !self.syncs_suspended();
        match () {
            () if broken || self.aof.file.is_none() => {}
            () if always || self.aof.is_shipping() => self.ship_now(),
            () => {
                self.write_log();
                self.sync_later();
            }
        }
        let aof = &mut self.aof;
        if !aof.buffer.is_empty() {
            // The old file does not take it: only the base will hold it.
            aof.buffer.clear();
            match aof.failure.take() {
                Some(Failure::Write(error)) => self.log_failed(Failure::Broken(error)),
                failure => aof.failure = failure,
            }
        }
        let aof = &mut self.aof;
        aof.earlier_size += aof.annotator.as_ref().map_or(0, |a| a.length);
        aof.begin_file(Arc::new(file), Annotator::new(0, Some(0)));
        self.propagation.forget_selected();
    }

    /// A log that was just switched on keeps its effects in a temporary file until there is a base.
    fn begin_temporary_incr(&mut self) -> Result<(), String> {
        let folder = &self.aof.folder;
        let path = folder.temporary_incr();
        let file = folder.create().and_then(|()| LogFile::create(&path));
        let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
        log::info!(target: "aikv", "Creating the temp incr aof file {}", path.display());
        self.aof.earlier_size = 0;
        self.aof.buffer.clear();
        self.aof.begin_file(Arc::new(file), Annotator::new(0, Some(0)));
        self.propagation.forget_selected();
        self.update_durability();
        Ok(())
    }

    // ---- the child ----

    fn fork_rewrite(&mut self) -> Result<(), String> {
        if self.has_child() {
            // A snapshot began meanwhile.
            self.aof.rewrite.schedule();
            self.answer_rewrite_started();
            return Ok(());
        }
        let form = self.rewrite_form();
        let started = self.start_child(Job::LogRewrite, unfinished, |server, reporter| {
            let path = unfinished(process::pid() as Pid);
            let written = server.write_base(&path, form, reporter).map(drop);
            if written.is_err() {
                child::remove_unfinished(&path);
            }
            written
        });
        started.map_err(|e| format!("Can't rewrite append only file in background: fork: {e}"))?;
        let child = self.child.as_ref().expect("it was started");
        log::info!(target: "aikv", "Background append only file rewriting started by pid {}", child.pid);
        let temporary = self.aof.folder.data_dir.join(&child.file);
        let position = self.aof.appended;
        self.aof.rewrite.phase = Phase::Running(Running { temporary, form, position });
        self.answer_rewrite_started();
        Ok(())
    }

    /// The child has ended.
    pub(in crate::server) fn rewrite_child_ended(&mut self, child: &child::Child, end: ChildEnd) {
        self.aof.rewrite.last_cow_bytes = child.cow_peak;
        let Phase::Running(running) = std::mem::replace(&mut self.aof.rewrite.phase, Phase::Idle) else {
            return;
        };
        match end {
            ChildEnd::Exited(0) => {
                log::info!(target: "aikv", "Background AOF rewrite terminated with success");
                self.finish_rewrite(running);
            }
            ChildEnd::Killed(signal) => {
                self.rewrite_failed(&format!("Background AOF rewrite terminated by signal {signal}"));
            }
            ChildEnd::Exited(_) => self.rewrite_failed("Background AOF rewrite terminated with error"),
        }
    }

    // ---- the end ----

    /// Has the thread take the new base over.
    fn finish_rewrite(&mut self, running: Running) {
        let aof = &mut self.aof;
        let folder = aof.folder.clone();
        let mut manifest = aof.manifest.clone();
        let base = folder.file(&manifest.new_base(&folder.log_name, running.form));
        let mut incr = None;
        if aof.state == State::WaitRewrite {
            incr = Some((folder.temporary_incr(), folder.file(&manifest.new_incr(&folder.log_name))));
        }
        manifest.retire_incrs(usize::from(aof.state != State::Off));
        let keep_history = self.config.aof_disable_auto_gc;
        let manifest = Arc::new(Mutex::new(manifest));
        let shared = Arc::clone(&manifest);
        let size = std::fs::metadata(&running.temporary).map_or(0, |m| m.len());
        let work = move || {
            let mut manifest = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let renamed = file::rename(&running.temporary, &base)
                .and_then(|()| incr.iter().try_for_each(|(from, to)| file::rename(from, to)))
                .and_then(|()| manifest.store(&folder.manifest()));
            if renamed.is_err() {
                drop(std::fs::remove_file(&running.temporary));
                drop(std::fs::remove_file(&base));
                // The temporary increment goes on under its own name.
                incr.iter().for_each(|(from, to)| drop(std::fs::rename(to, from)));
                return renamed;
            }
            if !keep_history {
                remove_history(&mut manifest, &folder);
            }
            Ok(())
        };
        aof.next_token += 1;
        let token = aof.next_token;
        aof.rewrite.phase = Phase::Finishing { token, manifest, position: running.position, size };
        self.give_file_work(Box::new(work), token);
    }

    fn rewrite_succeeded(&mut self, manifest: Manifest, position: u64, size: u64) {
        let aof = &mut self.aof;
        aof.manifest = manifest;
        (aof.base_size, aof.earlier_size) = (size, size);
        let rewrite = &mut aof.rewrite;
        rewrite.failures = 0;
        rewrite.count += 1;
        rewrite.last_ok = true;
        rewrite.last_seconds = Some((self.now.wall_ms - rewrite.started_ms) / 1000);
        if aof.state == State::WaitRewrite {
            aof.state = State::On;
        }
        // Auto rewrites look at the growth since now.
        aof.rewrite_base_size = aof.current_size();
        log::info!(target: "aikv", "Background AOF rewrite finished successfully");
        aof.written = aof.written.max(position);
        aof.synced = aof.synced.max(position);
        if matches!(aof.failure, Some(Failure::Broken(_))) {
            match aof.file.as_ref().is_some_and(|file| file.is_broken()) {
                true => aof.rewrite.schedule(),
                false => {
                    log::warn!(target: "aikv", "All data was written anew: writes are taken again.");
                    self.log_recovered();
                }
            }
        }
        self.update_durability();
        self.answer_log_waits();
        self.flush_log();
    }

    /// A rewrite came to no good end: the log goes on as it is.
    fn rewrite_failed(&mut self, error: &str) {
        log::error!(target: "aikv", "Failed to persist data: rewriting the append-only log: {error}");
        let rewrite = &mut self.aof.rewrite;
        rewrite.phase = Phase::Idle;
        rewrite.last_ok = false;
        rewrite.failures += 1;
        rewrite.last_seconds = Some((self.now.wall_ms - rewrite.started_ms) / 1000);
        self.answer_rewrite_started();
        self.drop_temporary_incr();
        let broken = matches!(self.aof.failure, Some(Failure::Broken(_)));
        if self.aof.state == State::WaitRewrite || broken {
            self.aof.rewrite.schedule();
        }
        self.update_durability();
    }

    /// What a log without a base gathered is in the next base.
    pub(super) fn drop_temporary_incr(&mut self) {
        let aof = &mut self.aof;
        if aof.state != State::WaitRewrite || aof.file.take().is_none() {
            return;
        }
        aof.annotator = None;
        aof.buffer.clear();
        let path = aof.folder.temporary_incr();
        log::info!(target: "aikv", "Removing the temp incr aof file {} in the background", path.display());
        drop(std::fs::remove_file(path));
    }

    /// Tells those who asked that the child runs, or that it does not.
    fn answer_rewrite_started(&mut self) {
        let started = self.aof.rewrite.has_child();
        for id in std::mem::take(&mut self.aof.rewrite.waiting) {
            let Some(mut client) = self.clients.slot_of(id).and_then(|slot| self.clients.take(slot)) else {
                continue;
            };
            if matches!(client.blocked.as_deref(), Some(Blocked::Rewrite)) {
                self.release(&mut client);
                match started {
                    false if self.aof.rewrite.scheduled => {
                        client.reply.simple("Background append only file rewriting scheduled");
                    }
                    true => client.reply.simple("Background append only file rewriting started"),
                    false => self.reply_error(&mut client, &CANNOT_REWRITE),
                }
                self.queue_write(&mut client);
            }
            self.clients.put(client);
        }
    }

    /// Lets a client wait until the child runs. False if it runs already.
    pub(in crate::server) fn wait_for_rewrite(&mut self, id: u64) -> bool {
        let waits = matches!(self.aof.rewrite.phase, Phase::Preparing { .. });
        if waits {
            self.aof.rewrite.waiting.push(id);
        }
        waits
    }

    /// Begins a rewrite that was put off, or that the growth of the log asks for.
    pub(super) fn rewrite_if_due(&mut self) {
        if self.has_child() || self.aof.rewrite.is_running() || self.is_loading() {
            return;
        }
        if !(self.aof.rewrite.scheduled || self.log_has_grown()) {
            return;
        }
        let now_s = self.now.wall_ms / 1000;
        if !self.aof.rewrite.is_held_back(now_s) {
            // A failure is counted and logged; it is tried again.
            let _logged = self.start_rewrite();
        }
    }

    fn log_has_grown(&self) -> bool {
        let (aof, config) = (&self.aof, &self.config);
        let size = aof.current_size();
        let percentage = u64::from(config.auto_aof_rewrite_percentage);
        if aof.state != State::On || percentage == 0 || size <= config.auto_aof_rewrite_min_size {
            return false;
        }
        let base = aof.rewrite_base_size.max(1);
        let growth = (size as i128 * 100 / i128::from(base)) - 100;
        let due = growth >= i128::from(percentage);
        if due && aof.rewrite.next_try.is_none() {
            log::info!(target: "aikv", "Starting automatic rewriting of AOF on {growth}% growth");
        }
        due
    }

    /// Ends the child, if there is one.
    pub(in crate::server) fn kill_rewrite(&mut self) {
        self.wait_for_file_work();
        let Phase::Running(_) = &self.aof.rewrite.phase else { return };
        let pid = self.child.as_ref().map_or(0, |child| child.pid);
        log::info!(target: "aikv", "Killing running AOF rewrite child: {pid}");
        self.kill_child_now();
        self.aof.rewrite.phase = Phase::Idle;
        self.drop_temporary_incr();
        self.update_durability();
    }

    /// Waits for preparing or finishing to end.
    fn wait_for_file_work(&mut self) {
        while matches!(self.aof.rewrite.phase, Phase::Preparing { .. } | Phase::Finishing { .. }) {
            self.keyspace.background().wait_idle();
            self.background_woke();
        }
    }

    /// Deletes the files that are history.
    pub(in crate::server) fn delete_history(&mut self) {
        let Aof { manifest, folder, rewrite, .. } = &mut self.aof;
        if !self.config.aof_disable_auto_gc && !rewrite.is_running() {
            remove_history(manifest, folder);
        }
    }
}

/// The error of a BGREWRITEAOF that could not begin.
const CANNOT_REWRITE: crate::command::CmdError = crate::command::CmdError::new(
    "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
);

fn text_of(result: io::Result<()>) -> String {
    result.err().map_or_else(String::new, |error| crate::util::text::plain_error(&error))
}

/// Takes the files that are history out of the manifest and deletes them.
fn remove_history(manifest: &mut Manifest, folder: &Folder) {
    if manifest.history.is_empty() {
        return;
    }
    let history = std::mem::take(&mut manifest.history);
    if let Err(error) = manifest.store(&folder.manifest()) {
        log::warn!(target: "aikv", "Writing the AOF manifest: {error}");
        manifest.history = history;
        return;
    }
    for part in history {
        debug_assert_eq!(part.kind, Kind::History);
        log::info!(target: "aikv", "Removing the history file {} in the background", part.name);
        if let Err(error) = std::fs::remove_file(folder.file(&part.name)) {
            log::warn!(target: "aikv", "Removing {}: {error}", part.name);
        }
    }
}
