//! Searching places around a place: GEOSEARCH, GEOSEARCHSTORE and the older GEORADIUS forms.

use super::args::{Cursor, float};
use super::error::{self, CmdError, CmdResult};
use super::geo::{GEO, place, reply_distance, reply_place, unit};
use super::spec::{Begin, Deprecated, Find, Flags, KeySpec, Spec, access, key};
use super::string::{ADDS, READS_KEY};
use super::zset::{limits, store};
use super::zset_range::STORES_OTHER;
use super::{Ctx, DataFn, Outcome, of_kind};
use crate::keyspace::Key;
use crate::keyspace::change::{Event, class};
use crate::resp::{Args, Reply};
use crate::util::geohash::{self, Point, Shape};
use crate::value::zset::{Cut, Side};
use crate::value::{Direction, Kind, draft, zset};

const SEARCH_COST: &str = "O(N+log(M)) for N members in the cells around the area and M in the sorted set.";

const fn store_keyword(word: &'static str, from: i32) -> KeySpec {
    KeySpec {
        begin: Begin::Keyword(word, from),
        find: Find::Range { last: 0, step: 1, limit: 0 },
        access: access::OW | access::UPDATE,
        notes: "",
    }
}

const fn since_6_2(replaced_by: &'static str) -> Option<Deprecated> {
    Some(Deprecated { since: "6.2.0", replaced_by })
}

const RADIUS: Spec = Spec {
    arity: -6,
    complexity: SEARCH_COST,
    history: &[
        ("6.2.0", "Added the `ANY` option for `COUNT`."),
        ("7.0.0", "Added support for uppercase unit names."),
    ],
    ..GEO
};
const SEARCH: Spec = Spec {
    since: "6.2.0",
    complexity: SEARCH_COST,
    history: &[("7.0.0", "Added support for uppercase unit names.")],
    ..GEO
};

/// The rows.
pub const COMMANDS: &[(Spec, DataFn)] = &[
    (
        Spec {
            name: "georadius",
            flags: ADDS,
            keys: &[
                key(1, access::RO | access::ACCESS),
                store_keyword("STORE", 6),
                store_keyword("STOREDIST", 6),
            ],
            summary: "Finds members within a distance of a place, and can store them.",
            usage: "key longitude latitude radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] \
                    [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
            deprecated: since_6_2("`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument"),
            ..RADIUS
        },
        |ctx| search(ctx, &GEORADIUS),
    ),
    (
        Spec {
            name: "georadius_ro",
            flags: Flags::READONLY,
            keys: READS_KEY,
            since: "3.2.10",
            summary: "Finds members within a distance of a place.",
            usage: "key longitude latitude radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] \
                    [COUNT count [ANY]] [ASC | DESC]",
            deprecated: since_6_2("`GEOSEARCH` with the `BYRADIUS` argument"),
            ..RADIUS
        },
        |ctx| search(ctx, &GEORADIUS_RO),
    ),
    (
        Spec {
            name: "georadiusbymember",
            arity: -5,
            flags: ADDS,
            keys: &[
                key(1, access::RO | access::ACCESS),
                store_keyword("STORE", 5),
                store_keyword("STOREDIST", 5),
            ],
            summary: "Finds members within a distance of another, and can store them.",
            usage: "key member radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] \
                    [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
            deprecated: since_6_2(
                "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
            ),
            ..RADIUS
        },
        |ctx| search(ctx, &GEORADIUSBYMEMBER),
    ),
    (
        Spec {
            name: "georadiusbymember_ro",
            arity: -5,
            flags: Flags::READONLY,
            keys: READS_KEY,
            since: "3.2.10",
            summary: "Finds members within a distance of another.",
            usage: "key member radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] \
                    [COUNT count [ANY]] [ASC | DESC]",
            deprecated: since_6_2("`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments"),
            ..RADIUS
        },
        |ctx| search(ctx, &GEORADIUSBYMEMBER_RO),
    ),
    (
        Spec {
            name: "geosearch",
            arity: -7,
            flags: Flags::READONLY,
            keys: READS_KEY,
            summary: "Finds members inside a circle or rectangle.",
            usage: "key <FROMMEMBER member | FROMLONLAT longitude latitude> \
                    <BYRADIUS radius <m | km | ft | mi> | BYBOX width height <m | km | ft | mi>> \
                    [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
            ..SEARCH
        },
        |ctx| search(ctx, &GEOSEARCH),
    ),
    (
        Spec {
            name: "geosearchstore",
            arity: -8,
            flags: ADDS,
            keys: STORES_OTHER,
            summary: "Finds members inside a circle or rectangle and stores them in a key.",
            usage: "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> \
                    <BYRADIUS radius <m | km | ft | mi> | BYBOX width height <m | km | ft | mi>> \
                    [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
            ..SEARCH
        },
        |ctx| search(ctx, &GEOSEARCHSTORE),
    ),
];

const NO_MEMBER: CmdError = CmdError::new("ERR could not decode requested zset member");
const BAD_COUNT: CmdError = CmdError::new("ERR COUNT must be > 0");
const ANY_ALONE: CmdError = CmdError::new("ERR the ANY argument requires COUNT argument");
const BAD_RADIUS: CmdError = CmdError::new("ERR need numeric radius");
const NEGATIVE_RADIUS: CmdError = CmdError::new("ERR radius cannot be negative");
const BAD_WIDTH: CmdError = CmdError::new("ERR need numeric width");
const BAD_HEIGHT: CmdError = CmdError::new("ERR need numeric height");
const NEGATIVE_SIDE: CmdError = CmdError::new("ERR height or width cannot be negative");

/// How a command names the middle of its search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Two arguments behind the key.
    Place,
    /// One argument behind the key.
    Member,
    /// By options.
    Options,
}

/// What a command can do with what it found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Replied,
    /// Stored where an option says so.
    MayBeStored,
    /// Stored in its first key.
    Stored,
}

/// A form of the search.
struct Form {
    around: Around,
    target: Target,
    /// What storing reports.
    event: Event,
    /// What refuses the WITH options when the result is stored.
    refusal: CmdError,
}

const RADIUS_EVENT: Event = Event::new(class::ZSET, "georadiusstore");
const SEARCH_EVENT: Event = Event::new(class::ZSET, "geosearchstore");
const RADIUS_REFUSAL: CmdError = CmdError::new(
    "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
);
const SEARCH_REFUSAL: CmdError =
    CmdError::new("ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options");

const fn radius_form(around: Around, target: Target) -> Form {
    Form { around, target, event: RADIUS_EVENT, refusal: RADIUS_REFUSAL }
}
const fn search_form(target: Target) -> Form {
    Form { around: Around::Options, target, event: SEARCH_EVENT, refusal: SEARCH_REFUSAL }
}
const GEORADIUS: Form = radius_form(Around::Place, Target::MayBeStored);
const GEORADIUS_RO: Form = radius_form(Around::Place, Target::Replied);
const GEORADIUSBYMEMBER: Form = radius_form(Around::Member, Target::MayBeStored);
const GEORADIUSBYMEMBER_RO: Form = radius_form(Around::Member, Target::Replied);
const GEOSEARCH: Form = search_form(Target::Replied);
const GEOSEARCHSTORE: Form = search_form(Target::Stored);

/// The order of the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Nearest,
    Farthest,
}

/// The arguments of a search.
struct Query<'a> {
    /// Missing when the key is.
    center: Option<Point>,
    shape: Option<Shape>,
    /// Metres in the unit of distances.
    unit: f64,
    with_distance: bool,
    with_score: bool,
    with_place: bool,
    order: Option<Order>,
    /// Most members; 0 means all.
    count: usize,
    /// Any members will do, not just the nearest.
    any: bool,
    /// Where the result is stored.
    to: Option<Key<'a>>,
    /// Distances are stored as scores.
    store_distances: bool,
}

/// The source as far as the arguments are concerned.
type Lookup<'v> = Option<zset::View<'v>>;

impl<'a> Query<'a> {
    fn parse(args: Args<'a>, form: &Form, source: Lookup<'_>) -> Result<Query<'a>, CmdError> {
        let mut query = Query {
            center: None,
            shape: None,
            unit: 1.0,
            with_distance: false,
            with_score: false,
            with_place: false,
            order: None,
            count: 0,
            any: false,
            to: (form.target == Target::Stored).then(|| Key::new(args.get(1))),
            store_distances: false,
        };
        let options = match form.around {
            Around::Place => {
                query.center = Some(place(args.get(2), args.get(3))?);
                query.take_radius(args.get(4), args.get(5))?;
                6
            }
            Around::Member => {
                // Without a key only the options are read: they say which reply there is.
                if source.is_some() {
                    query.center = member_place(source, args.get(2))?;
                    query.take_radius(args.get(3), args.get(4))?;
                }
                5
            }
            Around::Options if form.target == Target::Stored => 3,
            Around::Options => 2,
        };
        let mut from_member = false;
        let mut cursor = Cursor::new(args, options);
        while !cursor.is_done() {
            if !query.common_option(&mut cursor)?
                && !query.store_option(&mut cursor, form)?
                && !query.area_option(&mut cursor, form, source, &mut from_member)?
            {
                return Err(error::SYNTAX);
            }
        }
        query.check(args, form, from_member)?;
        Ok(query)
    }

    fn take_radius(&mut self, radius: &[u8], unit_name: &[u8]) -> Result<(), CmdError> {
        let radius = float(radius).map_err(|_| BAD_RADIUS)?;
        if radius < 0.0 {
            return Err(NEGATIVE_RADIUS);
        }
        self.unit = unit(unit_name)?;
        self.shape = Some(Shape::Circle { radius: radius * self.unit });
        Ok(())
    }

    fn take_box(&mut self, cursor: &mut Cursor<'_>) -> Result<(), CmdError> {
        let width = float(cursor.take()?).map_err(|_| BAD_WIDTH)?;
        let height = float(cursor.take()?).map_err(|_| BAD_HEIGHT)?;
        if width < 0.0 || height < 0.0 {
            return Err(NEGATIVE_SIDE);
        }
        self.unit = unit(cursor.take()?)?;
        self.shape = Some(Shape::Rectangle { width: width * self.unit, height: height * self.unit });
        Ok(())
    }

    /// Takes an option that all forms have. False if the next argument is none.
    fn common_option(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, CmdError> {
        if cursor.word("withdist") {
            self.with_distance = true;
        } else if cursor.word("withhash") {
            self.with_score = true;
        } else if cursor.word("withcoord") {
            self.with_place = true;
        } else if cursor.word("any") {
            self.any = true;
        } else if cursor.word("asc") {
            self.order = Some(Order::Nearest);
        } else if cursor.word("desc") {
            self.order = Some(Order::Farthest);
        } else if cursor.left() >= 2 && cursor.word("count") {
            self.count = match cursor.int()? {
                n @ 1.. => n as usize,
                _ => return Err(BAD_COUNT),
            };
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn store_option(&mut self, cursor: &mut Cursor<'a>, form: &Form) -> Result<bool, CmdError> {
        match form.target {
            Target::MayBeStored if cursor.left() >= 2 => {
                self.store_distances = match () {
                    () if cursor.word("store") => false,
                    () if cursor.word("storedist") => true,
                    () => return Ok(false),
                };
                self.to = Some(Key::new(cursor.take()?));
                Ok(true)
            }
            Target::Stored if cursor.word("storedist") => {
                self.store_distances = true;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Takes an option of GEOSEARCH that says where is searched.
    fn area_option(
        &mut self,
        cursor: &mut Cursor<'_>,
        form: &Form,
        source: Lookup<'_>,
        from_member: &mut bool,
    ) -> Result<bool, CmdError> {
        if form.around != Around::Options {
            return Ok(false);
        }
        let from_place = self.center.is_some() && !*from_member;
        let (is_circle, is_box) = (
            matches!(self.shape, Some(Shape::Circle { .. })),
            matches!(self.shape, Some(Shape::Rectangle { .. })),
        );
        if !from_place && cursor.left() >= 2 && cursor.word("frommember") {
            *from_member = true;
            self.center = member_place(source, cursor.take()?)?;
        } else if !*from_member && cursor.left() >= 3 && cursor.word("fromlonlat") {
            self.center = Some(place(cursor.take()?, cursor.take()?)?);
        } else if !is_box && cursor.left() >= 3 && cursor.word("byradius") {
            self.take_radius(cursor.take()?, cursor.take()?)?;
        } else if !is_circle && cursor.left() >= 4 && cursor.word("bybox") {
            self.take_box(cursor)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Refuses options that do not go together.
    fn check(&mut self, args: Args<'_>, form: &Form, from_member: bool) -> Result<(), CmdError> {
        if self.to.is_some() && (self.with_distance || self.with_score || self.with_place) {
            return Err(form.refusal.clone());
        }
        let exactly_one = |of: &str| {
            let mut text = format!("ERR exactly one of {of} can be specified for ").into_bytes();
            text.extend_from_slice(args.get(0));
            Err(CmdError::text(text))
        };
        if form.around == Around::Options && self.center.is_none() && !from_member {
            return exactly_one("FROMMEMBER or FROMLONLAT");
        }
        if form.around == Around::Options && self.shape.is_none() {
            return exactly_one("BYRADIUS and BYBOX");
        }
        if self.any && self.count == 0 {
            return Err(ANY_ALONE);
        }
        // The first members are of use only in an order.
        if self.count > 0 && self.order.is_none() && !self.any {
            self.order = Some(Order::Nearest);
        }
        Ok(())
    }
}

/// The place of a member, which must be there if the key is.
fn member_place(source: Lookup<'_>, member: &[u8]) -> Result<Option<Point>, CmdError> {
    let Some(view) = source else { return Ok(None) };
    view.score(member).map(|score| Some(geohash::point(score))).ok_or(NO_MEMBER)
}

/// A member that was found.
struct Hit {
    member: Vec<u8>,
    score: f64,
    place: Point,
    /// From the center, in metres.
    distance: f64,
}

/// The members inside the area of a query, in its order.
fn find(query: &Query<'_>, view: zset::View<'_>) -> Vec<Hit> {
    let (Some(center), Some(shape)) = (query.center, query.shape) else { return Vec::new() };
    let enough = if query.any { query.count } else { usize::MAX };
    let mut hits = Vec::new();
    'cells: for cell in geohash::cells(shape, center) {
        let (from, to) = cell.scores();
        let ranks = view.ranks(Cut::Score(from, Side::Before), Cut::Score(to, Side::Before));
        for (member, score) in view.range(ranks, Direction::Forward) {
            let place = geohash::point(score);
            if let Some(distance) = shape.distance_inside(center, place) {
                hits.push(Hit { member: member.to_vec(), score, place, distance });
                if hits.len() >= enough {
                    break 'cells;
                }
            }
        }
    }
    match query.order {
        Some(Order::Nearest) => hits.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
        Some(Order::Farthest) => hits.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        None => {}
    }
    if query.count > 0 {
        hits.truncate(query.count);
    }
    hits
}

fn search(ctx: &mut Ctx<'_>, form: &Form) -> CmdResult {
    let source = ctx.key(if form.target == Target::Stored { 2 } else { 1 });
    let entry = of_kind(ctx.ks.read(ctx.db, source), Kind::Zset)?;
    let view = entry.as_ref().map(|entry| zset::view(entry));
    let query = Query::parse(ctx.args, form, view)?;
    let hits = view.map_or(Vec::new(), |view| find(&query, view));
    drop(entry);
    match query.to {
        None => reply_hits(ctx.reply, &query, &hits),
        Some(to) => store_hits(ctx, to, form.event, &query, &hits),
    }
    Ok(Outcome::Done)
}

fn reply_hits(reply: &mut Reply, query: &Query<'_>, hits: &[Hit]) {
    let extras = [query.with_distance, query.with_score, query.with_place];
    let extras = extras.into_iter().filter(|wanted| *wanted).count();
    reply.array(hits.len());
    for hit in hits {
        if extras > 0 {
            reply.array(1 + extras);
        }
        reply.bulk(&hit.member);
        if query.with_distance {
            reply_distance(reply, hit.distance / query.unit);
        }
        if query.with_score {
            reply.int(hit.score as i64);
        }
        if query.with_place {
            reply_place(reply, hit.place);
        }
    }
}

fn store_hits(ctx: &mut Ctx<'_>, to: Key<'_>, event: Event, query: &Query<'_>, hits: &[Hit]) {
    let limits = limits(ctx.config);
    let mut built = draft(Kind::Zset);
    zset::prepare(&mut built, &limits, hits.len(), 0);
    for hit in hits {
        let score = if query.store_distances { hit.distance / query.unit } else { hit.score };
        zset::set(&mut built, &limits, &hit.member, score);
    }
    let stored = store(ctx, to, built, event);
    ctx.ks.changes.dirty += stored.saturating_sub(1) as u64;
    ctx.reply.len_int(stored);
}
