//! Random command sequences against AiKv and a real redis-server: replies must be the same to the byte, and
//! so must the data afterwards. Runs when redis-server is on PATH. The seed is printed and can be given with
//! AIKV_SEED; AIKV_DIFF_COMMANDS sets the length (default 20,000). Differences by design are in `EXCUSED`.

#[path = "support/port.rs"]
mod port;
#[path = "differential/sorted.rs"]
mod sorted;
#[path = "differential/stream.rs"]
mod stream;
#[path = "differential/units.rs"]
mod units;

use aikv::util::rng::Rng;
use port::free_port;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Differences by design: the command, the reason, and which pairs of replies (theirs, ours) it excuses.
type Excuse = (&'static str, &'static str, fn(&[u8], &[u8]) -> bool);
const EXCUSED: &[Excuse] = &[
    ("BITCOUNT", "since 7.2 bad arguments are found before the key is looked up", now_an_error),
    ("BITPOS", "since 7.2 bad arguments are found before the key is looked up", now_an_error),
    ("XSETID", "since 7.2 the largest deleted ID is looked at first", both_errors),
    ("XGROUP", "since 7.2 claims create their consumer even when they claim nothing", already_there),
    ("EXPIRETIME", "the two servers may see the same EXPIRE on two sides of a second", one_apart),
];

fn one_apart(theirs: &[u8], ours: &[u8]) -> bool {
    let number = |reply: &[u8]| String::from_utf8_lossy(reply).trim_start_matches(':').trim().parse::<i64>();
    matches!((number(theirs), number(ours)), (Ok(a), Ok(b)) if (a - b).abs() <= 1)
}

fn now_an_error(theirs: &[u8], ours: &[u8]) -> bool {
    (theirs.starts_with(b":") || theirs.starts_with(b"-WRONGTYPE")) && ours.starts_with(b"-ERR")
}

/// Whether replies differ in nothing but how numbers are written.
fn same_numbers(theirs: &[u8], ours: &[u8]) -> bool {
    let (theirs, ours) = (String::from_utf8_lossy(theirs), String::from_utf8_lossy(ours));
    let lines = |text: &str| -> Vec<String> {
        text.split("\r\n").filter(|line| !line.starts_with('$')).map(str::to_string).collect()
    };
    let number = |line: &str| line.parse::<f64>().ok().filter(|n| !n.is_nan());
    let (theirs, ours) = (lines(&theirs), lines(&ours));
    theirs.len() == ours.len()
        && theirs.iter().zip(&ours).all(|(a, b)| a == b || (number(a).is_some() && number(a) == number(b)))
}

/// Whether a difference of two replies to a command is by design.
fn is_excused(name: &str, theirs: &[u8], ours: &[u8]) -> bool {
    (sorted::SHOW_SCORES.contains(&name) && same_numbers(theirs, ours))
        || EXCUSED.iter().any(|(command, _, excuses)| *command == name && excuses(theirs, ours))
}

/// Whether there are differences of a command that are by design.
fn needs_excuse(name: &str) -> bool {
    sorted::SHOW_SCORES.contains(&name) || EXCUSED.iter().any(|(command, ..)| *command == name)
}

fn both_errors(theirs: &[u8], ours: &[u8]) -> bool {
    theirs.starts_with(b"-ERR") && ours.starts_with(b"-ERR")
}

fn already_there(theirs: &[u8], ours: &[u8]) -> bool {
    (theirs, ours) == (&b":1\r\n"[..], &b":0\r\n"[..])
}

/// A word of a generated command.
enum Word {
    Fixed(&'static str),
    Key,
    Value,
    /// One of a few values, so that they are found again; some are names of keys.
    Element,
    /// A field of a hash or a member of a set: one of few.
    Field,
    Int,
    Float,
    /// Small offsets, some negative.
    Offset,
    Bit,
    Pattern,
    /// Far enough away never to come during the test.
    FarSeconds,
    /// Far enough away, and never twice the same: conditions on order must not hang on a millisecond.
    AnySeconds,
    OneOf(&'static [&'static str]),
    /// One of these keys.
    KeyOf(&'static str, u64),
    /// Made on the spot.
    Made(fn(&mut Rng) -> Vec<u8>),
}
use Word::*;

/// What is sent, with weights by repetition.
const COMMANDS: &[&[Word]] = &[
    &[Fixed("SET"), Key, Value],
    &[Fixed("SET"), Key, Int],
    &[Fixed("SET"), Key, Value, OneOf(&["NX", "XX", "GET", "KEEPTTL", "BAD"])],
    &[Fixed("SET"), Key, Value, OneOf(&["NX", "XX"]), Fixed("GET")],
    &[Fixed("SET"), Key, Value, Fixed("EX"), FarSeconds],
    &[Fixed("SET"), Key, Value, Fixed("PX"), OneOf(&["99999999", "0", "-1", "x"])],
    &[Fixed("SETNX"), Key, Value],
    &[Fixed("SETEX"), Key, FarSeconds, Value],
    &[Fixed("GET"), Key],
    &[Fixed("GET"), Key],
    &[Fixed("GETSET"), Key, Value],
    &[Fixed("GETDEL"), Key],
    &[Fixed("GETEX"), Key, OneOf(&["PERSIST", "BAD"])],
    &[Fixed("GETEX"), Key, Fixed("EX"), FarSeconds],
    &[Fixed("MGET"), Key, Key, Key],
    &[Fixed("MSET"), Key, Value, Key, Value],
    &[Fixed("MSETNX"), Key, Value, Key, Value],
    &[Fixed("APPEND"), Key, Value],
    &[Fixed("STRLEN"), Key],
    &[Fixed("SETRANGE"), Key, Offset, Value],
    &[Fixed("GETRANGE"), Key, Offset, Offset],
    &[Fixed("SUBSTR"), Key, Offset, Offset],
    &[Fixed("INCR"), Key],
    &[Fixed("DECR"), Key],
    &[Fixed("INCRBY"), Key, Int],
    &[Fixed("DECRBY"), Key, Int],
    &[Fixed("INCRBYFLOAT"), Key, Float],
    &[Fixed("LCS"), Key, Key],
    &[Fixed("LCS"), Key, Key, OneOf(&["LEN", "IDX", "BAD"])],
    &[Fixed("LCS"), Key, Key, Fixed("IDX"), Fixed("WITHMATCHLEN"), Fixed("MINMATCHLEN"), Offset],
    &[Fixed("SETBIT"), Key, Offset, Bit],
    &[Fixed("GETBIT"), Key, Offset],
    &[Fixed("BITCOUNT"), Key],
    &[Fixed("BITCOUNT"), Key, Offset, Offset],
    &[Fixed("BITCOUNT"), Key, Offset, Offset, OneOf(&["BIT", "BYTE", "BAD"])],
    &[Fixed("BITPOS"), Key, Bit],
    &[Fixed("BITPOS"), Key, Bit, Offset],
    &[Fixed("BITPOS"), Key, Bit, Offset, Offset, OneOf(&["BIT", "BYTE"])],
    &[Fixed("BITOP"), OneOf(&["AND", "OR", "XOR", "NOT"]), Key, Key, Key],
    &[Fixed("BITOP"), Fixed("NOT"), Key, Key],
    &[Fixed("BITFIELD"), Key, Fixed("SET"), OneOf(&["u8", "i5", "u63", "i64", "u64"]), Offset, Int],
    &[
        Fixed("BITFIELD"),
        Key,
        Fixed("OVERFLOW"),
        OneOf(&["WRAP", "SAT", "FAIL"]),
        Fixed("INCRBY"),
        OneOf(&["u8", "i5", "i64", "u2"]),
        Fixed("#3"),
        Int,
    ],
    &[Fixed("BITFIELD_RO"), Key, Fixed("GET"), OneOf(&["u8", "i7", "u1"]), Offset],
    &[Fixed("LPUSH"), Key, Element, Element],
    &[Fixed("RPUSH"), Key, Element, Element, Element],
    &[Fixed("RPUSH"), Key, Element, Value, Element, Int, Element, Element],
    &[Fixed("LPUSHX"), Key, Element],
    &[Fixed("RPUSHX"), Key, Value],
    &[Fixed("LPOP"), Key],
    &[Fixed("RPOP"), Key],
    &[Fixed("LPOP"), Key, Offset],
    &[Fixed("RPOP"), Key, Offset],
    &[Fixed("LLEN"), Key],
    &[Fixed("LINDEX"), Key, Offset],
    &[Fixed("LRANGE"), Key, Offset, Offset],
    &[Fixed("LRANGE"), Key, Fixed("0"), Fixed("-1")],
    &[Fixed("LSET"), Key, Offset, Element],
    &[Fixed("LINSERT"), Key, OneOf(&["BEFORE", "after", "BAD"]), Element, Element],
    &[Fixed("LTRIM"), Key, Offset, Offset],
    &[Fixed("LREM"), Key, Offset, Element],
    &[Fixed("LPOS"), Key, Element],
    &[Fixed("LPOS"), Key, Element, Fixed("RANK"), Offset],
    &[Fixed("LPOS"), Key, Element, Fixed("RANK"), Offset, Fixed("COUNT"), Offset, Fixed("MAXLEN"), Offset],
    &[Fixed("LMOVE"), Key, Key, OneOf(&["LEFT", "RIGHT", "BAD"]), OneOf(&["LEFT", "right"])],
    &[Fixed("RPOPLPUSH"), Key, Key],
    &[Fixed("LMPOP"), OneOf(&["2", "1", "0", "9"]), Key, Key, OneOf(&["LEFT", "RIGHT", "BAD"])],
    &[Fixed("LMPOP"), Fixed("2"), Key, Key, Fixed("LEFT"), Fixed("COUNT"), Offset],
    &[Fixed("BLPOP"), Key, Key, Key, OneOf(&["0.001", "-1", "x"])],
    &[Fixed("BRPOP"), Key, Fixed("0.001")],
    &[Fixed("BLMOVE"), Key, Key, Fixed("LEFT"), OneOf(&["LEFT", "RIGHT"]), Fixed("0.001")],
    &[Fixed("BRPOPLPUSH"), Key, Key, Fixed("0.001")],
    &[Fixed("BLMPOP"), Fixed("0.001"), Fixed("2"), Key, Key, Fixed("RIGHT"), Fixed("COUNT"), Offset],
    &[Fixed("SORT"), Key],
    &[Fixed("SORT"), Key, Fixed("ALPHA"), OneOf(&["ASC", "DESC", "BAD"])],
    &[Fixed("SORT"), Key, Fixed("LIMIT"), Offset, Offset, Fixed("ALPHA")],
    &[
        Fixed("SORT_RO"),
        Key,
        Fixed("BY"),
        Fixed("key:*"),
        Fixed("GET"),
        Fixed("#"),
        Fixed("GET"),
        Fixed("key:*"),
    ],
    &[Fixed("SORT"), Key, Fixed("BY"), Fixed("key:*"), Fixed("DESC"), Fixed("STORE"), Key],
    &[Fixed("SORT"), Key, Fixed("DESC"), Fixed("GET"), Fixed("key:*"), Fixed("STORE"), Key],
    &[Fixed("HSET"), Key, Field, Value],
    &[Fixed("HSET"), Key, Field, Value, Field, Int, Field, Value],
    &[Fixed("HMSET"), Key, Field, Value, Field, Float],
    &[Fixed("HSETNX"), Key, Field, Value],
    &[Fixed("HGET"), Key, Field],
    &[Fixed("HMGET"), Key, Field, Field, Field],
    &[Fixed("HDEL"), Key, Field],
    &[Fixed("HDEL"), Key, Field, Field],
    &[Fixed("HLEN"), Key],
    &[Fixed("HSTRLEN"), Key, Field],
    &[Fixed("HEXISTS"), Key, Field],
    &[Fixed("HGETALL"), Key],
    &[Fixed("HKEYS"), Key],
    &[Fixed("HVALS"), Key],
    &[Fixed("HINCRBY"), Key, Field, Int],
    &[Fixed("HINCRBYFLOAT"), Key, Field, Float],
    &[Fixed("HRANDFIELD"), Key, OneOf(&["100", "0", "x"])],
    &[Fixed("HSCAN"), Key, Fixed("0"), Fixed("COUNT"), OneOf(&["1000", "0", "x"])],
    &[Fixed("SADD"), Key, Field],
    &[Fixed("SADD"), Key, Int, Value, Field, Float],
    &[Fixed("SADD"), Key, Offset, Offset, Offset],
    &[Fixed("SREM"), Key, Field, Offset],
    &[Fixed("SREM"), Key, Int],
    &[Fixed("SMOVE"), Key, Key, Field],
    &[Fixed("SMOVE"), Key, Key, Offset],
    &[Fixed("SISMEMBER"), Key, Field],
    &[Fixed("SMISMEMBER"), Key, Field, Int, Offset],
    &[Fixed("SCARD"), Key],
    &[Fixed("SMEMBERS"), Key],
    &[Fixed("SPOP"), Key, OneOf(&["100000", "0", "-1", "x"])],
    &[Fixed("SRANDMEMBER"), Key, OneOf(&["100000", "0", "x"])],
    &[Fixed("SINTER"), Key, Key],
    &[Fixed("SINTER"), Key, Key, Key],
    &[Fixed("SUNION"), Key, Key, Key],
    &[Fixed("SDIFF"), Key, Key],
    &[Fixed("SDIFF"), Key, Key, Key, Key],
    &[Fixed("SINTERSTORE"), Key, Key, Key],
    &[Fixed("SUNIONSTORE"), Key, Key, Key],
    &[Fixed("SDIFFSTORE"), Key, Key, Key],
    &[Fixed("SINTERCARD"), OneOf(&["2", "1", "3", "x"]), Key, Key],
    &[Fixed("SINTERCARD"), Fixed("2"), Key, Key, Fixed("LIMIT"), Offset],
    &[Fixed("SSCAN"), Key, Fixed("0"), Fixed("COUNT"), OneOf(&["1000", "0", "x"])],
    &[Fixed("DEL"), Key],
    &[Fixed("UNLINK"), Key, Key],
    &[Fixed("EXISTS"), Key, Key, Key],
    &[Fixed("TYPE"), Key],
    &[Fixed("KEYS"), Pattern],
    &[Fixed("RENAME"), Key, Key],
    &[Fixed("RENAMENX"), Key, Key],
    &[Fixed("COPY"), Key, Key],
    &[Fixed("COPY"), Key, Key, Fixed("DB"), OneOf(&["0", "1", "99"]), Fixed("REPLACE")],
    &[Fixed("MOVE"), Key, OneOf(&["0", "1", "2", "99"])],
    &[Fixed("SELECT"), OneOf(&["0", "1", "99", "x"])],
    &[Fixed("TOUCH"), Key, Key],
    &[Fixed("EXPIRE"), Key, FarSeconds],
    &[Fixed("EXPIRE"), Key, AnySeconds, OneOf(&["NX", "XX", "GT", "LT", "BAD"])],
    &[Fixed("PEXPIRE"), Key, OneOf(&["-1", "99999999", "9223372036854775807", "x"])],
    &[Fixed("EXPIREAT"), Key, OneOf(&["1", "99999999999", "9223372036854775807"])],
    &[Fixed("EXPIRETIME"), Key],
    &[Fixed("PERSIST"), Key],
    &[Fixed("DEBUG"), Fixed("DIGEST-VALUE"), Key],
    &[Fixed("DEBUG"), Fixed("DIGEST-VALUE"), Key],
    &[Fixed("DBSIZE")],
    &[Fixed("SWAPDB"), OneOf(&["0", "1"]), OneOf(&["0", "1", "x"])],
    &[Fixed("OBJECT"), Fixed("REFCOUNT"), Fixed("nokey")],
    &[Fixed("ECHO"), Value],
    &[Fixed("MULTI")],
    &[Fixed("EXEC")],
    &[Fixed("DISCARD")],
    &[Fixed("WATCH"), Key],
    &[Fixed("NOSUCH"), Key, Value],
    &[Fixed("GET")],
    &[Fixed("SET"), Key],
];

/// All commands; families come equally often.
const FAMILIES: &[&[&[Word]]] =
    &[COMMANDS, sorted::ZSET, sorted::ALGEBRA, sorted::GEO, sorted::HLL, stream::STREAMS, units::UNITS];

impl Word {
    fn make(&self, rng: &mut Rng) -> Vec<u8> {
        let pick =
            |rng: &mut Rng, list: &[&str]| list[rng.below(list.len() as u64) as usize].as_bytes().to_vec();
        match self {
            Fixed(word) => word.as_bytes().to_vec(),
            Key => format!("key:{}", rng.below(12)).into_bytes(),
            Value => value(rng),
            Element => pick(rng, &["a", "b", "c", "1", "2", "3", "7", "11", "", "-1.5"]),
            Field => format!("f{}", rng.below(20)).into_bytes(),
            Int => pick(
                rng,
                &[
                    "0",
                    "1",
                    "-1",
                    "7",
                    "100",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "3.5",
                    "",
                    "abc",
                    " 1",
                ],
            ),
            Float => {
                pick(rng, &["1", "0.1", "-0.3", "3.14159", "1e5", "1e-5", "inf", "nan", "x", "5000000000000"])
            }
            Offset => pick(rng, &["0", "1", "2", "5", "7", "30", "-1", "-2", "-5", "-100", "1000", "x"]),
            Bit => pick(rng, &["0", "1", "2", "x"]),
            Pattern => {
                pick(rng, &["*", "key:*", "key:?", "key:[1-5]", "k*y:1*", "[^k]*", "nokey", "\\key:1"])
            }
            FarSeconds => pick(rng, &["10000", "20000", "100000", "0", "-5", "x", "9223372036854775807"]),
            AnySeconds => (1000 + rng.below(1 << 40)).to_string().into_bytes(),
            OneOf(list) => pick(rng, list),
            KeyOf(prefix, count) => format!("{prefix}:{}", rng.below(*count)).into_bytes(),
            Made(make) => make(rng),
        }
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => rng.below(100_000).to_string().into_bytes(),
        1 => Vec::new(),
        2 => b"10.5".to_vec(),
        3 => vec![rng.below(256) as u8; rng.below(300) as usize],
        _ => (0..rng.below(60)).map(|_| b'a' + rng.below(4) as u8).collect(),
    }
}

struct Server {
    child: Child,
    stream: BufReader<TcpStream>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(program: &str) -> Option<Server> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--save", "", "--enable-debug-command", "yes"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let begin = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).expect("a TCP option");
                return Some(Server { child, stream: BufReader::new(stream), _dir: dir });
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{program} answers");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).expect("the server reads");
        let mut reply = Vec::new();
        self.read_reply(&mut reply);
        reply
    }

    fn read_reply(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        self.stream.read_until(b'\n', out).expect("the server answers");
        assert!(out.len() > start, "the server closed the connection");
        let line = String::from_utf8_lossy(&out[start..]).trim_end().to_string();
        let number = || line[1..].parse::<i64>().expect("a number");
        match line.as_bytes()[0] {
            b'$' if number() >= 0 => {
                let mut body = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut body).expect("the whole string");
                out.extend_from_slice(&body);
            }
            b'*' => (0..number()).for_each(|_| self.read_reply(out)),
            _ => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn show(words: &[Vec<u8>]) -> String {
    words.iter().map(|w| format!("{:?}", String::from_utf8_lossy(w))).collect::<Vec<_>>().join(" ")
}

/// Commands that answer in an order of their own.
const UNORDERED: &[&str] = &[
    "KEYS",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "HRANDFIELD",
    "HSCAN",
    "SMEMBERS",
    "SPOP",
    "SRANDMEMBER",
    "SINTER",
    "SUNION",
    "SDIFF",
    "SSCAN",
];

/// Takes the order out of the replies of `UNORDERED`.
fn normal(name: &str, reply: Vec<u8>) -> Vec<u8> {
    if name == "XPENDING" {
        return stream::without_idle_times(&reply);
    }
    if name == "XINFO" {
        return stream::without_consumers(&reply);
    }
    if !UNORDERED.contains(&name) {
        return reply;
    }
    let mut lines: Vec<&[u8]> = reply.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines.join(&b'\n')
}

/// Whether the digests of this key may differ: those of sorted sets do where scores are no integers, which
/// Redis writes with more digits since 7.2.
fn digests_may_differ(aikv: &mut Server, words: &[Vec<u8>]) -> bool {
    words[0] == b"DEBUG" && aikv.ask(&[b"TYPE".to_vec(), words[2].clone()]) == b"+zset\r\n"
}

#[test]
fn replies_are_those_of_redis() {
    let Some(mut redis) = Server::start("redis-server") else {
        println!("redis-server is not installed: nothing to compare with");
        return;
    };
    let mut aikv = Server::start(env!("CARGO_BIN_EXE_aikv")).expect("our own binary starts");
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = from_env("AIKV_SEED").unwrap_or_else(aikv::sys::process::os_random_u64);
    println!("AIKV_SEED={seed}");
    let mut rng = Rng::from_seed(seed);
    let mut history: Vec<String> = Vec::new();
    let mut in_multi = false;
    for _ in 0..from_env("AIKV_DIFF_COMMANDS").unwrap_or(20_000) {
        let family = FAMILIES[rng.below(FAMILIES.len() as u64) as usize];
        let shape = family[rng.below(family.len() as u64) as usize];
        let words: Vec<Vec<u8>> = shape.iter().map(|word| word.make(&mut rng)).collect();
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        // What needs an excuse is not hidden inside the reply of EXEC.
        let unordered = UNORDERED.contains(&name.as_str());
        let unordered = unordered || ["DEBUG", "XINFO", "XPENDING", "ACL"].contains(&name.as_str());
        if in_multi && (unordered || needs_excuse(&name)) {
            continue;
        }
        in_multi = if name == "MULTI" { true } else { in_multi && name != "EXEC" && name != "DISCARD" };
        history.push(show(&words));
        let theirs = normal(&name, units::normal(&words, redis.ask(&words)));
        let ours = normal(&name, units::normal(&words, aikv.ask(&words)));
        if ours != theirs && !is_excused(&name, &theirs, &ours) && !digests_may_differ(&mut aikv, &words) {
            let recent = &history[history.len().saturating_sub(30)..];
            panic!(
                "seed {seed}: {}\n redis: {}\n aikv:  {}\n before:\n  {}",
                show(&words),
                String::from_utf8_lossy(&theirs),
                String::from_utf8_lossy(&ours),
                recent.join("\n  ")
            );
        }
    }
}
