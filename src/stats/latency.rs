//! The latency monitor: the last spikes of each event above `latency-monitor-threshold`.

use std::collections::{BTreeMap, VecDeque};

/// Spikes kept per event.
const SAMPLES_MAX: usize = 160;

/// A spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since 1970.
    pub unix_seconds: i64,
    /// Milliseconds.
    pub ms: u64,
}

/// The spikes of one event.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Highest ever.
    pub max_ms: u64,
    /// The last ones, oldest first.
    pub samples: VecDeque<Sample>,
}

/// Spikes by event.
#[derive(Default)]
pub struct LatencyMonitor {
    events: BTreeMap<&'static str, Series>,
}

impl LatencyMonitor {
    /// Records a spike; several in one second count as the highest.
    pub fn add(&mut self, event: &'static str, unix_seconds: i64, ms: u64) {
        let series = self.events.entry(event).or_default();
        series.max_ms = series.max_ms.max(ms);
        if let Some(last) = series.samples.back_mut()
            && last.unix_seconds == unix_seconds
        {
            last.ms = last.ms.max(ms);
            return;
        }
        if series.samples.len() == SAMPLES_MAX {
            series.samples.pop_front();
        }
        series.samples.push_back(Sample { unix_seconds, ms });
    }

    /// All events, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Series)> {
        self.events.iter().map(|(name, series)| (*name, series))
    }

    /// One event.
    pub fn get(&self, event: &str) -> Option<&Series> {
        self.events.get(event)
    }

    /// Forgets one event, or all; returns how many there were.
    pub fn reset(&mut self, event: Option<&str>) -> usize {
        match event {
            Some(event) => usize::from(self.events.remove(event).is_some()),
            None => std::mem::take(&mut self.events).len(),
        }
    }
}
