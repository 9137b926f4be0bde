//! What a join needs of other nodes.

use futures::future::BoxFuture;
use systir_assignment::RoomId;
use systir_reason::Refusal;

/// A request for a seat at another node.
#[derive(Debug, Clone)]
pub struct ReservationRequest {
    /// The room.
    pub room: RoomId,
    /// Identity of the participant.
    pub identity: String,
    /// Id of the reservation.
    pub join_id: String,
    /// Epoch of the room's record; 0 while none is written.
    pub epoch: u64,
    /// Number of the policy version that the home was chosen by.
    pub policy_version: u64,
}

/// The other nodes, by name.
pub trait PeerNodes: Send + Sync + std::fmt::Debug {
    /// Is the link to that node up?
    fn is_up(&self, node: &str) -> bool;

    /// Asks a node for a seat.
    ///
    /// # Errors
    /// The node's refusal, or that it does not answer.
    fn reserve<'a>(
        &'a self,
        node: &'a str,
        request: ReservationRequest,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Releases a seat at a node; best effort, since the reservation expires by itself.
    fn release<'a>(&'a self, node: &'a str, room: &'a RoomId, join_id: &'a str) -> BoxFuture<'a, ()>;
}
