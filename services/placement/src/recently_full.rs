//! Nodes that refused a moment ago because they were full.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::input::{LoadReport, NodeCandidate};

/// How long a node counts as full after it refused with "full".
const FULL_FOR: Duration = Duration::from_millis(500);

/// Nodes that refused with "full" a moment ago. When many participants join at once, the load reports
/// are too old: the next join asks these nodes last, but still asks them.
#[derive(Debug, Default)]
pub struct RecentlyFull {
    full_since: HashMap<String, Instant>,
}

impl RecentlyFull {
    /// Records a node's answer to a reservation.
    pub fn answered(&mut self, node: &str, full: bool, now: Instant) {
        self.full_since.retain(|_, at| now.duration_since(*at) < FULL_FOR);
        if full {
            self.full_since.insert(node.to_owned(), now);
        } else {
            self.full_since.remove(node);
        }
    }

    /// The load to use: full, if the node's answer is newer than its report; else its report.
    #[must_use]
    pub fn load(&self, node: &str, reported: LoadReport, now: Instant) -> LoadReport {
        let Some(age) = self.full_since.get(node).map(|at| now.duration_since(*at)) else { return reported };
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        if age >= FULL_FOR || reported.age_ms < age_ms {
            return reported;
        }
        LoadReport { participants: reported.participants.max(reported.capacity), age_ms, ..reported }
    }

    /// Sets each candidate's load to the one to use.
    pub fn adjust(&self, candidates: &mut [NodeCandidate], now: Instant) {
        for candidate in candidates {
            candidate.load = self.load(&candidate.node, candidate.load, now);
        }
    }
}

#[cfg(test)]
#[path = "recently_full_tests.rs"]
mod tests;
