//! What the server does by itself: before it sleeps, and at its periods. One table of (period, function).

use super::Server;
use super::client::Close;

/// A period in milliseconds, and what is done.
type Job = (u64, fn(&mut Server));

/// Periods and functions. A function runs when its period has passed since its last run.
const JOBS: &[Job] = &[
    (100, Server::sample_rates),
    (100, Server::sample_memory),
    (100, Server::tend_clients),
    (100, Server::check_child),
    (100, Server::collect_sessions),
    (100, Server::save_if_due),
    (100, Server::tend_log),
    (100, Server::limit_tracking_table),
    (1000, |server| server.clock.tick()),
    (1000, Server::close_unused_links),
];

/// When each job ran last, in monotonic milliseconds.
#[derive(Default)]
pub struct Cron {
    last_ms: [u64; JOBS.len()],
    /// Where the walk over clients goes on.
    pub(super) next_client: usize,
    /// Runs of the cron, for INFO and tests.
    pub runs: u64,
}

impl Server {
    /// Runs the jobs that are due.
    pub fn run_cron(&mut self) {
        // A snapshot, an eviction or an expiry in the middle of a script would see half of what it does.
        if self.debug.pause_cron || self.runner.is_parked() {
            return;
        }
        self.shut_down_if_asked();
        self.defragment_if_due();
        let now_ms = self.now.mono_ms();
        if self.cron.last_ms.iter().zip(JOBS).all(|(last_ms, (period_ms, _))| now_ms - last_ms < *period_ms) {
            return;
        }
        let begin_ns = self.clock.mono_ns();
        self.cron.runs += 1;
        if self.config.watchdog_period > 0 {
            self.apply_watchdog();
        }
        for (i, (period_ms, job)) in JOBS.iter().enumerate() {
            if now_ms - self.cron.last_ms[i] >= *period_ms {
                self.cron.last_ms[i] = now_ms;
                job(self);
            }
        }
        self.stats.counters.cron_us += (self.clock.mono_ns() - begin_ns) / 1000;
    }

    /// What has to be done before the loop waits: due keys, ended waits and pauses, making room. True if
    /// there is more of it than belongs in one turn.
    pub fn before_sleep(&mut self) -> bool {
        if self.runner.is_parked() {
            self.step_parked();
            self.broadcast_invalidations();
            self.flush_log();
            return false;
        }
        self.replay_on();
        self.time_out_blocked();
        self.end_pause_if_due();
        if self.memory.evicting {
            self.make_room();
        }
        let more = self.expire_keys();
        self.broadcast_invalidations();
        if self.memory.limits_clients {
            self.keep_client_memory();
        }
        self.flush_log();
        more
    }

    /// Milliseconds until something has to be done by itself: 0 if at once.
    pub fn sleep_ms(&self) -> u64 {
        let wall = [
            self.blocking.next_deadline_ms(),
            self.keyspace_next_expiry_ms(),
            self.pause.map(|p| p.until_ms),
        ];
        let until_wall = wall.into_iter().flatten().min().map(|t| (t - self.now.wall_ms).max(0) as u64);
        let cron_ms = 1000 / u64::from(self.config.hz.max(1));
        let defrag_ms = self.defrag.due_ms(self.now.mono_ns, self.config.hz).unwrap_or(cron_ms);
        until_wall.unwrap_or(u64::MAX).min(cron_ms).min(defrag_ms)
    }

    fn keyspace_next_expiry_ms(&self) -> Option<i64> {
        let waits = self.active_expire
            && !self.is_loading()
            && self.keyspace.expiry == crate::keyspace::Expiry::Remove;
        if waits { self.keyspace.next_expiry_ms() } else { None }
    }

    /// Removes keys that are due. True if there are more than one turn's worth.
    fn expire_keys(&mut self) -> bool {
        if !self.active_expire
            || self.is_loading()
            || self.keyspace.next_expiry_ms().is_none_or(|t| t > self.now.wall_ms)
        {
            return false;
        }
        let start_ns = self.clock.mono_ns();
        self.enter_unit();
        let more = self.keyspace.expire_due();
        self.leave_unit();
        self.keyspace.stats.expire_us += (self.clock.mono_ns() - start_ns) / 1000;
        more
    }

    /// Ends CLIENT PAUSE when its time is over.
    pub(super) fn end_pause_if_due(&mut self) {
        if self.pause.is_some_and(|p| p.until_ms <= self.now.wall_ms) {
            self.end_pause();
        }
    }

    /// CLIENT PAUSE. A running pause becomes stricter and longer, never laxer or shorter; meanwhile keys do
    /// not expire, for that would be a write.
    pub(super) fn begin_pause(&mut self, pause: super::Pause) {
        let old = self.pause.unwrap_or(pause);
        let until_ms = pause.until_ms.max(old.until_ms);
        self.pause = Some(super::Pause { all: pause.all || old.all, until_ms });
        self.arm(super::gate::bit::PAUSE, true);
        self.keyspace.expiry = crate::keyspace::Expiry::Hide;
    }

    /// Ends CLIENT PAUSE: postponed input goes on.
    pub(super) fn end_pause(&mut self) {
        self.pause = None;
        self.arm(super::gate::bit::PAUSE, false);
        if !self.replaying {
            self.keyspace.expiry = crate::keyspace::Expiry::Remove;
        }
        for slot in std::mem::take(&mut self.postponed) {
            if let Some(client) = self.clients.get_mut(slot) {
                client.blocked = None;
                self.resumed.push(slot);
            }
        }
    }

    fn sample_rates(&mut self) {
        let (ns, c) = (self.now.mono_ns, &self.stats.counters);
        self.stats.rates.commands.sample(ns, c.commands);
        self.stats.rates.input_bytes.sample(ns, c.net_input_bytes);
        self.stats.rates.output_bytes.sample(ns, c.net_output_bytes);
        self.stats.rates.turns.sample(ns, c.loop_turns);
        self.stats.rates.turn_us.sample(ns, c.loop_us);
    }

    /// Looks after some clients: idle ones are closed, their buffers shrunk, their memory accounted. All
    /// are visited within about a second.
    fn tend_clients(&mut self) {
        let slots = self.clients.slots();
        let some = (slots.len() / 10).clamp(5.min(slots.len()), slots.len());
        for _ in 0..some {
            let slot = slots[self.cron.next_client % slots.len()];
            self.cron.next_client = self.cron.next_client.wrapping_add(1);
            self.tend_client(slot);
        }
        self.evict_clients();
    }

    fn tend_client(&mut self, slot: usize) {
        let Some(mut client) = self.clients.take(slot) else { return };
        let idle_ms = self.now.mono_ms().saturating_sub(client.active_ms);
        let timeout_ms = u64::from(self.config.timeout) * 1000;
        let may_idle = client.blocked.is_some()
            || client.subscriptions.is_some()
            || client.role != super::client::Role::Normal;
        if timeout_ms > 0 && idle_ms > timeout_ms && !may_idle {
            log::debug!(target: "aikv", "Closing idle client {}", client.peer.addr);
            client.close = Some(Close::Now);
            self.pending_closes.push(slot);
        }
        self.size_buffers(&mut client, idle_ms);
        self.check_output_limit(&mut client);
        self.account_client(&mut client);
        self.clients.put(client);
    }
}
