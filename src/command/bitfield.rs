//! BITFIELD and BITFIELD_RO: integers of any width at any bit of a string, with a choice of what happens
//! when they would overflow.

use super::args::{Cursor, is};
use super::bitmap::{BITMAP, READS_KEY, SETBIT_EVENT, bytes_to, offset};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Flags, KeySpec, Spec, access, key};
use super::string_range::{Length, change};
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::resp::{Args, Reply};
use crate::util::bits;
use crate::util::num::parse_i64;
use crate::value::Kind;
use crate::value::string::{self, Digits};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "bitfield",
            arity: -2,
            flags: Flags::WRITE.with(Flags::DENYOOM),
            keys: &[KeySpec {
                notes: "This command allows both access and modification of the key",
                ..key(1, access::RW | access::UPDATE | access::ACCESS | access::VARIABLE_FLAGS)
            }],
            since: "3.2.0",
            summary: "Performs arbitrary bitfield integer operations on strings.",
            complexity: "O(1) for each subcommand specified",
            usage: "key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] \
                    <SET encoding offset value | INCRBY encoding offset increment>> ...]",
            get_keys: Some(bitfield_keys),
            ..BITMAP
        },
        |ctx| bitfield(ctx, Access::ReadWrite),
    ),
    (
        Spec {
            name: "bitfield_ro",
            arity: -2,
            flags: Flags::READONLY.with(Flags::FAST),
            keys: READS_KEY,
            since: "6.0.0",
            summary: "Performs arbitrary read-only bitfield integer operations on strings.",
            complexity: "O(1) for each subcommand specified",
            usage: "key [GET encoding offset [GET encoding offset ...]]",
            ..BITMAP
        },
        |ctx| bitfield(ctx, Access::ReadOnly),
    ),
];

const BAD_TYPE: CmdError = CmdError::new(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
);
const BAD_OVERFLOW: CmdError = CmdError::new("ERR Invalid OVERFLOW type specified");
const ONLY_GET: CmdError = CmdError::new("ERR BITFIELD_RO only supports the GET subcommand");

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

/// What happens to a result that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    /// Its low bits are kept.
    Wrap,
    /// The nearest value that fits is taken.
    Saturate,
    /// Nothing is changed and null is answered.
    Fail,
}

const OVERFLOWS: &[(&str, Overflow)] =
    &[("wrap", Overflow::Wrap), ("sat", Overflow::Saturate), ("fail", Overflow::Fail)];

/// An integer type: `i1` to `i64`, `u1` to `u63`.
#[derive(Clone, Copy, Debug)]
struct Field {
    signed: bool,
    width: u32,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    IncrBy(i64),
}

struct Op {
    action: Action,
    field: Field,
    at: u64,
    overflow: Overflow,
}

impl Field {
    fn parse(text: &[u8]) -> Result<Field, CmdError> {
        let (signed, digits) = match text {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(BAD_TYPE),
        };
        // The protocol has no unsigned integers of 64 bits.
        let width_max = if signed { 64 } else { 63 };
        match parse_i64(digits) {
            Some(width) if (1..=width_max).contains(&width) => Ok(Field { signed, width: width as u32 }),
            _ => Err(BAD_TYPE),
        }
    }

    fn min(self) -> i128 {
        if self.signed { -(1 << (self.width - 1)) } else { 0 }
    }

    fn max(self) -> i128 {
        (1 << (self.width - u32::from(self.signed))) - 1
    }

    /// The number that bits mean.
    fn value_of(self, bits: u64) -> i64 {
        let unused = bits::WIDTH_MAX - self.width;
        if self.signed { (bits << unused) as i64 >> unused } else { bits as i64 }
    }

    fn read(self, bytes: &[u8], at: u64) -> i64 {
        self.value_of(bits::get(bytes, at, self.width))
    }

    /// What is stored for `value`; none if it overflows and must not.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        if (self.min()..=self.max()).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Wrap => {
                Some(self.value_of(value as u64 & (u64::MAX >> (bits::WIDTH_MAX - self.width))))
            }
            Overflow::Saturate => Some(value.clamp(self.min(), self.max()) as i64),
            Overflow::Fail => None,
        }
    }
}

/// The operations, and the last bit that is written, if any.
fn parse(ctx: &Ctx<'_>) -> Result<(Vec<Op>, Option<u64>), CmdError> {
    let (mut ops, mut last) = (Vec::new(), None);
    let mut overflow = Overflow::Wrap;
    let mut cursor = Cursor::new(ctx.args, 2);
    while !cursor.is_done() {
        let word = cursor.take()?;
        let operands = cursor.left();
        let write = match word {
            word if is(word, "get") && operands >= 2 => None,
            word if is(word, "set") && operands >= 3 => Some(Action::Set as fn(i64) -> Action),
            word if is(word, "incrby") && operands >= 3 => Some(Action::IncrBy as fn(i64) -> Action),
            word if is(word, "overflow") && operands >= 1 => {
                let name = cursor.take()?;
                let found = OVERFLOWS.iter().find(|(word, _)| is(name, word));
                overflow = found.ok_or(BAD_OVERFLOW)?.1;
                continue;
            }
            _ => return Err(error::SYNTAX),
        };
        let field = Field::parse(cursor.take()?)?;
        let at = parse_offset(cursor.take()?, field, ctx.config.proto_max_bulk_len)?;
        let action = match write {
            Some(action) => {
                last = last.max(Some(at + u64::from(field.width) - 1));
                action(cursor.int()?)
            }
            None => Action::Get,
        };
        ops.push(Op { action, field, at, overflow });
    }
    Ok((ops, last))
}

/// An offset in bits, or with `#` in widths of the type.
fn parse_offset(text: &[u8], field: Field, len_max: usize) -> Result<u64, CmdError> {
    match text.strip_prefix(b"#") {
        Some(digits) => offset(digits, i64::from(field.width), len_max),
        None => offset(text, 1, len_max),
    }
}

fn bitfield(ctx: &mut Ctx<'_>, access: Access) -> CmdResult {
    let (ops, last) = parse(ctx)?;
    let key = ctx.key(1);
    let Some(last) = last else {
        let entry = of_kind(ctx.ks.read(ctx.db, key), Kind::String)?;
        let mut digits = Digits::default();
        let bytes = entry.as_ref().map_or(&b""[..], |entry| string::bytes(entry, &mut digits));
        ctx.reply.array(ops.len());
        ops.iter().for_each(|op| ctx.reply.int(op.field.read(bytes, op.at)));
        return Ok(Outcome::Done);
    };
    if access == Access::ReadOnly {
        return Err(ONLY_GET);
    }
    let reply = &mut *ctx.reply;
    let changes = change(ctx.ks, ctx.db, key, bytes_to(last), |bytes, length| {
        reply.array(ops.len());
        let changed = ops.iter().filter(|op| op.run(bytes, reply) == Change::Written);
        // A string that only grew has changed as well, and has to reach the log.
        let grown = u64::from(length == Length::Grown);
        (changed.count() as u64).max(grown)
    })?;
    if changes > 0 {
        ctx.ks.changed(ctx.db, key.bytes, SETBIT_EVENT);
        ctx.ks.changes.dirty += changes - 1;
    }
    Ok(Outcome::Done)
}

/// Whether an operation gave a field another value.
#[derive(PartialEq, Eq)]
enum Change {
    None,
    Written,
}

impl Op {
    /// Runs the operation and answers it.
    fn run(&self, bytes: &mut [u8], reply: &mut Reply) -> Change {
        let old = self.field.read(bytes, self.at);
        let wanted = match self.action {
            Action::Get => {
                reply.int(old);
                return Change::None;
            }
            // An unsigned field takes a negative number as the huge one with the same bits.
            Action::Set(value) if !self.field.signed => i128::from(value as u64),
            Action::Set(value) => i128::from(value),
            Action::IncrBy(delta) => i128::from(old) + i128::from(delta),
        };
        let Some(new) = self.field.fit(wanted, self.overflow) else {
            reply.null();
            return Change::None;
        };
        reply.int(if matches!(self.action, Action::Set(_)) { old } else { new });
        bits::put(bytes, self.at, self.field.width, new as u64);
        if new == old { Change::None } else { Change::Written }
    }
}

/// The key of BITFIELD: it is only read when there are but GETs.
fn bitfield_keys(args: &Args<'_>, out: &mut Vec<(usize, u32)>) -> bool {
    let mut cursor = Cursor::new(*args, 2);
    let mut reads_only = true;
    while let (true, Ok(word)) = (reads_only, cursor.take()) {
        let skip = match word {
            word if is(word, "get") => 2,
            word if is(word, "overflow") => 1,
            _ => usize::MAX,
        };
        reads_only = skip <= cursor.left();
        (0..skip.min(cursor.left())).for_each(|_| drop(cursor.take()));
    }
    let flags = if reads_only { access::RO } else { access::RW | access::UPDATE };
    out.push((1, flags | access::ACCESS));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_do_not_fit() {
        let u8 = Field { signed: false, width: 8 };
        let i8 = Field { signed: true, width: 8 };
        let i64 = Field { signed: true, width: 64 };
        for (field, value, want) in [
            (u8, 256, [Some(0), Some(255), None]),
            (u8, -1, [Some(255), Some(0), None]),
            (i8, 128, [Some(-128), Some(127), None]),
            (i8, -129, [Some(127), Some(-128), None]),
            (i8, -128, [Some(-128); 3]),
            (i64, 1 << 63, [Some(i64::MIN), Some(i64::MAX), None]),
        ] {
            for ((_, overflow), want) in OVERFLOWS.iter().zip(want) {
                assert_eq!(field.fit(value, *overflow), want, "{field:?} {value} {overflow:?}");
            }
        }
    }

    #[test]
    fn types() {
        for good in ["i1", "u1", "i64", "u63"] {
            assert!(Field::parse(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["i0", "u0", "i65", "u64", "x8", "i", "u-1", "i 8", ""] {
            assert!(Field::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
