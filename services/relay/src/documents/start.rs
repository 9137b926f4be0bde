//! The documents and the policy that a node starts with.

use systir_documents::Pins;
use systir_policy::{NodeAttribute, NodeFacts, PolicyEngine};

use anyhow::{Context as _, Result};

use super::store::{self, ReadDocuments};
use crate::config::RelayConfig;

/// What was read before the node starts; nothing is written yet.
#[derive(Debug)]
pub(crate) struct StartPolicy {
    /// The pinned keys.
    pub(crate) pins: Pins,
    /// The newest documents.
    pub(crate) documents: ReadDocuments,
    /// The policy of these documents.
    pub(crate) engine: PolicyEngine,
    /// What is wrong and does not prevent a start.
    pub(crate) warnings: Vec<String>,
}

/// Reads the documents and loads policy.
///
/// # Errors
/// When a document cannot be used, or the directory of the own operator does not approve this node's entry.
pub(crate) fn read(config: &RelayConfig) -> Result<StartPolicy> {
    let (policy, me) = (&config.policy, &config.node.name);
    let pins = policy.pins()?;
    let mut documents = store::read(policy, &pins)?;
    let engine = documents.engine(policy)?;
    let own = engine.facts(me).with_context(|| {
        format!("node.name: no directory lists {me}: a node without an entry is denied everything")
    })?;
    anyhow::ensure!(
        own.operator == policy.operator,
        "policy.operator: it is {}, and the directory of {} lists {me}",
        policy.operator,
        own.operator
    );
    if let Some(problem) = incomplete(own) {
        anyhow::bail!("{problem}; this is the node itself");
    }
    let mut warnings = std::mem::take(&mut documents.warnings);
    warnings.extend(engine.incomplete().filter_map(|facts| incomplete(facts)));
    warnings.extend(engine.left_out().iter().map(ToString::to_string));
    for institution in policy.institutions.keys() {
        if engine.statement(institution).is_none() {
            warnings.push(format!(
                "policy.documents: {} has no bundle of {institution}: its rooms are refused until there is one",
                policy.documents.display()
            ));
        }
    }
    Ok(StartPolicy { pins, documents, engine, warnings })
}

/// A message for a node whose entry lacks attributes.
fn incomplete(facts: &NodeFacts) -> Option<String> {
    let missing: Vec<&str> = facts.missing().map(NodeAttribute::as_str).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the directory of {} version {}: node {} lacks {}: it is denied everything until its entry is complete",
            facts.directory.operator,
            facts.directory.version,
            facts.id,
            missing.join(", ")
        )
    })
}
