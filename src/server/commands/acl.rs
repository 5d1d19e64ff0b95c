//! ACL: users, their rules, the log of refusals. What rules mean is in `acl/`; what a change does to clients
//! is in `server/access.rs`.

use crate::acl::{AclLog, Catalog, DEFAULT_USER, RulesError, Selector, has_spaces};
use crate::command::Outcome;
use crate::command::args::{int, is};
use crate::command::error::{CmdError, CmdResult, wrong_arity};
use crate::command::spec::{ACL_NAMES, Acl, Flags, SPEC, Spec};
use crate::resp::Reply;
use crate::server::ServerCtx;
use crate::server::access::{Detail, describe};
use crate::server::table::Handler;

const OPEN: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE);
const ADMIN: Flags = OPEN.with(Flags::ADMIN);
const SECRET: Flags = ADMIN.with(Flags::SENSITIVE);
const ROW: Spec = Spec { flags: ADMIN, group: "server", since: "6.0.0", ..SPEC };
const PER_USER: &str = "O(N). Where N is the number of configured users.";
const PER_RULE: &str = "O(N). Where N is the number of rules provided.";
const PER_DEFINITION: &str =
    "O(N). Where N is the number of password, command and pattern rules that the user has.";

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "acl",
            arity: -2,
            flags: Flags::CONTAINER,
            summary: "Commands about users and what they may do.",
            complexity: "Depends on subcommand.",
            ..ROW
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "acl|cat",
            arity: -2,
            flags: OPEN,
            summary: "Tells the categories of commands, or the commands of a category.",
            complexity: "O(1) since the categories and commands are a fixed set.",
            usage: "[category]",
            ..ROW
        },
        Handler::Server(cat),
    ),
    (
        Spec {
            name: "acl|deluser",
            arity: -3,
            flags: SECRET,
            summary: "Removes users and closes their connections.",
            complexity: "O(1) amortized time considering the typical user.",
            usage: "username [username ...]",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..ROW
        },
        Handler::Server(deluser),
    ),
    (
        Spec {
            name: "acl|dryrun",
            arity: -4,
            since: "7.0.0",
            summary: "Tells whether a user might run a command, without running it.",
            usage: "username command [arg [arg ...]]",
            ..ROW
        },
        Handler::Server(dryrun),
    ),
    (
        Spec {
            name: "acl|genpass",
            arity: -2,
            flags: OPEN,
            summary: "Makes a random password.",
            usage: "[bits]",
            ..ROW
        },
        Handler::Server(genpass),
    ),
    (
        Spec {
            name: "acl|getuser",
            arity: 3,
            flags: SECRET,
            summary: "Tells the rules of a user, part by part.",
            complexity: PER_DEFINITION,
            usage: "username",
            history: &[
                ("6.2.0", "Added Pub/Sub channel patterns."),
                ("7.0.0", "Added selectors and changed the format of key and channel patterns."),
            ],
            ..ROW
        },
        Handler::Server(getuser),
    ),
    (
        Spec {
            name: "acl|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            acl: Acl(0),
            summary: "Explains the subcommands.",
            ..ROW
        },
        Handler::Server(help),
    ),
    (
        Spec {
            name: "acl|list",
            arity: 2,
            summary: "Tells the rules of all users as lines of an ACL file.",
            complexity: PER_USER,
            ..ROW
        },
        Handler::Server(list),
    ),
    (
        Spec {
            name: "acl|load",
            arity: 2,
            summary: "Takes the users from the ACL file.",
            complexity: PER_USER,
            ..ROW
        },
        Handler::Server(load),
    ),
    (
        Spec {
            name: "acl|log",
            arity: -2,
            summary: "Tells what was refused lately, or forgets it.",
            complexity: "O(N) with N being the number of entries shown.",
            usage: "[count | RESET]",
            history: &[("7.2.0", "Added entry ID, timestamp created, and timestamp last updated.")],
            ..ROW
        },
        Handler::Server(log),
    ),
    (
        Spec {
            name: "acl|save",
            arity: 2,
            summary: "Writes the users to the ACL file.",
            complexity: PER_USER,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..ROW
        },
        Handler::Server(save),
    ),
    (
        Spec {
            name: "acl|setuser",
            arity: -3,
            flags: SECRET,
            summary: "Makes a user or changes its rules.",
            complexity: PER_RULE,
            usage: "username [rule [rule ...]]",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            history: &[
                ("6.2.0", "Added Pub/Sub channel patterns."),
                ("7.0.0", "Added selectors and key based permissions."),
            ],
            ..ROW
        },
        Handler::Server(setuser),
    ),
    (
        Spec {
            name: "acl|users",
            arity: 2,
            summary: "Tells the names of all users.",
            complexity: PER_USER,
            ..ROW
        },
        Handler::Server(users),
    ),
    (
        Spec {
            name: "acl|whoami",
            arity: 2,
            flags: OPEN,
            summary: "Tells the user of the connection.",
            ..ROW
        },
        Handler::Server(whoami),
    ),
];

// ---- users ----

fn setuser(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let name = ctx.args.get(2);
    if has_spaces(name) {
        return Err(CmdError::new("ERR Usernames can't contain spaces or null characters"));
    }
    let words: Vec<&[u8]> = ctx.args.iter().skip(3).collect();
    let all_channels = ctx.server.new_users_have_all_channels();
    let user = ctx.server.acl.changed_user(name, &words, all_channels).map_err(rules_error)?;
    ctx.server.change_user(user, Some(ctx.client));
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn rules_error(error: RulesError) -> CmdError {
    CmdError::text(match error {
        RulesError::Unmatched(word) => {
            [b"ERR Unmatched parenthesis in acl selector starting at '", word.as_slice(), b"'."].concat()
        }
        RulesError::Rule(rule, error) => {
            let reason = format!("': {error}");
            [b"ERR Error in ACL SETUSER modifier '", rule.as_slice(), reason.as_bytes()].concat()
        }
    })
}

fn deluser(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.args.iter().skip(2).any(|name| name == DEFAULT_USER) {
        return Err(CmdError::new("ERR The 'default' user cannot be removed"));
    }
    let args = ctx.args;
    let removed = args.iter().skip(2).filter(|name| ctx.server.remove_user(name, ctx.client)).count();
    ctx.client.reply.len_int(removed);
    Ok(Outcome::Done)
}

fn getuser(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let reply = &mut ctx.client.reply;
    let Some(user) = ctx.server.acl.user(ctx.args.get(2)) else {
        reply.null();
        return Ok(Outcome::Done);
    };
    reply.map(6);
    reply.bulk_str("flags");
    reply.set(user.flags().count());
    user.flags().for_each(|flag| reply.bulk_str(flag));
    reply.bulk_str("passwords");
    reply.array(user.passwords().len());
    user.passwords().iter().for_each(|digest| reply.bulk_str(digest));
    let (root, others) = user.selectors().split_first().expect("a user has a selector");
    push_selector(reply, root);
    reply.bulk_str("selectors");
    reply.array(others.len());
    for selector in others {
        reply.map(3);
        push_selector(reply, selector);
    }
    Ok(Outcome::Done)
}

/// Three fields and their values.
fn push_selector(reply: &mut Reply, selector: &Selector) {
    reply.bulk_str("commands");
    reply.bulk_str(&selector.commands_text());
    reply.bulk_str("keys");
    reply.bulk(&selector.keys_text());
    reply.bulk_str("channels");
    reply.bulk(&selector.channels_text());
}

fn list(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let lines = ctx.server.acl.lines();
    ctx.client.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.client.reply.bulk(line));
    Ok(Outcome::Done)
}

fn users(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let users = ctx.server.acl.users();
    ctx.client.reply.array(users.len());
    users.keys().for_each(|name| ctx.client.reply.bulk(name));
    Ok(Outcome::Done)
}

fn whoami(ctx: &mut ServerCtx<'_>) -> CmdResult {
    match &ctx.client.user {
        Some(user) => ctx.client.reply.bulk(&user.name),
        None => ctx.client.reply.null(),
    }
    Ok(Outcome::Done)
}

// ---- files ----

/// ACL LOAD and SAVE without the option aclfile.
const NO_FILE: CmdError = CmdError::new(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
     SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in \
     order to store users in the Redis configuration.",
);
const NOT_SAVED: CmdError = CmdError::new(
    "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
);

fn load(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.server.config.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    let users = ctx.server.read_acl_file().map_err(|error| CmdError::text(format!("ERR {error}")))?;
    ctx.server.change_all_users(users, ctx.client);
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn save(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let file = &ctx.server.config.aclfile;
    if file.is_empty() {
        return Err(NO_FILE);
    }
    let mut text = ctx.server.acl.lines().join(&b'\n');
    text.push(b'\n');
    if let Err(error) = crate::sys::file::write_atomically(std::path::Path::new(file), &text) {
        log::warn!(target: "aikv", "Writing the ACL file {file}: {error}");
        return Err(NOT_SAVED);
    }
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

// ---- the rest ----

/// The error for a subcommand that exists but not with so many arguments.
fn wrong_form(sub: &[u8]) -> CmdError {
    let sub = &sub[..sub.len().min(128)];
    let behind = b"'. Try ACL HELP.";
    CmdError::text([b"ERR unknown subcommand or wrong number of arguments for '", sub, behind].concat())
}

fn cat(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let reply = &mut ctx.client.reply;
    match ctx.args.len() {
        2 => {
            reply.array(ACL_NAMES.len());
            ACL_NAMES.iter().for_each(|(_, name)| reply.bulk_str(name));
        }
        3 => {
            let name = ctx.args.get(2);
            let category = Catalog::category(name).ok_or_else(|| {
                let name = &name[..name.len().min(128)];
                CmdError::text([b"ERR Unknown category '", name, b"'"].concat())
            })?;
            let catalog = ctx.server.acl.catalog();
            reply.array(catalog.in_category(category).count());
            catalog.in_category(category).for_each(|id| reply.bulk_str(catalog.spec(id).name));
        }
        _ => return Err(wrong_form(ctx.args.get(1))),
    }
    Ok(Outcome::Done)
}

fn dryrun(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let (name, args) = (ctx.args.get(2), ctx.args.skip(3));
    let missing = |what: &[u8], name: &[u8]| CmdError::text([what, b" '", name, b"' not found"].concat());
    let user = ctx.server.acl.user(name).ok_or_else(|| missing(b"ERR User", name))?;
    let command = ctx.server.table.resolve(&args).filter(|c| args.len() == 1 || !c.is_container());
    let command = command.ok_or_else(|| missing(b"ERR Command", args.get(0)))?;
    if !command.spec.arity_ok(args.len()) {
        return Err(wrong_arity(command.spec.name));
    }
    match user.check(command.id, command.spec, &args) {
        Ok(()) => ctx.client.reply.ok(),
        Err(denied) => ctx.client.reply.bulk(&describe(user, command, &args, denied, Detail::Full)),
    }
    Ok(Outcome::Done)
}

/// Bits of a password made without a number.
const PASSWORD_BITS: i64 = 256;
/// Most bits of a password.
const PASSWORD_BITS_MAX: i64 = 4096;

fn genpass(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.args.len() > 3 {
        return Err(wrong_form(ctx.args.get(1)));
    }
    let bits = ctx.args.try_get(2).map_or(Ok(PASSWORD_BITS), int)?;
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(CmdError::text(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number \
             up to {PASSWORD_BITS_MAX}"
        )));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0; digits.div_ceil(2)];
    crate::sys::process::os_random(&mut random);
    ctx.client.reply.bulk(&crate::util::crc::hex(&random).as_bytes()[..digits]);
    Ok(Outcome::Done)
}

/// Entries of the log that are shown without a number.
const LOG_SHOWN: usize = 10;

fn log(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let count = match ctx.args.try_get(2) {
        _ if ctx.args.len() > 3 => return Err(wrong_form(ctx.args.get(1))),
        None => LOG_SHOWN,
        Some(word) if is(word, "reset") => {
            ctx.server.acl.log.reset();
            ctx.client.reply.ok();
            return Ok(Outcome::Done);
        }
        Some(count) => int(count)?.max(0) as usize,
    };
    let now_ms = ctx.server.now.wall_ms;
    push_log(&mut ctx.client.reply, &ctx.server.acl.log, count, now_ms);
    Ok(Outcome::Done)
}

fn push_log(reply: &mut Reply, log: &AclLog, count: usize, now_ms: i64) {
    reply.array(count.min(log.len()));
    for entry in log.iter().take(count) {
        let refusal = &entry.refusal;
        reply.map(10);
        reply.bulk_str("count");
        reply.int(entry.count as i64);
        reply.bulk_str("reason");
        reply.bulk_str(refusal.reason.name());
        reply.bulk_str("context");
        reply.bulk_str(refusal.context.name());
        reply.bulk_str("object");
        reply.bulk(&refusal.object);
        reply.bulk_str("username");
        reply.bulk(&refusal.user);
        reply.bulk_str("age-seconds");
        reply.double((now_ms - entry.updated_ms) as f64 / 1000.0);
        reply.bulk_str("client-info");
        reply.bulk(&refusal.client);
        reply.bulk_str("entry-id");
        reply.int(entry.id as i64);
        reply.bulk_str("timestamp-created");
        reply.int(entry.created_ms);
        reply.bulk_str("timestamp-last-updated");
        reply.int(entry.updated_ms);
    }
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "ACL",
        &[
            "CAT [<category>]",
            "    Return the categories of commands, or the commands of one.",
            "DELUSER <username> [<username> ...]",
            "    Remove users and close their connections.",
            "DRYRUN <username> <command> [<arg> ...]",
            "    Return whether the user might run the command; it is not run.",
            "GETUSER <username>",
            "    Return the rules of a user.",
            "GENPASS [<bits>]",
            "    Return a random password of 256 bits, or of as many as asked for.",
            "LIST",
            "    Return the rules of all users as lines of an ACL file.",
            "LOAD",
            "    Take the users from the ACL file.",
            "LOG [<count> | RESET]",
            "    Return what was refused lately, or forget it.",
            "SAVE",
            "    Write the users to the ACL file.",
            "SETUSER <username> <rule> [<rule> ...]",
            "    Make a user or change its rules.",
            "USERS",
            "    Return the names of all users.",
            "WHOAMI",
            "    Return the user of this connection.",
        ],
    );
    Ok(Outcome::Done)
}
