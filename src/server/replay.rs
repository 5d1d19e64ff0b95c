//! Loading the log, in steps: between two steps the loop turns, and clients are told that data is being
//! loaded. The log is a list of files; its commands run in the one `call` like everyone's, for a client
//! without a connection; a base may be, or begin with, a snapshot (see `load.rs`). Used at start and by
//! DEBUG LOADAOF.

use super::blocking::Blocked;
use super::client::Client;
use super::load::{Duplicates, Loading};
use super::multi::Queued;
use super::table::Command;
use super::{NetOp, Server, gate};
use crate::aof::manifest::{Kind, Part};
use crate::aof::reader::{Fault, FaultKind, Item, Reader, Tail, Verify, examine_tail};
use crate::command::spec::Flags;
use crate::command::{Hashed, Outcome};
use crate::keyspace::Expiry;
use crate::rdb::Progress;
use crate::rdb::format::{MAGIC_LONGEST, is_snapshot};
use crate::resp::{Args, OwnedArgs};
use crate::sys::file;
use crate::sys::signals::{self, Urgency};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
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
pub struct Replay {
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
    content: Content,
}

/// Where the reading of a file is.
enum Content {
    /// In the snapshot at its beginning.
    Snapshot(Box<Loading>),
    /// In commands.
    Commands(Box<Reader<File>>),
}

impl Replay {
    /// Bytes loaded so far.
    pub fn loaded_bytes(&self) -> u64 {
        self.done_bytes
            + self.current.as_ref().map_or(0, |current| match &current.content {
                Content::Snapshot(loading) => loading.position(),
                Content::Commands(reader) => reader.position(),
            })
    }

    /// Bytes of memory that the base took where it was made, if it says so.
    pub fn used_memory(&self) -> u64 {
        match self.current.as_ref().map(|current| &current.content) {
            Some(Content::Snapshot(loading)) => loading.used_memory(),
            _ => 0,
        }
    }
}

/// What the loading ended with: the lines for the operator.
pub type Failure = String;

enum Step {
    More,
    Done,
}

impl Server {
    /// Begins to load files. With none, it ends at once.
    pub(super) fn begin_replay(&mut self, asked: Asked, sources: Vec<Source>) {
        let total_bytes = sources.iter().map(|source| source.length).sum();
        self.replay = Some(Box::new(Replay {
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
        self.replaying = true;
        signals::set_urgency(Urgency::Loading);
        self.arm(gate::bit::LOADING, true);
        self.keyspace.expiry = Expiry::Ignore;
        self.update_listeners();
    }

    /// Loads on for a while. The loop calls it once a turn.
    pub(super) fn replay_on(&mut self) {
        let Some(mut replay) = self.replay.take() else { return };
        let result = self.replay_step(&mut replay);
        match result {
            Ok(Step::More) => self.replay = Some(replay),
            Ok(Step::Done) => self.end_replay(&replay, None),
            Err(failure) => self.end_replay(&replay, Some(failure)),
        }
    }

    fn replay_step(&mut self, replay: &mut Replay) -> Result<Step, Failure> {
        let until = replay.loaded_bytes() + self.config.loading_process_events_interval_bytes;
        while replay.loaded_bytes() < until {
            if replay.current.is_none() && !self.open_next(replay)? {
                return Ok(Step::Done);
            }
            let done_bytes = replay.done_bytes;
            let current = replay.current.as_mut().expect("a file is open");
            if let Content::Snapshot(loading) = &mut current.content {
                self.load_base(loading, &current.source, until - done_bytes)?;
                leave_snapshot(replay);
            } else {
                self.replay_some(replay, until)?;
            }
            if self.runner.is_parked() {
                break;
            }
        }
        Ok(Step::More)
    }

    /// Opens the next file. False if there is none.
    fn open_next(&mut self, replay: &mut Replay) -> Result<bool, Failure> {
        let Some(source) = replay.left.pop_front() else { return Ok(false) };
        let file = File::open(&source.path).map_err(|e| cannot_open(&source.path, &e))?;
        let verify = if self.debug.skip_checksums || !self.config.aof_checksum {
            Verify::Nothing
        } else {
            Verify::Checksums
        };
        replay.client.db = 0;
        let content = match starts_with_snapshot(&file).map_err(|e| cannot_open(&source.path, &e))? {
            true => Content::Snapshot(Box::new(
                Loading::open(&source.path, self).map_err(|e| cannot_open(&source.path, &e))?,
            )),
            false => Content::Commands(Box::new(Reader::new(file, source.length, verify))),
        };
        replay.current = Some(Current { source, content });
        replay.begun = true;
        Ok(true)
    }

    /// Loads the snapshot at the beginning of a file on, up to a position.
    fn load_base(&mut self, loading: &mut Loading, source: &Source, until: u64) -> Result<(), Failure> {
        let budget = until.saturating_sub(loading.position()).max(1);
        let path = source.path.display();
        match self.load_some(loading, budget, Duplicates::Refuse) {
            Ok(Progress::More) => Ok(()),
            Ok(Progress::Done) => {
                self.note_snapshot(loading);
                Ok(())
            }
            Err(error) => {
                log::error!(
                    target: "aikv",
                    "Bad file format reading the append only file {path}: its snapshot: {error}"
                );
                Err(format!("Corrupted data file {path}: {error}"))
            }
        }
    }

    /// Replays commands up to the budget or the end of the file.
    fn replay_some(&mut self, replay: &mut Replay, until: u64) -> Result<(), Failure> {
        let Replay { current, client, args, multi_at, done_bytes, .. } = replay;
        let Current { source, content } = current.as_mut().expect("a file is open");
        let Content::Commands(reader) = content else { return Ok(()) };
        loop {
            let at = reader.position();
            match reader.read(args) {
                Ok(Item::Command) => {
                    let outside = client.multi.is_none();
                    self.replay(client, args.as_args(), source, at)?;
                    if self.runner.is_parked() {
                        return Ok(());
                    }
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
                    return self.end_at_fault(replay, &fault);
                }
                Ok(Item::End) => {
                    let (length, sum) = (reader.position(), reader.checksum());
                    *done_bytes += source.length;
                    self.note_replayed(source, length, sum);
                    *current = None;
                    return Ok(());
                }
                Err(fault) => return self.end_at_fault(replay, &fault),
            }
            if *done_bytes + reader.position() >= until {
                return Ok(());
            }
        }
    }

    /// A file ends with something that is not whole: a torn end of the last file may be cut off.
    fn end_at_fault(&mut self, replay: &mut Replay, fault: &Fault) -> Result<(), Failure> {
        let Current { source, .. } = replay.current.take().expect("a file is open");
        let in_transaction = replay.client.multi.take().is_some();
        let offset = if in_transaction { replay.multi_at.min(fault.offset) } else { fault.offset };
        let path = source.path.display();
        let tail = File::open(&source.path).and_then(|file| examine_tail(file, fault));
        let torn = matches!(tail, Ok(Tail::Torn));
        if torn && source.last && self.config.aof_load_truncated {
            let (cut, whole) = (source.length - offset, offset);
            log::warn!(target: "aikv", "!!! Warning: short read while loading the AOF file {path}!!!");
            cut_file(&source.path, offset).map_err(|e| format!("cutting {path} to {offset} bytes: {e}"))?;
            log::warn!(
                target: "aikv",
                "AOF loaded anyway because aof-load-truncated is enabled: the last {cut} bytes of {path} \
                 were an unfinished {} and were cut off; the first {whole} bytes are kept.",
                if in_transaction { "transaction" } else { "command" }
            );
            replay.done_bytes += source.length;
            self.note_replayed(&source, offset, checksum_of(&source.path).ok());
            return Ok(());
        }
        let manifest = self.aof.folder.manifest();
        let repair =
            format!("Make a backup of the log, then use aikv --check-aof --fix {}", manifest.display());
        match fault.kind {
            FaultKind::Io(_) => {
                log::error!(target: "aikv", "Unrecoverable error reading the AOF file {path}: {fault}");
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
        client: &mut Box<Client>,
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

    fn replay_now(&mut self, client: &mut Box<Client>, command: &'static Command, args: Args<'_>) {
        let outer = std::mem::replace(&mut self.unit.no_waiting, true);
        self.enter_unit();
        // What it would wait for or free later is of no interest here.
        let parked = matches!(self.call(client, command, args, Hashed::default()), Outcome::Park);
        if parked {
            self.unit.hold();
        }
        self.leave_unit();
        self.unit.no_waiting = outer;
        if parked {
            // The script gets a share of each turn until it ends; then the log goes on. Another client stands
            // in its place until it is back.
            let idle = self.clients.internal(self.now.mono_ms());
            self.keep_parked(std::mem::replace(client, idle));
        } else {
            self.note_command_replayed(client);
        }
    }

    /// Goes on with the log: the script that was parked has ended.
    #[cold]
    pub(super) fn replay_behind_script(&mut self, mut client: Box<Client>) {
        self.note_command_replayed(&mut client);
        self.replay.as_mut().expect("the log waits for its script").client = client;
    }

    fn note_command_replayed(&mut self, client: &mut Client) {
        client.reply.clear();
        client.watched.clear();
        if self.config.key_load_delay > 0 {
            self.clock.sleep(self.config.key_load_delay as u64 * 1000);
        }
    }

    /// The end of the loading, good or bad.
    fn end_replay(&mut self, replay: &Replay, failure: Option<Failure>) {
        self.replaying = false;
        signals::set_urgency(Urgency::Normal);
        self.keyspace.expiry = Expiry::Remove;
        self.mark_saved(self.keyspace.changes.dirty);
        self.update_listeners();
        if let Some(failure) = failure {
            return self.fail(failure);
        }
        if replay.begun {
            let ns = self.clock.mono_ns() - replay.started_ns;
            log::info!(target: "aikv", "DB loaded from append only file: {:.3} seconds", ns as f64 / 1e9);
        }
        match replay.asked {
            Asked::Start => self.end_loading(),
            Asked::Client(id) => {
                self.arm(gate::bit::LOADING, false);
                self.answer_loaded(id);
            }
        }
    }

    /// Ends the process for a reason that the operator is told, in the log and on standard error.
    pub(super) fn fail(&mut self, failure: Failure) {
        log::error!(target: "aikv", "{failure}");
        self.net_ops.push(NetOp::Fail(failure));
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

fn cannot_open(path: &Path, error: &io::Error) -> Failure {
    let text = crate::util::text::plain_error(error);
    format!("Fatal error: can't open the append log file {} for reading: {text}", path.display())
}

/// Behind a snapshot there may be commands: a log of an old version is one file.
fn leave_snapshot(replay: &mut Replay) {
    let is_over =
        |current: &mut Current| matches!(&current.content, Content::Snapshot(loading) if loading.is_done());
    let Some(Current { source, content: Content::Snapshot(loading) }) = replay.current.take_if(is_over)
    else {
        return;
    };
    let offset = loading.position();
    if offset < source.length {
        log::info!(target: "aikv", "Reading the remaining AOF tail...");
    }
    let (file, read) = loading.into_source();
    let content = Content::Commands(Box::new(Reader::behind(file, read, offset, source.length)));
    replay.current = Some(Current { source, content });
}

/// Whether a file begins like a snapshot.
fn starts_with_snapshot(mut file: &File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(MAGIC_LONGEST as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(is_snapshot(&head))
}

fn cut_file(path: &Path, length: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file::truncate(&file, length)?;
    file::fsync(&file)
}

/// The checksum of a whole file.
fn checksum_of(path: &Path) -> io::Result<u64> {
    let mut sum = crate::util::crc::Crc64::new();
    let mut source = File::open(path)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match Read::read(&mut source, &mut chunk)? {
            0 => return Ok(sum.value()),
            n => sum.update(&chunk[..n]),
        }
    }
}
