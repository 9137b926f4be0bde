//! Placement input for tests.

use crate::input::{Assignment, Candidate, Load, RoomFacts, Verdict};

pub(crate) fn node(name: &str, home: bool) -> Candidate {
    let allow = |allowed| Verdict { allowed, tier: Some(0), rules: Vec::new(), why: String::new() };
    Candidate {
        node: name.to_owned(),
        load: Load { participants: 1, capacity: 4, cpu_permille: 0, age_ms: 5_000 },
        draining: false,
        alive: true,
        home: allow(home),
        spill: allow(true),
    }
}

pub(crate) fn room() -> RoomFacts {
    RoomFacts {
        institution: "ku.dk".to_owned(),
        name: "physics".to_owned(),
        assignment: Some(Assignment { home: "cph-1".to_owned(), spill: Vec::new() }),
    }
}
