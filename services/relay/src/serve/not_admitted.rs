//! Connections on which no participant was admitted: a third of all at most, and a part of these for each address. When all
//! places are taken, the oldest connection without a whole request that is being answered ends, of the same address if
//! that has all its places: an honest client sends its request at once, one that holds places does not.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use systir_limits::{AddressLimiter, AddressPlace, NoPlace, network_of};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// All such connections of one port. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct NotAdmittedConnections {
    places: AddressLimiter,
    total: usize,
    /// Oldest first; those that have ended are removed when there are many.
    oldest: Arc<Mutex<VecDeque<Weak<Connection>>>>,
}

/// One such connection. Each request on it has it as an extension.
#[derive(Debug, Clone)]
pub(super) struct NotAdmitted(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    /// What limits count its address as.
    network: IpAddr,
    /// None once a participant was admitted, or the connection was ended.
    place: Mutex<Option<AddressPlace>>,
    /// Requests that are being answered.
    requests: AtomicUsize,
    ended: CancellationToken,
}

impl NotAdmittedConnections {
    /// At most `total` connections, and of them at most `per_address` of one address.
    pub(super) fn new(total: usize, per_address: usize) -> Self {
        Self { places: AddressLimiter::new(total, per_address), total, oldest: Arc::default() }
    }

    /// Adds a connection. None when all others, or all others of its address that has all its places, are being answered.
    pub(super) fn add(&self, from: IpAddr) -> Option<NotAdmitted> {
        let network = network_of(from);
        let place = match self.places.try_acquire(from) {
            Err(NoPlace::InTotal) if self.end_oldest(None) => self.places.try_acquire(from),
            Err(NoPlace::OfAddress) if self.end_oldest(Some(network)) => self.places.try_acquire(from),
            place => place,
        };
        let connection = Arc::new(Connection {
            network,
            place: Mutex::new(Some(place.ok()?)),
            requests: AtomicUsize::new(0),
            ended: CancellationToken::new(),
        });
        let mut oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        if oldest.len() >= 2 * self.total {
            oldest.retain(|connection| connection.upgrade().is_some_and(|open| open.has_place()));
        }
        oldest.push_back(Arc::downgrade(&connection));
        Some(NotAdmitted(connection))
    }

    /// Ends the oldest connection that waits for its client, of this network if one is given. False when there is none.
    fn end_oldest(&self, network: Option<IpAddr>) -> bool {
        let mut oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |connection: &Connection| {
            connection.has_place()
                && connection.requests.load(Ordering::Relaxed) == 0
                && network.is_none_or(|network| network == connection.network)
        };
        let found = oldest.iter().enumerate().find_map(|(at, connection)| {
            connection.upgrade().filter(|open| waits(open)).map(|connection| (at, connection))
        });
        let Some((at, connection)) = found else { return false };
        oldest.remove(at);
        connection.leave_place();
        connection.ended.cancel();
        true
    }
}

impl Connection {
    fn has_place(&self) -> bool {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn leave_place(&self) {
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl NotAdmitted {
    /// Returns when the connection must end.
    pub(super) async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// The same, for a stream.
    pub(super) fn ended_owned(&self) -> WaitForCancellationFutureOwned {
        self.0.ended.clone().cancelled_owned()
    }
}

/// Counts a request while it is being answered.
struct Answering(Arc<Connection>);

impl Answering {
    fn begin(connection: &NotAdmitted) -> Self {
        connection.0.requests.fetch_add(1, Ordering::Relaxed);
        Self(connection.0.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Middleware. A WebSocket is opened only for an admitted participant, who has a seat: its connection leaves its place,
/// because many participants may share an address.
pub(super) async fn follow_requests(request: Request, next: Next) -> Response {
    let Some(connection) = request.extensions().get::<NotAdmitted>().cloned() else {
        return next.run(request).await;
    };
    // While the body is read, the node waits for the client.
    let _answering = request.body().is_end_stream().then(|| Answering::begin(&connection));
    let response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        connection.0.leave_place();
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_oldest_that_waits_for_its_client_ends_and_one_that_is_answered_does_not() {
        let all = NotAdmittedConnections::new(3, 3);
        let [first, second, third] = [1, 2, 3].map(|last| all.add(address(last)).unwrap());
        let answering = Answering::begin(&first);
        let fourth = all.add(address(4)).unwrap();
        let ended = |one: &NotAdmitted| one.0.ended.is_cancelled();
        assert_eq!([&first, &second, &third, &fourth].map(ended), [false, true, false, false]);
        let _begun = [Answering::begin(&third), Answering::begin(&fourth)];
        assert!(all.add(address(5)).is_none(), "all are being answered");
        drop(answering);
        assert!(all.add(address(5)).is_some());
        assert!(ended(&first));
    }

    #[test]
    fn an_address_with_all_its_places_ends_its_own_oldest_and_no_other_connection() {
        let all = NotAdmittedConnections::new(4, 2);
        let other = all.add(address(1)).unwrap();
        let held = [all.add(address(2)).unwrap(), all.add(address(2)).unwrap()];
        let new = all.add(address(2)).unwrap();
        assert_eq!(held.each_ref().map(|one| one.0.ended.is_cancelled()), [true, false]);
        let _answering = [Answering::begin(&held[1]), Answering::begin(&new)];
        assert!(all.add(address(2)).is_none(), "all are being answered");
        assert!(!other.0.ended.is_cancelled());
    }

    #[test]
    fn ended_connections_are_forgotten() {
        let all = NotAdmittedConnections::new(3, 3);
        for _ in 0..1_000 {
            drop(all.add(address(1)).unwrap());
            assert!(all.oldest.lock().unwrap().len() <= 6);
        }
    }
}
