//! The request parser: cuts a client's input into requests (multibulk and inline), remembers where it
//! stopped inside an unfinished one, and enforces the protocol's limits. Knows no command.
//! Texts and limits are those of Redis' protocol (`Protocol error: ...`).

use super::args::{Arg, Args};
use crate::collections::blob::Blob;
use crate::util::{num, quote};

/// Arguments from this size on are read into a buffer of their own and moved, not copied.
pub const BIG_ARG_BYTES: usize = 32 * 1024;
/// Memory promised to a big argument before its bytes have come.
const BIG_ARG_ADVANCE_BYTES: usize = 16 << 20;
/// Longest inline request and longest header line without an end of line.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Requests parsed ahead in one go: enough to hide memory latency, few enough to stay fair.
pub const BATCH_REQUESTS_MAX: usize = 64;
/// A client that has not authenticated may send this many arguments of this size.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16384;

/// What is allowed in a request right now.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`, in bytes.
    pub bulk_bytes_max: u64,
    /// Whether the client still has to authenticate (much smaller requests are taken then).
    pub unauthenticated: bool,
}

/// A violation of the protocol. It is answered, then the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub String);

/// One parsed request: a run of the batch's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    first: u32,
    argc: u32,
    /// Offset in the input just behind the request.
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first byte of a request.
    Start,
    /// Inside a multibulk request: this many arguments are missing.
    Bulks(i64),
    /// Reading an argument of this length; its bytes begin at `scan`.
    Body { left: i64, len: usize },
    /// The same, but the bytes go to the last buffer of `big`.
    BigBody { left: i64, len: usize },
}

/// A client's input: unread bytes, requests parsed from them, and the parser's place.
///
/// `buf` is kept initialised over its whole length, so that reads need no zeroing; the input itself is
/// `buf[..filled]`.
pub struct Input {
    buf: Vec<u8>,
    filled: usize,
    /// Where the parser goes on.
    scan: usize,
    state: State,
    args: Vec<Arg>,
    /// First argument (index into `args`) of the unfinished request.
    partial: usize,
    requests: Vec<Request>,
    /// Next request to run.
    next: usize,
    big: Vec<Blob>,
    error: Option<ProtocolError>,
    /// The last batch was full before the input was at its end.
    stopped: bool,
    /// Bytes of the requests that were parsed and run, for statistics.
    peak: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self::new()
    }
}

impl Input {
    /// An empty input; buffers are allocated when bytes come.
    pub const fn new() -> Self {
        Input {
            buf: Vec::new(),
            filled: 0,
            scan: 0,
            state: State::Start,
            args: Vec::new(),
            partial: 0,
            requests: Vec::new(),
            next: 0,
            big: Vec::new(),
            error: None,
            stopped: false,
            peak: 0,
        }
    }

    /// Adds bytes that arrived (tests, in-process links). Sockets use [`Input::read_target`].
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(missing) = self.big_missing() {
            let n = missing.min(bytes.len());
            self.fill_big(&bytes[..n]);
            bytes = &bytes[n..];
            if n < missing || bytes.is_empty() {
                break;
            }
        }
        self.make_room(bytes.len());
        self.buf[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Makes the buffer long enough for `extra` more bytes; doubles for long pipelines, so that copying
    /// stays linear.
    fn make_room(&mut self, extra: usize) {
        if self.buf.len() - self.filled < extra {
            let target = self.filled + extra.max(self.filled);
            self.buf.reserve_exact(target - self.buf.len());
            self.buf.resize(target, 0);
        }
    }

    /// Removes `range` of the input by moving what is behind it.
    fn cut(&mut self, range: std::ops::Range<usize>) {
        self.buf.copy_within(range.end..self.filled, range.start);
        self.filled -= range.len();
    }

    /// Lends a scratch buffer to an input that holds none: most requests are read, run and forgotten,
    /// and an idle client then holds no buffer at all.
    pub fn lend(&mut self, scratch: &mut Vec<u8>) {
        if self.buf.is_empty() {
            std::mem::swap(&mut self.buf, scratch);
        }
    }

    /// Takes the scratch buffer back; unfinished input moves to a buffer of its own.
    pub fn give_back(&mut self, scratch: &mut Vec<u8>) {
        self.compact();
        if !scratch.is_empty() || self.buf.is_empty() {
            return;
        }
        let rest = self.buf[..self.filled].to_vec();
        *scratch = std::mem::replace(&mut self.buf, rest);
    }

    /// Bytes still missing of the big argument that is being read, if there is one.
    fn big_missing(&self) -> Option<usize> {
        match self.state {
            State::BigBody { len, .. } => {
                let have = self.big.last().map_or(0, Blob::len);
                (have < len).then_some(len - have)
            }
            _ => None,
        }
    }

    fn fill_big(&mut self, bytes: &[u8]) {
        let blob = self.big.last_mut().expect("a big argument is being read");
        blob.extend_from_slice(bytes);
    }

    /// Where the next bytes of the socket belong: `read` is called with a buffer and returns how many
    /// bytes it put there. At most `budget` bytes are asked for.
    pub fn read_from<E>(
        &mut self,
        budget: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(usize, usize), E> {
        if let Some(missing) = self.big_missing() {
            let want = missing.min(budget.max(BIG_ARG_BYTES));
            let blob = self.big.last_mut().expect("a big argument is being read");
            let n = blob.append_with(want, read)?;
            return Ok((n, want));
        }
        self.compact();
        self.make_room(budget);
        let target = &mut self.buf[self.filled..];
        let want = target.len();
        let n = read(target)?;
        self.filled += n;
        self.peak = self.peak.max(self.filled);
        Ok((n, want))
    }

    /// Bytes waiting, parsed or not.
    pub fn pending_bytes(&self) -> usize {
        self.filled + self.big.iter().map(Blob::len).sum::<usize>()
    }

    /// Whether a request is half read.
    pub fn is_mid_request(&self) -> bool {
        self.state != State::Start || self.scan < self.filled
    }

    /// Heap bytes held.
    pub fn memory_bytes(&self) -> usize {
        self.buf.capacity()
            + self.args.capacity() * size_of::<Arg>()
            + self.requests.capacity() * size_of::<Request>()
            + self.big.iter().map(Blob::len).sum::<usize>()
    }

    /// Capacity of the plain buffer (CLIENT LIST's qbuf + qbuf-free).
    pub fn buffer_capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Longest the buffer has been since the last call.
    pub fn take_peak(&mut self) -> usize {
        std::mem::take(&mut self.peak)
    }

    /// Gives back memory that an idle client does not need.
    pub fn shrink(&mut self) {
        self.compact();
        self.buf.truncate(self.filled);
        self.buf.shrink_to_fit();
        if self.requests.is_empty() {
            self.requests = Vec::new();
            self.args.shrink_to_fit();
        }
    }

    /// The next parsed request, if one is ready. It stays valid until the input is changed.
    #[inline]
    pub fn next_request(&mut self) -> Option<Request> {
        let request = *self.requests.get(self.next)?;
        self.next += 1;
        Some(request)
    }

    /// Puts the last request back (the client may not go on: paused).
    pub fn unget(&mut self) {
        assert!(self.next > 0, "a request was taken");
        self.next -= 1;
    }

    /// All requests that are parsed and not yet run.
    pub fn ready(&self) -> &[Request] {
        &self.requests[self.next..]
    }

    /// Whether something waits to be run: parsed requests, or bytes behind a full batch. Such input holds
    /// back further reading.
    pub fn has_waiting(&self) -> bool {
        self.next < self.requests.len() || self.stopped
    }

    /// The arguments of a request.
    #[inline]
    pub fn args(&self, request: Request) -> Args<'_> {
        let first = request.first as usize;
        Args::new(&self.buf, &self.args[first..first + request.argc as usize], &self.big)
    }

    /// The protocol error at which parsing ended, once everything before it was run.
    pub fn take_error(&mut self) -> Option<ProtocolError> {
        if self.next < self.requests.len() { None } else { self.error.take() }
    }

    /// Drops what has been run from the buffers. Must not be called while a request is borrowed.
    pub fn compact(&mut self) {
        if self.next < self.requests.len() {
            return;
        }
        self.next = 0;
        let consumed = match self.requests.last() {
            Some(request) => request.end as usize,
            None => self.consumed_without_requests(),
        };
        self.requests.clear();
        if self.partial > 0 {
            self.args.drain(..self.partial);
            self.partial = 0;
            self.drop_run_bigs();
        }
        if consumed == 0 {
            return;
        }
        self.cut(0..consumed);
        self.scan -= consumed;
        for arg in self.args.iter_mut().filter(|a| a.start != Arg::BIG) {
            arg.start -= consumed as u32;
        }
    }

    /// With no request parsed, the bytes before the unfinished one (empty lines) are consumed.
    fn consumed_without_requests(&self) -> usize {
        if self.state == State::Start { self.scan } else { 0 }
    }

    /// Drops big arguments of requests that were run and renumbers those of the unfinished one.
    fn drop_run_bigs(&mut self) {
        if self.big.is_empty() {
            return;
        }
        let mut kept = Vec::new();
        let reading = matches!(self.state, State::BigBody { .. });
        let last = self.big.len() - 1;
        let mut old: Vec<Option<Blob>> = self.big.drain(..).map(Some).collect();
        for arg in self.args.iter_mut().filter(|a| a.start == Arg::BIG) {
            let blob = old[arg.len as usize].take().expect("each big argument is referred to once");
            arg.len = kept.len() as u32;
            kept.push(blob);
        }
        if reading && let Some(blob) = old[last].take() {
            kept.push(blob);
        }
        self.big = kept;
    }

    /// Parses until the batch is full, the input ends or the protocol is violated.
    pub fn parse(&mut self, limits: Limits) {
        self.compact();
        self.parse_batch(limits);
        let full = self.requests.len() >= BATCH_REQUESTS_MAX || !self.big.is_empty();
        self.stopped = full && self.error.is_none() && self.state == State::Start && self.scan < self.filled;
    }

    fn parse_batch(&mut self, limits: Limits) {
        while self.error.is_none() && self.requests.len() < BATCH_REQUESTS_MAX {
            match self.step(limits) {
                Ok(true) => {}
                Ok(false) => return,
                Err(text) => self.error = Some(ProtocolError(text)),
            }
            // A request with big arguments ends the batch: what follows waits for its turn.
            if !self.big.is_empty() && self.state == State::Start && !self.requests.is_empty() {
                return;
            }
        }
    }

    /// One step of the state machine; false when more input is needed.
    #[inline]
    fn step(&mut self, limits: Limits) -> Result<bool, String> {
        match self.state {
            State::Start => self.start(limits),
            State::Bulks(left) => self.bulk_header(left, limits),
            State::Body { left, len } => Ok(self.body(left, len)),
            State::BigBody { left, len } => Ok(self.big_body(left, len)),
        }
    }

    fn start(&mut self, limits: Limits) -> Result<bool, String> {
        match self.buf[..self.filled].get(self.scan) {
            None => Ok(false),
            Some(b'*') => self.multibulk_header(limits),
            Some(_) => self.inline(),
        }
    }

    fn multibulk_header(&mut self, limits: Limits) -> Result<bool, String> {
        let Some((line, next)) = self.line("Protocol error: too big mbulk count string")? else {
            return Ok(false);
        };
        let count = parse_header_number(&self.buf[line])
            .filter(|n| *n <= i32::MAX as i64)
            .ok_or("Protocol error: invalid multibulk length")?;
        if limits.unauthenticated && count > UNAUTHENTICATED_ARGS_MAX {
            return Err("Protocol error: unauthenticated multibulk length".into());
        }
        self.scan = next;
        if count > 0 {
            self.state = State::Bulks(count);
        } else if self.requests.is_empty() {
            // Nothing to answer: the frame is dropped as if it had been run.
            self.cut(0..next);
            self.scan = 0;
        } else if let Some(last) = self.requests.last_mut() {
            last.end = next as u32;
        }
        Ok(true)
    }

    #[inline]
    fn bulk_header(&mut self, left: i64, limits: Limits) -> Result<bool, String> {
        let Some((line, next)) = self.line("Protocol error: too big bulk count string")? else {
            return Ok(false);
        };
        let first = self.buf[self.scan];
        if first != b'$' {
            return Err(format!("Protocol error: expected '$', got '{}'", printable(first)));
        }
        let len = parse_header_number(&self.buf[line])
            .filter(|n| *n >= 0 && *n as u64 <= limits.bulk_bytes_max)
            .ok_or("Protocol error: invalid bulk length")?;
        if limits.unauthenticated && len > UNAUTHENTICATED_BULK_MAX {
            return Err("Protocol error: unauthenticated bulk length".into());
        }
        self.scan = next;
        let len = len as usize;
        if len >= BIG_ARG_BYTES {
            self.begin_big(left, len);
        } else {
            self.state = State::Body { left, len };
        }
        Ok(true)
    }

    /// Moves what has come of a big argument into a buffer of its exact size.
    fn begin_big(&mut self, left: i64, len: usize) {
        let have = (self.filled - self.scan).min(len);
        let mut blob = Blob::with_capacity(len.min(have + BIG_ARG_ADVANCE_BYTES));
        blob.extend_from_slice(&self.buf[self.scan..self.scan + have]);
        self.cut(self.scan..self.scan + have);
        self.big.push(blob);
        self.state = State::BigBody { left, len };
    }

    #[inline]
    fn body(&mut self, left: i64, len: usize) -> bool {
        // The two bytes behind the body are skipped unread, as Redis does.
        if self.filled - self.scan < len + 2 {
            return false;
        }
        self.args.push(Arg { start: self.scan as u32, len: len as u32 });
        self.end_of_arg(left, self.scan + len + 2);
        true
    }

    fn big_body(&mut self, left: i64, len: usize) -> bool {
        let have = self.big.last().map_or(0, Blob::len);
        debug_assert!(have <= len);
        if have < len || self.filled - self.scan < 2 {
            return false;
        }
        self.args.push(Arg { start: Arg::BIG, len: self.big.len() as u32 - 1 });
        self.end_of_arg(left, self.scan + 2);
        true
    }

    #[inline]
    fn end_of_arg(&mut self, left: i64, next: usize) {
        self.scan = next;
        if left > 1 {
            self.state = State::Bulks(left - 1);
        } else {
            self.end_of_request();
        }
    }

    fn end_of_request(&mut self) {
        self.state = State::Start;
        let argc = self.args.len() - self.partial;
        self.requests.push(Request { first: self.partial as u32, argc: argc as u32, end: self.scan as u32 });
        self.partial = self.args.len();
    }

    fn inline(&mut self) -> Result<bool, String> {
        let rest = &self.buf[self.scan..self.filled];
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            if rest.len() > INLINE_BYTES_MAX {
                return Err("Protocol error: too big inline request".into());
            }
            return Ok(false);
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]).to_vec();
        let words = quote::split_args(&line).ok_or("Protocol error: unbalanced quotes in request")?;
        let next = self.scan + end + 1;
        if words.is_empty() {
            self.scan = next;
            if let Some(last) = self.requests.last_mut() {
                last.end = next as u32;
            }
            return Ok(true);
        }
        // The words, unquoted, are never longer than the line: they are written over it.
        let mut at = self.scan;
        for word in &words {
            self.buf[at..at + word.len()].copy_from_slice(word);
            self.args.push(Arg { start: at as u32, len: word.len() as u32 });
            at += word.len();
        }
        assert!(at <= next, "unquoting never makes a line longer");
        self.scan = next;
        self.end_of_request();
        Ok(true)
    }

    /// The header line at `scan` without its first byte, and where the next line begins.
    #[inline]
    fn line(&self, too_long: &str) -> Result<Option<(std::ops::Range<usize>, usize)>, String> {
        let rest = &self.buf[self.scan..self.filled];
        // Nearly all header lines are short: look close by before a search is set up.
        let near = rest.len().min(8);
        let at = match rest[..near].iter().position(|b| *b == b'\r') {
            Some(at) => Some(at),
            None => rest[near..].iter().position(|b| *b == b'\r').map(|at| near + at),
        };
        match at {
            Some(at) if at + 1 < rest.len() => {
                Ok(Some((self.scan + 1..self.scan + at.max(1), self.scan + at + 2)))
            }
            Some(_) => Ok(None),
            None if rest.len() > INLINE_BYTES_MAX => Err(too_long.into()),
            None => Ok(None),
        }
    }
}

/// The number of a header line: one or two digits nearly always.
#[inline]
fn parse_header_number(digits: &[u8]) -> Option<i64> {
    match *digits {
        [d @ b'0'..=b'9'] => Some(i64::from(d - b'0')),
        [t @ b'1'..=b'9', d @ b'0'..=b'9'] => Some(i64::from(t - b'0') * 10 + i64::from(d - b'0')),
        _ => num::parse_i64(digits),
    }
}

/// The offending byte as it may stand in an error line.
fn printable(byte: u8) -> char {
    if byte.is_ascii_control() || !byte.is_ascii() { ' ' } else { byte as char }
}
