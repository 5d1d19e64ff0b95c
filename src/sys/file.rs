//! Files that must survive a crash: replace whole, sync, sync the directory, lock. Formats are elsewhere.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::fault::{self, Op};
use super::process::check;

/// Replaces the file at `path` so that a crash at any moment leaves either the old or the new content whole:
/// new file, fsync, rename, fsync of the directory. On an error the old file is untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = create(&temporary).and_then(|file| {
        append(&file, bytes).1?;
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
    fault::check(Op::Rename)?;
    fs::rename(from, to)?;
    fsync_dir(directory_of(to))
}

/// Creates a file for writing, or empties it.
pub fn create(path: &Path) -> io::Result<File> {
    fault::check(Op::Create)?;
    File::create(path)
}

/// Opens a file for adding to its end; creates it if need be.
pub fn open_append(path: &Path) -> io::Result<File> {
    fault::check(Op::Create)?;
    File::options().create(true).append(true).open(path)
}

/// Writes all bytes, or as many as it can: their number, and why it were not all.
pub fn append(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let broken = fault::check(Op::Write);
    let wanted = if broken.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
    let mut written = 0;
    while written < wanted.len() {
        match file.write(&wanted[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, broken)
}

/// Cuts a file to a length.
pub fn truncate(file: &File, length: u64) -> io::Result<()> {
    fault::check(Op::Truncate)?;
    file.set_len(length)
}

/// Renames without syncing the directory: something that syncs it follows.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::check(Op::Rename)?;
    fs::rename(from, to)
}

/// A new file that is written in one go and synced at its end.
pub struct Synced {
    file: File,
    written: u64,
    /// Bytes up to which the kernel was told to start writing; None: it is left to it.
    started: Option<u64>,
}

/// Bytes written between two hints to the kernel.
const SYNC_STEP_BYTES: u64 = 4 << 20;

impl Synced {
    /// Creates the file. With `incremental`, it is brought to disk while it grows, so that the sync at its
    /// end is short.
    pub fn create(path: &Path, incremental: bool) -> io::Result<Synced> {
        Ok(Synced { file: create(path)?, written: 0, started: incremental.then_some(0) })
    }

    /// Waits until it is on disk.
    pub fn finish(self) -> io::Result<()> {
        fsync(&self.file)
    }
}

impl Write for Synced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        append(&self.file, bytes).1?;
        self.written += bytes.len() as u64;
        if let Some(started) = &mut self.started
            && self.written - *started >= SYNC_STEP_BYTES
        {
            // Only a hint: what matters is the sync at the end.
            let _ = sync_range(&self.file, *started, self.written - *started);
            *started = self.written;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until content and metadata of a file are on disk.
pub fn fsync(file: &File) -> io::Result<()> {
    fault::check(Op::Sync)?;
    file.sync_all()
}

/// Waits until the content of a file, and what is needed to read it back, is on disk.
pub fn fdatasync(file: &File) -> io::Result<()> {
    fault::check(Op::Sync)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_disk_leaves_the_old_file() {
        let _alone = fault::exclusive();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        write_atomically(&path, b"old").unwrap();
        for op in [Op::Create, Op::Write, Op::Sync, Op::Rename] {
            fault::arm(op, libc::ENOSPC, 1);
            let error = write_atomically(&path, b"new").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{op:?}");
        }
        let file = open_append(&path).unwrap();
        fault::arm(Op::Write, libc::ENOSPC, 1);
        let (written, result) = append(&file, b"1234");
        assert!(written == 2 && result.is_err());
        truncate(&file, 3).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn replaces_whole_and_leaves_nothing_behind() {
        let _alone = fault::exclusive();
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
        let _alone = fault::exclusive();
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
