//! Measures of snapshots: what saving and loading a key costs, and what a snapshot in the background costs
//! the clients of a server.

use crate::client::{Client, Fleet, encode};
use crate::peer::Kind;
use crate::probes::{all, line};
use crate::{Limit, Line, median};
use std::time::{Duration, Instant};

/// A data set.
struct Data {
    name: &'static str,
    keys: u64,
    /// Writes the command that makes key `n`.
    make: fn(&mut Vec<u8>, u64),
}

const DATA: &[Data] = &[
    Data { name: "1M strings of 64 B", keys: 1_000_000, make: string },
    Data { name: "100k hashes of 10 fields", keys: 100_000, make: hash },
    Data { name: "100k lists of 30 elements", keys: 100_000, make: list },
    Data { name: "2k sorted sets of 200 members", keys: 2_000, make: zset },
    Data { name: "2k sets of 200 members", keys: 2_000, make: set },
];

/// At least 1.3 times Redis' save rate, 1.5 times its load rate.
const SAVE_LIMIT: f64 = 1.0 / 1.3;
const LOAD_LIMIT: f64 = 1.0 / 1.5;
/// Rounds of saving and loading.
const ROUNDS: usize = 3;

fn string(out: &mut Vec<u8>, n: u64) {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = format!("{mixed:016x}{:016x}{:032}", mixed.rotate_left(17), n);
    encode(out, &[b"SET", format!("key:{n:012}").as_bytes(), value.as_bytes()]);
}

/// A command with a key and `count` arguments, which `push` makes.
fn many(out: &mut Vec<u8>, command: &str, n: u64, count: u64, push: impl Fn(u64, &mut Vec<Vec<u8>>)) {
    let mut words = vec![command.as_bytes().to_vec(), format!("key:{n:012}").into_bytes()];
    (0..count).for_each(|i| push(i, &mut words));
    encode(out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

fn hash(out: &mut Vec<u8>, n: u64) {
    many(out, "HSET", n, 10, |i, words| {
        words.extend([format!("field:{i}").into_bytes(), format!("value:{}", n * 31 + i).into_bytes()]);
    });
}

fn list(out: &mut Vec<u8>, n: u64) {
    many(out, "RPUSH", n, 30, |i, words| words.push(format!("element:{}", n * 17 + i).into_bytes()));
}

fn zset(out: &mut Vec<u8>, n: u64) {
    many(out, "ZADD", n, 200, |i, words| {
        words.extend([format!("{}", i * 7 % 200).into_bytes(), format!("member:{i:08}").into_bytes()]);
    });
}

fn set(out: &mut Vec<u8>, n: u64) {
    many(out, "SADD", n, 200, |i, words| words.push(format!("member:{i:08}").into_bytes()));
}

fn fill(port: u16, data: &Data) {
    let mut client = Client::connect(port);
    let mut next = 0;
    while next < data.keys {
        let mut out = Vec::new();
        let batch = 100.min(data.keys - next);
        (next..next + batch).for_each(|n| (data.make)(&mut out, n));
        client.send_all(&out, batch as usize);
        next += batch;
    }
}

/// CPU of SAVE, and of a start that loads the file, in microseconds a key.
pub fn rates(rivals: &[Kind]) -> Vec<Line> {
    let mut lines = Vec::new();
    for data in DATA {
        let (mut saves, mut loads) = (Vec::new(), Vec::new());
        for kind in all(rivals) {
            let (save, load) = measure(kind, data);
            saves.push(save);
            loads.push(load);
        }
        let save = format!("SAVE, {}", data.name);
        lines.push(line(&save, saves, "µs CPU a key", Limit::Ratio(SAVE_LIMIT)));
        let load = format!("load, {}", data.name);
        lines.push(line(&load, loads, "µs CPU a key", Limit::Ratio(LOAD_LIMIT)));
    }
    lines
}

fn measure(kind: Kind, data: &Data) -> (f64, f64) {
    let mut peer = crate::start(kind, &[]);
    fill(peer.port, data);
    let a_key = |ns: u64| ns as f64 / 1000.0 / data.keys as f64;
    let mut saves = Vec::new();
    for _ in 0..ROUNDS {
        let before = peer.cpu_ns();
        assert_eq!(Client::connect(peer.port).line("SAVE").trim(), "+OK");
        saves.push(a_key(peer.cpu_ns() - before));
    }
    let mut loads = Vec::new();
    for _ in 0..ROUNDS {
        peer = peer.restart(&[]);
        let mut client = Client::connect(peer.port);
        while client.info("persistence", "loading") != 0.0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        loads.push(a_key(peer.cpu_ns()));
        let keys = client.line("DBSIZE");
        assert_eq!(keys.trim(), format!(":{}", data.keys), "everything was loaded");
    }
    (median(saves), median(loads))
}

/// The longest wait of a client that writes while a snapshot of three million keys is taken, and the memory
/// that copy-on-write costs meanwhile.
pub fn in_background(rivals: &[Kind]) -> Vec<Line> {
    const KEYS: u64 = 3_000_000;
    let (mut waits, mut quiet, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for kind in all(rivals) {
        let peer = crate::start(kind, &[]);
        let mut fleet = Fleet::connect(peer.port, 10);
        let mut next = 0;
        while next < KEYS {
            fleet.round(100, 5, &mut |out| {
                string(out, next);
                next += 1;
            });
        }
        let (mut writer, mut client) = (Client::connect(peer.port), Client::connect(peer.port));
        let idle = || false;
        quiet.push(longest_wait(&mut writer, KEYS, Duration::from_secs(2), idle));
        client.line("BGSAVE");
        let running = || client.info("persistence", "rdb_bgsave_in_progress") != 0.0;
        waits.push(longest_wait(&mut writer, KEYS, Duration::from_secs(120), running));
        memory.push(client.info("persistence", "rdb_last_cow_size") / KEYS as f64);
    }
    vec![
        line("longest SET beside nothing, 3M keys", quiet, "ms", Limit::None),
        line("longest SET beside BGSAVE, 3M keys", waits, "ms", Limit::None),
        line("memory of BGSAVE beside SETs, 3M keys", memory, "bytes a key", Limit::Ratio(1.1)),
    ]
}

/// Overwrites random keys one by one, at most for this long, and as long as `running` says so when it is
/// asked now and then; the longest wait in milliseconds.
fn longest_wait(writer: &mut Client, keys: u64, at_most: Duration, mut running: impl FnMut() -> bool) -> f64 {
    let (begin, mut longest, mut seed) = (Instant::now(), Duration::ZERO, 1u64);
    let asks = at_most > Duration::from_secs(10);
    let mut asked = Instant::now();
    while begin.elapsed() < at_most {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut out = Vec::new();
        string(&mut out, (seed >> 20) % keys);
        let sent = Instant::now();
        writer.send_all(&out, 1);
        longest = longest.max(sent.elapsed());
        if asks && asked.elapsed() > Duration::from_millis(100) {
            asked = Instant::now();
            if !running() {
                break;
            }
        }
    }
    longest.as_secs_f64() * 1000.0
}
