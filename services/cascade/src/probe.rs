//! Asks other nodes without links of its own: for `systirctl doctor`.

use crate::SERVER_NAME;
use crate::authenticator::Authenticator;
use crate::documents::{self, HeldDocument};
use crate::grpc::call_error::CallError;
use crate::grpc::client::Clients;
use crate::grpc::dialler::NodeDialler;
use crate::grpc::open_connections::OpenConnections;
use crate::listed_nodes::ListedNodes;
use crate::peer_address::PeerAddress;
use quinn::crypto::rustls::QuicClientConfig;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use systir_documents::{DocumentId, NodeKey};
use systir_identity::{Credentials, alpn};
use systir_version::VersionRange;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Dials other nodes with this node's identity, and takes part in nothing. Dropping it ends its connections.
pub struct PeerProbe {
    authenticator: Arc<Authenticator>,
    clients: Clients,
    _end: DropGuard,
}

impl PeerProbe {
    /// Uses this identity for nodes that `listed` lists.
    #[must_use]
    pub fn new(credentials: Credentials, node_key: NodeKey, listed: Arc<dyn ListedNodes>) -> Self {
        let authenticator = Arc::new(Authenticator {
            credentials,
            node_key,
            listed,
            versions: VersionRange::OWN,
            counters: Default::default(),
        });
        let cancel = CancellationToken::new();
        let clients = Clients::new(Arc::new(NodeDialler {
            authenticator: authenticator.clone(),
            open: Arc::new(OpenConnections::default()),
            tasks: TaskTracker::new(),
            cancel: cancel.clone(),
        }));
        Self { authenticator, clients, _end: cancel.drop_guard() }
    }

    /// Asks a node over gRPC which documents it holds, and what time it is for it: the text of the HTTP `date` (RFC 9110,
    /// section 6.6.1). It is told of no documents, so that it fetches none from here.
    ///
    /// # Errors
    /// When the node refuses, cannot be reached or does not answer within 3 s.
    pub async fn ask(&self, peer: &PeerAddress) -> Result<(Vec<HeldDocument>, Option<String>), CallError> {
        documents::ask(self.clients.shared(peer)).await
    }

    /// Fetches the signed note of a document.
    ///
    /// # Errors
    /// When the node does not hold that version, refuses, cannot be reached or does not answer in time.
    pub async fn fetch(
        &self,
        peer: &PeerAddress,
        id: &DocumentId,
        version: u64,
    ) -> Result<String, CallError> {
        documents::fetch(self.clients.shared(peer), id, version).await
    }

    /// Makes a QUIC connection and closes it.
    ///
    /// # Errors
    /// When the node does not prove its certificate within 3 s.
    pub async fn connect_quic(&self, peer: &PeerAddress) -> Result<(), CallError> {
        let unreachable = |error: &dyn std::fmt::Display| CallError::Unreachable(error.to_string());
        self.authenticator.check_dial(&peer.id, peer.quic).map_err(|error| unreachable(&error))?;
        let tls = self.authenticator.credentials.client_config(&peer.id, alpn::LINK);
        let tls = QuicClientConfig::try_from(tls.map_err(|error| unreachable(&error))?);
        let config = quinn::ClientConfig::new(Arc::new(tls.map_err(|error| unreachable(&error))?));
        let any: IpAddr =
            if peer.quic.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let endpoint =
            quinn::Endpoint::client(SocketAddr::new(any, 0)).map_err(|error| unreachable(&error))?;
        let connecting =
            endpoint.connect_with(config, peer.quic, SERVER_NAME).map_err(|error| unreachable(&error))?;
        let connection = tokio::time::timeout(TIMEOUT, connecting).await;
        let connection = connection.map_err(|_| CallError::Timeout(TIMEOUT))?;
        connection.map_err(|error| unreachable(&error))?.close(0_u32.into(), b"");
        // The packet that closes it is sent before the socket is.
        let _ = tokio::time::timeout(TIMEOUT, endpoint.wait_idle()).await;
        Ok(())
    }
}
