//! Outgoing connections: dialed and used while the loop stands still (MIGRATE), with a time limit for each
//! step. It knows no server command; what goes over such a connection is the server's affair.

use crate::server::outgoing::Link;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Connects to a host by name or address (IPv4 or IPv6), trying all addresses of a name. Looking up the name
/// has no time limit but the resolver's own (as in Redis); the connecting has. An error of kind `TimedOut`
/// says that the limit was met.
pub fn dial(host: &str, port: u16, timeout: Duration) -> io::Result<Box<dyn Link>> {
    let mut last: io::Error = io::ErrorKind::AddrNotAvailable.into();
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Box::new(Outgoing { stream, read_limit: None, write_limit: None }));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connected socket in blocking mode, and the limits that are set on it.
struct Outgoing {
    stream: TcpStream,
    read_limit: Option<Duration>,
    write_limit: Option<Duration>,
}

impl Link for Outgoing {
    fn send(&mut self, mut bytes: &[u8], idle: Duration) -> io::Result<()> {
        if self.write_limit != Some(idle) {
            self.stream.set_write_timeout(Some(idle))?;
            self.write_limit = Some(idle);
        }
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(over(error)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, buf: &mut [u8], idle: Duration) -> io::Result<usize> {
        if self.read_limit != Some(idle) {
            self.stream.set_read_timeout(Some(idle))?;
            self.read_limit = Some(idle);
        }
        loop {
            match self.stream.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(over),
            }
        }
    }
}

/// The kernel says of a limit that was met that the call would block.
fn over(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn names_and_addresses_are_dialed_and_bytes_go_both_ways() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let mut link = dial(host, port, LONG).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            link.send(b"ping", LONG).unwrap();
            let mut buf = [0; 8];
            peer.read_exact(&mut buf[..4]).unwrap();
            peer.write_all(b"pong").unwrap();
            assert_eq!((link.receive(&mut buf, LONG).unwrap(), &buf[..4]), (4, &b"pong"[..]));
            assert_eq!(link.receive(&mut buf, SHORT).unwrap_err().kind(), io::ErrorKind::TimedOut);
            drop(peer);
            assert_eq!(link.receive(&mut buf, LONG).unwrap(), 0);
        }
        if let Ok(listener) = TcpListener::bind(("::1", 0)) {
            assert!(dial("::1", listener.local_addr().unwrap().port(), LONG).is_ok());
        }
        assert!(dial("", port, LONG).is_err());
        drop(listener);
        assert_eq!(dial("127.0.0.1", port, LONG).err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_peer_that_reads_nothing_ends_a_long_send() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut link = dial("127.0.0.1", listener.local_addr().unwrap().port(), LONG).unwrap();
        let much = vec![0; 64 << 20];
        assert_eq!(link.send(&much, SHORT).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
