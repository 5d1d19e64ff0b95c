//! Runs the transcripts of tests/cases on a whole server without sockets, with a clock that stands still
//! until it is moved. Come here to add a case: write the requests, let `AIKV_UPDATE_CASES=1` fill in the
//! replies, and read every one of them. `AIKV_CASES=string` runs only files with that in their name.
//!
//! Each file starts with an empty server. Its lines:
//!
//! ```text
//! # remark                 remarks and blank lines are passed over
//! > SET k v                a request of client 1; quoting as in redis-cli
//! > [2] GET k              a request of client 2, who connects with its first request
//! >> "PING\r\n"            bytes as they are (also `>> [2] ...`)
//! < +OK                    a reply to the client of the last request
//! < [2] "v"                a reply that another client gets meanwhile (it was blocked, it is subscribed)
//! @ 10ms                   the clock moves on (units ms and s), due keys go, waits end
//! = SET k v PXAT 5         an effect for the log; a file with one such line has to list all effects
//! ```
//!
//! Replies: `+simple`, `-ERR error`, `:5`, `"bulk"`, `(nil)` for nulls (`(nil array)` insists on RESP2's null
//! array), `*2` with an element on each line below (`%2` maps, `~2` sets, `>2` pushes, `|1` attributes),
//! `,1.5`, `#t`, `(12345` big number, `="txt:verbatim"`, `(closed)` when the connection is closed, and `...`
//! for one reply or element whatever it is. Indentation is for the reader. What comes without being listed is
//! a failure.

use aikv::config::Config;
use aikv::resp::Input;
use aikv::resp::request::Limits;
use aikv::server::Server;
use aikv::server::client::{Close, Peer};
use aikv::server::input::Turn;
use aikv::server::unit::Sink;
use aikv::sys::background::Background;
use aikv::sys::clock::Clock;
use aikv::util::quote::{push_quoted, split_args};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where the clock stands when a file begins: 2026-01-01T00:00:00Z, in milliseconds since 1970.
const START_MS: i64 = 1_767_225_600_000;
/// Seed of each server's random choices.
const SEED: u64 = 7;
/// Stands for the log among the clients.
const LOG: usize = usize::MAX;
/// Turns that one step may take; more means that the server never comes to rest.
const TURNS_MAX: usize = 10_000;

#[test]
fn transcripts() {
    let only = std::env::var("AIKV_CASES").unwrap_or_default();
    let update = std::env::var_os("AIKV_UPDATE_CASES").is_some();
    let mut failures = Vec::new();
    for path in files() {
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a transcript is UTF-8");
        match catch_unwind(AssertUnwindSafe(|| run(&name, &text))) {
            Ok(Report { failed, updated }) if update && failed.iter().all(|f| f.mendable) => {
                if updated != text {
                    std::fs::write(&path, updated).expect("a transcript can be written");
                }
            }
            Ok(report) => failures.extend(report.failed.into_iter().map(|f| f.text)),
            Err(_) => failures.push(format!("tests/cases/{name}: panic (see above)")),
        }
    }
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n"));
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let entries = std::fs::read_dir(folder).expect("tests/cases is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths
}

// ---- reading a transcript ----

/// What happens in a step.
enum Action {
    Send(usize, Vec<u8>),
    Wait(u64),
}

/// A request or a wait, and the replies that are expected by clients.
struct Step {
    line: usize,
    source: String,
    action: Action,
    expected: BTreeMap<usize, Vec<String>>,
    /// The same as it was written.
    kept: BTreeMap<usize, Vec<String>>,
    /// Remarks and blank lines behind the step.
    trailer: String,
}

/// The text before the first step, and the steps.
fn read(name: &str, text: &str) -> (String, Vec<Step>) {
    let (mut head, mut steps) = (String::new(), Vec::<Step>::new());
    for (at, line) in text.lines().enumerate() {
        let fail = |why: &str| -> ! { panic!("tests/cases/{name}:{}: {why}: {line}", at + 1) };
        if let Some(effect) = line.strip_prefix('=') {
            let Some(step) = steps.last_mut() else { fail("an effect before any request") };
            step.expected.entry(LOG).or_default().push(effect.to_string());
            step.kept.entry(LOG).or_default().push(line.to_string());
            continue;
        }
        if let Some(reply) = line.strip_prefix('<') {
            let Some(step) = steps.last_mut() else { fail("a reply before any request") };
            let (label, rest) = label(reply);
            let client = label.unwrap_or(match step.action {
                Action::Send(client, _) => client,
                Action::Wait(_) => 1,
            });
            step.expected.entry(client).or_default().push(rest.trim_end().to_string());
            step.kept.entry(client).or_default().push(line.to_string());
            continue;
        }
        let action = match line.as_bytes() {
            [b'>', ..] => request(line).unwrap_or_else(|| fail("unbalanced quotes")),
            [b'@', ..] => wait(&line[1..]).unwrap_or_else(|| fail("not a time such as 10ms")),
            [] | [b'#', ..] => {
                let place = steps.last_mut().map_or(&mut head, |step| &mut step.trailer);
                place.push_str(line);
                place.push('\n');
                continue;
            }
            _ => fail("neither request, reply, effect, wait nor remark"),
        };
        let (expected, kept) = (BTreeMap::new(), BTreeMap::new());
        let (source, trailer) = (line.to_string(), String::new());
        steps.push(Step { line: at + 1, source, action, expected, kept, trailer });
    }
    (head, steps)
}

/// A client's number in brackets, if there is one, and the rest of the line.
fn label(text: &str) -> (Option<usize>, &str) {
    let number = || {
        let (number, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
        Some((Some(number.parse().ok()?), rest))
    };
    number().unwrap_or((None, text))
}

fn request(line: &str) -> Option<Action> {
    let (raw, rest) = match line.strip_prefix(">>") {
        Some(rest) => (true, rest),
        None => (false, &line[1..]),
    };
    let (client, rest) = label(rest);
    let words = split_args(rest.as_bytes())?;
    let bytes = if raw { words.concat() } else { encode(&words) };
    Some(Action::Send(client.unwrap_or(1), bytes))
}

fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The nanoseconds of `10ms` or `3s`.
fn wait(text: &str) -> Option<Action> {
    let text = text.trim();
    let ns = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => ms.trim().parse::<u64>().ok()? * 1_000_000,
        (None, Some(s)) => s.trim().parse::<u64>().ok()? * 1_000_000_000,
        (None, None) => return None,
    };
    Some(Action::Wait(ns))
}

// ---- running it ----

struct Failure {
    text: String,
    /// Whether writing down what came mends it.
    mendable: bool,
}

struct Report {
    failed: Vec<Failure>,
    /// The transcript with the replies that came.
    updated: String,
}

fn run(name: &str, text: &str) -> Report {
    let (mut updated, steps) = read(name, text);
    let mut world = World::new();
    let log = Log::default();
    if steps.iter().any(|step| step.expected.contains_key(&LOG)) {
        world.server.add_sink(Box::new(log.clone()));
    }
    let mut failed = Vec::new();
    for step in &steps {
        world.act(&step.action);
        let own = match step.action {
            Action::Send(client, _) => client,
            Action::Wait(_) => 1,
        };
        let mut got = world.outputs();
        let effects = std::mem::take(&mut *log.0.lock().expect("one thread"));
        if !effects.is_empty() {
            got.insert(LOG, Output { bytes: effects, closed: false });
        }
        for client in step.expected.keys() {
            got.entry(*client).or_default();
        }
        updated.push_str(&step.source);
        updated.push('\n');
        for (client, output) in got {
            let none = Vec::new();
            let expected = step.expected.get(&client).unwrap_or(&none);
            let reply = if client == LOG { Rendered::effects(&output) } else { Rendered::of(&output) };
            let agrees = agrees(expected, &reply.lines);
            let tag = match client {
                LOG => "=".to_string(),
                _ if client == own => "<".to_string(),
                _ => format!("< [{client}]"),
            };
            let shown = |line: &String| format!("{tag} {line}\n");
            if agrees {
                updated.extend(step.kept.get(&client).into_iter().flatten().map(|line| format!("{line}\n")));
            } else {
                updated.extend(reply.lines.iter().map(shown));
                let text = failure(name, step, client, expected, &reply.lines);
                failed.push(Failure { text, mendable: reply.whole });
            }
        }
        updated.push_str(&step.trailer);
    }
    Report { failed, updated }
}

fn failure(name: &str, step: &Step, client: usize, expected: &[String], got: &[String]) -> String {
    let block = |lines: &[String]| match lines {
        [] => "    (nothing)\n".to_string(),
        _ => lines.iter().map(|line| format!("    {line}\n")).collect(),
    };
    let who = if client == LOG { "the log".to_string() } else { format!("client {client}") };
    format!(
        "tests/cases/{name}:{}: {}\n  {who} expected\n{}  got\n{}",
        step.line,
        step.source,
        block(expected),
        block(got)
    )
}

/// Collects effects.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Sink for Log {
    fn append(&mut self, bytes: &[u8]) {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
    }
}

/// What a client was sent in a step.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    closed: bool,
}

/// A server and its clients by their numbers.
struct World {
    server: Server,
    slots: BTreeMap<usize, usize>,
    closed: Vec<usize>,
}

impl World {
    fn new() -> World {
        // Keys come in the order of their hashes: KEYS and SCAN must not differ from run to run.
        aikv::collections::hash::seed_hashes(SEED);
        let clock = Clock::fake(START_MS);
        let server = Server::new(Config::default(), clock, SEED, Background::inline());
        let server = server.expect("the default configuration is valid");
        World { server, slots: BTreeMap::new(), closed: Vec::new() }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Wait(ns) => self.server.clock.advance(*ns),
            Action::Send(..) => {}
        }
        self.server.begin_turn();
        let mut due = Vec::new();
        if let Action::Send(number, bytes) = action {
            let slot = self.slot(*number);
            self.server.clients.get_mut(slot).expect("it is connected").input.feed(bytes);
            due.push(slot);
        }
        self.settle(due);
    }

    /// The slot of a client, who connects if need be.
    fn slot(&mut self, number: usize) -> usize {
        let server = &mut self.server;
        *self.slots.entry(number).or_insert_with(|| {
            let peer = Peer {
                addr: format!("127.0.0.1:{}", 50_000 + number),
                laddr: "127.0.0.1:6379".to_string(),
                fd: 8 + number as i32,
                is_unix: false,
                is_local: true,
            };
            server.accept(peer).unwrap_or_else(|refused| panic!("{}", String::from_utf8_lossy(refused)))
        })
    }

    /// Runs turns as the reactor does until nothing is left to do.
    fn settle(&mut self, mut due: Vec<usize>) {
        for _ in 0..TURNS_MAX {
            let begin_ns = self.server.now.mono_ns;
            for slot in std::mem::take(&mut due) {
                if self.server.run(slot) == Turn::More {
                    due.push(slot);
                }
            }
            self.server.run_cron();
            let more = self.server.before_sleep();
            self.server.background_woke();
            due.append(&mut self.server.resumed);
            due.dedup();
            self.close_clients();
            self.server.end_turn(begin_ns);
            if due.is_empty() && !more && !self.server.has_urgent_work() {
                return;
            }
            self.server.pending_writes.clear();
        }
        panic!("the server did not come to rest within {TURNS_MAX} turns");
    }

    fn close_clients(&mut self) {
        let slots = std::mem::take(&mut self.server.pending_closes);
        for slot in slots {
            if self.server.clients.get(slot).is_some_and(|c| c.close == Some(Close::Now)) {
                self.closed.push(slot);
            }
        }
        for slot in self.slots.values() {
            if self.server.clients.get(*slot).is_some_and(|c| c.close.is_some()) {
                self.closed.push(*slot);
            }
        }
    }

    /// What each client was sent since the last call; closed ones are gone afterwards.
    fn outputs(&mut self) -> BTreeMap<usize, Output> {
        let mut outputs = BTreeMap::new();
        for (number, slot) in &self.slots {
            let Some(client) = self.server.clients.get_mut(*slot) else { continue };
            client.write_pending = false;
            let output = Output { bytes: client.reply.take(), closed: self.closed.contains(slot) };
            if output.closed || !output.bytes.is_empty() {
                outputs.insert(*number, output);
            }
        }
        for slot in std::mem::take(&mut self.closed) {
            self.slots.retain(|_, other| *other != slot);
            self.server.closed(slot);
        }
        outputs
    }
}

// ---- showing and comparing replies ----

/// Bytes of the protocol as lines of a transcript.
struct Rendered {
    lines: Vec<String>,
    /// Whether the bytes were whole replies.
    whole: bool,
}

impl Rendered {
    fn of(output: &Output) -> Rendered {
        let mut rendered = Rendered { lines: Vec::new(), whole: true };
        let mut rest = &output.bytes[..];
        while !rest.is_empty() {
            match rendered.push_reply(rest, 0) {
                Some(tail) => rest = tail,
                None => {
                    let mut quoted = Vec::new();
                    push_quoted(&mut quoted, rest);
                    rendered.lines.push(format!("no reply: {}", String::from_utf8_lossy(&quoted)));
                    rendered.whole = false;
                    break;
                }
            }
        }
        if output.closed {
            rendered.lines.push("(closed)".to_string());
        }
        rendered
    }

    /// Shows requests, one a line, quoted where that is needed.
    fn effects(output: &Output) -> Rendered {
        let mut input = Input::new();
        input.feed(&output.bytes);
        let mut rendered = Rendered { lines: Vec::new(), whole: true };
        while rendered.whole && input.pending_bytes() > 0 {
            input.parse(Limits { bulk_bytes_max: u64::MAX, unauthenticated: false });
            rendered.whole = !input.ready().is_empty();
            while let Some(request) = input.next_request() {
                let words: Vec<String> = input.args(request).iter().map(word).collect();
                rendered.lines.push(words.join(" "));
            }
            input.compact();
        }
        rendered
    }

    /// Shows the reply at the front of `bytes` and gives what is behind it.
    fn push_reply<'a>(&mut self, bytes: &'a [u8], depth: usize) -> Option<&'a [u8]> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, mut rest) = (&bytes[..end], &bytes[end + 2..]);
        let (mark, text) = (char::from(*line.first()?), std::str::from_utf8(&line[1..]).ok()?);
        let indent = "  ".repeat(depth);
        let elements = match (mark, text) {
            ('$', "-1") | ('_', "") => self.push_line(indent, "(nil)"),
            ('*', "-1") => self.push_line(indent, "(nil array)"),
            ('$' | '=', len) => {
                let len: usize = len.parse().ok()?;
                let mut shown = if mark == '=' { b"=".to_vec() } else { Vec::new() };
                push_quoted(&mut shown, rest.get(..len)?);
                rest = rest.get(len..)?.strip_prefix(b"\r\n")?;
                self.push_line(indent, &String::from_utf8_lossy(&shown))
            }
            ('*' | '~' | '>', n) => {
                self.push_line(indent, &format!("{mark}{n}")) + n.parse::<usize>().ok()?
            }
            ('%' | '|', n) => self.push_line(indent, &format!("{mark}{n}")) + 2 * n.parse::<usize>().ok()?,
            ('+' | '-' | ':' | ',' | '#' | '(', _) => self.push_line(indent, &format!("{mark}{text}")),
            _ => return None,
        };
        for _ in 0..elements {
            rest = self.push_reply(rest, depth + 1)?;
        }
        Some(rest)
    }

    /// Adds a line; 0, the number of elements of a scalar.
    fn push_line(&mut self, indent: String, text: &str) -> usize {
        self.lines.push(indent + text);
        0
    }
}

/// A word of a request, in quotes if it cannot do without them.
fn word(bytes: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut quoted = Vec::new();
    push_quoted(&mut quoted, bytes);
    String::from_utf8_lossy(&quoted).into_owned()
}

/// Whether the lines that came are those expected; `...` stands for a whole reply or element.
fn agrees(expected: &[String], got: &[String]) -> bool {
    let mut at = 0;
    for want in expected {
        let Some(line) = got.get(at) else { return false };
        let text = line.trim_start();
        at += 1;
        let want = want.trim_start();
        if want == "..." {
            let depth = line.len() - text.len();
            at += got[at..].iter().take_while(|next| next.len() - next.trim_start().len() > depth).count();
        } else if want != text.trim_end() && !(want == "(nil)" && text == "(nil array)") {
            return false;
        }
    }
    at == got.len()
}

#[test]
fn replies_are_shown_and_compared() {
    let bytes = b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n*-1\r\n+OK\r\n".to_vec();
    let lines = Rendered::of(&Output { bytes, closed: true }).lines;
    assert_eq!(lines, ["*3", "  :1", "  *2", "    \"a\"", "    (nil)", "  (nil array)", "+OK", "(closed)"]);
    let words = |text: &str| text.split(',').map(str::to_string).collect::<Vec<_>>();
    assert!(agrees(&words("*3,:1,...,(nil),+OK,(closed)"), &lines));
    assert!(agrees(&words("...,+OK,(closed)"), &lines));
    assert!(!agrees(&words("*3,:1,...,(nil),+OK"), &lines));
    assert!(!agrees(&words("...,+OK,(closed),:1"), &lines));
    assert!(!Rendered::of(&Output { bytes: b"$5\r\nab".to_vec(), closed: false }).whole);
}

#[test]
fn a_pipeline_longer_than_a_batch_is_run_whole() {
    let mut world = World::new();
    let big = encode(&[b"ECHO".to_vec(), vec![b'x'; 40_000]]);
    let bytes = [b"PING\r\n".repeat(200), big.clone(), big, b"PING\r\n".repeat(130)].concat();
    world.act(&Action::Send(1, bytes));
    let output = world.outputs().remove(&1).expect("there are replies");
    assert_eq!(Rendered::of(&output).lines.len(), 332);
}
