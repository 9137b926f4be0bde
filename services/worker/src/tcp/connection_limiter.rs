//! Limits TCP connections that have no authenticated check yet.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use systir_limits::{AddressLimiter, AddressPlace};

/// Unauthenticated connections in total.
const MAX_UNAUTHENTICATED: usize = 512;
/// Unauthenticated connections from one address. A whole campus may share one.
const MAX_PER_ADDRESS: usize = 64;

/// Limits unauthenticated connections in total and per address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionLimiter {
    places: AddressLimiter,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
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

impl Default for ConnectionLimiter {
    fn default() -> Self {
        Self { places: AddressLimiter::new(MAX_UNAUTHENTICATED, MAX_PER_ADDRESS), counters: Arc::default() }
    }
}

impl ConnectionLimiter {
    /// A permit for one more connection; none over a limit.
    pub(crate) fn try_acquire(&self, from: IpAddr) -> Option<AddressPlace> {
        let place = self.places.try_acquire(from).ok();
        let counter = if place.is_some() { &self.counters.accepted } else { &self.counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        place
    }

    /// Counts a connection without a valid first check.
    pub(super) fn count_unidentified(&self) {
        self.counters.unidentified.fetch_add(1, Ordering::Relaxed);
    }

    /// The current values.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            accepted: self.counters.accepted.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
            unidentified: self.counters.unidentified.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_over_the_limit_are_refused_and_counted() {
        let limiter = ConnectionLimiter::default();
        let one = IpAddr::from([192, 0, 2, 1]);
        let permits: Vec<_> = std::iter::from_fn(|| limiter.try_acquire(one)).collect();
        assert_eq!(permits.len(), MAX_PER_ADDRESS);
        drop(permits);
        assert!(limiter.try_acquire(one).is_some());
        assert_eq!((limiter.counts().accepted, limiter.counts().refused), (65, 1));
    }
}
