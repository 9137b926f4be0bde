//! Decides the decisions of a journal anew, by another policy.

use systir_journal::{
    DecidedAbout, DecidedAt, JournalCandidate, JournalEntry, JournalOutcome, JournalPlacement, JournalRole,
    JournalRoom,
};
use systir_placement::{
    CarryingNodes, Demand, LoadReport, NodeCandidate, Proposal, RoleDecision, RoomToPlace, propose,
};
use systir_policy::{Action, Claims, Decision, PolicyEngine, Request, RoomAttributes, RoomClass, Subject};
use systir_reason::Reason;

/// The policy by which is decided anew.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    pub(crate) engine: &'a PolicyEngine,
    pub(crate) institution: &'a str,
}

/// What would be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// Nothing.
    Same,
    /// It was let in, and would be kept out.
    Refused(Because),
    /// It was kept out by policy, and would be let in; a join at this node, if that can be said.
    LetIn(Because, Option<String>),
    /// The join would be placed at this node.
    Elsewhere(Because, String),
    /// It is of another institution.
    OtherInstitution,
    /// It cannot be decided anew: no policy decided it, or the line lacks what is needed.
    Undecided,
}

/// Why, by the new policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Because {
    pub(crate) reason: Reason,
    pub(crate) rules: Vec<String>,
    pub(crate) why: String,
}

impl From<Decision> for Because {
    fn from(decision: Decision) -> Self {
        let rules = decision.rules.iter().map(ToString::to_string).collect();
        Self { reason: decision.reason, rules, why: decision.why }
    }
}

impl Replay<'_> {
    /// Decides an outcome of the node `node` anew.
    pub(crate) fn replay(&self, node: &str, entry: &JournalEntry) -> Replayed {
        match &entry.institution {
            Some(institution) if institution == self.institution => {}
            Some(_) => return Replayed::OtherInstitution,
            None => return Replayed::Undecided,
        }
        let (Some(rooms), Some(action), Some(about)) = (
            attributes(&entry.room_is),
            entry.action.as_ref().and_then(|action| action.parse::<Action>().ok()),
            &entry.about,
        ) else {
            return Replayed::Undecided;
        };
        if let (DecidedAt::Placement, Some(placement)) = (entry.at, &entry.placement) {
            return self.replay_placement(node, entry, placement, &rooms, about);
        }
        let subject = match about {
            DecidedAbout::Node(node) => Subject::Node(node),
            DecidedAbout::Institution(institution) => Subject::Participant { institution },
            DecidedAbout::Document(_) => return Replayed::Undecided,
        };
        let decision = self.decide(action, subject, &rooms);
        match (entry.outcome, decision.allowed) {
            (JournalOutcome::Allowed, true) => Replayed::Same,
            (JournalOutcome::Allowed, false) => Replayed::Refused(decision.into()),
            (JournalOutcome::Refused, _) if !is_policy_denial(&entry.reason) => Replayed::Undecided,
            (JournalOutcome::Refused, true) => Replayed::LetIn(decision.into(), None),
            (JournalOutcome::Refused, false) => Replayed::Same,
        }
    }

    /// The decision for each of what the room may be: the first denial, else the first permission.
    fn decide(&self, action: Action, subject: Subject<'_>, rooms: &[RoomAttributes]) -> Decision {
        let decide = |room: RoomAttributes| {
            let claims = Claims::default();
            self.engine.decide(&Request { institution: self.institution, action, subject, room, claims })
        };
        let (first, rest) = rooms.split_first().map_or((RoomAttributes::default(), rooms), |(a, b)| (*a, b));
        let first = decide(first);
        if !first.allowed {
            return first;
        }
        rest.iter().map(|room| decide(*room)).find(|decision| !decision.allowed).unwrap_or(first)
    }

    /// Makes the ladder of a join anew. Of what nodes answered it knows only what is in the journal: a node that gave no seat,
    /// or was full by a fresh report, gives none.
    fn replay_placement(
        &self,
        gateway: &str,
        entry: &JournalEntry,
        placement: &JournalPlacement,
        rooms: &[RoomAttributes],
        about: &DecidedAbout,
    ) -> Replayed {
        let placed = match (entry.outcome, about) {
            (JournalOutcome::Allowed, DecidedAbout::Node(node)) => Some(node.as_str()),
            _ => None,
        };
        if let Some(denied) = self.denied(gateway, placement, rooms) {
            return if placed.is_some() { Replayed::Refused(denied.into()) } else { Replayed::Same };
        }
        if placement.candidates.is_empty() {
            return match placed {
                // The line was too long for its candidates.
                Some(node) => self.still_approved(node, rooms),
                None if is_policy_denial(&entry.reason) => {
                    let why =
                        "the participant may join; where a seat is free is not in the journal".to_owned();
                    Replayed::LetIn(Because { reason: Reason::Allowed, rules: Vec::new(), why }, None)
                }
                None => Replayed::Undecided,
            };
        }
        let room = RoomToPlace {
            institution: self.institution.to_owned(),
            tag: entry.room.clone().unwrap_or_default(),
            assignment: placement
                .carried_by
                .as_ref()
                .map(|room| CarryingNodes { home: room.home.clone(), spill: room.spill.clone() }),
        };
        let demand = Demand { view_only: placement.participant.view_only };
        let nodes = &placement.candidates;
        let before: Vec<_> =
            nodes.iter().map(|node| candidate(node, role(&node.home), role(&node.spill))).collect();
        let after: Vec<_> = nodes
            .iter()
            .map(|node| {
                let decide = |action| self.role(action, &node.node, rooms);
                let home = decide(Action::Home);
                let allowed = home.allowed && !node.no_room_key;
                candidate(node, RoleDecision { allowed, ..home }, decide(Action::Spill))
            })
            .collect();
        let (old, new) = (propose(&room, &demand, &before), propose(&room, &demand, &after));
        let seat = |proposal: &Proposal| first_seat(proposal, placement, placed);
        let (was, would_be) = (seat(&old), seat(&new));
        let because = |node: &str| {
            let step = new.table.iter().find(|row| row.node == node);
            let decided = after.iter().find(|one| one.node == node);
            let rules = decided.map(|one| {
                if step.is_some_and(|step| new.home.as_deref() == Some(&*step.node)) {
                    one.home.rules.clone()
                } else {
                    one.spill.rules.clone()
                }
            });
            let (reason, why) = step
                .map_or((Reason::PolicyDenied, String::new()), |step| (step.reason, step.sentence.clone()));
            Because { reason, rules: rules.unwrap_or_default(), why }
        };
        match (placed, would_be) {
            (Some(node), Some(next)) if next == node => Replayed::Same,
            // The ladder is not as it was by the journal: only a node that may not be used any more is certain.
            (Some(node), Some(_)) if was.as_deref() != Some(node) && asks(&new, node) => Replayed::Same,
            (Some(_), Some(next)) => Replayed::Elsewhere(because(&next), next),
            (Some(node), None) => {
                let answers: Vec<Reason> =
                    placement.answers.iter().filter_map(|answer| reason_named(&answer.reason)).collect();
                // What is left was full.
                let answers = if answers.is_empty() { vec![Reason::Full] } else { answers };
                let refused = new.refused(&answers);
                let denied = because(node);
                let why = format!("{} [{}]", denied.why, refused.reason);
                Replayed::Refused(Because { reason: refused.reason, rules: denied.rules, why })
            }
            // A join that failed for want of something else, such as the registry, would fail again.
            (None, Some(next)) if was.is_none() => Replayed::LetIn(because(&next), Some(next)),
            (None, _) => Replayed::Same,
        }
    }

    /// The first decision that keeps the participant out whatever the nodes.
    fn denied(
        &self,
        gateway: &str,
        placement: &JournalPlacement,
        rooms: &[RoomAttributes],
    ) -> Option<Decision> {
        let participant = placement.participant;
        let from = Subject::Participant { institution: self.institution };
        let asked = [
            (Action::RelaySignal, Subject::Node(gateway), true),
            (Action::Join, from, true),
            (Action::JoinHidden, from, participant.hidden),
            (Action::JoinRecorder, from, participant.recorder),
            (Action::JoinGuest, from, participant.guest),
        ];
        let asked = asked.into_iter().filter(|(.., asked)| *asked);
        let mut decisions = asked.map(|(action, subject, _)| self.decide(action, subject, rooms));
        decisions.find(|decision| !decision.allowed)
    }

    fn still_approved(&self, node: &str, rooms: &[RoomAttributes]) -> Replayed {
        let spill = self.decide(Action::Spill, Subject::Node(node), rooms);
        if spill.allowed || self.decide(Action::Home, Subject::Node(node), rooms).allowed {
            Replayed::Same
        } else {
            Replayed::Refused(spill.into())
        }
    }

    fn role(&self, action: Action, node: &str, rooms: &[RoomAttributes]) -> RoleDecision {
        let decision = self.decide(action, Subject::Node(node), rooms);
        RoleDecision {
            allowed: decision.allowed,
            tier: decision.tier,
            rules: decision.rules.iter().map(ToString::to_string).collect(),
            why: decision.why,
        }
    }
}

/// What the room was taken for; none when this version does not know the class.
fn attributes(rooms: &[JournalRoom]) -> Option<Vec<RoomAttributes>> {
    let attributes = rooms
        .iter()
        .map(|room| RoomClass::named(&room.class).map(|class| RoomAttributes { class, e2ee: room.e2ee }));
    attributes.collect()
}

fn reason_named(code: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == code)
}

fn is_policy_denial(code: &str) -> bool {
    reason_named(code).is_some_and(Reason::is_policy_denial)
}

/// Is the node in the ladder?
fn asks(proposal: &Proposal, node: &str) -> bool {
    proposal.steps.iter().any(|step| step.node == node)
}

/// The first node of the ladder that has a seat, as far as the journal knows. `placed` had one.
fn first_seat(proposal: &Proposal, placement: &JournalPlacement, placed: Option<&str>) -> Option<String> {
    let gave_none = |node: &str| placement.answers.iter().any(|answer| answer.node == node);
    let has_seat = |node: &str, reason: Reason| {
        placed == Some(node) || !(gave_none(node) || [Reason::Full, Reason::HomeFull].contains(&reason))
    };
    let step = proposal.steps.iter().find(|step| has_seat(&step.node, step.reason));
    step.map(|step| step.node.clone())
}

fn role(journaled: &JournalRole) -> RoleDecision {
    let JournalRole { allowed, tier, rules } = journaled.clone();
    RoleDecision { allowed, tier, rules, why: "as the journal says".to_owned() }
}

fn candidate(journaled: &JournalCandidate, home: RoleDecision, spill: RoleDecision) -> NodeCandidate {
    let JournalCandidate { participants, capacity, cpu_permille, reported_ms_ago, .. } = *journaled;
    let load = reported_ms_ago.map_or(LoadReport::UNKNOWN, |age_ms| LoadReport {
        participants,
        capacity,
        cpu_permille,
        age_ms,
    });
    NodeCandidate {
        node: journaled.node.clone(),
        load,
        draining: journaled.draining,
        alive: !journaled.offline,
        home,
        spill,
    }
}
