//! Where a node stands in a proposal and why. Closed lists, so that each has its sentence; outside of
//! this crate both are a [`Reason`].

use systir_reason::Reason;

/// Why a node has its rank in a proposal, or has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the room's home, or is to be.
    Home,
    /// It is home and a fresh report says that it is full: asked last.
    HomeFull,
    /// It is home and a fresh report says that its CPU is nearly used up: asked last.
    HomeHot,
    /// Policy approves it for spill.
    SpillSister,
    /// Approved for spill, and asked before the busy home because the participant only views.
    SpillViewer,
    /// Approved, but a fresh report says that it is full: asked last.
    Full,
    /// Approved, but a fresh report says that its CPU is nearly used up: asked last.
    Hot,
    /// Policy denies it, or did not decide. Never asked.
    PolicyDenied,
    /// It has no valid lease and no link to it is up. Never asked.
    NoLease,
    /// It is draining. Never asked.
    Draining,
    /// The room's home is away, so its spill set cannot grow; only nodes already in it are asked.
    HomeAway,
    /// Two candidates have this name. Never asked.
    Ambiguous,
}

impl From<Standing> for Reason {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Home => Self::Home,
            Standing::HomeFull => Self::HomeFull,
            Standing::HomeHot => Self::HomeHot,
            Standing::SpillSister => Self::SpillSister,
            Standing::SpillViewer => Self::SpillViewer,
            Standing::Full => Self::Full,
            Standing::Hot => Self::Hot,
            Standing::PolicyDenied => Self::PolicyDenied,
            Standing::NoLease => Self::NoLease,
            Standing::Draining => Self::Draining,
            Standing::HomeAway => Self::HomeAway,
            Standing::Ambiguous => Self::Ambiguous,
        }
    }
}
