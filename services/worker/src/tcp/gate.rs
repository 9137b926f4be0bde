//! How many connections may be there that have proved nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Unproved connections in all.
const MAX_UNPROVED: usize = 512;
/// Unproved connections from one address. A whole campus may stand behind one.
const MAX_FROM_ONE: u32 = 64;

/// Counts connections until they have proved themselves. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    unproved: Mutex<HashMap<IpAddr, u32>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    strangers: AtomicU64,
}

/// What became of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateCounts {
    /// Connections that were let in to prove themselves.
    pub accepted: u64,
    /// Connections refused because too many have proved nothing.
    pub refused: u64,
    /// Connections that named no ICE fragment of this node in time.
    pub strangers: u64,
}

impl Gate {
    /// A place for one more; none when there are too many.
    pub(crate) fn admit(&self, from: IpAddr) -> Option<Pass> {
        let from = from.to_canonical();
        let mut unproved = self.0.unproved.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = unproved.values().map(|count| *count as usize).sum();
        let own = unproved.get(&from).copied().unwrap_or_default();
        if all >= MAX_UNPROVED || own >= MAX_FROM_ONE {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        unproved.insert(from, own + 1);
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Pass { gate: Arc::clone(&self.0), from })
    }

    pub(super) fn stranger(&self) {
        self.0.strangers.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> GateCounts {
        GateCounts {
            accepted: self.0.accepted.load(Ordering::Relaxed),
            refused: self.0.refused.load(Ordering::Relaxed),
            strangers: self.0.strangers.load(Ordering::Relaxed),
        }
    }
}

/// One unproved connection's place; falls free when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Shared>,
    from: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut unproved = self.gate.unproved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = unproved.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                unproved.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_gives_them_back() {
        let gate = Gate::default();
        let (greedy, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let passes: Vec<_> = std::iter::from_fn(|| gate.admit(greedy)).collect();
        assert_eq!(passes.len(), MAX_FROM_ONE as usize);
        assert!(gate.admit(other).is_some());
        drop(passes);
        assert!(gate.admit(greedy).is_some());
        assert!(gate.0.unproved.lock().unwrap().is_empty(), "nothing is remembered of who has gone");
        assert_eq!(gate.counts().refused, 1);
    }

    #[test]
    fn places_are_bounded_in_all() {
        let gate = Gate::default();
        let from = |n: u32| IpAddr::from(n.to_be_bytes());
        let passes: Vec<_> = (0..10_000).filter_map(|n| gate.admit(from(n))).collect();
        assert_eq!(passes.len(), MAX_UNPROVED);
    }
}
