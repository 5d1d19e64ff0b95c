//! Lists and sets against plain models, with limits so tight that encodings change all the time; and what
//! holds for values of all types.

use super::*;
use crate::collections::buffer::Buffer;
use crate::collections::testing::Random;
use crate::sys::defrag::{Mover, Select};
use std::collections::{BTreeMap, HashSet, VecDeque};

pub(super) fn tight(random: &mut Random) -> Limits {
    let entries = random.below(12) as usize;
    Limits {
        list: list::Limits {
            fill: [3, 10, -1, 1][random.below(4) as usize],
            compress_depth: random.below(2) as u32,
            plain_from: 0,
        },
        set: set::Limits {
            max_intset_entries: random.below(20) as usize,
            max_listpack_entries: entries,
            max_listpack_value: 8,
        },
        zset: zset::Limits { max_listpack_entries: entries, max_listpack_value: 8 },
        hash: hash::Limits { max_listpack_entries: entries, max_listpack_value: 8 },
    }
}

pub(super) fn some_member(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0 => vec![b'l'; 9 + random.below(300) as usize],
        1..10 => (random.next() as i64 >> (random.below(3) * 20 + 20)).to_string().into_bytes(),
        _ => format!("m{}", random.below(30)).into_bytes(),
    }
}

/// Moves all blocks of a value, or some of them, every other time.
pub(super) fn relocate_often(entry: &mut Entry, random: &mut Random) {
    let mut mover = Mover::new(Select::Everything);
    match random.below(4) {
        0 => relocate::relocate_all(entry, &mut mover),
        1 => drop(relocate::relocate_some(entry, relocate::Cursor::Start, &mut mover)),
        _ => {}
    }
}

pub(super) fn rounds() -> u64 {
    if cfg!(miri) { 3 } else { 120 }
}

#[test]
fn lists_agree_with_deques() {
    let mut random = Random::from_env();
    for _ in 0..rounds() {
        let limits = tight(&mut random).list;
        let (mut entry, mut model) = (draft(Kind::List), VecDeque::<Vec<u8>>::new());
        for _ in 0..80 {
            relocate_often(&mut entry, &mut random);
            let index = random.below(model.len() as u64 + 1) as usize;
            let element = some_member(&mut random);
            match random.below(8) {
                0 | 1 => {
                    let all = [element, some_member(&mut random)];
                    list::push(&mut entry, &limits, list::End::Back, all.iter().map(|e| &e[..]));
                    model.extend(all);
                }
                2 => {
                    list::push(&mut entry, &limits, list::End::Front, [&element[..]].into_iter());
                    model.push_front(element);
                }
                3 => {
                    list::insert(&mut entry, &limits, index, &element);
                    model.insert(index, element);
                }
                4 if index < model.len() => {
                    list::replace(&mut entry, &limits, index, &element);
                    model[index] = element;
                }
                5 => {
                    let count = random.below(10) as usize;
                    let end = model.len().min(index + count);
                    assert_eq!(list::remove_range(&mut entry, &limits, index, count), end - index);
                    model.drain(index..end);
                }
                _ => {
                    let before = model.len();
                    model.retain(|other| *other != element);
                    let removed =
                        list::remove_equal(&mut entry, &limits, &element, usize::MAX, Direction::Backward);
                    assert_eq!(removed, before - model.len());
                }
            }
            let view = list::view(&entry);
            let mut seen = vec![];
            view.range(0, usize::MAX, Direction::Forward, &mut |value| seen.push(value.to_vec()));
            assert_eq!(model, seen);
            assert_eq!((view.len(), is_empty(&entry)), (model.len(), model.is_empty()));
            let mut scratch = vec![];
            let wanted = model.get(index).cloned();
            assert_eq!(view.get(index, &mut scratch).map(Value::to_vec), wanted);
        }
        let copy = duplicate(&entry, b"copy");
        assert_eq!(digest::of_value(&copy), digest::of_value(&entry));
    }
}

#[test]
fn lists_go_back_to_listpacks() {
    let limits = list::Limits { fill: 10, ..Default::default() };
    let mut entry = draft(Kind::List);
    list::push(&mut entry, &limits, list::End::Back, [&b"x"[..]; 11].into_iter());
    assert_eq!(encoding(&entry), "quicklist");
    list::remove_range(&mut entry, &limits, 0, 5);
    assert_eq!(encoding(&entry), "quicklist", "six are more than half of the limit");
    list::remove_range(&mut entry, &limits, 0, 1);
    assert_eq!(encoding(&entry), "listpack");
}

#[test]
fn sets_agree_with_hash_sets() {
    let mut random = Random::from_env();
    let mut rng = Rng::from_seed(random.next());
    for _ in 0..rounds() {
        let limits = tight(&mut random).set;
        let (mut entry, mut model) = (draft(Kind::Set), HashSet::<Vec<u8>>::new());
        let ints_only = random.below(2) == 0;
        if random.below(4) == 0 {
            set::prepare(&mut entry, &limits, b"1", random.below(30) as usize);
        }
        for _ in 0..60 {
            relocate_often(&mut entry, &mut random);
            let mut member = some_member(&mut random);
            if ints_only {
                member = (random.next() as i64 >> 40 >> (random.below(4) * 8)).to_string().into_bytes();
            }
            let probe = set::Probe::new(&member);
            match random.below(5) {
                0 => assert_eq!(set::remove(&mut entry, &probe), model.remove(&member)),
                1 if random.below(4) == 0 && !model.is_empty() => {
                    set::pop(&mut entry, &mut rng, &mut |value| assert!(model.remove(&value.to_vec())));
                }
                _ => {
                    assert_eq!(set::add(&mut entry, &limits, &probe), model.insert(member.clone()));
                }
            }
            let view = set::view(&entry);
            assert_eq!((view.len(), view.contains(&probe)), (model.len(), model.contains(&member)));
            assert_eq!(view.iter().map(Value::to_vec).collect::<HashSet<_>>(), model);
            let mut seen = HashSet::new();
            let count = random.below(20) as usize;
            view.sample(count, &mut rng, &mut |value| assert!(seen.insert(value.to_vec())));
            assert_eq!(seen.len(), count.min(model.len()));
            assert!(seen.is_subset(&model));
            let mut see = |value: Value<'_>| {
                seen.insert(value.to_vec());
            };
            let mut cursor = view.scan(0, 3, &mut see);
            while cursor != 0 {
                cursor = view.scan(cursor, 3, &mut see);
            }
            assert_eq!(seen, model);
        }
        assert_eq!(digest::of_value(&duplicate(&entry, b"copy")), digest::of_value(&entry));
    }
}

#[test]
fn encodings_of_sets_are_those_of_redis() {
    let limits = set::Limits { max_intset_entries: 4, max_listpack_entries: 6, max_listpack_value: 5 };
    let encoding_of = |members: &[&str]| {
        let mut entry = draft(Kind::Set);
        for member in members {
            set::add(&mut entry, &limits, &set::Probe::new(member.as_bytes()));
        }
        encoding(&entry)
    };
    assert_eq!(encoding_of(&["1", "2", "3", "4"]), "intset");
    assert_eq!(encoding_of(&["1", "2", "3", "4", "5"]), "hashtable");
    assert_eq!(encoding_of(&["1", "2", "3", "a"]), "listpack");
    assert_eq!(encoding_of(&["1", "123456", "a"]), "hashtable");
    assert_eq!(encoding_of(&["1", "abcdef"]), "hashtable");
    assert_eq!(encoding_of(&["a", "b", "c", "d", "e", "f"]), "listpack");
    assert_eq!(encoding_of(&["a", "b", "c", "d", "e", "f", "g"]), "hashtable");
    let prepared = |first: &str, adding| {
        let mut entry = draft(Kind::Set);
        set::prepare(&mut entry, &limits, first.as_bytes(), adding);
        encoding(&entry)
    };
    assert_eq!([prepared("1", 4), prepared("1", 5), prepared("1", 7)], ["intset", "listpack", "hashtable"]);
    assert_eq!([prepared("a", 6), prepared("a", 7)], ["listpack", "hashtable"]);
}

#[test]
fn random_members_are_uniform() {
    let mut rng = Rng::from_seed(3);
    for members in [20, 600] {
        let (mut entry, limits) = (draft(Kind::Set), Limits::from_config(&Config::default()).set);
        for i in 0..members {
            set::add(&mut entry, &limits, &set::Probe::new(format!("m{i}").as_bytes()));
        }
        let mut counts = BTreeMap::new();
        for _ in 0..members * 100 {
            let member = set::view(&entry).random(&mut rng).unwrap().to_vec();
            *counts.entry(member).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), members);
        assert!(counts.values().all(|count| (50..160).contains(count)), "{counts:?}");
        let mut counts = BTreeMap::new();
        for _ in 0..100 {
            let half = members / 2;
            set::view(&entry).sample(half, &mut rng, &mut |value| {
                *counts.entry(value.to_vec()).or_insert(0) += 1;
            });
        }
        assert!(counts.values().all(|count| (20..80).contains(count)), "{counts:?}");
    }
}

#[test]
fn small_collections_lie_in_their_entry() {
    let limits = Limits::from_config(&Config::default());
    let mut entry = Entry::new(b"key:000000000001", Kind::Hash as u8, hash::empty(), None);
    for i in 0..5 {
        let (field, value) = (format!("f{i}"), format!("value:{i:04}"));
        hash::set(&mut entry, &limits.hash, field.as_bytes(), value.as_bytes(), hash::FieldTtl::Clear);
    }
    assert_eq!(memory_bytes(&entry), 112);
    for i in 0..100 {
        let field = format!("field:{i}");
        hash::set(&mut entry, &limits.hash, field.as_bytes(), b"value", hash::FieldTtl::Clear);
    }
    assert_eq!((encoding(&entry), len(&entry), free_effort(&entry)), ("listpack", 105, 1));
    assert!(matches!(entry.payload(), Payload::Blob(_)));
    assert_eq!(memory_bytes(&entry), memory_bytes_sampled(&entry, 0));
}

#[test]
fn packed_bytes_of_files_are_checked() {
    let limits = Limits::from_config(&Config::default());
    let lp = |values: &[&str]| listpack::from_values(values.iter().map(|text| Value::new(text.as_bytes())));
    let try_load = |kind, bytes: &[u8]| {
        let fresh = Fresh { key: b"k", expiry: Some(7) };
        let loaded = load(fresh, &limits, kind, bytes);
        loaded.map(|entry| (self::kind(&entry), encoding(&entry), len(&entry)))
    };
    assert_eq!(try_load(PackedKind::List, &lp(&["a", "a"])), Ok((Kind::List, "listpack", 2)));
    assert_eq!(try_load(PackedKind::Set, &lp(&["a", "1"])), Ok((Kind::Set, "listpack", 2)));
    assert_eq!(try_load(PackedKind::Set, &lp(&["a", "a"])), Err(Unfit));
    assert_eq!(try_load(PackedKind::Hash, &lp(&["a", "a"])), Ok((Kind::Hash, "listpack", 1)));
    assert_eq!(try_load(PackedKind::Hash, &lp(&["a", "1", "a", "2"])), Err(Unfit));
    assert_eq!(try_load(PackedKind::Hash, &lp(&["a", "1", "b"])), Err(Unfit));
    assert_eq!(try_load(PackedKind::Zset, &lp(&["a", "1", "b", "1.5"])), Ok((Kind::Zset, "listpack", 2)));
    assert_eq!(try_load(PackedKind::Zset, &lp(&["a", "2", "b", "1.5"])), Ok((Kind::Zset, "skiplist", 2)));
    assert_eq!(try_load(PackedKind::Zset, &lp(&["a", "x"])), Err(Unfit));
    let triples = lp(&["a", "1", "500", "b", "2", "0"]);
    assert_eq!(try_load(PackedKind::HashWithExpiry, &triples), Ok((Kind::Hash, "listpackex", 2)));
    assert_eq!(try_load(PackedKind::HashWithExpiry, &lp(&["a", "1", "0", "b", "2", "5"])), Err(Unfit));
    let mut ints = crate::collections::intset::EMPTY.to_vec();
    crate::collections::intset::insert(&mut ints, 7);
    assert_eq!(try_load(PackedKind::Intset, &ints), Ok((Kind::Set, "intset", 1)));
    ints.bytes_mut()[4] = 9;
    assert_eq!(try_load(PackedKind::Intset, &ints), Err(Unfit));
}
