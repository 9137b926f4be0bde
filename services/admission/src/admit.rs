//! Finds a seat for a join.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use serde_json::Value;
use systir_assignment::{Assignment, MediaRole, RoomId, Versioned, is_newer_epoch};
use systir_livekit::mint_sid;
use systir_livekit::token::Grants;
use systir_placement::{Demand, Proposal, SeatRequest, Seats, Step};
use systir_policy::{Action, Authority};
use systir_reason::{Reason, Refusal};
use systir_registry::{Assignments, JoinAssignment, NotWritten, RegistryError, unix_ms};
use tracing::Instrument as _;
use tracing::field::{Empty, display};

use crate::join_decision::{self, may_join};
use crate::ladder::LadderBuilder;
use crate::{JoinMetrics, LocalLoad, PeerNodes, ReservationRequest, trace};

/// Time limit of a whole join at its gateway.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a join asks the nodes of a ladder; again when the room's assignment changed meanwhile.
const MAX_ROUNDS: usize = 3;

/// How long a gateway waits for the answer of a home that has no lease: as long as the loss of a link takes to
/// be detected.
const HOME_ANSWER_TIMEOUT: Duration = Duration::from_millis(600);

/// How long a gateway waits for a newer assignment after a node refused because of its epoch.
const NEWER_ASSIGNMENT_WAIT: Duration = Duration::from_secs(1);

/// A seat reserved for a join.
#[derive(Debug, Clone)]
pub struct ReservedSeat {
    /// The node that reserved it.
    pub node: String,
    /// The reservation's id.
    pub join_id: String,
    /// Join number of the last join of the identity that the node knows; 0 for none, and for this node.
    pub last_join: u64,
    /// The room's assignment, which contains the node.
    pub assignment: Assignment,
    /// Why the node was chosen.
    pub reason: Reason,
}

/// Applies a time limit to a join. Seats that it has reserved by then expire.
///
/// # Errors
/// [`Reason::JoinTimeout`] after `limit`, else the join's own refusal.
pub async fn with_time_limit<T>(
    limit: Duration,
    join: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let timed_out = || {
        let sentence = "The join took too long, because servers of this meeting do not answer. \
                        Please try again in a minute.";
        Refusal::new(Reason::JoinTimeout, sentence)
    };
    tokio::time::timeout(limit, join).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Why no node of a ladder gave a seat.
enum LadderFailure {
    /// The room's assignment changed: build the ladder again.
    AssignmentChanged,
    /// All steps failed, for these reasons.
    Refused(Vec<Reason>),
}

/// Admission at one gateway.
#[derive(Debug)]
pub struct Admission {
    node: String,
    authority: Arc<Authority>,
    assignments: Arc<Assignments>,
    peers: Arc<dyn PeerNodes>,
    ladder: LadderBuilder,
    seats: Arc<Seats>,
    metrics: Arc<JoinMetrics>,
}

impl Admission {
    /// Admission at the node `node`.
    #[must_use]
    pub fn new(
        node: &str,
        authority: Arc<Authority>,
        assignments: Arc<Assignments>,
        seats: Arc<Seats>,
        load: Arc<LocalLoad>,
        peers: Arc<dyn PeerNodes>,
        metrics: Arc<JoinMetrics>,
    ) -> Self {
        let node = node.to_owned();
        let ladder =
            LadderBuilder::new(node.clone(), authority.clone(), assignments.clone(), load, peers.clone());
        Self { node, authority, assignments, peers, ladder, seats, metrics }
    }

    /// The metrics of joins.
    #[must_use]
    pub fn metrics(&self) -> &JoinMetrics {
        &self.metrics
    }

    /// May this node see the room's signalling: tokens, names, residency?
    ///
    /// # Errors
    /// The policy decision.
    pub fn may_signal(&self, room: &RoomId) -> Result<(), Refusal> {
        let decision = self.authority.node(Action::RelaySignal, room, &self.node);
        join_decision::traced(&self.node, Action::RelaySignal, &decision)
    }

    /// May this node be a gateway for the institution, where no room is meant: its page, its lists?
    ///
    /// # Errors
    /// The policy decision.
    pub fn may_serve(&self, institution: &str) -> Result<(), Refusal> {
        let decision = self.authority.institution_node(Action::RelaySignal, institution, &self.node);
        join_decision::traced(&self.node, Action::RelaySignal, &decision)
    }

    /// May this gateway see the room's signalling, and may this participant join? Asked first.
    fn may_join(&self, room: &RoomId, grants: &Grants) -> Result<(), Refusal> {
        self.may_signal(room)?;
        may_join(&self.authority, room, grants)
    }

    /// May the node be added to the room now? Always, if it is in the room's record. Otherwise not while the renewal of a
    /// document is overdue that this rests on.
    ///
    /// # Errors
    /// [`Reason::PolicyRenewalOverdue`].
    pub fn may_be_added(&self, room: &RoomId, node: &str) -> Result<(), Refusal> {
        if self.assignments.get(room).is_some_and(|known| known.value.has(node)) {
            return Ok(());
        }
        self.authority.renewal_overdue(room, node).map_or(Ok(()), Err)
    }

    /// May a new room be assigned now?
    fn may_be_created(&self, room: &RoomId) -> Result<(), Refusal> {
        self.authority.renewal_overdue(room, &self.node).map_or(Ok(()), Err)
    }

    /// Reserves a seat for a join and writes its node into the room's assignment. `grants` are those of the participant's
    /// verified token.
    ///
    /// # Errors
    /// The refusal for the participant.
    pub async fn admit(
        &self,
        room: &RoomId,
        grants: &Grants,
        demand: &Demand,
    ) -> Result<ReservedSeat, Refusal> {
        self.may_join(room, grants)?;
        let identity = &grants.identity;
        let join_id = new_join_id();
        let mut round = 1;
        loop {
            let (join, proposal) = self.place(room, demand, identity, &join_id).await?;
            match self.ask_in_order(&join, &proposal, identity, &join_id).await {
                Ok(seat) => return Ok(seat),
                Err(LadderFailure::AssignmentChanged) if round < MAX_ROUNDS => round += 1,
                Err(LadderFailure::AssignmentChanged) => {
                    return Err(self.refused(&proposal, &[Reason::EpochOvertaken]));
                }
                Err(LadderFailure::Refused(answers)) => return Err(self.refused(&proposal, &answers)),
            }
        }
    }

    /// Would a join get a seat now? Asks the nodes for a reservation and releases it. Nothing is written, so
    /// that this question assigns no room.
    ///
    /// # Errors
    /// The refusal that the join would get.
    pub async fn would_admit(&self, room: &RoomId, grants: &Grants, demand: &Demand) -> Result<(), Refusal> {
        self.may_join(room, grants)?;
        let identity = &grants.identity;
        let join_id = new_join_id();
        let known = self.assignments.get(room);
        if known.is_none() {
            self.may_be_created(room)?;
        }
        let mut proposal = self.ladder.build(room, known.as_ref().map(|known| &known.value), demand);
        if let Some(known) = &known
            && self.home_answers(known, &proposal, identity, &join_id).await
        {
            proposal = self.ladder.build(room, Some(&known.value), demand);
        }
        let join = match (known, &proposal.home) {
            (Some(known), _) => JoinAssignment::Written(known),
            (None, Some(home)) => JoinAssignment::New(self.new_assignment(room, home)),
            (None, None) => return Err(proposal.refused(&[])),
        };
        // A join would let another home take over first, whose role no written assignment has yet.
        let takes_over = proposal.home.as_deref().is_some_and(|home| join.assignment().home != *home);
        let epoch = if takes_over { 0 } else { join.epoch() };
        let unavailable = self.assignments.registry().view().unavailable_since().is_some();
        let mut answers = Vec::new();
        for step in &proposal.steps {
            match self.reserve(&join, epoch, step, identity, &join_id).await {
                Ok(_) => {
                    self.release(room, &step.node, &join_id).await;
                    if !unavailable || join.has(&step.node) {
                        return Ok(());
                    }
                    answers.push(Reason::RegistryUnavailable);
                }
                Err(refusal) => answers.push(refusal.reason),
            }
        }
        Err(proposal.refused(&answers))
    }

    /// Releases a seat, here or at another node. Best effort: a reservation also expires.
    pub async fn release(&self, room: &RoomId, node: &str, join_id: &str) {
        if node == self.node {
            self.seats.release(join_id);
        } else {
            self.peers.release(node, room, join_id).await;
        }
    }

    /// Reserves a seat on this node. The caller has already asked policy whether the node may carry the room, and
    /// [`Admission::may_be_added`].
    ///
    /// # Errors
    /// The refusal of the seat book; it is counted in the metrics.
    pub fn reserve_here(&self, room: &RoomId, identity: &str, join_id: &str) -> Result<(), Refusal> {
        let request = SeatRequest { institution: &room.institution, room: &room.key(), identity, join_id };
        let reserved = self.seats.reserve(request, Instant::now());
        reserved.inspect_err(|refusal| self.metrics.reservation_refused(refusal.reason))
    }

    /// A new assignment with this home, for a room that has none.
    #[must_use]
    pub fn new_assignment(&self, room: &RoomId, home: &str) -> Assignment {
        let decision = self.authority.node(Action::Home, room, home);
        let version = decision.policy_version.map(|version| version.to_string()).unwrap_or_default();
        let sid = mint_sid("RM_", &mut rand::rng());
        Assignment::new(room.clone(), sid, home.into(), version, unix_ms())
    }

    /// The assignment to use for the join, and the ladder. Takes over the room if its home must be replaced.
    async fn place(
        &self,
        room: &RoomId,
        demand: &Demand,
        identity: &str,
        join_id: &str,
    ) -> Result<(JoinAssignment, Proposal), Refusal> {
        let known = self.assignments.get(room);
        if known.is_none() {
            self.may_be_created(room)?;
        }
        let mut proposal = self.ladder.build_traced(room, known.as_ref().map(|known| &known.value), demand);
        let Some(known) = known else {
            let Some(home) = &proposal.home else { return Err(self.refused(&proposal, &[])) };
            return Ok((JoinAssignment::New(self.new_assignment(room, home)), proposal));
        };
        if self.home_answers(&known, &proposal, identity, join_id).await {
            proposal = self.ladder.build_traced(room, Some(&known.value), demand);
        }
        let known = match &proposal.home {
            Some(successor) => {
                let approves_spill = |node: &str| self.authority.node(Action::Spill, room, node).allowed;
                self.assignments.take_over(known, successor, approves_spill).await
            }
            None => known,
        };
        // Another gateway may have made another node home meanwhile.
        let proposal = if Some(known.value.home.as_str()) == proposal.home.as_deref() {
            proposal
        } else {
            self.ladder.build_traced(room, Some(&known.value), demand)
        };
        Ok((JoinAssignment::Written(known), proposal))
    }

    /// Asks the room's home, which has no lease, for a seat at its last known address, before anything follows
    /// from that: the lease may have lapsed or been deleted while the home carries the room. True when it
    /// answers, with whatever; it then counts as alive. Not asked when policy denies the home or it answered
    /// nothing lately.
    async fn home_answers(
        &self,
        known: &Versioned<Assignment>,
        proposal: &Proposal,
        identity: &str,
        join_id: &str,
    ) -> bool {
        let home = known.value.home.as_str();
        let offline = proposal.table.iter().any(|row| row.node == home && row.reason == Reason::NoLease);
        let replaced = proposal.home.as_deref() != Some(home);
        if !(offline || replaced) || self.ladder.home_answered(home).is_some() {
            return false;
        }
        let room = &known.value.room;
        if self.node == home || !self.authority.node(Action::Home, room, home).allowed {
            return false;
        }
        let join = JoinAssignment::Written(known.clone());
        let step = Step { node: home.to_owned(), role: MediaRole::Home, reason: Reason::Home };
        let asked = self.reserve(&join, join.epoch(), &step, identity, join_id);
        let answered = match tokio::time::timeout(HOME_ANSWER_TIMEOUT, asked).await {
            Ok(Ok(_)) => {
                self.release(room, home, join_id).await;
                true
            }
            Ok(Err(refusal)) => refusal.reason != Reason::NoAnswer,
            Err(_) => false,
        };
        tracing::info!(home, answered, "asked a home without a lease whether it is alive");
        self.ladder.note_home_answer(home, answered);
        answered
    }

    /// Asks one node after the other. The first that admits is written into the assignment.
    async fn ask_in_order(
        &self,
        join: &JoinAssignment,
        proposal: &Proposal,
        identity: &str,
        join_id: &str,
    ) -> Result<ReservedSeat, LadderFailure> {
        let room = &join.assignment().room;
        let mut answers = Vec::new();
        for step in &proposal.steps {
            // After a failed write, another one would probably fail after the same delay.
            let unwritable = [Reason::RegistryUnavailable, Reason::RegistryRefuses]
                .iter()
                .any(|reason| answers.contains(reason));
            if unwritable && !join.has(&step.node) {
                continue;
            }
            let span = trace::reserve(&step.node, step.role.as_str(), step.reason.as_str());
            let asked =
                self.reserve(join, join.epoch(), step, identity, join_id).instrument(span.clone()).await;
            span.record("outcome", if asked.is_ok() { "admitted" } else { "refused" });
            drop(span);
            self.metrics.step(step.role.as_str(), step.reason, asked.is_ok());
            let last_join = *asked.as_ref().unwrap_or(&0);
            if let Err(refusal) = asked {
                tracing::info!(
                    node = step.node,
                    role = %step.role,
                    why = refusal.sentence,
                    "a node refused a reservation"
                );
                if refusal.reason == Reason::EpochOvertaken && self.receives_newer_assignment(join).await {
                    return Err(LadderFailure::AssignmentChanged);
                }
                answers.push(refusal.reason);
                // Another node would give this token what it may not have.
                if refusal.reason == Reason::IdentityQuota {
                    break;
                }
                continue;
            }
            match self.assign(join, step).await {
                Ok(assignment) => {
                    tracing::info!(to = step.node, reason = step.reason.as_str(), "a join was placed");
                    let (node, join_id) = (step.node.clone(), join_id.to_owned());
                    let reason = step.reason;
                    return Ok(ReservedSeat { node, join_id, last_join, assignment, reason });
                }
                Err(why) => {
                    tracing::warn!(node = step.node, %why, "released a seat: the node could not be assigned");
                    self.release(room, &step.node, join_id).await;
                    answers.push(match why {
                        NotWritten::Overtaken => return Err(LadderFailure::AssignmentChanged),
                        NotWritten::Registry(RegistryError::Unavailable(_)) => Reason::RegistryUnavailable,
                        NotWritten::Registry(RegistryError::Refused(_)) => Reason::RegistryRefuses,
                    });
                }
            }
        }
        Err(LadderFailure::Refused(answers))
    }

    async fn assign(&self, join: &JoinAssignment, step: &Step) -> Result<Assignment, NotWritten> {
        let created = matches!(join, JoinAssignment::New(_));
        let span = tracing::error_span!("assignment", created, home = Empty, epoch = Empty);
        let written = self.assignments.add_node(join, &step.node).instrument(span.clone()).await?.value;
        span.record("home", display(&written.home)).record("epoch", written.epoch);
        Ok(written)
    }

    /// Another node knows a newer assignment. Does it reach this node's copy in time?
    async fn receives_newer_assignment(&self, join: &JoinAssignment) -> bool {
        let (room, epoch) = (&join.assignment().room, join.epoch());
        let mut view = self.assignments.registry().watch();
        let newer = view
            .wait_for(|view| view.room(room).is_none_or(|known| is_newer_epoch(known.value.epoch, epoch)));
        tokio::time::timeout(NEWER_ASSIGNMENT_WAIT, newer).await.is_ok_and(|found| found.is_ok())
    }

    fn refused(&self, proposal: &Proposal, answers: &[Reason]) -> Refusal {
        let refusal = proposal.refused(answers);
        self.metrics.step("refuse", refusal.reason, false);
        for row in &proposal.table {
            tracing::info!(
                node = row.node,
                reason = row.reason.as_str(),
                why = row.sentence,
                "a row of the placement table of a refused join"
            );
        }
        refusal
    }

    async fn reserve(
        &self,
        join: &JoinAssignment,
        epoch: u64,
        step: &Step,
        identity: &str,
        join_id: &str,
    ) -> Result<u64, Refusal> {
        // Policy is asked again just before the request: it may have changed since the ladder was built.
        let action = step.role.into();
        let assignment = join.assignment();
        let room = &assignment.room;
        let decision = self.authority.node(action, room, &step.node);
        tracing::Span::current().record("rules", trace::rules(&decision));
        trace::decision(&step.node, action, &decision);
        if !decision.allowed {
            return Err(Refusal { reason: Reason::PolicyDenied, ..decision.refusal() });
        }
        self.may_be_added(room, &step.node)?;
        if step.node == self.node {
            return self.reserve_here(room, identity, join_id).map(|()| 0);
        }
        let request = ReservationRequest {
            room: room.clone(),
            identity: identity.to_owned(),
            join_id: join_id.to_owned(),
            epoch,
            policy_version: assignment.policy_number(),
            role: step.role,
        };
        let asked = self.peers.reserve(&step.node, request).await;
        let full = asked.as_ref().is_err_and(|refusal| refusal.reason == Reason::Full);
        self.ladder.note_answer(&step.node, full);
        asked
    }

    /// The table of `systirctl explain`: every node with the policy decision on it and the reason.
    #[must_use]
    pub fn explain(&self, room: &RoomId) -> Value {
        self.ladder.explain(room)
    }
}

fn new_join_id() -> String {
    format!("{:016x}{:016x}", rand::rng().next_u64(), rand::rng().next_u64())
}
