//! CLIENT: what connections are there, what each calls itself, and closing, pausing and waking them.

use super::client_list::{Around, Class, Running, push_line};
use super::connection::check_name;
use crate::command::Outcome;
use crate::command::args::{Cursor, int, is};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::server::blocking::{Blocked, UNBLOCKED};
use crate::server::client::{Client, Close, ReplyMode};
use crate::server::table::Handler;
use crate::server::{Pause, ServerCtx};
use crate::util::num;

const OWN: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::KEEPS_CACHING);
const ADMIN: Flags = OWN.with(Flags::ADMIN);
const EVERY_NODE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const UNORDERED: &[&str] = &["nondeterministic_output"];
const ROW: Spec = Spec { flags: OWN, acl: Acl::CONNECTION, group: "connection", ..SPEC };

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "client",
            arity: -2,
            flags: Flags::CONTAINER,
            acl: Acl(0),
            since: "2.4.0",
            summary: "Commands about connections.",
            complexity: "Depends on subcommand.",
            ..ROW
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "client|getname",
            arity: 2,
            since: "2.6.9",
            summary: "Tells the connection's name.",
            ..ROW
        },
        Handler::Server(getname),
    ),
    (
        Spec {
            name: "client|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE).with(Flags::KEEPS_CACHING),
            since: "5.0.0",
            summary: "Explains the subcommands.",
            ..ROW
        },
        Handler::Server(help),
    ),
    (
        Spec {
            name: "client|id",
            arity: 2,
            since: "5.0.0",
            summary: "Tells the connection's id, which is never used again.",
            ..ROW
        },
        Handler::Server(id),
    ),
    (
        Spec {
            name: "client|info",
            arity: 2,
            since: "6.2.0",
            summary: "Tells about the connection what CLIENT LIST tells about all.",
            tips: UNORDERED,
            ..ROW
        },
        Handler::Server(info),
    ),
    (
        Spec {
            name: "client|kill",
            arity: -3,
            flags: ADMIN,
            since: "2.4.0",
            summary: "Closes open connections.",
            complexity: "O(N) where N is the number of client connections",
            usage: "<ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | \
                    [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | \
                    [MAXAGE maxage]> ...>",
            history: &[
                ("2.8.12", "Filters in the form of options, and the option ID."),
                ("3.2.0", "TYPE takes master."),
                ("5.0.0", "TYPE takes replica; slave is still understood."),
                ("6.2.0", "Added the option LADDR."),
                ("7.4.0", "Added the option MAXAGE."),
            ],
            ..ROW
        },
        Handler::Server(kill),
    ),
    (
        Spec {
            name: "client|list",
            arity: -2,
            flags: ADMIN,
            since: "2.4.0",
            summary: "Tells about each connection, one line for each.",
            complexity: "O(N) where N is the number of client connections",
            usage: "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
            tips: UNORDERED,
            history: &[
                ("2.8.12", "Added the field id."),
                ("5.0.0", "Added the option TYPE."),
                ("6.0.0", "Added the field user."),
                ("6.2.0", "Added the fields argv-mem, tot-mem, laddr and redir, and the option ID."),
                ("7.0.0", "Added the fields resp, multi-mem, rbs and rbp."),
                ("7.0.3", "Added the field ssub."),
            ],
            ..ROW
        },
        Handler::Server(list),
    ),
    (
        Spec {
            name: "client|no-evict",
            arity: 3,
            flags: ADMIN,
            since: "7.0.0",
            summary: "Keeps the connection from being closed for the memory clients take.",
            usage: "<ON | OFF>",
            ..ROW
        },
        Handler::Server(no_evict),
    ),
    (
        Spec {
            name: "client|no-touch",
            arity: 3,
            since: "7.2.0",
            summary: "Says whether the connection's commands leave age and frequency of keys alone.",
            usage: "<ON | OFF>",
            ..ROW
        },
        Handler::Server(no_touch),
    ),
    (
        Spec {
            name: "client|pause",
            arity: -3,
            flags: ADMIN,
            since: "3.0.0",
            summary: "Suspends the processing of commands.",
            usage: "timeout [WRITE | ALL]",
            history: &[("6.2.0", "Added the modes WRITE and ALL.")],
            ..ROW
        },
        Handler::Server(pause),
    ),
    (
        Spec {
            name: "client|reply",
            arity: 3,
            since: "3.2.0",
            summary: "Says whether the connection is sent replies.",
            usage: "<ON | OFF | SKIP>",
            ..ROW
        },
        Handler::Server(reply),
    ),
    (
        Spec {
            name: "client|setinfo",
            arity: 4,
            since: "7.2.0",
            summary: "Sets what is known of the client library behind the connection.",
            usage: "<LIB-NAME libname | LIB-VER libver>",
            tips: EVERY_NODE,
            ..ROW
        },
        Handler::Server(setinfo),
    ),
    (
        Spec {
            name: "client|setname",
            arity: 3,
            since: "2.6.9",
            summary: "Sets the name of the connection.",
            usage: "connection-name",
            tips: EVERY_NODE,
            ..ROW
        },
        Handler::Server(setname),
    ),
    (
        Spec {
            name: "client|unblock",
            arity: -3,
            flags: ADMIN,
            since: "5.0.0",
            summary: "Ends the wait of a client that a blocking command made wait.",
            complexity: "O(log N) where N is the number of client connections",
            usage: "client-id [TIMEOUT | ERROR]",
            ..ROW
        },
        Handler::Server(unblock),
    ),
    (
        Spec {
            name: "client|unpause",
            arity: 2,
            flags: ADMIN.with(Flags::PAUSE_OK),
            since: "6.2.0",
            summary: "Goes on processing the commands of paused clients.",
            complexity: "O(N) where N is the number of paused clients",
            ..ROW
        },
        Handler::Server(unpause),
    ),
];

fn id(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let id = ctx.client.id;
    ctx.client.reply.int(id as i64);
    Ok(Outcome::Done)
}

fn getname(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let client = &mut *ctx.client;
    match client.name.is_empty() {
        true => client.reply.null(),
        false => client.reply.bulk(&client.name),
    }
    Ok(Outcome::Done)
}

fn setname(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let name = ctx.args.get(2);
    check_name(name)?;
    ctx.client.name = name.to_vec();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn setinfo(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let (attribute, value) = (ctx.args.get(2), ctx.args.get(3));
    let field = match attribute {
        word if is(word, "lib-name") => &mut ctx.client.lib_name,
        word if is(word, "lib-ver") => &mut ctx.client.lib_version,
        word => return Err(CmdError::text([b"ERR Unrecognized option '", word, b"'"].concat())),
    };
    if check_name(value).is_err() {
        let reason = b" cannot contain spaces, newlines or special characters.";
        return Err(CmdError::text([b"ERR ", attribute, reason].concat()));
    }
    *field = value.to_vec();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn reply(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let client = &mut *ctx.client;
    match ctx.args.get(2) {
        word if is(word, "on") => {
            client.reply_mode = ReplyMode::On;
            client.reply.ok();
        }
        word if is(word, "off") => client.reply_mode = ReplyMode::Off,
        word if is(word, "skip") => {
            if client.reply_mode != ReplyMode::Off {
                client.reply_mode = ReplyMode::SkipNext;
            }
        }
        _ => return Err(error::SYNTAX),
    }
    Ok(Outcome::Done)
}

/// ON or OFF.
fn switch(word: &[u8]) -> Result<bool, CmdError> {
    match word {
        word if is(word, "on") => Ok(true),
        word if is(word, "off") => Ok(false),
        _ => Err(error::SYNTAX),
    }
}

fn no_evict(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.no_evict = switch(ctx.args.get(2))?;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn no_touch(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.no_touch = switch(ctx.args.get(2))?;
    ctx.server.keyspace.touching = !ctx.client.no_touch;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

// ---- LIST, INFO ----

fn info(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut line = Vec::new();
    let running = Some(Running { argv_bytes: ctx.args.bytes() });
    let tracker = ctx.server.tracking.get(ctx.client.id);
    push_line(&mut line, ctx.client, Around { running, now_ms: ctx.server.now.mono_ms(), tracker });
    ctx.client.reply.verbatim("txt", &line);
    Ok(Outcome::Done)
}

/// Which clients LIST lists.
enum Listed {
    All,
    OfClass(Class),
    WithIds(Vec<i64>),
}

fn parse_list(ctx: &ServerCtx<'_>) -> Result<Listed, CmdError> {
    let option = ctx.args.try_get(2).unwrap_or_default();
    match ctx.args.len() {
        2 => Ok(Listed::All),
        4 if is(option, "type") => Ok(Listed::OfClass(Class::parse(ctx.args.get(3))?)),
        4.. if is(option, "id") => {
            let ids = ctx.args.iter().skip(3).map(|arg| num::parse_i64(arg).ok_or(INVALID_ID));
            Ok(Listed::WithIds(ids.collect::<Result<_, _>>()?))
        }
        _ => Err(error::SYNTAX),
    }
}

/// CLIENT LIST ID with something else.
const INVALID_ID: CmdError = CmdError::new("ERR Invalid client ID");

fn list(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let listed = parse_list(ctx)?;
    let own = Running { argv_bytes: ctx.args.bytes() };
    let now_ms = ctx.server.now.mono_ms();
    let own_id = ctx.client.id;
    let mut clients = open_clients(ctx);
    clients.sort_unstable_by_key(|client| client.id);
    let mut text = Vec::new();
    let mut show = |client: &Client| {
        let running = (client.id == own_id).then_some(own);
        let tracker = ctx.server.tracking.get(client.id);
        push_line(&mut text, client, Around { running, now_ms, tracker });
    };
    match listed {
        Listed::All => clients.into_iter().for_each(&mut show),
        Listed::OfClass(class) => {
            clients.into_iter().filter(|client| Class::of(client) == class).for_each(&mut show);
        }
        // In the order and as often as they were named.
        Listed::WithIds(ids) => ids.iter().for_each(|id| {
            if let Ok(at) = clients.binary_search_by_key(id, |client| client.id as i64) {
                show(clients[at]);
            }
        }),
    }
    ctx.client.reply.verbatim("txt", &text);
    Ok(Outcome::Done)
}

/// All clients, the running one included, without those that are closed at the end of this turn.
fn open_clients<'a>(ctx: &'a ServerCtx<'_>) -> Vec<&'a Client> {
    let others = ctx.server.clients.iter().filter(|client| client.close != Some(Close::Now));
    others.chain(std::iter::once(&*ctx.client)).collect()
}

// ---- KILL ----

/// What a client must be to be killed.
#[derive(Default)]
struct Filter<'a> {
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    class: Option<Class>,
    user: Option<&'a [u8]>,
    id: Option<i64>,
    min_age_s: Option<i64>,
    spares_caller: bool,
}

impl Filter<'_> {
    fn takes(&self, client: &Client, caller: u64, now_ms: u64) -> bool {
        let age_s = (now_ms.saturating_sub(client.created_ms) / 1000) as i64;
        self.addr.is_none_or(|addr| addr == client.peer.addr.as_bytes())
            && self.laddr.is_none_or(|laddr| laddr == client.peer.laddr.as_bytes())
            && self.class.is_none_or(|class| class == Class::of(client))
            && self.user.is_none_or(|name| client.user.as_ref().is_some_and(|user| user.name == name))
            && self.id.is_none_or(|id| id as u64 == client.id)
            && self.min_age_s.is_none_or(|min| age_s >= min)
            && !(self.spares_caller && client.id == caller)
    }
}

fn parse_kill<'a>(ctx: &ServerCtx<'a>) -> Result<Filter<'a>, CmdError> {
    if ctx.args.len() == 3 {
        // The old form names an address and may be the caller's own end.
        return Ok(Filter { addr: Some(ctx.args.get(2)), ..Filter::default() });
    }
    let mut filter = Filter { spares_caller: true, ..Filter::default() };
    let mut cursor = Cursor::new(ctx.args, 2);
    while !cursor.is_done() {
        let word = cursor.take()?;
        let value = cursor.take()?;
        match word {
            word if is(word, "id") => filter.id = Some(parse_id(value)?),
            word if is(word, "maxage") => filter.min_age_s = Some(parse_max_age(value)?),
            word if is(word, "type") => filter.class = Some(Class::parse(value)?),
            word if is(word, "addr") => filter.addr = Some(value),
            word if is(word, "laddr") => filter.laddr = Some(value),
            word if is(word, "user") && ctx.server.acl.user(value).is_some() => filter.user = Some(value),
            word if is(word, "user") => {
                return Err(CmdError::text([b"ERR No such user '", value, b"'"].concat()));
            }
            word if is(word, "skipme") => {
                filter.spares_caller = match value {
                    value if is(value, "yes") => true,
                    value if is(value, "no") => false,
                    _ => return Err(error::SYNTAX),
                };
            }
            _ => return Err(error::SYNTAX),
        }
    }
    Ok(filter)
}

fn parse_id(value: &[u8]) -> Result<i64, CmdError> {
    let wrong = CmdError::new("ERR client-id should be greater than 0");
    num::parse_i64(value).filter(|id| *id > 0).ok_or(wrong)
}

fn parse_max_age(value: &[u8]) -> Result<i64, CmdError> {
    let no_number = CmdError::new("ERR maxage is not an integer or out of range");
    let age = num::parse_i64(value).ok_or(no_number)?;
    if age <= 0 { Err(CmdError::new("ERR maxage should be greater than 0")) } else { Ok(age) }
}

fn kill(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let filter = parse_kill(ctx)?;
    let (caller, now_ms) = (ctx.client.id, ctx.server.now.mono_ms());
    let open = open_clients(ctx);
    let taken = open.into_iter().filter(|client| filter.takes(client, caller, now_ms));
    let taken: Vec<(u64, usize)> = taken.map(|client| (client.id, client.slot)).collect();
    let killed = taken.len();
    if ctx.args.len() == 3 {
        if killed == 0 {
            return Err(CmdError::new("ERR No such client"));
        }
        ctx.client.reply.ok();
    } else {
        ctx.client.reply.len_int(killed);
    }
    for (id, slot) in taken {
        if id == caller {
            ctx.client.close = Some(Close::AfterReply);
        } else {
            ctx.server.close_client(slot, Close::Now);
        }
    }
    Ok(Outcome::Done)
}

// ---- PAUSE, UNBLOCK ----

fn pause(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let all = match ctx.args.try_get(3) {
        None => true,
        Some(word) if is(word, "all") => true,
        Some(word) if is(word, "write") => false,
        Some(_) => return Err(CmdError::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    if ctx.args.len() > 4 {
        return Err(wrong_form(ctx.args.get(1)));
    }
    let no_number = CmdError::new("ERR timeout is not an integer or out of range");
    let ms = num::parse_i64(ctx.args.get(2)).ok_or(no_number)?;
    if ms < 0 {
        return Err(error::TIMEOUT_NEGATIVE);
    }
    let until_ms = ctx.server.now.wall_ms.checked_add(ms).ok_or(error::TIMEOUT_OUT_OF_RANGE)?;
    ctx.server.begin_pause(Pause { all, until_ms });
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn unpause(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.server.end_pause();
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn unblock(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let error = match ctx.args.try_get(3) {
        None => None,
        Some(word) if is(word, "timeout") => None,
        Some(word) if is(word, "error") => Some(&UNBLOCKED),
        Some(_) => return Err(CmdError::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    if ctx.args.len() > 4 {
        return Err(wrong_form(ctx.args.get(1)));
    }
    let id = int(ctx.args.get(2))? as u64;
    let waits =
        |client: &Client| matches!(client.blocked.as_deref(), Some(Blocked::Keys(_) | Blocked::Log(_)));
    let slot = ctx.server.clients.slot_of(id);
    let slot = slot.filter(|slot| ctx.server.clients.get(*slot).is_some_and(waits));
    let unblocked = match slot.and_then(|slot| ctx.server.clients.take(slot)) {
        Some(mut client) => {
            ctx.server.unblock(&mut client, error);
            ctx.server.clients.put(client);
            true
        }
        None => false,
    };
    ctx.client.reply.int(i64::from(unblocked));
    Ok(Outcome::Done)
}

/// The error for a subcommand that exists but not with so many arguments.
fn wrong_form(sub: &[u8]) -> CmdError {
    let sub = &sub[..sub.len().min(128)];
    let behind = b"'. Try CLIENT HELP.";
    CmdError::text([b"ERR unknown subcommand or wrong number of arguments for '", sub, behind].concat())
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "CLIENT",
        &[
            "CACHING (YES|NO)",
            "    Track the keys of the next command, or do not (tracking modes OPTIN and OPTOUT).",
            "GETNAME",
            "    Return the name of this connection.",
            "GETREDIR",
            "    Return the id of the client that gets the invalidations for this connection.",
            "ID",
            "    Return the id of this connection.",
            "INFO",
            "    Return the line of CLIENT LIST for this connection.",
            "KILL <ip:port>",
            "    Close the connection from this address.",
            "KILL <option> <value> [<option> <value> ...]",
            "    Close all connections for which each option holds:",
            "    ADDR <ip:port>, LADDR <ip:port>: the peer's address, the server's address;",
            "    ID <id>, USER <name>, TYPE (NORMAL|MASTER|REPLICA|PUBSUB): what they are;",
            "    MAXAGE <seconds>: connected for at least so long;",
            "    SKIPME (YES|NO): whether this connection is spared (default YES).",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <id> [<id> ...]]",
            "    Return one line for each connection.",
            "NO-EVICT (ON|OFF)",
            "    Spare this connection when connections are closed to free memory.",
            "NO-TOUCH (ON|OFF)",
            "    Commands of this connection leave the age and frequency of keys alone.",
            "PAUSE <milliseconds> [WRITE|ALL]",
            "    Let all commands, or those that write, wait for this time.",
            "REPLY (ON|OFF|SKIP)",
            "    Send replies, send none, or leave out the next one.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Set the name or version of the client library.",
            "SETNAME <name>",
            "    Name this connection; an empty name takes it away.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
            "    Tell this connection, or the one with this id, when keys change that it may have cached.",
            "TRACKINGINFO",
            "    Return how keys are tracked for this connection.",
            "UNBLOCK <id> [TIMEOUT|ERROR]",
            "    End the wait of a client in a blocking command.",
            "UNPAUSE",
            "    End CLIENT PAUSE.",
        ],
    );
    Ok(Outcome::Done)
}
