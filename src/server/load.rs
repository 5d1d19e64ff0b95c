//! Loading a snapshot: at the start in steps, so that clients are answered meanwhile, and whole for DEBUG
//! RELOAD.

use super::aof::Found;
use super::gate::bit;
use super::{NetOp, Server, child};
use crate::collections::hash::hash_key;
use crate::keyspace::access::Policy;
use crate::keyspace::{Expiry, Free, Key, Keyspace};
use crate::rdb::format::Format;
use crate::rdb::read::{Refusal, Verify};
use crate::rdb::{Age, Fault, Loader, Progress, RdbError, Sink};
use crate::script::functions::{self, Functions};
use crate::sys::signals::{self, Urgency};
use crate::value::{Entry, Limits};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Keys without elements that are named in the log; more are only counted.
const EMPTY_KEYS_NAMED: u64 = 10;

/// Figures of a loading that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    /// Keys that were loaded.
    pub keys: u64,
    /// Keys that were not, because their time was over.
    pub expired: u64,
}

/// A loading under way.
pub struct Loading {
    loader: Loader<File>,
    tally: Tally,
    path: PathBuf,
    done: bool,
    /// Bytes there are.
    pub total_bytes: u64,
    /// Seconds since 1970 of the begin.
    pub started_s: i64,
    started_ns: u64,
}

impl Loading {
    /// Opens a snapshot, or a log that begins with one.
    pub(super) fn open(path: &Path, server: &Server) -> io::Result<Loading> {
        let file = File::open(path)?;
        let total_bytes = file.metadata()?.len();
        let verify = match server.config.rdbchecksum && !server.debug.skip_checksums {
            true => Verify::Checksum,
            false => Verify::Nothing,
        };
        Ok(Loading {
            loader: Loader::new(file, Limits::from_config(&server.config), verify),
            tally: Tally::default(),
            path: path.to_owned(),
            done: false,
            total_bytes,
            started_s: server.clock.wall_ms() / 1000,
            started_ns: server.clock.mono_ns(),
        })
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.loader.position()
    }

    /// Whether all of the snapshot was read.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The file, and what was already taken from it behind the snapshot.
    pub(super) fn into_source(self) -> (File, Vec<u8>) {
        self.loader.into_source()
    }

    /// Bytes of memory that the data took where the snapshot was made, if it says so.
    pub fn used_memory(&self) -> u64 {
        self.tally.used_memory
    }
}

/// What was counted while loading.
#[derive(Default)]
struct Tally {
    db: usize,
    loaded: Loaded,
    empty: u64,
    used_memory: u64,
}

/// What becomes of a key that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// There must be none.
    Refuse,
    /// The new one replaces it (DEBUG RELOAD MERGE).
    Replace,
}

/// Takes what is loaded into the keyspace.
struct IntoKeyspace<'a> {
    keyspace: &'a mut Keyspace,
    functions: &'a mut Functions,
    tally: &'a mut Tally,
    duplicates: Duplicates,
    delay_us: i32,
    now_s: i64,
    /// Bytes of the file that are still to come.
    bytes_left: u64,
    /// Entries on their way into the tables: the memory they will touch is being fetched.
    waiting: Vec<(usize, u64, Entry)>,
}

/// Bytes that a key takes in a file, with its value: hardly ever fewer. As many are what the table takes.
const KEY_BYTES: u64 = 12;
/// Entries whose buckets are fetched together.
const WAITING_MAX: usize = 16;

impl IntoKeyspace<'_> {
    /// Puts the waiting entries into the tables.
    fn settle(&mut self) -> Result<(), Refusal> {
        for (db, hash, entry) in self.waiting.drain(..) {
            let Err(entry) = self.keyspace.adopt_hashed(db, hash, entry) else { continue };
            if self.duplicates == Duplicates::Refuse {
                let key = String::from_utf8_lossy(entry.key());
                return Err(format!("RDB has duplicated key '{key}' in DB {db}"));
            }
            self.keyspace.remove(db, Key::new(entry.key()), Free::Server);
            assert!(self.keyspace.adopt_hashed(db, hash, entry).is_ok(), "the old key was removed");
        }
        Ok(())
    }
}

impl Sink for IntoKeyspace<'_> {
    fn format(&mut self, format: Format) {
        if format.is_newer() {
            log::warn!(target: "aikv", "The snapshot has RDB version {format}, which is later than known");
        }
    }

    fn fact(&mut self, name: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        match name {
            b"redis-ver" => log::info!(target: "aikv", "Loading RDB produced by version {text}"),
            b"valkey-ver" => log::info!(target: "aikv", "Loading RDB produced by Valkey version {text}"),
            b"ctime" => {
                let age = self.now_s - text.parse().unwrap_or(self.now_s);
                log::info!(target: "aikv", "RDB age {} seconds", age.max(0));
            }
            b"used-mem" => {
                self.tally.used_memory = text.parse().unwrap_or(0);
                let megabytes = self.tally.used_memory as f64 / (1 << 20) as f64;
                log::info!(target: "aikv", "RDB memory usage when created {megabytes:.2} Mb");
            }
            [b'%', ..] => {
                log::info!(target: "aikv", "RDB '{}': {text}", String::from_utf8_lossy(name));
            }
            _ => log::debug!(target: "aikv", "RDB field '{}' passed over", String::from_utf8_lossy(name)),
        }
    }

    fn select(&mut self, db: u64) -> Result<(), Refusal> {
        let databases = self.keyspace.databases();
        match usize::try_from(db) {
            Ok(db) if db < databases => self.tally.db = db,
            _ => return Err(format!("Data of database {db}, but there are only {databases} databases")),
        }
        Ok(())
    }

    fn sizes(&mut self, keys: u64, volatile: u64) {
        // Those that are volatile may be over. What is said too much costs no more than the file is long.
        let keys = keys.saturating_sub(volatile).min(self.bytes_left / KEY_BYTES);
        self.keyspace.expect(self.tally.db, keys as usize);
    }

    fn entry(&mut self, mut entry: Entry, age: Age) -> Result<(), Refusal> {
        let keeps_all = self.keyspace.expiry == Expiry::Ignore;
        if !keeps_all && entry.expiry().is_some_and(|at| at < self.keyspace.now_ms()) {
            self.tally.loaded.expired += 1;
            return Ok(());
        }
        let access = &self.keyspace.access;
        let clock = match (access.policy, age) {
            (Policy::Lru, Age { idle_seconds: Some(seconds), .. }) => {
                access.from_idle_seconds(seconds.try_into().unwrap_or(u32::MAX))
            }
            (Policy::Lfu { .. }, Age { frequency: Some(frequency), .. }) => access.from_frequency(frequency),
            _ => access.fresh(),
        };
        entry.set_clock(clock);
        self.tally.loaded.keys += 1;
        child::delay(self.delay_us, self.tally.loaded.keys);
        let (db, hash) = (self.tally.db, hash_key(entry.key()));
        self.keyspace.prefetch_bucket(db, hash);
        self.waiting.push((db, hash, entry));
        if self.waiting.len() == WAITING_MAX { self.settle() } else { Ok(()) }
    }

    fn empty(&mut self, key: &[u8]) {
        self.tally.empty += 1;
        if self.tally.empty <= EMPTY_KEYS_NAMED {
            log::info!(target: "aikv", "Loading: skipping empty key: {}", String::from_utf8_lossy(key));
        }
    }

    fn library(&mut self, source: &[u8]) -> Result<(), Refusal> {
        let policy = match self.duplicates {
            Duplicates::Refuse => functions::Policy::Append,
            Duplicates::Replace => functions::Policy::Replace,
        };
        let loaded = self.functions.load(source, policy, || false);
        loaded.map(|_| ()).map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    fn module_aux(&mut self, module: &str) -> Result<(), Refusal> {
        log::warn!(target: "aikv", "RDB data of module '{module}' passed over: there are no modules here");
        Ok(())
    }

    fn module_value(&mut self, module: &str, key: &[u8]) -> Result<(), Refusal> {
        let key = String::from_utf8_lossy(key);
        Err(format!("The key '{key}' holds a value of the module type '{module}', which AiKv does not have"))
    }
}

impl Server {
    /// Begins to serve with the data of the snapshot, if there is one; `on_ready` is called when it is
    /// loaded. From now on save points act.
    pub fn start_with_data(&mut self, on_ready: impl FnOnce() + Send + 'static) {
        self.begin_saving();
        self.on_ready = Some(Box::new(on_ready));
        if self.config.appendonly {
            match self.load_log_at_start() {
                Ok(Found::Log) => return,
                Ok(Found::Nothing) => {}
                Err(failure) => return self.fail(failure),
            }
        }
        let path = PathBuf::from(&self.config.dbfilename);
        match Loading::open(&path, self) {
            Ok(loading) => {
                signals::set_urgency(Urgency::Loading);
                self.loading = Some(Box::new(loading));
                self.arm(bit::LOADING, true);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.end_loading(),
            Err(error) => {
                let text = format!("{}: {}", self.full_path(&path), child::plain(&error));
                log::error!(target: "aikv", "Fatal error loading the DB, check server logs. Exiting: {text}");
                self.net_ops.push(NetOp::Fail(format!("Cannot read {text}")));
            }
        }
    }

    /// Loads for a while; the clients have their turn in between.
    pub fn step_loading(&mut self) {
        let Some(mut loading) = self.loading.take() else { return };
        let budget = match self.config.loading_process_events_interval_bytes {
            0 => u64::MAX,
            bytes => bytes,
        };
        match self.load_some(&mut loading, budget, Duplicates::Refuse) {
            Ok(Progress::More) => self.loading = Some(loading),
            Ok(Progress::Done) => {
                self.note_loaded(*loading);
                self.end_loading();
            }
            Err(error) => self.fail_loading(&loading.path, &error),
        }
    }

    pub(super) fn load_some(
        &mut self,
        loading: &mut Loading,
        budget: u64,
        duplicates: Duplicates,
    ) -> Result<Progress, RdbError> {
        self.keyspace.begin(self.now.wall_ms);
        let bytes_left = loading.total_bytes.saturating_sub(loading.position());
        let mut sink = IntoKeyspace {
            keyspace: &mut self.keyspace,
            functions: &mut self.runner.scripts.functions,
            tally: &mut loading.tally,
            duplicates,
            delay_us: self.config.key_load_delay,
            now_s: self.now.wall_ms / 1000,
            bytes_left,
            waiting: Vec::with_capacity(WAITING_MAX),
        };
        let progress = loading.loader.step(&mut sink, budget)?;
        let settled = sink.settle();
        settled.map_err(|reason| RdbError { offset: loading.position(), fault: Fault::Refused(reason) })?;
        loading.done = progress == Progress::Done;
        Ok(progress)
    }

    fn note_loaded(&mut self, mut loading: Loading) {
        self.note_snapshot(&mut loading);
        let seconds = (self.clock.mono_ns() - loading.started_ns) as f64 / 1e9;
        log::info!(target: "aikv", "DB loaded from disk: {seconds:.3} seconds");
    }

    /// What was read of a snapshot, in the log and in INFO.
    pub(super) fn note_snapshot(&mut self, loading: &mut Loading) {
        let Tally { loaded, empty, .. } = std::mem::take(&mut loading.tally);
        log::info!(
            target: "aikv",
            "Done loading RDB, keys loaded: {}, keys expired: {}, empty keys skipped: {empty}.",
            loaded.keys,
            loaded.expired
        );
        self.snapshots.loaded = loaded;
    }

    /// The data is there: clients may come.
    pub(super) fn end_loading(&mut self) {
        if let Err(failure) = self.open_log() {
            return self.fail(failure);
        }
        signals::set_urgency(Urgency::Normal);
        self.arm(bit::LOADING, false);
        if let Some(ready) = self.on_ready.take() {
            ready();
        }
    }

    fn fail_loading(&mut self, path: &Path, error: &RdbError) {
        let path = self.full_path(path);
        log::error!(target: "aikv", "Loading {path}: {error}");
        log::error!(target: "aikv", "Terminating server after rdb file reading failure.");
        let failure = match &error.fault {
            Fault::Corrupt(_) | Fault::Ended => format!("Corrupted data file {path}: {error}"),
            Fault::Io(_) | Fault::Refused(_) => format!("Cannot load {path}: {error}"),
        };
        log::error!(target: "aikv", "{failure}");
        self.net_ops.push(NetOp::Fail(failure));
    }

    fn full_path(&self, path: &Path) -> String {
        self.config.dir.join(path).display().to_string()
    }

    /// DEBUG RELOAD: loads the whole snapshot while everybody waits.
    pub(super) fn load_now(&mut self, duplicates: Duplicates) -> Result<(), String> {
        let path = PathBuf::from(&self.config.dbfilename);
        let opened = Loading::open(&path, self);
        let mut loading = opened.map_err(|error| format!("{}: {error}", path.display()))?;
        while self.load_some(&mut loading, u64::MAX, duplicates).map_err(|error| error.to_string())?
            == Progress::More
        {}
        self.note_loaded(loading);
        Ok(())
    }
}
