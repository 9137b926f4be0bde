//! The node key proof. A certificate shows that a CA of the trust domain named the peer. The proof shows that the
//! peer also holds the node key that its operator's directory lists, so that a CA alone cannot make a node.
//!
//! After each TLS handshake between nodes, each of the two nodes signs, with its node key:
//!
//! ```text
//! "systir.org/node-key/v1\n"
//! role of the signer: "dialler" or "listener"   length (2 bytes, big endian), text
//! SPIFFE id of the signer                       length, text
//! SPIFFE id of the other node                   length, text
//! TLS exporter (RFC 5705, RFC 8446 section 7.5) 32 bytes, label "EXPERIMENTAL systir.org/node-key/v1"
//! ```
//!
//! The exporter differs on each connection, so a proof is worth nothing on another one. The role keeps a peer
//! from sending a proof back to its signer. No signed note begins with the first line.

use crate::svid::LeafCertificate;
use crate::{IdentityError, ProvenIdentity, SpiffeId};
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use systir_documents::{PublicKey, SigningKey};

const CONTEXT: &[u8] = b"systir.org/node-key/v1\n";
/// Labels that begin so need no registration (RFC 5705, section 4).
const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL systir.org/node-key/v1";
const EXPORTER_LENGTH: usize = 32;

/// A node key proof: an Ed25519 signature.
pub type NodeKeyProof = [u8; 64];

/// Which end of a connection a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeRole {
    /// The TLS client.
    Dialler,
    /// The TLS server.
    Listener,
}

impl HandshakeRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::Dialler => "dialler",
            Self::Listener => "listener",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// A completed TLS handshake between two nodes, seen by one of them.
#[derive(Clone)]
pub struct NodeHandshake {
    role: HandshakeRole,
    me: SpiffeId,
    peer: LeafCertificate,
    /// The peer's certificates, leaf first.
    chain: Arc<[CertificateDer<'static>]>,
    exporter: [u8; EXPORTER_LENGTH],
}

/// Why a node key proof was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeKeyError {
    /// No directory lists the node.
    #[error("no directory lists the node {0}: its operator must publish a directory that does")]
    Unlisted(SpiffeId),
    /// The directory lists the node with other keys.
    #[error(
        "{0} did not sign with a node key that the directory lists for it: compare its node key's fingerprint \
         with the directory"
    )]
    WrongKey(SpiffeId),
}

impl NodeHandshake {
    /// Reads the peer's id from its certificate chain, leaf first, which TLS must have verified with
    /// [`crate::Credentials`]. `export` fills its first argument from the connection's TLS exporter, with its
    /// second argument as the label and no context.
    ///
    /// # Errors
    /// When the leaf is not a node's certificate, or the exporter fails.
    pub fn new<E: fmt::Display>(
        role: HandshakeRole,
        me: &SpiffeId,
        chain: &[CertificateDer<'_>],
        export: impl FnOnce(&mut [u8], &[u8]) -> Result<(), E>,
    ) -> Result<Self, IdentityError> {
        let peer = LeafCertificate::of_chain(chain)?;
        let mut exporter = [0; EXPORTER_LENGTH];
        export(&mut exporter, EXPORTER_LABEL)
            .map_err(|error| IdentityError::Tls(format!("the exporter failed: {error}")))?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Self { role, me: me.clone(), peer, chain, exporter })
    }

    /// The peer's SPIFFE id, which TLS proved. Its node key is not proven yet.
    #[must_use]
    pub fn peer(&self) -> &SpiffeId {
        &self.peer.id
    }

    /// This node's proof.
    #[must_use]
    pub fn prove(&self, key: &SigningKey) -> NodeKeyProof {
        key.sign(&message(self.role, &self.me, &self.peer.id, &self.exporter))
    }

    /// Verifies the peer's proof with the node keys that the directory lists for [`Self::peer`].
    ///
    /// # Errors
    /// When no key is listed, or none of them signed the proof.
    pub fn verify(&self, proof: &NodeKeyProof, listed: &[PublicKey]) -> Result<ProvenIdentity, NodeKeyError> {
        let LeafCertificate { id, not_after } = &self.peer;
        if listed.is_empty() {
            return Err(NodeKeyError::Unlisted(id.clone()));
        }
        let message = message(self.role.other(), id, &self.me, &self.exporter);
        let signer = listed.iter().find(|key| key.verify(&message, proof));
        let node_key = signer.ok_or_else(|| NodeKeyError::WrongKey(id.clone()))?;
        Ok(ProvenIdentity::new(id.clone(), node_key.clone(), *not_after, self.chain.clone()))
    }
}

impl fmt::Debug for NodeHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The exporter identifies the connection and stays out of logs.
        f.debug_struct("NodeHandshake")
            .field("role", &self.role)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

fn message(
    role: HandshakeRole,
    signer: &SpiffeId,
    other: &SpiffeId,
    exporter: &[u8; EXPORTER_LENGTH],
) -> Vec<u8> {
    let mut message = CONTEXT.to_vec();
    for field in [role.as_str(), signer.as_str(), other.as_str()] {
        // A SPIFFE id has at most 2048 bytes.
        message.extend_from_slice(&(field.len() as u16).to_be_bytes());
        message.extend_from_slice(field.as_bytes());
    }
    message.extend_from_slice(exporter);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;
    use systir_golden::Golden;
    use systir_version::VersionRange;

    fn id(name: &str) -> SpiffeId {
        format!("spiffe://nordu.net/relay/{name}").parse().unwrap()
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&format!("node-{seed}"), [seed; 32]).unwrap()
    }

    fn end(role: HandshakeRole, me: &str, peer: &str, exporter: u8) -> NodeHandshake {
        let peer = LeafCertificate { id: id(peer), not_after: SystemTime::UNIX_EPOCH };
        NodeHandshake { role, me: id(me), peer, chain: Arc::default(), exporter: [exporter; EXPORTER_LENGTH] }
    }

    /// Both ends of a connection that `cph-1` dialled.
    fn ends() -> (NodeHandshake, NodeHandshake) {
        (end(HandshakeRole::Dialler, "cph-1", "sto-1", 7), end(HandshakeRole::Listener, "sto-1", "cph-1", 7))
    }

    #[test]
    fn what_a_node_signs_on_a_connection_is_as_its_fixture() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let golden = Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN);
        let (cph, sto) = ends();
        let signed = message(HandshakeRole::Dialler, &id("cph-1"), &id("sto-1"), &[7; EXPORTER_LENGTH]);
        golden.check("node-key-statement.hex", &signed, |_, bytes| {
            // A proof that another release makes of those bytes counts here.
            let proof = key(1).sign(bytes);
            assert!(sto.verify(&proof, &[key(1).public()]).is_ok());
        });
        golden.check("node-key-proof.hex", &cph.prove(&key(1)), |_, bytes| {
            assert!(sto.verify(bytes.try_into().unwrap(), &[key(1).public()]).is_ok());
        });
        golden.check_names(&["node-key-statement.hex", "node-key-proof.hex"]);
    }

    #[test]
    fn each_end_proves_its_node_key_to_the_other() {
        let (cph, sto) = ends();
        let proven = sto.verify(&cph.prove(&key(1)), &[key(9).public(), key(1).public()]).unwrap();
        assert_eq!((proven.id(), proven.node_key()), (&id("cph-1"), &key(1).public()));
        let proven = cph.verify(&sto.prove(&key(2)), &[key(2).public()]).unwrap();
        assert_eq!((proven.id(), proven.node_key()), (&id("sto-1"), &key(2).public()));
    }

    #[test]
    fn a_proof_that_is_sent_back_to_its_signer_is_refused() {
        let (cph, _) = ends();
        let own = cph.prove(&key(1));
        // Even if both nodes had one key and one id.
        let mirror = end(HandshakeRole::Dialler, "cph-1", "cph-1", 7);
        let refused = mirror.verify(&mirror.prove(&key(1)), &[key(1).public()]);
        assert_eq!(refused, Err(NodeKeyError::WrongKey(id("cph-1"))));
        assert_eq!(cph.verify(&own, &[key(1).public()]), Err(NodeKeyError::WrongKey(id("sto-1"))));
    }

    #[test]
    fn a_proof_for_another_pair_of_ids_is_refused() {
        let (cph, sto) = ends();
        let listed = [key(1).public()];
        let swapped = end(HandshakeRole::Dialler, "sto-1", "cph-1", 7).prove(&key(1));
        assert!(sto.verify(&swapped, &listed).is_err());
        let other_listener = end(HandshakeRole::Listener, "osl-1", "cph-1", 7);
        assert!(other_listener.verify(&cph.prove(&key(1)), &listed).is_err());
        let other_dialler = end(HandshakeRole::Dialler, "osl-1", "sto-1", 7);
        assert!(sto.verify(&other_dialler.prove(&key(1)), &listed).is_err());
    }

    #[test]
    fn a_proof_of_another_connection_is_refused() {
        let (_, sto) = ends();
        let before = end(HandshakeRole::Dialler, "cph-1", "sto-1", 8).prove(&key(1));
        assert_eq!(sto.verify(&before, &[key(1).public()]), Err(NodeKeyError::WrongKey(id("cph-1"))));
    }

    #[test]
    fn a_key_that_is_not_listed_and_a_node_on_no_list_are_refused() {
        let (cph, sto) = ends();
        let proof = cph.prove(&key(1));
        assert_eq!(sto.verify(&proof, &[key(2).public()]), Err(NodeKeyError::WrongKey(id("cph-1"))));
        assert_eq!(sto.verify(&proof, &[]), Err(NodeKeyError::Unlisted(id("cph-1"))));
        let mut changed = proof;
        changed[5] ^= 1;
        assert!(sto.verify(&changed, &[key(1).public()]).is_err());
    }

    #[test]
    fn the_signed_message_is_that_of_the_specification() {
        let (cph, _) = ends();
        let mut wanted = b"systir.org/node-key/v1\n".to_vec();
        wanted.extend(b"\x00\x07dialler");
        wanted.extend(b"\x00\x1espiffe://nordu.net/relay/cph-1");
        wanted.extend(b"\x00\x1espiffe://nordu.net/relay/sto-1");
        wanted.extend([7; 32]);
        assert_eq!(message(cph.role, &cph.me, &cph.peer.id, &cph.exporter), wanted);
    }

    #[test]
    fn the_exporter_is_not_in_the_debug_text() {
        let (cph, _) = ends();
        assert!(!format!("{cph:?}").contains("7, 7, 7"));
    }
}
