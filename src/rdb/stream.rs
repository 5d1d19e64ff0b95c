//! Streams in snapshots: nodes by master ID, what the stream knows of itself, groups with what is pending and
//! their consumers. Three forms: the second added first ID, deleted entries and counters, the third the times
//! at which consumers were active.

use super::format::kind as types;
use super::input::{Input, Reading};
use super::output::Output;
use crate::value::stream::{Consumer, Group, Id, Meta, Stream};
use std::io::{Read, Write};

/// The number that says that a group's counter is not known.
const UNKNOWN_READ: u64 = u64::MAX;
/// The time of a consumer that never got anything.
const NEVER: i64 = -1;

/// Whether a stream needs the third form: the second takes a consumer as active whenever it was seen.
pub(super) fn has_active_times(stream: &Stream) -> bool {
    let differs = |consumer: &Consumer| consumer.active_ms != Some(consumer.seen_ms);
    stream.groups().iter().any(|group| group.consumers().any(differs))
}

fn raw(id: Id) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.ms.to_be_bytes());
    bytes[8..].copy_from_slice(&id.seq.to_be_bytes());
    bytes
}

fn from_raw(bytes: &[u8; 16]) -> Id {
    let number = |at: usize| u64::from_be_bytes(*bytes[at..].first_chunk().expect("an ID has 16 bytes"));
    Id { ms: number(0), seq: number(8) }
}

/// Writes a stream in the form of a type.
pub(super) fn put<W: Write>(out: &mut Output<W>, stream: &Stream, as_type: u8) {
    out.length(stream.nodes_len() as u64);
    for (master, listpack) in stream.nodes() {
        out.string(&raw(master));
        out.string(listpack);
    }
    let meta = stream.meta();
    out.length(meta.len);
    put_id(out, meta.last_id);
    put_id(out, meta.first_id);
    put_id(out, meta.max_deleted_id);
    out.length(meta.entries_added);
    out.length(stream.groups().len() as u64);
    stream.groups().iter().for_each(|group| put_group(out, group, as_type));
}

fn put_id<W: Write>(out: &mut Output<W>, id: Id) {
    out.length(id.ms);
    out.length(id.seq);
}

fn put_group<W: Write>(out: &mut Output<W>, group: &Group, as_type: u8) {
    out.string(group.name());
    put_id(out, group.last_id);
    out.length(group.entries_read.unwrap_or(UNKNOWN_READ));
    out.length(group.pending_len() as u64);
    for (id, pending) in group.pending(Id::MIN) {
        out.bytes(&raw(id));
        out.fixed64(pending.delivered_ms as u64);
        out.length(pending.deliveries);
    }
    out.length(group.consumers_len() as u64);
    for consumer in group.consumers() {
        out.string(consumer.name());
        out.fixed64(consumer.seen_ms as u64);
        if as_type == types::STREAM_LISTPACKS_3 {
            out.fixed64(consumer.active_ms.unwrap_or(NEVER) as u64);
        }
        out.length(consumer.pending_len() as u64);
        consumer.pending(Id::MIN).for_each(|id| out.bytes(&raw(id)));
    }
}

/// Reads one node. `listpack` gives the room.
pub(super) fn read_node<R: Read>(
    input: &mut Input<R>,
    stream: &mut Stream,
    listpack: &mut Vec<u8>,
) -> Reading<()> {
    input.string_into(listpack)?;
    let Ok(master) = <&[u8; 16]>::try_from(&listpack[..]).map(from_raw) else {
        return Err(input.corrupt("Stream node key entry is not the size of a stream ID"));
    };
    input.string_into(listpack)?;
    let loaded = stream.load_node(master, listpack);
    loaded.map_err(|_| input.corrupt("Stream listpack integrity check failed."))
}

/// Reads what is behind the nodes.
pub(super) fn read_rest<R: Read>(input: &mut Input<R>, stream: &mut Stream, of_type: u8) -> Reading<()> {
    let (len, last_id) = (input.length()?, read_id(input)?);
    let mut meta = Meta { len, last_id, entries_added: len, ..Meta::default() };
    if of_type != types::STREAM_LISTPACKS {
        (meta.first_id, meta.max_deleted_id) = (read_id(input)?, read_id(input)?);
        meta.entries_added = input.length()?;
    }
    let loaded = stream.load_meta(meta);
    loaded.map_err(|_| input.corrupt("Stream length or last ID inconsistent with its entries"))?;
    for _ in 0..input.length()? {
        read_group(input, stream, of_type)?;
    }
    Ok(())
}

fn read_id<R: Read>(input: &mut Input<R>) -> Reading<Id> {
    Ok(Id { ms: input.length()?, seq: input.length()? })
}

fn read_group<R: Read>(input: &mut Input<R>, stream: &mut Stream, of_type: u8) -> Reading<()> {
    let mut name = Vec::new();
    input.string_into(&mut name)?;
    let last_id = read_id(input)?;
    let entries_read = match of_type {
        types::STREAM_LISTPACKS => stream.meta().entries_up_to(last_id),
        _ => Some(input.length()?).filter(|read| *read != UNKNOWN_READ),
    };
    let Some(group) = stream.create_group(&name, last_id, entries_read) else {
        return Err(input.corrupt("Duplicated consumer group name"));
    };
    for _ in 0..input.length()? {
        let (id, delivered_ms) = (from_raw(&input.array()?), input.fixed64()? as i64);
        let deliveries = input.length()?;
        let added = group.load_pending(id, delivered_ms, deliveries);
        added.map_err(|_| input.corrupt("Duplicated global PEL entry loading stream consumer group"))?;
    }
    for _ in 0..input.length()? {
        read_consumer(input, group, of_type, &mut name)?;
    }
    match group.is_whole() {
        true => Ok(()),
        false => Err(input.corrupt("Stream CG PEL entry without consumer")),
    }
}

fn read_consumer<R: Read>(
    input: &mut Input<R>,
    group: &mut Group,
    of_type: u8,
    name: &mut Vec<u8>,
) -> Reading<()> {
    input.string_into(name)?;
    let seen_ms = input.fixed64()? as i64;
    let active_ms = match of_type {
        types::STREAM_LISTPACKS_3 => Some(input.fixed64()? as i64).filter(|at| *at != NEVER),
        _ => Some(seen_ms),
    };
    let Some(id) = group.create_consumer(name, seen_ms) else {
        return Err(input.corrupt("Duplicate stream consumer detected."));
    };
    group.consumer_mut(id).active_ms = active_ms;
    for _ in 0..input.length()? {
        let assigned = group.assign(from_raw(&input.array()?), id);
        let what = "Consumer entry not found in group global PEL, or of two consumers";
        assigned.map_err(|_| input.corrupt(what))?;
    }
    Ok(())
}
