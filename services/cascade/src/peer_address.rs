//! Where a node is reached.

use std::net::SocketAddr;
use systir_identity::SpiffeId;

/// Where a node is reached, and who must answer there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Who must answer.
    pub id: SpiffeId,
    /// Its gRPC port.
    pub grpc: SocketAddr,
    /// Its QUIC port.
    pub quic: SocketAddr,
}
