//! Limits TCP connections that have no authenticated check yet. When all places are taken, the oldest connection without
//! a first check ends, of the same address if that has all its places: a client sends its check at once, one that holds
//! places does not.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use systir_limits::{AddressLimiter, AddressPlace, NoPlace, network_of};
use tokio::sync::Notify;

/// Unauthenticated connections in total.
const MAX_UNAUTHENTICATED: usize = 512;
/// Unauthenticated connections from one address. A whole campus may share one.
const MAX_PER_ADDRESS: usize = 64;

/// Limits unauthenticated connections in total and per address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionLimiter {
    places: AddressLimiter,
    /// Connections without a first check, oldest first; those that have ended are removed when there are many.
    oldest: Arc<Mutex<VecDeque<Weak<Waiting>>>>,
    counters: Arc<Counters>,
}

/// A connection whose first check has not arrived.
#[derive(Debug)]
pub(crate) struct Unidentified(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    /// What limits count its address as.
    network: IpAddr,
    /// None once the connection was ended, or its check has arrived.
    place: Mutex<Option<AddressPlace>>,
    ended: Notify,
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
    /// time, or not before others needed their place.
    pub unidentified: u64,
}

impl Default for ConnectionLimiter {
    fn default() -> Self {
        let places = AddressLimiter::new(MAX_UNAUTHENTICATED, MAX_PER_ADDRESS);
        Self { places, oldest: Arc::default(), counters: Arc::default() }
    }
}

impl Waiting {
    fn place(&self) -> MutexGuard<'_, Option<AddressPlace>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unidentified {
    /// Returns when the connection must end.
    pub(super) async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// Its first check has arrived: the place, which it keeps until it is authenticated. None when it must end.
    pub(crate) fn identified(self) -> Option<AddressPlace> {
        self.0.place().take()
    }
}

impl ConnectionLimiter {
    /// Adds a connection. None when all others, or all others of its address that has all its places, have sent a check.
    pub(crate) fn add(&self, from: IpAddr) -> Option<Unidentified> {
        let network = network_of(from);
        let place = match self.places.try_acquire(from) {
            Err(NoPlace::InTotal) if self.end_oldest(None) => self.places.try_acquire(from),
            Err(NoPlace::OfAddress) if self.end_oldest(Some(network)) => self.places.try_acquire(from),
            place => place,
        };
        let counter = if place.is_ok() { &self.counters.accepted } else { &self.counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { network, place: Mutex::new(Some(place.ok()?)), ended: Notify::new() };
        let waiting = Arc::new(waiting);
        let mut oldest = self.oldest();
        if oldest.len() >= 2 * MAX_UNAUTHENTICATED {
            oldest.retain(|one| one.upgrade().is_some_and(|one| one.place().is_some()));
        }
        oldest.push_back(Arc::downgrade(&waiting));
        Some(Unidentified(waiting))
    }

    /// Ends the oldest connection without a first check, of this network if one is given. False when there is none.
    fn end_oldest(&self, network: Option<IpAddr>) -> bool {
        let mut oldest = self.oldest();
        let of_network = |one: &Waiting| network.is_none_or(|network| network == one.network);
        let found = oldest.iter().enumerate().find_map(|(at, one)| {
            let one = one.upgrade().filter(|one| of_network(one))?;
            let place = one.place().take()?;
            Some((at, one, place))
        });
        let Some((at, one, place)) = found else { return false };
        oldest.remove(at);
        drop(place);
        one.ended.notify_one();
        true
    }

    fn oldest(&self) -> MutexGuard<'_, VecDeque<Weak<Waiting>>> {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_open(one: &Unidentified) -> bool {
        one.0.place().is_some()
    }

    #[test]
    fn connections_with_a_check_over_the_limit_are_refused_and_counted() {
        let limiter = ConnectionLimiter::default();
        let identified = || limiter.add(address(1)).and_then(Unidentified::identified);
        let permits: Vec<_> = std::iter::from_fn(identified).collect();
        assert_eq!(permits.len(), MAX_PER_ADDRESS);
        drop(permits);
        assert!(limiter.add(address(1)).is_some());
        assert_eq!((limiter.counts().accepted, limiter.counts().refused), (65, 1));
    }

    #[test]
    fn the_oldest_silent_connection_ends_when_all_places_are_taken_and_one_with_a_check_does_not() {
        let limiter = ConnectionLimiter::default();
        let first = limiter.add(address(0)).unwrap().identified().unwrap();
        let silent: Vec<_> =
            (1..512_u32).map(|number| limiter.add(address((number / 60) as u8)).unwrap()).collect();
        assert!(silent.iter().all(is_open));
        let new: Vec<_> = (0..3).map(|_| limiter.add(address(100)).unwrap()).collect();
        assert_eq!(silent.iter().take(4).map(is_open).collect::<Vec<_>>(), [false, false, false, true]);
        assert!(new.iter().all(is_open));
        assert_eq!((limiter.counts().accepted, limiter.counts().refused), (515, 0));
        assert_eq!(limiter.places.taken(), 512);
        drop(first);
        assert_eq!(limiter.places.taken(), 511, "one with a check kept its place");
    }

    #[test]
    fn an_address_with_all_its_places_ends_its_own_oldest_silent_connection() {
        let limiter = ConnectionLimiter::default();
        let other = limiter.add(address(1)).unwrap();
        let silent: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| limiter.add(address(2)).unwrap()).collect();
        let _new = limiter.add(address(2)).unwrap();
        assert_eq!(silent.iter().filter(|one| !is_open(one)).count(), 1);
        assert!(!silent.first().is_some_and(is_open) && is_open(&other));
    }

    #[test]
    fn connections_that_are_gone_are_forgotten() {
        let limiter = ConnectionLimiter::default();
        for _ in 0..10_000 {
            drop(limiter.add(address(1)).unwrap());
        }
        assert!(limiter.oldest().len() <= 2 * MAX_UNAUTHENTICATED);
        assert_eq!(limiter.places.taken(), 0);
    }
}
