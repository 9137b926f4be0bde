//! Dials honest nodes.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use systir_documents::SigningKey;
use systir_identity::{Credentials, HandshakeRole, NodeHandshake, NodeKeyProof, alpn};
use systir_proto::cluster::v1::cluster_client::ClusterClient;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{Hello, SessionMessage};
use systir_version::VersionRange;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::Target;

/// The id of the link that [`hello`] opens.
pub const LINK: [u8; 16] = [9; 16];

/// Length of the answer to an accepted proof: a code, and the proof and the versions of the other node.
pub const ACCEPTED: usize = ACCEPTED_UNSTATED + 4;

/// The same without versions.
pub const ACCEPTED_UNSTATED: usize = 65;

/// The window of a stream in RFC 9113, so that the test decides what it reads.
const STREAM_WINDOW: u32 = 65_535;

/// A node of the test, with its node key and certificate. It has one link at a time.
pub struct HostileNode {
    /// Its certificate.
    pub credentials: Credentials,
    /// Its node key.
    pub key: SigningKey,
    address: IpAddr,
    protocols: &'static [&'static [u8]],
    endpoint: quinn::Endpoint,
    out: mpsc::Sender<SessionMessage>,
    stream: Option<Streaming<SessionMessage>>,
    /// The QUIC connections for which it requested a link.
    pub quic: Vec<quinn::Connection>,
}

impl fmt::Debug for HostileNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostileNode").field("id", self.credentials.id()).finish_non_exhaustive()
    }
}

/// Opens the link [`LINK`], by a node that gives itself this name.
#[must_use]
pub fn hello(claimed: &str) -> Hello {
    Hello {
        version: systir_proto::LINK_VERSION,
        extension_table: 1,
        link_id: LINK.to_vec().into(),
        node: claimed.to_owned(),
        connections: 1,
    }
}

/// Did both ends agree to state their versions?
fn states_versions(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(alpn::GRPC_WITH_VERSIONS)
}

fn accepted(states_versions: bool) -> usize {
    if states_versions { ACCEPTED } else { ACCEPTED_UNSTATED }
}

impl HostileNode {
    /// A node that dials from 127.0.0.1.
    ///
    /// # Errors
    /// When no UDP socket can be opened.
    pub fn new(credentials: Credentials, key: SigningKey) -> Result<Self> {
        Self::at(Ipv4Addr::LOCALHOST.into(), credentials, key)
    }

    /// A node that dials from this address.
    ///
    /// # Errors
    /// When no UDP socket can be opened there.
    pub fn at(address: IpAddr, credentials: Credentials, key: SigningKey) -> Result<Self> {
        let endpoint = quinn::Endpoint::client(SocketAddr::new(address, 0))?;
        let (out, _) = mpsc::channel(1);
        let protocols = &[alpn::GRPC_WITH_VERSIONS];
        Ok(Self { credentials, key, address, protocols, endpoint, out, stream: None, quic: Vec::new() })
    }

    /// From now on it speaks as nodes of before versions were stated.
    #[must_use]
    pub fn without_versions(mut self) -> Self {
        self.protocols = alpn::GRPC_UNSTATED;
        self
    }

    /// A TLS connection to the gRPC port, and this node's proof for it.
    ///
    /// # Errors
    /// When the other node ends the handshake.
    pub async fn tls(&self, to: impl Into<Target>) -> io::Result<(TlsStream<TcpStream>, NodeKeyProof)> {
        self.tls_with(to, self.protocols).await
    }

    /// The same with other application protocols.
    ///
    /// # Errors
    /// When the other node ends the handshake.
    pub async fn tls_with(
        &self,
        to: impl Into<Target>,
        protocols: &[&[u8]],
    ) -> io::Result<(TlsStream<TcpStream>, NodeKeyProof)> {
        let to = to.into();
        let tls = Arc::new(self.credentials.client_config(&to.id, protocols).map_err(io::Error::other)?);
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(self.address, 0))?;
        let stream = socket.connect(to.grpc).await?;
        let name = ServerName::try_from("anyone").map_err(io::Error::other)?;
        let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
        let (_, session) = stream.get_ref();
        let handshake = NodeHandshake::new(
            HandshakeRole::Dialler,
            self.credentials.id(),
            session.peer_certificates().unwrap_or_default(),
            |bytes, label| session.export_keying_material(bytes, label, None).map(drop),
        );
        let proof = handshake.map_err(io::Error::other)?.prove(&self.key);
        Ok((stream, proof))
    }

    /// Sends a proof on a connection, with the versions of this release if both ends state theirs. Returns the answer, which is
    /// short when it is a refusal.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn send_proof(stream: &mut TlsStream<TcpStream>, proof: &NodeKeyProof) -> io::Result<Vec<u8>> {
        let states_versions = states_versions(stream);
        let versions = states_versions.then(|| VersionRange::OWN.to_bytes());
        stream.write_all(&[&proof[..], versions.as_ref().map_or(&[], |bytes| &bytes[..])].concat()).await?;
        // Not more than the answer: messages of HTTP/2 follow.
        let (mut answer, mut length) = (vec![0; accepted(states_versions)], 0);
        // A refusal ends the connection, with or without an error.
        while let Some(rest) = answer.get_mut(length..)
            && let Ok(more @ 1..) = stream.read(rest).await
        {
            length += more;
        }
        answer.truncate(length);
        Ok(answer)
    }

    /// Connects by gRPC.
    ///
    /// # Errors
    /// When the other node does not accept the proof.
    pub async fn client(&self, to: impl Into<Target>) -> Result<ClusterClient<Channel>> {
        Ok(self.client_and_secret(to).await?.0)
    }

    /// A client, and the secret of its connection, by which a newer connection extends it.
    ///
    /// # Errors
    /// When the other node does not accept the proof.
    pub async fn client_and_secret(
        &self,
        to: impl Into<Target>,
    ) -> Result<(ClusterClient<Channel>, [u8; 32])> {
        let (mut stream, proof) = self.tls(to).await?;
        let mut secret = [0; 32];
        let label = b"EXPERIMENTAL systir.org/connection/v1";
        stream.get_ref().1.export_keying_material(&mut secret, label, None)?;
        let answer = Self::send_proof(&mut stream, &proof).await?;
        ensure!(answer.len() == accepted(states_versions(&stream)), "the proof was refused: {answer:?}");
        let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
        let connect = move |_| std::future::ready(stream.take().ok_or_else(|| io::Error::other("only once")));
        let endpoint = Endpoint::from_static("http://x").initial_stream_window_size(STREAM_WINDOW);
        let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await?;
        Ok((ClusterClient::new(channel), secret))
    }

    /// Connects by gRPC and opens a link, which lacks its QUIC connections.
    ///
    /// # Errors
    /// The other node's status, when it refuses the link.
    pub async fn session(&mut self, to: impl Into<Target>, hello: Hello) -> Result<(), Status> {
        let failed = |error: anyhow::Error| Status::unavailable(format!("{error:#}"));
        let (out, messages) = mpsc::channel(64);
        let mut client = self.client(to).await.map_err(failed)?;
        self.out = out;
        self.send(Body::Hello(hello)).await.map_err(failed)?;
        self.stream = Some(client.session(ReceiverStream::new(messages)).await?.into_inner());
        match self.receive().await.map_err(failed)? {
            Some(Body::Hello(_)) => Ok(()),
            other => Err(Status::internal(format!("{other:?} instead of Hello"))),
        }
    }

    /// Connects by QUIC and requests to bind the connection to a link. Was it confirmed?
    ///
    /// # Errors
    /// When the other node accepts no connection.
    pub async fn quic(&mut self, to: impl Into<Target>, link: [u8; 16]) -> Result<bool> {
        let connection = self.quic_connection(to).await?;
        let proof = self.quic_proof(&connection)?;
        Ok(self.bind(connection, link, &proof).await)
    }

    /// Connects by QUIC.
    ///
    /// # Errors
    /// When the other node accepts no connection.
    pub async fn quic_connection(&self, to: impl Into<Target>) -> Result<quinn::Connection> {
        let to = to.into();
        let tls = self.credentials.client_config(&to.id, alpn::LINK)?;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        Ok(self.endpoint.connect_with(config, to.quic, "anyone")?.await?)
    }

    /// This node's proof for a QUIC connection.
    ///
    /// # Errors
    /// When the other node showed no node's certificate.
    pub fn quic_proof(&self, connection: &quinn::Connection) -> Result<NodeKeyProof> {
        let chain = connection.peer_identity().context("no certificate")?;
        let chain = chain.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| anyhow!("no X.509"))?;
        let export = |bytes: &mut [u8], label: &[u8]| {
            connection.export_keying_material(bytes, label, &[]).map_err(|error| format!("{error:?}"))
        };
        let handshake = NodeHandshake::new(HandshakeRole::Dialler, self.credentials.id(), &chain, export)?;
        Ok(handshake.prove(&self.key))
    }

    /// Requests to bind a connection to a link. Was it confirmed?
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
        let confirmed = recv.read_exact(&mut answer).await.is_ok() && answer.starts_with(&[1]);
        self.quic.push(connection);
        confirmed
    }

    /// Sends a message of the link.
    ///
    /// # Errors
    /// When the link has ended.
    pub async fn send(&self, body: Body) -> Result<()> {
        Ok(self.out.send(SessionMessage { body: Some(body) }).await?)
    }

    /// Sends messages of its present link, for a task of its own.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<SessionMessage> {
        self.out.clone()
    }

    /// The next message about rooms or the link itself. None once the link has ended.
    ///
    /// # Errors
    /// The other node's status, when it ended the link with one.
    pub async fn receive(&mut self) -> Result<Option<Body>> {
        let stream = self.stream.as_mut().context("no link")?;
        while let Some(message) = stream.message().await? {
            match message.body {
                Some(Body::Documents(_)) => {}
                body => return Ok(body),
            }
        }
        Ok(None)
    }
}
