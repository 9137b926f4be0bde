//! The input of placement: the room, the demand, and each node with the policy decisions on it.

use serde::{Deserialize, Serialize};

/// The room that a participant joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomToPlace {
    /// The room's institution, `ku.dk`; named in sentences because its policy decides.
    pub institution: String,
    /// Name of the room within the institution. Only used to spread rooms over equal nodes; never printed.
    pub tag: String,
    /// The room's assignment, if it has one.
    pub assignment: Option<CarryingNodes>,
}

/// The nodes that carry a room now, from its assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarryingNodes {
    /// The home node.
    pub home: String,
    /// The spill nodes.
    pub spill: Vec<String>,
}

/// What the participant wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// True when the token does not allow publishing. Such participants are placed on spill nodes first when home
    /// is nearly full.
    pub view_only: bool,
}

/// The policy decision on one node and one action. Without a decision the node is denied:
/// [`RoleDecision::default`] denies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleDecision {
    /// Whether policy allows it.
    pub allowed: bool,
    /// The policy's tier: the lowest is asked first; none is asked after every tier.
    pub tier: Option<u32>,
    /// Ids of the deciding rules.
    pub rules: Vec<String>,
    /// The decision in a sentence without a final stop.
    pub why: String,
}

impl Default for RoleDecision {
    fn default() -> Self {
        Self { allowed: false, tier: None, rules: Vec::new(), why: "no decision was reached".into() }
    }
}

/// The last load report of a node. A hint, never a guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Participants whose media it carries.
    pub participants: u32,
    /// Participants that it admits.
    pub capacity: u32,
    /// CPU use of its process, thousandths of what it may use.
    pub cpu_permille: u32,
    /// Age of the report, milliseconds.
    pub age_ms: u64,
}

impl LoadReport {
    /// Of a node that is alive and has no lease, so that its load is not known. It is not fresh, so the node does not
    /// count as full.
    pub const UNKNOWN: Self = Self { participants: 0, capacity: 0, cpu_permille: 0, age_ms: u64::MAX };
}

/// A node that may be asked for a seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCandidate {
    /// Its name, `cph-1`.
    pub node: String,
    /// Its last report.
    pub load: LoadReport,
    /// It is draining: it admits no new participants.
    pub draining: bool,
    /// Its lease is valid, or a link to it is up.
    pub alive: bool,
    /// The policy decision on the action `home`.
    pub home: RoleDecision,
    /// The policy decision on the action `spill`.
    pub spill: RoleDecision,
}
