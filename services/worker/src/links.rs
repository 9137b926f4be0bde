//! The rings to and from the QUIC thread. Packets are sent in batches, one per iteration of the worker's loop.

use systir_forwarding::batch::{Batch, BatchReceiver, BatchSender, Priority};

use super::stats::WorkerCounts;

/// Packets in a batch, after which it is sent before the iteration ends.
const MAX_BATCH: usize = 128;

/// One end of a pair of rings between a worker and the QUIC thread.
#[derive(Debug)]
pub struct Ring {
    /// Batches to the other side.
    pub sender: BatchSender,
    /// Batches from the other side; wakes this side's thread (`ThreadNotifier`).
    pub receiver: BatchReceiver,
}

/// The worker's end of the rings, if it has links, and the batch that is being filled.
#[derive(Debug, Default)]
pub(super) struct Links {
    ring: Option<Ring>,
    batch: Option<Batch>,
}

impl Links {
    pub(super) fn new(ring: Option<Ring>) -> Self {
        Self { ring, batch: None }
    }

    /// Appends a packet for a link to the batch. False without a ring.
    pub(super) fn push(
        &mut self,
        peer: u32,
        flow: u32,
        priority: Priority,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        let mut batch = self.batch.take().unwrap_or_else(|| ring.sender.fresh());
        batch.push_with(peer, flow, priority, write);
        if batch.len() < MAX_BATCH {
            self.batch = Some(batch);
        } else {
            ring.sender.send(batch);
        }
        true
    }

    /// Sends the batch, and updates the counter of packets lost to a full ring.
    pub(super) fn flush(&mut self, counts: &mut WorkerCounts) {
        let Some(ring) = &mut self.ring else { return };
        if let Some(batch) = self.batch.take() {
            ring.sender.send(batch);
        }
        counts.link_full = ring.sender.dropped();
        counts.link_full_audio = ring.sender.dropped_audio();
    }

    /// The next batch from the ring.
    pub(super) fn recv(&mut self) -> Option<Batch> {
        self.ring.as_mut()?.receiver.recv()
    }

    /// Returns an emptied batch.
    pub(super) fn recycle(&mut self, batch: Batch) {
        if let Some(ring) = &mut self.ring {
            ring.receiver.recycle(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use systir_forwarding::batch::batch_ring;

    use super::*;

    fn pair() -> (Ring, Ring) {
        let (sender, far_receiver) = batch_ring(10_000, Waker::noop().clone());
        let (far_sender, receiver) = batch_ring(10_000, Waker::noop().clone());
        (Ring { sender, receiver }, Ring { sender: far_sender, receiver: far_receiver })
    }

    #[test]
    fn packets_of_a_turn_are_sent_in_one_batch() {
        let (to_links, mut links) = pair();
        let mut all = Links::new(Some(to_links));
        assert!(all.push(9, 1, Priority::Audio, |bytes| bytes.push(1)));
        assert!(all.push(3, 2, Priority::Base, |bytes| bytes.push(2)));
        assert!(links.receiver.recv().is_none(), "the iteration is not over");
        all.flush(&mut WorkerCounts::default());
        let batch = links.receiver.recv().unwrap();
        let entries: Vec<_> = batch.iter().map(|(entry, _)| (entry.peer, entry.flow)).collect();
        assert_eq!(entries, [(9, 1), (3, 2)]);
    }

    #[test]
    fn without_a_ring_no_packet_is_sent() {
        let mut all = Links::new(None);
        assert!(!all.push(3, 2, Priority::Base, |bytes| bytes.push(2)));
        all.flush(&mut WorkerCounts::default());
        assert!(all.recv().is_none());
    }

    #[test]
    fn packets_for_a_full_ring_are_dropped_and_counted() {
        let (to_links, _links) = pair();
        let mut all = Links::new(Some(to_links));
        let mut counts = WorkerCounts::default();
        let mut push = |priority, times| {
            for _ in 0..times {
                all.push(3, 2, priority, |bytes| bytes.resize(bytes.len() + 980, 2));
                all.flush(&mut counts);
            }
            (counts.link_full, counts.link_full_audio)
        };
        assert_eq!(push(Priority::Base, 9), (2, 0), "a quarter is left for audio");
        assert_eq!(push(Priority::Audio, 4), (3, 1));
    }
}
