//! THE list of options: one row each, grouped by TOML section. The row gives the field of `Config` (the
//! option's name with `_` for `-`), its type, default, kind of value (with bounds) and flags; then, where
//! they differ from the usual, the TOML key, command line flag, aliases, apply hook, and a note for options
//! without effect. The doc comment is also the text of `config.toml` and `docs/config.md`. Names, defaults,
//! bounds and flags are those of Redis 7.4; the deliberate differences are listed in
//! `tests/facts/config-defaults.tsv`. A reader comes here to add or look up an option; nothing else has to
//! be touched for one.

use super::choices::*;
use super::lists::*;
use super::setting::*;
use super::spec::options;
use super::{
    Apply, FIXED, HIDDEN, MANY, MODIFIABLE, NOT_LOADING, PROTECTED, SENSITIVE, VOLATILE, WRITTEN_BACK,
};
use std::path::PathBuf;

const UNTHREADED: Option<&str> = Some("AiKv runs commands on one thread");
const NO_SYSLOG: Option<&str> = Some("use logfile, or let the supervisor collect standard output");
const NO_TLS: Option<&str> = Some("TLS is not built in yet");
const NO_REPLICATION: Option<&str> = Some("replication is being built");
const NO_CLUSTER: Option<&str> = Some("cluster mode is being built");
const NO_MODULES: Option<&str> = Some("modules are not supported");

options! {
    Server {
        /// Addresses to listen on. A `-` before an address: no error if this machine does not have it.
        /// `*` is every IPv4 address, `::*` every IPv6 address.
        "bind" bind: Vec<String> = vec!["*".to_owned(), "-::*".to_owned()], Addresses,
            MODIFIABLE | MANY,
            toml: Some("host"), flag: Some("host"), apply: Apply::Bind;
        /// TCP port. 0 turns TCP off.
        "port" port: u16 = 6379, PORT, MODIFIABLE, apply: Apply::Port;
        /// Length of the queue of connections that wait to be accepted.
        "tcp-backlog" tcp_backlog: u32 = 511, int(0, INT_MAX), FIXED;
        /// Path of a unix socket to listen on as well. Empty: none.
        "unixsocket" unixsocket: String = String::new(), TEXT, FIXED;
        /// File mode of the unix socket. 0 leaves it to the umask.
        "unixsocketperm" unixsocketperm: u32 = 0, OctalMode, FIXED;
        /// Local address of outgoing connections. Empty: the system chooses.
        "bind-source-addr" bind_source_addr: String = String::new(), TEXT, MODIFIABLE,
            note: Some("AiKv opens no connections yet");
        /// Mark (SO_MARK) of listening sockets. 0: none.
        "socket-mark-id" socket_mark_id: u32 = 0, int(0, UINT_MAX), FIXED,
            note: Some("AiKv does not mark its sockets");
        /// Refuse clients from other machines while no password is set and the bind addresses are the
        /// default.
        "protected-mode" protected_mode: bool = true, YesNo, MODIFIABLE;
        /// Number of databases SELECT can choose from.
        "databases" databases: u32 = 16, int(1, INT_MAX), FIXED;
        /// Detach from the terminal and run in the background.
        "daemonize" daemonize: bool = false, YesNo, FIXED;
        /// Tell this supervisor when the server is ready.
        "supervised" supervised: Supervised = Supervised::No, OneOf, FIXED;
        /// File the process id is written to. Empty: none, unless daemonized.
        "pidfile" pidfile: String = String::new(), TEXT, FIXED;
        /// Runs of the periodic tasks per second.
        "hz" hz: u32 = 10, Int { clamp: Some((1, 500)), ..int(0, INT_MAX) }, MODIFIABLE, apply: Apply::Hz;
        /// Run the periodic tasks more often when there are many clients.
        "dynamic-hz" dynamic_hz: bool = true, YesNo, MODIFIABLE,
            note: Some("each job of AiKv has a period of its own");
        /// Seconds a shutdown waits for lagging replicas.
        "shutdown-timeout" shutdown_timeout: u32 = 10, int(0, INT_MAX), MODIFIABLE;
        /// What SIGINT does.
        "shutdown-on-sigint" shutdown_on_sigint: ShutdownFlags = ShutdownFlags::DEFAULT, OnSignal,
            MODIFIABLE | MANY;
        /// What SIGTERM does.
        "shutdown-on-sigterm" shutdown_on_sigterm: ShutdownFlags = ShutdownFlags::DEFAULT, OnSignal,
            MODIFIABLE | MANY;
        /// Number of threads.
        "io-threads" io_threads: u32 = 1, int(1, 128), FIXED, note: UNTHREADED;
        /// Read on the other threads as well.
        "io-threads-do-reads" io_threads_do_reads: bool = false, YesNo, FIXED, note: UNTHREADED;
        /// Show the process' role in `ps`.
        "set-proc-title" set_proc_title: bool = true, YesNo, FIXED;
        /// What `ps` shows. Variables: {title} {listen-addr} {server-mode} {port} {tls-port} {unixsocket}
        /// {config-file}.
        "proc-title-template" proc_title_template: String = "{title} {listen-addr} {server-mode}".to_owned(),
            checked("text with variables in braces", proc_title), MODIFIABLE, apply: Apply::ProcTitle;
        /// Collation of SORT ... ALPHA.
        "locale-collate" locale_collate: String = String::new(), TEXT, MODIFIABLE, apply: Apply::Locale;
        /// CPUs of the server.
        "server-cpulist" server_cpulist: String = String::new(), CpuList, FIXED, aliases: &["server_cpulist"];
        /// CPUs of the background threads.
        "bio-cpulist" bio_cpulist: String = String::new(), CpuList, FIXED, aliases: &["bio_cpulist"],
            note: Some("AiKv's background threads run where its main thread may");
        /// CPUs of the child that rewrites the append-only file.
        "aof-rewrite-cpulist" aof_rewrite_cpulist: String = String::new(), CpuList, FIXED,
            aliases: &["aof_rewrite_cpulist"];
        /// CPUs of the child that writes a snapshot.
        "bgsave-cpulist" bgsave_cpulist: String = String::new(), CpuList, FIXED, aliases: &["bgsave_cpulist"];
        /// Names of start-up checks that may fail without ending the process.
        "ignore-warnings" ignore_warnings: String = String::new(), TEXT, MODIFIABLE,
            note: Some("AiKv has no such checks");
    }
    Clients {
        /// Number of clients that may be connected at once.
        "maxclients" maxclients: u32 = 10000, int(1, UINT_MAX), MODIFIABLE, apply: Apply::Maxclients;
        /// Seconds after which an idle client is disconnected. 0: never.
        "timeout" timeout: u32 = 0, int(0, INT_MAX), MODIFIABLE;
        /// Seconds between TCP keepalive probes. 0: none.
        "tcp-keepalive" tcp_keepalive: u32 = 300, int(0, INT_MAX), MODIFIABLE;
        /// Disconnect a client that does not read its replies: at the hard limit at once, at the soft limit
        /// after so many seconds. 0: no limit.
        "client-output-buffer-limit" client_output_buffer_limit: BufferLimits = BufferLimits::DEFAULT,
            OutputLimits, MODIFIABLE | MANY;
        /// Bytes of a request that has not come completely.
        "client-query-buffer-limit" client_query_buffer_limit: usize = 1 << 30,
            Memory { min: 1 << 20, max: SIGNED_MAX }, MODIFIABLE;
        /// Memory all client connections may take together; beyond it the largest are disconnected. 0: no
        /// limit.
        "maxmemory-clients" maxmemory_clients: MemoryOrPercent = MemoryOrPercent::Bytes(0), Share, MODIFIABLE,
            apply: Apply::ClientMemory;
        /// Largest single argument of a command.
        "proto-max-bulk-len" proto_max_bulk_len: usize = 512 << 20, Memory { min: 1 << 20, max: SIGNED_MAX },
            MODIFIABLE;
        /// Connections accepted in one turn of the event loop.
        "max-new-connections-per-cycle" max_new_connections_per_cycle: u32 = 10, int(1, 1000), MODIFIABLE;
        /// TLS connections accepted in one turn of the event loop.
        "max-new-tls-connections-per-cycle" max_new_tls_connections_per_cycle: u32 = 1, int(1, 1000),
            MODIFIABLE;
        /// Keys remembered for client-side caching; beyond it the oldest are invalidated. 0: no limit.
        "tracking-table-max-keys" tracking_table_max_keys: usize = 1_000_000, int(0, LONG_MAX), MODIFIABLE;
        /// Protocol version of new connections.
        "client-default-resp" client_default_resp: u8 = 2, int(2, 3), FIXED | HIDDEN,
            note: Some("clients begin with RESP2");
    }
    Storage {
        /// Where data lives: `memory` keeps it in memory, and on disk what is asked for (`save`,
        /// `appendonly`); `aidb` always keeps an append-only log, and snapshots by `save`, in `data_dir`,
        /// which no other server may use at the same time.
        "storage-engine" storage_engine: Engine = Engine::Memory, OneOf, FIXED | WRITTEN_BACK,
            toml: Some("engine"), flag: Some("engine");
        /// Directory of the data files; the server changes into it.
        "dir" dir: PathBuf = PathBuf::from("."), Directory, MODIFIABLE | PROTECTED | NOT_LOADING | VOLATILE,
            toml: Some("data_dir"), flag: Some("data-dir"), apply: Apply::Dir;
    }
    Persistence {
        /// A snapshot is written after `seconds` if there were `changes`: pairs of both. Empty: never.
        "save" save: Vec<SavePoint> = default_save_points(), SavePoints, MODIFIABLE | MANY,
            apply: Apply::Save;
        /// File name of the snapshot, in the data directory.
        "dbfilename" dbfilename: String = "dump.rdb".to_owned(), checked("a file name", db_file_name),
            MODIFIABLE | PROTECTED;
        /// Compress long strings in snapshots.
        "rdbcompression" rdbcompression: bool = true, YesNo, MODIFIABLE;
        /// Write and check a checksum of the whole snapshot.
        "rdbchecksum" rdbchecksum: bool = true, YesNo, FIXED;
        /// Version of the format of snapshots. 0: the lowest that holds the data, so that older servers can
        /// load it. Else this one, at least 10: saving data that needs a later one fails.
        "rdb-version" rdb_version: u16 = 0, int(0, 12), MODIFIABLE;
        /// Refuse writes while the last snapshot could not be written.
        "stop-writes-on-bgsave-error" stop_writes_on_bgsave_error: bool = true, YesNo, MODIFIABLE,
            apply: Apply::Save;
        /// Sync a snapshot to disk while it is being written.
        "rdb-save-incremental-fsync" rdb_save_incremental_fsync: bool = true, YesNo, MODIFIABLE;
        /// Delete snapshot files that were only made for replication.
        "rdb-del-sync-files" rdb_del_sync_files: bool = false, YesNo, MODIFIABLE,
            note: Some("there is no replication yet");
        /// Count the RESTORE payloads whose structure is checked in depth: that is always done.
        "sanitize-dump-payload" sanitize_dump_payload: SanitizeDumpPayload = SanitizeDumpPayload::No, OneOf,
            MODIFIABLE;
        /// Keep an append-only log of all writes.
        "appendonly" appendonly: bool = false, YesNo, MODIFIABLE | NOT_LOADING, apply: Apply::Appendonly;
        /// First part of the names of the log's files.
        "appendfilename" appendfilename: String = "appendonly.aof".to_owned(),
            checked("a file name", aof_file_name), FIXED;
        /// Directory of the log's files, in the data directory.
        "appenddirname" appenddirname: String = "appendonlydir".to_owned(),
            checked("a directory name", aof_dir_name), FIXED;
        /// When the log is synced: `always` before a reply, `everysec` once a second, `no` as the system
        /// likes.
        "appendfsync" appendfsync: Appendfsync = Appendfsync::Everysec, OneOf, MODIFIABLE,
            apply: Apply::Appendfsync;
        /// Do not sync the log while a child writes a snapshot or rewrites the log.
        "no-appendfsync-on-rewrite" no_appendfsync_on_rewrite: bool = false, YesNo, MODIFIABLE;
        /// Rewrite the log when it grew by this percentage since the last rewrite. 0: never.
        "auto-aof-rewrite-percentage" auto_aof_rewrite_percentage: u32 = 100, int(0, INT_MAX), MODIFIABLE;
        /// Do not rewrite a log smaller than this.
        "auto-aof-rewrite-min-size" auto_aof_rewrite_min_size: u64 = 64 << 20,
            Memory { min: 0, max: SIGNED_MAX }, MODIFIABLE;
        /// Start with a log whose end is missing, losing what was not complete.
        "aof-load-truncated" aof_load_truncated: bool = true, YesNo, MODIFIABLE;
        /// Write the base of a rewritten log as a snapshot.
        "aof-use-rdb-preamble" aof_use_rdb_preamble: bool = true, YesNo, MODIFIABLE;
        /// Write time stamps into the log.
        "aof-timestamp-enabled" aof_timestamp_enabled: bool = false, YesNo, MODIFIABLE;
        /// Write checksum lines into the log (`#CRC:...`, which Redis passes over) and check them when it is
        /// loaded, so that damage in the middle of a file is found.
        "aof-checksum" aof_checksum: bool = true, YesNo, MODIFIABLE;
        /// Sync a rewritten log to disk while it is being written.
        "aof-rewrite-incremental-fsync" aof_rewrite_incremental_fsync: bool = true, YesNo, MODIFIABLE;
        /// Keep the files of earlier logs.
        "aof-disable-auto-gc" aof_disable_auto_gc: bool = false, YesNo, MODIFIABLE | HIDDEN,
            apply: Apply::AofGc;
        /// Bytes loaded between two looks at the clients.
        "loading-process-events-interval-bytes" loading_process_events_interval_bytes: u64 = 2 << 20,
            int(1024, INT_MAX), MODIFIABLE | HIDDEN;
        /// Microseconds to wait after each key of a snapshot that is written, for tests.
        "rdb-key-save-delay" rdb_key_save_delay: i32 = 0, int(i32::MIN as i128, INT_MAX), MODIFIABLE | HIDDEN;
        /// Microseconds to wait after each key that is loaded, for tests.
        "key-load-delay" key_load_delay: i32 = 0, int(i32::MIN as i128, INT_MAX), MODIFIABLE | HIDDEN;
    }
    Logging {
        /// Least severity that is logged: `error`, `warn`, `info`, `debug`, `trace`, or in Redis' names
        /// `warning`, `notice` (which is `info`), `verbose`, `debug`, `nothing`.
        "loglevel" loglevel: LogLevel = LogLevel::Notice, OneOf, MODIFIABLE, toml: Some("level"),
            apply: Apply::Log;
        /// Log file. Empty: standard output.
        "logfile" logfile: String = String::new(), TEXT, FIXED, toml: Some("file");
        /// Log to standard output as well; `auto`: if there is no log file.
        "log-console" log_console: YesNoAuto = YesNoAuto::Auto, OneOf, MODIFIABLE, toml: Some("console"),
            apply: Apply::Log;
        /// Write each message as a JSON object.
        "log-json" log_json: bool = false, YesNo, MODIFIABLE, toml: Some("json"), apply: Apply::Log;
        /// Start a new log file at this size. 0: never.
        "log-rotate-size" log_rotate_size: u64 = 0, Memory { min: 0, max: SIGNED_MAX }, MODIFIABLE,
            toml: Some("rotate_size"), apply: Apply::Log;
        /// Number of earlier log files that are kept.
        "log-rotate-count" log_rotate_count: u32 = 5, int(1, 1000), MODIFIABLE, toml: Some("rotate_count"),
            apply: Apply::Log;
        /// Log to syslog.
        "syslog-enabled" syslog_enabled: bool = false, YesNo, FIXED, note: NO_SYSLOG;
        /// Name in syslog.
        "syslog-ident" syslog_ident: String = "redis".to_owned(), TEXT, FIXED, note: NO_SYSLOG;
        /// Facility in syslog.
        "syslog-facility" syslog_facility: SyslogFacility = SyslogFacility::Local0, OneOf, FIXED,
            note: NO_SYSLOG;
        /// Log registers, stack and state when the process crashes.
        "crash-log-enabled" crash_log_enabled: bool = true, YesNo, MODIFIABLE, apply: Apply::CrashLog;
        /// Test the memory after a crash.
        "crash-memcheck-enabled" crash_memcheck_enabled: bool = true, YesNo, MODIFIABLE,
            note: Some("AiKv does not test memory");
        /// Keep keys and values out of the log.
        "hide-user-data-from-log" hide_user_data_from_log: bool = false, YesNo, MODIFIABLE;
        /// Show a logo at start even if the output is not a terminal.
        "always-show-logo" always_show_logo: bool = false, YesNo, FIXED, note: Some("AiKv has no logo");
        /// Exit instead of aborting when an invariant is broken, for tests.
        "use-exit-on-panic" use_exit_on_panic: bool = false, YesNo, MODIFIABLE | HIDDEN;
        /// Milliseconds after which a stuck event loop logs its stack. 0: never.
        "watchdog-period" watchdog_period: u32 = 0, int(0, INT_MAX), MODIFIABLE | HIDDEN,
            apply: Apply::Watchdog;
        /// File all requests and replies are written to, for tests.
        "req-res-logfile" req_res_logfile: String = String::new(), TEXT, FIXED | HIDDEN;
    }
    Slowlog {
        /// Microseconds a command may take before it is noted. 0: note all; negative: none.
        "slowlog-log-slower-than" slowlog_log_slower_than: i64 = 10000, int(-1, LONG_MAX), MODIFIABLE;
        /// Number of notes that are kept.
        "slowlog-max-len" slowlog_max_len: usize = 128, int(0, LONG_MAX), MODIFIABLE, apply: Apply::Slowlog;
    }
    Latency {
        /// Milliseconds an event may take before it is noted for LATENCY. 0: off.
        "latency-monitor-threshold" latency_monitor_threshold: u64 = 0, int(0, LONG_MAX), MODIFIABLE;
        /// Keep a latency histogram per command.
        "latency-tracking" latency_tracking: bool = true, YesNo, MODIFIABLE;
        /// Percentiles INFO latencystats shows.
        "latency-tracking-info-percentiles" latency_tracking_info_percentiles: Vec<f64> = vec![50.0, 99.0,
            99.9],
            Percentiles, MODIFIABLE | MANY;
    }
    Security {
        /// Password of the user `default`. Empty: none.
        "requirepass" requirepass: Secret = Secret::default(), TEXT, MODIFIABLE | SENSITIVE,
            apply: Apply::RequirePass;
        /// File of ACL users. Empty: none.
        "aclfile" aclfile: String = String::new(), TEXT, FIXED;
        /// Channels a new ACL user may use.
        "acl-pubsub-default" acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::Resetchannels, OneOf,
            MODIFIABLE;
        /// Number of entries ACL LOG keeps.
        "acllog-max-len" acllog_max_len: usize = 128, int(0, LONG_MAX), MODIFIABLE;
        /// Who may set options that touch files (dir, dbfilename).
        "enable-protected-configs" enable_protected_configs: YesNoLocal = YesNoLocal::No, OneOf, FIXED;
        /// Who may use DEBUG.
        "enable-debug-command" enable_debug_command: YesNoLocal = YesNoLocal::Local, OneOf, FIXED;
        /// Who may use MODULE.
        "enable-module-command" enable_module_command: YesNoLocal = YesNoLocal::No, OneOf, FIXED,
            note: NO_MODULES;
    }
    Memory {
        /// Memory limit. 0: none.
        "maxmemory" maxmemory: u64 = 0, Memory { min: 0, max: u64::MAX }, MODIFIABLE, apply: Apply::Maxmemory;
        /// What is removed when the limit is reached.
        "maxmemory-policy" maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::Noeviction, OneOf, MODIFIABLE,
            apply: Apply::Maxmemory;
        /// Keys sampled for each that is evicted: more is closer to true LRU, LFU or TTL order, and slower.
        "maxmemory-samples" maxmemory_samples: u32 = 5, int(1, 64), MODIFIABLE;
        /// How long eviction may hold up commands, from 0 (hardly) to 100 (until the limit is kept).
        "maxmemory-eviction-tenacity" maxmemory_eviction_tenacity: u32 = 10, int(0, 100), MODIFIABLE;
        /// How fast the LFU counter saturates: higher is slower.
        "lfu-log-factor" lfu_log_factor: u32 = 10, int(0, INT_MAX), MODIFIABLE;
        /// Minutes after which the LFU counter is decremented. 0: never.
        "lfu-decay-time" lfu_decay_time: u32 = 1, int(0, INT_MAX), MODIFIABLE;
        /// Effort spent on removing expired keys in the background, 1 to 10.
        "active-expire-effort" active_expire_effort: u32 = 1, int(1, 10), MODIFIABLE,
            note: Some("keys go at their time whatever it takes");
        /// Free evicted values in the background.
        "lazyfree-lazy-eviction" lazyfree_lazy_eviction: bool = false, YesNo, MODIFIABLE;
        /// Free expired values in the background.
        "lazyfree-lazy-expire" lazyfree_lazy_expire: bool = false, YesNo, MODIFIABLE;
        /// Free values that commands overwrite in the background.
        "lazyfree-lazy-server-del" lazyfree_lazy_server_del: bool = false, YesNo, MODIFIABLE;
        /// Let DEL free in the background, as UNLINK does.
        "lazyfree-lazy-user-del" lazyfree_lazy_user_del: bool = false, YesNo, MODIFIABLE;
        /// Let FLUSHALL, FLUSHDB, FUNCTION FLUSH and SCRIPT FLUSH free in the background by default.
        "lazyfree-lazy-user-flush" lazyfree_lazy_user_flush: bool = false, YesNo, MODIFIABLE;
        /// Rehash in the background.
        "activerehashing" activerehashing: bool = true, YesNo, MODIFIABLE,
            note: Some("AiKv's table never rehashes as a whole");
        /// Let jemalloc purge on a thread of its own.
        "jemalloc-bg-thread" jemalloc_bg_thread: bool = true, YesNo, MODIFIABLE, apply: Apply::JemallocThread;
        /// Switch transparent huge pages off for this process.
        "disable-thp" disable_thp: bool = true, YesNo, FIXED;
        /// Adjust the kernel's out-of-memory score of the process.
        "oom-score-adj" oom_score_adj: OomScoreAdj = OomScoreAdj::No, OneOf, MODIFIABLE,
            apply: Apply::OomScoreAdj;
        /// The scores of the primary, of a replica, and of the saving child.
        "oom-score-adj-values" oom_score_adj_values: [i32; 3] = [0, 200, 800], OomScores, MODIFIABLE | MANY,
            apply: Apply::OomScoreAdj;
        /// Move keys and values together in memory to give fragmented pages back, a little at a time.
        "activedefrag" activedefrag: bool = false, YesNo, MODIFIABLE;
        /// Fragmented bytes below which nothing is moved.
        "active-defrag-ignore-bytes" active_defrag_ignore_bytes: u64 = 100 << 20,
            Memory { min: 1, max: SIGNED_MAX }, MODIFIABLE;
        /// Percentage of fragmentation below which nothing is moved.
        "active-defrag-threshold-lower" active_defrag_threshold_lower: u32 = 10, int(0, 1000), MODIFIABLE;
        /// Percentage of fragmentation above which the effort is greatest.
        "active-defrag-threshold-upper" active_defrag_threshold_upper: u32 = 100, int(0, 1000), MODIFIABLE;
        /// Least percentage of CPU spent on moving.
        "active-defrag-cycle-min" active_defrag_cycle_min: u32 = 1, int(1, 99), MODIFIABLE;
        /// Greatest percentage of CPU spent on moving.
        "active-defrag-cycle-max" active_defrag_cycle_max: u32 = 25, int(1, 99), MODIFIABLE;
        /// Elements of one value that are moved without a pause.
        "active-defrag-max-scan-fields" active_defrag_max_scan_fields: usize = 1000, int(1, LONG_MAX),
            MODIFIABLE;
    }
    Types {
        /// Most fields of a hash in the compact encoding.
        "hash-max-listpack-entries" hash_max_listpack_entries: usize = 512, int(0, LONG_MAX), MODIFIABLE,
            aliases: &["hash-max-ziplist-entries"], apply: Apply::Encodings;
        /// Longest field or value of a hash in the compact encoding.
        "hash-max-listpack-value" hash_max_listpack_value: usize = 64, Memory { min: 0, max: SIGNED_MAX },
            MODIFIABLE, aliases: &["hash-max-ziplist-value"], apply: Apply::Encodings;
        /// Size of a node of a list: so many elements, or if negative: -1 4 kB, -2 8 kB, -3 16 kB, -4 32 kB,
        /// -5 64 kB.
        "list-max-listpack-size" list_max_listpack_size: i32 = -2, int(i32::MIN as i128, INT_MAX), MODIFIABLE,
            aliases: &["list-max-ziplist-size"], apply: Apply::Encodings;
        /// Nodes at each end of a list that are not compressed. 0: none is compressed.
        "list-compress-depth" list_compress_depth: u32 = 0, int(0, INT_MAX), MODIFIABLE,
            apply: Apply::Encodings;
        /// Most members of a set of integers in the compact encoding.
        "set-max-intset-entries" set_max_intset_entries: usize = 512, int(0, LONG_MAX), MODIFIABLE,
            apply: Apply::Encodings;
        /// Most members of a set in the compact encoding.
        "set-max-listpack-entries" set_max_listpack_entries: usize = 128, int(0, LONG_MAX), MODIFIABLE,
            apply: Apply::Encodings;
        /// Longest member of a set in the compact encoding.
        "set-max-listpack-value" set_max_listpack_value: usize = 64, int(0, LONG_MAX), MODIFIABLE,
            apply: Apply::Encodings;
        /// Most members of a sorted set in the compact encoding.
        "zset-max-listpack-entries" zset_max_listpack_entries: usize = 128, int(0, LONG_MAX), MODIFIABLE,
            aliases: &["zset-max-ziplist-entries"], apply: Apply::Encodings;
        /// Longest member of a sorted set in the compact encoding.
        "zset-max-listpack-value" zset_max_listpack_value: usize = 64, Memory { min: 0, max: SIGNED_MAX },
            MODIFIABLE, aliases: &["zset-max-ziplist-value"], apply: Apply::Encodings;
        /// Largest HyperLogLog in the sparse encoding.
        "hll-sparse-max-bytes" hll_sparse_max_bytes: usize = 3000, Memory { min: 0, max: SIGNED_MAX },
            MODIFIABLE,
            apply: Apply::Encodings;
        /// Largest node of a stream. 0: no limit.
        "stream-node-max-bytes" stream_node_max_bytes: usize = 4096, Memory { min: 0, max: SIGNED_MAX },
            MODIFIABLE, apply: Apply::Encodings;
        /// Most entries of a node of a stream. 0: no limit.
        "stream-node-max-entries" stream_node_max_entries: usize = 100, int(0, LONG_MAX), MODIFIABLE,
            apply: Apply::Encodings;
    }
    Pubsub {
        /// Keyspace events that are published: `K` on channels per key, `E` on channels per event, and the
        /// classes `g` generic, `$` string, `l` list, `s` set, `h` hash, `z` sorted set, `x` expired, `e`
        /// evicted, `t` stream, `d` module, `A` all of these; `m` missed key, `n` new key.
        "notify-keyspace-events" notify_keyspace_events: NotifyFlags = NotifyFlags::NONE, EventClasses,
            MODIFIABLE,
            apply: Apply::Notify;
    }
    Lua {
        /// Milliseconds a script may run before other clients get BUSY errors and SCRIPT KILL. 0: no limit.
        "busy-reply-threshold" busy_reply_threshold: u64 = 5000, int(0, LONG_MAX), MODIFIABLE,
            aliases: &["lua-time-limit"];
        /// Memory that scripts may hold, and functions as much again; beyond it they fail. 0: no limit.
        "lua-memory-limit" lua_memory_limit: u64 = 1 << 30, Memory { min: 0, max: SIGNED_MAX }, MODIFIABLE,
            apply: Apply::Scripts;
    }
    Replication {
        /// Host and port of the primary this server copies.
        "replicaof" replicaof: Option<Primary> = None, ReplicaOf, FIXED | MANY, aliases: &["slaveof"],
            note: NO_REPLICATION;
        /// User name for the primary.
        "masteruser" masteruser: Secret = Secret::default(), TEXT, MODIFIABLE | SENSITIVE;
        /// Password for the primary.
        "masterauth" masterauth: Secret = Secret::default(), TEXT, MODIFIABLE | SENSITIVE;
        /// Answer reads from old data while the primary is away.
        "replica-serve-stale-data" replica_serve_stale_data: bool = true, YesNo, MODIFIABLE,
            aliases: &["slave-serve-stale-data"];
        /// Refuse writes on a replica.
        "replica-read-only" replica_read_only: bool = true, YesNo, MODIFIABLE, aliases: &["slave-read-only"];
        /// Leave eviction to the primary.
        "replica-ignore-maxmemory" replica_ignore_maxmemory: bool = true, YesNo, MODIFIABLE,
            aliases: &["slave-ignore-maxmemory"];
        /// Empty the databases in the background before a full synchronization.
        "replica-lazy-flush" replica_lazy_flush: bool = false, YesNo, MODIFIABLE,
            aliases: &["slave-lazy-flush"];
        /// Let INFO and ROLE of the primary show this replica.
        "replica-announced" replica_announced: bool = true, YesNo, MODIFIABLE;
        /// Go on when a replica cannot write its log or snapshot.
        "replica-ignore-disk-write-errors" replica_ignore_disk_write_errors: bool = false, YesNo, MODIFIABLE;
        /// Address the replica says it has. Empty: that of its connection.
        "replica-announce-ip" replica_announce_ip: String = String::new(), TEXT, MODIFIABLE,
            aliases: &["slave-announce-ip"];
        /// Port the replica says it has. 0: its own.
        "replica-announce-port" replica_announce_port: u16 = 0, int(0, 65535), MODIFIABLE,
            aliases: &["slave-announce-port"];
        /// Order of promotion: the lowest first; 0 never.
        "replica-priority" replica_priority: u32 = 100, int(0, INT_MAX), MODIFIABLE,
            aliases: &["slave-priority"];
        /// Seconds without a word before the other side is given up.
        "repl-timeout" repl_timeout: u32 = 60, int(1, INT_MAX), MODIFIABLE;
        /// Seconds between the primary's pings.
        "repl-ping-replica-period" repl_ping_replica_period: u32 = 10, int(1, INT_MAX), MODIFIABLE,
            aliases: &["repl-ping-slave-period"];
        /// Bytes of recent writes kept for replicas that were away.
        "repl-backlog-size" repl_backlog_size: u64 = 1 << 20, Memory { min: 1, max: SIGNED_MAX }, MODIFIABLE,
            apply: Apply::ReplBacklog;
        /// Seconds without replicas after which the backlog is freed. 0: never.
        "repl-backlog-ttl" repl_backlog_ttl: u64 = 3600, int(0, LONG_MAX), MODIFIABLE;
        /// Let the kernel gather small packets to replicas.
        "repl-disable-tcp-nodelay" repl_disable_tcp_nodelay: bool = false, YesNo, MODIFIABLE;
        /// Send snapshots to replicas without a file.
        "repl-diskless-sync" repl_diskless_sync: bool = true, YesNo, MODIFIABLE;
        /// Seconds to wait for more replicas before such a transfer begins.
        "repl-diskless-sync-delay" repl_diskless_sync_delay: u32 = 5, int(0, INT_MAX), MODIFIABLE;
        /// Number of waiting replicas that ends the wait. 0: any number waits.
        "repl-diskless-sync-max-replicas" repl_diskless_sync_max_replicas: u32 = 0, int(0, INT_MAX),
            MODIFIABLE;
        /// Whether a replica loads the snapshot straight from the socket.
        "repl-diskless-load" repl_diskless_load: DisklessLoad = DisklessLoad::Disabled, OneOf,
            MODIFIABLE | NOT_LOADING;
        /// Refuse writes with fewer good replicas than this. 0: never.
        "min-replicas-to-write" min_replicas_to_write: u32 = 0, int(0, INT_MAX), MODIFIABLE,
            aliases: &["min-slaves-to-write"], apply: Apply::GoodReplicas;
        /// Seconds of silence that make a replica not good.
        "min-replicas-max-lag" min_replicas_max_lag: u32 = 10, int(0, INT_MAX), MODIFIABLE,
            aliases: &["min-slaves-max-lag"], apply: Apply::GoodReplicas;
        /// What happens when a replicated or logged command fails.
        "propagation-error-behavior" propagation_error_behavior: PropagationErrorBehavior =
            PropagationErrorBehavior::Ignore, OneOf, MODIFIABLE;
    }
    Cluster {
        /// Run as a node of a cluster.
        "cluster-enabled" cluster_enabled: bool = false, YesNo, FIXED, note: NO_CLUSTER;
        /// File of the node's view of the cluster, written by the server.
        "cluster-config-file" cluster_config_file: String = "nodes.conf".to_owned(), TEXT, FIXED;
        /// Milliseconds without an answer before a node counts as failing.
        "cluster-node-timeout" cluster_node_timeout: u64 = 15000, int(0, LONG_MAX), MODIFIABLE;
        /// Port for the other nodes. 0: the client port plus 10000.
        "cluster-port" cluster_port: u16 = 0, int(0, 65535), FIXED;
        /// Address the node says it has. Empty: detected.
        "cluster-announce-ip" cluster_announce_ip: String = String::new(), TEXT, MODIFIABLE,
            apply: Apply::Cluster;
        /// Client port the node says it has. 0: its own.
        "cluster-announce-port" cluster_announce_port: u16 = 0, int(0, 65535), MODIFIABLE,
            apply: Apply::Cluster;
        /// TLS port the node says it has. 0: its own.
        "cluster-announce-tls-port" cluster_announce_tls_port: u16 = 0, int(0, 65535), MODIFIABLE,
            apply: Apply::Cluster;
        /// Port for other nodes the node says it has. 0: its own.
        "cluster-announce-bus-port" cluster_announce_bus_port: u16 = 0, int(0, 65535), MODIFIABLE,
            apply: Apply::Cluster;
        /// Host name the node says it has.
        "cluster-announce-hostname" cluster_announce_hostname: String = String::new(),
            checked("a host name", host_name), MODIFIABLE, apply: Apply::Cluster;
        /// Name of the node in logs.
        "cluster-announce-human-nodename" cluster_announce_human_nodename: String = String::new(),
            checked("a name", node_name), MODIFIABLE, apply: Apply::Cluster;
        /// What a node is called in redirections.
        "cluster-preferred-endpoint-type" cluster_preferred_endpoint_type: EndpointType = EndpointType::Ip,
            OneOf,
            MODIFIABLE;
        /// Refuse all commands while some slots are not served.
        "cluster-require-full-coverage" cluster_require_full_coverage: bool = true, YesNo, MODIFIABLE;
        /// Answer reads while the cluster is down.
        "cluster-allow-reads-when-down" cluster_allow_reads_when_down: bool = false, YesNo, MODIFIABLE;
        /// Serve shard channels while the cluster is down.
        "cluster-allow-pubsubshard-when-down" cluster_allow_pubsubshard_when_down: bool = true, YesNo,
            MODIFIABLE;
        /// Let replicas move to primaries that have none.
        "cluster-allow-replica-migration" cluster_allow_replica_migration: bool = true, YesNo, MODIFIABLE;
        /// Replicas a primary keeps when others move away.
        "cluster-migration-barrier" cluster_migration_barrier: u32 = 1, int(0, INT_MAX), MODIFIABLE;
        /// Keep this replica from taking over.
        "cluster-replica-no-failover" cluster_replica_no_failover: bool = false, YesNo, MODIFIABLE,
            aliases: &["cluster-slave-no-failover"], apply: Apply::Cluster;
        /// How old a replica's data may be for taking over, in node timeouts. 0: any age.
        "cluster-replica-validity-factor" cluster_replica_validity_factor: u32 = 10, int(0, INT_MAX),
            MODIFIABLE,
            aliases: &["cluster-slave-validity-factor"];
        /// Bytes that may wait for another node. 0: no limit.
        "cluster-link-sendbuf-limit" cluster_link_sendbuf_limit: u64 = 0, Memory { min: 0, max: u64::MAX },
            MODIFIABLE;
        /// Milliseconds between pings of other nodes, for tests. 0: as usual.
        "cluster-ping-interval" cluster_ping_interval: u64 = 0, int(0, LONG_MAX), MODIFIABLE | HIDDEN;
    }
    Tls {
        /// TCP port for TLS. 0: none.
        "tls-port" tls_port: u16 = 0, Only { kind: int(0, 65535), value: 0, reason: TLS_MISSING }, MODIFIABLE,
            apply: Apply::TlsPort;
        /// PEM file of the certificate.
        "tls-cert-file" tls_cert_file: String = String::new(), TEXT, MODIFIABLE | VOLATILE, apply: Apply::Tls,
            note: NO_TLS;
        /// PEM file of the private key.
        "tls-key-file" tls_key_file: String = String::new(), TEXT, MODIFIABLE | VOLATILE, apply: Apply::Tls,
            note: NO_TLS;
        /// Password of the private key file.
        "tls-key-file-pass" tls_key_file_pass: Secret = Secret::default(), TEXT, MODIFIABLE | SENSITIVE,
            apply: Apply::Tls, note: NO_TLS;
        /// PEM file of the certificate for outgoing connections. Empty: as for incoming ones.
        "tls-client-cert-file" tls_client_cert_file: String = String::new(), TEXT, MODIFIABLE | VOLATILE,
            apply: Apply::Tls, note: NO_TLS;
        /// PEM file of the private key for outgoing connections.
        "tls-client-key-file" tls_client_key_file: String = String::new(), TEXT, MODIFIABLE | VOLATILE,
            apply: Apply::Tls, note: NO_TLS;
        /// Password of the private key file for outgoing connections.
        "tls-client-key-file-pass" tls_client_key_file_pass: Secret = Secret::default(), TEXT,
            MODIFIABLE | SENSITIVE, apply: Apply::Tls, note: NO_TLS;
        /// File of Diffie-Hellman parameters.
        "tls-dh-params-file" tls_dh_params_file: String = String::new(), TEXT, MODIFIABLE | VOLATILE,
            apply: Apply::Tls, note: NO_TLS;
        /// PEM file of trusted certificate authorities.
        "tls-ca-cert-file" tls_ca_cert_file: String = String::new(), TEXT, MODIFIABLE | VOLATILE,
            apply: Apply::Tls, note: NO_TLS;
        /// Directory of trusted certificate authorities.
        "tls-ca-cert-dir" tls_ca_cert_dir: String = String::new(), TEXT, MODIFIABLE | VOLATILE,
            apply: Apply::Tls,
            note: NO_TLS;
        /// Whether clients must show a certificate.
        "tls-auth-clients" tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, OneOf, MODIFIABLE,
            note: NO_TLS;
        /// Use TLS between replica and primary.
        "tls-replication" tls_replication: bool = false, Only { kind: YesNo, value: false,
            reason: TLS_MISSING },
            MODIFIABLE, apply: Apply::Tls;
        /// Use TLS between the nodes of a cluster.
        "tls-cluster" tls_cluster: bool = false, Only { kind: YesNo, value: false, reason: TLS_MISSING },
            MODIFIABLE, apply: Apply::Tls;
        /// Protocol versions. Empty: TLSv1.2 and TLSv1.3.
        "tls-protocols" tls_protocols: String = String::new(), TEXT, MODIFIABLE, apply: Apply::Tls,
            note: NO_TLS;
        /// Ciphers of TLSv1.2.
        "tls-ciphers" tls_ciphers: String = String::new(), TEXT, MODIFIABLE, apply: Apply::Tls, note: NO_TLS;
        /// Ciphers of TLSv1.3.
        "tls-ciphersuites" tls_ciphersuites: String = String::new(), TEXT, MODIFIABLE, apply: Apply::Tls,
            note: NO_TLS;
        /// Let the server's order of ciphers decide.
        "tls-prefer-server-ciphers" tls_prefer_server_ciphers: bool = false, YesNo, MODIFIABLE,
            apply: Apply::Tls, note: NO_TLS;
        /// Let clients resume sessions.
        "tls-session-caching" tls_session_caching: bool = true, YesNo, MODIFIABLE, apply: Apply::Tls,
            note: NO_TLS;
        /// Number of sessions that are kept.
        "tls-session-cache-size" tls_session_cache_size: u32 = 20480, int(0, INT_MAX), MODIFIABLE,
            apply: Apply::Tls, note: NO_TLS;
        /// Seconds a session is kept.
        "tls-session-cache-timeout" tls_session_cache_timeout: u32 = 300, int(0, INT_MAX), MODIFIABLE,
            apply: Apply::Tls, note: NO_TLS;
    }
}

const TLS_MISSING: &str = "TLS is not built in yet";

fn default_save_points() -> Vec<SavePoint> {
    [(3600, 1), (300, 100), (60, 10000)].map(|(seconds, changes)| SavePoint { seconds, changes }).to_vec()
}

fn db_file_name(name: &str) -> Result<(), &'static str> {
    if name.contains('/') { Err("dbfilename can't be a path, just a filename") } else { Ok(()) }
}

fn aof_file_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("appendfilename can't be empty"),
        _ if name.contains('/') => Err("appendfilename can't be a path, just a filename"),
        _ => Ok(()),
    }
}

fn aof_dir_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("appenddirname can't be empty"),
        _ if name.contains('/') => Err("appenddirname can't be a path, just a dirname"),
        _ => Ok(()),
    }
}

fn host_name(name: &str) -> Result<(), &'static str> {
    if name.len() >= 256 {
        return Err("Hostnames must be less than 256 characters");
    }
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
        true => Ok(()),
        false => Err("Hostnames may only contain alphanumeric characters, hyphens or dots"),
    }
}

/// Characters that have a meaning in the cluster's node lines cannot be part of a name.
fn node_name(name: &str) -> Result<(), &'static str> {
    match name.bytes().any(|byte| b"!#$%&()*+:;<>?@[]^{|}~".contains(&byte)) {
        true => Err("Announced human node name contained invalid character"),
        false => Ok(()),
    }
}

fn proc_title(template: &str) -> Result<(), &'static str> {
    const VARIABLES: [&str; 7] =
        ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    let invalid = Err("template format is invalid or contains unknown variables");
    let mut rest = template;
    while let Some((_, tail)) = rest.split_once('{') {
        // Two braces are one brace of the text.
        rest = match tail.strip_prefix('{') {
            Some(tail) => tail,
            None => match tail.split_once('}') {
                Some((name, tail)) if VARIABLES.contains(&name) => tail,
                _ => return invalid,
            },
        };
    }
    if template.trim_matches(' ').is_empty() { invalid } else { Ok(()) }
}
