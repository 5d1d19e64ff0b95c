//! Streams against a plain model, and against bytes that Redis wrote.

use super::*;
use crate::collections::testing::Random;
use crate::sys::defrag::{Mover, Select};
use std::collections::BTreeMap;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(pairs: &Pairs) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    pairs.iter().map(|(field, value)| (field.as_slice(), value.as_slice()))
}

fn read(item: &Item<'_>) -> (Id, Pairs) {
    (item.id, item.fields().map(|(field, value)| (field.to_vec(), value.to_vec())).collect())
}

fn some_pairs(random: &mut Random) -> Pairs {
    let names: &[&str] = &["temperature", "humidity", "12", "-7", ""];
    let count = if random.below(4) == 0 { 1 + random.below(4) } else { 2 } as usize;
    (0..count)
        .map(|i| {
            let name = if random.below(6) == 0 { names[random.below(5) as usize] } else { names[i] };
            let value = match random.below(3) {
                0 => (random.next() as i64 >> random.below(64)).to_string().into_bytes(),
                _ => vec![b'v'; random.below(90) as usize],
            };
            (name.as_bytes().to_vec(), value)
        })
        .collect()
}

fn some_id(model: &BTreeMap<Id, Pairs>, random: &mut Random) -> Id {
    match random.below(8) {
        0 => Id::MIN,
        1 => Id::MAX,
        2 => Id::new(random.below(100_000), random.below(3)),
        _ => {
            let at = random.below(model.len().max(1) as u64) as usize;
            model.keys().nth(at).copied().unwrap_or(Id::MIN)
        }
    }
}

fn compare(stream: &Stream, model: &BTreeMap<Id, Pairs>, random: &mut Random) {
    let (start, end) = (some_id(model, random), some_id(model, random));
    let forward: Vec<_> = stream.range(start, end, Direction::Forward).map(|item| read(&item)).collect();
    let mut backward: Vec<_> =
        stream.range(start, end, Direction::Backward).map(|item| read(&item)).collect();
    backward.reverse();
    let expected: Vec<_> = match start <= end {
        true => model.range(start..=end).map(|(id, pairs)| (*id, pairs.clone())).collect(),
        false => vec![],
    };
    assert_eq!(forward, expected);
    assert_eq!(backward, expected);
    assert_eq!(stream.get(start).map(|item| read(&item).1), model.get(&start).cloned());
    assert_eq!(stream.last_entry_id(), model.keys().next_back().copied());
    assert_eq!(stream.meta().first_id, model.keys().next().copied().unwrap_or(Id::MIN));
    assert_eq!(stream.len(), model.len() as u64);
}

fn trim_model(model: &mut BTreeMap<Id, Pairs>, keep: Keep) {
    match keep {
        Keep::Len(len) => {
            while model.len() as u64 > len {
                model.pop_first();
            }
        }
        Keep::From(id) => *model = model.split_off(&id),
    }
}

/// The same stream, by way of its file form.
fn reloaded(stream: &Stream) -> Stream {
    let mut other = Stream::default();
    for (master, lp) in stream.nodes() {
        other.load_node(master, lp).expect("a node of ours loads");
    }
    other.load_meta(stream.meta()).expect("what we say of it is true");
    assert_eq!(other.meta(), stream.meta());
    other
}

#[test]
fn entries_agree_with_a_model() {
    let mut random = Random::from_env();
    let (mut stream, mut model) = (Stream::default(), BTreeMap::<Id, Pairs>::new());
    let mut added = 0;
    let (mut mover, mut cursor) = (Mover::new(Select::Everything), Id::MIN);
    for round in 0..6_000 {
        // A walk of moves goes on between the operations, as active defragmentation does.
        cursor = stream.relocate_nodes(cursor, &mut mover).unwrap_or(Id::MIN);
        let limits = Limits {
            node_max_bytes: [0, 300, 4096][random.below(3) as usize],
            node_max_entries: [0, 3, 7, 150][random.below(4) as usize],
        };
        match random.below(20) {
            0 => {
                let keep = match random.below(2) {
                    0 => Keep::Len(random.below(300)),
                    _ => Keep::From(some_id(&model, &mut random)),
                };
                let before = model.len();
                if random.below(2) == 0 {
                    let deleted = stream.trim(keep, Precision::Exact);
                    trim_model(&mut model, keep);
                    assert_eq!(deleted, (before - model.len()) as u64);
                } else {
                    let limit = random.below(60);
                    let deleted = stream.trim(keep, Precision::Nodes(limit));
                    assert!(limit == 0 || deleted <= limit);
                    let mut exact = model.clone();
                    trim_model(&mut exact, keep);
                    (0..deleted).for_each(|_| drop(model.pop_first()));
                    assert!(exact.keys().all(|id| model.contains_key(id)), "not too much went");
                }
            }
            1..=4 => {
                let id = some_id(&model, &mut random);
                assert_eq!(stream.delete(id), model.remove(&id).is_some());
                stream.settle();
            }
            6 if random.below(20) == 0 => stream = reloaded(&stream),
            7 if random.below(20) == 0 => stream = stream.clone(),
            _ => {
                let wanted = match random.below(3) {
                    0 => NewId::AutoSeq(stream.meta().last_id.ms),
                    _ => NewId::Given(Id::new(
                        stream.meta().last_id.ms + 1 + random.below(50),
                        random.below(10),
                    )),
                };
                let id = stream.next_id(wanted, 0).expect("it is higher");
                let pairs_of = some_pairs(&mut random);
                stream.append(&limits, id, pairs(&pairs_of));
                model.insert(id, pairs_of);
                added += 1;
            }
        }
        assert_eq!(stream.meta().entries_added, added);
        compare(&stream, &model, &mut random);
        if round % 16 == 0 {
            stream.check();
        }
    }
}

#[test]
fn groups_agree_with_a_model() {
    let mut random = Random::from_env();
    let mut group = Group::new(b"g", Id::MIN, None);
    let mut model = BTreeMap::<Id, (Vec<u8>, i64, u64)>::new();
    let names: Vec<Vec<u8>> = (0..9).map(|i| format!("consumer{i}").into_bytes()).collect();
    let mut mover = Mover::new(Select::Everything);
    for round in 0..6_000i64 {
        if round % 7 == 0 {
            let mut at = Some(0);
            while let Some(slot) = at {
                at = group.relocate_some(slot, &mut mover);
            }
        }
        let name = &names[random.below(9) as usize];
        let id = Id::new(random.below(300), 0);
        let found = group.find_consumer(name);
        if random.below(300) == 0 {
            let before = model.len();
            model.retain(|_, (owner, ..)| owner != name);
            let removed = found.map_or(0, |consumer| group.remove_consumer(consumer));
            assert_eq!(removed, before - model.len());
            continue;
        }
        let consumer = found.unwrap_or_else(|| group.create_consumer(name, round).expect("it is free"));
        assert_eq!(group.create_consumer(name, round), None);
        match random.below(5) {
            0 | 1 => {
                group.deliver(id, consumer, round);
                model.insert(id, (name.clone(), round, 1));
            }
            2 => {
                let how = [Deliveries::Count, Deliveries::Keep, Deliveries::Set(7)][random.below(3) as usize];
                let before = model.get(&id).map_or(1, |(_, _, count)| *count);
                let count = match how {
                    Deliveries::Count => before + 1,
                    Deliveries::Keep => before,
                    Deliveries::Set(n) => n,
                };
                let now = group.claim(id, consumer, round - 5, how, round);
                assert_eq!(now.deliveries, count);
                model.insert(id, (name.clone(), round - 5, count));
            }
            3 => assert_eq!(group.acknowledge(id).is_some(), model.remove(&id).is_some()),
            _ => {
                group.deliver_again(id, round);
                if let Some((_, time, count)) = model.get_mut(&id) {
                    (*time, *count) = (round, *count + 1);
                }
            }
        }
        group.check();
        let ours = group.pending(Id::MIN).map(|(id, pending)| {
            let name = group.consumer(pending.consumer).name().to_vec();
            (id, (name, pending.delivered_ms, pending.deliveries))
        });
        assert!(ours.eq(model.iter().map(|(id, pending)| (*id, pending.clone()))));
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn nodes_are_those_of_redis() {
    // From DUMP of: XADD s 100-5 a 1 b 2; XADD s 100-6 a x b y; XADD s 101-0 c 9; XDEL s 100-6.
    let redis = hex(REDIS_NODE);
    let limits = Limits { node_max_bytes: 4096, node_max_entries: 100 };
    let mut stream = Stream::default();
    for (id, entry) in [
        (Id::new(100, 5), vec![("a", "1"), ("b", "2")]),
        (Id::new(100, 6), vec![("a", "x"), ("b", "y")]),
        (Id::new(101, 0), vec![("c", "9")]),
    ] {
        stream.append(&limits, id, entry.iter().map(|(f, v)| (f.as_bytes(), v.as_bytes())));
    }
    assert!(stream.delete(Id::new(100, 6)));
    assert_eq!(stream.nodes().collect::<Vec<_>>(), [(Id::new(100, 5), redis.as_slice())]);
    assert_eq!(node::check(&redis, Id::new(100, 5)), Some(Id::new(101, 0)));
}

const REDIS_NODE: &str = concat!(
    "3f00000019000201010102018161028162020001020100010001010102010501",
    "030100010101817802817902050100010101dffb02010181630209010601ff"
);

#[test]
fn damaged_nodes_are_refused_and_never_panic() {
    let mut random = Random::from_env();
    let mut stream = Stream::default();
    let limits = Limits { node_max_bytes: 0, node_max_entries: 0 };
    for i in 1..9 {
        stream.append(&limits, Id::new(i, 0), pairs(&some_pairs(&mut random)));
    }
    stream.delete(Id::new(3, 0));
    let (master, whole) = stream.nodes().next().map(|(id, lp)| (id, lp.to_vec())).expect("a node");
    let mut taken = 0;
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(2) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        let mut other = Stream::default();
        if other.load_node(master, &bytes).is_ok() {
            taken += 1;
            let seen: Vec<_> =
                other.range(Id::MIN, Id::MAX, Direction::Backward).map(|item| read(&item)).collect();
            assert_eq!(seen.len() as u64, other.len());
            other.settle();
            other.check();
        }
    }
    println!("{taken} of the damaged nodes were sound");
    let mut twice = Stream::default();
    assert_eq!(twice.load_node(master, &whole), Ok(()));
    assert_eq!(twice.load_node(master, &whole), Err(Unfit));
    assert_eq!(twice.load_meta(Meta { len: 3, ..twice.meta() }), Err(Unfit));
}
