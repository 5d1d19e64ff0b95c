//! Types, opcodes and versions that AiKv does not write: built here by hand from the description of the
//! format.

use super::format::{container, kind as types, module, opcode};
use super::output::{Compression, Output};
use super::read::Verify;
use super::tests::{Into, keyspace};
use super::*;
use crate::collections::listpack;
use crate::util::crc::crc64;
use crate::value::{Entry, Limits, Value, encoding, hash, kind, list, stream, string, zset};

type Bytes = Output<Vec<u8>>;

fn limits() -> Limits {
    Limits::from_config(&crate::config::Config::default())
}

/// The value of a type with this body.
fn value(of_type: u8, body: impl FnOnce(&mut Bytes)) -> Result<Option<Entry>, RdbError> {
    let mut out = Output::new(Vec::new(), Compression::Off);
    out.byte(of_type);
    body(&mut out);
    // Version and checksum, at which nobody looks here.
    out.bytes(&[0; 10]);
    dump::restore(&out.finish().unwrap().0, b"k", None, &limits())
}

fn whole(of_type: u8, body: impl FnOnce(&mut Bytes)) -> Entry {
    value(of_type, body).unwrap().unwrap()
}

fn refusal(of_type: u8, body: impl FnOnce(&mut Bytes)) -> String {
    value(of_type, body).unwrap_err().fault.to_string()
}

fn put_all(out: &mut Bytes, strings: &[&str]) {
    out.length(strings.len() as u64);
    strings.iter().for_each(|text| out.string(text.as_bytes()));
}

/// The elements of a value as texts, in its order; scores and deadlines after their members and fields.
fn elements(entry: &Entry) -> Vec<String> {
    let text = |value: Value<'_>| String::from_utf8(value.to_vec()).unwrap();
    let mut all = Vec::new();
    match kind(entry) {
        crate::value::Kind::List => {
            list::view(entry).walk(0, crate::value::Direction::Forward, &mut |value| {
                all.push(text(value));
                true
            });
        }
        crate::value::Kind::Set => {
            all.extend(crate::value::set::view(entry).iter().map(text));
            all.sort();
        }
        crate::value::Kind::Zset => {
            zset::view(entry)
                .iter()
                .for_each(|(member, score)| all.extend([text(member), score.to_string()]));
        }
        crate::value::Kind::Hash => hash::view(entry, i64::MIN).iter().for_each(|item| {
            all.extend([text(item.field), text(item.value)]);
            all.extend(item.expiry.map(|at| at.to_string()));
        }),
        crate::value::Kind::String => all.push(string::as_int(entry).unwrap().to_string()),
        crate::value::Kind::Stream => all.push(stream::view(entry).len().to_string()),
    }
    all
}

/// A ziplist of these strings, as Redis 2 wrote them (all below 64 bytes).
fn ziplist(strings: &[&str]) -> Vec<u8> {
    let (mut body, mut before, mut last) = (Vec::new(), 0, 10);
    for text in strings {
        let start = body.len();
        body.push(before as u8);
        match text.parse::<i16>() {
            Ok(n) => {
                body.push(0xc0);
                body.extend_from_slice(&n.to_le_bytes());
            }
            Err(_) => {
                body.push(text.len() as u8);
                body.extend_from_slice(text.as_bytes());
            }
        }
        (before, last) = (body.len() - start, 10 + start);
    }
    let total = body.len() as u32 + 11;
    let head =
        [&total.to_le_bytes()[..], &(last as u32).to_le_bytes(), &(strings.len() as u16).to_le_bytes()];
    [&head.concat()[..], &body, &[0xff]].concat()
}

#[test]
fn plain_types_are_read() {
    let list = whole(types::LIST, |out| put_all(out, &["b", "1", "a"]));
    assert_eq!((elements(&list), encoding(&list)), (vec!["b".into(), "1".into(), "a".into()], "listpack"));
    let set = whole(types::SET, |out| put_all(out, &["3", "1", "2"]));
    assert_eq!((elements(&set), encoding(&set)), (vec!["1".into(), "2".into(), "3".into()], "intset"));
    let hash = whole(types::HASH, |out| {
        out.length(1);
        out.string(b"f");
        out.string(b"v");
    });
    assert_eq!((elements(&hash), encoding(&hash)), (vec!["f".to_string(), "v".into()], "listpack"));
    let scores = |out: &mut Bytes, last: &[u8]| {
        out.length(3);
        for (member, score) in [("a", &b"\x031.5"[..]), ("b", b"\xfe"), ("c", last)] {
            out.string(member.as_bytes());
            out.bytes(score);
        }
    };
    let zset = whole(types::ZSET, |out| scores(out, b"\xff"));
    assert_eq!(elements(&zset), ["c", "-inf", "a", "1.5", "b", "inf"]);
    assert_eq!(refusal(types::ZSET, |out| scores(out, b"\xfd")), "Zset with NAN score detected");
    assert_eq!(refusal(types::ZSET, |out| scores(out, b"\x01x")), "Zset with a score that is no number");
    assert!(value(types::LIST, |out| out.length(0)).unwrap().is_none());
    assert_eq!(refusal(types::SET, |out| put_all(out, &["a", "a"])), "Duplicate set members detected");
}

#[test]
fn ziplists_and_zipmaps_become_listpacks() {
    let list = whole(types::LIST_ZIPLIST, |out| out.string(&ziplist(&["a", "300", "b"])));
    assert_eq!((elements(&list), encoding(&list)), (vec!["a".into(), "300".into(), "b".into()], "listpack"));
    let zset = whole(types::ZSET_ZIPLIST, |out| out.string(&ziplist(&["a", "1", "b", "2.5"])));
    assert_eq!((elements(&zset).join(" "), encoding(&zset)), ("a 1 b 2.5".into(), "listpack"));
    let hash = whole(types::HASH_ZIPLIST, |out| out.string(&ziplist(&["f", "1", "g", "v"])));
    assert_eq!((elements(&hash).join(" "), encoding(&hash)), ("f 1 g v".into(), "listpack"));
    let map = whole(types::HASH_ZIPMAP, |out| out.string(b"\x02\x01f\x01\x00v\x01g\x02\x0012\xff"));
    assert_eq!((elements(&map).join(" "), encoding(&map)), ("f v g 12".into(), "listpack"));
    let nodes = |out: &mut Bytes| {
        out.length(3);
        [&["a", "b"][..], &[], &["c"]].iter().for_each(|node| out.string(&ziplist(node)));
    };
    assert_eq!(elements(&whole(types::LIST_QUICKLIST, nodes)), ["a", "b", "c"]);
    for of_type in [types::LIST_ZIPLIST, types::ZSET_ZIPLIST, types::HASH_ZIPLIST, types::HASH_ZIPMAP] {
        let text = refusal(of_type, |out| out.string(&ziplist(&["a", "b", "c"])[..15]));
        assert!(text.contains("integrity check failed"), "{text}");
    }
    assert!(refusal(types::HASH_ZIPLIST, |out| out.string(&ziplist(&["a"]))).contains("integrity"));
}

#[test]
fn nodes_of_either_kind_make_a_list() {
    let packed = listpack::from_values([Value::Str(b"a"), Value::Int(2)]);
    let list = whole(types::LIST_QUICKLIST_2, |out| {
        out.length(3);
        out.length(container::PACKED);
        out.string(&packed);
        out.length(container::PLAIN);
        out.string(&[b'x'; 9000]);
        out.length(container::PACKED);
        out.string(&packed);
    });
    assert_eq!((list::view(&list).len(), encoding(&list)), (5, "quicklist"));
    let bad = |form, node: &[u8]| {
        refusal(types::LIST_QUICKLIST_2, |out| {
            out.length(1);
            out.length(form);
            out.string(node);
        })
    };
    assert_eq!(bad(3, &packed), "Quicklist integrity check failed.");
    assert_eq!(bad(container::PACKED, &packed[1..]), "Listpack integrity check failed.");
    assert!(bad(container::PLAIN, b"").contains("integrity"));
}

#[test]
fn hashes_with_deadlines_come_in_four_forms() {
    let triples = listpack::from_values([
        Value::Str(b"f"),
        Value::Str(b"v"),
        Value::Int(2_000_000_000_000),
        Value::Str(b"g"),
        Value::Str(b"w"),
        Value::Int(0),
    ]);
    let wanted = ["f", "v", "2000000000000", "g", "w"];
    let old = whole(types::HASH_LISTPACK_EX_PRE_GA, |out| out.string(&triples));
    let new = whole(types::HASH_LISTPACK_EX, |out| {
        out.fixed64(2_000_000_000_000);
        out.string(&triples);
    });
    let fields = |out: &mut Bytes, ttls: [u64; 2]| {
        out.length(2);
        for (ttl, field, value) in [(ttls[0], "f", "v"), (ttls[1], "g", "w")] {
            out.length(ttl);
            out.string(field.as_bytes());
            out.string(value.as_bytes());
        }
    };
    let old_table = whole(types::HASH_METADATA_PRE_GA, |out| fields(out, [2_000_000_000_000, 0]));
    let new_table = whole(types::HASH_METADATA, |out| {
        out.fixed64(2_000_000_000_000);
        fields(out, [1, 0]);
    });
    for entry in [old, new, old_table, new_table] {
        assert_eq!((elements(&entry), encoding(&entry)), (wanted.map(String::from).to_vec(), "listpackex"));
    }
    let too_late = refusal(types::HASH_METADATA_PRE_GA, |out| fields(out, [1 << 48, 0]));
    assert_eq!(too_late, "Hash field with an invalid deadline");
    let text = refusal(types::HASH_METADATA, |out| out.fixed64(u64::MAX));
    assert_eq!(text, "Hash with an invalid earliest deadline");
}

#[test]
fn streams_of_the_first_form_are_read() {
    let limits = stream::Limits { node_max_bytes: 0, node_max_entries: 2 };
    let mut source = stream::Stream::default();
    for seq in 1..6 {
        let pairs = [(&b"f"[..], &b"v"[..])];
        source.append(&limits, stream::Id { ms: 7, seq }, pairs.into_iter());
    }
    let entry = whole(types::STREAM_LISTPACKS, |out| {
        out.length(source.nodes_len() as u64);
        for (master, node) in source.nodes() {
            out.string(&[master.ms.to_be_bytes(), master.seq.to_be_bytes()].concat());
            out.string(node);
        }
        [5, 7, 5].iter().for_each(|n| out.length(*n));
        // One group that has read three, with one pending for one consumer.
        out.length(1);
        out.string(b"group");
        [7, 3].iter().for_each(|n| out.length(*n));
        let pending = [7u64.to_be_bytes(), 3u64.to_be_bytes()].concat();
        out.length(1);
        out.bytes(&pending);
        out.fixed64(1000);
        out.length(2);
        out.length(1);
        out.string(b"Alice");
        out.fixed64(900);
        out.length(1);
        out.bytes(&pending);
    });
    let stream = stream::view(&entry);
    let meta = stream.meta();
    assert_eq!((meta.len, meta.entries_added, meta.first_id.seq, meta.last_id.seq), (5, 5, 1, 5));
    let group = stream.group(b"group").unwrap();
    let alice = group.consumers().next().unwrap();
    assert_eq!((alice.seen_ms, alice.active_ms, alice.pending_len()), (900, Some(900), 1));
    assert_eq!((group.pending_len(), group.entries_read), (1, meta.entries_up_to(group.last_id)));
}

/// A file of a version with this between head and end.
fn file(version: &str, body: impl FnOnce(&mut Bytes)) -> Vec<u8> {
    let mut out = Output::new(Vec::new(), Compression::Off);
    out.bytes(if version.len() == 4 { b"REDIS" } else { b"VALKEY" });
    out.bytes(version.as_bytes());
    body(&mut out);
    out.byte(opcode::END);
    let mut file = out.finish().unwrap().0;
    if version > "0004" {
        let sum = crc64(&file);
        file.extend_from_slice(&sum.to_le_bytes());
    }
    file
}

fn load(file: &[u8]) -> Result<Vec<(String, Option<i64>)>, String> {
    let mut ks = keyspace();
    let read = read(file, limits(), Verify::Checksum, &mut Into::new(&mut ks));
    read.map_err(|error| error.to_string())?;
    let mut keys: Vec<_> = (0..ks.databases())
        .flat_map(|db| {
            ks.db(db).table().iter().map(|e| (String::from_utf8_lossy(e.key()).into(), e.expiry()))
        })
        .collect();
    keys.sort();
    Ok(keys)
}

fn key(out: &mut Bytes, name: &str) {
    out.byte(types::STRING);
    out.string(name.as_bytes());
    out.string(b"v");
}

#[test]
fn opcodes_of_all_versions_are_understood() {
    let all = file("0012", |out| {
        out.byte(opcode::SELECT);
        out.length(1);
        out.byte(opcode::SIZES);
        out.length(9);
        out.length(0);
        out.byte(opcode::SLOT_INFO);
        [1, 2, 3].iter().for_each(|n| out.length(*n));
        out.byte(opcode::MODULE_AUX);
        out.length(1 << 20);
        [module::UNSIGNED, 2, module::SIGNED, 5, module::STRING].iter().for_each(|n| out.length(*n));
        out.string(b"something");
        out.length(module::DOUBLE);
        out.fixed64(0);
        out.length(module::FLOAT);
        out.bytes(&[0; 4]);
        out.length(module::END);
        out.byte(opcode::EXPIRE_SECONDS);
        out.bytes(&2_000_000_000i32.to_le_bytes());
        key(out, "a");
        out.byte(opcode::EXPIRE_MS);
        out.fixed64(2_000_000_000_123);
        out.byte(opcode::FREQUENCY);
        out.byte(9);
        key(out, "b");
        out.byte(opcode::IDLE);
        out.length(100);
        key(out, "c");
        out.byte(types::LIST);
        out.string(b"empty");
        out.length(0);
    });
    let wanted = [("a", Some(2_000_000_000_000)), ("b", Some(2_000_000_000_123)), ("c", None)];
    assert_eq!(load(&all).unwrap(), wanted.map(|(name, at)| (name.to_string(), at)));
    for version in ["0001", "0004", "0005", "0011", "0013", "0099"] {
        assert_eq!(load(&file(version, |out| key(out, "k"))).unwrap(), [("k".to_string(), None)]);
    }
}

/// A hash as Valkey writes one with deadlines.
fn valkey_hash(out: &mut Bytes, deadlines: [i64; 2]) {
    out.length(2);
    for (at, field, value) in [(deadlines[0], "f", "v"), (deadlines[1], "g", "w")] {
        out.string(field.as_bytes());
        out.string(value.as_bytes());
        out.fixed64(at as u64);
    }
}

#[test]
fn files_and_payloads_of_valkey_are_read() {
    let all = file("080", |out| {
        out.byte(opcode::AUX);
        out.string(b"valkey-ver");
        out.string(b"9.0.0");
        out.byte(opcode::SLOT_INFO);
        [7, 1, 0].iter().for_each(|n| out.length(*n));
        key(out, "a");
        out.byte(types::VALKEY_HASH_2);
        out.string(b"hash");
        valkey_hash(out, [2_000_000_000_000, -1]);
    });
    assert_eq!(load(&all).unwrap(), [("a".to_string(), None), ("hash".to_string(), None)]);
    assert_eq!(load(&file("099", |out| key(out, "k"))).unwrap(), [("k".to_string(), None)]);
    let payload = |version: u16, deadlines| {
        let mut out = Output::new(Vec::new(), Compression::Off);
        out.byte(types::VALKEY_HASH_2);
        valkey_hash(&mut out, deadlines);
        out.bytes(&version.to_le_bytes());
        let mut payload = out.finish().unwrap().0;
        payload.extend_from_slice(&crc64(&payload).to_le_bytes());
        payload
    };
    let hash = payload(80, [2_000_000_000_000, -1]);
    assert!(dump::verify(&hash, dump::Checksum::Verify));
    let entry = dump::restore(&hash, b"k", None, &limits()).unwrap().unwrap();
    assert_eq!(elements(&entry), ["f", "v", "2000000000000", "g", "w"]);
    for version in [13, 79, 81] {
        assert!(!dump::verify(&payload(version, [1, 1]), dump::Checksum::Verify));
    }
    // The same number is another type in files of Redis.
    assert!(dump::restore(&payload(12, [1, 1]), b"k", None, &limits()).is_err());
    for wrong in [0, -2, 1 << 48] {
        let refused = dump::restore(&payload(80, [wrong, -1]), b"k", None, &limits()).unwrap_err();
        assert_eq!(refused.fault.to_string(), "Hash field with an invalid deadline");
    }
}

#[test]
fn snapshots_are_told_from_logs() {
    for head in [&b"REDIS0"[..], b"VALKEY", b"REDIS", b"VALKEY080"] {
        assert!(format::is_snapshot(head));
    }
    for head in [&b"*2\r\n$6"[..], b"", b"REDI", b"VALKE", b"#TS:1"] {
        assert!(!format::is_snapshot(head));
    }
}

#[test]
fn what_is_not_known_of_valkey_is_refused_in_words() {
    let error = |version, body: &dyn Fn(&mut Bytes)| load(&file(version, body)).unwrap_err();
    assert_eq!(error("011", &|_| ()), "Unknown RDB format version 011 of Valkey at offset 9");
    assert_eq!(error("08x", &|_| ()), "Unknown RDB format version 08x of Valkey at offset 9");
    // Types with deadlines of Redis, and what a later Valkey may bring.
    for number in [23, 24, 25, 60] {
        let unknown = error("081", &|out| {
            out.byte(number);
            out.string(b"key");
        });
        assert_eq!(unknown, format!("Unknown RDB encoding type {number} at offset 14"));
    }
    let import = error("080", &|out| out.byte(opcode::VALKEY_SLOT_IMPORT));
    assert!(import.contains("take one when the import is over"), "{import}");
}

#[test]
fn what_cannot_be_loaded_is_refused_in_words() {
    let error = |version, body: &dyn Fn(&mut Bytes)| load(&file(version, body)).unwrap_err();
    assert_eq!(error("0000", &|_| ()), "Unknown RDB format version 0000 at offset 9");
    assert_eq!(error("00x1", &|_| ()), "Unknown RDB format version 00x1 at offset 9");
    assert_eq!(load(b"NOSUCH").unwrap_err(), "Unexpected end of the data at offset 0");
    assert_eq!(load(b"NOSUCHFILE").unwrap_err(), "Wrong signature trying to load DB from file at offset 9");
    let unknown = error("0009", &|out| {
        out.byte(200);
        out.string(b"key");
    });
    assert_eq!(unknown, "Unknown RDB encoding type 200 at offset 14");
    let select = |out: &mut Bytes| {
        out.byte(opcode::SELECT);
        out.length(99);
    };
    assert!(error("0009", &select).contains("too many databases"));
    let twice = |out: &mut Bytes| {
        key(out, "k");
        key(out, "k");
    };
    assert!(error("0009", &twice).contains("duplicate"));
    let module_value = |out: &mut Bytes| {
        out.byte(types::MODULE_2);
        out.string(b"k");
        out.length(0);
        out.length(module::END);
    };
    assert!(error("0009", &module_value).contains("module AAAAAAAAA"));
    assert!(error("0009", &|out| out.byte(opcode::FUNCTION_PRE_GA)).contains("release candidates"));
}
