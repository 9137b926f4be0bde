//! What is known of nodes: the operator's pinned nodes file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::country::is_country;
use crate::evidence::{Evidence, Identity, ProvenIdentity};
use crate::names::KnownNames;
use crate::problem::{LoadError, Problem};

/// One node as its entry in the nodes file states it. An empty string is an attribute that was not stated, and a node
/// with one is denied everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeFacts {
    /// Short name, unique in the file: `cph-1`.
    pub id: String,
    /// The id that its certificate proves: `spiffe://nordu.net/relay/cph-1`.
    pub spiffe_id: String,
    /// Where the machine stands, for people: `Copenhagen`. No rule can read it.
    pub site: String,
    /// The label that clients are shown as their region: `dk-copenhagen`. No rule can read it.
    pub region: String,
    /// ISO 3166-1 alpha-2 country in which the machine stands.
    pub country: String,
    /// Who runs the relay.
    pub operator: String,
    /// The country from which the operator can be compelled.
    pub operator_controlled_from: String,
    /// Who owns or houses the machine.
    pub host: String,
    /// The country from which the host can be compelled.
    pub host_controlled_from: String,
    /// The operator on whose word the attributes stand.
    pub declared_by: String,
}

/// An attribute of [`NodeFacts`], for messages and for what a rule's sentence may quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
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

impl Attribute {
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
    /// Whether the operator runs it on a machine of its own; otherwise the machine is leased.
    #[must_use]
    pub fn own_machine(&self) -> bool {
        !self.operator.is_empty() && self.host == self.operator
    }

    /// What the file states of `attribute`; empty when nothing.
    #[must_use]
    pub fn get(&self, attribute: Attribute) -> &str {
        match attribute {
            Attribute::Id => &self.id,
            Attribute::SpiffeId => &self.spiffe_id,
            Attribute::Site => &self.site,
            Attribute::Region => &self.region,
            Attribute::Country => &self.country,
            Attribute::Operator => &self.operator,
            Attribute::OperatorControlledFrom => &self.operator_controlled_from,
            Attribute::Host => &self.host,
            Attribute::HostControlledFrom => &self.host_controlled_from,
            Attribute::DeclaredBy => &self.declared_by,
        }
    }

    /// The attributes that were not stated.
    pub fn missing(&self) -> impl Iterator<Item = Attribute> + '_ {
        Attribute::ALL.into_iter().filter(|attribute| self.get(*attribute).trim().is_empty())
    }
}

/// The nodes that this operator pinned. The only source of [`Evidence`]: nothing read from a lease or from etcd can
/// become an attribute that policy decides on.
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
    /// The nodes, and names beside them that policies may speak of (an operator who has no node yet).
    ///
    /// # Errors
    /// Two nodes of one id or SPIFFE id, a country that is none, one operator or host controlled from two countries.
    /// An attribute that is not stated is no error here: see [`Nodes::incomplete`].
    pub fn new(nodes: Vec<NodeFacts>, also_known: KnownNames) -> Result<Self, LoadError> {
        let mut problems = Vec::new();
        for facts in &nodes {
            check(facts, &mut problems);
        }
        contradictions(&nodes, &mut problems);
        let mut by_id = BTreeMap::new();
        for facts in nodes {
            if let Some(twice) = by_id.insert(facts.id.clone(), facts) {
                problems.push(Problem::at("nodes", format!("two nodes have the id {:?}", twice.id)));
            }
        }
        if problems.is_empty() { Ok(Self { by_id, also_known }) } else { Err(problems.into()) }
    }

    /// The nodes from TOML text: a `[[node]]` each, and optionally `[also_known]` with lists of names.
    ///
    /// # Errors
    /// What is not such TOML (unknown keys are refused), and what [`Nodes::new`] refuses.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let file: File =
            toml::from_str(text).map_err(|error| vec![Problem::of_toml("nodes", text, &error)])?;
        Self::new(file.node, file.also_known)
    }

    /// What is pinned of the node `id`.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&NodeFacts> {
        self.by_id.get(id)
    }

    /// Every node, by id.
    pub fn iter(&self) -> impl Iterator<Item = &NodeFacts> {
        self.by_id.values()
    }

    /// The nodes that lack an attribute, and which: they are denied everything until it is stated.
    pub fn incomplete(&self) -> impl Iterator<Item = (&NodeFacts, Attribute)> {
        self.iter().flat_map(|facts| facts.missing().map(move |attribute| (facts, attribute)))
    }

    /// Evidence of the node called `id`, held against what is known of its identity.
    #[must_use]
    pub fn evidence<'a>(&'a self, id: &'a str, identity: Identity<'a>) -> Evidence<'a> {
        Evidence::new(id, self.get(id), identity)
    }

    /// Evidence of the peer whose certificate proved `identity`, whatever it calls itself.
    #[must_use]
    pub fn evidence_of_peer<'a>(&'a self, identity: &'a ProvenIdentity) -> Evidence<'a> {
        let facts = self.iter().find(|facts| facts.spiffe_id == identity.spiffe_id);
        let id = facts.map_or(identity.spiffe_id.as_str(), |facts| facts.id.as_str());
        Evidence::new(id, facts, Identity::Proven(identity))
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
            format!("the id {id:?} is not made of letters, digits, '-', '.', '_'"),
        ));
    }
    for attribute in [Attribute::Country, Attribute::OperatorControlledFrom, Attribute::HostControlledFrom] {
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

/// A SPIFFE id stands for one node, and who controls a company does not depend on the machine.
fn contradictions(nodes: &[NodeFacts], problems: &mut Vec<Problem>) {
    let mut peers = BTreeMap::new();
    let mut control = BTreeMap::new();
    for facts in nodes {
        if !facts.spiffe_id.is_empty()
            && let Some(other) = peers.insert(&facts.spiffe_id, &facts.id)
        {
            problems.push(Problem::at("nodes", format!("{other} and {} have the same SPIFFE id", facts.id)));
        }
        for (who, from) in
            [(&facts.operator, &facts.operator_controlled_from), (&facts.host, &facts.host_controlled_from)]
        {
            if who.is_empty() || from.is_empty() {
                continue;
            }
            if let Some(other) = control.insert(who, from)
                && other != from
            {
                problems.push(Problem::at(
                    "nodes",
                    format!("{who} is controlled from {other} and from {from}: state one, or two names"),
                ));
            }
        }
    }
}
