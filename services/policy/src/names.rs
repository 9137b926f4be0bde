//! The names that a policy may use.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::node::Nodes;

/// Names of operators, hosts, nodes and institutions. A policy with any other name is refused: Cedar itself accepts any
/// entity id, so a rule with a typo would silently never apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KnownNames {
    /// Who runs relays.
    pub operators: BTreeSet<String>,
    /// Who owns machines.
    pub hosts: BTreeSet<String>,
    /// Ids of nodes.
    pub nodes: BTreeSet<String>,
    /// Institutions that own rooms or whose participants join them.
    pub institutions: BTreeSet<String>,
}

impl KnownNames {
    /// The names of the nodes file, and the institutions that have a policy.
    pub(crate) fn gather<'a>(nodes: &Nodes, institutions: impl Iterator<Item = &'a str>) -> Self {
        let mut names = nodes.also_known().clone();
        let stated = |name: &String| (!name.is_empty()).then(|| name.clone());
        for facts in nodes.iter() {
            names.operators.extend(stated(&facts.operator));
            names.operators.extend(stated(&facts.declared_by));
            names.hosts.extend(stated(&facts.host));
            names.nodes.extend(stated(&facts.id));
        }
        names.institutions.extend(institutions.map(str::to_owned));
        names
    }
}
