//! Reads the policy of this node from the operator's files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use systir_policy::{Authority, Gate, InstitutionPolicy, LoadError, Metrics, Nodes, Sources, Zones};

use crate::config::{self, Fault};

/// The node's policy, and what should be known of its files.
#[derive(Debug)]
pub(crate) struct PolicyFiles {
    /// Policy of this node.
    pub(crate) authority: Authority,
    /// Other nodes whose entry lacks attributes, a line for each. This is no fault of this node.
    pub(crate) gaps: Vec<String>,
}

/// Reads the files that the configuration names.
///
/// # Errors
/// When a file cannot be read or has a fault; every fault is listed.
pub(crate) fn read(policy: &config::Policy, me: &str, metrics: Arc<Metrics>) -> Result<PolicyFiles> {
    let read = |field: String, path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Fault::new(field, format!("{} cannot be read: {error}", path.display())))
    };
    let describe = |error| describe(policy, &error);
    let nodes_text = read("policy.nodes".to_owned(), &policy.nodes)?;
    let nodes = Nodes::parse(&nodes_text).map_err(describe)?;
    let zones = Zones::parse(&read("policy.zones".to_owned(), &policy.zones)?).map_err(describe)?;
    let floor = read("policy.floor".to_owned(), &policy.floor)?;
    let mut texts = Vec::new();
    for (name, institution) in &policy.institutions {
        let text = read(format!("policy.institutions.{name}.file"), &institution.file)?;
        texts.push((name.as_str(), institution.version, text));
    }
    let institutions: Vec<_> = texts
        .iter()
        .map(|(institution, version, text)| InstitutionPolicy { institution, version: *version, text })
        .collect();
    let gate =
        Gate::load(&Sources { floor: &floor, institutions: &institutions, zones: &zones, nodes: &nodes })
            .map_err(describe)?;
    anyhow::ensure!(
        nodes.get(me).is_some(),
        "{} has no node {me}: a node that is not described is denied everything",
        policy.nodes.display()
    );
    let mut gaps = gaps(&nodes, &policy.nodes, &nodes_text);
    if let Some(mine) = gaps.remove(me) {
        anyhow::bail!("{mine}; this is the node itself");
    }
    let gaps = gaps.into_values().collect();
    Ok(PolicyFiles { authority: Authority::new(gate, nodes, me, metrics), gaps })
}

/// Each fault of the texts with its file and line.
fn describe(policy: &config::Policy, error: &LoadError) -> anyhow::Error {
    let file = |place: &str| match place {
        "nodes" => Some(&policy.nodes),
        "zones" => Some(&policy.zones),
        "floor" => Some(&policy.floor),
        institution => policy.institutions.get(institution).map(|institution| &institution.file),
    };
    let lines = error.problems.iter().map(|problem| {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        match file(&problem.place) {
            Some(file) => format!("{}{line}: {}", file.display(), problem.fault()),
            None => problem.to_string(),
        }
    });
    anyhow::anyhow!("policy refused: {}", lines.collect::<Vec<_>>().join("; "))
}

/// What the entries of the nodes file lack, by node and with the line.
fn gaps(nodes: &Nodes, file: &Path, text: &str) -> BTreeMap<String, String> {
    let mut lacking = BTreeMap::<&str, Vec<&str>>::new();
    for (facts, attribute) in nodes.incomplete() {
        lacking.entry(&facts.id).or_default().push(attribute.as_str());
    }
    let described = lacking.into_iter().map(|(node, attributes)| {
        let line =
            config::line_of_entry(text, "node", node).map(|line| format!(":{line}")).unwrap_or_default();
        let (file, attributes) = (file.display(), attributes.join(", "));
        let gap = format!(
            "{file}{line}: node {node} lacks {attributes}: it is denied everything until that is stated"
        );
        (node.to_owned(), gap)
    });
    described.collect()
}
