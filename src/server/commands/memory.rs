//! MEMORY: USAGE, STATS, DOCTOR, PURGE, MALLOC-STATS.

use crate::command::Outcome;
use crate::command::args::Cursor;
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec, access, key};
use crate::keyspace::Key;
use crate::server::table::Handler;
use crate::server::{Server, ServerCtx};
use crate::sys::alloc;

/// A row of this family.
const fn row(name: &'static str, arity: i32, summary: &'static str) -> Spec {
    Spec { name, arity, group: "server", since: "4.0.0", summary, ..SPEC }
}

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            flags: Flags::CONTAINER,
            complexity: "Depends on subcommand.",
            ..row("memory", -2, "A container for memory diagnostics commands.")
        },
        Handler::Container,
    ),
    (
        Spec {
            flags: Flags::READONLY,
            keys: &[key(2, access::RO)],
            usage: "key [SAMPLES count]",
            complexity: "O(N) where N is the number of samples.",
            ..row("memory|usage", -3, "Estimates the memory usage of a key.")
        },
        Handler::Server(usage),
    ),
    (
        Spec {
            tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
            ..row("memory|stats", 2, "Returns details about memory usage.")
        },
        Handler::Server(stats),
    ),
    (
        Spec {
            tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
            ..row("memory|doctor", 2, "Outputs a memory problems report.")
        },
        Handler::Server(doctor),
    ),
    (
        Spec {
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            complexity: "Depends on how much memory is allocated, could be slow",
            ..row("memory|purge", 2, "Asks the allocator to release memory.")
        },
        Handler::Server(purge),
    ),
    (
        Spec {
            tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
            complexity: "Depends on how much memory is allocated, could be slow",
            ..row("memory|malloc-stats", 2, "Returns the allocator statistics.")
        },
        Handler::Server(malloc_stats),
    ),
    (
        Spec {
            flags: Flags::LOADING.with(Flags::STALE),
            ..row("memory|help", 2, "Returns helpful text about the different subcommands.")
        },
        Handler::Server(help),
    ),
];

/// Bytes of the table that one key takes, on average: a slot at the usual fill.
const TABLE_BYTES_PER_KEY: usize = 11;

fn usage(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut cursor = Cursor::new(ctx.args, 3);
    while !cursor.is_done() {
        if !cursor.word("samples") {
            return Err(error::SYNTAX);
        }
        if cursor.int()? < 0 {
            return Err(error::SYNTAX);
        }
    }
    let found = ctx.server.keyspace.peek(ctx.client.db, Key::new(ctx.args.get(2)));
    match found.map(|entry| crate::value::memory_bytes(&entry) + TABLE_BYTES_PER_KEY) {
        Some(bytes) => ctx.client.reply.len_int(bytes),
        None => ctx.client.reply.null(),
    }
    Ok(Outcome::Done)
}

/// A figure of MEMORY STATS.
enum Figure {
    Int(u64),
    Ratio(f64),
}

fn figures(server: &Server) -> Vec<(String, Figure)> {
    let m = &server.memory;
    let used = alloc::used_memory() as u64;
    let keys: usize = (0..server.keyspace.databases()).map(|db| server.keyspace.db(db).len()).sum();
    let overhead = server.overhead_bytes() as u64;
    let net = used.saturating_sub(m.startup as u64);
    let ratio = |a: u64, b: u64| Figure::Ratio(a as f64 / b.max(1) as f64);
    let mut out = vec![
        ("peak.allocated".to_string(), Figure::Int((m.peak as u64).max(used))),
        ("total.allocated".to_string(), Figure::Int(used)),
        ("startup.allocated".to_string(), Figure::Int(m.startup as u64)),
        ("replication.backlog".to_string(), Figure::Int(0)),
        ("clients.slaves".to_string(), Figure::Int(0)),
        ("clients.normal".to_string(), Figure::Int(m.clients_bytes as u64)),
        ("cluster.links".to_string(), Figure::Int(0)),
        ("aof.buffer".to_string(), Figure::Int(0)),
        ("lua.caches".to_string(), Figure::Int(server.runner.scripts.cache.memory_bytes() as u64)),
        ("functions.caches".to_string(), Figure::Int(server.runner.scripts.functions.memory_bytes() as u64)),
    ];
    for db in (0..server.keyspace.databases()).filter(|db| !server.keyspace.db(*db).is_empty()) {
        let bytes = server.keyspace.db(db).overhead_bytes() as u64;
        out.push((format!("db.{db}.overhead.hashtable.main"), Figure::Int(bytes)));
    }
    let (active, allocated) = (m.allocator.active as u64, m.allocator.allocated as u64);
    let fragmented = m.allocator.fragmented as u64;
    let resident = m.allocator.resident as u64;
    let tables: usize =
        (0..server.keyspace.databases()).map(|db| server.keyspace.db(db).overhead_bytes()).sum();
    out.extend([
        ("overhead.db.hashtable.lut".to_string(), Figure::Int(tables as u64)),
        // The table splits segment by segment: there is no second table to hold meanwhile.
        ("overhead.db.hashtable.rehashing".to_string(), Figure::Int(0)),
        ("db.dict.rehashing.count".to_string(), Figure::Int(0)),
        ("overhead.total".to_string(), Figure::Int(overhead)),
        ("keys.count".to_string(), Figure::Int(keys as u64)),
        ("keys.bytes-per-key".to_string(), Figure::Int(net / keys.max(1) as u64)),
        ("dataset.bytes".to_string(), Figure::Int(used.saturating_sub(overhead))),
        (
            "dataset.percentage".to_string(),
            Figure::Ratio(used.saturating_sub(overhead).min(net) as f64 * 100.0 / net.max(1) as f64),
        ),
        ("peak.percentage".to_string(), Figure::Ratio(used as f64 * 100.0 / m.peak.max(1) as f64)),
        ("allocator.allocated".to_string(), Figure::Int(allocated)),
        ("allocator.active".to_string(), Figure::Int(active)),
        ("allocator.resident".to_string(), Figure::Int(resident)),
        ("allocator.muzzy".to_string(), Figure::Int(m.allocator.muzzy as u64)),
        ("allocator-fragmentation.ratio".to_string(), ratio(allocated + fragmented, allocated)),
        ("allocator-fragmentation.bytes".to_string(), Figure::Int(fragmented)),
        ("allocator-rss.ratio".to_string(), ratio(resident, active)),
        ("allocator-rss.bytes".to_string(), Figure::Int(resident.saturating_sub(active))),
        ("rss-overhead.ratio".to_string(), ratio(m.rss, resident)),
        ("rss-overhead.bytes".to_string(), Figure::Int(m.rss.saturating_sub(resident))),
        ("fragmentation".to_string(), ratio(m.rss, used)),
        ("fragmentation.bytes".to_string(), Figure::Int(m.rss.saturating_sub(used))),
    ]);
    out
}

fn stats(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.sample_memory();
    let figures = figures(ctx.server);
    let reply = &mut ctx.client.reply;
    reply.map(figures.len());
    for (name, figure) in figures {
        reply.bulk_str(&name);
        match figure {
            Figure::Int(n) => reply.int(n as i64),
            Figure::Ratio(r) => reply.double(r),
        }
    }
    Ok(Outcome::Done)
}

fn doctor(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.sample_memory();
    let text = diagnose(ctx.server);
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// Below this much data ratios say nothing.
const SMALL_BYTES: usize = 5 << 20;

fn diagnose(server: &Server) -> String {
    let (m, used) = (&server.memory, alloc::used_memory());
    if used < SMALL_BYTES {
        return "This instance holds next to nothing: there is nothing to diagnose. Fill it and ask \
                again.\n"
            .to_string();
    }
    let clients = server.clients.len().max(1);
    let checks = [
        (
            m.peak > used * 3 / 2,
            "Peak: much more memory was used at some time than now. The allocator may keep \
                                 the difference for later; MEMORY PURGE gives it back.",
        ),
        (
            m.allocator.fragmented > m.allocator.allocated * 2 / 5,
            "Fragmentation: the allocator holds many pages that are only partly used. activedefrag moves \
             what is in them together.",
        ),
        (
            m.rss > used as u64 * 7 / 5,
            "Resident set: the process occupies much more memory than it uses. \
                                       MEMORY PURGE may help.",
        ),
        (
            m.clients_bytes / clients > 200 << 10,
            "Clients: their buffers are large on average. Look at CLIENT LIST \
                                                 for omem and qbuf.",
        ),
    ];
    let found: Vec<String> =
        checks.into_iter().filter(|(hit, _)| *hit).map(|(_, text)| format!("* {text}\n")).collect();
    if found.is_empty() {
        return "No memory problem was found in this instance.\n".to_string();
    }
    found.concat()
}

fn purge(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if !alloc::purge() {
        return Err(CmdError::new("ERR Error purging dirty pages"));
    }
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn malloc_stats(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let s = alloc::stats();
    let mut text = format!(
        "{}\nallocated: {}\nactive: {}\nresident: {}\nmuzzy: {}\nretained: {}\nfragmented: {}\n",
        alloc::name(),
        s.allocated,
        s.active,
        s.resident,
        s.muzzy,
        s.retained,
        s.fragmented
    );
    text.push_str("blocks of    slabs       used       free  free bytes\n");
    for bin in alloc::bin_fills() {
        let (free, bytes) = (bin.free(), bin.free() * bin.size);
        let line = format!("{:9} {:8} {:10} {:10} {:11}\n", bin.size, bin.slabs, bin.used, free, bytes);
        text.push_str(&line);
    }
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "MEMORY",
        &[
            "DOCTOR",
            "    Return a report for people on memory problems.",
            "MALLOC-STATS",
            "    Return the allocator's figures.",
            "PURGE",
            "    Make the allocator give free memory back.",
            "STATS",
            "    Return what memory is used for.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return the bytes that a key and its value take.",
        ],
    );
    Ok(Outcome::Done)
}
