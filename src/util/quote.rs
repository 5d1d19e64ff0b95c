//! Quoting: splitting a line of text into arguments (inline commands, redis.conf) and printing bytes so
//! that they can be pasted back (MONITOR, logs, CONFIG REWRITE).

use super::num::is_space;

/// Splits a line into arguments at white space. `"..."` takes the escapes `\n \r \t \b \a \xHH` and
/// `\c` for `c`; `'...'` takes `\'` only. A closing quote must be followed by white space or the end.
/// None when quotes are unbalanced. A NUL byte outside of quotes ends the line.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|byte| is_space(**byte)).count()..];
        if matches!(rest, [] | [0, ..]) {
            return Some(args);
        }
        let mut arg = Vec::new();
        rest = take_arg(rest, &mut arg)?;
        args.push(arg);
    }
}

/// Takes one argument off the front of `rest`, which starts with no white space.
fn take_arg<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [0 | b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [b'"', inner @ ..] => return end_of_quoted(take_double(inner, arg)?),
            [b'\'', inner @ ..] => return end_of_quoted(take_single(inner, arg)?),
            [byte, tail @ ..] => {
                arg.push(*byte);
                rest = tail;
            }
        }
    }
}

fn end_of_quoted(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [byte, ..] if *byte != 0 && !is_space(*byte) => None,
        _ => Some(rest),
    }
}

fn take_double<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                arg.push(hex_value(*high) << 4 | hex_value(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [b'"', tail @ ..] => return Some(tail),
            [] | [0, ..] => return None,
            [byte, tail @ ..] => {
                arg.push(*byte);
                rest = tail;
            }
        }
    }
}

fn take_single<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                arg.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return Some(tail),
            [] | [0, ..] => return None,
            [byte, tail @ ..] => {
                arg.push(*byte);
                rest = tail;
            }
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}

/// Words as one line from which [`split_args`] makes the same words.
pub fn join_args<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        if needs_quotes(word) { push_quoted(&mut line, word) } else { line.extend_from_slice(word) }
    }
    line
}

/// Appends `bytes` between double quotes with everything unprintable escaped, so that [`split_args`]
/// gives the bytes back.
pub fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'x', high, low]);
            }
        }
    }
    out.push(b'"');
}

/// Whether `bytes` cannot stand in a line of arguments without quotes: empty, or holding white space,
/// quotes, backslashes or unprintable bytes.
pub fn needs_quotes(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.iter().any(|byte| !matches!(byte, b'!'..=b'~') || b"\"'\\".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    fn split(line: &str) -> Option<Vec<String>> {
        let args = split_args(line.as_bytes())?;
        Some(args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
    }

    #[test]
    fn splitting() {
        let list = |items: &[&str]| Some(items.iter().map(|item| item.to_string()).collect::<Vec<_>>());
        assert_eq!(split(""), list(&[]));
        assert_eq!(split("  set  k\tv \r\n"), list(&["set", "k", "v"]));
        assert_eq!(split(r#""a b" 'c d'"#), list(&["a b", "c d"]));
        assert_eq!(split(r#""\x41\n\"\q\xZZ""#), list(&["A\n\"qxZZ"]));
        assert_eq!(split(r"'it\'s \n'"), list(&["it's \\n"]));
        assert_eq!(split(r#"ab"cd" e"#), list(&["abcd", "e"]));
        assert_eq!(split(r#""" ''"#), list(&["", ""]));
        assert_eq!(split(r#""a"b"#), None);
        assert_eq!(split(r#""a"#), None);
        assert_eq!(split("'a"), None);
        assert_eq!(split("'a'b"), None);
        assert_eq!(split("a\0b c"), list(&["a"]));
    }

    #[test]
    fn quoting() {
        let mut out = Vec::new();
        push_quoted(&mut out, b"a\"\\\n\r\t\x07\x08\x00\xff ~");
        assert_eq!(out, br#""a\"\\\n\r\t\a\b\x00\xff ~""#);
        assert!(needs_quotes(b"") && needs_quotes(b"a b") && needs_quotes(b"\xff") && !needs_quotes(b"a-b"));
    }

    #[test]
    fn quoted_bytes_come_back() {
        let mut rng = Rng::from_seed(13);
        for _ in 0..2_000 {
            let mut bytes = vec![0; rng.below(40) as usize];
            rng.fill(&mut bytes);
            let mut line = Vec::new();
            push_quoted(&mut line, &bytes);
            assert_eq!(split_args(&line), Some(vec![bytes]));
        }
    }
}
