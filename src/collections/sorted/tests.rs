//! Sorted sets against a plain ordered set and a map.

use super::*;
use crate::collections::testing::Random;
use crate::sys::defrag::{Mover, Select};
use std::collections::{BTreeSet, HashMap};

/// A score as a number that orders like it.
fn ordered(score: f64) -> i64 {
    let bits = (score + 0.0).to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[derive(Default)]
struct Model {
    order: BTreeSet<(i64, Vec<u8>)>,
    scores: HashMap<Vec<u8>, f64>,
}

impl Model {
    fn insert(&mut self, bytes: &[u8], score: f64) -> Option<f64> {
        let old = self.remove(bytes);
        self.order.insert((ordered(score), bytes.to_vec()));
        self.scores.insert(bytes.to_vec(), score);
        old
    }

    fn remove(&mut self, bytes: &[u8]) -> Option<f64> {
        let old = self.scores.remove(bytes)?;
        assert!(self.order.remove(&(ordered(old), bytes.to_vec())));
        Some(old)
    }

    fn all(&self) -> Vec<(Vec<u8>, f64)> {
        self.order.iter().map(|(_, bytes)| (bytes.clone(), self.scores[bytes])).collect()
    }
}

fn some_score(random: &mut Random, style: u64) -> f64 {
    match style {
        0 => random.below(10) as f64,
        1 => random.next() as i64 as f64,
        2 => 1.7e12 + random.below(1000) as f64,
        3 => 0.0,
        _ => match random.below(6) {
            0 => f64::INFINITY,
            1 => f64::NEG_INFINITY,
            2 => f64::MAX * random.below(2) as f64,
            3 => 5e-324 * random.below(100) as f64,
            _ => random.next() as i64 as f64 / 1e30,
        },
    }
}

fn compare(set: &SortedSet, model: &Model, random: &mut Random) {
    set.check();
    let all = model.all();
    let forward: Vec<_> =
        set.range(0..usize::MAX, Direction::Forward).map(|(b, s)| (b.to_vec(), s)).collect();
    assert_eq!(forward, all);
    let start = random.below(all.len() as u64 + 2) as usize;
    let end = start + random.below(50) as usize;
    let wanted = &all[start.min(all.len())..end.min(all.len())];
    let backward = set.range(start..end, Direction::Backward).map(|(b, s)| (b.to_vec(), s));
    assert!(backward.eq(wanted.iter().rev().cloned()));
    for _ in 0..20.min(all.len()) {
        let rank = random.below(all.len() as u64) as usize;
        let (bytes, score) = &all[rank];
        assert_eq!(set.rank(hash_key(bytes), bytes), Some((rank, *score)));
        let before = all.iter().filter(|(_, s)| s < score).count();
        assert_eq!(set.count_before(Cut::Score(*score, Side::Before)), before);
        let up_to = all.iter().filter(|(_, s)| s <= score).count();
        assert_eq!(set.count_before(Cut::Score(*score, Side::After)), up_to);
    }
}

fn run(random: &mut Random, style: u64, steps: u64) {
    let (mut set, mut model) = (SortedSet::new(), Model::default());
    let keys = 1 + random.below(6_000);
    let (mut mover, mut cursor) = (Mover::new(Select::Everything), 0);
    for step in 0..steps {
        // A walk of moves goes on between the operations, as active defragmentation does.
        if random.below(3) == 0 {
            cursor = set.relocate_some(cursor, &mut mover).unwrap_or(0);
        }
        let bytes = format!("m{}", random.below(keys)).into_bytes();
        let hash = hash_key(&bytes);
        let growing = step % (steps / 2) < steps / 3;
        match random.below(100) {
            0 => {
                let start = random.below(set.len() as u64 + 1) as usize;
                let end = start + random.below(if growing { 20 } else { 500 }) as usize;
                let all = model.all();
                let wanted = &all[start.min(all.len())..end.min(all.len())];
                let mut removed = vec![];
                set.remove_range(start..end, &mut |bytes, score| removed.push((bytes.to_vec(), score)));
                assert_eq!(removed, wanted);
                removed.iter().for_each(|(bytes, _)| assert!(model.remove(bytes).is_some()));
            }
            1..70 if growing => {
                let score = some_score(random, style);
                assert_eq!(set.insert(hash, &bytes, score), model.insert(&bytes, score));
            }
            1..20 => {
                let score = model.scores.get(&bytes).map_or(0.5, |score| score + 1.0);
                assert_eq!(set.insert(hash, &bytes, score), model.insert(&bytes, score));
            }
            _ => assert_eq!(set.remove(hash, &bytes), model.remove(&bytes)),
        }
        assert_eq!(set.len(), model.scores.len());
        assert_eq!(set.score(hash, &bytes), model.scores.get(&bytes).copied());
        if step % 500 == 0 {
            compare(&set, &model, random);
        }
    }
    compare(&set.duplicate(), &model, random);
}

#[test]
fn agrees_with_an_ordered_set() {
    let mut random = Random::from_env();
    for style in 0..5 {
        run(&mut random, style, if cfg!(miri) { 300 } else { 24_000 });
    }
}

#[test]
fn ordered_insertion_fills_leaves() {
    for descending in [false, true] {
        let mut set = SortedSet::new();
        for i in 0..if cfg!(miri) { 500 } else { 60_000 } {
            let score = f64::from(if descending { -i } else { i });
            let bytes = format!("{i}");
            set.insert(hash_key(bytes.as_bytes()), bytes.as_bytes(), score);
        }
        set.check();
        let per_member = set.tree.memory_bytes() as f64 / set.len() as f64;
        assert!(per_member < 14.5 || cfg!(miri), "{per_member}");
        let all = set.len();
        assert_eq!(set.remove_range(1..all - 1, &mut |_, _| {}), all - 2);
        set.check();
        assert_eq!(set.remove_range(0..9, &mut |_, _| {}), 2);
        set.check();
    }
}

#[test]
fn lexical_cuts() {
    let mut set = SortedSet::new();
    for i in 0..1000u32 {
        let bytes = format!("{i:04}");
        set.insert(hash_key(bytes.as_bytes()), bytes.as_bytes(), 0.0);
    }
    assert_eq!(set.count_before(Cut::Lex(b"0500", Side::Before)), 500);
    assert_eq!(set.count_before(Cut::Lex(b"0500", Side::After)), 501);
    assert_eq!(set.count_before(Cut::Lex(b"", Side::Before)), 0);
    assert_eq!(set.count_before(Cut::Lex(b"1", Side::After)), 1000);
}
