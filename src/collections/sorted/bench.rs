//! A measurement, run by hand: `cargo test --release --lib -- --ignored --nocapture bench_sorted`

use super::*;
use crate::collections::testing::Random;
use crate::sys::clock::Moment;
use std::hint::black_box;

fn member(number: u64) -> [u8; 16] {
    let mut bytes = *b"element:00000000";
    let digits = format!("{number:08}");
    bytes[8..].copy_from_slice(&digits.as_bytes()[..8]);
    bytes
}

fn time(what: &str, count: u64, work: impl FnOnce()) {
    let start = Moment::now();
    work();
    println!("  {what}: {:.0} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

#[test]
#[ignore = "a measurement"]
fn bench_sorted() {
    const COUNT: u64 = 1_000_000;
    type Score = fn(&mut Random, u64) -> f64;
    let kinds: [(&str, Score); 3] = [
        ("random scores", |random, _| random.below(1 << 40) as f64),
        ("times in ms", |random, _| 1.7e12 + random.below(86_400_000) as f64),
        ("ascending scores", |_, i| i as f64),
    ];
    for (name, score) in kinds {
        println!("{name}:");
        let mut random = Random::new(1);
        let mut set = SortedSet::new();
        time("insert", COUNT, || {
            for i in 0..COUNT {
                let bytes = member(i);
                set.insert(hash_key(&bytes), &bytes, score(&mut random, i));
            }
        });
        let members: usize = set.members().iter().map(|member| member.allocated_bytes()).sum();
        let per = |bytes: usize| bytes as f64 / COUNT as f64;
        println!(
            "  bytes a member: {:.1} (block {:.1}, table {:.1}, tree {:.1})",
            per(members + set.memory_bytes()),
            per(members),
            per(set.members.memory_bytes()),
            per(set.tree.memory_bytes())
        );
        let draw: Vec<_> = (0..COUNT).map(|_| member(random.below(COUNT))).collect();
        time("rank", COUNT, || {
            draw.iter().for_each(|bytes| {
                black_box(set.rank(hash_key(bytes), bytes));
            });
        });
        time("rescore", COUNT, || {
            for (i, bytes) in draw.iter().enumerate() {
                let score = score(&mut random, i as u64);
                set.insert(hash_key(bytes), bytes, score);
            }
        });
        time("range of 100, each", COUNT, || {
            for _ in 0..COUNT / 100 {
                let start = random.below(COUNT - 100) as usize;
                black_box(
                    set.range(start..start + 100, Direction::Forward)
                        .map(|(b, s)| b.len() as f64 + s)
                        .sum::<f64>(),
                );
            }
        });
        time("remove", COUNT, || {
            for i in 0..COUNT {
                let bytes = member(i);
                set.remove(hash_key(&bytes), &bytes);
            }
        });
    }
}
