//! The way of a join, from this front door to a seat: policy, the ladder, one reservation after the
//! other until a node admits, and that node's place in the room's record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use systir_assignment::{Assignment, RoomId};
use systir_placement::{Answer, Demand, Proposal, ReasonCode, Refusal, RefusalReason, Role, Step};
use systir_policy::{Action, Decision};
use systir_registry::RegistryError;
use tracing::Instrument as _;
use tracing::field::{Empty, display};

use crate::assign::{NotWritten, Record, succeed, write_down};
use crate::ladder::{ladder, placed};
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
    fn refused(refusal: Refusal) -> Self {
        let Refusal { reason, sentence } = refusal;
        let status = match reason {
            RefusalReason::ApprovedFull | RefusalReason::NoApprovedNode | RefusalReason::RulesDiffer => 403,
            RefusalReason::ApprovedUnavailable
            | RefusalReason::NoHome
            | RefusalReason::HomeAway
            | RefusalReason::RegistryAway
            | RefusalReason::RegistryRefuses => 503,
        };
        Self { status, code: reason.into(), rules: String::new(), sentence }
    }

    fn too_slow() -> Self {
        let sentence = "No place was found for you in time, because servers of this meeting do not answer. \
                        Please try again in a minute.";
        Self::unavailable(Reason::JoinTimeout, sentence)
    }

    /// What passes by itself.
    pub(crate) fn unavailable(code: Reason, sentence: impl Into<String>) -> Self {
        Self { status: 503, code, rules: String::new(), sentence: sentence.into() }
    }
}

/// How long somebody waits at the front door, whatever does not answer behind it.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// Limits a whole join. What was reserved until then lapses by itself.
pub(crate) async fn within<T>(
    limit: Duration,
    join: impl Future<Output = Result<T, NotAdmitted>>,
) -> Result<T, NotAdmitted> {
    tokio::time::timeout(limit, join).await.unwrap_or_else(|_| Err(NotAdmitted::too_slow()))
}

/// How often it is thought over whom to ask, because the room's record changed meanwhile.
const ROUNDS: usize = 3;

/// How long a front door waits for the record by which another node refused it.
const NEWS: Duration = Duration::from_secs(1);

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

/// Why a round of asking led to no seat.
enum NoPlace {
    /// The record changed: ask anew.
    Again,
    /// These were the answers.
    Nobody(Vec<Answer>),
}

/// Finds a seat.
pub(crate) async fn admit(
    shared: &Arc<Shared>,
    room: &RoomId,
    identity: &str,
    demand: &Demand,
) -> Result<Seat, NotAdmitted> {
    may_enter(shared, &room.institution)?;
    let join_id = new_join_id();
    let mut round = 1;
    loop {
        let (record, proposal) = think(shared, room, demand).await?;
        match climb(shared, &record, &proposal, identity, &join_id).await {
            Ok(seat) => return Ok(seat),
            Err(NoPlace::Again) if round < ROUNDS => round += 1,
            Err(NoPlace::Again) => return Err(nobody(shared, &proposal, &[Answer::Overtaken])),
            Err(NoPlace::Nobody(answers)) => return Err(nobody(shared, &proposal, &answers)),
        }
    }
}

fn new_join_id() -> String {
    format!("{:016x}{:016x}", rand::rng().next_u64(), rand::rng().next_u64())
}

/// The record to go by, and whom to ask.
async fn think(
    shared: &Arc<Shared>,
    room: &RoomId,
    demand: &Demand,
) -> Result<(Record, Proposal), NotAdmitted> {
    let known = shared.registry.assignment(room);
    let proposal = placed(shared, room, known.as_ref().map(|known| &known.value), demand);
    let Some(known) = known else {
        let Some(home) = &proposal.home else { return Err(nobody(shared, &proposal, &[])) };
        return Ok((Record::new(shared, room, home), proposal));
    };
    let known = succeed(shared, known, &proposal).await;
    // Whoever was faster may have made another node home than we proposed.
    let proposal = if Some(known.value.home.as_str()) == proposal.home.as_deref() {
        proposal
    } else {
        placed(shared, room, Some(&known.value), demand)
    };
    Ok((Record::Written(known), proposal))
}

/// Asks one node after the other; the first that has a seat comes into the record.
async fn climb(
    shared: &Arc<Shared>,
    record: &Record,
    proposal: &Proposal,
    identity: &str,
    join_id: &str,
) -> Result<Seat, NoPlace> {
    let room = &record.assignment().room;
    let mut answers = Vec::new();
    for step in &proposal.steps {
        // Where one write failed another would only take as long to fail.
        let unwritable =
            [Answer::RegistryAway, Answer::RegistryRefuses].iter().any(|no| answers.contains(no));
        if unwritable && !record.has(&step.node) {
            continue;
        }
        let span = trace::reserve(&step.node, step.role.as_str(), step.reason.as_str());
        let asked = reserve(shared, record, step, identity, join_id).instrument(span.clone()).await;
        span.record("outcome", if asked.is_ok() { "admitted" } else { "refused" });
        drop(span);
        shared.metrics.step(step.role.as_str(), step.reason.into(), asked.is_ok());
        if let Err(NoSeat { answer, why }) = asked {
            tracing::info!(node = step.node, role = %step.role, why, "asked for a seat and refused");
            if answer == Answer::Overtaken && news(shared, record).await {
                return Err(NoPlace::Again);
            }
            answers.push(answer);
            continue;
        }
        match assign(shared, record, step).await {
            Ok(assignment) => {
                tracing::info!(to = step.node, reason = step.reason.as_str(), "a join was placed");
                let (node, join_id) = (step.node.clone(), join_id.to_owned());
                return Ok(Seat { node, join_id, assignment, reason: step.reason });
            }
            Err(why) => {
                tracing::warn!(node = step.node, %why, "the seat is given back: the node could not be assigned");
                release(shared, room, &step.node, join_id).await;
                answers.push(match why {
                    NotWritten::Overtaken => return Err(NoPlace::Again),
                    NotWritten::Registry(RegistryError::Unavailable(_)) => Answer::RegistryAway,
                    NotWritten::Registry(RegistryError::Refused(_)) => Answer::RegistryRefuses,
                });
            }
        }
    }
    Err(NoPlace::Nobody(answers))
}

async fn assign(shared: &Arc<Shared>, record: &Record, step: &Step) -> Result<Assignment, NotWritten> {
    let created = matches!(record, Record::New(_));
    let span = tracing::error_span!("assignment", created, home = Empty, epoch = Empty);
    let written = write_down(shared, record, &step.node).instrument(span.clone()).await?.value;
    span.record("home", display(&written.home)).record("epoch", written.epoch);
    Ok(written)
}

/// Another node knows a newer record than this one. Does this one hear of it, too?
async fn news(shared: &Shared, record: &Record) -> bool {
    let (room, epoch) = (&record.assignment().room, record.epoch());
    let mut view = shared.registry.watch();
    let newer = view.wait_for(|view| view.room(room).is_none_or(|known| known.value.epoch > epoch));
    tokio::time::timeout(NEWS, newer).await.is_ok_and(|heard| heard.is_ok())
}

fn nobody(shared: &Shared, proposal: &Proposal, answers: &[Answer]) -> NotAdmitted {
    let refusal = proposal.refused(answers);
    shared.metrics.step("refuse", refusal.reason.into(), false);
    for row in &proposal.table {
        tracing::info!(node = row.node, reason = row.reason.as_str(), why = row.sentence, "not placed");
    }
    NotAdmitted::refused(refusal)
}

async fn reserve(
    shared: &Arc<Shared>,
    record: &Record,
    step: &Step,
    identity: &str,
    join_id: &str,
) -> Result<(), NoSeat> {
    // Whoever is asked for a seat is approved at this moment, by this node's own policy.
    let action = if step.role == Role::Home { Action::Home } else { Action::Spill };
    let room = &record.assignment().room;
    let decision = shared.authority.node(action, &room.institution, &step.node);
    tracing::Span::current().record("rules", trace::rules(&decision));
    trace::decision(&step.node, action, &decision);
    if !decision.allowed {
        return Err(NoSeat { answer: Answer::Denied, why: decision.why });
    }
    if step.node == shared.name {
        return shared.reserve_seat(room, identity, join_id).map_err(NoSeat::from);
    }
    let asked = shared.reserve_there(record, &step.node, identity, join_id).await;
    shared.hear(&step.node, &asked);
    asked
}

/// Gives a seat back, here or at another node; best effort, since it lapses by itself.
pub(crate) async fn release(shared: &Arc<Shared>, room: &RoomId, node: &str, join_id: &str) {
    if node == shared.name {
        shared.release_here(join_id);
    } else {
        shared.release_there(room, node, join_id).await;
    }
}

/// Seats whose reservations ran out are given back without anybody asking.
pub(crate) async fn expire_reservations(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shared.expire(Instant::now());
    }
}

/// Would a join find a seat now? The nodes are really asked, and what they gave is given back;
/// nothing is written, so that a room that nobody is in is not assigned just because somebody asked.
pub(crate) async fn would_admit(
    shared: &Arc<Shared>,
    room: &RoomId,
    identity: &str,
    demand: &Demand,
) -> Result<(), NotAdmitted> {
    may_enter(shared, &room.institution)?;
    let known = shared.registry.assignment(room);
    let proposal = ladder(shared, room, known.as_ref().map(|known| &known.value), demand);
    let record = match (known, &proposal.home) {
        (Some(known), _) => Record::Written(known),
        (None, Some(home)) => Record::new(shared, room, home),
        (None, None) => return Err(NotAdmitted::refused(proposal.refused(&[]))),
    };
    let away = shared.registry.view().away_since().is_some();
    let join_id = new_join_id();
    let mut answers = Vec::new();
    for step in &proposal.steps {
        match reserve(shared, &record, step, identity, &join_id).await {
            Ok(()) => {
                release(shared, room, &step.node, &join_id).await;
                if !away || record.has(&step.node) {
                    return Ok(());
                }
                answers.push(Answer::RegistryAway);
            }
            Err(NoSeat { answer, .. }) => answers.push(answer),
        }
    }
    Err(NotAdmitted::refused(proposal.refused(&answers)))
}
