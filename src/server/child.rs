//! The child process that writes a snapshot or rewrites the log: at most one at a time. It is forked, sees
//! the keyspace as it was, reports through a pipe how far it is and how much memory copy-on-write has cost,
//! and is collected by the cron.

use super::Server;
use crate::rdb::Observer;
use crate::sys::clock::Clock;
use crate::sys::fork::{self, ChildEnd, Pid};
use crate::sys::{log as logger, process};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// It writes a snapshot.
    Snapshot,
    /// It rewrites the log.
    LogRewrite,
}

/// A child at work.
pub struct Child {
    /// Its process.
    pub pid: Pid,
    /// What it does.
    pub job: Job,
    /// When it was started, in monotonic milliseconds.
    pub started_ms: u64,
    /// Keys there were then.
    pub keys_total: u64,
    /// What it said last.
    pub report: Report,
    /// When it said so, in monotonic milliseconds.
    pub reported_ms: u64,
    /// The most that copy-on-write has cost, in bytes.
    pub cow_peak: u64,
    /// Whether it was killed by the server itself, which is no failure.
    pub killed: bool,
    /// The file that is of no use if it does not come to its end.
    pub file: PathBuf,
    pipe: PipeReader,
}

/// What a child says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Keys done.
    pub keys: u64,
    /// Bytes that copy-on-write has cost.
    pub cow: u64,
}

/// Bytes of a report in the pipe: small enough to arrive whole.
const REPORT_BYTES: usize = 16;
/// A child looks at the clock after so many keys.
const KEYS_PER_LOOK: u64 = 256;
/// It reports about so often, in nanoseconds.
const REPORT_NS: u64 = 200_000_000;
/// Measuring copy-on-write may take a hundredth of its time.
const MEASURE_SHARE: u64 = 100;

impl Report {
    fn encode(self) -> [u8; REPORT_BYTES] {
        let mut bytes = [0; REPORT_BYTES];
        bytes[..8].copy_from_slice(&self.keys.to_le_bytes());
        bytes[8..].copy_from_slice(&self.cow.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; REPORT_BYTES]) -> Report {
        let number = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("a report is whole"));
        Report { keys: number(0), cow: number(8) }
    }
}

/// The child's side: tells the parent how it is going.
pub struct Reporter {
    pipe: PipeWriter,
    clock: Clock,
    report: Report,
    next_report_ns: u64,
    next_measure_ns: u64,
    /// Microseconds to wait after each key; one in so many when negative (rdb-key-save-delay).
    delay_us: i32,
}

impl Reporter {
    fn tell(&mut self) {
        let now_ns = self.clock.mono_ns();
        if now_ns >= self.next_measure_ns {
            self.report.cow = process::private_dirty_bytes();
            let took_ns = self.clock.mono_ns() - now_ns;
            self.next_measure_ns = now_ns + REPORT_NS.max(took_ns * MEASURE_SHARE);
        }
        self.next_report_ns = now_ns + REPORT_NS;
        // A parent that has gone ends this process; there is nothing to do about another error.
        let _ = self.pipe.write_all(&self.report.encode());
    }

    /// The last word.
    fn finish(&mut self) {
        self.next_measure_ns = 0;
        self.tell();
    }
}

impl Observer for Reporter {
    fn key_saved(&mut self, saved: u64) -> ControlFlow<()> {
        self.report.keys = saved;
        delay(self.delay_us, saved);
        let looks = self.delay_us > 0 || saved.is_multiple_of(KEYS_PER_LOOK);
        if looks && self.clock.mono_ns() >= self.next_report_ns {
            self.tell();
        }
        ControlFlow::Continue(())
    }
}

/// Waits as the options rdb-key-save-delay and key-load-delay say, behind the `nth` key.
pub(super) fn delay(us: i32, nth: u64) {
    let us = match us {
        0 => return,
        1.. => us.unsigned_abs(),
        _ => u32::from(nth.is_multiple_of(u64::from(us.unsigned_abs()))),
    };
    if us > 0 {
        std::thread::sleep(std::time::Duration::from_micros(u64::from(us)));
    }
}

impl Server {
    /// Starts a child that runs `work` and ends with a status that says whether it was done. `file` names
    /// what the child of a process id writes until it is done.
    pub(super) fn start_child(
        &mut self,
        job: Job,
        file: fn(Pid) -> PathBuf,
        work: impl FnOnce(&Server, &mut Reporter) -> io::Result<()>,
    ) -> io::Result<()> {
        assert!(self.child.is_none(), "there is one child at most");
        let (reader, writer) = fork::report_pipe()?;
        let begin_ns = self.clock.mono_ns();
        let server = &*self;
        let pid = fork::fork(|| server.run_child(job, writer, work))?;
        self.note_fork(begin_ns);
        let keys = (0..self.keyspace.databases()).map(|db| self.keyspace.db(db).len() as u64).sum();
        let now_ms = self.now.mono_ms();
        self.child = Some(Child {
            pid,
            job,
            started_ms: now_ms,
            keys_total: keys,
            report: Report::default(),
            reported_ms: now_ms,
            cow_peak: 0,
            killed: false,
            file: file(pid),
            pipe: reader,
        });
        // Syncs may have to rest while a child writes.
        self.update_durability();
        Ok(())
    }

    /// Counts a fork that began then (monotonic nanoseconds).
    pub(super) fn note_fork(&mut self, begin_ns: u64) {
        let us = (self.clock.mono_ns() - begin_ns) / 1000;
        self.stats.counters.forks += 1;
        self.stats.counters.latest_fork_us = us;
        let threshold_ms = self.config.latency_monitor_threshold;
        if threshold_ms > 0 && us / 1000 >= threshold_ms {
            self.stats.latency.add("fork", self.now.wall_ms / 1000, us / 1000);
        }
    }

    /// What the child does; its status.
    fn run_child(
        &self,
        job: Job,
        pipe: PipeWriter,
        work: impl FnOnce(&Server, &mut Reporter) -> io::Result<()>,
    ) -> i32 {
        fork::close_inherited(&[pipe.as_raw_fd(), logger::raw_fd()]);
        let (name, cpus) = match job {
            Job::Snapshot => ("aikv-rdb-bgsave", &self.config.bgsave_cpulist),
            Job::LogRewrite => ("aikv-aof-rewrite", &self.config.aof_rewrite_cpulist),
        };
        process::set_title(name);
        self.set_oom_score_of_child();
        if !cpus.is_empty() {
            // Running elsewhere is no harm.
            let _ = process::set_cpu_list(cpus);
        }
        let clock = Clock::real();
        let begin_ns = clock.mono_ns();
        let mut reporter = Reporter {
            pipe,
            clock,
            report: Report::default(),
            next_report_ns: begin_ns,
            next_measure_ns: begin_ns,
            delay_us: self.config.rdb_key_save_delay,
        };
        let done = work(self, &mut reporter);
        reporter.finish();
        match done {
            Ok(()) => {
                log::info!(
                    target: "aikv",
                    "Fork CoW: {} MB of memory used by copy-on-write",
                    reporter.report.cow >> 20
                );
                0
            }
            Err(error) => {
                log::error!(target: "aikv", "Failed to persist data: {}", plain(&error));
                1
            }
        }
    }

    /// Reads what the child has said since.
    pub(super) fn read_reports(&mut self) {
        let now_ms = self.now.mono_ms();
        let Some(child) = &mut self.child else { return };
        let mut bytes = [0; REPORT_BYTES];
        while let Ok(REPORT_BYTES) = child.pipe.read(&mut bytes) {
            child.report = Report::decode(&bytes);
            child.reported_ms = now_ms;
            child.cow_peak = child.cow_peak.max(child.report.cow);
        }
    }

    /// Collects the child if it has come to its end.
    pub(super) fn check_child(&mut self) {
        self.read_reports();
        let Some(child) = &self.child else { return };
        let end = match fork::try_wait(child.pid) {
            Ok(None) => return,
            Ok(Some(end)) => end,
            Err(error) => {
                log::error!(target: "aikv", "Waiting for child {}: {error}", child.pid);
                ChildEnd::Exited(1)
            }
        };
        // What it said last is in the pipe.
        self.read_reports();
        let Some(child) = self.child.take() else { return };
        if end != ChildEnd::Exited(0) {
            remove_unfinished(&child.file);
        }
        match child.job {
            Job::Snapshot => self.snapshot_ended(&child, end),
            Job::LogRewrite => self.rewrite_child_ended(&child, end),
        }
        self.update_durability();
    }

    /// Kills the child, if there is one with this job; the cron collects it.
    pub(super) fn kill_child(&mut self, job: Job) {
        let Some(child) = self.child.as_mut().filter(|child| child.job == job) else { return };
        child.killed = true;
        if let Err(error) = fork::kill(child.pid, libc::SIGKILL) {
            log::warn!(target: "aikv", "Killing child {}: {error}", child.pid);
        }
    }

    /// Kills the child and waits for its end: the process is about to end, too.
    pub(super) fn kill_child_now(&mut self) {
        let Some(job) = self.child.as_ref().map(|child| child.job) else { return };
        self.kill_child(job);
        let Some(child) = self.child.take() else { return };
        if let Err(error) = fork::wait(child.pid) {
            log::warn!(target: "aikv", "Waiting for child {}: {error}", child.pid);
        }
        remove_unfinished(&child.file);
    }
}

/// Removes a file that did not become what it should.
pub(super) fn remove_unfinished(file: &std::path::Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!(target: "aikv", "Removing {}: {error}", file.display());
        }
        _ => {}
    }
}

/// An error in plain words.
pub(super) fn plain(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::StorageFull {
        return "disk full".to_string();
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}
