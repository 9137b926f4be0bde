//! What placement answers: whom to ask, in which order, and why everyone else is not asked.

use std::fmt;

use serde::Serialize;
use systir_reason::{Reason, Refusal};

/// What a node would be to the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It orders the room and carries participants.
    Home,
    /// It carries participants.
    Spill,
}

impl Role {
    /// The stable word, also the policy's action.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Spill => "spill",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One node to ask for a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Whom to ask.
    pub node: String,
    /// As what.
    pub role: Role,
    /// Why it has this place.
    pub reason: Reason,
}

/// One line of the operator's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The node.
    pub node: String,
    /// What it would be.
    pub role: Role,
    /// Its place among [`Proposal::steps`], from 0; none when it is not asked.
    pub rank: Option<usize>,
    /// Why.
    pub reason: Reason,
    /// Why, for a person.
    pub sentence: String,
}

/// A ranked proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The node that is the room's home or is to be written as such. For a room without an
    /// assignment it orders the room even when it has no seat left and everyone spills; it is another
    /// one than the assignment's when that one is away.
    pub home: Option<String>,
    /// Whom to ask, best first. Every node in it is approved by policy for its role.
    pub steps: Vec<Step>,
    /// Every candidate: those asked in order, then the others by name.
    pub table: Vec<Row>,
    /// Set exactly when there is nobody to ask.
    pub refusal: Option<Refusal>,
    pub(crate) institution: String,
}
