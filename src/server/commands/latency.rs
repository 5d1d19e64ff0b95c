//! LATENCY: the spikes that the latency monitor recorded, and the histograms of commands.

use crate::command::Outcome;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Flags, SPEC, Spec};
use crate::server::table::{Command, Handler};
use crate::server::{Server, ServerCtx};
use crate::stats::latency::Series;
use crate::util::text::lowercase;
use std::fmt::Write;

const ADMIN: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE);
const TIPS: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

/// A row of this family.
const fn row(name: &'static str, arity: i32, usage: &'static str, summary: &'static str) -> Spec {
    Spec { name, arity, flags: ADMIN, group: "server", since: "2.8.13", summary, usage, tips: TIPS, ..SPEC }
}

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            flags: Flags::CONTAINER,
            tips: &[],
            complexity: "Depends on subcommand.",
            ..row("latency", -2, "", "A container for latency diagnostics commands.")
        },
        Handler::Container,
    ),
    (
        row("latency|latest", 2, "", "Returns the latest latency samples for all events."),
        Handler::Server(latest),
    ),
    (
        row("latency|history", 3, "event", "Returns timestamp-latency samples for an event."),
        Handler::Server(history),
    ),
    (
        Spec {
            tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
            ..row(
                "latency|reset",
                -2,
                "[event [event ...]]",
                "Resets the latency data for one or more events.",
            )
        },
        Handler::Server(reset),
    ),
    (row("latency|graph", 3, "event", "Returns a latency graph for an event."), Handler::Server(graph)),
    (
        row("latency|doctor", 2, "", "Returns a human-readable latency analysis report."),
        Handler::Server(doctor),
    ),
    (
        Spec {
            since: "7.0.0",
            complexity: "O(N) where N is the number of commands with latency information being retrieved.",
            ..row(
                "latency|histogram",
                -2,
                "[command [command ...]]",
                "Returns the cumulative distribution of latencies of a subset or all commands.",
            )
        },
        Handler::Server(histogram),
    ),
    (
        Spec {
            flags: Flags::LOADING.with(Flags::STALE),
            tips: &[],
            ..row("latency|help", 2, "", "Returns helpful text about the different subcommands.")
        },
        Handler::Server(help),
    ),
];

fn latest(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let latency = &ctx.server.stats.latency;
    let reply = &mut ctx.client.reply;
    reply.array(latency.iter().count());
    for (event, series) in latency.iter() {
        let last = series.samples.back().expect("a series has samples");
        reply.array(4);
        reply.bulk_str(event);
        reply.int(last.unix_seconds);
        reply.int(last.ms as i64);
        reply.int(series.max_ms as i64);
    }
    Ok(Outcome::Done)
}

fn history(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let series = ctx.server.stats.latency.get(&lowercase(ctx.args.get(2)));
    let reply = &mut ctx.client.reply;
    reply.array(series.map_or(0, |s| s.samples.len()));
    for sample in series.iter().flat_map(|s| &s.samples) {
        reply.array(2);
        reply.int(sample.unix_seconds);
        reply.int(sample.ms as i64);
    }
    Ok(Outcome::Done)
}

fn reset(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let latency = &mut ctx.server.stats.latency;
    let count = match ctx.args.len() {
        2 => latency.reset(None),
        _ => ctx.args.iter().skip(2).map(|event| latency.reset(Some(&lowercase(event)))).sum(),
    };
    ctx.client.reply.len_int(count);
    Ok(Outcome::Done)
}

/// Columns of the graph: one per sample, the newest at the right.
const GRAPH_COLUMNS: usize = 80;
/// Lines of the graph.
const GRAPH_LINES: usize = 4;

fn graph(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let event = lowercase(ctx.args.get(2));
    let Some(series) = ctx.server.stats.latency.get(&event) else {
        let text = format!("ERR No samples available for event '{event}'");
        return Err(CmdError::text(text));
    };
    let now_s = ctx.server.now.wall_ms / 1000;
    let text = draw(&event, series, now_s);
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// A bar for each sample, and below it, read downwards, how long ago it was.
fn draw(event: &str, series: &Series, now_s: i64) -> String {
    let skip = series.samples.len().saturating_sub(GRAPH_COLUMNS);
    let samples: Vec<_> = series.samples.iter().skip(skip).collect();
    let high = samples.iter().map(|s| s.ms).max().unwrap_or(0);
    let low = samples.iter().map(|s| s.ms).min().unwrap_or(0);
    let mut out = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    out.push_str(&"-".repeat(GRAPH_COLUMNS));
    out.push('\n');
    let height = |ms: u64| match high - low {
        0 => GRAPH_LINES,
        range => 1 + ((ms - low) as usize * (GRAPH_LINES - 1)) / range as usize,
    };
    for line in (1..=GRAPH_LINES).rev() {
        let mark = |ms: u64| match height(ms) {
            h if h == line => '#',
            h if h > line => '|',
            _ => ' ',
        };
        let bars: String = samples.iter().map(|s| mark(s.ms)).collect();
        writeln!(out, "{}", bars.trim_end()).expect("strings take all");
    }
    let ages: Vec<String> = samples.iter().map(|s| age(now_s - s.unix_seconds)).collect();
    let rows = ages.iter().map(String::len).max().unwrap_or(0);
    out.push('\n');
    for row in 0..rows {
        let line: String = ages.iter().map(|a| a.as_bytes().get(row).map_or(' ', |b| *b as char)).collect();
        writeln!(out, "{}", line.trim_end()).expect("strings take all");
    }
    out
}

/// How long ago, in the largest fitting unit.
fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn doctor(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let text = diagnose(ctx.server);
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// What an event means and what helps.
const ADVICE: &[(&str, &str)] = &[
    ("command", "A command took long. Look at SLOWLOG GET; use SCAN for KEYS, HSCAN for big hashes."),
    ("fast-command", "Commands that should be fast were slow: the machine was busy, or swapped."),
    ("eviction-cycle", "Keys had to be evicted to stay within maxmemory. Raise it, or store less."),
    ("expire-cycle", "Many keys expired at once. Spread their deadlines."),
    ("fork", "Forking took long. Give the machine more free memory and disable transparent huge pages."),
];

fn diagnose(server: &Server) -> String {
    let threshold_ms = server.config.latency_monitor_threshold;
    if threshold_ms == 0 {
        return "The latency monitor is off in this AiKv instance. Turn it on with \
                'CONFIG SET latency-monitor-threshold <milliseconds>' and look again after a while.\n"
            .to_string();
    }
    let mut out = String::new();
    for (event, series) in server.stats.latency.iter() {
        let n = series.samples.len() as u64;
        let mean = series.samples.iter().map(|s| s.ms).sum::<u64>() / n.max(1);
        writeln!(out, "{event}: {n} latency spikes (mean {mean} ms, worst {} ms).", series.max_ms)
            .expect("strings take all");
        if let Some((_, advice)) = ADVICE.iter().find(|(name, _)| *name == event) {
            writeln!(out, "  {advice}").expect("strings take all");
        }
    }
    if out.is_empty() {
        return format!("No latency spike above {threshold_ms} ms was observed so far. All is well.\n");
    }
    out
}

fn histogram(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let commands: Vec<&'static Command> = match ctx.args.len() {
        2 => ctx.server.table.rows().to_vec(),
        _ => ctx.args.iter().skip(2).flat_map(|name| named(ctx.server, name)).collect(),
    };
    let shown: Vec<_> = commands
        .into_iter()
        .filter_map(|c| Some((c.spec.name, ctx.server.stats.commands.get(c.id).durations.as_ref()?)))
        .collect();
    let reply = &mut ctx.client.reply;
    reply.map(shown.len());
    for (name, durations) in shown {
        reply.bulk_str(name);
        reply.map(2);
        reply.bulk_str("calls");
        reply.int(durations.count() as i64);
        reply.bulk_str("histogram_usec");
        let powers = durations.powers_of_two_us();
        reply.map(powers.len());
        for (us, count) in powers {
            reply.int(us as i64);
            reply.int(count as i64);
        }
    }
    Ok(Outcome::Done)
}

/// The command of this name with its subcommands.
fn named(server: &Server, name: &[u8]) -> Vec<&'static Command> {
    let Some((container, sub)) =
        name.iter().position(|b| *b == b'|').map(|at| (&name[..at], &name[at + 1..]))
    else {
        let Some(command) = server.table.get(name) else { return Vec::new() };
        return std::iter::once(command).chain(command.subcommands.iter().map(|(_, c)| *c)).collect();
    };
    let found = server.table.get(container).and_then(|c| crate::server::table::subcommand(c, sub));
    found.into_iter().collect()
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "LATENCY",
        &[
            "DOCTOR",
            "    Return a report for people on the spikes seen.",
            "GRAPH <event>",
            "    Return a drawing of an event's spikes.",
            "HISTORY <event>",
            "    Return time and milliseconds of an event's spikes.",
            "LATEST",
            "    Return the last spike of each event.",
            "RESET [<event> ...]",
            "    Forget the spikes of some events, or all.",
            "HISTOGRAM [<command> ...]",
            "    Return the cumulative distribution of latencies of commands.",
        ],
    );
    Ok(Outcome::Done)
}
