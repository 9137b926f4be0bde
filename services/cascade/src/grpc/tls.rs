//! TLS under gRPC. Each connection carries the peer's proven identity.

use crate::SERVER_NAME;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use systir_identity::{Credentials, SpiffeId, alpn, peer_identity};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::debug;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_HANDSHAKES: usize = 128;

/// The peer of a gRPC connection, as TLS proved. Every request has it as an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenPeer {
    /// The SPIFFE id.
    pub id: SpiffeId,
    /// Its address.
    pub address: SocketAddr,
}

/// A connection whose peer TLS has authenticated.
pub(crate) struct PeerConnection {
    stream: server::TlsStream<TcpStream>,
    peer: ProvenPeer,
}

impl Connected for PeerConnection {
    type ConnectInfo = ProvenPeer;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for PeerConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts authenticated connections until cancelled.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    accepted: mpsc::Sender<io::Result<PeerConnection>>,
    cancel: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let connection = tokio::select! {
            () = cancel.cancelled() => return,
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
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let (acceptor, accepted, cancel) = (acceptor.clone(), accepted.clone(), cancel.clone());
        tokio::spawn(async move {
            let outcome = tokio::select! {
                () = cancel.cancelled() => return,
                outcome = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(&acceptor, stream, address)) => outcome,
            };
            drop(permit);
            match outcome {
                Ok(Ok(connection)) => drop(accepted.send(Ok(connection)).await),
                Ok(Err(error)) => {
                    debug!(from = %address, %error, "a gRPC connection failed TLS authentication")
                }
                Err(_) => {
                    debug!(from = %address, "a gRPC connection did not finish its TLS handshake within 3 s")
                }
            }
        });
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<PeerConnection> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let id = peer_identity(chain).map_err(io::Error::other)?;
    Ok(PeerConnection { stream, peer: ProvenPeer { id, address } })
}

/// Connects to a node. Fails unless TLS proves that the peer is the expected one.
pub(crate) async fn connect(
    credentials: Credentials,
    peer: SpiffeId,
    address: SocketAddr,
) -> io::Result<TokioIo<client::TlsStream<TcpStream>>> {
    let config = credentials.client_config(&peer, alpn::GRPC).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(TokioIo::new(stream))
}

/// TLS configuration of the gRPC server.
pub(crate) fn server_config(credentials: &Credentials) -> Result<Arc<rustls::ServerConfig>, String> {
    credentials.server_config(alpn::GRPC).map(Arc::new).map_err(|error| error.to_string())
}
