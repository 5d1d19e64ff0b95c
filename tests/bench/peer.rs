//! A server under measurement: started on a free port of the loopback, pinned to the first core, ended by
//! its own process number.

use crate::port::free_port;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The one of this tree.
    Aikv,
    /// Debian's redis-server.
    Redis,
    /// valkey-server.
    Valkey,
}

impl Kind {
    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Aikv => "AiKv",
            Kind::Redis => "Redis",
            Kind::Valkey => "Valkey",
        }
    }

    fn program(&self) -> &'static str {
        match self {
            Kind::Aikv => env!("CARGO_BIN_EXE_aikv"),
            Kind::Redis => "redis-server",
            Kind::Valkey => "valkey-server",
        }
    }

    /// Whether it can be run.
    pub fn is_installed(&self) -> bool {
        Command::new(self.program()).arg("--version").stdout(Stdio::null()).status().is_ok()
    }
}

/// A running server and the directory it works in.
pub struct Peer {
    child: Child,
    /// Its port.
    pub port: u16,
    kind: Kind,
    dir: tempfile::TempDir,
}

impl Peer {
    /// Starts a server without persistence; `extra` are options as `--name`, `value`.
    pub fn start(kind: Kind, extra: &[&str]) -> Peer {
        Peer::start_in(tempfile::tempdir().expect("a temporary directory"), kind, extra)
    }

    /// Starts it again with the files it left.
    pub fn restart(mut self, extra: &[&str]) -> Peer {
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary directory"));
        let kind = self.kind;
        drop(self);
        Peer::start_in(dir, kind, extra)
    }

    fn start_in(dir: tempfile::TempDir, kind: Kind, extra: &[&str]) -> Peer {
        let port = free_port();
        let mut command = Command::new(kind.program());
        command.current_dir(dir.path()).args(["--port", &port.to_string(), "--save", ""]).args(extra);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child inherits the cores of its parent: this process moves over for the moment.
        pin(SERVER_CORE);
        let child = command.spawn().expect("the server starts");
        pin(CLIENT_CORE);
        let peer = Peer { child, port, kind, dir };
        peer.wait_until_ready();
        peer
    }

    fn wait_until_ready(&self) {
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "the server answers");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Nanoseconds of CPU that its threads have used.
    pub fn cpu_ns(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let of = |path: std::path::PathBuf| -> u64 {
            let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        tasks.flatten().map(|task| of(task.path())).sum()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It was started here and holds nothing that must be kept.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";

fn pin(core: &str) {
    if let Err(error) = aikv::sys::process::set_cpu_list(core) {
        eprintln!("not pinned to core {core}: {error}");
    }
}

/// Pins the client to the second core, away from the server.
pub fn pin_client() {
    pin(CLIENT_CORE);
}
