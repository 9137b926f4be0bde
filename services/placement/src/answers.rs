//! What the answers of asked nodes lead to when none gave a seat, and what they say about load.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use systir_reason::{Reason, Refusal};

use crate::input::{Candidate, Load};
use crate::proposal::{Proposal, refuse};
use crate::rank_reason::NoSeat;

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

/// How long a node that answered "full" counts as full.
const REMEMBERED: Duration = Duration::from_millis(500);

/// Nodes that answered "full" a moment ago. When many join at once, the nodes' load reports are too old:
/// the next join asks these nodes last, and still asks them.
#[derive(Debug, Default)]
pub struct RecentlyFull {
    at: HashMap<String, Instant>,
}

impl RecentlyFull {
    /// A node answered.
    pub fn answered(&mut self, node: &str, full: bool, now: Instant) {
        self.at.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        if full {
            self.at.insert(node.to_owned(), now);
        } else {
            self.at.remove(node);
        }
    }

    /// The load to count with: what the node answered, when that is newer than its report.
    #[must_use]
    pub fn load(&self, node: &str, reported: Load, now: Instant) -> Load {
        let Some(age) = self.at.get(node).map(|at| now.duration_since(*at)) else { return reported };
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        if age >= REMEMBERED || reported.age_ms < age_ms {
            return reported;
        }
        Load { participants: reported.participants.max(reported.capacity), age_ms, ..reported }
    }

    /// Puts into each candidate the load to count with.
    pub fn adjust(&self, candidates: &mut [Candidate], now: Instant) {
        for candidate in candidates {
            candidate.load = self.load(&candidate.node, candidate.load, now);
        }
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
