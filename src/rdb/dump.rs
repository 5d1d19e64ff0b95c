//! The payloads of DUMP and RESTORE: a value as in a snapshot, the version (u16), and a checksum over both,
//! lowest bytes first.

use super::decode::Draft;
use super::encode::{put, type_of};
use super::format::{Family, Format, Type, VERSION_LOWEST, kind, opcode};
use super::input::Input;
use super::output::{Compression, Output};
use super::{Fault, RdbError};
use crate::util::crc::crc64;
use crate::value::{Entry, Fresh, Limits, is_empty};

/// Bytes of version and checksum.
const FOOTER: usize = 10;
/// Whether the checksum of a payload counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It has to be right.
    Verify,
    /// Nobody looks (DEBUG SET-SKIP-CHECKSUM-VALIDATION).
    Skip,
}

/// The payload of an entry's value, in the lowest version that holds it.
pub fn dump(entry: &Entry, compression: Compression) -> Vec<u8> {
    let mut out = Output::new(Vec::new(), compression);
    let of_type = type_of(entry, VERSION_LOWEST);
    out.byte(of_type);
    put(&mut out, entry, of_type);
    out.bytes(&kind::version(of_type).to_le_bytes());
    let (mut payload, checksum) = out.finish().expect("memory takes everything");
    payload.extend_from_slice(&checksum.value().to_le_bytes());
    payload
}

/// The payload of FUNCTION DUMP: the sources of libraries.
pub fn dump_libraries(sources: &[&[u8]], compression: Compression) -> Vec<u8> {
    let mut out = Output::new(Vec::new(), compression);
    for source in sources {
        out.byte(opcode::FUNCTION);
        out.string(source);
    }
    out.bytes(&VERSION_LOWEST.to_le_bytes());
    let (mut payload, checksum) = out.finish().expect("memory takes everything");
    payload.extend_from_slice(&checksum.value().to_le_bytes());
    payload
}

/// The sources of libraries in a payload that was verified.
pub fn libraries(payload: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
    let mut input = Input::of_payload(&payload[..payload.len().saturating_sub(FOOTER)]);
    let mut sources = Vec::new();
    while !input.is_at_end()? {
        match input.byte()? {
            opcode::FUNCTION => sources.push(input.string()?.bytes().into_owned()),
            opcode::FUNCTION_PRE_GA => {
                return Err(input.fault(Fault::Refused("Pre-GA function format not supported".to_owned())));
            }
            _ => return Err(input.fault(Fault::Refused("given type is not a function".to_owned()))),
        }
    }
    Ok(sources)
}

/// Whether a payload is whole and of a version that can be read.
pub fn verify(payload: &[u8], checksum: Checksum) -> bool {
    let Some((body, sum)) = payload.split_last_chunk::<8>() else { return false };
    let Some((_, version)) = body.split_last_chunk::<2>() else { return false };
    // A later version may hold what is not known here.
    !Format::of_payload(u16::from_le_bytes(*version)).is_newer()
        && (checksum == Checksum::Skip || u64::from_le_bytes(*sum) == crc64(body))
}

/// Whose a payload is: its version tells.
fn family_of(payload: &[u8]) -> Family {
    let version = payload.len().checked_sub(FOOTER).and_then(|at| payload[at..].first_chunk());
    version.map_or(Family::Redis, |version| Format::of_payload(u16::from_le_bytes(*version)).family)
}

/// The value of a payload that was verified, under a key. None when it is a collection of nothing.
pub fn restore(
    payload: &[u8],
    key: &[u8],
    expiry: Option<i64>,
    limits: &Limits,
) -> Result<Option<Entry>, RdbError> {
    let mut input = Input::of_payload(&payload[..payload.len().saturating_sub(FOOTER)]);
    let of_type = Type { number: input.byte()?, family: family_of(payload) };
    let mut draft = Draft::begin(&mut input, of_type, Fresh { key, expiry }, limits)?;
    let whole = draft.step(&mut input, limits, u64::MAX)?;
    debug_assert!(whole, "a step without end comes to the end");
    if !input.is_at_end()? {
        return Err(input.corrupt("Bytes behind the value"));
    }
    Ok(Some(draft.into_entry()).filter(|entry| !is_empty(entry)))
}
