//! Lets honest nodes call a service of the test.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use systir_documents::SigningKey;
use systir_identity::{Credentials, HandshakeRole, NodeHandshake, alpn};
use systir_proto::cluster::v1::cluster_server::{Cluster, ClusterServer};
use systir_version::VersionRange;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// Accepts gRPC connections until it is dropped: it proves the node key, and believes whatever the others prove.
///
/// # Errors
/// When the certificate does not serve, or the server fails.
pub async fn serve<S: Cluster>(
    listener: TcpListener,
    credentials: Credentials,
    key: SigningKey,
    service: Arc<S>,
) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(credentials.server_config(alpn::GRPC)?));
    let (accepted, incoming) = mpsc::channel(16);
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await?;
            // One after the other: few nodes dial, and all of them are honest.
            if let Ok(stream) = identify(&acceptor, &credentials, &key, stream).await {
                accepted.send(Ok::<_, io::Error>(stream)).await?;
            }
        }
    };
    let server = Server::builder()
        .add_service(ClusterServer::from_arc(service))
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::select! {
        ended = accept => ended,
        ended = server => Ok(ended?),
    }
}

async fn identify(
    acceptor: &TlsAcceptor,
    credentials: &Credentials,
    key: &SigningKey,
    stream: TcpStream,
) -> Result<Accepted> {
    let mut stream = acceptor.accept(stream).await?;
    let (_, tls) = stream.get_ref();
    let handshake = NodeHandshake::new(
        HandshakeRole::Listener,
        credentials.id(),
        tls.peer_certificates().unwrap_or_default(),
        |bytes, label| tls.export_keying_material(bytes, label, None).map(drop),
    )?;
    let states_versions = tls.alpn_protocol() == Some(alpn::GRPC_WITH_VERSIONS);
    let mut statement = vec![0; if states_versions { 68 } else { 64 }];
    stream.read_exact(&mut statement).await?;
    let mut answer = [&[0][..], &handshake.prove(key)].concat();
    if states_versions {
        answer.extend(VersionRange::OWN.to_bytes());
    }
    stream.write_all(&answer).await?;
    stream.flush().await?;
    Ok(Accepted(stream))
}

/// A connection whose node proved its key.
struct Accepted(TlsStream<TcpStream>);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
