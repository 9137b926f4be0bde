//! The flows of a link and their workers.

use crate::flow::{FlowId, Parity};
use rustc_hash::FxHashMap;

/// Sending workers remembered per link, at most. A full table is cleared and learned again.
const MAX_FLOWS: usize = 1 << 14;

/// Maps each flow of a link to a worker of this node.
#[derive(Debug)]
pub(super) struct FlowTable {
    parity: Parity,
    senders: FxHashMap<FlowId, u8>,
}

impl FlowTable {
    pub(super) fn new(parity: Parity) -> Self {
        Self { parity, senders: FxHashMap::default() }
    }

    /// Did the peer choose the flow? Then this node sends its media.
    pub(super) fn is_peers(&self, flow: FlowId) -> bool {
        flow.parity() != self.parity
    }

    /// A worker sent a packet of a flow. If the peer chose the flow, its feedback goes to that worker.
    pub(super) fn sent(&mut self, flow: FlowId, worker: u8) {
        if !self.is_peers(flow) {
            return;
        }
        if self.senders.len() >= MAX_FLOWS && !self.senders.contains_key(&flow) {
            self.senders.clear();
        }
        self.senders.insert(flow, worker);
    }

    /// The worker for an arriving packet of a flow.
    pub(super) fn receiver(&self, flow: FlowId) -> Option<u8> {
        if flow.parity() == self.parity { Some(flow.worker()) } else { self.senders.get(&flow).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_reaches_the_worker_that_sends() {
        let mut table = FlowTable::new(Parity::Smaller);
        let mine = FlowId::new(Parity::Smaller, 3, 9).unwrap();
        let theirs = FlowId::new(Parity::Greater, 5, 9).unwrap();
        assert_eq!(table.receiver(mine), Some(3));
        assert_eq!(table.receiver(theirs), None, "no worker sends it");
        table.sent(theirs, 1);
        assert_eq!(table.receiver(theirs), Some(1), "not 5, which is the peer's worker");
        table.sent(theirs, 2);
        assert_eq!(table.receiver(theirs), Some(2), "the last worker that sent it");
        table.sent(mine, 7);
        assert_eq!(table.receiver(mine), Some(3), "feedback sent by this node changes nothing");
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
