//! HyperLogLogs: PFADD, PFCOUNT, PFMERGE, and PFDEBUG and PFSELFTEST, which look inside. The layout is in
//! `value::hyperloglog`.

use super::args::is;
use super::error::{CmdError, CmdResult};
use super::spec::{Acl, Flags, KeySpec, SPEC, Spec, access, key, range};
use super::string::ADDS;
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::keyspace::change::{Event, class};
use crate::util::rng::Rng;
use crate::value::hyperloglog::{self as hll, Corrupt, Encoding, REGISTERS, Registers, Run};
use crate::value::string::{self, Digits};
use crate::value::{Entry, Kind};

const HLL: Spec = Spec { group: "hyperloglog", acl: Acl::HYPERLOGLOG, since: "2.8.9", ..SPEC };

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "pfadd",
            arity: -2,
            flags: ADDS.with(Flags::FAST),
            keys: &[key(1, access::RW | access::INSERT)],
            summary: "Adds elements to a HyperLogLog; creates the key if needed.",
            complexity: "O(1) for each element.",
            usage: "key [element [element ...]]",
            ..HLL
        },
        pfadd,
    ),
    (
        Spec {
            name: "pfcount",
            arity: -2,
            flags: Flags::READONLY.with(Flags::MAY_REPLICATE),
            keys: &[KeySpec {
                notes: "RW because it may change the internal representation of the key, and propagate to \
                        replicas",
                ..range(1, -1, 1, access::RW | access::ACCESS)
            }],
            summary: "Estimates how many different elements were added to HyperLogLogs.",
            complexity: "O(1) for one key, O(N) with a much higher constant for N keys.",
            usage: "key [key ...]",
            ..HLL
        },
        pfcount,
    ),
    (
        Spec {
            name: "pfmerge",
            arity: -2,
            flags: ADDS,
            keys: &[
                key(1, access::RW | access::ACCESS | access::INSERT),
                range(2, -1, 1, access::RO | access::ACCESS),
            ],
            summary: "Merges HyperLogLogs into one.",
            complexity: "O(N) for N HyperLogLogs, with a high constant.",
            usage: "destkey [sourcekey [sourcekey ...]]",
            ..HLL
        },
        pfmerge,
    ),
    (
        Spec {
            name: "pfdebug",
            arity: 3,
            flags: ADDS.with(Flags::ADMIN),
            keys: &[key(2, access::RW | access::ACCESS)],
            summary: "Shows the inside of a HyperLogLog.",
            complexity: "N/A",
            usage: "subcommand key",
            ..HLL
        },
        pfdebug,
    ),
    (
        Spec {
            name: "pfselftest",
            arity: 1,
            flags: Flags::ADMIN,
            summary: "Tests registers and estimates of HyperLogLogs.",
            complexity: "N/A",
            ..HLL
        },
        pfselftest,
    ),
];

const PFADD_EVENT: Event = Event::new(class::STRING, "pfadd");

const NOT_HLL: CmdError = CmdError::new("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPT: CmdError = CmdError::new("INVALIDOBJ Corrupted HLL object detected");
const NO_KEY: CmdError = CmdError::new("ERR The specified key does not exist");
const NOT_SPARSE: CmdError = CmdError::new("ERR HLL encoding is not sparse");

impl From<Corrupt> for CmdError {
    fn from(_: Corrupt) -> CmdError {
        CORRUPT
    }
}

/// The encoding of a string that has to be a HyperLogLog.
fn encoding(entry: &Entry) -> Result<Encoding, CmdError> {
    hll::encoding(string::bytes(entry, &mut Digits::default())).ok_or(NOT_HLL)
}

/// A copy of the bytes, to be changed.
fn copy_of(entry: &Entry) -> Vec<u8> {
    string::bytes(entry, &mut Digits::default()).to_vec()
}

fn pfadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (db, key, args) = (ctx.db, ctx.key(1), ctx.args);
    let elements = || (2..args.len()).map(|i| hll::place(args.get(i)));
    let max = ctx.config.hll_sparse_max_bytes;
    let add = |bytes: &mut Vec<u8>| {
        elements().try_fold(0, |changed, (index, value)| {
            Ok::<u64, Corrupt>(changed + u64::from(hll::raise(bytes, max, index, value)?))
        })
    };
    let changed = if let Some(mut entry) = of_kind(ctx.ks.write(db, key), Kind::String)? {
        match encoding(&entry)? {
            Encoding::Dense => string::change(&mut entry, hll::DENSE_BYTES, |bytes| {
                let raised = elements().filter(|(index, value)| hll::raise_dense(bytes, *index, *value));
                let changed = raised.count() as u64;
                if changed > 0 {
                    hll::invalidate(bytes);
                }
                changed
            }),
            // Changed apart from the entry: damage may be found on the way.
            Encoding::Sparse => {
                let mut bytes = copy_of(&entry);
                let changed = add(&mut bytes)?;
                if changed > 0 {
                    hll::invalidate(&mut bytes);
                    string::replace_changed(&mut entry, &bytes);
                }
                changed
            }
        }
    } else {
        let mut bytes = hll::empty();
        let changed = add(&mut bytes)?;
        hll::invalidate(&mut bytes);
        let mut entry = ctx.ks.insert(db, key, Kind::String, string::text_payload(b""), None);
        string::replace_changed(&mut entry, &bytes);
        changed + 1
    };
    if changed > 0 {
        ctx.ks.changed(db, key.bytes, PFADD_EVENT);
        ctx.ks.changes.dirty += changed - 1;
    }
    ctx.reply.int(i64::from(changed > 0));
    Ok(Outcome::Done)
}

/// Merges the keys from argument `first` on. Says whether one of them is dense.
fn merge_keys(ctx: &mut Ctx<'_>, first: usize, into: &mut Registers) -> Result<bool, CmdError> {
    let mut any_dense = false;
    for i in first..ctx.args.len() {
        let Some(entry) = of_kind(ctx.ks.read(ctx.db, ctx.key(i)), Kind::String)? else { continue };
        any_dense |= encoding(&entry)? == Encoding::Dense;
        hll::merge(string::bytes(&entry, &mut Digits::default()), into)?;
    }
    Ok(any_dense)
}

fn pfcount(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.args.len() > 2 {
        let mut registers = [0; REGISTERS];
        merge_keys(ctx, 1, &mut registers)?;
        ctx.reply.int(hll::estimate_registers(&registers) as i64);
        return Ok(Outcome::Done);
    }
    let (db, key) = (ctx.db, ctx.key(1));
    let Some(mut entry) = of_kind(ctx.ks.read(db, key), Kind::String)? else {
        ctx.reply.int(0);
        return Ok(Outcome::Done);
    };
    encoding(&entry)?;
    let cached = hll::cached(string::bytes(&entry, &mut Digits::default()));
    let count = match cached {
        Some(count) => count,
        None => {
            let count = hll::estimate(string::bytes(&entry, &mut Digits::default()))?;
            string::change(&mut entry, 0, |bytes| hll::set_cached(bytes, count));
            drop(entry);
            // The value is another now, for those who watch it and for those who keep a copy.
            ctx.ks.modified(db, key.bytes);
            ctx.ks.changes.dirty += 1;
            count
        }
    };
    ctx.reply.int(count as i64);
    Ok(Outcome::Done)
}

fn pfmerge(ctx: &mut Ctx<'_>) -> CmdResult {
    let (db, key, max) = (ctx.db, ctx.key(1), ctx.config.hll_sparse_max_bytes);
    let mut registers = [0; REGISTERS];
    let any_dense = merge_keys(ctx, 1, &mut registers)?;
    let found = ctx.ks.write(db, key);
    let mut bytes = found.as_ref().map_or_else(hll::empty, |entry| copy_of(entry));
    drop(found);
    if any_dense {
        hll::make_dense(&mut bytes)?;
    }
    for (index, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        hll::raise(&mut bytes, max, index, *value)?;
    }
    hll::invalidate(&mut bytes);
    if let Some(mut entry) = ctx.ks.write(db, key) {
        string::replace_changed(&mut entry, &bytes);
    } else {
        let mut entry = ctx.ks.insert(db, key, Kind::String, string::text_payload(b""), None);
        string::replace_changed(&mut entry, &bytes);
    }
    ctx.ks.changed(db, key.bytes, PFADD_EVENT);
    ctx.reply.ok();
    Ok(Outcome::Done)
}

// ---- looking inside ----

fn pfdebug(ctx: &mut Ctx<'_>) -> CmdResult {
    let (db, key, word) = (ctx.db, ctx.key(2), ctx.args.get(1));
    let Some(entry) = of_kind(ctx.ks.write(db, key), Kind::String)? else { return Err(NO_KEY) };
    let (encoding, bytes) = (encoding(&entry)?, copy_of(&entry));
    drop(entry);
    match word {
        word if is(word, "getreg") => {
            let (bytes, _) = to_dense(ctx, encoding, bytes)?;
            ctx.reply.array(REGISTERS);
            (0..REGISTERS).for_each(|i| ctx.reply.int(i64::from(hll::dense_register(&bytes, i))));
        }
        word if is(word, "decode") => {
            if encoding == Encoding::Dense {
                return Err(NOT_SPARSE);
            }
            let runs: Vec<String> = hll::runs(&bytes).map(show_run).collect();
            ctx.reply.bulk_str(&runs.join(" "));
        }
        word if is(word, "encoding") => {
            ctx.reply.simple(if encoding == Encoding::Dense { "dense" } else { "sparse" });
        }
        word if is(word, "todense") => {
            let (_, converted) = to_dense(ctx, encoding, bytes)?;
            ctx.reply.int(converted);
        }
        _ => {
            let mut text = b"ERR Unknown PFDEBUG subcommand '".to_vec();
            text.extend_from_slice(word);
            text.push(b'\'');
            return Err(CmdError::text(text));
        }
    }
    Ok(Outcome::Done)
}

fn show_run((run, is_long): (Run, bool)) -> String {
    match run {
        Run::Zeros(len) => format!("{}:{len}", if is_long { 'Z' } else { 'z' }),
        Run::Of(value, len) => format!("v:{value},{len}"),
    }
}

/// Makes the value of argument 2 dense. Gives its bytes and how many values were changed.
fn to_dense(ctx: &mut Ctx<'_>, encoding: Encoding, mut bytes: Vec<u8>) -> Result<(Vec<u8>, i64), CmdError> {
    if encoding == Encoding::Dense {
        return Ok((bytes, 0));
    }
    hll::make_dense(&mut bytes)?;
    let (db, key) = (ctx.db, ctx.key(2));
    let mut entry = ctx.ks.write(db, key).expect("the key was just read");
    string::replace_changed(&mut entry, &bytes);
    drop(entry);
    ctx.ks.modified(db, key.bytes);
    ctx.ks.changes.dirty += 1;
    Ok((bytes, 1))
}

/// Times that all registers are written and read.
const REGISTER_ROUNDS: usize = 50;
/// Elements that are added; a power of ten.
const ELEMENTS: u64 = 1_000_000;

fn pfselftest(ctx: &mut Ctx<'_>) -> CmdResult {
    let rng = &mut ctx.ks.rng;
    test_registers(rng).and_then(|()| test_estimates(rng, ctx.config.hll_sparse_max_bytes))?;
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn test_failed(what: &str) -> CmdError {
    CmdError::text(format!("ERR TESTFAILED {what}"))
}

/// Registers hold what is written to them and leave their neighbours alone.
fn test_registers(rng: &mut Rng) -> Result<(), CmdError> {
    let mut bytes = vec![0; hll::DENSE_BYTES];
    for _ in 0..REGISTER_ROUNDS {
        let values: Vec<u8> = (0..REGISTERS).map(|_| rng.below(64) as u8).collect();
        for (i, value) in values.iter().enumerate() {
            hll::set_dense_register(&mut bytes, i, *value);
        }
        for (i, value) in values.iter().enumerate() {
            let found = hll::dense_register(&bytes, i);
            if found != *value {
                return Err(test_failed(&format!("Register {i} should be {value} but is {found}")));
            }
        }
    }
    Ok(())
}

/// Estimates are within six times the standard error, and do not depend on the encoding.
fn test_estimates(rng: &mut Rng, sparse_max: usize) -> Result<(), CmdError> {
    /// Of an estimate: 1.04 / sqrt(registers).
    const STANDARD_ERROR: f64 = 1.04 / 128.0;
    let (mut dense, mut grown) = (hll::empty(), hll::empty());
    hll::make_dense(&mut dense)?;
    let seed = rng.next_u64();
    let mut checkpoint = 1;
    for n in 1..=ELEMENTS {
        let (index, value) = hll::place(&(n ^ seed).to_le_bytes());
        hll::raise_dense(&mut dense, index, value);
        hll::raise(&mut grown, sparse_max, index, value)?;
        if n != checkpoint {
            continue;
        }
        if (n as usize) < sparse_max / 2 && hll::encoding(&grown) != Some(Encoding::Sparse) {
            return Err(test_failed("sparse encoding not used"));
        }
        let estimate = hll::estimate(&dense)?;
        if estimate != hll::estimate(&grown)? {
            return Err(test_failed("dense/sparse disagree"));
        }
        let off = estimate.abs_diff(n);
        // Few elements may share a register now and then.
        let allowed = if n == 10 { 1 } else { (STANDARD_ERROR * 6.0 * n as f64).ceil() as u64 };
        if off > allowed {
            return Err(test_failed(&format!("Too big error. card:{n} abserr:{off}")));
        }
        checkpoint *= 10;
    }
    Ok(())
}
