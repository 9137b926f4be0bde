//! What links report to the node.

use crate::flow::Parity;
use std::sync::Arc;
use systir_identity::SpiffeId;

pub use systir_proto::cluster::v1::room_message::Body as RoomBody;

/// Number of a link, unique within the process. `Entry::peer` in batches.
pub type LinkNumber = u32;

/// Key of a room in the cluster, as in the protocol messages.
pub type LinkRoomKey = Arc<str>;

/// Something happened on a link. Events of one link are in order: `Up` is first, `Down` is last.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// The gRPC session and all QUIC connections are up.
    Up {
        /// The other node, as TLS proved.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// This node's parity, for the flows that it chooses.
        parity: Parity,
    },
    /// The link is down, and with it all rooms and flows on it.
    Down {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// Why.
        reason: DownReason,
    },
    /// Dialling a peer failed. It is retried while a room needs the link.
    Unreachable {
        /// The node that was dialled.
        peer: SpiffeId,
        /// What failed.
        reason: String,
    },
    /// The policies of both nodes allow it: the room is open on the link.
    RoomOpened {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: LinkRoomKey,
    },
    /// One of the nodes refused the room. It is not open and no longer requested.
    RoomRefused {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: LinkRoomKey,
        /// Did this node's own policy refuse?
        by_us: bool,
        /// Why.
        reason: String,
        /// Ids of the policy rules that decided.
        rules: Vec<String>,
    },
    /// The peer closed a room that was open or requested. It is no longer requested.
    RoomClosed {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: LinkRoomKey,
    },
    /// A message about an open room.
    Message {
        /// The other node.
        peer: SpiffeId,
        /// The link.
        link: LinkNumber,
        /// The room.
        room: LinkRoomKey,
        /// Its content.
        body: RoomBody,
    },
}

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No room needs it.
    #[error("no room needs it")]
    Idle,
    /// No packet arrived for 0.6 s.
    #[error("no packet from the peer for 0.6 s")]
    Silence,
    /// A QUIC connection of the link ended.
    #[error("a QUIC connection ended: {0}")]
    Quic(String),
    /// The gRPC session ended.
    #[error("the gRPC session ended: {0}")]
    Session(String),
    /// The peer closed the link on purpose.
    #[error("the peer closed the link: {0}")]
    Goodbye(String),
    /// The peer opened a new link.
    #[error("the peer opened a new link")]
    Replaced,
    /// The peer does not read its control messages, or this node its link events.
    #[error("control messages are not read fast enough")]
    Overrun,
    /// The certificate of one of the nodes expired, and was not renewed in time.
    #[error("a certificate of the link expired")]
    CertificateExpired,
    /// No directory lists the peer any more, or not with its node key, or not the CA of its certificate.
    #[error("no directory lists the peer with its node key and the CA of its certificate any more")]
    Unlisted,
    /// The peer violated the protocol.
    #[error("the peer violated the protocol: {0}")]
    Protocol(String),
    /// This node is stopping.
    #[error("this node is stopping")]
    Shutdown,
}
