//! What other nodes ask of this one, and what links tell it. Each question about a room is decided
//! by this node's own policy, on what TLS proved of the asker.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use systir_assignment::{Assignment, RoomId};
use systir_cascade::{BoxFuture, Handler, LinkEvent, Refused, SignalEvent, SignalStream};
use systir_gateway::{Open, Tally};
use systir_identity::SpiffeId;
use systir_livekit::token::Grants;
use systir_policy::{Action, Decision, ProvenIdentity};
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::{
    Admitted, OpenRoom, RefusalCode, ReleaseRequest, ReserveRefused, ReserveReply, ReserveRequest,
    SignalEndReason, SignalStart,
};
use tokio::sync::mpsc;

use crate::node::{Shared, refusal_code};
use crate::reason::Reason;
use crate::room::{Arrival, FromLinks, SignalEnds};
use crate::trace;

/// Messages of one participant that may wait, each way.
pub(crate) const SIGNALS: usize = 256;

/// Why an asker is refused that was away for too long.
const OVERTAKEN: &str = "the epoch has been overtaken";

pub(crate) struct Linkside(pub Arc<Shared>);

fn proven(peer: &SpiffeId) -> ProvenIdentity {
    ProvenIdentity {
        spiffe_id: peer.as_str().to_owned(),
        trust_domain: peer.trust_domain().as_str().to_owned(),
    }
}

fn denied(decision: Decision) -> Refused {
    let mut rules: Vec<String> = decision.rules.iter().map(ToString::to_string).collect();
    if rules.is_empty() {
        // That no rule permits it is a decision, too.
        rules.push(decision.reason.as_str().to_owned());
    }
    Refused { reason: decision.why, rules }
}

impl Linkside {
    /// May the peer and this node share the room's media? Both are asked about.
    fn both_carry(&self, peer: &SpiffeId, room: &RoomId) -> Result<(), Refused> {
        let other = self.0.authority.peer_carries(&room.institution, &proven(peer));
        if !other.allowed {
            return Err(denied(other));
        }
        let own = self.0.authority.carries(&room.institution, &self.0.name);
        if own.allowed { Ok(()) } else { Err(denied(own)) }
    }

    /// May the peer see the room's signalling?
    fn may_signal(&self, peer: &SpiffeId, room: &RoomId) -> Result<(), Refused> {
        let door = self.0.authority.peer(Action::RelaySignal, &room.institution, &proven(peer));
        trace::decision(peer.relay_name().unwrap_or_default(), Action::RelaySignal, &door);
        if door.allowed { Ok(()) } else { Err(denied(door)) }
    }

    /// Does the peer go by an epoch that has been overtaken? Then it was away while another node took
    /// over. One that is ahead of this node's copy is right: the copy may be a moment behind.
    fn is_overtaken(&self, room: &RoomId, epoch: u64) -> bool {
        // It knows of no record at all; if there is one, it hears of that when it writes its own.
        epoch != 0 && self.0.registry.assignment(room).is_some_and(|known| epoch < known.value.epoch)
    }

    /// The room's assignment as this node knows it, with this node in it. The asker says that it is
    /// assigned; the registry's copy may be a moment behind, so it is waited for.
    async fn assignment(&self, room: &RoomId) -> Option<Assignment> {
        let mut view = self.0.registry.watch();
        let found = view.wait_for(|view| view.room(room).is_some_and(|known| known.value.has(&self.0.name)));
        let found = tokio::time::timeout(Duration::from_millis(1500), found).await;
        let view = found.ok()?.ok()?;
        view.room(room).map(|known| known.value.clone())
    }

    fn room(key: &str) -> Result<RoomId, Refused> {
        RoomId::from_key(key).ok_or_else(|| Refused::because("this is no room's key"))
    }

    fn reserve_now(&self, peer: &SpiffeId, request: &ReserveRequest) -> ReserveReply {
        let span = trace::asked_for_seat(&self.0.name, &request.traceparent);
        let reply = span.in_scope(|| self.decide_on_seat(peer, request));
        trace::answered(&span, &reply);
        reply
    }

    fn decide_on_seat(&self, peer: &SpiffeId, request: &ReserveRequest) -> ReserveReply {
        let refuse = |code: RefusalCode, refused: Refused| ReserveReply {
            result: Some(Reserved::Refused(ReserveRefused {
                code: code.into(),
                reason: refused.reason,
                rules: refused.rules,
            })),
        };
        let room = match Self::room(&request.room) {
            Ok(room) => room,
            Err(refused) => return refuse(RefusalCode::Internal, refused),
        };
        // Who asks for a seat will see signalling; who holds it will see media.
        if let Err(refused) = self.may_signal(peer, &room) {
            return refuse(RefusalCode::Policy, refused);
        }
        let own = self.0.authority.carries(&room.institution, &self.0.name);
        trace::carries(&self.0.name, &own);
        if !own.allowed {
            return refuse(RefusalCode::Policy, denied(own));
        }
        if self.is_overtaken(&room, request.epoch) {
            return refuse(RefusalCode::Epoch, Refused::because(OVERTAKEN));
        }
        match self.0.reserve_seat(&room, &request.identity, &request.join_id) {
            Ok(()) => ReserveReply {
                result: Some(Reserved::Admitted(Admitted {
                    ttl_seconds: systir_placement::RESERVATION_TTL.as_secs() as u32,
                    media_candidates: self.0.media.iter().map(|address| format!("udp {address}")).collect(),
                    fingerprint: String::new(),
                    epoch: request.epoch,
                })),
            },
            Err(error) => refuse(refusal_code(&error), Refused::because(error.to_string())),
        }
    }

    async fn signal_starts(
        &self,
        peer: &SpiffeId,
        start: SignalStart,
        stream: SignalStream,
    ) -> Result<(), Refused> {
        let span = trace::session(&self.0.name, &start.traceparent);
        let room = Self::room(&start.room)?;
        span.in_scope(|| self.may_signal(peer, &room))?;
        let own = self.0.authority.carries(&room.institution, &self.0.name);
        span.in_scope(|| trace::carries(&self.0.name, &own));
        if !own.allowed {
            return Err(denied(own));
        }
        let grants: Grants = serde_json::from_str(&start.claims_json)
            .map_err(|error| Refused::because(format!("the participant's grants cannot be read: {error}")))?;
        if grants.institution != room.institution || grants.room != room.name {
            return Err(Refused::because("the participant's grants are for another room"));
        }
        let front_door =
            self.0.authority.node_of(peer.as_str()).map(|node| node.id.clone()).unwrap_or_default();
        let client = livekit_protocol::ClientInfo::decode(start.client_info.as_ref())
            .map_err(|error| Refused::because(format!("the client's description cannot be read: {error}")))?;
        let assignment = match self.assignment(&room).await {
            Some(assignment) => Some(assignment),
            // The front door knew of the assignment that this node has just left.
            None => crate::rooms::claim(&self.0, &room).await,
        };
        let Some(assignment) = assignment else {
            return Err(Refused::because("this node is not assigned to the room"));
        };
        if self.is_overtaken(&room, start.epoch) {
            return Err(Refused::because(OVERTAKEN));
        }
        let auto_subscribe =
            start.query.get("auto_subscribe").is_none_or(|value| value != "0" && value != "false");
        let (to_room, from_client) = mpsc::channel(SIGNALS);
        let (to_client, from_room) = mpsc::channel(SIGNALS);
        let arrival = Box::new(Arrival {
            join_id: start.join_id,
            grants,
            client,
            auto_subscribe,
            front_door,
            after: start.joined_after,
            signal: SignalEnds { from_client, to_client },
            span,
        });
        self.0.rooms.arrive(&self.0, &assignment, arrival).await.map_err(Refused::because)?;
        let tally = self.0.metrics.streams.clone();
        let open = tally.opened();
        self.0.tasks.spawn(carry(stream, to_room, from_room, tally, open));
        Ok(())
    }
}

/// Carries one participant's relayed signalling between its stream and its room.
async fn carry(
    stream: SignalStream,
    to_room: mpsc::Sender<livekit_protocol::SignalRequest>,
    mut from_room: mpsc::Receiver<livekit_protocol::SignalResponse>,
    tally: Arc<Tally>,
    _open: Open,
) {
    let SignalStream { mut tx, mut rx } = stream;
    // Each way waits for itself alone: who is held back is still told everything.
    let inwards = async {
        while let SignalEvent::Payload(payload) = rx.recv().await {
            tally.received();
            match livekit_protocol::SignalRequest::decode(payload) {
                Ok(request) => {
                    if to_room.send(request).await.is_err() {
                        // The session is over; its last words are still on their way out.
                        return std::future::pending().await;
                    }
                }
                Err(error) => tracing::debug!(%error, "a relayed message cannot be read"),
            }
        }
    };
    let outwards = async {
        while let Some(response) = from_room.recv().await {
            if tx.ready().await.is_err() {
                tracing::warn!("a front door does not read what one of its people is told; that stream ends");
                return false;
            }
            tally.sent();
            if tx.send(response.encode_to_vec().into()).is_err() {
                return false;
            }
        }
        true
    };
    let session_is_over = tokio::select! { over = outwards => over, () = inwards => false };
    if session_is_over {
        tx.end(SignalEndReason::Closed, "the participant's session is over");
    }
}

impl Handler for Linkside {
    fn admit(&self, peer: &SpiffeId) -> Result<(), Refused> {
        if self.0.authority.node_of(peer.as_str()).is_some() {
            return Ok(());
        }
        self.0.metrics.link_refusals.get_or_create(&Reason::Unlisted.into()).inc();
        tracing::warn!(%peer, "a node that is not in the nodes file was refused; its certificate is of a known CA");
        Err(Refused::because(format!("{peer} is not in the nodes file of {}", self.0.name)))
    }

    fn open_room<'a>(&'a self, peer: &'a SpiffeId, room: &'a OpenRoom) -> BoxFuture<'a, Result<(), Refused>> {
        Box::pin(async move {
            let id = Self::room(&room.room)?;
            self.both_carry(peer, &id)?;
            let Some(assignment) = self.assignment(&id).await else {
                return Err(Refused::because("this node is not assigned to the room"));
            };
            if room.epoch < assignment.epoch {
                return Err(Refused::because(OVERTAKEN));
            }
            let asker =
                self.0.authority.node_of(peer.as_str()).map(|node| node.id.as_str()).unwrap_or_default();
            if !assignment.has(asker) {
                return Err(Refused::because("the asking node is not assigned to the room"));
            }
            self.0.rooms.open(&self.0, &assignment);
            Ok(())
        })
    }

    fn reserve<'a>(&'a self, peer: &'a SpiffeId, request: ReserveRequest) -> BoxFuture<'a, ReserveReply> {
        Box::pin(async move { self.reserve_now(peer, &request) })
    }

    fn release<'a>(&'a self, _peer: &'a SpiffeId, request: ReleaseRequest) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.0.release_reservation(&request.join_id) })
    }

    fn signal<'a>(
        &'a self,
        peer: &'a SpiffeId,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refused>> {
        Box::pin(self.signal_starts(peer, start, stream))
    }
}

/// Hands what links tell to the rooms that it is about, and waits for none of them; ends with the
/// links.
pub(crate) async fn dispatch(shared: Arc<Shared>, mut events: mpsc::Receiver<LinkEvent>) {
    while let Some(event) = events.recv().await {
        let name = |peer: &SpiffeId| shared.authority.node_of(peer.as_str()).map(|node| node.id.clone());
        let about = |room: &str, event: FromLinks| shared.rooms.link_says(&shared, room, event);
        match event {
            LinkEvent::Up { peer, .. } => {
                shared.metrics.links.inc();
                tracing::info!(%peer, "a link is up");
            }
            LinkEvent::Down { peer, reason, .. } => {
                shared.metrics.links.dec();
                tracing::info!(%peer, %reason, "a link is down");
                if let Some(node) = name(&peer) {
                    for room in shared.rooms.all() {
                        room.links.post(FromLinks::Down { node: node.clone() });
                    }
                }
            }
            LinkEvent::Unreachable { peer, reason } => {
                tracing::warn!(%peer, reason, "a node cannot be reached")
            }
            LinkEvent::RoomOpened { peer, link, room } => {
                if let Some(node) = name(&peer) {
                    about(&room, FromLinks::Opened { node, link });
                }
            }
            LinkEvent::RoomRefused { peer, room, by_us, reason, rules, .. } => {
                // Without a rule that decided, two nodes only see the assignment at different times.
                if rules.is_empty() {
                    tracing::info!(%peer, by_us, reason, "a room is not opened on a link yet");
                } else {
                    tracing::warn!(%peer, by_us, reason, ?rules, "a room is not opened on a link");
                }
                shared.metrics.link_refusals.get_or_create(&Reason::RoomRefused.into()).inc();
                if let Some(node) = name(&peer) {
                    about(&room, FromLinks::Refused { node, reason, closed: false });
                }
            }
            LinkEvent::RoomClosed { peer, room, .. } => {
                if let Some(node) = name(&peer) {
                    let reason = "closed by the other node".to_owned();
                    about(&room, FromLinks::Refused { node, reason, closed: true });
                }
            }
            LinkEvent::Message { peer, room, body, .. } => {
                if let Some(node) = name(&peer) {
                    about(&room, FromLinks::Says { node, body });
                }
            }
        }
    }
}
