//! A measurement of the data types, run by hand:
//! `cargo test --release --lib -- --ignored --nocapture bench_values`

use super::*;
use crate::collections::testing::Random;
use crate::sys::alloc;
use crate::sys::clock::Moment;
use std::hint::black_box;

const COUNT: u64 = 1_000_000;

/// Eight bytes and eight digits; the making of it costs little beside what is measured.
fn text(prefix: &[u8; 8], mut number: u64) -> [u8; 16] {
    let mut text = *b"element:00000000";
    text[..8].copy_from_slice(prefix);
    for digit in text[8..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

fn time<R>(what: &str, count: u64, work: impl FnOnce() -> R) -> R {
    let start = Moment::now();
    let result = work();
    println!("  {what}: {:.0} ns", start.elapsed().as_nanos() as f64 / count as f64);
    result
}

/// Builds a value and gives it with the bytes an element takes.
fn build(what: &str, kind: Kind, mut add: impl FnMut(&mut Entry, u64)) -> Entry {
    let before = alloc::used_memory();
    let mut entry = draft(kind);
    time(what, COUNT, || (0..COUNT).for_each(|i| add(&mut entry, i)));
    let bytes = (alloc::used_memory() - before) as f64 / COUNT as f64;
    println!("  {} bytes an element: {bytes:.1}", encoding(&entry));
    entry
}

fn lists(limits: &Limits, random: &mut Random) {
    for end in [list::End::Back, list::End::Front] {
        let entry = build("push", Kind::List, |entry, i| {
            list::push(entry, &limits.list, end, [&text(b"element:", i)[..]].into_iter());
        });
        time("range of 100 in the middle, each", COUNT, || {
            for _ in 0..COUNT / 100 {
                let mut sum = 0;
                let start = random.below(COUNT - 100) as usize;
                let view = list::view(&entry);
                view.range(start, 100, Direction::Forward, &mut |value| sum += value.len());
                black_box(sum);
            }
        });
    }
}

fn sets(limits: &Limits, random: &mut Random) {
    let entry = build("sadd", Kind::Set, |entry, i| {
        set::add(entry, &limits.set, &set::Probe::new(&text(b"element:", i)));
    });
    time("contains", COUNT, || {
        for _ in 0..COUNT {
            black_box(set::view(&entry).contains(&set::Probe::new(&text(b"element:", random.below(COUNT)))));
        }
    });
}

fn hashes(limits: &Limits, random: &mut Random) {
    let entry = build("hset", Kind::Hash, |entry, i| {
        let (field, value) = (text(b"field:00", i), text(b"value:00", i));
        hash::set(entry, &limits.hash, &field, &value, hash::FieldTtl::Clear);
    });
    time("hget", COUNT, || {
        for _ in 0..COUNT {
            black_box(hash::view(&entry, 0).get(&text(b"field:00", random.below(COUNT))));
        }
    });
    drop(entry);
    let mut entry = draft(Kind::Hash);
    time("hset into 50 fields", COUNT, || {
        for i in 0..COUNT {
            let (field, value) = (text(b"field:00", random.below(50)), text(b"value:00", i));
            hash::set(&mut entry, &limits.hash, &field, &value, hash::FieldTtl::Clear);
        }
    });
    time("all of 50 fields, each", COUNT, || {
        for _ in 0..COUNT / 50 {
            let items = hash::view(&entry, 0).iter();
            black_box(items.map(|item| item.field.len() + item.value.len()).sum::<usize>());
        }
    });
}

fn sorted_sets(limits: &Limits, random: &mut Random) {
    let entry = build("zadd", Kind::Zset, |entry, i| {
        let score = random.below(1 << 40) as f64;
        zset::set(entry, &limits.zset, &text(b"element:", i), score);
    });
    time("range of 100, each", COUNT, || {
        for _ in 0..COUNT / 100 {
            let start = random.below(COUNT - 100) as usize;
            let items = zset::view(&entry).range(start..start + 100, Direction::Forward);
            black_box(items.map(|(member, _)| member.len()).sum::<usize>());
        }
    });
    drop(entry);
    let mut entry = draft(Kind::Zset);
    time("zadd into 100 members", COUNT, || {
        for _ in 0..COUNT {
            let score = random.below(1000) as f64;
            zset::set(&mut entry, &limits.zset, &text(b"element:", random.below(100)), score);
        }
    });
    time("range of 100 small, each", COUNT, || {
        for _ in 0..COUNT / 100 {
            black_box(zset::view(&entry).iter().map(|(member, _)| member.len()).sum::<usize>());
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn bench_values() {
    let limits = Limits::from_config(&Config::default());
    let mut random = Random::new(1);
    time("making a text and a box for it", COUNT, || {
        (0..COUNT).for_each(|i| drop(black_box(Box::new(text(b"element:", i)))));
    });
    for (name, run) in [
        ("lists", lists as fn(&Limits, &mut Random)),
        ("sets", sets),
        ("hashes", hashes),
        ("sorted sets", sorted_sets),
    ] {
        println!("{name}:");
        run(&limits, &mut random);
    }
}
