//! Links by the names that operators use. Certificates speak SPIFFE, the operator's file knows
//! which name has which id, and no other source is believed.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use systir_cascade::{CallError, Links, Parity, PeerAddress, RoomBody, SendError, SignalStream};
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::{ReleaseRequest, ReserveReply, ReserveRequest, SignalStart};

use crate::authority::Authority;

/// The node's links.
pub struct Trunk {
    links: OnceLock<Links>,
    authority: Arc<Authority>,
}

impl std::fmt::Debug for Trunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trunk")
    }
}

impl Trunk {
    /// Without links yet: they start once there is a handler.
    pub(crate) fn new(authority: Arc<Authority>) -> Self {
        Self { links: OnceLock::new(), authority }
    }

    pub(crate) fn connect(&self, links: Links) {
        let _ = self.links.set(links);
    }

    pub(crate) fn links(&self) -> Option<&Links> {
        self.links.get()
    }

    fn id(&self, node: &str) -> Option<SpiffeId> {
        self.authority.facts(node)?.spiffe_id.parse().ok()
    }

    /// Where a node is reached and who must answer there; none when the file does not know it.
    pub(crate) fn address(&self, node: &str, grpc: &str, quic: &str) -> Option<PeerAddress> {
        let (grpc, quic): (SocketAddr, SocketAddr) = (grpc.parse().ok()?, quic.parse().ok()?);
        Some(PeerAddress { id: self.id(node)?, grpc, quic })
    }

    pub(crate) fn need(&self, room: &str, peer: PeerAddress, epoch: u64, policy_version: u64) {
        if let Some(links) = self.links() {
            links.need(room, peer, epoch, policy_version);
        }
    }

    pub(crate) fn drop_room(&self, room: &str, node: &str) {
        if let (Some(links), Some(id)) = (self.links(), self.id(node)) {
            links.drop_room(room, &id);
        }
    }

    /// Sends a message about a room.
    ///
    /// # Errors
    /// When the other node does not read fast enough: the message comes back.
    pub(crate) fn send(&self, node: &str, room: &str, body: RoomBody) -> Result<(), Box<RoomBody>> {
        let (Some(links), Some(id)) = (self.links(), self.id(node)) else { return Ok(()) };
        match links.send(&id, room, body) {
            Err(SendError::Full(Some(body))) => Err(body),
            // The room's task hears of the end of the link; what is said meanwhile is said again then.
            Ok(()) | Err(SendError::NoLink | SendError::RoomNotOpen | SendError::Full(None)) => Ok(()),
        }
    }

    /// This node's parity on the link with another.
    pub(crate) fn parity(&self, node: &str) -> Option<Parity> {
        Some(Parity::of(self.links()?.me(), &self.id(node)?))
    }

    /// Does a link with that node stand?
    pub(crate) fn is_up(&self, node: &str) -> bool {
        let (Some(links), Some(id)) = (self.links(), self.id(node)) else { return false };
        links.list().iter().any(|link| link.peer == id)
    }

    pub(crate) async fn reserve(
        &self,
        peer: &PeerAddress,
        request: ReserveRequest,
    ) -> Result<ReserveReply, CallError> {
        self.started()?.reserve(peer, request).await
    }

    pub(crate) async fn release(&self, peer: &PeerAddress, request: ReleaseRequest) -> Result<(), CallError> {
        self.started()?.release(peer, request).await
    }

    pub(crate) async fn signal(
        &self,
        peer: &PeerAddress,
        start: SignalStart,
    ) -> Result<SignalStream, CallError> {
        self.started()?.signal(peer, start).await
    }

    fn started(&self) -> Result<&Links, CallError> {
        self.links().ok_or_else(|| CallError::Failed("this node's links are not started yet".to_owned()))
    }
}
