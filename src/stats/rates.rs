//! Rates per second over the last moments: `instantaneous_ops_per_sec` and its kin.

/// Samples that are averaged; one is taken about every 100 ms.
const SAMPLES: usize = 16;

/// One counter's rate.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    last: Option<(u64, u64)>,
    samples: [u64; SAMPLES],
    next: usize,
}

impl Rate {
    /// Takes a sample of a growing counter at a time in nanoseconds.
    pub fn sample(&mut self, now_ns: u64, value: u64) {
        if let Some((then_ns, then)) = self.last {
            let elapsed = now_ns.saturating_sub(then_ns);
            if elapsed == 0 {
                return;
            }
            let grown = u128::from(value.saturating_sub(then)) * 1_000_000_000;
            self.samples[self.next] = (grown / u128::from(elapsed)) as u64;
            self.next = (self.next + 1) % SAMPLES;
        }
        self.last = Some((now_ns, value));
    }

    /// The mean of the last samples, per second.
    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / SAMPLES as u64
    }
}

/// The rates that INFO shows.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Commands.
    pub commands: Rate,
    /// Bytes read.
    pub input_bytes: Rate,
    /// Bytes written.
    pub output_bytes: Rate,
    /// Turns of the event loop.
    pub turns: Rate,
    /// Microseconds of a turn, as total time against turns.
    pub turn_us: Rate,
}
