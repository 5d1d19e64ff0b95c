//! Numbers to text and back, by the rules clients of Redis rely on: which spellings of an integer are
//! accepted, and how a double is written. Knows no reply format and no error text.

pub use crate::sys::longdouble::LongDouble;

/// Longest text of an `i64`: sign and 19 digits.
const MAX_I64_TEXT: usize = 20;

/// Parses a signed 64-bit integer strictly: optional `-`, no `+`, no leading zeros, no spaces, no `-0`.
/// The text of an accepted number is thus exactly what [`push_i64`] writes, so a string that parses can
/// be stored as an integer and read back unchanged.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    if text.len() > MAX_I64_TEXT {
        return None;
    }
    let Some(digits) = text.strip_prefix(b"-") else {
        return i64::try_from(parse_u64(text)?).ok();
    };
    match parse_u64(digits)? {
        0 => None,
        magnitude if magnitude <= 1 << 63 => Some((magnitude as i64).wrapping_neg()),
        _ => None,
    }
}

/// Parses an unsigned 64-bit integer strictly: digits only, no leading zeros.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [] => None,
        [b'0'] => Some(0),
        [b'0', ..] => None,
        _ => digits_value(text),
    }
}

/// Parses an unsigned integer as `strtoull` would where Redis falls back to it (stream IDs): leading
/// white space, a `+` and leading zeros are taken. A minus sign is refused.
pub fn parse_u64_lax(text: &[u8]) -> Option<u64> {
    let text = &text[text.iter().take_while(|byte| is_space(**byte)).count()..];
    digits_value(text.strip_prefix(b"+").unwrap_or(text))
}

fn digits_value(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// C's `isspace` in the C locale (Rust's `is_ascii_whitespace` leaves out the vertical tab).
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Parses a double as a strict `strtod` does: decimal or hex (`0x1p-3`), `inf` and `infinity` in any case
/// with a sign. Refused: leading white space, trailing garbage, NaN, and numbers so big that they would
/// become infinite or so small that they would become zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (negative, body) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    // The standard parser takes a sign of its own; a second one is garbage.
    if matches!(body, [] | [b'-' | b'+', ..]) {
        return None;
    }
    let magnitude = match body {
        [b'0', b'x' | b'X', hex @ ..] => parse_hex_float(hex)?,
        [b'0'..=b'9' | b'.', ..] => parse_decimal(body)?,
        _ if body.eq_ignore_ascii_case(b"inf") || body.eq_ignore_ascii_case(b"infinity") => f64::INFINITY,
        _ => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// Parses a double as a plain `strtod` does whose end is checked: like [`parse_f64`], but nothing is 0,
/// leading white space is passed over, and what is too big or too small becomes infinite or zero.
pub fn parse_f64_lax(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let text = &text[text.iter().take_while(|byte| is_space(**byte)).count()..];
    let is_decimal = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E');
    parse_f64(text).or_else(|| {
        let all_decimal = text.iter().all(is_decimal);
        std::str::from_utf8(text).ok().filter(|_| all_decimal)?.parse().ok()
    })
}

fn parse_decimal(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let mantissa = text.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
    let underflow = value == 0.0 && mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'));
    (value.is_finite() && !underflow).then_some(value)
}

/// The part after `0x` of a C99 hexadecimal float, rounded to nearest even.
fn parse_hex_float(text: &[u8]) -> Option<f64> {
    let (digits, exponent) = match text.iter().position(|byte| matches!(byte, b'p' | b'P')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (mut mantissa, mut scale, mut sticky) = (0u64, exponent, false);
    let (mut seen_point, mut count) = (false, 0);
    for &byte in digits {
        if byte == b'.' && !seen_point {
            seen_point = true;
            continue;
        }
        let digit = u64::from((byte as char).to_digit(16)?);
        count += 1;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            scale -= if seen_point { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            scale += if seen_point { 0 } else { 4 };
        }
    }
    if count == 0 {
        return None;
    }
    scale_to_f64(mantissa, sticky, scale)
}

/// A decimal exponent with optional sign. Saturates far outside the range of a double.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits_value(digits).unwrap_or(u64::MAX).min(1 << 40) as i64;
    Some(if negative { -value } else { value })
}

/// `mantissa * 2^scale` rounded once; None when it overflows, or underflows to zero. `sticky` says that
/// non-zero bits below the mantissa were dropped.
fn scale_to_f64(mantissa: u64, sticky: bool, scale: i64) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    let shift = mantissa.leading_zeros();
    let mantissa = mantissa << shift;
    let exponent = scale - i64::from(shift) + 63; // of the leading bit
    if exponent > 1023 {
        return None;
    }
    // A normal double keeps 53 bits; a subnormal one fewer, since its lowest bit stands for 2^-1074.
    let keep = (exponent + 1075).min(53);
    if keep < 0 {
        return None;
    }
    let drop = (64 - keep) as u32;
    let kept = mantissa.checked_shr(drop).unwrap_or(0);
    let rest = u128::from(mantissa) & ((1u128 << drop) - 1);
    let half = 1u128 << (drop - 1);
    let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
    let rounded = kept + u64::from(up);
    // Adding the fields (not or-ing them) lets a rounding carry move into the exponent.
    let biased = if exponent >= -1022 { (exponent + 1022) as u64 } else { 0 };
    let value = f64::from_bits((biased << 52) + rounded);
    (value != 0.0 && value.is_finite()).then_some(value)
}

/// Appends the decimal text of a signed integer.
pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the decimal text of an unsigned integer.
pub fn push_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Integers up to this size are written with all their digits, beyond it in the shortest form that
/// reads back equal.
const EXACT_INTEGER_LIMIT: f64 = 4_611_686_018_427_387_904.0; // 2^62

/// Appends the text of a double as Redis 7.2 and later write it in replies and in sorted sets: `nan`,
/// `inf`, `-inf`, `-0`; integers in full; otherwise the shortest digits that read back equal (see
/// [`push_shortest`]).
pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value < 0.0 { b"-inf" } else { b"inf" });
    } else if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
    } else if value.abs() <= EXACT_INTEGER_LIMIT && value.trunc() == value {
        push_i64(out, value as i64);
    } else {
        push_shortest(out, value);
    }
}

/// Appends a double with `decimals` digits behind the point, a half rounded to the even digit: what Redis
/// calls a fixed point number. Beyond the range of 64 bits it ends at the range's end.
pub fn push_fixed(out: &mut Vec<u8>, value: f64, decimals: u32) {
    let unit = 10u64.pow(decimals);
    let scaled = (value * unit as f64).round_ties_even() as i64;
    if scaled < 0 {
        out.push(b'-');
    }
    push_u64(out, scaled.unsigned_abs() / unit);
    out.push(b'.');
    let fraction = scaled.unsigned_abs() % unit;
    out.extend_from_slice(format!("{fraction:0width$}", width = decimals as usize).as_bytes());
}

/// Appends a double with all its digits, 17 decimals at most, without zeros at the end and without an
/// exponent: what Redis calls the human form of a long double.
pub fn push_human(out: &mut Vec<u8>, value: f64) {
    let text = format!("{value:.17}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    out.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
}

/// Appends a finite non-zero double with its shortest digits. Plain notation while at most 7 zeros would
/// have to be added behind the digits, or while the number has at most 6 decimals or is within
/// 10^-3 .. 10^4; otherwise `1.5e+21` with at least one exponent digit.
fn push_shortest(out: &mut Vec<u8>, value: f64) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let mut buffer = [0u8; 24];
    let (count, scale) = shortest_digits(value.abs(), &mut buffer);
    let digits = &buffer[..count];
    let exponent = scale + count as i32 - 1;
    if scale >= 0 && exponent.abs() < count as i32 + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + scale as usize, b'0');
    } else if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        match usize::try_from(count as i32 + scale) {
            Ok(whole) if whole > 0 => {
                out.extend_from_slice(&digits[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            }
            _ => {
                out.extend_from_slice(b"0.");
                out.resize(out.len() + (-scale) as usize - count, b'0');
                out.extend_from_slice(digits);
            }
        }
    } else {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        push_u64(out, u64::from(exponent.unsigned_abs()));
    }
}

/// Splits a positive finite double into its shortest digits (no zeros at either end) and the power of
/// ten of the last digit.
fn shortest_digits(value: f64, digits: &mut [u8; 24]) -> (usize, i32) {
    let mut printer = zmij::Buffer::new();
    let text = printer.format_finite(value).as_bytes();
    let (mantissa, exponent) = match text.iter().position(|byte| *byte == b'e') {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..]).unwrap_or(0) as i32),
        None => (text, 0),
    };
    let (mut count, mut decimals, mut seen_point) = (0, 0, false);
    for &byte in mantissa {
        if byte == b'.' {
            seen_point = true;
            continue;
        }
        decimals += i32::from(seen_point);
        if count > 0 || byte != b'0' {
            digits[count] = byte;
            count += 1;
        }
    }
    let zeros = digits[..count].iter().rev().take_while(|byte| **byte == b'0').count();
    (count - zeros, exponent - decimals + zeros as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        push_f64(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_are_strict() {
        for (input, want) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("99999999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
            ("--1", None),
        ] {
            assert_eq!(parse_i64(input.as_bytes()), want, "{input:?}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64_lax(b" +007"), Some(7));
        assert_eq!(parse_u64_lax(b"-7"), None);
    }

    #[test]
    fn integers_round_trip() {
        let mut rng = Rng::from_seed(7);
        for _ in 0..10_000 {
            let value = (rng.next_u64() >> rng.below(64)) as i64;
            let mut out = Vec::new();
            push_i64(&mut out, value);
            assert_eq!(parse_i64(&out), Some(value));
        }
    }

    #[test]
    fn doubles_are_read_like_strtod() {
        for (input, want) in [
            ("1", Some(1.0)),
            ("+1.5", Some(1.5)),
            ("-.5", Some(-0.5)),
            ("5.", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("+INF", Some(f64::INFINITY)),
            ("0x10", Some(16.0)),
            ("0x1.8p1", Some(3.0)),
            ("-0x.8", Some(-0.5)),
            ("0x1p-1074", Some(5e-324)),
            ("0x0", Some(0.0)),
            ("0x1.fffffffffffff8p0", Some(2.0)),
            ("0x1p1024", None),
            ("0x1p-1076", None),
            ("0x", None),
            ("0x1p", None),
            ("5e-324", Some(5e-324)),
            ("1e-400", None),
            ("1e400", None),
            ("0e999", Some(0.0)),
            ("nan", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            (".", None),
            ("1e", None),
            ("--1", None),
            ("infx", None),
            ("1_0", None),
        ] {
            assert_eq!(parse_f64(input.as_bytes()), want, "{input:?}");
        }
        assert!(parse_f64(b"-0").unwrap().is_sign_negative());
    }

    #[test]
    fn bounds_are_read_laxly() {
        for (input, want) in [
            ("", Some(0.0)),
            ("  1.5", Some(1.5)),
            ("1e400", Some(f64::INFINITY)),
            ("-1e400", Some(f64::NEG_INFINITY)),
            ("1e-400", Some(0.0)),
            ("+inf", Some(f64::INFINITY)),
            ("0x10", Some(16.0)),
            (" ", None),
            ("1 ", None),
            ("nan", None),
            ("--1", None),
            ("e", None),
        ] {
            assert_eq!(parse_f64_lax(input.as_bytes()), want, "{input:?}");
        }
    }

    #[test]
    fn hex_floats_round_once() {
        let mut rng = Rng::from_seed(11);
        for _ in 0..5_000 {
            let mantissa = rng.next_u64() >> rng.below(40);
            // The standard library rounds u64 -> f64 once; the scale is then exact.
            let want = mantissa as f64 * 0.25;
            let got = parse_f64(format!("0x{mantissa:x}p-2").as_bytes()).unwrap();
            assert_eq!(got.to_bits(), want.to_bits(), "{mantissa:x}");
        }
    }

    #[test]
    fn doubles_are_written_like_redis() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-17.25, "-17.25"),
            (0.1, "0.1"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (0.000001, "0.000001"),
            (0.00012345678, "1.2345678e-4"),
            (0.0012345678, "0.0012345678"),
            (1234.12345678, "1234.12345678"),
            (12345.12345678, "1.234512345678e+4"),
            (12345.123456, "12345.123456"),
            (1e18, "1000000000000000000"),
            (4611686018427387904.0, "4611686018427387904"),
            (1e19, "1e+19"),
            (1e21, "1e+21"),
            (12345678901234567e4, "123456789012345670000"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (2.2250738585072014, "2.2250738585072014"),
        ] {
            assert_eq!(text(value), want);
        }
    }

    #[test]
    fn fixed_and_human_forms() {
        let fixed = |value| {
            let mut out = Vec::new();
            push_fixed(&mut out, value, 4);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(fixed(0.0), "0.0000");
        assert_eq!(fixed(166_274.151_56), "166274.1516");
        assert_eq!(fixed(0.775), "0.7750");
        assert_eq!(fixed(-1.5), "-1.5000");
        let human = |value| {
            let mut out = Vec::new();
            push_human(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(human(13.361_389_338_970_184), "13.36138933897018433");
        assert_eq!(human(0.5), "0.5");
        assert_eq!(human(100.0), "100");
        assert_eq!(human(-0.0), "0");
        assert_eq!(human(-180.0), "-180");
        // A half is rounded to the even digit, as the C library does it.
        assert_eq!(human(f64::powi(2.0, -18)), "0.00000381469726562");
    }

    #[test]
    fn doubles_round_trip() {
        let mut rng = Rng::from_seed(3);
        for _ in 0..20_000 {
            let value = f64::from_bits(rng.next_u64());
            if value.is_finite() {
                let written = text(value);
                assert_eq!(parse_f64(written.as_bytes()), Some(value), "{written}");
            }
        }
    }
}
