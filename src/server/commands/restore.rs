//! DUMP and RESTORE: a value as bytes that another server understands, and back.

use crate::command::args::{self, Cursor};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec, access, key};
use crate::command::{Outcome, Propagate};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key};
use crate::rdb::{Compression, dump};
use crate::resp::OwnedArgs;
use crate::server::table::Handler;
use crate::server::{Server, ServerCtx};
use crate::value::{Entry, Limits};

const RESTORE: Spec = Spec {
    arity: -4,
    flags: Flags::WRITE.with(Flags::DENYOOM),
    acl: Acl::KEYSPACE.with(Acl::DANGEROUS),
    keys: &[key(1, access::OW | access::UPDATE)],
    complexity: "O(N*M) for N elements of average size M; O(N*M*log(N)) for sorted sets.",
    usage: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    history: &[
        ("3.0.0", "Added the `REPLACE` modifier."),
        ("5.0.0", "Added the `ABSTTL` modifier."),
        ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
    ],
    ..SPEC
};

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "dump",
            arity: 2,
            flags: Flags::READONLY,
            acl: Acl::KEYSPACE,
            keys: &[key(1, access::RO | access::ACCESS)],
            since: "2.6.0",
            summary: "Returns the value of a key as bytes for RESTORE.",
            complexity: "O(N*M) for N elements of average size M.",
            usage: "key",
            tips: &["nondeterministic_output"],
            ..SPEC
        },
        Handler::Server(dump_value),
    ),
    (
        Spec {
            name: "restore",
            since: "2.6.0",
            summary: "Creates a key from the bytes that DUMP gave.",
            ..RESTORE
        },
        Handler::Server(restore),
    ),
    (
        Spec {
            name: "restore-asking",
            flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::ASKING),
            group: "server",
            since: "3.0.0",
            summary: "RESTORE for a key that moves between the nodes of a cluster.",
            ..RESTORE
        },
        Handler::Server(restore),
    ),
];

/// RESTORE without REPLACE found the key.
const BUSY_KEY: CmdError = CmdError::new("BUSYKEY Target key name already exists.");
/// The payload is not whole, or of a later version.
const BAD_PAYLOAD: CmdError = CmdError::new("ERR DUMP payload version or checksum are wrong");
/// The payload is whole but holds no value.
const BAD_FORMAT: CmdError = CmdError::new("ERR Bad data format");
const BAD_TTL: CmdError = CmdError::new("ERR Invalid TTL value, must be >= 0");
const BAD_IDLE: CmdError = CmdError::new("ERR Invalid IDLETIME value, must be >= 0");
const BAD_FREQUENCY: CmdError = CmdError::new("ERR Invalid FREQ value, must be >= 0 and <= 255");

const RESTORED: Event = Event::new(class::GENERIC, "restore");

fn dump_value(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let compression = compression(ctx.server.config.rdbcompression);
    let (db, key) = (ctx.client.db, Key::new(ctx.args.get(1)));
    match ctx.server.keyspace.read(db, key) {
        Some(entry) => ctx.client.reply.bulk(&dump::dump(&entry, compression)),
        None => ctx.client.reply.null(),
    }
    Ok(Outcome::Done)
}

/// The option rdbcompression.
pub(in crate::server) fn compression(wanted: bool) -> Compression {
    if wanted { Compression::Lzf } else { Compression::Off }
}

/// What RESTORE was asked for.
#[derive(Default)]
struct Asked {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<u32>,
    frequency: Option<u8>,
}

fn parse(ctx: &ServerCtx<'_>) -> Result<Asked, CmdError> {
    let mut asked = Asked::default();
    let mut cursor = Cursor::new(ctx.args, 4);
    while !cursor.is_done() {
        if cursor.word("replace") {
            asked.replace = true;
        } else if cursor.word("absttl") {
            asked.absolute = true;
        } else if cursor.left() >= 2 && asked.frequency.is_none() && cursor.word("idletime") {
            let seconds = args::int_in(cursor.take()?, 0, i64::MAX, BAD_IDLE)?;
            asked.idle_seconds = Some(seconds.try_into().unwrap_or(u32::MAX));
        } else if cursor.left() >= 2 && asked.idle_seconds.is_none() && cursor.word("freq") {
            asked.frequency = Some(args::int_in(cursor.take()?, 0, 255, BAD_FREQUENCY)? as u8);
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(asked)
}

fn restore(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let asked = parse(ctx)?;
    let (db, key, payload) = (ctx.client.db, Key::new(ctx.args.get(1)), ctx.args.get(3));
    let server = &mut *ctx.server;
    if !asked.replace && server.keyspace.exists(db, key) {
        return Err(BUSY_KEY);
    }
    let ttl = args::int_in(ctx.args.get(2), 0, i64::MAX, BAD_TTL)?;
    let now_ms = server.keyspace.now_ms();
    let expiry = match ttl {
        0 => None,
        ttl if asked.absolute => Some(ttl),
        ttl => Some(ttl.checked_add(now_ms).ok_or(BAD_TTL)?),
    };
    let mut entry = read_payload(server, payload, key.bytes, expiry)?;
    entry.set_clock(clock(server, &asked));
    let replaced = asked.replace && server.keyspace.remove(db, key, Free::Server);
    if expiry.is_some_and(|at| at <= server.keyspace.over_ms()) {
        // It is over before it begins: what is left of the command is the removal.
        if replaced {
            let removal = if server.config.lazyfree_lazy_server_del { "UNLINK" } else { "DEL" };
            ctx.propagate = Propagate::As(vec![OwnedArgs::from_slices(&[removal.as_bytes(), key.bytes])]);
            server.keyspace.changed(db, key.bytes, event::DEL);
        }
    } else {
        assert!(server.keyspace.adopt(db, entry).is_ok(), "the key is absent");
        if expiry.is_some() && !asked.absolute {
            ctx.propagate = Propagate::As(vec![with_deadline(&ctx.args, expiry)]);
        }
        server.keyspace.changed(db, key.bytes, RESTORED);
    }
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn read_payload(
    server: &mut Server,
    payload: &[u8],
    key: &[u8],
    expiry: Option<i64>,
) -> Result<Entry, CmdError> {
    let checksum = match server.debug.skip_checksums {
        true => dump::Checksum::Skip,
        false => dump::Checksum::Verify,
    };
    if !dump::verify(payload, checksum) {
        return Err(BAD_PAYLOAD);
    }
    let asked = server.config.sanitize_dump_payload != crate::config::SanitizeDumpPayload::No;
    server.stats.counters.sanitized_payloads += u64::from(asked);
    let limits = Limits::from_config(&server.config);
    match dump::restore(payload, key, expiry, &limits) {
        Ok(Some(entry)) => Ok(entry),
        Ok(None) => Err(BAD_FORMAT),
        Err(error) => {
            log::warn!(target: "aikv", "RESTORE refused a payload: {error}");
            Err(BAD_FORMAT)
        }
    }
}

/// The access clock that was asked for, or that of a new key.
fn clock(server: &Server, asked: &Asked) -> u32 {
    let access = &server.keyspace.access;
    let lfu = matches!(access.policy, crate::keyspace::access::Policy::Lfu { .. });
    match (asked.idle_seconds, asked.frequency) {
        (Some(seconds), _) if !lfu => access.from_idle_seconds(seconds),
        (_, Some(frequency)) if lfu => access.from_frequency(frequency),
        _ => access.fresh(),
    }
}

/// The command with its deadline as a time instead of a span.
fn with_deadline(args: &crate::resp::Args<'_>, expiry: Option<i64>) -> OwnedArgs {
    let at = expiry.unwrap_or(0).to_string();
    let mut words: Vec<&[u8]> = args.iter().collect();
    words[2] = at.as_bytes();
    words.push(b"ABSTTL");
    OwnedArgs::from_slices(&words)
}
