//! Snapshots of the real program: what is saved is there after a restart, and what happens when the disk, the
//! child or the file fails. Each test has a server of its own in a directory of its own.

#[path = "support/port.rs"]
mod port;

use port::free_port;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes that long, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    stream: BufReader<TcpStream>,
}

impl Server {
    fn start(dir: &Path, args: &[&str]) -> Server {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_aikv"));
        command.current_dir(dir).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--logfile", "log", "--enable-debug-command", "yes"]).args(args);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server and its files work");
        let begin = Instant::now();
        let stream = loop {
            assert!(
                begin.elapsed() < PATIENCE
                    && child.try_wait().expect("the server and its files work").is_none(),
                "the server answers"
            );
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break BufReader::new(stream),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Server { child, stream }
    }

    /// One command of words; its reply in one piece.
    fn ask(&mut self, line: &str) -> String {
        self.stream
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .expect("the server and its files work");
        let mut reply = String::new();
        self.stream.read_line(&mut reply).expect("the server and its files work");
        if let Some(len) = reply.strip_prefix('$').and_then(|len| len.trim().parse::<usize>().ok()) {
            let mut bytes = vec![0; len + 2];
            self.stream.read_exact(&mut bytes).expect("the server and its files work");
            reply = String::from_utf8(bytes).expect("the server and its files work");
        }
        reply.trim_end().to_string()
    }

    fn info(&mut self, field: &str) -> String {
        let text = self.ask("INFO persistence");
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {text}")).to_string()
    }

    fn wait_for(&mut self, field: &str, value: &str) {
        let begin = Instant::now();
        while self.info(field) != value {
            assert!(begin.elapsed() < PATIENCE, "{field} becomes {value}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn bgsave(&mut self) {
        assert_eq!(self.ask("BGSAVE"), "+Background saving started");
        self.wait_for("rdb_bgsave_in_progress", "0");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

/// Names of the files in a directory, the log left out.
fn files(dir: &TempDir) -> Vec<String> {
    let names = fs::read_dir(dir.path())
        .expect("the server and its files work")
        .map(|file| file.expect("the server and its files work").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "log");
    names.sort();
    names
}

fn log(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("log")).expect("the server and its files work")
}

#[test]
fn what_is_saved_is_there_after_a_restart() {
    let dir = TempDir::new().expect("the server and its files work");
    let mut server = Server::start(dir.path(), &["--save", ""]);
    server.ask("SET kept 1");
    assert_eq!(server.ask("SAVE"), "+OK");
    server.ask("SET background 2");
    server.bgsave();
    server.ask("SET lost 3");
    drop(server);
    let mut server = Server::start(dir.path(), &["--save", "900 1"]);
    server.wait_for("loading", "0");
    assert_eq!(["kept", "background"].map(|key| server.ask(&format!("GET {key}"))), ["1", "2"]);
    assert_eq!(
        (server.ask("GET lost"), server.info("rdb_last_load_keys_loaded")),
        ("$-1".into(), "2".into())
    );
    // With save points, an orderly end saves.
    server.ask("SET late 4");
    server.stream.get_mut().write_all(b"SHUTDOWN\r\n").expect("the server and its files work");
    assert!(server.child.wait().expect("the server and its files work").success());
    let mut server = Server::start(dir.path(), &[]);
    server.wait_for("loading", "0");
    assert_eq!(server.ask("GET late"), "4");
    assert_eq!(files(&dir), ["dump.rdb"]);
}

#[test]
fn a_failing_disk_refuses_writes_until_it_is_well_again() {
    let dir = TempDir::new().expect("the server and its files work");
    let mut server = Server::start(dir.path(), &["--save", "900 100000"]);
    server.ask("DEBUG POPULATE 1000");
    server.bgsave();
    let old = fs::read(dir.path().join("dump.rdb")).expect("the server and its files work");
    for fault in ["WRITE ENOSPC 0", "WRITE ENOSPC 5000", "WRITE EIO 100", "SYNC EIO", "RENAME EACCES"] {
        assert_eq!(server.ask(&format!("DEBUG DISK-FAULT {fault}")), "+OK");
        assert!(server.ask("SAVE").starts_with("-ERR Failed to persist data: "), "{fault}");
        server.bgsave();
        assert_eq!(server.info("rdb_last_bgsave_status"), "err");
        assert!(server.ask("SET k v").starts_with("-MISCONF Redis is configured to save RDB"), "{fault}");
        assert!(server.ask("PING").starts_with("-MISCONF Redis is configured to save RDB"), "{fault}");
        assert!(server.ask("GET key:1").starts_with("value:1"), "reads go on");
        assert_eq!(
            fs::read(dir.path().join("dump.rdb")).expect("the server and its files work"),
            old,
            "{fault}: the old file stays"
        );
        assert_eq!(files(&dir), ["dump.rdb"], "{fault}: nothing is left behind");
        assert_eq!(server.ask("CONFIG SET stop-writes-on-bgsave-error no"), "+OK");
        assert_eq!(server.ask("SET k v"), "+OK");
        server.ask("CONFIG SET stop-writes-on-bgsave-error yes");
        assert_eq!(server.ask("DEBUG DISK-FAULT NONE"), "+OK");
        server.bgsave();
        assert_eq!(
            (server.info("rdb_last_bgsave_status"), server.ask("SET k v")),
            ("ok".into(), "+OK".into())
        );
        server.ask("DEL k");
        server.bgsave();
        assert_eq!(
            fs::read(dir.path().join("dump.rdb")).expect("the server and its files work").len(),
            old.len()
        );
        fs::write(dir.path().join("dump.rdb"), &old).expect("the server and its files work");
    }
    assert!(log(&dir).contains("ERROR aikv: Failed to persist data: disk full"));
    // Writes that take a few bytes at a time are no failure.
    server.ask("DEBUG DISK-FAULT WRITE SHORT");
    assert_eq!(server.ask("SAVE"), "+OK");
    assert_eq!(
        fs::read(dir.path().join("dump.rdb")).expect("the server and its files work").len(),
        old.len()
    );
}

#[test]
fn a_dying_child_leaves_the_old_file_and_nothing_else() {
    let dir = TempDir::new().expect("the server and its files work");
    let mut server = Server::start(dir.path(), &["--save", "900 100000"]);
    server.ask("SET k old");
    assert_eq!(server.ask("SAVE"), "+OK");
    let old = fs::read(dir.path().join("dump.rdb")).expect("the server and its files work");
    server.ask("CONFIG SET rdb-key-save-delay 10000000");
    server.ask("SET k new");
    server.ask("BGSAVE");
    assert_eq!(server.ask("BGSAVE"), "-ERR Background save already in progress");
    assert_eq!(server.ask("SAVE"), "-ERR Background save already in progress");
    let begin = Instant::now();
    let child = loop {
        let found = files(&dir)
            .into_iter()
            .find_map(|name| name.strip_prefix("temp-")?.strip_suffix(".rdb")?.parse::<u32>().ok());
        if let Some(pid) = found {
            break pid;
        }
        assert!(begin.elapsed() < PATIENCE, "the child begins its file");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(
        Command::new("kill")
            .args(["-9", &child.to_string()])
            .status()
            .expect("the server and its files work")
            .success()
    );
    server.wait_for("rdb_bgsave_in_progress", "0");
    assert_eq!(server.info("rdb_last_bgsave_status"), "err");
    assert_eq!(files(&dir), ["dump.rdb"]);
    assert_eq!(fs::read(dir.path().join("dump.rdb")).expect("the server and its files work"), old);
    // FLUSHALL stops a child, and with save points it saves that there is nothing.
    server.ask("CONFIG SET stop-writes-on-bgsave-error no");
    server.ask("BGSAVE");
    server.ask("CONFIG SET rdb-key-save-delay 0");
    assert_eq!(server.ask("FLUSHALL"), "+OK");
    server.wait_for("rdb_bgsave_in_progress", "0");
    assert_eq!(
        (files(&dir), server.info("rdb_changes_since_last_save")),
        (vec!["dump.rdb".into()], "0".into())
    );
    assert!(fs::read(dir.path().join("dump.rdb")).expect("the server and its files work").len() < old.len());
}

#[test]
fn a_damaged_file_is_told_and_the_server_does_not_start() {
    let dir = TempDir::new().expect("the server and its files work");
    let mut server = Server::start(dir.path(), &["--save", ""]);
    server.ask("DEBUG POPULATE 100");
    assert_eq!(server.ask("SAVE"), "+OK");
    drop(server);
    let file = dir.path().join("dump.rdb");
    let whole = fs::read(&file).expect("the server and its files work");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for damaged in [&flipped[..], &whole[..whole.len() / 2]] {
        fs::write(&file, damaged).expect("the server and its files work");
        let mut command = Command::new(env!("CARGO_BIN_EXE_aikv"));
        let port = free_port();
        command.current_dir(dir.path()).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        let output = command.output().expect("the server and its files work");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains("Error: Corrupted data file") && error.contains("at offset"), "{error}");
        assert!(error.contains("dump.rdb"), "{error}");
        assert_eq!(
            fs::read(&file).expect("the server and its files work"),
            damaged,
            "the file is left as it was"
        );
    }
}

#[test]
fn clients_are_answered_while_the_data_is_loaded() {
    let dir = TempDir::new().expect("the server and its files work");
    let mut server = Server::start(dir.path(), &["--save", ""]);
    server.ask("DEBUG POPULATE 3000 key 1000");
    server.ask("CONFIG SET rdbcompression no");
    assert_eq!(server.ask("SAVE"), "+OK");
    drop(server);
    let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "2048"];
    let mut server = Server::start(dir.path(), &slow);
    assert_eq!(server.ask("GET key:1"), "-LOADING Redis is loading the dataset in memory");
    assert_eq!(server.info("loading"), "1");
    let loaded = server.info("loading_loaded_bytes").parse::<u64>().expect("the server and its files work");
    std::thread::sleep(Duration::from_millis(50));
    assert!(server.info("loading_loaded_bytes").parse::<u64>().unwrap() > loaded, "loading goes on");
    server.ask("CONFIG SET key-load-delay 0");
    server.wait_for("loading", "0");
    assert_eq!(server.ask("DBSIZE"), ":3000");
}
