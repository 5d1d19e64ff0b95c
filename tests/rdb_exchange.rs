//! Snapshots and DUMP payloads, exchanged with a real redis-server (7.0): what one saves, the other loads,
//! and both then have the same digest. Runs when redis-server is on PATH. The seed can be given with
//! AIKV_SEED.

#[path = "support/port.rs"]
mod port;

use aikv::util::rng::Rng;
use port::free_port;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Keys of one exchange.
const KEYS: u64 = 150;

/// A running server.
struct Server {
    child: Child,
    stream: BufReader<TcpStream>,
}

/// A reply; arrays are flattened.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Line(String),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

impl Reply {
    fn bytes(self) -> Vec<u8> {
        match self {
            Reply::Bulk(Some(bytes)) => bytes,
            other => panic!("{other:?} instead of bytes"),
        }
    }

    fn line(&self) -> &str {
        match self {
            Reply::Line(line) => line,
            other => panic!("{other:?} instead of a line"),
        }
    }
}

impl Server {
    fn start(program: &str, dir: &Path) -> Server {
        let port = free_port();
        let mut command = Command::new(program);
        command.current_dir(dir).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--enable-debug-command", "yes"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let begin = Instant::now();
        let stream = loop {
            assert!(
                child.try_wait().expect("a working server and folder").is_none(),
                "{program} ended: it could not load the data"
            );
            assert!(begin.elapsed() < Duration::from_secs(30), "{program} does not answer");
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut server = Server { child, stream: BufReader::new(stream) };
        while server.call(&[b"PING"]) != Reply::Line("+PONG".to_string()) {
            assert!(begin.elapsed() < Duration::from_secs(30), "{program} goes on loading");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn aikv(dir: &Path) -> Server {
        Server::start(env!("CARGO_BIN_EXE_aikv"), dir)
    }

    fn redis(dir: &Path) -> Server {
        Server::start("redis-server", dir)
    }

    fn call(&mut self, args: &[&[u8]]) -> Reply {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).expect("the server takes requests");
        self.reply()
    }

    fn words(&mut self, line: &str) -> Reply {
        self.call(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        assert!(self.stream.read_line(&mut line).expect("the server answers") > 0, "the server has gone");
        let line = line.trim_end().to_string();
        let len = || line[1..].parse::<i64>().expect("a length");
        match line.as_bytes()[0] {
            b'$' if len() < 0 => Reply::Bulk(None),
            b'$' => {
                let mut bytes = vec![0; len() as usize + 2];
                self.stream.read_exact(&mut bytes).expect("the server answers");
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(Some(bytes))
            }
            b'*' => Reply::Array((0..len()).map(|_| self.reply()).collect()),
            _ => Reply::Line(line),
        }
    }

    /// Runs a command that must not fail.
    fn must(&mut self, args: &[&[u8]]) -> Reply {
        let reply = self.call(args);
        if let Reply::Line(line) = &reply {
            let words: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
            assert!(!line.starts_with('-'), "{line} to {words:?}");
        }
        reply
    }

    fn digest(&mut self) -> String {
        self.words("DEBUG DIGEST").line().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

fn redis_is_there() -> bool {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("redis-server is not on PATH: nothing to exchange with");
    }
    found
}

fn seeded() -> Rng {
    let seed = std::env::var("AIKV_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("AIKV_SEED={seed}");
    Rng::from_seed(seed)
}

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
        1 => vec![b'a' + rng.below(3) as u8; rng.below(3000) as usize],
        2 => (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect(),
        3 => Vec::new(),
        _ => format!("word:{}", rng.below(200)).into_bytes(),
    }
}

/// Gives a key a random value of a random type.
fn fill_key(server: &mut Server, rng: &mut Rng, key: &[u8]) {
    let elements = 1 + if rng.below(3) == 0 { rng.below(600) } else { rng.below(12) };
    let kind = rng.below(6);
    let small = rng.below(2) == 0;
    for i in 0..if kind == 0 { 1 } else { elements } {
        let element = if small { format!("e{}", rng.below(500)).into_bytes() } else { text(rng) };
        // Scores that are no integers have another digest in Redis 7.0; see `FLOATS`.
        let number = (rng.below(2000) as i64 - 1000).to_string();
        match kind {
            0 => drop(server.must(&[b"SET", key, &element])),
            1 => drop(server.must(&[b"RPUSH", key, &element])),
            2 if rng.below(2) == 0 => drop(server.must(&[b"SADD", key, number.as_bytes()])),
            2 => drop(server.must(&[b"SADD", key, if small { number.as_bytes() } else { &element }])),
            3 => drop(server.must(&[b"ZADD", key, number.as_bytes(), &element])),
            4 => drop(server.must(&[b"HSET", key, &element, number.as_bytes()])),
            _ => {
                let id = format!("{}-{}", 1000 + i / 3, i % 3 + 1);
                server.must(&[b"XADD", key, id.as_bytes(), b"f", &element, b"g", number.as_bytes()]);
                if rng.below(10) == 0 {
                    server.must(&[b"XDEL", key, id.as_bytes()]);
                }
            }
        }
    }
    if kind == 5 && rng.below(2) == 0 {
        // A consumer that never got anything needs version 11, which Redis 7.0 does not read.
        server.must(&[b"XADD", key, b"9000-1", b"last", b"entry"]);
        server.must(&[b"XGROUP", b"CREATE", key, b"readers", b"0"]);
        let group = [&b"XREADGROUP"[..], b"GROUP", b"readers", b"Alice"];
        server.must(&[&group[..], &[b"COUNT", b"3", b"STREAMS", key, b">"]].concat());
    }
    if rng.below(4) == 0 {
        server.must(&[b"PEXPIREAT", key, format!("{}", 4_000_000_000_000u64 + rng.below(1000)).as_bytes()]);
    }
}

/// Scores that two servers write differently, in a small sorted set and in a big one.
const FLOATS: &[&str] = &["0.1", "-2.5e100", "1234567890123456789", "inf", "-inf", "3.5", "-0", "1e-300"];

fn fill_floats(server: &mut Server) {
    for (i, score) in FLOATS.iter().enumerate() {
        server.must(&[b"ZADD", b"floats", score.as_bytes(), format!("m{i}").as_bytes()]);
        server.must(&[b"ZADD", b"floats:big", score.as_bytes(), format!("{i:0200}").as_bytes()]);
    }
}

fn floats(server: &mut Server) -> Vec<f64> {
    let mut all = Vec::new();
    for key in ["floats", "floats:big"] {
        let Reply::Array(pairs) = server.words(&format!("ZRANGE {key} 0 -1 WITHSCORES")) else {
            panic!("no array")
        };
        let scores = pairs
            .into_iter()
            .skip(1)
            .step_by(2)
            .map(|score| String::from_utf8(score.bytes()).expect("a working server and folder"));
        all.extend(scores.map(|score| score.parse::<f64>().expect("a working server and folder")));
    }
    assert_eq!(all.len(), 2 * FLOATS.len());
    all
}

fn fill(server: &mut Server, rng: &mut Rng) {
    for option in ["hash-max-listpack-entries 64", "zset-max-listpack-entries 64", "list-compress-depth 1"] {
        server.words(&format!("CONFIG SET {option}"));
    }
    for i in 0..KEYS {
        if i % 40 == 0 {
            server.words(&format!("SELECT {}", rng.below(4)));
        }
        fill_key(server, rng, format!("key:{i}").as_bytes());
    }
    server.words("SELECT 0");
}

fn must_succeed(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
}

/// Fills and saves one server; the other loads what it saved.
fn exchange(rng: &mut Rng, from: fn(&Path) -> Server, to: fn(&Path) -> Server, checker: &[&str]) {
    let dir = TempDir::new().expect("a working server and folder");
    let mut source = from(dir.path());
    fill(&mut source, rng);
    let digest = source.digest();
    fill_floats(&mut source);
    let scores = floats(&mut source);
    assert_eq!(source.words("SAVE").line(), "+OK");
    drop(source);
    let mut checker =
        Command::new(checker[0]).args(&checker[1..]).arg("dump.rdb").current_dir(dir.path()).output();
    if let Ok(output) = &mut checker {
        must_succeed(output);
    }
    for start in [to, from] {
        let mut server = start(dir.path());
        for _ in 0..2 {
            assert_eq!(floats(&mut server), scores);
            server.words("DEL floats floats:big");
            assert_eq!(server.digest(), digest, "a server has other data");
            // What was loaded is as good as what was saved.
            fill_floats(&mut server);
            assert_eq!(server.words("DEBUG RELOAD").line(), "+OK");
        }
    }
}

#[test]
fn redis_loads_what_aikv_saved() {
    if redis_is_there() {
        exchange(&mut seeded(), Server::aikv, Server::redis, &["redis-check-rdb"]);
    }
}

#[test]
fn aikv_loads_what_redis_saved() {
    if redis_is_there() {
        let check = [env!("CARGO_BIN_EXE_aikv"), "--check-rdb"];
        exchange(&mut seeded(), Server::redis, Server::aikv, &check);
    }
}

#[test]
fn payloads_are_exchanged_in_both_directions() {
    if !redis_is_there() {
        return;
    }
    let (dirs, mut rng) =
        ([TempDir::new().expect("a working server and folder"), TempDir::new().unwrap()], seeded());
    let (mut aikv, mut redis) = (Server::aikv(dirs[0].path()), Server::redis(dirs[1].path()));
    for i in 0..KEYS {
        let key = format!("key:{i}").into_bytes();
        let (from, to) = if i % 2 == 0 { (&mut aikv, &mut redis) } else { (&mut redis, &mut aikv) };
        fill_key(from, &mut rng, &key);
        let payload = from.must(&[b"DUMP", &key]).bytes();
        to.must(&[b"RESTORE", &key, b"0", &payload]);
        let digest = |server: &mut Server| server.must(&[b"DEBUG", b"DIGEST-VALUE", &key]);
        // An expiry is no part of the payload.
        from.must(&[b"PERSIST", &key]);
        let digests = (digest(from), digest(to));
        assert_eq!(digests.0, digests.1, "key:{i}");
    }
}
