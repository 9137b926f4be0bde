//! Between the workers' rings and the links: which packet is whose. Lives on the thread of the
//! links, so nothing here is shared.

use super::thread::WorkerPort;
use crate::flow::{FlowId, Parity};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use systir_forwarding::batch::{Batch, Priority};

/// Flows whose worker is remembered per link, at most; then all are learned anew.
const MAX_FLOWS: usize = 1 << 14;

/// The workers' ends of the rings.
pub(super) struct Router {
    ports: RefCell<Vec<Port>>,
}

struct Port {
    port: WorkerPort,
    pending: Option<Batch>,
}

impl Router {
    pub(super) fn new(ports: Vec<WorkerPort>) -> Self {
        let ports = ports.into_iter().map(|port| Port { port, pending: None }).collect();
        Self { ports: RefCell::new(ports) }
    }

    /// Puts a packet into the batch for a worker; false when there is no such worker.
    pub(super) fn deliver(&self, worker: u8, link: u32, flow: FlowId, packet: &[u8]) -> bool {
        let mut ports = self.ports.borrow_mut();
        let Some(Port { port, pending }) = ports.get_mut(usize::from(worker)) else { return false };
        let batch = pending.get_or_insert_with(|| port.to.fresh());
        batch.push(link, flow.raw(), worth(packet), packet);
        true
    }

    /// Hands over what [`Router::deliver`] gathered.
    pub(super) fn flush(&self) {
        for Port { port, pending } in self.ports.borrow_mut().iter_mut() {
            if let Some(batch) = pending.take() {
                port.to.send(batch);
            }
        }
    }

    /// A batch that a worker sent, with the worker's number.
    pub(super) fn take(&self) -> Option<(u8, Batch)> {
        let mut ports = self.ports.borrow_mut();
        ports.iter_mut().zip(0u8..).find_map(|(Port { port, .. }, worker)| Some((worker, port.from.recv()?)))
    }

    pub(super) fn recycle(&self, worker: u8, batch: Batch) {
        if let Some(Port { port, .. }) = self.ports.borrow_mut().get_mut(usize::from(worker)) {
            port.from.recycle(batch);
        }
    }

    /// Packets that full rings to workers lost.
    pub(super) fn lost(&self) -> u64 {
        self.ports.borrow().iter().map(|Port { port, .. }| port.to.dropped()).sum()
    }
}

/// RTCP (RFC 5761, section 4) is control; a receiver ranks media no further.
pub(super) fn worth(packet: &[u8]) -> Priority {
    match packet.get(1) {
        Some(192..=223) => Priority::Control,
        _ => Priority::Rest,
    }
}

/// Which worker each flow of a link belongs to.
#[derive(Debug)]
pub(super) struct FlowTable {
    parity: Parity,
    senders: FxHashMap<FlowId, u8>,
}

impl FlowTable {
    pub(super) fn new(parity: Parity) -> Self {
        Self { parity, senders: FxHashMap::default() }
    }

    /// A worker sent a packet of a flow. Of flows that the peer chose, feedback goes back to it.
    pub(super) fn sent(&mut self, flow: FlowId, worker: u8) {
        if flow.parity() == self.parity {
            return;
        }
        if self.senders.len() >= MAX_FLOWS && !self.senders.contains_key(&flow) {
            self.senders.clear();
        }
        self.senders.insert(flow, worker);
    }

    /// Who gets a packet of a flow that arrived.
    pub(super) fn receiver(&self, flow: FlowId) -> Option<u8> {
        if flow.parity() == self.parity { Some(flow.worker()) } else { self.senders.get(&flow).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_finds_the_worker_that_sends() {
        let mut table = FlowTable::new(Parity::Smaller);
        let mine = FlowId::new(Parity::Smaller, 3, 9).unwrap();
        let theirs = FlowId::new(Parity::Greater, 5, 9).unwrap();
        assert_eq!(table.receiver(mine), Some(3));
        assert_eq!(table.receiver(theirs), None, "nobody here sends it");
        table.sent(theirs, 1);
        assert_eq!(table.receiver(theirs), Some(1), "not 5, which is the peer's worker");
        table.sent(theirs, 2);
        assert_eq!(table.receiver(theirs), Some(2), "the last that sent it");
        table.sent(mine, 7);
        assert_eq!(table.receiver(mine), Some(3), "feedback from here changes nothing");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = FlowTable::new(Parity::Smaller);
        for counter in 1..100_000 {
            table.sent(FlowId::new(Parity::Greater, 0, counter).unwrap(), 1);
            assert!(table.senders.len() <= MAX_FLOWS);
        }
    }
}
