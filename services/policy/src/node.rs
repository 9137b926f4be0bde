//! One node's attributes, as its operator's directory states them.

use std::net::IpAddr;
use std::sync::Arc;

use systir_documents::{DocumentHash, IpPrefix, PublicKey, Validity};
use systir_identity::SpiffeId;

/// What the directories state of one node. An empty text is a missing attribute; a node with one is denied everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Short name, unique in all directories: `cph-1`.
    pub id: String,
    /// SPIFFE id of its certificate: `spiffe://nordu.net/relay/cph-1`.
    pub spiffe_id: String,
    /// Where the machine is, a display label: `Copenhagen`. No rule can read it.
    pub site: String,
    /// Region label shown to clients: `dk-copenhagen`. No rule can read it.
    pub region: String,
    /// ISO 3166-1 alpha-2 country in which the machine is.
    pub country: String,
    /// Who runs the relay: the operator of the directory.
    pub operator: String,
    /// The country from which the operator can be compelled.
    pub operator_controlled_from: String,
    /// Who owns or houses the machine.
    pub host: String,
    /// The country from which the host can be compelled.
    pub host_controlled_from: String,
    /// The operator that declared these attributes: the operator of the directory.
    pub declared_by: String,
    /// The keys with which the node proves its identity on each connection.
    pub keys: Vec<PublicKey>,
    /// The addresses at which its links may be dialled.
    pub prefixes: Vec<IpPrefix>,
    /// The directory that states all this.
    pub directory: Arc<DirectoryStatement>,
}

/// The directory that states a node's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryStatement {
    /// The operator whose directory it is.
    pub operator: String,
    /// Its version.
    pub version: u64,
    /// The SHA-256 of its text.
    pub hash: DocumentHash,
    /// Fingerprints of the keys whose signatures were verified.
    pub signers: Vec<String>,
    /// Is it expired, or is its renewal overdue?
    pub validity: Validity,
}

/// An attribute of [`NodeFacts`], for messages and for rules' sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeAttribute {
    /// [`NodeFacts::id`]
    Id,
    /// [`NodeFacts::spiffe_id`]
    SpiffeId,
    /// [`NodeFacts::site`]
    Site,
    /// [`NodeFacts::region`]
    Region,
    /// [`NodeFacts::country`]
    Country,
    /// [`NodeFacts::operator`]
    Operator,
    /// [`NodeFacts::operator_controlled_from`]
    OperatorControlledFrom,
    /// [`NodeFacts::host`]
    Host,
    /// [`NodeFacts::host_controlled_from`]
    HostControlledFrom,
    /// [`NodeFacts::declared_by`]
    DeclaredBy,
}

impl NodeAttribute {
    /// Every attribute, in the order of a directory.
    pub const ALL: [Self; 10] = [
        Self::Id,
        Self::SpiffeId,
        Self::Site,
        Self::Region,
        Self::Country,
        Self::Operator,
        Self::OperatorControlledFrom,
        Self::Host,
        Self::HostControlledFrom,
        Self::DeclaredBy,
    ];

    /// The key in a directory.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::SpiffeId => "spiffe_id",
            Self::Site => "site",
            Self::Region => "region",
            Self::Country => "country",
            Self::Operator => "operator",
            Self::OperatorControlledFrom => "operator_controlled_from",
            Self::Host => "host",
            Self::HostControlledFrom => "host_controlled_from",
            Self::DeclaredBy => "declared_by",
        }
    }
}

/// Is this a SPIFFE id of the trust domain?
pub(crate) fn is_in_domain(id: &str, domain: &str) -> bool {
    id.parse::<SpiffeId>().is_ok_and(|id| id.trust_domain().as_str() == domain)
}

impl NodeFacts {
    /// Is the node's SPIFFE id of this trust domain?
    #[must_use]
    pub fn is_of_trust_domain(&self, domain: &str) -> bool {
        is_in_domain(&self.spiffe_id, domain)
    }

    /// May a link to the node be dialled at this address?
    #[must_use]
    pub fn may_be_dialled_at(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(address))
    }

    /// Whether the operator owns the machine; otherwise it is leased.
    #[must_use]
    pub fn own_machine(&self) -> bool {
        !self.operator.is_empty() && self.host == self.operator
    }

    /// The value of `attribute`; empty when it is missing.
    #[must_use]
    pub fn get(&self, attribute: NodeAttribute) -> &str {
        match attribute {
            NodeAttribute::Id => &self.id,
            NodeAttribute::SpiffeId => &self.spiffe_id,
            NodeAttribute::Site => &self.site,
            NodeAttribute::Region => &self.region,
            NodeAttribute::Country => &self.country,
            NodeAttribute::Operator => &self.operator,
            NodeAttribute::OperatorControlledFrom => &self.operator_controlled_from,
            NodeAttribute::Host => &self.host,
            NodeAttribute::HostControlledFrom => &self.host_controlled_from,
            NodeAttribute::DeclaredBy => &self.declared_by,
        }
    }

    /// The missing attributes.
    pub fn missing(&self) -> impl Iterator<Item = NodeAttribute> + '_ {
        NodeAttribute::ALL.into_iter().filter(|attribute| self.get(*attribute).trim().is_empty())
    }
}
