//! COMMAND: the rows as clients and tools see them. redis-cli takes its help and hints from COMMAND DOCS.

use crate::command::Outcome;
use crate::command::args::{Cursor, is};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::keys::{find_keys, legacy_range};
use crate::command::spec::{ACL_NAMES, Acl, Begin, FLAG_NAMES, Find, Flags, KeySpec, SPEC, Spec, access};
use crate::command::usage::{self, Arg, Kind};
use crate::resp::Reply;
use crate::server::ServerCtx;
use crate::server::table::{Command, Handler, Table, subcommand};
use crate::util::glob;

const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const LOOKUP: &str = "O(N) where N is the number of commands to look up";
const ROW: Spec = Spec {
    flags: Flags::LOADING.with(Flags::STALE),
    acl: Acl::CONNECTION,
    group: "server",
    since: "2.8.13",
    ..SPEC
};

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "command",
            arity: -1,
            summary: "Tells arity, flags, keys and categories of all commands.",
            complexity: "O(N) where N is the total number of commands",
            tips: UNORDERED,
            ..ROW
        },
        Handler::Server(command),
    ),
    (
        Spec { name: "command|count", arity: 2, summary: "Counts the commands.", ..ROW },
        Handler::Server(count),
    ),
    (
        Spec {
            name: "command|docs",
            arity: -2,
            since: "7.0.0",
            summary: "Tells what commands are for and which arguments they take.",
            complexity: LOOKUP,
            usage: "[command-name [command-name ...]]",
            tips: UNORDERED,
            ..ROW
        },
        Handler::Server(docs),
    ),
    (
        Spec {
            name: "command|getkeys",
            arity: -3,
            summary: "Finds the keys among the arguments of a command.",
            complexity: "O(N) where N is the number of arguments to the command",
            usage: "command [arg [arg ...]]",
            ..ROW
        },
        Handler::Server(getkeys),
    ),
    (
        Spec {
            name: "command|getkeysandflags",
            arity: -3,
            since: "7.0.0",
            summary: "Finds the keys among the arguments of a command, and what it does with each.",
            complexity: "O(N) where N is the number of arguments to the command",
            usage: "command [arg [arg ...]]",
            ..ROW
        },
        Handler::Server(getkeysandflags),
    ),
    (
        Spec { name: "command|help", arity: 2, since: "5.0.0", summary: "Explains the subcommands.", ..ROW },
        Handler::Server(help),
    ),
    (
        Spec {
            name: "command|info",
            arity: -2,
            summary: "Tells arity, flags, keys and categories of the named commands.",
            complexity: LOOKUP,
            usage: "[command-name [command-name ...]]",
            tips: UNORDERED,
            history: &[("7.0.0", "Without names it answers for all commands.")],
            ..ROW
        },
        Handler::Server(info),
    ),
    (
        Spec {
            name: "command|list",
            arity: -2,
            since: "7.0.0",
            summary: "Lists the names of commands.",
            complexity: "O(N) where N is the total number of commands",
            usage: "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
            tips: UNORDERED,
            ..ROW
        },
        Handler::Server(list),
    ),
];

/// The command of a name, subcommands as `container|sub`.
fn by_name(table: &Table, name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|b| *b == b'|') {
        None => table.get(name),
        Some(at) => subcommand(table.get(&name[..at])?, &name[at + 1..]),
    }
}

/// All commands that can be called, without subcommands, by name.
fn all(ctx: &ServerCtx<'_>) -> Vec<&'static Command> {
    ctx.server.table.named().into_iter().map(|(_, command)| command).collect()
}

/// Without a subcommand: COMMAND INFO of all.
fn command(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let commands = all(ctx);
    ctx.client.reply.array(commands.len());
    commands.into_iter().for_each(|command| write_info(&mut ctx.client.reply, command));
    Ok(Outcome::Done)
}

fn count(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let count = all(ctx).len();
    ctx.client.reply.len_int(count);
    Ok(Outcome::Done)
}

// ---- INFO ----

fn info(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let commands: Vec<Option<&Command>> = match ctx.args.len() {
        2 => all(ctx).into_iter().map(Some).collect(),
        _ => ctx.args.iter().skip(2).map(|name| by_name(&ctx.server.table, name)).collect(),
    };
    let reply = &mut ctx.client.reply;
    reply.array(commands.len());
    for command in commands {
        match command {
            Some(command) => write_info(reply, command),
            None => reply.null(),
        }
    }
    Ok(Outcome::Done)
}

fn write_info(reply: &mut Reply, command: &Command) {
    let spec = command.spec;
    let range = legacy_range(spec);
    reply.array(10);
    reply.bulk_str(spec.name);
    reply.int(i64::from(spec.arity));
    let flags = if range.movable { spec.flags.with(Flags::MOVABLEKEYS) } else { spec.flags };
    let names: Vec<&str> = FLAG_NAMES.iter().filter(|(f, _)| flags.has(*f)).map(|(_, n)| *n).collect();
    write_names(reply, names.iter().filter(|name| !name.is_empty()));
    for n in [range.first, range.last, range.step] {
        reply.int(i64::from(n));
    }
    let categories = ACL_NAMES.iter().filter(|(category, _)| command.acl.has(*category));
    write_names(reply, categories.map(|(_, name)| format!("@{name}")));
    reply.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.bulk_str(tip));
    reply.set(spec.keys.len());
    spec.keys.iter().for_each(|key_spec| write_key_spec(reply, key_spec));
    match command.subcommands.len() {
        0 => reply.set(0),
        n => reply.array(n),
    }
    command.subcommands.iter().for_each(|(_, sub)| write_info(reply, sub));
}

/// A set of names, as simple strings.
fn write_names<S: AsRef<str>>(reply: &mut Reply, names: impl Iterator<Item = S>) {
    let names: Vec<S> = names.collect();
    reply.set(names.len());
    names.iter().for_each(|name| reply.simple(name.as_ref()));
}

fn write_access(reply: &mut Reply, flags: u32) {
    write_names(reply, access::NAMES.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| name));
}

fn write_key_spec(reply: &mut Reply, spec: &KeySpec) {
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    if !spec.notes.is_empty() {
        reply.bulk_str("notes");
        reply.bulk_str(spec.notes);
    }
    reply.bulk_str("flags");
    write_access(reply, spec.access);
    reply.bulk_str("begin_search");
    match spec.begin {
        Begin::Index(index) => write_search(reply, "index", &[("index", index)]),
        Begin::Keyword(word, from) => {
            write_search_head(reply, "keyword", 2);
            reply.bulk_str("keyword");
            reply.bulk_str(word);
            write_number(reply, ("startfrom", from));
        }
        Begin::Unknown => write_search(reply, "unknown", &[]),
    }
    reply.bulk_str("find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            write_search(reply, "range", &[("lastkey", last), ("keystep", step), ("limit", limit)]);
        }
        Find::KeyNum { at, first, step } => {
            write_search(reply, "keynum", &[("keynumidx", at), ("firstkey", first), ("keystep", step)]);
        }
        Find::Unknown => write_search(reply, "unknown", &[]),
    }
}

fn write_search_head(reply: &mut Reply, kind: &str, fields: usize) {
    reply.map(2);
    reply.bulk_str("type");
    reply.bulk_str(kind);
    reply.bulk_str("spec");
    reply.map(fields);
}

fn write_search(reply: &mut Reply, kind: &str, fields: &[(&str, i32)]) {
    write_search_head(reply, kind, fields.len());
    fields.iter().for_each(|field| write_number(reply, *field));
}

fn write_number(reply: &mut Reply, (name, number): (&str, i32)) {
    reply.bulk_str(name);
    reply.int(i64::from(number));
}

// ---- DOCS ----

fn docs(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let commands: Vec<&Command> = match ctx.args.len() {
        2 => all(ctx),
        _ => ctx.args.iter().skip(2).filter_map(|name| by_name(&ctx.server.table, name)).collect(),
    };
    let reply = &mut ctx.client.reply;
    reply.map(commands.len());
    for command in commands {
        reply.bulk_str(command.spec.name);
        write_docs(reply, command);
    }
    Ok(Outcome::Done)
}

fn write_docs(reply: &mut Reply, command: &Command) {
    let spec = command.spec;
    // Pairs of texts that are left out when they are empty.
    let deprecated = spec.deprecated.as_ref();
    let head = [("summary", spec.summary), ("since", spec.since), ("group", spec.group)];
    let head = head.into_iter().chain([("complexity", spec.complexity)]).filter(|(_, text)| !text.is_empty());
    let head: Vec<(&str, &str)> = head.collect();
    let args = usage::arguments(spec);
    let present = [!spec.history.is_empty(), !args.is_empty(), !command.subcommands.is_empty()];
    let flags = if deprecated.is_some() { 3 } else { 0 };
    reply.map(head.len() + flags + present.into_iter().filter(|on| *on).count());
    for (name, text) in head {
        reply.bulk_str(name);
        reply.bulk_str(text);
    }
    if let Some(deprecated) = deprecated {
        reply.bulk_str("doc_flags");
        write_names(reply, ["deprecated"].into_iter());
        reply.bulk_str("deprecated_since");
        reply.bulk_str(deprecated.since);
        reply.bulk_str("replaced_by");
        reply.bulk_str(deprecated.replaced_by);
    }
    if !spec.history.is_empty() {
        reply.bulk_str("history");
        reply.set(spec.history.len());
        for (version, change) in spec.history {
            reply.array(2);
            reply.bulk_str(version);
            reply.bulk_str(change);
        }
    }
    if !args.is_empty() {
        reply.bulk_str("arguments");
        write_args(reply, &args);
    }
    if !command.subcommands.is_empty() {
        reply.bulk_str("subcommands");
        reply.map(command.subcommands.len());
        for (_, sub) in &command.subcommands {
            reply.bulk_str(sub.spec.name);
            write_docs(reply, sub);
        }
    }
}

fn write_args(reply: &mut Reply, args: &[Arg]) {
    reply.array(args.len());
    for arg in args {
        write_arg(reply, arg);
    }
}

fn write_arg(reply: &mut Reply, arg: &Arg) {
    let flags =
        [("optional", arg.optional), ("multiple", arg.multiple), ("multiple_token", arg.multiple_token)];
    let flags: Vec<&str> = flags.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let is_group = matches!(arg.kind, Kind::OneOf(_) | Kind::Block(_));
    let present = [arg.key_spec.is_some(), arg.token.is_some(), !flags.is_empty()];
    // Besides name and type a group has its parts, anything else a text to show.
    reply.map(3 + present.into_iter().filter(|on| *on).count());
    reply.bulk_str("name");
    reply.bulk_str(&arg.name);
    reply.bulk_str("type");
    reply.bulk_str(arg.type_name());
    if !is_group {
        reply.bulk_str("display_text");
        reply.bulk_str(&arg.name);
    }
    if let Some(index) = arg.key_spec {
        reply.bulk_str("key_spec_index");
        reply.len_int(index);
    }
    if let Some(token) = &arg.token {
        reply.bulk_str("token");
        reply.bulk_str(if token == "\"\"" { "" } else { token });
    }
    if !flags.is_empty() {
        reply.bulk_str("flags");
        write_names(reply, flags.iter());
    }
    if is_group {
        reply.bulk_str("arguments");
        write_args(reply, arg.parts());
    }
}

// ---- LIST ----

/// What COMMAND LIST is restricted to.
enum Listed<'a> {
    All,
    OfModule,
    InCategory(Option<Acl>),
    Like(&'a [u8]),
}

fn parse_list<'a>(ctx: &ServerCtx<'a>) -> Result<Listed<'a>, CmdError> {
    let mut cursor = Cursor::new(ctx.args, 2);
    match cursor.left() {
        0 => return Ok(Listed::All),
        3 if cursor.word("filterby") => {}
        _ => return Err(error::SYNTAX),
    }
    let (kind, value) = (cursor.take()?, cursor.take()?);
    match kind {
        kind if is(kind, "module") => Ok(Listed::OfModule),
        kind if is(kind, "aclcat") => {
            let found = ACL_NAMES.iter().find(|(_, name)| is(value, name)).map(|(category, _)| *category);
            Ok(Listed::InCategory(found))
        }
        kind if is(kind, "pattern") => Ok(Listed::Like(value)),
        _ => Err(error::SYNTAX),
    }
}

fn list(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let listed = parse_list(ctx)?;
    let shown = |command: &Command| match &listed {
        Listed::All => true,
        // There are no modules, so none has commands.
        Listed::OfModule => false,
        Listed::InCategory(category) => category.is_some_and(|category| command.acl.has(category)),
        Listed::Like(pattern) => {
            glob::matches(pattern, command.spec.name.as_bytes(), glob::Case::Insensitive)
        }
    };
    let mut names = Vec::new();
    for command in all(ctx) {
        let mut take = |command: &'static Command| names.extend(shown(command).then_some(command.spec.name));
        take(command);
        command.subcommands.iter().for_each(|(_, sub)| take(sub));
    }
    ctx.client.reply.array(names.len());
    names.into_iter().for_each(|name| ctx.client.reply.bulk_str(name));
    Ok(Outcome::Done)
}

// ---- GETKEYS ----

fn getkeys(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let keys = keys_of_inner(ctx)?;
    let inner = ctx.args.skip(2);
    ctx.client.reply.array(keys.len());
    keys.into_iter().for_each(|(at, _)| ctx.client.reply.bulk(inner.get(at)));
    Ok(Outcome::Done)
}

fn getkeysandflags(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let keys = keys_of_inner(ctx)?;
    let inner = ctx.args.skip(2);
    let reply = &mut ctx.client.reply;
    reply.array(keys.len());
    for (at, flags) in keys {
        reply.array(2);
        reply.bulk(inner.get(at));
        write_access(reply, flags);
    }
    Ok(Outcome::Done)
}

/// The keys of the command that the arguments hold.
fn keys_of_inner(ctx: &ServerCtx<'_>) -> Result<Vec<(usize, u32)>, CmdError> {
    let inner = ctx.args.skip(2);
    let command = ctx.server.table.resolve(&inner);
    let command = command.ok_or(CmdError::new("ERR Invalid command specified"))?;
    let spec = command.spec;
    if matches!(command.handler, Handler::Container) && inner.len() > 1 {
        return Err(CmdError::new("ERR Invalid command specified"));
    }
    if spec.keys.iter().all(|key_spec| key_spec.access & access::NOT_KEY != 0) && spec.get_keys.is_none() {
        return Err(CmdError::new("ERR The command has no key arguments"));
    }
    if !spec.arity_ok(inner.len()) {
        return Err(CmdError::new("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    let fits = find_keys(spec, &inner, &mut keys);
    keys.retain(|(_, flags)| flags & access::NOT_KEY == 0);
    match (fits && !keys.is_empty(), spec.flags.has(Flags::NO_MANDATORY_KEYS)) {
        (true, _) => Ok(keys),
        (false, true) => Ok(Vec::new()),
        (false, false) => Err(CmdError::new("ERR Invalid arguments specified for command")),
    }
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "COMMAND",
        &[
            "(no subcommand)",
            "    Return what COMMAND INFO returns, for all commands.",
            "COUNT",
            "    Return the number of commands.",
            "DOCS [<command-name> ...]",
            "    Return the documentation of these commands, or of all.",
            "GETKEYS <full-command>",
            "    Return the keys among the arguments of a command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Return the keys and what the command does with each.",
            "INFO [<command-name> ...]",
            "    Return arity, flags, categories and keys of these commands, or of all.",
            "LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]",
            "    Return the names of all commands, or of those that the filter takes.",
        ],
    );
    Ok(Outcome::Done)
}
