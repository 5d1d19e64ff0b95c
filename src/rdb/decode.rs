//! Reading values, in steps: a value of many elements is built over several turns of the loop. Every length,
//! order and duplicate is checked here or by the `load` functions of the types, whatever
//! `sanitize-dump-payload` says: what was taken in can be trusted from then on.

use super::format::{Family, Type, container, kind as types, score};
use super::input::{Input, Reading, Text};
use super::{Fault, legacy};
use crate::collections::entry::NewPayload;
use crate::collections::listpack;
use crate::util::num;
use crate::value::{
    Entry, Fresh, Kind, Limits, Object, PackedKind, Value, hash, list, load, set, stream, string, zset,
};
use std::io::Read;

/// Deadlines of fields have 48 bits, in milliseconds since 1970.
const FIELD_EXPIRY_MAX: u64 = (1 << 48) - 1;

/// A value that is being read.
pub(super) struct Draft {
    entry: Entry,
    elements: Elements,
    left: u64,
    of_type: u8,
    field: Vec<u8>,
    value: Vec<u8>,
}

/// What the elements of the value are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elements {
    /// There are none to come.
    None,
    /// Strings of a list.
    List,
    /// Nodes of a list that are ziplists.
    Ziplists,
    /// Nodes of a list of either kind.
    Nodes,
    /// Members of a set.
    Members,
    /// Members and scores as text.
    TextScores,
    /// Members and scores as doubles.
    BinaryScores,
    /// Fields and values.
    Fields,
    /// Fields, values and deadlines (milliseconds since 1970, -1: none).
    FieldsWithDeadlines,
    /// Nodes of a stream; more is behind them.
    StreamNodes,
    /// Deadlines, fields and values; deadlines are relative to this one, if there is one.
    ExpiringFields { since: Option<u64> },
}

impl Draft {
    /// Begins with the value of a type, under a key.
    pub(super) fn begin<R: Read>(
        input: &mut Input<R>,
        of_type: Type,
        fresh: Fresh<'_>,
        limits: &Limits,
    ) -> Reading<Draft> {
        let Some((kind, elements)) = elements_of(of_type) else {
            return Err(input.fault(Fault::unknown("encoding type", of_type.number)));
        };
        let of_type = of_type.number;
        let entry = match (kind, elements) {
            (Kind::String, _) => read_string(input, fresh)?,
            (_, Elements::None) => read_packed(input, of_type, fresh, limits)?,
            (kind, _) => fresh.entry(kind, nothing(kind)),
        };
        let (field, value) = (Vec::new(), Vec::new());
        let mut draft = Draft { entry, elements, left: 0, of_type, field, value };
        if elements != Elements::None {
            draft.read_count(input, of_type, limits)?;
        }
        if elements == Elements::Nodes && draft.left == 1 {
            draft.read_short_list(input, fresh, limits)?;
        }
        Ok(draft)
    }

    /// Reads elements until all are there or the input is at `until`; true when the value is whole.
    pub(super) fn step<R: Read>(
        &mut self,
        input: &mut Input<R>,
        limits: &Limits,
        until: u64,
    ) -> Reading<bool> {
        while self.left > 0 {
            self.left -= 1;
            self.read_element(input, limits)?;
            if self.left > 0 && input.position() >= until {
                return Ok(false);
            }
        }
        if self.elements == Elements::StreamNodes {
            super::stream::read_rest(input, stream::view_mut(&mut self.entry), self.of_type)?;
        }
        if matches!(self.elements, Elements::List | Elements::Ziplists | Elements::Nodes) {
            list::fit(&mut self.entry, &limits.list);
        }
        Ok(true)
    }

    /// The entry; its value may be a collection of nothing.
    pub(super) fn into_entry(self) -> Entry {
        self.entry
    }

    fn read_count<R: Read>(&mut self, input: &mut Input<R>, of_type: u8, limits: &Limits) -> Reading<()> {
        if of_type == types::HASH_METADATA {
            let since = input.fixed64()?;
            if since > FIELD_EXPIRY_MAX + 1 {
                return Err(input.corrupt("Hash with an invalid earliest deadline"));
            }
            self.elements = Elements::ExpiringFields { since: Some(since) };
        }
        self.left = input.length()?;
        let count = usize::try_from(self.left).unwrap_or(usize::MAX);
        // Only the encoding is chosen ahead; memory is taken as elements come.
        match self.elements {
            Elements::TextScores | Elements::BinaryScores => {
                zset::prepare(&mut self.entry, &limits.zset, count, 0);
            }
            Elements::Fields | Elements::FieldsWithDeadlines | Elements::ExpiringFields { .. } => {
                hash::prepare(&mut self.entry, &limits.hash, count, std::iter::empty());
            }
            _ => {}
        }
        Ok(())
    }

    fn read_element<R: Read>(&mut self, input: &mut Input<R>, limits: &Limits) -> Reading<()> {
        match self.elements {
            Elements::None => unreachable!("there is nothing to come"),
            Elements::List => {
                input.string_into(&mut self.field)?;
                list::push(&mut self.entry, &limits.list, list::End::Back, std::iter::once(&self.field[..]));
            }
            Elements::Ziplists => {
                input.string_into(&mut self.value)?;
                let values = legacy::ziplist(&self.value);
                let values = values.ok_or_else(|| input.corrupt("Ziplist integrity check failed."))?;
                let node = listpack::from_values(values.into_iter().map(settled));
                list::make_quicklist(&mut self.entry).push_listpack(node);
            }
            Elements::Nodes => {
                let form = input.length()?;
                self.read_node(input, form)?;
            }
            Elements::StreamNodes => {
                super::stream::read_node(input, stream::view_mut(&mut self.entry), &mut self.value)?;
            }
            Elements::Members => {
                input.string_into(&mut self.field)?;
                if set::view(&self.entry).is_empty() {
                    let count = usize::try_from(self.left).unwrap_or(usize::MAX).saturating_add(1);
                    set::prepare(&mut self.entry, &limits.set, &self.field, count);
                }
                if !set::add(&mut self.entry, &limits.set, &set::Probe::new(&self.field)) {
                    return Err(input.corrupt("Duplicate set members detected"));
                }
            }
            Elements::TextScores | Elements::BinaryScores => self.read_member(input, limits)?,
            Elements::Fields => {
                self.read_pair(input)?;
                self.add_field(input, limits, hash::FieldTtl::Clear)?;
            }
            Elements::FieldsWithDeadlines => {
                self.read_pair(input)?;
                let ttl = match input.fixed64()? {
                    u64::MAX => hash::FieldTtl::Clear,
                    at => deadline(input, Some(at))?,
                };
                self.add_field(input, limits, ttl)?;
            }
            Elements::ExpiringFields { since } => {
                let ttl = match input.length()? {
                    0 => hash::FieldTtl::Clear,
                    // Before the first release the deadline itself stood here.
                    ttl => {
                        let at = since.map_or(Some(ttl), |since| (ttl - 1).checked_add(since));
                        deadline(input, at)?
                    }
                };
                self.read_pair(input)?;
                self.add_field(input, limits, ttl)?;
            }
        }
        Ok(())
    }

    /// A list of one node: it needs no row of nodes if that is a listpack.
    fn read_short_list<R: Read>(
        &mut self,
        input: &mut Input<R>,
        fresh: Fresh<'_>,
        limits: &Limits,
    ) -> Reading<()> {
        self.left = 0;
        let form = input.length()?;
        if form != container::PACKED {
            return self.read_node(input, form);
        }
        let loaded = input.unpacked(|bytes| load(fresh, limits, PackedKind::List, bytes))?;
        self.entry = loaded.map_err(|_| input.corrupt("Listpack integrity check failed."))?;
        Ok(())
    }

    /// A node of this form.
    fn read_node<R: Read>(&mut self, input: &mut Input<R>, form: u64) -> Reading<()> {
        if form != container::PLAIN && form != container::PACKED {
            return Err(input.corrupt("Quicklist integrity check failed."));
        }
        input.string_into(&mut self.value)?;
        if form == container::PLAIN && !self.value.is_empty() {
            list::make_quicklist(&mut self.entry).push_plain(&self.value);
            return Ok(());
        }
        let node = listpack::adopt(&self.value).filter(|_| form == container::PACKED);
        let node = node.ok_or_else(|| input.corrupt("Listpack integrity check failed."))?;
        list::make_quicklist(&mut self.entry).push_listpack(node.into_owned());
        Ok(())
    }

    fn read_member<R: Read>(&mut self, input: &mut Input<R>, limits: &Limits) -> Reading<()> {
        input.string_into(&mut self.field)?;
        let score = match self.elements {
            Elements::TextScores => read_text_score(input)?,
            _ => f64::from_bits(input.fixed64()?),
        };
        if score.is_nan() {
            return Err(input.corrupt("Zset with NAN score detected"));
        }
        match zset::set(&mut self.entry, &limits.zset, &self.field, score) {
            None => Ok(()),
            Some(_) => Err(input.corrupt("Duplicate zset fields detected")),
        }
    }

    /// A field and its value.
    fn read_pair<R: Read>(&mut self, input: &mut Input<R>) -> Reading<()> {
        input.string_into(&mut self.field)?;
        input.string_into(&mut self.value)
    }

    /// Adds what was read to the hash.
    fn add_field<R: Read>(
        &mut self,
        input: &mut Input<R>,
        limits: &Limits,
        ttl: hash::FieldTtl,
    ) -> Reading<()> {
        match hash::set(&mut self.entry, &limits.hash, &self.field, &self.value, ttl) {
            true => Ok(()),
            false => Err(input.corrupt("Duplicate hash fields detected")),
        }
    }
}

/// What a type is and holds.
fn elements_of(of_type: Type) -> Option<(Kind, Elements)> {
    if of_type.family == Family::Valkey && of_type.number >= types::VALKEY_OWN {
        let known = of_type.number == types::VALKEY_HASH_2;
        return known.then_some((Kind::Hash, Elements::FieldsWithDeadlines));
    }
    Some(match of_type.number {
        types::STRING => (Kind::String, Elements::None),
        types::LIST => (Kind::List, Elements::List),
        types::LIST_ZIPLIST => (Kind::List, Elements::None),
        types::LIST_QUICKLIST => (Kind::List, Elements::Ziplists),
        types::LIST_QUICKLIST_2 => (Kind::List, Elements::Nodes),
        types::SET => (Kind::Set, Elements::Members),
        types::SET_INTSET | types::SET_LISTPACK => (Kind::Set, Elements::None),
        types::ZSET => (Kind::Zset, Elements::TextScores),
        types::ZSET_2 => (Kind::Zset, Elements::BinaryScores),
        types::ZSET_ZIPLIST | types::ZSET_LISTPACK => (Kind::Zset, Elements::None),
        types::HASH => (Kind::Hash, Elements::Fields),
        types::HASH_METADATA | types::HASH_METADATA_PRE_GA => {
            (Kind::Hash, Elements::ExpiringFields { since: None })
        }
        types::STREAM_LISTPACKS | types::STREAM_LISTPACKS_2 | types::STREAM_LISTPACKS_3 => {
            (Kind::Stream, Elements::StreamNodes)
        }
        types::HASH_ZIPMAP | types::HASH_ZIPLIST | types::HASH_LISTPACK => (Kind::Hash, Elements::None),
        types::HASH_LISTPACK_EX | types::HASH_LISTPACK_EX_PRE_GA => (Kind::Hash, Elements::None),
        _ => return None,
    })
}

/// The deadline of a field, if it can be one.
fn deadline<R: Read>(input: &Input<R>, at: Option<u64>) -> Reading<hash::FieldTtl> {
    match at {
        Some(at @ 1..=FIELD_EXPIRY_MAX) => Ok(hash::FieldTtl::At(at as i64)),
        _ => Err(input.corrupt("Hash field with an invalid deadline")),
    }
}

/// A collection of nothing.
fn nothing(kind: Kind) -> NewPayload<'static, Object> {
    match kind {
        Kind::Set => set::empty(),
        Kind::Zset => zset::empty(),
        Kind::Hash => hash::empty(),
        Kind::List => list::empty(),
        Kind::Stream => stream::payload(stream::Stream::default()),
        Kind::String => NewPayload::Inline(b""),
    }
}

/// What is said of packed bytes that are not what they should be.
fn complaint(of_type: u8) -> &'static str {
    match of_type {
        types::HASH_ZIPMAP => "Zipmap integrity check failed.",
        types::LIST_ZIPLIST => "List ziplist integrity check failed.",
        types::ZSET_ZIPLIST => "Zset ziplist integrity check failed.",
        types::HASH_ZIPLIST => "Hash ziplist integrity check failed.",
        types::SET_INTSET => "Intset integrity check failed.",
        types::SET_LISTPACK => "Set listpack integrity check failed.",
        types::ZSET_LISTPACK => "Zset listpack integrity check failed.",
        types::HASH_LISTPACK => {
            "Hash listpack integrity check failed: no pairs, or listpack with dup elements"
        }
        _ => "Hash listpackex integrity check failed.",
    }
}

fn read_string<R: Read>(input: &mut Input<R>, fresh: Fresh<'_>) -> Reading<Entry> {
    let payload = match input.string_or_blob()? {
        Ok(Text::Integer(n)) => NewPayload::Int(n),
        Ok(Text::Bytes(bytes)) => string::payload(bytes, None),
        Err(blob) => NewPayload::Blob(blob),
    };
    Ok(fresh.entry(Kind::String, payload))
}

/// A value that is one string of packed bytes.
fn read_packed<R: Read>(
    input: &mut Input<R>,
    of_type: u8,
    fresh: Fresh<'_>,
    limits: &Limits,
) -> Reading<Entry> {
    if of_type == types::HASH_LISTPACK_EX {
        // The earliest deadline, which the listpack tells as well.
        input.fixed64()?;
    }
    let as_it_is = |kind, bytes: &[u8]| load(fresh, limits, kind, bytes).ok();
    let done = input.unpacked(|bytes| match of_type {
        types::HASH_ZIPMAP => from_zipmap(fresh, limits, bytes),
        types::LIST_ZIPLIST => from_ziplist(fresh, limits, PackedKind::List, bytes),
        types::ZSET_ZIPLIST => from_ziplist(fresh, limits, PackedKind::Zset, bytes),
        types::HASH_ZIPLIST => from_ziplist(fresh, limits, PackedKind::Hash, bytes),
        types::SET_INTSET => as_it_is(PackedKind::Intset, bytes),
        types::SET_LISTPACK => as_it_is(PackedKind::Set, bytes),
        types::ZSET_LISTPACK => as_it_is(PackedKind::Zset, bytes),
        types::HASH_LISTPACK => as_it_is(PackedKind::Hash, bytes),
        _ => as_it_is(PackedKind::HashWithExpiry, bytes),
    })?;
    done.ok_or_else(|| input.corrupt(complaint(of_type)))
}

fn read_text_score<R: Read>(input: &mut Input<R>) -> Reading<f64> {
    match input.byte()? {
        score::NAN => Ok(f64::NAN),
        score::INFINITE => Ok(f64::INFINITY),
        score::MINUS_INFINITE => Ok(f64::NEG_INFINITY),
        len => {
            let text = num::parse_f64(input.take(usize::from(len))?);
            text.ok_or_else(|| input.corrupt("Zset with a score that is no number"))
        }
    }
}

/// Makes a value from the elements of a ziplist; none when it is not a whole one.
fn from_ziplist(fresh: Fresh<'_>, limits: &Limits, kind: PackedKind, bytes: &[u8]) -> Option<Entry> {
    let values = legacy::ziplist(bytes)?;
    let lp = listpack::from_values(values.into_iter().map(settled));
    load(fresh, limits, kind, &lp).ok()
}

/// Makes a hash from a zipmap; none when it is not a whole one, or a field comes twice.
fn from_zipmap(fresh: Fresh<'_>, limits: &Limits, bytes: &[u8]) -> Option<Entry> {
    let mut entry = fresh.entry(Kind::Hash, hash::empty());
    for (field, value) in legacy::zipmap(bytes)? {
        if !hash::set(&mut entry, &limits.hash, field, value, hash::FieldTtl::Clear) {
            return None;
        }
    }
    Some(entry)
}

/// The value as a listpack keeps it: what looks like an integer is one.
fn settled(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Str(bytes) => Value::new(bytes),
        int => int,
    }
}
