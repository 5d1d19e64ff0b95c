//! The stream commands on entries: XADD, XTRIM, XDEL, XLEN, XRANGE, XREVRANGE, XSETID. XREAD is in
//! `stream_read`, groups are in `stream_group` and `stream_claim`, XINFO in `stream_info`. XADD is a hot
//! path: it appends to the last node in place.

use super::args::{int, is};
use super::error::{self, CmdError, CmdResult, wrong_arity};
use super::spec::{Acl, Flags, KeySpec, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome, Propagate, of_kind, stream_id};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::change::{Event, class};
use crate::resp::{Args, OwnedArgs, Reply};
use crate::value::stream::{self, ENTRY_BYTES_MAX, Id, Item, Keep, Limits, NewId, Precision, Stream};
use crate::value::{self, Direction, Kind};

const XADD: Event = Event::new(class::STREAM, "xadd");
const XTRIM: Event = Event::new(class::STREAM, "xtrim");
const XDEL: Event = Event::new(class::STREAM, "xdel");
const XSETID: Event = Event::new(class::STREAM, "xsetid");

/// What all stream commands share.
pub(super) const STREAM: Spec = Spec { group: "stream", acl: Acl::STREAM, since: "5.0.0", ..SPEC };
/// Flags of a quick command that changes data.
pub(super) const WRITES_FAST: Flags = Flags::WRITE.with(Flags::FAST);
/// Tips of a command whose reply depends on more than data and arguments.
pub(super) const VARYING: &[&str] = &["nondeterministic_output"];

const PER_RETURNED: &str = "O(N) with N being the number of entries returned.";
const ADDED_EXCLUSIVE: &[(&str, &str)] = &[("6.2.0", "Added exclusive ranges.")];
const DELETES: &[KeySpec] = &[key(1, access::RW | access::DELETE)];
const UPDATES: &[KeySpec] = &[key(1, access::RW | access::UPDATE)];
const READS: &[KeySpec] = &[key(1, access::RO | access::ACCESS)];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "xadd",
            arity: -5,
            flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
            keys: &[KeySpec {
                notes: "UPDATE instead of INSERT because of the optional trimming feature",
                ..key(1, access::RW | access::UPDATE)
            }],
            summary: "Appends an entry to a stream. Creates the key if it doesn't exist.",
            complexity: "O(1) for the entry, O(N) for trimming N entries.",
            usage: "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> \
                    field value [field value ...]",
            tips: VARYING,
            history: &[
                ("6.2.0", "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` option."),
                ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
            ],
            ..STREAM
        },
        xadd,
    ),
    (
        Spec {
            name: "xtrim",
            arity: -4,
            flags: Flags::WRITE,
            keys: DELETES,
            summary: "Deletes entries from the beginning of a stream.",
            complexity: "O(N) for N entries deleted; whole nodes are deleted at once.",
            usage: "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]",
            tips: VARYING,
            history: &[("6.2.0", "Added the `MINID` trimming strategy and the `LIMIT` option.")],
            ..STREAM
        },
        xtrim,
    ),
    (
        Spec {
            name: "xdel",
            arity: -3,
            flags: WRITES_FAST,
            keys: DELETES,
            summary: "Deletes entries from a stream and returns how many there were.",
            complexity: "O(1) for each entry, whatever the length of the stream.",
            usage: "key id [id ...]",
            ..STREAM
        },
        xdel,
    ),
    (
        Spec {
            name: "xlen",
            arity: 2,
            flags: Flags::READONLY.with(Flags::FAST),
            keys: &[key(1, access::RO)],
            summary: "Returns the number of entries of a stream.",
            usage: "key",
            ..STREAM
        },
        xlen,
    ),
    (
        Spec {
            name: "xrange",
            arity: -4,
            flags: Flags::READONLY,
            keys: READS,
            summary: "Returns the entries of a stream within a range of IDs.",
            complexity: PER_RETURNED,
            usage: "key start end [COUNT count]",
            history: ADDED_EXCLUSIVE,
            ..STREAM
        },
        |ctx| xrange(ctx, Direction::Forward),
    ),
    (
        Spec {
            name: "xrevrange",
            arity: -4,
            flags: Flags::READONLY,
            keys: READS,
            summary: "Returns the entries of a stream within a range of IDs, the last one first.",
            complexity: PER_RETURNED,
            usage: "key end start [COUNT count]",
            history: ADDED_EXCLUSIVE,
            ..STREAM
        },
        |ctx| xrange(ctx, Direction::Backward),
    ),
    (
        Spec {
            name: "xsetid",
            arity: -3,
            flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
            keys: UPDATES,
            summary: "Sets the last ID of a stream; an internal command of replication.",
            usage: "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
            history: &[("7.0.0", "Added the `entries_added` and `max_deleted_entry_id` arguments.")],
            ..STREAM
        },
        xsetid,
    ),
];

// ---- what the stream commands share ----

/// Writes an entry: its ID, and its fields and values as one array.
#[inline]
pub(super) fn reply_entry(reply: &mut Reply, item: &Item<'_>) {
    reply.array(2);
    stream_id::reply(reply, item.id);
    let fields = item.fields();
    reply.array(2 * fields.len());
    for (field, value) in fields {
        value::reply(field, reply);
        value::reply(value, reply);
    }
}

/// Reports a change that the watchers of the key do not see, as Redis has it for groups and counters.
pub(super) fn noted(ks: &mut Keyspace, db: usize, key: &[u8], event: Event) {
    ks.changes.dirty += 1;
    ks.also(db, key, event);
}

// ---- XADD and XTRIM ----

const TWO_STRATEGIES: CmdError =
    CmdError::new("ERR syntax error, MAXLEN and MINID options at the same time are not compatible");
const NEGATIVE_MAXLEN: CmdError = CmdError::new("ERR The MAXLEN argument must be >= 0.");
const NEGATIVE_LIMIT: CmdError = CmdError::new("ERR The LIMIT argument must be >= 0.");
const LIMIT_WITHOUT_STRATEGY: CmdError =
    CmdError::new("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
const LIMIT_WITHOUT_TILDE: CmdError =
    CmdError::new("ERR syntax error, LIMIT cannot be used without the special ~ option");
const NO_STRATEGY: CmdError =
    CmdError::new("ERR syntax error, XTRIM must be called with a trimming strategy");
const LOWEST_ID: CmdError = CmdError::new("ERR The ID specified in XADD must be greater than 0-0");
const EXHAUSTED: CmdError =
    CmdError::new("ERR The stream has exhausted the last possible ID, unable to add more items");
const NOT_HIGHER: CmdError =
    CmdError::new("ERR The ID specified in XADD is equal or smaller than the target stream top item");
const TOO_LARGE: CmdError = CmdError::new("ERR Elements are too large to be stored");

/// Nodes that a trim with `~` may go through unless LIMIT says otherwise.
const NODES_PER_TRIM: i64 = 100;
/// Entries that it may delete when a node has no limit.
const ENTRIES_PER_TRIM: i64 = 10_000;
/// Entries that it may delete at most.
const ENTRIES_PER_TRIM_MAX: i64 = 1_000_000;

/// Whose options are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Xadd,
    Xtrim,
}

/// What the options depend on besides the arguments.
struct Source<'a> {
    config: &'a Config,
    /// See [`Ctx::from_log`].
    from_log: bool,
}

impl<'a> Source<'a> {
    fn of(ctx: &Ctx<'a>) -> Self {
        Source { config: ctx.config, from_log: ctx.from_log }
    }
}

/// How to trim.
#[derive(Clone, Copy)]
struct Trim {
    keep: Keep,
    precision: Precision,
    /// Index of the threshold.
    at: usize,
}

/// The options of XADD and XTRIM.
struct Options {
    trim: Option<Trim>,
    no_mkstream: bool,
    id: NewId,
    /// Index of the ID; past the end if there is none.
    id_at: usize,
}

impl Options {
    fn parse(args: Args<'_>, form: Form, source: &Source<'_>) -> Result<Options, CmdError> {
        let mut options = Options { trim: None, no_mkstream: false, id: NewId::Auto, id_at: args.len() };
        let mut limit = None;
        let mut at = 2;
        while at < args.len() {
            let (word, more) = (args.get(at), args.len() - 1 - at);
            if form == Form::Xadd && word == b"*" {
                options.id_at = at;
                break;
            }
            if more > 0 && (is(word, "MAXLEN") || is(word, "MINID")) {
                if options.trim.is_some() {
                    return Err(TWO_STRATEGIES);
                }
                let trim = parse_trim(args, at)?;
                at = trim.at;
                options.trim = Some(trim);
            } else if more > 0 && is(word, "LIMIT") {
                at += 1;
                let given = int(args.get(at))?;
                if given < 0 {
                    return Err(NEGATIVE_LIMIT);
                }
                limit = Some(given);
            } else if form == Form::Xadd && is(word, "NOMKSTREAM") {
                options.no_mkstream = true;
            } else if form == Form::Xadd {
                options.id = stream_id::new(word)?;
                options.id_at = at;
                break;
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        options.settle(form, limit, source)?;
        Ok(options)
    }

    /// Checks what only the whole can show, and finds the limit in force.
    fn settle(&mut self, form: Form, limit: Option<i64>, source: &Source<'_>) -> Result<(), CmdError> {
        let Some(trim) = &mut self.trim else {
            return match form {
                _ if limit.is_some_and(|limit| limit != 0) => Err(LIMIT_WITHOUT_STRATEGY),
                Form::Xtrim => Err(NO_STRATEGY),
                Form::Xadd => Ok(()),
            };
        };
        match (trim.precision, limit) {
            // Redis writes LIMIT to its logs even where it has made the trim an exact one.
            (Precision::Exact, _) if source.from_log => {}
            (Precision::Nodes(_), _) if source.from_log => trim.precision = Precision::Nodes(0),
            (Precision::Exact, Some(_)) => return Err(LIMIT_WITHOUT_TILDE),
            (Precision::Exact, None) => {}
            (Precision::Nodes(_), Some(limit)) => trim.precision = Precision::Nodes(limit as u64),
            (Precision::Nodes(_), None) => {
                let entries = NODES_PER_TRIM.saturating_mul(source.config.stream_node_max_entries as i64);
                let entries = if entries <= 0 { ENTRIES_PER_TRIM } else { entries };
                trim.precision = Precision::Nodes(entries.min(ENTRIES_PER_TRIM_MAX) as u64);
            }
        }
        Ok(())
    }
}

/// Reads the strategy at `at` up to its threshold.
fn parse_trim(args: Args<'_>, at: usize) -> Result<Trim, CmdError> {
    let sign = (args.len() - 1 - at >= 2).then(|| args.get(at + 1));
    let (precision, threshold_at) = match sign {
        Some(b"~") => (Precision::Nodes(0), at + 2),
        Some(b"=") => (Precision::Exact, at + 2),
        _ => (Precision::Exact, at + 1),
    };
    let threshold = args.get(threshold_at);
    let keep = if is(args.get(at), "MINID") {
        Keep::From(stream_id::strict(threshold, 0)?)
    } else {
        Keep::Len(u64::try_from(int(threshold)?).map_err(|_| NEGATIVE_MAXLEN)?)
    };
    Ok(Trim { keep, precision, at: threshold_at })
}

impl Trim {
    fn run(&self, stream: &mut Stream) -> u64 {
        stream.trim(self.keep, self.precision)
    }

    /// The threshold that makes an exact trim do what this one did; none when it was exact.
    fn exact_threshold(&self, stream: &Stream) -> Option<Vec<u8>> {
        match (self.precision, self.keep) {
            (Precision::Exact, _) => None,
            (_, Keep::Len(_)) => Some(stream.len().to_string().into_bytes()),
            (_, Keep::From(_)) => Some(stream.first_kept_id().unwrap_or(Id::MAX).text().to_vec()),
        }
    }

    /// The arguments with which an exact trim does what this one did: the sign becomes `=`, LIMIT goes.
    fn rewritten(&self, args: Args<'_>, threshold: &[u8], id: Option<(usize, Id)>) -> OwnedArgs {
        let mut out = OwnedArgs::default();
        let end = id.map_or(args.len(), |(at, _)| at);
        let mut at = 0;
        while at < args.len() {
            if at == self.at - 1 {
                out.push(b"=");
            } else if at == self.at {
                out.push(threshold);
            } else if at >= 2 && at < end && is(args.get(at), "LIMIT") {
                at += 1;
            } else {
                push_arg(&mut out, args, at, id);
            }
            at += 1;
        }
        out
    }
}

/// Adds argument `at`, or the ID in its place.
fn push_arg(out: &mut OwnedArgs, args: Args<'_>, at: usize, id: Option<(usize, Id)>) {
    match id {
        Some((id_at, id)) if id_at == at => out.push(&id.text()),
        _ => out.push_from(&args, at),
    }
}

/// What XADD did.
struct Added {
    id: Id,
    trimmed: bool,
    threshold: Option<Vec<u8>>,
}

fn xadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let options = Options::parse(args, Form::Xadd, &Source::of(ctx))?;
    let first = options.id_at + 1;
    if args.len() < first + 2 || (args.len() - first) % 2 == 1 {
        return Err(wrong_arity(ctx.name));
    }
    if options.id == NewId::Given(Id::MIN) {
        return Err(LOWEST_ID);
    }
    let add = |stream: &mut Stream, limits: &Limits, now_ms: i64| {
        if stream.meta().last_id == Id::MAX {
            return Err(EXHAUSTED);
        }
        let id = stream.next_id(options.id, now_ms).ok_or(NOT_HIGHER)?;
        let pairs = (first..args.len()).step_by(2).map(|i| (args.get(i), args.get(i + 1)));
        if pairs.clone().map(|(field, value)| field.len() + value.len()).sum::<usize>() > ENTRY_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        stream.append(limits, id, pairs);
        let trimmed = options.trim.is_some_and(|trim| trim.run(stream) > 0);
        let threshold = options.trim.and_then(|trim| trim.exact_threshold(stream));
        Ok(Added { id, trimmed, threshold })
    };
    let (key, limits, now_ms) = (ctx.key(1), Limits::from_config(ctx.config), ctx.now_ms());
    let added = if let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Stream)? {
        add(stream::view_mut(&mut entry), &limits, now_ms)?
    } else if options.no_mkstream {
        ctx.reply.null();
        return Ok(Outcome::Done);
    } else {
        let mut stream = Stream::default();
        let added = add(&mut stream, &limits, now_ms)?;
        ctx.ks.insert(ctx.db, key, Kind::Stream, stream::payload(stream), None);
        added
    };
    stream_id::reply(ctx.reply, added.id);
    ctx.ks.changed(ctx.db, key.bytes, XADD);
    if added.trimmed {
        ctx.ks.also(ctx.db, key.bytes, XTRIM);
    }
    if ctx.propagating() {
        propagate_xadd(ctx, &options, &added);
    }
    Ok(Outcome::Done)
}

/// An entry propagates with the ID it got, and a trim that was not exact as an exact one.
fn propagate_xadd(ctx: &mut Ctx<'_>, options: &Options, added: &Added) {
    let id = (!matches!(options.id, NewId::Given(_))).then_some((options.id_at, added.id));
    let rewritten = match (&options.trim, &added.threshold) {
        (Some(trim), Some(threshold)) => trim.rewritten(ctx.args, threshold, Some((options.id_at, added.id))),
        _ if id.is_some() => {
            let mut out = OwnedArgs::default();
            (0..ctx.args.len()).for_each(|at| push_arg(&mut out, ctx.args, at, id));
            out
        }
        _ => return,
    };
    ctx.propagate = Propagate::As(vec![rewritten]);
}

fn xtrim(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = Options::parse(ctx.args, Form::Xtrim, &Source::of(ctx))?;
    let trim = options.trim.ok_or(NO_STRATEGY)?;
    let key = ctx.key(1);
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Stream)? else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    let stream = stream::view_mut(&mut entry);
    let deleted = trim.run(stream);
    let threshold = trim.exact_threshold(stream);
    drop(entry);
    if deleted > 0 {
        ctx.ks.changed(ctx.db, key.bytes, XTRIM);
        ctx.ks.changes.dirty += deleted - 1;
        if let Some(threshold) = threshold.filter(|_| ctx.propagating()) {
            ctx.propagate = Propagate::As(vec![trim.rewritten(ctx.args, &threshold, None)]);
        }
    }
    ctx.reply.int(deleted as i64);
    Ok(Outcome::Done)
}

// ---- the others ----

fn xdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let args = ctx.args;
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::Stream)? else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    let ids = (2..args.len()).map(|i| stream_id::strict(args.get(i), 0)).collect::<Result<Vec<_>, _>>()?;
    let stream = stream::view_mut(&mut entry);
    let deleted = ids.into_iter().filter(|id| stream.delete(*id)).count() as u64;
    if deleted > 0 {
        stream.settle();
    }
    drop(entry);
    if deleted > 0 {
        ctx.ks.changed(ctx.db, key.bytes, XDEL);
        ctx.ks.changes.dirty += deleted - 1;
    }
    ctx.reply.int(deleted as i64);
    Ok(Outcome::Done)
}

fn xlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Stream)?;
    ctx.reply.int(entry.map_or(0, |entry| stream::view(&entry).len() as i64));
    Ok(Outcome::Done)
}

fn xrange(ctx: &mut Ctx<'_>, direction: Direction) -> CmdResult {
    let (start_at, end_at) = match direction {
        Direction::Forward => (2, 3),
        Direction::Backward => (3, 2),
    };
    let (start, end) = (stream_id::start(ctx.args.get(start_at))?, stream_id::end(ctx.args.get(end_at))?);
    let mut count = None;
    let mut options = super::args::Cursor::new(ctx.args, 4);
    while !options.is_done() {
        if options.left() < 2 || !options.word("COUNT") {
            return Err(error::SYNTAX);
        }
        count = Some(options.int()?.max(0) as usize);
    }
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Stream)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    if count == Some(0) {
        ctx.reply.null_array();
        return Ok(Outcome::Done);
    }
    let mark = ctx.reply.mark();
    let mut found = 0;
    for item in stream::view(&entry).range(start, end, direction).take(count.unwrap_or(usize::MAX)) {
        reply_entry(ctx.reply, &item);
        found += 1;
    }
    ctx.reply.insert_head(mark, |reply| reply.array(found));
    Ok(Outcome::Done)
}

const NEGATIVE_ADDED: CmdError = CmdError::new("ERR entries_added must be positive");
const BELOW_GIVEN_DELETED: CmdError =
    CmdError::new("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id");
const BELOW_DELETED: CmdError =
    CmdError::new("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id");
const BELOW_LAST: CmdError =
    CmdError::new("ERR The ID specified in XSETID is smaller than the target stream top item");
const ADDED_BELOW_LEN: CmdError =
    CmdError::new("ERR The entries_added specified in XSETID is smaller than the target stream length");

fn xsetid(ctx: &mut Ctx<'_>) -> CmdResult {
    let id = stream_id::strict(ctx.args.get(2), 0)?;
    let (mut added, mut max_deleted) = (None, Id::MIN);
    let mut options = super::args::Cursor::new(ctx.args, 3);
    while !options.is_done() {
        if options.left() < 2 {
            return Err(error::SYNTAX);
        }
        if options.word("ENTRIESADDED") {
            added = Some(u64::try_from(options.int()?).map_err(|_| NEGATIVE_ADDED)?);
        } else if options.word("MAXDELETEDID") {
            max_deleted = stream_id::strict(options.take()?, 0)?;
            if id < max_deleted {
                return Err(BELOW_GIVEN_DELETED);
            }
        } else {
            return Err(error::SYNTAX);
        }
    }
    let key = ctx.key(1);
    let mut entry = of_kind(ctx.ks.write(ctx.db, key), Kind::Stream)?.ok_or(error::NO_SUCH_KEY)?;
    let stream = stream::view_mut(&mut entry);
    if id < stream.meta().max_deleted_id {
        return Err(BELOW_DELETED);
    }
    if stream.last_entry_id().is_some_and(|last| id < last) {
        return Err(BELOW_LAST);
    }
    if added.is_some_and(|added| stream.len() > added) {
        return Err(ADDED_BELOW_LEN);
    }
    stream.set_id(id, added, Some(max_deleted).filter(|id| *id != Id::MIN));
    drop(entry);
    ctx.reply.ok();
    noted(ctx.ks, ctx.db, key.bytes, XSETID);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_writes_to_its_log_is_taken_from_there() {
        let config = Config::default();
        let precision = |words: &[&[u8]], from_log| {
            let args = OwnedArgs::from_slices(words);
            let options = Options::parse(args.as_args(), Form::Xtrim, &Source { config: &config, from_log });
            options.map(|options| options.trim.map(|trim| trim.precision))
        };
        let exact: [&[u8]; 7] = [b"XTRIM", b"s", b"MAXLEN", b"=", b"5", b"LIMIT", b"3"];
        assert_eq!(precision(&exact, false), Err(LIMIT_WITHOUT_TILDE));
        assert_eq!(precision(&exact, true), Ok(Some(Precision::Exact)));
        let nodes: [&[u8]; 7] = [b"XTRIM", b"s", b"MAXLEN", b"~", b"5", b"LIMIT", b"3"];
        assert_eq!(precision(&nodes, false), Ok(Some(Precision::Nodes(3))));
        assert_eq!(precision(&nodes, true), Ok(Some(Precision::Nodes(0))));
        assert_eq!(precision(&nodes[..5], false), Ok(Some(Precision::Nodes(10_000))));
    }
}
