//! Active defragmentation: decides once a second whether the allocator's pages are so sparsely filled that
//! moving is worth it and how much CPU it may take, and then moves blocks in slices between the turns of the
//! loop: keys and values, names of channels, texts of scripts. What is moved, and how: `sys/defrag.rs`,
//! `keyspace/relocate.rs`. Nothing of it exists while `activedefrag` is off.
//!
//! Slices come between commands, when nobody has a loan of an entry, and not while a child saves (its pages
//! would all be copied) or a script is suspended.

use super::Server;
use crate::keyspace::relocate::Walk;
use crate::pubsub::{Kind, Name};
use crate::sys::alloc;
use crate::sys::defrag::Mover;

/// A slice is no longer than this, in nanoseconds; at high effort there are more of them instead.
const SLICE_NS_MAX: u64 = 2_000_000;
/// It is no shorter either, as beginning one takes 50 microseconds; at low effort there are fewer of them.
const SLICE_NS_MIN: u64 = 500_000;
/// The same while a log is loaded, when clients wait anyway and turns are long.
const LOADING_SLICE_NS_MAX: u64 = 20_000_000;
/// Time between decisions, in nanoseconds.
const DECISION_NS: u64 = 1_000_000_000;
/// The same while a log is loaded, which may take no longer than a second.
const LOADING_DECISION_NS: u64 = 50_000_000;
/// Time without a scan after one that has moved next to nothing, in nanoseconds: what is left cannot move.
const STAGNANT_NS: u64 = 10_000_000_000;
/// Blocks that are next to nothing.
const STAGNANT_BLOCKS: u64 = 100;
/// Names of channels that are looked at together.
const NAMES: usize = 32;
const KINDS: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

/// Figures of active defragmentation, and its work while it is on.
#[derive(Default)]
pub struct Defrag {
    /// Share of CPU in percent now aimed at; 0: nothing is moved.
    pub running: u32,
    /// Counted since the start or CONFIG RESETSTAT.
    pub totals: Totals,
    /// When it began to run, in monotonic nanoseconds.
    since_ns: u64,
    /// When the last slice began.
    slice_ns: u64,
    /// When it was last decided, or a later time before which it is not.
    decided_ns: u64,
    work: Option<Box<Work>>,
}

/// What INFO shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Blocks that were moved.
    pub hits: u64,
    /// Blocks that were looked at and stayed.
    pub misses: u64,
    /// Keys of which something was moved.
    pub key_hits: u64,
    /// Keys of which nothing was moved.
    pub key_misses: u64,
    /// Microseconds in which it ran, up to the last time it stopped.
    us: u64,
}

/// The options that decide on the effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    ignore_bytes: u64,
    threshold: (u32, u32),
    cycle: (u32, u32),
}

/// A scan over everything.
struct Work {
    mover: Mover,
    settings: Settings,
    stage: Stage,
    walk: Walk,
    began_ns: u64,
    hits: u64,
}

enum Stage {
    Keyspace,
    Subscriptions {
        /// Slots of clients that are still to come.
        slots: Vec<usize>,
        kind: usize,
        /// The name that came last.
        after: Option<Name>,
    },
    Scripts(usize),
}

/// What a step has left to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    /// The scan has come to its end.
    End,
}

impl Defrag {
    /// Microseconds in which it has run, and those since it last began.
    pub fn times_us(&self, now_ns: u64) -> (u64, u64) {
        let current = if self.running > 0 { now_ns.saturating_sub(self.since_ns) / 1000 } else { 0 };
        (self.totals.us + current, current)
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self, now_ns: u64) {
        self.totals = Totals::default();
        self.since_ns = now_ns;
        if let Some(work) = &mut self.work {
            work.hits = 0;
        }
    }

    /// Milliseconds until the next slice is due, if there is one.
    pub(super) fn due_ms(&self, now_ns: u64, hz: u32) -> Option<u64> {
        let due_ns = self.slice_ns + period_ns(self.running, hz);
        // At least one: whatever keeps slices from running must not keep the loop from sleeping.
        (self.running > 0).then(|| (due_ns.saturating_sub(now_ns) / 1_000_000).max(1))
    }

    fn set_running(&mut self, running: u32, now_ns: u64) {
        if self.running == 0 {
            self.since_ns = now_ns;
        }
        if running == 0 {
            self.totals.us = self.times_us(now_ns).0;
        }
        self.running = running;
    }
}

/// Time between slices, in nanoseconds.
fn period_ns(running: u32, hz: u32) -> u64 {
    let of_slice = |slice_ns: u64| slice_ns * 100 / u64::from(running.max(1));
    (1_000_000_000 / u64::from(hz.max(1))).clamp(of_slice(SLICE_NS_MIN), of_slice(SLICE_NS_MAX))
}

/// The effort in percent of CPU: between the two thresholds it rises with fragmentation from the lower to the
/// upper bound (the formula of Redis).
fn effort(settings: &Settings, fragmented_percent: f64) -> u32 {
    let ((lower, upper), (least, most)) = (settings.threshold, settings.cycle);
    let rise = (f64::from(most) - f64::from(least)) / (f64::from(upper) - f64::from(lower));
    let wanted = f64::from(least) + (fragmented_percent - f64::from(lower)) * rise;
    // Equal thresholds: all or nothing. (The least may be set above the most; then the most counts.)
    let wanted = if wanted.is_nan() { f64::from(most) } else { wanted };
    wanted.max(f64::from(least)).min(f64::from(most)) as u32
}

impl Server {
    /// A slice of active defragmentation, if it is on and due. Called by the cron at each turn.
    #[inline]
    pub(super) fn defragment_if_due(&mut self) {
        if self.config.activedefrag || self.defrag.running > 0 {
            self.defragment();
        }
    }

    #[cold]
    fn defragment(&mut self) {
        let now_ns = self.clock.mono_ns();
        if !self.config.activedefrag {
            self.defrag.set_running(0, now_ns);
            (self.defrag.work, self.defrag.decided_ns) = (None, 0);
            return;
        }
        let elapsed_ns = now_ns.saturating_sub(self.defrag.slice_ns);
        if elapsed_ns < period_ns(self.defrag.running, self.config.hz) {
            return;
        }
        self.defrag.slice_ns = now_ns;
        if self.child.is_some() {
            return;
        }
        self.decide(now_ns);
        if self.defrag.running > 0 {
            let longest = if self.replaying { LOADING_SLICE_NS_MAX } else { SLICE_NS_MAX };
            // A slice that came late is longer.
            let share_ns = elapsed_ns.min(DECISION_NS) * u64::from(self.defrag.running) / 100;
            self.slice(now_ns, share_ns.min(longest));
        }
    }

    fn defrag_settings(&self) -> Settings {
        let config = &self.config;
        Settings {
            ignore_bytes: config.active_defrag_ignore_bytes,
            threshold: (config.active_defrag_threshold_lower, config.active_defrag_threshold_upper),
            cycle: (config.active_defrag_cycle_min, config.active_defrag_cycle_max),
        }
    }

    /// Once a second, or when the options are others: whether to begin a scan, and with which effort. That of
    /// a scan under way only rises, as its success lowers fragmentation, unless the options are others.
    fn decide(&mut self, now_ns: u64) {
        let settings = self.defrag_settings();
        let changed = self.defrag.work.as_ref().is_some_and(|work| work.settings != settings);
        let period_ns = if self.replaying { LOADING_DECISION_NS } else { DECISION_NS };
        if !changed && now_ns.saturating_sub(self.defrag.decided_ns) < period_ns {
            return;
        }
        self.defrag.decided_ns = now_ns;
        let stats = alloc::stats();
        let percent = stats.fragmented_percent();
        let work = self.defrag.work.get_or_insert_with(|| {
            let (mover, walk) = (Mover::default(), Walk::default());
            Box::new(Work { mover, settings, stage: Stage::Keyspace, walk, began_ns: now_ns, hits: 0 })
        });
        work.settings = settings;
        let fragmented =
            percent >= f64::from(settings.threshold.0) && stats.fragmented as u64 >= settings.ignore_bytes;
        if self.defrag.running == 0 && !fragmented {
            return;
        }
        let effort = effort(&settings, percent);
        if effort > self.defrag.running || changed {
            if self.defrag.running == 0 {
                (work.began_ns, work.hits) = (now_ns, self.defrag.totals.hits);
            }
            self.defrag.set_running(effort, now_ns);
            log::debug!(
                target: "aikv",
                "Active defragmentation: {percent:.0} % ({} bytes) fragmented, effort {effort} % of CPU",
                stats.fragmented
            );
        }
    }

    /// Moves blocks until the time is up or the scan at its end.
    fn slice(&mut self, begin_ns: u64, length_ns: u64) {
        let Some(mut work) = self.defrag.work.take() else { return };
        work.mover.begin_slice();
        let step = loop {
            let step = self.defragment_some(&mut work);
            if step == Step::End || self.clock.mono_ns() - begin_ns >= length_ns {
                break step;
            }
        };
        work.mover.end_slice();
        let totals = &mut self.defrag.totals;
        totals.hits += std::mem::take(&mut work.mover.hits);
        totals.misses += std::mem::take(&mut work.mover.misses);
        totals.key_hits += std::mem::take(&mut work.walk.key_hits);
        totals.key_misses += std::mem::take(&mut work.walk.key_misses);
        let now_ns = self.clock.mono_ns();
        let (ms, threshold_ms) = ((now_ns - begin_ns) / 1_000_000, self.config.latency_monitor_threshold);
        if threshold_ms > 0 && ms >= threshold_ms {
            self.stats.latency.add("active-defrag-cycle", self.now.wall_ms / 1000, ms);
        }
        let (moved, ms) = (self.defrag.totals.hits - work.hits, (now_ns - work.began_ns) / 1_000_000);
        self.defrag.work = Some(work);
        if step == Step::End {
            log::debug!(target: "aikv", "Active defragmentation done in {ms} ms, {moved} blocks moved");
            self.defrag.set_running(0, now_ns);
            if moved < STAGNANT_BLOCKS && !self.replaying {
                self.defrag.decided_ns = now_ns + STAGNANT_NS;
                return;
            }
            // Whether another scan is needed is decided at once.
            self.defrag.decided_ns = 0;
            self.decide(now_ns);
        }
    }

    /// One step, of some microseconds.
    fn defragment_some(&mut self, work: &mut Work) -> Step {
        match &mut work.stage {
            Stage::Keyspace => {
                let parts_max = self.config.active_defrag_max_scan_fields;
                if !self.keyspace.relocate_some(&mut work.walk, parts_max, &mut work.mover) {
                    work.stage = Stage::Subscriptions { slots: self.clients.slots(), kind: 0, after: None };
                }
            }
            Stage::Subscriptions { slots, kind, after } => match slots.last() {
                None => work.stage = Stage::Scripts(0),
                Some(&slot) if *kind < KINDS.len() => {
                    *after = self.relocate_names(slot, KINDS[*kind], after.take(), &mut work.mover);
                    *kind += usize::from(after.is_none());
                }
                Some(_) => {
                    slots.pop();
                    *kind = 0;
                }
            },
            Stage::Scripts(from) => match self.runner.scripts.cache.relocate_some(*from, &mut work.mover) {
                Some(next) => *from = next,
                None => {
                    work.stage = Stage::Keyspace;
                    return Step::End;
                }
            },
        }
        Step::More
    }

    /// Moves names that a client is subscribed to, for it and for the others. Gives the name to go on behind.
    fn relocate_names(
        &mut self,
        slot: usize,
        kind: Kind,
        after: Option<Name>,
        mover: &mut Mover,
    ) -> Option<Name> {
        let own = self.clients.get_mut(slot)?.subscriptions.as_deref_mut()?;
        if after.is_none() && kind == KINDS[0] {
            own.relocate(mover);
        }
        let names = own.names_after(kind, after.as_ref(), NAMES);
        // The old name of a client that is out of its slot stays as good as the new one.
        for name in &names {
            let Some((new, slots)) = self.pubsub.relocate_name(kind, name, mover) else { continue };
            for slot in slots {
                let client = self.clients.get_mut(slot).and_then(|client| client.subscriptions.as_mut());
                if let Some(own) = client {
                    own.share(kind, &new);
                }
            }
        }
        if names.len() < NAMES { None } else { names.last().cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::server::client::Peer;
    use crate::sys::background::Background;
    use crate::sys::clock::Clock;
    use crate::sys::defrag::Select;
    use crate::util::rng::Rng;

    #[test]
    fn the_effort_rises_between_the_thresholds() {
        let settings = Settings { ignore_bytes: 1, threshold: (10, 100), cycle: (1, 25) };
        let efforts = [0.0, 10.0, 55.0, 100.0, 500.0].map(|percent| effort(&settings, percent));
        assert_eq!(efforts, [1, 1, 13, 25, 25]);
        let equal = Settings { threshold: (10, 10), ..settings };
        assert_eq!([effort(&equal, 10.0), effort(&equal, 11.0)], [25, 25]);
        let fixed = Settings { cycle: (1, 1), ..settings };
        assert_eq!(effort(&fixed, 80.0), 1);
    }

    #[test]
    fn slices_are_short_and_have_their_share() {
        for (running, hz, period_us) in
            [(1, 10, 100_000), (25, 10, 8_000), (75, 100, 2_666), (10, 100, 10_000), (1, 500, 50_000)]
        {
            assert_eq!(period_ns(running, hz) / 1000, period_us);
        }
    }

    const CLIENTS: u64 = 5;

    /// A server without sockets.
    struct World {
        server: Server,
        slots: Vec<usize>,
        work: Option<Work>,
    }

    impl World {
        /// With `select`, blocks are moved between the commands.
        fn new(select: Option<Select>) -> World {
            let server = Server::new(Config::default(), Clock::fake(1 << 40), 7, Background::inline());
            let mut server = server.unwrap();
            let slots = (0..CLIENTS)
                .map(|_| server.accept(Peer { is_local: true, ..Peer::default() }).unwrap())
                .collect();
            let settings = server.defrag_settings();
            let work = select.map(|select| Work {
                mover: Mover::new(select),
                settings,
                stage: Stage::Keyspace,
                walk: Walk::default(),
                began_ns: 0,
                hits: 0,
            });
            World { server, slots, work }
        }

        /// Runs a request and gives what all clients are sent.
        fn run(&mut self, client: usize, request: &str, wait_ms: u64) -> Vec<Vec<u8>> {
            self.server.clock.advance(wait_ms * 1_000_000);
            self.server.begin_turn();
            let slot = self.slots[client];
            let words: Vec<&str> = request.split_whitespace().collect();
            let mut frame = format!("*{}\r\n", words.len());
            words.iter().for_each(|word| frame.push_str(&format!("${}\r\n{word}\r\n", word.len())));
            self.server.clients.get_mut(slot).unwrap().input.feed(frame.as_bytes());
            self.server.run(slot);
            self.server.run_cron();
            while self.server.before_sleep() {}
            for slot in std::mem::take(&mut self.server.resumed) {
                self.server.run(slot);
            }
            if let Some(work) = &mut self.work {
                for _ in 0..25 {
                    let _ = self.server.defragment_some(work);
                }
            }
            self.slots.iter().map(|slot| output(&mut self.server, *slot)).collect()
        }
    }

    fn output(server: &mut Server, slot: usize) -> Vec<u8> {
        let reply = &mut server.clients.get_mut(slot).unwrap().reply;
        let (pending, mut slices) = (reply.pending_bytes(), Vec::new());
        reply.slices(1000, pending, &mut slices);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        reply.advance(pending);
        bytes
    }

    /// A request with keys, members and values from small ranges; `?` stands for a number below 40, `*` for a
    /// text of up to 300 bytes.
    fn some_request(rng: &mut Rng) -> String {
        const REQUESTS: &[&str] = &[
            "SET s? *",
            "SET s? * PX ?",
            "APPEND s? *",
            "GET s?",
            "COPY s? s? REPLACE",
            "RENAME s? s?",
            "DEL s? h? S? z? l?",
            "PEXPIRE z? ?0",
            "RPUSH l? a?a * ? b b",
            "LPUSH l? * ?",
            "LRANGE l? 0 -1",
            "LREM l? 0 b",
            "LPOP l? ?",
            "LINSERT l? BEFORE b *",
            "HSET h? f? * f? ? g? *",
            "HSET H f?? *",
            "HPEXPIRE h? ?0 FIELDS 1 f?",
            "HPERSIST h? FIELDS 1 f?",
            "HGETALL h?",
            "HDEL h? f? g?",
            "SADD S? m? n? ? o?",
            "SADD big m?? n??",
            "SPOP S? 2",
            "SPOP big ?",
            "SSCAN big ?",
            "ZADD z? ? m? ? n? ?.5 o?",
            "ZADD zig ? m?? ?.25 n??",
            "ZRANGE zig 0 -1 WITHSCORES",
            "ZREMRANGEBYRANK zig ? ?",
            "ZREM z? m? n?",
            "ZRANGEBYSCORE zig ? ?",
            "XADD x? * f? * g ?",
            "XTRIM x? MAXLEN ?",
            "XGROUP CREATE x? g? 0",
            "XREADGROUP GROUP g? c? COUNT ? STREAMS x? >",
            "XACK x? g? 1-1",
            "XRANGE x? - +",
            "SCAN ? COUNT ?",
            "RANDOMKEY",
            "EVAL return{KEYS[1],#redis.call('keys','s*')} 1 k?",
            "SCRIPT LOAD return'?*'",
            "PUBLISH c? *",
            "SPUBLISH c? *",
            "DBSIZE",
        ];
        let mut out = String::new();
        for c in REQUESTS[rng.below(REQUESTS.len() as u64) as usize].chars() {
            match c {
                '?' => out.push_str(&rng.below(40).to_string()),
                '*' if !out.ends_with("x") && !out.ends_with("'s") => {
                    out.push_str(&"v".repeat(1 + rng.below(300) as usize));
                }
                c => out.push(c),
            }
        }
        out
    }

    /// Who asks for what: commands, transactions, waiting, subscriptions.
    fn some_turn(rng: &mut Rng) -> (usize, String) {
        let number = rng.below(8);
        match rng.below(20) {
            0 => (1, format!("WATCH s{number} l{number}")),
            1 => (1, ["MULTI", "EXEC", "DISCARD"][rng.below(3) as usize].to_owned()),
            2 => (1, some_request(rng)),
            3 => (2, format!("BLPOP l{number} l{} 0.02", rng.below(8))),
            4 => (3, format!("{} c{number}", ["SUBSCRIBE", "UNSUBSCRIBE"][rng.below(2) as usize])),
            5 => (3, format!("{}{number}", ["SSUBSCRIBE c", "PSUBSCRIBE *"][rng.below(2) as usize])),
            6 => (4, format!("BZPOPMIN z{number} 0.02")),
            _ => (0, some_request(rng)),
        }
    }

    /// Two servers get the same requests; in one of them everything is moved all the time.
    #[test]
    fn clients_do_not_notice_moves() {
        let seed = std::env::var("AIKV_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(23);
        println!("AIKV_TEST_SEED={seed}");
        let mut rng = Rng::from_seed(seed);
        let mut still = World::new(None);
        let mut moving = World::new(Some(Select::Everything));
        let options = "CONFIG SET hash-max-listpack-entries 8 set-max-listpack-entries 8 \
            set-max-intset-entries 8 zset-max-listpack-entries 8 list-max-listpack-size 4 \
            stream-node-max-entries 5 active-defrag-max-scan-fields 20 notify-keyspace-events KEA \
            list-compress-depth 1";
        for world in [&mut still, &mut moving] {
            assert_eq!(world.run(0, options, 0)[0], b"+OK\r\n");
        }
        let (mut errors, mut replies) = (0, 0);
        for round in 0..6_000 {
            let (client, request) = some_turn(&mut rng);
            let wait_ms = [0, 0, 0, 7, 60][rng.below(5) as usize];
            let wanted = still.run(client, &request, wait_ms);
            let got = moving.run(client, &request, wait_ms);
            errors += got.iter().filter(|reply| reply.starts_with(b"-")).count();
            replies += got.iter().filter(|reply| !reply.is_empty()).count();
            if got != wanted {
                let text = |replies: &[Vec<u8>]| String::from_utf8_lossy(&replies.concat()).into_owned();
                panic!("round {round}: {request}\nmoving: {}\nstill: {}", text(&got), text(&wanted));
            }
        }
        for world in [&mut still, &mut moving] {
            world.server.keyspace.check_invariants();
        }
        let digest = moving.run(0, "DEBUG DIGEST", 0);
        assert!(digest == still.run(0, "DEBUG DIGEST", 0) && digest[0].len() == 43, "{digest:?}");
        println!("{replies} replies, {errors} errors");
        assert!(replies > 5_000 && errors < replies / 4, "the requests make sense");
        let work = moving.work.unwrap();
        assert!(work.mover.hits > 10_000, "{} hits", work.mover.hits);
    }
}
