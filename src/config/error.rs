//! What the start-up says about a configuration: errors that name file, line, option, value and reason, and
//! warnings. A reader comes here for the wording of `Invalid configuration: ...`.

use super::setting::Fault;
use super::spec::{OptionSpec, SENSITIVE};
use super::{OPTIONS, REDIS_VERSION};
use std::fmt::{self, Display};
use std::path::PathBuf;

/// Why the configuration cannot be used. Displayed, it is one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The file, as it was named. None: the command line.
    pub file: Option<PathBuf>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The option as written. Empty if the error is about something else.
    pub option: String,
    /// Its value as written, unless it is secret.
    pub value: Option<String>,
    /// The reason.
    pub reason: String,
    /// What Redis would say, for harnesses that read its words.
    redis: Box<RedisWords>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct RedisWords {
    line: Option<String>,
    reason: String,
}

/// Where a word stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    pub file: Option<PathBuf>,
    pub line: Option<usize>,
}

impl ConfigError {
    /// An error about a file, or a part of it, as a whole.
    pub(super) fn at(place: &Place, reason: impl Into<String>) -> ConfigError {
        let reason = reason.into();
        let redis = Box::new(RedisWords { line: None, reason: reason.clone() });
        let (option, value) = (String::new(), None);
        ConfigError { file: place.file.clone(), line: place.line, option, value, reason, redis }
    }

    /// An error about `key`, which may have a value and stand for an option.
    pub(super) fn about(key: &str, value: Option<String>, fault: &Fault, place: &Place) -> ConfigError {
        let reason = fault.plain();
        let redis = Box::new(RedisWords { line: None, reason: fault.reply.clone() });
        let (file, line) = (place.file.clone(), place.line);
        ConfigError { file, line, option: key.to_owned(), value, reason, redis }
    }

    /// The error with the line it is about, as it stands in the file.
    pub(super) fn with_source(mut self, line: impl Into<String>) -> ConfigError {
        self.redis.line = Some(line.into());
        self
    }

    /// The message in the words of Redis: what its harnesses look for on standard error. Several lines.
    pub fn redis_report(&self) -> String {
        let mut report = format!("\n*** FATAL CONFIG FILE ERROR (AiKv {REDIS_VERSION}) ***\n");
        if let (Some(line), Some(text)) = (self.line, &self.redis.line) {
            report.push_str(&format!("Reading the configuration file, at line {line}\n>>> '{text}'\n"));
        }
        report.push_str(&self.redis.reason);
        report.push('\n');
        report
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalid configuration: ")?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, _) => f.write_str("command line: ")?,
        }
        match &self.value {
            Some(value) => write!(f, "{} = {value}: ", self.option)?,
            None if !self.option.is_empty() => write!(f, "{}: ", self.option)?,
            None => {}
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Something in the configuration that is legal but may not do what was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The file, as it was named. None: the command line, or a combination of options.
    pub file: Option<PathBuf>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The option's name.
    pub option: String,
    /// What is to be known.
    pub text: String,
}

impl Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, _) => {}
        }
        write!(f, "{}: {}", self.option, self.text)
    }
}

/// `value` as a message may show it.
pub(super) fn shown(option: &OptionSpec, value: &str) -> String {
    match () {
        () if option.has(SENSITIVE) => "(hidden)".to_owned(),
        () if value.is_empty() => "\"\"".to_owned(),
        () => value.to_owned(),
    }
}

/// `unknown <what> '<name>'`, with the nearest of `names` if one is near.
pub(super) fn unknown(what: &str, name: &str, names: impl Iterator<Item = String>) -> String {
    let near = names.map(|known| (distance(name, &known), known)).min();
    match near {
        Some((steps, known)) if steps <= 1.max(name.len() / 3) => {
            format!("unknown {what} '{name}', did you mean '{known}'?")
        }
        _ => format!("unknown {what} '{name}'"),
    }
}

/// Every name an option has in redis.conf.
pub(super) fn option_names() -> impl Iterator<Item = String> {
    OPTIONS.iter().flat_map(|option| option.names()).map(str::to_owned)
}

/// The number of bytes to insert, delete, replace or swap with the next for one text to become the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                let swapped = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                let swapped = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(swapped)
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_one_step() {
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("", "port"), 4);
        assert_eq!(distance("maxmemroy", "maxmemory"), 1);
        assert_eq!(unknown("option", "prot", option_names()), "unknown option 'prot', did you mean 'port'?");
        assert_eq!(unknown("option", "zzz", option_names()), "unknown option 'zzz'");
    }
}
