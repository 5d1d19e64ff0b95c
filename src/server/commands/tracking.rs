//! The subcommands of CLIENT about client-side caching: TRACKING, CACHING, TRACKINGINFO, GETREDIR. Their
//! tables are in `tracking/`, what happens on reads and changes in `server/track.rs`.

use crate::command::Outcome;
use crate::command::args::{Cursor, is};
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::spec::{Acl, Flags, SPEC, Spec};
use crate::server::ServerCtx;
use crate::server::gate::bit;
use crate::server::table::Handler;
use crate::tracking::{Mode, Options, Overlap};

const ROW: Spec = Spec {
    flags: Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::KEEPS_CACHING),
    acl: Acl::CONNECTION,
    group: "connection",
    since: "6.0.0",
    ..SPEC
};

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    (
        Spec {
            name: "client|caching",
            arity: 3,
            summary: "Says whether the keys of the next command are tracked, in the modes OPTIN and OPTOUT.",
            usage: "<YES | NO>",
            ..ROW
        },
        Handler::Server(caching),
    ),
    (
        Spec {
            name: "client|getredir",
            arity: 2,
            summary: "Returns the client ID to which the connection's tracking notifications go.",
            ..ROW
        },
        Handler::Server(getredir),
    ),
    (
        Spec {
            name: "client|tracking",
            arity: -3,
            summary: "Lets the server tell the connection when keys change that it may have cached.",
            complexity: "O(1). Some options may introduce additional complexity.",
            usage: "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] \
                    [OPTOUT] [NOLOOP]",
            ..ROW
        },
        Handler::Server(tracking),
    ),
    (
        Spec {
            name: "client|trackinginfo",
            arity: 2,
            since: "6.2.0",
            summary: "Returns how keys are tracked for the connection.",
            ..ROW
        },
        Handler::Server(trackinginfo),
    ),
];

/// CLIENT CACHING without CLIENT TRACKING.
const NOT_TRACKING: CmdError = CmdError::new(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
     enabled",
);
const NOT_OPTIN: CmdError =
    CmdError::new("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
const NOT_OPTOUT: CmdError =
    CmdError::new("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");

fn caching(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let tracker = ctx.server.tracking.get_mut(ctx.client.id).ok_or(NOT_TRACKING)?;
    let (mode, refusal) = match ctx.args.get(2) {
        word if is(word, "yes") => (Mode::OptIn, NOT_OPTIN),
        word if is(word, "no") => (Mode::OptOut, NOT_OPTOUT),
        _ => return Err(error::SYNTAX),
    };
    if tracker.mode != mode {
        return Err(refusal);
    }
    tracker.caching = true;
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

fn getredir(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let tracker = ctx.server.tracking.get(ctx.client.id);
    ctx.client.reply.int(tracker.map_or(-1, |t| t.redirect.unwrap_or(0) as i64));
    Ok(Outcome::Done)
}

fn trackinginfo(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let tracker = ctx.server.tracking.get(ctx.client.id);
    let mut flags = vec![if tracker.is_some() { "on" } else { "off" }];
    if let Some(tracker) = tracker {
        let (of_mode, while_caching) = match tracker.mode {
            Mode::Default => (None, None),
            Mode::Broadcast => (Some("bcast"), None),
            Mode::OptIn => (Some("optin"), Some("caching-yes")),
            Mode::OptOut => (Some("optout"), Some("caching-no")),
        };
        flags.extend(of_mode);
        flags.extend(while_caching.filter(|_| tracker.caching));
        flags.extend(tracker.noloop.then_some("noloop"));
        flags.extend(tracker.broken.then_some("broken_redirect"));
    }
    let reply = &mut ctx.client.reply;
    reply.map(3);
    reply.bulk_str("flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk_str(flag));
    reply.bulk_str("redirect");
    reply.int(tracker.map_or(-1, |t| t.redirect.unwrap_or(0) as i64));
    reply.bulk_str("prefixes");
    reply.array(tracker.map_or(0, |t| t.prefixes.len()));
    tracker.iter().flat_map(|t| &t.prefixes).for_each(|prefix| reply.bulk(prefix));
    Ok(Outcome::Done)
}

/// The words behind ON or OFF.
#[derive(Default)]
struct Words {
    redirect: Option<u64>,
    bcast: bool,
    optin: bool,
    optout: bool,
    noloop: bool,
    prefixes: Vec<Box<[u8]>>,
}

const REDIRECT_TWICE: CmdError = CmdError::new("ERR A client can only redirect to a single other client");
const REDIRECT_NOBODY: CmdError = CmdError::new("ERR The client ID you want redirect to does not exist");
const PREFIX_WITHOUT_BCAST: CmdError = CmdError::new("ERR PREFIX option requires BCAST mode to be enabled");
const SWITCHES_BCAST: CmdError = CmdError::new(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling \
     it with a different mode.",
);
const OPT_WITH_BCAST: CmdError = CmdError::new("ERR OPTIN and OPTOUT are not compatible with BCAST");
const OPTIN_AND_OPTOUT: CmdError = CmdError::new("ERR You can't specify both OPTIN mode and OPTOUT mode");
const SWITCHES_OPT: CmdError = CmdError::new(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling \
     it with a different mode.",
);

fn parse(ctx: &ServerCtx<'_>) -> Result<Words, CmdError> {
    let mut words = Words::default();
    let mut cursor = Cursor::new(ctx.args, 3);
    while !cursor.is_done() {
        if cursor.left() > 1 && cursor.word("redirect") {
            if words.redirect.is_some() {
                return Err(REDIRECT_TWICE);
            }
            let id = cursor.int()? as u64;
            if ctx.server.clients.slot_of(id).is_none() {
                return Err(REDIRECT_NOBODY);
            }
            words.redirect = Some(id);
        } else if cursor.left() > 1 && cursor.word("prefix") {
            words.prefixes.push(cursor.take()?.into());
        } else {
            let flag = match cursor.take()? {
                word if is(word, "bcast") => &mut words.bcast,
                word if is(word, "optin") => &mut words.optin,
                word if is(word, "optout") => &mut words.optout,
                word if is(word, "noloop") => &mut words.noloop,
                _ => return Err(error::SYNTAX),
            };
            *flag = true;
        }
    }
    Ok(words)
}

fn tracking(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let words = parse(ctx)?;
    match ctx.args.get(2) {
        word if is(word, "on") => enable(ctx, words)?,
        word if is(word, "off") => ctx.server.end_tracking(ctx.client),
        _ => return Err(error::SYNTAX),
    }
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

/// The mode that the words ask for, if a client that tracks in the mode `old` may have it.
fn mode_of(words: &Words, old: Option<Mode>) -> Result<Mode, CmdError> {
    if !words.bcast && !words.prefixes.is_empty() {
        return Err(PREFIX_WITHOUT_BCAST);
    }
    if old.is_some_and(|old| (old == Mode::Broadcast) != words.bcast) {
        return Err(SWITCHES_BCAST);
    }
    if words.bcast && (words.optin || words.optout) {
        return Err(OPT_WITH_BCAST);
    }
    let mode = match (words.bcast, words.optin, words.optout) {
        (true, ..) => Mode::Broadcast,
        (_, true, true) => return Err(OPTIN_AND_OPTOUT),
        (_, true, false) => Mode::OptIn,
        (_, false, true) => Mode::OptOut,
        (_, false, false) => Mode::Default,
    };
    if matches!((old, mode), (Some(Mode::OptIn), Mode::OptOut) | (Some(Mode::OptOut), Mode::OptIn)) {
        return Err(SWITCHES_OPT);
    }
    Ok(mode)
}

fn enable(ctx: &mut ServerCtx<'_>, words: Words) -> Result<(), CmdError> {
    let (server, client) = (&mut *ctx.server, &mut *ctx.client);
    let mode = mode_of(&words, server.tracking.get(client.id).map(|t| t.mode))?;
    let Words { redirect, noloop, prefixes, .. } = words;
    server.tracking.enable(client.id, Options { mode, noloop, redirect, prefixes }).map_err(overlap)?;
    client.tracks = true;
    server.arm(bit::TRACKING, true);
    server.update_listeners();
    Ok(())
}

fn overlap(overlap: Overlap) -> CmdError {
    let (prefix, which, other) = match &overlap {
        Overlap::Existing(prefix, other) => (prefix, &b"an existing prefix"[..], other),
        Overlap::Given(prefix, other) => (prefix, &b"another provided prefix"[..], other),
    };
    let behind = b"'. Prefixes for a single client must not overlap.";
    CmdError::text([b"ERR Prefix '", &**prefix, b"' overlaps with ", which, b" '", other, behind].concat())
}
