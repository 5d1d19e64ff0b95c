//! Sessions of the script debugger in a whole server: what stays of a script's changes, who is served
//! meanwhile, how sessions end, and that users see what redis-server shows them.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Reply, Running, has};

const SCRIPT: &str = "redis.call('set', KEYS[1], ARGV[1])\nlocal v = redis.call('get', KEYS[1])\nreturn v";
const NO_SAVING: &[&str] = &["--save", ""];

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Lines of an answer of the debugger.
fn lines(reply: Option<Reply>) -> Vec<String> {
    let Some(Reply::Array(lines)) = reply else { panic!("an answer has lines: {reply:?}") };
    let text = |line| match line {
        Reply::Text(text) => text,
        other => panic!("a line is a status: {other:?}"),
    };
    lines.into_iter().map(text).collect()
}

/// Begins a session, which stops at line 1.
fn begin(server: &Running, mode: &str, script: &str) -> Client {
    let mut client = server.connect();
    assert_eq!(client.line(&format!("SCRIPT DEBUG {mode}")), Reply::Text("OK".into()));
    let reply = client.try_call(&[b"EVAL", script.as_bytes(), b"1", b"k", b"v"]);
    assert_eq!(lines(reply)[0], "* Stopped at 1, stop reason = step over");
    client
}

/// Says a line in a session.
fn say(client: &mut Client, line: &str) -> Vec<String> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    lines(client.try_call(&words))
}

/// Waits until something is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Children of a process that are alive.
fn children(pid: u32) -> usize {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).map_or(0, |pids| pids.split_whitespace().count())
}

fn log_size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("appendonlydir")).expect("the log's folder");
    files.map(|file| file.expect("a file").metadata().expect("its size").len()).sum()
}

#[test]
fn a_forked_session_leaves_nothing_and_holds_up_nobody() {
    let dir = dir();
    let server = Running::aikv(dir.path(), &["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let mut other = server.connect();
    let mut monitor = server.connect();
    assert_eq!(other.line("SET before 1"), Reply::Text("OK".into()));
    let size = log_size(dir.path());
    assert_eq!(monitor.line("MONITOR"), Reply::Text("OK".into()));
    let mut user = begin(&server, "YES", SCRIPT);
    let answer = say(&mut user, "s");
    assert_eq!(answer[..2], ["<redis> set k v", "<reply> \"+OK\""]);
    assert_eq!(other.line("GET k"), Reply::Nil);
    assert_eq!(say(&mut user, "r flushall")[1], "<reply> \"+OK\"");
    assert_eq!(say(&mut user, "r unlink k")[1], "<reply> 0");
    assert_eq!(say(&mut user, "r publish c x")[1], "<reply> 0");
    assert_eq!(say(&mut user, "r set k w")[1], "<reply> \"+OK\"");
    assert_eq!(say(&mut user, "c"), ["<endsession>"]);
    assert_eq!(user.read(), Some(Reply::Text("w".into())));
    assert_eq!(user.read(), None);
    assert_eq!((other.line("GET k"), other.line("GET before")), (Reply::Nil, Reply::Text("1".into())));
    assert_eq!(log_size(dir.path()), size);
    assert_eq!(other.info("total_forks"), "1");
    wait_until("the child is collected", || children(server.child.id()) == 0);
    // Of the session others saw the command that began it.
    let shown =
        std::iter::from_fn(|| monitor.read()).take_while(|line| !format!("{line:?}").contains("INFO"));
    let shown: Vec<String> = shown.map(|line| format!("{line:?}").to_lowercase()).collect();
    assert_eq!(shown.iter().filter(|line| line.contains("eval")).count(), 1, "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("flushall")), "{shown:?}");
}

#[test]
fn a_session_of_the_server_keeps_what_it_did() {
    let dir = dir();
    let server = Running::aikv(dir.path(), &["--save", "", "--appendonly", "yes"]);
    let mut other = server.connect();
    let size = log_size(dir.path());
    let mut user = begin(&server, "SYNC", SCRIPT);
    other.send(&[b"GET", b"k"]).expect("the socket takes it");
    assert_eq!(say(&mut user, "s")[0], "<redis> set k v");
    assert_eq!(say(&mut user, "r set k w")[1], "<reply> \"+OK\"");
    assert_eq!(say(&mut user, "abort"), ["<endsession>"]);
    let Some(Reply::Error(error)) = user.read() else { panic!("an aborted script ends with an error") };
    assert!(error.starts_with("ERR script aborted for user request script: "), "{error}");
    assert_eq!(user.read(), None);
    assert_eq!(other.read(), Some(Reply::Text("w".into())));
    wait_until("the effects are in the log", || log_size(dir.path()) > size);
    assert_eq!(other.info("total_forks"), "0");
}

#[test]
fn a_user_who_goes_ends_the_session() {
    let dir = dir();
    let server = Running::aikv(dir.path(), &["--save", "", "--busy-reply-threshold", "200"]);
    let mut other = server.connect();
    drop(begin(&server, "SYNC", SCRIPT));
    assert_eq!(other.line("GET k"), Reply::Text("v".into()));
    // One without an end is ended.
    for mode in ["SYNC", "YES"] {
        drop(begin(&server, mode, "local a = 1\nwhile true do a = a + 1 end"));
        assert_eq!(other.line("PING"), Reply::Text("PONG".into()));
        wait_until("the session ends", || children(server.child.id()) == 0);
    }
    // While the user thinks, the script does not run for too long.
    let mut user = begin(&server, "YES", SCRIPT);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(say(&mut user, "s")[2], "* Stopped at 2, stop reason = step over");
    let endless = "e while true do end";
    assert_eq!(say(&mut user, endless), ["<error> ERR evaluated for too long"]);
}

#[test]
fn sessions_end_with_the_server() {
    let dir = dir();
    let mut server = Running::aikv(dir.path(), NO_SAVING);
    let mut users: Vec<Client> = (0..64).map(|_| begin(&server, "YES", SCRIPT)).collect();
    let mut late = server.connect();
    assert_eq!(late.line("SCRIPT DEBUG YES"), Reply::Text("OK".into()));
    let reply = late.call(&[b"EVAL", SCRIPT.as_bytes(), b"1", b"k", b"v"]);
    let refused = "ERR Fork() failed: can't run EVAL in debugging mode: too many sessions";
    assert_eq!(reply, Reply::Error(refused.into()));
    assert_eq!(say(&mut users[0], "c"), ["<endsession>"]);
    wait_until("there is room again", || children(server.child.id()) < 64);
    assert_eq!(late.line("SCRIPT KILL").clone(), {
        Reply::Error("NOTBUSY No scripts in execution right now.".into())
    });
    server.shut_down(b"NOSAVE");
    for user in &mut users[1..] {
        assert_eq!(user.read(), None);
    }
}

#[test]
fn a_signal_ends_a_session_of_the_server() {
    let dir = dir();
    let mut server = Running::aikv(dir.path(), NO_SAVING);
    let mut user = begin(&server, "SYNC", SCRIPT);
    let status = std::process::Command::new("kill").arg(server.child.id().to_string()).status();
    assert!(status.expect("kill runs").success());
    assert!(server.child.wait().expect("it is our child").success());
    assert_eq!(say_nothing(&mut user).last().map(String::as_str), Some("<endsession>"));
}

fn say_nothing(user: &mut Client) -> Vec<String> {
    lines(user.read())
}

#[test]
fn commands_are_those_the_user_may_run() {
    let dir = dir();
    let server = Running::aikv(dir.path(), NO_SAVING);
    let mut admin = server.connect();
    let rules = "ACL SETUSER u on nopass ~k +@scripting +set +get +auth +acl|whoami";
    assert_eq!(admin.line(rules), Reply::Text("OK".into()));
    for mode in ["YES", "SYNC"] {
        let mut user = server.connect();
        assert_eq!(user.line("AUTH u x"), Reply::Text("OK".into()));
        assert_eq!(user.line(&format!("SCRIPT DEBUG {mode}")), Reply::Text("OK".into()));
        let reply = user.try_call(&[b"EVAL", SCRIPT.as_bytes(), b"1", b"k", b"v"]);
        assert_eq!(lines(reply).len(), 2);
        assert_eq!(say(&mut user, "r set k 1")[1], "<reply> \"+OK\"");
        for refused in
            ["r set other 1", "r flushall", "r acl list", "r shutdown", "r eval x 0", "r script flush"]
        {
            let answer = say(&mut user, refused);
            assert!(answer[1].starts_with("<error> ") && answer.len() == 2, "{refused}: {answer:?}");
        }
        assert_eq!(say(&mut user, "c"), ["<endsession>"]);
        assert_eq!(user.read(), Some(Reply::Text("v".into())));
    }
    assert_eq!(admin.line("GET other"), Reply::Nil);
}

/// Scripts, and what is said while they are debugged.
const TALKS: &[(&str, &str)] = &[
    (
        "local a = 1\nlocal t = {1,2,{3,4},k='v'}\nlocal function f(x)\n  local y = x * 2\n  return y\nend\n\
         a = f(21)\nredis.call('set', KEYS[1], ARGV[1])\nlocal r = redis.pcall('incr', KEYS[1])\n\
         redis.debug('x', a, t[3], nil, 1.5)\nredis.breakpoint()\nlocal z = redis.pcall('nosuch')\nreturn r\n\n",
        "w|p|n|p a|l|l 2|l 2 1|list 3 -1|list x y|b|b 5|b 5 99 0x 9|b|w|c|t|p|p x|p nope|p KEYS|p ARGV|b -5|\
         b -5|m|m 10|m 0|m x|m 1 2|e 1+1|e a=1|e nope|e redis.call('get','no')|e {1,{2}}|e x x x|r|r get k|\
         r set k 5|r incr k|r nosuch|r get|r lpush k 1|redis config get x|r echo 1 2 3 4 5 6 7 8 9 10 11 12|\
         foo|S|s|s|s|s|s|s",
    ),
    ("return foo(", ""),
    ("return redis.error_reply('MY ERR')", "s"),
    ("return {1, {2, 'x'}, false}", "c"),
    ("\n\nreturn 7\n\n", "w|c"),
    ("#!lua flags=no-writes\nlocal x = 1\nreturn redis.call('set', 'a', 1)", "w|c"),
    ("local t = {}\nfor i = 1, 300 do t[i] = i end\nreturn t[1]", "b 3|c|p t|p t|m 100|p t|p|c"),
    ("redis.setresp(3)\nlocal z = redis.call('zscore', 'no', 'b')\nreturn 1", "s|s|s"),
    (
        "local function r(n)\nif n == 0 then\nreturn 0\nend\nreturn 1 + r(n - 1)\nend\nreturn r(3)",
        "b 3|c|t|p n|c",
    ),
    ("local x = 1\nreturn x", "s|abort"),
    ("", "w|c"),
];

/// What a user is shown in all these sessions.
fn transcript(server: &Running, mode: &str) -> Vec<String> {
    let mut shown = Vec::new();
    for (script, talk) in TALKS {
        let mut user = server.connect();
        user.line(&format!("SCRIPT DEBUG {mode}"));
        shown.push(format!("# {script:?}"));
        shown.push(format!("{:?}", user.try_call(&[b"EVAL", script.as_bytes(), b"1", b"k", b"5"])));
        for line in talk.split('|').filter(|line| !line.is_empty()) {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            shown.push(format!("> {line}: {:?}", user.try_call(&words)));
        }
        while let Some(reply) = user.read() {
            shown.push(format!("{reply:?}"));
        }
    }
    shown
}

#[test]
fn sessions_look_like_those_of_redis() {
    let dir = dir();
    let server = Running::aikv(dir.path(), NO_SAVING);
    let ours = transcript(&server, "SYNC");
    server.connect().line("FLUSHALL");
    let forked = transcript(&server, "YES");
    assert_eq!(server.connect().line("DBSIZE"), Reply::Int(0));
    // In a forked session the key is set by nobody before.
    assert_eq!(forked.len(), ours.len());
    if !has("redis-server") {
        return;
    }
    let redis = Running::redis(dir.path(), NO_SAVING);
    for (mode, ours) in [("SYNC", ours), ("YES", forked)] {
        redis.connect().line("FLUSHALL");
        for (theirs, ours) in transcript(&redis, mode).iter().zip(&ours) {
            assert_eq!(theirs, ours, "{mode}");
        }
    }
}

#[test]
fn redis_cli_holds_sessions() {
    if !has("redis-cli") {
        return;
    }
    let dir = dir();
    let server = Running::aikv(dir.path(), NO_SAVING);
    std::fs::write(dir.path().join("s.lua"), SCRIPT).expect("a file");
    for (mode, end, stays) in [
        ("--ldb", "(Lua debugging session ended -- dataset changes rolled back)", Reply::Nil),
        ("--ldb-sync-mode", "(Lua debugging session ended)", Reply::Text("v".into())),
    ] {
        let mut cli = std::process::Command::new("redis-cli")
            .args(["-p", &server.port.to_string(), mode, "--eval", "s.lua", "k", ",", "v"])
            .current_dir(dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("redis-cli runs");
        let input = cli.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut { input }, b"s\nprint\n\nc\nquit\n").expect("redis-cli reads");
        let output = cli.wait_with_output().expect("redis-cli ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("<redis> set k v") && text.contains("\"v\"") && text.contains(end), "{text}");
        assert_eq!(server.connect().line("GET k"), stays);
    }
}
