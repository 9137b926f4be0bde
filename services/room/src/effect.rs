//! What a room core wants done.

use systir_assignment::Assignment;
use systir_media_control::ParticipantKey;

use crate::NodeAddress;

/// One effect. Commands to the worker and messages to other nodes wait in queues of their own, because both
/// may be full: [`crate::RoomCore::next_worker_request`], [`crate::RoomCore::flush_to_peers`].
#[derive(Debug)]
pub enum RoomEffect {
    /// Send a response to a client.
    Signal {
        /// Its participant.
        participant: ParticipantKey,
        /// The response.
        response: Box<livekit_protocol::SignalResponse>,
    },
    /// The participant left: its signalling ends and its seat is free.
    Left {
        /// The participant.
        participant: ParticipantKey,
        /// Id of its reservation.
        join_id: String,
    },
    /// Open the room on the link to a node. The core has asked policy.
    OpenOnLink {
        /// The node.
        node: String,
        /// Where it is reached.
        address: NodeAddress,
        /// Epoch of the assignment.
        epoch: u64,
        /// Number of the policy version.
        policy_version: u64,
    },
    /// Close the room on the link to a node.
    CloseOnLink {
        /// The node.
        node: String,
    },
    /// Take this node out of the room's assignment, then answer with [`crate::RoomInput::AssignmentLeft`].
    LeaveAssignment,
    /// The room has participants here and its record does not name this node: write it again.
    WriteAssignment(Box<Assignment>),
}
