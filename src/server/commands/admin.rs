//! TIME and LOLWUT.

use crate::command::Outcome;
use crate::command::args::{self, Cursor};
use crate::command::error::CmdResult;
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::server::table::Handler;
use crate::server::{REDIS_VERSION, ServerCtx};

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "time",
            arity: 1,
            flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
            group: "server",
            since: "2.6.0",
            summary: "Returns the server's time.",
            tips: &["nondeterministic_output"],
            ..SPEC
        },
        Handler::Server(time),
    ),
    (
        Spec {
            name: "lolwut",
            arity: -1,
            flags: Flags::READONLY.with(Flags::FAST),
            acl: Acl(0),
            group: "server",
            since: "5.0.0",
            summary: "Draws a picture and tells the version.",
            complexity: "",
            usage: "[VERSION version]",
            ..SPEC
        },
        Handler::Server(lolwut),
    ),
];

fn time(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let us = ctx.server.answered_wall_us();
    let reply = &mut ctx.client.reply;
    reply.array(2);
    reply.bulk_int(us / 1_000_000);
    reply.bulk_int(us % 1_000_000);
    Ok(Outcome::Done)
}

/// Columns of the picture: a ring of cells in one word.
const COLUMNS: u32 = u64::BITS;
/// Lines of the picture.
const LINES: usize = 16;
/// The rule that is drawn without VERSION: Wolfram's rule 90 draws triangles.
const RULE: u8 = 90;

fn lolwut(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut cursor = Cursor::new(ctx.args, 1);
    let mut rule = RULE;
    if cursor.left() >= 2 && cursor.word("version") {
        rule = args::int(cursor.take()?)? as u8;
    }
    let mut text = draw(rule, ctx.server.keyspace.rng.next_u64());
    text.push_str("\nRedis ver. ");
    text.push_str(REDIS_VERSION);
    text.push('\n');
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// Draws the generations of an elementary cellular automaton from a few random cells on.
fn draw(rule: u8, seed: u64) -> String {
    let mut cells = (0..3).fold(0u64, |cells, i| cells | 1 << (seed >> (i * 6) & 63));
    let mut text = String::new();
    for _ in 0..LINES {
        text.extend((0..COLUMNS).map(|column| if cells >> column & 1 == 1 { '#' } else { ' ' }));
        text.truncate(text.trim_end().len());
        text.push('\n');
        cells = (0..COLUMNS).fold(0, |next, column| {
            let neighbours = cells.rotate_right(column).rotate_left(1) & 7;
            next | u64::from(rule >> neighbours & 1) << column
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_their_lines() {
        for seed in [0, 1, 0x1234_5678_9abc_def0] {
            let picture = draw(RULE, seed);
            assert_eq!(picture.lines().count(), LINES);
            assert!(picture.lines().next().unwrap().contains('#'));
        }
    }
}
