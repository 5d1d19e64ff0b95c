//! Hashes against a plain map, with and without deadlines, in all encodings.

use super::super::tests::{relocate_often, rounds, some_member, tight};
use super::super::{draft, encoding};
use super::*;
use crate::collections::testing::Random;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn shown(entry: &Entry, now_ms: i64) -> Model {
    let items = view(entry, now_ms).iter();
    items.map(|item| (item.field.to_vec(), (item.value.to_vec(), item.expiry))).collect()
}

fn check(entry: &Entry, model: &Model, now_ms: i64, random: &mut Random, rng: &mut Rng) {
    let hash = view(entry, now_ms);
    let live: Model = model
        .iter()
        .filter(|(_, (_, at))| at.is_none_or(|at| at > now_ms))
        .map(|(name, item)| (name.clone(), item.clone()))
        .collect();
    assert_eq!(shown(entry, now_ms), live);
    assert_eq!((hash.len(), hash.live_len()), (model.len(), live.len()));
    assert_eq!(hash.next_expiry(), model.values().filter_map(|(_, at)| *at).min());
    let mut seen = Model::new();
    let mut add = |item: Item<'_>| {
        assert!(seen.insert(item.field.to_vec(), (item.value.to_vec(), item.expiry)).is_none());
    };
    let mut cursor = hash.scan(0, 2, &mut add);
    while cursor != 0 {
        cursor = hash.scan(cursor, 2, &mut add);
    }
    assert_eq!(seen, live);
    let mut seen = Model::new();
    let count = random.below(15) as usize;
    hash.sample(count, rng, &mut |item| {
        assert!(seen.insert(item.field.to_vec(), (item.value.to_vec(), item.expiry)).is_none());
    });
    assert_eq!(seen.len(), count.min(live.len()));
    assert!(seen.iter().all(|(name, item)| live.get(name) == Some(item)));
    let one = hash.random(rng).map(|item| item.field.to_vec());
    assert_eq!(one.is_some(), !live.is_empty());
    assert!(one.is_none_or(|name| live.contains_key(&name)));
}

fn step(entry: &mut Entry, limits: &Limits, model: &mut Model, now_ms: i64, random: &mut Random) {
    let (field, value) = (some_member(random), some_member(random));
    let deadline = now_ms + random.below(30) as i64 - 5;
    match random.below(10) {
        0..4 => {
            let ttl = match random.below(8) {
                0 => FieldTtl::At(deadline),
                1 => FieldTtl::Keep,
                _ => FieldTtl::Clear,
            };
            let created = set(entry, limits, &field, &value, ttl);
            let old = model.get(&field).and_then(|(_, at)| *at);
            let expiry = match ttl {
                FieldTtl::At(at) => Some(at),
                FieldTtl::Keep => old,
                FieldTtl::Clear => None,
            };
            assert_eq!(created, model.insert(field, (value, expiry)).is_none());
        }
        4 | 5 => {
            let expiry = [None, Some(deadline)][random.below(2) as usize];
            let found = set_expiry(entry, &field, expiry);
            assert_eq!(found, model.contains_key(&field));
            model.entry(field).and_modify(|item| item.1 = expiry);
        }
        6 => {
            let max = random.below(4) as usize;
            let removed = remove_due(entry, now_ms, max, &mut |name| {
                let (_, at) = model.remove(name).unwrap();
                assert!(at.unwrap() <= now_ms);
            });
            let due = model.values().filter(|(_, at)| at.is_some_and(|at| at <= now_ms)).count();
            assert!(removed == max || due == 0);
        }
        7 => assert_eq!(remove(entry, &field), model.remove(&field).is_some()),
        _ => {
            let wanted = model.get(&field).filter(|(_, at)| at.is_none_or(|at| at > now_ms));
            let found = view(entry, now_ms).item(&field);
            assert_eq!(found.map(|item| (item.value.to_vec(), item.expiry)), wanted.cloned());
        }
    }
}

#[test]
fn agrees_with_a_map() {
    let mut random = Random::from_env();
    let mut rng = Rng::from_seed(random.next());
    for _ in 0..rounds() {
        let limits = tight(&mut random).hash;
        let (mut entry, mut model) = (draft(Kind::Hash), Model::new());
        let mut now_ms = 1_000_000;
        for _ in 0..80 {
            relocate_often(&mut entry, &mut random);
            now_ms += random.below(3) as i64;
            step(&mut entry, &limits, &mut model, now_ms, &mut random);
            check(&entry, &model, now_ms, &mut random, &mut rng);
        }
        assert_eq!(shown(&super::super::duplicate(&entry, b"copy"), i64::MIN), model);
    }
}

#[test]
fn encodings_are_those_of_redis() {
    let limits = Limits { max_listpack_entries: 3, max_listpack_value: 5 };
    let mut entry = draft(Kind::Hash);
    for field in ["a", "b", "c"] {
        set(&mut entry, &limits, field.as_bytes(), b"12345", FieldTtl::Clear);
    }
    assert_eq!(encoding(&entry), "listpack");
    assert!(set_expiry(&mut entry, b"b", Some(100)));
    assert_eq!(encoding(&entry), "listpackex");
    set_expiry(&mut entry, b"b", None);
    assert_eq!(encoding(&entry), "listpackex", "never back");
    let mut copy = super::super::duplicate(&entry, b"copy");
    set(&mut copy, &limits, b"d", b"1", FieldTtl::Clear);
    assert_eq!(encoding(&copy), "hashtable");
    set(&mut entry, &limits, b"a", b"123456", FieldTtl::Clear);
    assert_eq!(encoding(&entry), "hashtable");
    let mut prepared = draft(Kind::Hash);
    prepare(&mut prepared, &limits, 1, [&b"f"[..], b"123456"].into_iter());
    assert_eq!(encoding(&prepared), "hashtable");
}

#[test]
fn triples_are_in_order_of_deadlines() {
    let limits = Limits { max_listpack_entries: 100, max_listpack_value: 64 };
    let mut entry = draft(Kind::Hash);
    for (field, at) in [("a", 0), ("b", 300), ("c", 100), ("d", 300), ("e", 0), ("f", 200)] {
        let ttl = if at == 0 { FieldTtl::Clear } else { FieldTtl::At(at) };
        set(&mut entry, &limits, field.as_bytes(), b"v", ttl);
    }
    let Repr::ListpackEx(bytes) = view(&entry, 0).repr() else { panic!("a listpack with deadlines") };
    let names: Vec<_> = listpack::iter(bytes).step_by(3).map(Value::to_vec).collect();
    assert_eq!(names.concat(), b"cfbdae");
    assert_eq!(view(&entry, 250).live_len(), 4);
}
