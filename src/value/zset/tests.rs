//! Sorted sets against a plain ordered list, in both encodings.

use super::super::tests::{relocate_often, rounds, some_member, tight};
use super::super::{draft, encoding};
use super::*;
use crate::collections::testing::Random;

type Model = Vec<(f64, Vec<u8>)>;

fn some_score(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => random.next() as i64 as f64,
        3 => random.below(100) as f64 / 8.0,
        4 => -1e-9 * random.below(5) as f64,
        _ => random.below(5) as f64,
    }
}

fn sort(model: &mut Model) {
    model.sort_by(|a, b| a.partial_cmp(b).unwrap());
}

fn collect<'a>(items: impl Iterator<Item = (Value<'a>, f64)>) -> Model {
    items.map(|(member, score)| (score, member.to_vec())).collect()
}

fn check(entry: &Entry, model: &Model, random: &mut Random, rng: &mut Rng) {
    let set = view(entry);
    assert_eq!((collect(set.iter()), set.len()), (model.clone(), model.len()));
    let start = random.below(model.len() as u64 + 2) as usize;
    let end = start + random.below(8) as usize;
    let wanted = &model[start.min(model.len())..end.min(model.len())];
    assert_eq!(collect(set.range(start..end, Direction::Forward)), wanted);
    let backward = collect(set.range(start..end, Direction::Backward));
    assert!(backward.iter().eq(wanted.iter().rev()));
    let (a, b) = (some_score(random), some_score(random));
    let ranks = set.ranks(Cut::Score(a, Side::Before), Cut::Score(b, Side::After));
    let between = model.iter().filter(|(score, _)| a <= *score && *score <= b).count();
    assert_eq!(ranks.len(), between);
    let exclusive = set.ranks(Cut::Score(a, Side::After), Cut::Score(b, Side::Before));
    assert_eq!(exclusive.len(), model.iter().filter(|(score, _)| a < *score && *score < b).count());
    let count = random.below(15) as usize;
    let mut seen = vec![];
    set.sample(count, rng, &mut |member, score| seen.push((score, member.to_vec())));
    sort(&mut seen);
    seen.dedup();
    assert_eq!(seen.len(), count.min(model.len()));
    assert!(seen.iter().all(|item| model.contains(item)));
    let mut seen = vec![];
    let mut cursor = set.scan(0, 3, &mut |member, score| seen.push((score, member.to_vec())));
    while cursor != 0 {
        cursor = set.scan(cursor, 3, &mut |member, score| seen.push((score, member.to_vec())));
    }
    sort(&mut seen);
    assert_eq!(seen, *model);
}

#[test]
fn agrees_with_a_sorted_list() {
    let mut random = Random::from_env();
    let mut rng = Rng::from_seed(random.next());
    for _ in 0..rounds() {
        let limits = tight(&mut random).zset;
        let (mut entry, mut model) = (draft(Kind::Zset), Model::new());
        for _ in 0..60 {
            relocate_often(&mut entry, &mut random);
            let member = some_member(&mut random);
            let place = model.iter().position(|(_, other)| *other == member);
            match random.below(8) {
                0..5 => {
                    let score = some_score(&mut random);
                    let old = place.map(|i| model.swap_remove(i).0);
                    assert_eq!(super::set(&mut entry, &limits, &member, score), old);
                    model.push((score, member));
                    sort(&mut model);
                }
                5 => {
                    assert_eq!(remove(&mut entry, &member), place.map(|i| model.remove(i).0));
                }
                6 => {
                    let start = random.below(model.len() as u64 + 1) as usize;
                    let end = model.len().min(start + random.below(4) as usize);
                    let mut removed = vec![];
                    let count = remove_range(&mut entry, start..end, &mut |member, score| {
                        removed.push((score, member.to_vec()));
                    });
                    assert_eq!(removed.len(), count);
                    assert_eq!(removed, model.drain(start..end).collect::<Vec<_>>());
                }
                _ => {
                    let wanted = place.map(|i| (i, model[i].0));
                    assert_eq!(view(&entry).rank(&member), wanted);
                    assert_eq!(view(&entry).score(&member), wanted.map(|(_, score)| score));
                }
            }
            check(&entry, &model, &mut random, &mut rng);
        }
        let copy = super::super::duplicate(&entry, b"copy");
        assert_eq!(collect(view(&copy).iter()), model);
        let mut tree = copy;
        make_tree(&mut tree);
        let large = Limits { max_listpack_entries: 100, max_listpack_value: 1000 };
        fit(&mut tree, &large, 500);
        assert_eq!((collect(view(&tree).iter()), encoding(&tree)), (model, "listpack"));
    }
}

#[test]
fn bytes_are_those_of_redis() {
    // ZADD z 1 a 2.5 b inf c, from DUMP of Redis 7.0.15.
    let redis = [
        0x1c, 0, 0, 0, 6, 0, 0x81, b'a', 2, 1, 1, 0x81, b'b', 2, 0x83, b'2', b'.', b'5', 4, 0x81, b'c', 2,
        0x83, b'i', b'n', b'f', 4, 0xff,
    ];
    let limits = Limits { max_listpack_entries: 128, max_listpack_value: 64 };
    let mut entry = draft(Kind::Zset);
    for (member, score) in [("c", f64::INFINITY), ("a", 1.0), ("b", 2.5)] {
        super::set(&mut entry, &limits, member.as_bytes(), score);
    }
    assert_eq!(packed::bytes(&entry), Some(&redis[..]));
}

#[test]
fn lexical_ranges() {
    let limits = Limits { max_listpack_entries: 128, max_listpack_value: 64 };
    for small in [true, false] {
        let mut entry = draft(Kind::Zset);
        for member in ["a", "b", "bb", "c", "7"] {
            super::set(&mut entry, &limits, member.as_bytes(), 0.0);
        }
        if !small {
            make_tree(&mut entry);
        }
        let ranks = |from: &'static str, to: &'static str| {
            let from = Cut::Lex(from.as_bytes(), Side::Before);
            view(&entry).ranks(from, Cut::Lex(to.as_bytes(), Side::After))
        };
        assert_eq!(
            [ranks("b", "c"), ranks("", "a"), ranks("bc", "bd"), ranks("c", "a")],
            [2..5, 0..2, 4..4, 4..4]
        );
    }
}
