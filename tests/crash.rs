//! Kills the real server at random moments under load and checks what is there afterwards, for every policy
//! of `appendfsync`: with `always` and `no`, every acknowledged write (a process that is killed takes nothing
//! with it that it gave to the kernel); with `everysec`, every write acknowledged more than the promised
//! two seconds before. Transactions are there whole or not at all. The long form (`--ignored`) kills 210
//! times.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Reply, Running};

/// Connections that write.
const WORKERS: usize = 4;
/// Keys of each.
const KEYS: usize = 5;
/// Under `everysec`, a write may be lost that is not older than this: a sync each second, and up to two
/// seconds in which a write is put off.
const LOSS: Duration = Duration::from_millis(3_500);

/// What a worker did to one of its keys, by rising numbers.
#[derive(Default, Clone)]
struct History {
    /// The last number sent.
    sent: u64,
    /// Acknowledged numbers and when.
    acknowledged: Vec<(Instant, u64)>,
}

/// A source of repeatable choices.
struct Choices(u64);

impl Choices {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Writes until the server is gone. Numbers of a key only rise, and go on where they were.
fn work(mut client: Client, worker: usize, mut histories: Vec<History>, stop: &AtomicBool) -> Vec<History> {
    let mut choices = Choices(worker as u64 + 1);
    while !stop.load(Ordering::Relaxed) {
        let key = choices.next(KEYS as u64) as usize;
        let history = &mut histories[key];
        let number = history.sent + 1;
        history.sent = number;
        let name = format!("w{worker}:{key}");
        let value = format!("{number}:{}", "x".repeat(choices.next(200) as usize));
        let done = match choices.next(4) {
            // Both halves or none.
            0 => {
                let twin = format!("{name}:twin");
                let requests: [&[&[u8]]; 4] = [
                    &[b"MULTI"],
                    &[b"SET", name.as_bytes(), value.as_bytes()],
                    &[b"SET", twin.as_bytes(), value.as_bytes()],
                    &[b"EXEC"],
                ];
                requests.iter().try_for_each(|request| client.send(request)).and_then(|()| {
                    (0..3).try_for_each(|_| client.read().map(drop))?;
                    client.read()
                })
            }
            _ => client.try_call(&[b"SET", name.as_bytes(), value.as_bytes()]),
        };
        match done {
            Some(Reply::Text(_) | Reply::Array(_)) => history.acknowledged.push((Instant::now(), number)),
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    histories
}

fn number(reply: &Reply) -> u64 {
    match reply {
        Reply::Nil => 0,
        Reply::Text(text) => text.split(':').next().and_then(|n| n.parse().ok()).expect("a number"),
        other => panic!("{other:?}"),
    }
}

/// Checks what a new server has against what was done, and makes it the new beginning.
fn check(client: &mut Client, all: &mut [Vec<History>], policy: &str, killed: Instant, round: usize) {
    for (worker, histories) in all.iter_mut().enumerate() {
        for (key, history) in histories.iter_mut().enumerate() {
            let name = format!("w{worker}:{key}");
            let found = number(&client.call(&[b"GET", name.as_bytes()]));
            let promised = |at: &Instant| policy != "everysec" || killed.duration_since(*at) > LOSS;
            let kept = history.acknowledged.iter().filter(|(at, _)| promised(at)).map(|(_, n)| *n).max();
            let kept = kept.unwrap_or(0);
            assert!(
                found >= kept && found <= history.sent,
                "{policy}, kill {round}: {name} is {found}, promised was {kept}, sent {}",
                history.sent
            );
            let twin = number(&client.call(&[b"GET", format!("{name}:twin").as_bytes()]));
            assert!(twin <= found, "{policy}, kill {round}: half a transaction on {name}");
            // What is there now stays: it came from the disk.
            let before = killed.checked_sub(2 * LOSS).expect("the clock began before");
            history.acknowledged = vec![(before, found)];
        }
    }
}

fn kills(policy: &str, count: usize, seed: u64) {
    let dir = tempfile::TempDir::new().expect("a directory");
    let mut choices = Choices(seed);
    let mut all = vec![vec![History::default(); KEYS]; WORKERS];
    let mut server = start(dir.path(), policy);
    for round in 0..count {
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (client, histories) = (server.connect(), std::mem::take(&mut all[worker]));
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || work(client, worker, histories, &stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(choices.next(250)));
        let mut admin = server.connect();
        match choices.next(4) {
            0 => drop(admin.try_call(&[b"BGREWRITEAOF"])),
            1 => drop(admin.try_call(&[b"BGSAVE"])),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(choices.next(150)));
        server.kill();
        let killed = Instant::now();
        stop.store(true, Ordering::Relaxed);
        all = workers.into_iter().map(|worker| worker.join().expect("no worker fails")).collect();
        server = start(dir.path(), policy);
        check(&mut server.connect(), &mut all, policy, killed, round);
    }
    let log = std::fs::read_to_string(dir.path().join("server.log")).expect("there is a log");
    assert!(!log.contains("panicked") && !log.contains("Corrupted data file"), "{log}");
    let sent: u64 = all.iter().flatten().map(|history| history.sent).sum();
    println!("{policy}: {count} kills survived, {sent} writes");
}

fn start(dir: &Path, policy: &str) -> Running {
    let args =
        ["--engine", "aidb", "--appendfsync", policy, "--save", "", "--auto-aof-rewrite-min-size", "64kb"];
    Running::aikv(dir, &args)
}

#[test]
fn acknowledged_writes_survive_kills() {
    for (policy, seed) in [("always", 1), ("everysec", 2), ("no", 3)] {
        kills(policy, 7, seed);
    }
}

#[test]
#[ignore = "takes some minutes"]
fn acknowledged_writes_survive_many_kills() {
    for (policy, seed) in [("always", 11), ("everysec", 12), ("no", 13)] {
        kills(policy, 70, seed);
    }
}

#[test]
fn a_data_directory_has_one_server() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let mut first = start(dir.path(), "always");
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_aikv"))
        .args(["--port", &support::port::free_port().to_string(), "--engine", "aidb"])
        .args(["--dir", dir.path().to_str().expect("a plain path")])
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && error.contains("is in use by another server"), "{error}");
    let mut client = first.connect();
    assert!(matches!(client.line("CONFIG SET appendonly no"), Reply::Error(_)));
    assert_eq!(client.line("SET k v"), Reply::Text("OK".into()));
    first.shut_down(b"NOSAVE");
    let second = start(dir.path(), "always");
    assert_eq!(second.connect().line("GET k"), Reply::Text("v".into()));
}

#[test]
fn damage_is_named_and_torn_ends_are_mended() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let mut server = start(dir.path(), "always");
    let mut client = server.connect();
    for i in 0..200 {
        client.line(&format!("SET key:{i} {}", "v".repeat(60)));
    }
    server.shut_down(b"NOSAVE");
    let path = dir.path().join("appendonlydir/appendonly.aof.1.incr.aof");
    let whole = std::fs::read(&path).expect("the log");
    // A torn end: the server says what it cut, and starts.
    std::fs::write(&path, &whole[..whole.len() - 50]).expect("writing");
    let mut server = start(dir.path(), "always");
    assert_eq!(server.connect().line("DBSIZE"), Reply::Int(199));
    server.shut_down(b"NOSAVE");
    let log = std::fs::read_to_string(dir.path().join("server.log")).expect("there is a log");
    assert!(log.contains("AOF loaded anyway") && log.contains("were cut off"), "{log}");
    // Damage in the middle: it does not start, and says where.
    let mut damaged = whole.clone();
    damaged[5000] ^= 1;
    std::fs::write(&path, &damaged).expect("writing");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aikv"))
        .args(["--port", &support::port::free_port().to_string(), "--engine", "aidb", "--save", ""])
        .args(["--dir", dir.path().to_str().expect("a plain path")])
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("Error: Corrupted data file"), "{error}");
    assert!(error.contains("appendonly.aof.1.incr.aof") && error.contains("offset"), "{error}");
}
