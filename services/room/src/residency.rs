//! Residency, the answer to "where is my data": which nodes relay a room, where they stand, who runs them,
//! by which rule, and what each statement rests on.

use serde::{Deserialize, Serialize};

/// The data topic on which participants receive each change.
pub const RESIDENCY_TOPIC: &str = "systir.where";

/// The answer for one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    /// The room's name.
    pub room: String,
    /// Whose room it is.
    pub institution: String,
    /// Version of the institution's policy that this node decided by.
    pub policy_version: String,
    /// Epoch of the assignment.
    pub epoch: u64,
    /// The node that makes the statement.
    pub told_by: String,
    /// Does that node carry the room? If not, the statement is made from the room's record alone: it
    /// names no gateways and no links although there may be some.
    pub complete: bool,
    /// Nodes, home first.
    pub nodes: Vec<ResidencyNode>,
    /// Links between them.
    pub links: Vec<ResidencyLink>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyNode {
    /// Its name.
    pub node: String,
    /// `home`, `spill`, `gateway`.
    pub roles: Vec<String>,
    /// City or campus.
    pub site: String,
    /// The operator's name for its part of the network, such as `dk-copenhagen`.
    pub region: String,
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
    /// Since when, in Unix milliseconds: that it was assigned to the room or, of a node that is
    /// only a gateway, that its first participant joined. Absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyLink {
    /// One end.
    pub a: String,
    /// The other.
    pub b: String,
    /// `up` or `down`: is the room open on it? `up` when all say so who are named below.
    pub state: String,
    /// The nodes that say so, each of a link of its own.
    pub seen_by: Vec<String>,
}
