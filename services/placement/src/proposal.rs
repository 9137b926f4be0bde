//! The result of placement: which nodes to ask, in which order, and why the others are not asked.

use serde::Serialize;
use systir_assignment::MediaRole;
use systir_reason::{Reason, Refusal};

/// One node to ask for a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The node to ask.
    pub node: String,
    /// The role it is asked for.
    pub role: MediaRole,
    /// Why it has this rank.
    pub reason: Reason,
}

/// One row of the operators' table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The node.
    pub node: String,
    /// The role it would have.
    pub role: MediaRole,
    /// Its index in [`Proposal::steps`]; none when it is not asked.
    pub rank: Option<usize>,
    /// Why it has this rank, or none.
    pub reason: Reason,
    /// The reason as a sentence.
    pub sentence: String,
}

/// A ranked proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The room's home, or the node to write as its home. For a room without an assignment it becomes
    /// home even when it has no seat left and every participant spills. It differs from the assignment's
    /// home when that one is offline or denied by policy.
    pub home: Option<String>,
    /// The nodes to ask, best first. Policy approves each for its role.
    pub steps: Vec<Step>,
    /// Every candidate and every assigned node: first those to ask, in order, then the others by name.
    pub table: Vec<Row>,
    /// Set exactly when there is no node to ask.
    pub refusal: Option<Refusal>,
    pub(crate) institution: String,
}
