//! The tokio driver of room cores: one task for each room passes inputs to its [`systir_room::RoomCore`] and
//! does the core's effects on channels, links, workers and the registry. It contains no logic of a room and
//! no policy decisions.
//!
//! - [`Rooms`]: the rooms that this node carries.
//! - [`RoomHandle`]: reaches the task of one room.
//! - [`PeerLinks`]: what rooms need of the links to other nodes.
//!
//! `systir-relay`'s `node.rs` starts it.

mod handle;
mod link_events;
mod rooms;
mod task;
mod told;

use systir_proto::cluster::v1::room_message::Body;
use systir_room::NodeAddress;

pub use handle::{KnownIdentity, ParticipantArrival, RoomHandle, SignalChannels};
pub use rooms::{CleanUp, RoomDependencies, Rooms};
pub use told::{telling, told_assignment};

/// The links to other nodes, by node name.
pub trait PeerLinks: Send + Sync + std::fmt::Debug {
    /// Opens a room on the link to a node. Dials the node when there is no link.
    fn open_room(&self, room: &str, node: &str, address: NodeAddress, epoch: u64, policy_version: u64);

    /// Closes a room on the link to a node.
    fn close_room(&self, room: &str, node: &str);

    /// Sends a message about a room. Without a link the message is dropped.
    ///
    /// # Errors
    /// Returns the message when the link does not accept it now.
    fn send(&self, room: &str, node: &str, body: Body) -> Result<(), Box<Body>>;

    /// Does a link to the node stand?
    fn has_link(&self, node: &str) -> bool;

    /// The node's address, from its last lease. None for a node that never had one, and for one that the
    /// operator's node file does not list.
    fn address(&self, node: &str) -> Option<NodeAddress>;
}
