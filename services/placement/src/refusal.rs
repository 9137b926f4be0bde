//! The refusal when no node has a seat for the participant.

use systir_reason::{Reason, Refusal};

use crate::proposal::Proposal;

impl Proposal {
    /// The refusal when no asked node gave a seat, from the reason of each. It is "full" only when a node
    /// is full and no other could have a seat. A registry that does not take the write has precedence over
    /// all other reasons.
    pub fn refused(&self, answers: &[Reason]) -> Refusal {
        if let Some(refusal) = &self.refusal {
            return refusal.clone();
        }
        let any = |wanted: Reason| answers.contains(&wanted);
        let undecided = |answer: &Reason| {
            let unclear = [
                Reason::NoAnswer,
                Reason::Internal,
                Reason::Unspecified,
                Reason::EpochOvertaken,
                Reason::UnsupportedVersion,
            ];
            answer.is_about_a_grant() || unclear.contains(answer)
        };
        let reason = if any(Reason::IdentityQuota) {
            // The participant has the seats that it may have, by an answer that the home gave or did not contradict.
            NoSeatReason::IdentityQuota
        } else if any(Reason::RegistryUnavailable) {
            NoSeatReason::RegistryUnavailable
        } else if any(Reason::RegistryRefuses) {
            NoSeatReason::RegistryRefuses
        } else if answers.iter().any(undecided) {
            NoSeatReason::ApprovedUnavailable
        } else if any(Reason::InstitutionQuota) {
            NoSeatReason::InstitutionQuota
        } else if any(Reason::Full) {
            NoSeatReason::ApprovedFull
        } else if any(Reason::PolicyDenied) {
            NoSeatReason::RulesDiffer
        } else {
            NoSeatReason::ApprovedUnavailable
        };
        refuse(&self.institution, reason)
    }
}

/// Why no node admits the participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSeatReason {
    /// Policy approves no known node.
    NoApprovedNode,
    /// The room has no home yet and no node that may be its home is alive.
    NoHome,
    /// The room's home is offline, no running node may take over, and no spill node of the room is
    /// left.
    HomeOffline,
    /// Approved nodes exist, but each is offline or draining, or did not answer.
    ApprovedUnavailable,
    /// Every approved node that answered had no free seat.
    ApprovedFull,
    /// The participant's token has all seats that it may have.
    IdentityQuota,
    /// The institution has all seats that it may have on a node, and no other node could take the participant.
    InstitutionQuota,
    /// The asked nodes deny by their own policy what this node's policy allows.
    RulesDiffer,
    /// A home must be written into the registry first, which does not answer.
    RegistryUnavailable,
    /// A home must be written into the registry first, which refuses the write.
    RegistryRefuses,
}

impl From<NoSeatReason> for Reason {
    fn from(no_seat: NoSeatReason) -> Self {
        match no_seat {
            NoSeatReason::NoApprovedNode => Self::NoApprovedNode,
            NoSeatReason::NoHome => Self::NoHome,
            NoSeatReason::HomeOffline => Self::HomeOffline,
            NoSeatReason::ApprovedUnavailable => Self::ApprovedUnavailable,
            NoSeatReason::ApprovedFull => Self::ApprovedFull,
            NoSeatReason::IdentityQuota => Self::IdentityQuota,
            NoSeatReason::InstitutionQuota => Self::InstitutionQuota,
            NoSeatReason::RulesDiffer => Self::RulesDiffer,
            NoSeatReason::RegistryUnavailable => Self::RegistryUnavailable,
            NoSeatReason::RegistryRefuses => Self::RegistryRefuses,
        }
    }
}

/// The refusal. Its sentence is for participants; it names no node, room or participant.
pub(crate) fn refuse(institution: &str, reason: NoSeatReason) -> Refusal {
    let sentence = match reason {
        NoSeatReason::NoApprovedNode => format!(
            "No server is approved by {institution} for this meeting, so it cannot start. \
             Please contact the support of {institution}."
        ),
        NoSeatReason::NoHome => format!(
            "No server that {institution} approved to host this meeting is running. \
             Please try again in a minute."
        ),
        NoSeatReason::HomeOffline => format!(
            "The server that hosts this meeting is offline, and no other running server is approved by \
             {institution} to host it. Please try again in a minute."
        ),
        NoSeatReason::ApprovedUnavailable => format!(
            "No server that {institution} approved for this meeting can take you now: each is full, \
             in maintenance or unreachable. The meeting is not sent to other servers. Please try again in \
             a minute."
        ),
        NoSeatReason::ApprovedFull => format!(
            "The servers that {institution} approved for this meeting are full. The meeting is not sent to \
             other servers. Please try again in a few minutes."
        ),
        NoSeatReason::IdentityQuota => format!(
            "You already have as many connections to this meeting of {institution} as one participant may have. \
             Close one of them and join again."
        ),
        NoSeatReason::InstitutionQuota => format!(
            "{institution} has all seats that it may have on these servers. The meeting is not sent to other \
             servers. Please try again in a few minutes."
        ),
        NoSeatReason::RulesDiffer => format!(
            "The servers for this meeting apply different rules of {institution}, so you cannot join. \
             Please contact the support of {institution}."
        ),
        NoSeatReason::RegistryUnavailable => format!(
            "This meeting cannot be opened now on a server that {institution} approved, because the cluster's \
             registry does not answer. Running meetings continue; please try again in a minute."
        ),
        NoSeatReason::RegistryRefuses => format!(
            "This meeting cannot be opened on a server that {institution} approved, because the cluster's \
             registry does not allow it. Please contact the support of {institution}."
        ),
    };
    Refusal::new(reason.into(), sentence)
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
