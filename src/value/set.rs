//! Sets: an intset while all members are integers, a listpack while they are few and short, a table beyond;
//! never back. Knows no command. Reading goes through [`view`]; what changes a set takes its entry and the
//! limits in force. A set that has become empty is the caller's to remove.

use super::packed::{self, Distinct, Packed};
use super::{Entry, Fresh, Kind, Object, Unfit, Value};
use crate::collections::dict::Dict;
use crate::collections::element::Member;
use crate::collections::entry::{NewPayload, Payload, PayloadMut};
use crate::collections::hash::hash_key;
use crate::collections::listpack::{self, Digits};
use crate::collections::{dict, intset};
use crate::util::rng::Rng;
use std::cell::OnceCell;
use std::collections::HashSet;

/// Intsets have at most this many members, whatever the option says.
const INTSET_MAX: usize = 1 << 30;

/// When a set changes its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most members of an intset.
    pub max_intset_entries: usize,
    /// Most members of a listpack.
    pub max_listpack_entries: usize,
    /// Longest member of a listpack, in bytes.
    pub max_listpack_value: usize,
}

/// The members of a big set.
pub type Table = Dict<Member>;

/// A member to be looked for, perhaps in many sets: what is computed for one serves the others.
pub struct Probe<'a> {
    bytes: &'a [u8],
    value: Value<'a>,
    hash: OnceCell<u64>,
}

impl<'a> Probe<'a> {
    /// From bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Probe { bytes, value: Value::new(bytes), hash: OnceCell::new() }
    }

    /// From the member of another set.
    #[inline]
    pub fn of(value: Value<'a>, digits: &'a mut Digits) -> Self {
        match value {
            Value::Int(_) => Probe { bytes: value.bytes(digits), value, hash: OnceCell::new() },
            Value::Str(bytes) => Probe::new(bytes),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| hash_key(self.bytes))
    }
}

/// A set to be read.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// Integers only.
    Intset(&'a [u8]),
    /// Few short members.
    Listpack(&'a [u8]),
    /// Everything else.
    Table(&'a Table),
}

/// The set of an entry, which must hold one.
#[inline]
pub fn view(entry: &Entry) -> View<'_> {
    match entry.payload() {
        Payload::Object(Object::Set(table)) => View::Table(table),
        _ => {
            let bytes = packed::bytes(entry).expect("a set is packed or a table");
            if intset::is_intset(bytes) { View::Intset(bytes) } else { View::Listpack(bytes) }
        }
    }
}

/// The members of a set in the order of its encoding.
pub enum Iter<'a> {
    /// Of an intset.
    Intset(&'a [u8], std::ops::Range<usize>),
    /// Of a listpack.
    Listpack(listpack::Iter<'a>),
    /// Of a table.
    Table(dict::Iter<'a, Member>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Iter::Intset(bytes, indexes) => indexes.next().map(|i| Value::Int(intset::get(bytes, i))),
            Iter::Listpack(values) => values.next(),
            Iter::Table(members) => members.next().map(|member| Value::Str(member.into_bytes())),
        }
    }
}

impl<'a> View<'a> {
    /// Number of members.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            View::Intset(bytes) => intset::len(bytes),
            View::Listpack(bytes) => listpack::len(bytes),
            View::Table(table) => table.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The encoding's name.
    pub fn encoding(self) -> &'static str {
        match self {
            View::Intset(_) => "intset",
            View::Listpack(_) => "listpack",
            View::Table(_) => "hashtable",
        }
    }

    /// Whether the member is there.
    #[inline]
    pub fn contains(self, member: &Probe<'_>) -> bool {
        match self {
            View::Intset(bytes) => member.value.as_int().is_some_and(|n| intset::contains(bytes, n)),
            View::Listpack(bytes) => find(bytes, member.value).is_some(),
            View::Table(table) => table.contains(member.hash(), member.bytes),
        }
    }

    /// All members. Those of a table that look like integers come as strings.
    pub fn iter(self) -> Iter<'a> {
        match self {
            View::Intset(bytes) => Iter::Intset(bytes, 0..intset::len(bytes)),
            View::Listpack(bytes) => Iter::Listpack(listpack::iter(bytes)),
            View::Table(table) => Iter::Table(table.iter()),
        }
    }

    /// A random member of a set that is not empty; all are equally likely.
    pub fn random(self, rng: &mut Rng) -> Option<Value<'a>> {
        let index = rng.below(self.len() as u64) as usize;
        match self {
            View::Intset(bytes) => (!self.is_empty()).then(|| Value::Int(intset::get(bytes, index))),
            View::Listpack(bytes) => listpack::seek(bytes, index).map(|at| listpack::get(bytes, at)),
            View::Table(table) => {
                table.random(&mut || rng.next_u64()).map(|member| Value::Str(member.into_bytes()))
            }
        }
    }

    /// Shows `count` different random members (all, if there are no more).
    pub fn sample(self, count: usize, rng: &mut Rng, each: &mut dyn FnMut(Value<'a>)) {
        let len = self.len();
        match self {
            View::Table(table) if count < len / 3 => {
                // Few of many: drawn, and drawn again when they come twice.
                let mut seen = HashSet::with_capacity(count);
                while seen.len() < count {
                    let Some(member) = table.random(&mut || rng.next_u64()) else { return };
                    let bytes = member.into_bytes();
                    if seen.insert(bytes.as_ptr()) {
                        each(Value::Str(bytes));
                    }
                }
            }
            _ => super::select(self.iter(), len, count, rng, each),
        }
    }

    /// Shows some members from a cursor on and gives the next cursor; see `Dict::scan`. Packed encodings are
    /// shown whole.
    pub fn scan(self, cursor: u64, count: usize, each: &mut dyn FnMut(Value<'_>)) -> u64 {
        match self {
            View::Table(table) => table.scan(cursor, count, &mut |member| each(Value::Str(member.bytes()))),
            _ => {
                self.iter().for_each(each);
                0
            }
        }
    }
}

fn find(lp: &[u8], member: Value<'_>) -> Option<usize> {
    listpack::find(lp, listpack::first(lp)?, member, 1)
}

/// The payload of an empty set.
pub fn empty() -> NewPayload<'static, Object> {
    NewPayload::Inline(&intset::EMPTY)
}

/// Chooses the encoding before `adding` members, `first` the first of them, are added: what would be outgrown
/// is not even begun.
pub fn prepare(entry: &mut Entry, limits: &Limits, first: &[u8], adding: usize) {
    let is_int = matches!(Value::new(first), Value::Int(_));
    match view(entry) {
        View::Intset(bytes) if intset::len(bytes) == 0 => {
            if is_int && adding <= limits.max_intset_entries {
                // As it is.
            } else if adding <= limits.max_listpack_entries {
                entry.set_payload(Kind::Set as u8, NewPayload::Inline(&listpack::EMPTY));
            } else {
                make_table(entry);
            }
        }
        View::Intset(_) if adding > limits.max_intset_entries => drop(make_table(entry)),
        View::Listpack(_) if adding > limits.max_listpack_entries => drop(make_table(entry)),
        _ => {}
    }
}

/// Adds a member; false if it was there.
pub fn add(entry: &mut Entry, limits: &Limits, member: &Probe<'_>) -> bool {
    match view(entry) {
        View::Intset(bytes) => match member.value.as_int() {
            Some(n) => {
                let added = intset::insert(&mut Packed(entry), n);
                let most = limits.max_intset_entries.min(INTSET_MAX);
                if added && packed::bytes(entry).is_some_and(|bytes| intset::len(bytes) > most) {
                    make_table(entry);
                }
                return added;
            }
            None => {
                let longest = intset_longest(bytes);
                let fits = intset::len(bytes) < limits.max_listpack_entries
                    && member.bytes.len() <= limits.max_listpack_value
                    && longest <= limits.max_listpack_value;
                if fits {
                    let lp = listpack::from_values(intset::iter(bytes).map(Value::Int));
                    entry.set_payload(Kind::Set as u8, packed::payload(&lp));
                    listpack::append(&mut Packed(entry), member.value);
                    return true;
                }
            }
        },
        View::Listpack(bytes) => {
            if find(bytes, member.value).is_some() {
                return false;
            }
            let fits = listpack::len(bytes) < limits.max_listpack_entries
                && member.bytes.len() <= limits.max_listpack_value
                && listpack::has_room(bytes, member.bytes.len());
            if fits {
                listpack::append(&mut Packed(entry), member.value);
                return true;
            }
        }
        View::Table(_) => {}
    }
    let table = make_table(entry);
    if table.contains(member.hash(), member.bytes) {
        return false;
    }
    table.insert_new(member.hash(), Member::new(member.bytes));
    true
}

/// Digits of the longest integer.
fn intset_longest(bytes: &[u8]) -> usize {
    let mut ends = intset::iter(bytes);
    let (first, last) = (ends.next(), ends.next_back());
    [first, last].into_iter().flatten().map(|n| Value::Int(n).len()).max().unwrap_or(0)
}

/// Removes a member; false if it was not there.
pub fn remove(entry: &mut Entry, member: &Probe<'_>) -> bool {
    match view(entry) {
        View::Intset(_) => member.value.as_int().is_some_and(|n| intset::remove(&mut Packed(entry), n)),
        View::Listpack(bytes) => {
            let found = find(bytes, member.value);
            found.inspect(|at| listpack::delete(&mut Packed(entry), *at, 1)).is_some()
        }
        View::Table(_) => make_table(entry).remove(member.hash(), member.bytes).is_some(),
    }
}

/// Takes a random member out of a set that is not empty, showing it first.
pub fn pop(entry: &mut Entry, rng: &mut Rng, each: &mut dyn FnMut(Value<'_>)) {
    let Some(value) = view(entry).random(rng) else { return };
    each(value);
    // The member lies in what is about to change.
    let bytes = value.to_vec();
    remove(entry, &Probe::new(&bytes));
}

/// Makes a value from an intset of a file; see [`super::load`].
pub(super) fn load_intset(fresh: Fresh<'_>, limits: &Limits, bytes: &[u8]) -> Result<Entry, Unfit> {
    if !intset::is_valid(bytes) {
        return Err(Unfit);
    }
    let mut entry = fresh.entry(Kind::Set, packed::payload(bytes));
    if intset::len(bytes) > limits.max_intset_entries {
        make_table(&mut entry);
    }
    Ok(entry)
}

/// Makes a value from a listpack of a file; see [`super::load`].
pub(super) fn load_listpack(fresh: Fresh<'_>, limits: &Limits, bytes: &[u8]) -> Result<Entry, Unfit> {
    let mut members = Distinct::new();
    let lp = listpack::adopt_with(bytes, |member| members.add(member)).ok_or(Unfit)?;
    if !members.all_are(listpack::iter(&lp)) {
        return Err(Unfit);
    }
    let mut entry = fresh.entry(Kind::Set, packed::payload(&lp));
    if listpack::len(&lp) > limits.max_listpack_entries {
        make_table(&mut entry);
    }
    Ok(entry)
}

/// The set as a table, whatever it was.
pub(super) fn make_table(entry: &mut Entry) -> &mut Table {
    if !matches!(view(entry), View::Table(_)) {
        let mut table = Table::new();
        let mut digits = Digits::default();
        for value in view(entry).iter() {
            let bytes = value.bytes(&mut digits);
            table.insert_new(hash_key(bytes), Member::new(bytes));
        }
        entry.set_payload(Kind::Set as u8, NewPayload::Object(Box::new(Object::Set(table))));
    }
    match entry.payload_mut() {
        PayloadMut::Object(Object::Set(table)) => table,
        _ => unreachable!("the set was made a table"),
    }
}

/// A copy of a table.
pub(super) fn duplicate(table: &Table) -> Table {
    let mut copy = Table::new();
    for member in table {
        copy.insert_new(hash_key(member.bytes()), Member::new(member.bytes()));
    }
    copy
}
