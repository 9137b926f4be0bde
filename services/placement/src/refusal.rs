//! What the answers of asked nodes lead to when none gave a seat.

use systir_reason::{Reason, Refusal};

use crate::proposal::Proposal;

impl Proposal {
    /// The refusal when no step led to a seat, from what each asked node answered. "Full" is the reason
    /// only when a node is full and no other could have a seat. A seat that cannot be written into the
    /// registry outweighs all other answers.
    pub fn refused(&self, answers: &[Reason]) -> Refusal {
        if let Some(refusal) = &self.refusal {
            return refusal.clone();
        }
        let some = |wanted: Reason| answers.contains(&wanted);
        let undecided = |answer: &Reason| {
            matches!(answer, Reason::NoAnswer | Reason::Internal | Reason::Unsaid | Reason::EpochOvertaken)
        };
        let reason = if some(Reason::RegistryAway) {
            NoSeat::RegistryAway
        } else if some(Reason::RegistryRefuses) {
            NoSeat::RegistryRefuses
        } else if answers.iter().any(undecided) {
            NoSeat::ApprovedUnavailable
        } else if some(Reason::Full) {
            NoSeat::ApprovedFull
        } else if some(Reason::PolicyDenied) {
            NoSeat::RulesDiffer
        } else {
            NoSeat::ApprovedUnavailable
        };
        refuse(&self.institution, reason)
    }
}

/// Why no node takes the participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSeat {
    /// Policy approves no known node.
    NoApprovedNode,
    /// The room has no home yet and no node that may be its home is alive.
    NoHome,
    /// The room's home is away, no node that runs may take its place, and none that carries the room
    /// is left.
    HomeAway,
    /// Approved nodes exist, but each is away or draining.
    ApprovedUnavailable,
    /// Every approved node that answered had no free seat.
    ApprovedFull,
    /// Nodes that the asking node's policy approves refuse by their own policy: they hold another version.
    RulesDiffer,
    /// A node had a seat, and the cluster's registry, in which it must be written first, does not answer.
    RegistryAway,
    /// A node had a seat, and the cluster's registry refuses the write.
    RegistryRefuses,
}

impl From<NoSeat> for Reason {
    fn from(no_seat: NoSeat) -> Self {
        match no_seat {
            NoSeat::NoApprovedNode => Self::NoApprovedNode,
            NoSeat::NoHome => Self::NoHome,
            NoSeat::HomeAway => Self::HomeAway,
            NoSeat::ApprovedUnavailable => Self::ApprovedUnavailable,
            NoSeat::ApprovedFull => Self::ApprovedFull,
            NoSeat::RulesDiffer => Self::RulesDiffer,
            NoSeat::RegistryAway => Self::RegistryAway,
            NoSeat::RegistryRefuses => Self::RegistryRefuses,
        }
    }
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

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
