//! The rings of all workers, as the QUIC thread uses them.

use super::worker_port::WorkerPort;
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
    pending: Option<Batch>,
}

impl WorkerRings {
    pub(super) fn new(rings: Vec<WorkerPort>) -> Self {
        let rings = rings.into_iter().map(|port| Ring { port, pending: None }).collect();
        Self { rings: RefCell::new(rings) }
    }

    /// Adds a packet to the pending batch of a worker. False when there is no such worker.
    pub(super) fn push(&self, worker: u8, link: u32, flow: FlowId, packet: &[u8]) -> bool {
        let mut rings = self.rings.borrow_mut();
        let Some(Ring { port, pending }) = rings.get_mut(usize::from(worker)) else { return false };
        let batch = pending.get_or_insert_with(|| port.to.fresh());
        batch.push(link, flow.raw(), priority_of(packet), packet);
        true
    }

    /// Sends the pending batches.
    pub(super) fn flush(&self) {
        for Ring { port, pending } in self.rings.borrow_mut().iter_mut() {
            if let Some(batch) = pending.take() {
                port.to.send(batch);
            }
        }
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
