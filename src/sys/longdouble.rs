//! The 80-bit `long double` of C, which Rust lacks. INCRBYFLOAT and HINCRBYFLOAT compute in it, and their
//! results (`10.50 + 0.1 = 10.6`) can be had exactly in no other way. The C side is `longdouble.c`.

use std::ffi::{c_char, c_int};

/// Longest text that is read or written, with its NUL: every `long double` fits (about 4,950 digits).
const MAX_TEXT: usize = 5 * 1024;

/// A `long double`, seen from Rust as its bytes.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct LongDouble([u8; 16]);

unsafe extern "C" {
    fn aikv_ld_parse(text: *const c_char, length: usize, out: *mut LongDouble) -> c_int;
    fn aikv_ld_add(left: *const LongDouble, right: *const LongDouble, out: *mut LongDouble);
    fn aikv_ld_is_finite(value: *const LongDouble) -> c_int;
    fn aikv_ld_print(value: *const LongDouble, out: *mut c_char, room: usize) -> c_int;
}

impl LongDouble {
    /// Parses as a strict `strtold`: no leading white space, no garbage behind, no NaN, no overflow to
    /// infinity, no underflow to zero; at most 5,119 bytes. `inf` is a number.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.is_empty() || text.len() >= MAX_TEXT || crate::util::num::is_space(text[0]) {
            return None;
        }
        let mut terminated = [0u8; MAX_TEXT];
        terminated[..text.len()].copy_from_slice(text);
        let mut value = LongDouble([0; 16]);
        // SAFETY: the text ends with NUL; `value` has the size and alignment of a long double (asserted in
        // the C file).
        let taken = unsafe { aikv_ld_parse(terminated.as_ptr().cast(), text.len(), &mut value) };
        (taken == 1).then_some(value)
    }

    /// The sum, rounded once.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "the one operation there is; no operator needed")]
    pub fn add(self, other: LongDouble) -> LongDouble {
        let mut sum = LongDouble([0; 16]);
        // SAFETY: three valid long doubles.
        unsafe { aikv_ld_add(&self, &other, &mut sum) };
        sum
    }

    /// Whether the value is no finite number; such a result is an error to the client.
    pub fn is_nan_or_inf(&self) -> bool {
        // SAFETY: a valid long double.
        unsafe { aikv_ld_is_finite(self) == 0 }
    }

    /// `%.17Lf` without the zeros at its end: `3.0` is `3`, `0.1` is `0.1`, and no exponent is ever used.
    pub fn to_string_human(&self) -> Vec<u8> {
        let mut text = vec![0u8; MAX_TEXT];
        // SAFETY: `text` has the room that is named.
        let length = unsafe { aikv_ld_print(self, text.as_mut_ptr().cast(), text.len()) };
        text.truncate(usize::try_from(length).expect("every long double fits in 5 KiB"));
        if text.contains(&b'.') {
            let zeros = text.iter().rev().take_while(|byte| **byte == b'0').count();
            text.truncate(text.len() - zeros);
            if text.last() == Some(&b'.') {
                text.pop();
            }
        }
        // A tiny negative number has no digits left: zero has no sign.
        if text == b"-0" {
            text.remove(0);
        }
        text.shrink_to_fit();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(left: &str, right: &str) -> String {
        let parse = |text: &str| LongDouble::parse(text.as_bytes()).unwrap();
        String::from_utf8(parse(left).add(parse(right)).to_string_human()).unwrap()
    }

    #[test]
    fn sums_are_those_of_redis() {
        for (left, right, want) in [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("3", "1.1", "4.1"),
            ("5.0e3", "200", "5200"),
            ("1", "-1", "0"),
            ("17179869184", "1.5", "17179869185.5"),
            ("1e20", "0", "100000000000000000000"),
            ("-0", "0", "0"),
            ("-0", "-0", "0"),
            ("-1e-30", "0", "0"),
        ] {
            assert_eq!(sum(left, right), want, "{left} + {right}");
        }
    }

    #[test]
    fn limits() {
        for bad in ["", " 1", "1 ", "1x", "nan", "1e5000", "1e-5000", "\u{b}1", "1\0", "abc"] {
            assert!(LongDouble::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(LongDouble::parse(&[b'1'; MAX_TEXT]).is_none());
        let huge = LongDouble::parse(b"1.18e4932").unwrap();
        assert_eq!(huge.to_string_human().len(), 4933);
        assert!(huge.add(huge).is_nan_or_inf() && !huge.is_nan_or_inf());
        let infinity = LongDouble::parse(b"-inf").unwrap();
        assert!(infinity.is_nan_or_inf());
        assert_eq!(infinity.to_string_human(), b"-inf");
    }
}
