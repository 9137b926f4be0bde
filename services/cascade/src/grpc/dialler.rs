//! Connects to the gRPC servers of nodes: only where the directory says, and only with proof of both identities.

use super::connection::NodeStream;
use super::lifetime;
use super::open_connections::OpenConnections;
use super::proof::{self, ProofContext};
use crate::SERVER_NAME;
use crate::authenticator::{Authenticator, IdentityRefused};
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use systir_identity::{HandshakeRole, SpiffeId, alpn};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connects to nodes.
pub(crate) struct NodeDialler {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) open: Arc<OpenConnections>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

/// A connection that this node dialled.
pub(crate) type DialledStream = NodeStream<TlsStream<TcpStream>>;

impl NodeDialler {
    /// Connects to a node, and keeps the connection in step with renewed certificates.
    ///
    /// # Errors
    /// When the directory does not list the node or the address, or the other end does not prove that it is that
    /// node.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        peer: &SpiffeId,
        to: SocketAddr,
    ) -> io::Result<DialledStream> {
        // Read before the handshake, which may already use another key or certificate: the connection then proves it
        // once more.
        let own = self.authenticator.own_identity();
        let stream = self.connect_once(peer, to).await?;
        self.tasks.spawn(lifetime::renew(self.clone(), stream.connection().clone(), to, own));
        Ok(stream)
    }

    /// The same without renewal.
    pub(super) async fn connect_once(&self, peer: &SpiffeId, to: SocketAddr) -> io::Result<DialledStream> {
        let authenticator = &self.authenticator;
        authenticator.check_dial(peer, to).map_err(io::Error::other)?;
        let config = authenticator.credentials.client_config(peer, alpn::GRPC).map_err(io::Error::other)?;
        // Read before the handshake, which may already use a renewed certificate: the connection then ends early.
        let own = authenticator.credentials.not_after();
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let mut stream = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => stream,
            Err(error) => {
                let _ = authenticator.refuse::<()>(IdentityRefused::Tls(error.to_string()));
                return Err(error);
            }
        };
        let (_, tls) = stream.get_ref();
        let context = ProofContext::new(
            authenticator,
            HandshakeRole::Dialler,
            tls.alpn_protocol(),
            tls.peer_certificates(),
            |bytes, label| tls.export_keying_material(bytes, label, None).map(drop),
        )
        .map_err(io::Error::other)?;
        let proven = proof::dial(authenticator, &mut stream, &context).await?;
        let until = Authenticator::until(own, &proven);
        let entry = self.open.add(HandshakeRole::Dialler, context.secret, proven.clone(), until);
        let entry = entry.ok_or_else(|| io::Error::other("too many connections"))?;
        // Asked again: a new directory may have ended the peer's connections before this one was added.
        authenticator.check_accepted(&proven).map_err(io::Error::other)?;
        Ok(NodeStream::new(stream, entry))
    }
}
