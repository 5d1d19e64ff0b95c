//! Writing the primitives of the format: lengths, integers, strings. Buffers, compresses and keeps the
//! checksum; knows neither values nor files. An error of the sink is kept and given at the end: what is
//! written after it goes nowhere.

use super::format::{length, special};
use crate::collections::listpack::Value;
use crate::util::crc::Crc64;
use crate::util::lzf::Compressor;
use crate::util::num;
use std::io::{self, Write};

/// The buffer is given to the sink when it has so many bytes.
const BUFFER: usize = 64 << 10;
/// Strings up to this length are not worth compressing.
const COMPRESS_MIN: usize = 20;
/// What compressing has to save at least, in bytes.
const COMPRESS_GAIN_MIN: usize = 4;
/// Digits of the longest integer that is written as one.
const INTEGER_DIGITS_MAX: usize = 11;

/// Whether strings are compressed: the option rdbcompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// By LZF, where that makes them shorter.
    Lzf,
    /// Never.
    Off,
}

/// A writer of primitives.
pub struct Output<W: Write> {
    sink: W,
    buffer: Vec<u8>,
    checksum: Crc64,
    written: u64,
    error: Option<io::Error>,
    compressor: Option<Compressor>,
    packed: Vec<u8>,
}

impl<W: Write> Output<W> {
    /// Writes to `sink`.
    pub fn new(sink: W, compression: Compression) -> Self {
        let compressor = match compression {
            Compression::Lzf => Some(Compressor::default()),
            Compression::Off => None,
        };
        let (checksum, packed) = (Crc64::new(), Vec::new());
        Output { sink, buffer: Vec::new(), checksum, written: 0, error: None, compressor, packed }
    }

    /// Whether the sink has failed: there is no use in going on.
    pub fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Bytes so far.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Ends writing: the sink, and the checksum of all bytes.
    pub fn finish(mut self) -> io::Result<(W, Crc64)> {
        self.flush();
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.sink, self.checksum)),
        }
    }

    /// Gives the buffer to the sink.
    pub fn flush(&mut self) {
        self.checksum.update(&self.buffer);
        self.written += self.buffer.len() as u64;
        if self.error.is_none() {
            self.error = self.sink.write_all(&self.buffer).err();
        }
        self.buffer.clear();
    }

    /// Bytes as they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() >= BUFFER {
            // Not copied: big strings go to the sink as they are.
            self.flush();
            self.checksum.update(bytes);
            self.written += bytes.len() as u64;
            if self.error.is_none() {
                self.error = self.sink.write_all(bytes).err();
            }
            return;
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    /// Eight bytes, lowest first: a time in milliseconds or the bits of a double.
    pub fn fixed64(&mut self, bits: u64) {
        self.bytes(&bits.to_le_bytes());
    }

    /// A length, or another number that is often small.
    #[inline]
    pub fn length(&mut self, n: u64) {
        match n {
            0..0x40 => self.byte(length::BITS_6 << 6 | n as u8),
            0x40..0x4000 => self.bytes(&[length::BITS_14 << 6 | (n >> 8) as u8, n as u8]),
            0x4000..0x1_0000_0000 => {
                self.byte(length::BITS_32);
                self.bytes(&(n as u32).to_be_bytes());
            }
            _ => {
                self.byte(length::BITS_64);
                self.bytes(&n.to_be_bytes());
            }
        }
    }

    /// A string, in the shortest form.
    #[inline]
    pub fn string(&mut self, bytes: &[u8]) {
        if bytes.len() <= INTEGER_DIGITS_MAX
            && let Some(n) = num::parse_i64(bytes)
            && let Ok(n) = i32::try_from(n)
        {
            return self.small_integer(n);
        }
        if bytes.len() > COMPRESS_MIN && self.compressed(bytes) {
            return;
        }
        self.length(bytes.len() as u64);
        self.bytes(bytes);
    }

    /// An integer as a string.
    pub fn integer(&mut self, n: i64) {
        match i32::try_from(n) {
            Ok(n) => self.small_integer(n),
            Err(_) => {
                let mut digits = Vec::with_capacity(20);
                num::push_i64(&mut digits, n);
                self.length(digits.len() as u64);
                self.bytes(&digits);
            }
        }
    }

    /// An element of a packed encoding as a string.
    #[inline]
    pub fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Int(n) => self.integer(n),
            Value::Str(bytes) => self.string(bytes),
        }
    }

    /// A string that is compressed already.
    pub fn lzf(&mut self, data: &[u8], len: usize) {
        self.byte(length::SPECIAL << 6 | special::LZF);
        self.length(data.len() as u64);
        self.length(len as u64);
        self.bytes(data);
    }

    fn small_integer(&mut self, n: i32) {
        let mut special = |encoding: u8, bytes: &[u8]| {
            self.byte(length::SPECIAL << 6 | encoding);
            self.bytes(bytes);
        };
        if let Ok(n) = i8::try_from(n) {
            special(special::INT8, &n.to_le_bytes());
        } else if let Ok(n) = i16::try_from(n) {
            special(special::INT16, &n.to_le_bytes());
        } else {
            special(special::INT32, &n.to_le_bytes());
        }
    }

    fn compressed(&mut self, bytes: &[u8]) -> bool {
        let Some(compressor) = &mut self.compressor else { return false };
        let mut packed = std::mem::take(&mut self.packed);
        let fits = compressor.compress(bytes, bytes.len() - COMPRESS_GAIN_MIN, &mut packed);
        if fits {
            self.lzf(&packed, bytes.len());
        }
        self.packed = packed;
        fits
    }
}
