//! A grant that a node holds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use systir_documents::{Grant, SignedGrant};

use crate::order::GrantTime;

/// How far the clocks of two nodes may differ, milliseconds.
const CLOCK_DIFFERENCE_MS: u64 = 300_000;

/// A grant that a node holds.
#[derive(Debug, Clone)]
pub struct HeldGrant {
    pub(crate) signed: SignedGrant,
    /// When it ends, by this node's monotonic clock.
    pub(crate) ends: Instant,
    /// Homes before this one that were replaced only because they could not be reached, as far as this node knows. If one is
    /// back, and leads the room, all follow it.
    pub(crate) unreached: BTreeSet<String>,
    /// Did this process sign it?
    pub(crate) own: bool,
    /// Did it not count when it was seen, because it was issued so long after this node's time?
    pub(crate) early: bool,
}

impl HeldGrant {
    /// A grant that came from another node. It counts from its receipt if its home itself sent it; else its dates must
    /// fit the wall clock, or it has ended.
    pub(crate) fn received(signed: SignedGrant, from: Option<&str>, now: GrantTime) -> Self {
        let grant = signed.grant();
        let from_home = from == Some(grant.home.as_str());
        let early = !from_home && grant.issued_ms > now.unix_ms.saturating_add(CLOCK_DIFFERENCE_MS);
        let left = if from_home {
            grant.life_ms()
        } else if early {
            0
        } else {
            grant.not_after_ms.saturating_sub(now.unix_ms).min(grant.life_ms())
        };
        let ends = now.instant + Duration::from_millis(left);
        Self { signed, ends, unreached: BTreeSet::new(), own: false, early }
    }

    /// A grant that this process has just signed, after the one that is held.
    pub(crate) fn own(signed: SignedGrant, held: Option<&Self>, now: GrantTime) -> Self {
        let ends = now.instant + Duration::from_millis(signed.grant().life_ms());
        let mut unreached = held.map(|held| held.unreached.clone()).unwrap_or_default();
        if let Some(before) = held.map(Self::grant).filter(|before| before.home != signed.grant().home) {
            unreached.insert(before.home.clone());
            unreached.extend(before.successor_of.clone());
        }
        unreached.remove(&signed.grant().home);
        Self { signed, ends, unreached, own: true, early: false }
    }

    /// The grant.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        self.signed.grant()
    }

    /// The grant and its note.
    #[must_use]
    pub fn signed(&self) -> &SignedGrant {
        &self.signed
    }

    /// Has it ended?
    #[must_use]
    pub fn has_ended(&self, now: Instant) -> bool {
        self.ends <= now
    }

    /// Did it not count when it was seen, because it was issued so long after this node's time? If its home itself tells it,
    /// it counts.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.early
    }

    /// When it ends, by this node's monotonic clock.
    #[must_use]
    pub fn ends(&self) -> Instant {
        self.ends
    }

    /// Did this process sign it?
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Has less than half of its life left?
    pub(crate) fn is_half_over(&self, now: Instant) -> bool {
        self.ends.saturating_duration_since(now) < Duration::from_millis(self.grant().life_ms() / 2)
    }
}
