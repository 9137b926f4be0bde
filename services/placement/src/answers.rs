//! How nodes answer when they are asked for a seat, and what is true when none gave one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::facts::{Candidate, Load};
use crate::proposal::{Proposal, Refusal, refuse};
use crate::reason::RefusalReason;

/// What came of asking one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has no seat.
    Full,
    /// Its own policy does not let it carry the room.
    Denied,
    /// It is being emptied.
    Draining,
    /// It came to no decision.
    Undecided,
    /// It knows a newer record of the room than who asked.
    Overtaken,
    /// It said nothing.
    Silent,
    /// It has a seat, but the registry is away and the room's record does not name it.
    RegistryAway,
    /// It has a seat, but the registry does not let it be written into the room's record.
    RegistryRefuses,
}

impl Proposal {
    /// What to tell the participant when no step led to a seat. "Full" is said only when somebody is
    /// full and nobody could have room; a seat that cannot be taken counts more than all that are not
    /// there.
    pub fn refused(&self, answers: &[Answer]) -> Refusal {
        if let Some(refusal) = &self.refusal {
            return refusal.clone();
        }
        let some = |wanted: Answer| answers.contains(&wanted);
        let reason = if some(Answer::RegistryAway) {
            RefusalReason::RegistryAway
        } else if some(Answer::RegistryRefuses) {
            RefusalReason::RegistryRefuses
        } else if some(Answer::Silent) || some(Answer::Undecided) || some(Answer::Overtaken) {
            RefusalReason::ApprovedUnavailable
        } else if some(Answer::Full) {
            RefusalReason::ApprovedFull
        } else if some(Answer::Denied) {
            RefusalReason::RulesDiffer
        } else {
            RefusalReason::ApprovedUnavailable
        };
        refuse(&self.institution, reason)
    }
}

/// How long a node that said "full" is believed to be.
const BELIEVED: Duration = Duration::from_millis(500);

/// Nodes that have just said that they are full. In a storm of joins their reports are too old; the
/// next join asks them last, and still asks.
#[derive(Debug, Default)]
pub struct HeardFull {
    at: HashMap<String, Instant>,
}

impl HeardFull {
    /// A node answered.
    pub fn heard(&mut self, node: &str, full: bool, now: Instant) {
        self.at.retain(|_, at| now.duration_since(*at) < BELIEVED);
        if full {
            self.at.insert(node.to_owned(), now);
        } else {
            self.at.remove(node);
        }
    }

    /// What is believed of a node's load: what it said to us, when that is newer than its report.
    #[must_use]
    pub fn load(&self, node: &str, reported: Load, now: Instant) -> Load {
        let Some(age) = self.at.get(node).map(|at| now.duration_since(*at)) else { return reported };
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        if age >= BELIEVED || reported.age_ms < age_ms {
            return reported;
        }
        Load { participants: reported.participants.max(reported.capacity), age_ms, ..reported }
    }

    /// The candidates with what is believed of their load.
    pub fn believe(&self, candidates: &mut [Candidate], now: Instant) {
        for candidate in candidates {
            candidate.load = self.load(&candidate.node, candidate.load, now);
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
