//! Listening sockets: TCP on each configured address, and a Unix socket.

use super::LISTENERS;
use super::connection::Stream;
use crate::config::Config;
use crate::server::client::Peer;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

/// All listening sockets.
#[derive(Default)]
pub struct Listeners {
    /// A place keeps its number (and so its token) while it is open.
    list: Vec<Option<Listener>>,
}

impl Listeners {
    /// Binds everything that is configured. An address with a leading `-` may be missing on this machine.
    pub fn bind(&mut self, config: &Config, registry: &Registry) -> io::Result<()> {
        self.bind_tcp(config, registry)?;
        if !config.unixsocket.is_empty() {
            let path = Path::new(&config.unixsocket);
            let listener =
                bind_unix(path, config.unixsocketperm).map_err(|e| named(&config.unixsocket, &e))?;
            self.add(Listener::Unix(listener, path.to_path_buf()), registry)?;
        }
        Ok(())
    }

    fn bind_tcp(&mut self, config: &Config, registry: &Registry) -> io::Result<()> {
        if config.port == 0 {
            return Ok(());
        }
        for (address, optional) in addresses(config)? {
            match open_tcp(address, config.tcp_backlog) {
                Ok(listener) => {
                    self.add(Listener::Tcp(TcpListener::from_std(listener), address), registry)?
                }
                Err(error) if optional && is_missing_address(&error) => {}
                Err(error) => return Err(named(&address.to_string(), &error)),
            }
        }
        if self.list.is_empty() && !config.bind.is_empty() {
            return Err(io::Error::other("no configured address could be bound"));
        }
        Ok(())
    }

    /// Binds what is configured now, taking over from `old` what stays the same.
    pub fn rebind(&mut self, old: &mut Listeners, config: &Config, registry: &Registry) -> io::Result<()> {
        // The old TCP sockets would be in the way of new ones on the same address: they go first.
        let keep: Vec<Option<Listener>> = std::mem::take(&mut old.list);
        let mut unix = Vec::new();
        for listener in keep.into_iter().flatten() {
            match listener {
                Listener::Tcp(mut tcp, _) => registry.deregister(&mut tcp)?,
                Listener::Unix(mut socket, path) => {
                    registry.deregister(&mut socket)?;
                    unix.push(Listener::Unix(socket, path));
                }
            }
        }
        for listener in unix {
            self.add(listener, registry)?;
        }
        self.bind_tcp(config, registry)
    }

    /// The TCP addresses that are listened on.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let tcp = |l: &Listener| if let Listener::Tcp(_, address) = l { Some(*address) } else { None };
        self.list.iter().flatten().filter_map(tcp).collect()
    }

    fn add(&mut self, mut listener: Listener, registry: &Registry) -> io::Result<()> {
        let token = Token(LISTENERS + self.list.len());
        match &mut listener {
            Listener::Tcp(tcp, _) => registry.register(tcp, token, Interest::READABLE)?,
            Listener::Unix(unix, _) => registry.register(unix, token, Interest::READABLE)?,
        }
        self.list.push(Some(listener));
        Ok(())
    }

    /// Accepts one connection; nothing when none waits.
    pub fn accept(&self, i: usize) -> io::Result<Option<(Stream, Peer)>> {
        let Some(Some(listener)) = self.list.get(i) else { return Ok(None) };
        loop {
            let accepted = match listener {
                Listener::Tcp(tcp, _) => tcp.accept().map(|(stream, addr)| accepted_tcp(stream, addr)),
                Listener::Unix(unix, path) => unix.accept().map(|(stream, _)| accepted_unix(stream, path)),
            };
            match accepted {
                Ok(pair) => return Ok(Some(pair)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // One that has gone already; others may stand behind it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for the readiness event again.
    pub fn rearm(&mut self, i: usize, registry: &Registry) {
        let token = Token(LISTENERS + i);
        let result = match &mut self.list[i] {
            Some(Listener::Tcp(tcp, _)) => registry.reregister(tcp, token, Interest::READABLE),
            Some(Listener::Unix(unix, _)) => registry.reregister(unix, token, Interest::READABLE),
            None => Ok(()),
        };
        if let Err(error) = result {
            log::error!(target: "aikv", "Re-arming a listener: {error}");
        }
    }

    /// Addresses as the log names them.
    pub fn addresses(&self) -> Vec<String> {
        let show = |listener: &Listener| match listener {
            Listener::Tcp(_, address) => address.to_string(),
            Listener::Unix(_, path) => path.display().to_string(),
        };
        self.list.iter().flatten().map(show).collect()
    }

    /// Descriptions as INFO's `listenerN` has them.
    pub fn descriptions(&self) -> Vec<String> {
        let tcp = self.tcp_addresses();
        let mut out = Vec::new();
        if let Some(first) = tcp.first() {
            let binds: Vec<String> = tcp.iter().map(|a| format!("bind={}", a.ip())).collect();
            out.push(format!("name=tcp,{},port={}", binds.join(","), first.port()));
        }
        for listener in self.list.iter().flatten() {
            if let Listener::Unix(_, path) = listener {
                out.push(format!("name=unix,bind={}", path.display()));
            }
        }
        out
    }

    /// Removes the files of Unix sockets.
    pub fn remove_socket_files(&self) {
        for listener in self.list.iter().flatten() {
            if let Listener::Unix(_, path) = listener {
                let _gone_already = std::fs::remove_file(path);
            }
        }
    }
}

/// Tries to bind the configured TCP addresses and lets them go again. What is in the way of itself, being
/// among the `own` addresses, is no obstacle.
pub fn probe(config: &Config, own: &[SocketAddr]) -> io::Result<()> {
    if config.port == 0 {
        return Ok(());
    }
    for (address, optional) in addresses(config)? {
        let overlaps = |other: &SocketAddr| {
            let everywhere = other.ip().is_unspecified() || address.ip().is_unspecified();
            other.port() == address.port() && (everywhere || other.ip() == address.ip())
        };
        match open_tcp(address, config.tcp_backlog) {
            Err(error) if optional && is_missing_address(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && own.iter().any(overlaps) => {}
            Err(error) => return Err(named(&address.to_string(), &error)),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The configured addresses, each with whether it may be missing. The error names one that is none.
fn addresses(config: &Config) -> io::Result<Vec<(SocketAddr, bool)>> {
    let mut out = Vec::new();
    for bind in &config.bind {
        let (name, optional) = match bind.strip_prefix('-') {
            Some(name) => (name, true),
            None => (bind.as_str(), false),
        };
        let ip = match name {
            "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            "::*" => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            other => other.parse().ok(),
        };
        match ip {
            Some(ip) => out.push((SocketAddr::new(ip, config.port), optional)),
            None => match (name, config.port).to_socket_addrs() {
                Ok(found) => out.extend(found.take(1).map(|address| (address, optional))),
                Err(_) if optional => {}
                Err(error) => return Err(named(name, &error)),
            },
        }
    }
    Ok(out)
}

fn open_tcp(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Binds a Unix socket, replacing one that a server left behind.
fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(listener)
}

fn accepted_tcp(stream: mio::net::TcpStream, address: SocketAddr) -> (Stream, Peer) {
    let local = stream.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let is_local = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    let peer =
        Peer { addr: address.to_string(), laddr: local, fd: stream.as_raw_fd(), is_unix: false, is_local };
    (Stream::Tcp(stream), peer)
}

fn accepted_unix(stream: mio::net::UnixStream, path: &Path) -> (Stream, Peer) {
    let addr = format!("{}:0", path.display());
    let peer =
        Peer { addr: addr.clone(), laddr: addr, fd: stream.as_raw_fd(), is_unix: true, is_local: true };
    (Stream::Unix(stream), peer)
}

fn is_missing_address(error: &io::Error) -> bool {
    const MISSING: [i32; 3] = [libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT];
    error.raw_os_error().is_some_and(|code| MISSING.contains(&code))
}

/// The error with the address in front and the system's plain words.
fn named(what: &str, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    io::Error::new(error.kind(), format!("{what}: {plain}"))
}
