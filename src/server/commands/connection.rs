//! Connection commands: PING, ECHO, HELLO, AUTH, SELECT, RESET, QUIT.

use crate::command::args::{Cursor, int_in};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Deprecated, Flags, SPEC, Spec};
use crate::command::{Outcome, error::wrong_arity};
use crate::resp::Proto;
use crate::server::client::{Close, ReplyMode};
use crate::server::table::Handler;
use crate::server::{REDIS_VERSION, ServerCtx};

const CONNECTION: Flags =
    Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST).with(Flags::PAUSE_OK);

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "ping",
            arity: -1,
            flags: Flags::FAST.with(Flags::PUBSUB_OK).with(Flags::ASKS_HEALTH),
            acl: Acl::CONNECTION,
            group: "connection",
            summary: "Answers PONG, or the message.",
            usage: "[message]",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..SPEC
        },
        Handler::Server(ping),
    ),
    (
        Spec {
            name: "echo",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
            acl: Acl::CONNECTION,
            group: "connection",
            summary: "Answers the message.",
            usage: "message",
            ..SPEC
        },
        Handler::Server(echo),
    ),
    (
        Spec {
            name: "hello",
            arity: -1,
            flags: CONNECTION.with(Flags::NO_AUTH).with(Flags::ALLOW_BUSY).with(Flags::SENSITIVE),
            acl: Acl::CONNECTION,
            group: "connection",
            since: "6.0.0",
            summary: "Greets the server: protocol version, authentication and name in one request.",
            usage: "[protover [AUTH username password] [SETNAME clientname]]",
            ..SPEC
        },
        Handler::Server(hello),
    ),
    (
        Spec {
            name: "auth",
            arity: -2,
            flags: CONNECTION.with(Flags::NO_AUTH).with(Flags::ALLOW_BUSY).with(Flags::SENSITIVE),
            acl: Acl::CONNECTION,
            group: "connection",
            summary: "Proves who the client is.",
            complexity: "O(N) where N is the number of passwords defined for the user",
            usage: "[username] password",
            ..SPEC
        },
        Handler::Server(auth),
    ),
    (
        Spec {
            name: "select",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
            acl: Acl::CONNECTION,
            group: "connection",
            summary: "Chooses the database of the connection.",
            usage: "index",
            ..SPEC
        },
        Handler::Server(select),
    ),
    (
        Spec {
            name: "reset",
            arity: 1,
            flags: CONNECTION
                .with(Flags::NO_AUTH)
                .with(Flags::ALLOW_BUSY)
                .with(Flags::IMMEDIATE_IN_MULTI)
                .with(Flags::PUBSUB_OK),
            acl: Acl::CONNECTION,
            group: "connection",
            since: "6.2.0",
            summary: "Makes the connection as if it were new.",
            ..SPEC
        },
        Handler::Server(reset),
    ),
    (
        Spec {
            name: "quit",
            arity: -1,
            flags: CONNECTION
                .with(Flags::NO_AUTH)
                .with(Flags::ALLOW_BUSY)
                .with(Flags::IMMEDIATE_IN_MULTI)
                .with(Flags::PUBSUB_OK),
            acl: Acl::CONNECTION,
            group: "connection",
            summary: "Ends the connection after its replies are sent.",
            deprecated: Some(Deprecated { since: "7.2.0", replaced_by: "just closing the connection" }),
            ..SPEC
        },
        Handler::Server(quit),
    ),
];

fn ping(ctx: &mut ServerCtx<'_>) -> CmdResult {
    match ctx.args.len() {
        // Among messages the reply must look like one.
        argc @ 1..=2 if ctx.client.subscriptions.is_some() && ctx.client.reply.proto == Proto::Resp2 => {
            ctx.client.reply.push(2);
            ctx.client.reply.bulk(b"pong");
            ctx.client.reply.bulk(if argc == 1 { b"" } else { ctx.args.get(1) });
        }
        1 => ctx.client.reply.simple("PONG"),
        2 => ctx.client.reply.bulk(ctx.args.get(1)),
        _ => return Err(wrong_arity("ping")),
    }
    Ok(Outcome::Done)
}

fn echo(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.bulk(ctx.args.get(1));
    Ok(Outcome::Done)
}

/// What HELLO asks for.
struct Hello<'a> {
    proto: Option<Proto>,
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn parse_hello<'a>(ctx: &ServerCtx<'a>) -> Result<Hello<'a>, CmdError> {
    let mut hello = Hello { proto: None, auth: None, name: None };
    let mut cursor = Cursor::new(ctx.args, 1);
    if let Some(version) = cursor.peek() {
        let version = crate::util::num::parse_i64(version)
            .ok_or(CmdError::new("ERR Protocol version is not an integer or out of range"))?;
        hello.proto = Some(match version {
            2 => Proto::Resp2,
            3 => Proto::Resp3,
            _ => return Err(error::NO_PROTO),
        });
        cursor.take()?;
    }
    while let Some(word) = cursor.peek() {
        if cursor.left() >= 3 && cursor.word("auth") {
            hello.auth = Some((cursor.take()?, cursor.take()?));
        } else if cursor.left() >= 2 && cursor.word("setname") {
            let name = cursor.take()?;
            check_name(name)?;
            hello.name = Some(name);
        } else {
            let mut text = b"ERR Syntax error in HELLO option '".to_vec();
            text.extend_from_slice(word);
            text.push(b'\'');
            return Err(CmdError::text(text));
        }
    }
    Ok(hello)
}

/// Refuses names that would break the lines of CLIENT LIST.
pub(super) fn check_name(name: &[u8]) -> Result<(), CmdError> {
    if name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(());
    }
    Err(CmdError::new("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn hello(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let hello = parse_hello(ctx)?;
    if let Some((user, password)) = hello.auth {
        ctx.server.authenticate(ctx.client, ctx.args, (user, password))?;
    }
    if !ctx.client.authenticated && ctx.server.must_authenticate() {
        return Err(HELLO_NO_AUTH);
    }
    if let Some(name) = hello.name {
        ctx.client.name = name.to_vec();
    }
    if let Some(proto) = hello.proto {
        ctx.client.reply.proto = proto;
    }
    let id = ctx.client.id as i64;
    let reply = &mut ctx.client.reply;
    reply.map(7);
    reply.bulk_str("server");
    reply.bulk_str("redis");
    reply.bulk_str("version");
    reply.bulk_str(REDIS_VERSION);
    reply.bulk_str("proto");
    reply.int(reply.proto.number() as i64);
    reply.bulk_str("id");
    reply.int(id);
    reply.bulk_str("mode");
    reply.bulk_str("standalone");
    reply.bulk_str("role");
    reply.bulk_str("master");
    reply.bulk_str("modules");
    reply.array(0);
    Ok(Outcome::Done)
}

/// HELLO before authentication.
const HELLO_NO_AUTH: CmdError = CmdError::new(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
     <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
     same time",
);

/// AUTH with a password only where none is set.
const AUTH_WITHOUT_PASSWORD: CmdError = CmdError::new(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
     configuration is correct?",
);

fn auth(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let (user, password): (&[u8], &[u8]) = match ctx.args.len() {
        2 if ctx.server.acl.default_user().nopass => return Err(AUTH_WITHOUT_PASSWORD),
        2 => (b"default", ctx.args.get(1)),
        3 => (ctx.args.get(1), ctx.args.get(2)),
        _ => return Err(error::SYNTAX),
    };
    ctx.server.authenticate(ctx.client, ctx.args, (user, password))?;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn select(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let databases = ctx.server.keyspace.databases() as i64;
    let db = int_in(ctx.args.get(1), 0, databases - 1, error::DB_OUT_OF_RANGE)?;
    ctx.client.db = db as usize;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn reset(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let (server, client) = (&mut *ctx.server, &mut *ctx.client);
    client.multi = None;
    server.watches.unwatch(client);
    server.end_monitoring(client);
    server.end_subscriptions(client);
    server.end_tracking(client);
    server.update_listeners();
    client.db = 0;
    client.name.clear();
    client.no_evict = false;
    client.no_touch = false;
    client.reply_mode = ReplyMode::On;
    server.be_default_user(client);
    client.reply.proto = Proto::Resp2;
    client.reply.simple("RESET");
    Ok(Outcome::Done)
}

fn quit(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.ok();
    ctx.client.close = Some(Close::AfterReply);
    Ok(Outcome::Done)
}
