//! Text helpers: case-blind comparison, the nearest known name for a typing mistake, and the division of
//! a count of milliseconds into a UTC date (used by the log and by `sys::clock`).

/// Whether two byte strings are equal but for ASCII case.
#[inline]
pub fn eq_ignore_case(left: impl AsRef<[u8]>, right: impl AsRef<[u8]>) -> bool {
    left.as_ref().eq_ignore_ascii_case(right.as_ref())
}

/// ASCII lower case copy of bytes, for keys of lookup tables; bytes that are no UTF-8 become U+FFFD.
pub fn lowercase(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_ascii_lowercase()
}

/// Edit distance of two names: insertions, deletions and substitutions of bytes, blind to ASCII case.
pub fn levenshtein(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let substituted = diagonal + usize::from(!a.eq_ignore_ascii_case(&b));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// The known name nearest to a mistyped one, for "did you mean": None when all are more than a third of
/// the name (at least two edits) away. The first of equally near names wins.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.len() / 3).max(2);
    let near = known.into_iter().map(|candidate| (levenshtein(name, candidate), candidate));
    near.filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A point in time as a UTC calendar shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtcTime {
    /// Year of the Gregorian calendar.
    pub year: i64,
    /// 1..=12.
    pub month: u32,
    /// 1..=31.
    pub day: u32,
    /// 0..=23.
    pub hour: u32,
    /// 0..=59.
    pub minute: u32,
    /// 0..=59; leap seconds are not shown, as in POSIX time.
    pub second: u32,
    /// 0..=999.
    pub millisecond: u32,
}

impl UtcTime {
    /// Divides milliseconds since 1970-01-01 (may be negative).
    pub fn from_unix_ms(unix_ms: i64) -> UtcTime {
        let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000) as u32);
        // Days to a date, counting years from March so that the leap day comes last (the algorithm
        // `civil_from_days` in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms").
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * from_march + 2) / 5 + 1) as u32;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 } as u32;
        UtcTime {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day,
            hour: ms / 3_600_000,
            minute: ms / 60_000 % 60,
            second: ms / 1_000 % 60,
            millisecond: ms % 1_000,
        }
    }
}

/// RFC 3339 with milliseconds: `2026-11-22T13:18:30.874Z`.
impl std::fmt::Display for UtcTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let UtcTime { year, month, day, hour, minute, second, millisecond } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

/// An error of the system in its plain words, without its number.
pub fn plain_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case() {
        assert!(eq_ignore_case("GeT", b"get") && !eq_ignore_case("get", "gets"));
        assert_eq!(lowercase(b"MaxMemory"), "maxmemory");
    }

    #[test]
    fn near_names() {
        assert_eq!(levenshtein("kitten", "sitting"), 3);
        assert_eq!(levenshtein("", "abc"), 3);
        let known = ["maxmemory", "maxclients", "port"];
        assert_eq!(nearest("maxmemry", known), Some("maxmemory"));
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("appendonly", known), None);
    }

    #[test]
    fn dates() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_795_353_510_874, "2026-11-22T13:18:30.874Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(UtcTime::from_unix_ms(ms).to_string(), want);
        }
    }
}
