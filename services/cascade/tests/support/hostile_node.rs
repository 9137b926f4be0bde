//! A node that speaks gRPC and QUIC without the crate, and proves what the test says.

use super::{Node, TestCluster, node_key};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use systir_documents::SigningKey;
use systir_identity::{Credentials, HandshakeRole, NodeHandshake, NodeKeyProof, alpn};
use systir_proto::cluster::v1::cluster_client::ClusterClient;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{Hello, SessionMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

pub const LINK: [u8; 16] = [9; 16];

/// A node of the test, with its node key and certificate.
pub struct HostileNode {
    pub credentials: Credentials,
    pub key: SigningKey,
    endpoint: quinn::Endpoint,
    out: mpsc::Sender<SessionMessage>,
    stream: Option<Streaming<SessionMessage>>,
    pub quic: Vec<quinn::Connection>,
}

pub fn hello(claimed: &str) -> Hello {
    Hello {
        version: systir_proto::LINK_VERSION,
        extension_table: 1,
        link_id: LINK.to_vec().into(),
        node: claimed.to_owned(),
        connections: 1,
    }
}

impl HostileNode {
    /// A node that the directory lists.
    pub fn new(cluster: &TestCluster, name: &str) -> Self {
        cluster.directory.list(name);
        Self::with(cluster.credentials(name), node_key(name))
    }

    pub fn with(credentials: Credentials, key: SigningKey) -> Self {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (out, _) = mpsc::channel(1);
        Self { credentials, key, endpoint, out, stream: None, quic: Vec::new() }
    }

    /// A TLS connection to the gRPC port, and this node's proof for it.
    pub async fn tls(&self, to: &Node) -> io::Result<(TlsStream<TcpStream>, NodeKeyProof)> {
        let tls = Arc::new(self.credentials.client_config(&to.id(), alpn::GRPC).unwrap());
        let stream = TcpStream::connect(to.address.grpc).await?;
        let name = ServerName::try_from("anyone").unwrap();
        let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
        let (_, session) = stream.get_ref();
        let handshake = NodeHandshake::new(
            HandshakeRole::Dialler,
            self.credentials.id(),
            session.peer_certificates().unwrap(),
            |bytes, label| session.export_keying_material(bytes, label, None).map(drop),
        );
        let proof = handshake.unwrap().prove(&self.key);
        Ok((stream, proof))
    }

    /// Sends a proof on a connection. Returns the answer, which is short when it is a refusal.
    pub async fn send_proof(stream: &mut TlsStream<TcpStream>, proof: &NodeKeyProof) -> Vec<u8> {
        stream.write_all(proof).await.unwrap();
        let mut answer = vec![0; 65];
        let mut length = 0;
        while let Ok(more @ 1..) = stream.read(&mut answer[length..]).await {
            length += more;
        }
        answer.truncate(length);
        answer
    }

    pub async fn client(&self, to: &Node) -> ClusterClient<Channel> {
        self.client_and_secret(to).await.0
    }

    /// A client, and the secret of its connection, by which a newer connection extends it.
    pub async fn client_and_secret(&self, to: &Node) -> (ClusterClient<Channel>, [u8; 32]) {
        let (mut stream, proof) = self.tls(to).await.unwrap();
        let mut secret = [0; 32];
        let label = b"EXPERIMENTAL systir.org/connection/v1";
        stream.get_ref().1.export_keying_material(&mut secret, label, None).unwrap();
        assert_eq!(Self::send_proof(&mut stream, &proof).await.len(), 65, "the proof is accepted");
        let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
        let connect = move |_| std::future::ready(stream.take().ok_or_else(|| io::Error::other("only once")));
        // The window of RFC 9113, so that the test decides what it reads.
        let endpoint = Endpoint::from_static("http://x").initial_stream_window_size(65_535);
        let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap();
        (ClusterClient::new(channel), secret)
    }

    pub async fn session(&mut self, to: &Node, hello: Hello) -> Result<(), Status> {
        let (out, messages) = mpsc::channel(64);
        out.try_send(SessionMessage { body: Some(Body::Hello(hello)) }).unwrap();
        let mut client = self.client(to).await;
        let stream = client.session(ReceiverStream::new(messages)).await?.into_inner();
        (self.out, self.stream) = (out, Some(stream));
        assert!(matches!(self.receive().await, Some(Body::Hello(_))));
        Ok(())
    }

    /// Connects by QUIC and requests to bind the connection to a link. Was it confirmed?
    pub async fn quic(&mut self, to: &Node, link: [u8; 16]) -> bool {
        let connection = self.quic_connection(to).await;
        let proof = self.quic_proof(&connection);
        self.bind(connection, link, &proof).await
    }

    pub async fn quic_connection(&self, to: &Node) -> quinn::Connection {
        let tls = self.credentials.client_config(&to.id(), alpn::LINK).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        self.endpoint.connect_with(config, to.address.quic, "anyone").unwrap().await.unwrap()
    }

    pub fn quic_proof(&self, connection: &quinn::Connection) -> NodeKeyProof {
        let chain = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
        let export = |bytes: &mut [u8], label: &[u8]| {
            connection.export_keying_material(bytes, label, &[]).map_err(|error| format!("{error:?}"))
        };
        let handshake = NodeHandshake::new(HandshakeRole::Dialler, self.credentials.id(), &chain, export);
        handshake.unwrap().prove(&self.key)
    }

    pub async fn bind(
        &mut self,
        connection: quinn::Connection,
        link: [u8; 16],
        proof: &NodeKeyProof,
    ) -> bool {
        let Ok((mut send, mut recv)) = connection.open_bi().await else { return false };
        let request = [&[2][..], &link, &[0, 1], proof].concat();
        let _ = send.write_all(&request).await;
        let mut answer = [0; 65];
        let confirmed = recv.read_exact(&mut answer).await.is_ok() && answer[0] == 1;
        self.quic.push(connection);
        confirmed
    }

    pub async fn send(&self, body: Body) {
        self.out.send(SessionMessage { body: Some(body) }).await.unwrap();
    }

    /// The next message about rooms or the link itself.
    pub async fn receive(&mut self) -> Option<Body> {
        loop {
            match self.stream.as_mut().unwrap().message().await.unwrap().unwrap().body {
                Some(Body::Documents(_)) => {}
                body => return body,
            }
        }
    }
}
