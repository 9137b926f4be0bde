//! The tokio driver of room cores: it carries what happens to a [`systir_room::RoomCore`] and does what the
//! core wants done. It holds no logic of a room.
//!
//! [`Rooms`] holds the rooms that this node carries, [`RoomHandle`] reaches one; [`PeerLinks`] is what rooms
//! need of the links to other nodes.

mod handle;
mod link_events;
mod rooms;
mod task;

use systir_proto::cluster::v1::room_message::Body;
use systir_room::NodeAddress;

pub use handle::{ParticipantArrival, RoomHandle, SignalChannels};
pub use rooms::{RoomDependencies, Rooms};

/// The links to other nodes, by the names of nodes.
pub trait PeerLinks: Send + Sync + std::fmt::Debug {
    /// Opens a room on the link to a node, and dials the node when there is no link.
    fn open_room(&self, room: &str, node: &str, address: NodeAddress, epoch: u64, policy_version: u64);

    /// Closes a room on the link to a node.
    fn close_room(&self, room: &str, node: &str);

    /// Sends a message about a room; without a link the message is dropped.
    ///
    /// # Errors
    /// The message, when the link does not take it now.
    fn send(&self, room: &str, node: &str, body: Body) -> Result<(), Box<Body>>;

    /// The node's address by its lease, under the identity of the operator's file; none when either is
    /// missing.
    fn address(&self, node: &str) -> Option<NodeAddress>;
}
