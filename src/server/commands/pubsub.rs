//! Publish/subscribe: SUBSCRIBE and its kin, PUBLISH, PUBSUB. Who listens to what is kept in `pubsub/`; how
//! messages reach their receivers is in `server/push.rs`.

use crate::command::Outcome;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Acl, Channels, Flags, KeySpec, SPEC, Spec, access, key, range};
use crate::pubsub::Kind;
use crate::server::ServerCtx;
use crate::server::gate::bit;
use crate::server::table::Handler;

const LISTEN: Flags = Flags::PUBSUB
    .with(Flags::NOSCRIPT)
    .with(Flags::LOADING)
    .with(Flags::STALE)
    .with(Flags::PUBSUB_OK)
    .with(Flags::PUSH_REPLY);
const SEND: Flags =
    Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST).with(Flags::MAY_REPLICATE);
const ASK: Flags = Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE);
const ROW: Spec = Spec { flags: ASK, group: "pubsub", since: "2.8.0", ..SPEC };
/// Shard channels are routed in a cluster as keys are, but are none.
const SHARD_CHANNELS: &[KeySpec] = &[range(1, -1, 1, access::NOT_KEY)];

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "subscribe",
            arity: -2,
            flags: LISTEN,
            channels: Channels::All,
            since: "2.0.0",
            summary: "Lets the connection receive what is published to these channels.",
            complexity: "O(N) where N is the number of channels to subscribe to.",
            usage: "channel [channel ...]",
            ..ROW
        },
        Handler::Server(|ctx| subscribe(ctx, Kind::Channel)),
    ),
    (
        Spec {
            name: "psubscribe",
            arity: -2,
            flags: LISTEN,
            channels: Channels::Patterns,
            since: "2.0.0",
            summary: "Lets the connection receive what is published to channels that match these patterns.",
            complexity: "O(N) where N is the number of patterns to subscribe to.",
            usage: "pattern [pattern ...]",
            ..ROW
        },
        Handler::Server(|ctx| subscribe(ctx, Kind::Pattern)),
    ),
    (
        Spec {
            name: "ssubscribe",
            arity: -2,
            flags: LISTEN,
            keys: SHARD_CHANNELS,
            channels: Channels::All,
            since: "7.0.0",
            summary: "Lets the connection receive what is published to these shard channels.",
            complexity: "O(N) where N is the number of shard channels to subscribe to.",
            usage: "shardchannel [shardchannel ...]",
            ..ROW
        },
        Handler::Server(|ctx| subscribe(ctx, Kind::Shard)),
    ),
    (
        Spec {
            name: "unsubscribe",
            arity: -1,
            flags: LISTEN,
            since: "2.0.0",
            summary: "Ends subscriptions to these channels, or to all.",
            complexity: "O(N) where N is the number of channels to unsubscribe.",
            usage: "[channel [channel ...]]",
            ..ROW
        },
        Handler::Server(|ctx| unsubscribe(ctx, Kind::Channel)),
    ),
    (
        Spec {
            name: "punsubscribe",
            arity: -1,
            flags: LISTEN,
            since: "2.0.0",
            summary: "Ends subscriptions to these patterns, or to all.",
            complexity: "O(N) where N is the number of patterns to unsubscribe.",
            usage: "[pattern [pattern ...]]",
            ..ROW
        },
        Handler::Server(|ctx| unsubscribe(ctx, Kind::Pattern)),
    ),
    (
        Spec {
            name: "sunsubscribe",
            arity: -1,
            flags: LISTEN,
            keys: SHARD_CHANNELS,
            since: "7.0.0",
            summary: "Ends subscriptions to these shard channels, or to all.",
            complexity: "O(N) where N is the number of shard channels to unsubscribe.",
            usage: "[shardchannel [shardchannel ...]]",
            ..ROW
        },
        Handler::Server(|ctx| unsubscribe(ctx, Kind::Shard)),
    ),
    (
        Spec {
            name: "publish",
            arity: 3,
            flags: SEND,
            channels: Channels::First,
            since: "2.0.0",
            summary: "Sends a message to the subscribers of a channel.",
            complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M \
                         is the total number of subscribed patterns (by any client).",
            usage: "channel message",
            ..ROW
        },
        Handler::Server(|ctx| publish(ctx, Kind::Channel)),
    ),
    (
        Spec {
            name: "spublish",
            arity: 3,
            flags: SEND,
            keys: &[key(1, access::NOT_KEY)],
            channels: Channels::First,
            since: "7.0.0",
            summary: "Sends a message to the subscribers of a shard channel.",
            complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
            usage: "shardchannel message",
            ..ROW
        },
        Handler::Server(|ctx| publish(ctx, Kind::Shard)),
    ),
    (
        Spec {
            name: "pubsub",
            arity: -2,
            flags: Flags::CONTAINER,
            summary: "Commands about publish/subscribe.",
            complexity: "Depends on subcommand.",
            ..ROW
        },
        Handler::Container,
    ),
    (
        Spec {
            name: "pubsub|channels",
            arity: -2,
            summary: "Tells the channels that have subscribers.",
            complexity: "O(N) where N is the number of active channels, and assuming constant time pattern \
                         matching (relatively short channels and patterns)",
            usage: "[pattern]",
            ..ROW
        },
        Handler::Server(|ctx| channels(ctx, Kind::Channel)),
    ),
    (
        Spec {
            name: "pubsub|numpat",
            arity: 2,
            summary: "Counts the patterns that have subscribers.",
            ..ROW
        },
        Handler::Server(numpat),
    ),
    (
        Spec {
            name: "pubsub|numsub",
            arity: -2,
            summary: "Counts the subscribers of channels.",
            complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
            usage: "[channel [channel ...]]",
            ..ROW
        },
        Handler::Server(|ctx| numsub(ctx, Kind::Channel)),
    ),
    (
        Spec {
            name: "pubsub|shardchannels",
            arity: -2,
            since: "7.0.0",
            summary: "Tells the shard channels that have subscribers.",
            complexity: "O(N) where N is the number of active shard channels, and assuming constant time \
                         pattern matching (relatively short shard channels).",
            usage: "[pattern]",
            ..ROW
        },
        Handler::Server(|ctx| channels(ctx, Kind::Shard)),
    ),
    (
        Spec {
            name: "pubsub|shardnumsub",
            arity: -2,
            since: "7.0.0",
            summary: "Counts the subscribers of shard channels.",
            complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard \
                         channels",
            usage: "[shardchannel [shardchannel ...]]",
            ..ROW
        },
        Handler::Server(|ctx| numsub(ctx, Kind::Shard)),
    ),
    (
        Spec {
            name: "pubsub|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            acl: Acl(0),
            since: "6.2.0",
            summary: "Explains the subcommands.",
            ..ROW
        },
        Handler::Server(help),
    ),
];

/// The words of the replies to subscribing and unsubscribing.
fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Channel => ("subscribe", "unsubscribe"),
        Kind::Pattern => ("psubscribe", "punsubscribe"),
        Kind::Shard => ("ssubscribe", "sunsubscribe"),
    }
}

/// SSUBSCRIBE where each command has one reply.
const NOT_HERE: CmdError = CmdError::new("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");

fn subscribe(ctx: &mut ServerCtx<'_>, kind: Kind) -> CmdResult {
    // The older commands are allowed in transactions, as they have always been.
    if kind == Kind::Shard && ctx.server.unit.no_waiting {
        return Err(NOT_HERE);
    }
    let (client, registry) = (&mut *ctx.client, &mut ctx.server.pubsub);
    let own = client.subscriptions.get_or_insert_default();
    for name in ctx.args.iter().skip(1) {
        registry.subscribe(own, client.slot, kind, name);
        client.reply.push(3);
        client.reply.bulk_str(words(kind).0);
        client.reply.bulk(name);
        client.reply.len_int(own.count_shown(kind));
    }
    client.set_gate(bit::SUBSCRIBED, true);
    ctx.server.update_listeners();
    Ok(Outcome::Done)
}

fn unsubscribe(ctx: &mut ServerCtx<'_>, kind: Kind) -> CmdResult {
    let (client, registry) = (&mut *ctx.client, &mut ctx.server.pubsub);
    let own = client.subscriptions.get_or_insert_default();
    let mut confirm = |name: Option<&[u8]>, count: usize| {
        client.reply.push(3);
        client.reply.bulk_str(words(kind).1);
        match name {
            Some(name) => client.reply.bulk(name),
            None => client.reply.null(),
        }
        client.reply.len_int(count);
    };
    if ctx.args.len() > 1 {
        for name in ctx.args.iter().skip(1) {
            registry.unsubscribe(own, client.slot, kind, name);
            confirm(Some(name), own.count_shown(kind));
        }
    } else if own.len(kind) == 0 {
        confirm(None, own.count_shown(kind));
    } else {
        let names: Vec<_> = own.iter(kind).cloned().collect();
        for name in names {
            registry.unsubscribe(own, client.slot, kind, &name);
            confirm(Some(&name), own.count_shown(kind));
        }
    }
    if own.is_empty() {
        client.subscriptions = None;
        client.set_gate(bit::SUBSCRIBED, false);
    }
    ctx.server.update_listeners();
    Ok(Outcome::Done)
}

fn publish(ctx: &mut ServerCtx<'_>, kind: Kind) -> CmdResult {
    if !ctx.server.keyspace.changes.is_empty() {
        // Who listens sees the events of a transaction or script and its messages in their order.
        ctx.server.tell_changes();
    }
    let receivers = ctx.server.publish(kind, ctx.args.get(1), ctx.args.get(2));
    ctx.client.reply.len_int(receivers);
    Ok(Outcome::Done)
}

fn channels(ctx: &mut ServerCtx<'_>, kind: Kind) -> CmdResult {
    if ctx.args.len() > 3 {
        return Err(wrong_form(ctx.args.get(1)));
    }
    let names = ctx.server.pubsub.active(kind, ctx.args.try_get(2));
    ctx.client.reply.array(names.len());
    names.iter().for_each(|name| ctx.client.reply.bulk(name));
    Ok(Outcome::Done)
}

/// The error for a subcommand that exists but not with so many arguments.
fn wrong_form(sub: &[u8]) -> CmdError {
    let sub = &sub[..sub.len().min(128)];
    let behind = b"'. Try PUBSUB HELP.";
    CmdError::text([b"ERR unknown subcommand or wrong number of arguments for '", sub, behind].concat())
}

fn numpat(ctx: &mut ServerCtx<'_>) -> CmdResult {
    ctx.client.reply.len_int(ctx.server.pubsub.len(Kind::Pattern));
    Ok(Outcome::Done)
}

fn numsub(ctx: &mut ServerCtx<'_>, kind: Kind) -> CmdResult {
    ctx.client.reply.array(2 * (ctx.args.len() - 2));
    for name in ctx.args.iter().skip(2) {
        ctx.client.reply.bulk(name);
        ctx.client.reply.len_int(ctx.server.pubsub.subscribers(kind, name));
    }
    Ok(Outcome::Done)
}

fn help(ctx: &mut ServerCtx<'_>) -> CmdResult {
    super::help(
        ctx,
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    Return the channels that have subscribers, all or those that match the pattern.",
            "NUMPAT",
            "    Return the number of patterns that have subscribers.",
            "NUMSUB [<channel> ...]",
            "    Return each channel with its number of subscribers; patterns do not count.",
            "SHARDCHANNELS [<pattern>]",
            "    Return the shard channels that have subscribers.",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Return each shard channel with its number of subscribers.",
        ],
    );
    Ok(Outcome::Done)
}
