//! XCLAIM and XAUTOCLAIM: pending entries change hands. Both propagate as the XCLAIMs, one for each entry,
//! that have the same effect whatever the time is.

use super::args::{Cursor, int, int_in};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Spec, access, key};
use super::stream::{STREAM, VARYING, WRITES_FAST, noted, reply_entry};
use super::stream_group::{CREATE_CONSUMER, no_group, set_id_effect};
use super::{Ctx, DataFn, Outcome, Propagate, of_kind, stream_id};
use crate::resp::OwnedArgs;
use crate::value::Kind;
use crate::value::stream::{self, ConsumerId, Deliveries, Group, Id, Pending};
use std::ops::Bound;

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "xclaim",
            arity: -6,
            flags: WRITES_FAST,
            keys: &[key(1, access::RW | access::UPDATE)],
            summary: "Gives pending entries of a group to a consumer, as if it had been delivered them.",
            complexity: "O(log N) for each entry, with N being the number of pending entries of the group.",
            usage: "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] \
                    [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
            tips: VARYING,
            ..STREAM
        },
        xclaim,
    ),
    (
        Spec {
            name: "xautoclaim",
            arity: -6,
            flags: WRITES_FAST,
            keys: &[key(1, access::RW | access::DELETE)],
            since: "6.2.0",
            summary: "Gives entries of a group that have been pending for long to a consumer.",
            complexity: "O(1) if COUNT is small.",
            usage: "key group consumer min-idle-time start [COUNT count] [JUSTID]",
            tips: VARYING,
            history: &[(
                "7.0.0",
                "Added an element to the reply array, containing deleted entries the command cleared \
                 from the PEL",
            )],
            ..STREAM
        },
        xautoclaim,
    ),
];

/// The claim that repeats what became of a pending entry.
pub(super) fn claim_effect(key: &[u8], group: &Group, id: &[u8], pending: &Pending) -> OwnedArgs {
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    OwnedArgs::from_slices(&[
        b"XCLAIM",
        key,
        group.name(),
        group.consumer(pending.consumer).name(),
        b"0",
        id,
        b"TIME",
        time.format(pending.delivered_ms).as_bytes(),
        b"RETRYCOUNT",
        count.format(pending.deliveries).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        &group.last_id.text(),
    ])
}

/// The consumer of this name, which was seen now; and whether it is new.
pub(super) fn consumer_now(group: &mut Group, name: &[u8], now_ms: i64) -> (ConsumerId, bool) {
    match group.create_consumer(name, now_ms) {
        Some(new) => (new, true),
        None => {
            let old = group.find_consumer(name).expect("the name is taken");
            group.consumer_mut(old).seen_ms = now_ms;
            (old, false)
        }
    }
}

/// Whether an entry was delivered too short a time ago.
fn is_too_fresh(pending: &Pending, min_idle_ms: i64, now_ms: i64) -> bool {
    min_idle_ms > 0 && now_ms.saturating_sub(pending.delivered_ms) < min_idle_ms
}

/// What both commands report when they are done. Nothing but the effects is propagated.
fn report(ctx: &mut Ctx<'_>, new_consumer: bool, dirty: u64, effects: Vec<OwnedArgs>) {
    if new_consumer {
        noted(ctx.ks, ctx.db, ctx.args.get(1), CREATE_CONSUMER);
    }
    ctx.ks.changes.dirty += dirty;
    ctx.propagate = Propagate::As(effects);
}

/// The error when key or group is not there.
fn require_group(ctx: &mut Ctx<'_>) -> Result<(), CmdError> {
    let (key, group) = (ctx.key(1), ctx.args.get(2));
    let found = of_kind(ctx.ks.read(ctx.db, key), Kind::Stream)?;
    match found.is_some_and(|entry| stream::view(&entry).group(group).is_some()) {
        true => Ok(()),
        false => Err(no_group(key.bytes, group)),
    }
}

// ---- XCLAIM ----

const INVALID_MIN_IDLE: CmdError = CmdError::new("ERR Invalid min-idle-time argument for XCLAIM");
const INVALID_IDLE: CmdError = CmdError::new("ERR Invalid IDLE option argument for XCLAIM");
const INVALID_TIME: CmdError = CmdError::new("ERR Invalid TIME option argument for XCLAIM");
const INVALID_RETRYCOUNT: CmdError = CmdError::new("ERR Invalid RETRYCOUNT option argument for XCLAIM");

/// The arguments of XCLAIM.
struct Claim {
    min_idle_ms: i64,
    /// IDs, the first one at argument 5.
    ids: Vec<Id>,
    delivered_ms: i64,
    deliveries: Deliveries,
    force: bool,
    just_id: bool,
    last_id: Id,
}

impl Claim {
    fn parse(ctx: &Ctx<'_>) -> Result<Claim, CmdError> {
        let now_ms = ctx.now_ms();
        let min_idle_ms = int(ctx.args.get(4)).map_err(|_| INVALID_MIN_IDLE)?.max(0);
        let ids: Vec<Id> =
            (5..ctx.args.len()).map_while(|i| stream_id::strict(ctx.args.get(i), 0).ok()).collect();
        let (mut time, mut retries) = (None, None);
        let (mut force, mut just_id, mut last_id) = (false, false, Id::MIN);
        let mut options = Cursor::new(ctx.args, 5 + ids.len());
        while let Some(option) = options.peek() {
            let more = options.left() > 1;
            if options.word("FORCE") {
                force = true;
            } else if options.word("JUSTID") {
                just_id = true;
            } else if more && options.word("IDLE") {
                time = Some(now_ms.wrapping_sub(options.int().map_err(|_| INVALID_IDLE)?));
            } else if more && options.word("TIME") {
                time = Some(options.int().map_err(|_| INVALID_TIME)?);
            } else if more && options.word("RETRYCOUNT") {
                retries = u64::try_from(options.int().map_err(|_| INVALID_RETRYCOUNT)?).ok();
            } else if more && options.word("LASTID") {
                last_id = stream_id::strict(options.take()?, 0)?;
            } else {
                let text = [b"ERR Unrecognized XCLAIM option '", option, b"'"].concat();
                return Err(CmdError::text(text));
            }
        }
        let deliveries = match retries {
            Some(n) => Deliveries::Set(n),
            None if just_id => Deliveries::Keep,
            None => Deliveries::Count,
        };
        // A time that cannot be is taken for now: clocks of clients differ.
        let delivered_ms = time.filter(|time| (0..=now_ms).contains(time)).unwrap_or(now_ms);
        Ok(Claim { min_idle_ms, ids, delivered_ms, deliveries, force, just_id, last_id })
    }
}

fn xclaim(ctx: &mut Ctx<'_>) -> CmdResult {
    require_group(ctx)?;
    let claim = Claim::parse(ctx)?;
    let (args, now_ms, propagating) = (ctx.args, ctx.now_ms(), ctx.propagating());
    let (key, group_name) = (ctx.key(1), args.get(2));
    let mut entry = ctx.ks.write(ctx.db, key).expect("the key was just there");
    let stream = stream::view_mut(&mut entry);
    let group = stream.group_mut(group_name).expect("the group was just there");
    let (mut dirty, mut effects) = (0, Vec::new());
    let mut last_id_moved = claim.last_id > group.last_id;
    if last_id_moved {
        group.last_id = claim.last_id;
    }
    let (consumer, is_new) = consumer_now(group, args.get(3), now_ms);
    let mark = ctx.reply.mark();
    let mut claimed = 0;
    for (i, id) in claim.ids.iter().enumerate() {
        let exists = stream.get(*id).is_some();
        let group = stream.group_mut(group_name).expect("the group was just there");
        let old = group.get_pending(*id).copied();
        let touched = if !exists {
            // What is no longer in the stream is nobody's any more.
            group.acknowledge(*id)
        } else if old.map_or(!claim.force, |old| is_too_fresh(&old, claim.min_idle_ms, now_ms)) {
            None
        } else {
            claimed += 1;
            Some(group.claim(*id, consumer, claim.delivered_ms, claim.deliveries, now_ms))
        };
        let Some(touched) = touched else { continue };
        dirty += 1;
        last_id_moved = false;
        if propagating {
            effects.push(claim_effect(key.bytes, group, args.get(5 + i), &touched));
        }
        match stream.get(*id) {
            Some(_) if claim.just_id => stream_id::reply(ctx.reply, *id),
            Some(item) => reply_entry(ctx.reply, &item),
            None => {}
        }
    }
    ctx.reply.insert_head(mark, |reply| reply.array(claimed));
    if last_id_moved {
        dirty += 1;
        let group = stream.group(group_name).expect("the group was just there");
        effects.push(set_id_effect(key.bytes, group));
    }
    drop(entry);
    report(ctx, is_new, dirty, effects);
    Ok(Outcome::Done)
}

// ---- XAUTOCLAIM ----

const INVALID_AUTO_MIN_IDLE: CmdError = CmdError::new("ERR Invalid min-idle-time argument for XAUTOCLAIM");
const COUNT_NOT_POSITIVE: CmdError = CmdError::new("ERR COUNT must be > 0");
/// COUNT unless it is given.
const COUNT: i64 = 100;
/// Pending entries that are looked at for each that may be claimed.
const LOOKS_PER_CLAIM: i64 = 10;
/// The highest COUNT.
const COUNT_MAX: i64 = i64::MAX / 16;

fn xautoclaim(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let min_idle_ms = int(args.get(4)).map_err(|_| INVALID_AUTO_MIN_IDLE)?.max(0);
    let start = stream_id::start(args.get(5))?;
    let (mut count, mut just_id) = (COUNT, false);
    let mut options = Cursor::new(args, 6);
    while !options.is_done() {
        if options.left() > 1 && options.word("COUNT") {
            count =
                int_in(options.take()?, 1, COUNT_MAX, COUNT_NOT_POSITIVE).map_err(|_| COUNT_NOT_POSITIVE)?;
        } else if options.word("JUSTID") {
            just_id = true;
        } else {
            return Err(error::SYNTAX);
        }
    }
    require_group(ctx)?;
    let (now_ms, propagating) = (ctx.now_ms(), ctx.propagating());
    let (key, group_name) = (ctx.key(1), args.get(2));
    let mut entry = ctx.ks.write(ctx.db, key).expect("the key was just there");
    let stream = stream::view_mut(&mut entry);
    let group = stream.group_mut(group_name).expect("the group was just there");
    let (consumer, is_new) = consumer_now(group, args.get(3), now_ms);
    let deliveries = if just_id { Deliveries::Keep } else { Deliveries::Count };
    let (mut dirty, mut effects) = (0, Vec::new());
    let (mut claimed, mut gone) = (0, Vec::new());
    let (mut looks, mut from) = (count * LOOKS_PER_CLAIM, Bound::Included(start));
    let mark = ctx.reply.mark();
    while looks > 0 && count > 0 {
        looks -= 1;
        let group = stream.group(group_name).expect("the group was just there");
        let Some(id) = group.next_pending(from) else { break };
        from = Bound::Excluded(id);
        let exists = stream.get(id).is_some();
        let group = stream.group_mut(group_name).expect("the group was just there");
        let old = *group.get_pending(id).expect("it was just found");
        let touched = if !exists {
            gone.push(id);
            group.acknowledge(id);
            old
        } else if is_too_fresh(&old, min_idle_ms, now_ms) {
            continue;
        } else {
            claimed += 1;
            group.claim(id, consumer, now_ms, deliveries, now_ms)
        };
        count -= 1;
        dirty += 1;
        if propagating {
            effects.push(claim_effect(key.bytes, group, &id.text(), &touched));
        }
        match stream.get(id) {
            Some(_) if just_id => stream_id::reply(ctx.reply, id),
            Some(item) => reply_entry(ctx.reply, &item),
            None => {}
        }
    }
    let group = stream.group(group_name).expect("the group was just there");
    let cursor = group.next_pending(from).unwrap_or(Id::MIN);
    ctx.reply.insert_head(mark, |reply| {
        reply.array(3);
        stream_id::reply(reply, cursor);
        reply.array(claimed);
    });
    ctx.reply.array(gone.len());
    gone.into_iter().for_each(|id| stream_id::reply(ctx.reply, id));
    drop(entry);
    report(ctx, is_new, dirty, effects);
    Ok(Outcome::Done)
}
