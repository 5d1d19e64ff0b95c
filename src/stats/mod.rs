//! What the server counts about itself: plain numbers, the slow log, latency. Knows no client and no
//! socket. Commands that show them live in `server/commands`.

pub mod commands;
pub mod errors;
pub mod histogram;
pub mod latency;
pub mod rates;
pub mod slowlog;

pub use commands::CommandStats;
pub use errors::ErrorStats;
pub use latency::LatencyMonitor;
pub use rates::Rates;
pub use slowlog::SlowLog;

/// Counters of the whole server since start or CONFIG RESETSTAT.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused at `maxclients`.
    pub rejected_connections: u64,
    /// Commands run.
    pub commands: u64,
    /// Bytes read from clients.
    pub net_input_bytes: u64,
    /// Bytes written to clients.
    pub net_output_bytes: u64,
    /// Reads from sockets.
    pub reads: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// Error replies sent.
    pub error_replies: u64,
    /// Errors nobody expects (a write that a replica got from its primary failed, ...).
    pub unexpected_error_replies: u64,
    /// Clients closed because their input grew too long.
    pub query_buffer_limit_disconnections: u64,
    /// Clients closed because their output grew too long.
    pub output_buffer_limit_disconnections: u64,
    /// Clients closed to keep below `maxmemory-clients`.
    pub evicted_clients: u64,
    /// Scripts that came with EVAL and had to make room for others.
    pub evicted_scripts: u64,
    /// Turns of the event loop.
    pub loop_turns: u64,
    /// Microseconds spent in turns, waiting excluded.
    pub loop_us: u64,
    /// Microseconds of these spent in commands.
    pub loop_command_us: u64,
    /// Microseconds spent in periodic jobs.
    pub cron_us: u64,
    /// Microseconds of the longest turn.
    pub loop_us_max: u64,
    /// Most commands run in one turn.
    pub loop_commands_max: u64,
    /// Failed authentications.
    pub denied_auth: u64,
    /// Commands refused by ACL.
    pub denied_command: u64,
    /// Keys refused by ACL.
    pub denied_key: u64,
    /// Channels refused by ACL.
    pub denied_channel: u64,
    /// Times an idle client's reply buffer was made smaller.
    pub reply_buffer_shrinks: u64,
    /// Times a busy client's reply buffer was made larger.
    pub reply_buffer_expands: u64,
    /// Total microseconds in which used memory was above `maxmemory`.
    pub eviction_exceeded_us: u64,
    /// Forks so far.
    pub forks: u64,
    /// RESTORE payloads that were checked in depth because sanitize-dump-payload asks for it.
    pub sanitized_payloads: u64,
    /// Microseconds the last fork took.
    pub latest_fork_us: u64,
}

/// Everything the server counts.
pub struct Stats {
    /// Plain counters.
    pub counters: Counters,
    /// Per command.
    pub commands: CommandStats,
    /// Per error code.
    pub errors: ErrorStats,
    /// The slow log.
    pub slowlog: SlowLog,
    /// Latency spikes by event.
    pub latency: LatencyMonitor,
    /// Rates per second.
    pub rates: Rates,
}

impl Stats {
    /// Nothing counted; `commands` is the number of rows of the command table.
    pub fn new(commands: usize) -> Self {
        Stats {
            counters: Counters::default(),
            commands: CommandStats::new(commands),
            errors: ErrorStats::default(),
            slowlog: SlowLog::default(),
            latency: LatencyMonitor::default(),
            rates: Rates::default(),
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        self.counters = Counters::default();
        self.commands.reset();
        self.errors.reset();
        self.rates = Rates::default();
    }
}
