//! Access clocks: 24 bits in each entry, read as seconds of last use (LRU) or as minutes plus a
//! logarithmic counter (LFU). Semantics are Redis': `lfu-log-factor`, `lfu-decay-time`.

use crate::util::rng::Rng;

/// The clock wraps at this many bits.
const LRU_BITS_MAX: u32 = (1 << 24) - 1;
/// Counter of a new key, so that it is not the first to go.
const LFU_INIT: u32 = 5;

/// How entries are aged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Seconds of last use.
    Lru,
    /// Use counter with decay.
    Lfu {
        /// The higher, the slower the counter grows.
        log_factor: u32,
        /// Minutes after which the counter loses one; 0: never.
        decay_minutes: u32,
    },
}

/// The clock and the policy in force.
#[derive(Clone, Copy, Debug)]
pub struct AccessClock {
    /// How entries are aged.
    pub policy: Policy,
    seconds: u32,
}

impl AccessClock {
    /// A clock that stands at `now_ms`.
    pub fn new(policy: Policy, now_ms: i64) -> Self {
        let mut clock = AccessClock { policy, seconds: 0 };
        clock.set_now(now_ms);
        clock
    }

    /// Moves the clock.
    #[inline]
    pub fn set_now(&mut self, now_ms: i64) {
        self.seconds = (now_ms / 1000) as u32;
    }

    /// The clock's LRU reading (INFO's lru_clock).
    pub fn lru(&self) -> u32 {
        self.seconds & LRU_BITS_MAX
    }

    fn minutes(&self) -> u32 {
        (self.seconds / 60) & 0xffff
    }

    /// The reading for a new entry.
    #[inline]
    pub fn fresh(&self) -> u32 {
        match self.policy {
            Policy::Lru => self.lru(),
            Policy::Lfu { .. } => self.minutes() << 8 | LFU_INIT,
        }
    }

    /// The reading of an entry that is used now.
    #[inline]
    pub fn touched(&self, old: u32, rng: &mut Rng) -> u32 {
        match self.policy {
            Policy::Lru => self.lru(),
            Policy::Lfu { log_factor, .. } => {
                self.minutes() << 8 | increment(self.frequency(old), log_factor, rng)
            }
        }
    }

    /// Seconds since an entry was used (LRU).
    pub fn idle_seconds(&self, clock: u32) -> u32 {
        self.lru().wrapping_sub(clock) & LRU_BITS_MAX
    }

    /// The use counter of an entry, decayed to now (LFU).
    pub fn frequency(&self, clock: u32) -> u32 {
        let counter = clock & 0xff;
        let Policy::Lfu { decay_minutes, .. } = self.policy else { return counter };
        let elapsed = self.minutes().wrapping_sub(clock >> 8) & 0xffff;
        let periods = elapsed.checked_div(decay_minutes).unwrap_or(0);
        counter.saturating_sub(periods)
    }

    /// How good a victim an entry is: the higher, the better.
    pub fn idleness(&self, clock: u32) -> u64 {
        match self.policy {
            Policy::Lru => u64::from(self.idle_seconds(clock)),
            Policy::Lfu { .. } => u64::from(255 - self.frequency(clock)),
        }
    }

    /// The reading of an entry restored with an idle time.
    pub fn from_idle_seconds(&self, seconds: u32) -> u32 {
        self.lru().wrapping_sub(seconds) & LRU_BITS_MAX
    }

    /// The reading of an entry restored with a use counter.
    pub fn from_frequency(&self, counter: u8) -> u32 {
        self.minutes() << 8 | u32::from(counter)
    }
}

/// Grows the counter with a probability that falls with its height.
fn increment(counter: u32, log_factor: u32, rng: &mut Rng) -> u32 {
    if counter >= 255 {
        return 255;
    }
    let base = f64::from(counter.saturating_sub(LFU_INIT));
    let p = 1.0 / (base * f64::from(log_factor) + 1.0);
    let r = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    counter + u32::from(r < p)
}
