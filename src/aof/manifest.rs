//! The manifest: a small text file that names the files of a log. It is replaced as a whole, so that the log
//! is always a complete set of files. Read it to learn how the files are named and which of them count.
//! Knows no file's content.
//!
//! A line is `file <name> seq <number> type <b|i|h>`: the base, the increments in the order in which they are
//! loaded, and files that are history and wait for being deleted. Further pairs of words are passed over.

use crate::sys::file;
use crate::util::{num, quote};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Longest line, its end included.
const LINE_BYTES_MAX: usize = 1024;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The whole data at one moment.
    Base,
    /// What changed since the file before.
    Incr,
    /// Not part of the log any more.
    History,
}

impl Kind {
    const ALL: [(Kind, &'static [u8]); 3] = [(Kind::Base, b"b"), (Kind::Incr, b"i"), (Kind::History, b"h")];

    fn letter(self) -> &'static [u8] {
        Kind::ALL[self as usize].1
    }
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in the log's folder.
    pub name: String,
    /// Its number.
    pub seq: u64,
    /// What it is for.
    pub kind: Kind,
}

/// Form of a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A snapshot.
    Rdb,
    /// Commands.
    Commands,
}

/// The files of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The base, if there is one.
    pub base: Option<Part>,
    /// Increments, oldest first.
    pub incrs: Vec<Part>,
    /// Files to be deleted, the latest first.
    pub history: Vec<Part>,
    /// The highest number of a base.
    base_seq: u64,
    /// The highest number of an increment.
    incr_seq: u64,
}

/// Why a manifest cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The line at fault, from 1; 0 when it is the whole file.
    pub line: usize,
    /// That line's text.
    pub text: String,
    /// What is wrong, in Redis' words.
    pub reason: &'static str,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.reason),
            line => write!(f, "line {line} ({:?}): {}", self.text, self.reason),
        }
    }
}

/// A manifest that cannot be read, or cannot be used.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Io(io::Error),
    /// It does not say what a manifest has to say.
    Bad(ManifestError),
}

impl Manifest {
    /// The name of the manifest of a log.
    pub fn file_name(log_name: &str) -> String {
        format!("{log_name}.manifest")
    }

    /// Reads a manifest; None if there is no such file.
    pub fn load(path: &Path) -> Result<Option<Manifest>, LoadError> {
        match std::fs::read(path) {
            Ok(text) => Manifest::parse(&text).map(Some).map_err(LoadError::Bad),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LoadError::Io(error)),
        }
    }

    /// Reads the text of a manifest.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut rest = text;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(length);
            rest = after;
            let shown = || String::from_utf8_lossy(line).trim_end().chars().take(100).collect();
            manifest.take_line(line).map_err(|reason| ManifestError {
                line: number,
                text: shown(),
                reason,
            })?;
        }
        if number == 0 {
            return Err(ManifestError {
                line: 0,
                text: String::new(),
                reason: "Found an empty AOF manifest",
            });
        }
        Ok(manifest)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        const INVALID: &str = "Invalid AOF manifest file format";
        if line.first() == Some(&b'#') {
            return Ok(());
        }
        if line.len() >= LINE_BYTES_MAX {
            return Err("The AOF manifest file contains too long line");
        }
        let line = line.strip_suffix(b"\n").ok_or(INVALID)?;
        let words = quote::split_args(line).ok_or(INVALID)?;
        if words.len() < 6 || words.len() % 2 == 1 {
            return Err(INVALID);
        }
        let (mut name, mut seq, mut kind) = (None, None, None);
        for pair in words.chunks(2) {
            match pair[0].to_ascii_lowercase().as_slice() {
                b"file" => name = Some(file_name(&pair[1])?),
                b"seq" => seq = Some(num::parse_u64(&pair[1]).filter(|n| *n > 0).ok_or(INVALID)?),
                b"type" => {
                    let found = Kind::ALL.iter().find(|(_, letter)| pair[1] == *letter);
                    kind = Some(found.ok_or("Unknown AOF file type")?.0);
                }
                _ => {}
            }
        }
        match (name, seq, kind) {
            (Some(name), Some(seq), Some(kind)) => self.add(Part { name, seq, kind }),
            _ => Err(INVALID),
        }
    }

    fn add(&mut self, part: Part) -> Result<(), &'static str> {
        match part.kind {
            Kind::Base if self.base.is_some() => return Err("Found duplicate base file information"),
            Kind::Base => {
                self.base_seq = part.seq;
                self.base = Some(part);
            }
            Kind::Incr if self.incrs.last().is_some_and(|last| last.seq >= part.seq) => {
                return Err("Found a non-monotonic sequence number");
            }
            Kind::Incr => {
                self.incr_seq = part.seq;
                self.incrs.push(part);
            }
            Kind::History => self.history.push(part),
        }
        Ok(())
    }

    /// The text of the file.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for part in self.base.iter().chain(&self.history).chain(&self.incrs) {
            out.extend_from_slice(b"file ");
            match quote::needs_quotes(part.name.as_bytes()) {
                true => quote::push_quoted(&mut out, part.name.as_bytes()),
                false => out.extend_from_slice(part.name.as_bytes()),
            }
            out.extend_from_slice(b" seq ");
            num::push_u64(&mut out, part.seq);
            out.extend_from_slice(b" type ");
            out.extend_from_slice(part.kind.letter());
            out.push(b'\n');
        }
        out
    }

    /// Replaces the file. On an error the old one is untouched.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        file::write_atomically(path, &self.text())
    }

    /// The files that are loaded, in order.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.base.iter().chain(&self.incrs)
    }

    /// Whether there is nothing to load.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.incrs.is_empty()
    }

    /// Begins a new base; the old one becomes history. Gives the new one's name.
    pub fn new_base(&mut self, log_name: &str, form: Form) -> String {
        if let Some(old) = self.base.take() {
            self.history.insert(0, Part { kind: Kind::History, ..old });
        }
        self.base_seq += 1;
        let suffix = match form {
            Form::Rdb => "rdb",
            Form::Commands => "aof",
        };
        let name = format!("{log_name}.{}.base.{suffix}", self.base_seq);
        self.base = Some(Part { name: name.clone(), seq: self.base_seq, kind: Kind::Base });
        name
    }

    /// Begins a new increment. Gives its name.
    pub fn new_incr(&mut self, log_name: &str) -> String {
        self.incr_seq += 1;
        let name = format!("{log_name}.{}.incr.aof", self.incr_seq);
        self.incrs.push(Part { name: name.clone(), seq: self.incr_seq, kind: Kind::Incr });
        name
    }

    /// Increments but the last `kept` become history: a new base holds what is in them.
    pub fn retire_incrs(&mut self, kept: usize) {
        let retired = self.incrs.len().saturating_sub(kept);
        for part in self.incrs.drain(..retired) {
            self.history.insert(0, Part { kind: Kind::History, ..part });
        }
    }

    /// The manifest of a log of one file, as old versions wrote it.
    pub fn of_old_file(log_name: &str) -> Manifest {
        let base = Part { name: log_name.to_owned(), seq: 1, kind: Kind::Base };
        Manifest { base: Some(base), base_seq: 1, ..Manifest::default() }
    }
}

/// A file's name: not a path.
fn file_name(bytes: &[u8]) -> Result<String, &'static str> {
    let name = std::str::from_utf8(bytes).map_err(|_| "File name is not valid UTF-8")?;
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err("File can't be a path, just a filename");
    }
    Ok(name.to_owned())
}

/// Where the files of a log are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// The data directory.
    pub data_dir: PathBuf,
    /// `appenddirname`.
    pub dir_name: String,
    /// `appendfilename`.
    pub log_name: String,
}

impl Folder {
    /// A file of the log.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The log's folder.
    pub fn path(&self) -> PathBuf {
        self.data_dir.join(&self.dir_name)
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.file(&Manifest::file_name(&self.log_name))
    }

    /// The log of an old version, which was one file in the data directory.
    pub fn old_file(&self) -> PathBuf {
        self.data_dir.join(&self.log_name)
    }

    /// Creates the folder if need be.
    pub fn create(&self) -> io::Result<()> {
        match std::fs::create_dir(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> &'static str {
        Manifest::parse(text.as_bytes()).unwrap_err().reason
    }

    #[test]
    fn reads_what_it_writes() {
        let mut manifest = Manifest::default();
        assert_eq!(manifest.new_base("a b", Form::Rdb), "a b.1.base.rdb");
        assert_eq!(manifest.new_incr("a b"), "a b.1.incr.aof");
        assert_eq!(manifest.new_base("a b", Form::Commands), "a b.2.base.aof");
        manifest.new_incr("a b");
        manifest.retire_incrs(1);
        let text = String::from_utf8(manifest.text()).unwrap();
        assert_eq!(
            text,
            "file \"a b.2.base.aof\" seq 2 type b\nfile \"a b.1.incr.aof\" seq 1 type h\n\
             file \"a b.1.base.rdb\" seq 1 type h\nfile \"a b.2.incr.aof\" seq 2 type i\n"
        );
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
        let old = Manifest::of_old_file("x.aof");
        assert_eq!(Manifest::parse(&old.text()).unwrap(), old);
    }

    #[test]
    fn passes_over_remarks_and_unknown_words() {
        let text = b"#x\nfile a seq 3 type i more 1\nfile b seq 7 type i\n";
        let mut manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.parts().map(|p| p.seq).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(manifest.new_incr("n"), "n.8.incr.aof");
    }

    #[test]
    fn refuses_what_redis_refuses() {
        assert_eq!(reason(""), "Found an empty AOF manifest");
        for text in [
            "\n",
            "file a seq 1\n",
            "file a seq 1 type i x\n",
            "filx a seq 1 type i\n",
            "file a seq 1 type i",
        ] {
            assert_eq!(reason(text), "Invalid AOF manifest file format", "{text:?}");
        }
        assert_eq!(reason("file a seq 0 type i\n"), "Invalid AOF manifest file format");
        assert_eq!(reason("file a/b seq 1 type i\n"), "File can't be a path, just a filename");
        assert_eq!(reason("file a seq 1 type x\n"), "Unknown AOF file type");
        assert_eq!(
            reason("file a seq 1 type b\nfile b seq 2 type b\n"),
            "Found duplicate base file information"
        );
        assert_eq!(
            reason("file a seq 2 type i\nfile b seq 2 type i\n"),
            "Found a non-monotonic sequence number"
        );
        let long = format!("file {} seq 1 type i\n", "x".repeat(1100));
        assert_eq!(reason(&long), "The AOF manifest file contains too long line");
        let fault = Manifest::parse(b"file a seq 1 type b\n\n").unwrap_err();
        assert_eq!(fault.line, 2);
    }
}
