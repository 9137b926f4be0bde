//! Placement's question, from what this node knows: every node of the operator's file, what its
//! lease says, and what policy decides about it.

use serde_json::{Value, json};
use systir_assignment::{Assignment, RoomId};
use systir_placement::{Candidate, Demand, Load, Proposal, Role, RoomFacts, Row, Verdict, propose};
use systir_policy::Action;
use tracing::field::Empty;

use crate::node::Shared;

/// The ladder, as a span: who is asked in which order, and why nobody is.
pub(crate) fn placed(
    shared: &Shared,
    room: &RoomId,
    assignment: Option<&Assignment>,
    demand: &Demand,
) -> Proposal {
    let span = tracing::error_span!("placement", steps = Empty, passed_over = Empty, refusal = Empty);
    let proposal = span.in_scope(|| ladder(shared, room, assignment, demand));
    let words = |row: &Row| format!("{} {} {}", row.node, row.role, row.reason);
    let list = |asked: bool| {
        let rows = proposal.table.iter().filter(|row| row.rank.is_some() == asked).map(words);
        rows.collect::<Vec<_>>().join(", ")
    };
    span.record("steps", list(true)).record("passed_over", list(false));
    if let Some(refusal) = &proposal.refusal {
        span.record("refusal", refusal.reason.as_str());
    }
    proposal
}

/// The ladder for the room as it stands.
pub(crate) fn ladder(
    shared: &Shared,
    room: &RoomId,
    assignment: Option<&Assignment>,
    demand: &Demand,
) -> Proposal {
    let view = shared.registry.view();
    let verdict = |action, node: &str| {
        let decision = shared.authority.node(action, &room.institution, node);
        Verdict {
            allowed: decision.allowed,
            tier: decision.tier,
            rules: decision.rules.iter().map(ToString::to_string).collect(),
            why: decision.why,
        }
    };
    let mut candidates: Vec<Candidate> = shared
        .authority
        .nodes()
        .map(|facts| {
            let lease = view.node(&facts.id);
            let load = if facts.id == shared.name {
                shared.load_here()
            } else {
                lease
                    .map(|lease| Load {
                        participants: lease.load.participants,
                        capacity: lease.load.capacity,
                        cpu_permille: lease.load.cpu_permille,
                        age_ms: crate::ids::unix_ms().saturating_sub(lease.load.at_ms),
                    })
                    .unwrap_or_default()
            };
            Candidate {
                node: facts.id.clone(),
                load,
                draining: lease.is_some_and(|lease| lease.draining),
                // Liveness never depends on etcd alone: a link that is up is proof enough.
                alive: facts.id == shared.name || lease.is_some() || shared.links().is_up(&facts.id),
                home: verdict(Action::Home, &facts.id),
                spill: verdict(Action::Spill, &facts.id),
            }
        })
        .collect();
    shared.believe_heard(&mut candidates);
    let room = RoomFacts {
        institution: room.institution.clone(),
        name: room.name.clone(),
        assignment: assignment.map(|assignment| systir_placement::Assignment {
            home: assignment.home.to_string(),
            spill: assignment.spill.iter().map(ToString::to_string).collect(),
        }),
    };
    propose(&room, demand, &candidates)
}

/// What `systirctl explain` shows: every node, the decision on it and the reason.
pub(crate) fn explain(shared: &Shared, room: &RoomId) -> Value {
    let known = shared.registry.assignment(room).map(|known| known.value);
    let proposal = ladder(shared, room, known.as_ref(), &Demand::default());
    let view = shared.registry.view();
    let rows: Vec<Value> = proposal
        .table
        .iter()
        .map(|row| {
            let action = if row.role == Role::Home { Action::Home } else { Action::Spill };
            let decision = shared.authority.node(action, &room.institution, &row.node);
            let load = view.node(&row.node).map(|lease| &lease.load);
            json!({
                "node": row.node,
                "role": row.role.as_str(),
                "rank": row.rank.map(|rank| rank + 1),
                "reason": row.reason.as_str(),
                "why": row.sentence,
                "decision": if decision.allowed { "allow" } else { "deny" },
                "rules": decision.rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "load": load.map_or_else(|| "-".to_owned(), |load| format!("{} of {}", load.participants, load.capacity)),
            })
        })
        .collect();
    json!({
        "room": room.name,
        "institution": room.institution,
        "assignment": known.map(|known| json!({
            "home": known.home,
            "spill": known.spill,
            "epoch": known.epoch,
            "policy_version": known.policy_version,
        })),
        "candidates": rows,
        "refusal": proposal.refusal.map(|refusal| json!({"reason": refusal.reason.as_str(), "sentence": refusal.sentence})),
    })
}
