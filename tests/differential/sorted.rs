//! Shapes of commands on sorted sets, places and HyperLogLogs.

use crate::Word::{self, Fixed, Key, KeyOf, Made, OneOf};
use aikv::util::rng::Rng;

/// Commands that show scores, which Redis writes with their shortest digits since 7.2.
pub const SHOW_SCORES: &[&str] = &[
    "ZADD",
    "ZINCRBY",
    "ZSCORE",
    "ZMSCORE",
    "ZRANGE",
    "ZREVRANGE",
    "ZRANGEBYSCORE",
    "ZREVRANGEBYSCORE",
    "ZUNION",
    "ZINTER",
    "ZDIFF",
    "ZPOPMIN",
    "ZPOPMAX",
    "ZMPOP",
];

const Z: Word = KeyOf("z", 6);
/// All members have the score 0.
const L: Word = KeyOf("lex", 2);
const G: Word = KeyOf("geo", 3);
const H: Word = KeyOf("hll", 4);
const M: Word = Made(member);
const S: Word = OneOf(&["0", "1", "2", "3", "-1", "0.5", "10", "100", "inf", "-inf", "1e3", "x", "7", "5"]);
const BOUND: Word = OneOf(&["0", "(1", "2", "(3", "-inf", "+inf", "(10", "5", "-5", "(0.5", "x", ""]);
const INDEX: Word = OneOf(&["0", "1", "2", "5", "-1", "-2", "-5", "100", "-100", "x"]);
const COUNT: Word = OneOf(&["0", "1", "2", "5", "100", "-1", "x"]);
const LEX: Word = OneOf(&["-", "+", "[m", "(m", "[c", "(x", "[0", "m", "[", "("]);
const WEIGHT: Word = OneOf(&["1", "2", "0.5", "-1", "0", "inf", "x"]);
const SCORED: Word = OneOf(&["WITHSCORES", "BAD"]);
const MINMAX: Word = OneOf(&["MIN", "MAX", "MID"]);

fn member(rng: &mut Rng) -> Vec<u8> {
    match rng.below(40) {
        0 => vec![b'l'; 60 + rng.below(10) as usize],
        1 => Vec::new(),
        2..=8 => rng.below(300).to_string().into_bytes(),
        _ => vec![b'a' + rng.below(26) as u8],
    }
}

fn many_members(rng: &mut Rng) -> Vec<u8> {
    format!("{}", rng.below(100_000)).into_bytes()
}

/// Single sorted sets.
pub const ZSET: &[&[Word]] = &[
    &[Fixed("ZADD"), Z, S, M],
    &[Fixed("ZADD"), Z, S, M, S, M, S, M],
    &[Fixed("ZADD"), Z, Fixed("1"), M, Fixed("2"), M, Fixed("3"), M, Fixed("2"), M, Fixed("1"), M],
    &[Fixed("ZADD"), Z, Made(many_members), Made(many_members), Made(many_members), Made(many_members)],
    &[Fixed("ZADD"), Z, OneOf(&["NX", "XX", "GT", "LT", "CH", "INCR"]), S, M],
    &[Fixed("ZADD"), Z, OneOf(&["NX", "XX", "GT", "CH"]), OneOf(&["LT", "CH", "INCR", "XX"]), S, M],
    &[Fixed("ZADD"), L, Fixed("0"), M, Fixed("0"), M, Fixed("0"), M],
    &[Fixed("ZADD"), Key, S, M],
    &[Fixed("ZINCRBY"), Z, S, M],
    &[Fixed("ZREM"), Z, M, M],
    &[Fixed("ZCARD"), Z],
    &[Fixed("ZSCORE"), Z, M],
    &[Fixed("ZMSCORE"), Z, M, M],
    &[Fixed("ZRANK"), Z, M],
    &[Fixed("ZREVRANK"), Z, M],
    &[Fixed("ZRANGE"), Z, INDEX, INDEX],
    &[Fixed("ZRANGE"), Z, INDEX, INDEX, OneOf(&["REV", "WITHSCORES", "BYSCORE", "BYLEX", "BAD"])],
    &[Fixed("ZRANGE"), Z, BOUND, BOUND, Fixed("BYSCORE"), OneOf(&["REV", "WITHSCORES"])],
    &[Fixed("ZRANGE"), Z, BOUND, BOUND, Fixed("BYSCORE"), Fixed("LIMIT"), COUNT, COUNT],
    &[Fixed("ZRANGE"), L, LEX, LEX, Fixed("BYLEX"), OneOf(&["REV", "BAD"])],
    &[Fixed("ZREVRANGE"), Z, INDEX, INDEX],
    &[Fixed("ZREVRANGE"), Z, INDEX, INDEX, SCORED],
    &[Fixed("ZRANGEBYSCORE"), Z, BOUND, BOUND],
    &[Fixed("ZRANGEBYSCORE"), Z, BOUND, BOUND, SCORED, Fixed("LIMIT"), COUNT, COUNT],
    &[Fixed("ZREVRANGEBYSCORE"), Z, BOUND, BOUND, Fixed("LIMIT"), COUNT, COUNT],
    &[Fixed("ZRANGEBYLEX"), L, LEX, LEX],
    &[Fixed("ZRANGEBYLEX"), L, LEX, LEX, Fixed("LIMIT"), COUNT, COUNT],
    &[Fixed("ZREVRANGEBYLEX"), L, LEX, LEX, Fixed("LIMIT"), COUNT, COUNT],
    &[Fixed("ZLEXCOUNT"), L, LEX, LEX],
    &[Fixed("ZCOUNT"), Z, BOUND, BOUND],
    &[Fixed("ZREMRANGEBYRANK"), Z, INDEX, INDEX],
    &[Fixed("ZREMRANGEBYSCORE"), Z, BOUND, BOUND],
    &[Fixed("ZREMRANGEBYLEX"), L, LEX, LEX],
    &[Fixed("ZRANGESTORE"), Z, Z, INDEX, INDEX],
    &[Fixed("ZRANGESTORE"), Z, Z, BOUND, BOUND, Fixed("BYSCORE"), Fixed("REV")],
    &[Fixed("ZPOPMIN"), Z],
    &[Fixed("ZPOPMAX"), Z, COUNT],
    &[Fixed("ZMPOP"), OneOf(&["1", "2", "0", "x"]), Z, Z, MINMAX],
    &[Fixed("ZMPOP"), Fixed("2"), Z, Z, MINMAX, Fixed("COUNT"), COUNT],
    &[Fixed("ZRANDMEMBER"), Z, OneOf(&["0", "x"])],
    &[Fixed("ZSCAN"), Z, OneOf(&["0", "x"]), Fixed("MATCH"), Fixed("nosuch"), Fixed("COUNT"), Fixed("1000")],
    &[Fixed("OBJECT"), Fixed("ENCODING"), Z],
    &[Fixed("TYPE"), Z],
    &[Fixed("COPY"), Z, Z, Fixed("REPLACE")],
    &[Fixed("DEL"), Z],
];

/// Several sorted sets together.
pub const ALGEBRA: &[&[Word]] = &[
    &[Fixed("ZADD"), Z, S, M, S, M, S, M],
    &[Fixed("ZADD"), Z, S, M, S, M, S, M, S, M, S, M],
    &[Fixed("ZUNION"), Fixed("2"), Z, Z],
    &[Fixed("ZUNION"), Fixed("3"), Z, Z, Z, SCORED],
    &[Fixed("ZUNION"), Fixed("2"), Z, Z, Fixed("WEIGHTS"), WEIGHT, WEIGHT, Fixed("WITHSCORES")],
    &[Fixed("ZINTER"), Fixed("2"), Z, Z, SCORED],
    &[Fixed("ZINTER"), Fixed("2"), Z, Z, Fixed("AGGREGATE"), OneOf(&["SUM", "MIN", "MAX", "AVG"])],
    &[Fixed("ZINTER"), Fixed("3"), Z, Z, Z, Fixed("WEIGHTS"), WEIGHT, WEIGHT, WEIGHT, Fixed("WITHSCORES")],
    &[Fixed("ZDIFF"), OneOf(&["1", "2", "3"]), Z, Z],
    &[Fixed("ZDIFF"), Fixed("2"), Z, Z, SCORED],
    &[Fixed("ZINTERCARD"), Fixed("2"), Z, Z],
    &[Fixed("ZINTERCARD"), Fixed("2"), Z, Z, Fixed("LIMIT"), COUNT],
    &[Fixed("ZUNIONSTORE"), Z, Fixed("2"), Z, Z],
    &[Fixed("ZUNIONSTORE"), Z, OneOf(&["0", "1", "2", "9", "x"]), Z, Key],
    &[Fixed("ZUNIONSTORE"), Z, Fixed("2"), Z, Z, Fixed("WEIGHTS"), WEIGHT, WEIGHT],
    &[Fixed("ZINTERSTORE"), Z, Fixed("2"), Z, Z],
    &[Fixed("ZINTERSTORE"), Z, Fixed("2"), Z, Z, Fixed("AGGREGATE"), OneOf(&["SUM", "MIN", "MAX"])],
    &[Fixed("ZDIFFSTORE"), Z, Fixed("2"), Z, Z],
    &[Fixed("ZRANGE"), Z, Fixed("0"), Fixed("-1"), Fixed("WITHSCORES")],
];

const LONGITUDE: Word = Made(|rng| degrees(rng, 180.0));
const LATITUDE: Word = Made(|rng| degrees(rng, 85.05));
const UNIT: Word = OneOf(&["m", "km", "ft", "MI", "x"]);
const RADIUS: Word = OneOf(&["1", "10", "150", "1000", "5000", "25000", "0", "-1", "x"]);
const PLACE: Word = Made(|rng| format!("place{}", rng.below(30)).into_bytes());
const ORDER: Word = OneOf(&["ASC", "DESC"]);
const WITH: Word = OneOf(&["WITHDIST", "WITHHASH", "WITHCOORD"]);

/// Half of the places are near each other.
fn degrees(rng: &mut Rng, max: f64) -> Vec<u8> {
    let wide = [1.0, 0.1, 0.01, 1.0001][rng.below(4) as usize];
    format!("{:.6}", (rng.next_f64() * 2.0 - 1.0) * max * wide).into_bytes()
}

/// Places.
pub const GEO: &[&[Word]] = &[
    &[Fixed("GEOADD"), G, LONGITUDE, LATITUDE, PLACE],
    &[Fixed("GEOADD"), G, LONGITUDE, LATITUDE, PLACE, LONGITUDE, LATITUDE, PLACE],
    &[Fixed("GEOADD"), G, OneOf(&["NX", "XX", "CH", "BAD"]), LONGITUDE, LATITUDE, PLACE],
    &[Fixed("GEODIST"), G, PLACE, PLACE],
    &[Fixed("GEODIST"), G, PLACE, PLACE, UNIT],
    &[Fixed("GEOHASH"), G, PLACE, PLACE],
    &[Fixed("GEOPOS"), G, PLACE, PLACE],
    &[Fixed("GEORADIUS"), G, LONGITUDE, LATITUDE, RADIUS, UNIT],
    &[Fixed("GEORADIUS"), G, LONGITUDE, LATITUDE, RADIUS, Fixed("km"), ORDER],
    &[Fixed("GEORADIUS"), G, LONGITUDE, LATITUDE, RADIUS, Fixed("km"), WITH, WITH, Fixed("ASC")],
    &[Fixed("GEORADIUS"), G, LONGITUDE, LATITUDE, Fixed("5000"), Fixed("km"), Fixed("COUNT"), COUNT],
    &[
        Fixed("GEORADIUS"),
        G,
        LONGITUDE,
        LATITUDE,
        Fixed("9000"),
        Fixed("km"),
        Fixed("COUNT"),
        Fixed("3"),
        Fixed("ANY"),
    ],
    &[Fixed("GEORADIUS"), G, LONGITUDE, LATITUDE, RADIUS, Fixed("km"), Fixed("STORE"), G],
    &[Fixed("GEORADIUS_RO"), G, LONGITUDE, LATITUDE, RADIUS, UNIT, WITH],
    &[Fixed("GEORADIUSBYMEMBER"), G, PLACE, RADIUS, UNIT, WITH],
    &[Fixed("GEORADIUSBYMEMBER_RO"), G, PLACE, RADIUS, UNIT, ORDER],
    &[Fixed("GEOSEARCH"), G, Fixed("FROMMEMBER"), PLACE, Fixed("BYRADIUS"), RADIUS, UNIT],
    &[
        Fixed("GEOSEARCH"),
        G,
        Fixed("FROMLONLAT"),
        LONGITUDE,
        LATITUDE,
        Fixed("BYBOX"),
        RADIUS,
        RADIUS,
        Fixed("km"),
        ORDER,
        WITH,
    ],
    &[
        Fixed("GEOSEARCHSTORE"),
        G,
        G,
        Fixed("FROMLONLAT"),
        LONGITUDE,
        LATITUDE,
        Fixed("BYRADIUS"),
        RADIUS,
        UNIT,
    ],
    &[Fixed("ZRANGE"), G, Fixed("0"), Fixed("-1"), Fixed("WITHSCORES")],
    &[Fixed("ZCARD"), G],
];

fn element(rng: &mut Rng) -> Vec<u8> {
    rng.below(3000).to_string().into_bytes()
}

const E: Word = Made(element);

/// HyperLogLogs.
pub const HLL: &[&[Word]] = &[
    &[Fixed("PFADD"), H, E],
    &[Fixed("PFADD"), H, E, E, E, E, E, E, E, E],
    &[Fixed("PFADD"), H],
    &[Fixed("PFADD"), Key, E],
    &[Fixed("PFCOUNT"), H],
    &[Fixed("PFCOUNT"), H, H],
    &[Fixed("PFCOUNT"), Key],
    &[Fixed("PFMERGE"), H, H],
    &[Fixed("PFMERGE"), H, H, H],
    &[Fixed("PFDEBUG"), Fixed("ENCODING"), H],
    &[Fixed("PFDEBUG"), Fixed("DECODE"), H],
    &[Fixed("GET"), H],
    &[Fixed("STRLEN"), H],
    &[Fixed("OBJECT"), Fixed("ENCODING"), H],
    &[Fixed("CONFIG"), Fixed("SET"), Fixed("hll-sparse-max-bytes"), OneOf(&["3000", "300", "100"])],
    &[Fixed("DEL"), H],
];
