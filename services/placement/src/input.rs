//! What placement is told: the room, the demand, and each node with what policy decided about it.

use serde::{Deserialize, Serialize};

/// The room that somebody joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomFacts {
    /// Owner of the room, `ku.dk`; named in sentences because its policy decides.
    pub institution: String,
    /// Name of the room within the institution; only spreads rooms over equal nodes, never printed.
    pub name: String,
    /// Where the room is now, if it is anywhere.
    pub assignment: Option<Assignment>,
}

/// The nodes that carry a room now, from its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node that orders the room.
    pub home: String,
    /// Nodes that already carry part of it.
    pub spill: Vec<String>,
}

/// What the participant wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// True when its token lets it publish nothing: it is the first to move away from a busy home.
    pub view_only: bool,
}

/// What policy decided about one node and one action. A verdict that could not be reached is a
/// denial: [`Verdict::default`] denies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// May the node do it?
    pub allowed: bool,
    /// The policy's order: lower is asked first; none is asked after every tier.
    pub tier: Option<u32>,
    /// Ids of the deciding rules.
    pub rules: Vec<String>,
    /// The decision in a sentence without a final stop.
    pub why: String,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { allowed: false, tier: None, rules: Vec::new(), why: "no decision was reached".into() }
    }
}

/// What a node last said of itself. A hint, never a guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Participants whose media it carries.
    pub participants: u32,
    /// How many it admits.
    pub capacity: u32,
    /// CPU that its process uses, thousandths of what it may use.
    pub cpu_permille: u32,
    /// Age of the report, milliseconds.
    pub age_ms: u64,
}

/// A node that could be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name, `cph-1`.
    pub node: String,
    /// Its last report.
    pub load: Load,
    /// It is being emptied: it admits nobody new.
    pub draining: bool,
    /// Its lease is valid, or a link to it is up.
    pub alive: bool,
    /// Policy on the action `home`.
    pub home: Verdict,
    /// Policy on the action `spill`.
    pub spill: Verdict,
}
