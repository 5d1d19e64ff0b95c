//! The log: one line per event, written with one write(2), in a form that the guides quote:
//! `2026-11-22T13:18:30.874Z INFO  aikv: Starting AiKv server on 127.0.0.1:6379`
//! The rest of the program uses the macros of the `log` crate; this file decides where lines go and which
//! are wanted. `simplelog` carries us into `log`; its own writers print brackets and cannot reopen, so the
//! line and the file are ours.
//!
//! A forked child may log: it takes none of the locks below and writes to the descriptor it inherited.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use log::{Level, Log, Metadata, Record};
pub use simplelog::LevelFilter;
use simplelog::SharedLogger;

use super::{clock, fork};
use crate::util::text::UtcTime;

/// Where lines go and which are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Lines of this level and more important ones are written.
    pub level: LevelFilter,
    /// Write to standard output.
    pub console: bool,
    /// Append to this file.
    pub file: Option<PathBuf>,
    /// Start a new file when the present one would grow beyond this; 0: never.
    pub rotate_bytes: u64,
    /// Old files kept by rotation, as `name.1` (the youngest), `name.2` ...
    pub rotate_count: u32,
    /// Write JSON objects instead of plain text.
    pub json: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            level: LevelFilter::Info,
            console: true,
            file: None,
            rotate_bytes: 0,
            rotate_count: 0,
            json: false,
        }
    }
}

/// Level names: our own, and Redis' for the same thing.
const LEVELS: [(&str, LevelFilter); 10] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
    ("nothing", LevelFilter::Off),
    ("warning", LevelFilter::Warn),
    ("notice", LevelFilter::Info),
    ("verbose", LevelFilter::Debug),
];

/// The level of a name in any case: error, warn, info, debug, trace, off, or one of Redis' words.
pub fn parse_level(name: &str) -> Option<LevelFilter> {
    LEVELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
}

/// Our own name of a level.
pub fn level_name(level: LevelFilter) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("off", |(name, _)| name)
}

/// A line waits for this long at most before a renamed or deleted file is noticed.
const LOOK_EVERY_MS: i64 = 1_000;

static SINK: Mutex<Sink> = Mutex::new(Sink::none());
/// Filter of RUST_LOG, in force until the level is set at run time.
static FILTER: RwLock<Option<env_filter::Filter>> = RwLock::new(None);
static REOPEN: AtomicBool = AtomicBool::new(false);
static JSON: AtomicBool = AtomicBool::new(false);
/// Where crash reports and children write: the file, else standard output; -1 before `init` or without both.
static RAW_FD: AtomicI32 = AtomicI32::new(-1);
/// Children's second descriptor when both are on; -1 for none.
static RAW_CONSOLE: AtomicI32 = AtomicI32::new(-1);
/// Wall time of the last look whether the file is still in its place.
static LOOKED_MS: AtomicI64 = AtomicI64::new(0);

/// Starts logging. The environment variable RUST_LOG (`debug`, `info,aikv::net=trace`) overrides the level.
/// Fails when the file cannot be opened. A second call reconfigures.
pub fn init(options: LogOptions) -> io::Result<()> {
    let level = options.level;
    reconfigure(options)?;
    // Fails when a logger is installed already, which is then ours.
    let _ = simplelog::CombinedLogger::init(vec![Box::new(Logger)]);
    set_level(level);
    if let Ok(spec) = std::env::var("RUST_LOG") {
        set_filter(&spec);
    }
    Ok(())
}

fn set_filter(spec: &str) {
    let mut builder = env_filter::Builder::new();
    if builder.try_parse(spec).is_err() || spec.trim().is_empty() {
        return;
    }
    let filter = builder.build();
    log::set_max_level(filter.filter());
    *FILTER.write().unwrap_or_else(PoisonError::into_inner) = Some(filter);
}

/// Changes where lines go, and the level. On an error (the file cannot be opened) nothing is changed.
pub fn reconfigure(options: LogOptions) -> io::Result<()> {
    let mut sink = lock_sink();
    let file = match &options.file {
        Some(path) => Some(OpenFile::open(path)?),
        None => None,
    };
    JSON.store(options.json, Ordering::Relaxed);
    if options.level != sink.options.level {
        set_level(options.level);
    }
    sink.file = file;
    sink.options = options;
    sink.announce();
    Ok(())
}

/// Changes the level at run time (CONFIG SET loglevel); from then on RUST_LOG no longer counts.
pub fn set_level(level: LevelFilter) {
    *FILTER.write().unwrap_or_else(PoisonError::into_inner) = None;
    log::set_max_level(level);
}

/// The level in force; with RUST_LOG, the most detailed one it names.
pub fn level() -> LevelFilter {
    log::max_level()
}

/// Asks for the file to be opened anew before the next line (SIGHUP and SIGUSR1, after log rotation by other
/// programs). Safe in signal handlers.
pub fn request_reopen() {
    REOPEN.store(true, Ordering::Relaxed);
}

/// The descriptor that crash reports go to; -1 when nothing is logged.
pub fn raw_fd() -> RawFd {
    RAW_FD.load(Ordering::Relaxed)
}

/// Writes bytes as they are to [`raw_fd`]. Safe in signal handlers.
pub fn write_raw(bytes: &[u8]) {
    write_once(raw_fd(), bytes);
}

/// Writes an error line to wherever lines go (before `init`: standard error), without any lock: for the
/// panic hook, which may run while this very thread holds one.
pub fn emergency(message: &str) {
    let mut line = Vec::with_capacity(message.len() + 64);
    let args = format_args!("{message}");
    push_plain_line(
        &mut line,
        now_ms(),
        &Record::builder().level(Level::Error).target("aikv").args(args).build(),
    );
    write_once(if raw_fd() >= 0 { raw_fd() } else { libc::STDERR_FILENO }, &line);
    write_once(RAW_CONSOLE.load(Ordering::Relaxed), &line);
}

fn write_once(fd: RawFd, bytes: &[u8]) {
    if fd >= 0 {
        // SAFETY: reads `bytes` only. A line that cannot be written is lost: there is nowhere to say so.
        unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    }
}

fn lock_sink() -> MutexGuard<'static, Sink> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What lines are written to.
struct Sink {
    options: LogOptions,
    file: Option<OpenFile>,
}

struct OpenFile {
    file: File,
    size: u64,
    /// Device and inode, to notice that the name means another file now.
    identity: (u64, u64),
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<OpenFile> {
        let file = File::options().append(true).create(true).open(path)?;
        let meta = file.metadata()?;
        Ok(OpenFile { file, size: meta.len(), identity: (meta.dev(), meta.ino()) })
    }
}

impl Sink {
    const fn none() -> Sink {
        let options = LogOptions {
            level: LevelFilter::Off,
            console: false,
            file: None,
            rotate_bytes: 0,
            rotate_count: 0,
            json: false,
        };
        Sink { options, file: None }
    }

    /// Tells crash handler and children where to write.
    fn announce(&self) {
        let console = if self.options.console { libc::STDOUT_FILENO } else { -1 };
        match &self.file {
            Some(open) => {
                RAW_FD.store(open.file.as_raw_fd(), Ordering::Relaxed);
                RAW_CONSOLE.store(console, Ordering::Relaxed);
            }
            None => {
                RAW_FD.store(console, Ordering::Relaxed);
                RAW_CONSOLE.store(-1, Ordering::Relaxed);
            }
        }
    }

    fn write(&mut self, line: &[u8], now_ms: i64) {
        if self.options.console {
            write_once(libc::STDOUT_FILENO, line);
        }
        if self.options.file.is_none() {
            return;
        }
        self.look_after_file(line.len() as u64, now_ms);
        if let Some(open) = &mut self.file {
            // A full disk must not stop the server; the line is lost.
            if open.file.write(line).is_ok() {
                open.size += line.len() as u64;
            }
        }
    }

    /// Reopens or rotates the file when that is due.
    fn look_after_file(&mut self, coming: u64, now_ms: i64) {
        let Some(path) = self.options.file.clone() else {
            return;
        };
        let due = (now_ms - LOOKED_MS.load(Ordering::Relaxed)).abs() >= LOOK_EVERY_MS;
        if due {
            LOOKED_MS.store(now_ms, Ordering::Relaxed);
        }
        let moved =
            || fs::metadata(&path).map_or(true, |meta| Some((meta.dev(), meta.ino())) != self.identity());
        if REOPEN.swap(false, Ordering::Relaxed) || (due && moved()) {
            self.reopen(&path);
        }
        let limit = self.options.rotate_bytes;
        if limit > 0 && self.file.as_ref().is_some_and(|open| open.size > 0 && open.size + coming > limit) {
            rotate(&path, self.options.rotate_count);
            self.reopen(&path);
        }
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.file.as_ref().map(|open| open.identity)
    }

    /// Opens the file anew; keeps the old one when that fails.
    fn reopen(&mut self, path: &Path) {
        if let Ok(open) = OpenFile::open(path) {
            self.file = Some(open);
            self.announce();
        }
    }
}

/// Renames `name` to `name.1`, `name.1` to `name.2` and so on; what would get a number above `keep` goes.
fn rotate(path: &Path, keep: u32) {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    // Errors (a missing file in the row, a full directory) leave the log where it is: nothing is lost.
    if keep == 0 {
        let _ = fs::remove_file(path);
        return;
    }
    for number in (1..keep).rev() {
        let _ = fs::rename(numbered(number), numbered(number + 1));
    }
    let _ = fs::rename(path, numbered(1));
}

/// Our logger; its state is in the statics above, since the program has one log.
struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if fork::in_child() {
            return metadata.level() <= log::max_level();
        }
        match &*FILTER.read().unwrap_or_else(PoisonError::into_inner) {
            Some(filter) => filter.enabled(metadata),
            None => metadata.level() <= log::max_level(),
        }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now_ms = now_ms();
        let mut line = Vec::with_capacity(128);
        if JSON.load(Ordering::Relaxed) {
            push_json_line(&mut line, now_ms, record);
        } else {
            push_plain_line(&mut line, now_ms, record);
        }
        if fork::in_child() {
            write_once(RAW_FD.load(Ordering::Relaxed), &line);
            write_once(RAW_CONSOLE.load(Ordering::Relaxed), &line);
        } else {
            lock_sink().write(&line, now_ms);
        }
    }

    fn flush(&self) {}
}

impl SharedLogger for Logger {
    /// Everything: the level is decided by `log::set_max_level` and RUST_LOG.
    fn level(&self) -> LevelFilter {
        LevelFilter::Trace
    }

    fn config(&self) -> Option<&simplelog::Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

fn now_ms() -> i64 {
    clock::system_wall_us() / 1_000
}

/// What a line names as its origin: the crate for what operators read, the module for details.
fn target_of<'a>(record: &'a Record<'_>) -> &'a str {
    let target = record.target();
    if record.level() >= Level::Debug {
        return target;
    }
    target.split("::").next().unwrap_or(target)
}

fn push_plain_line(line: &mut Vec<u8>, now_ms: i64, record: &Record<'_>) {
    let (time, level, target) = (UtcTime::from_unix_ms(now_ms), record.level(), target_of(record));
    // Writing to a Vec cannot fail.
    let _ = write!(line, "{time} {level:<5} {target}: ");
    let start = line.len();
    let _ = write!(line, "{}", record.args());
    if line[start..].iter().any(|byte| is_control(*byte)) {
        let message = line.split_off(start);
        for byte in message {
            match byte {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                byte if is_control(byte) => drop(write!(line, "\\x{byte:02x}")),
                byte => line.push(byte),
            }
        }
    }
    line.push(b'\n');
}

/// Bytes that could forge a line or steer a terminal. A tab is harmless.
fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

fn push_json_line(line: &mut Vec<u8>, now_ms: i64, record: &Record<'_>) {
    let level = level_name(record.level().to_level_filter());
    let _ =
        write!(line, "{{\"time\":\"{}\",\"level\":\"{level}\",\"target\":", UtcTime::from_unix_ms(now_ms));
    push_json_string(line, target_of(record));
    line.extend_from_slice(b",\"message\":");
    push_json_string(line, &record.args().to_string());
    line.extend_from_slice(b"}\n");
}

/// A string by the rules of RFC 8259, section 7.
fn push_json_string(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            byte if byte.is_ascii_control() => drop(write!(line, "\\u{byte:04x}")),
            byte => line.push(byte),
        }
    }
    line.push(b'"');
}

/// A copy of standard output that stays when the daemon's streams go to /dev/null: for start-up messages.
pub fn duplicate_stdout() -> io::Result<File> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    super::process::check(fd)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(level: Level, target: &str, message: &str) -> String {
        let mut line = Vec::new();
        let args = format_args!("{message}");
        push_plain_line(
            &mut line,
            1_795_353_510_874,
            &Record::builder().level(level).target(target).args(args).build(),
        );
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn plain_lines() {
        assert_eq!(
            plain(Level::Info, "aikv::server::start", "Starting AiKv server on 127.0.0.1:6379"),
            "2026-11-22T13:18:30.874Z INFO  aikv: Starting AiKv server on 127.0.0.1:6379\n"
        );
        assert_eq!(
            plain(Level::Debug, "aikv::net", "x\ty"),
            "2026-11-22T13:18:30.874Z DEBUG aikv::net: x\ty\n"
        );
        assert!(plain(Level::Warn, "aikv", "a\nb\r\x1b[0m é").ends_with("WARN  aikv: a\\nb\\r\\x1b[0m é\n"));
    }

    #[test]
    fn json_lines() {
        let mut line = Vec::new();
        let args = format_args!("say \"hi\"\n\u{1}\\ é");
        push_json_line(
            &mut line,
            0,
            &Record::builder().level(Level::Error).target("aikv").args(args).build(),
        );
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"error\",\"target\":\"aikv\",\
             \"message\":\"say \\\"hi\\\"\\n\\u0001\\\\ é\"}\n"
        );
    }

    #[test]
    fn level_names() {
        assert_eq!(parse_level("Warning"), Some(LevelFilter::Warn));
        assert_eq!(parse_level("notice"), Some(LevelFilter::Info));
        assert_eq!(parse_level("nothing"), Some(LevelFilter::Off));
        assert_eq!(parse_level("loud"), None);
        assert_eq!(level_name(LevelFilter::Debug), "debug");
        for (name, level) in LEVELS {
            assert_eq!(parse_level(name), Some(level));
        }
    }

    fn sink(path: &Path, rotate_bytes: u64, rotate_count: u32) -> Sink {
        let file = Some(path.to_owned());
        let options =
            LogOptions { console: false, file, rotate_bytes, rotate_count, ..LogOptions::default() };
        Sink { options, file: Some(OpenFile::open(path).unwrap()) }
    }

    #[test]
    fn rotation_keeps_the_named_number_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aikv.log");
        let mut sink = sink(&path, 10, 2);
        for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "eeee\n", "ffff\n", "gggg\n"] {
            sink.write(line.as_bytes(), 0);
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("aikv.log"), "gggg\n");
        assert_eq!(read("aikv.log.1"), "eeee\nffff\n");
        assert_eq!(read("aikv.log.2"), "cccc\ndddd\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    /// The one test of the global logger: it goes through levels, reopening, reconfiguring and a child.
    #[test]
    fn whole_logger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aikv.log");
        let options = LogOptions { console: false, file: Some(path.clone()), ..LogOptions::default() };
        init(options.clone()).unwrap();
        set_level(LevelFilter::Info);
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        log::info!("first");
        log::debug!("hidden");
        let moved = dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        request_reopen();
        set_level(LevelFilter::Debug);
        log::debug!("second");
        assert!(read(&moved).contains("INFO  aikv: first\n") && !read(&moved).contains("hidden"));
        assert!(read(&path).contains("DEBUG aikv::sys::log::tests: second\n"));
        let child = fork::fork(|| {
            log::info!("from the child");
            0
        });
        fork::wait(child.unwrap()).unwrap();
        assert!(read(&path).contains("from the child"));
        set_filter("error,aikv::sys=trace");
        log::trace!("third");
        log::info!(target: "other", "hidden");
        assert!(read(&path).contains("third") && !read(&path).contains("hidden"));
        let bad = LogOptions { file: Some(dir.path().join("no/dir")), ..options.clone() };
        assert!(reconfigure(bad).is_err());
        log::error!("still here");
        assert!(read(&path).contains("still here"));
        reconfigure(LogOptions { json: true, ..options }).unwrap();
        log::error!("as json");
        assert!(read(&path).contains("\"message\":\"as json\""));
        reconfigure(LogOptions { console: false, ..LogOptions::default() }).unwrap();
        set_level(LevelFilter::Off);
    }
}
