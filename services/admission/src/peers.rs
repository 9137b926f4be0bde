//! What admission needs from other nodes.

use futures::future::BoxFuture;
use systir_assignment::{MediaRole, RoomId};
use systir_reason::Refusal;

/// A request for a seat on another node.
#[derive(Debug, Clone)]
pub struct ReservationRequest {
    /// The room.
    pub room: RoomId,
    /// The participant's identity.
    pub identity: String,
    /// Id of the reservation.
    pub join_id: String,
    /// Epoch of the room's assignment; 0 when none is written yet.
    pub epoch: u64,
    /// Number of the policy version when the home was chosen.
    pub policy_version: u64,
    /// The role in which the asked node would carry the room.
    pub role: MediaRole,
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
    ) -> BoxFuture<'a, Result<u64, Refusal>>;

    /// Releases a seat on a node. Best effort: the reservation also expires.
    fn release<'a>(&'a self, node: &'a str, room: &'a RoomId, join_id: &'a str) -> BoxFuture<'a, ()>;
}
