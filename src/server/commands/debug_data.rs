//! DEBUG's subcommands on files: RELOAD, and faults of the disk.

use crate::command::args::{self, Cursor, is};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::{Outcome, Propagate};
use crate::keyspace::Db;
use crate::server::ServerCtx;
use crate::server::load::Duplicates;
use crate::sys::file::{Fault, Operation};

const NOT_SAVED: CmdError = CmdError::new("ERR Error trying to save the RDB dump, check server logs");
const NOT_LOADED: CmdError = CmdError::new("ERR Error trying to load the RDB dump, check server logs");

/// RELOAD [MERGE] [NOFLUSH] [NOSAVE]: saves, empties, loads.
pub(super) fn reload(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let (mut duplicates, mut flush, mut save) = (Duplicates::Refuse, true, true);
    let mut cursor = Cursor::new(ctx.args, 2);
    while !cursor.is_done() {
        if cursor.word("merge") {
            duplicates = Duplicates::Replace;
        } else if cursor.word("noflush") {
            flush = false;
        } else if cursor.word("nosave") {
            save = false;
        } else {
            let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
            return Err(CmdError::new(text));
        }
    }
    ctx.propagate = Propagate::Never;
    let server = &mut *ctx.server;
    if save {
        server.save_now().map_err(|_| NOT_SAVED)?;
    }
    if flush {
        server.snapshots.note_reload();
        let flushed = server.keyspace.flush(None);
        let weight = flushed.iter().map(Db::len).sum();
        server.keyspace.drop_later(Box::new(flushed), weight);
        drop(server.runner.scripts.functions.flush());
    }
    if let Err(error) = server.load_now(duplicates) {
        log::error!(target: "aikv", "DEBUG RELOAD: {error}");
        return Err(NOT_LOADED);
    }
    log::warn!(target: "aikv", "DB reloaded by DEBUG RELOAD");
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

/// Errors by the names that people know.
const ERRORS: &[(&str, i32)] =
    &[("short", 0), ("enospc", libc::ENOSPC), ("eio", libc::EIO), ("eacces", libc::EACCES)];
const OPERATIONS: &[(&str, Operation)] = &[
    ("write", Operation::Write),
    ("sync", Operation::Sync),
    ("rename", Operation::Rename),
    ("create", Operation::Create),
    ("truncate", Operation::Truncate),
];

/// DISK-FAULT none | operation error [bytes]: lets the disk fail.
pub(super) fn disk_fault(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut cursor = Cursor::new(ctx.args, 2);
    let fault = match cursor.word("none") {
        true => None,
        false => {
            let (operation, errno) = (cursor.take()?, cursor.take()?);
            let operation = OPERATIONS.iter().find(|(name, _)| is(operation, name));
            let errno = ERRORS.iter().find(|(name, _)| is(errno, name));
            let after = if cursor.is_done() { 0 } else { args::int(cursor.take()?)?.max(0) as u64 };
            let ((_, operation), (_, errno)) = operation.zip(errno).ok_or(error::SYNTAX)?;
            Some(Fault { operation: *operation, errno: *errno, after })
        }
    };
    if !cursor.is_done() {
        return Err(error::SYNTAX);
    }
    Fault::inject(fault);
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}
