//! Releases a reserved seat that no join uses, whatever ends the join: a refusal, a time limit, or a client that is
//! gone.

use std::sync::Arc;
use std::time::Instant;

use systir_assignment::RoomId;
use systir_placement::{SeatRequest, Seats};
use systir_reason::{Reason, Refusal};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use crate::{PeerNodes, RefusedReservation, ReservationRequest};

/// Holds a reserved seat. When it is dropped, the seat is released, unless the participant has connected.
#[derive(Debug)]
pub struct SeatGuard(Option<HeldSeat>);

#[derive(Debug)]
enum HeldSeat {
    Here {
        seats: Arc<Seats>,
        join_id: String,
    },
    There {
        peers: Arc<dyn PeerNodes>,
        node: String,
        room: RoomId,
        join_id: String,
        relayed: RelayedConnection,
    },
}

/// A connection that this gateway relays to another node. It counts for the quota of its token until this is dropped.
#[derive(Debug)]
pub struct RelayedConnection {
    seats: Arc<Seats>,
    room: String,
    identity: String,
}

impl RelayedConnection {
    /// Counts a connection.
    ///
    /// # Errors
    /// [`Reason::IdentityQuota`].
    pub(crate) fn count(seats: &Arc<Seats>, request: SeatRequest<'_>) -> Result<Self, Refusal> {
        seats.relay(request, Instant::now())?;
        let (room, identity) = (request.room.to_owned(), request.identity.to_owned());
        Ok(Self { seats: seats.clone(), room, identity })
    }
}

impl Drop for RelayedConnection {
    fn drop(&mut self) {
        self.seats.end_relayed(&self.room, &self.identity);
    }
}

impl HeldSeat {
    async fn release(self) {
        match self {
            Self::Here { seats, join_id } => seats.release_reservation(&join_id),
            Self::There { peers, node, room, join_id, .. } => peers.release(&node, &room, &join_id).await,
        }
    }
}

impl SeatGuard {
    /// A seat of this node.
    pub(crate) fn here(seats: Arc<Seats>, join_id: &str) -> Self {
        Self(Some(HeldSeat::Here { seats, join_id: join_id.to_owned() }))
    }

    /// The participant is being connected to its seat: the media node holds or releases it from now on. Keep what is
    /// returned for a seat of another node as long as the participant's signalling is relayed there.
    pub fn keep(mut self) -> Option<RelayedConnection> {
        match self.0.take()? {
            HeldSeat::Here { .. } => None,
            HeldSeat::There { relayed, .. } => Some(relayed),
        }
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        match self.0.take() {
            None => {}
            Some(HeldSeat::Here { seats, join_id }) => seats.release_reservation(&join_id),
            Some(held) => {
                // Without a runtime the process ends, and the reservation expires.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(held.release());
                }
            }
        }
    }
}

/// Reserves a seat at another node; returns the join number of the last join of the identity that it knows, too. The
/// request goes on when the caller is gone: a seat that the node then gives is released at once.
pub(crate) async fn reserve(
    peers: Arc<dyn PeerNodes>,
    relayed: RelayedConnection,
    node: &str,
    request: ReservationRequest,
) -> Result<(SeatGuard, u64), RefusedReservation> {
    let (answer, answered) = oneshot::channel();
    let (node, room) = (node.to_owned(), request.room.clone());
    let join_id = request.join_id.clone().unwrap_or_default();
    let asking = async move {
        let reserved = peers.reserve(&node, request).await;
        let guard = reserved.map(|last_join| {
            (SeatGuard(Some(HeldSeat::There { peers, node, room, join_id, relayed })), last_join)
        });
        // If the caller is gone, the guard is dropped.
        let _ = answer.send(guard);
    };
    tokio::spawn(asking.in_current_span());
    answered
        .await
        .unwrap_or_else(|_| Err(Refusal::new(Reason::NoAnswer, "the request for a seat ended").into()))
}
