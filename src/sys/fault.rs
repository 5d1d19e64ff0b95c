//! A disk that fails when a test wants it to: the seam through which writes, syncs, renames and creations of
//! data files go (`sys/file.rs`). DEBUG DISK-FAULT arms it in a running server; the tables of tests do it
//! directly. While nothing is armed, an operation costs one relaxed load.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// An operation on data files that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writing bytes: half of them are written, then it fails.
    Write,
    /// fsync and fdatasync.
    Sync,
    /// Renaming.
    Rename,
    /// Creating a file.
    Create,
    /// Cutting a file's end off.
    Truncate,
}

/// All operations by name.
const OPS: [(&str, Op); 5] = [
    ("write", Op::Write),
    ("sync", Op::Sync),
    ("rename", Op::Rename),
    ("create", Op::Create),
    ("truncate", Op::Truncate),
];

/// Error numbers by name.
const ERRORS: [(&str, i32); 4] =
    [("ENOSPC", libc::ENOSPC), ("EIO", libc::EIO), ("EROFS", libc::EROFS), ("EACCES", libc::EACCES)];

/// How often each operation fails from now on, and with what.
static ARMED: [(AtomicU32, AtomicI32); 5] =
    [const { (AtomicU32::new(0), AtomicI32::new(libc::EIO)) }; 5];

/// Lets the next `count` operations of a kind fail with an error number. 0 mends the disk.
pub fn arm(op: Op, errno: i32, count: u32) {
    let (left, error) = &ARMED[op as usize];
    error.store(errno, Ordering::Relaxed);
    left.store(count, Ordering::Release);
}

/// Arms by names: `write ENOSPC 3`. False if a name is not known.
pub fn arm_named(op: &str, error: &str, count: u32) -> bool {
    let op = OPS.iter().find(|(name, _)| op.eq_ignore_ascii_case(name));
    let error = ERRORS.iter().find(|(name, _)| error.eq_ignore_ascii_case(name));
    match (op, error) {
        (Some((_, op)), Some((_, errno))) => {
            arm(*op, *errno, count);
            true
        }
        _ => false,
    }
}

/// Fails if the operation was told to fail.
pub fn check(op: Op) -> io::Result<()> {
    let (left, errno) = &ARMED[op as usize];
    if left.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let one_less = |n: u32| match n {
        0 => None,
        u32::MAX => Some(u32::MAX),
        n => Some(n - 1),
    };
    match left.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_less) {
        Ok(_) => Err(io::Error::from_raw_os_error(errno.load(Ordering::Relaxed))),
        Err(_) => Ok(()),
    }
}

/// Tests that arm faults run one after the other: the seam is the process's.
#[cfg(test)]
pub fn exclusive() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_as_often_as_told() {
        let _alone = exclusive();
        assert!(check(Op::Truncate).is_ok());
        assert!(arm_named("TRUNCATE", "erofs", 2) && !arm_named("walk", "EIO", 1));
        let error = check(Op::Truncate).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        assert!(check(Op::Truncate).is_err() && check(Op::Truncate).is_ok() && check(Op::Create).is_ok());
    }
}
