//! Loading data in steps: between two steps the loop turns, and clients are told that data is being loaded.
//! What is loaded is a list of files; commands of the log run in the one `call` like everyone's, for a client
//! without a connection. Used at start and by DEBUG LOADAOF.

use super::blocking::Blocked;
use super::client::Client;
use super::multi::Queued;
use super::table::Command;
use super::{NetOp, Server, gate};
use crate::aof::manifest::{Kind, Part};
use crate::aof::reader::{Fault, FaultKind, Item, Reader, Tail, Verify, examine_tail};
use crate::command::Hashed;
use crate::command::spec::Flags;
use crate::keyspace::Expiry;
use crate::resp::{Args, OwnedArgs};
use crate::sys::file;
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file to be loaded.
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is the last one, whose end may be torn.
    pub last: bool,
    /// What it is for.
    pub kind: Kind,
}

/// Who is told of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The start of the process.
    Start,
    /// The client of this number (DEBUG LOADAOF).
    Client(u64),
}

/// Data that is being loaded.
pub struct Loading {
    asked: Asked,
    left: VecDeque<Source>,
    current: Option<Current>,
    client: Box<Client>,
    args: OwnedArgs,
    /// Where the transaction that is being read began.
    multi_at: u64,
    /// Bytes of the files that are done.
    done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Wall time of the beginning in milliseconds since 1970.
    pub started_ms: i64,
    started_ns: u64,
    begun: bool,
}

struct Current {
    source: Source,
    reader: Reader<File>,
}

impl Loading {
    /// Bytes loaded so far.
    pub fn loaded_bytes(&self) -> u64 {
        self.done_bytes + self.current.as_ref().map_or(0, |c| c.reader.position())
    }
}

/// What the loading ended with: the lines for the operator.
pub type Failure = String;

enum Step {
    More,
    Done,
}

impl Server {
    /// Whether data is being loaded.
    pub fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Begins to load what the options say. Called once, before the loop runs; NetOp::Ready tells the end.
    pub fn load_at_start(&mut self) -> Result<(), Failure> {
        if self.config.appendonly {
            return self.load_log_at_start().inspect_err(|failure| self.tell_failure(failure));
        }
        self.net_ops.push(NetOp::Ready);
        Ok(())
    }

    /// Begins to load files. With none, it ends at once.
    pub(super) fn begin_loading(&mut self, asked: Asked, sources: Vec<Source>) {
        let total_bytes = sources.iter().map(|source| source.length).sum();
        self.loading = Some(Box::new(Loading {
            asked,
            left: sources.into(),
            current: None,
            client: self.clients.internal(self.now.mono_ms()),
            args: OwnedArgs::default(),
            multi_at: 0,
            done_bytes: 0,
            total_bytes,
            started_ms: self.now.wall_ms,
            started_ns: self.now.mono_ns,
            begun: false,
        }));
        self.arm(gate::bit::LOADING, true);
        self.keyspace.expiry = Expiry::Ignore;
        self.update_listeners();
    }

    /// Loads on for a while. The loop calls it once a turn.
    pub(super) fn load_on(&mut self) {
        let Some(mut loading) = self.loading.take() else { return };
        let result = self.load_step(&mut loading);
        match result {
            Ok(Step::More) => self.loading = Some(loading),
            Ok(Step::Done) => self.end_loading(&loading, None),
            Err(failure) => self.end_loading(&loading, Some(failure)),
        }
    }

    fn load_step(&mut self, loading: &mut Loading) -> Result<Step, Failure> {
        let until = loading.loaded_bytes() + self.config.loading_process_events_interval_bytes;
        while loading.loaded_bytes() < until {
            if loading.current.is_none() && !self.open_next(loading)? {
                return Ok(Step::Done);
            }
            self.replay_some(loading, until)?;
        }
        Ok(Step::More)
    }

    /// Opens the next file. False if there is none.
    fn open_next(&mut self, loading: &mut Loading) -> Result<bool, Failure> {
        let Some(source) = loading.left.pop_front() else { return Ok(false) };
        let file = File::open(&source.path).map_err(|e| cannot_open(&source.path, &e))?;
        let verify = if self.debug.skip_checksums || !self.config.aof_checksum {
            Verify::Nothing
        } else {
            Verify::Checksums
        };
        loading.client.db = 0;
        let reader = Reader::new(file, source.length, verify);
        loading.current = Some(Current { source, reader });
        loading.begun = true;
        Ok(true)
    }

    /// Replays commands up to the budget or the end of the file.
    fn replay_some(&mut self, loading: &mut Loading, until: u64) -> Result<(), Failure> {
        let Loading { current, client, args, multi_at, done_bytes, .. } = loading;
        let Current { source, reader } = current.as_mut().expect("a file is open");
        loop {
            let at = reader.position();
            match reader.read(args) {
                Ok(Item::Command) => {
                    let outside = client.multi.is_none();
                    self.replay(client, args.as_args(), source, at)?;
                    if outside && client.multi.is_some() {
                        *multi_at = at;
                    }
                }
                Ok(Item::Remark) => log::warn!(
                    target: "aikv",
                    "{}: an unknown line that begins with # is passed over at offset {at}",
                    source.path.display()
                ),
                Ok(Item::Time(_) | Item::Checksum) => {}
                Ok(Item::End) if client.multi.is_some() => {
                    let kind = FaultKind::Ended;
                    let fault = Fault { offset: *multi_at, at, line: reader.line(), kind };
                    return self.end_at_fault(loading, &fault);
                }
                Ok(Item::End) => {
                    let (length, sum) = (reader.position(), reader.checksum());
                    *done_bytes += source.length;
                    self.note_loaded(source, length, sum);
                    *current = None;
                    return Ok(());
                }
                Err(fault) => return self.end_at_fault(loading, &fault),
            }
            if *done_bytes + reader.position() >= until {
                return Ok(());
            }
        }
    }

    /// A file ends with something that is not whole: a torn end of the last file may be cut off.
    fn end_at_fault(&mut self, loading: &mut Loading, fault: &Fault) -> Result<(), Failure> {
        let Current { source, .. } = loading.current.take().expect("a file is open");
        let in_transaction = loading.client.multi.take().is_some();
        let offset = if in_transaction { loading.multi_at.min(fault.offset) } else { fault.offset };
        let path = source.path.display();
        let tail = File::open(&source.path).and_then(|file| examine_tail(file, fault));
        let torn = matches!(tail, Ok(Tail::Torn));
        if torn && source.last && self.config.aof_load_truncated {
            let (cut, whole) = (source.length - offset, offset);
            log::warn!(target: "aikv", "!!! Warning: short read while loading the AOF file {path}!!!");
            cut_file(&source.path, offset).map_err(|e| format!("cutting {path} to {offset} bytes: {e}"))?;
            log::warn!(
                target: "aikv",
                "AOF loaded anyway because aof-load-truncated is enabled: the last {cut} bytes of {path} were \
                 an unfinished {} and were cut off; the first {whole} bytes are kept.",
                if in_transaction { "transaction" } else { "command" }
            );
            loading.done_bytes += source.length;
            let sum = checksum_of(&source.path, self.config.aof_checksum);
            self.note_loaded(&source, offset, sum.ok().flatten());
            return Ok(());
        }
        let manifest = self.aof.folder.manifest();
        let repair = format!("Make a backup of the log, then use aikv --check-aof --fix {}", manifest.display());
        match fault.kind {
            FaultKind::Io(_) => {
                log::error!(target: "aikv", "Unrecoverable error reading the append only file {path}: {fault}");
            }
            _ if torn => log::error!(
                target: "aikv",
                "Unexpected end of file reading the append only file {path}: {fault}. {repair}; or set \
                 aof-load-truncated to yes and start again."
            ),
            _ => log::error!(
                target: "aikv",
                "Bad file format reading the append only file {path}: {fault}. {repair}"
            ),
        }
        Err(format!("Corrupted data file {path}: {fault}"))
    }

    /// Runs a command of the log.
    fn replay(
        &mut self,
        client: &mut Client,
        args: Args<'_>,
        source: &Source,
        at: u64,
    ) -> Result<(), Failure> {
        let found = self.table.resolve(&args).or_else(|| self.table.original(&args));
        let path = source.path.display();
        let Some(command) = found.filter(|command| self.is_runnable(command, &args)) else {
            let name = String::from_utf8_lossy(args.get(0)).into_owned();
            log::error!(
                target: "aikv",
                "Unknown command '{name}' reading the append only file {path} at offset {at}"
            );
            return Err(format!("Corrupted data file {path}: unknown command '{name}' at offset {at}"));
        };
        if let Some(multi) = &mut client.multi
            && !command.is(Flags::IMMEDIATE_IN_MULTI)
        {
            multi.queue.push(Queued { command, args: args.to_owned() });
            return Ok(());
        }
        self.replay_now(client, command, args);
        Ok(())
    }

    fn replay_now(&mut self, client: &mut Client, command: &'static Command, args: Args<'_>) {
        let outer = std::mem::replace(&mut self.unit.no_waiting, true);
        self.enter_unit();
        // What it would wait for or free later is of no interest here.
        let _outcome = self.call(client, command, args, Hashed::default());
        self.leave_unit();
        self.unit.no_waiting = outer;
        client.reply.clear();
        client.watched.clear();
        if self.config.key_load_delay > 0 {
            self.clock.sleep(self.config.key_load_delay as u64 * 1000);
        }
    }

    /// The end of the loading, good or bad.
    fn end_loading(&mut self, loading: &Loading, failure: Option<Failure>) {
        self.keyspace.expiry = Expiry::Remove;
        self.keyspace.changes.dirty = 0;
        self.arm(gate::bit::LOADING, false);
        self.update_listeners();
        if let Some(failure) = failure {
            return self.fail(failure);
        }
        if loading.begun {
            let ns = self.clock.mono_ns() - loading.started_ns;
            log::info!(target: "aikv", "DB loaded from append only file: {:.3} seconds", ns as f64 / 1e9);
        }
        match loading.asked {
            Asked::Start => {
                if let Err(failure) = self.open_log() {
                    return self.fail(failure);
                }
                self.net_ops.push(NetOp::Ready);
            }
            Asked::Client(id) => self.answer_loaded(id),
        }
    }

    /// Ends the process for a reason that the operator is told.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.tell_failure(&failure);
        self.process.failure = Some(failure);
        self.net_ops.push(NetOp::Exit(1));
    }

    /// A failure goes to standard error at the end of the process. Here it goes to the console's log; a log
    /// elsewhere gets it from `start`.
    fn tell_failure(&self, failure: &str) {
        if self.config.log_options().console {
            log::error!(target: "aikv", "{failure}");
        }
    }

    fn answer_loaded(&mut self, id: u64) {
        let Some(mut client) = self.clients.slot_of(id).and_then(|slot| self.clients.take(slot)) else {
            return;
        };
        if matches!(client.blocked.as_deref(), Some(Blocked::Loading)) {
            self.release(&mut client);
            client.reply.ok();
            self.queue_write(&mut client);
        }
        self.clients.put(client);
    }
}

/// The files of a log with their sizes. The error says which one is missing.
pub(super) fn sources<'a>(
    parts: impl Iterator<Item = &'a Part>,
    file: impl Fn(&str) -> PathBuf,
) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for part in parts {
        let path = file(&part.name);
        let length = std::fs::metadata(&path).map_err(|e| cannot_open(&path, &e))?.len();
        sources.push(Source { path, length, last: false, kind: part.kind });
    }
    if let Some(last) = sources.last_mut() {
        last.last = true;
    }
    Ok(sources)
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Failure {
    let text = crate::util::text::plain_error(error);
    format!("Fatal error: can't open the append log file {} for reading: {text}", path.display())
}

fn cut_file(path: &Path, length: u64) -> std::io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file::truncate(&file, length)?;
    file::fsync(&file)
}

/// The checksum of a whole file; None if none is wanted.
fn checksum_of(path: &Path, wanted: bool) -> std::io::Result<Option<u64>> {
    if !wanted {
        return Ok(None);
    }
    let mut sum = crate::util::crc::Crc64::new();
    let mut source = File::open(path)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut source, &mut chunk)? {
            0 => return Ok(Some(sum.value())),
            n => sum.update(&chunk[..n]),
        }
    }
}
