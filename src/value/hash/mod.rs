//! Hashes: a listpack of fields and values while they are few and short; the same with deadlines
//! (`listpackex`) from the first field expiry on; a table beyond, and never back. Knows no command and no
//! clock.
//!
//! Reading goes through [`view`], which hides fields that are over at the time it is given; [`remove_due`]
//! takes them out. What changes a hash takes its entry and the limits in force, and sees fields that are over
//! as any others: a command that writes removes them first. A hash that has become empty is the caller's to
//! remove.
//!
//! - `table`: the big hash. `triples`: the listpack with deadlines.

mod table;
#[cfg(test)]
mod tests;
mod triples;

pub use table::Table;

use super::packed::{self, Distinct, Packed};
use super::{Entry, Fresh, Kind, Object, Unfit, Value};
use crate::collections::dict;
use crate::collections::element::Field;
use crate::collections::entry::{NewPayload, Payload, PayloadMut};
use crate::collections::hash::hash_key;
use crate::collections::listpack::{self, Digits};
use crate::util::rng::Rng;
use std::collections::HashSet;

/// A random pick that finds a field that is over tries again so often, then looks at all fields.
const RANDOM_TRIES: u32 = 100;

/// When a hash changes its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most fields of a listpack.
    pub max_listpack_entries: usize,
    /// Longest field or value of a listpack, in bytes.
    pub max_listpack_value: usize,
}

/// A hash that does not lie in its entry.
pub enum Large {
    /// Field, value, deadline (0: none), the earliest deadline first and those without behind all others.
    Triples(Box<[u8]>),
    /// Too many or too long for a listpack.
    Table(Table),
}

/// What becomes of a field's deadline when its value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldTtl {
    /// It stays.
    Keep,
    /// It goes.
    Clear,
    /// It is set, in milliseconds since 1970.
    At(i64),
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its name.
    pub field: Value<'a>,
    /// Its value.
    pub value: Value<'a>,
    /// Its deadline in milliseconds since 1970, if it has one.
    pub expiry: Option<i64>,
}

/// Where the fields are.
#[derive(Clone, Copy)]
pub enum Repr<'a> {
    /// Fields and values in turn.
    Listpack(&'a [u8]),
    /// Fields, values and deadlines in turn, see [`Large::Triples`].
    ListpackEx(&'a [u8]),
    /// A table.
    Table(&'a Table),
}

/// A hash to be read at a time.
#[derive(Clone, Copy)]
pub struct View<'a> {
    repr: Repr<'a>,
    now_ms: i64,
}

/// The hash of an entry, which must hold one, as it is at `now_ms` (milliseconds since 1970; `i64::MIN` shows
/// all fields).
#[inline]
pub fn view(entry: &Entry, now_ms: i64) -> View<'_> {
    let repr = match entry.payload() {
        Payload::Object(Object::Hash(Large::Table(table))) => Repr::Table(table),
        Payload::Object(Object::Hash(Large::Triples(bytes))) => Repr::ListpackEx(bytes),
        _ => Repr::Listpack(packed::bytes(entry).expect("a hash is packed or an object of its own")),
    };
    View { repr, now_ms }
}

/// All fields of a hash, those that are over included.
enum Items<'a> {
    Listpack(listpack::Iter<'a>),
    ListpackEx(listpack::Iter<'a>),
    Table(dict::Iter<'a, Field>),
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match self {
            Items::Listpack(values) => {
                let field = values.next()?;
                Some(Item { field, value: values.next()?, expiry: None })
            }
            Items::ListpackEx(values) => {
                let field = values.next()?;
                let value = values.next()?;
                Some(Item { field, value, expiry: triples::deadline(values.next()?) })
            }
            Items::Table(fields) => {
                let field = fields.next()?;
                let (expiry, (name, value)) = (field.expiry(), field.into_pair());
                Some(Item { field: Value::Str(name), value: Value::Str(value), expiry })
            }
        }
    }
}

impl<'a> View<'a> {
    /// Where the fields are, for writing files.
    pub fn repr(self) -> Repr<'a> {
        self.repr
    }

    /// Number of fields, those that are over included (as HLEN counts).
    #[inline]
    pub fn len(self) -> usize {
        match self.repr {
            Repr::Listpack(bytes) => listpack::len(bytes) / 2,
            Repr::ListpackEx(bytes) => listpack::len(bytes) / 3,
            Repr::Table(table) => table.fields().len(),
        }
    }

    /// Whether there is no field at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Number of fields that are not over.
    pub fn live_len(self) -> usize {
        let due = match self.repr {
            _ if !self.has_due() => 0,
            Repr::Listpack(_) => 0,
            Repr::ListpackEx(_) => self.items().take_while(|item| self.is_over(item)).count(),
            Repr::Table(table) => table.count_due(self.now_ms),
        };
        self.len() - due
    }

    /// The encoding's name.
    pub fn encoding(self) -> &'static str {
        match self.repr {
            Repr::Listpack(_) => "listpack",
            Repr::ListpackEx(_) => "listpackex",
            Repr::Table(_) => "hashtable",
        }
    }

    /// The earliest deadline of a field, those that are over included.
    pub fn next_expiry(self) -> Option<i64> {
        match self.repr {
            Repr::Listpack(_) => None,
            Repr::ListpackEx(bytes) => triples::next_expiry(bytes),
            Repr::Table(table) => table.next_expiry(),
        }
    }

    /// Whether there are fields that are over.
    #[inline]
    pub fn has_due(self) -> bool {
        self.next_expiry().is_some_and(|at| at <= self.now_ms)
    }

    /// A field's value.
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<Value<'a>> {
        self.item(field).map(|item| item.value)
    }

    /// A field with value and deadline.
    #[inline]
    pub fn item(self, field: &[u8]) -> Option<Item<'a>> {
        let item = match self.repr {
            Repr::Listpack(bytes) => {
                let at = find(bytes, field, 2)?;
                let value = listpack::get(bytes, listpack::after(bytes, at));
                Item { field: listpack::get(bytes, at), value, expiry: None }
            }
            Repr::ListpackEx(bytes) => triples::item(bytes, find(bytes, field, 3)?),
            Repr::Table(table) => {
                let found = table.fields().get(hash_key(field), field)?;
                let (expiry, (name, value)) = (found.expiry(), found.into_pair());
                Item { field: Value::Str(name), value: Value::Str(value), expiry }
            }
        };
        (!self.is_over(&item)).then_some(item)
    }

    /// All fields that are not over.
    pub fn iter(self) -> impl Iterator<Item = Item<'a>> {
        let hiding = self.has_due();
        self.items().filter(move |item| !hiding || !self.is_over(item))
    }

    /// A random field; all that are not over are equally likely.
    pub fn random(self, rng: &mut Rng) -> Option<Item<'a>> {
        let tries = if self.has_due() { RANDOM_TRIES } else { 1 };
        for _ in 0..tries {
            let item = self.random_of_all(rng)?;
            if !self.is_over(&item) {
                return Some(item);
            }
        }
        let index = rng.below(self.live_len() as u64) as usize;
        self.iter().nth(index)
    }

    /// Shows `count` different random fields (all, if there are no more).
    pub fn sample(self, count: usize, rng: &mut Rng, each: &mut dyn FnMut(Item<'a>)) {
        let len = self.live_len();
        match self.repr {
            Repr::Table(_) if count < len / 3 => {
                let mut seen = HashSet::with_capacity(count);
                while seen.len() < count {
                    let Some(item) = self.random(rng) else { return };
                    let Value::Str(name) = item.field else { return };
                    if seen.insert(name.as_ptr()) {
                        each(item);
                    }
                }
            }
            _ => super::select(self.iter(), len, count, rng, each),
        }
    }

    /// Shows some fields from a cursor on and gives the next cursor; see `Dict::scan`. Packed encodings are
    /// shown whole.
    pub fn scan(self, cursor: u64, count: usize, each: &mut dyn FnMut(Item<'_>)) -> u64 {
        let Repr::Table(table) = self.repr else {
            self.iter().for_each(each);
            return 0;
        };
        table.fields().scan(cursor, count, &mut |field| {
            let (name, value) = (Value::Str(field.name()), Value::Str(field.value()));
            let item = Item { field: name, value, expiry: field.expiry() };
            if !self.is_over(&item) {
                each(item);
            }
        })
    }

    #[inline]
    fn is_over(self, item: &Item<'_>) -> bool {
        item.expiry.is_some_and(|at| at <= self.now_ms)
    }

    fn items(self) -> Items<'a> {
        match self.repr {
            Repr::Listpack(bytes) => Items::Listpack(listpack::iter(bytes)),
            Repr::ListpackEx(bytes) => Items::ListpackEx(listpack::iter(bytes)),
            Repr::Table(table) => Items::Table(table.fields().iter()),
        }
    }

    fn random_of_all(self, rng: &mut Rng) -> Option<Item<'a>> {
        match self.repr {
            Repr::Table(table) => {
                let found = table.fields().random(&mut || rng.next_u64())?;
                let (expiry, (name, value)) = (found.expiry(), found.into_pair());
                Some(Item { field: Value::Str(name), value: Value::Str(value), expiry })
            }
            _ => {
                let index = rng.below(self.len() as u64) as usize;
                self.items().nth(index)
            }
        }
    }
}

fn find(lp: &[u8], field: &[u8], stride: usize) -> Option<usize> {
    listpack::find(lp, listpack::first(lp)?, Value::new(field), stride)
}

/// The payload of an empty hash.
pub fn empty() -> NewPayload<'static, Object> {
    NewPayload::Inline(&listpack::EMPTY)
}

/// Chooses the encoding before so many fields are set, with all their names and values: what would be
/// outgrown is not even begun.
pub fn prepare<'a>(
    entry: &mut Entry,
    limits: &Limits,
    fields: usize,
    mut strings: impl Iterator<Item = &'a [u8]>,
) {
    let packed = match view(entry, i64::MIN).repr {
        Repr::Listpack(bytes) | Repr::ListpackEx(bytes) => bytes,
        Repr::Table(_) => return,
    };
    let mut sum = 0;
    let long = fields > limits.max_listpack_entries
        || strings.any(|string| {
            sum += string.len();
            string.len() > limits.max_listpack_value
        });
    if long || !listpack::has_room(packed, sum) {
        make_table(entry);
    }
}

/// Sets a field; true if it is new.
pub fn set(entry: &mut Entry, limits: &Limits, field: &[u8], value: &[u8], ttl: FieldTtl) -> bool {
    let longest = field.len().max(value.len());
    if longest > limits.max_listpack_value {
        make_table(entry);
    }
    if let FieldTtl::At(_) = ttl {
        make_expirable(entry);
    }
    let created = match view(entry, i64::MIN).repr {
        Repr::Listpack(bytes) => match find(bytes, field, 2).map(|at| listpack::after(bytes, at)) {
            Some(at) => {
                listpack::replace(&mut Packed(entry), at, Value::new(value));
                return false;
            }
            None => {
                let end = listpack::end(bytes);
                listpack::splice(&mut Packed(entry), end, 0, &[Value::new(field), Value::new(value)]);
                true
            }
        },
        Repr::ListpackEx(bytes) => {
            let at = find(bytes, field, 3);
            triples::set(triples(entry), at, field, value, ttl);
            at.is_none()
        }
        Repr::Table(_) => {
            let expiry = match ttl {
                FieldTtl::Keep => None,
                FieldTtl::Clear => Some(None),
                FieldTtl::At(at) => Some(Some(at)),
            };
            return make_table(entry).set(field, value, expiry);
        }
    };
    if created && view(entry, i64::MIN).len() > limits.max_listpack_entries {
        make_table(entry);
    }
    created
}

/// Removes a field; false if it was not there.
pub fn remove(entry: &mut Entry, field: &[u8]) -> bool {
    let (bytes, stride) = match view(entry, i64::MIN).repr {
        Repr::Listpack(bytes) => (bytes, 2),
        Repr::ListpackEx(bytes) => (bytes, 3),
        Repr::Table(_) => return make_table(entry).remove(field),
    };
    let Some(at) = find(bytes, field, stride) else { return false };
    match stride {
        2 => listpack::delete(&mut Packed(entry), at, stride),
        _ => listpack::delete(triples(entry), at, stride),
    }
    true
}

/// Sets or removes a field's deadline, in milliseconds since 1970; false if there is no such field.
pub fn set_expiry(entry: &mut Entry, field: &[u8], expiry: Option<i64>) -> bool {
    if expiry.is_some() {
        make_expirable(entry);
    }
    match view(entry, i64::MIN).repr {
        Repr::Listpack(bytes) => find(bytes, field, 2).is_some(),
        Repr::ListpackEx(bytes) => {
            let found = find(bytes, field, 3);
            found.inspect(|at| triples::set_expiry(triples(entry), *at, expiry)).is_some()
        }
        Repr::Table(_) => make_table(entry).set_expiry(field, expiry),
    }
}

/// Removes up to `max` fields whose deadline is over at `now_ms`, showing each; says how many.
pub fn remove_due(entry: &mut Entry, now_ms: i64, max: usize, each: &mut dyn FnMut(&[u8])) -> usize {
    match entry.payload_mut() {
        PayloadMut::Object(Object::Hash(Large::Triples(bytes))) => {
            triples::remove_due(bytes, now_ms, max, each)
        }
        PayloadMut::Object(Object::Hash(Large::Table(table))) => table.remove_due(now_ms, max, each),
        _ => 0,
    }
}

/// Makes a value from a listpack of a file, of pairs or (with deadlines) of triples; see [`super::load`].
pub(super) fn load(fresh: Fresh<'_>, limits: &Limits, bytes: &[u8], stride: usize) -> Result<Entry, Unfit> {
    let (mut names, mut count, mut next_name) = (Distinct::new(), 0, 0);
    let lp = listpack::adopt_with(bytes, |value| {
        if count == next_name {
            names.add(value);
            next_name += stride;
        }
        count += 1;
    });
    let lp = lp.filter(|_| count == next_name).ok_or(Unfit)?;
    if !names.all_are(listpack::iter(&lp).step_by(stride)) {
        return Err(Unfit);
    }
    let mut entry = match stride {
        2 => fresh.entry(Kind::Hash, packed::payload(&lp)),
        _ => {
            triples::check(&lp)?;
            let large = Large::Triples(lp.into_owned().into_boxed_slice());
            fresh.entry(Kind::Hash, NewPayload::Object(Box::new(Object::Hash(large))))
        }
    };
    if count / stride > limits.max_listpack_entries {
        make_table(&mut entry);
    }
    Ok(entry)
}

fn triples(entry: &mut Entry) -> &mut Box<[u8]> {
    match entry.payload_mut() {
        PayloadMut::Object(Object::Hash(Large::Triples(bytes))) => bytes,
        _ => unreachable!("the hash is a listpack with deadlines"),
    }
}

/// Gives a listpack room for deadlines.
fn make_expirable(entry: &mut Entry) {
    if let Repr::Listpack(bytes) = view(entry, i64::MIN).repr {
        let large = Large::Triples(triples::from_pairs(bytes));
        entry.set_payload(Kind::Hash as u8, NewPayload::Object(Box::new(Object::Hash(large))));
    }
}

/// The hash as a table, whatever it was.
pub fn make_table(entry: &mut Entry) -> &mut Table {
    let all = view(entry, i64::MIN);
    if !matches!(all.repr, Repr::Table(_)) {
        let mut table = Table::default();
        let (mut name, mut value) = (Digits::default(), Digits::default());
        for item in all.items() {
            let (name, value) = (item.field.bytes(&mut name), item.value.bytes(&mut value));
            table.insert_new(hash_key(name), name, value, item.expiry);
        }
        let large = Large::Table(table);
        entry.set_payload(Kind::Hash as u8, NewPayload::Object(Box::new(Object::Hash(large))));
    }
    match entry.payload_mut() {
        PayloadMut::Object(Object::Hash(Large::Table(table))) => table,
        _ => unreachable!("the hash was made a table"),
    }
}
