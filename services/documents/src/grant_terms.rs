//! The terms of a grant: the nodes that may be used, and by which documents.

use std::collections::BTreeSet;

use crate::hash::DocumentHash;

/// What the home's policy says of a room: the nodes that it approves in each role, and by which documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTerms {
    /// Trust domain of the cluster.
    pub trust_domain: String,
    /// Nodes that may be home.
    pub homes: BTreeSet<String>,
    /// Nodes that may be spill nodes.
    pub spill: BTreeSet<String>,
    /// Nodes that may be gateways.
    pub gateways: BTreeSet<String>,
    /// The room's class.
    pub class: String,
    /// Must tracks be end-to-end encrypted?
    pub e2ee: bool,
    /// Version of the institution's policy.
    pub policy_version: u64,
    /// SHA-256 over all that the policy decides by.
    pub policy_hash: DocumentHash,
    /// Version of the operator's directory.
    pub directory_version: u64,
    /// SHA-256 of the directory.
    pub directory_hash: DocumentHash,
}
