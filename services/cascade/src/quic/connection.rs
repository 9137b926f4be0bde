//! One QUIC connection of a link: its send queue, rate limit and heartbeat.

use super::token_bucket::TokenBucket;
use crate::frame::{self, Reassembly};
use crate::queue::{CLASSES, SendQueue};
use crate::stats::LinkStats;
use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use systir_forwarding::batch::Priority;
use tokio::sync::Notify;

/// A heartbeat is sent after this long without a datagram.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(150);

/// One QUIC connection of a link.
pub(super) struct LinkConnection {
    pub(super) quic: Connection,
    pub(super) queue: RefCell<SendQueue>,
    pub(super) reassembly: RefCell<Reassembly>,
    bucket: RefCell<TokenBucket>,
    /// Bytes that quinn's send buffer may hold now.
    pub(super) quinn_limit: Cell<usize>,
    /// Size of quinn's send buffer.
    pub(super) quinn_buffer: usize,
    last_sent: Cell<Instant>,
    next_part_id: Cell<u16>,
    /// Counters of the whole link.
    stats: Rc<RefCell<LinkStats>>,
    /// Notified when frames stay in the queue.
    pub(super) blocked: Notify,
}

impl LinkConnection {
    pub(super) fn new(
        quic: Connection,
        ceiling: u64,
        quinn_buffer: usize,
        stats: Rc<RefCell<LinkStats>>,
        now: Instant,
    ) -> Self {
        // 0.1 s at the ceiling.
        let limit = (ceiling / 10).clamp(256 << 10, 32 << 20) as usize;
        Self {
            quic,
            queue: RefCell::new(SendQueue::new(limit)),
            reassembly: RefCell::default(),
            bucket: RefCell::new(TokenBucket::new(ceiling, now)),
            quinn_limit: Cell::new(32 << 10),
            quinn_buffer,
            last_sent: Cell::new(now),
            next_part_id: Cell::new(0),
            stats,
            blocked: Notify::new(),
        }
    }

    pub(super) fn push(&self, now: Instant, priority: Priority, frame: Bytes) {
        self.queue.borrow_mut().push(now, priority, frame);
    }

    pub(super) fn push_data_message(&self, now: Instant, frame: Bytes) {
        self.queue.borrow_mut().push_data_message(now, frame);
    }

    pub(super) fn dropped(&self) -> [u64; CLASSES] {
        self.queue.borrow().dropped()
    }

    /// Hands queued frames to quinn, as far as its buffer and the ceiling allow.
    pub(super) fn send_queued(&self, now: Instant) {
        let mut queue = self.queue.borrow_mut();
        let mut bucket = self.bucket.borrow_mut();
        while !queue.is_empty() {
            let held = self.quinn_buffer.saturating_sub(self.quic.datagram_send_buffer_space());
            if held >= self.quinn_limit.get() || bucket.is_empty(now) {
                self.blocked.notify_one();
                return;
            }
            let Some(frame) = queue.pop(now) else { return };
            bucket.take(frame.len());
            self.send(now, frame);
        }
    }

    fn send(&self, now: Instant, frame: Bytes) {
        self.last_sent.set(now);
        let limit = self.quic.max_datagram_size().unwrap_or_default();
        if frame.len() <= limit {
            self.count_sent(frame.len());
            self.send_datagram(frame);
            return;
        }
        let id = self.next_part_id.get();
        self.next_part_id.set(id.wrapping_add(1));
        let Some(halves) = frame::split(&frame, id, limit) else {
            self.stats.borrow_mut().too_large += 1;
            return;
        };
        self.count_sent(frame.len());
        self.stats.borrow_mut().split += 1;
        for half in halves {
            self.send_datagram(half);
        }
    }

    fn count_sent(&self, bytes: usize) {
        let mut stats = self.stats.borrow_mut();
        stats.packets_out += 1;
        stats.bytes_out += bytes as u64;
    }

    fn send_datagram(&self, datagram: Bytes) {
        // The receive task handles a lost connection. `TooLarge` is rare: the MTU just shrank.
        if let Err(SendDatagramError::TooLarge) = self.quic.send_datagram(datagram) {
            self.stats.borrow_mut().too_large += 1;
        }
    }

    /// Sends a heartbeat unless a datagram was sent within the interval.
    pub(super) fn send_heartbeat_if_idle(&self, now: Instant) {
        if now.saturating_duration_since(self.last_sent.get()) >= HEARTBEAT_INTERVAL {
            self.last_sent.set(now);
            self.send_datagram(frame::heartbeat());
        }
    }
}
