//! How a log begins: found on disk at the start (also that of an old version), begun anew, switched on and
//! off, and read again by DEBUG LOADAOF.

use super::{Aof, State};
use crate::aof::log::{Annotator, LogFile};
use crate::aof::manifest::{Folder, Form, Kind, LoadError, Manifest};
use crate::aof::rewrite as commands;
use crate::keyspace::Db;
use crate::rdb::{self, Observer, Purpose};
use crate::server::Server;
use crate::server::replay::{Asked, Failure, Source, sources};
use crate::sys::file::{self, OutFile, Sending};
use crate::util::text::plain_error;
use std::sync::Arc;

/// Whether there was a log at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Yes: it is being loaded.
    Log,
    /// No: a snapshot may be loaded, and is the beginning of one.
    Nothing,
}

impl Server {
    /// Begins to load the log, if there is one. Called once, before the loop runs.
    pub(in crate::server) fn load_log_at_start(&mut self) -> Result<Found, Failure> {
        self.aof.folder = self.log_folder()?;
        self.aof.state = State::On;
        let manifest = match self.read_manifest()? {
            Some(manifest) => manifest,
            None => self.upgrade_old_log()?.unwrap_or_default(),
        };
        self.aof.manifest = manifest;
        self.finish_upgrade()?;
        if self.aof.manifest.is_empty() {
            return Ok(Found::Nothing);
        }
        let sources = self.log_sources()?;
        self.begin_replay(Asked::Start, sources);
        Ok(Found::Log)
    }

    /// Where the log belongs by the options.
    pub(super) fn log_folder(&self) -> Result<Folder, Failure> {
        let data_dir = std::env::current_dir().map_err(|e| format!("data_dir: {}", plain_error(&e)))?;
        let config = &self.config;
        Ok(Folder {
            data_dir,
            dir_name: config.appenddirname.clone(),
            log_name: config.appendfilename.clone(),
        })
    }

    pub(super) fn read_manifest(&self) -> Result<Option<Manifest>, Failure> {
        let path = self.aof.folder.manifest();
        match Manifest::load(&path) {
            Ok(manifest) => Ok(manifest),
            Err(LoadError::Io(error)) => {
                let text = plain_error(&error);
                Err(format!(
                    "Fatal error: can't open the AOF manifest file {} for reading: {text}",
                    path.display()
                ))
            }
            Err(LoadError::Bad(error)) => {
                log::error!(target: "aikv", "*** FATAL AOF MANIFEST FILE ERROR *** {}", path.display());
                Err(format!("Corrupted data file {}: {error}", path.display()))
            }
        }
    }

    /// A log of an old version is one file in the data directory: it becomes the base of a new one. The
    /// manifest comes first, so that an interruption in between can be seen (see `finish_upgrade`).
    fn upgrade_old_log(&mut self) -> Result<Option<Manifest>, Failure> {
        let folder = &self.aof.folder;
        if !folder.old_file().is_file() {
            return Ok(None);
        }
        let manifest = Manifest::of_old_file(&folder.log_name);
        let failed = |e: std::io::Error| format!("upgrading {}: {}", folder.log_name, plain_error(&e));
        folder.create().map_err(failed)?;
        manifest.store(&folder.manifest()).map_err(failed)?;
        Ok(Some(manifest))
    }

    /// Moves the file of an old version into the log's folder.
    fn finish_upgrade(&mut self) -> Result<(), Failure> {
        let folder = &self.aof.folder;
        let is_old = |part: &crate::aof::manifest::Part| part.name == folder.log_name;
        let (old, new) = (folder.old_file(), folder.file(&folder.log_name));
        if !self.aof.manifest.base.as_ref().is_some_and(is_old) || new.exists() || !old.is_file() {
            return Ok(());
        }
        file::rename_durably(&old, &new)
            .map_err(|e| format!("moving {} to {}: {}", old.display(), new.display(), plain_error(&e)))?;
        log::info!(target: "aikv", "Successfully migrated an old-style AOF configuration ({}) into the AOF \
            directory ({}).", folder.log_name, folder.dir_name);
        Ok(())
    }

    fn log_sources(&self) -> Result<Vec<Source>, Failure> {
        let sources = sources(self.aof.manifest.parts(), |name| self.aof.folder.file(name))?;
        if sources.iter().all(|source| source.length == 0) {
            return Ok(Vec::new());
        }
        Ok(sources)
    }

    /// A file of the log was loaded up to `length`; that much of it is whole.
    pub(in crate::server) fn note_replayed(&mut self, source: &Source, length: u64, sum: Option<u64>) {
        if source.kind == Kind::Base {
            self.aof.base_size = length;
        }
        if self.aof.file.is_none() && source.kind == Kind::Incr && source.last {
            self.aof.annotator = Some(Annotator::new(length, sum));
        } else if self.aof.file.is_none() {
            self.aof.earlier_size += length;
        }
    }

    /// Opens the log for appending when all is loaded. A log without files gets a base first, so that it is
    /// complete from the beginning.
    pub(in crate::server) fn open_log(&mut self) -> Result<(), Failure> {
        if self.aof.state != State::On {
            return Ok(());
        }
        let failed = |e: std::io::Error| {
            format!("Failed to persist data: opening the append-only log: {}", plain_error(&e))
        };
        self.aof.folder.create().map_err(failed)?;
        if self.aof.manifest.is_empty() {
            self.create_first_base().map_err(failed)?;
        }
        self.open_last_incr().map_err(failed)?;
        self.delete_history();
        self.aof.rewrite_base_size = self.aof.current_size();
        self.update_durability();
        Ok(())
    }

    fn create_first_base(&mut self) -> std::io::Result<()> {
        let form = self.rewrite_form();
        let name = self.aof.manifest.new_base(&self.aof.folder.log_name, form);
        let size = self.write_base(&self.aof.folder.file(&name), form, &mut ())?;
        self.aof.base_size = size;
        self.aof.earlier_size = size;
        log::info!(target: "aikv", "Creating AOF base file {name} on server start");
        Ok(())
    }

    /// How a base is written.
    pub(super) fn rewrite_form(&self) -> Form {
        if self.config.aof_use_rdb_preamble { Form::Rdb } else { Form::Commands }
    }

    /// Writes all data into a file and syncs it; gives its size.
    pub(super) fn write_base(
        &self,
        path: &std::path::Path,
        form: Form,
        observer: &mut dyn Observer,
    ) -> std::io::Result<u64> {
        let sending = match self.config.aof_rewrite_incremental_fsync {
            true => Sending::Incremental,
            false => Sending::AtEnd,
        };
        let mut file = OutFile::create(path, sending)?;
        let libraries = self.runner.scripts.functions.sources();
        let size = match form {
            Form::Rdb => {
                let options = self.snapshot_options(Purpose::LogBase);
                let (back, written) = rdb::write(file, &self.keyspace, &libraries, &options, observer)?;
                file = back;
                written.bytes
            }
            Form::Commands => {
                let options = commands::Options {
                    unix_seconds: self.config.aof_timestamp_enabled.then_some(self.now.wall_ms / 1000),
                    checksums: self.config.aof_checksum,
                };
                commands::write(&mut file, &self.keyspace, &libraries, options, observer)?
            }
        };
        file.finish()?;
        Ok(size)
    }

    /// Goes on with the last increment, or begins the first.
    fn open_last_incr(&mut self) -> std::io::Result<()> {
        let aof = &mut self.aof;
        let name = match aof.manifest.incrs.last() {
            Some(part) => part.name.clone(),
            None => {
                let name = aof.manifest.new_incr(&aof.folder.log_name);
                log::info!(target: "aikv", "Creating AOF incr file {name} on server start");
                name
            }
        };
        let path = aof.folder.file(&name);
        let annotator = match aof.annotator.take() {
            Some(annotator) => annotator,
            None => {
                let length = std::fs::metadata(&path).map_or(0, |m| m.len());
                Annotator::new(length, (length == 0).then_some(0))
            }
        };
        aof.begin_file(Arc::new(LogFile::open(&path, annotator.length)?), annotator);
        file::fsync_dir(&aof.folder.path())?;
        aof.manifest.store(&aof.folder.manifest())?;
        self.propagation.forget_selected();
        log::info!(target: "aikv", "Opening AOF incr file {name} on server start");
        Ok(())
    }

    /// DEBUG LOADAOF: forgets all data and loads the log again.
    pub(in crate::server) fn reload_log(&mut self, asked: Asked) -> Result<(), Failure> {
        if self.aof.state == State::On {
            self.flush_log_and_wait();
        }
        if self.aof.state == State::Off {
            self.aof.folder = self.log_folder()?;
        }
        self.snapshots.note_reload();
        let flushed = self.keyspace.flush(None);
        let weight = flushed.iter().map(Db::len).sum();
        self.keyspace.drop_later(Box::new(flushed), weight);
        drop(self.runner.scripts.functions.flush());
        self.aof.manifest = self.read_manifest()?.unwrap_or_default();
        self.delete_history();
        let sources = self.log_sources()?;
        self.begin_replay(asked, sources);
        Ok(())
    }
}

impl Aof {
    /// From now on effects go to this file.
    pub(super) fn begin_file(&mut self, file: Arc<LogFile>, annotator: Annotator) {
        assert!(self.buffer.is_empty(), "what was appended belongs to the file before");
        self.file = Some(file);
        self.annotator = Some(annotator);
    }
}
