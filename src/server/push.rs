//! Pushes: what clients are sent without having asked in this moment: messages of publish/subscribe and
//! invalidations of client-side caching. A push is encoded at most once per protocol version, however many
//! get it. Who gets what is known by `pubsub/` and `tracking/`; commands are in `server/commands`.

use super::Server;
use super::client::Client;
use super::durable::Held;
use crate::keyspace::change::Event;
use crate::pubsub::Kind;
use crate::resp::{Proto, Reply};
use bytes::Bytes;

/// Where the invalidations that are redirected to a RESP2 client are published.
const INVALIDATE_CHANNEL: &[u8] = b"__redis__:invalidate";

/// How many receivers ahead clients are fetched, and their output buffers.
const CLIENTS_AHEAD: usize = 8;
const BUFFERS_AHEAD: usize = 4;

/// What is pushed.
pub(super) enum Push<'a> {
    /// A published message.
    Message {
        /// The name space of the channel.
        kind: Kind,
        /// The pattern it was received by.
        pattern: Option<&'a [u8]>,
        /// Where it was published.
        channel: &'a [u8],
        /// It.
        text: &'a [u8],
    },
    /// Keys that a client may have cached have changed.
    Invalidate {
        /// Which; none named: all keys.
        keys: Option<&'a [&'a [u8]]>,
        /// Whether another client than the receiver tracks.
        redirected: bool,
    },
    /// The client that gets the invalidations of this one is gone: its id.
    RedirectBroken(u64),
}

impl Push<'_> {
    /// Whether a RESP2 client gets it only while it is subscribed to something.
    fn is_for_listeners(&self) -> bool {
        matches!(self, Push::Invalidate { .. })
    }

    /// Writes it in the reply's protocol. Nothing is written where the protocol has no way to say it.
    fn write(&self, reply: &mut Reply) {
        match *self {
            Push::Message { kind, pattern, channel, text } => {
                let word: &[u8] = match (kind, pattern) {
                    (Kind::Shard, _) => b"smessage",
                    (_, Some(_)) => b"pmessage",
                    (_, None) => b"message",
                };
                reply.push(3 + usize::from(pattern.is_some()));
                reply.bulk(word);
                if let Some(pattern) = pattern {
                    reply.bulk(pattern);
                }
                reply.bulk(channel);
                reply.bulk(text);
            }
            Push::Invalidate { keys, redirected } => {
                match reply.proto {
                    Proto::Resp2 if !redirected => return,
                    Proto::Resp2 => {
                        reply.push(3);
                        reply.bulk(b"message");
                        reply.bulk(INVALIDATE_CHANNEL);
                    }
                    Proto::Resp3 => {
                        reply.push(2);
                        reply.bulk(b"invalidate");
                    }
                }
                match keys {
                    Some(keys) => {
                        reply.array(keys.len());
                        keys.iter().for_each(|key| reply.bulk(key));
                    }
                    None => reply.null(),
                }
            }
            Push::RedirectBroken(id) => {
                if reply.proto == Proto::Resp3 {
                    reply.push(2);
                    reply.bulk(b"tracking-redir-broken");
                    reply.int(id as i64);
                }
            }
        }
    }
}

/// A push and its encodings, made when the first receiver needs them.
pub(super) struct Encoded<'a> {
    push: Push<'a>,
    bytes: [Option<Bytes>; 2],
}

impl<'a> Encoded<'a> {
    /// Nothing is encoded yet.
    pub fn new(push: Push<'a>) -> Encoded<'a> {
        Encoded { push, bytes: [None, None] }
    }

    fn bytes(&mut self, proto: Proto) -> &Bytes {
        let place = &mut self.bytes[usize::from(proto == Proto::Resp3)];
        place.get_or_insert_with(|| {
            let mut reply = Reply::new(proto);
            self.push.write(&mut reply);
            Bytes::from(reply.take())
        })
    }

    /// For a client that is running: whether it understands RESP3 then is not known yet.
    fn late(&mut self, slot: usize) -> Late {
        let listeners_only = self.push.is_for_listeners();
        let resp2 = self.bytes(Proto::Resp2).clone();
        Late { slot, resp2, resp3: self.bytes(Proto::Resp3).clone(), listeners_only }
    }
}

/// A push for a client that was running when it arose: it follows the reply to the running command.
pub(super) struct Late {
    pub(super) slot: usize,
    resp2: Bytes,
    resp3: Bytes,
    /// A RESP2 client gets it only while it is subscribed to something.
    listeners_only: bool,
}

/// Whether a client can be told: of some things a RESP2 client only while it is subscribed to something.
fn can_be_told(client: &Client, listeners_only: bool) -> bool {
    !listeners_only || client.reply.proto == Proto::Resp3 || client.subscriptions.is_some()
}

impl Server {
    /// Pushes to a client. One that is running gets it behind the reply to its command.
    pub(super) fn push_to(&mut self, slot: usize, push: &mut Encoded<'_>) {
        let Some(mut client) = self.clients.take(slot) else {
            self.late_pushes.push(push.late(slot));
            return;
        };
        if client.close.is_none() {
            if can_be_told(&client, push.push.is_for_listeners()) {
                let (proto, start) = (client.reply.proto, client.output_end());
                client.reply.encoded(push.bytes(proto));
                if self.aof.gating {
                    self.gate_push(&mut client, start);
                }
            }
            if !client.reply.is_empty() {
                self.queue_write(&mut client);
                self.check_output_limit(&mut client);
                self.note_memory_of(slot);
            }
        }
        self.clients.put(client);
    }

    /// Pushes to many clients, whose memory is fetched some ahead: nobody has touched it for long.
    fn push_to_all(&mut self, slots: impl Iterator<Item = usize> + Clone, push: &mut Encoded<'_>) {
        let (mut clients, mut buffers) = (slots.clone(), slots.clone().skip(BUFFERS_AHEAD));
        clients.by_ref().take(CLIENTS_AHEAD).for_each(|slot| self.clients.prefetch(slot));
        for slot in slots {
            clients.next().into_iter().for_each(|slot| self.clients.prefetch(slot));
            buffers.next().into_iter().for_each(|slot| self.clients.prefetch_output(slot));
            self.push_to(slot, push);
        }
    }

    /// Gives a running client what was pushed to it meanwhile. Called between its commands.
    #[inline]
    pub(super) fn take_late_pushes(&mut self, client: &mut Client) {
        if !self.late_pushes.is_empty() {
            self.append_late_pushes(client);
        }
    }

    #[cold]
    fn append_late_pushes(&mut self, client: &mut Client) {
        let (own, others) =
            std::mem::take(&mut self.late_pushes).into_iter().partition(|p| p.slot == client.slot);
        self.late_pushes = others;
        let own: Vec<Late> = own;
        let (start, position) = (client.output_end(), self.aof.appended);
        for late in own {
            if client.close.is_none() && can_be_told(client, late.listeners_only) {
                let is_old = client.reply.proto == Proto::Resp2;
                client.reply.encoded(if is_old { &late.resp2 } else { &late.resp3 });
            }
        }
        if client.output_end() > start {
            self.gate_from(client, Held { start, position, wrote: false });
        }
    }

    /// Publishes a message and says how many clients receive it; one that is subscribed in several ways is
    /// counted, and gets it, for each.
    pub(super) fn publish(&mut self, kind: Kind, channel: &[u8], text: &[u8]) -> usize {
        // Pushing changes clients, never subscriptions.
        let pubsub = std::mem::take(&mut self.pubsub);
        let mut receivers = 0;
        if let Some(subscribers) = pubsub.get(kind, channel) {
            let mut message = Encoded::new(Push::Message { kind, pattern: None, channel, text });
            self.push_to_all(subscribers.slots().iter().copied(), &mut message);
            receivers += subscribers.slots().len();
        }
        if kind == Kind::Channel {
            for (pattern, subscribers) in pubsub.matching(channel) {
                let pattern = Some(&**pattern);
                let mut message = Encoded::new(Push::Message { kind, pattern, channel, text });
                self.push_to_all(subscribers.slots().iter().copied(), &mut message);
                receivers += subscribers.slots().len();
            }
        }
        self.pubsub = pubsub;
        receivers
    }

    /// Publishes an event of a key on the channels that `notify-keyspace-events` asks for.
    pub(super) fn notify(&mut self, db: usize, key: &[u8], event: Event) {
        use crate::config::NotifyFlags;
        let flags = self.config.notify_keyspace_events;
        if flags.published() & event.class == 0 {
            return;
        }
        let name = event.name.as_bytes();
        if flags.contains(NotifyFlags::KEYSPACE) {
            let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
            self.publish(Kind::Channel, &channel, name);
        }
        if flags.contains(NotifyFlags::KEYEVENT) {
            let channel = [format!("__keyevent@{db}__:").as_bytes(), name].concat();
            self.publish(Kind::Channel, &channel, key);
        }
    }

    /// Ends all subscriptions of a client, without a word to it.
    pub(super) fn end_subscriptions(&mut self, client: &mut Client) {
        let Some(mut own) = client.subscriptions.take() else { return };
        self.pubsub.unsubscribe_all(&mut own, client.slot);
        client.set_gate(super::gate::bit::SUBSCRIBED, false);
        self.update_listeners();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::server::client::Peer;
    use crate::sys::background::Background;
    use crate::sys::clock::Clock;

    /// Runs inline requests of a client.
    fn send(server: &mut Server, slot: usize, request: &str) {
        server.begin_turn();
        server.clients.get_mut(slot).expect("it is there").input.feed(request.as_bytes());
        server.run(slot);
    }

    fn server_with(clients: usize) -> (Server, Vec<usize>) {
        let config = Config { maxclients: clients as u32, ..Config::default() };
        let server = Server::new(config, Clock::fake(1_767_225_600_000), 7, Background::inline());
        let mut server = server.unwrap();
        let mut accept = |_| server.accept(Peer { is_local: true, ..Peer::default() }).unwrap();
        let slots = (0..clients).map(&mut accept).collect();
        (server, slots)
    }

    #[test]
    fn a_message_to_ten_thousand_lies_in_memory_once() {
        const SUBSCRIBERS: usize = 10_000;
        let (mut server, mut slots) = server_with(SUBSCRIBERS + 1);
        let publisher = slots.pop().unwrap();
        for slot in &slots {
            send(&mut server, *slot, "SUBSCRIBE news\r\n");
            server.clients.get_mut(*slot).unwrap().reply.clear();
        }
        // One long message, then many of a size that a buffer would be filled with.
        for (len, times) in [(1_000_000, 1), (1000, 50)] {
            let text = "m".repeat(len);
            for _ in 0..times {
                let request = format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${len}\r\n{text}\r\n");
                send(&mut server, publisher, &request);
            }
            let reply = server.clients.get_mut(publisher).unwrap().reply.take();
            assert_eq!(reply, format!(":{SUBSCRIBERS}\r\n").repeat(times).into_bytes());
            let framed = len + format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n${len}\r\n\r\n").len();
            let mut places = None;
            for slot in &slots {
                let reply = &mut server.clients.get_mut(*slot).unwrap().reply;
                assert_eq!(reply.pending_bytes(), framed * times);
                // Nothing is copied, and where the bytes lie is the same for all.
                assert_eq!(reply.shared_bytes(), framed * times);
                assert!(reply.buffer_capacity() < 1024, "{}", reply.buffer_capacity());
                let mut slices = Vec::new();
                reply.slices(100, usize::MAX, &mut slices);
                let lies_at: Vec<usize> = slices.iter().map(|slice| slice.as_ptr() as usize).collect();
                assert_eq!(lies_at.len(), times);
                assert_eq!(*places.get_or_insert(lies_at.clone()), lies_at);
                drop(slices);
                reply.clear();
            }
        }
    }

    #[test]
    fn events_and_messages_of_a_unit_come_in_their_order() {
        let (mut server, slots) = server_with(2);
        send(&mut server, slots[0], "CONFIG SET notify-keyspace-events KEA\r\n");
        send(&mut server, slots[1], "SUBSCRIBE news __keyevent@0__:set __keyevent@0__:del\r\n");
        let told = |server: &mut Server, request: &str| {
            server.clients.get_mut(slots[1]).unwrap().reply.clear();
            send(server, slots[0], request);
            let pushed = String::from_utf8(server.clients.get_mut(slots[1]).unwrap().reply.take()).unwrap();
            let lines: Vec<&str> = pushed.lines().collect();
            lines.chunks(7).map(|message| message[6]).collect::<Vec<_>>().join(" ")
        };
        let unit = "MULTI\r\nSET a 1\r\nPUBLISH news one\r\nDEL a\r\nSET b 1\r\nPUBLISH news two\r\nEXEC\r\n";
        assert_eq!(told(&mut server, unit), "a one a b two");
        let script = "redis.call('set','c',1) redis.call('publish','news','x') redis.call('del','c')";
        assert_eq!(told(&mut server, &format!("EVAL \"{script}\" 0\r\n")), "c x c");
        assert_eq!(told(&mut server, "SET d 1\r\nPUBLISH news y\r\nSET e 1\r\n"), "d y e");
    }
}
