//! Measures that are not CPU per request: memory per key, stalls while growing, the lag of expiry, the cost
//! of idle connections.

use crate::client::{Client, Fleet, encode};
use crate::peer::Kind;
use crate::{Limit, Line, start};
use std::time::{Duration, Instant};

/// A probe gives finished lines.
type Probe = fn(&[Kind]) -> Vec<Line>;

/// All probes.
pub const PROBES: &[(&str, Probe)] = &[
    ("memory per key", memory_per_key),
    ("memory of collections", memory_of_collections),
    ("memory of small hashes", memory_of_small_hashes),
    ("stalls while freeing", crate::freeing::stalls),
    ("stalls while growing", stalls),
    ("expiry lag", expiry_lag),
    ("idle connections", idle_connections),
    ("PUBLISH to 100 subscribers", crate::publish::to_many),
    ("log: sets under always", crate::log::sets_under_always),
    ("log: gets beside sets", crate::log::gets_beside_sets),
    ("snapshots", crate::snapshots::rates),
    ("snapshots in the background", crate::snapshots::in_background),
];

/// The kinds that are measured.
pub fn all(rivals: &[Kind]) -> impl Iterator<Item = Kind> + '_ {
    std::iter::once(Kind::Aikv).chain(rivals.iter().copied())
}

/// A line of figures, ours first.
pub fn line(name: &str, figures: Vec<f64>, unit: &'static str, limit: Limit) -> Line {
    let (ours, theirs) = (figures[0], figures[1..].to_vec());
    Line { name: name.to_string(), ours, theirs, unit, limit }
}

/// Adds keys `from..to` of 16 bytes with values of 16 bytes.
fn fill(fleet: &mut Fleet, from: u64, to: u64) {
    let mut next = from;
    while next < to {
        fleet.round(100, 5, &mut |out| {
            let key = format!("k{next:015}");
            encode(out, &[b"SET", key.as_bytes(), b"abcdefghijklmnop"]);
            next += 1;
        });
    }
}

fn memory_per_key(rivals: &[Kind]) -> Vec<Line> {
    const KEYS: u64 = 1_000_000;
    let measure = |kind| {
        let peer = start(kind, &[]);
        let (mut client, mut fleet) = (Client::connect(peer.port), Fleet::connect(peer.port, 10));
        let before = client.info("memory", "used_memory");
        fill(&mut fleet, 0, KEYS);
        (client.info("memory", "used_memory") - before) / KEYS as f64
    };
    let figures = all(rivals).map(measure).collect();
    vec![line("memory per key, 16 B + 16 B, 1M keys", figures, "bytes", Limit::AtMost(56.0))]
}

/// A collection whose memory is measured.
pub struct Collection {
    name: &'static str,
    /// Elements it gets.
    len: u64,
    /// The command that adds some.
    command: &'static [u8],
    /// Writes the arguments that add element `n`.
    add: fn(&mut Vec<Vec<u8>>, u64),
    /// Most bytes an element may take.
    limit: f64,
}

impl Collection {
    /// Fills a key with elements.
    pub fn fill(&self, client: &mut Client, key: &[u8], len: u64) {
        const AT_ONCE: u64 = 100;
        for first in (0..len).step_by(AT_ONCE as usize) {
            let mut args = vec![self.command.to_vec(), key.to_vec()];
            (first..first + AT_ONCE).for_each(|n| (self.add)(&mut args, n));
            client.ask(&args.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}

/// All of them.
pub const COLLECTIONS: &[Collection] = &[
    Collection {
        name: "list of 1M elements of 16 B",
        len: 1_000_000,
        command: b"RPUSH",
        add: |args, n| args.push(format!("e{n:015}").into_bytes()),
        limit: 20.0,
    },
    Collection {
        name: "sorted set of 1M members of 16 B",
        len: 1_000_000,
        command: b"ZADD",
        add: |args, n| {
            // Not in order: a tree that is filled in order is packed better.
            let n = n * 999_983 % 5_000_000;
            args.push(n.to_string().into_bytes());
            args.push(format!("m{n:015}").into_bytes());
        },
        limit: 64.0,
    },
    Collection {
        name: "set of 1M members of 16 B",
        len: 1_000_000,
        command: b"SADD",
        add: |args, n| args.push(format!("m{n:015}").into_bytes()),
        limit: 34.0,
    },
    Collection {
        name: "hash of 1M fields of 16 B with 8 B",
        len: 1_000_000,
        command: b"HSET",
        add: |args, n| args.extend([format!("f{n:015}").into_bytes(), format!("v{n:07}").into_bytes()]),
        limit: 50.0,
    },
];

fn memory_of_small_hashes(rivals: &[Kind]) -> Vec<Line> {
    const KEYS: u64 = 200_000;
    const FIELDS: [&str; 5] = ["name", "mail", "city", "born", "seen"];
    let measure = |kind| {
        let peer = start(kind, &[]);
        let (mut client, mut fleet) = (Client::connect(peer.port), Fleet::connect(peer.port, 10));
        let before = client.info("memory", "used_memory");
        let mut next = 0;
        while next < KEYS {
            fleet.round(100, 4, &mut |out| {
                let (key, value) = (format!("user:{next:011}"), format!("v{next:07}"));
                let mut args = vec![&b"HSET"[..], key.as_bytes()];
                args.extend(FIELDS.iter().flat_map(|field| [field.as_bytes(), value.as_bytes()]));
                encode(out, &args);
                next += 1;
            });
        }
        (client.info("memory", "used_memory") - before) / KEYS as f64
    };
    let figures = all(rivals).map(measure).collect();
    vec![line("hash of 5 fields of 4 B with 8 B", figures, "bytes a key", Limit::AtMost(130.0))]
}

fn memory_of_collections(rivals: &[Kind]) -> Vec<Line> {
    let measure = |collection: &Collection, kind| {
        let peer = start(kind, &[]);
        let mut client = Client::connect(peer.port);
        let before = client.info("memory", "used_memory");
        collection.fill(&mut client, b"collection", collection.len);
        (client.info("memory", "used_memory") - before) / collection.len as f64
    };
    let line_of = |collection: &Collection| {
        let figures = all(rivals).map(|kind| measure(collection, kind)).collect();
        line(collection.name, figures, "bytes each", Limit::AtMost(collection.limit))
    };
    COLLECTIONS.iter().map(line_of).collect()
}

/// Counts inserts that took the server over a millisecond while it grows to ten million keys. A shared
/// machine stops any process now and then, and memory never touched before costs what the hypervisor takes to
/// find it: overwriting the same ten million keys, which grows nothing and spends as long inside commands,
/// shows how often.
fn stalls(_: &[Kind]) -> Vec<Line> {
    const KEYS: u64 = 10_000_000;
    let peer = start(Kind::Aikv, &["--slowlog-log-slower-than", "1000", "--slowlog-max-len", "100000"]);
    let (mut client, mut fleet) = (Client::connect(peer.port), Fleet::connect(peer.port, 10));
    let mut slow_sets = || -> f64 {
        fill(&mut fleet, 0, KEYS);
        let count = client.line("SLOWLOG LEN");
        client.line("SLOWLOG RESET");
        count.trim_start_matches(':').trim().parse().unwrap_or(f64::NAN)
    };
    let (inserts, overwrites) = (slow_sets(), slow_sets());
    vec![
        line("inserts over 1 ms, growing to 10M keys", vec![inserts], "count", Limit::AtMost(overwrites)),
        line("overwrites over 1 ms, of the same 10M keys", vec![overwrites], "count", Limit::None),
    ]
}

/// Removes a thousand keys at known times beside a million other volatile ones and looks how late each goes.
fn expiry_lag(rivals: &[Kind]) -> Vec<Line> {
    const OTHERS: u64 = 1_000_000;
    const DUE: u64 = 1000;
    let measure = |kind| {
        let peer = start(kind, &[]);
        let (mut client, mut fleet) = (Client::connect(peer.port), Fleet::connect(peer.port, 10));
        let mut next = 0;
        while next < OTHERS {
            fleet.round(100, 5, &mut |out| {
                let (key, ttl) = (format!("other{next}"), format!("{}", 1000 + next % 3000));
                encode(out, &[b"SET", key.as_bytes(), b"v", b"EX", ttl.as_bytes()]);
                next += 1;
            });
        }
        let mut deadlines = Vec::new();
        for i in 0..DUE {
            let ttl_ms = 1000 + 2 * i;
            let (key, ttl) = (format!("due{i}"), ttl_ms.to_string());
            deadlines.push(Instant::now() + Duration::from_millis(ttl_ms));
            client.ask(&[b"SET", key.as_bytes(), b"v", b"PX", ttl.as_bytes()]);
        }
        lag_p99(&mut client, &deadlines, OTHERS)
    };
    let figures = all(rivals).map(measure).collect();
    vec![line("expiry lag p99, 1000 of 1M volatile keys", figures, "ms", Limit::AtMost(20.0))]
}

/// Watches DBSIZE fall and returns the 99th percentile of the lag in milliseconds.
fn lag_p99(client: &mut Client, deadlines: &[Instant], others: u64) -> f64 {
    const PATIENCE: Duration = Duration::from_secs(8);
    let (begin, due) = (Instant::now(), deadlines.len() as u64);
    let mut lags: Vec<f64> = Vec::new();
    while (lags.len() as u64) < due && begin.elapsed() < PATIENCE {
        let size: u64 = client.line("DBSIZE").trim_start_matches(':').trim().parse().unwrap_or(0);
        let gone = (others + due).saturating_sub(size).min(due);
        while (lags.len() as u64) < gone {
            // Keys fall due in the order in which they were set.
            lags.push(deadlines[lags.len()].elapsed().as_secs_f64() * 1000.0);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    // Keys that did not go in time count with the patience.
    lags.resize(due as usize, PATIENCE.as_secs_f64() * 1000.0);
    lags.sort_by(f64::total_cmp);
    lags[(due as usize * 99) / 100]
}

/// Throughput of 50 busy connections, alone and beside ten thousand idle ones: of several short drives the
/// best counts, which is the one that least else on the machine disturbed.
fn idle_connections(rivals: &[Kind]) -> Vec<Line> {
    const IDLE: usize = 10_000;
    let measure = |kind| {
        let peer = start(kind, &["--maxclients", "20000"]);
        let mut busy = Fleet::connect(peer.port, 50);
        let mut drive = || -> f64 {
            let (begin, mut requests) = (Instant::now(), 0);
            while begin.elapsed() < Duration::from_millis(250) {
                requests += busy.round(1, 7, &mut |out| out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"));
            }
            requests as f64 / begin.elapsed().as_secs_f64()
        };
        let mut best_drive = || (0..12).map(|_| drive()).fold(0.0, f64::max);
        let before = best_drive();
        let idle = Fleet::connect(peer.port, IDLE);
        std::thread::sleep(Duration::from_secs(3));
        let beside = best_drive();
        drop(idle);
        std::thread::sleep(Duration::from_secs(1));
        (1.0 - beside / before.max(best_drive())) * 100.0
    };
    raise_own_limit();
    let figures = all(rivals).map(measure).collect();
    vec![line("throughput lost beside 10k idle clients", figures, "%", Limit::AtMost(10.0))]
}

/// The client needs a descriptor for each connection.
fn raise_own_limit() {
    aikv::sys::process::raise_open_files(30_000);
}
