//! Places in sorted sets: GEOADD, GEODIST, GEOHASH, GEOPOS, and what the geo commands share. Searching is in
//! `geo_search`, the arithmetic in `util::geohash`.

use super::args::{float, is};
use super::error::{self, CmdError, CmdResult};
use super::spec::{Acl, Flags, SPEC, Spec, access, key};
use super::string::{ADDS, READS_KEY};
use super::zset::{Adding, add};
use super::{Ctx, DataFn, Outcome, Propagate, of_kind};
use crate::resp::reply::Proto;
use crate::resp::{OwnedArgs, Reply};
use crate::util::geohash::{self, LATITUDE_MAX, LONGITUDE_MAX, Point};
use crate::util::num;
use crate::value::{Kind, zset};

/// What all geo commands share.
pub(super) const GEO: Spec = Spec { group: "geo", acl: Acl::GEO, since: "3.2.0", ..SPEC };

const PER_MEMBER: &str = "O(1) for each member asked for.";
const READ: Spec = Spec {
    arity: -2,
    flags: Flags::READONLY,
    keys: READS_KEY,
    complexity: PER_MEMBER,
    usage: "key [member [member ...]]",
    ..GEO
};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "geoadd",
            arity: -5,
            flags: ADDS,
            keys: &[key(1, access::RW | access::UPDATE)],
            summary: "Adds members with their places on Earth to a sorted set.",
            complexity: "O(log(N)) for each member added to a sorted set of N.",
            usage: "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
            history: &[("6.2.0", "Added the `CH`, `NX` and `XX` options.")],
            ..GEO
        },
        geoadd,
    ),
    (
        Spec {
            name: "geodist",
            arity: -4,
            summary: "Returns the distance between two members.",
            complexity: "O(1)",
            usage: "key member1 member2 [m | km | ft | mi]",
            ..READ
        },
        geodist,
    ),
    (Spec { name: "geohash", summary: "Returns the places of members as geohash strings.", ..READ }, geohash),
    (Spec { name: "geopos", summary: "Returns longitude and latitude of members.", ..READ }, geopos),
];

const BAD_UNIT: CmdError = CmdError::new("ERR unsupported unit provided. please use M, KM, FT, MI");
/// Units and their lengths in metres.
const UNITS: [(&str, f64); 4] = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
/// Digits behind the point of distances in replies.
const DISTANCE_DECIMALS: u32 = 4;

/// Metres in a unit.
pub(super) fn unit(word: &[u8]) -> Result<f64, CmdError> {
    UNITS.iter().find(|(name, _)| is(word, name)).map(|(_, metres)| *metres).ok_or(BAD_UNIT)
}

/// A place from its two arguments.
pub(super) fn place(longitude: &[u8], latitude: &[u8]) -> Result<Point, CmdError> {
    let (longitude, latitude) = (float(longitude)?, float(latitude)?);
    if longitude.abs() > LONGITUDE_MAX || latitude.abs() > LATITUDE_MAX {
        let text = format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}");
        return Err(CmdError::text(text));
    }
    Ok(Point { longitude, latitude })
}

/// Writes a distance.
pub(super) fn reply_distance(reply: &mut Reply, distance: f64) {
    let mut text = Vec::new();
    num::push_fixed(&mut text, distance, DISTANCE_DECIMALS);
    reply.bulk(&text);
}

/// Writes a place as longitude and latitude.
pub(super) fn reply_place(reply: &mut Reply, place: Point) {
    reply.array(2);
    for degrees in [place.longitude, place.latitude] {
        let mut text = Vec::new();
        num::push_human(&mut text, degrees);
        match reply.proto {
            Proto::Resp2 => reply.bulk(&text),
            Proto::Resp3 => {
                reply.raw(b",");
                reply.raw(&text);
                reply.raw(b"\r\n");
            }
        }
    }
}

fn geoadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let words = ["nx", "xx", "ch"];
    let mut given = Vec::new();
    while let Some(word) = args.try_get(2 + given.len()).and_then(|arg| words.iter().find(|w| is(arg, w))) {
        given.push(*word);
    }
    let first = 2 + given.len();
    let left = args.len() - first;
    if !left.is_multiple_of(3) || (given.contains(&"nx") && given.contains(&"xx")) {
        return Err(error::SYNTAX);
    }
    let scores = (0..left / 3).map(|i| {
        let at = first + 3 * i;
        Ok(geohash::score(place(args.get(at), args.get(at + 1))?))
    });
    let scores: Vec<f64> = scores.collect::<Result<_, CmdError>>()?;
    if scores.is_empty() {
        return Err(error::SYNTAX);
    }
    if ctx.propagating() {
        // Places propagate as the scores they became.
        let mut zadd = OwnedArgs::from_slices(&[b"zadd"]);
        (1..first).for_each(|i| zadd.push(args.get(i)));
        for (i, score) in scores.iter().enumerate() {
            let mut text = Vec::new();
            num::push_f64(&mut text, *score);
            zadd.push(&text);
            zadd.push(args.get(first + 3 * i + 2));
        }
        ctx.propagate = Propagate::As(vec![zadd]);
    }
    add(ctx, Adding::of_words(&given), &scores, |i| args.get(first + 3 * i + 2))
}

/// Shows each member asked for with its place, if it is there.
fn each_place(ctx: &mut Ctx<'_>, show: impl Fn(&mut Reply, Option<Point>)) -> CmdResult {
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)?;
    let view = entry.as_ref().map(|entry| zset::view(entry));
    ctx.reply.array(ctx.args.len() - 2);
    for i in 2..ctx.args.len() {
        let score = view.and_then(|view| view.score(ctx.args.get(i)));
        show(ctx.reply, score.map(geohash::point));
    }
    Ok(Outcome::Done)
}

fn geohash(ctx: &mut Ctx<'_>) -> CmdResult {
    each_place(ctx, |reply, place| match place {
        Some(place) => reply.bulk(&geohash::text(place)),
        None => reply.null(),
    })
}

fn geopos(ctx: &mut Ctx<'_>) -> CmdResult {
    each_place(ctx, |reply, place| match place {
        Some(place) => reply_place(reply, place),
        None => reply.null_array(),
    })
}

fn geodist(ctx: &mut Ctx<'_>) -> CmdResult {
    let metres = match ctx.args.len() {
        4 => 1.0,
        5 => unit(ctx.args.get(4))?,
        _ => return Err(error::SYNTAX),
    };
    let entry = of_kind(ctx.ks.read(ctx.db, ctx.key(1)), Kind::Zset)?;
    let places = entry.and_then(|entry| {
        let view = zset::view(&entry);
        let place = |i| view.score(ctx.args.get(i)).map(geohash::point);
        Some((place(2)?, place(3)?))
    });
    match places {
        Some((from, to)) => reply_distance(ctx.reply, geohash::distance(from, to) / metres),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}
