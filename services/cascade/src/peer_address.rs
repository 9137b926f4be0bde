//! Addresses of a node's links.

use std::net::SocketAddr;
use systir_identity::SpiffeId;

/// The addresses of a node's links, and the identity that must answer there. A node is dialled only at addresses that
/// [`crate::ListedNodes::may_dial`] allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// The SPIFFE id that TLS must prove.
    pub id: SpiffeId,
    /// Its gRPC address (TCP).
    pub grpc: SocketAddr,
    /// Its QUIC address (UDP).
    pub quic: SocketAddr,
}
