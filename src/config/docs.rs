//! The files that are made from the option table: `config.toml` with every option, its text and its default,
//! and `docs/config.md`. `tests/docs.rs` keeps them fresh.

use super::rewrite::value;
use super::spec::{FIXED, HIDDEN, OptionSpec, PROTECTED, Section};
use super::{Config, OPTIONS};

/// Options that the shipped file sets itself, with the value and the reason.
const SHIPPED: &[(&str, &str, &str)] = &[
    ("bind", "[\"127.0.0.1\", \"-::1\"]", "Only this machine can connect; \"0.0.0.0\" lets others in."),
    ("storage-engine", "\"aidb\"", "Data is kept on disk, too, and is there again after a restart."),
];

const TOML_HEAD: &str = "\
# Configuration of AiKv. Every option stands here with its default; take the # away to change one.
# Sizes may have a unit: \"100mb\" (1024 * 1024), \"100m\" (1000 * 1000). Options that take several words
# may be written as an array. The same options can be given on the command line (--maxmemory 1gb), in the
# syntax of redis.conf, and mostly by CONFIG SET. This file is generated from src/config/options.rs.
";

const MARKDOWN_HEAD: &str = "\
# Options

Every option can be given in four ways: in `config.toml` under its section and key, in a file in the syntax
of redis.conf (`name value`), on the command line (`--name value`), and, unless it is marked *at start only*,
by `CONFIG SET name value`. `CONFIG REWRITE` writes what was changed back into the file. The command line
overrides the file. Without a named file, `./config.toml` is read if it exists.

Keys in `config.toml` may be written with `_` or `-`; options that take several words may be arrays. In
section `[security]` there are also `users = [\"name rules\", ...]` (ACL users) and
`rename_command = { old = \"new\" }`; redis.conf has the directives `user`, `rename-command` and `include`
for that.

This page is generated from `src/config/options.rs`.
";

fn options_of(section: Section) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(move |option| option.section == section && !option.has(HIDDEN))
}

/// The text of the shipped `config.toml`.
pub fn config_toml() -> String {
    let default = Config::default();
    let mut out = TOML_HEAD.to_owned();
    for (section, name, about) in Section::ALL {
        out.push_str(&format!("\n# {about}\n[{name}]\n"));
        for option in options_of(*section) {
            out.push('\n');
            for line in option.doc {
                out.push_str(&format!("#{line}\n"));
            }
            out.push_str(&format!("# Values: {}.{}\n", (option.describe)(), remark(option)));
            if let Some((_, text, reason)) = SHIPPED.iter().find(|(shipped, ..)| *shipped == option.name) {
                out.push_str(&format!("# {reason}\n{} = {text}\n", option.toml_key()));
            } else {
                let value = value((option.literal)(&default));
                out.push_str(&format!("# {} = {value}\n", option.toml_key()));
            }
        }
    }
    out
}

fn remark(option: &OptionSpec) -> String {
    option.note.map_or_else(String::new, |note| format!(" Accepted, has no effect: {note}."))
}

/// The text of `docs/config.md`.
pub fn config_markdown() -> String {
    let default = Config::default();
    let mut out = MARKDOWN_HEAD.to_owned();
    for (section, name, about) in Section::ALL {
        out.push_str(&format!("\n## `[{name}]`: {about}\n"));
        for option in options_of(*section) {
            out.push_str(&format!("\n### `{}`\n\n", option.name));
            for line in option.doc {
                out.push_str(&format!("{}\n", line.trim_start()));
            }
            let value = value((option.literal)(&default));
            out.push_str(&format!("\n- TOML: `{} = {value}` (the default)\n", option.toml_key()));
            out.push_str(&format!("- Values: {}\n", (option.describe)()));
            if option.has(FIXED) {
                out.push_str("- At start only\n");
            }
            if option.has(PROTECTED) {
                out.push_str("- `CONFIG SET` needs `enable-protected-configs`\n");
            }
            let others: Vec<String> = option.names().skip(1).map(|alias| format!("`{alias}`")).collect();
            if !others.is_empty() {
                out.push_str(&format!("- Also called {}\n", others.join(", ")));
            }
            if let Some(flag) = option.flag {
                out.push_str(&format!("- On the command line also `--{flag}`\n"));
            }
            if let Some(note) = option.note {
                out.push_str(&format!("- Accepted, has no effect: {note}\n"));
            }
        }
    }
    out
}
