//! Damaged snapshots and RESTORE payloads: each is refused with a reason, or what was taken in can be worked
//! with; nothing panics, hangs or takes memory that the bytes do not vouch for. The seed is printed;
//! `AIKV_SEED` repeats a run, `AIKV_ROUNDS` sets its length. The long run is `cargo test --test fuzz_rdb --
//! --ignored`.

use aikv::collections::hash::seed_hashes;
use aikv::config::Config;
use aikv::keyspace::Keyspace;
use aikv::keyspace::access::{AccessClock, Policy};
use aikv::rdb::read::{Refusal, Verify};
use aikv::rdb::{self, Age, Compression, Loader, Options, Progress, Sink, dump};
use aikv::sys::alloc::used_memory;
use aikv::sys::background::Background;
use aikv::util::rng::Rng;
use aikv::value::digest::of_value;
use aikv::value::stream::{self, NewId, Stream};
use aikv::value::{Entry, KINDS, Kind, Limits, draft, hash, list, set, string, zset};

/// Damaged payloads and snapshots of the usual run and of the long one.
const ROUNDS: u64 = 5_000;
const ROUNDS_LONG: u64 = 500_000;
const NOW_MS: i64 = 1_767_225_600_000;
/// Bytes that reading a few damaged kilobytes may take: LZF makes one byte 88, and tables have room.
const MEMORY_MAX: usize = 64 << 20;

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
        1 => vec![b'a' + rng.below(3) as u8; rng.below(200) as usize],
        2 => (0..rng.below(80)).map(|_| rng.next_u64() as u8).collect(),
        _ => format!("word:{}", rng.below(40)).into_bytes(),
    }
}

/// A random value of a random type under a key.
fn random_entry(rng: &mut Rng, key: &[u8], limits: &Limits) -> Entry {
    let kind = KINDS[rng.below(6) as usize];
    let most = if rng.below(4) == 0 { 40 } else { 5 };
    let count = 1 + rng.below(most);
    let mut entry = draft(kind);
    match kind {
        Kind::String => {
            let text = text(rng);
            return Entry::new(key, kind as u8, string::payload(&text, None), None);
        }
        Kind::Stream => {
            let stream = random_stream(rng, count);
            return Entry::new(key, kind as u8, stream::payload(stream), None);
        }
        _ => {}
    }
    for i in 0..count {
        let (text, other) = (text(rng), text(rng));
        match kind {
            Kind::List => {
                list::push(&mut entry, &limits.list, list::End::Back, std::iter::once(&text[..]));
            }
            Kind::Set if count > 3 => {
                set::add(&mut entry, &limits.set, &set::Probe::new(i.to_string().as_bytes()));
            }
            Kind::Set => drop(set::add(&mut entry, &limits.set, &set::Probe::new(&text))),
            Kind::Zset => drop(zset::set(&mut entry, &limits.zset, &text, rng.below(9) as f64 / 2.0)),
            _ => {
                let ttl = match rng.below(4) {
                    0 => hash::FieldTtl::At(1 + rng.below(1 << 44) as i64),
                    _ => hash::FieldTtl::Clear,
                };
                hash::set(&mut entry, &limits.hash, &text, &other, ttl);
            }
        }
    }
    let mut inline = Vec::new();
    Entry::new(key, kind as u8, entry.take_payload().as_new(&mut inline), None)
}

fn random_stream(rng: &mut Rng, count: u64) -> Stream {
    let limits = stream::Limits { node_max_bytes: 300, node_max_entries: 1 + rng.below(9) };
    let mut stream = Stream::default();
    for _ in 0..count {
        let id = stream.next_id(NewId::Auto, NOW_MS + rng.below(3) as i64).expect("IDs ascend");
        let pair = (text(rng), text(rng));
        stream.append(&limits, id, std::iter::once((&pair.0[..], &pair.1[..])));
    }
    if let Some(group) = stream.create_group(b"group", stream::Id::MIN, Some(1)) {
        let consumer = group.create_consumer(b"Alice", NOW_MS).expect("the first one");
        stream.deliver(b"group", Some(consumer), 3, NOW_MS, &mut |_, _| {});
    }
    stream
}

/// Changes, cuts, doubles or removes some bytes.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, end: usize) {
    for _ in 0..1 + rng.below(3) {
        let at = rng.below(end.min(bytes.len()).max(1) as u64) as usize;
        if at >= bytes.len() {
            return;
        }
        match rng.below(8) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = [0, 0xff, 0x80, 0x81, 0xc3, 0x7f][rng.below(6) as usize],
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, rng.next_u64() as u8),
            4 if rng.below(4) == 0 => bytes.truncate(at),
            5 => {
                let part = bytes[at..(at + rng.below(20) as usize).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes[at] = rng.next_u64() as u8,
        }
    }
}

/// Keeps what comes, and looks at it.
struct Look {
    entries: Vec<Entry>,
}

impl Sink for Look {
    fn select(&mut self, _: u64) -> Result<(), Refusal> {
        Ok(())
    }

    fn entry(&mut self, entry: Entry, _: Age) -> Result<(), Refusal> {
        self.entries.push(entry);
        Ok(())
    }

    fn empty(&mut self, _: &[u8]) {}

    fn library(&mut self, _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    fn module_aux(&mut self, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn module_value(&mut self, _: &str, _: &[u8]) -> Result<(), Refusal> {
        Err("no modules".to_string())
    }
}

/// What was taken in can be written again, and is the same then.
fn work_with(entry: &Entry, limits: &Limits) {
    let payload = dump::dump(entry, Compression::Off);
    let back = dump::restore(&payload, entry.key(), None, limits).expect("our own payload is right");
    let mut back = back.expect("it has elements");
    back.set_expiry(entry.expiry());
    assert_eq!(of_value(&back), of_value(entry));
}

fn snapshot(rng: &mut Rng, limits: &Limits) -> Vec<u8> {
    let mut ks = Keyspace::new(2, AccessClock::new(Policy::Lru, NOW_MS), 1, Background::inline());
    ks.begin(NOW_MS);
    for i in 0..1 + rng.below(5) {
        assert!(ks.adopt(0, random_entry(rng, format!("key:{i}").as_bytes(), limits)).is_ok());
    }
    let options = Options {
        compression: if rng.below(2) == 0 { Compression::Lzf } else { Compression::Off },
        checksum: true,
        version: rdb::Version::Lowest,
        purpose: rdb::Purpose::Snapshot,
        ages: rdb::Ages::Idle,
        server_version: "7.4.1",
        created_s: 1,
        used_memory: 1,
        facts: Vec::new(),
    };
    let sink = std::io::Cursor::new(Vec::new());
    rdb::write(sink, &ks, &[b"library"], &options, &mut ()).expect("memory takes everything").0.into_inner()
}

fn run(default_rounds: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seed, rounds) = (number("AIKV_SEED").unwrap_or(1), number("AIKV_ROUNDS").unwrap_or(default_rounds));
    println!("AIKV_SEED={seed} AIKV_ROUNDS={rounds}");
    seed_hashes(seed);
    let mut rng = Rng::from_seed(seed);
    let roomy = Limits::from_config(&Config::default());
    let mut tight = roomy;
    (tight.hash.max_listpack_entries, tight.zset.max_listpack_entries) = (4, 4);
    (tight.set.max_listpack_entries, tight.set.max_intset_entries, tight.list.fill) = (4, 4, 4);
    let before = used_memory();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..rounds {
        let (from, to) = if round % 2 == 0 { (&roomy, &tight) } else { (&tight, &roomy) };
        let mut payload = dump::dump(&random_entry(&mut rng, b"k", from), Compression::Lzf);
        let end = payload.len() - 10;
        damage(&mut rng, &mut payload, end);
        match dump::restore(&payload, b"k", None, to) {
            Ok(Some(entry)) => {
                taken += 1;
                work_with(&entry, from);
            }
            Ok(None) | Err(_) => refused += 1,
        }
        let mut file = snapshot(&mut rng, from);
        let end = file.len();
        damage(&mut rng, &mut file, end);
        let mut look = Look { entries: Vec::new() };
        let mut loader = Loader::new(&file[..], *to, Verify::Nothing);
        while let Ok(Progress::More) = loader.step(&mut look, 1 + rng.below(500)) {}
        look.entries.iter().for_each(|entry| work_with(entry, from));
        let used = used_memory().saturating_sub(before);
        assert!(used < MEMORY_MAX, "round {round}: {used} bytes in use");
    }
    println!("payloads taken in: {taken}, refused: {refused}");
    assert!(taken > 0 && refused > taken);
}

#[test]
fn damaged_snapshots_and_payloads() {
    run(ROUNDS);
}

#[test]
#[ignore = "the long run"]
fn damaged_snapshots_and_payloads_for_long() {
    run(ROUNDS_LONG);
}
