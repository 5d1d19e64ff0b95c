//! How one option's value is read from words and written back: the trait `Setting` and the simple kinds
//! (yes/no, bounded integers, memory sizes, octal modes, text, choices). Kinds with structure are in
//! `lists.rs`. It knows neither the option table nor any file syntax; a reader comes here to see what an
//! option's text may look like and which error it gives.

use super::text;
use crate::util::memsize::parse_memory;
use crate::util::num::parse_i64;
use std::fmt::{self, Display};
use std::path::{Component, Path, PathBuf};

/// Reads and prints values of type `V`. One constant of an implementing type stands in an option's row and
/// carries the bounds; the option's field holds the plain value.
pub trait Setting<V> {
    /// The value that `args` (the words after the option's name) mean. `old` is the value until now, for the
    /// kinds that change only a part of it or are relative to it.
    fn parse(&self, args: &[&[u8]], old: &V, turn: Turn) -> Result<V, Fault>;

    /// The text CONFIG GET answers.
    fn show(&self, value: &V) -> String;

    /// The value as TOML has it.
    fn literal(&self, value: &V) -> Literal {
        Literal::Text(self.show(value))
    }

    /// What follows the option's name on its lines in redis.conf. An empty list: the option needs no line.
    fn conf(&self, value: &V) -> Vec<String> {
        vec![match self.literal(value) {
            Literal::Bool(_) | Literal::Int(_) => self.show(value),
            Literal::Text(text) => text::quoted(&text),
            Literal::List(items) if items.is_empty() => "\"\"".to_owned(),
            Literal::List(items) => items.join(" "),
        }]
    }

    /// Which values are possible, for the documentation.
    fn describe(&self) -> String;
}

/// Whether an option's line is the first of its kind in what is being read. Some options (`save`) collect
/// their lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The first line, or a CONFIG SET: the old value is replaced.
    First,
    /// A further line in the same start-up.
    Again,
}

/// A value in TOML's terms.
#[derive(Clone, PartialEq, Debug)]
pub enum Literal {
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A string.
    Text(String),
    /// An array of strings.
    List(Vec<String>),
}

/// Why a value was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The words Redis clients and the Redis test suite know (server replies, redis.conf errors).
    pub reply: String,
    /// The words for a person reading the start-up error, where they differ.
    pub plain: Option<String>,
}

impl Fault {
    /// A fault with one text for both uses.
    pub fn new(reply: impl Into<String>) -> Fault {
        Fault { reply: reply.into(), plain: None }
    }

    /// The text for the line `port = 70000: <text>`: its subject stands before it already.
    pub fn plain(&self) -> String {
        if let Some(plain) = &self.plain {
            return plain.clone();
        }
        let bare = self.reply.strip_prefix("argument ").unwrap_or(&self.reply);
        bare.strip_suffix(" inclusive").unwrap_or(bare).to_owned()
    }

    pub(super) fn count() -> Fault {
        Fault::new("wrong number of arguments")
    }

    fn range(min: impl Display, max: impl Display) -> Fault {
        Fault::new(format!("argument must be between {min} and {max} inclusive"))
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reply)
    }
}

/// The only word of `args`.
pub(super) fn single<'a>(args: &[&'a [u8]]) -> Result<&'a [u8], Fault> {
    match args {
        [word] => Ok(word),
        _ => Err(Fault::count()),
    }
}

/// `word` as UTF-8: what a configuration holds can be printed.
pub(super) fn utf8(word: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(word).map_err(|_| Fault::new("argument must be valid UTF-8"))
}

/// `yes` or `no`.
pub struct YesNo;

impl Setting<bool> for YesNo {
    fn parse(&self, args: &[&[u8]], _old: &bool, _turn: Turn) -> Result<bool, Fault> {
        let word = single(args)?;
        if word.eq_ignore_ascii_case(b"yes") {
            Ok(true)
        } else if word.eq_ignore_ascii_case(b"no") {
            Ok(false)
        } else {
            Err(Fault {
                reply: "argument must be 'yes' or 'no'".to_owned(),
                plain: Some("must be yes or no (in TOML: true or false)".to_owned()),
            })
        }
    }

    fn show(&self, value: &bool) -> String {
        if *value { "yes" } else { "no" }.to_owned()
    }

    fn literal(&self, value: &bool) -> Literal {
        Literal::Bool(*value)
    }

    fn describe(&self) -> String {
        "yes or no".to_owned()
    }
}

/// A value of another kind of which only one is possible here; the others are refused with a reason.
pub struct Only<K, T> {
    /// How the value is read and printed.
    pub kind: K,
    /// The value that is possible.
    pub value: T,
    /// Why others are not.
    pub reason: &'static str,
}

impl<T: PartialEq, K: Setting<T>> Setting<T> for Only<K, T> {
    fn parse(&self, args: &[&[u8]], old: &T, turn: Turn) -> Result<T, Fault> {
        let value = self.kind.parse(args, old, turn)?;
        if value == self.value { Ok(value) } else { Err(Fault::new(self.reason)) }
    }

    fn show(&self, value: &T) -> String {
        self.kind.show(value)
    }

    fn literal(&self, value: &T) -> Literal {
        self.kind.literal(value)
    }

    fn conf(&self, value: &T) -> Vec<String> {
        self.kind.conf(value)
    }

    fn describe(&self) -> String {
        format!("only {}: {}", self.kind.show(&self.value), self.reason)
    }
}

/// C's `INT_MAX`, the upper bound of many options.
pub const INT_MAX: i128 = i32::MAX as i128;
/// C's `UINT_MAX`.
pub const UINT_MAX: i128 = u32::MAX as i128;
/// C's `LONG_MAX` and `LLONG_MAX`.
pub const LONG_MAX: i128 = i64::MAX as i128;

/// An integer within bounds, held in any primitive integer type that has room for them.
pub struct Int {
    /// Smallest legal value.
    pub min: i128,
    /// Largest legal value.
    pub max: i128,
    /// Legal values beyond these are silently brought to the nearest of the two.
    pub clamp: Option<(i128, i128)>,
    /// The smallest value the plain error text names: a smaller legal one has a meaning of its own.
    pub named_min: Option<i128>,
}

/// An integer from `min` to `max`.
pub const fn int(min: i128, max: i128) -> Int {
    Int { min, max, clamp: None, named_min: None }
}

/// A TCP port; 0 is legal and turns the listener off, but no one is told to use it.
pub const PORT: Int = Int { named_min: Some(1), ..int(0, 65535) };

fn narrow<T: TryFrom<i128>>(value: i128) -> T {
    T::try_from(value).ok().expect("the bounds of a row fit its field")
}

fn wide<T: Copy + TryInto<i128>>(value: &T) -> i128 {
    (*value).try_into().ok().expect("every primitive integer but u128 fits")
}

impl<T: Copy + TryFrom<i128> + TryInto<i128>> Setting<T> for Int {
    fn parse(&self, args: &[&[u8]], _old: &T, _turn: Turn) -> Result<T, Fault> {
        let value = parse_i64(single(args)?).ok_or_else(|| Fault {
            reply: "argument couldn't be parsed into an integer".to_owned(),
            plain: Some("must be an integer".to_owned()),
        })?;
        let value = i128::from(value);
        if !(self.min..=self.max).contains(&value) {
            let named = self.named_min.map(|min| Fault::range(min, self.max).plain());
            return Err(Fault { plain: named, ..Fault::range(self.min, self.max) });
        }
        let (low, high) = self.clamp.unwrap_or((self.min, self.max));
        Ok(narrow(value.clamp(low, high)))
    }

    fn show(&self, value: &T) -> String {
        wide(value).to_string()
    }

    fn literal(&self, value: &T) -> Literal {
        Literal::Int(narrow(wide(value)))
    }

    fn describe(&self) -> String {
        let (min, max) = self.clamp.unwrap_or((self.min, self.max));
        if max >= INT_MAX {
            format!("integer, {min} or more")
        } else {
            format!("integer from {min} to {max}")
        }
    }
}

/// A number of bytes, with or without a unit (`1k` = 1000, `1kb` = 1024, likewise m, mb, g, gb).
pub struct Memory {
    /// Smallest legal number of bytes.
    pub min: u64,
    /// Largest legal number of bytes.
    pub max: u64,
}

/// The largest size of the options that Redis holds in signed 64-bit integers.
pub const SIGNED_MAX: u64 = i64::MAX as u64;

impl<T: Copy + TryFrom<i128> + TryInto<i128>> Setting<T> for Memory {
    fn parse(&self, args: &[&[u8]], _old: &T, _turn: Turn) -> Result<T, Fault> {
        let bytes =
            parse_memory(single(args)?).ok_or_else(|| Fault::new("argument must be a memory value"))?;
        if !(self.min..=self.max).contains(&bytes) {
            return Err(Fault::range(self.min, self.max));
        }
        Ok(narrow(i128::from(bytes)))
    }

    fn show(&self, value: &T) -> String {
        wide(value).to_string()
    }

    fn literal(&self, value: &T) -> Literal {
        bytes_literal(narrow(wide(value)))
    }

    fn conf(&self, value: &T) -> Vec<String> {
        vec![text::with_unit(narrow(wide(value)))]
    }

    fn describe(&self) -> String {
        match self.min {
            0 => "bytes, with an optional unit (kb, mb, gb)".to_owned(),
            min => format!("bytes, with an optional unit (kb, mb, gb); at least {}", text::with_unit(min)),
        }
    }
}

fn bytes_literal(bytes: u64) -> Literal {
    let text = text::with_unit(bytes);
    match text.parse() {
        Ok(number) => Literal::Int(number),
        Err(_) => Literal::Text(text),
    }
}

/// A limit given as a number of bytes or as a share of `maxmemory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryOrPercent {
    /// So many bytes; 0 means no limit.
    Bytes(u64),
    /// So many hundredths of `maxmemory`, 1 to 100.
    Percent(u8),
}

/// The kind of `maxmemory-clients`: `100mb` or `5%`.
pub struct Share;

impl Setting<MemoryOrPercent> for Share {
    fn parse(&self, args: &[&[u8]], _old: &MemoryOrPercent, _turn: Turn) -> Result<MemoryOrPercent, Fault> {
        let word = single(args)?;
        if let Some(bytes) = parse_memory(word) {
            return match bytes {
                0..=SIGNED_MAX => Ok(MemoryOrPercent::Bytes(bytes)),
                _ => Err(Fault::range(-100, SIGNED_MAX)),
            };
        }
        match word.strip_suffix(b"%").and_then(parse_i64) {
            Some(0) => Ok(MemoryOrPercent::Bytes(0)),
            Some(percent @ 1..=100) => Ok(MemoryOrPercent::Percent(narrow(i128::from(percent)))),
            Some(101..) => Err(Fault::new("percentage argument must be less or equal to 100")),
            _ => Err(Fault::new("argument must be a memory or percent value")),
        }
    }

    fn show(&self, value: &MemoryOrPercent) -> String {
        match value {
            MemoryOrPercent::Bytes(bytes) => bytes.to_string(),
            MemoryOrPercent::Percent(percent) => format!("{percent}%"),
        }
    }

    fn literal(&self, value: &MemoryOrPercent) -> Literal {
        match value {
            MemoryOrPercent::Bytes(bytes) => bytes_literal(*bytes),
            MemoryOrPercent::Percent(_) => Literal::Text(self.show(value)),
        }
    }

    fn describe(&self) -> String {
        "bytes with an optional unit, or a percentage of maxmemory such as 5%".to_owned()
    }
}

/// A file mode in octal digits, 0 to 777.
pub struct OctalMode;

impl Setting<u32> for OctalMode {
    fn parse(&self, args: &[&[u8]], _old: &u32, _turn: Turn) -> Result<u32, Fault> {
        let mode = std::str::from_utf8(single(args)?).ok().and_then(|word| u32::from_str_radix(word, 8).ok());
        match mode {
            Some(mode @ 0..=0o777) => Ok(mode),
            Some(_) => Err(Fault::range(0, 777)),
            None => Err(Fault {
                reply: "argument couldn't be parsed as an octal number".to_owned(),
                plain: Some("must be octal digits, such as 700".to_owned()),
            }),
        }
    }

    fn show(&self, value: &u32) -> String {
        format!("{value:o}")
    }

    fn describe(&self) -> String {
        "octal digits, 0 to 777".to_owned()
    }
}

/// A text that must not appear in logs or debug output. CONFIG GET shows it, as Redis does.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl AsRef<str> for Secret {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Any text that `check` lets pass, held in a `String` or a `Secret`.
pub struct Text {
    check: fn(&str) -> Result<(), &'static str>,
    form: &'static str,
}

/// Text without further rules.
pub const TEXT: Text = Text { check: |_| Ok(()), form: "text" };

/// Text that `check` accepts; `form` names it in the documentation.
pub const fn checked(form: &'static str, check: fn(&str) -> Result<(), &'static str>) -> Text {
    Text { check, form }
}

impl<T: AsRef<str> + for<'a> From<&'a str>> Setting<T> for Text {
    fn parse(&self, args: &[&[u8]], _old: &T, _turn: Turn) -> Result<T, Fault> {
        let value = utf8(single(args)?)?;
        (self.check)(value).map_err(Fault::new)?;
        Ok(T::from(value))
    }

    fn show(&self, value: &T) -> String {
        value.as_ref().to_owned()
    }

    fn describe(&self) -> String {
        self.form.to_owned()
    }
}

/// A directory. A relative path continues the one set until now, as `cd` would; the loader starts from the
/// working directory.
pub struct Directory;

impl Setting<PathBuf> for Directory {
    fn parse(&self, args: &[&[u8]], old: &PathBuf, _turn: Turn) -> Result<PathBuf, Fault> {
        match utf8(single(args)?)? {
            "" => Err(Fault::new("No such file or directory")),
            path => Ok(normal(&old.join(path))),
        }
    }

    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }

    fn describe(&self) -> String {
        "a directory".to_owned()
    }
}

/// `path` without `.` steps; `..` stays, since a symbolic link may stand before it.
fn normal(path: &Path) -> PathBuf {
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

/// An enum whose values have names in the configuration.
pub trait Choice: Copy + PartialEq + 'static {
    /// Names and values. The first name of a value is the one that is printed.
    const NAMES: &'static [(&'static str, Self)];

    /// The name that is printed.
    fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, value)| *value == self);
        found.expect("every value of a choice has a name").0
    }

    /// The value called `word`, whatever its case.
    fn named(word: &[u8]) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| *value)
    }
}

/// The fault of a word that is none of `names`.
pub(super) fn not_one_of(names: impl Iterator<Item = &'static str>) -> Fault {
    let names: Vec<_> = names.collect();
    let plain = match names.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("the names are {} and {last}", rest.join(", ")),
        _ => format!("the only name is {}", names.concat()),
    };
    let reply = format!("argument(s) must be one of the following: {}", names.join(", "));
    Fault { reply, plain: Some(plain) }
}

/// One of the names of a `Choice`.
pub struct OneOf;

impl<T: Choice> Setting<T> for OneOf {
    fn parse(&self, args: &[&[u8]], _old: &T, _turn: Turn) -> Result<T, Fault> {
        T::named(single(args)?).ok_or_else(|| not_one_of(T::NAMES.iter().map(|(name, _)| *name)))
    }

    fn show(&self, value: &T) -> String {
        value.name().to_owned()
    }

    fn conf(&self, value: &T) -> Vec<String> {
        vec![self.show(value)]
    }

    fn describe(&self) -> String
    where
        T: Choice,
    {
        T::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<V, S: Setting<V>>(kind: &S, text: &str, old: V) -> Result<String, String> {
        let parsed = kind.parse(&[text.as_bytes()], &old, Turn::First);
        parsed.map(|value| kind.show(&value)).map_err(|fault| fault.reply)
    }

    #[test]
    fn integers_keep_to_their_bounds() {
        let kind = int(0, 100);
        assert_eq!(parse(&kind, "0", 7u32), Ok("0".to_owned()));
        assert_eq!(parse(&kind, "100", 7u32), Ok("100".to_owned()));
        let range = "argument must be between 0 and 100 inclusive";
        for bad in ["-1", "101", "9223372036854775807"] {
            assert_eq!(parse(&kind, bad, 7u32), Err(range.to_owned()), "{bad}");
        }
        for bad in ["", "1 ", "+1", "01", "1k", "0x1", "9223372036854775808"] {
            let text = "argument couldn't be parsed into an integer";
            assert_eq!(parse(&kind, bad, 7u32), Err(text.to_owned()), "{bad}");
        }
        let port = Setting::<u16>::parse(&PORT, &[b"70000"], &0, Turn::First).unwrap_err();
        assert_eq!(port.reply, "argument must be between 0 and 65535 inclusive");
        assert_eq!(port.plain(), "must be between 1 and 65535");
    }

    #[test]
    fn sizes_have_units() {
        let kind = Memory { min: 1024, max: u64::MAX };
        assert_eq!(
            parse(&kind, "1k", 0u64),
            Err(format!("argument must be between 1024 and {} inclusive", u64::MAX))
        );
        assert_eq!(parse(&kind, "1KB", 0u64), Ok("1024".to_owned()));
        assert_eq!(parse(&kind, "18446744073709551615", 0u64), Ok(u64::MAX.to_string()));
        assert_eq!(parse(&kind, "-1", 0u64), Err("argument must be a memory value".to_owned()));
        assert_eq!(Setting::<u64>::conf(&kind, &(3 << 20)), ["3mb"]);
        assert_eq!(Setting::<u64>::literal(&kind, &1000), Literal::Int(1000));
        let share = |text| parse(&Share, text, MemoryOrPercent::Bytes(0));
        assert_eq!(share("100%").unwrap(), "100%");
        assert_eq!(share("0%").unwrap(), "0");
        assert_eq!(share("5gb").unwrap(), "5368709120");
        assert_eq!(share("200%").unwrap_err(), "percentage argument must be less or equal to 100");
        assert_eq!(share("-1%").unwrap_err(), "argument must be a memory or percent value");
    }

    #[test]
    fn words_and_modes() {
        assert_eq!(parse(&YesNo, "YES", false), Ok("yes".to_owned()));
        assert_eq!(parse(&YesNo, "true", false), Err("argument must be 'yes' or 'no'".to_owned()));
        assert_eq!(parse(&OctalMode, "0755", 0), Ok("755".to_owned()));
        assert_eq!(
            parse(&OctalMode, "1000", 0),
            Err("argument must be between 0 and 777 inclusive".to_owned())
        );
        assert!(parse(&OctalMode, "8", 0).is_err());
        let secret = Secret::from("hush");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let only = Only { kind: YesNo, value: false, reason: "never" };
        assert_eq!(parse(&only, "yes", false), Err("never".to_owned()));
        assert_eq!(parse(&only, "no", false), Ok("no".to_owned()));
    }

    #[test]
    fn directories_continue_each_other() {
        let go = |text| parse(&Directory, text, PathBuf::from("/a/b"));
        assert_eq!(go("./c/."), Ok("/a/b/c".to_owned()));
        assert_eq!(go("/x"), Ok("/x".to_owned()));
        assert_eq!(go("./"), Ok("/a/b".to_owned()));
        assert!(go("").is_err());
    }
}
