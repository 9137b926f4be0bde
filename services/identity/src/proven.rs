//! The identity that a peer proved.

use crate::SpiffeId;
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use systir_documents::PublicKey;

/// The identity that a peer proved on its connection: TLS proved the SPIFFE id, and the peer signed with a node
/// key that a directory lists for that id. Only [`crate::NodeHandshake::verify`] makes it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProvenIdentity {
    id: SpiffeId,
    node_key: PublicKey,
    not_after: SystemTime,
    chain: Arc<[CertificateDer<'static>]>,
}

impl ProvenIdentity {
    pub(crate) fn new(
        id: SpiffeId,
        node_key: PublicKey,
        not_after: SystemTime,
        chain: Arc<[CertificateDer<'static>]>,
    ) -> Self {
        Self { id, node_key, not_after, chain }
    }

    /// An identity that no peer proved, without certificates, for tests of other crates.
    #[cfg(feature = "test-identities")]
    #[must_use]
    pub fn for_tests(id: SpiffeId, node_key: PublicKey, not_after: SystemTime) -> Self {
        Self::new(id, node_key, not_after, Arc::default())
    }

    /// The SPIFFE id.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The node key that signed the proof.
    #[must_use]
    pub fn node_key(&self) -> &PublicKey {
        &self.node_key
    }

    /// Did both identities prove the same node: one id and one node key? The certificates may differ.
    #[must_use]
    pub fn is_same_node(&self, other: &Self) -> bool {
        (&self.id, &self.node_key) == (&other.id, &other.node_key)
    }

    /// The certificates with which TLS proved the id, leaf first.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The end of validity of the peer's certificate. After it, the identity is no longer proven.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl fmt::Display for ProvenIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl fmt::Debug for ProvenIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvenIdentity")
            .field("id", &self.id.as_str())
            .field("node_key", &self.node_key.fingerprint())
            .field("not_after", &self.not_after)
            .finish()
    }
}
