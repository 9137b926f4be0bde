//! The ring that passes batches from one thread to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use super::shares::Shares;
use super::{Batch, Priority};

/// A ring has a slot for each of this many bytes: batches of one small packet do not fill it early.
const BYTES_PER_SLOT: usize = 1024;
/// Fewest and most slots.
const SLOTS: std::ops::RangeInclusive<usize> = 64..=8192;
/// Emptied batches that are kept for reuse.
const MAX_EMPTY: usize = 64;

/// How full a ring may be for packets of a priority, in quarters.
fn quarters(priority: Priority) -> usize {
    match priority {
        Priority::Control | Priority::Audio => 4,
        Priority::Base => 3,
        Priority::Rest => 2,
    }
}

/// The sending end. It stays on one thread.
#[derive(Debug)]
pub struct BatchSender {
    full: rtrb::Producer<Batch>,
    empty: rtrb::Consumer<Batch>,
    /// An emptied batch that was not sent.
    spare: Option<Batch>,
    waker: Waker,
    limit: usize,
    shares: Shares,
    /// Size of all batches in the ring; changed once per batch.
    queued: Arc<AtomicUsize>,
    dropped: u64,
    dropped_audio: u64,
}

/// The receiving end. It stays on one thread.
#[derive(Debug)]
pub struct BatchReceiver {
    full: rtrb::Consumer<Batch>,
    empty: rtrb::Producer<Batch>,
    queued: Arc<AtomicUsize>,
}

/// Makes a ring that holds packets of `limit` bytes at most. `waker` is woken once per batch.
#[must_use]
pub fn batch_ring(limit: usize, waker: Waker) -> (BatchSender, BatchReceiver) {
    let slots = (limit / BYTES_PER_SLOT).clamp(*SLOTS.start(), *SLOTS.end());
    let (full, full_rx) = rtrb::RingBuffer::new(slots);
    let (empty, empty_rx) = rtrb::RingBuffer::new(MAX_EMPTY);
    let queued = Arc::new(AtomicUsize::new(0));
    let receiver = BatchReceiver { full: full_rx, empty, queued: Arc::clone(&queued) };
    let sender = BatchSender {
        full,
        empty: empty_rx,
        spare: None,
        waker,
        limit,
        shares: Shares::new(slots),
        queued,
        dropped: 0,
        dropped_audio: 0,
    };
    (sender, receiver)
}

impl BatchSender {
    /// An empty batch, a recycled one if available.
    #[must_use]
    pub fn fresh(&mut self) -> Batch {
        self.spare.take().or_else(|| self.empty.pop().ok()).unwrap_or_default()
    }

    /// Sends the batch. Packets for which the ring is too full are dropped and counted, those of the lowest
    /// priority first.
    pub fn send(&mut self, batch: Batch) {
        let _ = self.send_if(batch, |ring, batch, lowest| ring.has_room(batch.size(), lowest));
    }

    /// Sends a batch of one of several sources, in a ring to which all batches are sent so. A source has a share of the ring, so
    /// that one that floods it loses its own packets and not those of others. Returns how many packets are dropped.
    pub fn send_of(&mut self, source: u32, batch: Batch) -> u64 {
        let before = self.dropped;
        self.shares.keep_newest(self.used());
        let sent = self.send_if(batch, |ring, batch, lowest| {
            ring.used() < ring.slots() && ring.shares.has_room(source, ring.taken(batch), ring.limit, lowest)
        });
        if let Some(taken) = sent {
            self.shares.add(source, taken);
        }
        self.dropped - before
    }

    /// Sends what there is room for. Returns what it takes of the shares.
    fn send_if(
        &mut self,
        mut batch: Batch,
        has_room: impl Fn(&Self, &Batch, Priority) -> bool,
    ) -> Option<usize> {
        for lowest in [Priority::Rest, Priority::Base, Priority::Audio] {
            self.dropped += batch.retain_from(lowest) as u64;
            if batch.is_empty() {
                break;
            }
            if has_room(self, &batch, lowest) {
                let taken = self.taken(&batch);
                self.queued.fetch_add(batch.size(), Ordering::Relaxed);
                // Only this end adds batches, so there is a slot.
                if self.full.push(batch).is_ok() {
                    self.waker.wake_by_ref();
                }
                return Some(taken);
            }
        }
        self.dropped += batch.len() as u64;
        self.dropped_audio +=
            batch.iter().filter(|(entry, _)| entry.priority == Priority::Audio).count() as u64;
        batch.clear();
        self.spare = Some(batch);
        None
    }

    fn slots(&self) -> usize {
        self.full.buffer().capacity()
    }

    /// Slots with a batch that was not received.
    fn used(&self) -> usize {
        self.slots() - self.full.slots()
    }

    /// What a batch takes of its source's share: at least the part of the limit that its slot is.
    fn taken(&self, batch: &Batch) -> usize {
        batch.size().max(self.limit / self.slots())
    }

    /// Is there room for `size` more bytes, of this priority and higher ones?
    fn has_room(&self, size: usize, lowest: Priority) -> bool {
        let (slots, used) = (self.slots(), self.used());
        let queued = self.queued.load(Ordering::Relaxed);
        (used + 1) * 4 <= slots * quarters(lowest) && (queued + size) * 4 <= self.limit * quarters(lowest)
    }

    /// Packets dropped so far because the ring was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Of those, packets of audio.
    #[must_use]
    pub fn dropped_audio(&self) -> u64 {
        self.dropped_audio
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
        let batch = self.full.pop().ok()?;
        self.queued.fetch_sub(batch.size(), Ordering::Relaxed);
        Some(batch)
    }

    /// Clears the batch and returns it to the sender.
    pub fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        let _ = self.empty.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(limit: usize) -> (BatchSender, BatchReceiver) {
        batch_ring(limit, Waker::noop().clone())
    }

    fn send(sender: &mut BatchSender, priority: Priority, mark: u8, len: usize) {
        let mut batch = sender.fresh();
        batch.push(1, 2, priority, &vec![mark; len]);
        sender.send(batch);
    }

    /// First bytes and priorities of all packets in the ring.
    fn received(receiver: &mut BatchReceiver) -> Vec<(Priority, u8)> {
        let mut all = Vec::new();
        while let Some(batch) = receiver.recv() {
            all.extend(batch.iter().map(|(entry, packet)| (entry.priority, packet[0])));
            receiver.recycle(batch);
        }
        all
    }

    #[test]
    fn many_batches_of_one_small_packet_fit() {
        let (mut sender, mut receiver) = ring(8 << 20);
        // A receiver that stands still for a tenth of a second, while the sender runs 20,000 turns a second.
        for _ in 0..2000 {
            send(&mut sender, Priority::Rest, 7, 120);
        }
        assert_eq!(sender.dropped(), 0);
        assert_eq!(received(&mut receiver).len(), 2000);
    }

    #[test]
    fn video_is_dropped_before_audio_and_high_layers_before_low_ones() {
        let (mut sender, mut receiver) = ring(100_000);
        for (priority, mark) in [(Priority::Rest, 3), (Priority::Base, 2), (Priority::Audio, 1)] {
            for _ in 0..200 {
                send(&mut sender, priority, mark, 980);
            }
        }
        let all = received(&mut receiver);
        let count = |priority| all.iter().filter(|(of, _)| *of == priority).count();
        assert_eq!([Priority::Rest, Priority::Base, Priority::Audio].map(count), [48, 24, 25]);
        assert_eq!((sender.dropped(), sender.dropped_audio()), (600 - 97, 200 - 25));
        send(&mut sender, Priority::Rest, 3, 980);
        assert_eq!(received(&mut receiver).len(), 1, "there is room again");
    }

    #[test]
    fn audio_of_a_batch_survives_its_video() {
        let (mut sender, mut receiver) = ring(100_000);
        for _ in 0..100 {
            send(&mut sender, Priority::Base, 2, 980);
        }
        let before = sender.dropped();
        send_filled(&mut sender, |batch| {
            batch.push(1, 2, Priority::Rest, &[3; 500]);
            batch.push(1, 2, Priority::Audio, &[1; 100]);
            batch.push(1, 2, Priority::Base, &[2; 500]);
            batch.push(1, 2, Priority::Audio, &[9; 100]);
        });
        assert_eq!((sender.dropped() - before, sender.dropped_audio()), (2, 0));
        let all = received(&mut receiver);
        assert_eq!(all[all.len() - 2..], [(Priority::Audio, 1), (Priority::Audio, 9)]);
    }

    fn send_filled(sender: &mut BatchSender, fill: impl FnOnce(&mut Batch)) {
        let mut batch = sender.fresh();
        fill(&mut batch);
        sender.send(batch);
    }

    /// Sends one packet of a source. Is it dropped?
    fn loses(sender: &mut BatchSender, source: u32, priority: Priority, len: usize) -> bool {
        let mut batch = sender.fresh();
        batch.push(source, 2, priority, &vec![0; len]);
        sender.send_of(source, batch) == 1
    }

    #[test]
    fn sources_that_flood_a_ring_lose_their_own_packets_and_not_those_of_others() {
        let floods: [(Priority, usize, u32); 4] = [
            (Priority::Control, 980, 1),
            (Priority::Rest, 980, 1),
            // Many batches of a small packet each.
            (Priority::Control, 1, 1),
            (Priority::Control, 980, 3),
        ];
        for (priority, len, sources) in floods {
            let (mut sender, mut receiver) = ring(1_000_000);
            for _ in 0..10 {
                let flood: usize =
                    (0..100_000).filter(|number| loses(&mut sender, number % sources, priority, len)).count();
                assert!(flood > 90_000, "{flood}");
                for _ in 0..20 {
                    assert!(!loses(&mut sender, 9, Priority::Rest, 980), "{priority:?} {len} {sources}");
                }
                let mut of_others = 0;
                while let Some(batch) = receiver.recv() {
                    of_others += batch.iter().filter(|(entry, _)| entry.peer == 9).count();
                    receiver.recycle(batch);
                }
                assert_eq!(of_others, 20);
            }
        }
    }

    #[test]
    fn a_source_alone_loses_video_before_audio() {
        let (mut sender, mut receiver) = ring(1_000_000);
        for priority in [Priority::Rest, Priority::Base, Priority::Audio] {
            for _ in 0..1_000 {
                loses(&mut sender, 1, priority, 980);
            }
        }
        let all = received(&mut receiver);
        let count = |priority| all.iter().filter(|(of, _)| *of == priority).count();
        assert_eq!([Priority::Rest, Priority::Base, Priority::Audio].map(count), [325, 163, 163]);
        assert!(!loses(&mut sender, 1, Priority::Rest, 980), "there is room again");
    }

    #[test]
    fn bytes_bound_the_ring_however_large_the_batches_are() {
        let (mut sender, mut receiver) = ring(100_000);
        for _ in 0..10 {
            send_filled(&mut sender, |batch| {
                for _ in 0..20 {
                    batch.push(1, 2, Priority::Audio, &[1; 980]);
                }
            });
        }
        assert_eq!(received(&mut receiver).len(), 100);
        assert_eq!(sender.dropped_audio(), 100);
    }
}
