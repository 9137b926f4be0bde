//! Limits TCP connections that have no authenticated check yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Unauthenticated connections in total.
const MAX_UNAUTHENTICATED: usize = 512;
/// Unauthenticated connections from one address. A whole campus may share one.
const MAX_PER_ADDRESS: u32 = 64;

/// Limits unauthenticated connections in total and per address. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ConnectionLimiter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    unauthenticated: Mutex<HashMap<IpAddr, u32>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    unidentified: AtomicU64,
}

/// Counters of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// Connections accepted within the limits.
    pub accepted: u64,
    /// Connections refused because of the limits.
    pub refused: u64,
    /// Connections whose first frame was no check with an ICE fragment of this node, or did not arrive in
    /// time.
    pub unidentified: u64,
}

impl ConnectionLimiter {
    /// A permit for one more connection; none over a limit.
    pub(crate) fn try_acquire(&self, from: IpAddr) -> Option<Permit> {
        let from = from.to_canonical();
        let mut unauthenticated = self.0.unauthenticated.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = unauthenticated.values().map(|count| *count as usize).sum();
        let own = unauthenticated.get(&from).copied().unwrap_or_default();
        if all >= MAX_UNAUTHENTICATED || own >= MAX_PER_ADDRESS {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        unauthenticated.insert(from, own + 1);
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Permit { shared: Arc::clone(&self.0), from })
    }

    /// Counts a connection without a valid first check.
    pub(super) fn count_unidentified(&self) {
        self.0.unidentified.fetch_add(1, Ordering::Relaxed);
    }

    /// The current values.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            accepted: self.0.accepted.load(Ordering::Relaxed),
            refused: self.0.refused.load(Ordering::Relaxed),
            unidentified: self.0.unidentified.load(Ordering::Relaxed),
        }
    }
}

/// Counts one unauthenticated connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut unauthenticated = self.shared.unauthenticated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = unauthenticated.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                unauthenticated.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_from_one_address_are_limited_until_permits_are_dropped() {
        let limiter = ConnectionLimiter::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let permits: Vec<_> = std::iter::from_fn(|| limiter.try_acquire(one)).collect();
        assert_eq!(permits.len(), MAX_PER_ADDRESS as usize);
        assert!(limiter.try_acquire(other).is_some());
        drop(permits);
        assert!(limiter.try_acquire(one).is_some());
        assert!(
            limiter.0.unauthenticated.lock().unwrap().is_empty(),
            "no entry is left for an address without connections"
        );
        assert_eq!(limiter.counts().refused, 1);
    }

    #[test]
    fn connections_are_limited_in_total() {
        let limiter = ConnectionLimiter::default();
        let from = |n: u32| IpAddr::from(n.to_be_bytes());
        let permits: Vec<_> = (0..10_000).filter_map(|n| limiter.try_acquire(from(n))).collect();
        assert_eq!(permits.len(), MAX_UNAUTHENTICATED);
    }
}
