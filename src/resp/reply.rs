//! The reply writer: RESP2 and RESP3 straight into a client's output buffer. Long values are shared, not
//! copied: they lie beside the buffer with the position at which they belong. Knows no command.

use crate::util::num;
use bytes::Bytes;
use std::collections::VecDeque;

/// Values from this size on are shared with the keyspace instead of copied into the buffer.
pub const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Pushes below this size are copied always: it costs less than to keep a place for them.
const PUSH_SHARED_BYTES_MIN: usize = 128;

/// The protocol version a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Proto {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2,
    /// RESP3, after HELLO 3.
    Resp3,
}

impl Proto {
    /// 2 or 3.
    pub fn number(self) -> u64 {
        match self {
            Proto::Resp2 => 2,
            Proto::Resp3 => 3,
        }
    }
}

/// A place in a reply to rewind to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    len: usize,
    shared: usize,
}

/// Bytes to be sent to one client.
#[derive(Default)]
pub struct Reply {
    buf: Vec<u8>,
    /// Bytes of `buf` already sent.
    sent: usize,
    /// Shared values: each belongs in front of `buf[position]`.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
    /// The protocol to write.
    pub proto: Proto,
}

impl Reply {
    /// An empty reply that will be written in `proto`.
    pub fn new(proto: Proto) -> Self {
        Reply { proto, ..Reply::default() }
    }

    /// Bytes not yet sent.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.buf.len() - self.sent + self.shared_bytes
    }

    /// Where the next byte goes, for fetching that memory ahead.
    #[inline]
    pub fn end(&self) -> *const u8 {
        self.buf.as_ptr_range().end
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.pending_bytes() == 0
    }

    /// Heap bytes held.
    pub fn memory_bytes(&self) -> usize {
        self.buf.capacity() + self.shared_bytes
    }

    /// Capacity of the plain buffer.
    pub fn buffer_capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Bytes of shared values not yet sent; the rest of [`Reply::pending_bytes`] is in the plain buffer.
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// Number of shared values waiting.
    pub fn shared_count(&self) -> usize {
        self.shared.len()
    }

    /// Remembers this place.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { len: self.buf.len(), shared: self.shared.len() }
    }

    /// Whether anything was written since `mark`.
    pub fn wrote_since(&self, mark: Mark) -> bool {
        self.buf.len() != mark.len || self.shared.len() != mark.shared
    }

    /// Takes back everything written since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.buf.truncate(mark.len);
        while self.shared.len() > mark.shared {
            let (_, bytes) = self.shared.pop_back().expect("longer than the mark");
            self.shared_bytes -= bytes.len();
        }
    }

    /// What was written since `mark`, as one run of bytes (shared values copied in).
    pub fn since(&self, mark: Mark) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.buf.len() - mark.len);
        let mut at = mark.len;
        for (position, bytes) in self.shared.iter().skip(mark.shared) {
            out.extend_from_slice(&self.buf[at..*position]);
            out.extend_from_slice(bytes);
            at = *position;
        }
        out.extend_from_slice(&self.buf[at..]);
        out
    }

    /// Takes all pending bytes (tests, scripts).
    pub fn take(&mut self) -> Vec<u8> {
        let out = self.since(Mark { len: self.sent, shared: 0 });
        self.clear();
        out
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.sent = 0;
        self.shared.clear();
        self.shared_bytes = 0;
    }

    /// The first `limit` pending bytes as up to `max` slices, in order.
    pub fn slices<'a>(&'a self, max: usize, mut limit: usize, out: &mut Vec<std::io::IoSlice<'a>>) {
        let mut add = |out: &mut Vec<_>, bytes: &'a [u8]| {
            let bytes = &bytes[..bytes.len().min(limit)];
            limit -= bytes.len();
            if !bytes.is_empty() {
                out.push(std::io::IoSlice::new(bytes));
            }
        };
        let mut at = self.sent;
        for (position, bytes) in &self.shared {
            if out.len() + 2 > max {
                return;
            }
            if *position > at {
                add(out, &self.buf[at..*position]);
                at = *position;
            }
            add(out, bytes);
        }
        if self.buf.len() > at && out.len() < max {
            add(out, &self.buf[at..]);
        }
    }

    /// The pending bytes when they are one run.
    #[inline]
    pub fn plain(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.buf[self.sent..])
    }

    /// Notes that `n` pending bytes were sent.
    pub fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let Some((position, bytes)) = self.shared.front_mut() else {
                self.sent += n;
                break;
            };
            if *position > self.sent {
                let step = n.min(*position - self.sent);
                self.sent += step;
                n -= step;
                continue;
            }
            let step = n.min(bytes.len());
            self.shared_bytes -= step;
            n -= step;
            if step == bytes.len() {
                self.shared.pop_front();
            } else {
                bytes::Buf::advance(bytes, step);
            }
        }
        assert!(self.sent <= self.buf.len(), "sent more than there was");
        if self.sent == self.buf.len() && self.shared.is_empty() {
            self.buf.clear();
            self.sent = 0;
        } else if self.sent > RECLAIM_SENT_BYTES && self.sent > self.buf.len() / 2 {
            self.reclaim();
        }
    }

    /// Moves the unsent rest to the front of the buffer.
    fn reclaim(&mut self) {
        self.buf.drain(..self.sent);
        for (position, _) in &mut self.shared {
            *position -= self.sent;
        }
        self.sent = 0;
    }

    /// Gives an empty reply a buffer of `capacity` bytes.
    pub fn resize_buffer(&mut self, capacity: usize) {
        assert!(self.is_empty(), "only an empty buffer is replaced");
        self.clear();
        self.buf = Vec::with_capacity(capacity);
    }

    // ---- writing ----

    /// Bytes that are already in the protocol.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Bytes that are already in the protocol and go to many: long ones are shared, and those for which the
    /// buffer would have to grow, so that however many wait, and for however many clients, they lie in
    /// memory once and are gone when they were sent.
    pub fn encoded(&mut self, bytes: &Bytes) {
        let room = self.buf.capacity() - self.buf.len();
        if bytes.len() < PUSH_SHARED_BYTES_MIN || bytes.len() <= room && bytes.len() < SHARED_BYTES_MIN {
            return self.raw(bytes);
        }
        self.shared_bytes += bytes.len();
        self.shared.push_back((self.buf.len(), bytes.clone()));
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A simple string; it must hold no line end.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.buf.push(b'+');
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }

    /// An error line, given with its code and without `-`. Line ends in it become spaces, so that text of
    /// the client's can never forge a reply.
    pub fn error(&mut self, text: &[u8]) {
        self.buf.push(b'-');
        let start = self.buf.len();
        self.raw(text);
        for byte in &mut self.buf[start..] {
            if matches!(*byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.raw(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, n: i64) {
        self.header(b':', n);
    }

    /// A length as an integer reply.
    #[inline]
    pub fn len_int(&mut self, n: usize) {
        self.int(n as i64);
    }

    /// A string of bytes, copied.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        self.buf.reserve(len + BULK_FRAME_MAX);
        // Heads of known size are written without a loop over digits.
        match len {
            0..10 => self.buf.extend_from_slice(&[b'$', b'0' + len as u8, b'\r', b'\n']),
            10..100 => {
                let (tens, ones) = (b'0' + (len / 10) as u8, b'0' + (len % 10) as u8);
                self.buf.extend_from_slice(&[b'$', tens, ones, b'\r', b'\n']);
            }
            _ => self.header(b'$', len as i64),
        }
        self.buf.extend_from_slice(bytes);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A string of bytes that is shared when it is long.
    pub fn bulk_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.bulk(&bytes);
        }
        self.header(b'$', bytes.len() as i64);
        self.shared_bytes += bytes.len();
        self.shared.push_back((self.buf.len(), bytes));
        self.raw(b"\r\n");
    }

    /// An integer as a string of bytes.
    pub fn bulk_int(&mut self, n: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(n).as_bytes());
    }

    /// A text as a string of bytes.
    pub fn bulk_str(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// Nothing.
    #[inline]
    pub fn null(&mut self) {
        match self.proto {
            Proto::Resp2 => self.raw(b"$-1\r\n"),
            Proto::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// Nothing, where RESP2 has a null array.
    pub fn null_array(&mut self) {
        match self.proto {
            Proto::Resp2 => self.raw(b"*-1\r\n"),
            Proto::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// Head of an array of `n` elements.
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n as i64);
    }

    /// Head of a map of `n` pairs (RESP2: an array of 2n).
    pub fn map(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', 2 * n as i64),
            Proto::Resp3 => self.header(b'%', n as i64),
        }
    }

    /// Head of a set.
    pub fn set(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.array(n),
            Proto::Resp3 => self.header(b'~', n as i64),
        }
    }

    /// Head of an attribute of `n` pairs (RESP3 only).
    pub fn attribute(&mut self, n: usize) {
        debug_assert_eq!(self.proto, Proto::Resp3);
        self.header(b'|', n as i64);
    }

    /// Head of an out-of-band push.
    pub fn push(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.array(n),
            Proto::Resp3 => self.header(b'>', n as i64),
        }
    }

    /// A floating point number.
    pub fn double(&mut self, value: f64) {
        if self.proto == Proto::Resp3 {
            self.buf.push(b',');
            num::push_f64(&mut self.buf, value);
            return self.raw(b"\r\n");
        }
        // The text is written behind the room for the longest head of a text of two digits' length.
        let start = self.buf.len();
        self.raw(b"$00\r\n");
        let text = self.buf.len();
        num::push_f64(&mut self.buf, value);
        let len = self.buf.len() - text;
        self.raw(b"\r\n");
        if len < 10 {
            self.buf[start + 1] = b'0' + len as u8;
            self.buf.remove(start + 2);
        } else {
            self.buf[start + 1] = b'0' + (len / 10) as u8;
            self.buf[start + 2] = b'0' + (len % 10) as u8;
        }
    }

    /// A truth value (RESP2: 0 or 1).
    pub fn bool(&mut self, value: bool) {
        self.raw(match (self.proto, value) {
            (Proto::Resp2, true) => b":1\r\n",
            (Proto::Resp2, false) => b":0\r\n",
            (Proto::Resp3, true) => b"#t\r\n",
            (Proto::Resp3, false) => b"#f\r\n",
        });
    }

    /// A big number given by its digits.
    pub fn big_number(&mut self, digits: &str) {
        match self.proto {
            Proto::Resp2 => self.bulk_str(digits),
            Proto::Resp3 => {
                self.buf.push(b'(');
                self.raw(digits.as_bytes());
                self.raw(b"\r\n");
            }
        }
    }

    /// A text with a three-letter format (`txt`, `mkd`).
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        match self.proto {
            Proto::Resp2 => self.bulk(text),
            Proto::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.raw(&format.as_bytes()[..3]);
                self.buf.push(b':');
                self.raw(text);
                self.raw(b"\r\n");
            }
        }
    }

    /// Puts the head of an aggregate in front of what was written since `mark`, for aggregates whose
    /// length is known only at the end. `head` writes it.
    pub fn insert_head(&mut self, mark: Mark, head: impl FnOnce(&mut Reply)) {
        let mut tmp = Reply::new(self.proto);
        head(&mut tmp);
        let added = tmp.buf.len();
        self.buf.splice(mark.len..mark.len, tmp.buf);
        for (position, _) in self.shared.iter_mut().skip(mark.shared) {
            *position += added;
        }
    }

    /// A type byte, a number and a line end.
    #[inline]
    fn header(&mut self, kind: u8, n: i64) {
        if (0..10).contains(&n) {
            self.buf.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']);
            return;
        }
        let mut digits = itoa::Buffer::new();
        let text = digits.format(n).as_bytes();
        self.buf.reserve(text.len() + 3);
        self.buf.push(kind);
        self.buf.extend_from_slice(text);
        self.buf.extend_from_slice(b"\r\n");
    }
}

/// Most bytes that a string needs around it: `$`, 20 digits and two line ends.
const BULK_FRAME_MAX: usize = 25;
/// Sent bytes are cut off the front of a long buffer only from this size on.
const RECLAIM_SENT_BYTES: usize = 64 * 1024;
