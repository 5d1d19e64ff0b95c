//! Random and damaged requests against a whole server without sockets: each connection ends in well-formed
//! replies or is closed, nothing panics, and memory does not grow. The seed is printed; `AIKV_SEED` repeats a
//! run, `AIKV_FRAMES` sets its length. The long run is `cargo test --test fuzz_frames -- --ignored`.

use aikv::command::spec::Flags;
use aikv::config::Config;
use aikv::server::Server;
use aikv::server::client::{Close, Peer};
use aikv::server::input::Turn;
use aikv::server::table::Table;
use aikv::sys::alloc::used_memory;
use aikv::sys::background::Background;
use aikv::sys::clock::Clock;
use aikv::util::rng::Rng;

/// Frames of the usual run and of the long one.
const FRAMES: u64 = 50_000;
const FRAMES_LONG: u64 = 1_000_000;
/// Frames between two looks at the memory; the databases are emptied then.
const FRAMES_PER_ROUND: u64 = 10_000;
/// Bytes by which memory may differ between looks: counters and logs that fill up to their limits.
const GROWTH_MAX: usize = 2 << 20;
/// Commands for operators that are safe here; the others are taken out of the table.
const SAFE_ADMIN: &[&str] = &["client", "monitor", "slowlog", "latency", "acl"];
/// Clients at once.
const CLIENTS: u64 = 4;

/// A server and what was sent to its clients.
struct World {
    server: Server,
    /// Slots in use, each with the replies that came.
    clients: Vec<(usize, Vec<u8>)>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut config = Config { proto_max_bulk_len: 1 << 20, slowlog_max_len: 8, ..Config::default() };
        config.renamed_commands = dangerous().into_iter().map(|name| (name, String::new())).collect();
        let server = Server::new(config, Clock::fake(1_767_225_600_000), seed, Background::inline());
        World { server: server.expect("commands can be taken out"), clients: Vec::new() }
    }

    fn connect(&mut self) -> usize {
        let peer = Peer { addr: "127.0.0.1:5".into(), laddr: "127.0.0.1:6".into(), fd: 9, ..Peer::default() };
        let slot = self.server.accept(Peer { is_local: true, ..peer }).expect("there is room");
        self.clients.push((slot, Vec::new()));
        slot
    }

    /// Gives a client bytes and lets the server come to rest. False when the client is closed.
    fn feed(&mut self, slot: usize, bytes: &[u8]) -> bool {
        self.server.begin_turn();
        let Some(client) = self.server.clients.get_mut(slot) else { return false };
        client.input.feed(bytes);
        self.server.check_input_limit(slot);
        let mut due = vec![slot];
        while !due.is_empty() {
            for slot in std::mem::take(&mut due) {
                if self.server.run(slot) == Turn::More {
                    due.push(slot);
                }
            }
            self.server.run_cron();
            self.server.before_sleep();
            due.append(&mut self.server.resumed);
            self.server.net_ops.clear();
            self.collect();
        }
        self.server.clients.get(slot).is_some()
    }

    /// Takes the replies, as a socket that is never full, and closes what is to be closed.
    fn collect(&mut self) {
        self.server.pending_writes.clear();
        for (slot, replies) in &mut self.clients {
            let Some(client) = self.server.clients.get_mut(*slot) else { continue };
            client.write_pending = false;
            replies.extend(client.reply.take());
            if client.close == Some(Close::AfterReply) {
                self.server.close_client(*slot, Close::Now);
            }
        }
        for slot in std::mem::take(&mut self.server.pending_closes) {
            if self.server.clients.get(slot).is_some_and(|client| client.close == Some(Close::Now)) {
                self.server.closed(slot);
            }
        }
        let clients = &self.server.clients;
        self.clients.retain(|(slot, replies)| {
            check_replies(replies);
            clients.get(*slot).is_some()
        });
    }

    /// Forgets replies that were looked at.
    fn forget_replies(&mut self) {
        self.clients.iter_mut().for_each(|(_, replies)| *replies = Vec::new());
    }

    /// A server as after its start, as far as clients and data go.
    fn clean(&mut self) {
        for (slot, _) in std::mem::take(&mut self.clients) {
            self.server.closed(slot);
        }
        self.server.clock.advance(3_600_000_000_000);
        let slot = self.connect();
        assert!(self.feed(slot, b"FLUSHALL\r\nCLIENT UNPAUSE\r\nSLOWLOG RESET\r\n"));
        self.server.closed(slot);
        self.clients.clear();
    }
}

/// Names of commands that stop, fork, wait, write files or change the configuration.
fn dangerous() -> Vec<String> {
    let table = Table::new(&[]).expect("nothing is renamed");
    let admin = table.rows().iter().filter(|command| command.is(Flags::ADMIN));
    let names = admin.map(|command| command.spec.container().unwrap_or(command.spec.name).to_string());
    let mut names: Vec<String> = names.filter(|name| !SAFE_ADMIN.contains(&name.as_str())).collect();
    names.sort();
    names.dedup();
    names
}

/// Replies are complete and well formed: every one ends where the next begins.
fn check_replies(replies: &[u8]) {
    let mut at = 0;
    while at < replies.len() {
        at = end_of_reply(replies, at).unwrap_or_else(|| {
            let from = replies[at..].escape_ascii().to_string();
            panic!("no reply: {}", &from[..from.len().min(300)]);
        });
    }
}

/// Where the reply at `at` ends.
fn end_of_reply(bytes: &[u8], at: usize) -> Option<usize> {
    let line_end = at + bytes[at..].windows(2).position(|pair| pair == b"\r\n")?;
    let head = std::str::from_utf8(&bytes[at + 1..line_end]).ok();
    let next = line_end + 2;
    let number = || head?.parse::<i64>().ok();
    match bytes[at] {
        b'+' | b'-' | b'_' | b',' | b'#' | b'(' => Some(next),
        b':' => number().map(|_| next),
        b'$' | b'=' => match number()? {
            -1 => Some(next),
            len => {
                let end = next + usize::try_from(len).ok()?;
                (bytes.get(end..end + 2)? == b"\r\n").then_some(end + 2)
            }
        },
        kind @ (b'*' | b'~' | b'>' | b'%' | b'|') => {
            let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            let attribute = usize::from(kind == b'|');
            let mut at = next;
            for _ in 0..(number()?.max(0) as usize * each + attribute) {
                at = end_of_reply(bytes, at)?;
            }
            Some(at)
        }
        _ => None,
    }
}

/// Makes requests from the commands and from the words of their usage lines.
struct Maker {
    names: Vec<Vec<Vec<u8>>>,
    words: Vec<Vec<u8>>,
}

impl Maker {
    fn new(server: &Server) -> Maker {
        let mut maker = Maker { names: Vec::new(), words: Vec::new() };
        for (_, command) in server.table.named() {
            for row in std::iter::once(command).chain(command.subcommands.iter().map(|(_, sub)| *sub)) {
                maker.names.push(row.spec.name.split('|').map(|part| part.as_bytes().to_vec()).collect());
                let words =
                    row.spec.usage.split([' ', '[', ']', '<', '>', '|']).filter(|word| !word.is_empty());
                maker.words.extend(words.map(|word| word.as_bytes().to_vec()));
            }
        }
        let values = [
            "0",
            "1",
            "-1",
            "2",
            "10",
            "3.5",
            "inf",
            "nan",
            "",
            "a",
            "k",
            "*",
            "$",
            "(1",
            "[a",
            "+",
            "-",
            "9223372036854775807",
            "-9223372036854775808",
            "1e300",
            "\r\n",
            "\0",
            "k\u{e9}",
        ];
        (0..8).for_each(|_| maker.words.extend(values.iter().map(|value| value.as_bytes().to_vec())));
        maker.words.sort();
        maker
    }

    fn word(&self, rng: &mut Rng) -> Vec<u8> {
        match rng.below(40) {
            0 => {
                let most = [10, 300, 16_500, 40_000, 120_000][rng.below(5) as usize];
                let mut word = vec![b'x'; rng.below(most) as usize];
                let some = word.len().min(20);
                rng.fill(&mut word[..some]);
                word
            }
            1..=15 => vec![b'a' + rng.below(6) as u8],
            16..=25 => rng.below(20).to_string().into_bytes(),
            _ => self.words[rng.below(self.words.len() as u64) as usize].clone(),
        }
    }

    /// A request, well formed.
    fn frame(&self, rng: &mut Rng) -> Vec<u8> {
        let mut args = match rng.below(20) {
            0 => vec![self.word(rng)],
            _ => self.names[rng.below(self.names.len() as u64) as usize].clone(),
        };
        let more = if rng.below(50) == 0 { rng.below(300) } else { rng.below(6) };
        args.extend((0..more).map(|_| self.word(rng)));
        if rng.below(8) == 0 {
            let mut line = args.join(&b' ');
            line.extend_from_slice(if rng.below(2) == 0 { b"\n" } else { b"\r\n" });
            return line;
        }
        let mut frame = format!("*{}\r\n", args.len()).into_bytes();
        for arg in &args {
            frame.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            frame.extend_from_slice(arg);
            frame.extend_from_slice(b"\r\n");
        }
        frame
    }
}

/// Damages a frame: a changed, lost or added byte, a lost end, another count.
fn damage(frame: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(frame.len() as u64) as usize;
    match rng.below(6) {
        0 => frame[at] = rng.below(256) as u8,
        1 => drop(frame.remove(at)),
        2 => frame.insert(at, b"*$\r\n-10 '\""[rng.below(10) as usize]),
        3 => frame.truncate(at),
        4 => {
            let digits = frame.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, _)| at);
            let digits: Vec<usize> = digits.take(20).collect();
            if !digits.is_empty() {
                let at = digits[rng.below(digits.len() as u64) as usize];
                frame[at] = b'0' + rng.below(10) as u8;
            }
        }
        _ => {
            let end = (at + 1 + rng.below(30) as usize).min(frame.len());
            let part = frame[at..end].to_vec();
            frame.splice(at..at, part);
        }
    }
}

/// Sends `bytes` torn at random places. False when the client is closed.
fn send_torn(world: &mut World, slot: usize, bytes: &[u8], rng: &mut Rng) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = [4, 60, 20_000, 1 << 20][rng.below(4) as usize];
        let (part, tail) = rest.split_at((1 + rng.below(most) as usize).min(rest.len()));
        rest = tail;
        if !world.feed(slot, part) {
            return false;
        }
    }
    true
}

fn fuzz(frames: u64) {
    let from_environment = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = from_environment("AIKV_SEED").unwrap_or(20_261_122);
    let frames = from_environment("AIKV_FRAMES").unwrap_or(frames);
    println!("seed {seed}, {frames} frames");
    let mut rng = Rng::from_seed(seed);
    let mut world = World::new(seed);
    let maker = Maker::new(&world.server);
    let (mut sent, mut memory) = (0, None);
    while sent < frames {
        let until = sent + FRAMES_PER_ROUND;
        while sent < until {
            while (world.clients.len() as u64) < CLIENTS {
                world.connect();
            }
            let slot = world.clients[rng.below(world.clients.len() as u64) as usize].0;
            let mut bytes = Vec::new();
            for _ in 0..1 + rng.below(10) {
                let mut frame = maker.frame(&mut rng);
                if rng.below(4) == 0 {
                    damage(&mut frame, &mut rng);
                }
                bytes.extend(frame);
                sent += 1;
            }
            send_torn(&mut world, slot, &bytes, &mut rng);
            world.forget_replies();
            world.server.clock.advance(rng.below(50_000_000));
            if rng.below(20) == 0 && !world.clients.is_empty() {
                let at = rng.below(world.clients.len() as u64) as usize;
                let (slot, _) = world.clients.swap_remove(at);
                world.server.closed(slot);
            }
        }
        world.clean();
        let now = used_memory();
        // The first round fills what fills only once.
        let before = *memory.get_or_insert(now);
        assert!(now <= before + GROWTH_MAX, "memory grew from {before} to {now} after {sent} frames");
    }
}

#[test]
fn frames() {
    fuzz(FRAMES);
}

#[test]
#[ignore = "takes minutes"]
fn frames_long() {
    fuzz(FRAMES_LONG);
}

/// The replies to a stream of bytes, given in these parts.
fn replies(parts: &[&[u8]]) -> Vec<u8> {
    let mut world = World::new(1);
    let slot = world.connect();
    for part in parts {
        world.feed(slot, part);
    }
    world.clients.into_iter().next().map(|(_, replies)| replies).unwrap_or_default()
}

#[test]
fn a_session_torn_at_every_byte_answers_the_same() {
    let mut session =
        b"PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*0\r\n\r\nGET k\r\n*-1\r\n".to_vec();
    session.extend_from_slice(b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\nMULTI\r\nGET k\r\nEXEC\r\nGET 'k'\r\n");
    let whole = replies(&[&session]);
    check_replies(&whole);
    assert!(whole.starts_with(b"+PONG\r\n+OK\r\n$5\r\nvalue\r\n$0\r\n\r\n+OK\r\n+QUEUED\r\n*1\r\n"));
    for at in 1..session.len() {
        let torn = replies(&[&session[..at], &session[at..]]);
        assert!(torn == whole, "torn at {at}: {}", torn.escape_ascii());
    }
}

#[test]
fn big_arguments_torn_anywhere_arrive_whole() {
    let value = vec![b'v'; 100_000];
    let mut session = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n".to_vec();
    session.extend_from_slice(&value);
    session.extend_from_slice(b"\r\nGET k\r\nPING\r\n");
    let whole = replies(&[&session]);
    assert!(whole.ends_with(b"v\r\n+PONG\r\n") && whole.len() == 100_000 + 23, "{}", whole.len());
    let places =
        [1, 20, 28, 29, 30, 31, 50, 16_000, 32_768, 65_536, 100_028, 100_029, 100_030, 100_031, 100_032];
    for at in places {
        assert!(replies(&[&session[..at], &session[at..]]) == whole, "torn at {at}");
        for then in places.into_iter().filter(|then| *then > at) {
            assert!(
                replies(&[&session[..at], &session[at..then], &session[then..]]) == whole,
                "{at}, {then}"
            );
        }
    }
}
