//! Commands out of a file of the log, one after the other, with the place of each: for loading, and for
//! `--check-aof`. It verifies the checksum lines and tells a torn end from damage in the middle. Knows no
//! command's meaning.

use crate::resp::OwnedArgs;
use crate::util::crc::Crc64;
use crate::util::num;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes asked of the source at once.
const CHUNK: usize = 256 * 1024;
/// Longest line (a length, a remark), its end included.
const LINE_BYTES_MAX: usize = 1024;
/// How a checksum line begins.
pub const CHECKSUM: &[u8] = b"#CRC:";
/// How a time stamp begins.
pub const TIME: &[u8] = b"#TS:";

/// What stands next in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A command: its arguments were put where the caller wants them.
    Command,
    /// What follows was written at this second since 1970.
    Time(i64),
    /// A checksum line, which is right.
    Checksum,
    /// Another line that begins with `#`.
    Remark,
    /// The end of the file.
    End,
}

/// Why reading cannot go on.
#[derive(Debug)]
pub struct Fault {
    /// Everything before is whole: where the command or line at fault begins, or, when a checksum line does
    /// not fit, where the bytes begin that it stands for.
    pub offset: u64,
    /// Where it was noticed.
    pub at: u64,
    /// The number of the line in which it was noticed, from 1.
    pub line: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What can be wrong.
#[derive(Debug)]
pub enum FaultKind {
    /// The file ends inside a command.
    Ended,
    /// The bytes are no request.
    Format(&'static str),
    /// The bytes are not those that were written.
    Checksum,
    /// The file cannot be read.
    Io(io::Error),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Ended => f.write_str("unexpected end of file"),
            FaultKind::Format(what) => f.write_str(what),
            FaultKind::Checksum => f.write_str("the checksum line does not fit the bytes before it"),
            FaultKind::Io(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.kind, self.at)?;
        if self.offset != self.at {
            write!(f, " (in what begins at {})", self.offset)?;
        }
        Ok(())
    }
}

/// Whether checksum lines are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// They have to be right.
    Checksums,
    /// They are passed over.
    Nothing,
}

/// Reads a file of commands.
pub struct Reader<R: Read> {
    source: R,
    buffer: Vec<u8>,
    /// Next byte of the buffer.
    next: usize,
    /// Offset in the file of the buffer's first byte.
    before: u64,
    /// Bytes of the buffer that are in the checksum.
    summed: usize,
    /// The checksum of the file up to `summed`; None when its beginning was not seen.
    sum: Option<Crc64>,
    verify: Verify,
    /// Length of the file: what claims to be longer ends too early.
    length: u64,
    line: u64,
    /// Offset of the item that is being read.
    item: u64,
    /// Offset and line behind the last checksum line: what is before has been proven.
    proven: (u64, u64),
}

impl<R: Read> Reader<R> {
    /// Reads from the start of a file of `length` bytes.
    pub fn new(source: R, length: u64, verify: Verify) -> Self {
        Reader {
            source,
            buffer: Vec::new(),
            next: 0,
            before: 0,
            summed: 0,
            sum: Some(Crc64::new()),
            verify,
            length,
            line: 1,
            item: 0,
            proven: (0, 1),
        }
    }

    /// Reads on behind a snapshot that ended at `offset`: `read` holds the bytes that were already taken
    /// from the source. The checksum of what came before is not known.
    pub fn behind(source: R, read: Vec<u8>, offset: u64, length: u64) -> Self {
        let mut reader = Reader::new(source, length, Verify::Nothing);
        (reader.buffer, reader.before, reader.item, reader.sum) = (read, offset, offset, None);
        reader.proven.0 = offset;
        reader
    }

    /// Offset of the next byte.
    pub fn position(&self) -> u64 {
        self.before + self.next as u64
    }

    /// The number of the line that is being read, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Offset and line of what a repair keeps. Behind damage it is not enough that commands can be read: what
    /// no checksum has proven may be damaged, too.
    pub fn whole(&self, fault: &Fault, tail: Tail) -> (u64, u64) {
        let has_checksums = match fault.kind {
            FaultKind::Checksum | FaultKind::Ended => true,
            FaultKind::Format(_) => self.proven.0 > 0,
            FaultKind::Io(_) => false,
        };
        match tail {
            Tail::Damaged if self.sum.is_some() && has_checksums => self.proven,
            _ => (fault.offset, fault.line),
        }
    }

    /// The checksum of the file up to here.
    pub fn checksum(&mut self) -> Option<u64> {
        self.sum_up();
        self.sum.as_ref().map(Crc64::value)
    }

    /// The next item. A command's arguments replace what is in `args`.
    pub fn read(&mut self, args: &mut OwnedArgs) -> Result<Item, Fault> {
        self.item = self.position();
        if self.fill(1)? == 0 {
            return Ok(Item::End);
        }
        match self.buffer[self.next] {
            b'#' => self.remark(),
            b'*' => self.command(args),
            _ => Err(self.fault(FaultKind::Format("neither a request nor a remark"))),
        }
    }

    fn command(&mut self, args: &mut OwnedArgs) -> Result<Item, Fault> {
        args.clear();
        let argc = self.count(b'*', "the number of arguments is expected")?;
        if argc < 1 {
            return Err(self.fault(FaultKind::Format("a request has at least one argument")));
        }
        for _ in 0..argc {
            let length = self.count(b'$', "the length of an argument is expected")?;
            if length < 0 {
                return Err(self.fault(FaultKind::Format("a length is not negative")));
            }
            let length = length as u64;
            if length.saturating_add(2) > self.length.saturating_sub(self.position()) {
                return Err(self.ended());
            }
            let length = length as usize;
            if self.fill(length + 2)? < length + 2 {
                return Err(self.ended());
            }
            let from = self.next;
            args.push(&self.buffer[from..from + length]);
            self.next += length;
            if self.buffer[self.next..self.next + 2] != *b"\r\n" {
                return Err(self.fault(FaultKind::Format("a line end is expected behind an argument")));
            }
            self.next += 2;
            self.line += 1;
        }
        Ok(Item::Command)
    }

    /// A line of a letter and a number.
    fn count(&mut self, letter: u8, expected: &'static str) -> Result<i64, Fault> {
        let start = self.next;
        let line = self.text_line()?;
        let number = match line.split_first() {
            Some((first, digits)) if *first == letter => num::parse_i64(digits),
            _ => None,
        };
        number.ok_or_else(|| {
            self.next = start;
            self.fault(FaultKind::Format(expected))
        })
    }

    fn remark(&mut self) -> Result<Item, Fault> {
        let sum = if self.verify == Verify::Checksums { self.checksum() } else { None };
        let (start, offset) = (self.next, self.position());
        let line = self.text_line()?;
        if let Some(seconds) = line.strip_prefix(TIME) {
            return match num::parse_i64(seconds) {
                Some(seconds) => Ok(Item::Time(seconds)),
                None => Ok(Item::Remark),
            };
        }
        let Some(mark) = line.strip_prefix(CHECKSUM) else { return Ok(Item::Remark) };
        match (parse_mark(mark), sum) {
            (Some(found), Some(sum)) if found != (sum, offset) => {
                self.next = start;
                Err(Fault { offset: self.proven.0, ..self.fault(FaultKind::Checksum) })
            }
            (Some(_), _) => {
                self.proven = (self.position(), self.line);
                Ok(Item::Checksum)
            }
            (None, None) => Ok(Item::Remark),
            (None, Some(_)) => {
                self.next = start;
                Err(self.fault(FaultKind::Format("a checksum line has 16 hex digits, @ and its offset")))
            }
        }
    }

    /// Takes a line; its end is left out.
    fn text_line(&mut self) -> Result<&[u8], Fault> {
        let mut searched = 0;
        let length = loop {
            let waiting = &self.buffer[self.next..];
            if let Some(at) = waiting[searched..].iter().position(|byte| *byte == b'\n') {
                break searched + at;
            }
            searched = waiting.len();
            if searched >= LINE_BYTES_MAX {
                return Err(self.fault(FaultKind::Format("a line is too long")));
            }
            if self.fill(searched + 1)? == searched {
                return Err(self.ended());
            }
        };
        let start = self.next;
        self.next += length + 1;
        self.line += 1;
        let line = &self.buffer[start..start + length];
        match line.strip_suffix(b"\r") {
            Some(line) => Ok(line),
            // Remarks may have been written by hand.
            None if line.first() == Some(&b'#') => Ok(line),
            None => {
                self.next = start + length;
                Err(self.fault(FaultKind::Format("a line ends with CR and LF")))
            }
        }
    }

    /// Sees that `wanted` bytes wait in the buffer; gives how many there are when the file ends before.
    fn fill(&mut self, wanted: usize) -> Result<usize, Fault> {
        if self.buffer.len() - self.next < wanted && self.next > 0 {
            self.sum_up();
            self.buffer.drain(..self.next);
            self.before += self.next as u64;
            self.summed -= self.next;
            self.next = 0;
        }
        while self.buffer.len() - self.next < wanted {
            let have = self.buffer.len();
            let room = CHUNK.max(wanted.saturating_sub(have).min(64 << 20));
            self.buffer.resize(have + room, 0);
            let read = self.source.read(&mut self.buffer[have..]);
            self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fault(FaultKind::Io(error))),
            }
        }
        Ok((self.buffer.len() - self.next).min(wanted))
    }

    fn sum_up(&mut self) {
        if let Some(sum) = &mut self.sum
            && self.summed < self.next
        {
            sum.update(&self.buffer[self.summed..self.next]);
        }
        self.summed = self.next;
    }

    fn ended(&self) -> Fault {
        self.fault(FaultKind::Ended)
    }

    /// A fault of the item that is being read.
    fn fault(&self, kind: FaultKind) -> Fault {
        Fault { offset: self.item, at: self.position(), line: self.line, kind }
    }
}

/// The checksum and the offset of a mark, from what stands behind `#CRC:`.
fn parse_mark(text: &[u8]) -> Option<(u64, u64)> {
    let (digits, offset) = (text.get(..16)?, text.get(16..)?);
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((u64::from_str_radix(digits, 16).ok()?, num::parse_u64(offset.strip_prefix(b"@")?)?))
}

/// What the end of a file is in which reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The last write did not come through: the rest can be cut off.
    Torn,
    /// There was more behind it: something in the middle is damaged.
    Damaged,
}

/// Tells a torn end from damage. A file that was cut has nothing behind the cut: if a checksum line stands
/// further on, at the offset it names, the place before it was whole once. A tail of zeros is what some file
/// systems leave behind after a power failure, and is torn too.
pub fn examine_tail(mut file: impl Read + Seek, fault: &Fault) -> io::Result<Tail> {
    match fault.kind {
        FaultKind::Ended => {
            file.seek(SeekFrom::Start(fault.offset))?;
            Ok(if has_mark(file, fault.offset)? { Tail::Damaged } else { Tail::Torn })
        }
        FaultKind::Format(_) => {
            file.seek(SeekFrom::Start(fault.offset))?;
            let (zeros, length) = trailing_zeros(file, fault.offset)?;
            let torn = zeros < length && zeros <= fault.at + LINE_BYTES_MAX as u64;
            Ok(if torn { Tail::Torn } else { Tail::Damaged })
        }
        FaultKind::Checksum | FaultKind::Io(_) => Ok(Tail::Damaged),
    }
}

/// Where the zeros at the end of a file begin, and where it ends. `file` stands at `offset`.
fn trailing_zeros(mut file: impl Read, mut offset: u64) -> io::Result<(u64, u64)> {
    let mut zeros = offset;
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok((zeros, offset));
        }
        if let Some(last) = chunk[..n].iter().rposition(|byte| *byte != 0) {
            zeros = offset + last as u64 + 1;
        }
        offset += n as u64;
    }
}

/// Whether a genuine checksum line stands behind the first byte of the rest of a file, which is at `from`.
fn has_mark(mut file: impl Read, from: u64) -> io::Result<bool> {
    /// Longest line of its kind: prefix, digits, `@`, a number, line end.
    const MARK_BYTES_MAX: usize = 5 + 16 + 1 + 20 + 2;
    let mut window: Vec<u8> = Vec::new();
    let mut before = from;
    loop {
        let have = window.len();
        window.resize(have + CHUNK, 0);
        let n = file.read(&mut window[have..])?;
        window.truncate(have + n);
        let found = window.windows(CHECKSUM.len()).enumerate().filter(|(_, w)| *w == CHECKSUM);
        for (at, _) in found {
            let rest = &window[at + CHECKSUM.len()..];
            let end = rest.iter().take(MARK_BYTES_MAX).position(|byte| *byte == b'\r');
            let mark = end.and_then(|end| parse_mark(&rest[..end]));
            // The line at which reading stopped may itself be what was cut.
            let here = before + at as u64;
            if here > from && mark.is_some_and(|(_, offset)| offset == here) {
                return Ok(true);
            }
        }
        if n == 0 {
            return Ok(false);
        }
        let kept = window.len().min(MARK_BYTES_MAX);
        before += (window.len() - kept) as u64;
        window.drain(..window.len() - kept);
    }
}
