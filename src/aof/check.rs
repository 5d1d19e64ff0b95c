//! The report of `--check-aof`: is a log whole, up to where, and, if wanted, the broken end cut off or
//! everything after a point in time. A log is a manifest, a folder with one, or a single file of an old
//! version. Writes its report to whoever reads; knows no server.

use super::manifest::{Kind, LoadError, Manifest, Part};
use super::reader::{Fault, FaultKind, Item, Reader, Tail, Verify, examine_tail};
use crate::config::Config;
use crate::rdb;
use crate::rdb::format::{MAGIC_LONGEST, is_snapshot};
use crate::resp::OwnedArgs;
use crate::sys::file;
use crate::value::{Entry, Limits};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// What is to be done with a log besides looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Look,
    /// A broken end is cut off.
    Fix,
    /// What was written after this second since 1970 is cut off.
    TruncateTo(i64),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well, or well again.
    Valid,
    /// It is not, or it could not be mended.
    NotValid,
}

/// How the report names a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Old,
    Base,
    Incr,
}

impl Role {
    fn title(self) -> &'static str {
        match self {
            Role::Old => "AOF",
            Role::Base => "BASE AOF",
            Role::Incr => "INCR AOF",
        }
    }
}

/// The check of one log.
pub struct Check<'a> {
    /// What to do.
    pub mode: Mode,
    /// Takes the report.
    pub out: &'a mut dyn Write,
    /// Asks the operator whether to go on.
    pub confirm: &'a mut dyn FnMut() -> bool,
}

/// What reading a file came to.
struct Reading {
    length: u64,
    /// Everything before is whole.
    whole: u64,
    line: u64,
    fault: Option<Fault>,
    /// Whether the snapshot at its beginning is bad: nothing can be cut then.
    bad_preamble: bool,
    /// Where the first command after the wanted time begins.
    too_late: Option<u64>,
}

impl Check<'_> {
    /// Checks the log at a path. An error is one of the system's.
    pub fn run(&mut self, path: &Path) -> io::Result<Verdict> {
        let path = find(path)?;
        match is_manifest(&path)? {
            true => self.multi_part(&path),
            false => {
                writeln!(self.out, "Start checking Old-Style AOF")?;
                self.file(&path, Role::Old, true)
            }
        }
    }

    fn multi_part(&mut self, path: &Path) -> io::Result<Verdict> {
        writeln!(self.out, "Start checking Multi Part AOF")?;
        let manifest = match Manifest::load(path) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Err(io::ErrorKind::NotFound.into()),
            Err(LoadError::Io(error)) => return Err(error),
            Err(LoadError::Bad(error)) => {
                writeln!(self.out, "*** FATAL AOF MANIFEST FILE ERROR ***")?;
                writeln!(self.out, "{}: {error}", path.display())?;
                return Ok(Verdict::NotValid);
            }
        };
        let folder = file::directory_of(path).to_owned();
        let parts: Vec<Part> = manifest.parts().cloned().collect();
        for (i, part) in parts.iter().enumerate() {
            let role = if part.kind == Kind::Base { Role::Base } else { Role::Incr };
            let file = folder.join(&part.name);
            match role {
                Role::Base => {
                    let form = if has_preamble(&file)? { "RDB" } else { "RESP" };
                    writeln!(self.out, "Start to check BASE AOF ({form} format).")?;
                }
                _ if i == 0 || parts[i - 1].kind == Kind::Base => {
                    writeln!(self.out, "Start to check INCR files.")?;
                }
                _ => {}
            }
            if self.file(&file, role, i + 1 == parts.len())? == Verdict::NotValid {
                return Ok(Verdict::NotValid);
            }
        }
        writeln!(self.out, "All AOF files and manifest are valid")?;
        Ok(Verdict::Valid)
    }

    /// Checks one file. Only the last one of a log may be cut.
    fn file(&mut self, path: &Path, role: Role, last: bool) -> io::Result<Verdict> {
        let (name, title) = (path.display(), role.title());
        let found = self.read(path)?;
        if found.length == 0 {
            writeln!(self.out, "{title} {name} is empty")?;
            return Ok(Verdict::Valid);
        }
        if found.bad_preamble {
            return Ok(Verdict::NotValid);
        }
        if let (Mode::TruncateTo(seconds), None) = (self.mode, &found.fault) {
            return self.truncate_to(path, role, &found, seconds, last);
        }
        let Some(fault) = &found.fault else {
            self.analyzed(path, &found)?;
            writeln!(self.out, "{title} {name} is valid")?;
            return Ok(Verdict::Valid);
        };
        match fault.kind {
            FaultKind::Ended => writeln!(self.out, "Unexpected end of file reading {name}: {fault}")?,
            _ => writeln!(self.out, "Corrupted data file {name}: {fault}")?,
        }
        self.analyzed(path, &found)?;
        if self.mode != Mode::Fix {
            writeln!(self.out, "{title} {name} is not valid. Use the --fix option to try fixing it.")?;
            return Ok(Verdict::NotValid);
        }
        if !last {
            writeln!(self.out, "Failed to truncate AOF {name} because it is not the last file")?;
            return Ok(Verdict::NotValid);
        }
        self.cut(path, &found, fault)
    }

    fn analyzed(&mut self, path: &Path, found: &Reading) -> io::Result<()> {
        writeln!(
            self.out,
            "AOF analyzed: filename={}, size={}, ok_up_to={}, ok_up_to_line={}, diff={}",
            path.display(),
            found.length,
            found.whole,
            found.line,
            found.length - found.whole
        )
    }

    fn cut(&mut self, path: &Path, found: &Reading, fault: &Fault) -> io::Result<Verdict> {
        let lost = found.length - found.whole;
        if examine_tail(File::open(path)?, fault)? == Tail::Damaged {
            writeln!(
                self.out,
                "This is damage in the middle, not a torn end: what stands behind it would be lost."
            )?;
        }
        writeln!(
            self.out,
            "This will shrink the AOF {} from {} bytes, with {lost} bytes, to {} bytes",
            path.display(),
            found.length,
            found.whole
        )?;
        write!(self.out, "Continue? [y/N]: ")?;
        self.out.flush()?;
        if !(self.confirm)() {
            writeln!(self.out, "Aborting...")?;
            return Ok(Verdict::NotValid);
        }
        shorten(path, found.whole)?;
        writeln!(self.out, "Successfully truncated AOF {}", path.display())?;
        Ok(Verdict::Valid)
    }

    fn truncate_to(
        &mut self,
        path: &Path,
        role: Role,
        found: &Reading,
        seconds: i64,
        last: bool,
    ) -> io::Result<Verdict> {
        let name = path.display();
        let Some(offset) = found.too_late else {
            match last {
                true => writeln!(self.out, "Truncate nothing in AOF {name} to timestamp {seconds}")?,
                false => writeln!(self.out, "{} {name} is valid", role.title())?,
            }
            return Ok(Verdict::Valid);
        };
        if !last {
            writeln!(
                self.out,
                "Failed to truncate AOF {name} to timestamp {seconds} because it is not the last file"
            )?;
            return Ok(Verdict::NotValid);
        }
        if offset == 0 {
            writeln!(self.out, "AOF {name} has nothing before timestamp {seconds}, aborting...")?;
            return Ok(Verdict::NotValid);
        }
        shorten(path, offset)?;
        writeln!(self.out, "Successfully truncated AOF {name} to timestamp {seconds}")?;
        Ok(Verdict::Valid)
    }

    /// Reads the snapshot at the beginning of a file; gives the reader of what is behind it, or nothing when
    /// it is damaged.
    fn preamble(&mut self, file: File, length: u64) -> io::Result<Option<Reader<File>>> {
        writeln!(self.out, "The AOF appears to start with an RDB preamble.")?;
        writeln!(self.out, "Checking the RDB preamble to start:")?;
        let limits = Limits::from_config(&Config::default());
        let mut loader = rdb::Loader::new(file, limits, rdb::read::Verify::Checksum);
        loop {
            match loader.step(&mut Nowhere, u64::MAX) {
                Ok(rdb::Progress::More) => {}
                Ok(rdb::Progress::Done) => break,
                Err(error) => {
                    writeln!(self.out, "Corrupted data file: {error}")?;
                    writeln!(self.out, "RDB preamble of AOF file is not sane, aborting.")?;
                    return Ok(None);
                }
            }
        }
        writeln!(self.out, "RDB preamble is OK, proceeding with AOF tail...")?;
        let offset = loader.position();
        let (file, read) = loader.into_source();
        Ok(Some(Reader::behind(file, read, offset, length)))
    }

    fn read(&mut self, path: &Path) -> io::Result<Reading> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut found =
            Reading { length, whole: 0, line: 1, fault: None, bad_preamble: false, too_late: None };
        let mut reader = match has_preamble(path)? {
            false => Reader::new(file, length, Verify::Checksums),
            true => match self.preamble(file, length)? {
                Some(reader) => reader,
                None => {
                    found.bad_preamble = true;
                    return Ok(found);
                }
            },
        };
        let mut args = OwnedArgs::default();
        // Where the transaction that is being read begins, and its line.
        let mut multi: Option<(u64, u64)> = None;
        loop {
            let (at, line) = (reader.position(), reader.line());
            let item = match reader.read(&mut args) {
                Ok(item) => item,
                Err(fault) => {
                    let whole = reader.whole(&fault, examine_tail(File::open(path)?, &fault)?);
                    (found.whole, found.line) = multi.map_or(whole, |begin| begin.min(whole));
                    found.fault = Some(fault);
                    return Ok(found);
                }
            };
            match item {
                Item::Command => {
                    let name = args.as_args().get(0).to_ascii_lowercase();
                    match name.as_slice() {
                        b"multi" if multi.is_none() => multi = Some((at, line)),
                        b"exec" => multi = None,
                        _ => {}
                    }
                }
                Item::Time(seconds) => {
                    if let Mode::TruncateTo(limit) = self.mode
                        && seconds > limit
                    {
                        found.too_late.get_or_insert(at);
                    }
                }
                Item::Remark => writeln!(self.out, "{}: unknown remark at offset {at}", path.display())?,
                Item::Checksum => {}
                Item::End => break,
            }
        }
        (found.whole, found.line) = multi.unwrap_or((length, reader.line()));
        if multi.is_some() {
            writeln!(self.out, "Reached EOF before reading EXEC for MULTI")?;
            let kind = FaultKind::Ended;
            found.fault = Some(Fault { offset: found.whole, at: length, line: found.line, kind });
        }
        Ok(found)
    }
}

/// Takes a snapshot and keeps nothing of it.
struct Nowhere;

impl rdb::Sink for Nowhere {
    fn select(&mut self, _: u64) -> Result<(), String> {
        Ok(())
    }

    fn entry(&mut self, _: Entry, _: rdb::Age) -> Result<(), String> {
        Ok(())
    }

    fn empty(&mut self, _: &[u8]) {}

    fn library(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn module_aux(&mut self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn module_value(&mut self, _: &str, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

fn shorten(path: &Path, length: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file::truncate(&file, length)?;
    file::fsync(&file)
}

/// The manifest or file that a path means: a folder stands for the log in it.
fn find(path: &Path) -> io::Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    for folder in [path.to_owned(), path.join("appendonlydir")] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut manifests: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "manifest"))
            .collect();
        manifests.sort();
        match manifests.as_slice() {
            [] => {}
            [one] => return Ok(one.clone()),
            _ => {
                let text = format!("there are several manifests in {}: name one", folder.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "there is no manifest of a log in it"))
}

/// Whether a file is a manifest: it has that ending, or reads like one.
fn is_manifest(path: &Path) -> io::Result<bool> {
    if path.extension().is_some_and(|extension| extension == "manifest") {
        return Ok(true);
    }
    Ok(first_bytes(path, 5)? == b"file ")
}

fn has_preamble(path: &Path) -> io::Result<bool> {
    Ok(is_snapshot(&first_bytes(path, MAGIC_LONGEST as u64)?))
}

fn first_bytes(path: &Path, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?;
    file.rewind()?;
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}
