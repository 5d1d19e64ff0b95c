//! Commands on parts of strings: APPEND, STRLEN, SETRANGE, GETRANGE.

use super::args::int;
use super::error::{self, CmdError, CmdResult};
use super::spec::{Deprecated, Flags, Spec, access, key};
use super::string::{ADDS, READS_FAST, READS_KEY, STRING};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::collections::entry::NewPayload;
use crate::keyspace::change::{Event, class};
use crate::keyspace::{Key, Keyspace};
use crate::value::{Kind, string};
use std::ops::Range;

const APPEND_EVENT: Event = Event::new(class::STRING, "append");
const SETRANGE_EVENT: Event = Event::new(class::STRING, "setrange");

/// What GETRANGE and its old name share.
const GETRANGE: Spec = Spec {
    arity: 4,
    flags: Flags::READONLY,
    keys: READS_KEY,
    complexity: "O(N) where N is the length of the returned string.",
    usage: "key start end",
    ..STRING
};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "append",
            arity: 3,
            flags: ADDS.with(Flags::FAST),
            keys: &[key(1, access::RW | access::INSERT)],
            since: "2.0.0",
            summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
            complexity: "O(1) amortized: room is made ahead, in proportion to the length.",
            usage: "key value",
            ..STRING
        },
        append,
    ),
    (
        Spec {
            name: "strlen",
            arity: 2,
            flags: READS_FAST,
            keys: &[key(1, access::RO)],
            since: "2.2.0",
            summary: "Returns the length of a string value.",
            usage: "key",
            ..STRING
        },
        strlen,
    ),
    (
        Spec {
            name: "setrange",
            arity: 4,
            flags: ADDS,
            keys: &[key(1, access::RW | access::UPDATE)],
            since: "2.2.0",
            summary: "Overwrites a part of a string value with another by an offset. Creates the key if it \
                      doesn't exist.",
            complexity: "O(M) where M is the length of the value, besides the time to move a string that \
                         has to grow.",
            usage: "key offset value",
            ..STRING
        },
        setrange,
    ),
    (
        Spec {
            name: "getrange",
            since: "2.4.0",
            summary: "Returns a substring of the string stored at a key.",
            ..GETRANGE
        },
        getrange,
    ),
    (
        Spec {
            name: "substr",
            summary: "Returns a substring from a string value.",
            deprecated: Some(Deprecated { since: "2.0.0", replaced_by: "`GETRANGE`" }),
            ..GETRANGE
        },
        getrange,
    ),
];

fn append(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, tail) = (ctx.key(1), ctx.args.get(2));
    let len = if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::String)? {
        check_len(string::len(&entry), tail.len(), ctx.config.proto_max_bulk_len)?;
        string::append(&mut entry, tail)
    } else {
        let payload = string::payload(tail, ctx.args.blob(2));
        ctx.ks.insert(ctx.db, key, Kind::String, payload, None);
        tail.len()
    };
    ctx.ks.changed(ctx.db, key.bytes, APPEND_EVENT);
    ctx.reply.len_int(len);
    Ok(Outcome::Done)
}

fn strlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::String)?;
    ctx.reply.len_int(entry.map_or(0, |entry| string::len(&entry)));
    Ok(Outcome::Done)
}

fn setrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let offset = usize::try_from(ctx.int(2)?).map_err(|_| error::OFFSET_OUT_OF_RANGE)?;
    let (key, part) = (ctx.key(1), ctx.args.get(3));
    let fits = check_len(offset, part.len(), ctx.config.proto_max_bulk_len);
    if part.is_empty() || fits.is_err() {
        let found = of_kind(ctx.ks.write(ctx.db, key), Kind::String)?;
        if !part.is_empty() {
            fits?;
        }
        // Nothing changes, and no key is made.
        ctx.reply.len_int(found.map_or(0, |entry| string::len(&entry)));
        return Ok(Outcome::Done);
    }
    let len = change(ctx.ks, ctx.db, key, offset + part.len(), |bytes, _| {
        bytes[offset..offset + part.len()].copy_from_slice(part);
        bytes.len()
    })?;
    ctx.ks.changed(ctx.db, key.bytes, SETRANGE_EVENT);
    ctx.reply.len_int(len);
    Ok(Outcome::Done)
}

/// Whether a string was long enough for what is written to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// It was.
    Kept,
    /// It was filled up with zeros, or created.
    Grown,
}

/// Lets `write` write to a string that is made at least `len` bytes long. The caller reports the change.
pub(super) fn change<R>(
    ks: &mut Keyspace,
    db: usize,
    key: Key<'_>,
    len: usize,
    write: impl FnOnce(&mut [u8], Length) -> R,
) -> Result<R, CmdError> {
    if let Some(mut entry) = of_kind(ks.write(db, key), Kind::String)? {
        let length = if string::len(&entry) < len { Length::Grown } else { Length::Kept };
        return Ok(string::change(&mut entry, len, |bytes| write(bytes, length)));
    }
    let mut entry = ks.insert(db, key, Kind::String, NewPayload::Inline(b""), None);
    Ok(string::change(&mut entry, len, |bytes| write(bytes, Length::Grown)))
}

/// No string becomes longer than what a client could send.
fn check_len(len: usize, more: usize, max: usize) -> Result<(), CmdError> {
    match len.checked_add(more) {
        Some(total) if total <= max => Ok(()),
        _ => Err(error::STRING_TOO_LONG),
    }
}

fn getrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let (start, end) = (int(ctx.args.get(2))?, int(ctx.args.get(3))?);
    match of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::String)? {
        Some(entry) => {
            let range = resolve_range(start, end, string::len(&entry)).unwrap_or(0..0);
            string::reply_range(&entry, range, ctx.reply);
        }
        None => ctx.reply.bulk(b""),
    }
    Ok(Outcome::Done)
}

/// The elements that `start` and `end` (inclusive, from the end where negative) mean among `len`, if any.
fn resolve_range(start: i64, end: i64, len: usize) -> Option<Range<usize>> {
    let len = len as i64;
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let place = |i: i64| if i < 0 { (len + i).max(0) } else { i };
    let (start, end) = (place(start), place(end).min(len - 1));
    if start > end { None } else { Some(start as usize..end as usize + 1) }
}
