//! Random runs of the wheel against an ordered map of deadlines.

use super::*;
use crate::collections::testing::Random;
use crate::sys::defrag::{Mover, Select};
use std::collections::BTreeMap;

/// A wheel and the truth: what each key's deadline is, and for which deadline its item was filed.
struct Model {
    wheel: Wheel,
    deadlines: BTreeMap<u64, i64>,
    filed: BTreeMap<u64, i64>,
    now: i64,
}

impl Model {
    fn new(now: i64) -> Self {
        Model { wheel: Wheel::new(now), deadlines: BTreeMap::new(), filed: BTreeMap::new(), now }
    }

    /// Gives a key a deadline, as an owner would.
    fn set(&mut self, key: u64, deadline: i64) {
        let had = self.deadlines.insert(key, deadline);
        let covered = had.is_some() && self.filed.get(&key).is_some_and(|&filed| filed <= deadline);
        if !covered {
            self.wheel.file(key, deadline);
            self.filed.insert(key, deadline);
        }
    }

    /// Advances in steps of the budget until idle, and checks that exactly the due keys have ended.
    fn advance(&mut self, now: i64, budget: usize) -> usize {
        self.now = now;
        let due: Vec<u64> =
            self.deadlines.iter().filter(|&(_, &at)| at <= now).map(|(&key, _)| key).collect();
        let mut ended = Vec::new();
        let mut calls = 0;
        loop {
            let (deadlines, filed) = (&mut self.deadlines, &mut self.filed);
            let mut asked = 0;
            let state = self.wheel.advance(now, budget, &mut |key| {
                asked += 1;
                let deadline = *deadlines.get(&key)?;
                if deadline > now {
                    filed.insert(key, deadline);
                    return Some(deadline);
                }
                deadlines.remove(&key);
                filed.remove(&key);
                ended.push(key);
                None
            });
            assert!(asked <= budget);
            calls += 1;
            if state == Advance::Idle {
                break;
            }
        }
        ended.sort();
        assert_eq!(ended, due, "at {now}");
        self.check();
        calls
    }

    fn compact(&mut self, budget: usize) -> Advance {
        let (deadlines, filed) = (&self.deadlines, &mut self.filed);
        self.wheel.compact(budget, &mut |key| {
            let deadline = *deadlines.get(&key)?;
            filed.insert(key, deadline);
            Some(deadline)
        })
    }

    fn check(&self) {
        assert!(self.wheel.len() >= self.deadlines.len());
        let first = self.deadlines.values().min();
        if let Some(&first) = first {
            assert!(self.wheel.next_due_ms().expect("not empty") <= first.max(self.wheel.now));
        }
        if self.wheel.is_empty() {
            assert_eq!((self.wheel.next_due_ms(), self.wheel.chunks), (None, 0));
        }
    }
}

/// Numbers as hashes: the top bits matter.
fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn some_span(random: &mut Random) -> i64 {
    let most = [3, 100, 1000, 100_000, 10_000_000, 1 << 36, 1 << 44][random.below(7) as usize];
    random.below(most) as i64
}

#[test]
fn agrees_with_a_map() {
    let mut random = Random::from_env();
    for round in 0..if cfg!(miri) { 1 } else { 12 } {
        let mut model = Model::new(if round % 2 == 0 { 0 } else { 1_700_000_000_000 });
        let keys = [10, 300, 5000][round % 3];
        let (mut mover, mut cursor) = (Mover::new(Select::Everything), RelocateCursor::default());
        for _ in 0..if cfg!(miri) { 200 } else { 6000 } {
            // A walk of moves goes on between the operations, as active defragmentation does.
            cursor = model.wheel.relocate_some(cursor, &mut mover).unwrap_or_default();
            let key = spread(random.below(keys));
            match random.below(12) {
                0..=5 => {
                    let deadline = model.now + some_span(&mut random) - 2;
                    model.set(key, deadline);
                }
                6 => drop(model.deadlines.remove(&key)),
                7 => {
                    let deadline = [i64::MAX, i64::MIN, 0, -5, 1 << 60][random.below(5) as usize];
                    model.set(key, deadline);
                }
                8 => drop(model.compact(random.below(200) as usize)),
                _ => {
                    let now = model.now + some_span(&mut random) / (1 + random.below(50) as i64);
                    model.advance(now, 1 + random.below(100) as usize);
                }
            }
            model.check();
        }
        model.advance(1 << 59, 1000);
    }
}

#[test]
fn every_millisecond_is_exact() {
    let mut random = Random::from_env();
    let mut model = Model::new(5);
    let keys = if cfg!(miri) { 50 } else { 3000 };
    for key in 1..keys {
        let deadline = model.now + random.below(70_000) as i64;
        model.set(key, deadline);
    }
    // As an event loop does it: sleep until there is work, never past it.
    while let Some(due) = model.wheel.next_due_ms() {
        let now = due.max(model.now);
        model.advance(now, 1000);
        assert!(model.deadlines.values().all(|&deadline| deadline > now));
    }
    assert!(model.deadlines.is_empty());
}

#[test]
fn a_full_slot_does_not_delay_others() {
    let mut wheel = Wheel::new(0);
    let count = if cfg!(miri) { 2000 } else { 300_000 };
    // All in one slot of level 2, and one item that is due while they move down.
    let base = 40 << 14;
    for key in 1..=count {
        wheel.file(key, base + (key % 16_000) as i64);
    }
    wheel.file(u64::MAX, base - 8_000);
    let (mut now, mut late, mut most) = (base - (1 << 14) - 100, 0, 0);
    while !wheel.is_empty() {
        now += 1;
        let mut asked = 0;
        wheel.advance(now, 200, &mut |key| {
            asked += 1;
            let deadline = if key == u64::MAX { base - 8_000 } else { base + (key % 16_000) as i64 };
            late = late.max(now - deadline);
            (deadline > now).then_some(deadline)
        });
        most = most.max(asked);
    }
    assert!(late <= 1 && most <= 200, "late {late}, most {most}");
}

#[test]
fn duplicates_are_removed() {
    let mut random = Random::from_env();
    let keys = if cfg!(miri) { 100 } else { 20_000 };
    let mut model = Model::new(1000);
    for _ in 0..5 {
        for key in (1..=keys).map(spread) {
            // Deleted and set again: the old item stays.
            model.deadlines.remove(&key);
            let deadline = model.now + 1 + some_span(&mut random);
            model.set(key, deadline);
        }
    }
    let before = model.wheel.memory_bytes();
    for _ in 0..4 {
        // The world goes on during a sweep.
        while model.compact(100) == Advance::More {
            let key = spread(1 + random.below(keys));
            if random.below(2) == 0 {
                model.deadlines.remove(&key);
            } else {
                let deadline = model.now + 1 + some_span(&mut random);
                model.set(key, deadline);
            }
            if random.below(8) == 0 {
                model.advance(model.now + random.below(3) as i64, 1000);
            }
        }
    }
    assert!(model.wheel.len() < model.deadlines.len() * 3 / 2 + 100, "{} items", model.wheel.len());
    assert!(cfg!(miri) || model.wheel.memory_bytes() < before);
    model.advance(model.now + (1 << 45), 1000);
    assert!(model.wheel.is_empty());
}

#[test]
fn the_clock_may_go_back() {
    let mut model = Model::new(10_000_000);
    model.set(1, 10_005_000);
    model.set(2, 5_000_000 + (1 << 40));
    model.advance(9_999_500, 10);
    model.set(3, 9_999_800);
    model.advance(5_000_000, 10);
    model.set(4, 5_000_010);
    model.advance(5_000_009, 10);
    model.advance(5_000_010, 10);
    model.advance(10_005_000, 10);
    model.advance(5_000_000 + (1 << 40), 10);
    assert!(model.wheel.is_empty());
}

#[test]
fn empty_wheels_are_small() {
    assert!(size_of::<Wheel>() <= 160, "{}", size_of::<Wheel>());
    let mut wheel = Wheel::new(1);
    assert_eq!(wheel.memory_bytes(), 0);
    assert_eq!(wheel.advance(1 << 50, 0, &mut |_| None), Advance::Idle);
    assert_eq!(wheel.compact(0, &mut |_| None), Advance::Idle);
    wheel.file(7, 0);
    assert_eq!(wheel.advance(1 << 50, 0, &mut |_| None), Advance::More);
    assert_eq!(wheel.advance(1 << 50, 1, &mut |_| None), Advance::Idle);
}

#[test]
fn duplicates_do_not_survive_sweep_after_sweep() {
    // A few keys whose hashes share a place in one sweep must not do so in the next.
    let mut random = Random::from_env();
    let hashes: Vec<u64> = (0..100).map(|_| random.next()).collect();
    let mut wheel = Wheel::new(0);
    for _ in 0..if cfg!(miri) { 20 } else { 500 } {
        hashes.iter().for_each(|&hash| wheel.file(hash, 1_000_000));
        let mut sweeps = 0;
        while wheel.len() > 1000 && sweeps < 20 {
            while wheel.compact(64, &mut |_| Some(1_000_000)) == Advance::More {}
            sweeps += 1;
        }
        assert!(wheel.len() <= 1000, "{} items", wheel.len());
    }
}
