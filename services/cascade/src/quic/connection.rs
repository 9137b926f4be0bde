//! One QUIC connection of a link: its queue, its share of the ceiling, its heartbeat and its ears.

use super::link_media::Trunk;
use crate::event::DownReason;
use crate::frame::{self, Frame, Reassembly};
use crate::queue::{CLASSES, Queue};
use bytes::Bytes;
use futures::FutureExt;
use quinn::{Connection, SendDatagramError};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use systir_forwarding::batch::Priority;
use tokio::sync::Notify;

/// A heartbeat is sent after so long without a datagram.
const HEARTBEAT: Duration = Duration::from_millis(150);
/// A peer that is not heard for so long is taken for dead.
const SILENCE: Duration = Duration::from_millis(600);
/// How often the lane looks at itself.
const TICK: Duration = Duration::from_millis(50);
/// How often it looks for room while something waits.
const RETRY: Duration = Duration::from_millis(1);
/// Datagrams read at a stretch.
const STRETCH: usize = 256;
/// How much quinn holds back, in time.
const BACKLOG: Duration = Duration::from_millis(20);

pub(super) struct Lane {
    pub(super) connection: Connection,
    queue: RefCell<Queue>,
    reassembly: RefCell<Reassembly>,
    bucket: RefCell<Bucket>,
    /// Bytes that quinn may hold back now.
    fill: Cell<usize>,
    capacity: usize,
    last_sent: Cell<Instant>,
    next_split: Cell<u16>,
    waiting: Notify,
}

/// The operator's ceiling, exactly.
struct Bucket {
    rate: f64,
    depth: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        let rate = rate as f64;
        let depth = (rate * BACKLOG.as_secs_f64()).max(32_000.0);
        Self { rate, depth, level: depth, at: now }
    }

    fn is_empty(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.level = (self.level + gained).min(self.depth);
        self.at = now;
        self.level <= 0.0
    }

    fn take(&mut self, bytes: usize) {
        self.level -= bytes as f64;
    }
}

impl Lane {
    pub(super) fn new(connection: Connection, ceiling: u64, capacity: usize, now: Instant) -> Self {
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
    pub(super) fn pump(&self, now: Instant, trunk: &Trunk) {
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
            self.send(now, frame, trunk);
        }
    }

    fn send(&self, now: Instant, frame: Bytes, trunk: &Trunk) {
        self.last_sent.set(now);
        let limit = self.connection.max_datagram_size().unwrap_or_default();
        if frame.len() <= limit {
            trunk.count(|stats| {
                stats.packets_out += 1;
                stats.bytes_out += frame.len() as u64;
            });
            self.hand_over(frame, trunk);
            return;
        }
        let id = self.next_split.get();
        self.next_split.set(id.wrapping_add(1));
        let Some(halves) = frame::split(&frame, id, limit) else {
            trunk.count(|stats| stats.too_large += 1);
            return;
        };
        trunk.count(|stats| {
            stats.packets_out += 1;
            stats.bytes_out += frame.len() as u64;
            stats.split += 1;
        });
        for half in halves {
            self.hand_over(half, trunk);
        }
    }

    fn hand_over(&self, datagram: Bytes, trunk: &Trunk) {
        // A lost connection is seen by the reader; the size was asked a moment ago.
        if let Err(SendDatagramError::TooLarge) = self.connection.send_datagram(datagram) {
            trunk.count(|stats| stats.too_large += 1);
        }
    }

    fn beat(&self, now: Instant, trunk: &Trunk) {
        if now.saturating_duration_since(self.last_sent.get()) >= HEARTBEAT {
            self.last_sent.set(now);
            self.hand_over(frame::heartbeat(), trunk);
        }
    }
}

/// Reads datagrams until the connection ends.
pub(super) async fn read(lane: Rc<Lane>, trunk: Rc<Trunk>) {
    loop {
        let first = match lane.connection.read_datagram().await {
            Ok(datagram) => datagram,
            Err(error) => return trunk.end(DownReason::Quic(error.to_string())),
        };
        let more = || lane.connection.read_datagram().now_or_never().and_then(Result::ok);
        stretch(first, more, |datagram| receive(&lane, &trunk, &datagram));
        trunk.router.flush();
        tokio::task::yield_now().await;
    }
}

/// Takes the first item and those that are there already, but no more than a stretch of them. What
/// was fetched is taken.
fn stretch<T>(first: T, mut more: impl FnMut() -> Option<T>, mut take: impl FnMut(T)) {
    take(first);
    for _ in 1..STRETCH {
        let Some(next) = more() else { return };
        take(next);
    }
}

fn receive(lane: &Lane, trunk: &Trunk, datagram: &[u8]) {
    match Frame::parse(datagram) {
        Some(Frame::Heartbeat) => {}
        Some(Frame::Packet { flow, packet }) => trunk.deliver(flow, packet),
        Some(Frame::Message(message)) => trunk.hear(message),
        Some(Frame::Part { id, second, body }) => {
            let Some(whole) = lane.reassembly.borrow_mut().join(id, second, body) else { return };
            match Frame::parse(&whole) {
                Some(Frame::Packet { flow, packet }) => {
                    trunk.count(|stats| stats.joined += 1);
                    trunk.deliver(flow, packet);
                }
                Some(Frame::Message(message)) => {
                    trunk.count(|stats| stats.joined += 1);
                    trunk.hear(message);
                }
                _ => trunk.count(|stats| stats.malformed += 1),
            }
        }
        None => trunk.count(|stats| stats.malformed += 1),
    }
}

/// Sends what waits, beats, and listens for silence, until the connection ends.
pub(super) async fn tend(lane: Rc<Lane>, trunk: Rc<Trunk>) {
    let mut heard = 0;
    let mut silence = Duration::ZERO;
    let mut looked = Instant::now();
    loop {
        let waits = !lane.queue.borrow().is_empty();
        tokio::select! {
            () = lane.waiting.notified(), if !waits => {}
            () = tokio::time::sleep(if waits { RETRY } else { TICK }) => {}
        }
        if lane.connection.close_reason().is_some() {
            return;
        }
        let now = Instant::now();
        lane.pump(now, &trunk);
        lane.beat(now, &trunk);
        let passed = now.saturating_duration_since(looked);
        if passed < TICK {
            continue;
        }
        looked = now;
        let stats = lane.connection.stats();
        // Acknowledgements count as well as datagrams: any packet does.
        let hears = stats.frame_rx.datagram + stats.frame_rx.acks;
        // A thread that stood still has not listened: one look is worth two ticks at most, so that
        // what waits in the socket is heard before the peer is given up.
        silence = if hears == heard { silence + passed.min(2 * TICK) } else { Duration::ZERO };
        heard = hears;
        if silence >= SILENCE {
            return trunk.end(DownReason::Silence);
        }
        if trunk.is_abandoned() {
            return trunk.end(DownReason::Idle);
        }
        let rtt = stats.path.rtt.max(Duration::from_millis(1));
        let rate = stats.path.cwnd as f64 / rtt.as_secs_f64();
        let fill = (rate * BACKLOG.as_secs_f64()) as usize;
        lane.fill.set(fill.clamp(16 << 10, lane.capacity));
        trunk.publish(&lane, &stats, rate as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_is_taken() {
        for available in [1, 2, STRETCH - 1, STRETCH, STRETCH + 1, 10 * STRETCH] {
            let mut left = 0..available;
            let mut taken = Vec::new();
            while let Some(first) = left.next() {
                let before = taken.len();
                stretch(first, || left.next(), |item| taken.push(item));
                assert!(taken.len() - before <= STRETCH);
            }
            assert_eq!(taken, (0..available).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_ceiling_is_kept_over_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1_000_000, start);
        let mut sent = 0;
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            while !bucket.is_empty(now) {
                bucket.take(1200);
                sent += 1200;
            }
        }
        assert!((990_000..=1_040_000).contains(&sent), "{sent} bytes in a second");
    }
}
