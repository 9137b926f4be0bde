//! Batches of packets, passed between threads over a bounded ring. When the ring is full, the batch is
//! dropped and its packets are counted; the sender never blocks. Emptied batches return over a second
//! ring, so a running stream allocates nothing.

use std::task::Waker;

/// Priority of a packet when not all can be sent. Lower values are sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Heartbeats, RTCP.
    Control = 0,
    /// Audio.
    Audio = 1,
    /// The lowest layer of a video track.
    Base = 2,
    /// Everything else.
    Rest = 3,
}

/// One packet of a batch: its flow, its priority and its place in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which link the packet goes to or came from.
    pub peer: u32,
    /// Flow on that link: one layer of one track (the flow identifier of RTP over QUIC).
    pub flow: u32,
    /// Its priority.
    pub priority: Priority,
    start: u32,
    len: u32,
}

/// Many packets in one buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Batch {
    /// Appends a packet. `write` appends its bytes to the buffer.
    pub fn push_with(&mut self, peer: u32, flow: u32, priority: Priority, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let len = self.bytes.len().saturating_sub(start);
        self.entries.push(Entry { peer, flow, priority, start: start as u32, len: len as u32 });
    }

    /// Appends a copy of a packet.
    pub fn push(&mut self, peer: u32, flow: u32, priority: Priority, packet: &[u8]) {
        self.push_with(peer, flow, priority, |bytes| bytes.extend_from_slice(packet));
    }

    /// Packets in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = (Entry, &[u8])> {
        self.entries.iter().map(|entry| {
            let start = entry.start as usize;
            (*entry, &self.bytes[start..start + entry.len as usize])
        })
    }

    /// Number of packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is the batch empty?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// The sending end. It stays on one thread.
#[derive(Debug)]
pub struct BatchSender {
    full: rtrb::Producer<Batch>,
    empty: rtrb::Consumer<Batch>,
    waker: Waker,
    dropped: u64,
}

/// The receiving end. It stays on one thread.
#[derive(Debug)]
pub struct BatchReceiver {
    full: rtrb::Consumer<Batch>,
    empty: rtrb::Producer<Batch>,
}

/// Makes a ring for `capacity` batches. `waker` is woken once per batch.
#[must_use]
pub fn batch_ring(capacity: usize, waker: Waker) -> (BatchSender, BatchReceiver) {
    let (full, full_rx) = rtrb::RingBuffer::new(capacity);
    let (empty, empty_rx) = rtrb::RingBuffer::new(capacity);
    (BatchSender { full, empty: empty_rx, waker, dropped: 0 }, BatchReceiver { full: full_rx, empty })
}

impl BatchSender {
    /// An empty batch, a recycled one if available.
    #[must_use]
    pub fn fresh(&mut self) -> Batch {
        self.empty.pop().unwrap_or_default()
    }

    /// Sends the batch. When the ring is full, the batch is dropped and its packets are counted.
    pub fn send(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        if let Err(rtrb::PushError::Full(batch)) = self.full.push(batch) {
            self.dropped += batch.len() as u64;
            return;
        }
        self.waker.wake_by_ref();
    }

    /// Packets dropped so far because the ring was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Was the receiving end dropped?
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }
}

impl BatchReceiver {
    /// The next batch, if any. Return it with [`BatchReceiver::recycle`].
    pub fn recv(&mut self) -> Option<Batch> {
        self.full.pop().ok()
    }

    /// Clears the batch and returns it to the sender.
    pub fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        let _ = self.empty.push(batch);
    }
}
