//! How packets cross from one thread to another: by value, many at a time, over a bounded ring.
//! A full ring refuses the batch and the sender counts; it never blocks. Emptied batches go back
//! over a second ring, so that a running stream allocates nothing.

use std::task::Waker;

/// What a packet is worth when there is not room for all: lower numbers go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Heartbeats, RTCP.
    Control = 0,
    /// Sound.
    Audio = 1,
    /// The lowest layer of a picture.
    Base = 2,
    /// Everything else.
    Rest = 3,
}

/// Where one packet of a batch lies, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which link the packet goes to or came from.
    pub peer: u32,
    /// Flow on that link: one layer of one track (RTP over QUIC, flow identifier).
    pub flow: u32,
    /// Its worth.
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
    /// Appends a packet that `write` puts at the end of the buffer it is given.
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

    /// Packets in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// The sending end; lives on one thread.
#[derive(Debug)]
pub struct BatchSender {
    full: rtrb::Producer<Batch>,
    empty: rtrb::Consumer<Batch>,
    waker: Waker,
    dropped: u64,
}

/// The receiving end; lives on one thread.
#[derive(Debug)]
pub struct BatchReceiver {
    full: rtrb::Consumer<Batch>,
    empty: rtrb::Producer<Batch>,
}

/// A ring for `capacity` batches. `waker` wakes the receiver's thread once per batch.
#[must_use]
pub fn batch_ring(capacity: usize, waker: Waker) -> (BatchSender, BatchReceiver) {
    let (full, full_rx) = rtrb::RingBuffer::new(capacity);
    let (empty, empty_rx) = rtrb::RingBuffer::new(capacity);
    (BatchSender { full, empty: empty_rx, waker, dropped: 0 }, BatchReceiver { full: full_rx, empty })
}

impl BatchSender {
    /// An empty batch, recycled when there is one.
    #[must_use]
    pub fn fresh(&mut self) -> Batch {
        self.empty.pop().unwrap_or_default()
    }

    /// Hands the batch over. When the ring is full, the batch is dropped and its packets counted.
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

    /// Packets lost to a full ring so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Has the other end gone?
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }
}

impl BatchReceiver {
    /// The next batch, if one waits. Give it back with [`BatchReceiver::recycle`].
    pub fn recv(&mut self) -> Option<Batch> {
        self.full.pop().ok()
    }

    /// Returns an emptied batch to the sender.
    pub fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        let _ = self.empty.push(batch);
    }
}
