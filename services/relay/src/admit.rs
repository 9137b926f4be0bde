//! The way of a join, from this front door to a seat: policy, assignment, the ladder, and one
//! reservation after the other until a node admits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use serde_json::{Value, json};
use systir_placement::{
    Candidate, Demand, Load, Proposal, ReasonCode, Refusal, RefusalReason, Role, RoomFacts, Row, Step,
    Verdict, propose,
};
use systir_policy::{Action, Decision};
use systir_registry::{Assignment, CreateError, RoomId, UpdateError, Versioned};
use tracing::Instrument as _;
use tracing::field::{Empty, display};

use crate::node::{NoSeat, Shared};
use crate::reason::Reason;
use crate::trace;

/// A seat that was reserved for a join.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// The node that holds it.
    pub node: String,
    /// The reservation's id.
    pub join_id: String,
    /// The room's assignment, with that node in it.
    pub assignment: Assignment,
    /// Why that node.
    pub reason: ReasonCode,
}

/// Why somebody is not let in; the sentence is for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAdmitted {
    /// HTTP status: 403 for what policy leads to, 503 for what passes by itself.
    pub status: u16,
    /// The same as a word.
    pub code: Reason,
    /// The rules that decided, if it was policy.
    pub rules: String,
    /// What happened and what to do.
    pub sentence: String,
}

impl NotAdmitted {
    pub(crate) fn denied(decision: &Decision) -> Self {
        Self {
            status: 403,
            code: decision.reason.into(),
            rules: trace::rules(decision),
            sentence: decision.why.clone(),
        }
    }

    /// Nobody on the ladder takes the person. LiveKit's browser client shows the words of a 401 or
    /// 403 only, so what the institution's rules lead to is a 403; what passes by itself stays a 503,
    /// after which clients try again.
    fn exhausted(refusal: Refusal) -> Self {
        let Refusal { reason, sentence } = refusal;
        let status = match reason {
            RefusalReason::ApprovedFull | RefusalReason::NoApprovedNode => 403,
            RefusalReason::ApprovedUnavailable | RefusalReason::NoHome | RefusalReason::HomeAway => 503,
        };
        Self { status, code: reason.into(), rules: String::new(), sentence }
    }

    /// What passes by itself.
    pub(crate) fn unavailable(code: Reason, sentence: impl Into<String>) -> Self {
        Self { status: 503, code, rules: String::new(), sentence: sentence.into() }
    }
}

/// How often a lost race for the assignment is run again.
const RACES: usize = 5;

/// May this node see signalling of the institution's rooms: tokens, names, where a room is?
pub(crate) fn may_signal(shared: &Shared, institution: &str) -> Result<(), NotAdmitted> {
    let door = shared.authority.node(Action::RelaySignal, institution, &shared.name);
    trace::decision(&shared.name, Action::RelaySignal, &door);
    if door.allowed { Ok(()) } else { Err(NotAdmitted::denied(&door)) }
}

/// May this front door see the room's signalling, and may this person join? Asked before
/// anything else, and again by whoever only wants to know (`/rtc/validate`).
pub(crate) fn may_enter(shared: &Shared, institution: &str) -> Result<(), NotAdmitted> {
    may_signal(shared, institution)?;
    let person = shared.authority.person(Action::Join, institution, institution);
    trace::decision(&shared.name, Action::Join, &person);
    if !person.allowed {
        return Err(NotAdmitted::denied(&person));
    }
    Ok(())
}

/// Finds a seat.
pub(crate) async fn admit(
    shared: &Arc<Shared>,
    room: &RoomId,
    identity: &str,
    demand: &Demand,
) -> Result<Seat, NotAdmitted> {
    may_enter(shared, &room.institution)?;
    let join_id = format!("{:016x}{:016x}", rand::rng().next_u64(), rand::rng().next_u64());
    let known = shared.registry.assignment(room);
    let proposal = placed(shared, room, known.as_ref().map(|known| &known.value), demand);
    let span = tracing::error_span!("assignment", created = known.is_none(), home = Empty, epoch = Empty);
    let assignment = match known {
        Some(known) => succeed(shared, known, &proposal).instrument(span.clone()).await,
        None => create(shared, room, &proposal).instrument(span.clone()).await?,
    };
    span.record("home", display(&assignment.value.home)).record("epoch", assignment.value.epoch);
    drop(span);
    // Whoever won the race for the room may have another home than we proposed.
    let proposal = if Some(&assignment.value.home.to_string()) == proposal.home.as_ref() {
        proposal
    } else {
        placed(shared, room, Some(&assignment.value), demand)
    };
    let mut answered = false;
    for step in &proposal.steps {
        let span = trace::reserve(&step.node, step.role.as_str(), step.reason.as_str());
        let asked =
            reserve(shared, &assignment.value, step, identity, &join_id).instrument(span.clone()).await;
        span.record("outcome", if asked.is_ok() { "admitted" } else { "refused" });
        drop(span);
        shared.metrics.step(step.role.as_str(), step.reason.into(), asked.is_ok());
        answered |= !matches!(asked, Err(NoSeat::Silent(_)));
        if let Err(why) = asked {
            tracing::info!(node = step.node, role = %step.role, %why, "asked for a seat and refused");
            continue;
        }
        match ensure_assigned(shared, assignment.clone(), step).await {
            Ok(assignment) => {
                tracing::info!(to = step.node, reason = step.reason.as_str(), "a join was placed");
                return Ok(Seat { node: step.node.clone(), join_id, assignment, reason: step.reason });
            }
            Err(why) => {
                tracing::warn!(
                    node = step.node,
                    why,
                    "the seat is given back: the node could not be assigned"
                );
                release(shared, room, &step.node, &join_id).await;
            }
        }
    }
    let refusal = if answered { proposal.exhausted() } else { proposal.unreachable() };
    shared.metrics.step("refuse", refusal.reason.into(), false);
    for row in &proposal.table {
        tracing::info!(node = row.node, reason = row.reason.as_str(), why = row.sentence, "not placed");
    }
    Err(NotAdmitted::exhausted(refusal))
}

/// The ladder, as a span: who is asked in which order, and why nobody is.
fn placed(shared: &Shared, room: &RoomId, assignment: Option<&Assignment>, demand: &Demand) -> Proposal {
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

async fn create(
    shared: &Arc<Shared>,
    room: &RoomId,
    proposal: &Proposal,
) -> Result<Versioned<Assignment>, NotAdmitted> {
    let Some(home) = &proposal.home else {
        return Err(NotAdmitted::exhausted(proposal.exhausted()));
    };
    let policy_version = shared
        .authority
        .node(Action::Home, &room.institution, home)
        .policy_version
        .map(|version| version.to_string())
        .unwrap_or_default();
    let sid = crate::ids::room_sid(&mut rand::rng());
    let assignment =
        Assignment::new(room.clone(), sid, home.as_str().into(), policy_version, crate::ids::unix_ms());
    match shared.registry.create(assignment).await {
        Ok(created) => Ok(created),
        Err(CreateError::AlreadyAssigned(existing)) => Ok(*existing),
        Err(CreateError::Registry(error)) => Err(NotAdmitted::unavailable(
            Reason::RegistryAway,
            format!(
                "This meeting cannot be started now, because the cluster's registry does not answer ({error}). Meetings that run already go on; try again in a minute."
            ),
        )),
    }
}

/// A home that is away, or that policy denies, is replaced by the one that was proposed. In the
/// newer epoch nothing counts that the old one may still write; should it live and have people, it
/// comes back as a spill node.
async fn succeed(
    shared: &Arc<Shared>,
    known: Versioned<Assignment>,
    proposal: &Proposal,
) -> Versioned<Assignment> {
    let home = known.value.home.as_str();
    let Some(successor) = proposal.home.as_deref().filter(|successor| *successor != home) else {
        return known;
    };
    // Without the store's word a missing lease proves nothing.
    if shared.registry.view().away_since().is_some() {
        return known;
    }
    let institution = &known.value.room.institution;
    let mut wanted = known.value.clone();
    wanted.take_over(successor.into(), crate::ids::unix_ms());
    wanted.spill.retain(|node| shared.authority.node(Action::Spill, institution, node.as_str()).allowed);
    match shared.registry.update(&known, wanted).await {
        Ok(written) => {
            shared.metrics.takeovers.inc();
            tracing::warn!(from = home, to = successor, "a room's home is away, and another node takes over");
            written
        }
        Err(UpdateError::Conflict(current)) => *current,
        Err(error) => {
            tracing::warn!(%error, "a room's home is away, and no other can be written down");
            known
        }
    }
}

/// A spill node is written into the assignment before anyone is sent there.
async fn ensure_assigned(
    shared: &Arc<Shared>,
    mut known: Versioned<Assignment>,
    step: &Step,
) -> Result<Assignment, String> {
    for _ in 0..RACES {
        if known.value.has(&step.node) {
            return Ok(known.value);
        }
        let mut wanted = known.value.clone();
        wanted.add_spill(step.node.as_str().into(), crate::ids::unix_ms());
        match shared.registry.update(&known, wanted).await {
            Ok(written) => return Ok(written.value),
            Err(UpdateError::Conflict(current)) => known = *current,
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("others kept changing the assignment".to_owned())
}

async fn reserve(
    shared: &Arc<Shared>,
    assignment: &Assignment,
    step: &Step,
    identity: &str,
    join_id: &str,
) -> Result<(), NoSeat> {
    // Whoever is asked for a seat is approved at this moment, by this node's own policy.
    let action = if step.role == Role::Home { Action::Home } else { Action::Spill };
    let decision = shared.authority.node(action, &assignment.room.institution, &step.node);
    tracing::Span::current().record("rules", trace::rules(&decision));
    trace::decision(&step.node, action, &decision);
    if !decision.allowed {
        return Err(NoSeat::Refused(decision.why));
    }
    if step.node == shared.name {
        return shared.reserve_seat(&assignment.room, identity, join_id).map_err(NoSeat::Refused);
    }
    shared.reserve_there(assignment, &step.node, identity, join_id).await
}

/// Gives a seat back, here or at another node; best effort, since it lapses by itself.
pub(crate) async fn release(shared: &Arc<Shared>, room: &RoomId, node: &str, join_id: &str) {
    if node == shared.name {
        shared.release_here(join_id);
    } else {
        shared.release_there(room, node, join_id).await;
    }
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
    let candidates: Vec<Candidate> = shared
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

/// Seats whose reservations ran out are given back without anybody asking.
pub(crate) async fn expire_reservations(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shared.expire(Instant::now());
    }
}

/// Would a join find a seat now? The nodes are really asked, and what they gave is given back.
pub(crate) async fn would_admit(
    shared: &Arc<Shared>,
    room: &RoomId,
    identity: &str,
    demand: &Demand,
) -> Result<(), NotAdmitted> {
    may_enter(shared, &room.institution)?;
    // Whoever has a token that names no seat yet gets the reason that a join would get; a room that
    // nobody is in is not assigned just because somebody asked.
    let known = shared.registry.assignment(room).map(|known| known.value);
    let proposal = ladder(shared, room, known.as_ref(), demand);
    let Some(known) = known else {
        return match proposal.refusal {
            None => Ok(()),
            Some(refusal) => Err(NotAdmitted::exhausted(refusal)),
        };
    };
    let join_id = format!("{:016x}{:016x}", rand::rng().next_u64(), rand::rng().next_u64());
    let mut answered = false;
    for step in &proposal.steps {
        let asked = reserve(shared, &known, step, identity, &join_id).await;
        answered |= !matches!(asked, Err(NoSeat::Silent(_)));
        if asked.is_ok() {
            release(shared, room, &step.node, &join_id).await;
            return Ok(());
        }
    }
    let refusal = if answered { proposal.exhausted() } else { proposal.unreachable() };
    Err(NotAdmitted::exhausted(refusal))
}
