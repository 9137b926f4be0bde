//! Connections on which no participant was admitted: a third of all at most, and a part of these for each address. When all
//! places are taken, the oldest connection without a whole request that is being answered ends, of the same address if
//! that has all its places: an honest client sends its request at once, one that holds places does not. Together they hold a
//! bounded number of bytes of what clients sent, or do not read; beyond it those end that hold most.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use systir_limits::{AddressLimiter, AddressPlace, NoPlace, network_of};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes that all of them hold. A head of a request has 1 or 2 KiB, with a long token and attributes 10.
pub(super) const HELD_BYTES: usize = 16 << 20;
/// Most that is counted of one client: the head of a request, and as much in the buffers of TLS.
const MOST_RECEIVED: usize = 2 * super::HEAD_BYTES;
/// TLS keeps so much of what the kernel does not take.
const MOST_UNSENT: usize = 64 << 10;

/// All such connections of one port. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct NotAdmittedConnections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: AddressLimiter,
    total: usize,
    /// Of all connections.
    held: AtomicUsize,
    /// Oldest first; those that have ended are removed when there are many.
    oldest: Mutex<VecDeque<Weak<Connection>>>,
}

/// One such connection. Each request on it has it as an extension.
#[derive(Debug, Clone)]
pub(super) struct NotAdmitted(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    all: Arc<Shared>,
    /// What limits count its address as.
    network: IpAddr,
    /// None once a participant was admitted, or the connection was ended.
    place: Mutex<Option<Place>>,
    /// Requests that are being answered.
    requests: AtomicUsize,
    ended: CancellationToken,
}

#[derive(Debug)]
struct Place {
    _of_address: AddressPlace,
    /// Received since the last answer.
    received: usize,
    /// The most that was received for one answer: buffers keep their size.
    most_received: usize,
    /// Written, but perhaps not taken by the kernel.
    unsent: usize,
}

impl Place {
    fn held(&self) -> usize {
        self.most_received + self.unsent
    }
}

impl NotAdmittedConnections {
    /// At most `total` connections, and of them at most `per_address` of one address.
    pub(super) fn new(total: usize, per_address: usize) -> Self {
        let places = AddressLimiter::new(total, per_address);
        Self(Arc::new(Shared { places, total, held: AtomicUsize::new(0), oldest: Mutex::default() }))
    }

    /// Adds a connection. None when all others, or all others of its address that has all its places, are being answered.
    pub(super) fn add(&self, from: IpAddr) -> Option<NotAdmitted> {
        let (all, network) = (&self.0, network_of(from));
        let place = match all.places.try_acquire(from) {
            Err(NoPlace::InTotal) if all.end_oldest(None) => all.places.try_acquire(from),
            Err(NoPlace::OfAddress) if all.end_oldest(Some(network)) => all.places.try_acquire(from),
            place => place,
        };
        let place = Place { _of_address: place.ok()?, received: 0, most_received: 0, unsent: 0 };
        let connection = Arc::new(Connection {
            all: all.clone(),
            network,
            place: Mutex::new(Some(place)),
            requests: AtomicUsize::new(0),
            ended: CancellationToken::new(),
        });
        let mut oldest = all.oldest();
        if oldest.len() >= 2 * all.total {
            oldest.retain(is_open);
        }
        oldest.push_back(Arc::downgrade(&connection));
        Some(NotAdmitted(connection))
    }
}

fn is_open(connection: &Weak<Connection>) -> bool {
    connection.upgrade().is_some_and(|open| open.place().is_some())
}

impl Shared {
    fn oldest(&self) -> MutexGuard<'_, VecDeque<Weak<Connection>>> {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the oldest connection that waits for its client, of this network if one is given. False when there is none.
    fn end_oldest(&self, network: Option<IpAddr>) -> bool {
        let mut oldest = self.oldest();
        let waits = |connection: &Connection| {
            connection.waits_for_client().is_some()
                && network.is_none_or(|network| network == connection.network)
        };
        let found = oldest.iter().enumerate().find_map(|(at, connection)| {
            connection.upgrade().filter(|open| waits(open)).map(|connection| (at, connection))
        });
        let Some((at, connection)) = found else { return false };
        oldest.remove(at);
        connection.end();
        true
    }

    /// Ends those that hold most while too many bytes are held, the oldest of equal ones first; then some more, so that this
    /// is not done for each packet.
    fn end_largest(&self) {
        let mut oldest = self.oldest();
        if self.held.load(Ordering::Relaxed) <= HELD_BYTES {
            return;
        }
        let open = oldest.iter().filter_map(Weak::upgrade);
        let mut waiting: Vec<_> =
            open.filter_map(|connection| Some((connection.waits_for_client()?, connection))).collect();
        waiting.sort_by_key(|(held, _)| Reverse(*held));
        for (_, connection) in waiting {
            if self.held.load(Ordering::Relaxed) <= HELD_BYTES / 8 * 7 {
                break;
            }
            connection.end();
        }
        oldest.retain(is_open);
    }
}

impl Connection {
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes that it holds. None while it is being answered, and when it has no place.
    fn waits_for_client(&self) -> Option<usize> {
        let place = self.place();
        place.as_ref().filter(|_| self.requests.load(Ordering::Relaxed) == 0).map(Place::held)
    }

    fn leave_place(&self) {
        let mut place = self.place();
        // What all hold is changed under the lock, so that nothing is subtracted before it was added.
        self.all.held.fetch_sub(place.take().map_or(0, |place| place.held()), Ordering::Relaxed);
    }

    /// Ends it, unless its request came meanwhile.
    fn end(&self) {
        let mut place = self.place();
        if self.requests.load(Ordering::Relaxed) == 0
            && let Some(left) = place.take()
        {
            self.all.held.fetch_sub(left.held(), Ordering::Relaxed);
            self.ended.cancel();
        }
    }

    /// Changes what it holds, if it has a place.
    fn change(&self, change: impl FnOnce(&mut Place)) {
        let mut place = self.place();
        let Some(changed) = place.as_mut() else { return };
        let before = changed.held();
        change(changed);
        let after = changed.held();
        if after <= before {
            self.all.held.fetch_sub(before - after, Ordering::Relaxed);
            return;
        }
        let all = self.all.held.fetch_add(after - before, Ordering::Relaxed) + (after - before);
        drop(place);
        if all > HELD_BYTES {
            self.all.end_largest();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leave_place();
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

    /// Counts bytes of the client.
    pub(super) fn received(&self, bytes: usize) {
        self.0.change(|place| {
            place.received = MOST_RECEIVED.min(place.received + bytes);
            place.most_received = place.most_received.max(place.received);
        });
    }

    /// Counts bytes for the client.
    pub(super) fn written(&self, bytes: usize) {
        self.0.change(|place| place.unsent = MOST_UNSENT.min(place.unsent + bytes));
    }

    /// The kernel has taken all of them.
    pub(super) fn sent(&self) {
        self.0.change(|place| place.unsent = 0);
    }
}

/// Counts a request while it is being answered.
struct Answering(Arc<Connection>);

impl Answering {
    fn begin(connection: &NotAdmitted) -> Self {
        // Not while it is being ended.
        let _place = connection.0.place();
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
    connection.0.change(|place| place.received = 0);
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
    fn those_that_hold_most_bytes_end_when_all_hold_too_many_and_small_ones_stay() {
        let all = NotAdmittedConnections::new(10_000, 10_000);
        let honest: Vec<_> = (0..100).map(|last| all.add(address(last)).unwrap()).collect();
        honest.iter().for_each(|one| one.received(4_096));
        let held = || all.0.held.load(Ordering::Relaxed);
        let large: Vec<_> = (0..2_000)
            .map(|_| {
                let one = all.add(address(200)).unwrap();
                one.received(50_000);
                one.received(14_000);
                assert!(held() <= HELD_BYTES);
                one
            })
            .collect();
        let ended = |one: &NotAdmitted| one.0.ended.is_cancelled();
        assert!(!honest.iter().any(ended), "none of the honest ones");
        assert!(large.first().is_some_and(ended) && !large.last().is_some_and(ended), "the oldest first");
        drop((large, honest));
        assert_eq!(held(), 0);
    }

    #[test]
    fn bytes_count_until_they_are_answered_or_sent_and_buffers_keep_their_size() {
        let all = NotAdmittedConnections::new(3, 3);
        let held = || all.0.held.load(Ordering::Relaxed);
        let one = all.add(address(1)).unwrap();
        for _ in 0..1_000 {
            one.received(2_000);
            one.0.change(|place| place.received = 0);
        }
        assert_eq!(held(), 2_000);
        one.written(60_000);
        assert_eq!(held(), 62_000);
        one.sent();
        assert_eq!(held(), 2_000);
        one.received(usize::MAX / 2);
        assert_eq!(held(), MOST_RECEIVED);
        one.0.leave_place();
        one.received(2_000);
        assert_eq!(held(), 0, "of an admitted participant nothing is counted");
    }

    #[test]
    fn ended_connections_are_forgotten() {
        let all = NotAdmittedConnections::new(3, 3);
        for _ in 0..1_000 {
            drop(all.add(address(1)).unwrap());
            assert!(all.0.oldest().len() <= 6);
        }
    }
}
