//! Counts what happens to the identities of peers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use systir_reason::Reason;

const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What has happened to the identities of peers since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityCounts {
    /// Connections refused, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Links that ended because a certificate expired.
    pub links_expired: u64,
    /// Connections that this node dialled and extended to the end of renewed certificates, or moved to other node keys.
    pub renewed: u64,
}

/// The counters behind [`IdentityCounts`].
#[derive(Debug, Default)]
pub(crate) struct IdentityCounters {
    refused: Mutex<BTreeMap<Reason, u64>>,
    links_expired: AtomicU64,
    renewed: AtomicU64,
    last_warning: Mutex<Option<Instant>>,
}

impl IdentityCounters {
    /// May a warning about a refusal be logged? Once a second: peers can cause any number of refusals.
    pub(crate) fn may_warn(&self, now: Instant) -> bool {
        let mut last = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= WARNING_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    pub(crate) fn refused(&self, reason: Reason) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    pub(crate) fn link_expired(&self) {
        self.links_expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn renewed(&self) {
        self.renewed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> IdentityCounts {
        IdentityCounts {
            refused: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            links_expired: self.links_expired.load(Ordering::Relaxed),
            renewed: self.renewed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_cause_one_warning_a_second_and_are_all_counted() {
        let (counters, begun) = (IdentityCounters::default(), Instant::now());
        let mut warnings = 0;
        for millisecond in 0..3000 {
            counters.refused(Reason::Unlisted);
            warnings += u32::from(counters.may_warn(begun + Duration::from_millis(millisecond)));
        }
        assert_eq!(warnings, 3);
        assert_eq!(counters.counts().refused, BTreeMap::from([(Reason::Unlisted, 3000)]));
    }
}
