//! `make bench`: AiKv beside redis-server (and valkey-server when it is installed) in one run. The server
//! is pinned to one core and the client to another; what counts is the ratio of server CPU per request, as
//! the kernel accounts it, because absolute times mean nothing on a shared machine. Every figure is the
//! median of several rounds in which the servers take turns. Prints a table; `--write FILE` also writes it
//! as Markdown. `--only WORD` runs the rows whose name holds the word, `--rounds N` sets the rounds.

mod client;
mod freeing;
mod load;
mod log;
mod peer;
#[path = "../support/port.rs"]
mod port;
mod probes;
mod publish;
mod snapshots;

use peer::{Kind, Peer};
use std::fmt::Write;

/// What the command line asks for.
struct Options {
    only: Option<String>,
    rounds: usize,
    write: Option<String>,
}

/// A finished line of the table.
pub struct Line {
    /// What was measured.
    pub name: String,
    /// AiKv's figure.
    pub ours: f64,
    /// The rivals' figures, in the order of the table's columns.
    pub theirs: Vec<f64>,
    /// Unit of the figures.
    pub unit: &'static str,
    /// What the line has to stay below: a ratio to the first rival, or a figure of our own.
    pub limit: Limit,
}

/// A limit.
#[derive(Clone, Copy)]
pub enum Limit {
    /// At most this share of the first rival's figure.
    Ratio(f64),
    /// At most this figure.
    AtMost(f64),
    /// At least this share of the first rival's figure.
    RatioAtLeast(f64),
    /// Shown only.
    None,
}

impl Line {
    fn ratio(&self) -> Option<f64> {
        self.theirs.first().filter(|t| **t > 0.0).map(|t| self.ours / t)
    }

    fn holds(&self) -> Option<bool> {
        match self.limit {
            Limit::Ratio(max) => self.ratio().map(|r| r <= max),
            Limit::RatioAtLeast(min) => self.ratio().map(|r| r >= min),
            Limit::AtMost(max) => Some(self.ours <= max),
            Limit::None => None,
        }
    }
}

fn main() {
    let options = parse_options();
    let rivals: Vec<Kind> = [Kind::Redis, Kind::Valkey].into_iter().filter(Kind::is_installed).collect();
    peer::pin_client();
    let mut lines = Vec::new();
    for row in load::ROWS.iter().filter(|row| wanted(&options, row.name)) {
        lines.push(load::run(row, &rivals, options.rounds));
        print_line(lines.last().expect("just pushed"));
    }
    for probe in probes::PROBES.iter().filter(|probe| wanted(&options, probe.0)) {
        for line in (probe.1)(&rivals) {
            print_line(&line);
            lines.push(line);
        }
    }
    let table = table(&lines, &rivals);
    println!("\n{table}");
    if let Some(path) = options.write {
        let text = format!("{HEAD}\n{table}");
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{path}: {error}");
            std::process::exit(1);
        }
    }
}

fn parse_options() -> Options {
    let mut options = Options { only: None, rounds: 5, write: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--only" => options.only = args.next(),
            "--rounds" => options.rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(5),
            "--write" => options.write = args.next(),
            // Given by `cargo bench`.
            "--bench" => {}
            other => {
                eprintln!("unknown option {other}");
                std::process::exit(2);
            }
        }
    }
    options
}

fn wanted(options: &Options, name: &str) -> bool {
    options.only.as_ref().is_none_or(|word| name.contains(word.as_str()))
}

fn print_line(line: &Line) {
    let theirs: Vec<String> = line.theirs.iter().map(|t| format!("{t:.3}")).collect();
    let ratio = line.ratio().map_or(String::new(), |r| format!(" ratio {r:.2}"));
    println!("{:<44} {:>10.3} against {} {}{ratio}", line.name, line.ours, theirs.join(" "), line.unit);
}

const HEAD: &str = "# Performance\n\nWritten by `make bench`: AiKv beside its peers in one run on one machine, \
the server pinned to one core, the client to another. CPU figures are microseconds of server CPU per request \
as the kernel accounts them; only ratios mean something on a shared machine.\n";

fn table(lines: &[Line], rivals: &[Kind]) -> String {
    let mut out = String::from("| measure | unit | AiKv |");
    rivals.iter().for_each(|r| write!(out, " {} |", r.name()).expect("strings take all"));
    out.push_str(" ratio | goal | |\n|---|---|---|");
    rivals.iter().for_each(|_| out.push_str("---|"));
    out.push_str("---|---|---|\n");
    for line in lines {
        write!(out, "| {} | {} | {:.3} |", line.name, line.unit, line.ours).expect("strings take all");
        for i in 0..rivals.len() {
            match line.theirs.get(i) {
                Some(t) => write!(out, " {t:.3} |").expect("strings take all"),
                None => out.push_str(" |"),
            }
        }
        let ratio = line.ratio().map_or(String::new(), |r| format!("{r:.2}"));
        let goal = match line.limit {
            Limit::Ratio(max) => format!("ratio ≤ {max}"),
            Limit::RatioAtLeast(min) => format!("ratio ≥ {min}"),
            Limit::AtMost(max) => format!("≤ {max}"),
            Limit::None => String::new(),
        };
        let verdict = match line.holds() {
            Some(true) => "holds",
            Some(false) => "MISSED",
            None => "",
        };
        writeln!(out, " {ratio} | {goal} | {verdict} |").expect("strings take all");
    }
    out
}

/// The middle one of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Starts a server for a probe.
pub fn start(kind: Kind, extra: &[&str]) -> Peer {
    Peer::start(kind, extra)
}
