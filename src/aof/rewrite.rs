//! Values as the commands that make them: the base of a log when it is not to be a snapshot. Long collections
//! are cut into several commands. Knows where neither the bytes go nor whose values they are.

use super::log::Annotator;
use crate::keyspace::Keyspace;
use crate::rdb::Observer;
use crate::util::num;
use crate::value::stream::{Group, Id, Stream};
use crate::value::{self, Digits, Direction, Entry, Kind, hash, kind, list, set, stream, string, zset};
use std::io::{self, Write};

/// Elements that one command takes.
const ELEMENTS_MAX: usize = 64;
/// Bytes behind the last checksum line after which another one is due.
const MARK_BYTES: u64 = 64 * 1024;
/// Bytes gathered before they are written.
const CHUNK: usize = 256 * 1024;

/// What a base is written with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The second since 1970 to begin with, when time stamps are wanted.
    pub unix_seconds: Option<i64>,
    /// Whether checksum lines are written.
    pub checksums: bool,
}

/// Writes all keys and the sources of function libraries as commands. Stops with an error (Interrupted) when
/// the observer says so. Gives the bytes written.
pub fn write(
    sink: &mut impl Write,
    keyspace: &Keyspace,
    libraries: &[&[u8]],
    options: Options,
    observer: &mut dyn Observer,
) -> io::Result<u64> {
    let mut out = Out { annotator: Annotator::new(0, Some(0)), pending: Vec::new(), buffer: Vec::new() };
    if let Some(seconds) = options.unix_seconds {
        out.annotator.time(&mut out.buffer, seconds);
    }
    for library in libraries {
        out.command(&[b"FUNCTION", b"LOAD", library]);
    }
    let mut keys = 0;
    for db in 0..keyspace.databases() {
        if keyspace.db(db).is_empty() {
            continue;
        }
        out.command(&[b"SELECT", db.to_string().as_bytes()]);
        for entry in keyspace.entries(db) {
            out.entry(&entry);
            keys += 1;
            if observer.key_saved(keys).is_break() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            out.settle(options);
            if out.buffer.len() >= CHUNK {
                sink.write_all(&out.buffer)?;
                out.buffer.clear();
            }
        }
    }
    out.settle(options);
    if options.checksums {
        out.annotator.mark(&mut out.buffer);
    }
    sink.write_all(&out.buffer)?;
    Ok(out.annotator.length)
}

struct Out {
    annotator: Annotator,
    /// Commands of the key that is being written.
    pending: Vec<u8>,
    /// Annotated bytes.
    buffer: Vec<u8>,
}

/// An argument that may be a number.
fn with_bytes<R>(value: value::Value<'_>, take: impl FnOnce(&[u8]) -> R) -> R {
    take(value.bytes(&mut Digits::default()))
}

impl Out {
    fn settle(&mut self, options: Options) {
        self.annotator.commands(&mut self.buffer, &self.pending);
        self.pending.clear();
        if options.checksums && self.annotator.unmarked() >= MARK_BYTES {
            self.annotator.mark(&mut self.buffer);
        }
    }

    fn head(&mut self, argc: usize) {
        self.pending.push(b'*');
        num::push_u64(&mut self.pending, argc as u64);
        self.pending.extend_from_slice(b"\r\n");
    }

    fn arg(&mut self, bytes: &[u8]) {
        self.pending.push(b'$');
        num::push_u64(&mut self.pending, bytes.len() as u64);
        self.pending.extend_from_slice(b"\r\n");
        self.pending.extend_from_slice(bytes);
        self.pending.extend_from_slice(b"\r\n");
    }

    fn command(&mut self, args: &[&[u8]]) {
        self.head(args.len());
        args.iter().for_each(|arg| self.arg(arg));
    }

    fn number(&mut self, n: i64) {
        let mut digits = Vec::new();
        num::push_i64(&mut digits, n);
        self.arg(&digits);
    }

    /// Before element `done` of `total`: the head of the next command, if the last one has all it takes. An
    /// element has so many words.
    fn element(&mut self, name: &[u8], key: &[u8], done: usize, total: usize, words: usize) {
        if done.is_multiple_of(ELEMENTS_MAX) {
            self.head(2 + (total - done).min(ELEMENTS_MAX) * words);
            self.args(&[name, key]);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let key = entry.key();
        match kind(entry) {
            Kind::String => {
                let mut digits = string::Digits::default();
                self.command(&[b"SET", key, string::bytes(entry, &mut digits)]);
            }
            Kind::List => self.list(key, list::view(entry)),
            Kind::Set => {
                let view = set::view(entry);
                for (done, member) in view.iter().enumerate() {
                    self.element(b"SADD", key, done, view.len(), 1);
                    with_bytes(member, |bytes| self.arg(bytes));
                }
            }
            Kind::Zset => {
                let view = zset::view(entry);
                for (done, (member, score)) in view.iter().enumerate() {
                    self.element(b"ZADD", key, done, view.len(), 2);
                    let mut digits = Vec::new();
                    num::push_f64(&mut digits, score);
                    self.arg(&digits);
                    with_bytes(member, |bytes| self.arg(bytes));
                }
            }
            Kind::Hash => self.hash(key, hash::view(entry, i64::MIN)),
            Kind::Stream => self.stream(key, stream::view(entry)),
        }
        if let Some(at) = entry.expiry() {
            self.head(3);
            self.arg(b"PEXPIREAT");
            self.arg(key);
            self.number(at);
        }
    }

    fn list(&mut self, key: &[u8], view: list::View<'_>) {
        let mut done = 0;
        view.walk(0, Direction::Forward, &mut |value| {
            self.element(b"RPUSH", key, done, view.len(), 1);
            with_bytes(value, |bytes| self.arg(bytes));
            done += 1;
            true
        });
    }

    fn hash(&mut self, key: &[u8], view: hash::View<'_>) {
        let count = view.iter().count();
        for (done, item) in view.iter().enumerate() {
            self.element(b"HSET", key, done, count, 2);
            with_bytes(item.field, |bytes| self.arg(bytes));
            with_bytes(item.value, |bytes| self.arg(bytes));
        }
        for item in view.iter() {
            let Some(at) = item.expiry else { continue };
            self.head(6);
            self.arg(b"HPEXPIREAT");
            self.arg(key);
            self.number(at);
            self.arg(b"FIELDS");
            self.arg(b"1");
            with_bytes(item.field, |bytes| self.arg(bytes));
        }
    }

    /// The entries, then what the stream knows of itself, then its groups. A stream without entries is made
    /// by adding one and trimming it away.
    fn stream(&mut self, key: &[u8], stream: &Stream) {
        let meta = stream.meta();
        for item in stream.range(Id::MIN, Id::MAX, Direction::Forward) {
            let count = item.fields().count();
            self.head(3 + 2 * count);
            self.arg(b"XADD");
            self.arg(key);
            self.arg(&item.id.text());
            for (field, value) in item.fields() {
                with_bytes(field, |bytes| self.arg(bytes));
                with_bytes(value, |bytes| self.arg(bytes));
            }
        }
        if meta.len == 0 {
            // IDs begin at 0-1.
            let id = if meta.last_id == Id::MIN { Id { ms: 0, seq: 1 } } else { meta.last_id };
            self.command(&[b"XADD", key, b"MAXLEN", b"0", &id.text(), b"x", b"y"]);
        }
        self.head(7);
        self.args(&[b"XSETID", key, &meta.last_id.text(), b"ENTRIESADDED"]);
        self.number(meta.entries_added as i64);
        self.args(&[b"MAXDELETEDID", &meta.max_deleted_id.text()]);
        for group in stream.groups() {
            self.group(key, group);
        }
    }

    fn args(&mut self, args: &[&[u8]]) {
        args.iter().for_each(|arg| self.arg(arg));
    }

    fn group(&mut self, key: &[u8], group: &Group) {
        let last = group.last_id.text();
        self.head(7);
        self.args(&[b"XGROUP", b"CREATE", key, group.name(), &last, b"ENTRIESREAD"]);
        self.number(group.entries_read.map_or(-1, |read| read as i64));
        for consumer in group.consumers() {
            self.command(&[b"XGROUP", b"CREATECONSUMER", key, group.name(), consumer.name()]);
            for id in consumer.pending(Id::MIN) {
                let pending = group.get_pending(id).expect("a consumer's IDs are the group's");
                self.head(12);
                let id = id.text();
                self.args(&[b"XCLAIM", key, group.name(), consumer.name(), b"0", &id, b"TIME"]);
                self.number(pending.delivered_ms);
                self.arg(b"RETRYCOUNT");
                self.number(pending.deliveries as i64);
                self.args(&[b"JUSTID", b"FORCE"]);
            }
        }
    }
}
