//! The real program: how it starts, answers over real sockets, and ends. Each test has a server of its own in
//! a directory of its own; it is ended by its process id.

#[path = "support/port.rs"]
mod port;

use port::free_port;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes that long, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
struct Server {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Server {
    /// Starts a server on a free port and waits until it is ready.
    fn start(args: &[&str]) -> Server {
        let dir = TempDir::new().expect("a directory");
        Server::start_in(dir, free_port(), args)
    }

    fn start_in(dir: TempDir, port: u16, args: &[&str]) -> Server {
        let mut command = command(&dir, port, args);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the program starts");
        let mut log = BufReader::new(child.stdout.take().expect("piped"));
        let mut text = String::new();
        while !text.contains("Ready to accept connections") {
            let read = log.read_line(&mut text).expect("text");
            assert!(read > 0, "the server ended before it was ready: {args:?}\n{text}");
        }
        // What else it writes is taken, so that it never waits for us.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server { child, port, dir }
    }

    fn connect(&self) -> Client<TcpStream> {
        Client::to(SocketAddr::new([127, 0, 0, 1].into(), self.port))
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for the end; the exit status.
    fn wait(&mut self) -> Option<i32> {
        eventually("the server ends", || self.child.try_wait().expect("it is our child").is_some());
        self.child.wait().expect("it is our child").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

fn command(dir: &TempDir, port: u16, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aikv"));
    command.current_dir(dir.path()).args(["--port", &port.to_string()]).args(args);
    if !args.contains(&"--bind") {
        command.args(["--bind", "127.0.0.1"]);
    }
    command
}

/// Runs the program with these arguments to its end.
fn run(args: &[&str]) -> Output {
    let dir = TempDir::new().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_aikv"));
    command.current_dir(dir.path()).args(args).output().expect("the program runs")
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within {PATIENCE:?}");
}

/// A connection.
struct Client<S> {
    stream: S,
}

impl Client<TcpStream> {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        Client { stream }
    }
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends bytes and expects exactly this answer.
    fn ask(&mut self, bytes: &[u8], answer: &str) {
        self.send(bytes);
        self.expect(answer);
    }

    fn expect(&mut self, answer: &str) {
        let mut got = vec![0; answer.len()];
        self.stream.read_exact(&mut got).expect("the server answers");
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }

    /// The answer as a line.
    fn line(&mut self, bytes: &[u8]) -> String {
        self.send(bytes);
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).expect("the server answers");
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim_end().to_string()
    }

    /// A string answer.
    fn bulk(&mut self, bytes: &[u8]) -> String {
        let head = self.line(bytes);
        let len: usize = head.strip_prefix('$').and_then(|len| len.parse().ok()).expect("a string");
        let mut body = vec![0; len + 2];
        self.stream.read_exact(&mut body).expect("the server answers");
        String::from_utf8_lossy(&body[..len]).into_owned()
    }

    /// Everything up to the end of the connection.
    fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // The end may come as a reset.
        let _end = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

fn field(text: &str, name: &str) -> String {
    let found =
        text.split([' ', '\r', '\n']).find_map(|part| part.strip_prefix(name)?.strip_prefix(['=', ':']));
    found.unwrap_or_else(|| panic!("{name} in {text}")).to_string()
}

// ---- starting and ending ----

#[test]
fn signals_end_it_in_order() {
    for (signal, word) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
        let mut server = Server::start(&["--logfile", "log", "--log-console", "yes", "--pidfile", "pid"]);
        server.connect().ask(b"PING\r\n", "+PONG\r\n");
        let pid = std::fs::read_to_string(server.dir.path().join("pid")).expect("a pid file");
        assert_eq!(pid.trim(), server.child.id().to_string());
        server.signal(signal);
        assert_eq!(server.wait(), Some(0));
        let log = std::fs::read_to_string(server.dir.path().join("log")).expect("a log");
        assert!(log.contains(&format!("Received {word} scheduling shutdown")), "{log}");
        assert!(!server.dir.path().join("pid").exists());
    }
}

#[test]
fn shutdown_ends_it_and_the_connections() {
    let mut server = Server::start(&[]);
    let (mut one, mut other) = (server.connect(), server.connect());
    other.ask(b"PING\r\n", "+PONG\r\n");
    one.send(b"SHUTDOWN NOSAVE\r\n");
    assert_eq!((one.rest(), other.rest()), (String::new(), String::new()));
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_killed_server_can_be_started_again_at_once() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.ask(b"SET k v\r\n", "+OK\r\n");
    server.signal("-KILL");
    assert_eq!(server.wait(), None);
    let port = server.port;
    let again = Server::start_in(TempDir::new().expect("a directory"), port, &[]);
    again.connect().ask(b"GET k\r\n", "$-1\r\n");
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start(&[]);
    let output = run(&["--port", &server.port.to_string(), "--bind", "127.0.0.1"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains(&format!("127.0.0.1:{}: Address already in use", server.port)), "{errors}");
}

#[test]
fn a_failed_start_is_noted_in_the_log_file() {
    let server = Server::start(&[]);
    let dir = TempDir::new().expect("a directory");
    for args in [&["--logfile", "a.log"][..], &["--logfile", "b.log", "--daemonize", "yes"]] {
        let started = command(&dir, server.port, args).output().expect("the program runs");
        assert_eq!(started.status.success(), args.contains(&"--daemonize"));
        let log = dir.path().join(args[1]);
        eventually("the reason is in the log", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("Address already in use"))
        });
    }
    // A log that cannot be written is told before the terminal is left.
    let started = command(&dir, server.port, &["--logfile", "no/such", "--daemonize", "yes"]).output();
    assert_eq!(started.expect("the program runs").status.code(), Some(1));
}

#[test]
fn a_reader_who_goes_away_is_no_failure() {
    for (args, status) in [(&["--help"][..], 0), (&["--version"], 0), (&["--port", "x"], 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aikv"));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        command.stdout(writer.try_clone().expect("a descriptor")).stderr(writer);
        assert_eq!(command.args(args).status().expect("the program runs").code(), Some(status), "{args:?}");
    }
}

#[test]
fn faults_of_the_configuration_are_named() {
    let dir = TempDir::new().expect("a directory");
    let file = |text: &str| {
        let path = dir.path().join("faulty.toml");
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let cases: [(Vec<String>, &str); 5] = [
        (vec!["--data-dir".into(), "/nonexistent/aikv".into()], "data_dir"),
        (vec!["--port".into(), "x".into()], "port"),
        (vec!["--config".into(), file("[server]\nprot = 1\n")], "prot"),
        (vec!["--config".into(), "missing.toml".into()], "missing.toml"),
        (
            vec!["--host".into(), "not-an-address.invalid".into(), "--port".into(), "1".into()],
            "not-an-address",
        ),
    ];
    for (args, word) in cases {
        let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
        assert!(errors.contains("Error: ") && errors.contains(word), "{args:?}: {errors}");
    }
}

#[test]
fn version_and_check_of_a_configuration() {
    for flag in ["--version", "-v"] {
        let output = run(&[flag]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.starts_with("AiKv server v=7.4.1 aikv="), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    let good = run(&["--check-config", shipped]);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "[server]\nport = \"many\"\n").expect("a file");
    let bad = run(&["--check-config", &path.display().to_string()]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("port"));
}

#[test]
fn a_moved_log_is_opened_again() {
    let server = Server::start(&["--logfile", "log", "--log-console", "yes", "--loglevel", "debug"]);
    let (log, moved) = (server.dir.path().join("log"), server.dir.path().join("log.1"));
    std::fs::rename(&log, &moved).expect("there is a log");
    server.signal("-HUP");
    eventually("a new log", || {
        server.connect().ask(b"PING\r\n", "+PONG\r\n");
        log.exists() && std::fs::read_to_string(&log).is_ok_and(|text| text.contains("connection"))
    });
    assert!(std::fs::read_to_string(&moved).expect("the old log").contains("Ready to accept connections"));
}

// ---- listening ----

#[test]
fn a_unix_socket_serves_and_goes() {
    let mut server = Server::start(&["--unixsocket", "socket", "--unixsocketperm", "700"]);
    let path = server.dir.path().join("socket");
    let mut client = Client { stream: UnixStream::connect(&path).expect("it listens") };
    client.ask(b"PING\r\n", "+PONG\r\n");
    let info = client.bulk(b"CLIENT INFO\r\n");
    assert!(field(&info, "flags").contains('U') && field(&info, "addr").ends_with("socket:0"), "{info}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
    drop(client);
    server.connect().ask(b"PING\r\n", "+PONG\r\n");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(!path.exists());
}

#[test]
fn several_addresses_are_listened_on() {
    let server = Server::start(&["--bind", "127.0.0.1 127.0.0.2 -::1"]);
    for address in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])] {
        Client::to(SocketAddr::new(address, server.port)).ask(b"PING\r\n", "+PONG\r\n");
    }
}

#[test]
fn the_port_can_be_changed() {
    let server = Server::start(&[]);
    let (free, taken) = (free_port(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let taken = taken.local_addr().map(|address| (taken, address.port())).expect("it is bound");
    let mut client = server.connect();
    client.ask(format!("CONFIG SET port {free}\r\n").as_bytes(), "+OK\r\n");
    let at = |port: u16| SocketAddr::new([127, 0, 0, 1].into(), port);
    Client::to(at(free)).ask(b"PING\r\n", "+PONG\r\n");
    assert!(TcpStream::connect(at(server.port)).is_err());
    let refused = client.line(format!("CONFIG SET port {}\r\n", taken.1).as_bytes());
    assert!(refused.contains("Unable to listen on this port"), "{refused}");
    assert!(client.line(b"CONFIG SET bind 999.999.999.999\r\n").contains("Failed to bind"));
    Client::to(at(free)).ask(b"PING\r\n", "+PONG\r\n");
}

/// An address of this machine that is not its loopback, if it has one.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only chooses where it would be sent from.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn protected_mode_keeps_others_out() {
    let Some(outer) = outer_address() else { return };
    let server = Server::start(&["--bind", "*"]);
    let at = SocketAddr::new(outer, server.port);
    let refusal = Client::to(at).rest();
    assert!(refusal.starts_with("-DENIED ") && refusal.ends_with("\r\n"), "{refusal}");
    server.connect().ask(b"CONFIG SET protected-mode no\r\n", "+OK\r\n");
    Client::to(at).ask(b"PING\r\n", "+PONG\r\n");
    server.connect().ask(b"CONFIG SET protected-mode yes requirepass secret\r\n", "+OK\r\n");
    assert!(Client::to(at).line(b"PING\r\n").starts_with("-NOAUTH "));
}

// ---- limits ----

#[test]
fn a_password_is_asked_for() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.connect();
    assert!(client.line(b"GET k\r\n").starts_with("-NOAUTH "));
    assert!(client.line(b"AUTH wrong\r\n").starts_with("-WRONGPASS "));
    client.ask(b"AUTH secret\r\n", "+OK\r\n");
    client.ask(b"GET k\r\n", "$-1\r\n");
    // What is sent together with AUTH is not held to the limits of those who have not authenticated.
    let many = format!("ECHO {}\r\n", "x".repeat(20_000));
    let mut frames = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*2\r\n$4\r\nECHO\r\n$20000\r\n".to_vec();
    frames.extend_from_slice(&many.as_bytes()[5..]);
    frames.extend_from_slice(b"PING\r\n");
    let mut other = server.connect();
    other.send(&frames);
    other.expect(&format!("+OK\r\n$20000\r\n{}\r\n+PONG\r\n", "x".repeat(20_000)));
    // Without AUTH they are.
    let mut third = server.connect();
    third.send(b"*100\r\n");
    assert_eq!(third.rest(), "-ERR Protocol error: unauthenticated multibulk length\r\n");
}

#[test]
fn too_many_clients_are_told_so() {
    let server = Server::start(&["--maxclients", "2"]);
    let (mut one, mut two) = (server.connect(), server.connect());
    one.ask(b"PING\r\n", "+PONG\r\n");
    two.ask(b"PING\r\n", "+PONG\r\n");
    assert_eq!(server.connect().rest(), "-ERR max number of clients reached\r\n");
    drop(two);
    eventually("room again", || {
        let mut client = server.connect();
        let _may_be_closed = client.stream.write_all(b"PING\r\n");
        let mut answer = [0; 5];
        client.stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG"
    });
}

#[test]
fn idle_clients_are_closed() {
    let server = Server::start(&["--timeout", "1"]);
    let mut idle = server.connect();
    idle.ask(b"PING\r\n", "+PONG\r\n");
    assert_eq!(idle.rest(), "");
    server.connect().ask(b"PING\r\n", "+PONG\r\n");
}

#[test]
fn who_does_not_read_is_closed_at_the_limit() {
    let server = Server::start(&["--client-output-buffer-limit", "normal 3mb 0 0"]);
    let mut client = server.connect();
    let value = "v".repeat(1 << 20);
    client.ask(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", 1 << 20).as_bytes(), "+OK\r\n");
    let mut deaf = server.connect();
    let _closed_in_between = deaf.stream.write_all(&b"GET k\r\n".repeat(64));
    eventually("the client is closed", || {
        let info = client.bulk(b"INFO clients\r\n");
        field(&info, "connected_clients") == "1"
    });
}

#[test]
fn endless_answers_are_cut_off() {
    let server = Server::start(&["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut admin = server.connect();
    admin.ask(b"HSET h f v\r\nSADD s a\r\nZADD z 1 a\r\n", ":1\r\n:1\r\n:1\r\n");
    for request in [
        "HRANDFIELD h -999999999",
        "HRANDFIELD h -999999999 WITHVALUES",
        "SRANDMEMBER s -999999999",
        "ZRANDMEMBER z -999999999 WITHSCORES",
        "MULTI\r\nSRANDMEMBER s -999999999\r\nHRANDFIELD h -999999999\r\nEXEC",
    ] {
        let mut greedy = server.connect();
        let begin = std::time::Instant::now();
        greedy.send(format!("{request}\r\n").as_bytes());
        let answer = greedy.rest();
        assert!(answer.len() < 100, "{request}: {}", answer.len());
        assert!(begin.elapsed() < Duration::from_secs(10), "{request}");
    }
    let peak = field(&admin.bulk(b"INFO memory\r\n"), "used_memory_peak");
    assert!(peak.parse::<u64>().is_ok_and(|bytes| bytes < 64 << 20), "{peak}");
}

#[test]
fn transactions_and_pipelines_stop_at_the_output_limit() {
    let server = Server::start(&["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut admin = server.connect();
    let value = "v".repeat(100_000);
    admin.ask(format!("*3\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n$100000\r\n{value}\r\n").as_bytes(), ":1\r\n");
    let before: u64 = field(&admin.bulk(b"INFO memory\r\n"), "used_memory_peak").parse().unwrap();
    let many = "LRANGE l 0 -1\r\n".repeat(1000);
    for request in [format!("MULTI\r\n{many}INCR n\r\nEXEC\r\n"), many] {
        let mut greedy = server.connect();
        greedy.send(request.as_bytes());
        eventually("the client is closed", || {
            field(&admin.bulk(b"INFO clients\r\n"), "connected_clients") == "1"
        });
    }
    admin.ask(b"GET n\r\n", "$1\r\n1\r\n");
    let peak: u64 = field(&admin.bulk(b"INFO memory\r\n"), "used_memory_peak").parse().unwrap();
    assert!(peak < before + (8 << 20), "{before} {peak}");
}

#[test]
fn a_client_sees_its_own_writes_to_watched_keys_within_a_pipeline() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.ask(b"WATCH h\r\nSET h 2\r\nMULTI\r\nEXEC\r\n", "+OK\r\n+OK\r\n+OK\r\n*-1\r\n");
    client.ask(b"WATCH w\r\nSET w 7\r\nUNWATCH\r\nWATCH w\r\n", &"+OK\r\n".repeat(4));
    client.ask(b"MULTI\r\nEXEC\r\n", "+OK\r\n*0\r\n");
}

#[test]
fn endless_requests_are_cut_off() {
    let server = Server::start(&["--client-query-buffer-limit", "1mb"]);
    let mut client = server.connect();
    let request = [&b"*1\r\n$20000000\r\n"[..], &vec![b'x'; 4 << 20]].concat();
    let _closed_in_between = client.stream.write_all(&request);
    assert_eq!(client.rest(), "");
    server.connect().ask(b"PING\r\n", "+PONG\r\n");
}

// ---- conduct ----

#[test]
fn long_pipelines_are_answered_whole() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for requests in [63, 64, 65, 100, 1_000, 100_000] {
        let mut writer = client.stream.try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || writer.write_all(&b"PING\r\n".repeat(requests)));
        client.expect(&"+PONG\r\n".repeat(requests));
        sender.join().expect("it ends").expect("the server reads");
    }
    let set = |len: usize| format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n{}\r\n", "v".repeat(len));
    let mixed =
        [set(40_000), "PING\r\n".repeat(3), set(100_000), "GET k\r\n".into(), "PING\r\n".into()].concat();
    let value = "v".repeat(100_000);
    client.ask(
        mixed.as_bytes(),
        &format!("+OK\r\n+PONG\r\n+PONG\r\n+PONG\r\n+OK\r\n$100000\r\n{value}\r\n+PONG\r\n"),
    );
}

#[test]
fn a_slow_reader_gets_everything_and_holds_up_nobody() {
    let server = Server::start(&[]);
    let mut slow = server.connect();
    let value = "v".repeat(1 << 20);
    slow.ask(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", 1 << 20).as_bytes(), "+OK\r\n");
    slow.ask(
        format!("*3\r\n$3\r\nSET\r\n$1\r\ns\r\n$10000\r\n{}\r\n", &value[..10_000]).as_bytes(),
        "+OK\r\n",
    );
    slow.send(&[b"GET k\r\n".repeat(40), b"GET s\r\n".repeat(500), b"PING\r\n".to_vec()].concat());
    let mut other = server.connect();
    for _ in 0..100 {
        other.ask(b"PING\r\n", "+PONG\r\n");
    }
    for _ in 0..40 {
        slow.expect(&format!("$1048576\r\n{value}\r\n"));
    }
    for _ in 0..500 {
        slow.expect(&format!("$10000\r\n{}\r\n", &value[..10_000]));
    }
    slow.expect("+PONG\r\n");
}

#[test]
fn info_counts_the_time_above_maxmemory() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.ask(b"CONFIG SET maxmemory 1\r\n", "+OK\r\n");
    for _ in 0..20 {
        // The count starts anew with the admission of INFO itself.
        client.ask(b"CONFIG RESETSTAT\r\nINFO stats\r\n", "+OK\r\n");
        let ms = field(&client.bulk(b""), "current_eviction_exceeded_time");
        assert!(ms.parse::<u64>().is_ok_and(|ms| ms < 20_000), "{ms}");
    }
}

#[test]
fn a_half_closed_connection_gets_its_replies() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(&b"PING\r\n".repeat(500));
    client.stream.shutdown(std::net::Shutdown::Write).expect("half a connection");
    assert_eq!(client.rest(), "+PONG\r\n".repeat(500));
}

#[test]
fn a_client_that_goes_while_it_waits_is_noticed() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.ask(b"CLIENT PAUSE 1000000 WRITE\r\n", "+OK\r\n");
    for last in [&b"SET k v\r\n"[..], b"SET k v\r\nPING\r\nPING\r\nPI"] {
        let mut waiting = server.connect();
        waiting.send(last);
        eventually("it waits", || field(&client.bulk(b"INFO clients\r\n"), "blocked_clients") == "1");
        drop(waiting);
        eventually("it is gone", || field(&client.bulk(b"INFO clients\r\n"), "connected_clients") == "1");
        assert_eq!(field(&client.bulk(b"INFO clients\r\n"), "blocked_clients"), "0");
    }
    client.ask(b"CLIENT UNPAUSE\r\nGET k\r\n", "+OK\r\n$-1\r\n");
}

#[test]
fn quit_and_protocol_errors_close_behind_their_replies() {
    let server = Server::start(&[]);
    for (sent, answer) in [
        (&b"PING\r\nQUIT\r\nPING\r\n"[..], "+PONG\r\n+OK\r\n"),
        (b"PING\r\n*1\r\n$-1\r\nPING\r\n", "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"),
        (b"CLIENT REPLY OFF\r\nQUIT\r\n", ""),
        (b"POST / HTTP/1.1\r\nHost: x\r\n", ""),
    ] {
        let mut client = server.connect();
        client.send(sent);
        assert_eq!(client.rest(), answer);
    }
    let mut client = server.connect();
    assert_eq!(field(&client.bulk(b"INFO clients\r\n"), "connected_clients"), "1");
}

#[test]
fn two_thousand_connections() {
    let files = aikv::sys::process::raise_open_files(2_200);
    let count = 2_000.min(files.saturating_sub(200)) as usize;
    let server = Server::start(&["--maxclients", "2100"]);
    let mut clients: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(b"PING\r\nPING\r\n");
    }
    clients.iter_mut().for_each(|client| client.expect("+PONG\r\n+PONG\r\n"));
    let mut one = server.connect();
    assert_eq!(field(&one.bulk(b"INFO clients\r\n"), "connected_clients"), (count + 1).to_string());
    drop(clients);
    eventually("all are gone", || field(&one.bulk(b"INFO clients\r\n"), "connected_clients") == "1");
}

#[test]
fn ten_thousand_subscribers_get_a_message() {
    const WANTED: u64 = 10_000;
    // Descriptors of the other tests of this process, too.
    let files = aikv::sys::process::raise_open_files(WANTED + 4_000);
    let count = WANTED.min(files.saturating_sub(4_000)).max(100);
    if count < WANTED {
        println!("only {count} subscribers: the limit on open files is {files}");
    }
    let server = Server::start(&["--maxclients", "10100"]);
    let mut subscribers: Vec<_> = (0..count).map(|_| server.connect()).collect();
    subscribers.iter_mut().for_each(|client| client.send(b"SUBSCRIBE news\r\n"));
    for client in &mut subscribers {
        client.expect("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    }
    let mut publisher = server.connect();
    for text in ["short".to_owned(), "m".repeat(20_000)] {
        publisher.ask(
            format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n{text}\r\n", text.len()).as_bytes(),
            &format!(":{count}\r\n"),
        );
        let message = format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n${}\r\n{text}\r\n", text.len());
        subscribers.iter_mut().for_each(|client| client.expect(&message));
    }
}

// ---- clients that go while something of theirs goes on ----

/// Waits until so many clients are blocked.
fn until_blocked(admin: &mut Client<TcpStream>, count: &str) {
    eventually("clients wait", || field(&admin.bulk(b"INFO clients\r\n"), "blocked_clients") == count);
}

#[test]
fn clients_killed_while_they_wait_get_nothing() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    for (waits, fills, len) in [
        ("BLPOP k other 0", "RPUSH k a", "LLEN k"),
        ("BLMOVE k other LEFT LEFT 0", "RPUSH k a", "LLEN k"),
        ("BZMPOP 0 1 k MIN", "ZADD k 1 a", "ZCARD k"),
        ("XREAD BLOCK 0 STREAMS k $", "XADD k 1-1 f v", "XLEN k"),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS k >", "XADD k 1-1 f v", "XLEN k"),
    ] {
        if waits.starts_with("XREADGROUP") {
            admin.ask(b"XGROUP CREATE k g $ MKSTREAM\r\n", "+OK\r\n");
        }
        let mut victims = [server.connect(), server.connect()];
        victims.iter_mut().for_each(|victim| victim.send(format!("{waits}\r\n").as_bytes()));
        until_blocked(&mut admin, "2");
        // Killed together with the write that they wait for: the key is ready when they go.
        admin.send(format!("MULTI\r\nCLIENT KILL TYPE normal\r\n{fills}\r\nEXEC\r\n").as_bytes());
        admin.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:2\r\n");
        assert!(!admin.line(b"").starts_with('-'), "{fills}");
        if fills.starts_with("XADD") {
            admin.expect("1-1\r\n");
        }
        victims.iter_mut().for_each(|victim| assert_eq!(victim.rest(), "", "{waits}"));
        admin.ask(format!("{len}\r\nDEL k\r\n").as_bytes(), ":1\r\n:1\r\n");
        until_blocked(&mut admin, "0");
        assert_eq!(field(&admin.bulk(b"INFO clients\r\n"), "connected_clients"), "1");
    }
}

#[test]
fn clients_that_go_while_their_script_is_busy() {
    let server = Server::start(&["--busy-reply-threshold", "20"]);
    let mut admin = server.connect();
    let script = |code: &str| format!("*3\r\n$4\r\nEVAL\r\n${}\r\n{code}\r\n$1\r\n0\r\n", code.len());
    let endless = script("while true do end");
    let slow = "local t = os.clock() while os.clock() < t + 0.5 do end return redis.call('incr', 'k')";
    let (slow, last) = (script(slow), "INCR last\r\n");
    // What is sent, whether it has to be killed, and how often the keys have been written then.
    for (sent, kills, k, last_value) in [
        (endless.clone(), true, "$-1", "$-1"),
        (format!("MULTI\r\n{last}{endless}{last}EXEC\r\n"), true, "$-1", "2"),
        (slow.clone(), false, "1", "2"),
        (format!("MULTI\r\n{slow}{slow}{last}EXEC\r\n"), false, "3", "3"),
    ] {
        let mut victim = server.connect();
        victim.send(sent.as_bytes());
        eventually("the script is busy", || admin.line(b"PING\r\n").starts_with("-BUSY"));
        // Nobody can be killed beside it; but a client may go.
        assert!(admin.line(b"CLIENT KILL TYPE normal\r\n").starts_with("-BUSY"));
        drop(victim);
        std::thread::sleep(Duration::from_millis(30));
        if kills {
            admin.ask(b"SCRIPT KILL\r\n", "+OK\r\n");
        }
        eventually("it has ended", || admin.line(b"PING\r\n") == "+PONG");
        eventually("it is gone", || field(&admin.bulk(b"INFO clients\r\n"), "connected_clients") == "1");
        for (key, value) in [("k", k), ("last", last_value)] {
            let got = admin.line(format!("GET {key}\r\n").as_bytes());
            let got = if got == "$-1" { got } else { admin.line(b"") };
            assert_eq!(got, value, "{key} after {sent}");
        }
        admin.ask(b"EVAL 'return 1' 0\r\n", ":1\r\n");
    }
}

#[test]
fn monitors_see_other_connections() {
    let server = Server::start(&[]);
    let (mut monitor, mut client) = (server.connect(), server.connect());
    monitor.ask(b"MONITOR\r\n", "+OK\r\n");
    client.ask(b"SET k 'a b'\r\n", "+OK\r\n");
    let line = monitor.line(b"");
    assert!(line.starts_with('+') && line.ends_with("] \"SET\" \"k\" \"a b\""), "{line}");
    assert!(line.contains(" [0 127.0.0.1:"), "{line}");
}
