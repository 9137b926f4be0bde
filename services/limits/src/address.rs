//! Places per source address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Limits connections whose peer has proven nothing in total, and for each source address, so that one sender cannot take the places of
/// all others. A connection holds an [`AddressPlace`] until its peer has proven something, or is gone. Cheap to clone:
/// clones share the places.
///
/// An IPv6 host chooses its address within a /64 freely (RFC 4291 section 2.5.1), so addresses of one /64 share their
/// places.
#[derive(Debug, Clone)]
pub struct AddressLimiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By [`network_of`]; none without places, so that the map is no longer than `total`.
    by_network: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct AddressPlace {
    shared: Arc<Shared>,
    network: IpAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The address has all places that one may have.
    OfAddress,
    /// All places are taken.
    InTotal,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AddressLimiter {
    /// At most `total` places, and of them at most `per_address` for one source address.
    #[must_use]
    pub fn new(total: usize, per_address: usize) -> Self {
        Self(Arc::new(Shared { total, per_address, taken: Mutex::default() }))
    }

    /// A place for a connection from this address.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn try_acquire(&self, from: IpAddr) -> Result<AddressPlace, NoPlace> {
        let network = network_of(from);
        let mut taken = self.0.lock();
        let own = taken.by_network.get(&network).copied().unwrap_or_default();
        if own >= self.0.per_address {
            return Err(NoPlace::OfAddress);
        }
        if taken.all >= self.0.total {
            return Err(NoPlace::InTotal);
        }
        taken.all += 1;
        taken.by_network.insert(network, own + 1);
        Ok(AddressPlace { shared: self.0.clone(), network })
    }

    /// Places that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.lock().all
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut taken = self.shared.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.by_network.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

/// What limits count an address as: an IPv4 address itself, also when it is written as an IPv6 one, and the /64 of an
/// IPv6 address.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> AddressLimiter {
        AddressLimiter::new(512, 64)
    }

    #[test]
    fn places_of_one_address_are_limited_until_they_are_dropped() {
        let limiter = limiter();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let places: Vec<_> = std::iter::from_fn(|| limiter.try_acquire(one).ok()).collect();
        assert_eq!(places.len(), 64);
        assert_eq!(limiter.try_acquire(one).unwrap_err(), NoPlace::OfAddress);
        assert!(limiter.try_acquire(other).is_ok());
        drop(places);
        assert!(limiter.try_acquire(one).is_ok());
        assert!(limiter.0.lock().by_network.is_empty(), "no entry is left for an address without places");
    }

    #[test]
    fn places_are_limited_in_total() {
        let limiter = limiter();
        let from = |number: u32| IpAddr::from(number.to_be_bytes());
        let places: Vec<_> =
            (0..10_000).filter_map(|number| limiter.try_acquire(from(number)).ok()).collect();
        assert_eq!((places.len(), limiter.taken()), (512, 512));
    }

    #[test]
    fn a_host_with_a_whole_ipv6_network_has_the_places_of_one_address() {
        let limiter = limiter();
        let from = |number: u64| IpAddr::from(Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(number)));
        let places: Vec<_> =
            (0..10_000).filter_map(|number| limiter.try_acquire(from(number)).ok()).collect();
        assert_eq!(places.len(), 64);
        assert!(limiter.try_acquire("2001:db8:0:1::1".parse().unwrap()).is_ok(), "another /64");
    }

    #[test]
    fn an_ipv4_address_is_the_same_however_it_is_written() {
        let limiter = AddressLimiter::new(10, 1);
        let _place = limiter.try_acquire("192.0.2.1".parse().unwrap()).unwrap();
        assert!(limiter.try_acquire("::ffff:192.0.2.1".parse().unwrap()).is_err());
        assert!(limiter.try_acquire("::ffff:192.0.2.2".parse().unwrap()).is_ok());
    }
}
