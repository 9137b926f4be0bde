//! Accepts gRPC connections of nodes. A connection that does not prove a listed node key never reaches HTTP/2.

use super::connection::NodeStream;
use super::lifetime;
use super::open_connections::{MAX_ACCEPTED, OpenConnections};
use super::proof::{self, ProofContext};
use crate::authenticator::{Authenticator, IdentityRefused};
use crate::unproven::UnprovenPlaces;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use systir_identity::{HandshakeRole, alpn};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Accepts connections of nodes.
pub(crate) struct NodeListener {
    authenticator: Arc<Authenticator>,
    open: Arc<OpenConnections>,
    acceptor: TlsAcceptor,
    cancel: CancellationToken,
}

/// A connection that a peer dialled.
pub(crate) type AcceptedStream = NodeStream<TlsStream<TcpStream>>;

impl NodeListener {
    pub(crate) fn new(
        authenticator: Arc<Authenticator>,
        open: Arc<OpenConnections>,
        cancel: CancellationToken,
    ) -> Result<Arc<Self>, String> {
        let config =
            authenticator.credentials.server_config(alpn::GRPC).map_err(|error| error.to_string())?;
        Ok(Arc::new(Self { authenticator, open, acceptor: TlsAcceptor::from(Arc::new(config)), cancel }))
    }

    /// Accepts connections until cancelled.
    pub(crate) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        accepted: mpsc::Sender<io::Result<AcceptedStream>>,
    ) {
        let places = UnprovenPlaces::new(self.authenticator.listed.clone());
        loop {
            let connection = tokio::select! {
                () = self.cancel.cancelled() => return,
                connection = listener.accept() => connection,
            };
            let (stream, address) = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    // Mostly out of file descriptors.
                    debug!(%error, "accepting a gRPC connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(place) = places.try_acquire(address.ip(), Instant::now()) else {
                self.authenticator.refuse_place(address, "gRPC");
                continue;
            };
            let (this, accepted) = (self.clone(), accepted.clone());
            tokio::spawn(async move {
                let outcome = tokio::select! {
                    () = this.cancel.cancelled() => return,
                    outcome = tokio::time::timeout(HANDSHAKE_TIMEOUT, this.authenticate(stream)) => outcome,
                };
                drop(place);
                match outcome {
                    Ok(Ok(stream)) => {
                        tokio::spawn(lifetime::expire(stream.connection().clone()));
                        drop(accepted.send(Ok(stream)).await);
                    }
                    Ok(Err(refused)) => this.authenticator.report(address, "gRPC", &refused),
                    Err(_) => {
                        let late = IdentityRefused::NoProof("not within 3 s".to_owned());
                        let _ = this.authenticator.refuse::<()>(late.clone());
                        this.authenticator.report(address, "gRPC", &late);
                    }
                }
            });
        }
    }

    async fn authenticate(&self, stream: TcpStream) -> Result<AcceptedStream, IdentityRefused> {
        let authenticator = &self.authenticator;
        let failed = |error: io::Error| IdentityRefused::NoProof(error.to_string());
        stream.set_nodelay(true).map_err(failed)?;
        // Read before the handshake, which may already use a renewed certificate: the connection then ends early.
        let own = authenticator.credentials.not_after();
        let mut stream = match self.acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return authenticator.refuse(IdentityRefused::Tls(error.to_string())),
        };
        let (_, tls) = stream.get_ref();
        let context = ProofContext::new(
            authenticator,
            HandshakeRole::Listener,
            tls.alpn_protocol(),
            tls.peer_certificates(),
            |bytes, label| tls.export_keying_material(bytes, label, None).map(drop),
        )?;
        let admitted = match proof::receive(authenticator, &mut stream, &context).await {
            Ok(peer) => {
                let until = Authenticator::until(own, &peer);
                match self.open.add(HandshakeRole::Listener, context.secret, peer.clone(), until) {
                    // Asked again: a new directory may have ended the peer's connections before this one was added.
                    Some(entry) => authenticator.check_accepted(&peer).map(|()| entry),
                    None => authenticator.refuse(IdentityRefused::TooMany(peer.id().clone(), MAX_ACCEPTED)),
                }
            }
            Err(refused) => Err(refused),
        };
        match admitted {
            Ok(entry) => {
                proof::accept(authenticator, &mut stream, &context).await.map_err(failed)?;
                Ok(NodeStream::new(stream, entry))
            }
            Err(refused) => {
                proof::refuse(&mut stream, &context, &refused).await;
                Err(refused)
            }
        }
    }
}
