//! Requests of other nodes. Each request about a room is decided by this node's own policy, on the identity
//! of the peer that TLS proved.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message as _;
use systir_admission::{Admission, may_join, trace};
use systir_assignment::{Assignment, MediaRole, RoomId, is_newer_epoch};
use systir_cascade::{BoxFuture, Handler, HeldDocument, SignalStream};
use systir_documents::DocumentId;
use systir_gateway::SignalCounters;
use systir_identity::ProvenIdentity;
use systir_livekit::token::Grants;
use systir_placement::{RESERVATION_TTL, Seats};
use systir_policy::{Action, Authority, Decision};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::{
    Admitted, OpenRoom, ReleaseRequest, ReserveReply, ReserveRequest, SignalEndReason, SignalStart,
};
use systir_reason::{Reason, Refusal};
use systir_registry::{Assignments, unix_ms};
use systir_room::{SignedTicket, TicketProblem, check_grants, check_place};
use systir_room_runtime::{ParticipantArrival, Rooms, SignalChannels};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::documents::exchange::Offers;
use crate::documents::store::DocumentStore;
use crate::node_directory::NodeDirectory;
use crate::signal_pump::{self, Tickets};
use crate::{refusal_wire, ticket_issuer};

/// How long to wait for an assignment that the peer knows and this node's copy of the registry does not.
const COPY_DELAY: Duration = Duration::from_millis(1500);

/// Time limit to read an identity's last join number from a busy room; without it, clocks alone order the joins.
const LAST_JOIN_TIMEOUT: Duration = Duration::from_millis(200);

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
    pub(crate) offers: Offers,
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

fn overtaken() -> Refusal {
    Refusal::new(Reason::EpochOvertaken, "the epoch has been overtaken")
}

fn bad_request(sentence: impl Into<String>) -> Refusal {
    Refusal::new(Reason::BadRequest, sentence)
}

fn room_of(key: &str) -> Result<RoomId, Refusal> {
    RoomId::from_key(key).ok_or_else(|| bad_request("not a room key"))
}

impl ClusterService {
    /// May the peer see the room's signalling?
    fn may_signal(&self, peer: &ProvenIdentity, room: &RoomId) -> Result<(), Refusal> {
        let decision = self.authority.peer(Action::RelaySignal, room, peer, SystemTime::now());
        trace::decision(&self.directory.name(peer.id()).unwrap_or_default(), Action::RelaySignal, &decision);
        if decision.allowed { Ok(()) } else { Err(denied(&decision)) }
    }

    /// May this node carry the room in that role?
    fn may_carry(&self, role: MediaRole, room: &RoomId) -> Result<(), Refusal> {
        let own = self.authority.node(role.into(), room, &self.node);
        trace::decision(&self.node, role.into(), &own);
        if own.allowed { Ok(()) } else { Err(denied(&own)) }
    }

    /// May the peer carry the room in that role?
    fn peer_may_carry(&self, peer: &ProvenIdentity, role: MediaRole, room: &RoomId) -> Result<(), Refusal> {
        let other = self.authority.peer(role.into(), room, peer, SystemTime::now());
        if other.allowed { Ok(()) } else { Err(denied(&other)) }
    }

    /// The role that a reservation is for. The assignment says it, unless the peer knows a newer one, or none:
    /// then its compare-and-swap fails, and it asks again.
    fn role_for_seat(&self, room: &RoomId, request: &ReserveRequest) -> Result<MediaRole, Refusal> {
        if let Some(known) = self.assignments.get(room)
            && request.epoch != 0
            && !is_newer_epoch(request.epoch, known.value.epoch)
        {
            // A node that is not assigned yet would become a spill node.
            return Ok(known.value.role_of(&self.node).unwrap_or(MediaRole::Spill));
        }
        match request.role() {
            wire::MediaRole::Home => Ok(MediaRole::Home),
            wire::MediaRole::Spill => Ok(MediaRole::Spill),
            wire::MediaRole::Unspecified => Err(bad_request("the reservation names no role")),
        }
    }

    /// Is the peer's epoch older than this node's copy? Then the peer missed a takeover. A newer epoch is
    /// valid: this node's copy may be behind.
    fn is_overtaken(&self, room: &RoomId, epoch: u64) -> bool {
        // Epoch 0: the peer knows no record. If one exists, the peer's compare-and-swap fails.
        epoch != 0 && self.assignments.get(room).is_some_and(|known| is_newer_epoch(known.value.epoch, epoch))
    }

    /// The room's assignment that includes this node. The peer acts on an assignment that this node's copy of
    /// the registry may not show yet, so this waits up to [`COPY_DELAY`] for it.
    async fn own_assignment(&self, room: &RoomId) -> Option<Assignment> {
        let mut view = self.assignments.registry().watch();
        let found = view.wait_for(|view| view.room(room).is_some_and(|known| known.value.has(&self.node)));
        let view = tokio::time::timeout(COPY_DELAY, found).await.ok()?.ok()?;
        view.room(room).map(|known| known.value.clone())
    }

    fn reserve_now(&self, peer: &ProvenIdentity, request: &ReserveRequest) -> ReserveReply {
        let span = trace::asked_for_seat(&self.node, &request.traceparent);
        let answer = span.in_scope(|| self.reserve_seat(peer, request));
        trace::answered(&span, &answer);
        let result = match answer {
            Ok(()) => {
                let ttl_seconds = RESERVATION_TTL.as_secs() as u32;
                Reserved::Admitted(Admitted { ttl_seconds, epoch: request.epoch, last_join: 0 })
            }
            Err(refusal) => Reserved::Refused(refusal_wire::encode(refusal)),
        };
        ReserveReply { result: Some(result) }
    }

    fn reserve_seat(&self, peer: &ProvenIdentity, request: &ReserveRequest) -> Result<(), Refusal> {
        let room = room_of(&request.room)?;
        // The peer relays signalling; this node carries media.
        self.may_signal(peer, &room)?;
        // Before the role: an outdated request names a role of the past, and the peer must ask again.
        if self.is_overtaken(&room, request.epoch) {
            return Err(overtaken());
        }
        self.may_carry(self.role_for_seat(&room, request)?, &room)?;
        self.admission.may_be_added(&room, &self.node)?;
        self.admission.reserve_here(&room, &request.identity, &request.join_id)
    }

    async fn start_signal(
        &self,
        peer: &ProvenIdentity,
        start: SignalStart,
        stream: SignalStream,
    ) -> Result<(), Refusal> {
        let span = trace::session(&self.node, &start.traceparent);
        let room = room_of(&start.room)?;
        span.in_scope(|| self.may_signal(peer, &room))?;
        let grants: Grants = serde_json::from_str(&start.claims_json)
            .map_err(|error| bad_request(format!("the participant's grants cannot be read: {error}")))?;
        if grants.institution != room.institution || grants.room != room.name {
            return Err(bad_request("the participant's grants are for another room"));
        }
        // The gateway decided too; this node believes its own policy.
        span.in_scope(|| may_join(&self.authority, &room, &grants))?;
        let gateway = self.directory.name(peer.id()).unwrap_or_default();
        let ticket = self.verified_ticket(peer, &gateway, &room, &grants, start.ticket)?;
        let client = livekit_protocol::ClientInfo::decode(start.client_info.as_ref())
            .map_err(|error| bad_request(format!("the client's description cannot be read: {error}")))?;
        let assignment = self.assigned_here(&room, &ticket.ticket().room_sid).await?;
        if self.is_overtaken(&room, start.epoch) {
            return Err(overtaken());
        }
        let right_place = check_place(ticket.ticket(), &room, |sid| sid == assignment.sid, &self.node);
        right_place.map_err(|problem| self.ticket_refused(&gateway, &problem))?;
        let role = assignment.role_of(&self.node).ok_or_else(not_assigned)?;
        span.in_scope(|| self.may_carry(role, &room))?;
        let (to_room, from_client) = mpsc::channel(signal_pump::QUEUE);
        let (to_client, from_room) = mpsc::channel(signal_pump::QUEUE);
        let (to_room_tickets, tickets) = mpsc::channel(ticket_issuer::RENEWALS);
        let auto_subscribe =
            start.query.get("auto_subscribe").is_none_or(|value| value != "0" && value != "false");
        let arrival = Box::new(ParticipantArrival {
            join_id: start.join_id,
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
            tickets: Tickets::Receive(to_room_tickets),
        };
        let (counters, open) = (self.streams.clone(), self.streams.opened());
        self.tasks.spawn(signal_pump::run(stream, from_room, to_room, local, counters, open));
        Ok(())
    }

    /// The ticket of a participant, signed with the node key that the peer proved.
    fn verified_ticket(
        &self,
        peer: &ProvenIdentity,
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
            Ok(vec![peer.node_key().clone()])
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

    /// Adds to the answer the last join of the identity that this node knows.
    async fn with_last_join(&self, mut reply: ReserveReply, room: &str, identity: &str) -> ReserveReply {
        if let Some(Reserved::Admitted(admitted)) = &mut reply.result
            && let Some(handle) = RoomId::from_key(room).and_then(|room| self.rooms.get(&room))
        {
            let last = tokio::time::timeout(LAST_JOIN_TIMEOUT, handle.last_join(identity)).await;
            admitted.last_join = last.ok().flatten().unwrap_or_default();
        }
        reply
    }

    async fn assigned_here(&self, room: &RoomId, sid: &str) -> Result<Assignment, Refusal> {
        if let Some(assignment) = self.own_assignment(room).await {
            return Ok(assignment);
        }
        // The gateway may still use an assignment that this node has just left.
        let fresh = || Assignment { sid: sid.to_owned(), ..self.admission.new_assignment(room, &self.node) };
        self.rooms.reassign(room, fresh).await.ok_or_else(not_assigned)
    }
}

fn not_assigned() -> Refusal {
    Refusal::new(Reason::NotAssigned, "this node is not assigned to the room")
}

impl Handler for ClusterService {
    fn open_room<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        room: &'a OpenRoom,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let id = room_of(&room.room)?;
            // A peer that may not carry the room in any role learns nothing about it, at once.
            let as_spill = self.peer_may_carry(peer, MediaRole::Spill, &id);
            as_spill.or_else(|_| self.peer_may_carry(peer, MediaRole::Home, &id))?;
            let assignment = self.own_assignment(&id).await.ok_or_else(not_assigned)?;
            if is_newer_epoch(assignment.epoch, room.epoch) {
                return Err(overtaken());
            }
            let own_role = assignment.role_of(&self.node).ok_or_else(not_assigned)?;
            let peer_name = self.directory.name(peer.id()).unwrap_or_default();
            let Some(peer_role) = assignment.role_of(&peer_name) else {
                let sentence = "the requesting node is not assigned to the room";
                return Err(Refusal::new(Reason::NotAssigned, sentence));
            };
            self.peer_may_carry(peer, peer_role, &id)?;
            self.may_carry(own_role, &id)?;
            self.rooms.open(&assignment);
            Ok(())
        })
    }

    fn reserve<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        request: ReserveRequest,
    ) -> BoxFuture<'a, ReserveReply> {
        Box::pin(async move {
            let reply = self.reserve_now(peer, &request);
            self.with_last_join(reply, &request.room, &request.identity).await
        })
    }

    fn release<'a>(&'a self, _peer: &'a ProvenIdentity, request: ReleaseRequest) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.seats.release_reservation(&request.join_id) })
    }

    fn signal<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.start_signal(peer, start, stream))
    }

    fn document_versions(&self) -> Vec<HeldDocument> {
        self.documents.held()
    }

    fn documents_offered(&self, peer: &ProvenIdentity, offered: Vec<HeldDocument>) {
        self.offers.offered(&self.documents, peer.id(), offered);
    }

    fn document(&self, _peer: &ProvenIdentity, id: &DocumentId, version: u64) -> Option<Arc<str>> {
        let newest = self.documents.newest(id)?;
        (newest.version() == version).then(|| newest.note().clone())
    }
}
