//! The command rows against facts. `facts/commands.tsv` holds name, version, group, arity, flags, ACL
//! categories and key specs of the core commands of Redis 8.10; where 7.4, the level that AiKv answers,
//! differs, the fact of 7.4 is a row of [`LEVEL_7_4`]. `facts/not-yet.txt` names the commands of 7.4 that
//! AiKv does not have; it may only become shorter (AIKV_UPDATE_DOCS=1 takes out what has come). Besides:
//! rules that every row must keep.

use aikv::command::keys::legacy_range;
use aikv::command::spec::{ACL_NAMES, Begin, FLAG_NAMES, Find, Flags, KeySpec, Spec, access};
use aikv::command::usage::{self, Arg, Kind};
use aikv::server::table::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Facts of 7.4 that are others in 8.10: (command, column, value in 7.4).
const LEVEL_7_4: &[(&str, &str, &str)] = &[
    // 8.0 lets these run while data is loaded.
    ("CLUSTER COUNT-FAILURE-REPORTS", "flags", "admin,stale"),
    ("CLUSTER INFO", "flags", "stale"),
    ("CLUSTER KEYSLOT", "flags", "stale"),
    ("CLUSTER LINKS", "flags", "stale"),
    ("CLUSTER MYID", "flags", "stale"),
    ("CLUSTER MYSHARDID", "flags", "stale"),
    ("CLUSTER NODES", "flags", "stale"),
    ("CLUSTER REPLICAS", "flags", "admin,stale"),
    ("CLUSTER SLAVES", "flags", "admin,stale"),
    // Later these no longer count as commands that may take memory.
    ("HEXPIRE", "flags", "write,denyoom,fast"),
    ("HEXPIREAT", "flags", "write,denyoom,fast"),
    ("HPEXPIRE", "flags", "write,denyoom,fast"),
    ("HPEXPIREAT", "flags", "write,denyoom,fast"),
    // And later these do.
    ("PSUBSCRIBE", "flags", "pubsub,noscript,loading,stale"),
    ("SSUBSCRIBE", "flags", "pubsub,noscript,loading,stale"),
    ("SUBSCRIBE", "flags", "pubsub,noscript,loading,stale"),
    // 8.x marks the specs of these as not finding all keys.
    (
        "GEORADIUS",
        "key_specs",
        "index(index=1)>range(lastkey=0,keystep=1,limit=0):RO+access ; \
         keyword(keyword=STORE,startfrom=6)>range(lastkey=0,keystep=1,limit=0):OW+update ; \
         keyword(keyword=STOREDIST,startfrom=6)>range(lastkey=0,keystep=1,limit=0):OW+update",
    ),
    (
        "GEORADIUSBYMEMBER",
        "key_specs",
        "index(index=1)>range(lastkey=0,keystep=1,limit=0):RO+access ; \
         keyword(keyword=STORE,startfrom=5)>range(lastkey=0,keystep=1,limit=0):OW+update ; \
         keyword(keyword=STOREDIST,startfrom=5)>range(lastkey=0,keystep=1,limit=0):OW+update",
    ),
    (
        "XREAD",
        "key_specs",
        "keyword(keyword=STREAMS,startfrom=1)>range(lastkey=-1,keystep=1,limit=2):RO+access",
    ),
    (
        "XREADGROUP",
        "key_specs",
        "keyword(keyword=STREAMS,startfrom=4)>range(lastkey=-1,keystep=1,limit=2):RO+access",
    ),
];

/// Rows whose arity does not follow from the usage line, and why.
const OTHER_ARITY: &[(&str, &str)] = &[
    ("quit", "takes arguments and ignores them"),
    ("client|kill", "the filters of the new form are optional one by one, but there must be one"),
];

/// Groups of commands, as COMMAND DOCS names them.
const GROUPS: &[&str] = &[
    "bitmap",
    "cluster",
    "connection",
    "generic",
    "geo",
    "hash",
    "hyperloglog",
    "list",
    "pubsub",
    "scripting",
    "server",
    "set",
    "sorted-set",
    "stream",
    "string",
    "transactions",
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/facts").join(name)
}

fn table() -> Table {
    Table::new(&[]).expect("nothing is renamed")
}

/// The facts by command and column, 7.4's where they differ.
fn facts() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = std::fs::read_to_string(file("commands.tsv")).expect("the facts are there");
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("a head").split('\t').collect();
    let mut facts = BTreeMap::new();
    for line in lines {
        let fields = columns.iter().zip(line.split('\t'));
        let fields: BTreeMap<String, String> =
            fields.map(|(column, value)| (column.to_string(), value.to_string())).collect();
        facts.insert(fields["name"].clone(), fields);
    }
    for (name, column, value) in LEVEL_7_4 {
        let fact = facts.get_mut(*name).and_then(|fields| fields.get_mut(*column)).expect("a known fact");
        assert!(sorted(fact) != sorted(value), "{name}: {column} is the same in 7.4: take the row out");
        *fact = value.to_string();
    }
    facts
}

/// Words between commas in an order of their own; other texts as they are.
fn sorted(text: &str) -> Vec<&str> {
    if text.contains('>') {
        return vec![text];
    }
    let mut words: Vec<&str> = text.split(',').filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words
}

fn name_of(spec: &Spec) -> String {
    spec.name.to_uppercase().replace('|', " ")
}

fn flags_of(spec: &Spec) -> String {
    let shown = |(flag, name): &&(Flags, &str)| spec.flags.has(*flag) && !name.is_empty();
    let mut names: Vec<&str> = FLAG_NAMES.iter().filter(shown).map(|(_, name)| *name).collect();
    if legacy_range(spec).movable && !names.contains(&"movablekeys") {
        names.push("movablekeys");
    }
    names.join(",")
}

fn categories_of(spec: &Spec) -> String {
    let all = spec.acl_categories();
    let names: Vec<&str> =
        ACL_NAMES.iter().filter(|(category, _)| all.has(*category)).map(|(_, name)| *name).collect();
    names.join(",")
}

fn key_specs_of(spec: &Spec) -> String {
    spec.keys.iter().map(key_spec_text).collect::<Vec<_>>().join(" ; ")
}

fn key_spec_text(spec: &KeySpec) -> String {
    let begin = match spec.begin {
        Begin::Index(index) => format!("index(index={index})"),
        Begin::Keyword(word, from) => format!("keyword(keyword={word},startfrom={from})"),
        Begin::Unknown => "unknown()".to_owned(),
    };
    let find = match spec.find {
        Find::Range { last, step, limit } => format!("range(lastkey={last},keystep={step},limit={limit})"),
        Find::KeyNum { at, first, step } => format!("keynum(keynumidx={at},firstkey={first},keystep={step})"),
        Find::Unknown => "unknown()".to_owned(),
    };
    let flags = access::NAMES.iter().filter(|(flag, _)| spec.access & flag != 0).map(|(_, name)| *name);
    format!("{begin}>{find}:{}", flags.collect::<Vec<_>>().join("+"))
}

/// Commands that Redis does not have, but Valkey.
const BEYOND: &[&str] = &["SCRIPT SHOW"];

#[test]
fn rows_agree_with_the_facts() {
    let facts = facts();
    let mut faults = Vec::new();
    for command in table().rows() {
        let spec = command.spec;
        let name = name_of(spec);
        if BEYOND.contains(&name.as_str()) {
            continue;
        }
        let Some(fact) = facts.get(&name) else {
            faults.push(format!("{name}: not a core command of Redis"));
            continue;
        };
        let row = [
            ("since", spec.since.to_owned()),
            ("group", spec.group.to_owned()),
            ("arity", spec.arity.to_string()),
            ("flags", flags_of(spec)),
            ("acl", categories_of(spec)),
            ("key_specs", key_specs_of(spec)),
        ];
        for (column, value) in row {
            // Redis 8 says of EVAL and its like that they run scripts; 7.4 does not.
            let wanted = fact[column].replace(",script_runner", "");
            if sorted(&value) != sorted(&wanted) {
                faults.push(format!("{name}: {column} is\n    {value}, the fact is\n    {wanted}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_missing_becomes_less() {
    let have: BTreeSet<String> = table().rows().iter().map(|command| name_of(command.spec)).collect();
    let level = |since: &str| {
        let mut parts = since.split('.').map(|part| part.parse::<u32>().expect("a version"));
        (parts.next().expect("a version"), parts.next().expect("a version"))
    };
    let facts = facts();
    let wanted = facts.iter().filter(|(_, fact)| level(&fact["since"]) <= (7, 4));
    let missing: BTreeSet<&str> =
        wanted.map(|(name, _)| name.as_str()).filter(|name| !have.contains(*name)).collect();
    let path = file("not-yet.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let listed: BTreeSet<&str> = text.lines().collect();
    let lost: Vec<_> = missing.difference(&listed).collect();
    assert!(lost.is_empty() || text.is_empty(), "these commands were there: {lost:?}");
    if missing != listed {
        assert!(
            std::env::var_os("AIKV_UPDATE_DOCS").is_some(),
            "tests/facts/not-yet.txt names commands that are there: run make docs"
        );
        let text: String = missing.iter().map(|name| format!("{name}\n")).collect();
        std::fs::write(path, text).expect("the list can be written");
    }
}

/// The least number of words an argument takes.
fn words_min(arg: &Arg) -> usize {
    if arg.optional {
        return 0;
    }
    let token = usize::from(arg.token.is_some());
    match &arg.kind {
        Kind::PureToken => 1,
        Kind::Value(_) => 1 + token,
        Kind::OneOf(parts) => token + parts.iter().map(words_min).min().unwrap_or(0),
        Kind::Block(parts) => token + parts.iter().map(words_min).sum::<usize>(),
    }
}

/// Whether an argument may take more words than the least number.
fn varies(arg: &Arg) -> bool {
    let inside = match &arg.kind {
        Kind::OneOf(parts) => {
            parts.iter().any(|part| varies(part) || words_min(part) != words_min(&parts[0]))
        }
        Kind::Block(parts) => parts.iter().any(varies),
        Kind::Value(_) | Kind::PureToken => false,
    };
    arg.optional || arg.multiple || inside
}

fn has_key(args: &[Arg]) -> bool {
    args.iter().any(|arg| arg.key_spec.is_some() || has_key(arg.parts()))
}

#[test]
fn usage_lines_fit_their_rows() {
    for command in table().rows().iter().filter(|command| command.subcommands.is_empty()) {
        let spec = command.spec;
        let args = usage::parse(spec.usage).unwrap_or_else(|error| panic!("{}: {error}", spec.name));
        let names = 1 + usize::from(spec.container().is_some());
        let least = (names + args.iter().map(words_min).sum::<usize>()) as i32;
        let arity = if args.iter().any(varies) { -least } else { least };
        let excused = OTHER_ARITY.iter().any(|(name, _)| *name == spec.name);
        assert_eq!(arity != spec.arity, excused, "{}: arity {}, by its usage {arity}", spec.name, spec.arity);
        let args = usage::arguments(spec);
        let says_where = spec.keys.iter().any(|key_spec| key_spec.access & access::NOT_KEY == 0);
        assert_eq!(has_key(&args), says_where, "{}: keys in usage line and key specs", spec.name);
    }
}

#[test]
fn rows_keep_the_rules() {
    let table = table();
    let mut names = BTreeSet::new();
    for command in table.rows() {
        let (spec, flags) = (command.spec, command.spec.flags);
        let name = spec.name;
        assert!(names.insert(name), "{name} is declared once");
        assert_eq!(name, name.to_lowercase(), "names are in lower case");
        assert!(GROUPS.contains(&spec.group), "{name}: group {}", spec.group);
        assert_eq!(
            spec.since.split('.').filter(|part| part.parse::<u32>().is_ok()).count(),
            3,
            "{name}: since"
        );
        assert!(spec.arity != 0 && spec.arity.abs() > i32::from(spec.container().is_some()), "{name}: arity");
        assert!(
            spec.summary.ends_with('.') && spec.summary.len() > 10,
            "{name}: a sentence says what it does"
        );
        assert!(!flags.has(Flags::WRITE | Flags::READONLY), "{name}: writes or only reads");
        assert!(!flags.has(Flags::DENYOOM) || flags.has(Flags::WRITE), "{name}: only writes need memory");
        assert!(!flags.has(Flags::CONTAINER) || !command.subcommands.is_empty(), "{name}: has subcommands");
        let has_keys = spec.keys.iter().any(|key_spec| key_spec.access & access::NOT_KEY == 0);
        let on_data = flags.any(Flags::WRITE | Flags::READONLY | Flags::SCRIPT_RUNNER);
        assert!(
            !has_keys || on_data || command.spec.group == "transactions",
            "{name}: reads or writes its keys"
        );
        for key_spec in spec.keys {
            let kinds = access::RO | access::RW | access::OW | access::RM;
            let channel = key_spec.access & access::NOT_KEY != 0;
            assert!(channel || (key_spec.access & kinds).count_ones() == 1, "{name}: one of RO, RW, OW, RM");
            let reads =
                key_spec.access & (kinds | access::INSERT | access::DELETE | access::UPDATE) == access::RO;
            // PFCOUNT keeps its estimate in the key.
            let only_reads = flags.has(Flags::READONLY) && !flags.has(Flags::MAY_REPLICATE);
            assert!(!only_reads || reads, "{name}: a command that only reads changes no key");
        }
    }
}
