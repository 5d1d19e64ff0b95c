//! One connection: its stream, its ready flags, reading and writing until the kernel has no more.

use crate::config::Config;
use crate::resp::{Input, Reply};
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Read, Write};
use std::time::Duration;

/// Slices given to one writev.
const SLICES_MAX: usize = 64;
/// Bytes written to one connection in one turn; a slow reader of a huge reply must not hold up others.
const WRITE_BUDGET: usize = 1024 * 1024;

/// A TCP or Unix stream.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain.
    Unix(UnixStream),
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(s) => s,
            Stream::Unix(s) => s,
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.read(buf),
            Stream::Unix(s) => s.read(buf),
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.write(buf),
            Stream::Unix(s) => s.write(buf),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.write_vectored(slices),
            Stream::Unix(s) => s.write_vectored(slices),
        }
    }
}

/// A registered stream.
pub struct Connection {
    stream: Stream,
    token: usize,
    /// There may be bytes to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer has ended its side: read on to the end.
    pub ended: bool,
    /// The connection is broken: nothing can be sent any more.
    pub failed: bool,
    /// The connection is on a round's list.
    pub queued: bool,
    /// Output waits for room.
    pub blocked_on_write: bool,
}

/// What a read gave.
pub enum Flow {
    /// So many bytes.
    Bytes(usize),
    /// None now.
    Nothing,
    /// None ever again.
    End,
}

impl Connection {
    /// Registers a stream once for both directions.
    pub fn register(
        mut stream: Stream,
        token: usize,
        config: &Config,
        registry: &Registry,
    ) -> io::Result<Connection> {
        if let Stream::Tcp(tcp) = &stream {
            // A client that has gone already makes these fail; reading will tell.
            let _gone = tcp.set_nodelay(true);
            let _gone = set_keepalive(tcp, config.tcp_keepalive);
        }
        registry.register(stream.source(), Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection {
            stream,
            token,
            readable: true,
            writable: true,
            ended: false,
            failed: false,
            queued: false,
            blocked_on_write: false,
        })
    }

    /// Its token.
    pub fn token(&self) -> usize {
        self.token
    }

    /// Reads once into the client's input.
    pub fn read(&mut self, input: &mut Input, budget: usize) -> Flow {
        loop {
            let stream = &mut self.stream;
            match input.read_from(budget, |buf| stream.read(buf)) {
                Ok((0, _)) => return Flow::End,
                Ok((n, asked)) => {
                    // A short read means the socket is drained: new bytes make a new edge. After the
                    // peer's end there is no further edge, so reading goes on to the end.
                    self.readable = n == asked || self.ended;
                    return Flow::Bytes(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Flow::Nothing;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flow::End,
            }
        }
    }

    /// Writes pending output, the first `open` bytes of it, until it is sent, the socket is full, or the
    /// budget ends. Returns the bytes written.
    pub fn write(&mut self, reply: &mut Reply, open: usize) -> io::Result<usize> {
        let mut total = 0;
        while !reply.is_empty() && self.writable && total < WRITE_BUDGET.min(open) {
            let left = open - total;
            let result = match reply.plain() {
                Some(bytes) => self.stream.write(&bytes[..bytes.len().min(left)]),
                None => {
                    let mut slices = Vec::with_capacity(SLICES_MAX);
                    reply.slices(SLICES_MAX, left, &mut slices);
                    self.stream.write_vectored(&slices)
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    reply.advance(n);
                    total += n;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Ends the connection.
    pub fn close(mut self, registry: &Registry) {
        // Failing to deregister is harmless: closing the descriptor does it too.
        let _closed_anyway = registry.deregister(self.stream.source());
    }
}

/// Tells a client why it is not admitted, as far as the socket takes it, and closes.
pub fn refuse(mut stream: Stream, text: &[u8]) {
    let _best_effort = stream.write(text);
}

/// Probes an idle peer after `seconds`, then three times at a third of it. 0: never.
fn set_keepalive(tcp: &TcpStream, seconds: u32) -> io::Result<()> {
    if seconds == 0 {
        return Ok(());
    }
    let third = Duration::from_secs(u64::from(seconds / 3).max(1));
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(u64::from(seconds)))
        .with_interval(third)
        .with_retries(3);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}
