//! SORT and SORT_RO: the elements of a list, set or sorted set in the order of numbers, of texts, or of what
//! other keys hold for them. Options are read into a `Plan`; elements are copied into one buffer, so that
//! other keys can be looked at meanwhile; the result is replied or stored as a list.

use super::args::Cursor;
use super::error::{self, CmdError, CmdResult};
use super::spec::{Acl, Begin, Find, Flags, KeySpec, SPEC, Spec, access, key};
use super::{Ctx, DataFn, Outcome};
use crate::keyspace::change::{Event, class, event};
use crate::keyspace::{Free, Key, Keyspace, Ttl};
use crate::resp::Args;
use crate::sys::locale::Collation;
use crate::util::crc::key_slot;
use crate::util::num;
use crate::value::list::{self, End};
use crate::value::{Digits, Direction, Entry, Kind, Value, draft, hash, kind, reply, set, string, zset};
use std::cmp::Ordering;
use std::ops::Range;

const SORTSTORE: Event = Event::new(class::LIST, "sortstore");
const SORTED: Acl = Acl::SET.with(Acl::SORTEDSET).with(Acl::LIST).with(Acl::DANGEROUS);
const COMPLEXITY: &str = "O(N+M*log(M)) for N elements of which M are returned; O(N) without sorting.";

const SOURCE: KeySpec = key(1, access::RO | access::ACCESS);
const PATTERNS: KeySpec = KeySpec {
    begin: Begin::Unknown,
    find: Find::Unknown,
    access: access::RO | access::ACCESS,
    notes: "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the \
            content of the key we sort",
};
const STORED: KeySpec = KeySpec {
    begin: Begin::Unknown,
    find: Find::Unknown,
    access: access::OW | access::UPDATE,
    notes: "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere \
            in the argument array",
};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "sort",
            arity: -2,
            flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::READS_OTHER_KEYS),
            acl: SORTED,
            keys: &[SOURCE, PATTERNS, STORED],
            summary: "Sorts the elements of a list, a set or a sorted set, and may store the result.",
            complexity: COMPLEXITY,
            usage: "key [BY by-pattern] [LIMIT offset count] [GET get-pattern [GET get-pattern ...]] \
                    [ASC | DESC] [ALPHA] [STORE destination]",
            get_keys: Some(find_keys),
            ..SPEC
        },
        sort,
    ),
    (
        Spec {
            name: "sort_ro",
            arity: -2,
            flags: Flags::READONLY.with(Flags::READS_OTHER_KEYS),
            acl: SORTED,
            keys: &[SOURCE, PATTERNS],
            since: "7.0.0",
            summary: "Returns the sorted elements of a list, a set or a sorted set.",
            complexity: COMPLEXITY,
            usage: "key [BY by-pattern] [LIMIT offset count] [GET get-pattern [GET get-pattern ...]] \
                    [ASC | DESC] [ALPHA]",
            get_keys: Some(find_source),
            ..SPEC
        },
        sort_ro,
    ),
];

fn find_source(_: &Args<'_>, out: &mut Vec<(usize, u32)>) -> bool {
    out.push((1, SOURCE.access));
    true
}

/// The source, and what stands behind the last STORE that is no other option's argument.
fn find_keys(args: &Args<'_>, out: &mut Vec<(usize, u32)>) -> bool {
    out.push((1, SOURCE.access));
    let mut cursor = Cursor::new(*args, 2);
    let mut stored = None;
    while let Some(word) = cursor.peek() {
        let passed = match word {
            _ if super::args::is(word, "limit") => 3,
            _ if super::args::is(word, "get") || super::args::is(word, "by") => 2,
            _ => 1,
        };
        if super::args::is(word, "store") && cursor.left() > 1 {
            stored = Some(cursor.index() + 1);
        }
        (0..passed).for_each(|_| drop(cursor.take()));
    }
    out.extend(stored.map(|at| (at, STORED.access)));
    true
}

// ---- options ----

/// A pattern of BY or GET: says what is looked up for an element.
#[derive(Clone, Copy)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// No `*`: nothing.
    Nothing,
    /// A key around the element; a field of the hash there, or the string there.
    Key { prefix: &'a [u8], suffix: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Pattern<'a> {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = text.iter().position(|b| *b == b'*') else { return Pattern::Nothing };
        let (prefix, rest) = (&text[..star], &text[star + 1..]);
        match rest.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < rest.len()) {
            Some(at) => Pattern::Key { prefix, suffix: &rest[..at], field: Some(&rest[at + 2..]) },
            None => Pattern::Key { prefix, suffix: rest, field: None },
        }
    }
}

/// What SORT is asked for.
struct Plan<'a> {
    by: Option<Pattern<'a>>,
    get: Vec<Pattern<'a>>,
    offset: i64,
    /// Negative: all.
    count: i64,
    direction: Direction,
    alpha: bool,
    store: Option<&'a [u8]>,
}

/// Whether a command may store its result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Allowed,
    Refused,
}

const BY_SLOTS: CmdError = CmdError::new(
    "ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in different \
     slots.",
);
const GET_SLOTS: CmdError = CmdError::new(
    "ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in different \
     slots.",
);
const BY_DENIED: CmdError =
    CmdError::new("ERR BY option of SORT denied due to insufficient ACL permissions.");
const GET_DENIED: CmdError =
    CmdError::new("ERR GET option of SORT denied due to insufficient ACL permissions.");

fn parse<'a>(ctx: &Ctx<'a>, store: Store) -> Result<Plan<'a>, CmdError> {
    let mut plan = Plan {
        by: None,
        get: Vec::new(),
        offset: 0,
        count: -1,
        direction: Direction::Forward,
        alpha: false,
        store: None,
    };
    let mut cursor = Cursor::new(ctx.args, 2);
    while !cursor.is_done() {
        let left = cursor.left() - 1;
        if cursor.word("asc") {
            plan.direction = Direction::Forward;
        } else if cursor.word("desc") {
            plan.direction = Direction::Backward;
        } else if cursor.word("alpha") {
            plan.alpha = true;
        } else if left >= 2 && cursor.word("limit") {
            (plan.offset, plan.count) = (cursor.int()?, cursor.int()?);
        } else if store == Store::Allowed && left >= 1 && cursor.word("store") {
            plan.store = Some(cursor.take()?);
        } else if left >= 1 && cursor.word("by") {
            let text = cursor.take()?;
            plan.by = Some(Pattern::parse(text));
            if text.contains(&b'*') {
                may_look_up(ctx, text, BY_SLOTS, BY_DENIED)?;
            }
        } else if left >= 1 && cursor.word("get") {
            let text = cursor.take()?;
            may_look_up(ctx, text, GET_SLOTS, GET_DENIED)?;
            plan.get.push(Pattern::parse(text));
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(plan)
}

/// Refuses a pattern whose keys may be elsewhere, or that the user may not read.
fn may_look_up(ctx: &Ctx<'_>, pattern: &[u8], slots: CmdError, denied: CmdError) -> Result<(), CmdError> {
    if ctx.config.cluster_enabled && pattern_slot(pattern) != Some(key_slot(ctx.args.get(1))) {
        return Err(slots);
    }
    if ctx.reads_all_keys { Ok(()) } else { Err(denied) }
}

/// The one slot in which all keys of a pattern are, if there is one: it has a hash tag before any wildcard.
fn pattern_slot(pattern: &[u8]) -> Option<u16> {
    let wild = pattern.iter().position(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'));
    let Some(wild) = wild else { return Some(key_slot(pattern)) };
    let head = &pattern[..wild];
    let open = head.iter().position(|b| *b == b'{')?;
    let close = head[open..].iter().position(|b| *b == b'}')?;
    (close > 1).then(|| key_slot(head))
}

// ---- elements ----

/// A run of bytes in the buffer of [`Elements`].
type Span = Range<usize>;

/// An element and what it is sorted by.
#[derive(Clone)]
struct Item {
    element: Span,
    /// Numbers: its weight.
    score: f64,
    /// Texts: what is compared; none comes before all others.
    text: Option<Span>,
}

/// Copies of the elements.
#[derive(Default)]
struct Elements {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

impl Elements {
    fn add(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn push(&mut self, value: Value<'_>) {
        let element = self.add(value.bytes(&mut Digits::default()));
        self.items.push(Item { element, score: 0.0, text: None });
    }

    fn of(&self, span: &Span) -> &[u8] {
        &self.bytes[span.clone()]
    }

    /// Copies those of an entry that are needed: all to be sorted, or only a range of what has an order.
    fn load(&mut self, entry: &Entry, range: Range<usize>, direction: Direction) {
        match kind(entry) {
            Kind::List => {
                let view = list::view(entry);
                let first = match direction {
                    Direction::Forward => range.start,
                    Direction::Backward => view.len().saturating_sub(range.start + 1),
                };
                view.range(first, range.len(), direction, &mut |value| self.push(value));
            }
            Kind::Set => {
                set::view(entry).iter().skip(range.start).take(range.len()).for_each(|v| self.push(v));
            }
            _ => {
                let view = zset::view(entry);
                let range = match direction {
                    Direction::Forward => range,
                    Direction::Backward => view.len() - range.end..view.len() - range.start,
                };
                view.range(range, direction).for_each(|(member, _)| self.push(member));
            }
        }
    }
}

/// Shows what a pattern finds for an element. `name` is room for the key.
fn look_up(
    (ks, db): (&mut Keyspace, usize),
    pattern: Pattern<'_>,
    element: &[u8],
    name: &mut Vec<u8>,
    each: &mut dyn FnMut(Option<Value<'_>>),
) {
    let (prefix, suffix, field) = match pattern {
        Pattern::Element => return each(Some(Value::Str(element))),
        Pattern::Nothing => return each(None),
        Pattern::Key { prefix, suffix, field } => (prefix, suffix, field),
    };
    name.clear();
    [prefix, element, suffix].iter().for_each(|part| name.extend_from_slice(part));
    let over_ms = ks.over_ms();
    let entry = ks.read(db, Key::new(name));
    match (entry.as_deref(), field) {
        (Some(entry), Some(field)) if kind(entry) == Kind::Hash => {
            each(hash::view(entry, over_ms).get(field))
        }
        (Some(entry), None) if kind(entry) == Kind::String => {
            each(Some(Value::Str(string::bytes(entry, &mut string::Digits::default()))));
        }
        _ => each(None),
    }
}

// ---- sorting ----

/// An element, or what is looked up for it, is no number.
const NO_NUMBER: CmdError = CmdError::new("ERR One or more scores can't be converted into double");

/// A number as C's `strtod` reads a whole text: it ends at a zero byte, empty is zero, white space may lead.
fn score(text: &[u8]) -> Result<f64, CmdError> {
    let text = &text[..text.iter().position(|b| *b == 0).unwrap_or(text.len())];
    let digits = text.iter().position(|b| !num::is_space(*b));
    match digits {
        None if text.is_empty() => Ok(0.0),
        None => Err(NO_NUMBER),
        Some(at) => num::parse_f64(&text[at..]).ok_or(NO_NUMBER),
    }
}

/// Finds what each element is sorted by.
fn weigh(ctx: &mut Ctx<'_>, plan: &Plan<'_>, elements: &mut Elements) -> Result<(), CmdError> {
    // What is stored has to be the same on every server, whatever its locale.
    let collation = if plan.alpha && plan.store.is_none() {
        Collation::named(&ctx.config.locale_collate).filter(|collation| !collation.is_bytewise())
    } else {
        None
    };
    let by = plan.by.unwrap_or(Pattern::Element);
    let (mut name, mut found) = (Vec::new(), Vec::new());
    for i in 0..elements.items.len() {
        let element = elements.items[i].element.clone();
        let (mut is_there, mut weight) = (false, Ok(0.0));
        look_up((ctx.ks, ctx.db), by, elements.of(&element), &mut name, &mut |value| {
            let Some(value) = value else { return };
            is_there = true;
            match value {
                Value::Int(n) if !plan.alpha => weight = Ok(n as f64),
                value => {
                    found.clear();
                    found.extend_from_slice(value.bytes(&mut Digits::default()));
                }
            }
            if !plan.alpha && !matches!(value, Value::Int(_)) {
                weight = score(&found);
            }
        });
        let text = match (&collation, plan.by) {
            _ if !plan.alpha || !is_there => None,
            (Some(collation), _) => Some(elements.add(&collation.key(&found))),
            (None, None) => Some(element),
            (None, Some(_)) => Some(elements.add(&found)),
        };
        let item = &mut elements.items[i];
        (item.score, item.text) = (weight?, text);
    }
    Ok(())
}

/// Sorts and keeps what is in the range.
fn order(elements: &mut Elements, plan: &Plan<'_>, range: Range<usize>) {
    let bytes = std::mem::take(&mut elements.bytes);
    let compare = |a: &Item, b: &Item| {
        let order = if plan.alpha {
            let text = |item: &Item| item.text.clone().map(|span| &bytes[span]);
            text(a).cmp(&text(b))
        } else {
            let by_bytes = || bytes[a.element.clone()].cmp(&bytes[b.element.clone()]);
            a.score.partial_cmp(&b.score).unwrap_or(Ordering::Equal).then_with(by_bytes)
        };
        let order = if plan.direction == Direction::Backward { order.reverse() } else { order };
        // What is equal stays in the order in which it was found.
        order.then_with(|| a.element.start.cmp(&b.element.start))
    };
    let items = &mut elements.items;
    if range.end < items.len() && range.end > 0 {
        items.select_nth_unstable_by(range.end - 1, compare);
        items.truncate(range.end);
    }
    items.sort_unstable_by(compare);
    items.truncate(range.end);
    items.drain(..range.start);
    elements.bytes = bytes;
}

/// The elements that LIMIT asks for.
fn limit(plan: &Plan<'_>, len: usize) -> Range<usize> {
    let start = plan.offset.clamp(0, len as i64) as usize;
    let count = if plan.count < 0 { len } else { plan.count.min(len as i64) as usize };
    start..(start + count).min(len)
}

// ---- the commands ----

fn sort(ctx: &mut Ctx<'_>) -> CmdResult {
    run(ctx, Store::Allowed)
}

fn sort_ro(ctx: &mut Ctx<'_>) -> CmdResult {
    run(ctx, Store::Refused)
}

fn run(ctx: &mut Ctx<'_>, store: Store) -> CmdResult {
    let mut plan = parse(ctx, store)?;
    let mut elements = Elements::default();
    if let Some(range) = gather(ctx, &mut plan, &mut elements)? {
        weigh(ctx, &plan, &mut elements)?;
        order(&mut elements, &plan, range);
    }
    match plan.store {
        Some(destination) => store_result(ctx, &plan, &elements, destination),
        None => reply_result(ctx, &plan, &elements),
    }
    Ok(Outcome::Done)
}

/// Copies the elements. Gives the range that is wanted of them if they are to be sorted; else it has only
/// copied those.
fn gather(
    ctx: &mut Ctx<'_>,
    plan: &mut Plan<'_>,
    elements: &mut Elements,
) -> Result<Option<Range<usize>>, CmdError> {
    let key = ctx.key(1);
    let Some(entry) = ctx.ks.read(ctx.db, key) else { return Ok(None) };
    let kind = kind(&entry);
    if !matches!(kind, Kind::List | Kind::Set | Kind::Zset) {
        return Err(error::WRONG_TYPE);
    }
    let mut sorts = !matches!(plan.by, Some(Pattern::Nothing | Pattern::Element));
    // A set has no order of its own that other servers and runs would share.
    if !sorts && kind == Kind::Set && (plan.store.is_some() || ctx.in_script) {
        (sorts, plan.alpha, plan.by) = (true, true, None);
    }
    let len = crate::value::len(&entry);
    let range = limit(plan, len);
    if sorts {
        elements.load(&entry, 0..len, Direction::Forward);
        return Ok(Some(range));
    }
    elements.load(&entry, range, plan.direction);
    Ok(None)
}

fn reply_result(ctx: &mut Ctx<'_>, plan: &Plan<'_>, elements: &Elements) {
    ctx.reply.array(elements.items.len() * plan.get.len().max(1));
    let mut name = Vec::new();
    for item in &elements.items {
        let element = elements.of(&item.element);
        if plan.get.is_empty() {
            ctx.reply.bulk(element);
        }
        for pattern in &plan.get {
            look_up((ctx.ks, ctx.db), *pattern, element, &mut name, &mut |value| match value {
                Some(value) => reply(value, ctx.reply),
                None => ctx.reply.null(),
            });
        }
    }
}

fn store_result(ctx: &mut Ctx<'_>, plan: &Plan<'_>, elements: &Elements, destination: &[u8]) {
    let (limits, destination) = (ctx.list_limits(), Key::new(destination));
    let (mut result, mut name) = (draft(Kind::List), Vec::new());
    let mut add = |bytes: &[u8]| list::push(&mut result, &limits, End::Back, std::iter::once(bytes));
    for item in &elements.items {
        let element = elements.of(&item.element);
        if plan.get.is_empty() {
            add(element);
        }
        for pattern in &plan.get {
            look_up((ctx.ks, ctx.db), *pattern, element, &mut name, &mut |value| match value {
                Some(value) => add(value.bytes(&mut Digits::default())),
                None => add(b""),
            });
        }
    }
    list::fit(&mut result, &limits);
    let len = list::view(&result).len();
    ctx.reply.len_int(len);
    if len > 0 {
        let (payload, mut inline) = (result.take_payload(), Vec::new());
        ctx.ks.set(ctx.db, destination, Kind::List, payload.as_new(&mut inline), Ttl::Clear);
        ctx.ks.changed_by(ctx.db, destination.bytes, SORTSTORE, len);
    } else if ctx.ks.remove(ctx.db, destination, Free::Server) {
        ctx.ks.changed(ctx.db, destination.bytes, event::DEL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_split_at_the_first_star_and_arrow() {
        let parts = |text: &'static str| match Pattern::parse(text.as_bytes()) {
            Pattern::Key { prefix, suffix, field } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Some((text(prefix), text(suffix), field.map(text)))
            }
            _ => None,
        };
        let of = |a: &str, b: &str, c: Option<&str>| Some((a.into(), b.into(), c.map(String::from)));
        assert_eq!(parts("w_*"), of("w_", "", None));
        assert_eq!(parts("a*b*c"), of("a", "b*c", None));
        assert_eq!(parts("o:*:x->f"), of("o:", ":x", Some("f")));
        assert_eq!(parts("o:*->"), of("o:", "->", None));
        assert_eq!(parts("a->b*"), of("a->b", "", None));
        assert_eq!(parts("nosort"), None);
        assert!(matches!(Pattern::parse(b"#"), Pattern::Element));
    }

    #[test]
    fn only_a_tag_before_the_wildcard_fixes_the_slot() {
        assert_eq!(pattern_slot(b"{a}by*"), Some(key_slot(b"{a}mylist")));
        assert_eq!(pattern_slot(b"by*"), None);
        assert_eq!(pattern_slot(b"*{a}"), None);
        assert_eq!(pattern_slot(b"{}a*"), None);
        assert_eq!(pattern_slot(b"#"), Some(key_slot(b"#")));
    }

    #[test]
    fn numbers_are_read_as_strtod_reads_them() {
        assert_eq!(score(b""), Ok(0.0));
        assert_eq!(score(b" \t1.5"), Ok(1.5));
        assert_eq!(score(b"7\0x"), Ok(7.0));
        assert_eq!(score(b"-inf"), Ok(f64::NEG_INFINITY));
        for text in ["nan", "1 ", " ", "abc", "1e999"] {
            assert!(score(text.as_bytes()).is_err(), "{text}");
        }
    }
}
