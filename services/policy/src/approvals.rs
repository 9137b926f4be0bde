//! Which institutions approve a node at all.

use std::collections::BTreeSet;

use crate::action::Action;
use crate::authority::Authority;
use crate::engine::PolicyEngine;
use crate::request::{Claims, Request, RoomAttributes, Subject};

/// The roles in which a node reads and writes the records of rooms.
const ROLES: [Action; 3] = [Action::Home, Action::Spill, Action::RelaySignal];

impl PolicyEngine {
    /// The institutions whose policy approves the node as home, as spill node or as gateway of any room, whatever its
    /// class. With these it shares records of rooms, and with no others.
    #[must_use]
    pub fn approving(&self, node: &str) -> BTreeSet<String> {
        self.institutions()
            .filter(|institution| self.approves(institution, node))
            .map(str::to_owned)
            .collect()
    }

    fn approves(&self, institution: &str, node: &str) -> bool {
        let subject = Subject::Node(node);
        // A claim may only forbid, and a rule may forbid for want of one.
        let requests = ROLES.into_iter().flat_map(|action| {
            RoomAttributes::all().flat_map(move |room| {
                [false, true].map(|e2ee| {
                    let claims = Claims { e2ee, ..Claims::default() };
                    Request { institution, action, subject, room, claims }
                })
            })
        });
        requests.into_iter().any(|request| self.decide(&request).allowed)
    }
}

impl Authority {
    /// The institutions that approve this node in some role: see [`PolicyEngine::approving`].
    #[must_use]
    pub fn approving(&self) -> BTreeSet<String> {
        self.engine().approving(self.own_id())
    }
}
