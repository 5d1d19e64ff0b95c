//! Eviction on a whole server without sockets: each policy removes what it should, and no more than it must.
//! One test, in a process of its own: used memory is that of the process.

#![allow(clippy::unwrap_used)] // helpers of tests

use aikv::collections::hash::seed_hashes;
use aikv::config::Config;
use aikv::server::Server;
use aikv::server::client::Peer;
use aikv::sys::background::Background;
use aikv::sys::clock::Clock;
use std::ops::Range;

const SEED: u64 = 7;
/// Length of the values: long enough that all else does not matter.
const VALUE_BYTES: usize = 1000;
/// Keys before memory is limited.
const KEYS: usize = 2000;
/// Room that is left when memory is limited, in bytes; then as much again and more is written.
const ROOM: usize = 100 * VALUE_BYTES;

struct World {
    server: Server,
    slot: usize,
}

impl World {
    fn new(options: &[(&str, &str)]) -> World {
        seed_hashes(SEED);
        let mut config = Config::default();
        let pairs: Vec<_> = options.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        config.set(&pairs).expect("the options are valid");
        let clock = Clock::fake(1_767_225_600_000);
        let server = Server::new(config, clock, SEED, Background::inline());
        let mut server = server.expect("the configuration is valid");
        let slot = server.accept(Peer { is_local: true, ..Peer::default() });
        let slot = slot.expect("there is room for a client");
        World { server, slot }
    }

    /// Runs an inline request and gives its reply.
    fn ask(&mut self, request: &str) -> String {
        self.server.begin_turn();
        let client = self.server.clients.get_mut(self.slot).expect("it is connected");
        client.input.feed(format!("{request}\r\n").as_bytes());
        self.server.run(self.slot);
        while self.server.before_sleep() || self.server.memory.evicting {}
        self.server.pending_writes.clear();
        let client = self.server.clients.get_mut(self.slot).expect("it is connected");
        client.write_pending = false;
        String::from_utf8_lossy(&client.reply.take()).into_owned()
    }

    fn set(&mut self, name: &str, i: usize, more: &str) -> String {
        self.ask(&format!("SET {name}:{i} {} {more}", "v".repeat(VALUE_BYTES)))
    }

    /// Leaves `ROOM` bytes of memory.
    fn limit(&mut self, policy: &str) {
        let limit = aikv::sys::alloc::used_memory() + ROOM;
        let reply = self.ask(&format!("CONFIG SET maxmemory-policy {policy} maxmemory {limit}"));
        assert_eq!(reply, "+OK\r\n");
    }

    /// How many of the keys `name:i` are there.
    fn there(&mut self, name: &str, range: Range<usize>) -> usize {
        let names: Vec<String> = range.map(|i| format!("{name}:{i}")).collect();
        let reply = self.ask(&format!("EXISTS {}", names.join(" ")));
        reply[1..].trim_end().parse().expect("EXISTS gives a number")
    }

    fn advance_s(&mut self, seconds: u64) {
        self.server.clock.advance(seconds * 1_000_000_000);
        self.server.begin_turn();
    }

    /// Writes 500 new keys, each of which has to succeed, and checks that memory stays within its limit.
    fn write_new(&mut self, more: &str) {
        for i in 0..500 {
            assert_eq!(self.set("new", i, more), "+OK\r\n");
        }
        let used = aikv::sys::alloc::used_memory();
        let limit = self.server.config.maxmemory as usize;
        assert!(used < limit + 20 * VALUE_BYTES, "{used} of {limit}");
        assert!(self.server.keyspace.stats.evicted >= 350, "{}", self.server.keyspace.stats.evicted);
    }
}

#[test]
fn policies() {
    nothing_goes_without_a_policy();
    least_recently_used_goes_first("allkeys-lru", "");
    least_recently_used_goes_first("volatile-lru", "EX 100000");
    least_often_used_goes_first("allkeys-lfu", "");
    least_often_used_goes_first("volatile-lfu", "EX 100000");
    anything_goes("allkeys-random");
    nearest_deadline_goes_first();
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        keys_without_expiry_stay(policy);
    }
    databases_share_the_burden();
    telling_of_evictions_evicts_nothing();
}

fn nothing_goes_without_a_policy() {
    let mut world = World::new(&[]);
    (0..KEYS).for_each(|i| drop(world.set("old", i, "")));
    world.limit("noeviction");
    let refused = (0..500).filter(|i| world.set("new", *i, "").starts_with("-OOM ")).count();
    assert!((350..=450).contains(&refused), "{refused}");
    assert_eq!(world.there("old", 0..KEYS), KEYS);
    assert_eq!(world.ask("GET nosuch"), "$-1\r\n");
    assert_eq!(world.ask("DEL old:1"), ":1\r\n");
    assert_eq!(world.server.keyspace.stats.evicted, 0);
}

fn least_recently_used_goes_first(policy: &str, more: &str) {
    let mut world = World::new(&[("maxmemory-samples", "10")]);
    for i in 0..KEYS {
        assert_eq!(world.set("old", i, more), "+OK\r\n");
    }
    world.limit(policy);
    world.advance_s(1000);
    (KEYS / 2..KEYS).for_each(|i| drop(world.ask(&format!("GET old:{i}"))));
    world.advance_s(10);
    world.write_new(more);
    let (idle, used) = (world.there("old", 0..KEYS / 2), world.there("old", KEYS / 2..KEYS));
    assert!(idle < 700 && used > 980, "{policy}: {idle} idle and {used} used keys of 1000 are left");
}

fn least_often_used_goes_first(policy: &str, more: &str) {
    let mut world = World::new(&[("maxmemory-samples", "10"), ("maxmemory-policy", policy)]);
    for i in 0..KEYS {
        assert_eq!(world.set("old", i, more), "+OK\r\n");
    }
    world.limit(policy);
    for _ in 0..20 {
        (KEYS / 2..KEYS).for_each(|i| drop(world.ask(&format!("GET old:{i}"))));
    }
    // The counters of the others fall while those in use stay above that of a new key.
    world.advance_s(120);
    world.write_new(more);
    let (rare, often) = (world.there("old", 0..KEYS / 2), world.there("old", KEYS / 2..KEYS));
    assert!(rare < 700 && often > 950, "{policy}: {rare} rare and {often} frequent keys of 1000 are left");
}

fn anything_goes(policy: &str) {
    let mut world = World::new(&[]);
    (0..KEYS).for_each(|i| drop(world.set("old", i, "")));
    world.limit(policy);
    world.write_new("");
    let (first, second) = (world.there("old", 0..KEYS / 2), world.there("old", KEYS / 2..KEYS));
    assert!(first.abs_diff(second) < 150, "{first} and {second} are about equal");
    assert!(world.there("new", 0..500) < 500);
}

fn nearest_deadline_goes_first() {
    let mut world = World::new(&[("maxmemory-samples", "10")]);
    for i in 0..KEYS {
        assert_eq!(world.set("old", i, &format!("EX {}", 10_000 + 10 * i)), "+OK\r\n");
    }
    world.limit("volatile-ttl");
    world.write_new("EX 100000");
    let (near, far) = (world.there("old", 0..KEYS / 2), world.there("old", KEYS / 2..KEYS));
    assert!(near < 650 && far > 950, "{near} near and {far} far keys of 1000 are left");
    assert_eq!(world.there("new", 0..500), 500);
}

fn keys_without_expiry_stay(policy: &str) {
    let mut world = World::new(&[]);
    (0..KEYS).for_each(|i| drop(world.set("lasting", i, "")));
    (0..KEYS).for_each(|i| drop(world.set("volatile", i, "EX 1000")));
    // Keys that lost their expiry leave their mark in the wheel.
    (0..KEYS / 2).for_each(|i| drop(world.ask(&format!("PERSIST volatile:{i}"))));
    world.limit(policy);
    let refused = (0..1500).filter(|i| world.set("new", *i, "").starts_with("-OOM ")).count();
    assert_eq!(world.there("lasting", 0..KEYS), KEYS, "{policy}");
    assert_eq!(world.there("volatile", 0..KEYS / 2), KEYS / 2, "{policy}");
    assert_eq!(world.there("volatile", KEYS / 2..KEYS), 0, "{policy}: all volatile keys had to go");
    assert!((350..=450).contains(&refused), "{policy}: {refused}");
}

fn databases_share_the_burden() {
    let mut world = World::new(&[]);
    for db in 0..4 {
        world.ask(&format!("SELECT {db}"));
        (0..KEYS / 4).for_each(|i| drop(world.set("old", i, "")));
    }
    world.limit("allkeys-lru");
    world.advance_s(10);
    world.ask("SELECT 0");
    world.write_new("");
    for db in 0..4 {
        world.ask(&format!("SELECT {db}"));
        let left = world.there("old", 0..KEYS / 4);
        assert!((300..480).contains(&left), "{left} of 500 in database {db}");
    }
}

/// Messages to clients that track are longer than what goes with a key.
fn telling_of_evictions_evicts_nothing() {
    let mut world =
        World::new(&[("maxmemory-policy", "allkeys-lru"), ("maxmemory-eviction-tenacity", "100")]);
    let own = world.slot;
    let accept = |world: &mut World| world.server.accept(Peer { is_local: true, ..Peer::default() });
    let trackers: Vec<usize> = (0..10).map(|_| accept(&mut world).expect("there is room")).collect();
    for slot in &trackers {
        world.slot = *slot;
        world.ask("HELLO 3");
        assert_eq!(world.ask("CLIENT TRACKING ON"), "+OK\r\n");
    }
    let name = "x".repeat(VALUE_BYTES);
    for i in 0..300 {
        world.slot = own;
        world.ask(&format!("SET {i}{name} x"));
        for slot in &trackers {
            world.slot = *slot;
            world.ask(&format!("GET {i}{name}"));
        }
    }
    world.slot = own;
    let limit = aikv::sys::alloc::used_memory() - 40 * VALUE_BYTES;
    world.ask(&format!("CONFIG SET maxmemory {limit}"));
    for slot in &trackers {
        let told = world.server.clients.get_mut(*slot).expect("it is connected").reply.take();
        let told = String::from_utf8_lossy(&told).matches("invalidate").count() as u64;
        assert_eq!(told, world.server.keyspace.stats.evicted);
    }
    let left = world.ask("DBSIZE");
    let evicted = world.server.keyspace.stats.evicted;
    assert!((10..=50).contains(&evicted), "{evicted} evicted");
    assert_eq!(left, format!(":{}\r\n", 300 - evicted));
}
