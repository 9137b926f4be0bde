//! What admission needs from other nodes.

use futures::future::BoxFuture;
use systir_assignment::RoomId;
use systir_reason::Refusal;
use systir_registry::ToldAssignment;

/// A request for a seat on another node.
#[derive(Debug, Clone)]
pub struct ReservationRequest {
    /// The room.
    pub room: RoomId,
    /// The participant's identity.
    pub identity: String,
    /// Id of the reservation. None asks only whether the node would give a seat: it reserves none.
    pub join_id: Option<String>,
    /// The room's grant: a signed note.
    pub grant: String,
}

/// A node's refusal of a reservation.
#[derive(Debug, Clone)]
pub struct RefusedReservation {
    /// Why.
    pub refusal: Refusal,
    /// The room's grant and who carries the room, as the node knows them.
    pub told: Option<ToldAssignment>,
}

impl From<Refusal> for RefusedReservation {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, told: None }
    }
}

/// The other nodes, by name.
pub trait PeerNodes: Send + Sync + std::fmt::Debug {
    /// Is the link to that node up?
    fn is_up(&self, node: &str) -> bool;

    /// Asks a node for a seat. Returns the join number of the last join of the identity that the node knows, 0 for none.
    ///
    /// # Errors
    /// The node's refusal, or [`Reason::NoAnswer`](systir_reason::Reason::NoAnswer).
    fn reserve<'a>(
        &'a self,
        node: &'a str,
        request: ReservationRequest,
    ) -> BoxFuture<'a, Result<u64, RefusedReservation>>;

    /// Releases a seat on a node. Best effort: the reservation also expires.
    fn release<'a>(&'a self, node: &'a str, room: &'a RoomId, join_id: &'a str) -> BoxFuture<'a, ()>;
}
