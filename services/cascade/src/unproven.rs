//! Limits connections that have not proven yet which node they are of.
//!
//! Nodes that dial from addresses that directories list for nodes have places of their own: others cannot take them.

use crate::listed_nodes::ListedNodes;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use systir_limits::{AddressLimiter, AddressPlace, AttemptLimiter, network_of};

/// Places for addresses that directories list for nodes, and of these for one address.
const LISTED: (usize, usize) = (128, 64);
/// Places for all other addresses, and of these for one address.
const OTHERS: (usize, usize) = (64, 16);
/// Handshakes of one address that no directory lists: at once, and then one per interval. Each costs a signature.
const HANDSHAKES: u32 = 64;
const HANDSHAKE_INTERVAL: Duration = Duration::from_millis(50);
/// Addresses whose handshakes are remembered, at most.
const ADDRESSES: usize = 4096;

/// The places of one protocol.
pub(crate) struct UnprovenPlaces {
    directory: Arc<dyn ListedNodes>,
    listed: AddressLimiter,
    others: AddressLimiter,
    handshakes: AttemptLimiter<IpAddr>,
}

impl UnprovenPlaces {
    pub(crate) fn new(directory: Arc<dyn ListedNodes>) -> Self {
        Self {
            directory,
            listed: AddressLimiter::new(LISTED.0, LISTED.1),
            others: AddressLimiter::new(OTHERS.0, OTHERS.1),
            handshakes: AttemptLimiter::new(HANDSHAKES, HANDSHAKE_INTERVAL, ADDRESSES),
        }
    }

    /// A place for a handshake with this address; none over a limit.
    pub(crate) fn try_acquire(&self, from: IpAddr, now: Instant) -> Option<AddressPlace> {
        if self.directory.is_node_address(from.to_canonical()) {
            return self.listed.try_acquire(from).ok();
        }
        let place = self.others.try_acquire(from).ok()?;
        self.handshakes.take(network_of(from), now).then_some(place)
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.listed.taken() + self.others.taken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use systir_documents::PublicKey;
    use systir_identity::SpiffeId;

    /// Lists 192.0.2.0/24.
    struct Listed;

    impl ListedNodes for Listed {
        fn node_keys(&self, _: &SpiffeId) -> Vec<PublicKey> {
            Vec::new()
        }

        fn may_dial(&self, _: &SpiffeId, address: IpAddr) -> bool {
            self.is_node_address(address)
        }

        fn is_node_address(&self, address: IpAddr) -> bool {
            matches!(address, IpAddr::V4(four) if four.octets().starts_with(&[192, 0, 2]))
        }
    }

    #[test]
    fn unlisted_addresses_take_no_place_of_a_listed_one() {
        let (places, now) = (UnprovenPlaces::new(Arc::new(Listed)), Instant::now());
        let unlisted = |number: u32| IpAddr::from((0xcb00_7100 + number).to_be_bytes());
        let taken: Vec<_> =
            (0..10_000).filter_map(|number| places.try_acquire(unlisted(number), now)).collect();
        assert_eq!((taken.len(), places.taken()), (OTHERS.0, OTHERS.0));
        let node = IpAddr::from([192, 0, 2, 7]);
        assert!(places.try_acquire(node, now).is_some());
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert!(places.try_acquire(mapped, now).is_some());
    }

    #[test]
    fn one_unlisted_address_leaves_places_for_others_and_makes_few_handshakes() {
        let (places, start) = (UnprovenPlaces::new(Arc::new(Listed)), Instant::now());
        let (one, other) = (IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2]));
        let held: Vec<_> = std::iter::from_fn(|| places.try_acquire(one, start)).collect();
        assert_eq!(held.len(), OTHERS.1);
        assert!(places.try_acquire(other, start).is_some());
        drop(held);
        // Handshakes that end at once.
        let made = (0..10_000).filter(|_| places.try_acquire(one, start).is_some()).count();
        assert_eq!(made, HANDSHAKES as usize - OTHERS.1);
        assert!(places.try_acquire(one, start + HANDSHAKE_INTERVAL).is_some());
    }
}
