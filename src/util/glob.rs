//! Glob patterns over bytes, as KEYS, SCAN, PSUBSCRIBE, CONFIG GET and ACL use them. Linear in
//! `pattern * text` at worst, whatever the pattern.

/// Whether letters of different case match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `a` matches only `a`.
    Sensitive,
    /// `a` matches `A` (ASCII only).
    Insensitive,
}

/// Runs in a pattern that Redis follows: its matcher calls itself for each. Here they cost nothing, but
/// clients and its tests see the bound.
const STARS_MAX: usize = 1001;

/// Whether the whole `text` matches `pattern`: `*` any run, `?` any byte, `[a-z]`, `[^a-z]`, and `\x` for
/// a literal `x`. As in Redis, a class that is not closed ends with the pattern, and an empty text is
/// matched by the empty pattern only (not by `*`; callers that mean "everything" test for `*` first); and
/// more than [`STARS_MAX`] runs that are not the end match nothing.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    // Only the latest star ever needs to be retried with a longer run: an earlier star taking more could
    // only make the rest of the pattern start later, which the latest star has already tried.
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars == STARS_MAX {
                return false;
            }
            retry = Some((p, t));
            continue;
        }
        match match_one(&pattern[p..], text[t], case) {
            Some(length) => {
                p += length;
                t += 1;
            }
            None => match retry {
                Some((after_star, start)) => {
                    retry = Some((after_star, start + 1));
                    (p, t) = (after_star, start + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Matches one byte against the head of the pattern (which is no star); gives the length of the head.
fn match_one(pattern: &[u8], byte: u8, case: Case) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => match_class(class, byte, case).map(|length| length + 1),
        [b'\\', literal, ..] => same(*literal, byte, case).then_some(2),
        [literal, ..] => same(*literal, byte, case).then_some(1),
    }
}

/// Matches a class whose `[` has been taken; gives its length with the closing `]`.
fn match_class(class: &[u8], byte: u8, case: Case) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let (mut at, mut found) = (usize::from(negated), false);
    loop {
        match &class[at..] {
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [] => break,
            [from, b'-', to, ..] => {
                let (low, high) = (*from.min(to), *from.max(to));
                found |= match case {
                    Case::Sensitive => (low..=high).contains(&byte),
                    Case::Insensitive => (low.to_ascii_lowercase()..=high.to_ascii_lowercase())
                        .contains(&byte.to_ascii_lowercase()),
                };
                at += 3;
            }
            [literal, ..] => {
                found |= same(*literal, byte, case);
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

fn same(left: u8, right: u8, case: Case) -> bool {
    match case {
        Case::Sensitive => left == right,
        Case::Insensitive => left.eq_ignore_ascii_case(&right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    fn hit(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive)
    }

    #[test]
    fn rules() {
        for (pattern, text, want) in [
            ("", "", true),
            ("*", "", false),
            ("*", "x", true),
            ("**", "x", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\", "a\\", true),
            ("[\\]]", "]", true),
            ("[]", "]", false),
            ("[^]", "x", true),
            ("[abc", "b", true),
            ("[abc", "d", false),
            ("[", "[", false),
            ("[a-]", "b", false),
            ("[a-]", "_", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("abc***", "abc", true),
            ("a", "ab", false),
            ("ab", "a", false),
        ] {
            assert_eq!(hit(pattern, text), want, "{pattern:?} {text:?}");
        }
        assert!(matches(b"HE[L-M]*", b"hello", Case::Insensitive));
        assert!(!matches(b"HE[L-M]*", b"hello", Case::Sensitive));
    }

    #[test]
    fn hostile_patterns_end_quickly() {
        let pattern = "a*".repeat(50_000) + "b";
        let text = "a".repeat(65_000);
        let start = crate::sys::clock::Clock::real();
        let before = start.mono_ns();
        assert!(!hit(&pattern, &text));
        assert!(!hit(&("*a".repeat(20) + "*b"), &"a".repeat(5_000)));
        assert!(start.mono_ns() - before < 5_000_000_000);
    }

    /// Plain exponential matcher over `* ? literal`.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|skip| model(rest, &text[skip..])),
            [b'?', rest @ ..] => !text.is_empty() && model(rest, &text[1..]),
            [literal, rest @ ..] => text.first() == Some(literal) && model(rest, &text[1..]),
        }
    }

    #[test]
    fn agrees_with_model() {
        let mut rng = Rng::from_seed(5);
        for _ in 0..20_000 {
            let pattern: Vec<u8> = (0..rng.below(7)).map(|_| b"ab*?"[rng.below(4) as usize]).collect();
            let text: Vec<u8> = (0..=rng.below(8)).map(|_| b"ab"[rng.below(2) as usize]).collect();
            let got = matches(&pattern, &text, Case::Sensitive);
            assert_eq!(got, model(&pattern, &text), "{pattern:?} {text:?}");
        }
    }
}
