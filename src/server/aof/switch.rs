//! CONFIG SET appendonly: the log is switched on and off while the server runs.

use super::State;
use crate::config::Engine;
use crate::server::Server;

impl Server {
    /// Puts the option `appendonly` into effect. The error is for the client.
    pub(in crate::server) fn apply_appendonly(&mut self) -> Result<(), String> {
        match (self.config.appendonly, self.aof.state) {
            (true, State::Off) => self.switch_log_on(),
            (false, State::On | State::WaitRewrite) if self.config.storage_engine == Engine::Aidb => {
                Err("engine aidb keeps an append-only log".to_owned())
            }
            (false, State::On | State::WaitRewrite) => {
                self.switch_log_off();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The log begins with a rewrite; until its end, effects are kept for it.
    fn switch_log_on(&mut self) -> Result<(), String> {
        let failed = |error: String| {
            log::error!(target: "aikv", "Failed to persist data: switching the append-only log on: {error}");
            "Unable to turn on AOF. Check server logs.".to_owned()
        };
        if self.aof.rewrite.is_running() {
            log::warn!(
                target: "aikv",
                "AOF was enabled but there is already an AOF rewriting in background. Stopping background \
                 AOF and starting a rewrite now."
            );
            self.kill_rewrite();
        }
        self.aof.folder = self.log_folder().map_err(failed)?;
        self.aof.manifest = self.read_manifest().map_err(failed)?.unwrap_or_default();
        self.aof.state = State::WaitRewrite;
        if self.has_child() || self.unit.no_waiting {
            log::warn!(
                target: "aikv",
                "AOF was enabled while it cannot begin at once (a background save, a transaction). An AOF \
                 background was scheduled to start when possible."
            );
            self.aof.rewrite.schedule();
            return Ok(());
        }
        if self.start_rewrite().is_err() {
            self.aof.state = State::Off;
            self.aof.rewrite.scheduled = false;
            return Err("Unable to turn on AOF. Check server logs.".to_owned());
        }
        Ok(())
    }

    /// Everything appended is brought to disk; the files stay.
    fn switch_log_off(&mut self) {
        self.kill_rewrite();
        self.drop_temporary_incr();
        self.flush_log_and_wait();
        let aof = &mut self.aof;
        aof.state = State::Off;
        aof.file = None;
        aof.annotator = None;
        aof.buffer.clear();
        aof.failure = None;
        aof.rewrite.scheduled = false;
        self.update_durability();
        self.update_disk_gate();
        self.answer_log_waits();
    }
}
