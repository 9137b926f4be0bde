//! The rings of all workers, as the QUIC thread uses them.

use super::worker_port::WorkerPort;
use crate::event::LinkNumber;
use crate::flow::FlowId;
use std::cell::RefCell;
use systir_forwarding::batch::{Batch, Priority};
use systir_rtp::packet::{Codec, Kind};

/// The rings of all workers, indexed by worker number.
pub(super) struct WorkerRings {
    rings: RefCell<Vec<Ring>>,
}

struct Ring {
    port: WorkerPort,
    /// Packets of one link.
    pending: Option<(LinkNumber, Batch)>,
}

impl Ring {
    /// Sends the pending batch. Returns how many of its packets are dropped, since its link has no more room in the ring.
    fn flush(&mut self) -> u64 {
        self.pending.take().map_or(0, |(link, batch)| self.port.to.send_of(link, batch))
    }
}

impl WorkerRings {
    pub(super) fn new(rings: Vec<WorkerPort>) -> Self {
        let rings = rings.into_iter().map(|port| Ring { port, pending: None }).collect();
        Self { rings: RefCell::new(rings) }
    }

    /// Adds a packet to the pending batch of a worker. False when there is no such worker.
    pub(super) fn push(&self, worker: u8, link: LinkNumber, flow: FlowId, packet: &[u8]) -> bool {
        let mut rings = self.rings.borrow_mut();
        let Some(ring) = rings.get_mut(usize::from(worker)) else { return false };
        if ring.pending.as_ref().is_some_and(|(of, _)| *of != link) {
            ring.flush();
        }
        let Ring { port, pending } = ring;
        let (_, batch) = pending.get_or_insert_with(|| (link, port.to.fresh()));
        batch.push(link, flow.raw(), priority_of(packet), packet);
        true
    }

    /// Sends the pending batches. Returns how many packets are dropped, since their link has no more room in a ring.
    pub(super) fn flush(&self) -> u64 {
        self.rings.borrow_mut().iter_mut().map(Ring::flush).sum()
    }

    /// Takes a batch that a worker sent, with the worker's number.
    pub(super) fn take(&self) -> Option<(u8, Batch)> {
        let mut rings = self.rings.borrow_mut();
        rings.iter_mut().zip(0u8..).find_map(|(Ring { port, .. }, worker)| Some((worker, port.from.recv()?)))
    }

    pub(super) fn recycle(&self, worker: u8, batch: Batch) {
        if let Some(Ring { port, .. }) = self.rings.borrow_mut().get_mut(usize::from(worker)) {
            port.from.recycle(batch);
        }
    }

    /// Packets dropped by full rings to workers.
    pub(super) fn lost(&self) -> u64 {
        self.rings.borrow().iter().map(|Ring { port, .. }| port.to.dropped()).sum()
    }
}

/// The priority of an arriving packet: RTCP (RFC 5761, section 4) is control, and a full ring loses video before
/// audio. Which layer of video it is does not matter here.
pub(super) fn priority_of(packet: &[u8]) -> Priority {
    let Some(kind) = packet.get(1) else { return Priority::Rest };
    match (kind, Codec::from_payload_type(kind & 0x7F).map(Codec::kind)) {
        (192..=223, _) => Priority::Control,
        (_, Some(Kind::Audio)) => Priority::Audio,
        _ => Priority::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Parity;
    use systir_forwarding::batch::batch_ring;

    #[test]
    fn a_link_that_floods_a_ring_loses_its_own_packets_and_not_those_of_others() {
        let (_, from) = batch_ring(1 << 20, std::task::Waker::noop().clone());
        let (to, mut worker) = batch_ring(1 << 20, std::task::Waker::noop().clone());
        let rings = WorkerRings::new(vec![WorkerPort { from, to }]);
        let flow = FlowId::new(Parity::Smaller, 0, 1).unwrap();
        let send = |link, kind: u8| {
            assert!(rings.push(0, link, flow, &[&[0x80, kind][..], &[0; 1_000]].concat()));
            rings.flush();
        };
        // It says that all of its packets are control.
        for _ in 0..10_000 {
            send(1, 205);
        }
        for _ in 0..20 {
            send(2, Codec::Vp8 as u8);
        }
        let mut of_the_other = 0;
        while let Some(batch) = worker.recv() {
            of_the_other += batch.iter().filter(|(entry, _)| entry.peer == 2).count();
        }
        assert_eq!(of_the_other, 20);
    }

    #[test]
    fn control_and_audio_come_before_video() {
        let priority = |kind: u8| priority_of(&[0x80, kind, 0, 1]);
        assert_eq!(priority(205), Priority::Control);
        for audio in [Codec::Opus, Codec::Red, Codec::Pcmu] {
            assert_eq!(
                (priority(audio as u8), priority(0x80 | audio as u8)),
                (Priority::Audio, Priority::Audio)
            );
        }
        assert_eq!((priority(96), priority(0x80 | 96)), (Priority::Rest, Priority::Rest));
        assert_eq!(priority_of(&[]), Priority::Rest);
    }
}
