//! What the answers of asked nodes say about load.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::input::{Candidate, Load};

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
#[path = "recently_full_tests.rs"]
mod tests;
