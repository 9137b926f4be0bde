//! Policy on one node: the current engine, and which node this is. Every place that could send media or signalling to
//! another node asks here first. Each decision is counted by its rule.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use systir_assignment::RoomId;
use systir_identity::ProvenIdentity;
use systir_journal::Journal;
use systir_reason::{Reason, Refusal};
use systir_room_tag::RoomKeys;

use crate::known_decisions::DecidingEngine;
use crate::known_rooms::KnownRooms;
use crate::metrics::PolicyMetrics;
use crate::{
    Action, Decision, NodeFacts, PolicyEngine, PolicyStatement, PolicyTime, RoomAttributes, Subject,
};

/// What a token makes of a participant beyond an ordinary one. Policy must permit each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParticipantRoles {
    /// Other participants do not see it.
    pub hidden: bool,
    /// It is a recorder.
    pub recorder: bool,
    /// It is a guest: anyone who opened the meeting page.
    pub guest: bool,
}

/// The node's policy. It is replaced while the node runs; each decision is made by one engine as a whole.
#[derive(Debug)]
pub struct Authority {
    pub(crate) engine: ArcSwap<DecidingEngine>,
    own_id: String,
    pub(crate) rooms: KnownRooms,
    metrics: Arc<PolicyMetrics>,
    /// None: outcomes are not journaled.
    pub(crate) journal: OnceLock<Arc<dyn Journal>>,
}

impl Authority {
    /// Decisions made on the node `own_id`, which holds no room key yet.
    #[must_use]
    pub fn new(engine: PolicyEngine, own_id: &str, metrics: Arc<PolicyMetrics>) -> Self {
        Self {
            engine: ArcSwap::from_pointee(DecidingEngine::new(engine)),
            own_id: own_id.to_owned(),
            rooms: KnownRooms::default(),
            metrics,
            journal: OnceLock::new(),
        }
    }

    /// Decides by another engine from now on. Decisions that are under way keep the one that they began with.
    pub fn replace(&self, engine: PolicyEngine) {
        self.engine.store(Arc::new(DecidingEngine::new(engine)));
    }

    /// Decides at this time from now on; without a time, as on a node whose clock is wrong. Returns whether anything may be
    /// decided otherwise now than before, so that rooms and links must be decided again. Not to be called while another
    /// thread replaces the engine.
    pub fn advance(&self, now: Option<PolicyTime>) -> bool {
        let engine = self.engine();
        let differs = engine.differs_at(now);
        if differs {
            self.replace(engine.at(now));
        }
        differs
    }

    /// The present engine, for several questions that must have one answer.
    #[must_use]
    pub fn engine(&self) -> Arc<PolicyEngine> {
        self.engine.load().engine.clone()
    }

    /// The id of this node.
    #[must_use]
    pub fn own_id(&self) -> &str {
        &self.own_id
    }

    /// What the directories state of the node with this id.
    #[must_use]
    pub fn facts(&self, node: &str) -> Option<Arc<NodeFacts>> {
        self.engine.load().engine.facts(node).cloned()
    }

    /// The nodes of all directories, by id.
    #[must_use]
    pub fn nodes(&self) -> Vec<Arc<NodeFacts>> {
        self.engine.load().engine.nodes().cloned().collect()
    }

    /// What the directories state of the node with this SPIFFE id.
    #[must_use]
    pub fn node_of(&self, spiffe_id: &str) -> Option<Arc<NodeFacts>> {
        self.engine.load().engine.node_of(spiffe_id).cloned()
    }

    /// The institutions that have a bundle.
    #[must_use]
    pub fn institutions(&self) -> Vec<String> {
        self.engine.load().engine.institutions().map(str::to_owned).collect()
    }

    /// The policy that decides for an institution: version, hash, signers.
    #[must_use]
    pub fn statement(&self, institution: &str) -> Option<PolicyStatement> {
        self.engine.load().engine.statement(institution).cloned()
    }

    /// Reads the names of rooms with these keys from now on.
    pub fn use_room_keys(&self, keys: RoomKeys) {
        self.rooms.use_keys(keys);
    }

    /// The room keys that this node holds.
    #[must_use]
    pub fn room_keys(&self) -> Arc<RoomKeys> {
        self.rooms.keys()
    }

    /// The grant that this node follows states this of the room; none when it follows no grant of the room any more.
    pub fn note_granted(&self, room: &RoomId, stated: Option<RoomAttributes>) {
        self.rooms.note_granted(room, stated);
    }

    /// What the institution's bundle says of this room's name; none when this node holds no room key that reads it.
    #[must_use]
    pub fn room_by_name(&self, room: &RoomId) -> Option<RoomAttributes> {
        self.rooms.by_name(&self.engine.load().engine, room)
    }

    /// What the room must be taken for: the strictest of what its name and its grant say; without both, the strictest.
    #[must_use]
    pub fn room(&self, room: &RoomId) -> RoomAttributes {
        let known = self.rooms.attributes(&self.engine.load().engine, room, None);
        known.into_iter().fold(RoomAttributes::default(), RoomAttributes::stricter)
    }

    /// Is the renewal of a document overdue, so that this node may not be added to the room, and no new room be opened on
    /// it? See [`PolicyEngine::renewal_overdue`].
    #[must_use]
    pub fn renewal_overdue(&self, room: &RoomId, node: &str) -> Option<Refusal> {
        self.engine.load().engine.renewal_overdue(&room.institution, node)
    }

    /// May this node do `action` for the room? For another node this is a plan, not yet checked against its proven
    /// identity: before a room opens on a link, ask [`Authority::peer`].
    pub fn node(&self, action: Action, room: &RoomId, node: &str) -> Decision {
        self.of_room(action, room, None, Subject::Node(node))
    }

    /// The same for a room of which a grant that this node does not follow yet states `offered`.
    pub fn node_if(
        &self,
        action: Action,
        room: &RoomId,
        offered: Option<RoomAttributes>,
        node: &str,
    ) -> Decision {
        self.of_room(action, room, offered, Subject::Node(node))
    }

    /// May the peer do `action` for the room? Its identity was proved, and its certificate must be valid at `now`.
    pub fn peer(&self, action: Action, room: &RoomId, peer: &ProvenIdentity, now: SystemTime) -> Decision {
        self.of_room(action, room, None, Subject::Peer { identity: peer, now })
    }

    /// May the holder of a token of institution `from` do `action` in the room?
    pub fn participant(&self, action: Action, room: &RoomId, from: &str) -> Decision {
        self.of_room(action, room, None, Subject::Participant { institution: from })
    }

    /// May the holder of a token of institution `from` join the room in these roles? The decisions of one engine, in the
    /// order in which they were asked: on `join`, then on each role; the first denial ends them.
    pub fn join(&self, room: &RoomId, from: &str, roles: ParticipantRoles) -> Vec<(Action, Decision)> {
        let engine = self.engine.load();
        let attributes = self.rooms.attributes(&engine.engine, room, None);
        let ParticipantRoles { hidden, recorder, guest } = roles;
        let asked = [
            (Action::Join, true),
            (Action::JoinHidden, hidden),
            (Action::JoinRecorder, recorder),
            (Action::JoinGuest, guest),
        ];
        let mut decisions = Vec::new();
        for (action, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            let subject = Subject::Participant { institution: from };
            let decision = self.decide(&engine, action, &room.institution, &attributes, subject);
            let allowed = decision.allowed;
            decisions.push((action, decision));
            if !allowed {
                break;
            }
        }
        decisions
    }

    /// May this node do `action` for the institution, where no room is meant? Decided as for an ordinary room.
    pub fn institution_node(&self, action: Action, institution: &str, node: &str) -> Decision {
        self.of_institution(action, institution, Subject::Node(node))
    }

    /// May the holder of a token of institution `from` do `action` for `institution`, where no room is meant? Decided as
    /// for an ordinary room.
    pub fn institution_participant(&self, action: Action, institution: &str, from: &str) -> Decision {
        self.of_institution(action, institution, Subject::Participant { institution: from })
    }

    fn of_room(
        &self,
        action: Action,
        room: &RoomId,
        offered: Option<RoomAttributes>,
        subject: Subject<'_>,
    ) -> Decision {
        let engine = self.engine.load();
        let attributes = self.rooms.attributes(&engine.engine, room, offered);
        self.decide(&engine, action, &room.institution, &attributes, subject)
    }

    fn of_institution(&self, action: Action, institution: &str, subject: Subject<'_>) -> Decision {
        self.decide(&self.engine.load(), action, institution, &[RoomAttributes::default()], subject)
    }

    /// The decision for each of what the room may be: the first denial, else the first permission.
    fn decide(
        &self,
        engine: &DecidingEngine,
        action: Action,
        institution: &str,
        attributes: &[RoomAttributes],
        subject: Subject<'_>,
    ) -> Decision {
        let mut decision = None;
        for room in attributes {
            let next = engine.decide(action, institution, *room, subject);
            let denied = !next.allowed;
            if denied || decision.is_none() {
                decision = Some(next);
            }
            if denied {
                break;
            }
        }
        let decision = decision.unwrap_or_else(|| {
            Decision::deny(Reason::Internal, "nothing is known of the room".to_owned(), None)
        });
        self.metrics.decided(action, &decision);
        decision
    }
}
