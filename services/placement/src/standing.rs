//! Reason codes: stable words for traces, metrics and the operator's table.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a node has its place in a proposal, or has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonCode {
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
    /// It is being emptied. Never asked.
    Draining,
    /// The room's home is away, so its spill set cannot grow; only nodes already in it are asked.
    HomeAway,
    /// Two candidates bear this name and nobody can tell which is meant. Never asked.
    Ambiguous,
}

impl ReasonCode {
    /// Every code, in the order in which they are documented.
    pub const ALL: [Self; 12] = [
        Self::Home,
        Self::HomeFull,
        Self::HomeHot,
        Self::SpillSister,
        Self::SpillViewer,
        Self::Full,
        Self::Hot,
        Self::PolicyDenied,
        Self::NoLease,
        Self::Draining,
        Self::HomeAway,
        Self::Ambiguous,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::HomeFull => "home-full",
            Self::HomeHot => "home-hot",
            Self::SpillSister => "spill-sister",
            Self::SpillViewer => "spill-viewer",
            Self::Full => "full",
            Self::Hot => "hot",
            Self::PolicyDenied => "policy-denied",
            Self::NoLease => "no-lease",
            Self::Draining => "draining",
            Self::HomeAway => "home-away",
            Self::Ambiguous => "ambiguous",
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why nobody takes the participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// Policy approves no node that is known at all.
    NoApprovedNode,
    /// The room has no home yet and no node that may be its home is alive.
    NoHome,
    /// The room's home is away, no node that runs may take its place, and none that carries the room
    /// is left.
    HomeAway,
    /// Approved nodes exist, but each is away or draining.
    ApprovedUnavailable,
    /// Every approved node that answered had no room.
    ApprovedFull,
    /// Nodes that approve the meeting by the rules of who asked refuse it by their own: they hold
    /// another version of the policy.
    RulesDiffer,
    /// A node had room, and the cluster's registry is away, in which it must be written first.
    RegistryAway,
    /// A node had room, and the cluster's registry does not let it be written.
    RegistryRefuses,
}

impl RefusalReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::NoApprovedNode,
        Self::NoHome,
        Self::HomeAway,
        Self::ApprovedUnavailable,
        Self::ApprovedFull,
        Self::RulesDiffer,
        Self::RegistryAway,
        Self::RegistryRefuses,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoApprovedNode => "no-approved-node",
            Self::NoHome => "no-home",
            Self::HomeAway => "home-away",
            Self::ApprovedUnavailable => "approved-unavailable",
            Self::ApprovedFull => "approved-full",
            Self::RulesDiffer => "rules-differ",
            Self::RegistryAway => "registry-away",
            Self::RegistryRefuses => "registry-refuses",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rungs of the spill ladder, in the order in which they are climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The room's home.
    Home,
    /// Other approved nodes, in the policy's order.
    Spill,
    /// Everyone gets fewer layers, sound first, so that a node carries more people. Not climbed yet.
    Degrade,
    /// The participant waits for a seat. Not climbed yet.
    Queue,
    /// Capacity is leased where policy and budget allow it. Not climbed yet.
    Leased,
    /// The participant is told why not.
    Refuse,
}

impl Rung {
    /// The rungs that [`propose`](crate::propose) climbs.
    pub const CLIMBED: [Self; 3] = [Self::Home, Self::Spill, Self::Refuse];
}
