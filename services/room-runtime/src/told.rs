//! What nodes tell each other of a room's assignment, on the wire.

use systir_proto::cluster::v1 as wire;
use systir_registry::ToldAssignment;

/// Most spill nodes that another node may name.
const MAX_SPILL: usize = 64;

/// What another node told.
#[must_use]
pub fn told_assignment(told: wire::RoomAssignment) -> ToldAssignment {
    let wire::RoomAssignment { grant, spill, created_ms } = told;
    let spill = spill.into_iter().take(MAX_SPILL).map(|carrying| (carrying.node, carrying.since_ms));
    ToldAssignment { grant, spill: spill.collect(), created_ms }
}

/// What this node tells.
#[must_use]
pub fn telling(told: ToldAssignment) -> wire::RoomAssignment {
    let ToldAssignment { grant, spill, created_ms } = told;
    let spill =
        spill.into_iter().take(MAX_SPILL).map(|(node, since_ms)| wire::CarryingNode { node, since_ms });
    wire::RoomAssignment { grant, spill: spill.collect(), created_ms }
}
