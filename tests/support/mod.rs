//! A server as a process of its own, and a connection to it: what tests of whole servers share.
#![allow(dead_code)] // each test uses its part

pub mod port;

use port::free_port;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes that long, on a busy machine either.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. It is killed when dropped.
pub struct Running {
    /// The process.
    pub child: Child,
    /// Its port.
    pub port: u16,
}

impl Running {
    /// Starts AiKv in a folder and waits until it has loaded its data.
    pub fn aikv(dir: &Path, args: &[&str]) -> Running {
        let mut all = vec!["--bind", "127.0.0.1", "--dir", dir.to_str().expect("a plain path")];
        all.extend_from_slice(args);
        Running::start(env!("CARGO_BIN_EXE_aikv"), dir, &all)
    }

    /// Starts a Redis server in the same way.
    pub fn redis(dir: &Path, args: &[&str]) -> Running {
        let mut all = vec!["--dir", dir.to_str().expect("a plain path"), "--daemonize", "no"];
        all.extend_from_slice(args);
        Running::start("redis-server", dir, &all)
    }

    fn start(program: &str, dir: &Path, args: &[&str]) -> Running {
        let port = free_port();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log"));
        let log = log.expect("a log file");
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string()]).args(args).current_dir(dir);
        command.stdout(log.try_clone().expect("a copy")).stderr(log).stdin(Stdio::null());
        let child = command.spawn().expect("the program starts");
        let mut running = Running { child, port };
        let begin = Instant::now();
        while !running.answers() {
            let ended = running.child.try_wait().expect("it is our child");
            let log = || std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
            assert!(ended.is_none(), "the server ended: {ended:?}\n{}", log());
            assert!(begin.elapsed() < PATIENCE, "the server is not ready\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        Client::of(stream).try_call(&[b"PING"]).is_some_and(|reply| reply == Reply::Text("PONG".into()))
    }

    /// A connection.
    pub fn connect(&self) -> Client {
        Client::of(TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens"))
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is our child");
    }

    /// Ends it in order.
    pub fn shut_down(&mut self, how: &[u8]) {
        let _closed_without_reply = self.connect().try_call(&[b"SHUTDOWN", how]);
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A simple or bulk string.
    Text(String),
    /// An error.
    Error(String),
    /// A number.
    Int(i64),
    /// Nothing.
    Nil,
    /// Several.
    Array(Vec<Reply>),
}

/// A connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_nodelay(true).expect("a socket option");
        Client { reader: BufReader::new(stream) }
    }

    /// Sends a request.
    pub fn send(&mut self, args: &[&[u8]]) -> Option<()> {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&out).ok()
    }

    /// Reads a reply; nothing when the connection has ended.
    pub fn read(&mut self) -> Option<Reply> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).ok()? == 0 || !line.ends_with('\n') {
            return None;
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().ok();
        Some(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()?),
            "$" if number()? < 0 => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; number()? as usize + 2];
                self.reader.read_exact(&mut bytes).ok()?;
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" if number()? < 0 => Reply::Nil,
            "*" => Reply::Array((0..number()?).map(|_| self.read()).collect::<Option<_>>()?),
            _ => panic!("a reply begins with {kind}"),
        })
    }

    /// Sends a request and reads its reply; nothing when the connection ended before it.
    pub fn try_call(&mut self, args: &[&[u8]]) -> Option<Reply> {
        self.send(args)?;
        self.read()
    }

    /// The same where the server has to answer.
    pub fn call(&mut self, args: &[&[u8]]) -> Reply {
        self.try_call(args).expect("the server answers")
    }

    /// Words of a line.
    pub fn line(&mut self, line: &str) -> Reply {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        self.call(&words)
    }

    /// A field of INFO.
    pub fn info(&mut self, field: &str) -> String {
        let Reply::Text(text) = self.line("INFO everything") else { panic!("INFO is a text") };
        let prefix = format!("{field}:");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        found.unwrap_or_default().to_owned()
    }
}
