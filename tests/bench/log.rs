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

/// SETs of so many connections by one thread; requests per second.
fn drive_sets(port: u16, connections: usize) -> f64 {
    const REPLY: &[u8] = b"+OK\r\n";
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let mut poll = Poll::new().expect("epoll");
    let connect = |i| {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        poll.registry().register(&mut stream, Token(i), Interest::READABLE).expect("epoll takes it");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..connections).map(connect).collect();
    std::thread::sleep(Duration::from_millis(50));
    let (mut n, mut count, mut request) = (1u64, 0u64, Vec::new());
    let mut send = |stream: &mut TcpStream| {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        request.clear();
        SETS(&mut request, n >> 33);
        stream.write_all(&request).expect("there is room for one request");
    };
    streams.iter_mut().for_each(&mut send);
    let (begin, mut events, mut chunk) = (Instant::now(), Events::with_capacity(128), [0; 64]);
    while begin.elapsed() < ROUND {
        poll.poll(&mut events, Some(ROUND)).expect("epoll waits");
        for event in &events {
            let stream = &mut streams[event.token().0];
            match stream.read(&mut chunk) {
                Ok(read) => assert_eq!(&chunk[..read], REPLY),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error}"),
            }
            count += 1;
            send(stream);
        }
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

const OPTIONS: &[&str] = &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--appendfsync"];

/// SETs of 50 connections under `always`, beside the rivals.
pub fn sets_under_always(rivals: &[Kind]) -> Vec<Line> {
    let options = [OPTIONS, &["always"]].concat();
    let kinds: Vec<Kind> = all(rivals).collect();
    let peers: Vec<_> = kinds.iter().map(|kind| start(*kind, &options)).collect();
    let mut figures = vec![Vec::new(); peers.len()];
    for _ in 0..ROUNDS {
        for (peer, figures) in peers.iter().zip(&mut figures) {
            figures.push(drive_sets(peer.port, 50));
        }
    }
    let figures = figures.into_iter().map(median).collect();
    vec![line("SET, fsync always, 50 clients", figures, "requests/s", Limit::RatioAtLeast(2.0))]
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
