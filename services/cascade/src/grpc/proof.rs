//! The exchange of node key proofs on a TLS stream, before HTTP/2. Its format is described in `cluster.proto`.

use super::connection::ConnectionSecret;
use crate::authenticator::{Authenticator, IdentityRefused};
use rustls::pki_types::CertificateDer;
use std::fmt::Display;
use std::io;
use systir_identity::{HandshakeRole, NodeHandshake, NodeKeyError, ProvenIdentity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PROOF: usize = 64;
/// Label of the exporter of [`ConnectionSecret`]; labels that begin so need no registration (RFC 5705).
const SECRET_LABEL: &[u8] = b"EXPERIMENTAL systir.org/connection/v1";

const ACCEPTED: u8 = 0;
const UNLISTED: u8 = 1;
const WRONG_KEY: u8 = 2;
const TOO_MANY: u8 = 3;

/// A TLS connection after its handshake.
pub(super) struct ProofContext {
    pub(super) handshake: NodeHandshake,
    pub(super) secret: ConnectionSecret,
}

impl ProofContext {
    /// `export` fills its first argument from the TLS exporter with its second as label.
    pub(super) fn new<E: Display>(
        authenticator: &Authenticator,
        role: HandshakeRole,
        chain: Option<&[CertificateDer<'_>]>,
        export: impl Fn(&mut [u8], &[u8]) -> Result<(), E>,
    ) -> Result<Self, IdentityRefused> {
        let mut secret = ConnectionSecret::default();
        if let Err(error) = export(&mut secret, SECRET_LABEL) {
            return authenticator.refuse(IdentityRefused::Tls(error.to_string()));
        }
        let handshake = authenticator.handshake(role, chain.unwrap_or_default(), export)?;
        Ok(Self { handshake, secret })
    }
}

/// The dialling node's part. Returns the proven identity of the other node.
pub(super) async fn dial(
    authenticator: &Authenticator,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    handshake: &NodeHandshake,
) -> io::Result<ProvenIdentity> {
    stream.write_all(&authenticator.prove(handshake)).await?;
    stream.flush().await?;
    let mut code = [0];
    stream.read_exact(&mut code).await?;
    if code != [ACCEPTED] {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused_by_peer(code)));
    }
    let mut proof = [0; PROOF];
    stream.read_exact(&mut proof).await?;
    authenticator.verify(handshake, &proof).map_err(io::Error::other)
}

fn refused_by_peer([code]: [u8; 1]) -> String {
    let why = match code {
        UNLISTED => "no directory there lists this node",
        WRONG_KEY => "the directory there lists this node with another node key",
        TOO_MANY => "this node has too many connections to it",
        _ => return format!("the other node refused this node's identity (code {code})"),
    };
    format!("the other node refused this node's identity: {why}")
}

/// The listening node reads and verifies the proof of the dialling node.
pub(super) async fn receive(
    authenticator: &Authenticator,
    stream: &mut (impl AsyncRead + Unpin),
    handshake: &NodeHandshake,
) -> Result<ProvenIdentity, IdentityRefused> {
    let mut proof = [0; PROOF];
    // Read it before a refusal: unread bytes would reset the connection, and with it the reason.
    if let Err(error) = stream.read_exact(&mut proof).await {
        return authenticator.refuse(IdentityRefused::NoProof(error.to_string()));
    }
    authenticator.verify(handshake, &proof)
}

/// The listening node accepts, with its own proof.
pub(super) async fn accept(
    authenticator: &Authenticator,
    stream: &mut (impl AsyncWrite + Unpin),
    handshake: &NodeHandshake,
) -> io::Result<()> {
    let mut answer = [ACCEPTED; 1 + PROOF];
    let [_, proof @ ..] = &mut answer;
    proof.copy_from_slice(&authenticator.prove(handshake));
    stream.write_all(&answer).await?;
    stream.flush().await
}

/// The listening node tells the other why it refuses. Without a code for the reason, it says nothing.
pub(super) async fn refuse(stream: &mut (impl AsyncWrite + Unpin), refused: &IdentityRefused) {
    let code = match refused {
        IdentityRefused::NodeKey(NodeKeyError::Unlisted(_)) => UNLISTED,
        IdentityRefused::NodeKey(NodeKeyError::WrongKey(_)) => WRONG_KEY,
        IdentityRefused::TooMany(..) => TOO_MANY,
        IdentityRefused::Tls(_)
        | IdentityRefused::NoProof(_)
        | IdentityRefused::Address(..)
        | IdentityRefused::NoPlace => return,
    };
    // The other node sees the end of the connection otherwise.
    let _ = stream.write_all(&[code]).await;
    let _ = stream.shutdown().await;
}
