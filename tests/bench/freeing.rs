//! What others feel when a collection of five million elements goes: by name, under another value, by its
//! deadline. A shared machine stops any process now and then, so PINGs beside nothing are counted as well.

use crate::client::Client;
use crate::peer::Kind;
use crate::probes::{COLLECTIONS, line};
use crate::{Limit, Line, start};
use std::time::{Duration, Instant};

/// Elements of a collection.
const LEN: u64 = 5_000_000;
/// How long a connection sends PINGs after a collection went, and before.
const WATCH: Duration = Duration::from_secs(1);
/// Longer is a stall.
const STALL: Duration = Duration::from_millis(1);

/// Requests that make the collection `big` go.
const WAYS: &[(&str, &[&[u8]])] = &[
    ("deleted", &[b"DEL", b"big"]),
    ("overwritten", &[b"SET", b"big", b"value"]),
    ("replaced", &[b"RENAME", b"other", b"big"]),
    ("expired", &[b"PEXPIRE", b"big", b"100"]),
];

/// PINGs over a millisecond, and commands that took the server over one.
pub fn stalls(_: &[Kind]) -> Vec<Line> {
    let peer = start(Kind::Aikv, &["--slowlog-log-slower-than", "1000", "--slowlog-max-len", "1000"]);
    let (mut client, mut watcher) = (Client::connect(peer.port), Client::connect(peer.port));
    let (mut quiet, mut beside, mut commands) = (0, 0, 0.0);
    for collection in COLLECTIONS {
        for (_, request) in WAYS {
            collection.fill(&mut client, b"big", LEN);
            client.ask(&[b"SET", b"other", b"value"]);
            quiet += stalled(&mut watcher);
            client.line("SLOWLOG RESET");
            client.ask(request);
            beside += stalled(&mut watcher);
            let slow = client.line("SLOWLOG LEN");
            commands += slow.trim_start_matches(':').trim().parse().unwrap_or(f64::NAN);
            assert_eq!(client.line("DEL other big").trim().len(), 2, "a number of keys");
        }
    }
    let quiet = f64::from(quiet);
    vec![
        line("commands over 1 ms, removing 5M elements", vec![commands], "count", Limit::AtMost(0.0)),
        line("PINGs over 1 ms after it", vec![f64::from(beside)], "count", Limit::AtMost(quiet * 1.5 + 10.0)),
        line("PINGs over 1 ms before it", vec![quiet], "count", Limit::None),
    ]
}

/// PINGs that waited for more than a stall in a while.
fn stalled(watcher: &mut Client) -> u32 {
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < WATCH {
        let sent = Instant::now();
        watcher.line("PING");
        count += u32::from(sent.elapsed() > STALL);
    }
    count
}
