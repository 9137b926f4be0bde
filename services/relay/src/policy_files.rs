//! Loads this node's policy from the operator's files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use systir_policy::{
    Authority, InstitutionPolicy, LoadError, Nodes, PolicyEngine, PolicyMetrics, Sources, Zones,
};

use crate::config::{self, FieldError};

/// The node's policy, and warnings about its files.
#[derive(Debug)]
pub(crate) struct PolicyFiles {
    /// This node's policy.
    pub(crate) authority: Authority,
    /// One warning per other node whose entry lacks attributes. Such a node is denied; this node can start.
    pub(crate) warnings: Vec<String>,
}

/// Reads the files that the configuration names.
///
/// # Errors
/// When a file cannot be read or has errors; all errors are listed.
pub(crate) fn read(
    policy: &config::PolicySection,
    me: &str,
    metrics: Arc<PolicyMetrics>,
) -> Result<PolicyFiles> {
    let read = |field: String, path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| FieldError::new(field, format!("{} cannot be read: {error}", path.display())))
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
    let engine = PolicyEngine::load(&Sources {
        floor: &floor,
        institutions: &institutions,
        zones: &zones,
        nodes: &nodes,
    })
    .map_err(describe)?;
    anyhow::ensure!(
        nodes.get(me).is_some(),
        "{} has no entry for {me}: a node without an entry is denied everything",
        policy.nodes.display()
    );
    let mut incomplete = incomplete_entries(&nodes, &policy.nodes, &nodes_text);
    if let Some(own) = incomplete.remove(me) {
        anyhow::bail!("{own}; this is the node itself");
    }
    let warnings = incomplete.into_values().collect();
    Ok(PolicyFiles { authority: Authority::new(engine, nodes, me, metrics), warnings })
}

/// All errors, each with its file and line.
fn describe(policy: &config::PolicySection, error: &LoadError) -> anyhow::Error {
    let file = |place: &str| match place {
        "nodes" => Some(&policy.nodes),
        "zones" => Some(&policy.zones),
        "floor" => Some(&policy.floor),
        institution => policy.institutions.get(institution).map(|institution| &institution.file),
    };
    let lines = error.problems.iter().map(|problem| {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        match file(&problem.place) {
            Some(file) => format!("{}{line}: {}", file.display(), problem.message()),
            None => problem.to_string(),
        }
    });
    anyhow::anyhow!("policy refused: {}", lines.collect::<Vec<_>>().join("; "))
}

/// A message for each node whose entry lacks attributes, by node name.
fn incomplete_entries(nodes: &Nodes, file: &Path, text: &str) -> BTreeMap<String, String> {
    let mut missing = BTreeMap::<&str, Vec<&str>>::new();
    for (facts, attribute) in nodes.incomplete() {
        missing.entry(&facts.id).or_default().push(attribute.as_str());
    }
    let messages = missing.into_iter().map(|(node, attributes)| {
        let line =
            config::line_of_entry(text, "node", node).map(|line| format!(":{line}")).unwrap_or_default();
        let (file, attributes) = (file.display(), attributes.join(", "));
        let message = format!(
            "{file}{line}: node {node} lacks {attributes}: it is denied everything until its entry is complete"
        );
        (node.to_owned(), message)
    });
    messages.collect()
}
