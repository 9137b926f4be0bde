//! Flow identifiers (RTP over QUIC, section 4): one layer of one track on one link. The node that
//! receives the media chooses them, so that a datagram alone names the worker that it is for.
//!
//! Layout: `counter << 5 | worker << 1 | parity`. Identifiers with counter 0 are reserved for
//! datagrams of the link itself.

use systir_identity::SpiffeId;

/// Workers that a flow identifier can name.
pub const MAX_WORKERS: usize = 16;
const MAX_COUNTER: u32 = (1 << 27) - 1;

/// Which of the two nodes of a link chose a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Parity {
    /// The node with the smaller SPIFFE id.
    Smaller = 0,
    /// The node with the greater SPIFFE id.
    Greater = 1,
}

impl Parity {
    /// The parity of `me` on the link with `peer`. A node has no link with itself.
    #[must_use]
    pub fn of(me: &SpiffeId, peer: &SpiffeId) -> Self {
        if me < peer { Self::Smaller } else { Self::Greater }
    }
}

/// A flow identifier; never a reserved one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u32);

impl FlowId {
    /// Composes an identifier. None unless the worker is 0 to 15 and the counter 1 to 2^27 - 1.
    #[must_use]
    pub fn new(parity: Parity, worker: u8, counter: u32) -> Option<Self> {
        let valid = usize::from(worker) < MAX_WORKERS && (1..=MAX_COUNTER).contains(&counter);
        valid.then_some(Self(counter << 5 | u32::from(worker) << 1 | parity as u32))
    }

    /// Reads an identifier from a message or a batch entry. None for reserved ones.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        (raw >> 5 != 0).then_some(Self(raw))
    }

    /// The number in messages and batch entries.
    #[must_use]
    pub fn raw(self) -> u32 {
        self.0
    }

    /// The node that chose it and receives its media.
    #[must_use]
    pub fn parity(self) -> Parity {
        if self.0 & 1 == 0 { Parity::Smaller } else { Parity::Greater }
    }

    /// The worker, of the node that chose it.
    #[must_use]
    pub fn worker(self) -> u8 {
        (self.0 >> 1 & 0xf) as u8
    }

    /// Its counter.
    #[must_use]
    pub fn counter(self) -> u32 {
        self.0 >> 5
    }
}

/// Allocates the flows of the media that this node receives from one other node. No identifier is
/// allocated twice.
#[derive(Debug, Clone)]
pub struct FlowNumbers {
    parity: Parity,
    next: u32,
}

impl FlowNumbers {
    /// Starts at counter 1, with this node's parity on the link.
    #[must_use]
    pub fn new(parity: Parity) -> Self {
        Self { parity, next: 1 }
    }

    /// The next flow for a worker. None after 2^27 - 1 flows.
    pub fn allocate(&mut self, worker: u8) -> Option<FlowId> {
        let flow = FlowId::new(self.parity, worker, self.next)?;
        self.next += 1;
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserved_identifiers_are_not_flows() {
        assert!((0..32).all(|raw| FlowId::from_raw(raw).is_none()));
        assert!(FlowId::from_raw(32).is_some());
        assert!(FlowId::new(Parity::Smaller, 0, 0).is_none());
        assert!(FlowId::new(Parity::Smaller, 16, 1).is_none());
        assert!(FlowId::new(Parity::Smaller, 0, 1 << 27).is_none());
    }

    #[test]
    fn the_two_nodes_have_different_parity() {
        let a: SpiffeId = "spiffe://nordu.net/relay/cph-1".parse().unwrap();
        let b: SpiffeId = "spiffe://nordu.net/relay/sto-1".parse().unwrap();
        assert_eq!(Parity::of(&a, &b), Parity::Smaller);
        assert_eq!(Parity::of(&b, &a), Parity::Greater);
    }

    #[test]
    fn no_flow_is_allocated_twice() {
        let mut numbers = FlowNumbers::new(Parity::Greater);
        let first = numbers.allocate(3).unwrap();
        let second = numbers.allocate(3).unwrap();
        assert_ne!(first, second);
        assert_eq!((first.worker(), first.parity(), first.counter()), (3, Parity::Greater, 1));
    }

    proptest! {
        #[test]
        fn parts_survive_encoding(worker in 0u8..16, counter in 1u32..(1 << 27), greater: bool) {
            let parity = if greater { Parity::Greater } else { Parity::Smaller };
            let flow = FlowId::new(parity, worker, counter).unwrap();
            prop_assert_eq!(FlowId::from_raw(flow.raw()), Some(flow));
            prop_assert_eq!((flow.parity(), flow.worker(), flow.counter()), (parity, worker, counter));
        }
    }
}
