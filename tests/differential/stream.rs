//! Shapes of commands on streams. They have keys of their own, lest every other command end them. What 7.2
//! and later answer otherwise (times of consumers, texts of some errors, XSETID below what was deleted) and
//! what differs by design (radix-tree-nodes) stays out.

use crate::Word::{self, Field, Fixed, Int, Made, Offset, OneOf, Value};
use aikv::util::rng::Rng;

const S: Word = Made(key);
const I: Word = Made(id);
const G: Word = OneOf(&["g1", "g1", "g2", "none"]);
const C: Word = OneOf(&["Alice", "Bob", "Carol"]);

/// The shapes.
pub const STREAMS: &[&[Word]] = &[
    &[Fixed("XADD"), S, I, Field, Value],
    &[Fixed("XADD"), S, I, Fixed("f1"), Value],
    &[Fixed("XADD"), S, I, Fixed("f1"), Int, Fixed("f2"), Value],
    &[Fixed("XADD"), S, I, Fixed("f1"), Int, Fixed("f2"), Value],
    &[Fixed("XADD"), S, OneOf(&["MAXLEN", "MINID"]), OneOf(&["=", "~"]), Offset, I, Field, Value],
    &[Fixed("XADD"), S, Fixed("MAXLEN"), Fixed("~"), Offset, Fixed("LIMIT"), Offset, I, Field, Int],
    &[Fixed("XADD"), S, Fixed("NOMKSTREAM"), I, Field, Value],
    &[Fixed("XADD"), S, I, Field],
    &[Fixed("XLEN"), S],
    &[Fixed("XRANGE"), S, I, I],
    &[Fixed("XRANGE"), S, OneOf(&["-", "(5", "(7-1", "9"]), Fixed("+"), Fixed("COUNT"), Offset],
    &[Fixed("XREVRANGE"), S, I, OneOf(&["-", "(5", "(7-1"])],
    &[Fixed("XREVRANGE"), S, Fixed("+"), Fixed("-"), Fixed("COUNT"), Offset],
    &[Fixed("XDEL"), S, I, I],
    &[Fixed("XDEL"), S, I],
    &[Fixed("XTRIM"), S, OneOf(&["MAXLEN", "MINID"]), OneOf(&["=", "~"]), Offset],
    &[Fixed("XTRIM"), S, Fixed("MAXLEN"), Fixed("~"), Offset, Fixed("LIMIT"), Offset],
    &[Fixed("XSETID"), S, OneOf(&["300-3", "x"])],
    &[Fixed("XSETID"), S, Fixed("300-3"), Fixed("ENTRIESADDED"), Offset, Fixed("MAXDELETEDID"), I],
    &[Fixed("XREAD"), Fixed("COUNT"), Offset, Fixed("STREAMS"), S, S, I, I],
    &[Fixed("XREAD"), Fixed("STREAMS"), S, OneOf(&["$", ">", "0"])],
    &[Fixed("XGROUP"), Fixed("CREATE"), S, G, OneOf(&["$", "0", "5"]), Fixed("MKSTREAM")],
    &[Fixed("XGROUP"), Fixed("CREATE"), S, G, I, Fixed("ENTRIESREAD"), Offset],
    &[Fixed("XGROUP"), Fixed("SETID"), S, G, OneOf(&["$", "0", "5", "-"])],
    &[Fixed("XGROUP"), Fixed("SETID"), S, G, I, Fixed("ENTRIESREAD"), Offset],
    &[Fixed("XGROUP"), Fixed("DESTROY"), S, G],
    &[Fixed("XGROUP"), Fixed("CREATECONSUMER"), S, G, C],
    &[Fixed("XGROUP"), Fixed("DELCONSUMER"), S, G, C],
    &[Fixed("XREADGROUP"), Fixed("GROUP"), G, C, Fixed("COUNT"), Offset, Fixed("STREAMS"), S, Fixed(">")],
    &[Fixed("XREADGROUP"), Fixed("GROUP"), G, C, Fixed("STREAMS"), S, Fixed(">")],
    &[Fixed("XREADGROUP"), Fixed("GROUP"), G, C, Fixed("NOACK"), Fixed("STREAMS"), S, Fixed(">")],
    &[Fixed("XREADGROUP"), Fixed("GROUP"), G, C, Fixed("STREAMS"), S, S, I, Fixed("0")],
    &[Fixed("XACK"), S, G, I, I],
    &[Fixed("XPENDING"), S, G],
    &[Fixed("XPENDING"), S, G, Fixed("-"), Fixed("+"), Offset],
    &[Fixed("XPENDING"), S, G, I, I, Fixed("10"), C],
    &[Fixed("XCLAIM"), S, G, C, Fixed("0"), I, I],
    &[Fixed("XCLAIM"), S, G, C, Fixed("0"), I, OneOf(&["FORCE", "JUSTID", "IDLE", "BAD"])],
    &[Fixed("XCLAIM"), S, G, C, OneOf(&["0", "9999999", "x"]), I, Fixed("LASTID"), I],
    &[Fixed("XCLAIM"), S, G, C, Fixed("0"), I, Fixed("RETRYCOUNT"), Offset, Fixed("FORCE")],
    &[Fixed("XAUTOCLAIM"), S, G, C, OneOf(&["0", "9999999"]), I, Fixed("COUNT"), Offset],
    &[Fixed("XAUTOCLAIM"), S, G, C, Fixed("0"), Fixed("-"), Fixed("JUSTID")],
    &[Fixed("XINFO"), Fixed("GROUPS"), S],
    &[Fixed("DEBUG"), Fixed("DIGEST-VALUE"), S],
    &[Fixed("COPY"), S, S, Fixed("REPLACE")],
    &[Fixed("RENAME"), S, S],
    &[Fixed("DEL"), S],
];

/// A key that mostly holds a stream.
fn key(rng: &mut Rng) -> Vec<u8> {
    let (name, count) = if rng.below(30) == 0 { ("key", 12) } else { ("s", 4) };
    format!("{name}:{}", rng.below(count)).into_bytes()
}

/// The ID of an entry, old or new.
fn id(rng: &mut Rng) -> Vec<u8> {
    const ODD: &[&str] = &["0", "0-0", "0-1", "x", "5-", "-", "18446744073709551615"];
    match rng.below(12) {
        0 => format!("{}-*", rng.below(300)).into_bytes(),
        1 => ODD[rng.below(ODD.len() as u64) as usize].as_bytes().to_vec(),
        2..5 => rng.below(300).to_string().into_bytes(),
        _ => format!("{}-{}", rng.below(300), rng.below(3)).into_bytes(),
    }
}

/// Of two integers in a row the first is an idle time, which depends on the moment.
pub fn without_idle_times(reply: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = reply.split(|byte| *byte == b'\n').collect();
    let is_int = |at: usize| lines.get(at).is_some_and(|line| line.starts_with(b":"));
    let kept = (0..lines.len()).filter(|at| !(is_int(*at) && is_int(at + 1)));
    kept.map(|at| lines[at]).collect::<Vec<_>>().join(&b'\n')
}

/// Since 7.2 claims create their consumer even when they claim nothing, so the numbers of consumers differ.
pub fn without_consumers(reply: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = reply.split(|byte| *byte == b'\n').collect();
    let kept = (0..lines.len()).filter(|at| *at == 0 || lines[at - 1] != b"consumers\r");
    kept.map(|at| lines[at]).collect::<Vec<_>>().join(&b'\n')
}
