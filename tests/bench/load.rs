//! The rows: one kind of request each, by the CPU a server spends on one.

use crate::client::{Client, Fleet, encode};
use crate::peer::{Kind, Peer};
use crate::probes::all;
use crate::{Limit, Line, median};
use std::time::{Duration, Instant};

/// Keys that requests pick from.
const KEYS: u64 = 1_000_000;
/// Connections.
const CONNECTIONS: usize = 50;
/// How long one server is driven in one round.
const ROUND: Duration = Duration::from_millis(700);

/// A kind of request.
pub struct Row {
    /// Its name in the table.
    pub name: &'static str,
    /// Requests sent at once on each connection.
    pub pipeline: usize,
    /// Fills the server.
    pub prepare: fn(&mut Client, u16),
    /// Makes a request; the number is random.
    pub make: fn(&mut Vec<u8>, u64),
    /// Bytes of a reply.
    pub reply: usize,
    /// What the ratio has to stay below.
    pub limit: f64,
}

const VALUE: &[u8; 64] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// All rows.
pub const ROWS: &[Row] = &[
    Row { name: "GET pipeline 64", pipeline: 64, prepare: strings, make: get, reply: 71, limit: 0.40 },
    Row { name: "SET pipeline 64", pipeline: 64, prepare: strings, make: set, reply: 5, limit: 0.40 },
    Row { name: "GET pipeline 16", pipeline: 16, prepare: strings, make: get, reply: 71, limit: 0.55 },
    Row { name: "SET pipeline 16", pipeline: 16, prepare: strings, make: set, reply: 5, limit: 0.55 },
    Row { name: "GET pipeline 1", pipeline: 1, prepare: strings, make: get, reply: 71, limit: 0.95 },
    Row { name: "SET pipeline 1", pipeline: 1, prepare: strings, make: set, reply: 5, limit: 0.95 },
    Row { name: "INCR pipeline 64", pipeline: 64, prepare: counters, make: incr, reply: 10, limit: 0.40 },
    Row { name: "ZADD pipeline 64", pipeline: 64, prepare: zset, make: zadd, reply: 4, limit: 0.50 },
    Row { name: "ZRANGE_100", pipeline: 16, prepare: zset, make: zrange_100, reply: 2306, limit: 0.50 },
    Row {
        name: "EVAL pipeline 16",
        pipeline: 16,
        prepare: strings_and_script,
        make: eval,
        reply: 71,
        limit: 0.50,
    },
    Row {
        name: "EVALSHA pipeline 16",
        pipeline: 16,
        prepare: strings_and_script,
        make: evalsha,
        reply: 71,
        limit: 0.50,
    },
    Row { name: "LPUSH pipeline 64", pipeline: 64, prepare: long_list, make: lpush, reply: 11, limit: 0.50 },
    Row {
        name: "LRANGE_100 pipeline 16",
        pipeline: 16,
        prepare: list,
        make: lrange,
        reply: 2306,
        limit: 0.50,
    },
    Row {
        name: "HSET pipeline 64",
        pipeline: 64,
        prepare: big_hash,
        make: |out, n| encode(out, &[b"HSET", b"hash", &key(n), VALUE_16]),
        reply: 4,
        limit: 0.50,
    },
    Row {
        name: "SADD pipeline 64",
        pipeline: 64,
        prepare: |_, _| {},
        make: |out, n| encode(out, &[b"SADD", b"set", format!("{n:016x}").as_bytes()]),
        reply: 4,
        limit: 0.50,
    },
    Row {
        name: "HGETALL_50 pipeline 16",
        pipeline: 16,
        prepare: hash_of_50,
        make: |out, _| encode(out, &[b"HGETALL", b"hash"]),
        reply: 6 + 50 * (14 + 23),
        limit: 0.50,
    },
    Row {
        name: "MULTI of 10 SETs, pipeline 4",
        pipeline: 4,
        prepare: strings,
        make: multi,
        reply: 5 + 10 * 9 + 5 + 10 * 5,
        limit: 0.50,
    },
    Row { name: "XADD pipeline 64", pipeline: 64, prepare: stream, make: xadd, reply: 31, limit: 0.60 },
];

/// The script of the rows EVAL and EVALSHA.
const SCRIPT: &[u8] = b"return redis.call('get',KEYS[1])";
/// Its digest.
const SHA: &[u8] = b"fd758d1589d044dd850a6f05d52f2eefd27f033f";

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let digits = format!("{:012}", n % KEYS);
    key[4..].copy_from_slice(digits.as_bytes());
    key
}

fn strings(_: &mut Client, port: u16) {
    fill(port, VALUE);
}

/// Counters of seven digits, which stay that long, so that the length of replies is known.
fn counters(_: &mut Client, port: u16) {
    fill(port, b"1000000");
}

fn fill(port: u16, value: &[u8]) {
    let mut next = 0;
    let mut fleet = Fleet::connect(port, 10);
    while next < KEYS {
        fleet.round(100, 5, &mut |out| {
            encode(out, &[b"SET", &key(next), value]);
            next += 1;
        });
    }
}

fn strings_and_script(client: &mut Client, port: u16) {
    strings(client, port);
    client.ask(&[b"SCRIPT", b"LOAD", SCRIPT]);
}

fn eval(out: &mut Vec<u8>, n: u64) {
    encode(out, &[b"EVAL", SCRIPT, b"1", &key(n)]);
}

fn evalsha(out: &mut Vec<u8>, n: u64) {
    encode(out, &[b"EVALSHA", SHA, b"1", &key(n)]);
}

fn incr(out: &mut Vec<u8>, n: u64) {
    encode(out, &[b"INCR", &key(n)]);
}

fn get(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$16\r\n");
    out.extend_from_slice(&key(n));
    out.extend_from_slice(b"\r\n");
}

fn set(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$16\r\n");
    out.extend_from_slice(&key(n));
    out.extend_from_slice(b"\r\n$64\r\n");
    out.extend_from_slice(VALUE);
    out.extend_from_slice(b"\r\n");
}

/// A transaction of ten SETs counts as one request.
fn multi(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
    (0..10).for_each(|i| set(out, n.wrapping_add(i * 7919)));
    out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
}

/// A sorted set of a million members.
fn zset(_: &mut Client, port: u16) {
    let mut next = 0;
    let mut fleet = Fleet::connect(port, 10);
    while next < KEYS {
        fleet.round(100, 4, &mut |out| {
            // Neither in the order of their names nor in that of their scores.
            let n = next * 999_983 % KEYS;
            encode(out, &[b"ZADD", b"zset", (n * 7919 % KEYS).to_string().as_bytes(), &key(n)]);
            next += 1;
        });
    }
}

/// Gives a member another score.
fn zadd(out: &mut Vec<u8>, n: u64) {
    encode(out, &[b"ZADD", b"zset", (n / KEYS % KEYS).to_string().as_bytes(), &key(n)]);
}

/// Reads a hundred members from anywhere.
fn zrange_100(out: &mut Vec<u8>, n: u64) {
    let start = n % (KEYS - 100);
    encode(out, &[b"ZRANGE", b"zset", start.to_string().as_bytes(), (start + 99).to_string().as_bytes()]);
}

const VALUE_16: &[u8; 16] = b"a value of a few";

/// A hash of a million fields.
fn big_hash(_: &mut Client, port: u16) {
    let mut next = 0;
    let mut fleet = Fleet::connect(port, 10);
    while next < KEYS {
        fleet.round(100, 4, &mut |out| {
            encode(out, &[b"HSET", b"hash", &key(next), VALUE_16]);
            next += 1;
        });
    }
}

fn hash_of_50(client: &mut Client, _: u16) {
    for n in 10..60 {
        client.ask(&[b"HSET", b"hash", format!("field:{n}").as_bytes(), VALUE_16]);
    }
}

const ELEMENT: &[u8; 16] = b"an element of it";

/// Elements of the list that is pushed to: so many that its length keeps its number of digits.
const LONG_LIST: usize = 10_000_000;

fn long_list(client: &mut Client, _: u16) {
    push_elements(client, LONG_LIST);
}

fn list(client: &mut Client, _: u16) {
    push_elements(client, 1000);
}

fn push_elements(client: &mut Client, count: usize) {
    const AT_ONCE: usize = 1000;
    let mut request: Vec<&[u8]> = vec![b"RPUSH", b"list"];
    request.resize(2 + AT_ONCE, ELEMENT);
    (0..count / AT_ONCE).for_each(|_| drop(client.ask(&request)));
}

fn lpush(out: &mut Vec<u8>, _: u64) {
    encode(out, &[b"LPUSH", b"list", ELEMENT]);
}

fn lrange(out: &mut Vec<u8>, _: u64) {
    encode(out, &[b"LRANGE", b"list", b"0", b"99"]);
}

/// A stream with an ID so high that all IDs of new entries follow from it and are of the same length.
fn stream(client: &mut Client, _: u16) {
    client.ask(&[b"XADD", b"stream", b"9999999999999-1000000000", b"sensor", b"1", b"value", b"2"]);
}

fn xadd(out: &mut Vec<u8>, _: u64) {
    encode(out, &[b"XADD", b"stream", b"*", b"sensor", b"1234", b"value", ELEMENT]);
}

/// Runs a row.
pub fn run(row: &Row, rivals: &[Kind], rounds: usize) -> Line {
    let mut driven: Vec<Driven> = all(rivals).map(|kind| Driven::start(kind, row)).collect();
    in_turn(row.name, row.limit, rounds, &mut driven, |one| one.drive(row))
}

/// The servers take turns, each figure is the median of its rounds.
pub fn in_turn<T>(
    name: &str,
    limit: f64,
    rounds: usize,
    driven: &mut [T],
    mut drive: impl FnMut(&mut T) -> f64,
) -> Line {
    let mut figures = vec![Vec::new(); driven.len()];
    // The first round warms up and does not count.
    for round in 0..=rounds {
        for (one, figures) in driven.iter_mut().zip(&mut figures) {
            let us = drive(one);
            if round > 0 {
                figures.push(us);
            }
        }
    }
    let mut medians = figures.into_iter().map(median);
    let ours = medians.next().expect("AiKv is always there");
    let name = name.to_string();
    Line { name, ours, theirs: medians.collect(), unit: "µs CPU", limit: Limit::Ratio(limit) }
}

/// A server, filled and connected to.
struct Driven {
    peer: Peer,
    fleet: Fleet,
    seed: u64,
}

impl Driven {
    fn start(kind: Kind, row: &Row) -> Driven {
        let peer = Peer::start(kind, &[]);
        (row.prepare)(&mut Client::connect(peer.port), peer.port);
        let fleet = Fleet::connect(peer.port, CONNECTIONS);
        Driven { peer, fleet, seed: 1 }
    }

    /// Microseconds of server CPU per request.
    fn drive(&mut self, row: &Row) -> f64 {
        let (begin, cpu) = (Instant::now(), self.peer.cpu_ns());
        let mut requests = 0;
        let seed = &mut self.seed;
        while begin.elapsed() < ROUND {
            requests += self.fleet.round(row.pipeline, row.reply, &mut |out| {
                *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (row.make)(out, *seed >> 20);
            });
        }
        (self.peer.cpu_ns() - cpu) as f64 / 1000.0 / requests as f64
    }
}
