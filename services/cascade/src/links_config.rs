//! What links need to start.

use crate::listed_nodes::ListedNodes;
use crate::quic::WorkerPort;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use systir_documents::NodeKey;
use systir_forwarding::ThreadNotifier;
use systir_identity::Credentials;
use systir_version::VersionRange;
use tokio::net::TcpListener;

/// Configuration of a node's links.
pub struct LinksConfig {
    /// This node's certificate and the CAs that it trusts.
    pub credentials: Credentials,
    /// This node's node key, which its operator's directory lists. When it is replaced, open connections prove the new one
    /// within seconds.
    pub node_key: NodeKey,
    /// The nodes that directories list.
    pub listed: Arc<dyn ListedNodes>,
    /// Bound socket for QUIC.
    pub quic_socket: UdpSocket,
    /// Bound listener for gRPC.
    pub grpc_listener: TcpListener,
    /// The notifier that the workers' rings wake.
    pub notifier: ThreadNotifier,
    /// The workers' rings, indexed by worker number; at most 16.
    pub workers: Vec<WorkerPort>,
    /// Highest send rate of one link in bits per second.
    pub ceiling_bps: u64,
    /// QUIC connections per link that this node dials, 1 to 8.
    pub connections: u8,
    /// Largest UDP payload that path MTU discovery tries, in bytes; 1452 fits Ethernet.
    pub max_mtu: u16,
    /// Socket buffer to request from the kernel, in bytes per direction.
    pub socket_buffer: usize,
    /// How long a link stays up without rooms.
    pub linger: Duration,
    /// The versions that this node works with.
    pub versions: VersionRange,
    /// Calls about grants and seats, and starts of signalling, of one peer: at once, and the time for one more. Each may have
    /// signatures to verify.
    pub join_calls: (u32, Duration),
}

impl LinksConfig {
    /// Bytes of socket buffer that are requested per direction.
    pub const SOCKET_BUFFER: usize = 32 << 20;

    /// The defaults: 10 Gbit/s, one connection, 1452 bytes, 32 MiB, 5 s, no workers, the versions of this release, 8,192 calls and then
    /// 1,000 per second.
    #[must_use]
    pub fn new(
        credentials: Credentials,
        node_key: NodeKey,
        listed: Arc<dyn ListedNodes>,
        quic_socket: UdpSocket,
        grpc_listener: TcpListener,
    ) -> Self {
        Self {
            credentials,
            node_key,
            listed,
            quic_socket,
            grpc_listener,
            notifier: ThreadNotifier::new(),
            workers: Vec::new(),
            ceiling_bps: 10_000_000_000,
            connections: 1,
            max_mtu: 1452,
            socket_buffer: Self::SOCKET_BUFFER,
            linger: Duration::from_secs(5),
            versions: VersionRange::OWN,
            join_calls: (8_192, Duration::from_millis(1)),
        }
    }
}

/// Why links could not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// More workers than flow identifiers can name.
    #[error("{0} workers are too many; links serve at most 16")]
    TooManyWorkers(usize),
    /// The QUIC thread.
    #[error("the QUIC thread did not start: {0}")]
    Quic(String),
    /// The gRPC server.
    #[error("the gRPC server did not start: {0}")]
    Grpc(String),
}
