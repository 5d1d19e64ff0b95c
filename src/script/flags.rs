//! What a script or function declares about itself: flags, and the `#!` line they stand in.

use crate::command::error::CmdError;
use crate::command::spec::Flags;
use crate::util::quote::split_args;

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags(u8);

impl ScriptFlags {
    /// It does not write.
    pub const NO_WRITES: ScriptFlags = ScriptFlags(1 << 0);
    /// It may run when memory is used up.
    pub const ALLOW_OOM: ScriptFlags = ScriptFlags(1 << 1);
    /// It may run on a replica with old data.
    pub const ALLOW_STALE: ScriptFlags = ScriptFlags(1 << 2);
    /// It may not run in a cluster.
    pub const NO_CLUSTER: ScriptFlags = ScriptFlags(1 << 3);
    /// It may touch keys of several slots.
    pub const ALLOW_CROSS_SLOT: ScriptFlags = ScriptFlags(1 << 4);
    /// It declares nothing: each of its commands is judged by itself, as it was before there were flags.
    pub const UNDECLARED: ScriptFlags = ScriptFlags(1 << 7);

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: ScriptFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn with(self, other: ScriptFlags) -> ScriptFlags {
        ScriptFlags(self.0 | other.0)
    }

    /// All sets of the flags that [`ScriptFlags::command_flags`] looks at; a set's place is
    /// [`ScriptFlags::variant`].
    pub fn all_that_count() -> impl Iterator<Item = ScriptFlags> {
        (0..1 << 3).map(ScriptFlags)
    }

    /// The place of this set among them.
    pub fn variant(self) -> usize {
        usize::from(self.0 & 0b111)
    }

    /// Names of the flags, in the order in which FUNCTION LIST shows them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }

    /// The flag of this name.
    pub fn by_name(name: &[u8]) -> Option<ScriptFlags> {
        NAMES.iter().find(|(_, known)| name == known.as_bytes()).map(|(flag, _)| *flag)
    }

    /// The flags of the command that runs it, as gates have to see them: what is declared counts instead of
    /// what the row says.
    pub fn command_flags(self, row: Flags) -> Flags {
        if self.has(ScriptFlags::UNDECLARED) {
            return row;
        }
        let judged = Flags::STALE | Flags::DENYOOM | Flags::WRITE | Flags::MAY_REPLICATE;
        let mut flags = Flags(row.0 & !judged.0);
        let writes = !self.has(ScriptFlags::NO_WRITES);
        if writes {
            flags = flags | Flags::WRITE;
        }
        if writes && !self.has(ScriptFlags::ALLOW_OOM) {
            flags = flags | Flags::DENYOOM;
        }
        if self.has(ScriptFlags::ALLOW_STALE) {
            flags = flags | Flags::STALE;
        }
        flags
    }
}

/// Flags and their names.
const NAMES: [(ScriptFlags, &str); 5] = [
    (ScriptFlags::NO_WRITES, "no-writes"),
    (ScriptFlags::ALLOW_OOM, "allow-oom"),
    (ScriptFlags::ALLOW_STALE, "allow-stale"),
    (ScriptFlags::NO_CLUSTER, "no-cluster"),
    (ScriptFlags::ALLOW_CROSS_SLOT, "allow-cross-slot-keys"),
];

/// An error with a piece of the script in it.
fn about(text: &str, piece: &[u8]) -> CmdError {
    CmdError::text([text.as_bytes(), piece].concat())
}

/// The flags in the first line of a script, and the length of that line: it is not compiled, but its line
/// end is, so that line numbers stay.
pub fn of_script(body: &[u8]) -> Result<(ScriptFlags, usize), CmdError> {
    if !body.starts_with(b"#!") {
        return Ok((ScriptFlags::UNDECLARED, 0));
    }
    let Some(len) = body.iter().position(|b| *b == b'\n') else {
        return Err(CmdError::new("ERR Invalid script shebang"));
    };
    let words = split_args(&body[..len]).unwrap_or_default();
    let Some((engine, options)) = words.split_first() else {
        return Err(CmdError::new("ERR Invalid engine in script shebang"));
    };
    if engine != b"#!lua" {
        return Err(about("ERR Unexpected engine in script shebang: ", engine));
    }
    let mut flags = ScriptFlags::default();
    for option in options {
        let Some(list) = option.strip_prefix(b"flags=") else {
            return Err(about("ERR Unknown lua shebang option: ", option));
        };
        for name in list.split(|b| *b == b',').filter(|_| !list.is_empty()) {
            let Some(flag) = ScriptFlags::by_name(name) else {
                return Err(about("ERR Unexpected flag in script shebang: ", name));
            };
            flags = flags.with(flag);
        }
    }
    Ok((flags, len))
}

/// What the first line of a library says.
#[derive(Debug, PartialEq, Eq)]
pub struct LibraryHead {
    /// The engine's name.
    pub engine: Vec<u8>,
    /// The library's name.
    pub name: Vec<u8>,
    /// Length of the line, without its end.
    pub len: usize,
}

/// Reads the first line of a library.
pub fn of_library(code: &[u8]) -> Result<LibraryHead, CmdError> {
    const INVALID: CmdError = CmdError::new("ERR Invalid library metadata");
    if !code.starts_with(b"#!") {
        return Err(CmdError::new("ERR Missing library metadata"));
    }
    let len = code.iter().position(|b| *b == b'\n').ok_or(INVALID)?;
    let words = split_args(&code[..len]).ok_or(INVALID)?;
    let (engine, options) = words.split_first().ok_or(INVALID)?;
    let mut name = None;
    for option in options {
        let is_name = option.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"name="));
        match is_name {
            false => return Err(about("ERR Invalid metadata value given: ", option)),
            true if name.is_some() => {
                return Err(CmdError::new(
                    "ERR Invalid metadata value, name argument was given multiple times",
                ));
            }
            true => name = Some(option[5..].to_vec()),
        }
    }
    let name = name.ok_or(CmdError::new("ERR Library name was not given"))?;
    Ok(LibraryHead { engine: engine[2..].to_vec(), name, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T>(result: Result<T, CmdError>) -> String {
        let error = result.err().expect("it is refused");
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    }

    #[test]
    fn first_lines_of_scripts() {
        assert_eq!(of_script(b"return 1"), Ok((ScriptFlags::UNDECLARED, 0)));
        assert_eq!(of_script(b"#!lua\nreturn 1"), Ok((ScriptFlags::default(), 5)));
        assert_eq!(of_script(b"#!lua flags=\n"), Ok((ScriptFlags::default(), 12)));
        let both = ScriptFlags::NO_WRITES.with(ScriptFlags::ALLOW_OOM);
        assert_eq!(of_script(b"#!lua flags=no-writes,allow-oom\n"), Ok((both, 31)));
        assert_eq!(text(of_script(b"#!lua")), "ERR Invalid script shebang");
        assert_eq!(text(of_script(b"#!lua \"x\nreturn 1")), "ERR Invalid engine in script shebang");
        assert_eq!(text(of_script(b"#!not-lua\n")), "ERR Unexpected engine in script shebang: #!not-lua");
        assert_eq!(text(of_script(b"#!lua a=b\n")), "ERR Unknown lua shebang option: a=b");
        assert_eq!(text(of_script(b"#!lua flags=x,\n")), "ERR Unexpected flag in script shebang: x");
    }

    #[test]
    fn first_lines_of_libraries() {
        let head = of_library(b"#!lua name=\"lib\"\ncode").unwrap();
        assert_eq!((head.engine.as_slice(), head.name.as_slice(), head.len), (&b"lua"[..], &b"lib"[..], 16));
        assert_eq!(of_library(b"#! name=a\n").unwrap().engine, b"");
        assert_eq!(text(of_library(b"code")), "ERR Missing library metadata");
        assert_eq!(text(of_library(b"#!lua")), "ERR Invalid library metadata");
        assert_eq!(text(of_library(b"#!lua\n")), "ERR Library name was not given");
        assert_eq!(text(of_library(b"#!lua a=b\n")), "ERR Invalid metadata value given: a=b");
    }

    #[test]
    fn declared_flags_count_instead_of_the_rows() {
        let row = Flags::STALE | Flags::MAY_REPLICATE | Flags::NOSCRIPT;
        assert_eq!(ScriptFlags::UNDECLARED.command_flags(row), row);
        let plain = Flags::WRITE | Flags::DENYOOM | Flags::NOSCRIPT;
        assert_eq!(ScriptFlags::default().command_flags(row), plain);
        assert_eq!(ScriptFlags::NO_WRITES.command_flags(row), Flags::NOSCRIPT);
        let stale = ScriptFlags::ALLOW_OOM.with(ScriptFlags::ALLOW_STALE);
        assert_eq!(stale.command_flags(row), Flags::WRITE | Flags::STALE | Flags::NOSCRIPT);
    }
}
