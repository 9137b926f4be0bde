//! Finds a seat for a join.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use serde_json::Value;
use systir_assignment::{Assignment, MediaRole, RoomId};
use systir_grants::{GrantRefusal, GrantRole};
use systir_journal::{AnsweredSeat, DecidedAt};
use systir_livekit::mint_sid;
use systir_livekit::token::Grants;
use systir_placement::{Demand, Proposal, SeatRequest, Seats, Step};
use systir_policy::{Action, Authority, DecidedAction};
use systir_reason::{Reason, Refusal};
use systir_registry::{Assignments, GrantPurpose, HOME_ANSWER_TIMEOUT};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::join_decision::{self, may_join, may_join_in_roles};
use crate::journal::JoinJournal;
use crate::ladder::{JoinFindings, Ladder, LadderBuilder};
use crate::seat_guard::{self, RelayedConnection, SeatGuard};
use crate::ways_out::WaysOut;
use crate::{JoinMetrics, LocalLoad, PeerNodes, RefusedReservation, ReservationRequest, room_lookup, trace};

/// Time limit of a whole join at its gateway.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a join asks the nodes of a ladder; again when the room's assignment changed meanwhile.
const MAX_ROUNDS: usize = 3;

/// How long a gateway waits for a node that shall be home: it may ask the old home, and it writes the room's record.
const MAKE_HOME_TIMEOUT: Duration = Duration::from_secs(3);

/// A seat reserved for a join. It is released when this is dropped, unless [`SeatGuard::keep`] was called.
#[derive(Debug)]
pub struct ReservedSeat {
    /// The node that reserved it.
    pub node: String,
    /// The reservation's id.
    pub join_id: String,
    /// Join number of the last join of the identity that the node knows; 0 for none, and for this node.
    pub last_join: u64,
    /// The room's assignment.
    pub assignment: Assignment,
    /// Why the node was chosen.
    pub reason: Reason,
    /// Releases the seat.
    pub guard: SeatGuard,
}

/// Applies a time limit to a join. Seats that it has reserved by then are released.
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

/// The participant for whom a seat is asked.
#[derive(Debug, Clone, Copy)]
pub struct SeatApplicant<'a> {
    /// The participant's identity.
    pub identity: &'a str,
    /// Connections of the same token to the room on other nodes, as far as this node's room knows.
    pub elsewhere: u32,
    /// The id of the join; empty when nothing is to be reserved.
    pub join_id: &'a str,
}

impl<'a> SeatApplicant<'a> {
    fn seat(self, room: &'a RoomId, key: &'a str) -> SeatRequest<'a> {
        let Self { identity, elsewhere, join_id } = self;
        SeatRequest { institution: &room.institution, room: key, identity, join_id, elsewhere }
    }
}

/// Why no node of a ladder gave a seat.
enum LadderFailure {
    /// Another grant of the room is held than before: build the ladder again.
    AssignmentChanged,
    /// All steps failed, for these reasons.
    Refused(Vec<Reason>),
}

/// Why a join has no node to ask, and the ladder that says so, if one was made.
struct NotPlaced {
    refusal: Refusal,
    ladder: Option<Box<Ladder>>,
}

impl From<Refusal> for NotPlaced {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, ladder: None }
    }
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

    /// The room of the institution with this name: the one that exists, else a new one.
    ///
    /// # Errors
    /// [`Reason::NoRoomKey`] when this node holds no room key of the institution.
    pub fn room(&self, institution: &str, name: &str) -> Result<RoomId, Refusal> {
        room_lookup::room_of(&self.authority, &self.assignments, institution, name)
    }

    /// May this node see the room's signalling: tokens, names, residency?
    ///
    /// # Errors
    /// The policy decision.
    pub fn may_signal(&self, room: &RoomId) -> Result<(), Refusal> {
        let decision = self.authority.node(Action::RelaySignal, room, &self.node);
        join_decision::traced(&self.node, Action::RelaySignal, &decision)
    }

    /// May this gateway send a participant's signalling to the media node? Policy and the grant that is held now decide. An
    /// ended grant counts: a gateway that carries no participant of the room is not told its renewals.
    ///
    /// # Errors
    /// The policy decision, or why the grant does not list the node.
    pub fn may_relay_to(&self, room: &RoomId, node: &str) -> Result<(), Refusal> {
        self.may_signal(room)?;
        let decide = |role: MediaRole| {
            let action = role.into();
            join_decision::traced(node, action, &self.authority.node(action, room, node))
        };
        match self.assignments.role(room, node) {
            Some(role) => decide(role),
            None if self.assignments.note(room).is_empty() => {
                decide(MediaRole::Home).or_else(|_| decide(MediaRole::Spill))
            }
            None => Err(GrantRefusal::NotListed { node: node.to_owned(), role: GrantRole::Spill }.into()),
        }
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

    /// May the node be added to the room now? Always, if it carries the room. Otherwise not while the renewal of a
    /// document is overdue that this rests on.
    ///
    /// # Errors
    /// [`Reason::PolicyRenewalOverdue`].
    pub fn may_be_added(&self, room: &RoomId, node: &str) -> Result<(), Refusal> {
        if self.assignments.get(room).is_some_and(|known| known.has(node)) {
            return Ok(());
        }
        self.authority.renewal_overdue(room, node).map_or(Ok(()), Err)
    }

    /// May a new room be assigned now?
    fn may_be_created(&self, room: &RoomId) -> Result<(), Refusal> {
        self.authority.renewal_overdue(room, &self.node).map_or(Ok(()), Err)
    }

    /// Reserves a seat for a join, at a node that the room's grant and policy allow. `grants` are those of the participant's
    /// verified token. `elsewhere`: connections of the token to the room on other nodes, as far as this node's room knows.
    ///
    /// # Errors
    /// The refusal for the participant.
    pub async fn admit(
        &self,
        room: &RoomId,
        grants: &Grants,
        demand: &Demand,
        elsewhere: u32,
    ) -> Result<ReservedSeat, Refusal> {
        let mut journal = JoinJournal::default();
        let admitted = self.find_seat(room, grants, demand, elsewhere, &mut journal).await;
        journal.record(&self.authority, room, grants, demand, &admitted);
        admitted
    }

    async fn find_seat(
        &self,
        room: &RoomId,
        grants: &Grants,
        demand: &Demand,
        elsewhere: u32,
        journal: &mut JoinJournal,
    ) -> Result<ReservedSeat, Refusal> {
        self.may_signal(room).inspect_err(|_| journal.denied = Some(Action::RelaySignal))?;
        may_join_in_roles(&self.authority, room, grants).map_err(|(action, refusal)| {
            journal.denied = Some(action);
            refusal
        })?;
        let join_id = new_join_id();
        let join = SeatApplicant { identity: &grants.identity, elsewhere, join_id: &join_id };
        let mut findings = JoinFindings::default();
        let mut round = 1;
        loop {
            let placed = self.place(room, demand, &mut findings).await;
            let (assignment, ladder) = placed.map_err(|NotPlaced { refusal, ladder }| {
                journal.ladder = ladder.map(|ladder| *ladder);
                refusal
            })?;
            let asked = self.ask_in_order(&assignment, &ladder, join, &mut journal.answers).await;
            let proposal = &journal.ladder.insert(ladder).proposal;
            match asked {
                Ok(seat) => return Ok(seat),
                Err(LadderFailure::AssignmentChanged) if round < MAX_ROUNDS => round += 1,
                Err(LadderFailure::AssignmentChanged) => {
                    return Err(self.refused(proposal, &[Reason::EpochOvertaken]));
                }
                Err(LadderFailure::Refused(answers)) => return Err(self.refused(proposal, &answers)),
            }
        }
    }

    /// Would a join get a seat now? Nothing is reserved, no room is created for this question, and no node takes one
    /// over.
    ///
    /// # Errors
    /// The refusal that the join would get.
    pub async fn would_admit(
        &self,
        room: &RoomId,
        grants: &Grants,
        demand: &Demand,
        elsewhere: u32,
    ) -> Result<(), Refusal> {
        self.may_join(room, grants)?;
        let join = SeatApplicant { identity: &grants.identity, elsewhere, join_id: "" };
        let known = self.assignments.get(room);
        if known.is_none() {
            self.may_be_created(room)?;
        }
        let none = JoinFindings::default();
        let mut proposal = self.ladder.build(room, known.as_ref(), demand, &none);
        if let Some(known) = &known
            && self.home_answers(known, &proposal).await
        {
            proposal = self.ladder.build(room, Some(known), demand, &none);
        }
        let view = self.assignments.registry().view();
        let unavailable = view.rooms_unavailable_since(&room.institution).is_some();
        let home_stays =
            known.as_ref().is_some_and(|known| Some(known.home.as_str()) == proposal.home.as_deref());
        let Some(known) = known.filter(|_| home_stays) else {
            // A home would be made first, which needs the registry.
            let answers: &[Reason] = if unavailable { &[Reason::RegistryUnavailable] } else { &[] };
            let admits = !unavailable && !proposal.steps.is_empty();
            return if admits { Ok(()) } else { Err(proposal.refused(answers)) };
        };
        let mut answers = Vec::new();
        for step in &proposal.steps {
            match self.would_reserve(&known, step, join).await {
                Ok(()) => return Ok(()),
                Err(refusal) => answers.push(refusal.reason),
            }
        }
        Err(proposal.refused(&answers))
    }

    /// Reserves a seat on this node. The caller has already asked policy whether the node may carry the room, and
    /// [`Admission::may_be_added`].
    ///
    /// # Errors
    /// The refusal of the seat book; it is counted in the metrics.
    pub fn reserve_here(&self, room: &RoomId, join: SeatApplicant<'_>) -> Result<(), Refusal> {
        let reserved = self.seats.reserve(join.seat(room, &room.key()), Instant::now());
        reserved.inspect_err(|refusal| self.metrics.reservation_refused(refusal.reason))
    }

    /// Would [`Admission::reserve_here`] give a seat?
    ///
    /// # Errors
    /// As [`Admission::reserve_here`].
    pub fn would_reserve_here(&self, room: &RoomId, join: SeatApplicant<'_>) -> Result<(), Refusal> {
        let given = self.seats.would_reserve(join.seat(room, &room.key()), Instant::now());
        given.inspect_err(|refusal| self.metrics.reservation_refused(refusal.reason))
    }

    /// This node's answer when it shall be home: of a new room, or after the home of the grant that it holds.
    ///
    /// # Errors
    /// When policy, a document's renewal, the grant or the registry is against it.
    pub async fn become_home(&self, room: &RoomId, purpose: GrantPurpose) -> Result<Assignment, Refusal> {
        let made = self.try_become_home(room, purpose).await;
        if purpose != GrantPurpose::Held {
            self.journal_home(room, "", &made);
        }
        made
    }

    fn journal_home(&self, room: &RoomId, asked_by: &str, made: &Result<Assignment, Refusal>) {
        let decided = DecidedAction::of_node(DecidedAt::Home, Action::Home, &self.node).asked_by(asked_by);
        self.authority.journal(&decided, room, made);
    }

    async fn try_become_home(&self, room: &RoomId, purpose: GrantPurpose) -> Result<Assignment, Refusal> {
        let decision = self.authority.node(Action::Home, room, &self.node);
        join_decision::traced(&self.node, Action::Home, &decision)?;
        match purpose {
            GrantPurpose::Held => self.assignments.get(room).ok_or_else(|| GrantRefusal::None.into()),
            GrantPurpose::Create => {
                if self.assignments.get(room).is_none() {
                    self.may_be_created(room)?;
                    self.may_become_home()?;
                }
                self.assignments.create(room, || mint_sid("RM_", &mut rand::rng())).await
            }
            // A home hands over by `take_hand_over`.
            GrantPurpose::TakeOver | GrantPurpose::HandOver => {
                self.may_become_home()?;
                self.may_be_added(room, &self.node)?;
                self.assignments.take_over(room).await
            }
        }
    }

    /// This node's answer when `from`, the room's home, hands the role over to it.
    ///
    /// # Errors
    /// When policy or a document's renewal is against it, this node drains, or `from` is not the home.
    pub async fn take_hand_over(&self, room: &RoomId, from: &str) -> Result<Assignment, Refusal> {
        let taken = self.try_take_hand_over(room, from).await;
        self.journal_home(room, from, &taken);
        taken
    }

    async fn try_take_hand_over(&self, room: &RoomId, from: &str) -> Result<Assignment, Refusal> {
        let decision = self.authority.node(Action::Home, room, &self.node);
        join_decision::traced(&self.node, Action::Home, &decision)?;
        self.may_become_home()?;
        self.may_be_added(room, &self.node)?;
        self.assignments.take_hand_over(room, from).await
    }

    /// May this node become home of one more room? Not while it drains.
    fn may_become_home(&self) -> Result<(), Refusal> {
        if !self.seats.is_draining() {
            return Ok(());
        }
        Err(Refusal::new(Reason::Draining, format!("{} is draining and becomes home of no room", self.node)))
    }

    /// Where participants of the room, and its home role, can go if this node drains.
    #[must_use]
    pub fn ways_out(&self, room: &RoomId) -> WaysOut {
        self.ladder.ways_out(room)
    }

    /// Makes a node home of the room.
    async fn make_home(
        &self,
        room: &RoomId,
        home: &str,
        purpose: GrantPurpose,
    ) -> Result<Assignment, Refusal> {
        let span = tracing::error_span!("make-home", node = home, purpose = ?purpose, epoch = Empty);
        let made = async {
            if home == self.node {
                self.become_home(room, purpose).await
            } else {
                self.assignments.ask(home, room, purpose, MAKE_HOME_TIMEOUT).await
            }
        };
        let made = made.instrument(span.clone()).await?;
        span.record("epoch", made.epoch);
        Ok(made)
    }

    /// The assignment to use for the join, and the ladder. Makes a home first, if the room has none or its home must be
    /// replaced.
    async fn place(
        &self,
        room: &RoomId,
        demand: &Demand,
        findings: &mut JoinFindings,
    ) -> Result<(Assignment, Ladder), NotPlaced> {
        let known = self.assignments.get(room);
        if known.is_none() {
            self.may_be_created(room)?;
        }
        let build = |known: Option<&Assignment>, findings: &JoinFindings| {
            self.ladder.build_traced(room, known, demand, findings)
        };
        let mut proposal = build(known.as_ref(), findings);
        let Some(known) = known else {
            // The ladder whose home works with other versions, or cannot read the room's record.
            let mut unreadable = None;
            loop {
                let Some(home) = proposal.home.clone() else {
                    return Err(match unreadable {
                        Some(asked) => self.not_placed(asked, &[Reason::UnsupportedVersion]),
                        None => self.not_placed(proposal, &[]),
                    });
                };
                match self.make_home(room, &home, GrantPurpose::Create).await {
                    Ok(made) => {
                        proposal = build(Some(&made), findings);
                        return Ok((made, proposal));
                    }
                    Err(refusal) => {
                        tracing::info!(
                            home,
                            why = refusal.sentence,
                            "a node did not become home of a new room"
                        );
                        let next = match refusal.reason {
                            // The next one may be of a version that goes with it.
                            Reason::NoAnswer | Reason::UnsupportedVersion => findings.silent.insert(home),
                            Reason::NoRoomKey => findings.not_home.insert(home),
                            Reason::Draining => findings.draining.insert(home),
                            _ => false,
                        };
                        if !next {
                            return Err(self.not_placed(proposal, &[refusal.reason]));
                        }
                        let asked = std::mem::replace(&mut proposal, build(None, findings));
                        if refusal.reason == Reason::UnsupportedVersion {
                            unreadable = Some(asked);
                        }
                    }
                }
            }
        };
        if self.home_answers(&known, &proposal).await {
            proposal = build(self.assignments.get(room).as_ref(), findings);
        }
        let known = self.assignments.get(room).unwrap_or(known);
        let home = known.home.as_str();
        let current = loop {
            let successor = proposal.home.clone().filter(|successor| successor != home);
            let made = match &successor {
                Some(successor) => self.make_home(room, successor, GrantPurpose::TakeOver).await,
                None => self.current(&known).await,
            };
            let found = match (&made, successor) {
                (Err(refusal), Some(successor)) if refusal.reason == Reason::NoRoomKey => {
                    findings.not_home.insert(successor)
                }
                (Err(refusal), Some(successor)) if refusal.reason == Reason::Draining => {
                    findings.draining.insert(successor)
                }
                _ => false,
            };
            if !found {
                break made;
            }
            proposal = build(Some(&known), findings);
        };
        match current {
            Ok(current) if current.epoch == known.epoch => Ok((current, proposal)),
            Ok(current) => {
                let proposal = build(Some(&current), findings);
                Ok((current, proposal))
            }
            // The room goes on as it is: nodes that carry it still admit.
            Err(refusal) => {
                tracing::info!(why = refusal.sentence, "the room keeps the grant that it has");
                let proposal = build(Some(&known), findings);
                Ok((known, proposal))
            }
        }
    }

    /// The assignment by a grant that has not ended: asks the home for a newer one if this one has.
    async fn current(&self, known: &Assignment) -> Result<Assignment, Refusal> {
        let room = &known.room;
        let gateway = [(GrantRole::Gateway, self.node.as_str())];
        match self.assignments.check(room, &gateway, false) {
            Ok(()) => Ok(known.clone()),
            Err(_) if known.home == *self.node.as_str() => self.become_home(room, GrantPurpose::Create).await,
            Err(_) => {
                // The home may have lost its role.
                let home = known.home.as_str();
                let decision = self.authority.node(Action::Home, room, home);
                join_decision::traced(home, Action::Home, &decision)?;
                self.assignments.ask(home, room, GrantPurpose::Create, HOME_ANSWER_TIMEOUT).await
            }
        }
    }

    /// Asks the room's home, which seems to be offline or is to be replaced, whether it is alive, before anything follows
    /// from that: its lease may have lapsed or been deleted while it carries the room. Not asked when policy denies it.
    async fn home_answers(&self, known: &Assignment, proposal: &Proposal) -> bool {
        let home = known.home.as_str();
        let offline = proposal.table.iter().any(|row| row.node == home && row.reason == Reason::NoLease);
        let replaced = proposal.home.as_deref() != Some(home);
        if !(offline || replaced) || self.node == home {
            return false;
        }
        let room = &known.room;
        self.authority.node(Action::Home, room, home).allowed && self.assignments.home_answers(room).await
    }

    /// Asks one node after the other for a seat. When a spill node says that the token has all its connections, the home,
    /// which knows those on all nodes, is asked next: only its answer counts, because another spill node may not know them,
    /// and one that says so may be wrong.
    async fn ask_in_order(
        &self,
        assignment: &Assignment,
        proposal: &Proposal,
        join: SeatApplicant<'_>,
        gave_none: &mut Vec<AnsweredSeat>,
    ) -> Result<ReservedSeat, LadderFailure> {
        let room = &assignment.room;
        let (mut answers, mut home_answered) = (Vec::new(), false);
        let is_home = |step: &Step| assignment.home == *step.node.as_str();
        let mut steps: VecDeque<&Step> = proposal.steps.iter().collect();
        while let Some(step) = steps.pop_front() {
            let span = trace::reserve(&step.node, step.role.as_str(), step.reason.as_str());
            let before = self.assignments.note(room);
            let asked = self.reserve(assignment, step, join).instrument(span.clone()).await;
            span.record("outcome", if asked.is_ok() { "admitted" } else { "refused" });
            drop(span);
            self.metrics.step(step.role.as_str(), step.reason, asked.is_ok());
            let refusal = match asked {
                Ok((guard, last_join)) => {
                    tracing::info!(to = step.node, reason = step.reason.as_str(), "a join was placed");
                    let (node, join_id) = (step.node.clone(), join.join_id.to_owned());
                    let assignment = self.assignments.get(room).unwrap_or_else(|| assignment.clone());
                    let reason = step.reason;
                    return Ok(ReservedSeat { node, join_id, last_join, assignment, reason, guard });
                }
                Err(refusal) => refusal,
            };
            tracing::info!(
                node = step.node,
                role = %step.role,
                why = refusal.sentence,
                "a node refused a reservation"
            );
            gave_none
                .push(AnsweredSeat { node: step.node.clone(), reason: refusal.reason.as_str().to_owned() });
            let about_grant = refusal.reason == Reason::EpochOvertaken || refusal.reason.is_about_a_grant();
            if about_grant && self.assignments.note(room) != before {
                return Err(LadderFailure::AssignmentChanged);
            }
            answers.push(refusal.reason);
            let is_quota = refusal.reason == Reason::IdentityQuota;
            if is_home(step) {
                if is_quota {
                    return Err(LadderFailure::Refused(vec![Reason::IdentityQuota]));
                }
                home_answered = !matches!(refusal.reason, Reason::NoAnswer | Reason::UnsupportedVersion);
            } else if is_quota {
                let home = steps.iter().position(|next| is_home(next)).and_then(|at| steps.remove(at));
                if let Some(home) = home {
                    steps.push_front(home);
                }
            }
        }
        if home_answered {
            answers.retain(|answer| *answer != Reason::IdentityQuota);
        }
        Err(LadderFailure::Refused(answers))
    }

    fn not_placed(&self, ladder: Ladder, answers: &[Reason]) -> NotPlaced {
        NotPlaced { refusal: self.refused(&ladder, answers), ladder: Some(ladder.into()) }
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

    /// Reserves a seat at a node. Returns the join number of the last join of the identity that the node knows, too.
    async fn reserve(
        &self,
        assignment: &Assignment,
        step: &Step,
        join: SeatApplicant<'_>,
    ) -> Result<(SeatGuard, u64), Refusal> {
        let room = &assignment.room;
        self.check_step(assignment, step)?;
        if step.node == self.node {
            self.reserve_here(room, join)?;
            return Ok((SeatGuard::here(self.seats.clone(), join.join_id), 0));
        }
        let relayed = RelayedConnection::count(&self.seats, join.seat(room, &room.key()));
        let relayed = relayed.inspect_err(|refusal| self.metrics.reservation_refused(refusal.reason))?;
        let request = self.request(room, join.identity, Some(join.join_id));
        match seat_guard::reserve(self.peers.clone(), relayed, &step.node, request).await {
            Ok(reserved) => {
                self.ladder.note_answer(&step.node, false);
                Ok(reserved)
            }
            Err(refused) => Err(self.refused_by(room, step, refused).await),
        }
    }

    /// Would a node give a seat? Nothing is reserved.
    async fn would_reserve(
        &self,
        assignment: &Assignment,
        step: &Step,
        join: SeatApplicant<'_>,
    ) -> Result<(), Refusal> {
        let room = &assignment.room;
        self.check_step(assignment, step)?;
        if step.node == self.node {
            return self.would_reserve_here(room, join);
        }
        self.seats.would_relay(join.seat(room, &room.key()), Instant::now())?;
        match self.peers.reserve(&step.node, self.request(room, join.identity, None)).await {
            Ok(_) => {
                self.ladder.note_answer(&step.node, false);
                Ok(())
            }
            Err(refused) => Err(self.refused_by(room, step, refused).await),
        }
    }

    fn request(&self, room: &RoomId, identity: &str, join_id: Option<&str>) -> ReservationRequest {
        ReservationRequest {
            room: room.clone(),
            identity: identity.to_owned(),
            join_id: join_id.map(str::to_owned),
            grant: self.assignments.note(room),
        }
    }

    /// Follows what a node told of the room when it refused.
    async fn refused_by(&self, room: &RoomId, step: &Step, refused: RefusedReservation) -> Refusal {
        let RefusedReservation { refusal, told } = refused;
        self.ladder.note_answer(&step.node, refusal.reason == Reason::Full);
        if let Some(told) = told
            && let Err(why) = self.assignments.told(room, &told, &step.node).await
        {
            tracing::info!(node = step.node, why = why.sentence, "a node told a grant that does not count");
        }
        refusal
    }

    /// Asks policy again just before a request, because it may have changed since the ladder was built, and the grant.
    fn check_step(&self, assignment: &Assignment, step: &Step) -> Result<(), Refusal> {
        let room = &assignment.room;
        // The grant says the role: the ladder may hope for a takeover that did not succeed.
        let home = assignment.home == *step.node.as_str();
        let role = if home { MediaRole::Home } else { MediaRole::Spill };
        let action = role.into();
        let decision = self.authority.node(action, room, &step.node);
        tracing::Span::current().record("rules", trace::rules(&decision));
        trace::decision(&step.node, action, &decision);
        if !decision.allowed {
            return Err(Refusal { reason: Reason::PolicyDenied, ..decision.refusal() });
        }
        self.may_be_added(room, &step.node)?;
        self.may_be_used(assignment, role, &step.node)
    }

    /// Does the room's grant list this gateway, and the node in its role? An ended grant counts for nodes that carry the
    /// room while its home cannot be reached.
    fn may_be_used(&self, assignment: &Assignment, role: MediaRole, node: &str) -> Result<(), Refusal> {
        let roles = [(role.into(), node), (GrantRole::Gateway, self.node.as_str())];
        let standing = assignment.has(node);
        Ok(self.assignments.check(&assignment.room, &roles, standing)?)
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
