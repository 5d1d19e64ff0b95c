//! Ports for servers that tests start. Knows nothing of those servers.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port given out and how many there are: below those that the kernel gives to outgoing connections,
/// of which some tests hold thousands (32768 and up, `ip_local_port_range`), so that none of them can take the
/// port between the look at it here and the start of the server.
const PORTS: (u32, u32) = (11_000, 21_000);

/// A port that nobody listens on, a different one with each call. Processes begin at different places.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let (first, count) = PORTS;
    let begin = std::process::id().wrapping_mul(977);
    for _ in 0..count {
        let place = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
        let port = u16::try_from(first + place).expect("a port");
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("all of {count} ports are in use");
}
