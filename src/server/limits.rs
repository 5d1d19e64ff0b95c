//! Limits on what clients may hold: output, input and all of it together.

use super::Server;
use super::client::{Client, Close};
use crate::config::MemoryOrPercent;

/// A client idle for this long gives its buffers back, in milliseconds.
const IDLE_MS: u64 = 2000;
/// Reply buffers are not made smaller than this, in bytes.
const REPLY_BUFFER_MIN: usize = 1024;
/// Nor larger than this ahead of a reply.
const REPLY_BUFFER_MAX: usize = 16 * 1024;
/// A bigger input buffer is given back when less than half of it was lately used.
const INPUT_KEPT_MAX: usize = 32 * 1024;
/// The usual time after which a reply buffer's peak is forgotten, in milliseconds.
pub const PEAK_RESET_MS: u64 = 5000;

/// Output up to this size is within any limit.
pub(super) const FREE_OUTPUT_BYTES: usize = 16 * 1024;

/// Peaks over all clients that INFO shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peaks {
    /// Largest input waiting lately.
    pub input_bytes: usize,
    /// Largest output waiting lately.
    pub output_bytes: usize,
    /// Milliseconds after which a reply buffer's peak is forgotten.
    pub reply_peak_reset_ms: Option<u64>,
}

impl Server {
    /// Closes a client whose output is above the hard limit, or above the soft one for too long.
    #[inline]
    pub(super) fn check_output_limit(&mut self, client: &mut Client) {
        let pending = client.reply.pending_bytes();
        self.peaks.output_bytes = self.peaks.output_bytes.max(pending);
        client.reply_peak = client.reply_peak.max(pending);
        // As in Redis, what fits a client's first buffer is not counted.
        if pending <= FREE_OUTPUT_BYTES {
            client.soft_limit_since_ms = None;
        } else {
            self.check_long_output(client, pending as u64);
        }
    }

    fn check_long_output(&mut self, client: &mut Client, pending: u64) {
        let limit = client.output_limit(&self.config);
        let now_ms = self.now.mono_ms();
        // Who has not said who he is gets errors only, and has no business to let them pile up.
        let stranger = !client.authenticated && self.must_authenticate();
        let hard = stranger || limit.hard > 0 && pending >= limit.hard;
        let soft = limit.soft > 0 && pending >= limit.soft;
        let since_ms = soft.then(|| client.soft_limit_since_ms.unwrap_or(now_ms));
        client.soft_limit_since_ms = since_ms;
        let too_long = since_ms.is_some_and(|ms| now_ms - ms > limit.soft_seconds.saturating_mul(1000));
        if (hard || too_long) && client.close != Some(Close::Now) {
            log::warn!(
                target: "aikv",
                "Client id={} addr={} closed for overcoming of output buffer limits.",
                client.id,
                client.peer.addr
            );
            self.stats.counters.output_buffer_limit_disconnections += 1;
            client.close = Some(Close::Now);
            self.pending_closes.push(client.slot);
        }
    }

    /// Whether a client holds more output than it may, so that it will be closed.
    #[inline]
    pub(super) fn is_over_output_limit(&self, client: &Client) -> bool {
        let pending = client.reply.pending_bytes();
        pending > FREE_OUTPUT_BYTES && pending >= client.output_max(&self.config)
    }

    /// Between the commands of a transaction, which all run: output of a client that is closed for it is not
    /// kept.
    pub(super) fn drop_excess_output(&mut self, client: &mut Client) {
        if self.is_over_output_limit(client) {
            self.check_output_limit(client);
            client.reply.clear();
        }
    }

    /// Closes a client whose input is above the limit. Called after each read.
    pub fn check_input_limit(&mut self, slot: usize) {
        let max = self.config.client_query_buffer_limit;
        let Some(client) = self.clients.get_mut(slot) else { return };
        let pending = client.input.pending_bytes();
        self.note_memory_of(slot);
        self.peaks.input_bytes = self.peaks.input_bytes.max(pending);
        if pending <= max {
            return;
        }
        let Some(client) = self.clients.get_mut(slot) else { return };
        let addr = &client.peer.addr;
        log::warn!(target: "aikv", "Closing client {addr} that reached max query buffer length");
        self.stats.counters.query_buffer_limit_disconnections += 1;
        client.close = Some(Close::Now);
        self.pending_closes.push(slot);
    }

    /// Sizes a client's buffers by what it has needed lately, and gives back what an idle one holds.
    pub(super) fn size_buffers(&mut self, client: &mut Client, idle_ms: u64) {
        let (capacity, peak) = (client.input.buffer_capacity(), client.input.take_peak());
        if idle_ms >= IDLE_MS || (capacity > INPUT_KEPT_MAX && capacity / 2 > peak) {
            client.input.shrink();
            client.input_room = 0;
        } else if client.input_room_peak > 0 {
            client.input_room = client.input_room_peak;
        }
        client.input_room_peak = 0;
        self.size_reply_buffer(client);
    }

    /// The buffer follows the peak: it grows to it, and shrinks when the peak is less than half of it.
    fn size_reply_buffer(&mut self, client: &mut Client) {
        if self.debug.keep_reply_buffers || !client.reply.is_empty() {
            return;
        }
        let before = client.reply.buffer_capacity();
        let wanted = client.reply_peak.clamp(REPLY_BUFFER_MIN, REPLY_BUFFER_MAX);
        // It grows fourfold at most each time: one burst must not make the buffers of many clients large.
        let wanted = wanted.min((4 * before).max(REPLY_BUFFER_MIN));
        if wanted > before {
            client.reply.resize_buffer(wanted);
            self.stats.counters.reply_buffer_expands += u64::from(before >= REPLY_BUFFER_MIN);
        } else if wanted < before / 2 {
            client.reply.resize_buffer(wanted);
            self.stats.counters.reply_buffer_shrinks += 1;
        }
        let now_ms = self.now.mono_ms();
        let forget = |after_ms: u64| now_ms.saturating_sub(client.reply_peak_since_ms) >= after_ms;
        if self.peaks.reply_peak_reset_ms.is_some_and(forget) {
            client.reply_peak = client.reply.pending_bytes();
            client.reply_peak_since_ms = now_ms;
        }
    }

    /// Brings a client's share of the memory up to date.
    pub(super) fn account_client(&mut self, client: &mut Client) {
        let tracker = self.tracking.get(client.id);
        let bytes = client.memory_bytes() + tracker.map_or(0, |tracker| tracker.memory_bytes());
        self.memory.clients_bytes = self.memory.clients_bytes + bytes - client.accounted_bytes;
        client.accounted_bytes = bytes;
    }

    /// `maxmemory-clients` in bytes; 0: no limit.
    fn client_memory_max(&self) -> u64 {
        match self.config.maxmemory_clients {
            MemoryOrPercent::Bytes(bytes) => bytes,
            MemoryOrPercent::Percent(part) => {
                (u128::from(self.config.maxmemory) * u128::from(part) / 100) as u64
            }
        }
    }

    /// Notes that a client's memory has changed, if there is a limit to keep.
    #[inline]
    pub(super) fn note_memory_of(&mut self, slot: usize) {
        if self.memory.limits_clients {
            self.memory.changed_clients.push(slot);
        }
    }

    /// Accounts the clients whose memory has changed in this turn, and keeps `maxmemory-clients`.
    pub(super) fn keep_client_memory(&mut self) {
        for slot in std::mem::take(&mut self.memory.changed_clients) {
            if let Some(mut client) = self.clients.take(slot) {
                self.account_client(&mut client);
                self.clients.put(client);
            }
        }
        self.evict_clients();
    }

    /// Puts `maxmemory-clients` into effect.
    pub(super) fn apply_client_memory(&mut self) {
        self.memory.limits_clients = self.client_memory_max() > 0;
        self.memory.changed_clients =
            if self.memory.limits_clients { self.clients.slots() } else { Vec::new() };
        self.keep_client_memory();
    }

    /// Closes the largest clients while all together are above `maxmemory-clients`.
    pub(super) fn evict_clients(&mut self) {
        let max = self.client_memory_max();
        if max == 0 || self.memory.clients_bytes as u64 <= max {
            return;
        }
        let (going, staying): (Vec<&Client>, Vec<&Client>) =
            self.clients.iter().partition(|c| c.close == Some(Close::Now));
        let going_bytes: usize = going.iter().map(|c| c.accounted_bytes).sum();
        let evictable = staying.iter().filter(|c| !c.no_evict);
        let mut sizes: Vec<(usize, usize)> = evictable.map(|c| (c.accounted_bytes, c.slot)).collect();
        sizes.sort_unstable();
        let mut total = self.memory.clients_bytes.saturating_sub(going_bytes) as u64;
        while total > max
            && let Some((bytes, slot)) = sizes.pop()
        {
            total -= bytes as u64;
            self.stats.counters.evicted_clients += 1;
            self.close_client(slot, Close::Now);
        }
    }
}
