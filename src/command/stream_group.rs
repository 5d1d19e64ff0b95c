//! Consumer groups: XGROUP, XACK and XPENDING.

use super::args::{Cursor, int, is};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Flags, SPEC, Spec, access, key};
use super::stream::{STREAM, VARYING, WRITES_FAST, noted};
use super::{Ctx, DataFn, Outcome, of_kind, stream_id};
use crate::keyspace::change::{Event, class};
use crate::resp::{OwnedArgs, Reply};
use crate::value::Kind;
use crate::value::stream::{self, Group, Id, Pending, Stream};

const CREATE: Event = Event::new(class::STREAM, "xgroup-create");
const SETID: Event = Event::new(class::STREAM, "xgroup-setid");
const DESTROY: Event = Event::new(class::STREAM, "xgroup-destroy");
const DELETE_CONSUMER: Event = Event::new(class::STREAM, "xgroup-delconsumer");
/// A consumer is new.
pub(super) const CREATE_CONSUMER: Event = Event::new(class::STREAM, "xgroup-createconsumer");

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "xgroup",
            arity: -2,
            flags: Flags::CONTAINER,
            group: "stream",
            since: "5.0.0",
            summary: "Manages consumer groups.",
            complexity: "Depends on subcommand.",
            ..SPEC
        },
        super::container,
    ),
    (
        Spec {
            name: "xgroup|create",
            arity: -5,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            keys: &[key(2, access::RW | access::INSERT)],
            summary: "Creates a consumer group.",
            usage: "key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]",
            history: &[("7.0.0", "Added the `entries_read` named argument.")],
            ..STREAM
        },
        create,
    ),
    (
        Spec {
            name: "xgroup|setid",
            arity: -5,
            flags: Flags::WRITE,
            keys: &[key(2, access::RW | access::UPDATE)],
            summary: "Sets the last-delivered ID of a consumer group.",
            usage: "key group <id | $> [ENTRIESREAD entries-read]",
            history: &[("7.0.0", "Added the optional `entries_read` argument.")],
            ..STREAM
        },
        set_id,
    ),
    (
        Spec {
            name: "xgroup|destroy",
            arity: 4,
            flags: Flags::WRITE,
            keys: &[key(2, access::RW | access::DELETE)],
            summary: "Destroys a consumer group.",
            complexity: "O(N) where N is the number of entries in the group's pending entries list (PEL).",
            usage: "key group",
            ..STREAM
        },
        destroy,
    ),
    (
        Spec {
            name: "xgroup|createconsumer",
            arity: 5,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            keys: &[key(2, access::RW | access::INSERT)],
            since: "6.2.0",
            summary: "Creates a consumer in a consumer group.",
            usage: "key group consumer",
            ..STREAM
        },
        create_consumer,
    ),
    (
        Spec {
            name: "xgroup|delconsumer",
            arity: 5,
            flags: Flags::WRITE,
            keys: &[key(2, access::RW | access::DELETE)],
            summary: "Deletes a consumer from a consumer group.",
            usage: "key group consumer",
            ..STREAM
        },
        delete_consumer,
    ),
    (
        Spec {
            name: "xgroup|help",
            arity: 2,
            flags: Flags::LOADING.with(Flags::STALE),
            summary: "Describes the subcommands.",
            ..STREAM
        },
        help,
    ),
    (
        Spec {
            name: "xack",
            arity: -4,
            flags: WRITES_FAST,
            keys: &[key(1, access::RW | access::UPDATE)],
            summary: "Takes entries off the pending ones of a group and returns how many there were.",
            complexity: "O(1) for each ID.",
            usage: "key group id [id ...]",
            ..STREAM
        },
        xack,
    ),
    (
        Spec {
            name: "xpending",
            arity: -3,
            flags: Flags::READONLY,
            keys: &[key(1, access::RO | access::ACCESS)],
            summary: "Returns figures or entries of a group's pending entries list.",
            complexity: "O(N) for N entries returned, O(M) for M entries looked at with IDLE; of figures \
                         only, O(N) for N consumers.",
            usage: "key group [[IDLE min-idle-time] start end count [consumer]]",
            tips: VARYING,
            history: &[("6.2.0", "Added the `IDLE` option and exclusive range intervals.")],
            ..STREAM
        },
        xpending,
    ),
];

// ---- what the group commands share ----

/// The error when a key or a group of it is not there.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> CmdError {
    CmdError::text([b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"].concat())
}

/// The same where the key is known to be there.
pub(super) fn no_such_group(key: &[u8], group: &[u8]) -> CmdError {
    CmdError::text([b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"].concat())
}

/// The error for a subcommand that exists but does not go like this.
pub(super) fn wrong_form(ctx: &Ctx<'_>) -> CmdError {
    let (command, sub) = (ctx.args.get(0).to_ascii_uppercase(), ctx.args.get(1));
    let sub = &sub[..sub.len().min(128)];
    let parts = [
        &b"ERR unknown subcommand or wrong number of arguments for '"[..],
        sub,
        b"'. Try ",
        &command,
        b" HELP.",
    ];
    CmdError::text(parts.concat())
}

/// What repeats how far a group has come.
pub(super) fn set_id_effect(key: &[u8], group: &Group) -> OwnedArgs {
    let mut digits = itoa::Buffer::new();
    let read = group.entries_read.map_or(-1, |read| read as i64);
    OwnedArgs::from_slices(&[
        b"XGROUP",
        b"SETID",
        key,
        group.name(),
        &group.last_id.text(),
        b"ENTRIESREAD",
        digits.format(read).as_bytes(),
    ])
}

// ---- XGROUP ----

const NO_KEY: CmdError = CmdError::new(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
     MKSTREAM option to create an empty stream automatically.",
);
const BUSY_GROUP: CmdError = CmdError::new("BUSYGROUP Consumer Group name already exists");
const NEGATIVE_READ: CmdError = CmdError::new("ERR value for ENTRIESREAD must be positive or -1");

/// Runs `act` on the group that the arguments name.
fn with_group<T>(
    ctx: &mut Ctx<'_>,
    act: impl FnOnce(&mut Group, Id) -> Result<T, CmdError>,
) -> Result<T, CmdError> {
    let (key, name) = (ctx.key(2), ctx.args.get(3));
    let mut entry = of_kind(ctx.ks.write(ctx.db, key), Kind::Stream)?.ok_or(NO_KEY)?;
    let stream = stream::view_mut(&mut entry);
    let last_id = stream.meta().last_id;
    let group = stream.group_mut(name).ok_or_else(|| no_such_group(key.bytes, name))?;
    act(group, last_id)
}

/// Which options there may be; the number is that of all arguments at most.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// ENTRIESREAD.
    OnlyCounter = 7,
    /// MKSTREAM, too.
    Mkstream = 8,
}

/// Reads the options of CREATE and SETID: whether there is MKSTREAM, and ENTRIESREAD.
fn create_options(ctx: &Ctx<'_>, allowed: Allowed) -> Result<(bool, Option<u64>), CmdError> {
    let (mut mkstream, mut entries_read) = (false, None);
    if ctx.args.len() > allowed as usize {
        return Err(wrong_form(ctx));
    }
    let mut options = Cursor::new(ctx.args, 5);
    while !options.is_done() {
        if allowed == Allowed::Mkstream && options.word("MKSTREAM") {
            mkstream = true;
        } else if options.left() > 1 && options.word("ENTRIESREAD") {
            entries_read = match options.int()? {
                -1 => None,
                read => Some(u64::try_from(read).map_err(|_| NEGATIVE_READ)?),
            };
        } else {
            return Err(wrong_form(ctx));
        }
    }
    Ok((mkstream, entries_read))
}

fn create(ctx: &mut Ctx<'_>) -> CmdResult {
    let (mkstream, entries_read) = create_options(ctx, Allowed::Mkstream)?;
    let (key, name, id) = (ctx.key(2), ctx.args.get(3), ctx.args.get(4));
    let parse = |last_id| if id == b"$" { Ok(last_id) } else { stream_id::strict(id, 0) };
    if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Stream)? {
        let stream = stream::view_mut(&mut entry);
        let id = parse(stream.meta().last_id)?;
        stream.create_group(name, id, entries_read).ok_or(BUSY_GROUP)?;
    } else if mkstream {
        let mut stream = Stream::default();
        stream.create_group(name, parse(Id::MIN)?, entries_read);
        ctx.ks.insert(ctx.db, key, Kind::Stream, stream::payload(stream), None);
        ctx.ks.modified(ctx.db, key.bytes);
    } else {
        return Err(NO_KEY);
    }
    ctx.reply.ok();
    noted(ctx.ks, ctx.db, key.bytes, CREATE);
    Ok(Outcome::Done)
}

fn set_id(ctx: &mut Ctx<'_>) -> CmdResult {
    let (_, entries_read) = create_options(ctx, Allowed::OnlyCounter)?;
    let id = ctx.args.get(4);
    with_group(ctx, |group, last_id| {
        group.last_id = if id == b"$" { last_id } else { stream_id::any(id, 0)? };
        group.entries_read = entries_read;
        Ok(())
    })?;
    ctx.reply.ok();
    noted(ctx.ks, ctx.db, ctx.args.get(2), SETID);
    Ok(Outcome::Done)
}

fn destroy(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, name) = (ctx.key(2), ctx.args.get(3));
    let mut entry = of_kind(ctx.ks.write(ctx.db, key), Kind::Stream)?.ok_or(NO_KEY)?;
    let removed = stream::view_mut(&mut entry).remove_group(name);
    drop(entry);
    ctx.reply.int(i64::from(removed.is_some()));
    if removed.is_some() {
        // Who waits to read for the group has to look again: so this is a change of the key.
        ctx.ks.changed(ctx.db, key.bytes, DESTROY);
    }
    Ok(Outcome::Done)
}

fn create_consumer(ctx: &mut Ctx<'_>) -> CmdResult {
    let (now_ms, name) = (ctx.now_ms(), ctx.args.get(4));
    let created = with_group(ctx, |group, _| Ok(group.create_consumer(name, now_ms).is_some()))?;
    ctx.reply.int(i64::from(created));
    if created {
        noted(ctx.ks, ctx.db, ctx.args.get(2), CREATE_CONSUMER);
    }
    Ok(Outcome::Done)
}

fn delete_consumer(ctx: &mut Ctx<'_>) -> CmdResult {
    let name = ctx.args.get(4);
    let removed = with_group(ctx, |group, _| {
        let consumer = group.find_consumer(name);
        Ok(consumer.map(|consumer| group.remove_consumer(consumer)))
    })?;
    ctx.reply.len_int(removed.unwrap_or(0));
    if removed.is_some() {
        noted(ctx.ks, ctx.db, ctx.args.get(2), DELETE_CONSUMER);
    }
    Ok(Outcome::Done)
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    super::help(
        ctx.reply,
        "XGROUP",
        &[
            "CREATE <key> <groupname> <id|$> [option]",
            "    Create a group that begins behind an ID, or behind the last one ($). Options:",
            "    * MKSTREAM",
            "      Create the stream, empty, if there is none.",
            "    * ENTRIESREAD entries_read",
            "      The number of entries the group has read (internal use).",
            "CREATECONSUMER <key> <groupname> <consumer>",
            "    Create a consumer in a group.",
            "DELCONSUMER <key> <groupname> <consumer>",
            "    Remove a consumer with what is pending for it.",
            "DESTROY <key> <groupname>",
            "    Remove a group.",
            "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
            "    Set the ID behind which a group goes on, and its number of entries read.",
        ],
    );
    Ok(Outcome::Done)
}

// ---- XACK ----

fn xack(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.key(1));
    let mut entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Stream)?;
    let group = entry.as_deref_mut().and_then(|entry| stream::view_mut(entry).group_mut(args.get(2)));
    let Some(group) = group else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    let ids = (3..args.len()).map(|i| stream_id::strict(args.get(i), 0)).collect::<Result<Vec<_>, _>>()?;
    let taken = ids.into_iter().filter(|id| group.acknowledge(*id).is_some()).count();
    drop(entry);
    ctx.ks.changes.dirty += taken as u64;
    ctx.reply.len_int(taken);
    Ok(Outcome::Done)
}

// ---- XPENDING ----

/// Which pending entries are asked for.
struct Selection<'a> {
    min_idle_ms: i64,
    start: Id,
    end: Id,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Selection<'a> {
    fn parse(ctx: &Ctx<'a>) -> Result<Selection<'a>, CmdError> {
        let args = ctx.args;
        if !(6..=9).contains(&args.len()) {
            return Err(error::SYNTAX);
        }
        let (mut at, mut min_idle_ms) = (3, 0);
        if is(args.get(3), "IDLE") {
            min_idle_ms = int(args.get(4))?;
            if args.len() < 8 {
                return Err(error::SYNTAX);
            }
            at += 2;
        }
        let count = int(args.get(at + 2))?.max(0) as usize;
        let (start, end) = (stream_id::start(args.get(at))?, stream_id::end(args.get(at + 1))?);
        Ok(Selection { min_idle_ms, start, end, count, consumer: args.try_get(at + 3) })
    }
}

fn xpending(ctx: &mut Ctx<'_>) -> CmdResult {
    let selection = match ctx.args.len() {
        3 => None,
        _ => Some(Selection::parse(ctx)?),
    };
    let (key, name, now_ms) = (ctx.key(1), ctx.args.get(2), ctx.now_ms());
    let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::Stream)?;
    let group = entry.as_deref().and_then(|entry| stream::view(entry).group(name));
    let group = group.ok_or_else(|| no_group(key.bytes, name))?;
    let reply = &mut *ctx.reply;
    let Some(selection) = selection else {
        reply.array(4);
        reply.len_int(group.pending_len());
        let Some((first, last)) = group.pending_bounds() else {
            reply.null();
            reply.null();
            reply.null_array();
            return Ok(Outcome::Done);
        };
        stream_id::reply(reply, first);
        stream_id::reply(reply, last);
        let busy = || group.consumers().filter(|consumer| consumer.pending_len() > 0);
        reply.array(busy().count());
        for consumer in busy() {
            reply.array(2);
            reply.bulk(consumer.name());
            reply.bulk_int(consumer.pending_len() as i64);
        }
        return Ok(Outcome::Done);
    };
    reply_selection(reply, group, &selection, now_ms);
    Ok(Outcome::Done)
}

fn reply_selection(reply: &mut Reply, group: &Group, selection: &Selection<'_>, now_ms: i64) {
    let chosen = |(id, pending): (Id, &Pending)| {
        let idle = now_ms.saturating_sub(pending.delivered_ms);
        (selection.min_idle_ms == 0 || idle >= selection.min_idle_ms).then_some((id, *pending, idle.max(0)))
    };
    let consumer = match selection.consumer.map(|name| group.find_consumer(name)) {
        None => None,
        Some(Some(consumer)) => Some(group.consumer(consumer)),
        Some(None) => return reply.array(0),
    };
    let rows: Vec<_> = match consumer {
        None => group
            .pending(selection.start)
            .take_while(|(id, _)| *id <= selection.end)
            .filter_map(chosen)
            .take(selection.count)
            .collect(),
        Some(consumer) => consumer
            .pending(selection.start)
            .take_while(|id| *id <= selection.end)
            .filter_map(|id| chosen((id, group.get_pending(id)?)))
            .take(selection.count)
            .collect(),
    };
    reply.array(rows.len());
    for (id, pending, idle_ms) in rows {
        reply.array(4);
        stream_id::reply(reply, id);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.int(idle_ms);
        reply.int(pending.deliveries as i64);
    }
}
