//! Clocks. All time in the program comes from a [`Clock`]; `tests/tidy.rs` refuses other sources. Two times
//! are kept apart: monotonic nanoseconds (durations, timers, latencies) and wall time (expiry, logs). The
//! fake clock stands still until it is told to advance, which is what tests and simulations run on.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::util::text::UtcTime;

/// A point in time for measurements in benchmarks.
pub type Moment = std::time::Instant;

/// A source of time. Clones of a real clock are independent; clones of a fake one share its time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks.
    Real(RealClock),
    /// A clock that only moves by [`Clock::advance`].
    Fake(Arc<FakeClock>),
}

impl Clock {
    /// The machine's clocks. The first call takes about 2 ms to measure the time-stamp counter.
    pub fn real() -> Clock {
        Clock::Real(RealClock::new())
    }

    /// A clock for tests that shows `start_wall_ms` (since 1970) and monotonic time 1 s.
    pub fn fake(start_wall_ms: i64) -> Clock {
        let wall_offset_us = start_wall_ms * 1_000 - 1_000_000;
        Clock::Fake(Arc::new(FakeClock {
            mono_ns: AtomicU64::new(1_000_000_000),
            wall_offset_us: AtomicI64::new(wall_offset_us),
        }))
    }

    /// Nanoseconds since some fixed point; never goes back. Costs about as much as reading the counter.
    #[inline]
    pub fn mono_ns(&self) -> u64 {
        match self {
            Clock::Real(clock) => clock.mono_ns(),
            Clock::Fake(clock) => clock.mono_ns.load(Ordering::Relaxed),
        }
    }

    /// Microseconds since 1970 by the system's wall clock, which may jump.
    #[inline]
    pub fn wall_us(&self) -> i64 {
        match self {
            Clock::Real(_) => system_wall_us(),
            Clock::Fake(clock) => {
                let mono_us = (clock.mono_ns.load(Ordering::Relaxed) / 1_000) as i64;
                mono_us + clock.wall_offset_us.load(Ordering::Relaxed)
            }
        }
    }

    /// Milliseconds since 1970 by the system's wall clock.
    #[inline]
    pub fn wall_ms(&self) -> i64 {
        self.wall_us() / 1_000
    }

    /// Lets a real clock compare its counter with the system's. Call it every second or so (a call within
    /// 100 ms of the last does nothing), so that the counter follows the system's corrected frequency.
    pub fn tick(&self) {
        if let Clock::Real(clock) = self {
            clock.tick();
        }
    }

    /// Lets the calling thread do nothing for `ns` (DEBUG SLEEP); a fake clock moves on by as much.
    pub fn sleep(&self, ns: u64) {
        match self {
            Clock::Real(_) => std::thread::sleep(std::time::Duration::from_nanos(ns)),
            Clock::Fake(_) => self.advance(ns),
        }
    }

    /// Moves a fake clock by `ns`, wall time included.
    ///
    /// # Panics
    /// On a real clock.
    pub fn advance(&self, ns: u64) {
        self.fake_part().mono_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Lets the wall time of a fake clock jump by `ms` (either way), as an operator setting the date does.
    ///
    /// # Panics
    /// On a real clock.
    pub fn jump_wall_ms(&self, ms: i64) {
        self.fake_part().wall_offset_us.fetch_add(ms * 1_000, Ordering::Relaxed);
    }

    fn fake_part(&self) -> &FakeClock {
        match self {
            Clock::Fake(clock) => clock,
            Clock::Real(_) => panic!("only a fake clock can be moved"),
        }
    }

    /// What INFO shows as `monotonic_clock`.
    pub fn name(&self) -> String {
        match self {
            Clock::Real(RealClock { source: Source::Counter { frequency, .. } }) => {
                format!("X86 TSC @ {} ticks/us", frequency / 1_000_000)
            }
            Clock::Real(_) => "POSIX clock_gettime".to_owned(),
            Clock::Fake(_) => "fake".to_owned(),
        }
    }
}

/// State of a fake clock.
#[derive(Debug)]
pub struct FakeClock {
    mono_ns: AtomicU64,
    wall_offset_us: AtomicI64,
}

/// The machine's monotonic clock.
#[derive(Clone, Debug)]
pub struct RealClock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The processor's time-stamp counter, mapped linearly to the system's monotonic time.
    Counter { line: Cell<Line>, tuned: Cell<Tuning>, frequency: u64 },
    /// A system call (without entering the kernel, as a rule).
    System,
}

/// `ns = base_ns + (counter - base_count) * ns_per_count / 2^32`.
#[derive(Clone, Copy, Debug)]
struct Line {
    base_count: u64,
    base_ns: u64,
    /// 32.32 fixed point.
    ns_per_count: u64,
}

impl Line {
    #[inline]
    fn at(self, count: u64) -> u64 {
        // Counters of different cores may differ by a few counts; time must not wrap then.
        let passed = count.saturating_sub(self.base_count);
        self.base_ns + ((u128::from(passed) * u128::from(self.ns_per_count)) >> 32) as u64
    }
}

/// The last comparison of counter and system clock.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    count: u64,
    system_ns: u64,
}

/// Shortest time between two comparisons: shorter ones would measure the cost of measuring.
const TUNE_EVERY_NS: u64 = 100_000_000;

/// An error beyond this is no drift: the machine was suspended or moved. Time then steps (forward only).
const STEP_NS: i64 = 50_000_000;

impl RealClock {
    fn new() -> RealClock {
        let Some(frequency) = counter_frequency() else {
            return RealClock { source: Source::System };
        };
        let (count, system_ns) = read_both();
        let ns_per_count = ((1_000_000_000u128 << 32) / u128::from(frequency)) as u64;
        let line = Cell::new(Line { base_count: count, base_ns: system_ns, ns_per_count });
        let tuned = Cell::new(Tuning { count, system_ns });
        RealClock { source: Source::Counter { line, tuned, frequency } }
    }

    #[inline]
    fn mono_ns(&self) -> u64 {
        match &self.source {
            Source::Counter { line, .. } => line.get().at(read_counter()),
            Source::System => system_ns(libc::CLOCK_MONOTONIC) as u64,
        }
    }

    fn tick(&self) {
        let Source::Counter { line, tuned, .. } = &self.source else {
            return;
        };
        let (count, system_ns) = read_both();
        let last = tuned.get();
        if system_ns.saturating_sub(last.system_ns) >= TUNE_EVERY_NS && count > last.count {
            line.set(retune(line.get(), last, count, system_ns));
            tuned.set(Tuning { count, system_ns });
        }
    }
}

/// The line to follow from `count` on: the rate measured since the last comparison, changed by at most 10 %
/// so that the present error is gone after about as long a time again. Never steps back.
fn retune(line: Line, last: Tuning, count: u64, system_ns: u64) -> Line {
    let (counts, ns) = (count - last.count, system_ns - last.system_ns);
    let measured = ((u128::from(ns) << 32) / u128::from(counts)) as u64;
    let shown = line.at(count);
    let error = shown as i64 - system_ns as i64; // positive: we are ahead
    if error < -STEP_NS {
        return Line { base_count: count, base_ns: system_ns, ns_per_count: measured };
    }
    let wanted = (ns as i64 - error).clamp(ns as i64 * 9 / 10, ns as i64 * 11 / 10) as u64;
    let ns_per_count = ((u128::from(wanted) << 32) / u128::from(counts)) as u64;
    Line { base_count: count, base_ns: shown, ns_per_count }
}

/// Microseconds since 1970; for the log, which has no clock of its own to ask.
pub(super) fn system_wall_us() -> i64 {
    system_ns(libc::CLOCK_REALTIME) / 1_000
}

/// One of the system's clocks in nanoseconds.
fn system_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time` only. It cannot fail for the clocks used here.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn read_counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn read_counter() -> u64 {
    0
}

/// Counter and monotonic system time of one moment: the tightest of three tries.
fn read_both() -> (u64, u64) {
    let tries = (0..3).map(|_| {
        let before = read_counter();
        let ns = system_ns(libc::CLOCK_MONOTONIC) as u64;
        let gap = read_counter().wrapping_sub(before);
        (gap, before.wrapping_add(gap / 2), ns)
    });
    tries.min_by_key(|(gap, ..)| *gap).map(|(_, count, ns)| (count, ns)).expect("there were three tries")
}

/// Counts per second, measured once per process; None when the counter cannot be trusted.
fn counter_frequency() -> Option<u64> {
    static FREQUENCY: OnceLock<Option<u64>> = OnceLock::new();
    *FREQUENCY.get_or_init(|| {
        if !counter_is_invariant() {
            return None;
        }
        let (start_count, start_ns) = read_both();
        let mut now = read_both();
        while now.1.saturating_sub(start_ns) < 2_000_000 {
            now = read_both();
        }
        let counts = u128::from(now.0.checked_sub(start_count)?);
        let frequency = (counts * 1_000_000_000 / u128::from(now.1 - start_ns)) as u64;
        (100_000_000..10_000_000_000).contains(&frequency).then_some(frequency)
    })
}

/// Whether the counter runs at one rate in all power states (CPUID 0x80000007, EDX bit 8) and the kernel
/// trusts it, which it shows by using it itself where it has the choice.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn counter_is_invariant() -> bool {
    use core::arch::x86_64::__cpuid;
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let kernel_distrusts = std::fs::read_to_string(source).is_ok_and(|name| {
        !matches!(name.trim(), "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "xen")
    });
    if kernel_distrusts {
        return false;
    }
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn counter_is_invariant() -> bool {
    false
}

/// `22 Nov 2026 13:18:30.874` in local time (classic Redis log stamps, CLIENT and LATENCY texts).
pub fn format_local(wall_ms: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = wall_ms.div_euclid(1_000);
    // SAFETY: all-zero is a valid `tm`, whose only pointer (the zone's name) is never followed.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types asked for.
    let found = unsafe { libc::localtime_r(&seconds, &mut local) };
    let millisecond = wall_ms.rem_euclid(1_000);
    if found.is_null() {
        return UtcTime::from_unix_ms(wall_ms).to_string();
    }
    let month = MONTHS[usize::try_from(local.tm_mon).unwrap_or(0).min(11)];
    let (day, year) = (local.tm_mday, local.tm_year + 1900);
    let (hour, minute, second) = (local.tm_hour, local.tm_min, local.tm_sec);
    format!("{day:02} {month} {year} {hour:02}:{minute:02}:{second:02}.{millisecond:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fake_time_moves_when_told() {
        let clock = Clock::fake(1_700_000_000_000);
        let shared = clock.clone();
        assert_eq!(clock.wall_ms(), 1_700_000_000_000);
        let start = clock.mono_ns();
        shared.advance(1_500_000_000);
        assert_eq!((clock.mono_ns() - start, clock.wall_ms()), (1_500_000_000, 1_700_000_001_500));
        clock.jump_wall_ms(-10_000);
        assert_eq!((clock.mono_ns() - start, clock.wall_us()), (1_500_000_000, 1_699_999_991_500_000));
    }

    #[test]
    fn real_time_follows_the_system() {
        let clock = Clock::real();
        let mut last = clock.mono_ns();
        let start = system_ns(libc::CLOCK_MONOTONIC) as u64;
        let mut next_tick = start;
        loop {
            let system = system_ns(libc::CLOCK_MONOTONIC) as u64;
            let now = clock.mono_ns();
            assert!(now >= last, "went back by {} ns", last - now);
            last = now;
            if system > next_tick {
                clock.tick();
                next_tick += 50_000_000;
            }
            if system > start + 400_000_000 {
                break;
            }
        }
        let error = clock.mono_ns() as i64 - system_ns(libc::CLOCK_MONOTONIC);
        assert!(error.abs() < 2_000_000, "{error} ns off; {}", clock.name());
        let wall = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        assert!((clock.wall_ms() - wall).abs() < 1_000);
    }

    #[test]
    fn tuning_removes_the_error_and_never_steps_back() {
        // A counter that runs 0.1 % faster than assumed (1 count = 1 ns).
        let mut line = Line { base_count: 0, base_ns: 0, ns_per_count: 1 << 32 };
        let mut last = Tuning { count: 0, system_ns: 0 };
        for second in 1..=20u64 {
            let (count, system_ns) = (second * 1_001_000_000, second * 1_000_000_000);
            let before = line.at(count);
            line = retune(line, last, count, system_ns);
            assert_eq!(line.at(count), before);
            last = Tuning { count, system_ns };
        }
        let error = line.at(20 * 1_001_000_000) as i64 - 20_000_000_000;
        assert!(error.abs() < 1_000, "{error}");
        // After a suspension the system is far ahead: step.
        let jumped = retune(line, last, last.count + 1_000, last.system_ns + 60_000_000_000);
        assert_eq!(jumped.at(last.count + 1_000), last.system_ns + 60_000_000_000);
    }

    #[test]
    fn local_time_has_the_documented_form() {
        let text = format_local(1_795_353_510_874);
        assert!(text.contains(" Nov 2026 ") && text.ends_with(":30.874"), "{text}");
        assert_eq!(text.len(), "22 Nov 2026 13:18:30.874".len());
    }
}
