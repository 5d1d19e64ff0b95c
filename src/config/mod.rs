//! The configuration: the table of options and what reads, holds, prints and rewrites their values.
//! It does not know the server: a change's consequences are named by `Apply`, and the caller sees to them.
//! A reader comes here for `Config::get` and `Config::set` (the commands CONFIG GET and CONFIG SET), to
//! `options.rs` for the options themselves, to `load.rs` for the start-up.

mod choices;
mod command_line;
mod conf;
mod error;
mod lists;
mod load;
mod options;
mod setting;
mod spec;
mod text;
mod tomlfile;

pub use choices::*;
pub use command_line::{Action, CommandLine};
pub use error::{ConfigError, Warning};
pub use lists::{BufferLimit, BufferLimits, NotifyFlags, Primary, SavePoint, ShutdownFlags};
pub use load::Syntax;
pub use options::{Config, OPTIONS};
pub use setting::{Choice, Fault, Literal, MemoryOrPercent, Secret, Turn};
pub use spec::*;

use crate::util::glob::{Case, matches};
use std::fmt::{self, Display};

/// The version of Redis whose behaviour AiKv has, and which it gives as its own to clients.
pub const REDIS_VERSION: &str = "7.4.1";

/// The option called `name`, by its name or an alias, whatever the case.
pub fn lookup(name: &[u8]) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.names().any(|known| name.eq_ignore_ascii_case(known.as_bytes())))
}

/// Who asks for a change: some options are not everybody's, nor at every time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The client is on this machine (unix socket or loopback).
    pub local: bool,
    /// Data is being loaded.
    pub loading: bool,
}

/// A consequence of a successful `Config::set` that the caller has to see to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// What to do.
    pub apply: Apply,
    /// The first option that asked for it: the one to name if it fails.
    pub option: &'static str,
}

/// Why CONFIG SET was refused. Displayed, it is the error reply without its `ERR `.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetError {
    /// There is no option of this name.
    Unknown(String),
    /// The option cannot be set while data is being loaded: the reply is the LOADING error.
    Loading,
    /// The value was refused, or could not be put into effect.
    Failed {
        /// The option, as the client wrote it or by its name.
        option: String,
        /// The reason.
        reason: String,
    },
}

impl SetError {
    /// The error of a consequence that failed.
    pub fn not_applied(pending: Pending, reason: &str) -> SetError {
        SetError::Failed { option: pending.option.to_owned(), reason: reason.to_owned() }
    }
}

impl Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Unknown(name) => {
                write!(f, "Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            SetError::Loading => f.write_str("LOADING Redis is loading the dataset in memory"),
            SetError::Failed { option, reason } => {
                write!(f, "CONFIG SET failed (possibly related to argument '{option}') - {reason}")
            }
        }
    }
}

impl Config {
    /// The options whose name matches the glob `pattern`, and their values. A pattern without wildcards also
    /// finds hidden options. Aliases answer under their own name.
    pub fn get(&self, pattern: &[u8]) -> Vec<(&'static str, String)> {
        self.get_all(&[pattern])
    }

    /// The options that match any of `patterns`, each once.
    pub fn get_all(&self, patterns: &[&[u8]]) -> Vec<(&'static str, String)> {
        let found_by = |name: &str, hidden: bool| {
            patterns.iter().any(|pattern| match pattern.iter().any(|byte| b"*?[".contains(byte)) {
                true => !hidden && matches(pattern, name.as_bytes(), Case::Insensitive),
                false => pattern.eq_ignore_ascii_case(name.as_bytes()),
            })
        };
        let mut found = Vec::new();
        for option in OPTIONS {
            for name in option.names().filter(|name| found_by(name, option.has(HIDDEN))) {
                found.push((name, (option.show)(self)));
            }
        }
        found
    }

    /// Sets all of `pairs` (name, value) or, on an error, none. The caller sees to what is returned, each
    /// consequence once; if that fails, it gives the configuration kept from before to `restore`.
    /// Nothing is refused for who or when: that is `set_for`.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<Vec<Pending>, SetError> {
        let mut options = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            options.push(lookup(name).ok_or_else(|| SetError::Unknown(lossy(name)))?);
        }
        let mut next = self.clone();
        let mut pending: Vec<Pending> = Vec::new();
        for (option, (_, value)) in options.into_iter().zip(pairs) {
            let words: Vec<&[u8]> = match option.has(MANY) {
                true if value.is_empty() => Vec::new(),
                true => value.split(|byte| *byte == b' ').collect(),
                false => vec![value],
            };
            let set = (option.set)(&mut next, &words, Turn::First);
            let changed = set
                .map_err(|fault| SetError::Failed { option: option.name.to_owned(), reason: fault.reply })?;
            let due = option.apply != Apply::None && (changed || option.has(VOLATILE));
            if due && !pending.iter().any(|earlier| earlier.apply == option.apply) {
                pending.push(Pending { apply: option.apply, option: option.name });
            }
        }
        *self = next;
        Ok(pending)
    }

    /// CONFIG SET: as `set`, after looking whether `caller` may set each of the options, and each only once.
    pub fn set_for(&mut self, pairs: &[(&[u8], &[u8])], caller: Caller) -> Result<Vec<Pending>, SetError> {
        self.admit(pairs, caller)?;
        self.set(pairs)
    }

    /// Puts a configuration back that was kept before a `set` whose consequences failed.
    pub fn restore(&mut self, saved: Config) {
        *self = saved;
    }

    fn admit(&self, pairs: &[(&[u8], &[u8])], caller: Caller) -> Result<(), SetError> {
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in pairs {
            let option = lookup(name).ok_or_else(|| SetError::Unknown(lossy(name)))?;
            let refused = |reason: &str| SetError::Failed { option: lossy(name), reason: reason.to_owned() };
            if option.has(FIXED) {
                return Err(refused("can't set immutable config"));
            }
            if option.has(PROTECTED) && !self.enable_protected_configs.allows(caller) {
                return Err(refused("can't set protected config"));
            }
            if option.has(NOT_LOADING) && caller.loading {
                return Err(SetError::Loading);
            }
            if seen.contains(&option.name) {
                return Err(refused("duplicate parameter"));
            }
            seen.push(option.name);
        }
        Ok(())
    }
}

impl YesNoLocal {
    /// Whether `caller` is among those allowed.
    pub fn allows(self, caller: Caller) -> bool {
        self == YesNoLocal::Yes || (self == YesNoLocal::Local && caller.local)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Config {
    /// (placeholder until the rewriter lands)
    pub fn rewrite(&self, _path: &std::path::Path, old: &str) -> Result<String, String> { Ok(old.to_string()) }
    /// Where log lines go.
    pub fn log_options(&self) -> crate::sys::log::LogOptions { Default::default() }
}
