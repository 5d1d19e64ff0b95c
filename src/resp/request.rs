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
/// Bytes of one request that are kept in the buffer: offsets are 32 bits wide.
const INPUT_BYTES_MAX: usize = u32::MAX as usize - 2 * BIG_ARG_BYTES;
/// Unread input up to this size is copied into a lent buffer; a client with more reads into its own.
const LEND_BYTES_MAX: usize = 16 * 1024;
/// Room that a read finds at least.
const READ_BYTES_MIN: usize = 16 * 1024;
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
/// `buf[front..filled]`. What has been run is cut off only when that is cheap or room is needed, so that a
/// long pipeline is not moved once per batch.
pub struct Input {
    buf: Vec<u8>,
    /// Bytes at the start of `buf` that belong to requests that were run.
    front: usize,
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
    /// Whether the last batch ended before the input did: there may be more requests in it.
    held: bool,
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
            front: 0,
            filled: 0,
            scan: 0,
            state: State::Start,
            args: Vec::new(),
            partial: 0,
            requests: Vec::new(),
            next: 0,
            big: Vec::new(),
            error: None,
            held: false,
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

    /// Makes the buffer long enough for `extra` more bytes; doubles for long requests, so that copying stays
    /// linear.
    fn make_room(&mut self, extra: usize) {
        if self.buf.len() - self.filled < extra {
            self.cut_front();
        }
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

    /// Lends a scratch buffer to an input that holds little: most requests are read, run and forgotten, and
    /// an idle client then holds no more than the start of a request.
    pub fn lend(&mut self, scratch: &mut Vec<u8>) {
        if self.filled <= LEND_BYTES_MAX && self.buf.len() < scratch.len() {
            scratch[..self.filled].copy_from_slice(&self.buf[..self.filled]);
            self.buf = std::mem::take(scratch);
        }
    }

    /// Takes the scratch buffer back; unfinished input moves to a buffer of its own.
    pub fn give_back(&mut self, scratch: &mut Vec<u8>) {
        self.compact();
        if !scratch.is_empty() || self.buf.is_empty() {
            return;
        }
        self.cut_front();
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
        self.growing_big(bytes.len()).extend_from_slice(bytes);
    }

    /// The big argument that is being read, with room for `extra` more bytes. It at least doubles when it
    /// grows (but never beyond its announced length), so that copying stays linear.
    fn growing_big(&mut self, extra: usize) -> &mut Blob {
        let State::BigBody { len, .. } = self.state else { unreachable!("a big argument is being read") };
        let blob = self.big.last_mut().expect("a big argument is being read");
        if blob.capacity() < blob.len() + extra {
            let target = len.min((2 * blob.len()).max(blob.len() + extra));
            let mut grown = Blob::with_capacity(target);
            grown.extend_from_slice(blob.as_slice());
            *blob = grown;
        }
        blob
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
            let n = self.growing_big(want).append_with(want, read)?;
            return Ok((n, want));
        }
        self.compact();
        self.make_room(budget.min(READ_BYTES_MIN));
        let want = budget.min(self.buf.len() - self.filled);
        let n = read(&mut self.buf[self.filled..self.filled + want])?;
        self.filled += n;
        self.peak = self.peak.max(self.filled - self.front);
        Ok((n, want))
    }

    /// Bytes waiting, parsed or not.
    pub fn pending_bytes(&self) -> usize {
        self.filled - self.front + self.big.iter().map(Blob::len).sum::<usize>()
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
            + self.big.iter().map(Blob::capacity).sum::<usize>()
    }

    /// Capacity of the buffers (CLIENT LIST's qbuf + qbuf-free).
    pub fn buffer_capacity(&self) -> usize {
        self.buf.capacity() + self.big.iter().map(Blob::capacity).sum::<usize>()
    }

    /// Longest the buffer has been since the last call.
    pub fn take_peak(&mut self) -> usize {
        std::mem::take(&mut self.peak)
    }

    /// Gives back memory that an idle client does not need.
    pub fn shrink(&mut self) {
        self.compact();
        self.cut_front();
        self.buf.truncate(self.filled);
        self.buf.shrink_to_fit();
        self.big.iter_mut().for_each(Blob::shrink_to_fit);
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

    /// Whether requests wait, parsed or in bytes that the last batch had no room for: another turn is due.
    pub fn has_more(&self) -> bool {
        self.held || self.next < self.requests.len()
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
        if let Some(request) = self.requests.last() {
            self.front = request.end as usize;
        } else if self.state == State::Start {
            // Empty lines and frames without a request are consumed as they are passed over.
            self.front = self.scan;
        }
        self.requests.clear();
        if self.partial > 0 {
            self.args.drain(..self.partial);
            self.partial = 0;
            self.drop_run_bigs();
        }
        if self.front >= self.filled - self.front {
            self.cut_front();
        }
    }

    /// Moves the input to the start of the buffer. Does nothing while parsed requests wait.
    fn cut_front(&mut self) {
        let front = self.front;
        if front == 0 || !self.requests.is_empty() {
            return;
        }
        self.cut(0..front);
        self.front = 0;
        self.scan -= front;
        for arg in self.args.iter_mut().filter(|a| a.start != Arg::BIG) {
            arg.start -= front as u32;
        }
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

    /// Parses until the batch is full, the input ends or the protocol is violated. [`Input::has_more`] tells
    /// afterwards whether to come back although nothing new has arrived.
    pub fn parse(&mut self, limits: Limits) {
        self.compact();
        self.held = false;
        // Until a client has authenticated, each request may change what is allowed in the next one.
        let batch_max = if limits.unauthenticated { 1 } else { BATCH_REQUESTS_MAX };
        while self.error.is_none() {
            // A request with big arguments ends the batch: what follows waits for its turn.
            let has_big = !self.big.is_empty() && self.state == State::Start;
            if self.requests.len() >= batch_max || (has_big && !self.requests.is_empty()) {
                self.held = self.scan < self.filled;
                return;
            }
            if self.state == State::Start && !limits.unauthenticated && self.whole_request(limits) {
                continue;
            }
            match self.step(limits) {
                Ok(true) => {}
                Ok(false) => return,
                Err(text) => self.error = Some(ProtocolError(text)),
            }
        }
    }

    /// Takes a request of small arguments that has come as a whole: the common case, which needs no stop
    /// between its parts. Whatever is otherwise (unfinished, long or faulty) is left as it is for
    /// [`Input::step`], and is false.
    #[inline]
    fn whole_request(&mut self, limits: Limits) -> bool {
        if self.scan > INPUT_BYTES_MAX || limits.bulk_bytes_max < SHORT_MAX {
            return false;
        }
        let bytes = &self.buf[..self.filled];
        let Some((argc @ 1.., mut at)) = short_header(bytes, self.scan, b'*') else { return false };
        for _ in 0..argc {
            let header = short_header(bytes, at, b'$');
            let Some((len, begin)) = header.filter(|(len, begin)| begin + len + 2 <= bytes.len()) else {
                self.args.truncate(self.partial);
                return false;
            };
            self.args.push(Arg { start: begin as u32, len: len as u32 });
            at = begin + len + 2;
        }
        self.scan = at;
        self.end_of_request();
        true
    }

    /// One step of the state machine; false when more input is needed.
    #[inline]
    fn step(&mut self, limits: Limits) -> Result<bool, String> {
        if self.scan > INPUT_BYTES_MAX {
            return Err("Protocol error: too long request".into());
        }
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
        } else if let Some(last) = self.requests.last_mut() {
            // Nothing to answer: the frame goes with the request before it.
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
        if self.requests.is_empty() && self.args.is_empty() {
            // Nothing refers to the bytes before: only the argument itself is held.
            self.front = self.scan;
        }
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

/// Largest number that [`short_header`] reads.
const SHORT_MAX: u64 = 999;

/// The number of the header line at `at` if it is of this kind and has up to three digits, and where the next
/// line begins.
#[inline(always)]
fn short_header(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let line: &[u8; 4] = bytes.get(at..)?.first_chunk()?;
    let digit = |byte: u8| Some(usize::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit <= 9);
    let first = digit(line[1]).filter(|_| line[0] == kind)?;
    if line[2] == b'\r' {
        return Some((first, at + 4));
    }
    let second = digit(line[2]).filter(|_| first > 0)?;
    if line[3] == b'\r' {
        return Some((first * 10 + second, at + 5));
    }
    let third = digit(line[3]).filter(|_| bytes.get(at + 4) == Some(&b'\r'))?;
    Some((first * 100 + second * 10 + third, at + 6))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    const OPEN: Limits = Limits { bulk_bytes_max: 512 << 20, unauthenticated: false };
    const CLOSED: Limits = Limits { unauthenticated: true, ..OPEN };

    /// What an input gives in the end: requests, then perhaps the error it stopped at.
    type Outcome = (Vec<Vec<Vec<u8>>>, Option<String>);

    /// Takes everything that can be taken without new bytes.
    fn drain(input: &mut Input, limits: Limits, out: &mut Outcome) {
        loop {
            input.parse(limits);
            while let Some(request) = input.next_request() {
                out.0.push(input.args(request).iter().map(<[u8]>::to_vec).collect());
            }
            if let Some(error) = input.take_error() {
                out.1 = Some(error.0);
                return;
            }
            if !input.has_more() {
                return;
            }
        }
    }

    fn all(bytes: &[u8], limits: Limits) -> Outcome {
        let (mut input, mut out) = (Input::new(), Outcome::default());
        input.feed(bytes);
        drain(&mut input, limits, &mut out);
        out
    }

    fn frame(args: &[&[u8]]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    fn words(outcome: &Outcome) -> Vec<Vec<String>> {
        let text = |arg: &Vec<u8>| String::from_utf8_lossy(arg).into_owned();
        outcome.0.iter().map(|args| args.iter().map(text).collect()).collect()
    }

    fn error_of(bytes: &[u8]) -> String {
        all(bytes, OPEN).1.unwrap_or_default()
    }

    #[test]
    fn frames_and_lines() {
        let got = all(
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n  set 'a b' \"\\x41\"\n\r\n\n*0\r\n*-1\r\nECHO x\r\n",
            OPEN,
        );
        let expected = [vec!["GET", "k"], vec!["PING"], vec!["set", "a b", "A"], vec!["ECHO", "x"]];
        assert_eq!(words(&got), expected);
        assert_eq!(got.1, None);
    }

    #[test]
    fn errors_have_the_texts_of_the_protocol() {
        for (bytes, text) in [
            (&b"*x\r\n"[..], "invalid multibulk length"),
            (b"*2147483648\r\n", "invalid multibulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$-1", ""),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\nx\r\n", "expected '$', got 'x'"),
            (b"*1\r\n\r\n", "expected '$', got ' '"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "expected '$', got 'f'"),
            (b"set \"a\r\n", "unbalanced quotes in request"),
            (b"set 'a'b\r\n", "unbalanced quotes in request"),
        ] {
            let expected = if text.is_empty() { String::new() } else { format!("Protocol error: {text}") };
            assert_eq!(error_of(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn endless_lines_are_cut_off() {
        let long = |start: &[u8]| [start, &vec![b'1'; INLINE_BYTES_MAX + 1][..]].concat();
        assert_eq!(error_of(&long(b"*")), "Protocol error: too big mbulk count string");
        assert_eq!(error_of(&long(b"*1\r\n$")), "Protocol error: too big bulk count string");
        assert_eq!(error_of(&long(b"")), "Protocol error: too big inline request");
        assert_eq!(error_of(&vec![b'1'; INLINE_BYTES_MAX]), "");
    }

    #[test]
    fn what_came_before_an_error_is_answered() {
        let got = all(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\nx\r\nPING\r\n", OPEN);
        assert_eq!(words(&got), [["PING"], ["PING"]]);
        assert_eq!(got.1.as_deref(), Some("Protocol error: expected '$', got 'x'"));
    }

    #[test]
    fn small_requests_only_before_authentication() {
        let eleven: Vec<&[u8]> = vec![b"x"; 11];
        let error = |bytes: &[u8]| all(bytes, CLOSED).1;
        let unauthenticated = |what: &str| Some(format!("Protocol error: unauthenticated {what} length"));
        assert_eq!(error(&frame(&eleven)), unauthenticated("multibulk"));
        assert_eq!(error(&frame(&eleven[1..])), None);
        assert_eq!(error(&frame(&[b"AUTH", &[b'x'; 16385]])), unauthenticated("bulk"));
        assert_eq!(error(&frame(&[b"AUTH", &[b'x'; 16384]])), None);
        // The request behind AUTH is parsed when AUTH has run.
        let mut input = Input::new();
        input.feed(&[frame(&[b"AUTH", b"p"]), frame(&eleven)].concat());
        input.parse(CLOSED);
        assert_eq!(input.ready().len(), 1);
        assert!(input.next_request().is_some() && input.has_more());
        let mut out = Outcome::default();
        drain(&mut input, OPEN, &mut out);
        assert_eq!((out.0.len(), out.1), (1, None));
    }

    #[test]
    fn a_batch_has_a_limit_and_the_rest_is_not_forgotten() {
        let mut input = Input::new();
        input.feed(&b"PING\r\n".repeat(2 * BATCH_REQUESTS_MAX + 1));
        let mut batches = Vec::new();
        loop {
            input.parse(OPEN);
            batches.push(input.ready().len());
            while input.next_request().is_some() {}
            if !input.has_more() {
                break;
            }
        }
        assert_eq!(batches, [BATCH_REQUESTS_MAX, BATCH_REQUESTS_MAX, 1]);
        assert_eq!(input.pending_bytes(), 6, "the last batch is dropped when there is something new");
        input.compact();
        assert_eq!((input.pending_bytes(), input.is_mid_request()), (0, false));
    }

    #[test]
    fn what_follows_a_big_argument_is_not_forgotten() {
        let big = vec![b'b'; BIG_ARG_BYTES];
        let set = frame(&[b"SET", b"k", &big]);
        let got = all(&[&set[..], &set, b"PING\r\n", &set, b"*1\r\n$4\r\nPING\r\n"].concat(), OPEN);
        assert_eq!(got.0.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1, 3, 1]);
        assert!(got.0.iter().filter(|args| args.len() == 3).all(|args| args[2] == big));
    }

    #[test]
    fn empty_frames_cost_no_more_than_their_bytes() {
        let mut input = Input::new();
        input.feed(&b"*0\r\n\r\n*-1\r\n".repeat(200_000));
        input.parse(OPEN);
        assert!(input.ready().is_empty() && !input.has_more());
        input.compact();
        assert_eq!(input.pending_bytes(), 0);
    }

    #[test]
    fn a_lent_buffer_goes_back() {
        let mut scratch = vec![0; 64 * 1024];
        let mut input = Input::new();
        let mut out = Outcome::default();
        let set = frame(&[b"SET", b"key", b"value"]);
        for (bytes, left) in [(&set[..], 0), (&set[..20], 20), (&set[20..], 0)] {
            input.lend(&mut scratch);
            let read = |buf: &mut [u8]| {
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok::<_, ()>(bytes.len())
            };
            input.read_from(64 * 1024, read).unwrap();
            drain(&mut input, OPEN, &mut out);
            input.give_back(&mut scratch);
            assert_eq!(input.pending_bytes(), left);
            assert_eq!(scratch.len(), 64 * 1024);
        }
        assert_eq!(words(&out), [["SET", "key", "value"], ["SET", "key", "value"]]);
        input.shrink();
        assert_eq!(input.buffer_capacity(), 0);
    }

    #[test]
    fn requests_survive_when_their_client_waits_and_the_lent_buffer_goes() {
        let mut scratch = vec![0; 64 * 1024];
        let mut input = Input::new();
        input.lend(&mut scratch);
        input.feed(b"BLPOP a 0\r\nPING one\r\nPING two\r\nPI");
        input.parse(OPEN);
        input.next_request().unwrap();
        input.give_back(&mut scratch);
        assert_eq!(scratch.len(), 64 * 1024);
        input.feed(b"NG three\r\n");
        let mut out = Outcome::default();
        drain(&mut input, OPEN, &mut out);
        assert_eq!(words(&out), [["PING", "one"], ["PING", "two"], ["PING", "three"]]);
    }

    #[test]
    fn a_request_that_was_put_back_comes_again() {
        let mut input = Input::new();
        input.feed(b"A\r\nB\r\n");
        input.parse(OPEN);
        input.next_request().unwrap();
        input.unget();
        let mut out = Outcome::default();
        drain(&mut input, OPEN, &mut out);
        assert_eq!(words(&out), [["A"], ["B"]]);
    }

    #[test]
    fn memory_promised_to_a_big_argument_grows_with_what_comes() {
        let mut input = Input::new();
        input.feed(b"*1\r\n$536870912\r\n");
        input.parse(OPEN);
        assert!(input.big[0].capacity() <= BIG_ARG_ADVANCE_BYTES + 4096);
        let mut sent = 0;
        while sent < 40 << 20 {
            sent += input.read_from(1 << 20, |buf| Ok::<_, ()>(buf.len())).unwrap().0;
        }
        assert!(input.big[0].capacity() <= 80 << 20, "{}", input.big[0].capacity());
    }

    /// A random valid stream of requests, and what it means.
    fn random_stream(rng: &mut Rng) -> (Vec<u8>, Vec<Vec<Vec<u8>>>) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..1 + rng.below(12) {
            match rng.below(8) {
                0 => bytes
                    .extend_from_slice([&b"*0\r\n"[..], b"\r\n", b"*-1\r\n", b"\n"][rng.below(4) as usize]),
                1 => {
                    bytes.extend_from_slice(b"ECHO \"a\\x00b\" 'c'\r\n");
                    expected.push(vec![b"ECHO".to_vec(), b"a\0b".to_vec(), b"c".to_vec()]);
                }
                _ => {
                    let arg = |rng: &mut Rng| {
                        let len = match rng.below(12) {
                            0 => BIG_ARG_BYTES as u64 + rng.below(3) - 1,
                            1 => rng.below(100_000),
                            _ => rng.below(30),
                        };
                        let mut arg = vec![0; len as usize];
                        rng.fill(&mut arg);
                        arg
                    };
                    let args: Vec<Vec<u8>> = (0..1 + rng.below(5)).map(|_| arg(rng)).collect();
                    bytes.extend(frame(&args.iter().map(Vec::as_slice).collect::<Vec<_>>()));
                    expected.push(args);
                }
            }
        }
        (bytes, expected)
    }

    #[test]
    fn streams_torn_anywhere_mean_the_same() {
        let seed = 20261122;
        println!("seed {seed}");
        let mut rng = Rng::from_seed(seed);
        for _ in 0..300 {
            let (bytes, expected) = random_stream(&mut rng);
            let (mut input, mut out) = (Input::new(), Outcome::default());
            let mut scratch = vec![0; 4096];
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let most = [3, 100, 5_000, 200_000][rng.below(4) as usize];
                let n = (1 + rng.below(most) as usize).min(rest.len());
                let (part, tail) = rest.split_at(n);
                rest = tail;
                if rng.below(2) == 0 {
                    input.lend(&mut scratch);
                    let mut part = part;
                    while !part.is_empty() {
                        let budget = 1 + rng.below(70_000) as usize;
                        let read = |buf: &mut [u8]| Ok::<_, ()>(std::io::Read::read(&mut part, buf).unwrap());
                        input.read_from(budget, read).unwrap();
                        drain(&mut input, OPEN, &mut out);
                    }
                } else {
                    input.feed(part);
                    drain(&mut input, OPEN, &mut out);
                }
                if rng.below(2) == 0 {
                    input.give_back(&mut scratch);
                    scratch.resize(scratch.len().max(4096), 0);
                }
                if rng.below(20) == 0 {
                    input.shrink();
                }
            }
            assert!(out == (expected, None), "seed {seed}");
            input.compact();
            assert_eq!(input.pending_bytes(), 0);
        }
    }

    #[test]
    fn a_pipeline_torn_at_every_byte_means_the_same() {
        let bytes =
            [&frame(&[b"SET", b"k", b"v"])[..], b"*0\r\nECHO 'a b'\r\n\r\n", &frame(&[b"GET", b""])].concat();
        let whole = all(&bytes, OPEN);
        for at in 0..=bytes.len() {
            let (mut input, mut out) = (Input::new(), Outcome::default());
            for part in [&bytes[..at], &bytes[at..]] {
                input.feed(part);
                drain(&mut input, OPEN, &mut out);
            }
            assert!(out == whole, "torn at {at}");
        }
    }
}
