//! "Where is my data": which nodes relay a room, where they stand, who runs them, by which rule,
//! and what each statement rests on.

use serde::{Deserialize, Serialize};

/// The topic on which open rooms hear of each change.
pub const TOPIC: &str = "systir.where";

/// The answer for one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The room's name.
    pub room: String,
    /// Whose room it is.
    pub institution: String,
    /// Version of the institution's policy that the nodes decided by.
    pub policy_version: String,
    /// Epoch of the assignment.
    pub epoch: u64,
    /// Nodes, home first.
    pub nodes: Vec<Node>,
    /// Links between them.
    pub links: Vec<Link>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// `home`, `spill`, `front-door`.
    pub roles: Vec<String>,
    /// City or campus.
    pub site: String,
    /// ISO 3166 code of the country where the machine stands.
    pub country: String,
    /// Who runs it.
    pub operator: String,
    /// From where the operator is controlled.
    pub operator_controlled_from: String,
    /// Who owns or houses the machine.
    pub host: String,
    /// From where the host is controlled.
    pub host_controlled_from: String,
    /// Is the machine the operator's own?
    pub own_machine: bool,
    /// What the statement rests on; `declared` until others endorse it.
    pub statement: String,
    /// Who declares it.
    pub declared_by: String,
    /// The rule that allowed the node.
    pub rule: String,
    /// The rule in words.
    pub why: String,
    /// Since when, in Unix milliseconds.
    pub since: u64,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// One end.
    pub a: String,
    /// The other.
    pub b: String,
    /// `up` or `down`.
    pub state: String,
}
