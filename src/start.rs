//! From the command line to the running loop, and what the operator is told when that fails.

use crate::aof::check::{Check, Mode, Verdict};
use crate::config::{Action, CommandLine, Config, ConfigError, Engine, Supervised, Warning, YesNoAuto};
use crate::net::Reactor;
use crate::rdb;
use crate::server::commands::config::RESERVED_FILES;
use crate::server::{AIKV_VERSION, REDIS_VERSION, Server};
use crate::sys::background::Background;
use crate::sys::clock::Clock;
use crate::sys::signals::Signals;
use crate::sys::{crash, file, log as logger, panic, process};
use crate::util::text::plain_error as plain;
use crate::value::Limits;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Why the server did not start: the line for the operator.
type Failure = String;

/// Runs the program; the status for the shell.
pub fn main() -> ExitCode {
    panic::install_panic_hook();
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            tell(&mut std::io::stderr(), &format!("Error: {failure}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to whoever reads; a reader who has gone (`aikv --help | head`) is no reason to fail.
fn tell(to: &mut dyn Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

fn say(text: &str) {
    tell(&mut std::io::stdout(), text);
}

fn run() -> Result<u8, Failure> {
    let line =
        CommandLine::parse(as_named(std::env::args_os()).into_iter()).map_err(|e| config_failure(&e))?;
    let cwd = std::env::current_dir().map_err(|e| format!("current directory: {e}"))?;
    match &line.action {
        Action::Run => serve(&line, &cwd),
        Action::Version => {
            say(&format!("{}\n", version_line()));
            Ok(0)
        }
        Action::Help(text) => {
            say(text);
            Ok(0)
        }
        Action::CheckConfig(path) => {
            let (_, warnings) = Config::check_file(path, &cwd).map_err(|e| config_failure(&e))?;
            warnings.iter().for_each(|warning| say(&format!("Warning: {warning}\n")));
            say(&format!("{}: configuration is valid\n", path.display()));
            Ok(0)
        }
        Action::CheckAof { path, fix, truncate_to } => {
            let mode = match (fix, truncate_to) {
                (_, Some(seconds)) => Mode::TruncateTo(*seconds),
                (true, None) => Mode::Fix,
                (false, None) => Mode::Look,
            };
            check_log(path, mode)
        }
        Action::CheckRdb(path) => check_snapshot(path),
    }
}

/// A link named `aikv-check-aof` (or `redis-check-aof`) stands for the switch.
fn as_named(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    let name = args.first().and_then(|program| Path::new(program).file_name());
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    for switch in ["check-aof", "check-rdb"] {
        if name.ends_with(switch) {
            args.insert(1, format!("--{switch}").into());
        }
    }
    args
}

/// `aikv --check-rdb`: status 0 when the snapshot is whole.
fn check_snapshot(path: &Path) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| format!("Cannot check {}: {}", path.display(), plain(&error));
    let file = std::fs::File::open(path).map_err(failed)?;
    let limits = Limits::from_config(&Config::default());
    let now_ms = Clock::real().wall_ms();
    let name = path.display().to_string();
    match rdb::check::check(file, &name, limits, now_ms, &mut std::io::stdout()).map_err(failed)? {
        rdb::check::Verdict::Valid => Ok(0),
        rdb::check::Verdict::Damaged => Ok(1),
    }
}

/// `aikv --check-aof`: status 0 when the log is whole.
fn check_log(path: &Path, mode: Mode) -> Result<u8, Failure> {
    let mut confirm = || {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
    };
    let mut check = Check { mode, out: &mut std::io::stdout(), confirm: &mut confirm };
    match check.run(path) {
        Ok(Verdict::Valid) => Ok(0),
        Ok(Verdict::NotValid) => Ok(1),
        Err(error) => Err(format!("Cannot check {}: {}", path.display(), plain(&error))),
    }
}

/// One line for people, and Redis' own words for harnesses that look for them.
fn config_failure(error: &ConfigError) -> Failure {
    tell(&mut std::io::stderr(), &error.redis_report());
    error.to_string()
}

/// `aikv --version`. Harnesses of client libraries read `v=X.Y.Z`.
pub fn version_line() -> String {
    let sha = env!("AIKV_GIT_SHA1");
    format!("AiKv server v={REDIS_VERSION} aikv={AIKV_VERSION} sha={sha}:0 malloc=jemalloc bits=64")
}

fn serve(line: &CommandLine, cwd: &Path) -> Result<u8, Failure> {
    let (config, warnings) = Config::load(line, cwd).map_err(|e| config_failure(&e))?;
    // The title needs the memory of the arguments, which have been read now.
    process::prepare_title();
    enter_data_dir(&config)?;
    // Before the terminal is left: who started us sees a log file that cannot be written.
    logger::init(config.log_options()).map_err(|e| format!("log file {}: {}", config.logfile, plain(&e)))?;
    if config.daemonize {
        process::daemonize().map_err(|e| format!("daemonize: {e}"))?;
    }
    announce(&config, &warnings);
    let on_console = config.log_options().console;
    let config_file = line.config.clone().map(|path| cwd.join(path)).or_else(|| usual_file(line, cwd));
    let ended = run_server(config, config_file);
    if let Err(failure) = &ended
        && !on_console
    {
        // Standard error may lead nowhere, and the log is where an operator looks.
        log::error!(target: "aikv", "{failure}");
    }
    ended
}

/// From the configuration to the end of the loop; the status for the shell.
fn run_server(mut config: Config, config_file: Option<PathBuf>) -> Result<u8, Failure> {
    if config.crash_log_enabled
        && let Err(error) = crash::install_crash_handler()
    {
        log::warn!(target: "aikv", "Installing the crash handler: {error}");
    }
    limit_clients(&mut config);
    tune_process(&config);
    let _lock = keep_data(&mut config)?;
    let signals = Signals::install().map_err(|e| format!("signals: {e}"))?;
    let background = Background::start().map_err(|e| format!("background threads: {e}"))?;
    let pidfile = config.pidfile.clone();
    let supervised = config.supervised;
    let mut server = Server::new(config, Clock::real(), process::os_random_u64(), background)?;
    server.tune_process();
    server.process.executable = process::executable();
    server.process.called_as = process::called_as();
    server.process.config_file = config_file.map(|p| p.display().to_string()).unwrap_or_default();
    let mut reactor = Reactor::new(server, signals).map_err(|e| e.to_string())?;
    let pidfile = write_pidfile(&pidfile, reactor.server_mut().config.daemonize);
    log::info!(target: "aikv", "Server initialized");
    for address in reactor.addresses() {
        log::info!(target: "aikv", "Starting AiKv server on {address}");
    }
    let transports = reactor.transports();
    reactor.server_mut().start_with_data(move || {
        log::info!(target: "aikv", "Ready to accept connections {transports}");
        notify(supervised, sd_notify::NotifyState::Ready);
    });
    let ended = reactor.run();
    notify(supervised, sd_notify::NotifyState::Stopping);
    if let Some(path) = pidfile
        && let Err(error) = process::remove_pidfile(&path)
    {
        log::warn!(target: "aikv", "Removing {}: {error}", path.display());
    }
    ended.map(|status| status as u8)
}

/// The configuration file that is read when none is named.
fn usual_file(line: &CommandLine, cwd: &Path) -> Option<PathBuf> {
    let usual = cwd.join("config.toml");
    (!line.stdin && usual.is_file()).then_some(usual)
}

/// The server works in its data directory, which is made if its parent exists.
fn enter_data_dir(config: &Config) -> Result<(), Failure> {
    let dir = &config.dir;
    let failed = |e: std::io::Error| format!("data_dir {}: {}", dir.display(), plain(&e));
    if !dir.exists() {
        std::fs::create_dir(dir).map_err(failed)?;
    }
    process::chdir(dir).map_err(failed)
}

/// Engine `aidb`: the log is on, and the data directory is this server's alone as long as the lock is held.
/// With engine `memory`, a log is not kept where a server with engine `aidb` keeps its own.
fn keep_data(config: &mut Config) -> Result<Option<File>, Failure> {
    match config.storage_engine {
        Engine::Aidb => config.appendonly = true,
        Engine::Memory if config.appendonly && Path::new(LOCK_FILE).exists() => {}
        Engine::Memory => return Ok(None),
    }
    let dir = &config.dir;
    let failed = |e: std::io::Error| format!("data_dir {}: {LOCK_FILE}: {}", dir.display(), plain(&e));
    for attempt in 0.. {
        if let Some(lock) = file::try_lock(Path::new(LOCK_FILE)).map_err(failed)? {
            return Ok(Some(lock));
        }
        if attempt == LOCK_ATTEMPTS {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(format!("data_dir {} is in use by another server (its file {LOCK_FILE} is locked)", dir.display()))
}

/// Locked by the server that uses a data directory.
const LOCK_FILE: &str = "aikv.lock";
/// A server that was killed may leave a child behind that holds the lock for a moment.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

fn announce(config: &Config, warnings: &[Warning]) {
    log::info!(
        target: "aikv",
        "AiKv is starting: version={AIKV_VERSION}, answers as Redis {REDIS_VERSION}, bits=64, PID: {}",
        process::pid()
    );
    log::info!(target: "aikv", "Running mode=standalone, port={}.", config.port);
    for warning in warnings {
        log::warn!(target: "aikv", "{warning}");
    }
}

/// Raises the limit of open files to what `maxclients` needs, or lowers `maxclients`.
fn limit_clients(config: &mut Config) {
    let wanted = u64::from(config.maxclients) + RESERVED_FILES;
    let limit = process::raise_open_files(wanted);
    if limit < wanted {
        let possible = limit.saturating_sub(RESERVED_FILES).max(1) as u32;
        log::warn!(
            target: "aikv",
            "maxclients is {} but the limit of open files allows {possible}: lowered. Raise it with \
             'ulimit -n {wanted}' or LimitNOFILE in the unit file.",
            config.maxclients
        );
        config.maxclients = possible;
    }
}

/// What may fail without harm is only warned about.
fn tune_process(config: &Config) {
    let warn = |what: &str, result: std::io::Result<()>| {
        if let Err(error) = result {
            log::warn!(target: "aikv", "{what}: {error}");
        }
    };
    if config.disable_thp {
        warn("disable-thp", process::disable_thp());
    }
    if !config.server_cpulist.is_empty() {
        warn("server-cpulist", process::set_cpu_list(&config.server_cpulist));
    }
}

/// Writes the pid file if one is wanted; a failure is no reason not to serve.
fn write_pidfile(configured: &str, daemonized: bool) -> Option<PathBuf> {
    let path = match configured {
        "" if daemonized => PathBuf::from("/var/run/aikv.pid"),
        "" => return None,
        path => PathBuf::from(path),
    };
    match process::write_pidfile(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            log::warn!(target: "aikv", "Writing the pid file {}: {error}", path.display());
            None
        }
    }
}

/// Tells systemd, if it is there and wanted.
fn notify(supervised: Supervised, state: sd_notify::NotifyState<'_>) {
    if matches!(supervised, Supervised::Upstart) {
        return;
    }
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!(target: "aikv", "Notifying systemd: {error}");
    }
}

impl Config {
    /// Where log lines go.
    pub fn log_options(&self) -> logger::LogOptions {
        let to_file = !self.logfile.is_empty();
        logger::LogOptions {
            level: self.loglevel.filter(),
            console: match self.log_console {
                YesNoAuto::Yes => true,
                YesNoAuto::No => false,
                YesNoAuto::Auto => !to_file && !self.daemonize,
            },
            file: to_file.then(|| PathBuf::from(&self.logfile)),
            rotate_bytes: self.log_rotate_size,
            rotate_count: self.log_rotate_count,
            json: self.log_json,
        }
    }
}
