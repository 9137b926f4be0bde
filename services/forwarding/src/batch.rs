//! Batches of packets, passed between threads over a ring that is bounded in bytes. As it fills, higher video
//! layers are dropped first, then all video, then audio; drops are counted and the sender never blocks. Where a
//! ring has several sources, each has a share of it ([`BatchSender::send_of`]).
//! Emptied batches return over a second ring, so a running stream allocates nothing.

mod ring;
mod shares;

pub use ring::{BatchReceiver, BatchSender, batch_ring};

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

    /// What the packets take of a ring's limit.
    fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Removes packets of lower priorities, and returns how many.
    fn retain_from(&mut self, lowest: Priority) -> usize {
        if self.entries.iter().all(|entry| entry.priority <= lowest) {
            return 0;
        }
        let (before, mut end) = (self.entries.len(), 0);
        let bytes = &mut self.bytes;
        self.entries.retain_mut(|entry| {
            let keep = entry.priority <= lowest;
            if keep {
                let (start, len) = (entry.start as usize, entry.len as usize);
                bytes.copy_within(start..start + len, end);
                entry.start = end as u32;
                end += len;
            }
            keep
        });
        bytes.truncate(end);
        before - self.entries.len()
    }

    /// Removes all packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}
