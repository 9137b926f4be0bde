//! The journal's entry of a join: what became of it, and what the ladder was made of, so that it can be made again of
//! another policy.

use std::collections::BTreeSet;

use systir_assignment::{MediaRole, RoomId};
use systir_journal::{
    AnsweredSeat, DecidedAt, JournalCandidate, JournalPlacement, JournalRole, MAX_CANDIDATES,
    PlacedParticipant, PlacedRoom,
};
use systir_livekit::token::Grants;
use systir_placement::{Demand, LoadReport, NodeCandidate, RoleDecision};
use systir_policy::{Action, Authority, DecidedAction};
use systir_reason::Refusal;

use crate::ReservedSeat;
use crate::ladder::Ladder;

/// What is journaled of one join.
#[derive(Debug, Default)]
pub(crate) struct JoinJournal {
    /// The action that policy denied before any node was looked at.
    pub(crate) denied: Option<Action>,
    /// The ladder that was used last.
    pub(crate) ladder: Option<Ladder>,
    /// The nodes that were asked for a seat and gave none.
    pub(crate) answers: Vec<AnsweredSeat>,
}

impl JoinJournal {
    /// Journals what became of the join.
    pub(crate) fn record(
        self,
        authority: &Authority,
        room: &RoomId,
        grants: &Grants,
        demand: &Demand,
        result: &Result<ReservedSeat, Refusal>,
    ) {
        let at = DecidedAt::Placement;
        let decided = match (result, self.denied) {
            (Ok(seat), _) => {
                let home = seat.assignment.home == *seat.node.as_str();
                let role = if home { MediaRole::Home } else { MediaRole::Spill };
                DecidedAction::of_node(at, role.into(), &seat.node)
            }
            (Err(_), Some(action)) if action.is_on_node() => {
                DecidedAction::of_node(at, action, authority.own_id())
            }
            (Err(_), action) => {
                DecidedAction::of_participant(at, action.unwrap_or(Action::Join), &grants.institution)
            }
        };
        let no_seat = result.is_err() && self.denied.is_none();
        authority.journal_with(&decided, room, result, |entry| {
            if let Ok(seat) = result {
                entry.reason = seat.reason.as_str().to_owned();
            }
            let placement = self.placement(grants, demand);
            if no_seat {
                // The rules that kept it from further nodes.
                let denied = placement.candidates.iter().map(|node| &node.spill).filter(|role| !role.allowed);
                let rules: BTreeSet<&String> = denied.flat_map(|role| &role.rules).collect();
                entry.rules = rules.into_iter().cloned().collect();
            }
            entry.placement = Some(placement);
        });
    }

    fn placement(self, grants: &Grants, demand: &Demand) -> JournalPlacement {
        let participant = PlacedParticipant {
            hidden: grants.hidden,
            recorder: grants.recorder,
            guest: grants.guest,
            view_only: demand.view_only,
        };
        let none = JournalPlacement { participant, answers: self.answers, ..JournalPlacement::default() };
        let Some(Ladder { candidates, carried_by, not_home, .. }) = self.ladder else { return none };
        let carries = |node: &str| {
            carried_by
                .as_ref()
                .is_some_and(|room| room.home == node || room.spill.iter().any(|spill| spill == node))
        };
        let mut nodes: Vec<&NodeCandidate> =
            candidates.iter().filter(|candidate| candidate.alive || carries(&candidate.node)).collect();
        nodes.sort_by_key(|candidate| !(candidate.home.allowed || candidate.spill.allowed));
        JournalPlacement {
            candidates_left_out: nodes.len().saturating_sub(MAX_CANDIDATES),
            candidates: nodes
                .into_iter()
                .take(MAX_CANDIDATES)
                .map(|candidate| journaled(candidate, not_home.contains(&candidate.node)))
                .collect(),
            carried_by: carried_by.map(|room| PlacedRoom { home: room.home, spill: room.spill }),
            ..none
        }
    }
}

fn journaled(candidate: &NodeCandidate, no_room_key: bool) -> JournalCandidate {
    let LoadReport { participants, capacity, cpu_permille, age_ms } = candidate.load;
    JournalCandidate {
        node: candidate.node.clone(),
        home: role(&candidate.home),
        spill: role(&candidate.spill),
        participants,
        capacity,
        cpu_permille,
        reported_ms_ago: (candidate.load != LoadReport::UNKNOWN).then_some(age_ms),
        draining: candidate.draining,
        offline: !candidate.alive,
        no_room_key,
    }
}

fn role(decision: &RoleDecision) -> JournalRole {
    JournalRole { allowed: decision.allowed, tier: decision.tier, rules: decision.rules.clone() }
}
