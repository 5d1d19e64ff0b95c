//! MIGRATE between real servers: ours to ours, to redis-server and back (where it is installed), and to others
//! that refuse, do not answer, or go away in the middle. What is acknowledged is gone here and in the log;
//! nothing else is.

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Reply, Running, has};
use tempfile::TempDir;

const NOT_READ: &str = "IOERR error or timeout reading to target instance";
const NOT_WRITTEN: &str = "IOERR error or timeout writing to target instance";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn ok() -> Reply {
    Reply::Text("OK".into())
}

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

/// `MIGRATE 127.0.0.1 port` and the words of a line, where `''` is the empty word.
fn migrate(client: &mut Client, port: u16, line: &str) -> Reply {
    let port = port.to_string();
    let mut words: Vec<&[u8]> = vec![b"MIGRATE", b"127.0.0.1", port.as_bytes()];
    words.extend(line.split(' ').map(|word| if word == "''" { &b""[..] } else { word.as_bytes() }));
    client.call(&words)
}

/// Keys of all types and encodings; the odd ones of `ttl:` have a deadline.
fn fill(client: &mut Client) -> Vec<&'static str> {
    let long = "x".repeat(100_000);
    client.call(&[b"SET", b"long", long.as_bytes()]);
    client.call(&[b"SET", b"binary", b"\xff\x00\r\n\x01"]);
    for line in [
        "SET string some-text",
        "SET int 12345",
        "RPUSH list a b c",
        "HSET hash f v g w",
        "SADD intset 1 2 3",
        "SADD set a b c",
        "ZADD zset 1 a 2.5 b",
        "XADD stream 1-1 f v",
        "XGROUP CREATE stream g 0",
        "PFADD hll a b c",
        "SET ttl:string v PX 600000",
        "RPUSH ttl:list a",
        "PEXPIRE ttl:list 700000",
    ] {
        assert!(!matches!(client.line(line), Reply::Error(_)), "{line}");
    }
    for i in 0..2000 {
        let member = format!("member:{i}");
        client.call(&[b"RPUSH", b"biglist", member.as_bytes()]);
        client.call(&[b"SADD", b"bigset", member.as_bytes()]);
        client.call(&[b"HSET", b"bighash", member.as_bytes(), b"v"]);
        client.call(&[b"ZADD", b"bigzset", i.to_string().as_bytes(), member.as_bytes()]);
    }
    vec![
        "long",
        "string",
        "int",
        "binary",
        "list",
        "hash",
        "intset",
        "set",
        "zset",
        "stream",
        "hll",
        "ttl:string",
        "ttl:list",
        "biglist",
        "bigset",
        "bighash",
        "bigzset",
    ]
}

/// Digests of values, each with whether its key has a deadline of some minutes.
fn digests(client: &mut Client, keys: &[&str]) -> Vec<(String, Reply, bool)> {
    let mut found = Vec::new();
    for key in keys {
        let digest = client.call(&[b"DEBUG", b"DIGEST-VALUE", key.as_bytes()]);
        let has_ttl = match client.call(&[b"PTTL", key.as_bytes()]) {
            Reply::Int(-1) => false,
            Reply::Int(ms) => {
                assert!((400_000..=700_000).contains(&ms), "{key} has {ms} ms");
                true
            }
            other => panic!("{key}: {other:?}"),
        };
        found.push((key.to_string(), digest, has_ttl));
    }
    found
}

fn there_and_back(here: &Running, there: &Running) {
    let (mut a, mut b) = (here.connect(), there.connect());
    let keys = fill(&mut a);
    let before = digests(&mut a, &keys);
    assert_eq!(before.iter().filter(|(.., ttl)| *ttl).count(), 2);
    assert_eq!(migrate(&mut a, there.port, &format!("'' 0 20000 COPY KEYS {}", keys.join(" "))), ok());
    assert_eq!(digests(&mut a, &keys), before);
    assert_eq!(digests(&mut b, &keys), before);
    assert_eq!(
        migrate(&mut a, there.port, &format!("'' 0 20000 REPLACE KEYS none {}", keys.join(" "))),
        ok()
    );
    assert_eq!(a.line("DBSIZE"), Reply::Int(0));
    assert_eq!(digests(&mut b, &keys), before);
    // Into another database, one by one, and back from there.
    for key in &keys {
        assert_eq!(migrate(&mut b, here.port, &format!("{key} 5 20000")), ok());
    }
    assert_eq!(b.line("DBSIZE"), Reply::Int(0));
    a.line("SELECT 5");
    assert_eq!(digests(&mut a, &keys), before);
    assert_eq!(migrate(&mut a, there.port, "hash 0 20000"), ok());
    assert_eq!(
        b.line("HGETALL hash"),
        Reply::Array(["f", "v", "g", "w"].map(|w| Reply::Text(w.into())).into())
    );
    assert_eq!(migrate(&mut a, there.port, "hash 0 20000"), Reply::Text("NOKEY".into()));
}

fn ours(dir: &Path) -> Running {
    Running::aikv(dir, &["--save", "", "--engine", "memory"])
}

#[test]
fn keys_of_all_types_go_and_come_back() {
    let (one, two) = (folder(), folder());
    there_and_back(&ours(one.path()), &ours(two.path()));
}

#[test]
fn keys_go_to_redis_and_come_back() {
    if !has("redis-server") {
        eprintln!("redis-server is not installed: nothing compared");
        return;
    }
    let (one, two) = (folder(), folder());
    let redis = Running::redis(two.path(), &["--save", "", "--enable-debug-command", "local"]);
    let aikv = ours(one.path());
    there_and_back(&aikv, &redis);
    redis.connect().line("FLUSHALL");
    aikv.connect().line("FLUSHALL");
    there_and_back(&redis, &aikv);
}

#[test]
fn a_thousand_keys_move_and_what_is_refused_stays() {
    let (one, two) = (folder(), folder());
    let (here, there) = (ours(one.path()), ours(two.path()));
    let (mut a, mut b) = (here.connect(), there.connect());
    let names: Vec<String> = (0..1000).map(|i| format!("key:{i}")).collect();
    let value = "v".repeat(500);
    for name in &names {
        a.call(&[b"SET", name.as_bytes(), value.as_bytes()]);
    }
    b.line("SET key:500 other");
    let all = format!("'' 0 20000 KEYS {}", names.join(" "));
    let busy = error("ERR Target instance replied with error: BUSYKEY Target key name already exists.");
    assert_eq!(migrate(&mut a, there.port, &all), busy);
    assert_eq!(a.line("DBSIZE"), Reply::Int(1));
    assert_eq!(b.line("DBSIZE"), Reply::Int(1000));
    assert_eq!(b.line("GET key:500"), Reply::Text("other".into()));
    assert_eq!(migrate(&mut a, there.port, &all.replace("KEYS", "REPLACE KEYS")), ok());
    assert_eq!(a.line("DBSIZE"), Reply::Int(0));
    assert_eq!(b.line("GET key:500"), Reply::Text(value));
    assert_eq!(a.info("migrate_cached_sockets"), "1");
}

#[test]
fn what_is_over_is_not_sent_and_what_is_moved_is_told() {
    let (one, two) = (folder(), folder());
    let (here, there) = (ours(one.path()), ours(two.path()));
    let (mut a, mut b, mut listener) = (here.connect(), there.connect(), here.connect());
    a.line("DEBUG SET-ACTIVE-EXPIRE 0");
    a.line("CONFIG SET notify-keyspace-events KEA");
    listener.line("PSUBSCRIBE __keyevent@*:del __keyevent@*:expired");
    assert!(listener.read().is_some(), "the second of two replies");
    a.line("SET over v PX 1");
    a.line("MSET k v l w");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(migrate(&mut a, there.port, "over 0 5000"), Reply::Text("NOKEY".into()));
    // A transaction that watches a moved key fails.
    let mut watcher = here.connect();
    watcher.line("WATCH k");
    let port = there.port.to_string();
    // The name may stand for IPv6 as well, where nobody listens.
    let moved = a.line(&format!("MIGRATE localhost {port} k 0 5000"));
    assert_eq!(moved, ok());
    watcher.line("MULTI");
    watcher.line("PING");
    assert_eq!(watcher.line("EXEC"), Reply::Nil);
    a.line("MULTI");
    assert_eq!(migrate(&mut a, there.port, "l 0 5000"), Reply::Text("QUEUED".into()));
    assert_eq!(a.line("EXEC"), Reply::Array(vec![ok()]));
    for (event, key) in [("expired", "over"), ("del", "k"), ("del", "l")] {
        let Some(Reply::Array(parts)) = listener.read() else { panic!("an event comes") };
        assert_eq!(parts[2], Reply::Text(format!("__keyevent@0__:{event}")));
        assert_eq!(parts[3], Reply::Text(key.into()));
    }
    assert_eq!(b.line("DBSIZE"), Reply::Int(2));
}

#[test]
fn a_database_that_is_not_there_takes_nothing() {
    let (one, two) = (folder(), folder());
    let (here, there) = (ours(one.path()), ours(two.path()));
    let mut a = here.connect();
    a.line("SET k v");
    for db in ["99", "-1"] {
        let told = error("ERR Target instance replied with error: ERR DB index is out of range");
        assert_eq!(migrate(&mut a, there.port, &format!("k {db} 5000 REPLACE")), told);
    }
    assert_eq!(there.connect().line("DBSIZE"), Reply::Int(0));
    assert_eq!(migrate(&mut a, there.port, "k 3 5000"), ok());
    assert_eq!(there.connect().info("db3"), "keys=1,expires=0,avg_ttl=0,subexpiry=0");
}

#[test]
fn logins_are_sent_and_not_lent_to_others() {
    let (one, two) = (folder(), folder());
    let here = ours(one.path());
    let there = ours(two.path());
    let (mut a, mut b) = (here.connect(), there.connect());
    b.line("ACL SETUSER mover on >secret ~* +restore +select");
    b.line("CONFIG SET requirepass general");
    a.line("MSET k 1 l 2 m 3");
    let told = |text: &str| error(&format!("ERR Target instance replied with error: {text}"));
    let none = told("NOAUTH Authentication required.");
    let wrong = told("WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(migrate(&mut a, there.port, "k 0 5000"), none);
    assert_eq!(migrate(&mut a, there.port, "k 0 5000 AUTH no"), wrong);
    assert_eq!(migrate(&mut a, there.port, "k 0 5000 AUTH2 mover no"), wrong);
    assert_eq!(migrate(&mut a, there.port, "k 0 5000 AUTH2 mover secret"), ok());
    assert_eq!(migrate(&mut a, there.port, "l 0 5000"), none);
    assert_eq!(migrate(&mut a, there.port, "l 0 5000 AUTH general"), ok());
    assert_eq!(migrate(&mut a, there.port, "m 0 5000"), none);
    assert_eq!(b.line("EXISTS k l m"), Reply::Int(2));
    assert_eq!(a.line("EXISTS k l m"), Reply::Int(1));
}

#[test]
fn removals_and_nothing_else_are_logged() {
    let (one, two) = (folder(), folder());
    let mut here = Running::aikv(one.path(), &["--appendonly", "yes", "--appendfsync", "always"]);
    let there = ours(two.path());
    let mut a = here.connect();
    a.line("MSET a 1 b 2 c 3 d 4");
    there.connect().line("SET b other");
    assert_eq!(migrate(&mut a, there.port, "'' 0 5000 COPY KEYS c d"), ok());
    there.connect().line("DEL c d");
    let reply = migrate(&mut a, there.port, "'' 0 5000 KEYS a b nosuch c");
    assert!(matches!(&reply, Reply::Error(text) if text.contains("BUSYKEY")), "{reply:?}");
    let log: Vec<u8> = std::fs::read_dir(one.path().join("appendonlydir"))
        .expect("the log's folder")
        .map(|file| file.expect("a file").path())
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .flat_map(|path| std::fs::read(path).expect("a log"))
        .collect();
    let log = String::from_utf8_lossy(&log).into_owned();
    assert!(log.contains("*3\r\n$3\r\nDEL\r\n$1\r\na\r\n$1\r\nc\r\n"), "{log}");
    assert!(!log.contains("MIGRATE") && log.matches("DEL").count() == 1, "{log}");
    here.kill();
    let again = Running::aikv(one.path(), &["--appendonly", "yes"]);
    assert_eq!(again.connect().line("EXISTS a b c d"), Reply::Int(2));
}

#[test]
fn bad_arguments_change_nothing() {
    let (one, two) = (folder(), folder());
    let (here, there) = (ours(one.path()), ours(two.path()));
    let mut a = here.connect();
    a.line("MSET k v l w");
    let not_int = "ERR value is not an integer or out of range";
    let both = "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string";
    for (line, told) in [
        ("k x 1000", not_int),
        ("k 0 soon", not_int),
        ("k 0 1.5", not_int),
        ("k 0 1000 BOGUS", "ERR syntax error"),
        ("k 0 1000 AUTH", "ERR syntax error"),
        ("k 0 1000 AUTH2 user", "ERR syntax error"),
        ("k 0 1000 COPY REPLACE KEY l", "ERR syntax error"),
        ("k 0 1000 KEYS k l", both),
        ("k 0", "ERR wrong number of arguments for 'migrate' command"),
    ] {
        assert_eq!(migrate(&mut a, there.port, line), error(told), "{line}");
    }
    assert_eq!(migrate(&mut a, there.port, "'' 0 1000 KEYS"), Reply::Text("NOKEY".into()));
    assert_eq!(migrate(&mut a, there.port, "'' 0 1000 KEYS none nil"), Reply::Text("NOKEY".into()));
    assert_eq!(
        a.line("MIGRATE no-such-host.invalid 1 k 0 1000"),
        error("IOERR error or timeout connecting to the client")
    );
    assert_eq!(a.line("MIGRATE 127.0.0.1 nonsense k 0 1000"), error(NOT_WRITTEN));
    assert_eq!(a.line("DBSIZE"), Reply::Int(2));
    assert_eq!(there.connect().line("DBSIZE"), Reply::Int(0));
}

#[test]
fn a_server_that_is_asked_to_reach_itself_gives_up() {
    let dir = folder();
    let here = ours(dir.path());
    let mut a = here.connect();
    a.line("SET k v");
    let begin = Instant::now();
    assert_eq!(migrate(&mut a, here.port, "k 0 300"), error(NOT_READ));
    assert!((250..20_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert_eq!(a.line("GET k"), Reply::Text("v".into()));
    // More than sockets take.
    let much = vec![b'x'; 32 << 20];
    a.call(&[b"CONFIG", b"SET", b"rdbcompression", b"no"]);
    a.call(&[b"SET", b"k", &much]);
    let reply = migrate(&mut a, here.port, "k 0 300");
    assert!([error(NOT_WRITTEN), error(NOT_READ)].contains(&reply), "{reply:?}");
    assert_eq!(a.line("STRLEN k"), Reply::Int(32 << 20));
    assert_eq!(a.info("migrate_cached_sockets"), "0");
}

/// A server of few words: for each connection, the replies to give, one by one as requests come; then the end.
/// It answers what comes after that with nothing.
fn puppet(connections: Vec<Vec<&'static str>>, after: Duration) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for replies in connections {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
            let mut seen = vec![0; 4096];
            for reply in replies {
                if stream.read(&mut seen).unwrap_or(0) == 0 {
                    break;
                }
                stream.write_all(reply.as_bytes()).expect("it is read");
            }
            std::thread::sleep(after);
        }
    });
    port
}

#[test]
fn a_target_that_goes_away_or_never_answers_costs_no_key() {
    let dir = folder();
    let here = ours(dir.path());
    let mut a = here.connect();
    a.line("MSET a 1 b 2 c 3 d 4");
    // It never answers.
    let silent = puppet(vec![vec![]], PATIENCE);
    let begin = Instant::now();
    assert_eq!(migrate(&mut a, silent, "a 0 200"), error(NOT_READ));
    assert!(begin.elapsed() >= Duration::from_millis(190));
    // It selects the database and says no more.
    let half = puppet(vec![vec!["+OK\r\n"]], PATIENCE);
    assert_eq!(migrate(&mut a, half, "a 0 200"), error(NOT_READ));
    // It goes away twice: that is once too often.
    let gone = puppet(vec![vec!["+OK\r\n", ""], vec!["+OK\r\n", ""]], Duration::ZERO);
    assert_eq!(migrate(&mut a, gone, "a 0 5000"), error(NOT_READ));
    // It goes away once.
    let once = puppet(vec![vec!["+OK\r\n", ""], vec!["+OK\r\n", "+OK\r\n"]], Duration::ZERO);
    assert_eq!(migrate(&mut a, once, "a 0 5000 COPY"), ok());
    assert_eq!(a.line("EXISTS a b c d"), Reply::Int(4));
    // It goes away after the first of three keys.
    let middle = puppet(vec![vec!["+OK\r\n", "+OK\r\n"]], Duration::ZERO);
    assert_eq!(migrate(&mut a, middle, "'' 0 5000 KEYS a b c"), error(NOT_READ));
    assert_eq!(a.line("EXISTS a"), Reply::Int(0));
    assert_eq!(a.line("EXISTS b c d"), Reply::Int(3));
    // It is no server of this kind.
    let web = puppet(vec![vec!["+OK\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"]], Duration::ZERO);
    let reply = migrate(&mut a, web, "b 0 5000");
    assert!(matches!(&reply, Reply::Error(text) if text.starts_with("ERR Target instance")), "{reply:?}");
    // It refuses the first key, takes the second and goes away.
    let mixed = puppet(vec![vec!["+OK\r\n", "-OOM no room\r\n+OK\r\n"]], Duration::ZERO);
    let told = error("ERR Target instance replied with error: OOM no room");
    assert_eq!(migrate(&mut a, mixed, "'' 0 5000 KEYS b c d"), told);
    assert_eq!(a.line("EXISTS b d"), Reply::Int(2));
    assert_eq!(a.line("EXISTS c"), Reply::Int(0));
    // Of all these only the connection that did its work is kept.
    assert_eq!(a.info("migrate_cached_sockets"), "1");
}

#[test]
fn a_kept_connection_that_has_ended_is_made_anew() {
    let (one, two) = (folder(), folder());
    let (here, there) = (ours(one.path()), ours(two.path()));
    let (mut a, mut b) = (here.connect(), there.connect());
    a.line("MSET a 1 b 2");
    assert_eq!(migrate(&mut a, there.port, "a 0 5000"), ok());
    b.line("CLIENT KILL TYPE normal SKIPME yes");
    assert_eq!(migrate(&mut a, there.port, "b 0 5000"), ok());
    assert_eq!(b.line("EXISTS a b"), Reply::Int(2));
    let port = there.port;
    drop((b, there));
    a.line("SET c 3");
    assert_eq!(migrate(&mut a, port, "c 0 5000"), error(NOT_WRITTEN));
    assert_eq!(a.line("DBSIZE"), Reply::Int(1));
}
