//! Geohashes as sorted sets hold them: a place on Earth as 52 bits, those of its latitude and its longitude
//! in turn, so that places of one cell of a grid have neighbouring numbers. Pure arithmetic, in the very
//! order of operations that Redis has, so that results are equal to the last bit. Knows no command and no
//! sorted set.
//!
//! Distances are great circles of a sphere (haversine formula). The map is the one of web maps: square, and
//! without the poles (EPSG:3857).

use std::f64::consts::PI;

/// Bits of each coordinate in a score.
pub const STEPS_MAX: u32 = 26;
/// Greatest longitude, in degrees.
pub const LONGITUDE_MAX: f64 = 180.0;
/// Greatest latitude that the square map shows, in degrees.
pub const LATITUDE_MAX: f64 = 85.051_128_78;

/// Mean radius of the Earth (WGS-84), in metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the equator on the square map, in metres.
const MAP_HALF: f64 = 20_037_726.37;
/// Beyond these latitudes cells are much narrower than at the equator.
const NARROW: f64 = 66.0;
const NARROWER: f64 = 80.0;
const DEGREE: f64 = PI / 180.0;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// West is negative.
    pub longitude: f64,
    /// South is negative.
    pub latitude: f64,
}

/// An interval of degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    min: f64,
    max: f64,
}

/// The part of the Earth that is divided into cells.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    longitude: Span,
    latitude: Span,
}

/// The grid of scores: the square map.
pub const MAP: Grid = Grid {
    longitude: Span { min: -LONGITUDE_MAX, max: LONGITUDE_MAX },
    latitude: Span { min: -LATITUDE_MAX, max: LATITUDE_MAX },
};
/// The grid of standard geohash strings: with the poles.
pub const GLOBE: Grid = Grid {
    longitude: Span { min: -LONGITUDE_MAX, max: LONGITUDE_MAX },
    latitude: Span { min: -90.0, max: 90.0 },
};

/// A cell of a grid whose sides are divided into `2^steps` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Bits of latitude (even) and longitude (odd) in turn.
    pub bits: u64,
    /// Bits of each.
    pub steps: u32,
}

/// Moves the low 32 bits to the even places.
fn spread(half: u32) -> u64 {
    let mut bits = u64::from(half);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Undoes [`spread`].
fn gather(bits: u64) -> u32 {
    (0..32).fold(0, |half, i| half | ((bits >> (2 * i)) as u32 & 1) << i)
}

impl Span {
    /// The number of the part a coordinate is in, of `2^steps`.
    fn part(self, degrees: f64, steps: u32) -> u32 {
        let offset = (degrees - self.min) / (self.max - self.min);
        (offset * (1u64 << steps) as f64) as u32
    }

    /// The part with a number.
    fn of_part(self, part: u32, steps: u32) -> Span {
        let (scale, parts) = (self.max - self.min, (1u64 << steps) as f64);
        let edge = |part: u32| self.min + (f64::from(part) / parts) * scale;
        Span { min: edge(part), max: edge(part.wrapping_add(1)) }
    }

    fn middle(self) -> f64 {
        (self.min + self.max) / 2.0
    }
}

impl Grid {
    /// The cell of a place.
    pub fn cell(&self, point: Point, steps: u32) -> Cell {
        let latitude = self.latitude.part(point.latitude, steps);
        Cell::join(latitude, self.longitude.part(point.longitude, steps), steps)
    }

    /// Longitudes and latitudes of a cell.
    fn area(&self, cell: Cell) -> (Span, Span) {
        let (latitude, longitude) = cell.split();
        (self.longitude.of_part(longitude, cell.steps), self.latitude.of_part(latitude, cell.steps))
    }
}

impl Cell {
    fn join(latitude: u32, longitude: u32, steps: u32) -> Cell {
        Cell { bits: spread(latitude) | spread(longitude) << 1, steps }
    }

    fn split(self) -> (u32, u32) {
        (gather(self.bits), gather(self.bits >> 1))
    }

    /// The cell some cells to the north and east; the map has no edge.
    fn neighbor(self, north: i32, east: i32) -> Cell {
        let (latitude, longitude) = self.split();
        let mask = ((1u64 << self.steps) - 1) as u32;
        let go = |from: u32, by: i32| if by == 0 { from } else { from.wrapping_add_signed(by) & mask };
        Cell::join(go(latitude, north), go(longitude, east), self.steps)
    }

    /// The scores of places in the cell: from the first, up to but without the second.
    pub fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEPS_MAX - self.steps);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// The score of a place.
pub fn score(point: Point) -> f64 {
    MAP.cell(point, STEPS_MAX).scores().0
}

/// The place a score stands for: the middle of its cell. Any number is some place.
pub fn point(score: f64) -> Point {
    // As C converts doubles on x86-64: negative numbers in two's complement, what is too big to nothing.
    let bits = match score {
        _ if score < i64::MAX as f64 => score as i64 as u64,
        _ if score < u64::MAX as f64 => score as u64,
        _ => 0,
    };
    let (longitude, latitude) = MAP.area(Cell { bits, steps: STEPS_MAX });
    Point {
        longitude: longitude.middle().clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
        latitude: latitude.middle().clamp(-LATITUDE_MAX, LATITUDE_MAX),
    }
}

/// The standard geohash string of a place: eleven characters, the last of which carries no information.
pub fn text(point: Point) -> [u8; 11] {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let bits = GLOBE.cell(point, STEPS_MAX).bits;
    let digit = |i: usize| if i < 10 { bits >> (52 - 5 * (i + 1)) & 31 } else { 0 };
    std::array::from_fn(|i| ALPHABET[digit(i) as usize])
}

fn meridian_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS * (b * DEGREE - a * DEGREE).abs()
}

/// Distance of two places in metres.
pub fn distance(a: Point, b: Point) -> f64 {
    let v = ((b.longitude * DEGREE - a.longitude * DEGREE) / 2.0).sin();
    if v == 0.0 {
        return meridian_distance(a.latitude, b.latitude);
    }
    let (from, to) = (a.latitude * DEGREE, b.latitude * DEGREE);
    let u = ((to - from) / 2.0).sin();
    let h = u * u + from.cos() * to.cos() * v * v;
    // Rounding may bring it above 1 for opposite sides of the Earth.
    2.0 * EARTH_RADIUS * h.sqrt().min(1.0).asin()
}

/// An area around a place; lengths in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// All places within this distance.
    Circle {
        /// The distance.
        radius: f64,
    },
    /// A rectangle along meridians and parallels.
    Rectangle {
        /// From west to east.
        width: f64,
        /// From north to south.
        height: f64,
    },
}

impl Shape {
    /// The distance of a place from the center, if it is inside.
    pub fn distance_inside(self, center: Point, place: Point) -> Option<f64> {
        match self {
            Shape::Circle { radius } => {
                let distance = distance(center, place);
                (distance <= radius).then_some(distance)
            }
            Shape::Rectangle { width, height } => {
                let beside = Point { longitude: center.longitude, ..place };
                let outside = meridian_distance(place.latitude, center.latitude) > height / 2.0
                    || distance(place, beside) > width / 2.0;
                (!outside).then(|| distance(center, place))
            }
        }
    }

    /// Half of width and height.
    fn halves(self) -> (f64, f64) {
        match self {
            Shape::Circle { radius } => (radius, radius),
            Shape::Rectangle { width, height } => (width / 2.0, height / 2.0),
        }
    }

    /// Distance of the farthest place inside.
    fn reach(self) -> f64 {
        match self {
            Shape::Circle { radius } => radius,
            Shape::Rectangle { .. } => {
                let (x, y) = self.halves();
                (x * x + y * y).sqrt()
            }
        }
    }

    /// Longitudes and latitudes it covers around a place.
    fn bounds(self, center: Point) -> (Span, Span) {
        let (width, height) = self.halves();
        let up = height / EARTH_RADIUS / DEGREE;
        // The wider of the two parallels that end it is the one farther from the equator.
        let edge = if center.latitude < 0.0 { center.latitude - up } else { center.latitude + up };
        let aside = width / EARTH_RADIUS / (edge * DEGREE).cos() / DEGREE;
        (
            Span { min: center.longitude - aside, max: center.longitude + aside },
            Span { min: center.latitude - up, max: center.latitude + up },
        )
    }
}

/// Steps at which a cell is about as big as the reach.
fn estimate_steps(reach: f64, latitude: f64) -> u32 {
    if reach == 0.0 {
        return STEPS_MAX;
    }
    let (mut reach, mut steps) = (reach, 1i32);
    while reach < MAP_HALF {
        reach *= 2.0;
        steps += 1;
    }
    // Two less, so that the reach does not end in the neighbouring cells.
    steps -= 2 + i32::from(latitude.abs() > NARROW) + i32::from(latitude.abs() > NARROWER);
    steps.clamp(1, STEPS_MAX as i32) as u32
}

/// Steps to the north and east of the cells that are searched, in the order in which they are.
const AROUND: [(i32, i32); 9] =
    [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)];

/// The cells that a shape around a place may touch, in the order in which Redis searches them: at most nine,
/// some perhaps twice where they are so big that the map is only few cells wide.
pub fn cells(shape: Shape, center: Point) -> Vec<Cell> {
    let (longitudes, latitudes) = shape.bounds(center);
    let mut steps = estimate_steps(shape.reach(), center.latitude);
    let mut cell = MAP.cell(center, steps);
    let area = |north, east| MAP.area(cell.neighbor(north, east));
    let too_small = area(1, 0).1.max < latitudes.max
        || area(-1, 0).1.min > latitudes.min
        || area(0, 1).0.max < longitudes.max
        || area(0, -1).0.min > longitudes.min;
    if steps > 1 && too_small {
        steps -= 1;
        cell = MAP.cell(center, steps);
    }
    let (own_longitudes, own_latitudes) = MAP.area(cell);
    let is_useless = |(north, east): (i32, i32)| {
        steps >= 2
            && ((north < 0 && own_latitudes.min < latitudes.min)
                || (north > 0 && own_latitudes.max > latitudes.max)
                || (east < 0 && own_longitudes.min < longitudes.min)
                || (east > 0 && own_longitudes.max > longitudes.max))
    };
    let mut found = vec![cell];
    for around in AROUND.into_iter().skip(1).filter(|around| !is_useless(*around)) {
        let neighbor = cell.neighbor(around.0, around.1);
        // The same cell again, on the other side of the map. (That the first is not compared is Redis' way.)
        if found.len() > 1 && found.last() == Some(&neighbor) {
            continue;
        }
        found.push(neighbor);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    const PALERMO: Point = Point { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Point = Point { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn known_places() {
        assert_eq!(score(PALERMO), 3_479_099_956_230_698.0);
        assert_eq!(score(CATANIA), 3_479_447_370_796_909.0);
        assert_eq!(&text(point(score(PALERMO))), b"sqc8b49rny0");
        assert_eq!(&text(point(score(CATANIA))), b"sqdtr74hyu0");
        let apart = distance(point(score(PALERMO)), point(score(CATANIA)));
        assert!((apart - 166_274.151_6).abs() < 0.001, "{apart}");
    }

    #[test]
    fn scores_lead_back_to_their_places() {
        let mut rng = Rng::from_seed(5);
        for _ in 0..10_000 {
            let place = Point {
                longitude: (rng.next_f64() - 0.5) * 360.0,
                latitude: (rng.next_f64() - 0.5) * 2.0 * LATITUDE_MAX,
            };
            let again = point(score(place));
            assert!((again.longitude - place.longitude).abs() < 1e-5, "{place:?} {again:?}");
            assert!((again.latitude - place.latitude).abs() < 1e-5, "{place:?} {again:?}");
            assert_eq!(score(again), score(place));
        }
    }

    #[test]
    fn cells_cover_what_is_inside() {
        let mut rng = Rng::from_seed(6);
        let mut inside = 0;
        while inside < 5_000 {
            let center =
                Point { longitude: (rng.next_f64() - 0.5) * 300.0, latitude: (rng.next_f64() - 0.5) * 120.0 };
            let reach = 10f64.powf(rng.next_f64() * 5.0 + 1.0);
            let shape = if rng.below(2) == 0 {
                Shape::Circle { radius: reach }
            } else {
                Shape::Rectangle { width: reach, height: reach * (rng.next_f64() + 0.5) }
            };
            let degrees = reach / 100_000.0;
            let place = Point {
                longitude: center.longitude + (rng.next_f64() - 0.5) * degrees,
                latitude: center.latitude + (rng.next_f64() - 0.5) * degrees,
            };
            if place.longitude.abs() > 180.0 || shape.distance_inside(center, place).is_none() {
                continue;
            }
            inside += 1;
            let score = score(place);
            let covered = cells(shape, center).iter().any(|cell| {
                let (from, to) = cell.scores();
                (from..to).contains(&score)
            });
            assert!(covered, "{shape:?} around {center:?}: {place:?}");
        }
    }

    #[test]
    fn the_map_has_no_edge() {
        let cell = MAP.cell(Point { longitude: 179.99, latitude: 0.1 }, 5);
        let east = cell.neighbor(0, 1);
        assert_eq!(MAP.area(east).0.min, -180.0);
        assert_eq!(east.neighbor(0, -1), cell);
    }
}
