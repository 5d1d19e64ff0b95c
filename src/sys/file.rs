//! Files that must survive a crash: replace whole, sync, sync the directory, lock. Formats are elsewhere.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};

use super::process::check;

/// Replaces the file at `path` so that a crash at any moment leaves either the old or the new content whole:
/// new file, fsync, rename, fsync of the directory. On an error the old file is untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = create(&temporary).and_then(|file| {
        append(&file, 0, bytes).1?;
        fsync(&file)?;
        rename_durably(&temporary, path)
    });
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A name in the same directory (so that renaming is atomic) that no other process uses.
pub fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// Renames a file that is already synced and makes the new name durable.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    Fault::strike(Operation::Rename)?;
    fs::rename(from, to)?;
    fsync_dir(directory_of(to))
}

/// Creates a file for writing, or empties it.
pub fn create(path: &Path) -> io::Result<File> {
    Fault::strike(Operation::Create)?;
    File::create(path)
}

/// Opens a file for adding to its end; creates it if need be.
pub fn open_append(path: &Path) -> io::Result<File> {
    Fault::strike(Operation::Create)?;
    File::options().create(true).append(true).open(path)
}

/// Adds all bytes to a file that has `at`, or as many as it takes: their number, and why it were not all.
pub fn append(mut file: &File, at: u64, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        let result = Fault::allowed(at + written as u64, rest.len()).and_then(|n| file.write(&rest[..n]));
        match result {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Cuts a file to a length.
pub fn truncate(file: &File, length: u64) -> io::Result<()> {
    Fault::strike(Operation::Truncate)?;
    file.set_len(length)
}

/// Renames without syncing the directory: something that syncs it follows.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Fault::strike(Operation::Rename)?;
    fs::rename(from, to)
}

/// Waits until content and metadata of a file are on disk.
pub fn fsync(file: &File) -> io::Result<()> {
    Fault::strike(Operation::Sync)?;
    file.sync_all()
}

/// Waits until the content of a file, and what is needed to read it back, is on disk.
pub fn fdatasync(file: &File) -> io::Result<()> {
    Fault::strike(Operation::Sync)?;
    file.sync_data()
}

/// Waits until the names in a directory are on disk. File systems that cannot do it (EINVAL) have nothing to
/// make durable.
pub fn fsync_dir(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// The directory part of a path, `.` when it has none.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates (if need be) and locks a file for this process alone. None when another process holds it. The
/// lock ends when the file is dropped, at the latest with the process; children inherit it.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).read(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Starts writing a part of a file to disk without waiting for metadata, so that the fsync at the end of a
/// big file finds little left to do.
pub fn sync_range(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    let (offset, length) = (offset as libc::off64_t, length as libc::off64_t);
    // SAFETY: an open descriptor; no memory is involved.
    check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) })
}

/// Tells the kernel that the file's pages need not stay in its cache (snapshots are read once). Errors do no
/// harm and are dropped.
pub fn drop_cache(file: &File) {
    // SAFETY: an open descriptor; no memory is involved.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// A file that is written from its start to its end. What is written may be sent to disk on the way, so that
/// the sync at the end finds little left to do.
#[derive(Debug)]
pub struct OutFile {
    file: File,
    at: u64,
    sent: u64,
    send_every: u64,
}

/// Bytes after which a file is sent on to disk.
const SEND_BYTES: u64 = 4 << 20;

/// When the content of a file goes to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Some megabytes at a time, while it is written.
    Incremental,
    /// At the end.
    AtEnd,
}

impl OutFile {
    /// Creates the file, or empties it.
    pub fn create(path: &Path, sending: Sending) -> io::Result<OutFile> {
        let send_every = if sending == Sending::Incremental { SEND_BYTES } else { u64::MAX };
        Ok(OutFile { file: create(path)?, at: 0, sent: 0, send_every })
    }

    /// Waits until everything is on disk; the kernel need not keep it in memory.
    pub fn finish(self) -> io::Result<()> {
        fsync(&self.file)?;
        drop_cache(&self.file);
        Ok(())
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let allowed = Fault::allowed(self.at, bytes.len())?;
        let written = self.file.write(&bytes[..allowed])?;
        self.at += written as u64;
        if self.at - self.sent >= self.send_every {
            sync_range(&self.file, self.sent, self.at - self.sent)?;
            self.sent = self.at;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for OutFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// What an injected fault makes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Writing behind the first bytes of a file.
    Write = 1,
    /// Syncing a file.
    Sync = 2,
    /// Renaming a file.
    Rename = 3,
    /// Creating a file, or opening it for writing.
    Create = 4,
    /// Cutting a file.
    Truncate = 5,
}

/// A fault of the disk, for tests (DEBUG DISK-FAULT). It holds for this process and the children it makes
/// from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub operation: Operation,
    /// The system's error number; 0: writes take a few bytes at a time, and nothing fails.
    pub errno: i32,
    /// Bytes of a file that can still be written.
    pub after: u64,
}

/// Bytes that a short write takes.
const SHORT_WRITE: usize = 7;

static FAULTY: AtomicU8 = AtomicU8::new(0);
static FAULT_ERRNO: AtomicI32 = AtomicI32::new(0);
static FAULT_AFTER: AtomicU64 = AtomicU64::new(0);

impl Fault {
    /// Lets the disk fail, or no longer.
    pub fn inject(fault: Option<Fault>) {
        FAULT_ERRNO.store(fault.map_or(0, |fault| fault.errno), Ordering::Relaxed);
        FAULT_AFTER.store(fault.map_or(0, |fault| fault.after), Ordering::Relaxed);
        FAULTY.store(fault.map_or(0, |fault| fault.operation as u8), Ordering::Release);
    }

    fn is_injected(operation: Operation) -> bool {
        FAULTY.load(Ordering::Acquire) == operation as u8
    }

    /// The error of an operation, if it is to fail.
    pub fn strike(operation: Operation) -> io::Result<()> {
        match Fault::is_injected(operation) {
            true => Err(io::Error::from_raw_os_error(FAULT_ERRNO.load(Ordering::Relaxed))),
            false => Ok(()),
        }
    }

    /// How many of `len` bytes may be written to a file that has `at`.
    pub fn allowed(at: u64, len: usize) -> io::Result<usize> {
        if !Fault::is_injected(Operation::Write) {
            return Ok(len);
        }
        let room = FAULT_AFTER.load(Ordering::Relaxed).saturating_sub(at);
        match FAULT_ERRNO.load(Ordering::Relaxed) {
            0 => Ok(len.min(SHORT_WRITE)),
            _ if room > 0 => Ok(len.min(usize::try_from(room).unwrap_or(usize::MAX))),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Tests that inject faults, or would meet them, run one after the other: there is one disk.
#[cfg(test)]
pub fn exclusive() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_disk_leaves_the_old_file() {
        let _alone = exclusive();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        write_atomically(&path, b"old").unwrap();
        for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename] {
            Fault::inject(Some(Fault { operation, errno: libc::ENOSPC, after: 1 }));
            let error = write_atomically(&path, b"new").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{operation:?}");
        }
        Fault::inject(None);
        let file = open_append(&path).unwrap();
        Fault::inject(Some(Fault { operation: Operation::Write, errno: libc::ENOSPC, after: 5 }));
        let (written, result) = append(&file, 3, b"1234");
        Fault::inject(None);
        assert!(written == 2 && result.is_err());
        truncate(&file, 3).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn replaces_whole_and_leaves_nothing_behind() {
        let _alone = exclusive();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // A directory in the way: the rename fails, the temporary file is gone.
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write_atomically(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(write_atomically(&dir.path().join("no/such/dir"), b"x").is_err());
    }

    #[test]
    fn locks_exclude() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn paths_and_hints() {
        let _alone = exclusive();
        assert_eq!(directory_of(Path::new("a")), Path::new("."));
        assert_eq!(directory_of(Path::new("/a/b")), Path::new("/a"));
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("f")).unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        sync_range(&file, 0, 10_000).unwrap();
        fdatasync(&file).unwrap();
        fsync(&file).unwrap();
        drop_cache(&file);
    }
}
