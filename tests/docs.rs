//! The generated files are fresh. With AIKV_UPDATE_DOCS=1 the tests write them anew instead of failing.

use aikv::command::docs::commands_markdown;
use aikv::config::{CommandLine, Config, Engine, docs};
use aikv::server::table::Table;
use std::ffi::OsString;
use std::path::Path;

/// Fails if the file `path` of the repository is not `wanted`, or makes it so if asked to.
fn keep_fresh(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::fs::read_to_string(&path).is_ok_and(|present| present == wanted) {
        return;
    }
    assert!(
        std::env::var_os("AIKV_UPDATE_DOCS").is_some(),
        "{} is stale: run AIKV_UPDATE_DOCS=1 cargo test --test docs",
        path.display()
    );
    std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("docs can be made");
    std::fs::write(&path, wanted).expect("docs can be written");
}

#[test]
fn config_toml() {
    keep_fresh("config.toml", &docs::config_toml());
}

#[test]
fn config_markdown() {
    keep_fresh("docs/config.md", &docs::config_markdown());
}

#[test]
fn commands_markdown_is_fresh() {
    let table = Table::new(&[]).expect("nothing is renamed");
    keep_fresh("docs/commands.md", &commands_markdown(table.rows().iter().map(|command| command.spec)));
}

/// `text` as a configuration file, with its warnings.
fn load(text: &str) -> (Config, usize) {
    let directory = tempfile::TempDir::new().expect("a directory");
    std::fs::write(directory.path().join("config.toml"), text).expect("a file");
    let line = CommandLine::parse(std::iter::once(OsString::from("aikv"))).expect("no arguments are fine");
    let (mut config, warnings) = Config::load(&line, directory.path()).expect("the shipped file is valid");
    config.config_file = None;
    config.dir = config.dir.strip_prefix(&config.start_dir).expect("it started there").to_owned();
    config.start_dir = Default::default();
    (config, warnings.len())
}

#[test]
fn the_shipped_file_is_valid_and_shows_the_defaults() {
    let text = docs::config_toml();
    let (mut nothing, _) = load("");
    // What differs: the shipped server listens to its own machine only, and keeps its data.
    nothing.bind = vec!["127.0.0.1".to_owned(), "-::1".to_owned()];
    nothing.storage_engine = Engine::Aidb;
    assert!(load(&text) == (nothing.clone(), 0), "the shipped file shows the defaults");
    // Taking every # away changes nothing: what stands behind them are the defaults.
    let is_option = |line: &str| line.starts_with("# ") && line.contains(" = ") && !line.contains(". ");
    let all: String = text
        .lines()
        .map(|line| if is_option(line) { format!("{}\n", &line[2..]) } else { format!("{line}\n") })
        .collect();
    assert!(all.lines().filter(|line| line.contains(" = ")).count() > 170);
    assert_eq!(load(&all), (nothing, 0));
}
