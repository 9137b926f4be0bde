//! The nodes of all directories: the only source of attributes that policy decides on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use systir_documents::{Directory, DirectoryNode, Validity};
use systir_identity::ProvenIdentity;
use systir_reason::Reason;

use crate::country::is_country;
use crate::decision::Denial;
use crate::escape::escaped;
use crate::node::{DirectoryStatement, NodeAttribute, NodeFacts, is_in_domain};
use crate::problem::Problem;
use crate::source::{SourceDocument, place};

/// The nodes of all directories.
#[derive(Debug, Default)]
pub(crate) struct DirectoryNodes {
    by_id: BTreeMap<String, Arc<NodeFacts>>,
    by_spiffe_id: BTreeMap<String, Arc<NodeFacts>>,
    left_out: Vec<Problem>,
}

impl DirectoryNodes {
    /// The nodes of these directories, for a node of the operator `own`. What one operator lists refuses no other's
    /// directory and replaces no node of `own`: of a node id or a SPIFFE id that two of them list, the entry of `own` counts
    /// and no other one.
    ///
    /// # Errors
    /// A node id or a SPIFFE id in two entries of one operator, a country that is not one, an id outside the directory's
    /// trust domain, one operator or host controlled from two countries by one directory. A missing attribute is no error
    /// here: such a node is denied everything.
    pub(crate) fn new(
        directories: &[SourceDocument<'_, Directory>],
        own: &str,
    ) -> Result<Self, Vec<Problem>> {
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for source in directories {
            problems.extend(check(source.document));
            let statement = Arc::new(DirectoryStatement {
                operator: source.document.operator.clone(),
                version: source.document.version,
                hash: source.hash,
                signers: source.fingerprints(),
                validity: source.validity,
            });
            let nodes = source.document.nodes.iter();
            entries.extend(nodes.map(|node| Arc::new(facts(source.document, node, &statement))));
        }
        // Node ids and SPIFFE ids look different. By which operators is each listed?
        let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for facts in &entries {
            for (what, id) in ids(facts) {
                if !listed.entry(id).or_default().insert(&facts.operator) {
                    let place = place::directory(&facts.operator);
                    let why = format!("it lists {what} {id} twice; each node has one entry in one directory");
                    problems.push(Problem::at(&place, why));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut nodes = Self::default();
        for facts in &entries {
            let rival = ids(facts).find_map(|(what, id)| {
                let other = listed.get(id)?.iter().find(|operator| **operator != facts.operator)?;
                Some((what, id, *other))
            });
            match rival.filter(|_| facts.operator != own) {
                Some((what, id, other)) => {
                    let why = format!(
                        "its entry {} does not count: it lists {what} {id}, and so does the {}",
                        facts.id,
                        place::directory(other)
                    );
                    nodes.left_out.push(Problem::at(&place::directory(&facts.operator), why));
                }
                None => nodes.insert(facts.clone()),
            }
        }
        Ok(nodes)
    }

    fn insert(&mut self, facts: Arc<NodeFacts>) {
        self.by_spiffe_id.insert(facts.spiffe_id.clone(), facts.clone());
        self.by_id.insert(facts.id.clone(), facts);
    }

    /// The entries that do not count, because another operator lists the same node.
    pub(crate) fn left_out(&self) -> &[Problem] {
        &self.left_out
    }

    /// The node with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Arc<NodeFacts>> {
        self.by_id.get(id)
    }

    /// The node with this SPIFFE id.
    pub(crate) fn of_spiffe_id(&self, id: &str) -> Option<&Arc<NodeFacts>> {
        self.by_spiffe_id.get(id).filter(|_| !id.is_empty())
    }

    /// Every node, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<NodeFacts>> {
        self.by_id.values()
    }

    /// The facts of the node with this id, if they are complete and their directory is valid.
    pub(crate) fn checked(&self, id: &str) -> Result<&Arc<NodeFacts>, Denial> {
        let listed = self.get(id).ok_or_else(|| unlisted(id))?;
        usable(listed)?;
        Ok(listed)
    }

    /// The facts of the peer that proved this identity, if its certificate is still valid at `now`.
    pub(crate) fn checked_peer(
        &self,
        peer: &ProvenIdentity,
        now: SystemTime,
    ) -> Result<&Arc<NodeFacts>, Denial> {
        let spiffe_id = peer.id().as_str();
        let listed = self.of_spiffe_id(spiffe_id).ok_or_else(|| unlisted(spiffe_id))?;
        usable(listed)?;
        // A key may get another name in a newer directory.
        if !listed.keys.iter().any(|key| key.as_bytes() == peer.node_key().as_bytes()) {
            let why = format!(
                "the peer proved the SPIFFE id of {} with the node key {}, which the {} does not list for it",
                listed.id,
                peer.node_key().fingerprint(),
                place::directory(&listed.directory.operator)
            );
            return Err((Reason::IdentityMismatch, why));
        }
        if peer.not_after() < now {
            let why = format!("the certificate with which {} proved its identity has expired", listed.id);
            return Err((Reason::CertificateExpired, why));
        }
        Ok(listed)
    }
}

/// The ids of an entry, and what they are.
fn ids(facts: &NodeFacts) -> impl Iterator<Item = (&'static str, &str)> {
    let both = [("the node", facts.id.as_str()), ("the SPIFFE id", facts.spiffe_id.as_str())];
    both.into_iter().filter(|(_, id)| !id.is_empty())
}

fn unlisted(node: &str) -> Denial {
    (Reason::UnknownNode, format!("no directory lists the node {}", escaped(node)))
}

/// Are the facts complete, and is their directory valid?
fn usable(facts: &NodeFacts) -> Result<(), Denial> {
    let directory = place::directory(&facts.directory.operator);
    if facts.directory.validity == Validity::Expired {
        let why = format!("the {directory}, which lists {}, has expired", facts.id);
        return Err((Reason::DirectoryExpired, why));
    }
    let missing: Vec<_> = facts.missing().map(NodeAttribute::as_str).collect();
    if !missing.is_empty() {
        let why = format!("the {directory} does not state {} of {}", missing.join(", "), facts.id);
        return Err((Reason::MissingAttribute, why));
    }
    Ok(())
}

fn facts(directory: &Directory, node: &DirectoryNode, statement: &Arc<DirectoryStatement>) -> NodeFacts {
    NodeFacts {
        id: node.id.clone(),
        spiffe_id: node.spiffe_id.clone(),
        site: node.site.clone(),
        region: node.region.clone(),
        country: node.country.clone(),
        operator: directory.operator.clone(),
        operator_controlled_from: directory.controlled_from.clone(),
        host: node.host.clone(),
        host_controlled_from: node.host_controlled_from.clone(),
        declared_by: directory.operator.clone(),
        keys: node.keys.clone(),
        prefixes: node.prefixes.clone(),
        directory: statement.clone(),
    }
}

/// What is wrong in one directory.
pub(crate) fn check(directory: &Directory) -> Vec<Problem> {
    let place = place::directory(&directory.operator);
    let mut problems = Vec::new();
    let mut add = |what: String| problems.push(Problem::at(&place, what));
    let not_a_country =
        |code: &str| format!("{code:?} is not an ISO 3166-1 alpha-2 country; write \"DK\", not \"Denmark\"");
    let unknown = |code: &str| !code.is_empty() && !is_country(code);
    if unknown(&directory.controlled_from) {
        add(format!("controlled_from = {}", not_a_country(&directory.controlled_from)));
    }
    let mut control = BTreeMap::new();
    if !directory.controlled_from.is_empty() {
        control.insert(directory.operator.as_str(), directory.controlled_from.as_str());
    }
    for node in &directory.nodes {
        let id = &node.id;
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
            add(format!("the node id {id:?} may only have letters, digits, '-', '.' and '_'"));
        }
        for (key, code) in [("country", &node.country), ("host_controlled_from", &node.host_controlled_from)]
        {
            if unknown(code) {
                add(format!("node {id}: {key} = {}", not_a_country(code)));
            }
        }
        if !node.spiffe_id.is_empty() && !is_in_domain(&node.spiffe_id, &directory.trust_domain) {
            add(format!(
                "node {id}: {} is not a SPIFFE id of the trust domain {}",
                escaped(&node.spiffe_id),
                directory.trust_domain
            ));
        }
        let from = node.host_controlled_from.as_str();
        if !node.host.is_empty()
            && !from.is_empty()
            && let Some(other) = control.insert(&node.host, from)
            && other != from
        {
            add(format!(
                "{} is controlled from {other} and from {from}: state one country, or use two names",
                node.host
            ));
        }
    }
    problems
}
