//! Signals that steer the server: noted in a handler, taken by the event loop, which a descriptor wakes.
//! What a signal means is decided by the server.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use signal_hook::low_level;

/// A signal the server acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a polite request to end.
    Terminate,
    /// SIGHUP: reopen the log.
    Hangup,
    /// SIGUSR1: reopen the log.
    User1,
}

const KNOWN: [(Signal, libc::c_int); 4] = [
    (Signal::Interrupt, libc::SIGINT),
    (Signal::Terminate, libc::SIGTERM),
    (Signal::Hangup, libc::SIGHUP),
    (Signal::User1, libc::SIGUSR1),
];

static PENDING: [AtomicBool; KNOWN.len()] = [const { AtomicBool::new(false) }; KNOWN.len()];

/// How SIGINT and SIGTERM are answered without the event loop, which may be busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Urgency {
    /// The event loop decides.
    Normal = 0,
    /// The data is still being loaded, so there is nothing to save: end at once with status 0.
    Loading = 1,
    /// A shutdown is under way: a further SIGINT ends at once with status 1.
    ShuttingDown = 2,
}

static URGENCY: AtomicU8 = AtomicU8::new(Urgency::Normal as u8);

/// Says what SIGINT and SIGTERM meet from now on.
pub fn set_urgency(urgency: Urgency) {
    URGENCY.store(urgency as u8, Ordering::Relaxed);
}

/// A file that a further SIGINT during a shutdown removes before the process ends.
static DOOMED: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Says which file is of no use when a further SIGINT ends a shutdown.
pub fn set_doomed_file(path: &std::path::Path) {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return };
    // Leaked: the handler may be reading the old one.
    DOOMED.store(path.into_raw(), Ordering::Release);
}

/// The installed handlers. They stay for the life of the process.
#[derive(Debug)]
pub struct Signals {
    wake: OwnedFd,
}

impl Signals {
    /// Takes over SIGINT, SIGTERM, SIGHUP and SIGUSR1, and ignores SIGPIPE (a peer that went away is seen as
    /// an error of the write). To be called once.
    pub fn install() -> io::Result<Signals> {
        let wake = event_fd()?;
        ignore(libc::SIGPIPE);
        for (index, (_, number)) in KNOWN.iter().enumerate() {
            let (number, fd) = (*number, wake.as_raw_fd());
            // SAFETY: the handler only uses atomics, write(2) and _exit(2). The descriptor is not closed
            // while handlers run: `Signals` lives as long as the event loop, which ends with the process.
            unsafe { low_level::register(number, move || on_signal(index, number, fd)) }?;
        }
        Ok(Signals { wake })
    }

    /// Becomes readable when a signal came; [`Signals::take`] makes it quiet again.
    pub fn fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// The signals that came since the last call, each kind once.
    pub fn take(&self) -> Vec<Signal> {
        drain(self.wake.as_raw_fd());
        let came = |index: usize| PENDING[index].swap(false, Ordering::AcqRel);
        KNOWN.iter().enumerate().filter(|(index, _)| came(*index)).map(|(_, (signal, _))| *signal).collect()
    }
}

/// Whether a signal that asks for the end of the process has come and was not taken yet.
pub fn end_asked() -> bool {
    let ends = |signal: Signal| matches!(signal, Signal::Interrupt | Signal::Terminate);
    KNOWN.iter().zip(&PENDING).any(|((signal, _), came)| ends(*signal) && came.load(Ordering::Acquire))
}

/// Lets a signal have no effect.
pub fn ignore(signal: libc::c_int) {
    // SAFETY: no handler of ours is involved.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Runs in signal context.
fn on_signal(index: usize, number: libc::c_int, fd: RawFd) {
    let urgency = URGENCY.load(Ordering::Relaxed);
    let ends = matches!(number, libc::SIGINT | libc::SIGTERM);
    if urgency == Urgency::Loading as u8 && ends {
        super::log::write_raw(b"Received shutdown signal during loading, exiting now.\n");
        low_level::exit(0);
    }
    if urgency == Urgency::ShuttingDown as u8 && number == libc::SIGINT {
        super::log::write_raw(b"You insist... exiting now.\n");
        let doomed = DOOMED.load(Ordering::Acquire);
        if !doomed.is_null() {
            // SAFETY: a string with a NUL at its end that is never freed; unlink(2) may be called here.
            unsafe { libc::unlink(doomed) };
        }
        low_level::exit(1);
    }
    PENDING[index].store(true, Ordering::Release);
    wake(fd);
}

/// A counter with a descriptor that is readable while it is not 0 (eventfd).
pub(super) fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    super::process::check(fd)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an [`event_fd`] readable. Safe in signal handlers and from any thread.
pub(super) fn wake(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: reads 8 bytes. It fails only when the counter is full: readable anyway.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

/// Makes an [`event_fd`] quiet.
pub(super) fn drain(fd: RawFd) {
    let mut count = [0u8; 8];
    // SAFETY: writes 8 bytes. It fails only when the counter is 0 already.
    unsafe { libc::read(fd, count.as_mut_ptr().cast(), count.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_taken_once() {
        let signals = Signals::install().unwrap();
        assert_eq!(signals.take(), []);
        low_level::raise(libc::SIGUSR1).unwrap();
        low_level::raise(libc::SIGUSR1).unwrap();
        low_level::raise(libc::SIGTERM).unwrap();
        low_level::raise(libc::SIGPIPE).unwrap();
        let mut poll = libc::pollfd { fd: signals.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 1_000) }, 1);
        assert_eq!(signals.take(), [Signal::Terminate, Signal::User1]);
        assert_eq!(signals.take(), []);
        // SAFETY: one valid entry.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 0) }, 0);
        // Handlers outlive this test: keep their descriptor open.
        std::mem::forget(signals);
    }
}
