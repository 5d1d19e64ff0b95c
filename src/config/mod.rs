//! The configuration: the table of options and what reads, holds, prints and rewrites their values.
//! It does not know the server: a change's consequences are named by `Apply`, and the caller sees to them.
//! A reader comes here for `Config::get` and `Config::set` (the commands CONFIG GET and CONFIG SET), to
//! `options.rs` for the options themselves, to `load.rs` for the start-up.

mod choices;
mod command_line;
mod conf;
pub mod docs;
mod error;
mod lists;
mod load;
mod options;
mod rewrite;
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
pub use rewrite::Scope;
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
        for (name, value) in pairs {
            let option = lookup(name).ok_or_else(|| SetError::Unknown(lossy(name)))?;
            let refused = |reason: &str| SetError::Failed { option: lossy(name), reason: reason.to_owned() };
            let is_kept = || option.has(WRITTEN_BACK) && (option.show)(self).as_bytes() == *value;
            if option.has(FIXED) && !is_kept() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const FACTS: &str = include_str!("../../tests/facts/config-defaults.tsv");

    fn value(config: &Config, name: &str) -> String {
        let found = config.get(name.as_bytes());
        assert_eq!(found.len(), 1, "{name}");
        found[0].1.clone()
    }

    #[test]
    fn names_are_unique_and_fit_their_fields() {
        let mut seen = HashSet::new();
        let config = format!("{:?}", Config::default());
        for option in OPTIONS {
            for name in option.names().chain(option.flag) {
                assert!(seen.insert(name), "{name} is the name of two options");
                assert!(
                    name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte)),
                    "{name}"
                );
            }
            let field = option.name.replace('-', "_");
            assert!(config.contains(&format!(" {field}: ")), "{field} is not a field");
            assert!(!option.doc.is_empty() && option.doc.iter().all(|line| line.starts_with(' ')));
            assert!(option.doc.last().unwrap().ends_with('.'), "{}", option.name);
            assert!(!(option.describe)().is_empty());
        }
        let mut keys = HashSet::new();
        for option in OPTIONS {
            assert!(keys.insert((option.section.name(), option.toml_key())), "{}", option.name);
        }
    }

    #[test]
    fn defaults_read_back_as_themselves() {
        let default = Config::default();
        for option in OPTIONS {
            let mut config = default.clone();
            let text = (option.show)(&default);
            let words: Vec<&[u8]> = match option.has(MANY) && !text.is_empty() {
                true => text.split(' ').map(str::as_bytes).collect(),
                false => vec![text.as_bytes()],
            };
            assert_eq!((option.set)(&mut config, &words, Turn::First), Ok(false), "{}", option.name);
            assert!(config == default, "{}", option.name);
        }
    }

    #[test]
    fn defaults_are_those_of_redis_but_for_the_listed_ones() {
        let config = Config::default();
        for line in FACTS.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, redis, ours, reason] = columns[..] else { panic!("four columns: {line}") };
            assert_eq!(ours != redis, !reason.is_empty(), "a difference has a reason: {line}");
            assert_eq!(value(&config, name), ours, "{name}");
        }
    }

    #[test]
    fn get_knows_globs_aliases_and_hidden_options() {
        let config = Config::default();
        let names: Vec<_> = config.get(b"maxmemory*").into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"maxmemory") && names.contains(&"maxmemory-clients"));
        assert_eq!(config.get(b"LUA-time-limit"), [("lua-time-limit", "5000".to_owned())]);
        assert_eq!(config.get(b"*of").len(), 2);
        assert!(config.get(b"*").iter().all(|(name, _)| *name != "key-load-delay"));
        assert_eq!(config.get(b"key-load-delay").len(), 1);
        assert_eq!(config.get_all(&[b"maxmemory", b"max*memory", b"maxmemory"]).len(), 1);
        assert!(config.get(b"nothing").is_empty());
    }

    #[test]
    fn set_is_all_or_nothing() {
        let mut config = Config::default();
        let before = config.clone();
        let pairs: &[(&[u8], &[u8])] =
            &[(b"maxmemory", b"10000001"), (b"maxmemory-clients", b"200%"), (b"hz", b"x")];
        assert_eq!(
            config.set(pairs).unwrap_err().to_string(),
            "CONFIG SET failed (possibly related to argument 'maxmemory-clients') - \
             percentage argument must be less or equal to 100"
        );
        assert!(config == before);
        let pairs: &[(&[u8], &[u8])] = &[
            (b"MAXMEMORY", b"1mb"),
            (b"maxmemory-policy", b"allkeys-LRU"),
            (b"save", b"3000 5"),
            (b"hz", b"100000"),
            (b"timeout", b"5"),
            (b"port", b"6379"),
        ];
        let pending = config.set(pairs).unwrap();
        let applies: Vec<_> = pending.iter().map(|pending| (pending.apply, pending.option)).collect();
        assert_eq!(applies, [(Apply::Maxmemory, "maxmemory"), (Apply::Save, "save"), (Apply::Hz, "hz")]);
        assert_eq!((config.maxmemory, config.hz, config.timeout), (1 << 20, 500, 5));
        assert_eq!(value(&config, "save"), "3000 5");
        config.set(&[(b"save", b"")]).unwrap();
        assert_eq!(value(&config, "save"), "");
        config.restore(before.clone());
        assert!(config == before);
    }

    #[test]
    fn set_for_asks_who_and_when() {
        let mut config = Config::default();
        let caller = Caller { local: true, loading: false };
        let mut set = |pairs: &[(&[u8], &[u8])], caller| match config.set_for(pairs, caller) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            set(&[(b"no-such", b"1")], caller),
            "Unknown option or number of arguments for CONFIG SET - 'no-such'"
        );
        assert!(
            set(&[(b"daemonize", b"yes")], caller).ends_with("'daemonize') - can't set immutable config")
        );
        let engine = |value: &'static [u8]| [(&b"storage-engine"[..], value)];
        assert!(set(&engine(b"aidb"), caller).ends_with("can't set immutable config"));
        assert_eq!(set(&engine(b"memory"), caller), "");
        assert!(set(&[(b"dir", b"/")], caller).ends_with("'dir') - can't set protected config"));
        let twice: &[(&[u8], &[u8])] =
            &[(b"hash-max-listpack-value", b"1"), (b"hash-max-ziplist-value", b"2")];
        assert!(set(twice, caller).ends_with("'hash-max-ziplist-value') - duplicate parameter"));
        let loading = Caller { loading: true, ..caller };
        assert!(set(&[(b"appendonly", b"yes")], loading).starts_with("LOADING "));
        assert_eq!(set(&[(b"loglevel", b"warn")], loading), "");
        config.enable_protected_configs = YesNoLocal::Local;
        let pending = config.set_for(&[(b"dir", b"/")], caller).unwrap();
        assert_eq!(pending, [Pending { apply: Apply::Dir, option: "dir" }]);
        assert!(config.set_for(&[(b"dir", b"/")], Caller { local: false, ..caller }).is_err());
        let error = SetError::not_applied(pending[0], "No such file or directory");
        assert_eq!(
            error.to_string(),
            "CONFIG SET failed (possibly related to argument 'dir') - No such file or directory"
        );
    }

    #[test]
    fn log_levels_have_two_sets_of_names() {
        let mut config = Config::default();
        for (name, shown) in
            [("info", "notice"), ("warn", "warning"), ("trace", "trace"), ("VERBOSE", "verbose")]
        {
            config.set(&[(b"loglevel", name.as_bytes())]).unwrap();
            assert_eq!(value(&config, "loglevel"), shown);
        }
    }
}
