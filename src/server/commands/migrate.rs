//! MIGRATE: moves or copies keys to another server. The server stands still meanwhile, as in Redis: what the
//! caller is told is what has happened, and no key changes between its sending and its removal. Read it for
//! what is answered when the other server refuses, does not answer, or goes away in the middle.

use super::restore::compression;
use crate::command::args::{self, Cursor};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Begin, Find, Flags, KeySpec, SPEC, Spec, access, key};
use crate::command::{Outcome, Propagate};
use crate::keyspace::change::event;
use crate::keyspace::{Free, Key};
use crate::rdb::dump;
use crate::resp::{Args, OwnedArgs};
use crate::server::outgoing::{Destination, Target};
use crate::server::table::Handler;
use crate::server::{Server, ServerCtx};
use crate::util::num;
use std::io;
use std::ops::Range;
use std::time::Duration;

/// What MIGRATE does with its keys.
const MOVED: u32 = access::RW | access::ACCESS | access::DELETE;

/// The row.
pub const COMMANDS: &[(Spec, Handler)] = &[(
    Spec {
        name: "migrate",
        arity: -6,
        flags: Flags::WRITE.with(Flags::SENSITIVE),
        acl: Acl::KEYSPACE.with(Acl::DANGEROUS),
        keys: &[
            key(3, MOVED),
            KeySpec {
                begin: Begin::Keyword("KEYS", -2),
                find: Find::Range { last: -1, step: 1, limit: 0 },
                access: MOVED | access::INCOMPLETE,
                notes: "",
            },
        ],
        since: "2.6.0",
        summary: "Moves or copies keys to another server.",
        complexity: "That of DUMP and DEL here and of RESTORE there, for each key, and O(N) for sending.",
        usage: "host port <key | \"\"> destination-db timeout [COPY] [REPLACE] \
                [AUTH password | AUTH2 username password] [KEYS key [key ...]]",
        tips: &["nondeterministic_output"],
        history: &[
            ("3.0.0", "Added the `COPY` and `REPLACE` options."),
            ("3.0.6", "Added the `KEYS` option."),
            ("4.0.7", "Added the `AUTH` option."),
            ("6.0.0", "Added the `AUTH2` option."),
        ],
        get_keys: Some(find_keys),
        ..SPEC
    },
    Handler::Server(migrate),
)];

/// Both the key and KEYS were given.
const KEY_AND_KEYS: CmdError =
    CmdError::new("ERR When using MIGRATE KEYS option, the key argument must be set to the empty string");
/// The other server could not be reached (Redis words it like this).
const NO_CONNECTION: CmdError = CmdError::new("IOERR error or timeout connecting to the client");
/// The other server did not take what was sent; also: nobody listens there.
const NOT_WRITTEN: CmdError = CmdError::new("IOERR error or timeout writing to target instance");
/// The other server did not answer.
const NOT_READ: CmdError = CmdError::new("IOERR error or timeout reading to target instance");

/// Milliseconds where the caller gives no time.
const TIMEOUT_MS: u64 = 1000;
/// Bytes that are gathered before they are sent.
const SEND_BYTES: usize = 64 * 1024;

/// The arguments behind the timeout.
struct Options<'a> {
    copy: bool,
    replace: bool,
    /// Arguments of AUTH for the other server.
    login: Vec<&'a [u8]>,
    /// The arguments that are keys.
    keys: Range<usize>,
}

fn parse<'a>(argv: &Args<'a>) -> Result<Options<'a>, CmdError> {
    let mut options = Options { copy: false, replace: false, login: Vec::new(), keys: 3..4 };
    let mut cursor = Cursor::new(*argv, 6);
    while !cursor.is_done() {
        if cursor.word("copy") {
            options.copy = true;
        } else if cursor.word("replace") {
            options.replace = true;
        } else if cursor.word("auth") {
            options.login = vec![cursor.take()?];
        } else if cursor.word("auth2") {
            options.login = vec![cursor.take()?, cursor.take()?];
        } else if cursor.word("keys") {
            if !argv.get(3).is_empty() {
                return Err(KEY_AND_KEYS);
            }
            options.keys = cursor.index()..argv.len();
            break;
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(options)
}

/// The keys by the reading of the command itself, so that none can hide from permissions (a password may
/// be the word KEYS). Of a request that the command refuses the key argument counts.
fn find_keys(argv: &Args<'_>, out: &mut Vec<(usize, u32)>) -> bool {
    match parse(argv) {
        Ok(options) => out.extend(options.keys.map(|i| (i, MOVED))),
        Err(error) if error == KEY_AND_KEYS => return false,
        Err(_) => out.push((3, MOVED)),
    }
    true
}

fn migrate(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let options = parse(&ctx.args)?;
    let idle_ms = match args::int(ctx.args.get(5))? {
        ms @ 1.. => ms as u64,
        _ => TIMEOUT_MS,
    };
    let remote_db = args::int(ctx.args.get(4))?;
    let owned = |bytes: &[u8]| bytes.to_vec();
    let destination = Destination {
        host: owned(ctx.args.get(1)),
        port: owned(ctx.args.get(2)),
        login: options.login.iter().map(|word| owned(word)).collect(),
    };
    let (server, local_db, argv) = (&mut *ctx.server, ctx.client.db, ctx.args);
    let keys: Vec<Key<'_>> = options.keys.clone().map(|i| Key::new(argv.get(i))).collect();
    let keys: Vec<_> = keys.into_iter().filter(|k| server.keyspace.read(local_db, *k).is_some()).collect();
    if keys.is_empty() {
        ctx.client.reply.simple("NOKEY");
        return Ok(Outcome::Done);
    }
    let idle = Duration::from_millis(idle_ms);
    let mut removed = Vec::new();
    let mut trip = Trip { destination, remote_db, local_db, idle, options, keys, removed: &mut removed };
    let mut result = trip.run(server);
    // A kept connection that the other side has closed meanwhile is noticed only now.
    if let Err(Failure { again: true, .. }) = result {
        result = trip.run(server);
    }
    // What was acknowledged is gone here, whatever became of the rest.
    ctx.propagate = match removed.is_empty() || !server.propagating() {
        true => Propagate::Never,
        false => Propagate::As(vec![del(&removed)]),
    };
    result.map_err(|failure| failure.error)?;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn del(keys: &[&[u8]]) -> OwnedArgs {
    let words: Vec<&[u8]> = [&b"DEL"[..]].into_iter().chain(keys.iter().copied()).collect();
    OwnedArgs::from_slices(&words)
}

/// Why a trip came to no good end.
struct Failure {
    /// What the caller is told.
    error: CmdError,
    /// Whether another trip may do better: the connection ended before anything was acknowledged.
    again: bool,
}

impl Failure {
    fn of_io(error: CmdError, cause: &io::Error) -> Failure {
        Failure { error, again: cause.kind() != io::ErrorKind::TimedOut }
    }

    /// The other server's own words; `line` begins with a sign for the kind of reply.
    fn told(line: &[u8]) -> Failure {
        let mut text = b"ERR Target instance replied with error: ".to_vec();
        text.extend_from_slice(line.get(1..).unwrap_or_default());
        Failure { error: CmdError::text(text), again: false }
    }
}

/// One transfer of keys to another server.
struct Trip<'a, 'r> {
    destination: Destination,
    remote_db: i64,
    local_db: usize,
    /// The longest time in which nothing moves.
    idle: Duration,
    options: Options<'a>,
    /// Keys that are there.
    keys: Vec<Key<'a>>,
    /// Keys that were removed here.
    removed: &'r mut Vec<&'a [u8]>,
}

impl Trip<'_, '_> {
    fn run(&mut self, server: &mut Server) -> Result<(), Failure> {
        let mut target = match server.links.take(&self.destination) {
            Some(target) => target,
            None => self.dial(server)?,
        };
        let result = self.exchange(server, &mut target);
        if result.is_err() {
            target.selected = None;
        }
        let now_ms = server.now.mono_ms();
        server.links.keep(self.destination.clone(), target, now_ms);
        result
    }

    fn dial(&self, server: &Server) -> Result<Target, Failure> {
        let failed = |error| Failure { error, again: false };
        let host = std::str::from_utf8(&self.destination.host).map_err(|_| failed(NO_CONNECTION))?;
        let port = num::parse_i64(&self.destination.port).and_then(|port| u16::try_from(port).ok());
        match (server.dial)(host, port.unwrap_or(0), self.idle) {
            Ok(link) => Ok(Target::new(link)),
            // Redis notices this one only when it writes.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(failed(NOT_WRITTEN)),
            Err(_) => Err(failed(NO_CONNECTION)),
        }
    }

    fn exchange(&mut self, server: &mut Server, target: &mut Target) -> Result<(), Failure> {
        self.prepare(target)?;
        self.send(server, target)?;
        self.settle(server, target)
    }

    /// Logs in and selects the database as far as needed. Its replies are awaited before any key is sent: in
    /// another database than the wanted one keys must not arrive (in Redis they do).
    fn prepare(&self, target: &mut Target) -> Result<(), Failure> {
        let (mut out, mut replies) = (Vec::new(), 0);
        if !self.destination.login.is_empty() {
            let login = self.destination.login.iter().map(Vec::as_slice);
            push_request(&mut out, &[b"AUTH"], login);
            replies += 1;
        }
        if target.selected != Some(self.remote_db) {
            push_request(&mut out, &[b"SELECT", self.remote_db.to_string().as_bytes()], [].into_iter());
            replies += 1;
        }
        if replies == 0 {
            return Ok(());
        }
        target.send(&out, self.idle).map_err(|cause| Failure::of_io(NOT_WRITTEN, &cause))?;
        let mut told = None;
        for _ in 0..replies {
            let line = target.line(self.idle).map_err(|cause| Failure::of_io(NOT_READ, &cause))?;
            if line != b"+OK" && told.is_none() {
                told = Some(Failure::told(&line));
            }
        }
        target.selected = Some(self.remote_db);
        told.map_or(Ok(()), Err)
    }

    /// Sends a RESTORE for each key.
    fn send(&self, server: &Server, target: &mut Target) -> Result<(), Failure> {
        let now_ms = server.keyspace.now_ms();
        let compression = compression(server.config.rdbcompression);
        let replace: &[&[u8]] = if self.options.replace { &[b"REPLACE"] } else { &[] };
        let mut out = Vec::new();
        for (i, key) in self.keys.iter().enumerate() {
            let entry = server.keyspace.peek(self.local_db, *key);
            let entry = entry.expect("a key that was found stays while its command runs");
            let ttl_ms = entry.expiry().map_or(0, |at| (at - now_ms).max(1)).to_string();
            let payload = dump::dump(&entry, compression);
            let words: [&[u8]; 4] = [b"RESTORE", key.bytes, ttl_ms.as_bytes(), &payload];
            push_request(&mut out, &words, replace.iter().copied());
            if out.len() >= SEND_BYTES || i + 1 == self.keys.len() {
                target.send(&out, self.idle).map_err(|cause| Failure::of_io(NOT_WRITTEN, &cause))?;
                out.clear();
            }
        }
        Ok(())
    }

    /// Reads the reply for each key, and removes keys that have arrived. The first error is the one told.
    fn settle(&mut self, server: &mut Server, target: &mut Target) -> Result<(), Failure> {
        let mut told = None;
        for (i, key) in self.keys.iter().enumerate() {
            let line = match target.line(self.idle) {
                Ok(line) => line,
                Err(cause) => {
                    let mut failure = Failure::of_io(NOT_READ, &cause);
                    failure.again &= i == 0;
                    return Err(told.unwrap_or(failure));
                }
            };
            if line != b"+OK" {
                // Who answers with something else is no server of this kind: nothing has arrived there.
                target.broken |= !line.starts_with(b"-");
                told = told.or_else(|| Some(Failure::told(&line)));
            } else if !self.options.copy && server.keyspace.remove(self.local_db, *key, Free::Server) {
                server.keyspace.changed(self.local_db, key.bytes, event::DEL);
                self.removed.push(key.bytes);
            }
        }
        told.map_or(Ok(()), Err)
    }
}

/// Appends a request: words, then more words.
fn push_request<'w>(out: &mut Vec<u8>, words: &[&[u8]], more: impl ExactSizeIterator<Item = &'w [u8]>) {
    out.push(b'*');
    num::push_u64(out, (words.len() + more.len()) as u64);
    out.extend_from_slice(b"\r\n");
    let mut push = |word: &[u8]| {
        out.push(b'$');
        num::push_u64(out, word.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    };
    words.iter().for_each(|word| push(word));
    more.for_each(push);
}
