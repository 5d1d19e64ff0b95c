//! Connections from this server to others that MIGRATE keeps for a while, and what they can do. It knows no
//! socket: `net` gives the server a function that dials ([`Dial`]), tests give one of their own.

use super::Server;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// Connects to a host (name, IPv4 or IPv6 address) and port within a time.
pub type Dial = fn(&str, u16, Duration) -> io::Result<Box<dyn Link>>;

/// A connection whose calls wait. A call in which nothing moves for `idle` ends with `TimedOut`.
pub trait Link: Send {
    /// Sends all bytes.
    fn send(&mut self, bytes: &[u8], idle: Duration) -> io::Result<()>;
    /// Receives some bytes; 0: the peer has ended the connection.
    fn receive(&mut self, buf: &mut [u8], idle: Duration) -> io::Result<usize>;
}

/// What a server without a network dials.
pub fn no_network(_: &str, _: u16, _: Duration) -> io::Result<Box<dyn Link>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Connections kept at most (Redis keeps as many).
const KEPT_MAX: usize = 64;
/// Milliseconds for which an unused connection is kept (as in Redis).
const KEPT_MS: u64 = 10_000;
/// Bytes of a reply line that are kept: what is longer is cut, as in Redis.
const LINE_MAX: usize = 1023;
/// Bytes after which a line that does not end is none.
const LINE_LIMIT: usize = 64 * 1024;
/// Pieces in which a line may come: each may take as long as the client allows, and everybody waits.
const LINE_PIECES_MAX: usize = 16;
/// Bytes received at once.
const CHUNK: usize = 4096;

/// Whom a connection reaches, and as whom.
///
/// The login is part of it: who gives none must not use a connection that another client has logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Name or address as the client gave it.
    pub host: Vec<u8>,
    /// Port as the client gave it.
    pub port: Vec<u8>,
    /// The arguments of AUTH: none, a password, or a user and a password.
    pub login: Vec<Vec<u8>>,
}

/// A connection with what is known of its other side.
pub struct Target {
    link: Box<dyn Link>,
    /// The database that is selected there, if that is known.
    pub selected: Option<i64>,
    /// Whether it cannot be used any more.
    pub broken: bool,
    used_ms: u64,
    input: Vec<u8>,
    /// How much of the input was taken.
    taken: usize,
}

impl Target {
    /// A connection of which nothing is known yet.
    pub fn new(link: Box<dyn Link>) -> Target {
        Target { link, selected: None, broken: false, used_ms: 0, input: Vec::new(), taken: 0 }
    }

    /// Sends bytes. An error breaks the connection.
    pub fn send(&mut self, bytes: &[u8], idle: Duration) -> io::Result<()> {
        let result = self.link.send(bytes, idle);
        self.broken |= result.is_err();
        result
    }

    /// Receives a line without its end; a long one is cut. An error breaks the connection.
    pub fn line(&mut self, idle: Duration) -> io::Result<Vec<u8>> {
        let result = self.read_line(idle);
        self.broken |= result.is_err();
        result
    }

    fn read_line(&mut self, idle: Duration) -> io::Result<Vec<u8>> {
        let (mut line, mut length, mut pieces) = (Vec::new(), 0, 0);
        while length <= LINE_LIMIT && pieces <= LINE_PIECES_MAX {
            pieces += 1;
            let input = &self.input[self.taken..];
            let end = input.iter().position(|byte| *byte == b'\n');
            let part = &input[..end.unwrap_or(input.len())];
            length += part.len();
            line.extend_from_slice(&part[..part.len().min(LINE_MAX - line.len())]);
            self.taken += part.len() + usize::from(end.is_some());
            if end.is_some() {
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
            self.input.resize(CHUNK, 0);
            self.taken = 0;
            let received = self.link.receive(&mut self.input, idle);
            self.input.truncate(*received.as_ref().unwrap_or(&0));
            if received? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Whether everything that came was read: else requests and replies are out of step.
    fn is_in_step(&self) -> bool {
        self.taken == self.input.len()
    }
}

/// Connections that wait for their next use.
#[derive(Default)]
pub struct Links {
    kept: HashMap<Destination, Target>,
}

impl Links {
    /// Number of connections kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Takes the connection to a destination, if one was kept.
    pub fn take(&mut self, destination: &Destination) -> Option<Target> {
        self.kept.remove(destination)
    }

    /// Keeps a connection for the next use, unless it is of none. There is always room: the one that was not
    /// used for longest goes.
    pub fn keep(&mut self, destination: Destination, mut target: Target, now_ms: u64) {
        if target.broken || !target.is_in_step() {
            return;
        }
        if self.kept.len() >= KEPT_MAX
            && let Some(oldest) = self.kept.iter().min_by_key(|(_, kept)| kept.used_ms)
        {
            let oldest = oldest.0.clone();
            self.kept.remove(&oldest);
        }
        target.used_ms = now_ms;
        self.kept.insert(destination, target);
    }

    /// Closes connections that were not used for long.
    pub fn close_unused(&mut self, now_ms: u64) {
        self.kept.retain(|_, kept| now_ms.saturating_sub(kept.used_ms) <= KEPT_MS);
    }
}

impl Server {
    /// Closes outgoing connections that were not used for long (a job of the cron).
    pub(super) fn close_unused_links(&mut self) {
        let now_ms = self.now.mono_ms();
        self.links.close_unused(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(1);

    /// Gives these pieces, then ends.
    struct Pieces(Vec<Vec<u8>>);

    impl Link for Pieces {
        fn send(&mut self, _: &[u8], _: Duration) -> io::Result<()> {
            Ok(())
        }

        fn receive(&mut self, buf: &mut [u8], _: Duration) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buf[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn target(pieces: &[&[u8]]) -> Target {
        Target::new(Box::new(Pieces(pieces.iter().map(|piece| piece.to_vec()).collect())))
    }

    #[test]
    fn lines_come_in_any_pieces() {
        let mut split = target(&[b"+O", b"K\r", b"\n-ERR no\r\n+OK\n", b"+half"]);
        assert_eq!(split.line(IDLE).unwrap(), b"+OK");
        assert_eq!(split.line(IDLE).unwrap(), b"-ERR no");
        assert!(!split.is_in_step());
        assert_eq!(split.line(IDLE).unwrap(), b"+OK");
        assert!(split.is_in_step() && !split.broken);
        assert_eq!(split.line(IDLE).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(split.broken);
    }

    #[test]
    fn long_lines_are_cut_and_endless_ones_end() {
        let long = [&[b'x'; 3000][..], b"\r\n+next\r\n"].concat();
        let mut cut = target(&[&long]);
        assert_eq!(cut.line(IDLE).unwrap(), [b'x'; LINE_MAX]);
        assert_eq!(cut.line(IDLE).unwrap(), b"+next");
        let mut dripping = target(&[&b"x"[..]; 100]);
        assert_eq!(dripping.line(IDLE).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut endless = target(&[&[b'x'; CHUNK][..]; 100]);
        assert_eq!(endless.line(IDLE).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_limited_number_is_kept_for_a_limited_time() {
        let mut links = Links::default();
        let at = |i: usize| Destination { port: i.to_string().into_bytes(), ..Destination::default() };
        (0..KEPT_MAX + 3).for_each(|i| links.keep(at(i), target(&[]), i as u64));
        assert_eq!(links.len(), KEPT_MAX);
        assert!(links.take(&at(2)).is_none() && links.take(&at(3)).is_some());
        links.close_unused(KEPT_MS + 10);
        assert!(links.take(&at(9)).is_none() && links.take(&at(10)).is_some());
        let mut broken = target(&[]);
        broken.broken = true;
        links.keep(at(1), broken, 0);
        assert!(links.take(&at(1)).is_none());
        let login = Destination { login: vec![b"secret".to_vec()], ..at(20) };
        assert!(links.take(&login).is_none() && links.take(&at(20)).is_some());
        links.close_unused(u64::MAX);
        assert!(links.is_empty());
    }
}
