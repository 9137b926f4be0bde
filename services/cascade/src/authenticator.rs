//! Proves this node's identity on connections, and verifies that of peers. The same for gRPC and QUIC.

use crate::identity_counters::IdentityCounters;
use crate::listed_nodes::ListedNodes;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use systir_documents::{NodeKey, PublicKey};
use systir_identity::{
    Credentials, HandshakeRole, NodeHandshake, NodeKeyError, NodeKeyProof, ProvenIdentity, SpiffeId,
};
use systir_reason::Reason;
use systir_version::{UnsupportedVersion, VersionRange};
use tracing::{debug, warn};

/// What connections need to authenticate both ends.
pub(crate) struct Authenticator {
    pub(crate) credentials: Credentials,
    pub(crate) node_key: NodeKey,
    pub(crate) listed: Arc<dyn ListedNodes>,
    pub(crate) versions: VersionRange,
    pub(crate) counters: IdentityCounters,
}

/// What this node proves on its connections.
#[derive(Clone)]
pub(crate) struct OwnIdentity {
    node_key: PublicKey,
    certificate: Arc<CertifiedKey>,
}

impl OwnIdentity {
    /// Neither the node key nor the certificate was replaced in between.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.node_key == other.node_key && Arc::ptr_eq(&self.certificate, &other.certificate)
    }
}

/// Why a peer, or its address, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityRefused {
    #[error("TLS did not authenticate the other node: {0}")]
    Tls(String),
    #[error("the node key is not proven: {0}")]
    NoProof(String),
    #[error(transparent)]
    NodeKey(#[from] NodeKeyError),
    #[error("{0} has {1} connections to this node, the most that a node may have")]
    TooMany(SpiffeId, usize),
    #[error("{1} is outside the address prefixes that the directory lists for {0}, so it is not dialled")]
    Address(SpiffeId, IpAddr),
    #[error("too many connections have not proven yet which node they are of")]
    NoPlace,
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
}

impl IdentityRefused {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Tls(_) => Reason::TlsHandshake,
            Self::NoProof(_) => Reason::NoNodeKey,
            Self::NodeKey(NodeKeyError::Unlisted(_)) => Reason::Unlisted,
            Self::NodeKey(NodeKeyError::WrongKey(_)) => Reason::WrongNodeKey,
            Self::TooMany(..) => Reason::TooManyConnections,
            Self::Address(..) => Reason::AddressNotListed,
            Self::NoPlace => Reason::TooManyHandshakes,
            Self::Version(_) => Reason::UnsupportedVersion,
        }
    }
}

impl Authenticator {
    /// This node's SPIFFE id.
    pub(crate) fn me(&self) -> &SpiffeId {
        self.credentials.id()
    }

    /// Counts a refusal.
    pub(crate) fn refuse<T>(&self, refused: IdentityRefused) -> Result<T, IdentityRefused> {
        self.counters.refused(refused.reason());
        Err(refused)
    }

    /// Logs a refused connection. A node that a CA named and no directory lists is worth a warning, once a second; a
    /// connection that is no node's is not.
    pub(crate) fn report(&self, from: SocketAddr, protocol: &str, refused: &IdentityRefused) {
        let is_node =
            !matches!(refused.reason(), Reason::TlsHandshake | Reason::NoNodeKey | Reason::TooManyHandshakes);
        if is_node && self.counters.may_warn(Instant::now()) {
            warn!(%from, protocol, %refused, "refused a connection; others within this second are only counted");
        } else {
            debug!(%from, protocol, %refused, "refused a connection");
        }
    }

    /// A connection was refused because too many others have not proven yet which node they are of.
    pub(crate) fn refuse_place(&self, from: SocketAddr, protocol: &str) {
        let refused = IdentityRefused::NoPlace;
        self.report(from, protocol, &refused);
        let _ = self.refuse::<()>(refused);
    }

    /// Refuses a node that no directory lists, whatever its key.
    pub(crate) fn check_known(&self, peer: &SpiffeId) -> Result<(), IdentityRefused> {
        if self.listed.node_keys(peer).is_empty() {
            return self.refuse(NodeKeyError::Unlisted(peer.clone()).into());
        }
        Ok(())
    }

    /// May this node dial the peer at that address? Only listed nodes are dialled, where the directory says.
    pub(crate) fn check_dial(&self, peer: &SpiffeId, address: SocketAddr) -> Result<(), IdentityRefused> {
        self.check_known(peer)?;
        let ip = address.ip().to_canonical();
        if self.listed.may_dial(peer, ip) {
            return Ok(());
        }
        self.refuse(IdentityRefused::Address(peer.clone(), ip))
    }

    /// A completed TLS handshake. The chain, leaf first, is the peer's, as TLS verified it.
    pub(crate) fn handshake<E: Display>(
        &self,
        role: HandshakeRole,
        chain: &[CertificateDer<'_>],
        export: impl FnOnce(&mut [u8], &[u8]) -> Result<(), E>,
    ) -> Result<NodeHandshake, IdentityRefused> {
        NodeHandshake::new(role, self.me(), chain, export)
            .or_else(|error| self.refuse(IdentityRefused::Tls(error.to_string())))
    }

    /// This node's proof on a connection.
    pub(crate) fn prove(&self, handshake: &NodeHandshake) -> NodeKeyProof {
        handshake.prove(&self.node_key.current())
    }

    /// Verifies the peer's proof on a connection.
    pub(crate) fn verify(
        &self,
        handshake: &NodeHandshake,
        proof: &NodeKeyProof,
    ) -> Result<ProvenIdentity, IdentityRefused> {
        let listed = self.listed.node_keys(handshake.peer());
        handshake.verify(proof, &listed).or_else(|error| self.refuse(error.into()))
    }

    /// Refuses a node that works with other versions only.
    pub(crate) fn check_versions(
        &self,
        peer: &SpiffeId,
        versions: VersionRange,
    ) -> Result<(), IdentityRefused> {
        match self.versions.agree(versions, &format!("the node {peer}")) {
            Ok(_) => Ok(()),
            Err(unsupported) => self.refuse(unsupported.into()),
        }
    }

    /// What this node proves on a connection that it makes from now on.
    pub(crate) fn own_identity(&self) -> OwnIdentity {
        OwnIdentity { node_key: self.node_key.public(), certificate: self.credentials.presented() }
    }

    /// Does a directory list several node keys of the peer, or several roots of its trust domain, so that it may change
    /// from one to the other?
    pub(crate) fn may_change_identity(&self, peer: &SpiffeId) -> bool {
        self.listed.node_keys(peer).len() > 1 || self.credentials.has_several_roots(peer.trust_domain())
    }

    /// Does a directory still list the peer with this node key?
    pub(crate) fn is_listed(&self, peer: &ProvenIdentity) -> bool {
        self.listed.node_keys(peer.id()).contains(peer.node_key())
    }

    /// Does a directory still list the peer with this node key, and the CA of its certificate?
    pub(crate) fn accepts(&self, peer: &ProvenIdentity) -> bool {
        self.is_listed(peer) && self.credentials.trusts(peer, SystemTime::now())
    }

    /// Refuses a peer that is not accepted any more.
    pub(crate) fn check_accepted(&self, peer: &ProvenIdentity) -> Result<(), IdentityRefused> {
        if !self.is_listed(peer) {
            return self.refuse(NodeKeyError::Unlisted(peer.id().clone()).into());
        }
        if !self.accepts(peer) {
            let reason = "no directory lists the CA of its certificate any more";
            return self.refuse(IdentityRefused::Tls(reason.to_owned()));
        }
        Ok(())
    }

    /// The end of a connection whose handshake began when this node's certificate was valid until `own`.
    pub(crate) fn until(own: SystemTime, peer: &ProvenIdentity) -> SystemTime {
        own.min(peer.not_after())
    }
}
