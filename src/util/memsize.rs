//! Sizes of memory as operators write and read them: `512mb` in, `1.23M` out.

/// Unit suffixes: a bare letter is a power of 1000, with a `b` a power of 1024 (redis.conf's rule).
const UNITS: [(&[u8], u64); 12] = [
    (b"", 1),
    (b"b", 1),
    (b"k", 1_000),
    (b"kb", 1 << 10),
    (b"m", 1_000_000),
    (b"mb", 1 << 20),
    (b"g", 1_000_000_000),
    (b"gb", 1 << 30),
    (b"t", 1_000_000_000_000),
    (b"tb", 1 << 40),
    (b"p", 1_000_000_000_000_000),
    (b"pb", 1 << 50),
];

/// Parses a size in bytes: digits and an optional unit in any case (`100`, `1k`, `1kb`, `2MB`, `1g`).
/// None for a sign, spaces, an unknown unit, or a product beyond `u64`.
pub fn parse_memory(text: impl AsRef<[u8]>) -> Option<u64> {
    let text = text.as_ref();
    let split = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(split);
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

/// The short form INFO shows: `512B`, `1.00K`, `1.23M`, up to P (1024 each, two decimals).
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G", "T", "P"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.2}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, want) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("7b", Some(7)),
            ("1k", Some(1000)),
            ("1KB", Some(1024)),
            ("2mb", Some(2 << 20)),
            ("1g", Some(1_000_000_000)),
            ("1Gb", Some(1 << 30)),
            ("", None),
            ("kb", None),
            ("-1", None),
            ("+1", None),
            ("1 kb", None),
            ("1x", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18446744073709551615k", None),
        ] {
            assert_eq!(parse_memory(text), want, "{text:?}");
        }
    }

    #[test]
    fn human() {
        for (bytes, want) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_289_748, "1.23M"),
            (1 << 30, "1.00G"),
            (3 << 40, "3.00T"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(human_bytes(bytes), want);
        }
    }
}
