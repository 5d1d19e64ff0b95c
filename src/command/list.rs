//! Commands on one list: pushing and popping at its ends, reading, changing and searching it. Moving
//! elements between lists and waiting for them is in `list_move`; how lists are kept is `value::list`'s.

use super::args::{Cursor, int, int_in, is, natural};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Acl, Flags, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key};
use crate::resp::Reply;
use crate::value::list::{self, End, Limits, View};
use crate::value::{Direction, Entry, Kind, Value, reply};

const LPUSH: Event = Event::new(class::LIST, "lpush");
const RPUSH: Event = Event::new(class::LIST, "rpush");
const LPOP: Event = Event::new(class::LIST, "lpop");
const RPOP: Event = Event::new(class::LIST, "rpop");
const LINSERT: Event = Event::new(class::LIST, "linsert");
const LSET: Event = Event::new(class::LIST, "lset");
const LTRIM: Event = Event::new(class::LIST, "ltrim");
const LREM: Event = Event::new(class::LIST, "lrem");

const GROUP: &str = "list";
const PUSHES: Flags = Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST);
const POPS: Flags = Flags::WRITE.with(Flags::FAST);
/// Elements at once came with 2.4.0.
const VARIADIC: &[(&str, &str)] = &[("2.4.0", "Accepts multiple `element` arguments.")];
/// The same of the commands that need the list.
const VARIADIC_X: &[(&str, &str)] = &[("4.0.0", "Accepts multiple `element` arguments.")];
const COUNTED: &[(&str, &str)] = &[("6.2.0", "Added the `count` argument.")];

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "lpush",
            arity: -3,
            flags: PUSHES,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::INSERT)],
            group: GROUP,
            summary: "Adds elements at the head of a list, one after the other.",
            complexity: "O(N) for N elements.",
            usage: "key element [element ...]",
            history: VARIADIC,
            ..SPEC
        },
        lpush,
    ),
    (
        Spec {
            name: "rpush",
            arity: -3,
            flags: PUSHES,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::INSERT)],
            group: GROUP,
            summary: "Adds elements at the tail of a list.",
            complexity: "O(N) for N elements.",
            usage: "key element [element ...]",
            history: VARIADIC,
            ..SPEC
        },
        rpush,
    ),
    (
        Spec {
            name: "lpushx",
            arity: -3,
            flags: PUSHES,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::INSERT)],
            group: GROUP,
            since: "2.2.0",
            summary: "Adds elements at the head of a list that exists.",
            complexity: "O(N) for N elements.",
            usage: "key element [element ...]",
            history: VARIADIC_X,
            ..SPEC
        },
        lpushx,
    ),
    (
        Spec {
            name: "rpushx",
            arity: -3,
            flags: PUSHES,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::INSERT)],
            group: GROUP,
            since: "2.2.0",
            summary: "Adds elements at the tail of a list that exists.",
            complexity: "O(N) for N elements.",
            usage: "key element [element ...]",
            history: VARIADIC_X,
            ..SPEC
        },
        rpushx,
    ),
    (
        Spec {
            name: "lpop",
            arity: -2,
            flags: POPS,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::ACCESS | access::DELETE)],
            group: GROUP,
            summary: "Removes and returns the first element or elements of a list.",
            complexity: "O(N) for N elements returned.",
            usage: "key [count]",
            history: COUNTED,
            ..SPEC
        },
        lpop,
    ),
    (
        Spec {
            name: "rpop",
            arity: -2,
            flags: POPS,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::ACCESS | access::DELETE)],
            group: GROUP,
            summary: "Removes and returns the last element or elements of a list, the last one first.",
            complexity: "O(N) for N elements returned.",
            usage: "key [count]",
            history: COUNTED,
            ..SPEC
        },
        rpop,
    ),
    (
        Spec {
            name: "llen",
            arity: 2,
            flags: Flags::READONLY.with(Flags::FAST),
            acl: Acl::LIST,
            keys: &[key(1, access::RO)],
            group: GROUP,
            summary: "Counts the elements of a list.",
            usage: "key",
            ..SPEC
        },
        llen,
    ),
    (
        Spec {
            name: "lindex",
            arity: 3,
            flags: Flags::READONLY,
            acl: Acl::LIST,
            keys: &[key(1, access::RO | access::ACCESS)],
            group: GROUP,
            summary: "Returns the element at an index; negative indices count from the tail.",
            complexity: "O(1) near the ends; a walk over blocks of nodes, and in one node, elsewhere.",
            usage: "key index",
            ..SPEC
        },
        lindex,
    ),
    (
        Spec {
            name: "linsert",
            arity: 5,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::INSERT)],
            group: GROUP,
            since: "2.2.0",
            summary: "Inserts an element before or after the first one that equals the pivot.",
            complexity: "O(N) for N elements before the pivot.",
            usage: "key <BEFORE | AFTER> pivot element",
            ..SPEC
        },
        linsert,
    ),
    (
        Spec {
            name: "lset",
            arity: 4,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::UPDATE)],
            group: GROUP,
            summary: "Replaces the element at an index.",
            complexity: "O(1) near the ends; a walk over blocks of nodes, and in one node, elsewhere.",
            usage: "key index element",
            ..SPEC
        },
        lset,
    ),
    (
        Spec {
            name: "lrange",
            arity: 4,
            flags: Flags::READONLY,
            acl: Acl::LIST,
            keys: &[key(1, access::RO | access::ACCESS)],
            group: GROUP,
            summary: "Returns the elements from one index to another.",
            complexity: "O(N) for N elements returned, and finding the first one.",
            usage: "key start stop",
            ..SPEC
        },
        lrange,
    ),
    (
        Spec {
            name: "ltrim",
            arity: 4,
            flags: Flags::WRITE,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::DELETE)],
            group: GROUP,
            summary: "Removes all elements but those from one index to another.",
            complexity: "O(N) for N elements removed.",
            usage: "key start stop",
            ..SPEC
        },
        ltrim,
    ),
    (
        Spec {
            name: "lrem",
            arity: 4,
            flags: Flags::WRITE,
            acl: Acl::LIST,
            keys: &[key(1, access::RW | access::DELETE)],
            group: GROUP,
            summary: "Removes elements that equal the given one, from the head or from the tail on.",
            complexity: "O(N) for a list of N elements.",
            usage: "key count element",
            ..SPEC
        },
        lrem,
    ),
    (
        Spec {
            name: "lpos",
            arity: -3,
            flags: Flags::READONLY,
            acl: Acl::LIST,
            keys: &[key(1, access::RO | access::ACCESS)],
            group: GROUP,
            since: "6.0.6",
            summary: "Returns the index, or the indices, of elements that equal the given one.",
            complexity: "O(N) for a list of N elements, less near an end or with MAXLEN.",
            usage: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
            ..SPEC
        },
        lpos,
    ),
];

/// The event of a push at an end.
pub(super) fn push_event(end: End) -> Event {
    match end {
        End::Front => LPUSH,
        End::Back => RPUSH,
    }
}

/// The command that pops at an end: what the pops that wait or choose a key propagate as.
pub(super) fn pop_command(end: End) -> &'static [u8] {
    match end {
        End::Front => b"LPOP",
        End::Back => b"RPOP",
    }
}

pub(super) fn pop_event(end: End) -> Event {
    match end {
        End::Front => LPOP,
        End::Back => RPOP,
    }
}

// ---- pushing ----

/// What a push does when there is no list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Create,
    Leave,
}

fn lpush(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Front, Absent::Create)
}

fn rpush(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Back, Absent::Create)
}

fn lpushx(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Front, Absent::Leave)
}

fn rpushx(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Back, Absent::Leave)
}

fn push(ctx: &mut Ctx<'_>, end: End, absent: Absent) -> CmdResult {
    let (key, limits, args) = (ctx.key(1), ctx.list_limits(), ctx.args);
    let elements = (2..args.len()).map(move |i| args.get(i));
    let add = |entry: &mut Entry| {
        list::push(entry, &limits, end, elements.clone());
        list::view(entry).len()
    };
    let grown = of_kind(ctx.ks.write(ctx.db, key), Kind::List)?.map(|mut entry| add(&mut entry));
    let len = match grown {
        Some(len) => len,
        None if absent == Absent::Create => {
            add(&mut ctx.ks.insert(ctx.db, key, Kind::List, list::empty(), None))
        }
        None => {
            ctx.reply.int(0);
            return Ok(Outcome::Done);
        }
    };
    ctx.reply.len_int(len);
    ctx.ks.changed_by(ctx.db, key.bytes, push_event(end), args.len() - 2);
    Ok(Outcome::Done)
}

// ---- popping ----

fn lpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Front)
}

fn rpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Back)
}

fn pop(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    let count = match ctx.args.len() {
        2 => None,
        3 => Some(natural(ctx.args.get(2), error::OUT_OF_RANGE_POSITIVE)?),
        _ => return Err(error::wrong_arity(ctx.name)),
    };
    let (key, limits) = (ctx.key(1), ctx.list_limits());
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::List)? else {
        match count {
            None => ctx.reply.null(),
            Some(_) => ctx.reply.null_array(),
        }
        return Ok(Outcome::Done);
    };
    if count == Some(0) {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    }
    if let Some(count) = count {
        ctx.reply.array(count.min(list::view(&entry).len()));
    }
    let popped = pop_elements(&mut entry, &limits, end, count.unwrap_or(1), ctx.reply);
    drop(entry);
    removed(ctx, key, pop_event(end), popped);
    Ok(Outcome::Done)
}

/// What taking elements out of a list came to.
#[derive(Clone, Copy)]
pub(super) struct Removed {
    /// Elements that were taken out.
    pub(super) count: usize,
    /// Elements that are left. When there are none the entry may still hold some: it is dropped whole, which
    /// is quicker than taking them out.
    pub(super) left: usize,
}

/// Replies with up to `count` elements from an end of a list and removes them. [`removed`] has to follow.
pub(super) fn pop_elements(
    entry: &mut Entry,
    limits: &Limits,
    end: End,
    count: usize,
    out: &mut Reply,
) -> Removed {
    let view = list::view(entry);
    let len = view.len();
    let count = count.min(len);
    let (from, direction, first) = match end {
        End::Front => (0, Direction::Forward, 0),
        End::Back => (len - 1, Direction::Backward, len - count),
    };
    reply_elements(view, from, count, direction, out);
    if count < len {
        list::remove_range(entry, limits, first, count);
    }
    Removed { count, left: len - count }
}

/// Reports that elements are gone, and removes a list of which nothing is left.
pub(super) fn removed(ctx: &mut Ctx<'_>, key: Key<'_>, event: Event, removed: Removed) {
    ctx.ks.changed_by(ctx.db, key.bytes, event, removed.count);
    if removed.left == 0 {
        ctx.ks.remove(ctx.db, key, Free::Server);
        ctx.ks.also(ctx.db, key.bytes, event::DEL);
    }
}

// ---- reading ----

fn llen(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let len = of_kind(ctx.ks.read(ctx.db, key), Kind::List)?.map_or(0, |entry| list::view(&entry).len());
    ctx.reply.len_int(len);
    Ok(Outcome::Done)
}

/// The place of an index that may count from the tail, if it is in the list.
fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// First index and number of the elements from `start` to `stop`, both inclusive and perhaps counting from
/// the tail.
fn span(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let from_head = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, stop) = (from_head(start).max(0), from_head(stop).min(len - 1));
    if start > stop { (0, 0) } else { (start as usize, (stop - start + 1) as usize) }
}

/// Writes `count` elements from the one at `index` on.
fn reply_elements(view: View<'_>, index: usize, count: usize, direction: Direction, out: &mut Reply) {
    view.range(index, count, direction, &mut |value| reply(value, out));
}

fn lindex(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::List)? else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    let index = int(ctx.args.get(2))?;
    let (view, mut scratch) = (list::view(&entry), Vec::new());
    match place(index, view.len()).and_then(|index| view.get(index, &mut scratch)) {
        Some(value) => reply(value, ctx.reply),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn lrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, start, stop) = (ctx.key(1), ctx.int(2)?, ctx.int(3)?);
    let Some(entry) = of_kind(ctx.ks.read(ctx.db, key), Kind::List)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let view = list::view(&entry);
    let (first, count) = span(start, stop, view.len());
    ctx.reply.array(count);
    reply_elements(view, first, count, Direction::Forward, ctx.reply);
    Ok(Outcome::Done)
}

// ---- changing ----

fn linsert(ctx: &mut Ctx<'_>) -> CmdResult {
    let behind = match ctx.args.get(2) {
        place if is(place, "after") => 1,
        place if is(place, "before") => 0,
        _ => return Err(error::SYNTAX),
    };
    let (key, limits) = (ctx.key(1), ctx.list_limits());
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::List)? else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    let Some(pivot) = find(list::view(&entry), ctx.args.get(3)) else {
        ctx.reply.int(-1);
        return Ok(Outcome::Done);
    };
    list::insert(&mut entry, &limits, pivot + behind, ctx.args.get(4));
    ctx.reply.len_int(list::view(&entry).len());
    drop(entry);
    ctx.ks.changed(ctx.db, key.bytes, LINSERT);
    Ok(Outcome::Done)
}

/// Index of the first element that equals `wanted`.
fn find(view: View<'_>, wanted: &[u8]) -> Option<usize> {
    let (wanted, mut index, mut found) = (Value::new(wanted), 0, None);
    view.walk(0, Direction::Forward, &mut |value| {
        if value == wanted {
            found = Some(index);
        }
        index += 1;
        found.is_none()
    });
    found
}

fn lset(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, limits) = (ctx.key(1), ctx.list_limits());
    let mut entry = of_kind(ctx.ks.write(ctx.db, key), Kind::List)?.ok_or(error::NO_SUCH_KEY)?;
    let index = int(ctx.args.get(2))?;
    let index = place(index, list::view(&entry).len()).ok_or(error::INDEX_OUT_OF_RANGE)?;
    list::replace(&mut entry, &limits, index, ctx.args.get(3));
    drop(entry);
    ctx.reply.ok();
    ctx.ks.changed(ctx.db, key.bytes, LSET);
    Ok(Outcome::Done)
}

fn ltrim(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, limits, start, stop) = (ctx.key(1), ctx.list_limits(), ctx.int(2)?, ctx.int(3)?);
    ctx.reply.ok();
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::List)? else { return Ok(Outcome::Done) };
    let len = list::view(&entry).len();
    let (first, count) = span(start, stop, len);
    if count > 0 && count < len {
        list::remove_range(&mut entry, &limits, first + count, len);
        list::remove_range(&mut entry, &limits, 0, first);
    }
    drop(entry);
    removed(ctx, key, LTRIM, Removed { count: len - count, left: count });
    Ok(Outcome::Done)
}

fn lrem(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, limits, count) = (ctx.key(1), ctx.list_limits(), ctx.int(2)?);
    let Some(mut entry) = of_kind(ctx.ks.write(ctx.db, key), Kind::List)? else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    let direction = if count < 0 { Direction::Backward } else { Direction::Forward };
    let max = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let gone = list::remove_equal(&mut entry, &limits, ctx.args.get(3), max, direction);
    let left = list::view(&entry).len();
    drop(entry);
    ctx.reply.len_int(gone);
    if gone > 0 {
        removed(ctx, key, LREM, Removed { count: gone, left });
    }
    Ok(Outcome::Done)
}

// ---- searching ----

/// LPOS's RANK may not be zero.
const RANK_ZERO: CmdError = CmdError::new(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
     or use negative to start from the end of the list",
);
/// LPOS's RANK cannot be negated.
const RANK_RANGE: CmdError = CmdError::new(
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
);
const COUNT_NEGATIVE: CmdError = CmdError::new("ERR COUNT can't be negative");
const MAXLEN_NEGATIVE: CmdError = CmdError::new("ERR MAXLEN can't be negative");

/// What LPOS looks for.
struct Search {
    /// Matches to pass over.
    skip: u64,
    /// The side from which to look.
    direction: Direction,
    /// Matches wanted; none: one, replied as a number.
    count: Option<usize>,
    /// Elements to look at.
    max_len: usize,
}

fn parse_search(ctx: &Ctx<'_>) -> Result<Search, CmdError> {
    let mut search = Search { skip: 0, direction: Direction::Forward, count: None, max_len: usize::MAX };
    // A limit of 0 is none.
    let number = |bytes, error| natural(bytes, error).map(|n| if n == 0 { usize::MAX } else { n });
    let mut cursor = Cursor::new(ctx.args, 3);
    while !cursor.is_done() {
        if cursor.left() < 2 {
            return Err(error::SYNTAX);
        }
        if cursor.word("rank") {
            let rank = int_in(cursor.take()?, -i64::MAX, i64::MAX, RANK_RANGE)?;
            if rank == 0 {
                return Err(RANK_ZERO);
            }
            search.direction = if rank < 0 { Direction::Backward } else { Direction::Forward };
            search.skip = rank.unsigned_abs() - 1;
        } else if cursor.word("count") {
            search.count = Some(number(cursor.take()?, COUNT_NEGATIVE)?);
        } else if cursor.word("maxlen") {
            search.max_len = number(cursor.take()?, MAXLEN_NEGATIVE)?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(search)
}

fn lpos(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, search, wanted) = (ctx.key(1), parse_search(ctx)?, Value::new(ctx.args.get(2)));
    let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::List)?;
    let mark = ctx.reply.mark();
    let mut found = 0;
    if let Some(view) = entry.as_deref().map(list::view) {
        let (last, mut looked, mut skip) = (view.len() - 1, 0, search.skip);
        let start = if search.direction == Direction::Forward { 0 } else { last };
        view.walk(start, search.direction, &mut |value| {
            if value == wanted && skip > 0 {
                skip -= 1;
            } else if value == wanted {
                ctx.reply.len_int(if search.direction == Direction::Forward {
                    looked
                } else {
                    last - looked
                });
                found += 1;
            }
            looked += 1;
            found < search.count.unwrap_or(1) && looked < search.max_len
        });
    }
    match search.count {
        Some(_) => ctx.reply.insert_head(mark, |reply| reply.array(found)),
        None if found == 0 => ctx.reply.null(),
        None => {}
    }
    Ok(Outcome::Done)
}
