//! The log of a whole server without sockets: what is on disk after which step, what waits for it, and what
//! a disk that fails does to it. Faults are the process's, so these tests run one after the other.

use super::{Failure, State};
use crate::config::Config;
use crate::server::Server;
use crate::server::client::Peer;
use crate::sys::background::Background;
use crate::sys::clock::Clock;
use crate::sys::file::{Fault, Operation, exclusive};
use std::path::Path;
use std::sync::MutexGuard;

pub(super) const START_MS: i64 = 1_767_225_600_000;

/// A server in a folder of its own, with clients.
pub(super) struct World {
    pub(super) server: Server,
    _folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Enters a new folder: the log is in the working directory.
fn enter() -> (tempfile::TempDir, MutexGuard<'static, ()>) {
    let alone = exclusive();
    Fault::inject(None);
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    crate::collections::hash::seed_hashes(7);
    (folder, alone)
}

fn start(options: &[(&str, &str)], background: Background) -> Server {
    start_at(options, background, START_MS)
}

/// Starts a server at a time, with what is on disk.
pub(super) fn start_at(options: &[(&str, &str)], background: Background, now_ms: i64) -> Server {
    let mut config = Config::default();
    let pairs: Vec<(&[u8], &[u8])> = options.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    config.set(&pairs).unwrap();
    let mut server = Server::new(config, Clock::fake(now_ms), 7, background).unwrap();
    server.start_with_data(|| {});
    for _ in 0..1000 {
        server.begin_turn();
        server.step_loading();
        server.before_sleep();
    }
    server
}

impl World {
    pub(super) fn new(options: &[(&str, &str)]) -> World {
        let (folder, alone) = enter();
        let mut all = vec![("appendonly", "yes"), ("save", "")];
        all.extend_from_slice(options);
        let server = start(&all, Background::start().unwrap());
        World { server, _folder: folder, _alone: alone }
    }

    pub(super) fn client(&mut self) -> usize {
        self.server.accept(Peer { is_local: true, ..Peer::default() }).unwrap()
    }

    /// Sends inline requests and runs a turn.
    pub(super) fn send(&mut self, slot: usize, requests: &[&str]) {
        for request in requests {
            let input = &mut self.server.clients.get_mut(slot).unwrap().input;
            input.feed(format!("{request}\r\n").as_bytes());
            self.server.begin_turn();
            self.server.run(slot);
        }
        self.server.before_sleep();
    }

    /// What may be sent to a client now.
    pub(super) fn open(&mut self, slot: usize) -> Vec<u8> {
        let durable = self.server.aof.durable();
        let Some(client) = self.server.clients.get_mut(slot) else { return Vec::new() };
        let open = client.open_bytes(durable).min(client.reply.pending_bytes());
        let mut slices = Vec::new();
        client.reply.slices(1000, open, &mut slices);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        client.reply.advance(open);
        client.bytes_out += open as u64;
        bytes
    }

    /// Lets the thread finish its work and the server hear of it.
    fn settle(&mut self) {
        for _ in 0..5 {
            self.server.keyspace.background().wait_idle();
            self.server.background_woke();
            self.server.begin_turn();
            self.server.before_sleep();
        }
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.server.clock.advance(ms * 1_000_000);
        self.server.begin_turn();
        self.server.run_cron();
        self.settle();
    }

    /// Waits for the child that rewrites.
    fn rewrite(&mut self) {
        for _ in 0..1000 {
            self.wait(100);
            if !self.server.aof.rewrite.is_running() && !self.server.aof.rewrite.scheduled {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("the rewrite does not end");
    }
}

/// Sends one inline request from a new client, and gives the reply.
pub(super) fn ask(server: &mut Server, request: &str) -> String {
    let slot = server.accept(Peer { is_local: true, ..Peer::default() }).unwrap();
    let client = server.clients.get_mut(slot).unwrap();
    client.input.feed(format!("{request}\r\n").as_bytes());
    server.begin_turn();
    server.run(slot);
    let client = server.clients.get_mut(slot).unwrap();
    let (pending, mut slices) = (client.reply.pending_bytes(), Vec::new());
    client.reply.slices(1000, pending, &mut slices);
    let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
    client.reply.advance(pending);
    text(bytes)
}

/// The values of keys in a new server that loads what is on disk.
fn reloaded(keys: &[&str]) -> Vec<Option<Vec<u8>>> {
    let mut server = start(&[("appendonly", "yes"), ("save", "")], Background::inline());
    let ops = std::mem::take(&mut server.net_ops);
    assert!(ops.is_empty(), "{ops:?}");
    server.keyspace.begin(START_MS);
    let value = |key: &&str| {
        let entry = server.keyspace.peek(0, crate::keyspace::Key::new(key.as_bytes()))?;
        Some(crate::value::string::bytes(&entry, &mut Default::default()).to_vec())
    };
    keys.iter().map(value).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn fail(operation: Operation, errno: i32) {
    Fault::inject(Some(Fault { operation, errno, after: 0 }));
}

#[test]
fn replies_wait_for_the_disk_and_reads_only_for_their_keys() {
    let mut world = World::new(&[("appendfsync", "always")]);
    let (writer, reader) = (world.client(), world.client());
    world.send(writer, &["SET k 1"]);
    world.settle();
    assert_eq!(text(world.open(writer)), "+OK\r\n");
    // The thread is busy: nothing becomes durable.
    world.server.debug.aof_flush_sleep_us = 200_000;
    world.send(writer, &["PING", "SET k 2", "GET other"]);
    assert_eq!(text(world.open(writer)), "+PONG\r\n", "what came before may leave");
    world.send(reader, &["GET other", "GET k", "PING"]);
    assert_eq!(text(world.open(reader)), "$-1\r\n", "the value of k is not durable, other is untouched");
    let other = world.client();
    world.send(other, &["DBSIZE"]);
    assert_eq!(text(world.open(other)), "");
    world.settle();
    assert_eq!(text(world.open(writer)), "+OK\r\n$-1\r\n");
    assert_eq!(text(world.open(reader)), "$1\r\n2\r\n+PONG\r\n");
    assert_eq!(text(world.open(other)), ":1\r\n");
    assert_eq!(reloaded(&["k"]), [Some(b"2".to_vec())]);
}

#[test]
fn events_and_messages_wait_for_the_writes_they_may_tell_of() {
    let mut world = World::new(&[("appendfsync", "always"), ("notify-keyspace-events", "KEA")]);
    let (writer, listener) = (world.client(), world.client());
    world.send(listener, &["SUBSCRIBE news __keyevent@0__:set"]);
    world.send(writer, &["SET k 1"]);
    world.settle();
    world.open(writer);
    assert!(text(world.open(listener)).ends_with("\r\nk\r\n"));
    world.server.debug.aof_flush_sleep_us = 200_000;
    world.send(writer, &["SET k 2"]);
    assert_eq!(text(world.open(listener)), "");
    world.send(writer, &["MULTI", "SET l 1", "PUBLISH news written", "EXEC"]);
    assert_eq!(text(world.open(listener)), "");
    world.settle();
    let told = text(world.open(listener));
    let told: Vec<&str> = told.lines().skip(6).step_by(7).collect();
    assert_eq!(told, ["k", "l", "written"]);
    // Where nothing waits for the disk, a message does not either.
    world.send(writer, &["PUBLISH news at-once"]);
    assert!(text(world.open(listener)).ends_with("\r\nat-once\r\n"));
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    for policy in ["always", "everysec", "no"] {
        let mut world = World::new(&[("appendfsync", policy)]);
        let (writer, reader) = (world.client(), world.client());
        world.send(writer, &["SET k 1"]);
        world.settle();
        world.open(writer);
        fail(Operation::Write, libc::ENOSPC);
        world.send(writer, &["SET k 2"]);
        world.settle();
        assert!(matches!(world.server.aof.failure, Some(Failure::Write(_))), "{policy}");
        let gone = world.server.clients.get(writer).is_none_or(|c| c.close.is_some());
        assert_eq!(gone, policy == "always", "who waits for a lost write is cut off");
        world.send(reader, &["SET k 3", "GET k"]);
        let replies = text(world.open(reader));
        assert!(replies.starts_with("-MISCONF Errors writing to the AOF file: No space"), "{replies}");
        assert!(replies.ends_with("$1\r\n2\r\n"), "reads go on: {replies}");
        world.wait(1100);
        assert!(world.server.aof.failure.is_some(), "it is still full");
        Fault::inject(None);
        world.wait(1100);
        assert!(world.server.aof.failure.is_none(), "{policy}");
        world.send(reader, &["SET k 4"]);
        world.settle();
        assert_eq!(text(world.open(reader)), "+OK\r\n");
        assert_eq!(reloaded(&["k"]), [Some(b"4".to_vec())]);
    }
}

#[test]
fn a_failing_disk_shows_in_exec_and_ping_but_not_where_nothing_is_written() {
    let mut world = World::new(&[("appendfsync", "no")]);
    let (failing, writing, reading) = (world.client(), world.client(), world.client());
    world.send(writing, &["MULTI", "PING", "SET k 1"]);
    world.send(reading, &["MULTI", "PING", "GET k"]);
    fail(Operation::Write, libc::ENOSPC);
    world.send(failing, &["SET k 2"]);
    world.settle();
    world.open(failing);
    const MISCONF: &str = "MISCONF Errors writing to the AOF file: No space left on device\r\n";
    world.send(failing, &["PING", "EVAL \"return redis.call('ping')\" 0", "MULTI", "PING", "EXEC"]);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    assert_eq!(text(world.open(failing)), format!("-{MISCONF}+PONG\r\n+OK\r\n-{MISCONF}{aborted}"));
    world.send(writing, &["EXEC"]);
    let aborted = format!("-EXECABORT Transaction discarded because of: {MISCONF}");
    assert_eq!(text(world.open(writing)), format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n{aborted}"));
    world.send(reading, &["EXEC"]);
    assert_eq!(text(world.open(reading)), "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n$1\r\n2\r\n");
    Fault::inject(None);
}

#[test]
fn after_a_failed_sync_only_a_rewrite_lets_writes_in() {
    for policy in ["always", "everysec"] {
        let mut world = World::new(&[("appendfsync", policy)]);
        let (writer, reader) = (world.client(), world.client());
        world.send(writer, &["SET k 1"]);
        world.wait(1100);
        world.open(writer);
        fail(Operation::Sync, libc::EIO);
        world.send(writer, &["SET k 2"]);
        world.wait(1100);
        assert!(matches!(world.server.aof.failure, Some(Failure::Broken(_))), "{policy}");
        let synced = world.server.aof.synced;
        world.wait(1100);
        assert_eq!(world.server.aof.synced, synced, "a later sync proves nothing");
        world.send(reader, &["SET k 3", "GET k"]);
        let replies = text(world.open(reader));
        assert!(replies.starts_with("-MISCONF") && replies.ends_with("$1\r\n2\r\n"), "{replies}");
        Fault::inject(None);
        // Rewrites failed meanwhile, and are held back; an operator need not wait.
        world.send(reader, &["BGREWRITEAOF"]);
        world.rewrite();
        assert!(world.server.aof.failure.is_none(), "{policy}");
        world.open(reader);
        world.send(reader, &["SET j 4"]);
        world.settle();
        assert_eq!(text(world.open(reader)), "+OK\r\n");
        world.wait(1100);
        assert_eq!(reloaded(&["k", "j"]), [Some(b"2".to_vec()), Some(b"4".to_vec())]);
    }
}

#[test]
fn a_rewrite_keeps_what_was_written_meanwhile() {
    for preamble in ["yes", "no"] {
        let mut world = World::new(&[("aof-use-rdb-preamble", preamble), ("rdb-key-save-delay", "20000")]);
        let client = world.client();
        world.send(client, &["SET a 1", "SET b 1 PX 100000", "BGREWRITEAOF"]);
        world.settle();
        assert!(world.server.aof.rewrite.is_running());
        world.send(client, &["SET a 2", "SET c 3"]);
        world.rewrite();
        let manifest = std::fs::read_to_string("appendonlydir/appendonly.aof.manifest").unwrap();
        let form = if preamble == "yes" { "rdb" } else { "aof" };
        let wanted = format!(
            "file appendonly.aof.2.base.{form} seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
        );
        assert_eq!(manifest, wanted);
        assert!(!Path::new("appendonlydir/appendonly.aof.1.incr.aof").exists());
        assert_eq!(
            reloaded(&["a", "b", "c"]),
            [Some(b"2".to_vec()), Some(b"1".to_vec()), Some(b"3".to_vec())]
        );
    }
}

#[test]
fn failed_rewrites_leave_a_whole_log() {
    for operation in [Operation::Create, Operation::Rename, Operation::Sync] {
        let mut world = World::new(&[("appendfsync", "no")]);
        let client = world.client();
        world.send(client, &["SET a 1"]);
        fail(operation, libc::EROFS);
        world.send(client, &["BGREWRITEAOF"]);
        world.rewrite();
        assert!(!world.server.aof.rewrite.last_ok, "{operation:?}");
        Fault::inject(None);
        world.send(client, &["SET b 2"]);
        world.settle();
        assert_eq!(reloaded(&["a", "b"]), [Some(b"1".to_vec()), Some(b"2".to_vec())], "{operation:?}");
        world.send(client, &["BGREWRITEAOF"]);
        world.rewrite();
        assert!(world.server.aof.rewrite.last_ok);
        assert_eq!(reloaded(&["a", "b"]), [Some(b"1".to_vec()), Some(b"2".to_vec())]);
    }
}

#[test]
fn switching_on_begins_with_all_data_and_off_keeps_it() {
    let mut world = World::new(&[("appendonly", "no")]);
    let client = world.client();
    world.send(client, &["SET a 1", "CONFIG SET appendonly yes", "SET b 2"]);
    assert_eq!(world.server.aof.state, State::WaitRewrite);
    world.rewrite();
    assert_eq!(world.server.aof.state, State::On);
    world.send(client, &["SET c 3", "CONFIG SET appendonly no", "SET d 4"]);
    assert_eq!(world.server.aof.state, State::Off);
    let some = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(reloaded(&["a", "b", "c", "d"]), [some("1"), some("2"), some("3"), None]);
}

#[test]
fn a_snapshot_without_a_log_is_its_beginning() {
    let mut world = World::new(&[("appendonly", "no")]);
    let client = world.client();
    world.send(client, &["SET a 1", "SAVE"]);
    assert_eq!(reloaded(&["a"]), [Some(b"1".to_vec())]);
    std::fs::remove_file("dump.rdb").unwrap();
    assert_eq!(reloaded(&["a"]), [Some(b"1".to_vec())], "the log has it");
}

#[test]
fn torn_transactions_are_cut_off_whole() {
    let mut world = World::new(&[]);
    let client = world.client();
    world.send(client, &["SET a 1", "MULTI", "SET a 2", "SET b 2", "EXEC"]);
    let path = "appendonlydir/appendonly.aof.1.incr.aof";
    let whole = std::fs::read(path).unwrap();
    let begin = whole.windows(5).position(|w| w == b"MULTI").unwrap() - 8;
    for cut in begin + 1..whole.len() {
        std::fs::write(path, &whole[..cut]).unwrap();
        assert_eq!(reloaded(&["a", "b"]), [Some(b"1".to_vec()), None], "cut at {cut}");
        assert_eq!(std::fs::metadata(path).unwrap().len(), begin as u64);
    }
}

#[test]
fn loading_writes_nothing_to_the_log() {
    let mut world = World::new(&[("enable-debug-command", "yes")]);
    let client = world.client();
    world.send(client, &["FLUSHALL", "MULTI", "SET a 1", "SET b 2", "EXEC", "SET c 3"]);
    let appended = world.server.aof.appended;
    let digest = load().unwrap();
    world.send(client, &["DEBUG LOADAOF"]);
    world.settle();
    assert!(!world.server.is_loading());
    assert_eq!(world.server.aof.appended, appended);
    assert_eq!(load().unwrap(), digest);
    world.send(client, &["SET d 4"]);
    world.settle();
    assert_eq!(reloaded(&["a", "d"]), [Some(b"1".to_vec()), Some(b"4".to_vec())]);
}

#[test]
fn waitaof_answers_when_the_write_is_on_disk() {
    let mut world = World::new(&[("appendfsync", "no")]);
    let client = world.client();
    world.send(client, &["SET a 1", "WAITAOF 1 0 0"]);
    assert_eq!(text(world.open(client)), "+OK\r\n");
    world.settle();
    assert_eq!(text(world.open(client)), "*2\r\n:1\r\n:0\r\n");
    world.send(client, &["WAITAOF 0 1 50"]);
    world.wait(60);
    assert_eq!(text(world.open(client)), "*2\r\n:1\r\n:0\r\n", "there are no replicas");
    world.send(client, &["WAITAOF 2 0 0", "WAITAOF 1 0 -1", "CONFIG SET appendonly no", "WAITAOF 1 0 0"]);
    assert_eq!(
        text(world.open(client)),
        "-ERR value is out of range, must be between 0 and 1\r\n-ERR timeout is negative\r\n+OK\r\n\
         -ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n"
    );
}

/// A server that loads what is on disk: its data as one digest, or why it did not start.
fn load() -> Result<Vec<u8>, String> {
    let mut server = start(&[("appendonly", "yes"), ("save", "")], Background::inline());
    for op in std::mem::take(&mut server.net_ops) {
        if let crate::server::NetOp::Fail(failure) = op {
            return Err(failure);
        }
    }
    server.keyspace.begin(START_MS);
    let mut digest = vec![0; 20];
    for entry in server.keyspace.entries(0) {
        let value = crate::value::digest::of_value(&entry);
        let one = crate::util::crc::sha1(&[entry.key(), &value].concat());
        digest.iter_mut().zip(one).for_each(|(a, b)| *a ^= b);
    }
    Ok(digest)
}

/// Writes a small log of several types with a checksum at its end; gives its last file.
fn small_log(world: &mut World) -> &'static str {
    let client = world.client();
    let requests = ["SET s 1", "RPUSH l a b c", "MULTI", "SADD m 1 2", "HSET h f v", "EXEC", "ZADD z 1 a"];
    world.send(client, &requests);
    assert!(world.server.flush_log_and_wait());
    "appendonlydir/appendonly.aof.1.incr.aof"
}

#[test]
fn every_flipped_byte_of_a_log_is_found_or_harmless() {
    let mut world = World::new(&[]);
    let path = small_log(&mut world);
    let whole = std::fs::read(path).unwrap();
    let digest = load().unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(path, &damaged).unwrap();
        match load() {
            Ok(found) if found == digest => {}
            // Only the line at the very end can look torn; then the log says what was cut.
            Ok(_) => {
                let kept = std::fs::metadata(path).unwrap().len() as usize;
                assert!(kept < damaged.len() && at > whole.len() - 90, "byte {at}: silent damage");
            }
            Err(failure) => {
                assert!(failure.starts_with("Corrupted data file"), "byte {at}: {failure}");
                assert!(failure.contains("1.incr.aof") && failure.contains("offset"), "{failure}");
            }
        }
    }
}

#[test]
fn every_cut_of_a_log_is_mended() {
    let mut world = World::new(&[]);
    let path = small_log(&mut world);
    let whole = std::fs::read(path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(path, &whole[..length]).unwrap();
        let first = load().unwrap_or_else(|failure| panic!("cut at {length}: {failure}"));
        assert!(std::fs::metadata(path).unwrap().len() <= length as u64);
        assert_eq!(load().unwrap(), first, "a mended log stays as it is");
    }
}

#[test]
fn random_damage_never_panics() {
    let mut world = World::new(&[]);
    let path = small_log(&mut world);
    let whole = std::fs::read(path).unwrap();
    let seed = 5;
    println!("seed {seed}");
    let mut rng = crate::util::rng::Rng::from_seed(seed);
    for _ in 0..300 {
        let mut damaged = whole.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(damaged.len() as u64) as usize;
            match rng.below(4) {
                0 => damaged[at] = rng.next_u64() as u8,
                1 => damaged.truncate(at.max(1)),
                2 => drop(damaged.splice(at..at, *b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\n1\r\n")),
                _ => drop(damaged.drain(at..(at + 9).min(damaged.len()))),
            }
            if damaged.is_empty() {
                damaged = whole.clone();
            }
        }
        std::fs::write(path, &damaged).unwrap();
        if let Err(failure) = load() {
            assert!(failure.contains("1.incr.aof"), "{failure}");
        }
    }
}

#[test]
fn the_log_is_loaded_again_with_functions_in_its_base() {
    let mut world = World::new(&[]);
    let client = world.client();
    let library =
        "FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('one', function() return 1 end)\"";
    world.send(client, &[library, "SET k 1", "BGREWRITEAOF"]);
    world.rewrite();
    world.open(client);
    world.send(client, &["DEBUG LOADAOF"]);
    for _ in 0..1000 {
        world.server.begin_turn();
        world.server.step_loading();
        world.server.before_sleep();
    }
    assert!(world.server.net_ops.is_empty(), "{:?}", world.server.net_ops);
    assert_eq!(ask(&mut world.server, "FCALL one 0"), ":1\r\n");
    assert_eq!(ask(&mut world.server, "GET k"), "$1\r\n1\r\n");
}

#[test]
fn shipments_wait_for_clients_not_for_their_commands() {
    let mut aof = super::Aof::default();
    let write = |aof: &mut super::Aof, last: &mut u64| {
        aof.note_writer(*last);
        aof.appended += 30;
        *last = aof.appended;
    };
    let (mut busy, mut other) = (0, 0);
    (0..1000).for_each(|_| write(&mut aof, &mut busy));
    assert_eq!(aof.writers, 1);
    write(&mut aof, &mut other);
    assert_eq!(aof.writers, 2);
    (aof.shipped, aof.writers) = (aof.appended, 0);
    (0..10).for_each(|_| write(&mut aof, &mut busy));
    write(&mut aof, &mut other);
    assert_eq!(aof.writers, 2);
}
