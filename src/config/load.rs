//! The start-up: from the command line and the files it names to a `Config` and warnings. The order is
//! Redis': the file, then standard input, then the options of the command line; the last one holds. The two
//! file syntaxes are read by `conf.rs` and `tomlfile.rs`. Nothing is done here but reading files.

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::fs;
    use tempfile::TempDir;

    /// A directory with `files`, and the outcome of starting in it with `args`.
    fn start(
        files: &[(&str, &str)],
        args: &[&str],
    ) -> (TempDir, Result<(Config, Vec<Warning>), ConfigError>) {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let args = std::iter::once("aikv").chain(args.iter().copied()).map(OsString::from);
        let line = CommandLine::parse(args).unwrap();
        let loaded = Config::load_with(&line, directory.path(), &mut &b"timeout 77\n"[..]);
        (directory, loaded)
    }

    fn loaded(files: &[(&str, &str)], args: &[&str]) -> Config {
        start(files, args).1.unwrap().0
    }

    fn refused(files: &[(&str, &str)], args: &[&str]) -> ConfigError {
        start(files, args).1.unwrap_err()
    }

    fn show(config: &Config, name: &str) -> String {
        config.get(name.as_bytes())[0].1.clone()
    }

    #[test]
    fn no_argument_reads_the_usual_file_if_it_is_there() {
        assert_eq!(loaded(&[], &[]).port, 6379);
        let (directory, result) = start(&[("config.toml", "[server]\nport = 1234\n")], &["--timeout", "3"]);
        let config = result.unwrap().0;
        assert_eq!((config.port, config.timeout), (1234, 3));
        let real = directory.path().canonicalize().unwrap();
        assert_eq!(config.config_file, Some(real.join("config.toml")));
        assert_eq!(config.dir, directory.path());
    }

    #[test]
    fn the_last_word_holds() {
        let conf = ("a.conf", "port 1\nport 2\ntimeout 1\nmaxclients 9\n");
        let config = loaded(&[conf], &["a.conf", "--maxclients", "10", "-"]);
        assert_eq!((config.port, config.timeout, config.maxclients), (2, 77, 10));
    }

    #[test]
    fn save_lines_add_up() {
        let conf = ("a.conf", "save 900 1\n");
        assert_eq!(show(&loaded(&[conf], &["a.conf", "--save", "100", "100"]), "save"), "900 1 100 100");
        assert_eq!(show(&loaded(&[conf], &["a.conf", "--save", ""]), "save"), "");
        assert_eq!(show(&loaded(&[], &["--save", "5 1"]), "save"), "5 1");
        assert_eq!(show(&loaded(&[("a", "save ''\nsave 1 2\nsave '3 4'")], &["a"]), "save"), "1 2 3 4");
    }

    #[test]
    fn both_syntaxes_mean_the_same() {
        let toml = r#"
            [server]
            host = ["0.0.0.0", "-::1"]
            port = 7000
            unixsocketperm = 700
            shutdown-on-sigterm = "nosave now"
            [clients]
            client_output_buffer_limit = ["replica 1mb 0 0"]
            maxmemory-clients = "5%"
            [storage]
            engine = "memory"
            data_dir = "/tmp"
            [persistence]
            save = ["60 1", "5 100"]
            rdbcompression = false
            auto_aof_rewrite_min_size = 1_000
            [logging]
            level = "warn"
            [latency]
            latency_tracking_info_percentiles = [50, 99.9]
            [security]
            requirepass = "hush hush"
            enable_debug_command = true
            users = ["alice on nopass ~* +@all"]
            rename_command = { FLUSHALL = "" }
            [memory]
            maxmemory = 0x400
            oom-score-adj-values = "1 2 3"
            [types]
            hash_max_ziplist_entries = 7
            [pubsub]
            notify_keyspace_events = "KEA"
            [lua]
            lua-time-limit = 5
        "#;
        let conf = r#"
            # comment
            BIND 0.0.0.0 -::1
            port "7000"
            unixsocketperm 700
            shutdown-on-sigterm nosave now
            client-output-buffer-limit slave 1mb 0 0
            maxmemory-clients 5%
            storage-engine memory
            dir /tmp
            save 60 1
            save 5 100
            rdbcompression no
            auto-aof-rewrite-min-size 1k
            loglevel warning
            latency-tracking-info-percentiles 50 99.9
            requirepass 'hush hush'
            enable-debug-command yes
            user alice on nopass ~* +@all
            rename-command FLUSHALL ""
            maxmemory 1kb
            oom-score-adj-values "1 2 3"
            hash-max-listpack-entries 7
            notify-keyspace-events KEA
            busy-reply-threshold 5
        "#;
        let mut one = loaded(&[("a.toml", toml)], &["--config", "a.toml"]);
        let mut other = loaded(&[("a.conf", conf)], &["a.conf"]);
        assert_eq!(one.renamed_commands, [("FLUSHALL".to_owned(), String::new())]);
        (one.config_file, other.config_file) = (None, None);
        (one.start_dir, other.start_dir) = Default::default();
        assert_eq!(one, other);
    }

    #[test]
    fn the_syntax_is_seen_from_name_or_content() {
        let of = |name: &str, text: &str| Syntax::of(Path::new(name), text.as_bytes());
        assert_eq!(of("a.toml", "port 1"), Syntax::Toml);
        assert_eq!(of("a.conf", "port = 1"), Syntax::RedisConf);
        assert_eq!(of("aikv.cfg", "# x\n\n [server]\n"), Syntax::Toml);
        assert_eq!(of("aikv.cfg", "port = 1"), Syntax::Toml);
        assert_eq!(of("redis.conf.1", "port 1\nuser x #a=b"), Syntax::RedisConf);
        assert_eq!(of("empty", ""), Syntax::RedisConf);
    }

    #[test]
    fn includes_nest_and_take_wildcards() {
        let files = [
            ("a.conf", "include b.conf\ninclude c?*.conf\ninclude none*.conf\n"),
            ("b.conf", "port 1\ntimeout 5\n"),
            ("c1.conf", "port 2\n"),
            ("c2.conf", "port 3\n"),
        ];
        let config = loaded(&files, &["a.conf"]);
        assert_eq!((config.port, config.timeout), (3, 5));
        let error = refused(&[("a.conf", "include none.conf")], &["a.conf"]).to_string();
        assert!(error.ends_with("none.conf: can't open config file: No such file or directory"), "{error}");
        let error = refused(&[("a.conf", "include a.conf")], &["a.conf"]).to_string();
        assert!(error.contains("files include each other"), "{error}");
        let error = refused(&[("a.conf", "include b"), ("b", "\nport x")], &["a.conf"]);
        assert!(error.to_string().ends_with("/b:2: port = x: must be an integer"), "{error}");
        assert!(error.redis_report().contains("at line 2\n>>> 'port x'"), "{}", error.redis_report());
    }

    /// Each TOML text with the line that follows `Invalid configuration: config.toml:`.
    #[test]
    fn errors_in_toml_name_the_line() {
        let cases = [
            ("[server]\nport = 70000", "2: port = 70000: must be between 1 and 65535"),
            ("[server]\nport = 0", "2: port = 0: must be between 1 and 65535"),
            ("[server]\nport = 'x'", "2: port = x: must be an integer"),
            ("[server]\n\nprot = 1", "3: unknown option 'prot', did you mean 'port'?"),
            ("[storage]\nengine = 'rocksdb'", "2: engine = rocksdb: the names are memory and aidb"),
            ("[memory]\nport = 1", "2: option 'port' belongs in section [server]"),
            ("port = 1", "1: option 'port' belongs in section [server]"),
            ("[sever]\n", "1: unknown section 'sever', did you mean 'server'?"),
            ("[server]\nport = 1\nport = 2", "3: not valid TOML: duplicate key"),
            ("[server]\nport 1", "2: not valid TOML: "),
            ("[server]\nbind = '::'\nhost = '::'", "3: host: the same option as 'bind' above"),
            ("[server]\nport = {}", "2: port: must be a text, a number, true, false or an array of these"),
            ("[server]\nport = [1, 2]", "2: port: wrong number of arguments"),
            (
                "[persistence]\nappendonly = 'on'",
                "2: appendonly = on: must be yes or no (in TOML: true or false)",
            ),
            ("[security]\nusers = 'x'", "2: users: must be an array of texts"),
            ("[tls]\ntls-port = 1", "2: tls-port = 1: TLS is not built in yet"),
        ];
        for (text, end) in cases {
            let error = refused(&[("config.toml", text)], &[]).to_string();
            let start = format!("Invalid configuration: config.toml:{end}");
            assert!(error.starts_with(&start) && !error.contains('\n'), "{text:?}: {error}");
        }
        let socket = "[server]\nport = 0\nunixsocket = '/tmp/s'";
        assert_eq!(loaded(&[("config.toml", socket)], &[]).port, 0);
        assert_eq!(loaded(&[], &["--port", "0"]).port, 0);
    }

    #[test]
    fn errors_in_redis_conf_have_the_words_of_redis() {
        let report = |args: &[&str]| refused(&[], args).redis_report();
        let text = report(&["--invalid"]);
        assert!(text.contains("*** FATAL CONFIG FILE ERROR (AiKv 7.4.1) ***\n"), "{text}");
        assert!(text.contains("\nBad directive or wrong number of arguments\n"), "{text}");
        let cases: [(&[&str], &str, &str); 9] = [
            (&["--port"], "'port'", "wrong number of arguments"),
            (&["--port", "1", "--loglevel"], "'loglevel'", "wrong number of arguments"),
            (&["--port", "6379", "6380"], "'port \"6379\" \"6380\"'", "wrong number of arguments"),
            (&["--port", "--bla"], "'port \"--bla\"'", "argument couldn't be parsed into an integer"),
            (&["--loglevel", "--bla"], "'loglevel \"--bla\"'", "argument(s) must be one of the following"),
            (&["--shutdown-on-sigint"], "'shutdown-on-sigint'", "argument(s) must be one of the following"),
            (&["--replicaof", "::1", "abc"], "'replicaof \"::1\" \"abc\"'", "Invalid master port"),
            (&["--requirepass", "hush", "hush"], "'requirepass (hidden)'", "wrong number of arguments"),
            (&["--loadmodule", "x.so"], "'loadmodule \"x.so\"'", "modules are not supported"),
        ];
        for (args, line, reason) in cases {
            let text = report(args);
            assert!(text.contains(&format!(">>> {line}\n{reason}")), "{args:?}: {text}");
        }
        let error = refused(&[("a.conf", "\nport 70000")], &["a.conf"]);
        assert_eq!(
            error.to_string(),
            "Invalid configuration: a.conf:2: port = 70000: must be between 1 and 65535"
        );
        assert!(
            error.redis_report().contains("Reading the configuration file, at line 2\n>>> 'port 70000'\n")
        );
        let error = refused(&[("a.conf", "port \"1")], &["a.conf"]);
        assert!(error.redis_report().ends_with("Unbalanced quotes in configuration line\n"));
        let error = refused(&[], &["nowhere.conf"]).to_string();
        assert_eq!(
            error,
            "Invalid configuration: nowhere.conf: can't open config file: No such file or directory"
        );
        assert!(!refused(&[("a", "tls-key-file-pass a b")], &["a"]).redis_report().contains(" a b"));
        let clash = "cluster-enabled yes\nreplicaof a 1";
        assert!(refused(&[("a", clash)], &["a"]).redis_report().contains("not allowed in cluster mode"));
    }

    #[test]
    fn options_without_effect_are_named() {
        let conf = "io-threads 4\nio-threads-do-reads no\nlist-max-ziplist-value 5\ncluster-enabled yes\n";
        let (_directory, result) = start(&[("a.conf", conf)], &["a.conf"]);
        let (config, warnings) = result.unwrap();
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(config.databases, 1);
        assert_eq!(texts.len(), 4, "{texts:?}");
        assert!(
            texts[0].starts_with("a.conf:3: list-max-ziplist-value: accepted, has no effect"),
            "{texts:?}"
        );
        assert!(texts[1].starts_with("a.conf:4: databases: "), "{texts:?}");
        assert_eq!(
            texts[2],
            "a.conf:1: io-threads: accepted, has no effect: AiKv runs commands on one thread"
        );
    }

    #[test]
    fn the_test_suites_files_are_understood() {
        let conf = "always-show-logo yes\nnotify-keyspace-events KEA\ndaemonize no\n\
                    pidfile /var/run/redis.pid\n\
                    port 6379\ntimeout 0\nbind 127.0.0.1\nloglevel verbose\nlogfile \'\'\nsave \'\'\ndir ./\n\
                    slave-serve-stale-data yes\nactiverehashing yes\nenable-debug-command yes\n\
                    propagation-error-behavior panic\nshutdown-on-sigterm force\n";
        let (directory, result) = start(&[("x", conf)], &["x"]);
        assert_eq!(show(&result.unwrap().0, "dir"), directory.path().display().to_string());
    }
}
