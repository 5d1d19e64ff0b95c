//! Model tests: payloads and snapshots of random values, read back, cut and flipped.

use super::format::{VERSION_FIELD_EXPIRY, VERSION_LOWEST};
use super::read::{Refusal, Verify};
use super::*;
use crate::keyspace::Keyspace;
use crate::keyspace::access::{AccessClock, Policy};
use crate::sys::background::Background;
use crate::util::rng::Rng;
use crate::value::digest::of_value;
use crate::value::stream::{self, Stream};
use crate::value::{Entry, Kind, Limits, hash, list, set, string, zset};
use std::io::Cursor;
use std::ops::ControlFlow;

/// Encodings that are left soon.
fn small_limits() -> Limits {
    Limits {
        list: list::Limits { fill: 8, compress_depth: 0, plain_from: 0 },
        set: set::Limits { max_intset_entries: 8, max_listpack_entries: 8, max_listpack_value: 32 },
        zset: zset::Limits { max_listpack_entries: 8, max_listpack_value: 32 },
        hash: hash::Limits { max_listpack_entries: 8, max_listpack_value: 32 },
    }
}

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
        1 => vec![b'a' + rng.below(3) as u8; rng.below(200) as usize],
        2 => (0..rng.below(100)).map(|_| rng.next_u64() as u8).collect(),
        _ => format!("word:{}", rng.below(40)).into_bytes(),
    }
}

/// A random value under a key, of a random type, with a few or some dozen elements.
pub(super) fn random_entry(rng: &mut Rng, key: &[u8], limits: &Limits) -> Entry {
    let kind = crate::value::KINDS[rng.below(6) as usize];
    let expiry = (rng.below(3) == 0).then(|| START_MS + 1 + rng.below(1 << 40) as i64);
    let mut draft = crate::value::draft(kind);
    if kind == Kind::String {
        let text = text(rng);
        return Entry::new(key, kind as u8, string::payload(&text, None), expiry);
    }
    if kind == Kind::Stream {
        let stream = random_stream(rng);
        return Entry::new(key, kind as u8, stream::payload(stream), expiry);
    }
    let most = if rng.below(3) == 0 { 60 } else { 6 };
    for i in 0..=rng.below(most) {
        let (text, other) = (text(rng), text(rng));
        match kind {
            Kind::List => {
                list::push(&mut draft, &limits.list, list::End::Back, std::iter::once(&text[..]));
            }
            Kind::Set if rng.below(3) > 0 => {
                set::add(&mut draft, &limits.set, &set::Probe::new(i.to_string().as_bytes()));
            }
            Kind::Set => drop(set::add(&mut draft, &limits.set, &set::Probe::new(&text))),
            Kind::Zset => {
                let scores = [f64::INFINITY, -0.0, 1.5, rng.next_u64() as i64 as f64, 3.0];
                zset::set(&mut draft, &limits.zset, &text, scores[rng.below(5) as usize]);
            }
            _ => {
                let ttl = match rng.below(8) {
                    0 => hash::FieldTtl::At(1 + rng.below(1 << 44) as i64),
                    _ => hash::FieldTtl::Clear,
                };
                hash::set(&mut draft, &limits.hash, &text, &other, ttl);
            }
        }
    }
    let mut inline = Vec::new();
    Entry::new(key, kind as u8, draft.take_payload().as_new(&mut inline), expiry)
}

/// A stream with groups, consumers and pending IDs.
fn random_stream(rng: &mut Rng) -> Stream {
    let limits = stream::Limits { node_max_bytes: 200, node_max_entries: 1 + rng.below(9) };
    let mut stream = Stream::default();
    let mut ids = Vec::new();
    for i in 0..rng.below(40) {
        let id = stream.next_id(stream::NewId::Auto, START_MS + rng.below(3) as i64).unwrap();
        let fields: Vec<_> = (0..rng.below(3)).map(|_| (text(rng), text(rng))).collect();
        stream.append(&limits, id, fields.iter().map(|(field, value)| (&field[..], &value[..])));
        ids.push(id);
        if rng.below(4) == 0 {
            stream.delete(ids[rng.below(i + 1) as usize]);
            stream.settle();
        }
    }
    for name in [b"one", b"two"].iter().take(rng.below(3) as usize) {
        let read = (rng.below(2) == 0).then_some(3);
        stream.create_group(*name, stream::Id::MIN, read).unwrap();
        for consumer in [b"Alice", b"Bobby"] {
            let group = stream.group_mut(*name).unwrap();
            let at = START_MS + rng.below(3) as i64;
            let id = group.create_consumer(consumer, at).unwrap();
            stream.deliver(*name, Some(id), 1 + rng.below(5) as usize, at, &mut |_, _| {});
        }
        if rng.below(2) == 0 {
            let group = stream.group_mut(*name).unwrap();
            group.create_consumer(b"Zoe", START_MS).unwrap();
        }
    }
    stream
}

const START_MS: i64 = 1_767_225_600_000;

pub(super) fn keyspace() -> Keyspace {
    crate::collections::hash::seed_hashes(7);
    let mut ks = Keyspace::new(4, AccessClock::new(Policy::Lru, START_MS), 1, Background::inline());
    ks.begin(START_MS);
    ks
}

pub(super) fn filled(rng: &mut Rng, keys: u64) -> Keyspace {
    let mut ks = keyspace();
    for i in 0..keys {
        let db = rng.below(2) as usize * 3;
        let mut entry = random_entry(rng, format!("key:{i}").as_bytes(), &small_limits());
        entry.set_clock(ks.access.from_idle_seconds(rng.below(1000) as u32));
        assert!(ks.adopt(db, entry).is_ok());
    }
    ks
}

pub(super) fn options() -> Options {
    Options {
        compression: Compression::Lzf,
        checksum: true,
        version: Version::Lowest,
        purpose: Purpose::Snapshot,
        ages: Ages::Idle,
        server_version: "7.4.1",
        created_s: START_MS / 1000,
        used_memory: 1 << 20,
        facts: Vec::new(),
    }
}

pub(super) fn saved(ks: &Keyspace, options: &Options) -> (Vec<u8>, Written) {
    let libraries: [&[u8]; 1] = [b"#!lua name=lib\n"];
    let (sink, written) = write(Cursor::new(Vec::new()), ks, &libraries, options, &mut ()).unwrap();
    (sink.into_inner(), written)
}

/// Takes everything into a keyspace.
pub(super) struct Into<'a> {
    pub(super) ks: &'a mut Keyspace,
    pub(super) db: usize,
    pub(super) libraries: usize,
    pub(super) skipped: usize,
}

impl<'a> Into<'a> {
    pub(super) fn new(ks: &'a mut Keyspace) -> Self {
        Into { ks, db: 0, libraries: 0, skipped: 0 }
    }
}

impl Sink for Into<'_> {
    fn select(&mut self, db: u64) -> Result<(), Refusal> {
        self.db = db as usize;
        if self.db < self.ks.databases() { Ok(()) } else { Err("too many databases".to_string()) }
    }

    fn entry(&mut self, mut entry: Entry, age: Age) -> Result<(), Refusal> {
        let idle = age.idle_seconds.unwrap_or(0) as u32;
        entry.set_clock(self.ks.access.from_idle_seconds(idle));
        self.ks.adopt(self.db, entry).map_err(|_| "duplicate".to_string())
    }

    fn empty(&mut self, _: &[u8]) {
        self.skipped += 1;
    }

    fn library(&mut self, _: &[u8]) -> Result<(), Refusal> {
        self.libraries += 1;
        Ok(())
    }

    fn module_aux(&mut self, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn module_value(&mut self, module: &str, _: &[u8]) -> Result<(), Refusal> {
        Err(format!("module {module}"))
    }
}

/// All keys with their values, deadlines and clocks.
fn contents(ks: &Keyspace) -> Vec<impl Ord + std::fmt::Debug> {
    let of_db = |db| {
        ks.db(db).table().iter().map(move |e| (db, e.key().to_vec(), of_value(&e), e.expiry(), e.clock()))
    };
    let mut all: Vec<_> = (0..ks.databases()).flat_map(of_db).collect();
    all.sort();
    all
}

#[test]
fn payloads_give_back_what_they_were_made_of() {
    let mut rng = Rng::from_seed(11);
    for round in 0..3_000 {
        let (from, to) = if round % 2 == 0 { (small_limits(), limits()) } else { (limits(), small_limits()) };
        let entry = random_entry(&mut rng, b"k", &from);
        let compression = if round % 3 == 0 { Compression::Off } else { Compression::Lzf };
        let payload = dump::dump(&entry, compression);
        assert!(dump::verify(&payload, dump::Checksum::Verify));
        let back = dump::restore(&payload, b"k", entry.expiry(), &to).unwrap().unwrap();
        assert_eq!(of_value(&back), of_value(&entry), "round {round}");
        let again = dump::restore(&dump::dump(&back, compression), b"k", entry.expiry(), &from);
        assert_eq!(of_value(&again.unwrap().unwrap()), of_value(&entry), "round {round}");
    }
}

fn limits() -> Limits {
    Limits::from_config(&crate::config::Config::default())
}

#[test]
fn snapshots_give_back_what_was_saved_in_steps_of_any_size() {
    let mut rng = Rng::from_seed(12);
    for budget in [1, 100, 4_000, u64::MAX] {
        let ks = filled(&mut rng, 400);
        let (file, written) = saved(&ks, &options());
        assert_eq!((written.bytes, written.keys), (file.len() as u64, 400));
        let (mut back, mut turns) = (keyspace(), 0);
        let mut sink = Into::new(&mut back);
        let mut loader = Loader::new(&file[..], small_limits(), Verify::Checksum);
        while loader.step(&mut sink, budget).unwrap() == Progress::More {
            turns += 1;
        }
        assert!(turns >= 300 || budget > 1);
        assert_eq!((sink.libraries, loader.position()), (1, file.len() as u64));
        assert_eq!(contents(&back), contents(&ks));
    }
}

#[test]
fn the_version_is_the_lowest_that_holds_the_data() {
    let mut ks = keyspace();
    let plain = Entry::new(b"k", Kind::String as u8, string::payload(b"v", None), None);
    ks.adopt(0, plain).unwrap();
    let (file, written) = saved(&ks, &options());
    assert_eq!((written.version, &file[..9]), (VERSION_LOWEST, &b"REDIS0010"[..]));
    let mut hash = crate::value::draft(Kind::Hash).renamed(b"h");
    hash::set(&mut hash, &limits().hash, b"f", b"v", hash::FieldTtl::At(START_MS + 5));
    assert_eq!(dump::dump(&hash, Compression::Lzf).iter().rev().nth(9), Some(&12));
    ks.adopt(0, hash).unwrap();
    let (file, written) = saved(&ks, &options());
    assert_eq!((written.version, &file[..9]), (VERSION_FIELD_EXPIRY, &b"REDIS0012"[..]));
    read(&file[..], limits(), Verify::Checksum, &mut Into::new(&mut keyspace())).unwrap();
    let pinned = Options { version: Version::Pinned(11), ..options() };
    let error = write(Cursor::new(Vec::new()), &ks, &[], &pinned, &mut ()).unwrap_err();
    assert_eq!(error.to_string(), "the data needs RDB version 12, and rdb-version allows 11");
    let unsummed = Options { checksum: false, version: Version::Pinned(12), ..options() };
    let (file, _) = saved(&ks, &unsummed);
    assert_eq!(file[file.len() - 8..], [0; 8]);
    read(&file[..], limits(), Verify::Checksum, &mut Into::new(&mut keyspace())).unwrap();
}

#[test]
fn every_byte_cut_or_flipped_is_noticed() {
    let ks = filled(&mut Rng::from_seed(13), 12);
    let (file, _) = saved(&ks, &options());
    let load = |bytes: &[u8], verify| read(bytes, small_limits(), verify, &mut Into::new(&mut keyspace()));
    load(&file, Verify::Checksum).unwrap();
    for at in 0..file.len() {
        assert!(load(&file[..at], Verify::Checksum).is_err(), "cut at {at}");
        let mut flipped = file.clone();
        for bits in [1 << (at % 8), 0xff] {
            flipped[at] = file[at] ^ bits;
            assert!(load(&flipped, Verify::Checksum).is_err(), "byte {at} with {bits:x} flipped");
            // Without a checksum it may pass, but nothing may break.
            let _ = load(&flipped, Verify::Nothing);
        }
    }
}

#[test]
fn a_failing_sink_gives_its_error_and_an_observer_can_stop() {
    #[derive(Debug)]
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let some = bytes.len().min(self.0);
            self.0 -= some;
            if some == 0 { Err(io::Error::from_raw_os_error(28)) } else { Ok(some) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl io::Seek for Full {
        fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
    struct Third;
    impl Observer for Third {
        fn key_saved(&mut self, saved: u64) -> ControlFlow<()> {
            if saved == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let ks = filled(&mut Rng::from_seed(14), 8);
    let (file, _) = saved(&ks, &options());
    for room in 0..file.len() {
        let error = write(Full(room), &ks, &[b"#!lua name=lib\n"], &options(), &mut ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(28), "room for {room}");
    }
    let error = write(Cursor::new(Vec::new()), &ks, &[], &options(), &mut Third).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
}
