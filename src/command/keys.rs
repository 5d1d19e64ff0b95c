//! Finds the keys of an argv by the key specs of its row. Used by COMMAND GETKEYS, ACL, tracking and
//! cluster routing; knows none of them.

use super::spec::{Begin, Find, KeySpec, Spec};
use crate::resp::Args;
use crate::util::num;

/// A key among the arguments: its index and the [`super::spec::access`] flags of its spec.
pub type FoundKey = (usize, u32);

/// Appends the keys of `args` to `out`. False when the arguments do not fit the specs (a count of keys
/// that is no number or points past the end).
pub fn find_keys(spec: &Spec, args: &Args<'_>, out: &mut Vec<FoundKey>) -> bool {
    if let Some(get_keys) = spec.get_keys {
        return get_keys(args, out);
    }
    spec.keys.iter().all(|key_spec| find_by_spec(key_spec, args, out))
}

/// Index of the first key when it is at a fixed place, else 0 (for prefetching).
pub fn fixed_first_key(spec: &Spec) -> usize {
    match spec.keys.first() {
        Some(KeySpec { begin: Begin::Index(i), find: Find::Range { .. }, .. }) => *i as usize,
        _ => 0,
    }
}

/// The key specs as far as one range says it: what COMMAND INFO had before there were key specs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegacyRange {
    /// First key; 0 if there is none.
    pub first: i32,
    /// Last key; negative: counted from the end.
    pub last: i32,
    /// Distance of keys.
    pub step: i32,
    /// Whether the range does not say everything (flag `movablekeys`).
    pub movable: bool,
}

/// The range over all key specs, made the way Redis makes it: specs that follow each other are joined.
pub fn legacy_range(spec: &Spec) -> LegacyRange {
    let incomplete = |key_spec: &KeySpec| key_spec.access & super::spec::access::INCOMPLETE != 0;
    if let [only] = spec.keys
        && let KeySpec { begin: Begin::Index(first), find: Find::Range { last, step, .. }, .. } = *only
    {
        let last = if last >= 0 { first + last } else { last };
        return LegacyRange { first, last, step, movable: incomplete(only) };
    }
    let mut range = LegacyRange::default();
    for key_spec in spec.keys {
        range.movable |= incomplete(key_spec);
        match (key_spec.begin, key_spec.find) {
            (Begin::Index(index), Find::Range { last, step: 1, .. })
                if range.last == 0 || range.last == index - 1 =>
            {
                range.first = if range.first == 0 { index } else { range.first.min(index) };
                range.last = if last >= 0 { index + last } else { last };
                range.step = 1;
            }
            _ => range.movable = true,
        }
    }
    range
}

fn find_by_spec(spec: &KeySpec, args: &Args<'_>, out: &mut Vec<FoundKey>) -> bool {
    let argc = args.len() as i64;
    let start = match spec.begin {
        Begin::Index(i) => i64::from(i),
        Begin::Keyword(word, from @ 0..) if matches!(spec.find, Find::Range { last: 0, .. }) => {
            find_after_each(word, from as usize, args, spec.access, out);
            return true;
        }
        Begin::Keyword(word, from) => match find_keyword(word, from, args) {
            Some(start) => start,
            None => return true,
        },
        Begin::Unknown => return true,
    };
    let (first, last, step) = match spec.find {
        Find::Range { last, step, limit } => {
            let last = match (last, limit) {
                (0.., _) => start + i64::from(last),
                (-1, 2..) => start + (argc - start) / i64::from(limit) - 1,
                _ => argc + i64::from(last),
            };
            (start, last, i64::from(step))
        }
        Find::KeyNum { at, first, step } => {
            let Some(count) = args.try_get((start + i64::from(at)) as usize).and_then(num::parse_i64) else {
                return false;
            };
            if count < 0 || count > argc {
                return false;
            }
            let first = start + i64::from(first);
            (first, first + (count - 1) * i64::from(step), i64::from(step))
        }
        Find::Unknown => return true,
    };
    if last >= argc || (first > last && !matches!(spec.find, Find::KeyNum { .. })) {
        return spec.access & super::spec::access::INCOMPLETE != 0;
    }
    let mut i = first;
    while i <= last {
        out.push((i as usize, spec.access));
        i += step;
    }
    true
}

/// The argument after each `word`: options may be repeated, and the command takes one of them.
fn find_after_each(word: &str, from: usize, args: &Args<'_>, access: u32, out: &mut Vec<FoundKey>) {
    let mut i = from;
    while i + 1 < args.len() {
        let hit = super::args::is(args.get(i), word);
        if hit {
            out.push((i + 1, access));
        }
        i += 1 + usize::from(hit);
    }
}

/// The argument after `word`; a negative `from` searches backwards from the end.
fn find_keyword(word: &str, from: i32, args: &Args<'_>) -> Option<i64> {
    let argc = args.len() as i64;
    let hit = |i: &i64| super::args::is(args.get(*i as usize), word);
    if from >= 0 {
        (i64::from(from)..argc - 1).find(hit).map(|i| i + 1)
    } else {
        (1..=(argc + i64::from(from)).min(argc - 2)).rev().find(hit).map(|i| i + 1)
    }
}
