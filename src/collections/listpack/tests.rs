//! Listpacks against vectors of strings, and against bytes that Redis 7.0.15 wrote.

use super::*;
use crate::collections::testing::Random;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn strings(lp: &[u8]) -> Vec<Vec<u8>> {
    iter(lp).map(Value::to_vec).collect()
}

fn some_string(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0..5 => (random.next() as i64 >> random.below(64)).to_string().into_bytes(),
        5 => b"-0".to_vec(),
        6 => vec![b'x'; 16_370 + random.below(20) as usize],
        7 => vec![b'y'; 60 + random.below(70) as usize],
        8 => vec![b'z'; 4_090 + random.below(10) as usize],
        _ => (0..random.below(20)).map(|_| random.next() as u8).collect(),
    }
}

#[test]
fn bytes_are_those_of_redis() {
    // RPUSH l 0 127 128 -1 ... from DUMP; every integer width, a string and the empty string.
    let redis = hex(concat!(
        "4a4a000000100000017f01c08002dfff02cfff02d00002f1001003f1ff7f03f1008003f2ffff7f04f200008004",
        "f3ffffff7f05f30000008005f4ffffffffffffff7f0983616263048001ff"
    ));
    let redis = &redis[1..];
    let values = [
        "0",
        "127",
        "128",
        "-1",
        "4095",
        "-4096",
        "4096",
        "32767",
        "-32768",
        "8388607",
        "-8388608",
        "2147483647",
        "-2147483648",
        "9223372036854775807",
        "abc",
        "",
    ];
    assert!(is_valid(redis));
    assert_eq!(strings(redis), values.map(|text| text.as_bytes().to_vec()));
    assert_eq!(from_values(values.iter().map(|text| Value::new(text.as_bytes()))), redis);
    // HSET h f v g 12
    let redis = hex("1200000004008166028176028167020c01ff");
    let mut ours = EMPTY.to_vec();
    splice(&mut ours, HEAD, 0, &[Value::Str(b"g"), Value::Int(12)]);
    splice(&mut ours, HEAD, 0, &[Value::Str(b"f"), Value::Str(b"v")]);
    assert_eq!(ours, redis);
    assert_eq!(find(&ours, HEAD, Value::new(b"v"), 2), None);
    assert_eq!(find(&ours, HEAD, Value::new(b"g"), 2).map(|at| next(&ours, at).is_some()), Some(true));
}

#[test]
fn agrees_with_a_vector() {
    let mut random = Random::from_env();
    let (mut lp, mut model) = (EMPTY.to_vec(), Vec::<Vec<u8>>::new());
    for round in 0..if cfg!(miri) { 60 } else { 6_000 } {
        let index = random.below(model.len() as u64 + 1) as usize;
        let at = seek(&lp, index).unwrap_or(end(&lp));
        let string = some_string(&mut random);
        match random.below(8) {
            5 => {
                extend(&mut lp, [Value::new(&string), Value::Int(round)]);
                model.extend([string, round.to_string().into_bytes()]);
            }
            6 if index < model.len() => {
                let n = random.next() as i64 >> random.below(64);
                set_int(&mut lp, at, n);
                model[index] = n.to_string().into_bytes();
            }
            0 | 1 => {
                insert(&mut lp, at, Value::new(&string));
                model.insert(index, string);
            }
            2 if index < model.len() => {
                replace(&mut lp, at, Value::new(&string));
                model[index] = string;
            }
            3 => {
                let count = random.below(4) as usize;
                delete(&mut lp, at, count);
                model.drain(index..model.len().min(index + count));
            }
            4 => {
                let other = from_values([Value::new(&string), Value::Int(round)]);
                splice_raw(&mut lp, at, at, 0, raw(&other), 2);
                model.splice(index..index, [string, round.to_string().into_bytes()]);
            }
            _ => {
                let place = model.iter().position(|other| *other == string);
                let found = find(&lp, HEAD, Value::new(&string), 1);
                assert_eq!(found, place.and_then(|place| seek(&lp, place)));
            }
        }
        if model.len() > 60 {
            delete(&mut lp, HEAD, 55);
            model.drain(..55);
        }
        assert_eq!(len(&lp), model.len());
        assert!(is_valid(&lp));
        if round % 8 == 0 {
            assert_eq!(strings(&lp), model);
            let back: Vec<_> = iter(&lp).rev().map(Value::to_vec).collect();
            assert!(back.iter().eq(model.iter().rev()));
            assert_eq!(last(&lp).map(|at| get(&lp, at).to_vec()), model.last().cloned());
        }
    }
}

#[test]
fn many_elements_are_counted() {
    let mut lp = from_values((0..70_000).map(|_| Value::Int(1)));
    assert_eq!(len(&lp), 70_000);
    extend(&mut lp, [Value::Int(1)]);
    assert_eq!(len(&lp), 70_001);
    delete(&mut lp, HEAD, 69_990);
    assert_eq!(len(&lp), 11);
    assert!(is_valid(&lp));
}

#[test]
fn foreign_strings_become_integers() {
    // The string 12 as a string.
    let odd = [10, 0, 0, 0, 1, 0, 0x82, b'1', b'2', 3, 0xff];
    let odd = [&[11][..], &odd[1..]].concat();
    assert!(is_valid(&odd));
    assert_eq!(adopt(&odd).unwrap(), &[9, 0, 0, 0, 1, 0, 12, 1, 0xff][..]);
}

#[test]
fn damage_is_found() {
    let mut random = Random::from_env();
    let whole = from_values([Value::new(b"abc"), Value::Int(-70_000), Value::Str(&[7; 200]), Value::Int(5)]);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(bytes.len() - random.below(3).saturating_sub(1) as usize);
        if is_valid(&bytes) {
            // What passes can be read to the end, both ways.
            assert_eq!(iter(&bytes).count(), iter(&bytes).rev().count());
        }
    }
    for bad in [&b""[..], &[7, 0, 0, 0, 0, 0], &[8, 0, 0, 0, 0, 0, 0xff], &[7, 0, 0, 0, 1, 0, 0xff]] {
        assert!(!is_valid(bad));
    }
}
