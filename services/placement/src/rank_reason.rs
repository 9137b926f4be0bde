//! Why a node has its rank in a proposal. A closed list, so that each reason has a sentence; outside of
//! this crate it is a [`Reason`].

use systir_reason::Reason;

/// Why a node has its rank in a proposal, or has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RankReason {
    /// It is the room's home, or will be.
    Home,
    /// It is home and full by a fresh report: asked last.
    HomeFull,
    /// It is home and short of CPU by a fresh report: asked last.
    HomeHighCpu,
    /// Policy approves it for spill.
    SpillApproved,
    /// Approved for spill, and asked before a home that is short of seats, because the participant only views.
    SpillViewer,
    /// Approved, but full by a fresh report: asked last.
    Full,
    /// Approved, but short of CPU by a fresh report: asked last.
    HighCpu,
    /// Policy denies it, or there is no decision. Never asked.
    PolicyDenied,
    /// It has no valid lease and no link to it is up. Never asked.
    NoLease,
    /// It is draining. Never asked.
    Draining,
    /// The room's home is offline, so no spill node can be added; only assigned nodes are asked.
    HomeOffline,
    /// Two candidates have this name. Never asked.
    DuplicateName,
}

impl From<RankReason> for Reason {
    fn from(rank_reason: RankReason) -> Self {
        match rank_reason {
            RankReason::Home => Self::Home,
            RankReason::HomeFull => Self::HomeFull,
            RankReason::HomeHighCpu => Self::HomeHighCpu,
            RankReason::SpillApproved => Self::SpillApproved,
            RankReason::SpillViewer => Self::SpillViewer,
            RankReason::Full => Self::Full,
            RankReason::HighCpu => Self::HighCpu,
            RankReason::PolicyDenied => Self::PolicyDenied,
            RankReason::NoLease => Self::NoLease,
            RankReason::Draining => Self::Draining,
            RankReason::HomeOffline => Self::HomeOffline,
            RankReason::DuplicateName => Self::DuplicateName,
        }
    }
}
