//! What a message to many costs: server CPU per PUBLISH, with its delivery to a hundred subscribers.

use crate::client::{Fleet, encode};
use crate::load::in_turn;
use crate::peer::{Kind, Peer};
use crate::probes::all;
use crate::{Line, start};
use std::time::{Duration, Instant};

/// Subscribers of the one channel.
const SUBSCRIBERS: usize = 100;
/// Messages sent at once; then all of them are read. Each subscriber gets them in one piece, which costs the
/// kernel about as much in either server: the fewer there are, the more both servers' figures are the kernel's.
const AT_ONCE: [usize; 2] = [16, 64];
/// Rounds in which the servers take turns.
const ROUNDS: usize = 5;
/// How long one server is driven in one round.
const ROUND: Duration = Duration::from_millis(700);

const CHANNEL: &[u8] = b"channel";
const MESSAGE: &[u8; 64] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A server with its subscribers.
struct Driven {
    peer: Peer,
    publisher: Fleet,
    subscribers: Fleet,
    at_once: usize,
}

/// Bytes of a message as it is received, and of the reply to SUBSCRIBE.
fn lengths() -> (usize, usize) {
    let (mut message, mut subscribed) = (Vec::new(), Vec::new());
    encode(&mut message, &[b"message", CHANNEL, MESSAGE]);
    encode(&mut subscribed, &[b"subscribe", CHANNEL]);
    (message.len(), subscribed.len() + b":1\r\n".len())
}

impl Driven {
    fn start(kind: Kind, at_once: usize) -> Driven {
        let peer = start(kind, &[]);
        let mut subscribers = Fleet::connect(peer.port, SUBSCRIBERS);
        subscribers.round(1, lengths().1, &mut |out| encode(out, &[b"SUBSCRIBE", CHANNEL]));
        let publisher = Fleet::connect(peer.port, 1);
        Driven { peer, publisher, subscribers, at_once }
    }

    /// Microseconds of server CPU per message.
    fn drive(&mut self) -> f64 {
        let (begin, cpu) = (Instant::now(), self.peer.cpu_ns());
        let mut messages = 0;
        while begin.elapsed() < ROUND {
            let publish = &mut |out: &mut Vec<u8>| encode(out, &[b"PUBLISH", CHANNEL, MESSAGE]);
            messages += self.publisher.round(self.at_once, b":100\r\n".len(), publish);
            self.subscribers.read(self.at_once * lengths().0);
        }
        (self.peer.cpu_ns() - cpu) as f64 / 1000.0 / messages as f64
    }
}

/// The probe.
pub fn to_many(rivals: &[Kind]) -> Vec<Line> {
    let row = |at_once| {
        let mut driven: Vec<Driven> = all(rivals).map(|kind| Driven::start(kind, at_once)).collect();
        let name = format!("PUBLISH to 100 subscribers, pipeline {at_once}");
        in_turn(&name, 0.70, ROUNDS, &mut driven, Driven::drive)
    };
    AT_ONCE.map(row).into()
}
