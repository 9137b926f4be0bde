//! A node whose code an attacker controls, for tests. It has the certificate and the node key that the test gives it,
//! and speaks the gRPC and QUIC of nodes with code of its own: nothing of the crates that it attacks, beside the
//! messages, keys, certificates and versions. It states the versions of this release; [`HostileNode::without_versions`]
//! speaks as nodes of before versions were stated.
//!
//! This crate has no script: the test says what the node claims, asks, tells and answers.
//!
//! - [`HostileNode`]: dials honest nodes.
//! - [`serve()`]: lets honest nodes call a service of the test.

mod dial;
mod serve;

pub use dial::{ACCEPTED, ACCEPTED_UNSTATED, HostileNode, LINK, hello};
pub use serve::serve;

use std::net::SocketAddr;

use systir_identity::SpiffeId;

/// An honest node.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its id, which its certificate must prove.
    pub id: SpiffeId,
    /// Where it accepts gRPC.
    pub grpc: SocketAddr,
    /// Where it accepts QUIC.
    pub quic: SocketAddr,
}

impl From<&Self> for Target {
    fn from(other: &Self) -> Self {
        other.clone()
    }
}
