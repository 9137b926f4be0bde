//! What links tell the node.

use crate::flow::Parity;
use std::sync::Arc;
use systir_identity::SpiffeId;

pub use systir_proto::cluster::v1::room_message::Body as RoomBody;

/// Number of a link; never used twice while the process lives. `Entry::peer` in batches.
pub type LinkNumber = u32;

/// Key of a room in the cluster.
pub type RoomKey = Arc<str>;

/// Something happened on a link. Events of one link are in order, `Up` first and `Down` last.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// QUIC and gRPC both stand.
    Up {
        /// Who is at the other end, as TLS proved.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// This node's parity, for the flows it chooses.
        parity: Parity,
    },
    /// The link is gone, and all rooms and flows on it.
    Down {
        /// Who was at the other end.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// Why.
        reason: DownReason,
    },
    /// A needed link could not be made; it is tried again as long as it is needed.
    Unreachable {
        /// Who was to be reached.
        peer: SpiffeId,
        /// What went wrong.
        reason: String,
    },
    /// Both gates agreed: the room is open on the link.
    RoomOpened {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: RoomKey,
    },
    /// A gate refused; the room is not open and not needed any more.
    RoomRefused {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: RoomKey,
        /// Did this node's own gate refuse?
        by_us: bool,
        /// Why.
        reason: String,
        /// Policy rules that decided.
        rules: Vec<String>,
    },
    /// The peer closed a room that was open or asked for; it is not needed any more.
    RoomClosed {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: RoomKey,
    },
    /// A message about an open room.
    Message {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: RoomKey,
        /// What it says.
        body: RoomBody,
    },
}

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No room needs it.
    #[error("no room needs it")]
    Idle,
    /// Nothing was heard for 0.6 s.
    #[error("nothing was heard of the peer for 0.6 s")]
    Silence,
    /// The QUIC half ended.
    #[error("the QUIC connection ended: {0}")]
    Quic(String),
    /// The gRPC half ended.
    #[error("the gRPC session ended: {0}")]
    Session(String),
    /// The peer said goodbye.
    #[error("the peer closed it: {0}")]
    Goodbye(String),
    /// The peer made a new link.
    #[error("the peer made a new link")]
    Replaced,
    /// A side does not keep up with control messages.
    #[error("control messages are not read fast enough")]
    Overrun,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// This node stops.
    #[error("this node stops")]
    Shutdown,
}
