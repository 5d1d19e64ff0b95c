//! LCS: the longest common subsequence of two strings, by the classic table of lengths. The path that is
//! taken back through the table, and so which of several subsequences is answered, is that of Redis.

use super::args::Cursor;
use super::error::{self, CmdError, CmdResult};
use super::spec::{Flags, Spec, access, range};
use super::string::STRING;
use super::{Ctx, DataFn, Outcome};
use crate::resp::{Args, Reply};
use crate::value::string::{self, Digits};
use crate::value::{Kind, kind};
use std::ops::Range;

/// The row.
pub const COMMANDS: &[(Spec, DataFn)] = &[(
    Spec {
        name: "lcs",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[range(1, 1, 1, access::RO | access::ACCESS)],
        since: "7.0.0",
        summary: "Finds the longest common substring.",
        complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
        usage: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        ..STRING
    },
    lcs,
)];

const NOT_STRINGS: CmdError = CmdError::new("ERR The specified keys must contain string values");
const LEN_AND_IDX: CmdError =
    CmdError::new("ERR If you want both the length and indexes, please just use IDX.");
const TOO_LONG: CmdError = CmdError::new("ERR String too long for LCS");
const TOO_MUCH_MEMORY: CmdError =
    CmdError::new("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
const NO_MEMORY: CmdError =
    CmdError::new("ERR Insufficient memory, failed allocating transient memory for LCS");

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Text,
    Length,
    Matches,
}

struct Options {
    wanted: Wanted,
    min_match_len: i64,
    with_match_len: bool,
}

fn lcs(ctx: &mut Ctx<'_>) -> CmdResult {
    let (a, b) = (operand(ctx, 1), operand(ctx, 2));
    let (a, b) = (a.ok_or(NOT_STRINGS)?, b.ok_or(NOT_STRINGS)?);
    let options = parse(ctx.args)?;
    let table_bytes = table_bytes(a.len(), b.len())?;
    if table_bytes > ctx.config.proto_max_bulk_len as u64 {
        return Err(TOO_MUCH_MEMORY);
    }
    if options.wanted == Wanted::Length {
        ctx.reply.int(i64::from(length(&a, &b)));
        return Ok(Outcome::Done);
    }
    let table = Table::new(&a, &b)?;
    let path = table.walk_back(&a, &b);
    match options.wanted {
        Wanted::Matches => reply_matches(ctx.reply, &path, &options),
        Wanted::Text | Wanted::Length => ctx.reply.bulk(&path.text),
    }
    Ok(Outcome::Done)
}

/// A copy of a string, empty for a missing key; none for another type.
fn operand(ctx: &mut Ctx<'_>, i: usize) -> Option<Vec<u8>> {
    match ctx.ks.read(ctx.db, ctx.key(i)) {
        Some(entry) if kind(&entry) != Kind::String => None,
        Some(entry) => Some(string::bytes(&entry, &mut Digits::default()).to_vec()),
        None => Some(Vec::new()),
    }
}

fn parse(args: Args<'_>) -> Result<Options, CmdError> {
    let (mut len, mut idx, mut with_match_len, mut min_match_len) = (false, false, false, 0);
    let mut cursor = Cursor::new(args, 3);
    while !cursor.is_done() {
        if cursor.word("idx") {
            idx = true;
        } else if cursor.word("len") {
            len = true;
        } else if cursor.word("withmatchlen") {
            with_match_len = true;
        } else if cursor.word("minmatchlen") {
            min_match_len = cursor.int()?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    let wanted = match (len, idx) {
        (true, true) => return Err(LEN_AND_IDX),
        (true, false) => Wanted::Length,
        (false, true) => Wanted::Matches,
        (false, false) => Wanted::Text,
    };
    Ok(Options { wanted, min_match_len, with_match_len })
}

/// Bytes of the table for strings of these lengths.
fn table_bytes(a: usize, b: usize) -> Result<u64, CmdError> {
    if a.max(b) >= u32::MAX as usize - 1 {
        return Err(TOO_LONG);
    }
    let cells = (a as u64 + 1) * (b as u64 + 1);
    cells.checked_mul(size_of::<u32>() as u64).ok_or(NO_MEMORY)
}

/// The next row of the table from the one above: `row[j]` is the length for `a[..i]` and `b[..j]`.
fn fill_row(above: &[u32], row: &mut [u32], a: u8, b: &[u8]) {
    row[0] = 0;
    let mut left = 0;
    for (j, byte) in b.iter().enumerate() {
        left = if *byte == a { above[j] + 1 } else { above[j + 1].max(left) };
        row[j + 1] = left;
    }
}

/// The length alone, which needs two rows of the table only.
fn length(a: &[u8], b: &[u8]) -> u32 {
    let (mut above, mut row) = (vec![0; b.len() + 1], vec![0; b.len() + 1]);
    for byte in a {
        fill_row(&above, &mut row, *byte, b);
        std::mem::swap(&mut above, &mut row);
    }
    above[b.len()]
}

/// Lengths of the longest common subsequences of all pairs of prefixes.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

/// Equally long ranges of both strings with the same bytes.
struct Match {
    a: Range<usize>,
    b: Range<usize>,
}

/// The subsequence, and the ranges it consists of, last first.
struct Path {
    text: Vec<u8>,
    matches: Vec<Match>,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Result<Table, CmdError> {
        let width = b.len() + 1;
        let len = width * (a.len() + 1);
        let mut cells = Vec::new();
        cells.try_reserve_exact(len).map_err(|_| NO_MEMORY)?;
        cells.resize(len, 0);
        for (i, byte) in a.iter().enumerate() {
            let (above, row) = cells[i * width..].split_at_mut(width);
            fill_row(above, row, *byte, b);
        }
        Ok(Table { cells, width })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    fn walk_back(&self, a: &[u8], b: &[u8]) -> Path {
        let (mut i, mut j) = (a.len(), b.len());
        let mut path = Path { text: Vec::new(), matches: Vec::new() };
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                path.text.push(a[i]);
                path.prepend(i, j);
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        path.text.reverse();
        path
    }
}

impl Path {
    /// Adds one equal byte in front of the last range if it touches it, else as a range of its own.
    fn prepend(&mut self, i: usize, j: usize) {
        match self.matches.last_mut() {
            Some(last) if last.a.start == i + 1 && last.b.start == j + 1 => {
                (last.a.start, last.b.start) = (i, j);
            }
            _ => self.matches.push(Match { a: i..i + 1, b: j..j + 1 }),
        }
    }
}

fn reply_matches(reply: &mut Reply, path: &Path, options: &Options) {
    let shown: Vec<&Match> =
        path.matches.iter().filter(|found| found.a.len() as i64 >= options.min_match_len).collect();
    reply.map(2);
    reply.bulk_str("matches");
    reply.array(shown.len());
    for found in shown {
        reply.array(if options.with_match_len { 3 } else { 2 });
        for range in [&found.a, &found.b] {
            reply.array(2);
            reply.len_int(range.start);
            reply.len_int(range.end - 1);
        }
        if options.with_match_len {
            reply.len_int(found.a.len());
        }
    }
    reply.bulk_str("len");
    reply.len_int(path.text.len());
}
