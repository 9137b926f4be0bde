//! Rings to the links' thread and to the node's other workers: packets leave in batches, one batch
//! per turn of the worker.

use systir_forwarding::batch::{Batch, BatchReceiver, BatchSender, Priority};

use super::stats::WorkerCounts;

/// Packets after which a batch leaves before the turn ends.
const MAX_BATCH: usize = 128;

/// One way out of the worker and back in.
#[derive(Debug)]
pub struct Ring {
    /// To the other side.
    pub sender: BatchSender,
    /// From the other side; made with the worker's waker.
    pub receiver: BatchReceiver,
}

/// A ring to another worker of this node. To the core that worker is a peer like a link.
#[derive(Debug)]
pub struct WorkerRing {
    /// The peer id that commands use for that worker. No link may have it.
    pub peer: u32,
    /// The ring.
    pub ring: Ring,
}

#[derive(Debug)]
struct Port {
    /// The one peer behind it; none: the links' thread, whose entries name the link.
    peer: Option<u32>,
    ring: Ring,
    batch: Option<Batch>,
}

/// All rings of a worker.
#[derive(Debug, Default)]
pub(super) struct Links {
    ports: Vec<Port>,
}

impl Links {
    pub(super) fn new(links: Option<Ring>, workers: Vec<WorkerRing>) -> Self {
        let workers = workers.into_iter().map(|other| (Some(other.peer), other.ring));
        let all = workers.chain(links.map(|ring| (None, ring)));
        Self { ports: all.map(|(peer, ring)| Port { peer, ring, batch: None }).collect() }
    }

    /// Rings there are.
    pub(super) fn len(&self) -> usize {
        self.ports.len()
    }

    /// Appends a packet for a peer. False when no ring leads there.
    pub(super) fn push(
        &mut self,
        peer: u32,
        flow: u32,
        priority: Priority,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let way = |port: &Port| port.peer == Some(peer);
        let index =
            self.ports.iter().position(way).or_else(|| self.ports.iter().position(|p| p.peer.is_none()));
        let Some(port) = index.and_then(|index| self.ports.get_mut(index)) else { return false };
        let mut batch = port.batch.take().unwrap_or_else(|| port.ring.sender.fresh());
        batch.push_with(peer, flow, priority, write);
        if batch.len() < MAX_BATCH {
            port.batch = Some(batch);
        } else {
            port.ring.sender.send(batch);
        }
        true
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self, counts: &mut WorkerCounts) {
        let mut full = 0;
        for port in &mut self.ports {
            if let Some(batch) = port.batch.take() {
                port.ring.sender.send(batch);
            }
            full += port.ring.sender.dropped();
        }
        counts.link_full = full;
    }

    /// The next batch of a ring, and the peer that all of it comes from, if that is one.
    pub(super) fn recv(&mut self, port: usize) -> Option<(Option<u32>, Batch)> {
        let port = self.ports.get_mut(port)?;
        Some((port.peer, port.ring.receiver.recv()?))
    }

    /// Returns an emptied batch.
    pub(super) fn recycle(&mut self, port: usize, batch: Batch) {
        if let Some(port) = self.ports.get_mut(port) {
            port.ring.receiver.recycle(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use systir_forwarding::batch::batch_ring;

    use super::*;

    fn pair() -> (Ring, Ring) {
        let (sender, far_receiver) = batch_ring(4, Waker::noop().clone());
        let (far_sender, receiver) = batch_ring(4, Waker::noop().clone());
        (Ring { sender, receiver }, Ring { sender: far_sender, receiver: far_receiver })
    }

    #[test]
    fn a_peer_that_is_no_worker_is_behind_the_links() {
        let (to_links, mut links) = pair();
        let (to_worker, mut worker) = pair();
        let mut all = Links::new(Some(to_links), vec![WorkerRing { peer: 9, ring: to_worker }]);
        assert!(all.push(9, 1, Priority::Audio, |bytes| bytes.push(1)));
        assert!(all.push(3, 2, Priority::Base, |bytes| bytes.push(2)));
        all.flush(&mut WorkerCounts::default());
        let batch = worker.receiver.recv().unwrap();
        assert_eq!(batch.iter().map(|(entry, _)| entry.flow).collect::<Vec<_>>(), [1]);
        let batch = links.receiver.recv().unwrap();
        assert_eq!(batch.iter().map(|(entry, _)| (entry.peer, entry.flow)).collect::<Vec<_>>(), [(3, 2)]);
    }

    #[test]
    fn without_links_only_workers_are_reached() {
        let (to_worker, _worker) = pair();
        let mut all = Links::new(None, vec![WorkerRing { peer: 9, ring: to_worker }]);
        assert!(!all.push(3, 2, Priority::Base, |bytes| bytes.push(2)));
    }

    #[test]
    fn packets_for_a_full_ring_are_counted_not_kept() {
        let (to_links, _links) = pair();
        let mut all = Links::new(Some(to_links), Vec::new());
        let mut counts = WorkerCounts::default();
        for _ in 0..6 {
            all.push(3, 2, Priority::Base, |bytes| bytes.push(2));
            all.flush(&mut counts);
        }
        assert_eq!(counts.link_full, 2);
    }
}
