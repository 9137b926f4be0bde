//! The nodes file: each node's attributes, as the operator declares them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::country::is_country;
use crate::evidence::{Evidence, IdentityProof, ProvenIdentity};
use crate::names::KnownNames;
use crate::problem::{LoadError, Problem};

/// One node's entry in the nodes file. An empty string is a missing attribute; a node with one is denied everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeFacts {
    /// Short name, unique in the file: `cph-1`.
    pub id: String,
    /// SPIFFE id of its certificate: `spiffe://nordu.net/relay/cph-1`.
    pub spiffe_id: String,
    /// Where the machine is, a display label: `Copenhagen`. No rule can read it.
    pub site: String,
    /// Region label shown to clients: `dk-copenhagen`. No rule can read it.
    pub region: String,
    /// ISO 3166-1 alpha-2 country in which the machine is.
    pub country: String,
    /// Who runs the relay.
    pub operator: String,
    /// The country from which the operator can be compelled.
    pub operator_controlled_from: String,
    /// Who owns or houses the machine.
    pub host: String,
    /// The country from which the host can be compelled.
    pub host_controlled_from: String,
    /// The operator that declared these attributes.
    pub declared_by: String,
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
    /// Every attribute, in the order of the file.
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

    /// The key in the nodes file.
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

impl NodeFacts {
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

/// The nodes of the nodes file. The only source of [`Evidence`]: nothing read from a lease or from etcd can become an
/// attribute that policy decides on.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    by_id: BTreeMap<String, NodeFacts>,
    also_known: KnownNames,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: Vec<NodeFacts>,
    #[serde(default)]
    also_known: KnownNames,
}

impl Nodes {
    /// The nodes, and further names that policies may use (an operator that has no node yet).
    ///
    /// # Errors
    /// Two nodes with the same id or SPIFFE id, an unknown country code, one operator or host controlled from two
    /// countries. A missing attribute is not an error here: see [`Nodes::incomplete`].
    pub fn new(nodes: Vec<NodeFacts>, also_known: KnownNames) -> Result<Self, LoadError> {
        let mut problems = Vec::new();
        for facts in &nodes {
            check(facts, &mut problems);
        }
        contradictions(&nodes, &mut problems);
        let mut by_id = BTreeMap::new();
        for facts in nodes {
            if let Some(other) = by_id.insert(facts.id.clone(), facts) {
                problems.push(Problem::at("nodes", format!("two nodes have the id {:?}", other.id)));
            }
        }
        if problems.is_empty() { Ok(Self { by_id, also_known }) } else { Err(problems.into()) }
    }

    /// The nodes from TOML text: a `[[node]]` for each, and optionally `[also_known]` with lists of names.
    ///
    /// # Errors
    /// Malformed TOML, unknown keys, and what [`Nodes::new`] refuses.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let file: File =
            toml::from_str(text).map_err(|error| vec![Problem::of_toml("nodes", text, &error)])?;
        Self::new(file.node, file.also_known)
    }

    /// The entry of the node `id`.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&NodeFacts> {
        self.by_id.get(id)
    }

    /// Every node, by id.
    pub fn iter(&self) -> impl Iterator<Item = &NodeFacts> {
        self.by_id.values()
    }

    /// The nodes with a missing attribute, and which: they are denied everything until the file states it.
    pub fn incomplete(&self) -> impl Iterator<Item = (&NodeFacts, NodeAttribute)> {
        self.iter().flat_map(|facts| facts.missing().map(move |attribute| (facts, attribute)))
    }

    /// Evidence of the node `id`, to be checked against `identity`.
    #[must_use]
    pub fn evidence<'a>(&'a self, id: &'a str, identity: IdentityProof<'a>) -> Evidence<'a> {
        Evidence::new(id, self.get(id), identity)
    }

    /// Evidence of the peer whose certificate proved `identity`; the name that it states itself does not count.
    #[must_use]
    pub fn evidence_of_peer<'a>(&'a self, identity: &'a ProvenIdentity) -> Evidence<'a> {
        let facts = self.iter().find(|facts| facts.spiffe_id == identity.spiffe_id);
        let id = facts.map_or(identity.spiffe_id.as_str(), |facts| facts.id.as_str());
        Evidence::new(id, facts, IdentityProof::Proven(identity))
    }

    pub(crate) fn also_known(&self) -> &KnownNames {
        &self.also_known
    }
}

fn check(facts: &NodeFacts, problems: &mut Vec<Problem>) {
    let id = &facts.id;
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        problems.push(Problem::at(
            "nodes",
            format!("the id {id:?} may only have letters, digits, '-', '.' and '_'"),
        ));
    }
    for attribute in
        [NodeAttribute::Country, NodeAttribute::OperatorControlledFrom, NodeAttribute::HostControlledFrom]
    {
        let code = facts.get(attribute);
        if !code.is_empty() && !is_country(code) {
            problems.push(Problem::at(
                "nodes",
                format!(
                    "node {id}: {} = {code:?} is not an ISO 3166-1 alpha-2 country; write \"DK\", not \"Denmark\"",
                    attribute.as_str()
                ),
            ));
        }
    }
}

/// A SPIFFE id belongs to one node, and an operator or host has one controlling country on all its machines.
fn contradictions(nodes: &[NodeFacts], problems: &mut Vec<Problem>) {
    let mut peers = BTreeMap::new();
    let mut control = BTreeMap::new();
    for facts in nodes {
        if !facts.spiffe_id.is_empty()
            && let Some(other) = peers.insert(&facts.spiffe_id, &facts.id)
        {
            problems.push(Problem::at("nodes", format!("{other} and {} have the same SPIFFE id", facts.id)));
        }
        for (name, from) in
            [(&facts.operator, &facts.operator_controlled_from), (&facts.host, &facts.host_controlled_from)]
        {
            if name.is_empty() || from.is_empty() {
                continue;
            }
            if let Some(other) = control.insert(name, from)
                && other != from
            {
                problems.push(Problem::at(
                    "nodes",
                    format!("{name} is controlled from {other} and from {from}: state one country, or use two names"),
                ));
            }
        }
    }
}
