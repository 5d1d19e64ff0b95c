//! Counters per command, indexed by the row's number.

use super::histogram::Histogram;

/// What is counted of one command.
#[derive(Clone, Default)]
pub struct CommandCounters {
    /// Calls that ran.
    pub calls: u64,
    /// Nanoseconds they took together.
    pub ns: u64,
    /// Calls refused before they ran.
    pub rejected: u64,
    /// Calls that ran and failed.
    pub failed: u64,
    /// Durations, when `latency-tracking` is on.
    pub durations: Option<Histogram>,
}

/// Counters of all commands.
pub struct CommandStats(Vec<CommandCounters>);

impl CommandStats {
    /// Counters for `commands` rows.
    pub fn new(commands: usize) -> Self {
        CommandStats(vec![CommandCounters::default(); commands])
    }

    /// Counts a call that ran.
    #[inline]
    pub fn ran(&mut self, id: usize, ns: u64, track: bool) {
        let c = &mut self.0[id];
        c.calls += 1;
        c.ns += ns;
        if track {
            c.durations.get_or_insert_default().record(ns);
        }
    }

    /// Counts a failure of a call that ran.
    pub fn failed(&mut self, id: usize) {
        self.0[id].failed += 1;
    }

    /// Counts a refusal.
    pub fn rejected(&mut self, id: usize) {
        self.0[id].rejected += 1;
    }

    /// Counters of one command.
    pub fn get(&self, id: usize) -> &CommandCounters {
        &self.0[id]
    }

    /// Forgets durations only (LATENCY HISTOGRAM's source; `None` for all).
    pub fn reset(&mut self) {
        self.0.iter_mut().for_each(|c| *c = CommandCounters::default());
    }
}
