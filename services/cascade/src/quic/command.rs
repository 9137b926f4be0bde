//! What the control half asks of the media half.

use crate::event::{DownReason, LinkNumber};
use crate::flow::Parity;
use crate::stats::LinkStats;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use systir_identity::SpiffeId;
use tokio::sync::{mpsc, oneshot};

/// 16 random bytes that both halves of a link name.
pub(crate) type LinkId = [u8; 16];

/// What the control half asks of the media half.
pub(crate) enum Command {
    /// The peer will connect.
    Expect(LinkSetup),
    /// Connect to the peer.
    Connect(LinkSetup, SocketAddr),
    /// End a link, whatever its state.
    Close(LinkNumber),
    /// End all.
    Shutdown,
}

/// A link in the making.
pub(crate) struct LinkSetup {
    pub(crate) number: LinkNumber,
    pub(crate) id: LinkId,
    pub(crate) peer: SpiffeId,
    pub(crate) parity: Parity,
    pub(crate) connections: u8,
    pub(crate) stats: Arc<Mutex<LinkStats>>,
    /// All lanes stand, or why not.
    pub(crate) ready: oneshot::Sender<Result<(), String>>,
    /// Where messages that came in datagrams go; a full queue loses them.
    pub(crate) data_messages: mpsc::Sender<Bytes>,
    /// Told once, after `ready`, when the media half ends by itself.
    pub(crate) down: oneshot::Sender<DownReason>,
}
