//! The flows of a link and their workers.

use crate::flow::{FlowId, Parity};
use crate::open_flows::{KnownOpenFlows, LinkFlows};
use rustc_hash::FxHashMap;

/// Sending workers remembered per link, at most. A full table is cleared and learned again.
const MAX_FLOWS: usize = 1 << 14;

/// Maps each flow of a link to a worker of this node.
#[derive(Debug)]
pub(super) struct FlowTable {
    parity: Parity,
    /// The flows that the peer subscribed to.
    sent: KnownOpenFlows,
    /// The flows that this node subscribed to.
    received: KnownOpenFlows,
    senders: FxHashMap<FlowId, u8>,
}

impl FlowTable {
    pub(super) fn new(parity: Parity, flows: LinkFlows) -> Self {
        let (sent, received) = (KnownOpenFlows::of(flows.sent), KnownOpenFlows::of(flows.received));
        Self { parity, sent, received, senders: FxHashMap::default() }
    }

    /// Takes over which flows are open.
    pub(super) fn refresh(&mut self) {
        self.sent.refresh();
        self.received.refresh();
    }

    /// Did the peer choose the flow? Then this node sends its media.
    fn is_peers(&self, flow: FlowId) -> bool {
        flow.parity() != self.parity
    }

    /// May packets of the flow be sent: media if an open room has it, feedback always?
    pub(super) fn may_send(&mut self, flow: FlowId) -> bool {
        !self.is_peers(flow) || self.sent.contains(flow)
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

    /// The worker for an arriving packet of a flow. None when no open room has it: nobody subscribed to it.
    pub(super) fn receiver(&mut self, flow: FlowId) -> Option<u8> {
        if self.is_peers(flow) {
            self.senders.get(&flow).copied().filter(|_| self.sent.contains(flow))
        } else {
            self.received.contains(flow).then(|| flow.worker())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_reaches_the_worker_that_sends() {
        let mine = FlowId::new(Parity::Smaller, 3, 9).unwrap();
        let theirs = FlowId::new(Parity::Greater, 5, 9).unwrap();
        let flows = LinkFlows::default();
        let mut table = FlowTable::new(Parity::Smaller, flows.clone());
        assert!(flows.received.insert(mine) && flows.sent.insert(theirs));
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
    fn packets_of_a_flow_that_nobody_subscribed_to_have_no_worker() {
        let flows = LinkFlows::default();
        let mut table = FlowTable::new(Parity::Smaller, flows.clone());
        let mine = FlowId::new(Parity::Smaller, 3, 9).unwrap();
        let theirs = FlowId::new(Parity::Greater, 5, 9).unwrap();
        assert_eq!(table.receiver(mine), None);
        assert!(flows.received.insert(mine) && flows.sent.insert(theirs));
        assert_eq!(table.receiver(mine), Some(3), "subscribed in this moment");
        table.sent(theirs, 1);
        assert_eq!(table.receiver(theirs), Some(1));
        flows.received.remove([mine]);
        flows.sent.remove([theirs]);
        table.refresh();
        assert_eq!((table.receiver(mine), table.receiver(theirs)), (None, None), "its room is closed");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = FlowTable::new(Parity::Smaller, LinkFlows::default());
        for counter in 1..100_000 {
            table.sent(FlowId::new(Parity::Greater, 0, counter).unwrap(), 1);
            assert!(table.senders.len() <= MAX_FLOWS);
        }
    }
}
