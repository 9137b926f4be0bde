//! Limits of what one peer may fetch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;

/// Documents that a peer may fetch at once: all of a node that starts.
const BURST: u32 = 256;
/// After those, one document in this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// Peers remembered, at most. More are forgotten, if they do not fetch now.
const MAX_PEERS: usize = 1024;

/// What each peer has fetched.
#[derive(Default)]
pub(crate) struct FetchLimits {
    peers: Mutex<HashMap<SpiffeId, PeerFetches>>,
}

struct PeerFetches {
    running: bool,
    /// Fetches that are allowed now.
    left: u32,
    /// When `left` last grew.
    grown: Instant,
}

/// A fetch that a peer makes. It ends when this is dropped.
pub(crate) struct FetchPermit {
    limits: Arc<FetchLimits>,
    peer: SpiffeId,
}

impl FetchLimits {
    fn peers(&self) -> MutexGuard<'_, HashMap<SpiffeId, PeerFetches>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer begins to fetch a document. None when it must wait: it still fetches another, or fetched too many.
    pub(crate) fn begin(self: &Arc<Self>, peer: &SpiffeId, now: Instant) -> Option<FetchPermit> {
        let mut peers = self.peers();
        if peers.len() >= MAX_PEERS && !peers.contains_key(peer) {
            peers.retain(|_, fetches| fetches.running);
        }
        let fetches = peers.entry(peer.clone()).or_insert_with(|| PeerFetches {
            running: false,
            left: BURST,
            grown: now,
        });
        let gained = now.saturating_duration_since(fetches.grown).as_secs() / INTERVAL.as_secs();
        if gained > 0 {
            fetches.left = BURST.min(fetches.left.saturating_add(u32::try_from(gained).unwrap_or(BURST)));
            fetches.grown = now;
        }
        if fetches.running || fetches.left == 0 {
            return None;
        }
        fetches.running = true;
        fetches.left -= 1;
        Some(FetchPermit { limits: self.clone(), peer: peer.clone() })
    }
}

impl Drop for FetchPermit {
    fn drop(&mut self) {
        if let Some(fetches) = self.limits.peers().get_mut(&self.peer) {
            fetches.running = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> SpiffeId {
        format!("spiffe://nordu.net/relay/{name}").parse().unwrap()
    }

    #[test]
    fn a_peer_fetches_one_document_at_a_time() {
        let (limits, now) = (Arc::new(FetchLimits::default()), Instant::now());
        let first = limits.begin(&peer("sto-1"), now);
        assert!(first.is_some());
        assert!(limits.begin(&peer("sto-1"), now).is_none());
        assert!(limits.begin(&peer("osl-1"), now).is_some(), "another peer is not affected");
        drop(first);
        assert!(limits.begin(&peer("sto-1"), now).is_some());
    }

    #[test]
    fn after_a_burst_a_peer_fetches_one_document_a_second() {
        let (limits, now) = (Arc::new(FetchLimits::default()), Instant::now());
        let fetched = |now| (0..2 * BURST).filter(|_| limits.begin(&peer("sto-1"), now).is_some()).count();
        assert_eq!(fetched(now), BURST as usize);
        assert_eq!(fetched(now + Duration::from_secs(3)), 3);
        assert_eq!(fetched(now + Duration::from_secs(100_000)), BURST as usize);
    }

    #[test]
    fn the_table_of_peers_is_bounded() {
        let (limits, now) = (Arc::new(FetchLimits::default()), Instant::now());
        for number in 0..3 * MAX_PEERS {
            drop(limits.begin(&peer(&format!("n{number}")), now));
        }
        assert!(limits.peers().len() <= MAX_PEERS);
    }
}
