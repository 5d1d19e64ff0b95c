//! Memory: what is used, and making room when it is above `maxmemory`.

use super::Server;
use crate::config::{Config, MaxmemoryPolicy};
use crate::keyspace::LazyFree;
use crate::keyspace::access::Policy;
use crate::keyspace::evict::{Order, Scope};
use crate::sys::alloc;

/// Longest time a command waits for room, in nanoseconds; the rest is done in the turns that follow. The
/// curve is that of Redis: up to tenacity 10 in proportion, above it 15 % more a step, at 100 no bound.
fn eviction_ns_max(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50_000 * u64::from(tenacity),
        11..=99 => (500_000.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

/// Evictions between looks at the clock.
const EVICTIONS_PER_LOOK: usize = 16;

/// Figures that INFO memory shows.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Most ever used, in bytes.
    pub peak: usize,
    /// Used when the server stood and had no data.
    pub startup: usize,
    /// Resident set, sampled.
    pub rss: u64,
    /// The allocator's figures, sampled.
    pub allocator: alloc::AllocStats,
    /// Memory of clients, as last accounted.
    pub clients_bytes: usize,
    /// Whether there is a limit to it.
    pub limits_clients: bool,
    /// Whether there was no room for the command that came last.
    pub exhausted: bool,
    /// Slots of clients whose memory has changed in this turn, while there is a limit.
    pub changed_clients: Vec<usize>,
    /// Whether the eviction of keys goes on in the next turn.
    pub evicting: bool,
    /// Since when used memory is above the limit, in monotonic nanoseconds.
    pub exceeded_since_ns: Option<u64>,
}

/// How entries age under the configured policy.
pub fn access_policy(config: &Config) -> Policy {
    use MaxmemoryPolicy as P;
    match config.maxmemory_policy {
        P::AllkeysLfu | P::VolatileLfu => {
            Policy::Lfu { log_factor: config.lfu_log_factor, decay_minutes: config.lfu_decay_time }
        }
        _ => Policy::Lru,
    }
}

/// Which frees go to the background.
pub fn lazy_free(config: &Config) -> LazyFree {
    LazyFree {
        eviction: config.lazyfree_lazy_eviction,
        expire: config.lazyfree_lazy_expire,
        server_del: config.lazyfree_lazy_server_del,
        user_del: config.lazyfree_lazy_user_del,
    }
}

/// Which keys may go under a policy and which of them goes first; nothing: none may.
fn eviction(policy: MaxmemoryPolicy) -> Option<(Scope, Order)> {
    use MaxmemoryPolicy as P;
    Some(match policy {
        P::Noeviction => return None,
        P::AllkeysLru | P::AllkeysLfu => (Scope::AllKeys, Order::Idleness),
        P::VolatileLru | P::VolatileLfu => (Scope::Volatile, Order::Idleness),
        P::AllkeysRandom => (Scope::AllKeys, Order::Random),
        P::VolatileRandom => (Scope::Volatile, Order::Random),
        P::VolatileTtl => (Scope::Volatile, Order::Ttl),
    })
}

/// How a round of eviction ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Evicted {
    /// Used memory is within the limit, or will be when the background thread is done.
    Enough,
    /// There is more to do.
    OutOfTime,
    /// No key may go, and memory is still above the limit.
    NothingLeft,
}

impl Server {
    /// Bytes above `maxmemory`.
    fn excess(&self) -> usize {
        let max = self.config.maxmemory as usize;
        if max == 0 { 0 } else { alloc::used_memory().saturating_sub(max) }
    }

    /// Evicts keys until used memory is within `maxmemory`, or time is up. False if it is above the limit
    /// and nothing more may go.
    pub fn make_room(&mut self) -> bool {
        if self.excess() == 0 {
            self.end_excess();
            return true;
        }
        if self.pause.is_some() {
            // Evictions are writes: they wait for the end of CLIENT PAUSE.
            self.memory.evicting = false;
            return true;
        }
        let start_ns = self.clock.mono_ns();
        self.memory.exceeded_since_ns.get_or_insert(start_ns);
        let evicted = self.evict(start_ns);
        self.memory.evicting = evicted == Evicted::OutOfTime;
        let ms = (self.clock.mono_ns() - start_ns) / 1_000_000;
        let threshold_ms = self.config.latency_monitor_threshold;
        if threshold_ms > 0 && ms >= threshold_ms {
            self.stats.latency.add("eviction-cycle", self.now.wall_ms / 1000, ms);
        }
        if self.excess() == 0 {
            self.end_excess();
        }
        evicted != Evicted::NothingLeft
    }

    fn evict(&mut self, start_ns: u64) -> Evicted {
        let Some((scope, order)) = eviction(self.config.maxmemory_policy) else {
            return Evicted::NothingLeft;
        };
        let samples = self.config.maxmemory_samples as usize;
        let ns_max = eviction_ns_max(self.config.maxmemory_eviction_tenacity);
        self.enter_unit();
        let (to_free, mut freed, mut evictions) = (self.excess(), 0, 0);
        let end = loop {
            // Frees in the background are not among those counted.
            if freed >= to_free || self.excess() == 0 {
                break Evicted::Enough;
            }
            let Some(bytes) = self.keyspace.evict_one(scope, order, samples) else {
                // Frees in the background may still bring it below the limit.
                let pending = self.keyspace.background().pending_objects() > 0;
                break if pending { Evicted::Enough } else { Evicted::NothingLeft };
            };
            freed += bytes;
            evictions += 1;
            if evictions % EVICTIONS_PER_LOOK == 0 && self.clock.mono_ns() - start_ns > ns_max {
                break Evicted::OutOfTime;
            }
        };
        self.leave_unit();
        end
    }

    fn end_excess(&mut self) {
        self.memory.evicting = false;
        if let Some(since_ns) = self.memory.exceeded_since_ns.take() {
            self.stats.counters.eviction_exceeded_us += (self.clock.mono_ns() - since_ns) / 1000;
        }
    }

    /// Bytes that are not data: clients, tables, the server itself.
    pub fn overhead_bytes(&self) -> usize {
        let tables: usize =
            (0..self.keyspace.databases()).map(|db| self.keyspace.db(db).overhead_bytes()).sum();
        let scripts = &self.runner.scripts;
        let scripts = scripts.cache.memory_bytes() + scripts.functions.memory_bytes();
        self.memory.startup + self.memory.clients_bytes + tables + scripts
    }

    /// Samples memory figures.
    pub(super) fn sample_memory(&mut self) {
        self.memory.peak = self.memory.peak.max(alloc::used_memory());
        self.memory.rss = crate::sys::process::rss_bytes();
        self.memory.allocator = alloc::stats();
    }
}
