//! The start-up: from the command line and the files it names to a `Config` and warnings. The order is Redis':
//! the file, then standard input, then the options of the command line; the last one holds. The two file
//! syntaxes are read by `conf.rs` and `tomlfile.rs`. Nothing is done here but reading files.

use super::command_line::CommandLine;
use super::error::{ConfigError, Place, Warning, shown};
use super::setting::{Fault, PORT, Setting, Turn};
use super::spec::OptionSpec;
use super::{Config, OPTIONS, conf, tomlfile};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file that is read when none is named and it exists.
const USUAL_FILE: &str = "config.toml";

/// The syntax of a configuration file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syntax {
    /// TOML with sections.
    Toml,
    /// `name value` lines, as Redis has them.
    RedisConf,
}

impl Syntax {
    /// The syntax of a file: by its name, or else by its first line that says something.
    pub fn of(path: &Path, text: &[u8]) -> Syntax {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => return Syntax::Toml,
            Some("conf") => return Syntax::RedisConf,
            _ => {}
        }
        let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or_default();
        let after_name = first.iter().skip_while(|byte| !byte.is_ascii_whitespace() && **byte != b'=');
        let assigned = after_name.copied().find(|byte| !byte.is_ascii_whitespace()) == Some(b'=');
        if first.starts_with(b"[") || assigned { Syntax::Toml } else { Syntax::RedisConf }
    }
}

/// What has been read so far.
pub(super) struct Loading {
    pub config: Config,
    /// The options that were given, each with where it was last.
    given: Vec<(&'static OptionSpec, Place)>,
    pub warnings: Vec<Warning>,
    /// Where a TOML file turns TCP off.
    pub port_off: Option<Place>,
}

impl Loading {
    /// Nothing read yet. Relative directories start from `cwd`.
    pub fn new(cwd: &Path) -> Loading {
        let config = Config { dir: cwd.to_owned(), start_dir: cwd.to_owned(), ..Config::default() };
        Loading { config, given: Vec::new(), warnings: Vec::new(), port_off: None }
    }

    /// Sets `option`, which is called `key` at `place`.
    pub fn set(
        &mut self,
        option: &'static OptionSpec,
        key: &str,
        words: &[&[u8]],
        place: &Place,
    ) -> Result<(), ConfigError> {
        let known = self.given.iter().position(|(given, _)| given.name == option.name);
        let turn = if known.is_some() { Turn::Again } else { Turn::First };
        let text = String::from_utf8_lossy(&words.join(&b' ')).into_owned();
        let set = (option.set)(&mut self.config, words, turn);
        set.map_err(|fault| ConfigError::about(key, Some(shown(option, &text)), &fault, place))?;
        match known {
            Some(index) => self.given[index].1 = place.clone(),
            None => self.given.push((option, place.clone())),
        }
        Ok(())
    }

    pub fn warn(&mut self, place: &Place, option: &str, text: impl Into<String>) {
        let (file, line) = (place.file.clone(), place.line);
        self.warnings.push(Warning { file, line, option: option.to_owned(), text: text.into() });
    }

    fn read_file(&mut self, path: &Path, cwd: &Path) -> Result<(), ConfigError> {
        let place = Place { file: Some(path.to_owned()), line: None };
        let full = cwd.join(path);
        let text = std::fs::read(&full).map_err(|error| unreadable(&place, &error))?;
        self.config.config_file = Some(full.canonicalize().unwrap_or(full));
        match Syntax::of(path, &text) {
            Syntax::Toml => match String::from_utf8(text) {
                Ok(text) => tomlfile::read(self, &text, path),
                Err(_) => Err(ConfigError::at(&place, "the file is not valid UTF-8")),
            },
            Syntax::RedisConf => conf::read(self, &text, &place),
        }
    }

    /// The rules between options, and the notes on those without effect.
    fn finish(mut self) -> Result<(Config, Vec<Warning>), ConfigError> {
        self.check_reachable()?;
        let config = &mut self.config;
        if config.cluster_enabled && config.replicaof.is_some() {
            let fault = Fault::new("replicaof directive not allowed in cluster mode");
            return Err(ConfigError::about("replicaof", None, &fault, &self.place_of("replicaof")));
        }
        if config.cluster_enabled && config.databases > 1 {
            config.databases = 1;
            let place = self.place_of("cluster-enabled");
            self.warn(&place, "databases", "a cluster has one database only: taken as 1");
        }
        let default = Config::default();
        for (option, place) in std::mem::take(&mut self.given) {
            if let Some(note) = option.note.filter(|_| !(option.same)(&self.config, &default)) {
                self.warn(&place, option.name, format!("accepted, has no effect: {note}"));
            }
        }
        Ok((self.config, self.warnings))
    }

    /// Port 0 means no TCP. In a TOML file that is a slip rather than a wish if no other way in is left.
    fn check_reachable(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        match &self.port_off {
            Some(place) if config.port == 0 && config.unixsocket.is_empty() && config.tls_port == 0 => {
                let fault = Setting::<u16>::parse(&PORT, &[b"-1"], &0, Turn::First);
                let fault = fault.expect_err("no port is negative");
                Err(ConfigError::about("port", Some("0".to_owned()), &fault, place))
            }
            _ => Ok(()),
        }
    }

    fn place_of(&self, name: &str) -> Place {
        let found = self.given.iter().find(|(option, _)| option.name == name);
        found.map(|(_, place)| place.clone()).unwrap_or_default()
    }
}

/// The error of a file that cannot be opened.
pub(super) fn unreadable(place: &Place, error: &std::io::Error) -> ConfigError {
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text);
    ConfigError::at(place, format!("can't open config file: {reason}"))
}

impl Config {
    /// The configuration that `line` asks for, started in the directory `cwd` (absolute).
    pub fn load(line: &CommandLine, cwd: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
        Config::load_with(line, cwd, &mut std::io::stdin().lock())
    }

    /// As `load`, with `stdin` for what `-` reads.
    fn load_with(
        line: &CommandLine,
        cwd: &Path,
        stdin: &mut dyn Read,
    ) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut loading = Loading::new(cwd);
        match &line.config {
            Some(path) => loading.read_file(path, cwd)?,
            None if !line.stdin && cwd.join(USUAL_FILE).is_file() => {
                loading.read_file(Path::new(USUAL_FILE), cwd)?
            }
            None => {}
        }
        if line.stdin {
            let place = Place { file: Some(PathBuf::from("standard input")), line: None };
            let mut text = Vec::new();
            stdin.read_to_end(&mut text).map_err(|error| unreadable(&place, &error))?;
            conf::read(&mut loading, &text, &place)?;
        }
        conf::read(&mut loading, line.options.as_bytes(), &Place::default())?;
        loading.finish()
    }

    /// Reads one file in either syntax, as `--check-config` does.
    pub fn check_file(path: &Path, cwd: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut loading = Loading::new(cwd);
        loading.read_file(path, cwd)?;
        loading.finish()
    }

    /// The defaults of a start in this configuration's directory.
    pub(super) fn pristine(&self) -> Config {
        Loading::new(&self.start_dir).config
    }
}

/// The option whose extra command line name is `flag`.
pub(super) fn by_flag(flag: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.flag.is_some_and(|known| known.eq_ignore_ascii_case(flag)))
}
