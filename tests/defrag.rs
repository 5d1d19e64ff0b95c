//! Active defragmentation of a real server: memory is filled with values of all types, most keys go, and while
//! clients write, wait, scan and watch, blocks are moved until the pages are full again. Nothing else changes.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Reply, Running};

/// Strings before most of them are removed.
const STRINGS: usize = 40_000;
/// One of so many strings is kept.
const KEPT: usize = 5;
/// Collections of each type, and elements of each.
const COLLECTIONS: usize = 60;
const ELEMENTS: usize = 150;

/// Sends many requests at once.
fn pipeline(client: &mut Client, requests: &[String]) {
    for batch in requests.chunks(500) {
        for request in batch {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            client.send(&words).expect("the server takes it");
        }
        for request in batch {
            let reply = client.read().expect("the server answers");
            assert!(!matches!(reply, Reply::Error(_)), "{request}: {reply:?}");
        }
    }
}

fn collections() -> Vec<String> {
    let mut out = Vec::new();
    for element in 0..ELEMENTS {
        for i in 0..COLLECTIONS {
            let text = "t".repeat(20 + (element * 7 + i) % 200);
            out.push(format!("HSET hash:{i} field:{element} {text}"));
            out.push(format!("SADD set:{i} member:{element}:{text}"));
            out.push(format!("ZADD zset:{i} {} member:{element}:{text}", element % 37));
            out.push(format!("RPUSH list:{i} {element}:{text}"));
            out.push(format!("XADD stream:{i} {}-1 field {text}", element + 1));
            // What lies beside each of them goes later.
            out.push(format!("SET gap:{i}:{element} {}", "g".repeat(text.len() + 30)));
        }
    }
    for i in 0..COLLECTIONS {
        out.push(format!("HPEXPIRE hash:{i} 90000000 FIELDS 2 field:1 field:2"));
        out.push(format!("XGROUP CREATE stream:{i} group 0"));
        out.push(format!("XREADGROUP GROUP group consumer COUNT 20 STREAMS stream:{i} >"));
    }
    out
}

/// All keys that stay, and the digests of their values.
fn digests(client: &mut Client, keys: &[String]) -> Vec<Reply> {
    let ask = |batch: &[String]| client.line(&format!("DEBUG DIGEST-VALUE {}", batch.join(" ")));
    keys.chunks(500).map(ask).collect()
}

/// Changes things in another database until it is told to stop.
fn write_on(client: &mut Client, stop: &AtomicBool) {
    client.line("SELECT 1");
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let requests: Vec<String> = (0..100)
            .map(|i| {
                let (n, text) = ((round * 37 + i * 11) % 900, "w".repeat(1 + (round + i) % 400));
                match i % 10 {
                    0 => format!("DEL s{n} h{n}"),
                    1 => format!("APPEND s{n} {text}"),
                    2 => format!("HSET h{n} f{i} {text}"),
                    3 => format!("ZADD z{n} {i} {text}"),
                    4 => format!("LPUSH l{n} {text}"),
                    5 => format!("LTRIM l{n} 0 50"),
                    6 => format!("SET volatile{n} {text} PX {}", 1 + n),
                    7 => format!("HPEXPIRE h{n} {} FIELDS 1 f{i}", 1 + n),
                    8 => format!("XADD x{n} MAXLEN 30 * f {text}"),
                    _ => format!("SET s{n} {text}"),
                }
            })
            .collect();
        pipeline(client, &requests);
        round += 1;
    }
}

fn ratio(client: &mut Client) -> f64 {
    // The figures are those of the last 100 ms.
    sleep(Duration::from_millis(150));
    client.info("allocator_frag_ratio").parse().expect("a number")
}

fn scan_once(client: &mut Client, seen: &mut HashSet<String>) {
    let mut cursor = "0".to_owned();
    loop {
        let Reply::Array(reply) = client.line(&format!("SCAN {cursor} COUNT 300")) else { panic!("SCAN") };
        let [Reply::Text(next), Reply::Array(keys)] = &reply[..] else { panic!("{reply:?}") };
        seen.extend(
            keys.iter().filter_map(|key| if let Reply::Text(key) = key { Some(key.clone()) } else { None }),
        );
        cursor = next.clone();
        if cursor == "0" {
            return;
        }
    }
}

/// Fills a server and removes most of it. Gives the keys that are left.
fn fragment(client: &mut Client) -> Vec<String> {
    let value = |i: usize| "v".repeat(100 + i % 300);
    let strings: Vec<String> = (0..STRINGS).map(|i| format!("SET string:{i} {}", value(i))).collect();
    pipeline(client, &strings);
    pipeline(client, &collections());
    let gone = (0..STRINGS).filter(|i| i % KEPT != 0).map(|i| format!("DEL string:{i}"));
    let gaps =
        (0..ELEMENTS * COLLECTIONS).map(|i| format!("DEL gap:{}:{}", i % COLLECTIONS, i / COLLECTIONS));
    pipeline(client, &gone.chain(gaps).collect::<Vec<_>>());
    let strings = (0..STRINGS).step_by(KEPT).map(|i| format!("string:{i}"));
    let others = ["hash", "set", "zset", "list", "stream"];
    let others = others.iter().flat_map(|kind| (0..COLLECTIONS).map(move |i| format!("{kind}:{i}")));
    strings.chain(others).collect()
}

/// Waits until the work is done.
fn wait_for_the_end(client: &mut Client, mut meanwhile: impl FnMut(&mut Client)) {
    let begin = Instant::now();
    loop {
        meanwhile(client);
        let number = |text: String| text.parse::<u64>().expect("a number");
        let ran = number(client.info("total_active_defrag_time")) > 0;
        if ran && number(client.info("active_defrag_running")) == 0 {
            return;
        }
        assert!(begin.elapsed() < 2 * PATIENCE, "active defragmentation does not end");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn pages_are_filled_while_clients_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = "--save  --enable-debug-command yes --hz 100 --active-defrag-ignore-bytes 500kb \
        --active-defrag-threshold-lower 12 --active-defrag-cycle-min 40 --active-defrag-cycle-max 75 \
        --active-defrag-max-scan-fields 100 --list-max-listpack-size 5 --stream-node-max-entries 5";
    let server = Running::aikv(dir.path(), &options.split(' ').collect::<Vec<_>>());
    let (mut client, mut waiting, mut watching) = (server.connect(), server.connect(), server.connect());
    let keys = fragment(&mut client);
    let before = ratio(&mut client);
    assert!(before > 1.3, "{before}");
    let wanted = digests(&mut client, &keys);

    waiting.send(&[b"BLPOP", b"queue", b"0"]).expect("it is sent");
    for line in ["WATCH string:0 hash:1", "MULTI", "HGET hash:1 field:3"] {
        watching.line(line);
    }
    let (stop, mut writer) = (AtomicBool::new(false), server.connect());
    std::thread::scope(|scope| {
        scope.spawn(|| write_on(&mut writer, &stop));
        assert_eq!(client.line("CONFIG SET activedefrag yes"), Reply::Text("OK".into()));
        wait_for_the_end(&mut client, |client| {
            let mut seen = HashSet::new();
            scan_once(client, &mut seen);
            assert!(keys.iter().all(|key| seen.contains(key)), "SCAN has missed a key");
        });
        stop.store(true, Ordering::Relaxed);
    });

    let after = ratio(&mut client);
    assert!(after < before && after < 1.2, "{before} {after}");
    let hits: u64 = client.info("active_defrag_hits").parse().expect("a number");
    let key_hits: u64 = client.info("active_defrag_key_hits").parse().expect("a number");
    assert!(hits > 5_000 && key_hits > 2_000, "{hits} {key_hits}");
    assert_eq!(digests(&mut client, &keys), wanted);
    client.line("RPUSH queue element");
    let popped = [Reply::Text("queue".into()), Reply::Text("element".into())];
    assert_eq!(waiting.read(), Some(Reply::Array(popped.into())));
    assert!(matches!(watching.line("EXEC"), Reply::Array(replies) if replies.len() == 1));

    // Room is made by eviction while blocks are moved.
    let used: usize = client.info("used_memory").parse().expect("a number");
    client.line(&format!("CONFIG SET maxmemory {} maxmemory-policy allkeys-lru", used - 3_000_000));
    let more: Vec<String> = (0..5_000).map(|i| format!("SET more:{i} {}", "m".repeat(i % 500))).collect();
    pipeline(&mut client, &more);
    wait_for_the_end(&mut client, |_| ());
    assert_eq!(client.line("CONFIG SET activedefrag no maxmemory 0"), Reply::Text("OK".into()));
    // What the writer made volatile is over then, and the digest stays.
    sleep(Duration::from_millis(1_200));
    let digest = client.line("DEBUG DIGEST");
    assert_eq!(client.line("DEBUG RELOAD"), Reply::Text("OK".into()));
    assert_eq!(client.line("DEBUG DIGEST"), digest);
    assert_eq!(client.info("active_defrag_running"), "0");
}
