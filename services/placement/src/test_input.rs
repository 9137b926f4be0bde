//! Placement input for tests.

use crate::input::{CarryingNodes, LoadReport, NodeCandidate, RoleDecision, RoomToPlace};

pub(crate) fn node(name: &str, home: bool) -> NodeCandidate {
    let allow = |allowed| RoleDecision { allowed, tier: Some(0), rules: Vec::new(), why: String::new() };
    NodeCandidate {
        node: name.to_owned(),
        load: LoadReport { participants: 1, capacity: 4, cpu_permille: 0, age_ms: 5_000 },
        draining: false,
        alive: true,
        home: allow(home),
        spill: allow(true),
    }
}

pub(crate) fn room() -> RoomToPlace {
    RoomToPlace {
        institution: "ku.dk".to_owned(),
        tag: "physics".to_owned(),
        assignment: Some(CarryingNodes { home: "cph-1".to_owned(), spill: Vec::new() }),
    }
}
