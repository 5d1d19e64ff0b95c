//! Options that act on the process as the system sees it: its out-of-memory score, reports of crashes and of
//! a loop that is stuck, jemalloc's own thread. Knows no command.

use super::Server;
use crate::config::OomScoreAdj;
use crate::sys::{alloc, crash, process};

/// What a process is to the kernel when memory runs out: an index into `oom-score-adj-values`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OomClass {
    /// The server.
    Primary = 0,
    /// A child that writes a file.
    Child = 2,
}

/// An idle loop sleeps for less than this, in milliseconds.
const WATCHDOG_MIN_MS: u64 = 500;
/// Scores are held within these bounds.
const OOM_SCORE_MAX: i32 = 1000;

impl Server {
    /// Puts all options of this kind into effect, at the start. What fails is warned about.
    pub fn tune_process(&mut self) {
        self.apply_watchdog();
        for applied in [self.apply_oom_score(), self.apply_jemalloc_thread()] {
            if let Err(error) = applied {
                log::warn!(target: "aikv", "{error}");
            }
        }
    }

    pub(super) fn apply_crash_log(&self) {
        if !self.config.crash_log_enabled {
            return crash::remove_crash_handler();
        }
        if let Err(error) = crash::install_crash_handler() {
            log::warn!(target: "aikv", "Installing the crash handler: {error}");
        }
    }

    /// Lets the timer begin anew; called at each turn of the cron, so that it ends only if the loop is stuck.
    pub(super) fn apply_watchdog(&self) {
        let period_ms = u64::from(self.config.watchdog_period);
        crash::set_watchdog(if period_ms > 0 { period_ms.max(WATCHDOG_MIN_MS) } else { 0 });
    }

    pub(super) fn apply_jemalloc_thread(&self) -> Result<(), String> {
        match alloc::set_background_thread(self.config.jemalloc_bg_thread) {
            true => Ok(()),
            false => Err("jemalloc's background thread cannot be changed".to_owned()),
        }
    }

    /// Sets the score that the configuration names, or the one before the first change.
    pub(super) fn apply_oom_score(&mut self) -> Result<(), String> {
        let score = match (self.config.oom_score_adj, self.process.oom_base) {
            (OomScoreAdj::No, None) => return Ok(()),
            (OomScoreAdj::No, base) => base,
            _ => {
                self.process.oom_base = self.process.oom_base.or_else(process::oom_score_adj);
                self.oom_score(OomClass::Primary)
            }
        };
        let set = |score| process::set_oom_score_adj(score).inspect_err(log_oom_error);
        match score.map(set) {
            Some(Ok(())) => {
                if self.config.oom_score_adj == OomScoreAdj::No {
                    self.process.oom_base = None;
                }
                Ok(())
            }
            _ => Err("Failed to set current oom_score_adj. Check server logs.".to_owned()),
        }
    }

    /// The same in a child.
    pub(super) fn set_oom_score_of_child(&self) {
        if self.config.oom_score_adj != OomScoreAdj::No
            && let Some(Err(error)) = self.oom_score(OomClass::Child).map(process::set_oom_score_adj)
        {
            log_oom_error(&error);
        }
    }

    /// The score of a class; none if the system tells none to begin with.
    fn oom_score(&self, class: OomClass) -> Option<i32> {
        let value = self.config.oom_score_adj_values[class as usize];
        let score = match self.config.oom_score_adj {
            OomScoreAdj::Relative => self.process.oom_base? + value,
            _ => value,
        };
        Some(score.clamp(-OOM_SCORE_MAX, OOM_SCORE_MAX))
    }
}

fn log_oom_error(error: &std::io::Error) {
    log::warn!(target: "aikv", "Unable to write oom_score_adj: {error}");
}
