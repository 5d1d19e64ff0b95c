//! Stream IDs in arguments and replies: every spelling that some command takes, each with its rule here.

use super::error::CmdError;
use crate::resp::Reply;
use crate::util::num::parse_u64_lax;
use crate::value::stream::{Id, NewId};

const INVALID: CmdError = CmdError::new("ERR Invalid stream ID specified as stream command argument");
const INVALID_START: CmdError = CmdError::new("ERR invalid start ID for the interval");
const INVALID_END: CmdError = CmdError::new("ERR invalid end ID for the interval");
/// Longer texts are no IDs.
const TEXT_MAX: usize = 127;

/// `ms-seq`, or `ms` with a sequence number that depends on the place.
pub(super) fn strict(bytes: &[u8], missing_seq: u64) -> Result<Id, CmdError> {
    parse(bytes, missing_seq).ok_or(INVALID)
}

fn parse(bytes: &[u8], missing_seq: u64) -> Option<Id> {
    if bytes.len() > TEXT_MAX {
        return None;
    }
    let Some(dash) = bytes.iter().position(|byte| *byte == b'-') else {
        return Some(Id::new(parse_u64_lax(bytes)?, missing_seq));
    };
    Some(Id::new(parse_u64_lax(&bytes[..dash])?, parse_u64_lax(&bytes[dash + 1..])?))
}

/// The same, or `-` and `+` for the lowest and the highest one.
pub(super) fn any(bytes: &[u8], missing_seq: u64) -> Result<Id, CmdError> {
    match bytes {
        b"-" => Ok(Id::MIN),
        b"+" => Ok(Id::MAX),
        _ => strict(bytes, missing_seq),
    }
}

/// The ID of a new entry: `*`, `ms-*`, `ms-seq` or `ms`.
pub(super) fn new(bytes: &[u8]) -> Result<NewId, CmdError> {
    if bytes == b"*" {
        return Ok(NewId::Auto);
    }
    match bytes.strip_suffix(b"-*") {
        Some(ms) if !ms.contains(&b'-') && bytes.len() <= TEXT_MAX => {
            parse_u64_lax(ms).map(NewId::AutoSeq).ok_or(INVALID)
        }
        _ => strict(bytes, 0).map(NewId::Given),
    }
}

/// The first ID of an interval; `(` leaves out the ID itself.
pub(super) fn start(bytes: &[u8]) -> Result<Id, CmdError> {
    match exclusive(bytes) {
        Some(rest) => strict(rest, 0)?.next().ok_or(INVALID_START),
        None => any(bytes, 0),
    }
}

/// The last ID of an interval; `(` leaves out the ID itself.
pub(super) fn end(bytes: &[u8]) -> Result<Id, CmdError> {
    match exclusive(bytes) {
        Some(rest) => strict(rest, u64::MAX)?.prev().ok_or(INVALID_END),
        None => any(bytes, u64::MAX),
    }
}

fn exclusive(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(b"(").filter(|rest| !rest.is_empty())
}

/// Writes an ID.
#[inline]
pub(super) fn reply(reply: &mut Reply, id: Id) {
    reply.bulk(&id.text());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        assert_eq!(strict(b"5-7", 0), Ok(Id::new(5, 7)));
        assert_eq!(strict(b"5", 9), Ok(Id::new(5, 9)));
        assert_eq!(strict(b"005-07", 9), Ok(Id::new(5, 7)));
        for bad in ["", "-", "+", "x", "5-", "-5", "5--7", "5-7-9", "5-*", "18446744073709551616", "5 ", "*"]
        {
            assert_eq!(strict(bad.as_bytes(), 0), Err(INVALID), "{bad}");
        }
        assert_eq!((any(b"-", 0), any(b"+", 0)), (Ok(Id::MIN), Ok(Id::MAX)));
        assert_eq!((new(b"*"), new(b"3-*")), (Ok(NewId::Auto), Ok(NewId::AutoSeq(3))));
        assert_eq!(
            (new(b"3"), new(b"3-x-*"), new(b"-*")),
            (Ok(NewId::Given(Id::new(3, 0))), Err(INVALID), Err(INVALID))
        );
        assert_eq!((start(b"(3"), end(b"(3-0")), (Ok(Id::new(3, 1)), Ok(Id::new(2, u64::MAX))));
        assert_eq!((start(b"(-"), start(b"("), end(b"(+")), (Err(INVALID), Err(INVALID), Err(INVALID)));
        assert_eq!(end(b"(0-0"), Err(INVALID_END));
        assert_eq!(start(b"(18446744073709551615-18446744073709551615"), Err(INVALID_START));
    }
}
