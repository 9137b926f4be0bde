//! Lets honest nodes call a service of the test.

use std::io;
use std::sync::Arc;

use anyhow::Result;
use systir_documents::SigningKey;
use systir_identity::{Credentials, HandshakeRole, NodeHandshake, alpn};
use systir_proto::cluster::v1::cluster_server::{Cluster, ClusterServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

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
    let acceptor = TlsAcceptor::from(Arc::new(credentials.server_config(alpn::GRPC_UNSTATED)?));
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
) -> Result<TlsStream<TcpStream>> {
    let mut stream = acceptor.accept(stream).await?;
    let (_, tls) = stream.get_ref();
    let handshake = NodeHandshake::new(
        HandshakeRole::Listener,
        credentials.id(),
        tls.peer_certificates().unwrap_or_default(),
        |bytes, label| tls.export_keying_material(bytes, label, None).map(drop),
    )?;
    let mut proof = [0; 64];
    stream.read_exact(&mut proof).await?;
    stream.write_all(&[&[0][..], &handshake.prove(key)].concat()).await?;
    stream.flush().await?;
    Ok(stream)
}
