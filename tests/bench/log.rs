//! The append-only log under `appendfsync always`: how many writes share a sync, and what reads of other keys
//! pay for it. Each connection sends its next request when it has its reply. Where it is the rate of writes
//! that counts, one thread serves all connections: fifty threads would cost more than either server.

use crate::client::{Client, encode};
use crate::peer::Kind;
use crate::probes::{all, line};
use crate::{Limit, Line, median, start};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long one server is driven in one round.
const ROUND: Duration = Duration::from_secs(2);
/// Rounds; the servers take turns in each.
const ROUNDS: usize = 5;

/// Connections of one kind.
struct Group {
    connections: usize,
    make: fn(&mut Vec<u8>, u64),
}

const SETS: fn(&mut Vec<u8>, u64) = |out, n| encode(out, &[b"SET", key("w", n).as_bytes(), &[b'v'; 64]]);
const GETS: fn(&mut Vec<u8>, u64) = |out, n| encode(out, &[b"GET", key("r", n).as_bytes()]);

fn key(kind: &str, n: u64) -> String {
    format!("{kind}:{:06}", n % 100_000)
}

/// Drives a server with groups of connections; requests per second of each group.
fn drive(port: u16, groups: &[Group]) -> Vec<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Vec<Arc<AtomicU64>> = groups.iter().map(|_| Arc::default()).collect();
    let mut threads = Vec::new();
    for (group, count) in groups.iter().zip(&counts) {
        for connection in 0..group.connections {
            let (stop, count, make) = (Arc::clone(&stop), Arc::clone(count), group.make);
            let mut client = Client::connect(port);
            threads.push(std::thread::spawn(move || {
                let (mut request, mut n) = (Vec::new(), connection as u64);
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    request.clear();
                    make(&mut request, n >> 33);
                    client.send_all(&request, 1);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    let begin = Instant::now();
    std::thread::sleep(ROUND);
    let figures = counts.iter().map(|count| count.load(Ordering::Relaxed) as f64);
    let seconds = begin.elapsed().as_secs_f64();
    let figures = figures.map(|count| count / seconds).collect();
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("no connection fails"));
    figures
}

/// SETs of 50 connections by one thread, each with so many requests under way; requests per second.
fn drive_sets(port: u16, pipeline: usize) -> f64 {
    const REPLY: &[u8] = b"+OK\r\n";
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let mut poll = Poll::new().expect("epoll");
    let connect = |i| {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        poll.registry().register(&mut stream, Token(i), Interest::READABLE).expect("epoll takes it");
        // Bytes of replies that are still to come.
        (stream, 0)
    };
    let mut connections: Vec<(TcpStream, usize)> = (0..50).map(connect).collect();
    std::thread::sleep(Duration::from_millis(50));
    let (mut n, mut count, mut request) = (1u64, 0, Vec::new());
    let mut send = |(stream, missing): &mut (TcpStream, usize)| {
        request.clear();
        for _ in 0..pipeline {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            SETS(&mut request, n >> 33);
        }
        *missing = pipeline * REPLY.len();
        stream.write_all(&request).expect("there is room for a few requests");
    };
    connections.iter_mut().for_each(&mut send);
    let (begin, mut events, mut chunk) = (Instant::now(), Events::with_capacity(128), [0; 4096]);
    while begin.elapsed() < ROUND {
        poll.poll(&mut events, Some(ROUND)).expect("epoll waits");
        for event in &events {
            let connection = &mut connections[event.token().0];
            match connection.0.read(&mut chunk) {
                Ok(read) => {
                    assert!(read > 0 && !chunk[..read].contains(&b'-'), "no request fails");
                    connection.1 -= read;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error}"),
            }
            if connection.1 == 0 {
                count += pipeline;
                send(connection);
            }
        }
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

const OPTIONS: &[&str] = &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--appendfsync"];

/// SETs of 50 connections under `always`, beside the rivals. The same under `no` shows what the connections
/// and the client alone allow.
pub fn sets_under_always(rivals: &[Kind]) -> Vec<Line> {
    let row = |policy, pipeline, limit| {
        let options = [OPTIONS, &[policy]].concat();
        let peers: Vec<_> = all(rivals).map(|kind| start(kind, &options)).collect();
        let mut figures = vec![Vec::new(); peers.len()];
        for _ in 0..ROUNDS {
            for (peer, figures) in peers.iter().zip(&mut figures) {
                figures.push(drive_sets(peer.port, pipeline));
            }
        }
        let figures = figures.into_iter().map(median).collect();
        let name = format!("SET, fsync {policy}, 50 clients, pipeline {pipeline}");
        line(&name, figures, "requests/s", limit)
    };
    vec![
        row("always", 1, Limit::RatioAtLeast(2.0)),
        row("no", 1, Limit::None),
        row("always", 16, Limit::RatioAtLeast(2.0)),
    ]
}

/// GETs of 50 connections while 8 others SET: under `always` as a share of the same under `no`.
pub fn gets_beside_sets(_: &[Kind]) -> Vec<Line> {
    let peers = ["always", "no"].map(|policy| start(Kind::Aikv, &[OPTIONS, &[policy]].concat()));
    let mut figures = [Vec::new(), Vec::new()];
    let mix = [Group { connections: 50, make: GETS }, Group { connections: 8, make: SETS }];
    for _ in 0..ROUNDS {
        for (peer, figures) in peers.iter().zip(&mut figures) {
            figures.push(drive(peer.port, &mix)[0]);
        }
    }
    let [always, no] = figures.map(median);
    let name = "GET of 50 clients beside 8 SETs: always, against no";
    // The second column is our own server under `no`.
    vec![Line {
        name: name.to_owned(),
        ours: always,
        theirs: vec![no],
        unit: "requests/s",
        limit: Limit::RatioAtLeast(0.8),
    }]
}
