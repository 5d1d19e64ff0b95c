//! A measurement of the table with real entries, run by hand:
//! `cargo test --release --lib -- --ignored --nocapture bench_dict`

use super::Dict;
use crate::collections::entry::{Entry, NewPayload, Payload};
use crate::collections::hash::hash_key;
use crate::collections::testing::Random;
use crate::sys::clock::Moment;
use std::hint::black_box;
use std::time::Duration;

/// Lookups that are prefetched together, as the server does with the requests of one read.
const BATCH: usize = 64;

type Measure = fn(&Dict<Entry<()>>, &[[u8; 16]]) -> f64;

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn entry(key: &[u8]) -> Entry<()> {
    Entry::new(key, 0, NewPayload::Inline(b"0123456789abcdef"), None)
}

fn nanos(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count as f64
}

/// The slowest of many operations.
#[derive(Debug, Default)]
struct Worst {
    time: Duration,
    over_100_micros: usize,
}

impl Worst {
    fn note(&mut self, time: Duration) {
        self.time = self.time.max(time);
        self.over_100_micros += usize::from(time > Duration::from_micros(100));
    }
}

/// Fills a table to `count` and gives the mean and the worst time of an insertion and the mean size.
fn fill(dict: &mut Dict<Entry<()>>, count: u64) -> (f64, Worst, f64) {
    let (mut worst, mut per_key, mut samples) = (Worst::default(), 0.0, 0.0);
    let start = Moment::now();
    let mut last = start;
    for number in 0..count {
        let key = key(number);
        dict.insert_new(hash_key(&key), entry(&key));
        let now = Moment::now();
        worst.note(now - last);
        last = now;
        if number > count / 4 && number.is_multiple_of(count / 256) {
            per_key += dict.memory_bytes() as f64 / (number + 1) as f64;
            samples += 1.0;
        }
    }
    (nanos(start.elapsed(), count), worst, per_key / samples)
}

fn lookups(dict: &Dict<Entry<()>>, keys: &[[u8; 16]]) -> f64 {
    let start = Moment::now();
    let mut sum = 0;
    for key in keys {
        let found = dict.get(hash_key(key), key);
        sum += found.map_or(0, |entry| match entry.into_payload() {
            Payload::Inline(bytes) => usize::from(bytes[3]),
            _ => 0,
        });
    }
    black_box(sum);
    nanos(start.elapsed(), keys.len() as u64)
}

fn batched_lookups(dict: &Dict<Entry<()>>, keys: &[[u8; 16]]) -> f64 {
    let start = Moment::now();
    let mut sum = 0;
    for batch in keys.chunks(BATCH) {
        let mut hashes = [0; BATCH];
        for (hash, key) in hashes.iter_mut().zip(batch) {
            *hash = hash_key(key);
            dict.prefetch_directory(*hash);
        }
        let hashes = &hashes[..batch.len()];
        hashes.iter().for_each(|&hash| dict.prefetch_bucket(hash));
        hashes.iter().for_each(|&hash| dict.prefetch_entry(hash));
        for (&hash, key) in hashes.iter().zip(batch) {
            let found = dict.get(hash, key);
            sum += found.map_or(0, |entry| match entry.into_payload() {
                Payload::Inline(bytes) => usize::from(bytes[3]),
                _ => 0,
            });
        }
    }
    black_box(sum);
    nanos(start.elapsed(), keys.len() as u64)
}

fn removals(dict: &mut Dict<Entry<()>>, keys: &[[u8; 16]]) -> (f64, Worst) {
    let mut worst = Worst::default();
    let start = Moment::now();
    let mut last = start;
    for key in keys {
        drop(dict.remove(hash_key(key), key));
        let now = Moment::now();
        worst.note(now - last);
        last = now;
    }
    (nanos(start.elapsed(), keys.len() as u64), worst)
}

#[test]
#[ignore = "a measurement"]
fn bench_dict() {
    let mut random = Random::new(1);
    let start = Moment::now();
    for _ in 0..1_000_000 {
        black_box(Moment::now());
    }
    println!(
        "each insertion and removal includes a look at the clock: {:.0} ns",
        nanos(start.elapsed(), 1_000_000)
    );
    for count in [1_000_000, 10_000_000] {
        let mut dict = Dict::new();
        let (insert, worst, mean_bytes) = fill(&mut dict, count);
        let stats = dict.stats();
        println!("{count} entries: insert {insert:.0} ns, {worst:?}; {stats:?}");
        let bytes = stats.bytes as f64 / count as f64;
        println!("  table bytes a key: {bytes:.2} at the end, {mean_bytes:.2} on average");
        let mut draw = |from| -> Vec<_> { (0..2_000_000).map(|_| key(from + random.below(count))).collect() };
        let (hits, misses) = (draw(0), draw(count));
        // The best of three: other work on the machine only ever adds time.
        let best = |measure: Measure, keys: &[[u8; 16]]| {
            (0..3).map(|_| measure(&dict, keys)).fold(f64::MAX, f64::min)
        };
        println!("  lookup: hit {:.0} ns, miss {:.0} ns", best(lookups, &hits), best(lookups, &misses));
        let batched = (best(batched_lookups, &hits), best(batched_lookups, &misses));
        println!("  prefetched lookup: hit {:.0} ns, miss {:.0} ns", batched.0, batched.1);
        let start = Moment::now();
        let (mut cursor, mut seen) = (0, 0);
        loop {
            cursor = dict.scan(cursor, 10, &mut |entry| seen += usize::from(entry.kind() == 0));
            if cursor == 0 {
                break;
            }
        }
        println!("  scan: {:.0} ns an entry", nanos(start.elapsed(), seen as u64));
        let all: Vec<_> = (0..count).map(key).collect();
        let (remove, worst) = removals(&mut dict, &all);
        println!("  remove {remove:.0} ns, {worst:?}; {} bytes left", dict.memory_bytes());
    }
}
