//! Work that must not hold up the event loop: freeing big values, fsync, closing big files. Two threads take
//! it, so that a reply that waits for an fsync does not wait for the freeing of a million elements. Results
//! come back through a list and a descriptor that becomes readable. Knows no value and no log format.
//!
//! Bounds: each thread's queue holds [`QUEUE_LIMIT`] jobs. Freeing or closing beyond that is done by the
//! caller at once, which slows down who produces it; an fsync waits for room. A forked child must use none
//! of this.

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::{alloc, file, process, signals};

/// Jobs a queue holds; its memory (about 100 KiB) is taken at the start.
pub const QUEUE_LIMIT: usize = 2_048;

/// The workers. Dropping it finishes all jobs.
#[derive(Debug)]
pub struct Background {
    shared: Arc<Shared>,
    /// None: jobs run at once, in the caller.
    workers: Option<Workers>,
}

/// The end of an fsync.
#[derive(Debug)]
pub struct Completion {
    /// What the caller gave to recognise it.
    pub token: u64,
    /// What fsync said.
    pub result: io::Result<()>,
}

#[derive(Debug)]
struct Workers {
    free: Worker,
    sync: Worker,
}

#[derive(Debug)]
struct Worker {
    /// None while dropping.
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads and the owner share.
#[derive(Debug)]
struct Shared {
    pending_objects: AtomicU64,
    freed_objects: AtomicU64,
    pending_syncs: AtomicU64,
    completions: Mutex<Vec<Completion>>,
    /// Tokens of [`Background::tell_when_freed`] whose time has come.
    freed: Mutex<Vec<u64>>,
    wake: OwnedFd,
}

/// How a worker stands beside the event loop when both want the same core.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Priority {
    Normal,
    /// Nobody waits for its work.
    Low,
}

enum Job {
    Free {
        value: Box<dyn Any + Send>,
        weight: u64,
    },
    Sync {
        file: Arc<File>,
        token: u64,
    },
    Close(File),
    /// Work on files whose end is a completion.
    Work {
        work: Box<dyn FnOnce() -> io::Result<()> + Send>,
        token: u64,
    },
    /// Told to the owner when all earlier jobs of the queue are done.
    Tell(u64),
    /// Answered when all earlier jobs of the queue are done.
    Barrier(SyncSender<()>),
}

impl Shared {
    fn run(&self, job: Job) {
        match job {
            Job::Free { value, weight } => {
                drop(value);
                self.pending_objects.fetch_sub(weight, Ordering::Relaxed);
                self.freed_objects.fetch_add(weight, Ordering::Relaxed);
            }
            Job::Sync { file, token } => self.complete(token, file::fdatasync(&file)),
            Job::Work { work, token } => self.complete(token, work()),
            Job::Close(file) => drop(file),
            Job::Tell(token) => {
                self.freed.lock().unwrap_or_else(PoisonError::into_inner).push(token);
                signals::wake(self.wake.as_raw_fd());
            }
            // Nobody waits any more: fine.
            Job::Barrier(done) => drop(done.send(())),
        }
    }
}

impl Shared {
    /// Tells the owner how a sync or other work on files ended.
    fn complete(&self, token: u64, result: io::Result<()>) {
        let mut completions = self.completions.lock().unwrap_or_else(PoisonError::into_inner);
        completions.push(Completion { token, result });
        drop(completions);
        self.pending_syncs.fetch_sub(1, Ordering::Release);
        signals::wake(self.wake.as_raw_fd());
    }
}

impl Worker {
    fn start(name: &str, priority: Priority, shared: &Arc<Shared>) -> io::Result<Worker> {
        let (sender, receiver): (SyncSender<Job>, Receiver<Job>) = sync_channel(QUEUE_LIMIT);
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            block_signals();
            if priority == Priority::Low {
                process::lower_own_priority();
            }
            while let Some(job) = next_job(&receiver) {
                shared.run(job);
                alloc::publish();
            }
        })?;
        Ok(Worker { queue: Some(sender), thread: Some(thread) })
    }

    fn queue(&self) -> &SyncSender<Job> {
        self.queue.as_ref().expect("the queue is closed only when dropping")
    }

    /// Queues a job; gives it back when the queue is full.
    fn offer(&self, job: Job) -> Result<(), Job> {
        self.queue().try_send(job).map_err(|error| match error {
            TrySendError::Full(job) => job,
            TrySendError::Disconnected(_) => panic!("a background thread has ended"),
        })
    }
}

/// Waits for a job; none when the queue is closed. Before it waits, what the thread has kept of the blocks it
/// freed is given back: it allocates nothing, and each kept block keeps a slab of the allocator.
fn next_job(queue: &Receiver<Job>) -> Option<Job> {
    match queue.try_recv() {
        Err(TryRecvError::Empty) => {
            alloc::flush_thread_cache();
            queue.recv().ok()
        }
        job => job.ok(),
    }
}

/// Signals are for the main thread, whose system calls they interrupt.
fn block_signals() {
    // SAFETY: all-zero is a valid set, filled before use; only this thread's mask changes. Signals of errors
    // (SIGSEGV ...) reach the thread that caused them even when blocked, by ending the process.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGALRM] {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already, or is a test's.
            let _ = thread.join();
        }
    }
}

impl Background {
    /// Starts the threads `aikv-free` and `aikv-sync`. After daemonizing.
    pub fn start() -> io::Result<Background> {
        let shared = Arc::new(Shared::new()?);
        let workers = Workers {
            free: Worker::start("aikv-free", Priority::Low, &shared)?,
            sync: Worker::start("aikv-sync", Priority::Normal, &shared)?,
        };
        Ok(Background { shared, workers: Some(workers) })
    }

    /// No threads: every job is done before the call returns. For tests and simulations.
    ///
    /// # Panics
    /// When the process has no file descriptor left.
    pub fn inline() -> Background {
        let shared = Shared::new().expect("an eventfd can be made");
        Background { shared: Arc::new(shared), workers: None }
    }

    /// Drops a value in the background. `weight` is its number of objects (values of keys), for the two
    /// counters below.
    pub fn drop_later(&self, value: Box<dyn Any + Send>, weight: usize) {
        let weight = weight as u64;
        self.shared.pending_objects.fetch_add(weight, Ordering::Relaxed);
        self.give(|workers| &workers.free, Job::Free { value, weight });
    }

    /// Lets the token come out of [`Background::freed`] when all that was given to `drop_later` so far is
    /// dropped (or at once, should the queue be full).
    pub fn tell_when_freed(&self, token: u64) {
        self.give(|workers| &workers.free, Job::Tell(token));
    }

    /// The tokens of [`Background::tell_when_freed`] that have come since the last call, in order.
    pub fn freed(&self) -> Vec<u64> {
        std::mem::take(&mut *self.shared.freed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Objects that wait for being freed (INFO `lazyfree_pending_objects`).
    pub fn pending_objects(&self) -> u64 {
        self.shared.pending_objects.load(Ordering::Relaxed)
    }

    /// Elements freed so far (INFO `lazyfreed_objects`).
    pub fn freed_objects(&self) -> u64 {
        self.shared.freed_objects.load(Ordering::Relaxed)
    }

    /// Sets the count of freed elements back to 0 (CONFIG RESETSTAT).
    pub fn reset_freed_objects(&self) {
        self.shared.freed_objects.store(0, Ordering::Relaxed);
    }

    /// Syncs the content of a file (fdatasync) in the background, in the order of the calls. Its end comes
    /// out of [`Background::completions`] with the token.
    pub fn fsync_later(&self, file: Arc<File>, token: u64) {
        self.queue_sync(Job::Sync { file, token });
    }

    /// Does work on files (a write and its sync) in the thread that syncs, in the order of the calls. Its end
    /// comes out of [`Background::completions`] with the token.
    pub fn work_later(&self, work: Box<dyn FnOnce() -> io::Result<()> + Send>, token: u64) {
        self.queue_sync(Job::Work { work, token });
    }

    fn queue_sync(&self, job: Job) {
        self.shared.pending_syncs.fetch_add(1, Ordering::Relaxed);
        match &self.workers {
            None => self.shared.run(job),
            Some(workers) => {
                let sent = workers.sync.queue().send(job);
                assert!(sent.is_ok(), "a background thread has ended");
            }
        }
    }

    /// Syncs that are queued or under way.
    pub fn pending_syncs(&self) -> u64 {
        self.shared.pending_syncs.load(Ordering::Acquire)
    }

    /// Closes a file in the background: for a deleted file that is when its blocks are freed.
    pub fn close_later(&self, file: File) {
        self.give(|workers| &workers.sync, Job::Close(file));
    }

    /// The syncs that have ended since the last call, in order. Makes [`Background::wake_fd`] quiet.
    pub fn completions(&self) -> Vec<Completion> {
        signals::drain(self.shared.wake.as_raw_fd());
        let mut completions = self.shared.completions.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *completions)
    }

    /// Becomes readable when there are completions or freed tokens.
    pub fn wake_fd(&self) -> RawFd {
        self.shared.wake.as_raw_fd()
    }

    /// Waits until all jobs given so far are done. Blocks: for shutdown, and before a file is reused.
    pub fn wait_idle(&self) {
        let Some(workers) = &self.workers else {
            return;
        };
        for worker in [&workers.free, &workers.sync] {
            let (done, wait) = sync_channel(1);
            let sent = worker.queue().send(Job::Barrier(done));
            assert!(sent.is_ok() && wait.recv().is_ok(), "a background thread has ended");
        }
    }

    /// Queues a job, or does it here when there are no threads or the queue is full.
    fn give(&self, which: impl FnOnce(&Workers) -> &Worker, job: Job) {
        let left = match &self.workers {
            None => Err(job),
            Some(workers) => which(workers).offer(job),
        };
        if let Err(job) = left {
            self.shared.run(job);
        }
    }
}

impl Shared {
    fn new() -> io::Result<Shared> {
        Ok(Shared {
            pending_objects: AtomicU64::new(0),
            freed_objects: AtomicU64::new(0),
            pending_syncs: AtomicU64::new(0),
            completions: Mutex::new(Vec::new()),
            freed: Mutex::new(Vec::new()),
            wake: signals::event_fd()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn readable(fd: RawFd, timeout_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
    }

    fn exercise(background: &Background) {
        let file = Arc::new(tempfile::tempfile().unwrap());
        (&*file).write_all(b"x").unwrap();
        for token in [7, 8] {
            background.fsync_later(Arc::clone(&file), token);
        }
        background.drop_later(Box::new(vec![vec![1u8; 100]; 1_000]), 1_000);
        background.tell_when_freed(5);
        background.close_later(tempfile::tempfile().unwrap());
        background.wait_idle();
        assert!(readable(background.wake_fd(), 1_000));
        let ended = background.completions();
        assert_eq!(
            ended.iter().map(|end| (end.token, end.result.is_ok())).collect::<Vec<_>>(),
            [(7, true), (8, true)]
        );
        assert!(!readable(background.wake_fd(), 0) && background.completions().is_empty());
        assert_eq!((background.pending_objects(), background.freed_objects()), (0, 1_000));
        assert_eq!((background.pending_syncs(), background.freed()), (0, vec![5]));
        background.reset_freed_objects();
        assert_eq!(background.freed_objects(), 0);
    }

    #[test]
    fn threads_and_inline_do_the_same() {
        let _alone = crate::sys::file::exclusive();
        exercise(&Background::start().unwrap());
        exercise(&Background::inline());
    }

    #[test]
    fn a_full_queue_frees_in_the_caller() {
        let _alone = crate::sys::file::exclusive();
        struct Gate(Receiver<()>);
        impl Drop for Gate {
            fn drop(&mut self) {
                let _ = self.0.recv();
            }
        }
        let background = Background::start().unwrap();
        let (open, gate) = sync_channel(1);
        background.drop_later(Box::new(Gate(gate)), 1);
        for _ in 0..2 * QUEUE_LIMIT {
            background.drop_later(Box::new(1u64), 1);
        }
        let freed = background.freed_objects();
        assert!(freed >= QUEUE_LIMIT as u64 - 1, "{freed}");
        // The other thread is not held up.
        background.fsync_later(Arc::new(tempfile::tempfile().unwrap()), 1);
        assert!(readable(background.wake_fd(), 5_000));
        open.send(()).unwrap();
        background.wait_idle();
        assert_eq!(background.freed_objects(), 2 * QUEUE_LIMIT as u64 + 1);
    }

    #[test]
    fn a_failed_sync_is_reported() {
        let _alone = crate::sys::file::exclusive();
        let background = Background::start().unwrap();
        // A pipe cannot be synced.
        let (reader, _writer) = std::io::pipe().unwrap();
        background.fsync_later(Arc::new(File::from(OwnedFd::from(reader))), 3);
        background.wait_idle();
        let ended = background.completions();
        assert!(ended.len() == 1 && ended[0].result.is_err());
    }
}
