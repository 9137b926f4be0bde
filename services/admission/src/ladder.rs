//! Builds the ladder: passes every node of the operators' directories, its lease and the policy decisions
//! about it to placement.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use systir_assignment::{Assignment, RoomId};
use systir_placement::{
    CarryingNodes, Demand, LoadReport, NodeCandidate, Proposal, RecentlyFull, RoleDecision, RoomToPlace, Row,
    propose,
};
use systir_policy::{Action, Authority};
use systir_registry::{Assignments, unix_ms};
use tracing::field::Empty;

use crate::ways_out::WaysOut;
use crate::{LocalLoad, PeerNodes};

/// What a join has found out about nodes.
#[derive(Debug, Default)]
pub(crate) struct JoinFindings {
    /// They did not answer.
    pub(crate) silent: BTreeSet<String>,
    /// They cannot be the room's home: they hold no room key that reads its name.
    pub(crate) not_home: BTreeSet<String>,
    /// They drain, although the registry's copy does not say so yet.
    pub(crate) draining: BTreeSet<String>,
}

/// The ladder of a join, and what it was made of.
#[derive(Debug)]
pub(crate) struct Ladder {
    pub(crate) proposal: Proposal,
    pub(crate) candidates: Vec<NodeCandidate>,
    /// The nodes that carry the room.
    pub(crate) carried_by: Option<CarryingNodes>,
    /// Candidates that hold no room key of the institution, as far as the join has found out.
    pub(crate) not_home: BTreeSet<String>,
}

impl Deref for Ladder {
    type Target = Proposal;

    fn deref(&self) -> &Proposal {
        &self.proposal
    }
}

/// Builds the ladder of a join.
#[derive(Debug)]
pub(crate) struct LadderBuilder {
    node: String,
    authority: Arc<Authority>,
    assignments: Arc<Assignments>,
    load: Arc<LocalLoad>,
    peers: Arc<dyn PeerNodes>,
    recently_full: Mutex<RecentlyFull>,
}

impl LadderBuilder {
    pub(crate) fn new(
        node: String,
        authority: Arc<Authority>,
        assignments: Arc<Assignments>,
        load: Arc<LocalLoad>,
        peers: Arc<dyn PeerNodes>,
    ) -> Self {
        Self { node, authority, assignments, load, peers, recently_full: Mutex::default() }
    }

    /// Notes whether a node that was asked for a seat answered that it is full.
    pub(crate) fn note_answer(&self, node: &str, full: bool) {
        self.recently_full().answered(node, full, Instant::now());
    }

    /// The ladder, recorded on a span: which nodes are asked, in which order, and why the others are not.
    pub(crate) fn build_traced(
        &self,
        room: &RoomId,
        assignment: Option<&Assignment>,
        demand: &Demand,
        findings: &JoinFindings,
    ) -> Ladder {
        let span = tracing::error_span!("placement", steps = Empty, passed_over = Empty, refusal = Empty);
        let ladder = span.in_scope(|| self.build(room, assignment, demand, findings));
        let describe = |row: &Row| format!("{} {} {}", row.node, row.role, row.reason);
        let list = |asked: bool| {
            let rows = ladder.table.iter().filter(|row| row.rank.is_some() == asked).map(describe);
            rows.collect::<Vec<_>>().join(", ")
        };
        span.record("steps", list(true)).record("passed_over", list(false));
        if let Some(refusal) = &ladder.refusal {
            span.record("refusal", refusal.reason.as_str());
        }
        ladder
    }

    /// The ladder for the room's present state, and for what this join has found out.
    pub(crate) fn build(
        &self,
        room: &RoomId,
        assignment: Option<&Assignment>,
        demand: &Demand,
        findings: &JoinFindings,
    ) -> Ladder {
        let mut candidates = self.candidates(room, assignment, findings);
        // A node that answered "full" after its last load report counts as full.
        self.recently_full().adjust(&mut candidates, Instant::now());
        let room = RoomToPlace {
            institution: room.institution.clone(),
            tag: room.tag.clone(),
            assignment: assignment.map(|assignment| CarryingNodes {
                home: assignment.home.to_string(),
                spill: assignment.spill.iter().map(ToString::to_string).collect(),
            }),
        };
        let proposal = propose(&room, demand, &candidates);
        let not_home = findings.not_home.clone();
        Ladder { proposal, candidates, carried_by: room.assignment, not_home }
    }

    /// Every node of the directories, with what this node knows of it.
    fn candidates(
        &self,
        room: &RoomId,
        assignment: Option<&Assignment>,
        findings: &JoinFindings,
    ) -> Vec<NodeCandidate> {
        let view = self.assignments.registry().view();
        let decide = |action, node: &str| {
            let decision = self.authority.node(action, room, node);
            let new = !assignment.is_some_and(|assignment| assignment.has(node));
            // Such a node is like one that policy does not approve, until a newer document is published.
            if decision.allowed
                && new
                && let Some(overdue) = self.authority.renewal_overdue(room, node)
            {
                return RoleDecision { allowed: false, tier: None, rules: Vec::new(), why: overdue.sentence };
            }
            RoleDecision {
                allowed: decision.allowed,
                tier: decision.tier,
                rules: decision.rules.iter().map(ToString::to_string).collect(),
                why: decision.why,
            }
        };
        let without_key = |decision: RoleDecision, node: &str| {
            if !findings.not_home.contains(node) {
                return decision;
            }
            let why = format!("{node} holds no room key of {}, so it cannot be home", room.institution);
            RoleDecision { allowed: false, why, ..decision }
        };
        let now_ms = unix_ms();
        let nodes = self.authority.nodes();
        nodes
            .iter()
            .map(|facts| {
                let lease = view.node(&facts.id);
                let load = if facts.id == self.node {
                    self.load.load()
                } else {
                    lease
                        .map(|lease| LoadReport {
                            participants: lease.load.participants,
                            capacity: lease.load.capacity,
                            cpu_permille: lease.load.cpu_permille,
                            age_ms: now_ms.saturating_sub(lease.load.at_ms),
                        })
                        .unwrap_or(LoadReport::UNKNOWN)
                };
                NodeCandidate {
                    node: facts.id.clone(),
                    load,
                    draining: findings.draining.contains(&facts.id)
                        || if facts.id == self.node {
                            self.load.is_draining()
                        } else {
                            lease.is_some_and(|lease| lease.draining)
                        },
                    // A node whose link is up, or that answers, is alive even without a lease.
                    alive: !findings.silent.contains(&facts.id)
                        && (facts.id == self.node
                            || lease.is_some()
                            || self.peers.is_up(&facts.id)
                            || self.assignments.answers(&facts.id)),
                    home: without_key(decide(Action::Home, &facts.id), &facts.id),
                    spill: decide(Action::Spill, &facts.id),
                }
            })
            .collect()
    }

    /// Where participants of the room, and its home role, can go if this node drains.
    pub(crate) fn ways_out(&self, room: &RoomId) -> WaysOut {
        let assignment = self.assignments.get(room);
        let mut candidates = self.candidates(room, assignment.as_ref(), &JoinFindings::default());
        self.recently_full().adjust(&mut candidates, Instant::now());
        let others = candidates.iter().filter(|node| node.node != self.node && node.alive && !node.draining);
        let is_gateway = |node: &str| self.authority.node(Action::RelaySignal, room, node).allowed;
        WaysOut::new(
            others,
            &self.assignments.listed_successors(room),
            |node| assignment.as_ref().and_then(|known| known.role_of(node)),
            is_gateway,
            self.authority.node(Action::Spill, room, &self.node).allowed,
        )
    }

    /// The table of `systirctl explain`: every node with the policy decision on it and the reason.
    pub(crate) fn explain(&self, room: &RoomId) -> Value {
        let known = self.assignments.get(room);
        let Ladder { proposal, .. } =
            self.build(room, known.as_ref(), &Demand::default(), &JoinFindings::default());
        let view = self.assignments.registry().view();
        let rows: Vec<Value> = proposal
            .table
            .iter()
            .map(|row| {
                let decision = self.authority.node(row.role.into(), room, &row.node);
                let load = view.node(&row.node).map(|lease| &lease.load);
                let load = load.map(|load| format!("{} of {}", load.participants, load.capacity));
                json!({
                    "node": row.node,
                    "role": row.role.as_str(),
                    "rank": row.rank.map(|rank| rank + 1),
                    "reason": row.reason.as_str(),
                    "why": row.sentence,
                    "decision": if decision.allowed { "allow" } else { "deny" },
                    "rules": decision.rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "load": load.unwrap_or_else(|| "-".to_owned()),
                })
            })
            .collect();
        json!({
            "room": self.authority.room_keys().name(room),
            "institution": room.institution,
            "assignment": known.map(|known| json!({
                "home": known.home,
                "spill": known.spill,
                "epoch": known.epoch,
                "policy_version": known.policy_version,
            })),
            "candidates": rows,
            "refusal": proposal.refusal.map(|refusal| {
                json!({"reason": refusal.reason.as_str(), "sentence": refusal.sentence})
            }),
        })
    }

    fn recently_full(&self) -> MutexGuard<'_, RecentlyFull> {
        self.recently_full.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
