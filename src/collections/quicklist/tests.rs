//! Long lists against deques of strings, with small nodes and every kind of limit.

use super::*;
use crate::collections::testing::Random;
use crate::sys::defrag::{Mover, Select};

fn all(list: &Quicklist) -> Vec<Vec<u8>> {
    let mut found = vec![];
    list.walk(0, Direction::Forward, &mut |value| {
        found.push(value.to_vec());
        true
    });
    found
}

fn some_element(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0 => vec![b'p'; 9_000],
        1 => vec![b'q'; 4_097],
        2..10 => random.below(50).to_string().into_bytes(),
        10..20 => format!("element with some length: {}", random.below(1000)).into_bytes(),
        _ => format!("e{}", random.below(30)).into_bytes(),
    }
}

fn step(random: &mut Random, list: &mut Quicklist, model: &mut VecDeque<Vec<u8>>, limits: &Limits) {
    let index = random.below(model.len() as u64 + 1) as usize;
    let element = some_element(random);
    let growing = model.len() < 1_500;
    match random.below(12) {
        0..3 if growing => {
            list.push(End::Front, &element, limits);
            model.push_front(element);
        }
        3..6 if growing => {
            list.push(End::Back, &element, limits);
            model.push_back(element);
        }
        6..8 => {
            list.insert(index, &element, limits);
            model.insert(index, element);
        }
        8 if index < model.len() => {
            list.replace(index, &element, limits);
            model[index] = element;
        }
        9 => {
            let count = random.below(if growing { 6 } else { 900 }) as usize;
            let end = model.len().min(index + count);
            assert_eq!(list.remove_range(index, count, limits), end - index);
            model.drain(index..end);
        }
        10 if random.below(8) == 0 => {
            let max = random.below(20) as usize;
            let backward = random.below(2) == 0;
            let direction = if backward { Direction::Backward } else { Direction::Forward };
            let removed = list.remove_equal(&element, max, direction, limits);
            let mut places: Vec<_> = (0..model.len()).filter(|i| model[*i] == element).collect();
            if backward {
                places.reverse();
            }
            places.truncate(max);
            assert_eq!(removed, places.len());
            places.sort_unstable();
            places.iter().rev().for_each(|i| drop(model.remove(*i)));
        }
        _ => {
            let mut scratch = vec![];
            assert_eq!(list.get(index, &mut scratch).map(Value::to_vec), model.get(index).cloned());
        }
    }
}

fn run(random: &mut Random, limits: Limits, steps: usize) {
    let (mut list, mut model) = (Quicklist::new(), VecDeque::new());
    let (mut mover, mut cursor) = (Mover::new(Select::Everything), 0);
    for round in 0..steps {
        // A walk of moves goes on between the operations, as active defragmentation does.
        cursor = list.relocate_some(cursor, &mut mover).unwrap_or(0);
        step(random, &mut list, &mut model, &limits);
        assert_eq!(list.len(), model.len());
        if round % 101 == 0 {
            list.check(&limits);
            assert_eq!(model, all(&list));
            let from = random.below(model.len() as u64 + 1) as usize;
            let mut left = 40;
            let mut seen = vec![];
            list.walk(from, Direction::Backward, &mut |value| {
                seen.push(value.to_vec());
                left -= 1;
                left > 0
            });
            let wanted = model.iter().take(if from < model.len() { from + 1 } else { 0 }).rev().take(40);
            assert!(seen.iter().eq(wanted));
        }
    }
    let mut copy = list.clone();
    copy.settle_all(&Limits { compress_depth: 3, ..limits });
    copy.check(&Limits { compress_depth: 3, ..limits });
    assert_eq!(model, all(&copy));
    list.remove_range(0, usize::MAX, &limits);
    assert!(list.is_empty() && list.node_count() == 0);
}

#[test]
fn agrees_with_a_deque() {
    let mut random = Random::from_env();
    let steps = if cfg!(miri) { 60 } else { 6_000 };
    for fill in [-2, -1, 3, 1, 40, 0, -5] {
        for (compress_depth, plain_from) in [(0, 0), (1, 0), (2, 20), (1, 1)] {
            run(&mut random, Limits { fill, compress_depth, plain_from }, steps);
        }
    }
}

#[test]
fn inner_nodes_are_compressed() {
    let limits = Limits { fill: -1, compress_depth: 1, plain_from: 0 };
    let mut list = Quicklist::new();
    for i in 0..5_000 {
        list.push(End::Back, format!("some text that is much the same {i}").as_bytes(), &limits);
    }
    list.check(&limits);
    assert_eq!(list.nodes().filter(|node| node.lzf().is_some()).count(), list.node_count() - 2);
    assert!(list.memory_bytes() < 5_000 * 20, "{}", list.memory_bytes());
}

#[test]
fn integers_are_integers_in_plain_nodes_too() {
    let limits = Limits { plain_from: 1, ..Limits::default() };
    let mut list = Quicklist::new();
    list.push(End::Back, b"9", &limits);
    assert!(list.nodes().all(Node::is_plain));
    assert_eq!(list.get(0, &mut Vec::new()), Some(Value::Int(9)));
    list.walk(0, Direction::Forward, &mut |value| value == Value::Int(9) || panic!("{value:?}"));
}

#[test]
fn limits_are_those_of_the_options() {
    let sizes = |fill| Limits { fill, ..Limits::default() }.sizes();
    assert_eq!(sizes(-2), (8192, usize::MAX));
    assert_eq!(sizes(-9), (65536, usize::MAX));
    assert_eq!(sizes(0), (usize::MAX, 1));
    let limits = Limits { fill: 5, ..Limits::default() };
    assert!(limits.exceeded(8193, 2) && limits.exceeded(100, 6) && !limits.exceeded(8192, 5));
    assert!(limits.is_large(8193) && !limits.is_large(8192));
}
