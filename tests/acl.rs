//! Access control against facts and attacks: for every command of facts/commands.tsv that has keys, a key
//! that the user may not touch is tried at each place; then ways around key permissions, forged replies, and
//! what clients that have not logged in can make the server hold.

use aikv::config::Config;
use aikv::server::Server;
use aikv::server::client::{Close, Peer};
use aikv::sys::background::Background;
use aikv::sys::clock::Clock;
use std::collections::BTreeMap;

const START_MS: i64 = 1_767_225_600_000;

/// A server and two clients: one of the default user, one of the user `u`.
struct World {
    server: Server,
    admin: usize,
    user: usize,
}

impl World {
    fn new() -> World {
        aikv::collections::hash::seed_hashes(7);
        let server = Server::new(Config::default(), Clock::fake(START_MS), 7, Background::inline());
        let mut server = server.expect("as the facts and the test have it");
        let mut accept = || {
            server
                .accept(Peer { is_local: true, ..Peer::default() })
                .expect("as the facts and the test have it")
        };
        let (admin, user) = (accept(), accept());
        let mut world = World { server, admin, user };
        world.admin(&["ACL", "SETUSER", "u", "on", "nopass", "+@all", "&*", "~allowed*"]);
        assert_eq!(world.send(user, &["AUTH", "u", "x"]), "+OK\r\n");
        world
    }

    /// Sends a request and gives the reply's bytes.
    fn send<A: AsRef<[u8]>>(&mut self, slot: usize, argv: &[A]) -> String {
        let mut request = format!("*{}\r\n", argv.len()).into_bytes();
        for arg in argv {
            let arg = arg.as_ref();
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.server.begin_turn();
        self.server.clients.get_mut(slot).expect("as the facts and the test have it").input.feed(&request);
        self.server.run(slot);
        let reply =
            self.server.clients.get_mut(slot).expect("as the facts and the test have it").reply.take();
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn admin(&mut self, argv: &[&str]) -> String {
        self.send(self.admin, argv)
    }

    /// Whether `u` might run a request.
    fn may_run(&mut self, argv: &[String]) -> bool {
        let mut request = vec!["ACL".to_owned(), "DRYRUN".into(), "u".into()];
        request.extend_from_slice(argv);
        let reply = self.send(self.admin, &request);
        assert!(!reply.starts_with('-'), "{argv:?}: {reply}");
        reply == "+OK\r\n"
    }
}

// ---- key specs, as the facts say them ----

/// A key spec of the facts.
#[derive(Clone, Debug)]
struct Fact {
    begin: (String, BTreeMap<String, String>),
    find: (String, BTreeMap<String, String>),
    flags: Vec<String>,
}

impl Fact {
    fn parse(text: &str) -> Fact {
        let (place, flags) = text.trim().rsplit_once(':').expect("as the facts and the test have it");
        let part = |text: &str| {
            let (kind, rest) = text.split_once('(').expect("as the facts and the test have it");
            let pairs = rest.trim_end_matches(')').split(',').filter_map(|pair| pair.split_once('='));
            (kind.to_owned(), pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
        };
        let (begin, find) = place.split_once('>').expect("as the facts and the test have it");
        Fact { begin: part(begin), find: part(find), flags: flags.split('+').map(str::to_owned).collect() }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    fn begin_number(&self, name: &str) -> i64 {
        self.begin.1[name].parse().expect("as the facts and the test have it")
    }

    fn find_number(&self, name: &str) -> i64 {
        self.find.1[name].parse().expect("as the facts and the test have it")
    }
}

/// A request in the making: words at places, and the places of keys.
#[derive(Default)]
struct Form {
    words: BTreeMap<usize, String>,
    keys: Vec<usize>,
}

impl Form {
    /// A form of the command with keys at all places of its specs; nothing if the specs do not say where.
    fn of(name: &str, arity: i64, facts: &[Fact]) -> Option<Form> {
        let mut form = Form::default();
        form.words.extend(name.split(' ').map(str::to_owned).enumerate());
        if name == "XREADGROUP" {
            form.words.extend([(1, "GROUP".into()), (2, "g".into()), (3, "c".into())]);
        }
        if name == "MIGRATE" {
            form.words.extend((1..).zip(["host", "1", "", "0", "1000"].map(str::to_owned)));
        }
        for fact in facts {
            let start = match fact.begin.0.as_str() {
                "index" => fact.begin_number("index") as usize,
                "keyword" => {
                    let at = fact.begin_number("startfrom");
                    let at = if at < 0 { form.end() } else { (at as usize).max(form.end()) };
                    form.words.insert(at, fact.begin.1["keyword"].clone());
                    at + 1
                }
                _ => return None,
            };
            form.add_keys(start, fact);
        }
        let least = arity.unsigned_abs() as usize;
        for i in 0..least.max(form.end()) {
            form.words.entry(i).or_insert_with(|| "allowed".into());
        }
        Some(form)
    }

    /// All forms of the command: one, or, where the key specs exclude each other, one for each of them.
    fn all(name: &str, arity: i64, facts: &[Fact]) -> Vec<Form> {
        let facts: Vec<&[Fact]> = match name {
            "MIGRATE" => facts.iter().map(std::slice::from_ref).collect(),
            _ => vec![facts],
        };
        facts.into_iter().filter_map(|facts| Form::of(name, arity, facts)).collect()
    }

    fn end(&self) -> usize {
        self.words.keys().next_back().map_or(0, |last| last + 1)
    }

    fn add_keys(&mut self, start: usize, fact: &Fact) {
        let not_key = fact.has("not_key");
        let mut add = |at: usize, key: bool| {
            self.words.insert(at, "allowed".into());
            if key && !not_key {
                self.keys.push(at);
            }
        };
        let step = fact.find_number("keystep") as usize;
        if fact.find.0 == "keynum" {
            let first = start + fact.find_number("firstkey") as usize;
            (0..2).for_each(|i| add(first + i * step, true));
            self.words.insert(start + fact.find_number("keynumidx") as usize, "2".into());
            return;
        }
        match fact.find_number("lastkey") {
            last @ 0.. => (0..=last as usize).step_by(step).for_each(|i| add(start + i, true)),
            last => {
                (0..2).for_each(|i| add(start + i * step, true));
                let mut end = start + 2 * step;
                if fact.find_number("limit") > 1 {
                    end += 2 * (fact.find_number("limit") as usize - 1);
                }
                end += (-1 - last) as usize;
                (start + step + 1..end).for_each(|i| add(i, false));
            }
        }
    }

    fn argv(&self) -> Vec<String> {
        self.words.values().cloned().collect()
    }
}

fn facts(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/facts").join(name);
    std::fs::read_to_string(path).expect("the facts are there")
}

/// Commands of the facts that the server has, and their key specs.
fn commands_with_keys(world: &World) -> Vec<(String, i64, Vec<Fact>)> {
    let text = facts("commands.tsv");
    let mut found = Vec::new();
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (name, arity, specs) =
            (columns[0], columns[3].parse().expect("as the facts and the test have it"), columns[6]);
        let full = name.to_lowercase().replace(' ', "|");
        if specs.is_empty() || world.server.acl.catalog().find(full.as_bytes()).is_none() {
            continue;
        }
        found.push((name.to_owned(), arity, specs.split(" ; ").map(Fact::parse).collect()));
    }
    found
}

#[test]
fn every_command_refuses_a_forbidden_key() {
    let mut world = World::new();
    let mut tried = 0;
    for (name, arity, facts) in commands_with_keys(&world) {
        for form in Form::all(&name, arity, &facts) {
            assert!(world.may_run(&form.argv()), "{name}: keys that are allowed: {:?}", form.argv());
            for at in &form.keys {
                let mut argv = form.argv();
                argv[*at] = "forbidden".into();
                let reply = world.send(world.user, &argv);
                assert_eq!(reply, "-NOPERM No permissions to access a key\r\n", "{argv:?}");
                assert!(!world.may_run(&argv), "{argv:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "{tried} tried");
}

/// Whose key specs do not say where all keys are: `HIDDEN` and tests/cases/acl.txt try them.
const TRIED_BY_HAND: &[&str] = &["SORT", "SORT_RO"];

#[test]
fn no_command_with_keys_is_left_out() {
    let world = World::new();
    let (all, not_yet) = (facts("commands.tsv"), facts("not-yet.txt"));
    let tried = commands_with_keys(&world);
    for line in all.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (name, since, specs) = (columns[0], columns[1], columns[6]);
        let mut version = since.split('.').map(|part| part.parse::<u32>().expect("a version"));
        let later = (version.next(), version.next()) > (Some(7), Some(4));
        let absent = later || not_yet.lines().any(|missing| missing == name);
        let known = tried.iter().any(|(tried, ..)| tried == name);
        assert!(specs.is_empty() || known || absent, "{name} has keys and is not tried");
    }
    let unsaid = tried.iter().filter(|(name, arity, facts)| Form::of(name, *arity, facts).is_none());
    assert_eq!(unsaid.map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), TRIED_BY_HAND);
    for name in TRIED_BY_HAND {
        assert!(HIDDEN.iter().any(|request| request.starts_with(&format!("{name} "))), "{name}");
    }
}

#[test]
fn every_command_asks_for_reading_and_writing() {
    let mut world = World::new();
    let user = |world: &mut World, permission: &str| {
        world.admin(&["ACL", "SETUSER", "u", "resetkeys", &format!("%{permission}~allowed*")]);
    };
    for (name, arity, facts) in commands_with_keys(&world) {
        let keys: Vec<&Fact> = facts.iter().filter(|fact| !fact.has("not_key")).collect();
        // What SET and BITFIELD do with their keys hangs on the other arguments.
        if keys.iter().any(|fact| fact.has("variable_flags")) {
            continue;
        }
        let reads = keys.iter().any(|fact| fact.has("access"));
        let writes = keys.iter().any(|fact| ["update", "insert", "delete"].iter().any(|f| fact.has(f)));
        for form in Form::all(&name, arity, &facts) {
            user(&mut world, "R");
            assert_eq!(world.may_run(&form.argv()), !writes, "{name} with keys to be read");
            user(&mut world, "W");
            assert_eq!(world.may_run(&form.argv()), !reads, "{name} with keys to be written");
        }
    }
}

// ---- attacks ----

/// Requests that hide a key from who looks only at the usual places.
const HIDDEN: &[&str] = &[
    "SORT allowed STORE forbidden",
    "SORT allowed STORE allowed STORE forbidden",
    "SORT allowed BY store STORE forbidden",
    "SORT allowed LIMIT 0 1 GET # ALPHA store forbidden",
    "SORT_RO forbidden",
    "GEORADIUS allowed 0 0 1 m STORE forbidden",
    "GEORADIUS allowed 0 0 1 m STORE allowed STORE forbidden",
    "GEORADIUS allowed 0 0 1 m STORE allowed STOREDIST forbidden",
    "GEORADIUS allowed 0 0 1 m STOREDIST allowed storedist forbidden",
    "GEORADIUSBYMEMBER allowed STORE 1 m STORE allowed STORE forbidden",
    "GEOSEARCHSTORE allowed forbidden FROMLONLAT 0 0 BYRADIUS 1 m",
    "XREAD STREAMS allowed forbidden 0 0",
    "XREAD COUNT 1 BLOCK 1 streams forbidden 0",
    "XREADGROUP GROUP STREAMS STREAMS STREAMS forbidden >",
    "XREADGROUP GROUP g c COUNT 1 NOACK STREAMS allowed forbidden > >",
    "ZUNIONSTORE forbidden 1 allowed",
    "ZUNIONSTORE allowed 2 allowed forbidden",
    "ZINTER 2 allowed forbidden WITHSCORES",
    "ZRANGESTORE allowed forbidden 0 1",
    "SINTERSTORE allowed allowed forbidden",
    "BITOP NOT allowed forbidden",
    "COPY allowed forbidden",
    "RENAME allowed forbidden",
    "SMOVE allowed forbidden x",
    "LMOVE allowed forbidden LEFT LEFT",
    "MSET allowed 1 forbidden 2",
    "MSETNX allowed 1 forbidden 2",
    "BLMPOP 1 2 allowed forbidden LEFT",
    "PFMERGE allowed forbidden",
    "LCS allowed forbidden",
    "OBJECT ENCODING forbidden",
    "MEMORY USAGE forbidden",
    "EVAL x 2 allowed forbidden",
    "MIGRATE h 1 forbidden 0 1",
    "MIGRATE h 1 forbidden 0 1 COPY",
    "MIGRATE h 1  0 1 KEYS allowed forbidden",
    "MIGRATE h 1  0 1 AUTH KEYS keys forbidden",
    "MIGRATE h 1  0 1 AUTH2 KEYS allowed COPY KEYS forbidden",
    "MIGRATE h 1  0 1 COPY REPLACE KEYS KEYS",
    "WATCH allowed forbidden",
];

#[test]
fn keys_cannot_be_hidden() {
    let mut world = World::new();
    for request in HIDDEN {
        let argv: Vec<&str> = request.split(' ').collect();
        let reply = world.send(world.user, &argv);
        assert_eq!(reply, "-NOPERM No permissions to access a key\r\n", "{request}");
    }
}

#[test]
fn counts_of_keys_that_are_none_run_nothing() {
    let mut world = World::new();
    world.admin(&["SADD", "forbidden", "secret"]);
    for (name, arity, facts) in commands_with_keys(&world) {
        let Some(fact) = facts.iter().find(|fact| fact.find.0 == "keynum") else { continue };
        let form = Form::of(&name, arity, &facts).expect("as the facts and the test have it");
        let count_at = (fact.begin_number("index") + fact.find_number("keynumidx")) as usize;
        for count in ["-1", "00", "01", "+1", " 1", "1 ", "3x", "99", "4294967297", "9223372036854775807"] {
            let mut argv = form.argv();
            argv[count_at] = count.into();
            form.keys.iter().filter(|at| **at > count_at).for_each(|at| argv[*at] = "forbidden".into());
            let reply = world.send(world.user, &argv);
            assert!(reply.starts_with('-') && !reply.contains("secret"), "{argv:?}: {reply}");
        }
    }
    assert_eq!(world.admin(&["SMEMBERS", "forbidden"]), "*1\r\n$6\r\nsecret\r\n");
}

#[test]
fn clients_cannot_forge_replies_through_errors() {
    let mut world = World::new();
    let evil = "x\r\n+OK\r\n$1\r\nz\n";
    let requests: &[&[&str]] = &[
        &[evil],
        &["nosuch", evil],
        &["CONFIG", evil],
        &["CONFIG", "SET", "port", evil],
        &["CONFIG", "SET", evil, "1"],
        &["HELLO", "2", evil],
        &["CLIENT", "KILL", "TYPE", evil],
        &["CLIENT", "KILL", "USER", evil],
        &["CLIENT", "SETINFO", evil, "x"],
        &["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", evil, "PREFIX", evil],
        &["ACL", "SETUSER", "v", evil],
        &["ACL", "SETUSER", "v", "(+get", evil],
        &["ACL", "DRYRUN", evil, "GET", "a"],
        &["ACL", "DRYRUN", "u", evil],
        &["ACL", "CAT", evil],
        &["PUBSUB", evil],
        &["EVAL", "return redis.error_reply(ARGV[1])", "0", evil],
        &["EVAL", "return {err=ARGV[1]}", "0", evil],
        &["EVAL", "error(ARGV[1])", "0", evil],
        &["EVAL", "error({err=ARGV[1]})", "0", evil],
        &["EVAL", "return redis.call(ARGV[1])", "0", evil],
        &["EVAL", "return redis.call('config', 'set', ARGV[1], 1)", "0", evil],
        &["EVAL", "return cjson.decode(ARGV[1])", "0", evil],
        &["EVAL", evil, "0"],
        &["EVAL", "#!lua flags=x\r+OK\nreturn 1", "0"],
        &["SCRIPT", evil],
        &["SCRIPT", "LOAD", evil],
        &["FUNCTION", "LOAD", "#!lua name=x\r+OK\n"],
        &["FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('a\\r\\n+OK\\r\\n', function() end)"],
        &["FUNCTION", "LOAD", "#!lua name=x\nerror('a\\r\\n+OK\\r\\n')"],
        &["FCALL", evil, "0"],
        &["XGROUP", "CREATE", evil, evil, "$"],
        &["XREADGROUP", "GROUP", evil, "c", "STREAMS", evil, ">"],
        &["OBJECT", evil, "x"],
        &["DEBUG", evil],
    ];
    for argv in requests {
        let reply = world.admin(argv);
        assert!(reply.starts_with('-') && reply.ends_with("\r\n"), "{argv:?}: {reply:?}");
        assert_eq!(reply.matches(['\r', '\n']).count(), 2, "{argv:?}: {reply:?}");
    }
}

#[test]
fn strangers_cannot_pile_up_output() {
    let mut world = World::new();
    world.admin(&["CONFIG", "SET", "requirepass", "secret"]);
    let stranger = world
        .server
        .accept(Peer { is_local: true, ..Peer::default() })
        .expect("as the facts and the test have it");
    let mut most = 0;
    for _ in 0..10_000 {
        world.server.begin_turn();
        let client = world.server.clients.get_mut(stranger).expect("as the facts and the test have it");
        if client.close == Some(Close::Now) {
            break;
        }
        client.input.feed(b"*1\r\n$4\r\nPING\r\n");
        world.server.run(stranger);
        most = most.max(
            world
                .server
                .clients
                .get(stranger)
                .expect("as the facts and the test have it")
                .reply
                .pending_bytes(),
        );
    }
    let client = world.server.clients.get(stranger).expect("as the facts and the test have it");
    assert_eq!(client.close, Some(Close::Now), "closed at {most} bytes");
    assert!(most < 32 * 1024, "{most} bytes");
    // Who has logged in may.
    let known = world
        .server
        .accept(Peer { is_local: true, ..Peer::default() })
        .expect("as the facts and the test have it");
    assert_eq!(world.send(known, &["AUTH", "secret"]), "+OK\r\n");
    for _ in 0..10_000 {
        world
            .server
            .clients
            .get_mut(known)
            .expect("as the facts and the test have it")
            .input
            .feed(b"*1\r\n$4\r\nPING\r\n");
        world.server.run(known);
    }
    assert_eq!(world.server.clients.get(known).expect("as the facts and the test have it").close, None);
}

// ---- users of the configuration and of files ----

fn started(config: Config) -> Result<World, String> {
    aikv::collections::hash::seed_hashes(7);
    let mut server = Server::new(config, Clock::fake(START_MS), 7, Background::inline())?;
    let mut accept = || {
        server.accept(Peer { is_local: true, ..Peer::default() }).expect("as the facts and the test have it")
    };
    let (admin, user) = (accept(), accept());
    Ok(World { server, admin, user })
}

#[test]
fn users_of_the_configuration() {
    let with =
        |users: &[&str]| Config { users: users.iter().map(|u| u.to_string()).collect(), ..Config::default() };
    let mut world = started(with(&["alice on \">two words\" ~* +get", "default on nopass ~* +@all"]))
        .expect("as the facts and the test have it");
    assert_eq!(world.send(world.user, &["AUTH", "alice", "two words"]), "+OK\r\n");
    assert!(world.send(world.user, &["SET", "k", "v"]).starts_with("-NOPERM"));
    // The line of the default user begins with nothing, also no channels.
    assert!(world.admin(&["PUBLISH", "c", "x"]).starts_with("-NOPERM"));
    assert_eq!(world.admin(&["ACL", "USERS"]), "*2\r\n$5\r\nalice\r\n$7\r\ndefault\r\n");
    for (users, error) in [
        (&["a on", "a off"][..], "Duplicate user found"),
        (&["default", "default"], "Duplicate user found"),
        (&["a +nosuch"], "Error loading ACL rule '+nosuch' for the user named 'a': Unknown command"),
        (&["a >secret ~* ~x"], "Error in user declaration 'a': Adding a pattern after the *"),
        (&["a (+get"], "Unmatched parenthesis"),
        (&["\"a b\" on"], "Spaces not allowed"),
    ] {
        let refused = started(with(users)).err().expect("as the facts and the test have it");
        assert!(refused.contains(error) && !refused.contains("secret"), "{users:?}: {refused}");
    }
    let both = Config { aclfile: "users.acl".into(), ..with(&["a on"]) };
    assert!(started(both).err().expect("as the facts and the test have it").contains("aclfile"));
}

#[test]
fn users_of_a_file() {
    let dir = tempfile::tempdir().expect("as the facts and the test have it");
    let path = dir.path().join("users.acl");
    let write = |text: &str| std::fs::write(&path, text).expect("as the facts and the test have it");
    let config = || Config {
        aclfile: path.to_str().expect("as the facts and the test have it").into(),
        ..Config::default()
    };
    assert!(
        started(config())
            .err()
            .expect("as the facts and the test have it")
            .contains("Error loading ACLs, opening file")
    );
    write("user alice on >a ~a* &* +@all\n\n  user bob on nopass (~b +get)\n");
    let mut world = started(config()).expect("as the facts and the test have it");
    assert_eq!(world.send(world.user, &["AUTH", "alice", "a"]), "+OK\r\n");
    assert_eq!(world.send(world.user, &["SET", "a", "1"]), "+OK\r\n");
    // An error changes nothing.
    write("user alice on nopass\nuser alice off\n");
    assert!(world.admin(&["ACL", "LOAD"]).contains("Duplicate user 'alice' found on line 2"));
    assert_eq!(world.send(world.user, &["SET", "a", "1"]), "+OK\r\n");
    // Clients get the new rules; those of users that are gone are closed.
    world.admin(&["ACL", "SETUSER", "alice", "resetkeys"]);
    assert_eq!(world.admin(&["ACL", "SAVE"]), "+OK\r\n");
    let saved = std::fs::read_to_string(&path).expect("as the facts and the test have it");
    assert!(saved.contains("user default on nopass sanitize-payload ~* &* +@all\n"), "{saved}");
    assert!(
        saved.contains("user bob on nopass sanitize-payload resetchannels -@all (~b resetchannels"),
        "{saved}"
    );
    world.admin(&["ACL", "SETUSER", "alice", "allkeys"]);
    assert_eq!(world.send(world.user, &["SET", "a", "1"]), "+OK\r\n");
    assert_eq!(world.admin(&["ACL", "LOAD"]), "+OK\r\n");
    assert!(world.send(world.user, &["SET", "a", "1"]).starts_with("-NOPERM"));
    write("user bob on\n");
    assert_eq!(world.admin(&["ACL", "LOAD"]), "+OK\r\n");
    assert_eq!(
        world.server.clients.get(world.user).expect("as the facts and the test have it").close,
        Some(Close::Now)
    );
    assert_eq!(world.admin(&["ACL", "USERS"]), "*2\r\n$3\r\nbob\r\n$7\r\ndefault\r\n");
}

#[test]
fn secrets_are_cut_from_the_slow_log() {
    let mut world = World::new();
    world.admin(&["CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "100"]);
    world.admin(&["SLOWLOG", "RESET"]);
    world.admin(&["CONFIG", "SET", "port", "0", "requirepass", "hush"]);
    world.admin(&["ACL", "SETUSER", "hush", ">hush", "+get"]);
    world.admin(&["ACL", "GETUSER", "hush"]);
    world.admin(&["ACL", "DELUSER", "hush"]);
    world.admin(&["AUTH", "hush"]);
    world.admin(&["AUTH", "default", "hush"]);
    world.admin(&["HELLO", "2", "AUTH", "default", "hush"]);
    let log = world.admin(&["SLOWLOG", "GET", "-1"]);
    assert!(!log.contains("hush"), "{log}");
    for kept in ["requirepass", "SETUSER", "DELUSER", "port", "HELLO"] {
        assert!(log.contains(kept), "{kept}: {log}");
    }
    assert_eq!(log.matches("(redacted)").count(), 1 + 3 + 1 + 1 + 1 + 2 + 2, "{log}");
}
