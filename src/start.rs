//! From the command line to the running loop.

use crate::config::Config;
use crate::net::Reactor;
use crate::server::Server;
use crate::sys::background::Background;
use crate::sys::clock::Clock;
use crate::sys::signals::Signals;
use crate::sys::{log as logger, process};

/// Runs the program; the status for the shell.
pub fn main() -> std::process::ExitCode {
    let mut config = Config::default();
    for pair in std::env::args().skip(1).collect::<Vec<_>>().chunks(2) {
        let name = pair[0].trim_start_matches("--").to_string();
        config.set(&[(name.as_bytes(), pair[1].as_bytes())]).expect("option");
    }
    logger::init(logger::LogOptions::default()).expect("log");
    let signals = Signals::install().expect("signals");
    let background = Background::start().expect("thread");
    let server = Server::new(config, Clock::real(), process::os_random_u64(), background).expect("server");
    let reactor = Reactor::new(server, signals).expect("listen");
    log::info!(target: "aikv", "Ready to accept connections tcp");
    std::process::ExitCode::from(reactor.run() as u8)
}
