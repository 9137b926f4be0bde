//! Requests of other nodes. Each request about a room is decided by this node's own policy, on the identity
//! of the peer that TLS proved.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message as _;
use systir_admission::{Admission, SeatApplicant, may_join, trace};
use systir_assignment::{MediaRole, RoomId};
use systir_cascade::{BoxFuture, Handler, HeldDocument, SignalStream};
use systir_documents::DocumentId;
use systir_gateway::SignalCounters;
use systir_grants::{GrantRefusal, GrantRole};
use systir_identity::ProvenIdentity;
use systir_journal::DecidedAt;
use systir_livekit::MAX_REQUEST_ENTRIES;
use systir_livekit::token::Grants;
use systir_placement::{RESERVATION_TTL, Seats};
use systir_policy::{Action, Authority, DecidedAction, Decision};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::grant_reply::Result as Asked;
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::{
    Admitted, GrantReply, GrantRequest, OpenRoom, ReleaseRequest, ReserveReply, ReserveRequest,
    SignalEndReason, SignalStart,
};
use systir_reason::{Reason, Refusal};
use systir_registry::{Assignments, GrantPurpose, unix_ms};
use systir_room::{SignedTicket, TicketProblem, check_grants, check_place};
use systir_room_runtime::{KnownIdentity, ParticipantArrival, Rooms, SignalChannels, telling};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::documents::exchange::Offers;
use crate::documents::store::DocumentStore;
use crate::node_directory::NodeDirectory;
use crate::signal_pump::{self, Tickets};
use crate::{refusal_wire, ticket_issuer};

/// Time limit to ask a busy room about an identity.
const IDENTITY_TIMEOUT: Duration = Duration::from_millis(200);

/// This node's side of the gRPC service `Cluster`.
pub(crate) struct ClusterService {
    pub(crate) node: String,
    pub(crate) authority: Arc<Authority>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) directory: Arc<NodeDirectory>,
    /// Counters of signalling relayed to and from other nodes.
    pub(crate) streams: Arc<SignalCounters>,
    pub(crate) documents: Arc<DocumentStore>,
    pub(crate) offers: Arc<Offers>,
    pub(crate) tasks: TaskTracker,
}

/// A denial as it is sent to another node. A denial by default has no rule; it lists its reason code in place
/// of one, so that the peer sees that policy decided.
fn denied(decision: &Decision) -> Refusal {
    let mut refusal = decision.refusal();
    if refusal.rules.is_empty() {
        refusal.rules.push(decision.reason.as_str().to_owned());
    }
    refusal
}

fn bad_request(sentence: impl Into<String>) -> Refusal {
    Refusal::new(Reason::BadRequest, sentence)
}

/// The id of a peer's seat in the seat book. A peer chooses the ids of its joins, and every node of a ladder is told the
/// id: only the peer that reserved a seat takes or releases it.
fn seat_id(peer: &ProvenIdentity, join_id: &str) -> String {
    format!("{} {join_id}", peer.id())
}

pub(crate) fn room_of(key: &str) -> Result<RoomId, Refusal> {
    RoomId::from_key(key).ok_or_else(|| bad_request("the room is not (institution, tag)"))
}

impl ClusterService {
    /// May the peer see the room's signalling?
    fn may_signal(&self, peer: &ProvenIdentity, room: &RoomId) -> Result<(), Refusal> {
        let decision = self.authority.peer(Action::RelaySignal, room, peer, SystemTime::now());
        trace::decision(&self.directory.name(peer.id()).unwrap_or_default(), Action::RelaySignal, &decision);
        if decision.allowed { Ok(()) } else { Err(denied(&decision)) }
    }

    /// A node that cannot read the room's name knows only by the room's newest grant what the room is, so it reads the
    /// grant before it asks policy. Other nodes ask policy first.
    pub(crate) async fn learn_room(
        &self,
        peer: &ProvenIdentity,
        room: &RoomId,
        grant: &str,
    ) -> Result<(), Refusal> {
        if self.authority.room_by_name(room).is_some() {
            return Ok(());
        }
        let from = self.directory.name(peer.id()).unwrap_or_default();
        self.assignments.offered(room, grant, &from).await
    }

    /// May this node carry the room in that role?
    pub(crate) fn may_carry(&self, role: MediaRole, room: &RoomId) -> Result<(), Refusal> {
        let own = self.authority.node(role.into(), room, &self.node);
        trace::decision(&self.node, role.into(), &own);
        if own.allowed { Ok(()) } else { Err(denied(&own)) }
    }

    /// May the peer carry the room in that role?
    pub(crate) fn peer_may_carry(
        &self,
        peer: &ProvenIdentity,
        role: MediaRole,
        room: &RoomId,
    ) -> Result<(), Refusal> {
        let other = self.authority.peer(role.into(), room, peer, SystemTime::now());
        if other.allowed { Ok(()) } else { Err(denied(&other)) }
    }

    /// Journals how the request of a peer ended that this node carries a participant of the room.
    fn journal_here<T>(&self, at: DecidedAt, peer: &ProvenIdentity, room: &str, result: &Result<T, Refusal>) {
        let Some(room) = RoomId::from_key(room) else { return };
        let gateway = self.directory.name(peer.id()).unwrap_or_default();
        let (action, node) = match result {
            // What was denied is the gateway, not this node.
            Err(refusal) if refusal.reason.is_policy_denial() && self.is_denied_gateway(peer, &room) => {
                (Action::RelaySignal, gateway.as_str())
            }
            _ => {
                let role = self.assignments.role(&room, &self.node).unwrap_or(MediaRole::Spill);
                (role.into(), self.node.as_str())
            }
        };
        let decided = DecidedAction::of_node(at, action, node).asked_by(&gateway);
        self.authority.journal(&decided, &room, result);
    }

    fn is_denied_gateway(&self, peer: &ProvenIdentity, room: &RoomId) -> bool {
        !self.authority.peer(Action::RelaySignal, room, peer, SystemTime::now()).allowed
    }

    /// What an allowed gateway is told of the room, with a refusal too.
    fn telling(&self, room: &RoomId) -> Option<wire::RoomAssignment> {
        self.assignments.telling(room).map(telling)
    }

    async fn reserve_now(&self, peer: &ProvenIdentity, request: &ReserveRequest) -> ReserveReply {
        let span = trace::asked_for_seat(&self.node, &request.traceparent);
        let answer = self.reserve_seat(peer, request).instrument(span.clone()).await;
        trace::answered(&span, &answer);
        // A question without a reservation lets nobody in.
        if !request.probe {
            self.journal_here(DecidedAt::Seat, peer, &request.room, &answer);
        }
        let result = match answer {
            Ok(last_join) => {
                let ttl_seconds = RESERVATION_TTL.as_secs() as u32;
                Reserved::Admitted(Admitted { ttl_seconds, last_join })
            }
            Err(refusal) => {
                let mut refused = refusal_wire::encode(refusal);
                let room = RoomId::from_key(&request.room);
                let room = room.filter(|room| self.may_signal(peer, room).is_ok());
                refused.assignment = room.and_then(|room| self.telling(&room));
                Reserved::Refused(refused)
            }
        };
        ReserveReply { result: Some(result) }
    }

    /// Returns the join number of the last join of the identity that this node knows.
    async fn reserve_seat(&self, peer: &ProvenIdentity, request: &ReserveRequest) -> Result<u64, Refusal> {
        let room = room_of(&request.room)?;
        self.learn_room(peer, &room, &request.grant).await?;
        // The peer relays signalling; this node carries media.
        self.may_signal(peer, &room)?;
        self.granted_role(peer, &room, &request.grant).await?;
        self.admission.may_be_added(&room, &self.node)?;
        let KnownIdentity { last_join, elsewhere } =
            self.rooms.identity(&room, &request.identity, IDENTITY_TIMEOUT).await;
        let join_id = seat_id(peer, &request.join_id);
        let join = SeatApplicant { identity: &request.identity, elsewhere, join_id: &join_id };
        if request.probe {
            self.admission.would_reserve_here(&room, join)?;
        } else {
            self.admission.reserve_here(&room, join)?;
        }
        Ok(last_join)
    }

    /// A home signs the room's grant anew when that is due: after a restart it begins a new epoch.
    pub(crate) fn renew_as_home(&self, role: MediaRole, room: &RoomId) -> Result<(), Refusal> {
        if role == MediaRole::Home { self.assignments.renew(room) } else { Ok(()) }
    }

    /// The role in which this node carries the room, by its policy and by the room's grant, which must list the peer as a
    /// gateway. The peer hands over the grant that it holds.
    async fn granted_role(
        &self,
        peer: &ProvenIdentity,
        room: &RoomId,
        grant: &str,
    ) -> Result<MediaRole, Refusal> {
        let gateway = self.directory.name(peer.id()).unwrap_or_default();
        self.assignments.offered(room, grant, &gateway).await?;
        let role = self.assignments.role(room, &self.node).unwrap_or(MediaRole::Spill);
        let standing = self.rooms.get(room).is_some();
        let roles = [(role.into(), self.node.as_str()), (GrantRole::Gateway, gateway.as_str())];
        self.may_carry(role, room)?;
        self.renew_as_home(role, room)?;
        self.assignments.check(room, &roles, standing)?;
        Ok(role)
    }

    async fn grant_asked(&self, peer: &ProvenIdentity, request: &GrantRequest) -> GrantReply {
        let span = trace::asked_for_grant(&self.node, &request.traceparent);
        let answer = self.grant_of(peer, request).instrument(span).await;
        if let Some(room) = RoomId::from_key(&request.room) {
            let name = self.directory.name(peer.id()).unwrap_or_default();
            let decided = DecidedAction::of_node(DecidedAt::Grant, Action::RelaySignal, &name);
            self.authority.journal(&decided.asked_by(&name), &room, &answer);
        }
        let result = match answer {
            Ok(told) => Asked::Assignment(told),
            Err(refusal) => Asked::Refused(refusal_wire::encode(refusal)),
        };
        GrantReply { result: Some(result) }
    }

    /// A node learns a room's grant only if policy approves it in some role of the room.
    async fn grant_of(
        &self,
        peer: &ProvenIdentity,
        request: &GrantRequest,
    ) -> Result<wire::RoomAssignment, Refusal> {
        let room = room_of(&request.room)?;
        let gateway = self.may_signal(peer, &room);
        let carries = |role| self.peer_may_carry(peer, role, &room).is_ok();
        let purpose = match request.purpose() {
            wire::GrantPurpose::Held => GrantPurpose::Held,
            wire::GrantPurpose::Create => GrantPurpose::Create,
            wire::GrantPurpose::TakeOver => GrantPurpose::TakeOver,
            wire::GrantPurpose::Unspecified => return Err(bad_request("the request names no purpose")),
        };
        // Only a gateway has participants for whom a home is made.
        // Its home hands the room over, whether or not policy approves it as gateway.
        let may_be_home = purpose == GrantPurpose::TakeOver && carries(MediaRole::Home);
        let asks_only =
            purpose == GrantPurpose::Held && (carries(MediaRole::Home) || carries(MediaRole::Spill));
        if !(may_be_home || asks_only) {
            gateway.clone()?;
        }
        let from = self.directory.name(peer.id()).unwrap_or_default();
        if let Err(why) = self.assignments.offered(&room, &request.grant, &from).await {
            tracing::info!(from, why = why.sentence, "a grant that another node told does not count");
        }
        if purpose == GrantPurpose::Held {
            return Ok(telling(self.assignments.held(&room)?));
        }
        let home = self.assignments.get(&room).map(|known| known.home);
        if purpose == GrantPurpose::TakeOver && home.is_some_and(|home| home == *from.as_str()) {
            self.admission.take_hand_over(&room, &from).await?;
        } else {
            gateway?;
            self.admission.become_home(&room, purpose).await?;
        }
        self.telling(&room).ok_or_else(|| GrantRefusal::None.into())
    }

    async fn start_signal(
        &self,
        peer: &ProvenIdentity,
        start: SignalStart,
        stream: SignalStream,
    ) -> Result<(), Refusal> {
        let span = trace::session(&self.node, &start.traceparent);
        let room = room_of(&start.room)?;
        self.learn_room(peer, &room, &start.grant).instrument(span.clone()).await?;
        span.in_scope(|| self.may_signal(peer, &room))?;
        let grants: Grants = serde_json::from_str(&start.claims_json)
            .map_err(|error| bad_request(format!("the participant's grants cannot be read: {error}")))?;
        if grants.institution != room.institution {
            return Err(bad_request("the participant's grants are for another institution"));
        }
        let gateway = self.directory.name(peer.id()).unwrap_or_default();
        let ticket = self.verified_ticket(&gateway, &room, &grants, start.ticket)?;
        let client = livekit_protocol::ClientInfo::decode(start.client_info.as_ref())
            .map_err(|error| bad_request(format!("the client's description cannot be read: {error}")))?;
        self.granted_role(peer, &room, &start.grant).instrument(span.clone()).await?;
        // The gateway decided too; this node believes its own policy, by the grant that it holds now.
        span.in_scope(|| may_join(&self.authority, &room, &grants))?;
        let assignment = self.assignments.get(&room).ok_or(GrantRefusal::None)?;
        let right_place = check_place(ticket.ticket(), &room, |sid| sid == assignment.sid, &self.node);
        right_place.map_err(|problem| self.ticket_refused(&gateway, &problem))?;
        let (to_room, from_client) = mpsc::channel(signal_pump::QUEUE);
        let (to_client, from_room) = mpsc::channel(signal_pump::QUEUE);
        let (to_room_tickets, tickets) = mpsc::channel(ticket_issuer::RENEWALS);
        let auto_subscribe =
            start.query.get("auto_subscribe").is_none_or(|value| value != "0" && value != "false");
        let arrival = Box::new(ParticipantArrival {
            join_id: seat_id(peer, &start.join_id),
            grants,
            client,
            auto_subscribe,
            ticket,
            signal: SignalChannels { from_client, tickets, to_client },
            span,
        });
        let arrived = self.rooms.arrive(&assignment, arrival).await;
        arrived.map_err(|sentence| Refusal::new(Reason::Internal, sentence))?;
        let local = signal_pump::LocalSide {
            reason: SignalEndReason::Closed,
            text: "the participant's session ended",
            on_lost: None,
            ends_with_receiver: false,
            most_entries: MAX_REQUEST_ENTRIES,
            tickets: Tickets::Receive(to_room_tickets),
        };
        let (counters, open) = (self.streams.clone(), self.streams.opened());
        self.tasks.spawn(signal_pump::run(stream, from_room, to_room, local, counters, open));
        Ok(())
    }

    /// The ticket of a participant, signed by the calling gateway: with a node key that the directory lists for it. While its
    /// key is replaced, that may be another one than it proved on the connection.
    fn verified_ticket(
        &self,
        gateway: &str,
        room: &RoomId,
        grants: &Grants,
        note: bytes::Bytes,
    ) -> Result<SignedTicket, Refusal> {
        let verified = SignedTicket::verify_if(note, |ticket| {
            if ticket.gateway != gateway {
                return Err(TicketProblem::Mismatch("gateway"));
            }
            // The room's sid is compared when its assignment is known.
            check_place(ticket, room, |_| true, &self.node)?;
            check_grants(ticket, grants)?;
            ticket.check_time(unix_ms())?;
            Ok(self.authority.facts(gateway).map(|facts| facts.keys.clone()).unwrap_or_default())
        });
        let verified = verified.map(|(ticket, _)| ticket);
        verified.map_err(|problem| self.ticket_refused(gateway, &problem))
    }

    fn ticket_refused(&self, gateway: &str, problem: &TicketProblem) -> Refusal {
        let reason = problem.reason();
        tracing::warn!(gateway, reason = reason.as_str(), %problem, "a participant is refused for its ticket");
        self.rooms.ticket_refused(reason);
        Refusal::new(reason, problem.to_string())
    }
}

impl Handler for ClusterService {
    fn open_room<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        room: &'a OpenRoom,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.open_asked(peer, room))
    }

    fn may_open(&self, peer: &ProvenIdentity, room: &str) -> Result<(), Refusal> {
        self.may_open_with(peer, room)
    }

    fn grant(&self, room: &str) -> String {
        RoomId::from_key(room).map(|room| self.assignments.note(&room)).unwrap_or_default()
    }

    fn may_be_open(&self, room: &str) -> bool {
        RoomId::from_key(room).is_some_and(|room| !self.assignments.has_ended(&room))
    }

    fn ask_grant<'a>(&'a self, peer: &'a ProvenIdentity, request: GrantRequest) -> BoxFuture<'a, GrantReply> {
        Box::pin(async move { self.grant_asked(peer, &request).await })
    }

    fn reserve<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        request: ReserveRequest,
    ) -> BoxFuture<'a, ReserveReply> {
        Box::pin(async move { self.reserve_now(peer, &request).await })
    }

    fn release<'a>(&'a self, peer: &'a ProvenIdentity, request: ReleaseRequest) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.seats.release_reservation(&seat_id(peer, &request.join_id)) })
    }

    fn signal<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let join_id = seat_id(peer, &start.join_id);
            let room = start.room.clone();
            let started = self.start_signal(peer, start, stream).await;
            self.journal_here(DecidedAt::Session, peer, &room, &started);
            // The seat of a participant who is refused is free for others at once.
            started.inspect_err(|_| self.seats.release_reservation(&join_id))
        })
    }

    fn document_versions(&self) -> Vec<HeldDocument> {
        self.documents.held()
    }

    fn documents_offered(&self, peer: &ProvenIdentity, offered: Vec<HeldDocument>) {
        // A node that no institution approves gets no packet from here, so nothing is fetched from it.
        let name = self.directory.name(peer.id());
        if name.is_some_and(|name| self.directory.is_approved_anywhere(&name)) {
            self.offers.offered(&self.documents, peer.id(), offered);
        }
    }

    fn document(&self, _peer: &ProvenIdentity, id: &DocumentId, version: u64) -> Option<Arc<str>> {
        let newest = self.documents.newest(id)?;
        (newest.version() == version).then(|| newest.note().clone())
    }
}
