//! Rules of the source that the compiler does not check: floors, where `unsafe`, `mio` and clocks may stand,
//! how long lines, functions and files may be, what may not be written at all. Each rule is a row of
//! [`CHECKS`]; each row has a planted fault below that it must find. Works on the text of rustfmt'ed code.

use std::fs;
use std::path::Path;

/// Folders (and single files) of src, by floor. A file names only its own and lower floors.
const FLOORS: [(u8, &[&str]); 10] = [
    (0, &["sys", "util"]),
    (1, &["collections", "resp", "config"]),
    (2, &["value"]),
    (3, &["keyspace"]),
    (4, &["rdb", "aof"]),
    (5, &["command"]),
    (6, &["stats", "acl", "pubsub", "tracking", "repl", "cluster", "script", "metrics"]),
    (7, &["server"]),
    (8, &["net"]),
    (9, &["start"]),
];

/// Faults that are known and not yet mended: (rule, file). May only become shorter.
const EXCEPTIONS: &[(&str, &str)] = &[];

const MAX_FILE_LINES: usize = 1_000;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_COLUMNS: usize = 110;

/// A rule: its name and what finds faults.
type Check = (&'static str, fn(&Source) -> Vec<Fault>);

const CHECKS: &[Check] = &[
    ("header", header),
    ("file length", file_length),
    ("function length", function_length),
    ("line length", line_length),
    ("floors", floors),
    ("unsafe", |source| words(source, &["unsafe"], &["sys", "collections"])),
    ("mio", |source| words(source, &["mio"], &["net"])),
    ("clocks", |source| words(source, &["Instant", "SystemTime", "UNIX_EPOCH"], &["sys"])),
    ("banned", banned),
];

/// One file, as text and as code without comments and literals (of the same shape).
struct Source {
    /// Path below src, with `/`.
    path: String,
    text: String,
    code: String,
    /// Number of the first line of the tests module; beyond the end when there is none.
    tests_from: usize,
}

/// A line (from 1) and what is wrong there.
type Fault = (usize, String);

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = code_of(text);
        let tests_from = match path.ends_with("tests.rs") || path.contains("/tests/") {
            true => 1,
            false => code.lines().position(|line| line == "#[cfg(test)]").map_or(usize::MAX, |at| at + 1),
        };
        Source { path: path.to_owned(), text: text.to_owned(), code, tests_from }
    }

    /// The folder below src, or the file itself where it stands directly in src.
    fn folder(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }
}

/// The code with every character of comments, strings and character literals replaced by a space.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_dead_text(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn end_of_dead_text(chars: &[char], at: usize) -> usize {
    let get = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let find = |from: usize, what: &[char]| {
        (from..chars.len())
            .find(|index| chars[*index..].starts_with(what))
            .map_or(chars.len(), |i| i + what.len())
    };
    let in_word = at > 0 && (get(at - 1).is_alphanumeric() || get(at - 1) == '_');
    match (get(at), get(at + 1)) {
        ('/', '/') => find(at, &['\n']) - usize::from(find(at, &['\n']) < chars.len()),
        ('/', '*') => find(at + 2, &['*', '/']),
        ('r', '"' | '#') if !in_word || get(at - 1) == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if get(at + 1 + hashes) != '"' {
                return at; // a raw identifier
            }
            let mut close = vec!['"'];
            close.resize(hashes + 1, '#');
            find(at + 2 + hashes, &close)
        }
        ('"', _) => end_of_quoted(chars, at + 1, '"'),
        ('\'', '\\') => end_of_quoted(chars, at + 1, '\''),
        ('\'', _) if get(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

fn end_of_quoted(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn header(source: &Source) -> Vec<Fault> {
    if source.text.starts_with("//!") {
        return vec![];
    }
    vec![(1, "a file opens with `//!`: what it holds and why a reader comes".to_owned())]
}

fn file_length(source: &Source) -> Vec<Fault> {
    let lines = source.text.lines().count();
    if lines <= MAX_FILE_LINES { vec![] } else { vec![(lines, format!("{lines} lines: divide the file"))] }
}

fn line_length(source: &Source) -> Vec<Fault> {
    let long = |line: &str| line.chars().count() > MAX_COLUMNS;
    let lines = source.text.lines().enumerate().filter(|(_, line)| long(line));
    lines.map(|(at, _)| (at + 1, format!("longer than {MAX_COLUMNS} columns"))).collect()
}

/// A function ends where the indentation of its first line comes back with a closing brace.
fn function_length(source: &Source) -> Vec<Fault> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut faults = vec![];
    for (start, line) in lines.iter().enumerate().take(source.tests_from.saturating_sub(1)) {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest.trim_end() == "}");
        let declared = |line: &&str| {
            line.strip_prefix(indent).is_some_and(|rest| !rest.starts_with(' ') && rest.ends_with(';'))
        };
        let one_line = line.trim_end().ends_with('}');
        let last = lines[start..].iter().position(|line| ends(line) || declared(line)).unwrap_or(0);
        if !one_line && last + 1 > MAX_FUNCTION_LINES {
            faults.push((start + 1, format!("{name} has {} lines", last + 1)));
        }
    }
    faults
}

/// The name when a line starts a function.
fn function_name(line: &str) -> Option<&str> {
    let qualifiers = ["pub", "const", "async", "unsafe", "extern", "pub(crate)", "pub(super)"];
    let mut rest = line.split_whitespace().skip_while(|word| qualifiers.contains(word));
    if rest.next() != Some("fn") {
        return None;
    }
    rest.next().map(|name| name.split(['(', '<']).next().unwrap_or(name))
}

fn floor_of(folder: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, folders)| folders.contains(&folder)).map(|(floor, _)| *floor)
}

fn floors(source: &Source) -> Vec<Fault> {
    if source.path == "lib.rs" || source.path == "main.rs" {
        return vec![];
    }
    let Some(own) = floor_of(source.folder()) else {
        return vec![(1, format!("{} has no floor: give it one in tests/tidy.rs", source.folder()))];
    };
    let mut faults = vec![];
    for (offset, name) in crate_names(&source.code) {
        if floor_of(name).is_none_or(|floor| floor > own) {
            faults.push((source.line_of(offset), format!("{name} is above {}", source.folder())));
        }
    }
    // `super` counts as a way inside a folder only: as many as lead to the root leave it.
    let parts = source.path.split('/').filter(|part| *part != "mod.rs").count();
    for (offset, _) in source.code.match_indices("super::") {
        let follows = source.code[..offset].ends_with("super::");
        let chain = source.code[offset..].split("super::").take_while(|part| part.is_empty()).count();
        let depth = parts + usize::from(source.line_of(offset) >= source.tests_from);
        if !follows && chain >= depth {
            faults.push((source.line_of(offset), "name another folder by `crate::`".to_owned()));
        }
    }
    faults
}

/// Each name that follows `crate::` or stands first in a path of a `crate::{...}` group, with its place.
fn crate_names(code: &str) -> Vec<(usize, &str)> {
    let mut found = vec![];
    for (offset, prefix) in code.match_indices("crate::") {
        let (mut depth, mut fresh, mut at) = (0, true, offset + prefix.len());
        loop {
            let rest = &code[at..];
            let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())];
            if fresh && !name.is_empty() {
                found.push((at, name));
                fresh = false;
            }
            at += name.len();
            match code[at..].chars().next() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                Some(',') if depth == 1 => fresh = true,
                _ => {}
            }
            at += code[at..].chars().next().map_or(0, char::len_utf8);
            if depth == 0 || at >= code.len() {
                break;
            }
        }
    }
    found
}

/// Words of the code that only the named folders may use.
fn words(source: &Source, forbidden: &[&str], allowed: &[&str]) -> Vec<Fault> {
    if allowed.contains(&source.folder()) {
        return vec![];
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut faults = vec![];
    for (at, line) in source.code.lines().enumerate() {
        for word in line.split(|c| !is_word(c)).filter(|word| forbidden.contains(word)) {
            faults.push((at + 1, format!("`{word}` belongs to {}", allowed.join(" and "))));
        }
    }
    faults
}

/// What may not be written: in the whole text, in code, in code outside of tests.
fn banned(source: &Source) -> Vec<Fault> {
    let mut faults = vec![];
    for (at, (text, code)) in source.text.lines().zip(source.code.lines()).enumerate() {
        let line = at + 1;
        let mut ban = |hit: bool, what: &str| {
            if hit {
                faults.push((line, format!("`{what}` is not allowed")));
            }
        };
        ban(text.contains("FIXME"), "FIXME");
        for what in ["todo!", "unimplemented!", "dbg!", "spec.name ==", "spec.name !=", "match spec.name"] {
            ban(code.contains(what), what);
        }
        ban(line < source.tests_from && code.contains(".unwrap()"), ".unwrap()");
    }
    faults
}

/// All faults of a file by rule.
fn check_all(source: &Source) -> Vec<(&'static str, Fault)> {
    CHECKS.iter().flat_map(|(rule, check)| check(source).into_iter().map(|fault| (*rule, fault))).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (vec![], vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("it is below src").to_string_lossy().into_owned();
                found.push(Source::new(&name, &fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    assert!(!found.is_empty(), "no source found");
    found
}

#[test]
fn source_is_tidy() {
    let (mut report, mut used) = (vec![], vec![]);
    for source in sources() {
        for (rule, (line, what)) in check_all(&source) {
            match EXCEPTIONS.iter().find(|exception| **exception == (rule, source.path.as_str())) {
                Some(exception) => used.push(exception),
                None => report.push(format!("src/{}:{line}: {rule}: {what}", source.path)),
            }
        }
    }
    report.sort();
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
    for exception in EXCEPTIONS {
        assert!(used.contains(&exception), "{exception:?} is mended: take it out of the list");
    }
}

/// A fault for every rule, and what looks like one but is none.
#[test]
fn every_rule_can_fail() {
    let long_line = format!("//! {}\n", "x".repeat(107));
    let long_file = "//! x\n".repeat(1_001);
    let long_function =
        format!("//! x\nimpl X {{\n    pub(crate) fn f<T>() {{\n{}    }}\n}}\n", "        g();\n".repeat(69));
    let fits = format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(68));
    let in_tests = format!(
        "//! x\n#[cfg(test)]\nmod tests {{\n    fn f() {{\n{}    }}\n}}\n",
        "        g();\n".repeat(90)
    );
    let planted: [(&str, &str, &str, Option<usize>); 33] = [
        ("header", "net/a.rs", "use x;\n", Some(1)),
        ("header", "net/a.rs", "//! x\n", None),
        ("file length", "net/a.rs", &long_file, Some(1_001)),
        ("line length", "net/a.rs", &long_line, Some(1)),
        ("function length", "net/a.rs", &long_function, Some(3)),
        ("function length", "net/a.rs", &fits, None),
        ("function length", "net/a.rs", &in_tests, None),
        ("floors", "value/a.rs", "//! x\nuse crate::keyspace::Db;\n", Some(2)),
        (
            "floors",
            "value/a.rs",
            "//! x\nuse crate::{\n    util::num,\n    server::{self, util},\n};\n",
            Some(4),
        ),
        ("floors", "value/a.rs", "//! x\nfn f() -> crate::net::X {}\n", Some(2)),
        ("floors", "value/a.rs", "//! x\nuse crate::value::b;\nuse crate::{sys, util::x};\n", None),
        ("floors", "value/a.rs", "//! x\nuse super::super::net;\n", Some(2)),
        ("floors", "value/mod.rs", "//! x\nuse super::net;\n", Some(2)),
        (
            "floors",
            "value/a.rs",
            "//! x\nuse super::b;\n#[cfg(test)]\nmod tests { use super::super::c; }\n",
            None,
        ),
        ("floors", "novel/a.rs", "//! x\n", Some(1)),
        ("floors", "pubsub.rs", "//! x\nuse crate::server;\n", Some(2)),
        ("unsafe", "value/a.rs", "//! x\nunsafe { f() }\n", Some(2)),
        ("unsafe", "value/a.rs", "//! unsafe\n// unsafe\n#![allow(unsafe_code)]\nf(\"unsafe\")\n", None),
        ("unsafe", "sys/a.rs", "//! x\nunsafe { f() }\n", None),
        ("mio", "server/a.rs", "//! x\nuse mio::Token;\n", Some(2)),
        ("mio", "net/a.rs", "//! x\nuse mio::Token;\n", None),
        ("clocks", "net/a.rs", "//! x\n\nlet t = Instant::now();\n", Some(3)),
        ("clocks", "sys/a.rs", "//! x\nlet t = SystemTime::now();\n", None),
        ("banned", "net/a.rs", "//! x\ntodo!()\n", Some(2)),
        ("banned", "net/a.rs", "//! x\nunimplemented!()\n", Some(2)),
        ("banned", "net/a.rs", "//! x\n// FIXME later\n", Some(2)),
        ("banned", "net/a.rs", "//! x\nif spec.name == b {}\n", Some(2)),
        ("banned", "net/a.rs", "//! x\nx.unwrap();\n", Some(2)),
        ("banned", "net/a.rs", "//! x\n#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }\n", None),
        ("banned", "net/a.rs", "//! x\nlet c = '\"'; x.unwrap(); let d = '\"';\n", Some(2)),
        ("banned", "net/a.rs", "//! x\nlet c = r#\"a\" todo!()\"#; let l: &'a str;\n", None),
        ("banned", "net/a.rs", "//! x\nlet c = \"\\\" todo!()\"; /* todo!() */\n", None),
        ("banned", "net/a.rs", "//! x\nlet c = b'\\''; todo!(); let d = '\\'';\n", Some(2)),
    ];
    for (rule, path, text, want) in planted {
        let (_, check) = CHECKS.iter().find(|(name, _)| *name == rule).expect("a known rule");
        let faults = check(&Source::new(path, text));
        assert_eq!(faults.first().map(|(line, _)| *line), want, "{rule} on {path}: {text:.300}\n{faults:?}");
    }
    for (rule, _) in CHECKS {
        assert!(planted.iter().any(|(name, .., want)| name == rule && want.is_some()), "{rule} is not tried");
    }
}
