//! Commands to the QUIC thread.

use crate::event::{DownReason, LinkNumber};
use crate::flow::Parity;
use crate::open_flows::LinkFlows;
use crate::stats::LinkStats;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use systir_identity::ProvenIdentity;
use tokio::sync::{mpsc, oneshot};

/// 16 random bytes that the session and the QUIC connections of a link name.
pub(crate) type LinkId = [u8; 16];

/// A command to the QUIC thread.
pub(crate) enum QuicCommand {
    /// The peer will connect: wait for its connections.
    Expect(LinkSetup),
    /// Connect to the peer.
    Connect(LinkSetup, SocketAddr),
    /// End a link in any state.
    Close(LinkNumber),
    /// End all links and the thread.
    Shutdown,
}

/// A link to set up.
pub(crate) struct LinkSetup {
    pub(crate) number: LinkNumber,
    pub(crate) id: LinkId,
    /// The peer, as the connection of the session proved. Its QUIC connections must prove the same id and key.
    pub(crate) peer: ProvenIdentity,
    pub(crate) parity: Parity,
    pub(crate) connections: u8,
    /// The flows on which media is sent and passed on.
    pub(crate) flows: LinkFlows,
    /// Where the thread publishes the link's counters.
    pub(crate) stats: Arc<Mutex<LinkStats>>,
    /// Resolved when all connections are up, with the first end of their certificates, or with the reason why
    /// they are not.
    pub(crate) ready: oneshot::Sender<Result<SystemTime, String>>,
    /// Receives the data messages that arrive as datagrams. When it is full, they are dropped.
    pub(crate) data_messages: mpsc::Sender<Bytes>,
    /// Resolved after `ready`, when a connection ends by itself.
    pub(crate) down: oneshot::Sender<DownReason>,
}
