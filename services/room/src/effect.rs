//! What a room core wants its driver to do.

use systir_media_control::ParticipantKey;
use systir_proto::cluster::v1 as wire;

use crate::NodeAddress;

/// One effect. Commands to the worker and messages to other nodes are not effects: they wait in queues,
/// because the receiver may be full ([`crate::RoomCore::flush_to_worker`],
/// [`crate::RoomCore::flush_to_peers`]).
#[derive(Debug)]
pub enum RoomEffect {
    /// Send a signal response to a client.
    Signal {
        /// The client's participant.
        participant: ParticipantKey,
        /// The response.
        response: Box<livekit_protocol::SignalResponse>,
    },
    /// The participant left: end its signalling and release its seat.
    Left {
        /// The participant.
        participant: ParticipantKey,
        /// Id of its seat's reservation.
        join_id: String,
    },
    /// Open the room on the link to a node. Policy approves the node.
    OpenOnLink {
        /// The node's name.
        node: String,
        /// Its address.
        address: NodeAddress,
        /// Epoch of the assignment.
        epoch: u64,
        /// Number of the policy version.
        policy_version: u64,
    },
    /// Close the room on the link to a node.
    CloseOnLink {
        /// The node's name.
        node: String,
    },
    /// Remove a spill node from the room's assignment: it carries the room no longer, or this node is home and its policy
    /// denies the spill node.
    RemoveSpill {
        /// The node's name.
        node: String,
    },
    /// Remove this node from the room's assignment, then answer with [`crate::RoomInput::AssignmentLeft`].
    LeaveAssignment,
    /// Write the room's record: this node is home, and the record is missing or wrong.
    WriteAssignment,
    /// Follow what another node told: the room's grant and who carries the room.
    FollowAssignment {
        /// The node that told it.
        node: String,
        /// What it told.
        told: wire::RoomAssignment,
    },
}
