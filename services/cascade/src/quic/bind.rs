//! Binds a QUIC connection to a link. The dialling node sends a bind request on the first stream; the
//! other node confirms once all connections of the link have arrived. Each carries its node's node key proof.
//! `cluster.proto` describes the format.

use super::command::LinkId;
use crate::authenticator::{Authenticator, IdentityRefused};
use quinn::{Connection, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use systir_identity::{HandshakeRole, NodeHandshake, NodeKeyProof};

const VERSION: u8 = 2;
const CONFIRMED: u8 = 1;
const LENGTH: usize = 19;
const PROOF: usize = 64;

/// Names the link of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BindRequest {
    pub(super) link: LinkId,
    /// Which of the link's connections this is, from 0.
    pub(super) index: u8,
    /// How many connections the link has.
    pub(super) connections: u8,
}

impl BindRequest {
    fn encode(self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        let [version, link @ .., index, connections] = &mut out;
        *version = VERSION;
        link.copy_from_slice(&self.link);
        (*index, *connections) = (self.index, self.connections);
        out
    }

    fn decode(bytes: [u8; LENGTH]) -> Option<Self> {
        let [version, link @ .., index, connections] = bytes;
        (version == VERSION && index < connections).then_some(Self { link, index, connections })
    }
}

/// Entry point for the fuzz target: what is read is written the same.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<LENGTH>()
        && let Some(request) = BindRequest::decode(*bytes)
    {
        assert_eq!(request.encode(), *bytes);
    }
}

/// The completed TLS handshake of a connection.
pub(super) fn handshake(
    authenticator: &Authenticator,
    role: HandshakeRole,
    connection: &Connection,
) -> Result<NodeHandshake, IdentityRefused> {
    let chain =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let chain = chain.map(|chain| *chain).unwrap_or_default();
    authenticator.handshake(role, &chain, |bytes, label| {
        connection.export_keying_material(bytes, label, &[]).map_err(|error| format!("{error:?}"))
    })
}

/// Sends a bind request and waits for its confirmation. Returns the peer's proof.
pub(super) async fn request(
    connection: &Connection,
    request: BindRequest,
    proof: &NodeKeyProof,
) -> Result<NodeKeyProof, String> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_all(&[&request.encode()[..], proof].concat()).await.map_err(|error| error.to_string())?;
    let _ = send.finish();
    let mut answer = [0; 1 + PROOF];
    recv.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
    let [code, proof @ ..] = answer;
    if code == CONFIRMED { Ok(proof) } else { Err("the peer did not confirm the connection".to_owned()) }
}

/// Waits for a bind request with the peer's proof. Its confirmation is sent on the returned stream.
pub(super) async fn receive(
    connection: &Connection,
) -> Result<(BindRequest, NodeKeyProof, SendStream), String> {
    let (send, mut recv): (SendStream, RecvStream) =
        connection.accept_bi().await.map_err(|error| error.to_string())?;
    let (mut bytes, mut proof) = ([0; LENGTH], [0; PROOF]);
    recv.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
    let request = BindRequest::decode(bytes).ok_or("the peer's bind request is malformed")?;
    recv.read_exact(&mut proof).await.map_err(|error| error.to_string())?;
    Ok((request, proof, send))
}

/// Confirms a bind request, with this node's proof.
pub(super) async fn confirm(mut send: SendStream, proof: &NodeKeyProof) -> Result<(), String> {
    send.write_all(&[&[CONFIRMED][..], proof].concat()).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use systir_golden::Golden;
    use systir_version::VersionRange;

    #[test]
    fn a_bind_request_is_written_and_read_as_its_fixture() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let golden = Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN);
        let request = BindRequest { link: [7; 16], index: 1, connections: 2 };
        golden.check("bind-request.hex", &request.encode(), |_, bytes| {
            assert_eq!(BindRequest::decode(bytes.try_into().unwrap()), Some(request));
        });
    }

    #[test]
    fn a_bind_request_survives_encoding() {
        let request = BindRequest { link: [7; 16], index: 1, connections: 2 };
        assert_eq!(BindRequest::decode(request.encode()), Some(request));
        assert_eq!(BindRequest::decode([0; LENGTH]), None);
        assert_eq!(BindRequest::decode(BindRequest { index: 2, ..request }.encode()), None);
    }
}
