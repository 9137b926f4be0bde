//! What placement answers: whom to ask, in which order, and why everyone else is not asked.

use std::fmt;

use serde::Serialize;
use systir_reason::{Reason, Refusal};

use crate::rank_reason::NoSeat;

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

/// The refusal; its sentence names no node, room or participant.
pub(crate) fn refuse(institution: &str, reason: NoSeat) -> Refusal {
    let sentence = match reason {
        NoSeat::NoApprovedNode => format!(
            "No server is approved by {institution} for this meeting, so it cannot start. \
             Please tell the support of {institution}."
        ),
        NoSeat::NoHome => format!(
            "No server that {institution} allows to lead this meeting is running. \
             Please try again in a minute."
        ),
        NoSeat::HomeAway => format!(
            "The server that leads this meeting is away, and no other that runs may lead it by the rules \
             of {institution}. Please try again in a minute."
        ),
        NoSeat::ApprovedUnavailable => format!(
            "No server that {institution} approved for this meeting can take you now: each is full, \
             being serviced or cannot be reached, and it is not sent to others. Please try again in a \
             minute."
        ),
        NoSeat::ApprovedFull => format!(
            "The servers that {institution} approved for this meeting are full, and it is not sent to \
             others. Please try again in a few minutes."
        ),
        NoSeat::RulesDiffer => format!(
            "The servers for this meeting do not agree on the rules of {institution}, so it is sent to \
             none of them. Please tell the support of {institution}."
        ),
        NoSeat::RegistryAway => format!(
            "A server that {institution} approved has room for you, but it cannot be added to this meeting \
             now, because the cluster's registry does not answer. Meetings that run already go on; please \
             try again in a minute."
        ),
        NoSeat::RegistryRefuses => format!(
            "A server that {institution} approved has room for you, but the cluster's registry does not \
             let it be added to this meeting. Please tell the support of {institution}."
        ),
    };
    Refusal::new(reason.into(), sentence)
}
