//! Logs are exchanged with a real redis-server (Debian's 7.0.15, when it is installed): what one wrote, the
//! other loads, with the same digest of all data. Also that our own plain form holds everything.

mod support;

use std::path::Path;
use support::{Client, Reply, Running, has};

/// Data of all types that both know.
fn fill(client: &mut Client) {
    let lines = [
        "SET string value",
        "SET number 12345",
        "SET volatile 1 PX 100000000",
        "SETRANGE long 100000 x",
        "RPUSH list a b 3 -4 55555555555",
        "SADD ints 1 2 3 -900000000000",
        "SADD members a b c 1",
        "ZADD scores 1 a 2.5 b -inf c 3.0000000000000004 d",
        "HSET hash field value number 1",
        "XADD stream 1-1 a 1 b 2",
        "XADD stream 1-2 a 2 b 3",
        "XADD stream 5-0 c 1",
        "XDEL stream 1-2",
        "XGROUP CREATE stream group 0",
        // A consumer that never got anything would need snapshots of version 11, which Redis 7.0 does not read.
        "XREADGROUP GROUP group first COUNT 1 STREAMS stream >",
        "XREADGROUP GROUP group busy STREAMS stream >",
        "XADD emptied 7-7 a b",
        "XTRIM emptied MAXLEN 0",
        "PFADD hll a b c",
    ];
    for line in lines {
        let reply = client.line(line);
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
    }
    for i in 0..300 {
        client.line(&format!("RPUSH biglist element:{i}"));
        client.line(&format!("SADD bigset member:{i}"));
        client.line(&format!("ZADD bigzset {i}.25 member:{i}"));
        client.line(&format!("HSET bighash field:{i} value:{i}"));
    }
    assert_eq!(client.line("SELECT 3"), Reply::Text("OK".into()));
    client.line("MULTI");
    client.line("SET other 1");
    client.line("INCR other");
    client.line("EXEC");
    client.line("SELECT 0");
}

fn digest(client: &mut Client) -> Reply {
    client.line("DEBUG DIGEST")
}

fn wait_for_rewrite(client: &mut Client) {
    for _ in 0..600 {
        if client.info("aof_rewrite_in_progress") == "0" && client.info("aof_rewrite_scheduled") == "0" {
            return assert_eq!(client.info("aof_last_bgrewrite_status"), "ok");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the rewrite does not end");
}

const OPTIONS: &[&str] = &["--appendonly", "yes", "--save", "", "--enable-debug-command", "yes"];

type Start = fn(&Path, &[&str]) -> Running;

/// One server writes a log, before and after a rewrite; another one loads it.
fn exchange(writer: Start, reader: Start, preamble: &str) {
    let mut options = OPTIONS.to_vec();
    options.extend_from_slice(&["--aof-use-rdb-preamble", preamble]);
    for rewrite in [false, true] {
        let dir = tempfile::TempDir::new().expect("a directory");
        let mut server = writer(dir.path(), &options);
        let mut client = server.connect();
        fill(&mut client);
        if rewrite {
            client.line("BGREWRITEAOF");
            wait_for_rewrite(&mut client);
            client.line("APPEND string more");
        }
        let before = digest(&mut client);
        server.shut_down(b"NOSAVE");
        let mut server = reader(dir.path(), &options);
        let mut client = server.connect();
        assert_eq!(digest(&mut client), before, "preamble {preamble}, rewritten: {rewrite}");
        // It can be written on, and read by its own writer again.
        client.line("SET string again");
        let after = digest(&mut client);
        server.shut_down(b"NOSAVE");
        let server = writer(dir.path(), &options);
        assert_eq!(digest(&mut server.connect()), after, "preamble {preamble}, rewritten: {rewrite}");
    }
}

#[test]
fn our_logs_hold_everything() {
    for preamble in ["yes", "no"] {
        exchange(Running::aikv, Running::aikv, preamble);
    }
}

#[test]
fn redis_and_aikv_load_each_others_logs() {
    if !has("redis-server") {
        println!("redis-server is not installed: nothing to exchange with");
        return;
    }
    for preamble in ["yes", "no"] {
        exchange(Running::aikv, Running::redis, preamble);
        exchange(Running::redis, Running::aikv, preamble);
    }
}

#[test]
fn fields_with_deadlines_survive_in_both_forms() {
    for preamble in ["yes", "no"] {
        let dir = tempfile::TempDir::new().expect("a directory");
        let mut options = OPTIONS.to_vec();
        options.extend_from_slice(&["--aof-use-rdb-preamble", preamble]);
        let mut server = Running::aikv(dir.path(), &options);
        let mut client = server.connect();
        client.line("HSET hash a 1 b 2");
        client.line("HEXPIRE hash 100000 FIELDS 1 a");
        client.line("BGREWRITEAOF");
        wait_for_rewrite(&mut client);
        let before = client.line("HPEXPIRETIME hash FIELDS 2 a b");
        server.shut_down(b"NOSAVE");
        let server = Running::aikv(dir.path(), &options);
        assert_eq!(server.connect().line("HPEXPIRETIME hash FIELDS 2 a b"), before);
    }
}

/// A log with a script that runs for long, alone and in a transaction.
fn slow_log(folder: &Path) {
    const SLOW: &str = "redis.call('incr', KEYS[1]) for i = 1, 2e7 do end redis.call('incr', KEYS[1])";
    let eval: &[&str] = &["EVAL", SLOW, "1", "k"];
    let commands = [&["SELECT", "0"], eval, &["MULTI"], &["INCR", "k"], eval, &["INCR", "k"], &["EXEC"]];
    let mut log = String::new();
    for words in commands.iter().copied().chain([&["SET", "after", "1"][..]]) {
        log += &format!("*{}\r\n", words.len());
        words.iter().for_each(|word| log += &format!("${}\r\n{word}\r\n", word.len()));
    }
    let folder = folder.join("appendonlydir");
    std::fs::create_dir(&folder).expect("a new folder");
    std::fs::write(folder.join("appendonly.aof.1.incr.aof"), log).expect("writing");
    let manifest = "file appendonly.aof.1.incr.aof seq 1 type i\n";
    std::fs::write(folder.join("appendonly.aof.manifest"), manifest).expect("writing");
}

#[test]
fn clients_are_answered_while_a_slow_script_of_the_log_runs() {
    let dir = tempfile::TempDir::new().unwrap();
    slow_log(dir.path());
    let options = ["--appendonly", "yes", "--busy-reply-threshold", "1", "--enable-debug-command", "yes"];
    let server = Running::aikv(dir.path(), &options);
    let mut client = server.connect();
    let loaded = Reply::Array(vec![Reply::Text("6".into()), Reply::Text("1".into())]);
    assert_eq!(client.line("MGET k after"), loaded);
    // Once more, with somebody there.
    let mut admin = server.connect();
    let waiting = std::thread::spawn(move || admin.line("DEBUG LOADAOF"));
    let (mut loading, mut busy) = (0, 0);
    while !waiting.is_finished() {
        let starts = |reply, with| matches!(reply, Reply::Error(text) if text.starts_with(with));
        loading += u32::from(starts(client.line("GET k"), "LOADING "));
        busy += u32::from(starts(client.line("ECHO hello"), "BUSY "));
    }
    assert_eq!(waiting.join().expect("it is answered"), Reply::Text("OK".into()));
    assert!(loading > 1 && busy > 1, "{loading} and {busy} replies meanwhile");
    assert_eq!((client.line("MGET k after"), client.line("PING")), (loaded, Reply::Text("PONG".into())));
}
