//! Makes the roles of all nodes from the signed documents.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use systir_documents::{AcceptedDocuments, VerifiedDocument};
use systir_policy::PolicyEngine;

use super::node_config::NodeConfig;
use super::node_role::NodeRole;
use super::script;
use crate::dates;

/// Arguments of `systirctl etcd roles`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Configuration file of a node of the cluster: its pinned keys, and the folders of its documents.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Another folder of signed documents than the configured one.
    #[arg(long, value_name = "DIR")]
    documents: Option<PathBuf>,
    /// Another cluster than that of the configuration.
    #[arg(long)]
    cluster: Option<String>,
}

/// What the roles are made of.
pub(crate) struct ClusterRoles {
    pub(crate) cluster: String,
    pub(crate) operator: String,
    /// The documents, each with its version.
    pub(crate) documents: Vec<String>,
    /// Institutions whose keys are pinned and that have no bundle: they approve no node.
    pub(crate) without_bundle: Vec<String>,
    pub(crate) roles: Vec<NodeRole>,
}

/// Prints the script, or its content as JSON.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let config = NodeConfig::read(&arguments.config)?;
    let base = arguments.config.parent().unwrap_or(Path::new("."));
    let accepted = config.documents(base, arguments.documents.as_deref())?;
    let cluster = arguments.cluster.clone().unwrap_or_else(|| config.node.cluster.clone());
    let all = roles(&config, &accepted, &cluster)?;
    let script = script::of(&all);
    let mut out = std::io::stdout();
    if json {
        let fields = json!({
            "cluster": all.cluster,
            "operator": all.operator,
            "documents": all.documents,
            "without_bundle": all.without_bundle,
            "nodes": all.roles,
            "script": script,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&fields)?)?;
    } else {
        write!(out, "{script}")?;
    }
    Ok(())
}

fn roles(config: &NodeConfig, accepted: &AcceptedDocuments, cluster: &str) -> Result<ClusterRoles> {
    // It is part of keys and of shell commands.
    ensure!(
        !cluster.is_empty() && cluster.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        "the cluster {cluster:?}: use letters, digits, `-`, `_` and `.`"
    );
    let operator = &config.policy.operator;
    let engine = PolicyEngine::load_accepted(accepted, operator, dates::now())?;
    let nodes = engine.nodes().filter(|facts| facts.directory.operator == *operator);
    let roles: Vec<NodeRole> =
        nodes.map(|facts| NodeRole::new(&engine, cluster, &facts.id)).collect::<Result<_>>()?;
    ensure!(!roles.is_empty(), "the documents list no node of {operator}");
    let title = |document: &VerifiedDocument| format!("{}, version {}", document.id(), document.version());
    let pinned = config.policy.institutions.keys();
    Ok(ClusterRoles {
        cluster: cluster.to_owned(),
        operator: operator.clone(),
        documents: accepted.iter().map(title).collect(),
        without_bundle: pinned.filter(|name| engine.statement(name).is_none()).cloned().collect(),
        roles,
    })
}
