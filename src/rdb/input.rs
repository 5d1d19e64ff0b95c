//! Reading the primitives of the format: lengths, integers, strings. Buffers, decompresses and keeps the
//! checksum; knows neither values nor files. Nothing that the bytes say makes it take more memory than there
//! are bytes (times what LZF can save).

use super::format::{length, special};
use super::{Fault, RdbError};
use crate::collections::blob::Blob;
use crate::util::crc::Crc64;
use crate::util::lzf;
use std::borrow::Cow;
use std::io::{self, Read};

/// Bytes asked of the source at once.
const CHUNK: usize = 64 << 10;
/// A buffer that had to hold a bigger string than this is given back behind it.
const BUFFER_KEPT: usize = 1 << 20;
/// Strings from this length on are read straight to where they stay.
pub const LONG: u64 = 1 << 20;

/// A reader of primitives.
pub struct Input<R: Read> {
    source: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next byte is.
    at: usize,
    /// Up to where the checksum has seen the buffer.
    summed: usize,
    /// Bytes before the buffer.
    before: u64,
    checksum: Option<Crc64>,
    unpacked: Vec<u8>,
}

/// A string as it stands in the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// As an integer.
    Integer(i64),
    /// As bytes.
    Bytes(&'a [u8]),
}

impl<'a> Text<'a> {
    /// Its bytes.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Text::Integer(n) => Cow::Owned(n.to_string().into_bytes()),
            Text::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }
}

/// A length, or what stands in its place.
enum Length {
    Plain(u64),
    Special(u8),
}

/// The result of reading.
pub type Reading<T> = Result<T, RdbError>;

impl<R: Read> Input<R> {
    /// Reads from `source`, which needs no buffer of its own.
    pub fn new(source: R) -> Self {
        Input {
            source,
            buffer: Vec::new(),
            at: 0,
            summed: 0,
            before: 0,
            checksum: Some(Crc64::new()),
            unpacked: Vec::new(),
        }
    }

    /// Reads these bytes, and then `source`.
    pub fn with_bytes(bytes: Vec<u8>, source: R) -> Self {
        Input { buffer: bytes, ..Input::new(source) }
    }

    /// Forgets the checksum, which nobody will ask for.
    pub fn without_checksum(mut self) -> Self {
        self.checksum = None;
        self
    }

    /// Bytes read so far.
    #[inline]
    pub fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    /// An error at this place.
    pub fn fault(&self, fault: Fault) -> RdbError {
        RdbError { offset: self.position(), fault }
    }

    /// An error at this place: the bytes are not what they should be.
    pub fn corrupt(&self, what: &'static str) -> RdbError {
        self.fault(Fault::Corrupt(Cow::Borrowed(what)))
    }

    /// The checksum of all bytes read so far.
    pub fn checksum(&mut self) -> u64 {
        self.sum_up();
        self.checksum.as_ref().map_or(0, Crc64::value)
    }

    /// Whether there is a checksum to compare with.
    pub fn counts(&self) -> bool {
        self.checksum.is_some()
    }

    /// Whether the source has no more bytes.
    pub fn is_at_end(&mut self) -> Reading<bool> {
        Ok(self.fill(1)? == 0)
    }

    /// The source, and the bytes that were read from it but not taken.
    pub fn into_source(self) -> (R, Vec<u8>) {
        let Input { source, mut buffer, at, .. } = self;
        buffer.drain(..at);
        (source, buffer)
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Reading<&[u8]> {
        if self.buffer.len() - self.at < n && self.fill(n)? < n {
            return Err(self.fault(Fault::Ended));
        }
        self.at += n;
        Ok(&self.buffer[self.at - n..self.at])
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Reading<u8> {
        Ok(self.take(1)?[0])
    }

    /// The next bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Reading<[u8; N]> {
        Ok(*self.take(N)?.first_chunk().expect("so many bytes were taken"))
    }

    /// Eight bytes, lowest first.
    pub fn fixed64(&mut self) -> Reading<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length, or another number that is often small.
    #[inline]
    pub fn length(&mut self) -> Reading<u64> {
        match self.length_or_special()? {
            Length::Plain(n) => Ok(n),
            Length::Special(_) => Err(self.corrupt("A length was expected, not an encoded string")),
        }
    }

    #[inline]
    fn length_or_special(&mut self) -> Reading<Length> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(Length::Plain(match first >> 6 {
            length::BITS_6 => u64::from(low),
            length::BITS_14 => u64::from(low) << 8 | u64::from(self.byte()?),
            length::SPECIAL => return Ok(Length::Special(low)),
            _ => match first {
                length::BITS_32 => u64::from(u32::from_be_bytes(self.array()?)),
                length::BITS_64 => u64::from_be_bytes(self.array()?),
                _ => return Err(self.fault(Fault::unknown("length encoding", first))),
            },
        }))
    }

    /// A string.
    #[inline]
    pub fn string(&mut self) -> Reading<Text<'_>> {
        match self.length_or_special()? {
            Length::Plain(n) => {
                let n = usize::try_from(n).map_err(|_| self.fault(Fault::Ended))?;
                Ok(Text::Bytes(self.take(n)?))
            }
            Length::Special(encoding) => self.special_string(encoding),
        }
    }

    /// A string, copied to the end of `out`, whose old content goes.
    #[inline]
    pub fn string_into(&mut self, out: &mut Vec<u8>) -> Reading<()> {
        out.clear();
        match self.length_or_special()? {
            Length::Plain(n) => {
                let n = usize::try_from(n).map_err(|_| self.fault(Fault::Ended))?;
                out.extend_from_slice(self.take(n)?);
            }
            Length::Special(special::LZF) => self.unpack(out)?,
            Length::Special(encoding) => {
                if let Text::Integer(n) = self.special_string(encoding)? {
                    crate::util::num::push_i64(out, n);
                }
            }
        }
        Ok(())
    }

    /// Shows the bytes of a string, and gives back what is made of them.
    #[inline]
    pub fn unpacked<T>(&mut self, make: impl FnOnce(&[u8]) -> T) -> Reading<T> {
        Ok(match self.string()? {
            Text::Bytes(bytes) => make(bytes),
            integer => make(&integer.bytes()),
        })
    }

    /// A string that may be long: a long one that is not compressed comes as a blob.
    #[inline]
    pub fn string_or_blob(&mut self) -> Reading<Result<Text<'_>, Blob>> {
        match self.length_or_special()? {
            Length::Plain(n) if n >= LONG => self.blob(n).map(Err),
            Length::Plain(n) => Ok(Ok(Text::Bytes(self.take(n as usize)?))),
            Length::Special(encoding) => self.special_string(encoding).map(Ok),
        }
    }

    /// Passes over a string.
    pub fn skip_string(&mut self) -> Reading<()> {
        self.string_or_blob().map(drop)
    }

    fn special_string(&mut self, encoding: u8) -> Reading<Text<'_>> {
        Ok(match encoding {
            special::INT8 => Text::Integer(i64::from(i8::from_le_bytes(self.array()?))),
            special::INT16 => Text::Integer(i64::from(i16::from_le_bytes(self.array()?))),
            special::INT32 => Text::Integer(i64::from(i32::from_le_bytes(self.array()?))),
            special::LZF => {
                let mut unpacked = std::mem::take(&mut self.unpacked);
                let done = self.unpack(&mut unpacked);
                self.unpacked = unpacked;
                done?;
                Text::Bytes(&self.unpacked)
            }
            unknown => return Err(self.fault(Fault::unknown("string encoding", unknown))),
        })
    }

    /// A compressed string, behind the byte that says so.
    fn unpack(&mut self, out: &mut Vec<u8>) -> Reading<()> {
        let (packed, len) = (self.length()?, self.length()?);
        let packed = usize::try_from(packed).map_err(|_| self.fault(Fault::Ended))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let done = lzf::decompress_into(self.take(packed)?, len, out);
        done.ok_or_else(|| self.corrupt("Invalid LZF compressed string"))
    }

    fn blob(&mut self, len: u64) -> Reading<Blob> {
        let mut blob = Blob::with_capacity(len.min(16 * LONG) as usize);
        let mut left = len;
        while left > 0 {
            let some = left.min(CHUNK as u64) as usize;
            blob.extend_from_slice(self.take(some)?);
            left -= some as u64;
        }
        Ok(blob)
    }

    /// Gets at least `n` bytes into the buffer, fewer at the end; says how many are there.
    fn fill(&mut self, n: usize) -> Reading<usize> {
        self.sum_up();
        self.before += self.at as u64;
        self.buffer.drain(..self.at);
        (self.at, self.summed) = (0, 0);
        if self.buffer.capacity() > BUFFER_KEPT && n <= CHUNK {
            self.buffer.shrink_to(CHUNK);
        }
        while self.buffer.len() < n {
            let len = self.buffer.len();
            // No more is taken than the bytes that came so far vouch for.
            let wanted = (n - len).clamp(CHUNK, CHUNK.max(len));
            self.buffer.reserve(wanted);
            let read = (&mut self.source).take(wanted as u64).read_to_end(&mut self.buffer);
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.fault(Fault::Io(error))),
            }
        }
        Ok(self.buffer.len())
    }

    /// Brings the checksum up to date.
    fn sum_up(&mut self) {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&self.buffer[self.summed..self.at]);
            self.summed = self.at;
        }
    }
}

impl Input<io::Empty> {
    /// Reads a payload.
    pub fn of_payload(bytes: &[u8]) -> Self {
        Input::with_bytes(bytes.to_vec(), io::empty()).without_checksum()
    }
}
