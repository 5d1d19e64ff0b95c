//! XINFO: what streams, groups and consumers are like, field by field as Redis 7.4 has them.

use super::args::{int, is};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Flags, KeySpec, SPEC, Spec, access, key};
use super::stream::{STREAM, VARYING, reply_entry};
use super::stream_group::{no_such_group, wrong_form};
use super::{Ctx, DataFn, Outcome, of_kind, stream_id};
use crate::keyspace::Key;
use crate::resp::Reply;
use crate::value::stream::{self, Consumer, Group, Id, Pending, Stream};
use crate::value::{Direction, Kind};

const LOOKS: &[KeySpec] = &[key(2, access::RO | access::ACCESS)];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "xinfo",
            arity: -2,
            flags: Flags::CONTAINER,
            group: "stream",
            since: "5.0.0",
            summary: "Looks at streams and consumer groups.",
            complexity: "Depends on subcommand.",
            ..SPEC
        },
        super::container,
    ),
    (
        Spec {
            name: "xinfo|stream",
            arity: -3,
            flags: Flags::READONLY,
            keys: LOOKS,
            summary: "Returns information about a stream.",
            usage: "key [FULL [COUNT count]]",
            history: &[
                ("6.0.0", "Added the `FULL` modifier."),
                (
                    "7.0.0",
                    "Added the `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, \
                     `entries-read` and `lag` fields",
                ),
                ("7.2.0", "Added the `active-time` field, and changed the meaning of `seen-time`."),
            ],
            ..STREAM
        },
        stream_info,
    ),
    (
        Spec {
            name: "xinfo|groups",
            arity: 3,
            flags: Flags::READONLY,
            keys: LOOKS,
            summary: "Returns the consumer groups of a stream.",
            usage: "key",
            history: &[("7.0.0", "Added the `entries-read` and `lag` fields")],
            ..STREAM
        },
        groups,
    ),
    (
        Spec {
            name: "xinfo|consumers",
            arity: 4,
            flags: Flags::READONLY,
            keys: LOOKS,
            summary: "Returns the consumers of a consumer group.",
            usage: "key group",
            tips: VARYING,
            history: &[("7.2.0", "Added the `inactive` field, and changed the meaning of `idle`.")],
            ..STREAM
        },
        consumers,
    ),
    (
        Spec {
            name: "xinfo|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            summary: "Describes the subcommands.",
            ..STREAM
        },
        help,
    ),
];

/// Entries and pending entries shown by FULL unless COUNT is given.
const COUNT: usize = 10;

/// Runs `show` on the stream that argument 2 names.
fn with_stream(
    ctx: &mut Ctx<'_>,
    show: impl FnOnce(&mut Reply, &Stream, Key<'_>) -> Result<(), CmdError>,
) -> CmdResult {
    let key = ctx.key(2);
    let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Stream)?.ok_or(error::NO_SUCH_KEY)?;
    show(ctx.reply, stream::view(&entry), key)?;
    Ok(Outcome::Done)
}

fn stream_info(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let form = wrong_form(ctx);
    with_stream(ctx, |reply, stream, _| {
        let full = match args.len() {
            3 => None,
            4 if is(args.get(3), "FULL") => Some(COUNT),
            6 if is(args.get(3), "FULL") && is(args.get(4), "COUNT") => {
                Some(usize::try_from(int(args.get(5))?).unwrap_or(COUNT))
            }
            _ => return Err(form),
        };
        match full {
            None => summary(reply, stream),
            Some(0) => everything(reply, stream, usize::MAX),
            Some(count) => everything(reply, stream, count),
        }
        Ok(())
    })
}

fn field_id(reply: &mut Reply, name: &str, id: Id) {
    reply.bulk_str(name);
    stream_id::reply(reply, id);
}

fn field_int(reply: &mut Reply, name: &str, n: i64) {
    reply.bulk_str(name);
    reply.int(n);
}

fn field_int_if(reply: &mut Reply, name: &str, n: Option<i64>) {
    reply.bulk_str(name);
    match n {
        Some(n) => reply.int(n),
        None => reply.null(),
    }
}

/// What both forms begin with: seven fields.
fn common(reply: &mut Reply, stream: &Stream) {
    let meta = stream.meta();
    let nodes = stream.nodes_len() as i64;
    field_int(reply, "length", meta.len as i64);
    field_int(reply, "radix-tree-keys", nodes);
    // There is no radix tree here; one has a node for each key and a root at least.
    field_int(reply, "radix-tree-nodes", nodes + 1);
    field_id(reply, "last-generated-id", meta.last_id);
    field_id(reply, "max-deleted-entry-id", meta.max_deleted_id);
    field_int(reply, "entries-added", meta.entries_added as i64);
    field_id(reply, "recorded-first-entry-id", meta.first_id);
}

fn summary(reply: &mut Reply, stream: &Stream) {
    reply.map(10);
    common(reply, stream);
    field_int(reply, "groups", stream.groups().len() as i64);
    for (name, direction) in [("first-entry", Direction::Forward), ("last-entry", Direction::Backward)] {
        reply.bulk_str(name);
        match stream.range(Id::MIN, Id::MAX, direction).next() {
            Some(item) => reply_entry(reply, &item),
            None => reply.null(),
        }
    }
}

fn everything(reply: &mut Reply, stream: &Stream, count: usize) {
    reply.map(9);
    common(reply, stream);
    reply.bulk_str("entries");
    reply.array(count.min(stream.len() as usize));
    for item in stream.range(Id::MIN, Id::MAX, Direction::Forward).take(count) {
        reply_entry(reply, &item);
    }
    reply.bulk_str("groups");
    reply.array(stream.groups().len());
    for group in stream.groups() {
        reply.map(7);
        reply.bulk_str("name");
        reply.bulk(group.name());
        progress(reply, stream, group);
        field_int(reply, "pel-count", group.pending_len() as i64);
        reply.bulk_str("pending");
        reply.array(count.min(group.pending_len()));
        for (id, pending) in group.pending(Id::MIN).take(count) {
            reply.array(4);
            stream_id::reply(reply, id);
            reply.bulk(group.consumer(pending.consumer).name());
            delivery(reply, pending);
        }
        reply.bulk_str("consumers");
        reply.array(group.consumers_len());
        group.consumers().for_each(|consumer| full_consumer(reply, group, consumer, count));
    }
}

/// How far a group has come: three fields.
fn progress(reply: &mut Reply, stream: &Stream, group: &Group) {
    field_id(reply, "last-delivered-id", group.last_id);
    field_int_if(reply, "entries-read", group.entries_read.map(|read| read as i64));
    field_int_if(reply, "lag", stream.meta().lag(group));
}

fn delivery(reply: &mut Reply, pending: &Pending) {
    reply.int(pending.delivered_ms);
    reply.int(pending.deliveries as i64);
}

fn full_consumer(reply: &mut Reply, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(5);
    reply.bulk_str("name");
    reply.bulk(consumer.name());
    field_int(reply, "seen-time", consumer.seen_ms);
    field_int(reply, "active-time", consumer.active_ms.unwrap_or(-1));
    field_int(reply, "pel-count", consumer.pending_len() as i64);
    reply.bulk_str("pending");
    reply.array(count.min(consumer.pending_len()));
    for id in consumer.pending(Id::MIN).take(count) {
        let pending = group.get_pending(id).expect("what is pending for a consumer is so for its group");
        reply.array(3);
        stream_id::reply(reply, id);
        delivery(reply, pending);
    }
}

fn groups(ctx: &mut Ctx<'_>) -> CmdResult {
    with_stream(ctx, |reply, stream, _| {
        reply.array(stream.groups().len());
        for group in stream.groups() {
            reply.map(6);
            reply.bulk_str("name");
            reply.bulk(group.name());
            field_int(reply, "consumers", group.consumers_len() as i64);
            field_int(reply, "pending", group.pending_len() as i64);
            progress(reply, stream, group);
        }
        Ok(())
    })
}

fn consumers(ctx: &mut Ctx<'_>) -> CmdResult {
    let (now_ms, name) = (ctx.now_ms(), ctx.args.get(3));
    with_stream(ctx, |reply, stream, key| {
        let group = stream.group(name).ok_or_else(|| no_such_group(key.bytes, name))?;
        reply.array(group.consumers_len());
        for consumer in group.consumers() {
            reply.map(4);
            reply.bulk_str("name");
            reply.bulk(consumer.name());
            field_int(reply, "pending", consumer.pending_len() as i64);
            field_int(reply, "idle", (now_ms - consumer.seen_ms).max(0));
            field_int(reply, "inactive", consumer.active_ms.map_or(-1, |active_ms| now_ms - active_ms));
        }
        Ok(())
    })
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    super::help(
        ctx.reply,
        "XINFO",
        &[
            "CONSUMERS <key> <groupname>",
            "    Show the consumers of a group.",
            "GROUPS <key>",
            "    Show the groups of a stream.",
            "STREAM <key> [FULL [COUNT <count>]]",
            "    Show a stream: figures, or with FULL all about its entries and groups.",
        ],
    );
    Ok(Outcome::Done)
}
