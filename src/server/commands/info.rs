//! INFO: one function per section, each a list of fields with their values. A field that cannot be true
//! yet is absent rather than invented. Names are Redis'.

use crate::command::Outcome;
use crate::command::error::CmdResult;
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::pubsub::Kind;
use crate::server::child::Job;
use crate::server::table::Handler;
use crate::server::{AIKV_VERSION, REDIS_VERSION, Server, ServerCtx};
use crate::sys::{alloc, process};
use crate::util::memsize::human_bytes;
use std::fmt::{Display, Write};

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[(
    Spec {
        name: "info",
        arity: -1,
        flags: Flags::LOADING.with(Flags::STALE),
        acl: Acl::DANGEROUS,
        group: "server",
        summary: "Tells about the server: what it is, has and did.",
        usage: "[section [section ...]]",
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        history: &[("7.0.0", "Added support for taking multiple section arguments.")],
        ..SPEC
    },
    Handler::Server(info),
)];

/// When a section is shown without being named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// With `INFO` and `INFO default`.
    ByDefault,
    /// Only with `all` and `everything`.
    WithAll,
    /// Only by its name.
    WhenNamed,
}

type Section = (&'static str, Shown, fn(&Server, &mut Fields));

const SECTIONS: &[Section] = &[
    ("Server", Shown::ByDefault, server),
    ("Clients", Shown::ByDefault, clients),
    ("Memory", Shown::ByDefault, memory),
    ("Persistence", Shown::ByDefault, persistence),
    ("Stats", Shown::ByDefault, stats),
    ("Replication", Shown::ByDefault, replication),
    ("CPU", Shown::ByDefault, cpu),
    ("Modules", Shown::ByDefault, |_, _| {}),
    ("Commandstats", Shown::WithAll, commandstats),
    ("Errorstats", Shown::ByDefault, errorstats),
    ("Latencystats", Shown::WithAll, latencystats),
    ("Cluster", Shown::ByDefault, cluster),
    ("Debug", Shown::WhenNamed, debug),
    ("Keyspace", Shown::ByDefault, keyspace),
];

/// The text of a reply, field by field.
struct Fields(String);

impl Fields {
    fn add(&mut self, name: impl Display, value: impl Display) {
        write!(self.0, "{name}:{value}\r\n").expect("strings take all");
    }

    /// A size in bytes and again for people.
    fn size(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(format_args!("{name}_human"), human_bytes(bytes));
    }
}

fn info(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let asked: Vec<String> = ctx.args.iter().skip(1).map(crate::util::text::lowercase).collect();
    let asks = |word: &str| asked.iter().any(|a| a == word);
    let all = asks("all") || asks("everything");
    let default = asked.is_empty() || asks("default");
    ctx.server.sample_memory();
    let mut fields = Fields(String::with_capacity(8192));
    for (name, shown, write) in SECTIONS {
        if (all && *shown != Shown::WhenNamed)
            || (default && *shown == Shown::ByDefault)
            || asks(&name.to_ascii_lowercase())
        {
            if !fields.0.is_empty() {
                fields.0.push_str("\r\n");
            }
            write!(fields.0, "# {name}\r\n").expect("strings take all");
            write(ctx.server, &mut fields);
        }
    }
    ctx.client.reply.verbatim("txt", fields.0.as_bytes());
    Ok(Outcome::Done)
}

fn server(s: &Server, f: &mut Fields) {
    let up_s = (s.now.mono_ms().saturating_sub(s.process.started_mono_ms)) / 1000;
    f.add("redis_version", REDIS_VERSION);
    f.add("aikv_version", AIKV_VERSION);
    f.add("redis_git_sha1", env!("AIKV_GIT_SHA1"));
    f.add("redis_git_dirty", 0);
    f.add("redis_build_id", env!("AIKV_GIT_SHA1"));
    f.add("redis_mode", "standalone");
    f.add("os", process::uname());
    f.add("arch_bits", 64);
    f.add("monotonic_clock", s.clock.name());
    f.add("multiplexing_api", "epoll");
    f.add("process_id", process::pid());
    f.add("process_supervised", if std::env::var_os("NOTIFY_SOCKET").is_some() { "systemd" } else { "no" });
    f.add("run_id", &s.process.run_id);
    f.add("tcp_port", s.process.port);
    f.add("server_time_usec", s.clock.wall_us());
    f.add("uptime_in_seconds", up_s);
    f.add("uptime_in_days", up_s / 86_400);
    f.add("hz", s.config.hz);
    f.add("configured_hz", s.config.hz);
    f.add("lru_clock", s.keyspace.access.lru());
    f.add("executable", &s.process.executable);
    f.add("config_file", &s.process.config_file);
    f.add("io_threads_active", 0);
    for (i, listener) in s.process.listeners.iter().enumerate() {
        f.add(format_args!("listener{i}"), listener);
    }
}

fn clients(s: &Server, f: &mut Fields) {
    f.add("connected_clients", s.clients.len());
    f.add("cluster_connections", 0);
    f.add("maxclients", s.config.maxclients);
    f.add("client_recent_max_input_buffer", s.peaks.input_bytes);
    f.add("client_recent_max_output_buffer", s.peaks.output_bytes);
    f.add("blocked_clients", s.blocking.clients + s.postponed.len());
    f.add("tracking_clients", s.tracking.clients());
    f.add("pubsub_clients", s.pubsub.clients());
    f.add("watching_clients", s.watches.clients());
    f.add("clients_in_timeout_table", s.blocking.deadlines());
    f.add("total_watched_keys", s.watches.keys());
    f.add("total_blocking_keys", s.blocking.keys());
    f.add("total_blocking_keys_on_nokey", s.blocking.any_write_keys());
}

fn memory(s: &Server, f: &mut Fields) {
    // Without the text that is being written: it would count against maxmemory for whoever compares.
    let (m, used) = (&s.memory, alloc::used_memory().saturating_sub(f.0.capacity()) as u64);
    let peak = (m.peak as u64).max(used);
    let overhead = s.overhead_bytes() as u64;
    let dataset = used.saturating_sub(overhead);
    f.size("used_memory", used);
    f.size("used_memory_rss", m.rss);
    f.size("used_memory_peak", peak);
    f.add("used_memory_peak_perc", format_args!("{:.2}%", percent(used, peak)));
    f.add("used_memory_overhead", overhead);
    f.add("used_memory_startup", m.startup);
    f.add("used_memory_dataset", dataset);
    let net = used.saturating_sub(m.startup as u64);
    f.add("used_memory_dataset_perc", format_args!("{:.2}%", percent(dataset.min(net), net)));
    f.add("allocator_allocated", m.allocator.allocated);
    f.add("allocator_active", m.allocator.active);
    f.add("allocator_resident", m.allocator.resident);
    f.add("allocator_muzzy", m.allocator.muzzy);
    f.size("total_system_memory", process::total_system_memory());
    let scripts = &s.runner.scripts;
    let (eval, functions) = (scripts.cache.vm.used_bytes() as u64, scripts.functions.vm.used_bytes() as u64);
    let (scripts_bytes, functions_bytes) =
        (scripts.cache.memory_bytes() as u64, scripts.functions.memory_bytes() as u64);
    f.size("used_memory_lua", eval);
    f.add("used_memory_vm_eval", eval);
    f.add("used_memory_scripts_eval", scripts_bytes);
    f.add("number_of_cached_scripts", scripts.cache.len());
    f.add("number_of_functions", scripts.functions.function_count());
    f.add("number_of_libraries", scripts.functions.len());
    f.add("used_memory_vm_functions", functions);
    f.size("used_memory_vm_total", eval + functions);
    f.add("used_memory_functions", functions_bytes);
    f.size("used_memory_scripts", scripts_bytes + functions_bytes);
    f.size("maxmemory", s.config.maxmemory);
    f.add("maxmemory_policy", crate::config::Choice::name(s.config.maxmemory_policy));
    let (fragmented, allocated) = (m.allocator.fragmented as u64, m.allocator.allocated as u64);
    ratios(allocated + fragmented, allocated, "allocator_frag", f);
    ratios(m.allocator.resident as u64, m.allocator.active as u64, "allocator_rss", f);
    ratios(m.rss, m.allocator.resident as u64, "rss_overhead", f);
    f.add("mem_fragmentation_ratio", format_args!("{:.2}", m.rss as f64 / used.max(1) as f64));
    f.add("mem_fragmentation_bytes", m.rss as i64 - used as i64);
    f.add("mem_not_counted_for_evict", 0);
    f.add("mem_replication_backlog", 0);
    f.add("mem_total_replication_buffers", 0);
    f.add("mem_clients_slaves", 0);
    f.add("mem_clients_normal", m.clients_bytes);
    f.add("mem_cluster_links", 0);
    f.add("mem_aof_buffer", s.aof.buffered());
    f.add("mem_allocator", alloc::name());
    f.add("mem_overhead_db_hashtable_rehashing", 0);
    f.add("active_defrag_running", s.defrag.running);
    f.add("lazyfree_pending_objects", s.keyspace.background().pending_objects());
    f.add("lazyfreed_objects", s.keyspace.background().freed_objects());
}

/// A pair `..._ratio`, `..._bytes`.
fn ratios(whole: u64, part: u64, name: &str, f: &mut Fields) {
    f.add(format_args!("{name}_ratio"), format_args!("{:.2}", whole as f64 / part.max(1) as f64));
    f.add(format_args!("{name}_bytes"), whole as i64 - part as i64);
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn persistence(s: &Server, f: &mut Fields) {
    f.add("loading", u8::from(s.is_loading()));
    f.add("async_loading", 0);
    child(s, f);
    let (saved, job) = (&s.snapshots, s.child.as_ref().map(|child| child.job));
    let seconds = |seconds: Option<u64>| seconds.map_or(-1, |seconds| seconds as i64);
    let current = s.child.as_ref().filter(|child| child.job == Job::Snapshot);
    let current = current.map(|child| s.now.mono_ms().saturating_sub(child.started_ms) / 1000);
    f.add("rdb_changes_since_last_save", s.unsaved_changes());
    f.add("rdb_bgsave_in_progress", u8::from(job == Some(Job::Snapshot)));
    f.add("rdb_last_save_time", saved.last_save_s);
    f.add("rdb_last_bgsave_status", if saved.last_failed { "err" } else { "ok" });
    f.add("rdb_last_bgsave_time_sec", seconds(saved.last_duration_s));
    f.add("rdb_current_bgsave_time_sec", seconds(current));
    f.add("rdb_saves", saved.saves);
    f.add("rdb_last_cow_size", saved.last_cow);
    f.add("rdb_last_load_keys_expired", saved.loaded.expired);
    f.add("rdb_last_load_keys_loaded", saved.loaded.keys);
    aof(s, f);
    loading(s, f);
}

/// How far the child is that saves.
fn child(s: &Server, f: &mut Fields) {
    let Some(child) = &s.child else {
        for name in ["current_cow_peak", "current_cow_size", "current_cow_size_age"] {
            f.add(name, 0);
        }
        f.add("current_fork_perc", "0.00");
        f.add("current_save_keys_processed", 0);
        f.add("current_save_keys_total", 0);
        return;
    };
    let report = child.report;
    f.add("current_cow_peak", child.cow_peak);
    f.add("current_cow_size", report.cow);
    let age_s = s.now.mono_ms().saturating_sub(child.reported_ms) / 1000;
    f.add("current_cow_size_age", if report.cow == 0 { 0 } else { age_s });
    f.add("current_fork_perc", format_args!("{:.2}", percent(report.keys, child.keys_total)));
    f.add("current_save_keys_processed", report.keys);
    f.add("current_save_keys_total", child.keys_total);
}

/// How far the loading is that is under way.
fn loading(s: &Server, f: &mut Fields) {
    let (total, loaded, started_s, used_memory) = match (&s.loading, &s.replay) {
        (Some(l), _) => (l.total_bytes, l.position(), l.started_s, l.used_memory()),
        (None, Some(r)) => (r.total_bytes, r.loaded_bytes(), r.started_ms / 1000, r.used_memory()),
        (None, None) => return,
    };
    let elapsed_s = (s.now.wall_ms / 1000 - started_s).max(0) as u64;
    // Unknown as long as nothing was read.
    let eta_s = (elapsed_s * total.saturating_sub(loaded)).checked_div(loaded).unwrap_or(1);
    f.add("loading_start_time", started_s);
    f.add("loading_total_bytes", total);
    f.add("loading_rdb_used_mem", used_memory);
    f.add("loading_loaded_bytes", loaded);
    f.add("loading_loaded_perc", format_args!("{:.2}", percent(loaded, total)));
    f.add("loading_eta_seconds", eta_s);
}

/// The append-only log.
fn aof(s: &Server, f: &mut Fields) {
    let (aof, rewrite) = (&s.aof, &s.aof.rewrite);
    let on = aof.state != crate::server::aof::State::Off;
    let ok = |ok: bool| if ok { "ok" } else { "err" };
    f.add("aof_enabled", u8::from(on));
    f.add("aof_rewrite_in_progress", u8::from(rewrite.is_running()));
    f.add("aof_rewrite_scheduled", u8::from(rewrite.scheduled));
    f.add("aof_last_rewrite_time_sec", rewrite.last_seconds.unwrap_or(-1));
    f.add("aof_current_rewrite_time_sec", rewrite.seconds(s.now.wall_ms).unwrap_or(-1));
    f.add("aof_last_bgrewrite_status", ok(rewrite.last_ok));
    f.add("aof_rewrites", rewrite.count);
    f.add("aof_rewrites_consecutive_failures", rewrite.failures());
    f.add("aof_last_write_status", ok(aof.failure.is_none()));
    f.add("aof_last_cow_size", rewrite.last_cow_bytes);
    if on {
        f.add("aof_current_size", aof.current_size());
        f.add("aof_base_size", aof.rewrite_base_size);
        f.add("aof_pending_rewrite", 0);
        f.add("aof_buffer_length", aof.buffered());
        f.add("aof_pending_bio_fsync", aof.pending_syncs());
        f.add("aof_delayed_fsync", aof.delayed_syncs);
    }
}

fn stats(s: &Server, f: &mut Fields) {
    let (c, r, k) = (&s.stats.counters, &s.stats.rates, &s.keyspace.stats);
    f.add("total_connections_received", c.connections);
    f.add("total_commands_processed", c.commands + s.unit.commands);
    f.add("instantaneous_ops_per_sec", r.commands.per_second());
    f.add("total_net_input_bytes", c.net_input_bytes);
    f.add("total_net_output_bytes", c.net_output_bytes);
    f.add("total_net_repl_input_bytes", 0);
    f.add("total_net_repl_output_bytes", 0);
    f.add("instantaneous_input_kbps", kilobytes(r.input_bytes.per_second()));
    f.add("instantaneous_output_kbps", kilobytes(r.output_bytes.per_second()));
    f.add("rejected_connections", c.rejected_connections);
    f.add("sync_full", 0);
    f.add("sync_partial_ok", 0);
    f.add("sync_partial_err", 0);
    f.add("expired_keys", k.expired);
    f.add("expired_subkeys", k.expired_parts);
    f.add("expired_stale_perc", "0.00");
    f.add("expired_time_cap_reached_count", k.expire_cap_reached);
    f.add("expire_cycle_cpu_milliseconds", k.expire_us / 1000);
    f.add("evicted_keys", k.evicted);
    f.add("evicted_clients", c.evicted_clients);
    f.add("evicted_scripts", c.evicted_scripts);
    // The limit may have been passed after the command's clock was read.
    let now_ns = s.now.mono_ns;
    let exceeded_us = s.memory.exceeded_since_ns.map_or(0, |since| now_ns.saturating_sub(since) / 1000);
    f.add("total_eviction_exceeded_time", (c.eviction_exceeded_us + exceeded_us) / 1000);
    f.add("current_eviction_exceeded_time", exceeded_us / 1000);
    f.add("keyspace_hits", k.hits);
    f.add("keyspace_misses", k.misses);
    f.add("pubsub_channels", s.pubsub.len(Kind::Channel));
    f.add("pubsub_patterns", s.pubsub.len(Kind::Pattern));
    f.add("pubsubshard_channels", s.pubsub.len(Kind::Shard));
    f.add("latest_fork_usec", c.latest_fork_us);
    f.add("total_forks", c.forks);
    let (defrag, (defrag_us, current_us)) = (&s.defrag.totals, s.defrag.times_us(now_ns));
    f.add("active_defrag_hits", defrag.hits);
    f.add("active_defrag_misses", defrag.misses);
    f.add("active_defrag_key_hits", defrag.key_hits);
    f.add("active_defrag_key_misses", defrag.key_misses);
    f.add("total_active_defrag_time", defrag_us / 1000);
    f.add("current_active_defrag_time", current_us / 1000);
    f.add("migrate_cached_sockets", s.links.len());
    f.add("tracking_total_keys", s.tracking.keys());
    f.add("tracking_total_items", s.tracking.items());
    f.add("tracking_total_prefixes", s.tracking.prefixes());
    f.add("unexpected_error_replies", c.unexpected_error_replies);
    f.add("total_error_replies", c.error_replies);
    f.add("dump_payload_sanitizations", c.sanitized_payloads);
    f.add("total_reads_processed", c.reads);
    f.add("total_writes_processed", c.writes);
    f.add("io_threaded_reads_processed", 0);
    f.add("io_threaded_writes_processed", 0);
    f.add("client_query_buffer_limit_disconnections", c.query_buffer_limit_disconnections);
    f.add("client_output_buffer_limit_disconnections", c.output_buffer_limit_disconnections);
    f.add("reply_buffer_shrinks", c.reply_buffer_shrinks);
    f.add("reply_buffer_expands", c.reply_buffer_expands);
    f.add("eventloop_cycles", c.loop_turns);
    f.add("eventloop_duration_sum", c.loop_us);
    f.add("eventloop_duration_cmd_sum", c.loop_command_us);
    f.add("instantaneous_eventloop_cycles_per_sec", r.turns.per_second());
    let per_turn = r.turn_us.per_second() / r.turns.per_second().max(1);
    f.add("instantaneous_eventloop_duration_usec", per_turn);
    f.add("acl_access_denied_auth", c.denied_auth);
    f.add("acl_access_denied_cmd", c.denied_command);
    f.add("acl_access_denied_key", c.denied_key);
    f.add("acl_access_denied_channel", c.denied_channel);
}

fn kilobytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

/// What is of use to those who work on the server.
fn debug(s: &Server, f: &mut Fields) {
    let c = &s.stats.counters;
    f.add("eventloop_duration_aof_sum", s.aof.flush_us);
    f.add("eventloop_duration_cron_sum", c.cron_us);
    f.add("eventloop_duration_max", c.loop_us_max);
    f.add("eventloop_cmd_per_cycle_max", c.loop_commands_max);
}

fn replication(s: &Server, f: &mut Fields) {
    f.add("role", "master");
    f.add("connected_slaves", 0);
    f.add("master_failover_state", "no-failover");
    f.add("master_replid", &s.process.run_id);
    f.add("master_replid2", "0".repeat(40));
    f.add("master_repl_offset", 0);
    f.add("second_repl_offset", -1);
    f.add("repl_backlog_active", 0);
    f.add("repl_backlog_size", s.config.repl_backlog_size);
    f.add("repl_backlog_first_byte_offset", 0);
    f.add("repl_backlog_histlen", 0);
}

fn cpu(_: &Server, f: &mut Fields) {
    let usage = process::cpu_usage();
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    f.add("used_cpu_sys", seconds(usage.sys_us));
    f.add("used_cpu_user", seconds(usage.user_us));
    f.add("used_cpu_sys_children", seconds(usage.children_sys_us));
    f.add("used_cpu_user_children", seconds(usage.children_user_us));
    f.add("used_cpu_sys_main_thread", seconds(usage.thread_sys_us));
    f.add("used_cpu_user_main_thread", seconds(usage.thread_user_us));
}

fn commandstats(s: &Server, f: &mut Fields) {
    for command in s.table.rows() {
        let c = s.stats.commands.get(command.id);
        if c.calls == 0 && c.rejected == 0 && c.failed == 0 {
            continue;
        }
        let us = c.ns / 1000;
        let per_call = if c.calls == 0 { 0.0 } else { c.ns as f64 / 1000.0 / c.calls as f64 };
        f.add(
            format_args!("cmdstat_{}", command.spec.name),
            format_args!(
                "calls={},usec={us},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                c.calls, c.rejected, c.failed
            ),
        );
    }
}

fn errorstats(s: &Server, f: &mut Fields) {
    for (code, count) in s.stats.errors.iter() {
        // Codes may hold any byte of a client's: what would break the lines is replaced.
        let code: String = String::from_utf8_lossy(code)
            .chars()
            .map(|c| if c == ':' || c.is_control() { '_' } else { c })
            .collect();
        f.add(format_args!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latencystats(s: &Server, f: &mut Fields) {
    if !s.config.latency_tracking {
        return;
    }
    let percentiles: Vec<f64> = s.config.latency_tracking_info_percentiles.clone();
    for command in s.table.rows() {
        let Some(durations) = &s.stats.commands.get(command.id).durations else { continue };
        let show = |p: &f64| format!("p{p}={:.3}", durations.percentile(*p) as f64 / 1000.0);
        let line: Vec<String> = percentiles.iter().map(show).collect();
        f.add(format_args!("latency_percentiles_usec_{}", command.spec.name), line.join(","));
    }
}

fn cluster(_: &Server, f: &mut Fields) {
    f.add("cluster_enabled", 0);
}

fn keyspace(s: &Server, f: &mut Fields) {
    for db in 0..s.keyspace.databases() {
        let d = s.keyspace.db(db);
        if d.is_empty() {
            continue;
        }
        let ttl = s.keyspace.average_ttl_ms(db);
        f.add(
            format_args!("db{db}"),
            format_args!(
                "keys={},expires={},avg_ttl={ttl},subexpiry={}",
                d.len(),
                d.volatile(),
                d.with_volatile_parts()
            ),
        );
    }
}
