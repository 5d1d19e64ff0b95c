//! Child processes that see a frozen copy of memory: snapshots and log rewrites. The rules for the child: it
//! reads only what the reactor thread owns, takes no lock that any thread might have held at the fork (no
//! `println`, no channel; our own log is made for it, see `log.rs`), and ends by returning its status.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::check;

/// A child's process id.
pub type Pid = i32;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// It returned this status (0..=255).
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Status of a child that panicked.
pub const PANIC_STATUS: i32 = 101;

/// Whether this process is a child made by [`fork`]; such a one must take no locks.
pub fn in_child() -> bool {
    IN_CHILD.load(Ordering::Relaxed)
}

/// Starts a child that runs `child` and ends with the status it returns, without running exit handlers. The
/// child ignores SIGINT and SIGHUP (the terminal sends them to the whole group; the server decides what
/// becomes of the child), dies of SIGTERM and SIGUSR1 at once, and is killed when the parent's thread ends.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: jemalloc and glibc make their locks usable in the child (pthread_atfork), and by this module's
    // rules `child` takes no other lock.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            become_child();
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends this process only.
            unsafe { libc::_exit(status.unwrap_or(PANIC_STATUS)) }
        }
        pid => Ok(pid),
    }
}

fn become_child() {
    IN_CHILD.store(true, Ordering::Relaxed);
    let actions = [
        (libc::SIGINT, libc::SIG_IGN),
        (libc::SIGHUP, libc::SIG_IGN),
        (libc::SIGTERM, libc::SIG_DFL),
        (libc::SIGUSR1, libc::SIG_DFL),
        (libc::SIGALRM, libc::SIG_IGN),
    ];
    for (signal, action) in actions {
        // SAFETY: replaces the server's handlers, which would wake the parent through a shared descriptor.
        unsafe { libc::signal(signal, action) };
    }
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
}

/// A pipe from a child to its parent; reading never waits.
pub fn report_pipe() -> io::Result<(io::PipeReader, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: an open descriptor; no memory is involved.
    check(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((reader, writer))
}

/// Closes all descriptors that a child inherited, except the standard ones and these: clients would not
/// notice that the parent closed their connection as long as the child has it too.
pub fn close_inherited(keep: &[RawFd]) {
    assert!(in_child(), "the server needs its descriptors");
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > first {
            // SAFETY: the child uses none of them, and ends without running destructors.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = first.max(fd.saturating_add(1));
    }
}

/// Whether the child has ended; never waits. None while it runs. An error (ECHILD) when there is no such
/// child, for one when it was already collected.
pub fn try_wait(pid: Pid) -> io::Result<Option<ChildEnd>> {
    wait_with(pid, libc::WNOHANG)
}

/// Waits for the end of the child. Only for shutdown and tests: it blocks.
pub fn wait(pid: Pid) -> io::Result<ChildEnd> {
    loop {
        match wait_with(pid, 0) {
            Ok(Some(end)) => return Ok(end),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
}

fn wait_with(pid: Pid, options: libc::c_int) -> io::Result<Option<ChildEnd>> {
    assert!(pid > 0, "pid {pid} would mean a group of processes");
    let mut status = 0;
    // SAFETY: writes to `status` only.
    let found = unsafe { libc::waitpid(pid, &mut status, options) };
    check(found)?;
    Ok(match found {
        0 => None,
        _ if libc::WIFSIGNALED(status) => Some(ChildEnd::Killed(libc::WTERMSIG(status))),
        _ => Some(ChildEnd::Exited(libc::WEXITSTATUS(status))),
    })
}

/// Sends a signal (`libc::SIGKILL`, ...) to one process.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    assert!(pid > 0, "pid {pid} would mean a group of processes");
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn child_sees_memory_and_gives_a_status() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let data: Vec<u8> = (0..100).collect();
        let pid = fork(|| {
            let copied = data.clone();
            i32::from(!in_child() || writer.write_all(&copied).is_err()) + 3
        })
        .unwrap();
        drop(writer);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert_eq!(got, data);
        assert_eq!(wait(pid).unwrap(), ChildEnd::Exited(3));
        assert!(try_wait(pid).is_err() && !in_child());
    }

    #[test]
    fn child_closes_what_it_does_not_need() {
        let (mut reader, mut writer) = report_pipe().unwrap();
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (_keep, other) = io::pipe().unwrap();
        let pid = fork(|| {
            close_inherited(&[writer.as_raw_fd()]);
            let mut other = std::mem::ManuallyDrop::new(other);
            i32::from(writer.write_all(b"report").is_err()) + 2 * i32::from(other.write_all(b"x").is_ok())
        });
        assert_eq!(wait(pid.unwrap()).unwrap(), ChildEnd::Exited(0));
        let mut report = [0; 8];
        assert_eq!(reader.read(&mut report).unwrap(), 6);
    }

    #[test]
    fn child_can_be_killed() {
        let pid = fork(|| {
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        })
        .unwrap();
        assert_eq!(try_wait(pid).unwrap(), None);
        kill(pid, libc::SIGKILL).unwrap();
        assert_eq!(wait(pid).unwrap(), ChildEnd::Killed(libc::SIGKILL));
    }
}
