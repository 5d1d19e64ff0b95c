//! A connected socket that is read and written directly, past the event loop, by whoever may hold up the
//! whole process meanwhile: the debugger of scripts. The descriptor stays in the mode it is in (that is
//! shared with other processes that have it) and belongs to somebody else.

use super::process::check;
use super::signals;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::RawFd;

/// Who takes nothing for so many looks has gone.
const WRITE_PATIENCE_LOOKS: u32 = 20;
/// How often a reader or writer looks whether the process is to end, in milliseconds.
const LOOK_MS: i32 = 250;

/// The socket. Reading waits for bytes, writing for room, but not for ever; both fail when a signal asks for
/// the end of the process. What a failed write has left behind is no whole message: nobody should write on.
#[derive(Debug)]
pub struct Wire {
    fd: RawFd,
}

impl Wire {
    /// The socket with this descriptor, which stays open meanwhile.
    pub fn new(fd: RawFd) -> Wire {
        Wire { fd }
    }

    /// Waits until `events` come; false if the time is over (or a signal came).
    fn wait(&self, events: libc::c_short, timeout_ms: i32) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.fd, events, revents: 0 };
        // SAFETY: one entry, which lives during the call.
        match check(unsafe { libc::poll(&raw mut poll, 1, timeout_ms) }) {
            Ok(()) => Ok(poll.revents != 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if signals::end_asked() {
                return Err(io::Error::other("the process is to end"));
            }
            if !self.wait(libc::POLLIN, LOOK_MS)? {
                continue;
            }
            let (data, flags) = (buffer.as_mut_ptr().cast(), libc::MSG_DONTWAIT);
            // SAFETY: the buffer has room for so many bytes.
            let read = unsafe { libc::recv(self.fd, data, buffer.len(), flags) };
            match usize::try_from(read) {
                Ok(read) => return Ok(read),
                Err(_) => would_block(io::Error::last_os_error())?,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut looks = 0;
        loop {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: there are so many bytes.
            let written = unsafe { libc::send(self.fd, bytes.as_ptr().cast(), bytes.len(), flags) };
            match usize::try_from(written) {
                Ok(written) => return Ok(written),
                Err(_) => would_block(io::Error::last_os_error())?,
            }
            if signals::end_asked() {
                return Err(io::Error::other("the process is to end"));
            }
            if self.wait(libc::POLLOUT, LOOK_MS)? {
                continue;
            }
            looks += 1;
            if looks == WRITE_PATIENCE_LOOKS {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes on what is a real error.
fn would_block(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn reads_and_writes_whatever_the_mode() {
        let (mut near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let mut wire = Wire::new(far.as_raw_fd());
        let writer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            near.write_all(b"hello").unwrap();
            let mut all = Vec::new();
            near.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut buffer = [0; 16];
        assert_eq!(wire.read(&mut buffer).unwrap(), 5);
        // More than the socket holds.
        wire.write_all(&vec![7; 4 << 20]).unwrap();
        drop(far);
        assert_eq!(writer.join().unwrap(), 4 << 20);
    }

    #[test]
    fn the_end_is_seen() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(near);
        let mut wire = Wire::new(far.as_raw_fd());
        assert_eq!(wire.read(&mut [0; 16]).unwrap(), 0);
        assert!(wire.write_all(b"x").is_err());
    }
}
