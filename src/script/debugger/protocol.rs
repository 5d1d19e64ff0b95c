//! What the user of the debugger sends and is shown: commands are requests of the protocol with short
//! arguments, answers are arrays of status lines. Replies of commands are shown in a form of their own. Knows
//! no connection and no script.

use crate::util::num::{is_space, parse_i64};
use crate::util::quote::push_quoted;

/// Arguments of a command, and bytes of an argument, at most.
const LENGTH_MAX: i64 = 1024;
/// Bytes of a line with a length, at most.
const LINE_BYTES_MAX: usize = 32;
/// Input that is kept at most while a command is not complete.
const INPUT_BYTES_MAX: usize = 1024 * 1024;

/// What is wrong with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputError {
    /// It is not a request, or too long a one.
    Protocol,
    /// There is too much of it.
    TooMuch,
}

/// Input that waits.
#[derive(Debug, Default)]
pub struct CommandInput {
    bytes: Vec<u8>,
}

impl CommandInput {
    /// Adds what has come.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), InputError> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > INPUT_BYTES_MAX {
            self.bytes = Vec::new();
            return Err(InputError::TooMuch);
        }
        Ok(())
    }

    /// Takes the first command out if it is complete. It has at least one argument.
    pub fn next_command(&mut self) -> Result<Option<Vec<Vec<u8>>>, InputError> {
        let mut rest = self.bytes.as_slice();
        let Some(count) = take_length(&mut rest, b'*')? else { return Ok(None) };
        let mut args = Vec::new();
        for _ in 0..count {
            let Some(length) = take_length(&mut rest, b'$')? else { return Ok(None) };
            let Some((arg, behind)) = rest.split_at_checked(length) else { return Ok(None) };
            match behind {
                [b'\r', b'\n', behind @ ..] => rest = behind,
                [] | [b'\r'] => return Ok(None),
                _ => return Err(InputError::Protocol),
            }
            args.push(arg.to_vec());
        }
        let used = self.bytes.len() - rest.len();
        self.bytes.drain(..used);
        Ok(Some(args))
    }
}

/// Takes a line like `*3` off the front of `rest`; none if it is not complete.
fn take_length(rest: &mut &[u8], kind: u8) -> Result<Option<usize>, InputError> {
    match rest.first() {
        None => return Ok(None),
        Some(first) if *first != kind => return Err(InputError::Protocol),
        Some(_) => {}
    }
    let line = &rest[..rest.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < LINE_BYTES_MAX { Ok(None) } else { Err(InputError::Protocol) };
    };
    let length = parse_i64(&rest[1..end]).filter(|length| (1..=LENGTH_MAX).contains(length));
    *rest = &rest[end + 2..];
    let length = length.and_then(|length| usize::try_from(length).ok());
    Ok(Some(length.ok_or(InputError::Protocol)?))
}

/// Lines as they are sent: line ends inside of them become blanks.
pub fn encode(lines: Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = format!("*{}\r\n", lines.len()).into_bytes();
    for line in lines {
        out.push(b'+');
        out.extend(line.into_iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The number at the beginning of a text; 0 if there is none.
pub fn leading_number(text: &[u8]) -> i64 {
    let text = &text[text.iter().take_while(|byte| is_space(**byte)).count()..];
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    sign * digits
        .fold(0i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
}

/// Appends the value of a reply in its shown form; where the next begins. It stops when `out` has more than
/// `max` bytes. `reply` is what our own reply writer wrote.
pub fn show_reply<'a>(out: &mut Vec<u8>, reply: &'a [u8], max: usize) -> &'a [u8] {
    let Some(end) = reply.iter().position(|byte| *byte == b'\r').filter(|_| out.len() <= max) else {
        return &[];
    };
    let (line, rest) = (&reply[1..end], &reply[end + 2..]);
    let length = || parse_i64(line).and_then(|length| usize::try_from(length).ok());
    match reply[0] {
        b':' | b'(' => out.extend_from_slice(line),
        b'+' | b'-' => push_quoted(out, &reply[..end]),
        b',' => out.extend_from_slice(&[b"(double) ", line].concat()),
        b'_' => out.extend_from_slice(b"(null)"),
        b'#' => out.extend_from_slice(if line == b"t" { b"#true" } else { b"#false" }),
        b'$' | b'=' => match length() {
            Some(length) => {
                push_quoted(out, &rest[..length.min(max.saturating_add(1))]);
                return &rest[length + 2..];
            }
            None => out.extend_from_slice(b"NULL"),
        },
        b'*' | b'>' => match length() {
            Some(length) => return show_items(out, rest, max, length, [b"[", b"]"]),
            None => out.extend_from_slice(b"NULL"),
        },
        b'~' => return show_items(out, rest, max, length().unwrap_or(0), [b"~(", b")"]),
        b'%' => return show_pairs(out, rest, max, length().unwrap_or(0)),
        _ => {}
    }
    rest
}

fn show_items<'a>(
    out: &mut Vec<u8>,
    mut rest: &'a [u8],
    max: usize,
    length: usize,
    brackets: [&[u8]; 2],
) -> &'a [u8] {
    out.extend_from_slice(brackets[0]);
    for i in 0..length {
        if i > 0 {
            out.push(b',');
        }
        if out.len() > max {
            return &[];
        }
        rest = show_reply(out, rest, max);
    }
    out.extend_from_slice(brackets[1]);
    rest
}

fn show_pairs<'a>(out: &mut Vec<u8>, mut rest: &'a [u8], max: usize, length: usize) -> &'a [u8] {
    out.push(b'{');
    for i in 0..length {
        if i > 0 {
            out.push(b',');
        }
        if out.len() > max {
            return &[];
        }
        rest = show_reply(out, rest, max);
        out.extend_from_slice(b" => ");
        rest = show_reply(out, rest, max);
    }
    out.push(b'}');
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    fn commands(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, InputError> {
        let mut waiting = CommandInput::default();
        waiting.push(input)?;
        let mut found = Vec::new();
        while let Some(command) = waiting.next_command()? {
            found.push(command);
        }
        Ok(found)
    }

    #[test]
    fn commands_are_taken_one_by_one() {
        let two = commands(b"*1\r\n$1\r\ns\r\n*2\r\n$1\r\np\r\n$3\r\na\0b\r\n").unwrap();
        assert_eq!(two, [vec![b"s".to_vec()], vec![b"p".to_vec(), b"a\0b".to_vec()]]);
        for part in [&b""[..], b"*", b"*1", b"*1\r\n", b"*1\r\n$", b"*1\r\n$2\r\na", b"*1\r\n$1\r\na\r"] {
            assert_eq!(commands(part), Ok(Vec::new()), "{part:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let hostile: [&[u8]; 10] = [
            b"hello\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*1025\r\n",
            b"*99999999999999999999\r\n",
            b"*1\r\n+s\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"*1\r\n$1025\r\n",
            b"*1\r\n$1\r\nab\r\n",
            b"\0",
        ];
        for input in hostile {
            assert_eq!(commands(input), Err(InputError::Protocol), "{input:?}");
        }
        assert_eq!(
            commands(&[b"*1".as_slice(), &[b'0'; LINE_BYTES_MAX]].concat()),
            Err(InputError::Protocol)
        );
        assert_eq!(commands(&vec![b'*'; INPUT_BYTES_MAX + 1]), Err(InputError::TooMuch));
    }

    #[test]
    fn any_input_is_taken_in_pieces_or_refused() {
        let seed = 0x1db;
        let mut rng = Rng::from_seed(seed);
        for round in 0..2_000 {
            let mut input = CommandInput::default();
            for _ in 0..8 {
                let alphabet = b"*$1234\r\n\0sp";
                let bytes: Vec<u8> = (0..rng.below(12)).map(|_| alphabet[rng.below(11) as usize]).collect();
                let _any = input.push(&bytes).and_then(|()| input.next_command().map(drop));
            }
            assert!(input.bytes.len() <= 100, "seed {seed}, round {round}");
        }
    }

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        let numbers: [(&[u8], i64); 7] = [
            (b"12", 12),
            (b" -5x", -5),
            (b"+7", 7),
            (b"x", 0),
            (b"", 0),
            (b"99999999999999999999", i64::MAX),
            (b"1e3", 1),
        ];
        for (text, number) in numbers {
            assert_eq!(leading_number(text), number);
        }
    }

    #[test]
    fn replies_are_shown() {
        let shown = |reply: &[u8], max: usize| {
            let mut out = Vec::new();
            let rest = show_reply(&mut out, reply, max);
            assert!(rest.is_empty());
            String::from_utf8(out).unwrap()
        };
        let replies: [(&[u8], &str); 10] = [
            (b":-7\r\n", "-7"),
            (b"$4\r\na\"\r\n\r\n", r#""a\"\r\n""#),
            (b"$-1\r\n", "NULL"),
            (b"*-1\r\n", "NULL"),
            (b"+OK\r\n", r#""+OK""#),
            (b"-ERR x\r\n", r#""-ERR x""#),
            (b"*3\r\n:1\r\n*0\r\n$1\r\na\r\n", r#"[1,[],"a"]"#),
            (b"%2\r\n+a\r\n#t\r\n+b\r\n_\r\n", r#"{"+a" => #true,"+b" => (null)}"#),
            (b"~2\r\n,1.5\r\n#f\r\n", "~((double) 1.5,#false)"),
            (b"*0\r\n", "[]"),
        ];
        for (reply, text) in replies {
            assert_eq!(shown(reply, 1000), text);
        }
        let long = [&b"*1000\r\n"[..], &b"$5\r\nabcde\r\n".repeat(1000)].concat();
        assert!((61..80).contains(&shown(&long, 60).len()));
    }
}
