//! One QUIC connection of a link: its queue, its share of the ceiling, its heartbeat and its ears.

use super::token_bucket::Bucket;
use crate::frame::{self, Reassembly};
use crate::queue::{CLASSES, Queue};
use crate::stats::LinkStats;
use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use systir_forwarding::batch::Priority;
use tokio::sync::Notify;

/// A heartbeat is sent after so long without a datagram.
const HEARTBEAT: Duration = Duration::from_millis(150);

pub(super) struct Lane {
    pub(super) connection: Connection,
    pub(super) queue: RefCell<Queue>,
    pub(super) reassembly: RefCell<Reassembly>,
    bucket: RefCell<Bucket>,
    /// Bytes that quinn may hold back now.
    pub(super) fill: Cell<usize>,
    pub(super) capacity: usize,
    last_sent: Cell<Instant>,
    next_split: Cell<u16>,
    /// Of the whole link.
    stats: Rc<RefCell<LinkStats>>,
    pub(super) waiting: Notify,
}

impl Lane {
    pub(super) fn new(
        connection: Connection,
        ceiling: u64,
        capacity: usize,
        stats: Rc<RefCell<LinkStats>>,
        now: Instant,
    ) -> Self {
        // What waits longer than a tenth of a second at the ceiling is late at any rate.
        let limit = (ceiling / 10).clamp(256 << 10, 32 << 20) as usize;
        Self {
            connection,
            queue: RefCell::new(Queue::new(limit)),
            reassembly: RefCell::default(),
            bucket: RefCell::new(Bucket::new(ceiling, now)),
            fill: Cell::new(32 << 10),
            capacity,
            last_sent: Cell::new(now),
            next_split: Cell::new(0),
            stats,
            waiting: Notify::new(),
        }
    }

    pub(super) fn push(&self, now: Instant, priority: Priority, frame: Bytes) {
        self.queue.borrow_mut().push(now, priority, frame);
    }

    pub(super) fn push_message(&self, now: Instant, frame: Bytes) {
        self.queue.borrow_mut().push_message(now, frame);
    }

    pub(super) fn dropped(&self) -> [u64; CLASSES] {
        self.queue.borrow().dropped()
    }

    /// Gives quinn what it has room for.
    pub(super) fn pump(&self, now: Instant) {
        let mut queue = self.queue.borrow_mut();
        let mut bucket = self.bucket.borrow_mut();
        while !queue.is_empty() {
            let held = self.capacity.saturating_sub(self.connection.datagram_send_buffer_space());
            if held >= self.fill.get() || bucket.is_empty(now) {
                self.waiting.notify_one();
                return;
            }
            let Some(frame) = queue.pop(now) else { return };
            bucket.take(frame.len());
            self.send(now, frame);
        }
    }

    fn send(&self, now: Instant, frame: Bytes) {
        self.last_sent.set(now);
        let limit = self.connection.max_datagram_size().unwrap_or_default();
        if frame.len() <= limit {
            self.count_sent(frame.len());
            self.hand_over(frame);
            return;
        }
        let id = self.next_split.get();
        self.next_split.set(id.wrapping_add(1));
        let Some(halves) = frame::split(&frame, id, limit) else {
            self.stats.borrow_mut().too_large += 1;
            return;
        };
        self.count_sent(frame.len());
        self.stats.borrow_mut().split += 1;
        for half in halves {
            self.hand_over(half);
        }
    }

    fn count_sent(&self, bytes: usize) {
        let mut stats = self.stats.borrow_mut();
        stats.packets_out += 1;
        stats.bytes_out += bytes as u64;
    }

    fn hand_over(&self, datagram: Bytes) {
        // A lost connection is seen by the reader; the size was asked a moment ago.
        if let Err(SendDatagramError::TooLarge) = self.connection.send_datagram(datagram) {
            self.stats.borrow_mut().too_large += 1;
        }
    }

    pub(super) fn beat(&self, now: Instant) {
        if now.saturating_duration_since(self.last_sent.get()) >= HEARTBEAT {
            self.last_sent.set(now);
            self.hand_over(frame::heartbeat());
        }
    }
}
