//! A log that is read after deadlines in it have passed: whatever was done with keys and fields while they
//! were alive happens again, so the data are those of a server that never stopped. Random programs under a
//! clock that is moved by hand.

use super::tests::{START_MS, World, ask, start_at};
use crate::sys::background::Background;
use crate::util::rng::Rng;

/// Longest time to live that is given, in milliseconds.
const TTL_MAX_MS: u64 = 4_000;

/// Requests; `K` is a key of any type, `S` `Z` `H` `L` one that mostly holds a set, sorted set, hash, list,
/// `F` a field, `T` a time to live, `N` a number.
const REQUESTS: &[&str] = &[
    "SET K N PX T",
    "SET K N",
    "SET K N PXAT 1",
    "SETNX K N",
    "PEXPIREAT K 1",
    "SET K N XX KEEPTTL",
    "PSETEX K T N",
    "GETEX K PX T",
    "GETEX K PERSIST",
    "GETDEL K",
    "APPEND K N",
    "INCRBY K N",
    "PEXPIRE K T",
    "PEXPIRE S T",
    "PEXPIRE Z T",
    "PEXPIRE H T",
    "PEXPIRE L T",
    "PEXPIRE K T GT",
    "PERSIST K",
    "PERSIST S",
    "PERSIST H",
    "COPY K K REPLACE",
    "COPY H H REPLACE",
    "COPY S S",
    "RENAME K K",
    "RENAME H H",
    "RENAMENX S S",
    "MOVE K 1",
    "SADD S N N N",
    "SREM S N",
    "SMOVE S S N",
    "SUNIONSTORE S S S",
    "SINTERSTORE S S S",
    "SDIFFSTORE S S S",
    "SPOP S",
    "ZADD Z N N N N",
    "ZINCRBY Z 1 N",
    "ZUNIONSTORE Z 2 Z S",
    "ZINTERSTORE Z 2 Z Z",
    "ZDIFFSTORE Z 2 Z Z",
    "ZRANGESTORE Z Z 0 -1",
    "ZPOPMIN Z",
    "RPUSH L N N",
    "LPUSHX L N",
    "LMOVE L L LEFT RIGHT",
    "LPOP L",
    "SORT S STORE L",
    "SORT L BY H->F GET H->F GET # STORE L",
    "BITOP OR K K K",
    "HSET H F N F N",
    "HSETNX H F N",
    "HINCRBY H F N",
    "HDEL H F",
    "HPEXPIRE H T FIELDS 1 F",
    "HPEXPIRE H T FIELDS 2 F F",
    "HPEXPIRE H T GT FIELDS 1 F",
    "HPERSIST H FIELDS 1 F",
    "HGETEX H PERSIST FIELDS 1 F",
    "HGETEX H PX T FIELDS 1 F",
    "HSETEX H FXX PX T FIELDS 1 F N",
    "HSETEX H KEEPTTL FIELDS 1 F N",
    "HGETDEL H FIELDS 1 F",
    "HGETALL H",
    "EXISTS K",
    "RANDOMKEY",
    "DEL K",
];

fn request(rng: &mut Rng) -> String {
    let form = REQUESTS[rng.below(REQUESTS.len() as u64) as usize];
    let words = form.split(' ').map(|word| match word {
        "K" | "S" | "Z" | "H" | "L" => format!("{}{}", word.to_lowercase(), rng.below(3)),
        "H->F" => format!("h{}->f{}", rng.below(3), rng.below(4)),
        "F" => format!("f{}", rng.below(4)),
        "T" => (1 + rng.below(TTL_MAX_MS)).to_string(),
        "N" => rng.below(9).to_string(),
        word => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn replay_after_deadlines_gives_what_a_server_that_went_on_has() {
    let seed = std::env::var("AIKV_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::process::id().into());
    println!("AIKV_SEED={seed}");
    let mut rng = Rng::from_seed(seed);
    for round in 0..30 {
        let mut world = World::new(&[("appendfsync", "no")]);
        let (client, mut elapsed_ms) = (world.client(), 0);
        let mut program = Vec::new();
        for _ in 0..150 {
            let mut requests = vec![request(&mut rng)];
            if rng.below(5) == 0 {
                requests.extend((0..1 + rng.below(3)).map(|_| request(&mut rng)));
                requests.insert(0, "MULTI".to_owned());
                requests.push("EXEC".to_owned());
            }
            world.send(client, &requests.iter().map(String::as_str).collect::<Vec<_>>());
            world.open(client);
            program.append(&mut requests);
            if rng.below(3) == 0 {
                let ms = rng.below(600);
                elapsed_ms += ms;
                world.wait(ms);
            }
        }
        if round % 2 == 1 {
            // What has no deadline left stays, what has goes, before as after.
            elapsed_ms += TTL_MAX_MS;
            world.wait(TTL_MAX_MS);
        }
        let expected = ask(&mut world.server, "DEBUG DIGEST");
        assert!(world.server.flush_log_and_wait());
        let later_ms = START_MS + elapsed_ms as i64;
        let mut again = start_at(&[("appendonly", "yes"), ("save", "")], Background::inline(), later_ms);
        let found = ask(&mut again, "DEBUG DIGEST");
        assert_eq!(found, expected, "round {round}\n{}", program.join("\n"));
    }
}
