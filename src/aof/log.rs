//! The file of the log that is being written: what was appended and not yet written, the remarks between
//! commands, and what became of the last write. Knows where bytes go, not when: that is decided in
//! `server/aof.rs`.
//!
//! States of a [`LogFile`]: whole -> (a write ended early, the rest was cut off) whole
//!                                -> (that failed too, or a sync failed) broken, for ever
//! Nothing is written to a broken file any more, and it is never said to be on disk: a new file has to take
//! its place.

use super::reader::{CHECKSUM, TIME};
use crate::sys::file;
use crate::util::crc::Crc64;
use crate::util::num;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes behind the last checksum line after which another one is due.
pub const MARK_BYTES: u64 = 4096;

/// An open file of the log. Shared with the thread that syncs; only one of the two writes at a time.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
    /// Bytes of it that are whole.
    size: AtomicU64,
    broken: AtomicBool,
    /// The last write failed: what was to follow it must not be written before it.
    halted: AtomicBool,
}

impl LogFile {
    /// Creates a file, or empties it.
    pub fn create(path: &Path) -> io::Result<LogFile> {
        drop(file::create(path)?);
        LogFile::open(path, 0)
    }

    /// Opens a file for appending; it has to hold `size` bytes.
    pub fn open(path: &Path, size: u64) -> io::Result<LogFile> {
        let file = file::open_append(path)?;
        Ok(LogFile {
            file,
            path: path.to_owned(),
            size: AtomicU64::new(size),
            broken: AtomicBool::new(false),
            halted: AtomicBool::new(false),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of it that are whole.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Whether it cannot be used any more.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Writes all bytes to its end, or none.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if self.is_broken() || self.halted.load(Ordering::Acquire) {
            return Err(broken());
        }
        let size = self.size();
        let (written, result) = file::append(&self.file, size, bytes);
        self.halted.store(result.is_err(), Ordering::Release);
        match result {
            Ok(()) => self.size.store(size + written as u64, Ordering::Release),
            Err(_) if written > 0 && file::truncate(&self.file, size).is_err() => {
                self.broken.store(true, Ordering::Release);
            }
            Err(_) => {}
        }
        result
    }

    /// Lets it be written again after a failed write.
    pub fn resume(&self) {
        self.halted.store(false, Ordering::Release);
    }

    /// Waits until all of it is on disk. What was not may be lost then, whatever a later sync says.
    pub fn sync(&self) -> io::Result<()> {
        if self.is_broken() {
            return Err(broken());
        }
        let result = file::fdatasync(&self.file);
        if result.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        result
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// Bytes on their way to the file in another thread, and back if they did not get there.
#[derive(Debug)]
pub struct Shipment {
    /// Where they go.
    pub file: Arc<LogFile>,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How long to wait first (DEBUG AOF-FLUSH-SLEEP).
    pub delay: Duration,
}

/// How a shipment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Written and synced.
    Done,
    /// Nothing of it is in the file.
    NotWritten,
    /// It is in the file, but perhaps not on disk.
    NotSynced,
}

impl Shipment {
    /// Writes and syncs.
    pub fn deliver(&self) -> (Delivery, io::Result<()>) {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        if let Err(error) = self.file.write(&self.bytes) {
            return (Delivery::NotWritten, Err(error));
        }
        match self.file.sync() {
            Ok(()) => (Delivery::Done, Ok(())),
            Err(error) => (Delivery::NotSynced, Err(error)),
        }
    }
}

/// What stands between the commands of one file, and the checksum of all of it.
#[derive(Debug)]
pub struct Annotator {
    /// Length of the file with everything appended so far.
    pub length: u64,
    /// None: it is not known, and no checksum lines are written.
    sum: Option<Crc64>,
    /// Bytes behind the last checksum line.
    unmarked: u64,
    /// Second of the last time stamp.
    stamped: i64,
}

impl Annotator {
    /// For a file that holds `length` bytes of this checksum.
    pub fn new(length: u64, checksum: Option<u64>) -> Annotator {
        Annotator { length, sum: checksum.map(Crc64::resume), unmarked: 0, stamped: 0 }
    }

    fn push(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        self.length += bytes.len() as u64;
        self.unmarked += bytes.len() as u64;
        out.extend_from_slice(bytes);
    }

    /// Adds whole commands.
    pub fn commands(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        self.push(out, bytes);
    }

    /// Adds a time stamp if the last one is of an earlier second.
    pub fn time(&mut self, out: &mut Vec<u8>, unix_seconds: i64) {
        if unix_seconds <= self.stamped {
            return;
        }
        self.stamped = unix_seconds;
        let mut line = TIME.to_vec();
        num::push_i64(&mut line, unix_seconds);
        line.extend_from_slice(b"\r\n");
        self.push(out, &line);
    }

    /// Bytes that no checksum line covers yet.
    pub fn unmarked(&self) -> u64 {
        self.unmarked
    }

    /// Adds a checksum line if anything stands behind the last one.
    pub fn mark(&mut self, out: &mut Vec<u8>) {
        let Some(sum) = self.sum.as_ref().filter(|_| self.unmarked > 0) else { return };
        let mut line = CHECKSUM.to_vec();
        line.extend_from_slice(format!("{:016x}@", sum.value()).as_bytes());
        num::push_u64(&mut line, self.length);
        line.extend_from_slice(b"\r\n");
        self.push(out, &line);
        self.unmarked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::{Fault, FaultKind, Item, Reader, Tail, Verify, examine_tail};
    use super::*;
    use crate::resp::OwnedArgs;
    use crate::sys::file::{Fault as DiskFault, Operation, exclusive};
    use crate::util::rng::Rng;
    use std::io::Cursor;

    /// A small log with all kinds of lines, every command under a checksum.
    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let mut annotator = Annotator::new(0, Some(0));
        for i in 0..6 {
            annotator.time(&mut out, 1_600_000_000 + i / 2);
            let value = "v".repeat(i as usize * 5);
            let text = format!("*3\r\n$3\r\nSET\r\n$1\r\n{i}\r\n${}\r\n{value}\r\n", value.len());
            annotator.commands(&mut out, text.as_bytes());
            annotator.mark(&mut out);
        }
        out
    }

    /// All commands of a file, and why reading ended.
    fn read_all(bytes: &[u8], verify: Verify) -> (Vec<Vec<u8>>, Option<Fault>) {
        let mut reader = Reader::new(bytes, bytes.len() as u64, verify);
        let (mut args, mut commands) = (OwnedArgs::default(), Vec::new());
        loop {
            match reader.read(&mut args) {
                Ok(Item::Command) => commands.push(args.as_args().iter().collect::<Vec<_>>().join(&b' ')),
                Ok(Item::End) => return (commands, None),
                Ok(_) => {}
                Err(fault) => return (commands, Some(fault)),
            }
        }
    }

    #[test]
    fn reads_what_was_written() {
        let bytes = sample();
        let (commands, fault) = read_all(&bytes, Verify::Checksums);
        assert!(fault.is_none() && commands.len() == 6, "{fault:?}");
        assert_eq!(commands[1], b"SET 1 vvvvv");
        assert_eq!(String::from_utf8(bytes).unwrap().matches("#TS:").count(), 3);
    }

    #[test]
    fn every_flipped_bit_is_found_or_harmless() {
        let bytes = sample();
        let (whole, _) = read_all(&bytes, Verify::Checksums);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let (commands, fault) = read_all(&damaged, Verify::Checksums);
                let Some(fault) = fault else {
                    assert_eq!(commands, whole, "byte {at} bit {bit}: silent damage");
                    continue;
                };
                assert!(fault.offset <= at as u64 + 128 && fault.offset <= fault.at, "{at}: {fault}");
                let tail = examine_tail(Cursor::new(&damaged), &fault).unwrap();
                // Only in the last command or its checksum line can damage look like a torn end.
                let last = bytes.len() - 90;
                assert!(tail == Tail::Damaged || at >= last, "byte {at} bit {bit}: {fault}");
            }
        }
    }

    #[test]
    fn a_repair_keeps_only_what_was_written() {
        let bytes = sample();
        let (whole, _) = read_all(&bytes, Verify::Checksums);
        // Before the first checksum line nothing says that there are any.
        let first = bytes.windows(5).position(|window| window == CHECKSUM).unwrap() + 50;
        for (at, bit) in (first..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let mut reader = Reader::new(&damaged[..], damaged.len() as u64, Verify::Checksums);
            let mut args = OwnedArgs::default();
            let fault = loop {
                match reader.read(&mut args) {
                    Ok(Item::End) => break None,
                    Ok(_) => {}
                    Err(fault) => break Some(fault),
                }
            };
            let Some(fault) = fault else { continue };
            let tail = examine_tail(Cursor::new(&damaged), &fault).unwrap();
            let (keep, _) = reader.whole(&fault, tail);
            let (kept, more) = read_all(&damaged[..keep as usize], Verify::Checksums);
            assert!(more.is_none() && whole.starts_with(&kept), "byte {at} bit {bit}: {fault}, {keep}");
        }
    }

    #[test]
    fn every_cut_is_a_torn_end() {
        let bytes = sample();
        let (whole, _) = read_all(&bytes, Verify::Checksums);
        for cut in 0..bytes.len() {
            let (commands, fault) = read_all(&bytes[..cut], Verify::Checksums);
            assert_eq!(commands, whole[..commands.len()]);
            if let Some(fault) = fault {
                assert!(matches!(fault.kind, FaultKind::Ended), "{cut}: {fault}");
                assert_eq!(examine_tail(Cursor::new(&bytes[..cut]), &fault).unwrap(), Tail::Torn);
                let (again, fault) = read_all(&bytes[..fault.offset as usize], Verify::Checksums);
                assert!(fault.is_none() && again == commands);
            }
            // What some file systems leave behind after a power failure.
            let mut zeros = bytes[..cut].to_vec();
            zeros.resize(cut + 5000, 0);
            let (_, fault) = read_all(&zeros, Verify::Checksums);
            let fault = fault.expect("zeros are no request");
            assert_eq!(examine_tail(Cursor::new(&zeros), &fault).unwrap(), Tail::Torn, "{cut}: {fault}");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let seed = 11;
        let mut rng = Rng::from_seed(seed);
        let bytes = sample();
        for _ in 0..20_000 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(damaged.len() as u64) as usize;
                match rng.below(4) {
                    0 => damaged[at] = rng.next_u64() as u8,
                    1 => damaged.truncate(at.max(1)),
                    2 => drop(damaged.splice(at..at, *b"$99999999999999999999\r\n")),
                    _ => drop(damaged.drain(at..(at + 9).min(damaged.len()))),
                }
                if damaged.is_empty() {
                    break;
                }
            }
            for verify in [Verify::Checksums, Verify::Nothing] {
                if let (_, Some(fault)) = read_all(&damaged, verify) {
                    examine_tail(Cursor::new(&damaged), &fault).unwrap();
                }
            }
        }
    }

    fn fail(operation: Operation, after: u64) {
        DiskFault::inject(Some(DiskFault { operation, errno: libc::ENOSPC, after }));
    }

    #[test]
    fn failed_writes_leave_nothing_and_failed_syncs_break_the_file() {
        let _alone = exclusive();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = Arc::new(LogFile::open(&path, 0).unwrap());
        file.write(b"one").unwrap();
        fail(Operation::Write, 5);
        let shipment = Shipment { file: Arc::clone(&file), bytes: b"four".to_vec(), delay: Duration::ZERO };
        assert_eq!(shipment.deliver().0, Delivery::NotWritten);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        DiskFault::inject(None);
        assert_eq!(shipment.deliver().0, Delivery::NotWritten, "nothing may overtake what failed");
        file.resume();
        assert_eq!(shipment.deliver().0, Delivery::Done);
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), file.size()), (&b"onefour"[..], 7));
        fail(Operation::Sync, 0);
        assert_eq!(shipment.deliver().0, Delivery::NotSynced);
        DiskFault::inject(None);
        assert!(file.is_broken() && file.sync().is_err() && file.write(b"x").is_err());
    }
}
