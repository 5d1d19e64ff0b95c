//! Runs the scripts of docs/backup.md as they stand there, against a real server under writes.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Reply, Running, has};

/// The script of this name in the page.
fn script(name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup.md");
    let text = std::fs::read_to_string(page).expect("the page is there");
    let begin = text.split(&format!("```sh {name}\n")).nth(1).expect("the page has the script");
    begin.split("\n```").next().expect("it ends").to_owned()
}

fn output(name: &str, port: u16, data: &Path, backup: &Path) -> std::process::Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script(name));
    command.env("PORT", port.to_string()).env("DATA", data).env("BACKUP", backup);
    command.output().expect("sh runs")
}

fn run(name: &str, port: u16, data: &Path, backup: &Path) {
    let output = output(name, port, data, backup);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {text}");
}

const OPTIONS: &[&str] = &["--engine", "aidb", "--save", "", "--appendfsync", "everysec"];

/// Writes pairs of keys in transactions: both of a pair are there, or none, and no pair is missing before one
/// that is there.
fn write_pairs(server: &Running, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let (mut client, stop) = (server.connect(), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut pairs = 0;
        while !stop.load(Ordering::Relaxed) {
            for line in ["MULTI", &format!("SET a:{pairs} 1"), &format!("SET b:{pairs} 1"), "EXEC"] {
                client.line(line);
            }
            pairs += 1;
        }
        pairs
    })
}

/// Checks a restored server; gives the number of pairs.
fn pairs(server: &Running) -> u64 {
    let mut client = server.connect();
    let Reply::Int(keys) = client.line("DBSIZE") else { panic!("DBSIZE is a number") };
    assert!(keys % 2 == 0, "half a transaction was restored");
    let pairs = keys as u64 / 2;
    for i in 0..pairs {
        assert_eq!(client.line(&format!("EXISTS a:{i} b:{i}")), Reply::Int(2), "pair {i} of {pairs}");
    }
    pairs
}

#[test]
fn snapshots_and_directories_are_restored() {
    if !has("redis-cli") {
        println!("redis-cli is not installed: the scripts cannot run");
        return;
    }
    let (data, other) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let (snapshot, archive) = (other.path().join("backup.rdb"), other.path().join("backup.tar.gz"));
    let mut server = Running::aikv(data.path(), OPTIONS);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write_pairs(&server, &stop);
    run("backup-snapshot", server.port, data.path(), &snapshot);
    let mut admin = server.connect();
    admin.line("BGREWRITEAOF");
    run("backup-directory", server.port, data.path(), &archive);
    assert_eq!(
        admin.line("CONFIG GET aof-disable-auto-gc"),
        Reply::Array(vec![Reply::Text("aof-disable-auto-gc".into()), Reply::Text("no".into())])
    );
    stop.store(true, Ordering::Relaxed);
    let written = writer.join().expect("writing works");
    server.kill();

    // The directory, by the guide: stop, empty, unpack, start.
    run("restore", server.port, data.path(), &archive);
    let restored = Running::aikv(data.path(), OPTIONS);
    let in_archive = pairs(&restored);
    drop(restored);

    // The snapshot alone, in an empty directory.
    let empty = tempfile::TempDir::new().unwrap();
    std::fs::copy(&snapshot, empty.path().join("dump.rdb")).expect("copying");
    let mut restored = Running::aikv(empty.path(), OPTIONS);
    let in_snapshot = pairs(&restored);
    assert!(in_snapshot > 0 && in_snapshot <= in_archive && in_archive <= written);
    restored.shut_down(b"NOSAVE");
    // It is in the log now.
    std::fs::remove_file(empty.path().join("dump.rdb")).expect("it is there");
    assert_eq!(pairs(&Running::aikv(empty.path(), OPTIONS)), in_snapshot);
}

#[test]
fn nothing_is_removed_for_a_backup_that_is_not_there() {
    let data = tempfile::TempDir::new().unwrap();
    let kept = data.path().join("kept");
    std::fs::write(&kept, "data").unwrap();
    let missing = data.path().join("missing.tar.gz");
    assert!(!output("restore", 0, data.path(), &missing).status.success());
    std::fs::write(data.path().join("damaged.tar.gz"), "no archive").unwrap();
    assert!(!output("restore", 0, data.path(), &data.path().join("damaged.tar.gz")).status.success());
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "data");
}
