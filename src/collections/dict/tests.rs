//! Random runs of the table against a plain map, with good hashes and with crafted ones.

use super::segment::DEEPEST;
use super::*;
use crate::collections::hash::hash_key;
use crate::collections::testing::Random;
use crate::sys::defrag::{Mover, Select};
use std::collections::{HashMap, HashSet};

/// A boxed key and value. `CRAFTED` takes the first eight key bytes as the hash.
#[repr(transparent)]
struct Item<const CRAFTED: bool>(Box<(u64, Vec<u8>)>);

type Plain = Item<false>;
type Crafted = Item<true>;

// SAFETY: transparent around a box of an 8-aligned type; the key changes only where a test moves the item.
unsafe impl<const CRAFTED: bool> Slot for Item<CRAFTED> {
    fn into_ptr(self) -> NonNull<u8> {
        NonNull::from(Box::leak(self.0)).cast()
    }

    unsafe fn from_ptr(address: NonNull<u8>) -> Self {
        // SAFETY: by contract the address came from `into_ptr`.
        Item(unsafe { Box::from_raw(address.cast().as_ptr()) })
    }

    fn key(&self) -> &[u8] {
        &self.0.1
    }

    fn hash(&self) -> u64 {
        hash_of::<CRAFTED>(self.key())
    }
}

fn hash_of<const CRAFTED: bool>(key: &[u8]) -> u64 {
    if CRAFTED {
        u64::from_be_bytes(key[..8].try_into().expect("crafted keys are long"))
    } else {
        hash_key(key)
    }
}

fn scaled(count: usize) -> usize {
    if cfg!(miri) { count / 100 } else { count }
}

fn key_of(number: u64) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

/// The invariants every table keeps between operations.
fn check<const CRAFTED: bool>(dict: &Dict<Item<CRAFTED>>) {
    let mut bytes = crate::collections::size_class(dict.directory.capacity() * 8);
    let (mut index, mut elements, mut segments, mut deepest) = (0, 0, 0, 0);
    while index < dict.directory.len() {
        // SAFETY: a directory word names a live segment.
        let segment = unsafe { Segment::unpack(dict.directory[index]) };
        let words = 1 << (dict.depth() - segment.depth);
        assert_eq!(index % words, 0);
        assert!(dict.directory[index..index + words].iter().all(|&word| word == segment.pack()));
        let mut passers = vec![0u64; segment.length as usize];
        let mut count = 0;
        for bucket_index in 0..segment.length {
            let bucket = segment.bucket(bucket_index);
            for lane in bucket.occupied() {
                let word = bucket.words[lane as usize];
                let address = slot_address(word);
                // SAFETY: the lane is occupied.
                let hash = unsafe { lend::<Item<CRAFTED>>(&address) }.hash();
                assert_eq!(dict.index(hash) & !(words - 1), index);
                assert_eq!(slot_window(word), window(hash, segment.depth));
                assert_eq!(bucket.tag(lane), tag_of(hash));
                let mut passed = segment.home_of(word);
                while passed != bucket_index {
                    passers[passed as usize] += 1;
                    passed = segment.after(passed);
                }
                count += 1;
            }
        }
        for (bucket_index, &passers) in passers.iter().enumerate() {
            let overflow = segment.bucket(bucket_index as u32).overflow();
            assert!(overflow == 255 || overflow == passers, "overflow {overflow}, passers {passers}");
        }
        assert_eq!(count, segment.header().count);
        assert!(segment.length == 1 || count <= segment.header().limit);
        bytes += segment.bytes();
        elements += count as usize;
        segments += 1;
        deepest += usize::from(segment.depth == dict.depth());
        index += words;
    }
    assert_eq!((elements, segments, deepest), (dict.len, dict.segments, dict.deepest));
    assert_eq!(bytes, dict.memory_bytes());
}

/// Moves everything; the keys that were seen.
fn relocate_all<const CRAFTED: bool>(dict: &mut Dict<Item<CRAFTED>>, mover: &mut Mover) -> Vec<Vec<u8>> {
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        cursor = dict.relocate_some(cursor, mover, &mut |item, mover| {
            seen.push(item.0.1.clone());
            crate::collections::relocate::relocate_box(&mut item.0, mover);
        });
        if cursor == 0 {
            return seen;
        }
    }
}

/// Random operations over `keys`, in phases that grow, stay and shrink, against a `HashMap`.
fn against_model<const CRAFTED: bool>(random: &mut Random, keys: &[Vec<u8>], operations: usize) {
    let mut dict = Dict::<Item<CRAFTED>>::new();
    let mut model = HashMap::<Vec<u8>, u64>::new();
    let (mut mover, mut cursor) = (Mover::new(Select::Everything), 0);
    let phase = operations / 5 + 1;
    for operation in 0..operations {
        // A walk of moves goes on between the operations, as active defragmentation does.
        cursor = dict.relocate_some(cursor, &mut mover, &mut |item, mover| {
            crate::collections::relocate::relocate_box(&mut item.0, mover);
        });
        let key = &keys[random.below(keys.len() as u64) as usize];
        let hash = hash_of::<CRAFTED>(key);
        let insert_percent = [90, 50, 10, 70, 0][operation / phase];
        if random.below(100) < insert_percent {
            let value = random.next();
            let old = model.insert(key.clone(), value);
            if let Some(mut item) = dict.get_mut(hash, key) {
                assert_eq!(Some(item.0.0), old);
                // Moves to another block, as entries do.
                *item = Item(Box::new((value, key.clone())));
            } else {
                assert_eq!(old, None);
                assert_eq!(dict.insert_new(hash, Item(Box::new((value, key.clone())))).0.0, value);
            }
        } else {
            let removed = match random.below(2) {
                0 => dict.remove(hash, key),
                _ => dict.remove_by_hash(hash, |item| item.key() == key),
            };
            assert_eq!(removed.map(|item| item.0.0), model.remove(key));
        }
        assert_eq!(dict.len(), model.len());
        let probe = &keys[random.below(keys.len() as u64) as usize];
        let probe_hash = hash_of::<CRAFTED>(probe);
        assert_eq!(dict.get(probe_hash, probe).map(|item| item.0.0), model.get(probe).copied());
        let by_hash = dict.get_by_hash(probe_hash, |item| item.key() == probe);
        assert_eq!(by_hash.map(|item| item.0.0), model.get(probe).copied());
        if operation % (operations / 20 + 1) == 0 {
            check(&dict);
        }
    }
    check(&dict);
    let seen = relocate_all(&mut dict, &mut mover);
    assert_eq!(seen.len(), dict.len(), "every element is seen once");
    check(&dict);
    let all: HashMap<_, _> = dict.iter().map(|item| (item.key().to_vec(), item.0.0)).collect();
    assert_eq!(all, model);
    for key in keys {
        assert_eq!(dict.remove(hash_of::<CRAFTED>(key), key).is_some(), model.contains_key(key));
    }
    check(&dict);
    assert!(dict.is_empty() && dict.memory_bytes() < 1024, "{:?}", dict.stats());
}

#[test]
fn agrees_with_a_map() {
    let mut random = Random::from_env();
    for distinct in [3, 40, 1000, scaled(30_000)] {
        let keys: Vec<_> = (0..distinct as u64).map(key_of).collect();
        against_model::<false>(&mut random, &keys, scaled(distinct * 20).clamp(100, 300_000));
    }
}

#[test]
fn grows_and_shrinks_by_hundreds_of_thousands() {
    let mut dict = Dict::<Plain>::new();
    let count = scaled(300_000) as u64;
    for number in 0..count {
        dict.insert_new(hash_key(&key_of(number)), Item(Box::new((number, key_of(number)))));
    }
    check(&dict);
    let full = dict.stats();
    println!("{full:?}");
    assert!(cfg!(miri) || full.bytes < 15 * count as usize);
    for number in 0..count {
        assert_eq!(dict.get(hash_key(&key_of(number)), &key_of(number)).map(|item| item.0.0), Some(number));
    }
    for number in 0..count {
        assert!(dict.remove(hash_key(&key_of(number)), &key_of(number)).is_some());
        if number % (count / 10) == 0 {
            check(&dict);
            let left = (count - number) as usize;
            assert!(dict.memory_bytes() < 30 * left + 4096, "{:?}", dict.stats());
        }
    }
    assert!(dict.memory_bytes() < 1024);
}

/// Keys whose hashes agree in their first `same` bits and, if asked, in all but a few.
fn crafted_keys(random: &mut Random, count: usize, same: u32, free: u64) -> Vec<Vec<u8>> {
    let prefix = random.next() & !(u64::MAX >> same);
    let mut keys = HashSet::new();
    while keys.len() < count {
        let hash = prefix | random.next() & free & (u64::MAX >> same);
        keys.insert([&hash.to_be_bytes()[..], &random.next().to_be_bytes()[..]].concat());
    }
    keys.into_iter().collect()
}

#[test]
fn survives_colliding_hashes() {
    let mut random = Random::from_env();
    for (same, free) in [(12, u64::MAX), (29, u64::MAX), (40, u64::MAX), (8, 0xff), (50, 0), (1, 0x00f0_0000)]
    {
        let keys = crafted_keys(&mut random, scaled(3000), same, free);
        against_model::<true>(&mut random, &keys, scaled(12_000));
    }
}

#[test]
fn tables_are_made_for_what_is_expected() {
    for (expected, come) in [(0, 10), (360, 400), (361, 361), (1_000, 3_000), (50_000, 50_000), (100_000, 7)]
    {
        let (mut dict, mut grown) = (Dict::<Plain>::new(), Dict::<Plain>::new());
        dict.expect(expected);
        check(&dict);
        let before = dict.memory_bytes();
        for number in 0..come {
            let key = key_of(number);
            let hash = hash_of::<false>(&key);
            dict.insert_new(hash, Item(Box::new((number, key.clone()))));
            grown.insert_new(hash, Item(Box::new((number, key))));
        }
        check(&dict);
        assert!(before <= expected * 16, "{expected}: {before} bytes");
        let more = dict.memory_bytes() as f64 / grown.memory_bytes() as f64;
        assert!(more < 1.2 || come < expected as u64, "{expected}: {more}");
        dict.expect(1_000_000);
        assert!(dict.memory_bytes() < 2_000_000, "a table in use stays as it is");
        assert!((0..come).all(|number| {
            let key = key_of(number);
            dict.remove(hash_of::<false>(&key), &key).is_some()
        }));
        check(&dict);
    }
}

#[test]
fn crafted_hashes_do_not_blow_up_the_directory() {
    let mut random = Random::new(5);
    let count = scaled(15_000);
    let mut dict = Dict::<Crafted>::new();
    let keys = crafted_keys(&mut random, count, 30, u64::MAX);
    for key in &keys {
        dict.insert_new(hash_of::<true>(key), Item(Box::new((0, key.clone()))));
    }
    check(&dict);
    let stats = dict.stats();
    println!("{stats:?}");
    assert!(stats.depth <= DEEPEST && stats.bytes < 24 * count + 4096, "{stats:?}");
    for key in &keys[count / 2..] {
        assert!(dict.remove(hash_of::<true>(key), key).is_some());
    }
    check(&dict);
    assert!(dict.stats().bytes < 30 * dict.len() + 4096, "{:?}", dict.stats());
}

/// Scans while other elements come and go in waves; the stable ones must come exactly once.
fn scan_under_change<const CRAFTED: bool>(random: &mut Random, keys: &[Vec<u8>], stable: usize) {
    let (stable, others) = keys.split_at(stable);
    let mut dict = Dict::<Item<CRAFTED>>::new();
    for key in stable {
        dict.insert_new(hash_of::<CRAFTED>(key), Item(Box::new((0, key.clone()))));
    }
    let mut seen = HashMap::<Vec<u8>, u32>::new();
    let (mut cursor, mut calls, mut wave) = (0, 0, 50);
    loop {
        cursor = dict.scan(cursor, 1 + random.below(60) as usize, &mut |item| {
            *seen.entry(item.key().to_vec()).or_default() += 1
        });
        calls += 1;
        if cursor == 0 {
            break;
        }
        assert!(cursor < 1 << 48 && calls < 1_000_000);
        if random.below(8) == 0 {
            wave = [0, 5, 50, 95, 100][random.below(5) as usize];
        }
        for _ in 0..random.below(others.len() as u64 / 4 + 1) {
            let key = &others[random.below(others.len() as u64) as usize];
            let hash = hash_of::<CRAFTED>(key);
            if random.below(100) >= wave {
                dict.remove(hash, key);
            } else if !dict.contains(hash, key) {
                dict.insert_new(hash, Item(Box::new((0, key.clone()))));
            }
        }
    }
    assert!(seen.values().all(|&times| times == 1));
    assert!(stable.iter().all(|key| seen.contains_key(key)));
}

#[test]
fn scan_is_exact() {
    let mut random = Random::from_env();
    let keys: Vec<_> = (0..scaled(12_000) as u64).map(key_of).collect();
    for stable in [0, 1, 100, keys.len() / 3] {
        scan_under_change::<false>(&mut random, &keys, stable);
    }
    for (same, free) in [(10, u64::MAX), (33, u64::MAX), (46, u64::MAX), (60, u64::MAX), (6, 0xff)] {
        let keys = crafted_keys(&mut random, scaled(4000).max(10), same, free);
        // With 4 free bits there are 16 hashes only, but every key has its own.
        scan_under_change::<true>(&mut random, &keys, keys.len() / 3);
    }
}

#[test]
fn scan_takes_any_cursor_and_asks_no_more_than_told() {
    let mut dict = Dict::<Plain>::new();
    assert_eq!(dict.scan(0, 10, &mut |_| panic!("empty")), 0);
    for number in 0..scaled(10_000) as u64 {
        dict.insert_new(hash_key(&key_of(number)), Item(Box::new((number, key_of(number)))));
    }
    let mut random = Random::from_env();
    for _ in 0..scaled(1000) {
        let cursor = random.next() >> random.below(64);
        let mut visited = 0;
        let next = dict.scan(cursor, 10, &mut |item| {
            visited += 1;
            assert!(item.hash() >> 16 >= cursor & ((1 << 48) - 1));
        });
        assert!(visited < 10 + 30 && (next == 0 || next > cursor & ((1 << 48) - 1)));
    }
}

#[test]
fn random_elements_are_uniform() {
    let mut random = Random::from_env();
    for count in [1u64, 5, 100, 2000] {
        let mut dict = Dict::<Plain>::new();
        for number in 0..count {
            dict.insert_new(hash_key(&key_of(number)), Item(Box::new((number, key_of(number)))));
        }
        let draws = if cfg!(miri) { 50 } else { 200 * count };
        let mut hits = vec![0u32; count as usize];
        for _ in 0..draws {
            hits[dict.random(&mut || random.next()).expect("not empty").0.0 as usize] += 1;
        }
        if !cfg!(miri) {
            // 200 expected, standard deviation 14.
            assert!(hits.iter().all(|&hits| (100..=300).contains(&hits)), "{hits:?}");
        }
        let mut sampled = HashSet::new();
        dict.sample(&mut || random.next(), 16, &mut |item| assert!(sampled.insert(item.0.0)));
        assert_eq!(sampled.len(), count.min(16) as usize);
    }
    assert!(Dict::<Plain>::new().random(&mut || random.next()).is_none());
}

#[test]
fn drains_in_steps_and_clears() {
    let mut dict = Dict::<Plain>::new();
    let count = scaled(5000) as u64;
    for _ in 0..2 {
        for number in 0..count {
            dict.insert_new(hash_key(&key_of(number)), Item(Box::new((number, key_of(number)))));
        }
        let mut left = dict.len();
        while !dict.drain_some(7) {
            assert_eq!(dict.len(), left - 7);
            left = dict.len();
            // Lookups stay safe meanwhile.
            dict.get(hash_key(b"key:1"), b"key:1");
        }
        assert!(dict.is_empty() && dict.memory_bytes() == 0);
    }
    dict.insert_new(hash_key(b"a"), Item(Box::new((1, b"a".to_vec()))));
    dict.clear();
    assert!(dict.get(hash_key(b"a"), b"a").is_none() && dict.iter().next().is_none());
}

#[test]
fn tables_can_move_to_another_thread() {
    let mut dict = Dict::<Plain>::new();
    dict.insert_new(hash_key(b"a"), Item(Box::new((1, b"a".to_vec()))));
    std::thread::spawn(move || assert_eq!(dict.len(), 1)).join().unwrap();
}
