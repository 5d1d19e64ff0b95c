//! Writing whole snapshots: the head with facts about the file, the function libraries, the databases key by
//! key, the end with the checksum.

use super::encode::{put, type_of};
use super::format::{HEADER, MAGIC, VERSION_LOWEST, VERSION_MAX, kind, opcode};
use super::output::{Compression, Output};
use crate::keyspace::Keyspace;
use crate::util::crc::{self, crc64};
use crate::value::Entry;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::ControlFlow;

/// Which version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The lowest that holds the data without loss. The head is written again at the end, so the sink has
    /// to seek.
    Lowest,
    /// This one; data that needs a later one is an error. Nothing is sought.
    Pinned(u16),
}

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A file of its own.
    Snapshot,
    /// The base of an append-only log.
    LogBase,
}

/// What of the entries' access clocks is written: what the eviction policy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ages {
    /// Nothing.
    None,
    /// Seconds since the last use.
    Idle,
    /// The counter of uses.
    Frequency,
}

/// How a snapshot is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether strings are compressed.
    pub compression: Compression,
    /// Whether there is a checksum: else it is 0, which says so.
    pub checksum: bool,
    /// The version.
    pub version: Version,
    /// What it is for.
    pub purpose: Purpose,
    /// What of access clocks is written.
    pub ages: Ages,
    /// The writer's version of Redis, as facts about the file.
    pub server_version: &'static str,
    /// Seconds since 1970, as facts about the file.
    pub created_s: i64,
    /// Bytes of memory in use, as facts about the file.
    pub used_memory: u64,
    /// Further facts, by name.
    pub facts: Vec<(&'static str, String)>,
}

/// Somebody who watches a snapshot being written.
pub trait Observer {
    /// A key was written, the `saved`th.
    fn key_saved(&mut self, saved: u64) -> ControlFlow<()>;
}

/// Nobody.
impl Observer for () {
    fn key_saved(&mut self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version.
    pub version: u16,
    /// Bytes.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
}

/// Writes all databases and the sources of function libraries. The sink needs no buffer of its own; syncing
/// is the caller's. Stops with an error (Interrupted) when the observer says so.
pub fn write<W: Write + Seek>(
    mut sink: W,
    keyspace: &Keyspace,
    libraries: &[&[u8]],
    options: &Options,
    observer: &mut dyn Observer,
) -> io::Result<(W, Written)> {
    let begun = match options.version {
        Version::Lowest => VERSION_LOWEST,
        Version::Pinned(version) => version.clamp(VERSION_LOWEST, VERSION_MAX),
    };
    let start = match options.version {
        Version::Lowest => sink.stream_position()?,
        Version::Pinned(_) => 0,
    };
    sink.write_all(&header(begun))?;
    let mut writer = Writer { out: Output::new(sink, options.compression), options, version: begun, keys: 0 };
    writer.facts();
    for library in libraries {
        writer.out.byte(opcode::FUNCTION);
        writer.out.string(library);
    }
    for db in 0..keyspace.databases() {
        writer.database(keyspace, db, observer)?;
    }
    writer.out.byte(opcode::END);
    let Writer { out, version, keys, .. } = writer;
    let body = out.position();
    let (mut sink, body_checksum) = out.finish()?;
    if version != begun {
        let end = sink.stream_position()?;
        sink.seek(SeekFrom::Start(start))?;
        sink.write_all(&header(version))?;
        sink.seek(SeekFrom::Start(end))?;
    }
    let whole = crc::crc64_joined(crc64(&header(version)), body_checksum.value(), body);
    sink.write_all(&if options.checksum { whole } else { 0 }.to_le_bytes())?;
    Ok((sink, Written { version, bytes: HEADER as u64 + body + 8, keys }))
}

fn header(version: u16) -> [u8; HEADER] {
    let mut header = [b'0'; HEADER];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    let digits = format!("{version:04}");
    header[MAGIC.len()..].copy_from_slice(digits.as_bytes());
    header
}

struct Writer<'a, W: Write> {
    out: Output<W>,
    options: &'a Options,
    /// The version that what was written so far needs.
    version: u16,
    keys: u64,
}

impl<W: Write> Writer<'_, W> {
    fn facts(&mut self) {
        let options = self.options;
        let base = i64::from(options.purpose == Purpose::LogBase);
        self.fact("redis-ver", options.server_version.as_bytes());
        self.fact("redis-bits", b"64");
        self.fact("ctime", options.created_s.to_string().as_bytes());
        self.fact("used-mem", options.used_memory.to_string().as_bytes());
        for (name, value) in &options.facts {
            self.fact(name, value.as_bytes());
        }
        self.fact("aof-base", base.to_string().as_bytes());
    }

    fn fact(&mut self, name: &str, value: &[u8]) {
        self.out.byte(opcode::AUX);
        self.out.string(name.as_bytes());
        self.out.string(value);
    }

    fn database(&mut self, keyspace: &Keyspace, db: usize, observer: &mut dyn Observer) -> io::Result<()> {
        let database = keyspace.db(db);
        if database.is_empty() {
            return Ok(());
        }
        self.out.byte(opcode::SELECT);
        self.out.length(db as u64);
        self.out.byte(opcode::SIZES);
        self.out.length(database.len() as u64);
        self.out.length(database.volatile() as u64);
        for entry in database.table() {
            self.key(keyspace, &entry)?;
            self.keys += 1;
            if observer.key_saved(self.keys).is_break() {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            if self.out.has_failed() {
                // The error itself comes at the end, which is now.
                break;
            }
        }
        Ok(())
    }

    fn key(&mut self, keyspace: &Keyspace, entry: &Entry) -> io::Result<()> {
        let of_type = type_of(entry, self.version);
        self.require(kind::version(of_type))?;
        if let Some(at) = entry.expiry() {
            self.out.byte(opcode::EXPIRE_MS);
            self.out.fixed64(at as u64);
        }
        match self.options.ages {
            Ages::None => {}
            Ages::Idle => {
                self.out.byte(opcode::IDLE);
                self.out.length(u64::from(keyspace.access.idle_seconds(entry.clock())));
            }
            Ages::Frequency => {
                let frequency = keyspace.access.frequency(entry.clock()) as u8;
                self.out.bytes(&[opcode::FREQUENCY, frequency]);
            }
        }
        self.out.byte(of_type);
        self.out.string(entry.key());
        put(&mut self.out, entry, of_type);
        Ok(())
    }

    /// Notes that the data needs a version.
    fn require(&mut self, version: u16) -> io::Result<()> {
        if version <= self.version {
            return Ok(());
        }
        if let Version::Pinned(pinned) = self.options.version {
            let text = format!("the data needs RDB version {version}, and rdb-version allows {pinned}");
            return Err(io::Error::other(text));
        }
        self.version = version;
        Ok(())
    }
}
