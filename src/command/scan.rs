//! Walking over the keys of a database: SCAN, KEYS, RANDOMKEY, and the options that SCAN shares with
//! SSCAN, HSCAN and ZSCAN.

use super::args::Cursor;
use super::error::{self, CmdError, CmdResult};
use super::spec::{Acl, Flags, SPEC, Spec};
use super::{Ctx, DataFn, Outcome};
use crate::keyspace::Key;
use crate::resp::Reply;
use crate::util::glob::{self, Case};
use crate::util::num;
use crate::value::{Kind, kind};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "scan",
            arity: -2,
            flags: Flags::READONLY.with(Flags::TOUCHES_ARBITRARY_KEYS),
            acl: Acl::KEYSPACE,
            since: "2.8.0",
            summary: "Walks over the keys of the database, some at a time.",
            complexity: "O(1) a call; O(N) for the whole walk over N keys.",
            usage: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
            tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
            history: &[("6.0.0", "Added the `TYPE` subcommand.")],
            ..SPEC
        },
        scan,
    ),
    (
        Spec {
            name: "keys",
            arity: 2,
            flags: Flags::READONLY,
            acl: Acl::KEYSPACE.with(Acl::DANGEROUS),
            summary: "Returns all keys that match a pattern.",
            complexity: "O(N) for N keys in the database.",
            usage: "pattern",
            tips: &["request_policy:all_shards", "nondeterministic_output_order"],
            ..SPEC
        },
        keys,
    ),
    (
        Spec {
            name: "randomkey",
            arity: 1,
            flags: Flags::READONLY.with(Flags::TOUCHES_ARBITRARY_KEYS),
            acl: Acl::KEYSPACE,
            summary: "Returns a random key of the database.",
            tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
            ..SPEC
        },
        randomkey,
    ),
];

/// Elements of a call without COUNT.
const DEFAULT_COUNT: usize = 10;

/// Which of the SCAN commands parses its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// SCAN: takes TYPE.
    Keys,
    /// SSCAN and ZSCAN.
    Elements,
    /// HSCAN: takes NOVALUES.
    Fields,
}

/// The options of a SCAN command.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions<'a> {
    /// COUNT: about how many elements to look at.
    pub count: usize,
    /// MATCH, if it excludes anything.
    pattern: Option<&'a [u8]>,
    /// TYPE; `Some(None)` is a type that does not exist.
    kind: Option<Option<Kind>>,
    /// NOVALUES.
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    /// Reads options from argument `from` on.
    pub fn parse(args: crate::resp::Args<'a>, from: usize, scanned: Scanned) -> Result<Self, CmdError> {
        let mut options = ScanOptions { count: DEFAULT_COUNT, pattern: None, kind: None, no_values: false };
        let mut cursor = Cursor::new(args, from);
        while !cursor.is_done() {
            if cursor.left() >= 2 && cursor.word("count") {
                options.count = match cursor.int()? {
                    n @ 1.. => n as usize,
                    _ => return Err(error::SYNTAX),
                };
            } else if cursor.left() >= 2 && cursor.word("match") {
                options.pattern = Some(cursor.take()?).filter(|pattern| *pattern != b"*");
            } else if scanned == Scanned::Keys && cursor.left() >= 2 && cursor.word("type") {
                options.kind = Some(Kind::from_name(cursor.take()?));
            } else if cursor.word("novalues") {
                if scanned != Scanned::Fields {
                    return Err(NOVALUES_ELSEWHERE);
                }
                options.no_values = true;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(options)
    }

    /// Whether an element is wanted by its name.
    #[inline]
    pub fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, Case::Sensitive))
    }
}

/// NOVALUES is an option of HSCAN.
const NOVALUES_ELSEWHERE: CmdError = CmdError::new("ERR NOVALUES option can only be used in HSCAN");

/// The cursor argument of a SCAN command.
pub fn parse_cursor(bytes: &[u8]) -> Result<u64, CmdError> {
    num::parse_u64_lax(bytes).ok_or(error::INVALID_CURSOR)
}

/// The reply of SSCAN and its like for a key that is not there.
pub(super) fn empty_scan(reply: &mut Reply) {
    reply.array(2);
    reply.bulk_str("0");
    reply.array(0);
}

/// Writes the reply of a SCAN command: the next cursor, then what `walk` writes. It gives the next cursor and
/// the number of elements written.
pub(super) fn reply_scan(reply: &mut Reply, walk: impl FnOnce(&mut Reply) -> (u64, usize)) {
    let mark = reply.mark();
    let (next, found) = walk(reply);
    reply.insert_head(mark, |head| {
        head.array(2);
        head.bulk_int(next as i64);
        head.array(found);
    });
}

fn scan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = parse_cursor(ctx.args.get(1))?;
    let options = ScanOptions::parse(ctx.args, 2, Scanned::Keys)?;
    let (ks, db) = (&mut *ctx.ks, ctx.db);
    reply_scan(ctx.reply, |reply| {
        let mut found = 0;
        let next = ks.scan(db, cursor, options.count, &mut |entry| {
            let right_kind = options.kind.is_none_or(|wanted| wanted == Some(kind(entry)));
            if right_kind && options.wants(entry.key()) {
                reply.bulk(entry.key());
                found += 1;
            }
        });
        (next, found)
    });
    Ok(Outcome::Done)
}

fn keys(ctx: &mut Ctx<'_>) -> CmdResult {
    let (pattern, bytes_max) = (ctx.args.get(1), ctx.reply_bytes_max());
    let mark = ctx.reply.mark();
    let mut found = 0;
    if !pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')) {
        // A pattern without wildcards names one key.
        if ctx.ks.peek(ctx.db, Key::new(pattern)).is_some() {
            ctx.reply.bulk(pattern);
            found = 1;
        }
    } else {
        let all = pattern == b"*";
        for entry in ctx.ks.entries(ctx.db) {
            if ctx.reply.pending_bytes() > bytes_max {
                break;
            }
            if all || glob::matches(pattern, entry.key(), Case::Sensitive) {
                ctx.reply.bulk(entry.key());
                found += 1;
            }
        }
    }
    ctx.reply.insert_head(mark, |head| head.array(found));
    Ok(Outcome::Done)
}

fn randomkey(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.ks.random_key(ctx.db) {
        Some(key) => ctx.reply.bulk(&key),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}
