//! The exchange of node key proofs and versions on a TLS stream, before HTTP/2. Its format is described in `cluster.proto`.

use super::connection::ConnectionSecret;
use crate::authenticator::{Authenticator, IdentityRefused};
use rustls::pki_types::CertificateDer;
use std::fmt::Display;
use std::io;
use systir_identity::{HandshakeRole, NodeHandshake, NodeKeyError, NodeKeyProof, ProvenIdentity, alpn};
use systir_version::VersionRange;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PROOF: usize = 64;
const VERSIONS: usize = 4;
/// Label of the exporter of [`ConnectionSecret`]; labels that begin so need no registration (RFC 5705).
const SECRET_LABEL: &[u8] = b"EXPERIMENTAL systir.org/connection/v1";

const ACCEPTED: u8 = 0;
const UNLISTED: u8 = 1;
const WRONG_KEY: u8 = 2;
const TOO_MANY: u8 = 3;
const VERSION: u8 = 4;

/// A TLS connection after its handshake.
pub(super) struct ProofContext {
    pub(super) handshake: NodeHandshake,
    pub(super) secret: ConnectionSecret,
    /// Do the nodes state their versions?
    states_versions: bool,
}

impl ProofContext {
    /// `export` fills its first argument from the TLS exporter with its second as label.
    pub(super) fn new<E: Display>(
        authenticator: &Authenticator,
        role: HandshakeRole,
        protocol: Option<&[u8]>,
        chain: Option<&[CertificateDer<'_>]>,
        export: impl Fn(&mut [u8], &[u8]) -> Result<(), E>,
    ) -> Result<Self, IdentityRefused> {
        let mut secret = ConnectionSecret::default();
        if let Err(error) = export(&mut secret, SECRET_LABEL) {
            return authenticator.refuse(IdentityRefused::Tls(error.to_string()));
        }
        let handshake = authenticator.handshake(role, chain.unwrap_or_default(), export)?;
        let states_versions = protocol == Some(alpn::GRPC_WITH_VERSIONS);
        Ok(Self { handshake, secret, states_versions })
    }
}

/// The dialling node's part. Returns the proven identity of the other node.
pub(super) async fn dial(
    authenticator: &Authenticator,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    context: &ProofContext,
) -> io::Result<ProvenIdentity> {
    let ProofContext { handshake, states_versions, .. } = context;
    stream.write_all(&own_statement(authenticator, context)).await?;
    stream.flush().await?;
    let mut code = [0];
    stream.read_exact(&mut code).await?;
    match code {
        [ACCEPTED] => {
            let mut proof = [0; PROOF];
            stream.read_exact(&mut proof).await?;
            let peer = authenticator.verify(handshake, &proof).map_err(io::Error::other)?;
            let versions = versions(stream, *states_versions).await?;
            authenticator.check_versions(peer.id(), versions).map_err(io::Error::other)?;
            Ok(peer)
        }
        [VERSION] => {
            let versions = versions(stream, *states_versions).await?;
            authenticator.check_versions(handshake.peer(), versions).map_err(io::Error::other)?;
            Err(io::Error::new(io::ErrorKind::PermissionDenied, refused_by_peer(code)))
        }
        code => Err(io::Error::new(io::ErrorKind::PermissionDenied, refused_by_peer(code))),
    }
}

fn own_statement(authenticator: &Authenticator, context: &ProofContext) -> Vec<u8> {
    let versions = context.states_versions.then_some(authenticator.versions);
    statement(&authenticator.prove(&context.handshake), versions)
}

/// What a node sends: its proof, and its versions if the nodes state them.
fn statement(proof: &NodeKeyProof, versions: Option<VersionRange>) -> Vec<u8> {
    let mut statement = proof.to_vec();
    statement.extend(versions.into_iter().flat_map(VersionRange::to_bytes));
    statement
}

/// The versions of the other node, which it has sent if the nodes state them.
async fn versions(stream: &mut (impl AsyncRead + Unpin), stated: bool) -> io::Result<VersionRange> {
    if !stated {
        return Ok(VersionRange::UNSTATED);
    }
    let mut versions = [0; VERSIONS];
    stream.read_exact(&mut versions).await?;
    VersionRange::from_bytes(versions)
        .ok_or_else(|| io::Error::other("its oldest version is newer than its newest"))
}

fn refused_by_peer([code]: [u8; 1]) -> String {
    let why = match code {
        UNLISTED => "no directory there lists this node",
        WRONG_KEY => "the directory there lists this node with another node key",
        TOO_MANY => "this node has too many connections to it",
        VERSION => "it does not work with the versions of this node",
        _ => return format!("the other node refused this node's identity (code {code})"),
    };
    format!("the other node refused this node's identity: {why}")
}

/// The listening node reads and verifies the proof of the dialling node, and its versions.
pub(super) async fn receive(
    authenticator: &Authenticator,
    stream: &mut (impl AsyncRead + Unpin),
    context: &ProofContext,
) -> Result<ProvenIdentity, IdentityRefused> {
    let mut proof = [0; PROOF];
    let read = async {
        // Read all before a refusal: unread bytes would reset the connection, and with it the reason.
        stream.read_exact(&mut proof).await?;
        versions(stream, context.states_versions).await
    };
    let versions = match read.await {
        Ok(versions) => versions,
        Err(error) => return authenticator.refuse(IdentityRefused::NoProof(error.to_string())),
    };
    let peer = authenticator.verify(&context.handshake, &proof)?;
    authenticator.check_versions(peer.id(), versions)?;
    Ok(peer)
}

/// The listening node accepts, with its own proof.
pub(super) async fn accept(
    authenticator: &Authenticator,
    stream: &mut (impl AsyncWrite + Unpin),
    context: &ProofContext,
) -> io::Result<()> {
    stream.write_all(&[&[ACCEPTED][..], &own_statement(authenticator, context)].concat()).await?;
    stream.flush().await
}

/// The listening node tells the other why it refuses. Without a code for the reason, it says nothing.
pub(super) async fn refuse(
    stream: &mut (impl AsyncWrite + Unpin),
    context: &ProofContext,
    refused: &IdentityRefused,
) {
    let mut answer = match refused {
        IdentityRefused::NodeKey(NodeKeyError::Unlisted(_)) => vec![UNLISTED],
        IdentityRefused::NodeKey(NodeKeyError::WrongKey(_)) => vec![WRONG_KEY],
        IdentityRefused::TooMany(..) => vec![TOO_MANY],
        IdentityRefused::Version(_) => vec![VERSION],
        IdentityRefused::Tls(_)
        | IdentityRefused::NoProof(_)
        | IdentityRefused::Address(..)
        | IdentityRefused::NoPlace => return,
    };
    if let IdentityRefused::Version(unsupported) = refused
        && context.states_versions
    {
        answer.extend(unsupported.own.to_bytes());
    }
    // The other node sees the end of the connection otherwise.
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use systir_golden::Golden;

    #[tokio::test]
    async fn a_proof_with_versions_is_written_and_read_as_its_fixture() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let golden = Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN);
        let mut fixtures = Vec::new();
        golden.check(
            "node-key-proof.hex",
            &statement(&[5; PROOF], Some(VersionRange::OWN)),
            |version, bytes| {
                fixtures.push((version, bytes.to_vec()));
            },
        );
        for (version, bytes) in fixtures {
            let (proof, mut rest) = bytes.split_at(PROOF);
            assert_eq!(proof, [5; PROOF]);
            // Version 0 speaks the protocol without versions.
            let read = versions(&mut rest, version > 0).await.unwrap();
            let stated = version.checked_sub(1).and_then(|before| VersionRange::new(before, version));
            assert_eq!(read, stated.unwrap_or(VersionRange::UNSTATED));
            assert!(rest.is_empty());
        }
    }
}
