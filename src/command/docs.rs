//! docs/commands.md, made from the command rows. `tests/docs.rs` keeps it fresh.

use super::spec::{ACL_NAMES, FLAG_NAMES, Spec};
use std::collections::BTreeMap;

const HEAD: &str = "\
# Commands

What AiKv answers to, family by family. *Since* is the version of Redis that brought a command. In the usage
lines words in capitals are said as they stand, `[a]` may be left out, `a | b` is a choice, `<...>` holds
choices together, and `a [a ...]` may come more than once. `COMMAND DOCS` and `COMMAND INFO` tell a client the
same. This page is generated from the rows beside the commands' functions.
";

/// The text of docs/commands.md for these rows.
pub fn commands_markdown<'a>(rows: impl Iterator<Item = &'a Spec>) -> String {
    let mut groups: BTreeMap<&str, BTreeMap<&str, &Spec>> = BTreeMap::new();
    for spec in rows {
        groups.entry(spec.group).or_default().insert(spec.name, spec);
    }
    let mut out = HEAD.to_owned();
    for (group, specs) in groups {
        out.push_str(&format!("\n## {group}\n"));
        specs.values().for_each(|spec| out.push_str(&section(spec)));
    }
    out
}

fn section(spec: &Spec) -> String {
    let name = spec.name.to_uppercase().replace('|', " ");
    let usage = format!("{name} {}", spec.usage);
    let mut out = format!("\n### {name}\n\n`{}`\n\n{}\n\n", usage.trim_end(), spec.summary);
    let names = |names: Vec<&str>| match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    if !spec.complexity.is_empty() {
        out.push_str(&format!("- Time: {}\n", spec.complexity.trim_end_matches('.')));
    }
    let flags = FLAG_NAMES.iter().filter(|(flag, name)| spec.flags.has(*flag) && !name.is_empty());
    out.push_str(&format!("- Flags: {}\n", names(flags.map(|(_, name)| *name).collect())));
    let categories = ACL_NAMES.iter().filter(|(category, _)| spec.acl_categories().has(*category));
    out.push_str(&format!("- Categories: {}\n", names(categories.map(|(_, name)| *name).collect())));
    out.push_str(&format!("- Since: {}\n", spec.since));
    if let Some(deprecated) = &spec.deprecated {
        let (since, instead) = (deprecated.since, deprecated.replaced_by);
        out.push_str(&format!("- Deprecated since {since}; use instead: {instead}\n"));
    }
    for (version, change) in spec.history {
        out.push_str(&format!("- {version}: {change}\n"));
    }
    out
}
