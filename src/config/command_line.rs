//! The command line: what AiKv is asked to do, the file it is to read, and options. Options follow the rule
//! of redis-server: `--name` takes the words up to the next `--`, and the first of them may itself begin with
//! `--`. They are kept as lines of redis.conf. AiKv's own switches are clap's affair.

use super::error::{ConfigError, Place};
use super::load::by_flag;
use super::lookup;
use super::text::quoted;
use crate::util::quote::split_args;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the process is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Serve.
    Run,
    /// Print the version line.
    Version,
    /// Print this help.
    Help(String),
    /// Say whether a configuration file is valid.
    CheckConfig(PathBuf),
    /// Examine a snapshot file.
    CheckRdb(PathBuf),
    /// Examine a log: a file, a manifest, or the directory of a multi-part log.
    CheckAof {
        /// What to examine.
        path: PathBuf,
        /// Cut a broken end off.
        fix: bool,
        /// Cut off what was written after this second since 1970.
        truncate_to: Option<i64>,
    },
}

/// A command line that has been read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandLine {
    /// What to do.
    pub action: Action,
    /// The configuration file that was named.
    pub config: Option<PathBuf>,
    /// Whether standard input holds redis.conf lines as well.
    pub stdin: bool,
    /// The options, as redis.conf lines.
    pub options: String,
}

/// AiKv's own switches, and whether the word after is theirs.
const SWITCHES: [(&str, bool); 10] = [
    ("--config", true),
    ("--check-config", true),
    ("--check-rdb", true),
    ("--check-aof", false),
    ("--fix", false),
    ("--truncate-to-timestamp", true),
    ("--version", false),
    ("-v", false),
    ("--help", false),
    ("-h", false),
];

impl CommandLine {
    /// Reads `args`, the first of which is the program's name.
    pub fn parse(args: impl Iterator<Item = OsString>) -> Result<CommandLine, ConfigError> {
        let split = Split::of(args.skip(1).collect());
        let program = std::iter::once(OsString::from("aikv"));
        let matches = match command().try_get_matches_from(program.chain(split.own)) {
            Ok(matches) => matches,
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                let action = Action::Help(error.to_string());
                return Ok(CommandLine { action, config: None, stdin: false, options: String::new() });
            }
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().next().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                return Err(ConfigError::at(&Place::default(), reason));
            }
        };
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        let action = if matches.get_flag("version") {
            Action::Version
        } else if let Some(path) = path("check-config") {
            Action::CheckConfig(path)
        } else if let Some(path) = path("check-rdb") {
            Action::CheckRdb(path)
        } else if matches.get_flag("check-aof") {
            let path = path("file").expect("clap requires the file");
            let truncate_to = matches.get_one::<i64>("truncate-to-timestamp").copied();
            Action::CheckAof { path, fix: matches.get_flag("fix"), truncate_to }
        } else {
            Action::Run
        };
        let config = path("config").or_else(|| path("file"));
        Ok(CommandLine { action, config, stdin: split.stdin, options: split.options })
    }
}

/// The words of a command line, told apart.
#[derive(Default)]
struct Split {
    own: Vec<OsString>,
    stdin: bool,
    options: String,
}

impl Split {
    fn of(words: Vec<OsString>) -> Split {
        let mut split = Split::default();
        let last = words.len().saturating_sub(1);
        // Whether an option has its first word still to come, and whether switches stand alone so far.
        let (mut waiting, mut only_switches) = (false, true);
        let mut index = 0;
        while let Some(word) = words.get(index) {
            let text = word.to_string_lossy();
            let switch = SWITCHES.iter().find(|(name, _)| text.split('=').next() == Some(name));
            if text == "-" && (index == 0 || index == last) {
                split.stdin = true;
            } else if let (Some((_, takes_next)), false) = (switch, waiting) {
                split.own.push(word.clone());
                if *takes_next && !text.contains('=') {
                    index += 1;
                    split.own.extend(words.get(index).cloned());
                }
            } else if !waiting && text.starts_with("--") {
                only_switches = false;
                let next = words.get(index + 1).map(|next| next.to_string_lossy());
                waiting = split.option(&text[2..], next.as_deref());
            } else if only_switches && !text.starts_with('-') && !split.has_file() {
                split.own.push(word.clone());
            } else {
                only_switches = false;
                split.options.push_str(&quoted(&text));
                split.options.push(' ');
                waiting = false;
            }
            index += 1;
        }
        split
    }

    /// Whether a file was named: further words without dashes are an option line, oddly, as in Redis.
    fn has_file(&self) -> bool {
        let mut words = self.own.iter().map(|word| word.to_string_lossy());
        let mut found = false;
        while let Some(word) = words.next() {
            match SWITCHES.iter().find(|(name, _)| word.split('=').next() == Some(name)) {
                Some((_, true)) if !word.contains('=') => {
                    words.next();
                    found |= word == "--config";
                }
                Some(_) => found |= word.starts_with("--config="),
                None => found = true,
            }
        }
        found
    }

    /// Begins the line of an option, given as `name`, `name value` or `name=value`. Says whether its words
    /// are still to come.
    fn option(&mut self, text: &str, next: Option<&str>) -> bool {
        if !self.options.is_empty() {
            self.options.push('\n');
        }
        let end = text.find([' ', '=']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let name = by_flag(name).map_or(name, |option| option.name);
        let assigned = rest.strip_prefix('=').filter(|_| lookup(name.as_bytes()).is_some());
        self.options.push_str(name);
        self.options
            .push_str(&assigned.map_or_else(|| rest.to_owned(), |value| format!(" {}", quoted(value))));
        self.options.push(' ');
        let words = split_args(text.as_bytes()).map_or(2, |words| words.len());
        if assigned.is_some() || words != 1 {
            return false;
        }
        // A list that turned out empty: `--save` alone means no save points.
        let alone = next.is_none_or(|next| next.starts_with("--"));
        if alone && name.eq_ignore_ascii_case("save") {
            self.options.push_str("\"\"");
            return next.is_none();
        }
        true
    }
}

fn command() -> Command {
    let path = |name: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(clap::value_parser!(PathBuf))
    };
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let file = Arg::new("file").value_name("FILE").value_parser(clap::value_parser!(PathBuf));
    let only = ["config", "check-config", "check-rdb"];
    Command::new("aikv")
        .about("AiKv: a Redis-compatible key-value server")
        .override_usage(
            "aikv [FILE | --config FILE | -] [--OPTION VALUE ...]\n       \
             aikv --check-config FILE | --check-rdb FILE\n       \
             aikv --check-aof [--fix | --truncate-to-timestamp SECONDS] FILE",
        )
        .disable_help_flag(true)
        .arg(file.help("Configuration file, TOML or redis.conf [default: ./config.toml if it exists]"))
        .arg(path("config").conflicts_with("file").help("The same"))
        .arg(path("check-config").conflicts_with("file").help("Say whether a configuration file is valid"))
        .arg(path("check-rdb").conflicts_with("file").help("Examine a snapshot"))
        .arg(
            flag("check-aof")
                .requires("file")
                .conflicts_with_all(only)
                .help("Examine an append-only log: a file, its manifest or its directory"),
        )
        .arg(flag("fix").requires("check-aof").help("Cut a broken end off"))
        .arg(
            Arg::new("truncate-to-timestamp")
                .long("truncate-to-timestamp")
                .value_name("SECONDS")
                .value_parser(clap::value_parser!(i64))
                .requires("check-aof")
                .conflicts_with("fix")
                .help("Cut off what was written after this second since 1970"),
        )
        .arg(flag("version").short('v').help("Print the version"))
        .arg(Arg::new("help").long("help").short('h').action(ArgAction::Help).help("Print this help"))
        .after_help(AFTER_HELP)
}

const AFTER_HELP: &str = "\
Every option of docs/config.md can be given as --OPTION VALUE and then overrides the file. The usual ones:
  --host ADDRESS         Address to listen on [default: all; config.toml ships 127.0.0.1 and ::1]
  --port PORT            TCP port, 1-65535; 0 turns TCP off [default: 6379]
  --engine ENGINE        Storage engine: memory or aidb
  --data-dir DIR         Directory of the data files
  --loglevel LEVEL       error, warn, info, debug or trace
  --requirepass SECRET   Password of the default user

Examples:
  aikv
  aikv --port 6380 --save \"\" --appendonly yes
  aikv /etc/aikv/config.toml --loglevel debug
  echo 'maxmemory 1gb' | aikv -";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<CommandLine, ConfigError> {
        CommandLine::parse(std::iter::once("aikv").chain(args.iter().copied()).map(OsString::from))
    }

    fn options(args: &[&str]) -> Vec<String> {
        parse(args).unwrap().options.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn options_take_the_words_up_to_the_next_dashes() {
        assert_eq!(options(&["--save", "", "--appendonly", "yes"]), [r#"save """#, r#"appendonly "yes""#]);
        assert_eq!(options(&["--port", "1", "2"]), [r#"port "1" "2""#]);
        assert_eq!(options(&["--port", "--loglevel", "verbose"]), [r#"port "--loglevel" "verbose""#]);
        assert_eq!(options(&["--port", "--help"]), [r#"port "--help""#]);
        assert_eq!(options(&["--save", "--loglevel", "verbose"]), [r#"save """#, r#"loglevel "verbose""#]);
        assert_eq!(options(&["--loglevel", "verbose", "--save"]), [r#"loglevel "verbose""#, r#"save """#]);
        assert_eq!(options(&["--maxmemory 700mb", "--port 1"]), ["maxmemory 700mb", "port 1"]);
        assert_eq!(options(&["--host", "::1", "--data-dir=/x y"]), [r#"bind "::1""#, r#"dir "/x y""#]);
        let words = ["a.conf", "loglevel", "verbose", "--maxmemory '700mb'"];
        assert_eq!(options(&words), [r#""loglevel" "verbose""#, "maxmemory '700mb'"]);
        assert_eq!(options(&["-p", "6380"]), [r#""-p" "6380""#]);
    }

    #[test]
    fn files_and_standard_input() {
        assert_eq!(parse(&["redis.conf", "--port", "1"]).unwrap().config, Some(PathBuf::from("redis.conf")));
        assert_eq!(
            parse(&["--port", "1", "--config", "a.toml"]).unwrap().config,
            Some(PathBuf::from("a.toml"))
        );
        assert_eq!(parse(&["--config=a.toml", "--port", "1"]).unwrap().options.trim(), r#"port "1""#);
        assert!(parse(&["-"]).unwrap().stdin);
        let last = parse(&["--port", "1", "-"]).unwrap();
        assert!(last.stdin && last.config.is_none());
        assert!(!parse(&["--proc-title-template", "-", "--port", "1"]).unwrap().stdin);
        let text = parse(&["--config"]).unwrap_err().to_string();
        assert!(text.starts_with("Invalid configuration: command line: a value is required"), "{text}");
    }

    #[test]
    fn actions() {
        let action = |args: &[&str]| parse(args).unwrap().action;
        assert_eq!(action(&[]), Action::Run);
        assert_eq!(action(&["-v"]), Action::Version);
        assert_eq!(action(&["--version"]), Action::Version);
        assert_eq!(action(&["--check-config", "x"]), Action::CheckConfig("x".into()));
        assert_eq!(action(&["--check-rdb", "x"]), Action::CheckRdb("x".into()));
        assert_eq!(
            action(&["--check-aof", "x"]),
            Action::CheckAof { path: "x".into(), fix: false, truncate_to: None }
        );
        for args in [["--check-aof", "--fix", "x"], ["--check-aof", "x", "--fix"]] {
            assert_eq!(action(&args), Action::CheckAof { path: "x".into(), fix: true, truncate_to: None });
        }
        for args in [
            ["--check-aof", "--truncate-to-timestamp", "7", "x"],
            ["--check-aof", "x", "--truncate-to-timestamp", "7"],
        ] {
            let truncate_to = Some(7);
            assert_eq!(action(&args), Action::CheckAof { path: "x".into(), fix: false, truncate_to });
        }
        let Action::Help(help) = action(&["--help"]) else { panic!("help") };
        assert!(help.contains("--config") && help.contains("--port"), "{help}");
        assert!(parse(&["--fix"]).is_err() && parse(&["--check-aof"]).is_err());
        assert!(parse(&["a.conf", "--config", "b"]).is_err());
    }
}
