//! Connects a participant's WebSocket at this gateway to its room: on this node, or on another node over
//! gRPC.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::{ClientInfo, DisconnectReason, SignalResponse};
use prost::Message as _;
use systir_admission::{Admission, JOIN_TIMEOUT, ReservedSeat, trace, with_time_limit};
use systir_assignment::{MediaRole, RoomId};
use systir_cascade::CallError;
use systir_gateway::{SignalCounters, SignalPipe};
use systir_journal::DecidedAt;
use systir_livekit::MAX_RESPONSE_ENTRIES;
use systir_livekit::token::Grants;
use systir_placement::Demand;
use systir_policy::{Action, Authority, DecidedAction};
use systir_proto::cluster::v1::{SignalEndReason, SignalStart};
use systir_reason::{Reason, Refusal};
use systir_registry::Assignments;
use systir_room::SignedTicket;
use systir_room_runtime::{KnownIdentity, ParticipantArrival, Rooms, SignalChannels};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::drain::RelayedClients;
use crate::node_directory::NodeDirectory;
use crate::signal_pump::{self, Tickets};
use crate::ticket_issuer::TicketIssuer;

/// Time limit to ask a busy room about an identity.
const IDENTITY_TIMEOUT: Duration = Duration::from_millis(500);

/// A participant with a verified token that wants to join.
pub(crate) struct Joiner {
    pub(crate) grants: Grants,
    pub(crate) client: ClientInfo,
    pub(crate) auto_subscribe: bool,
}

/// Joins at this gateway.
#[derive(Debug, Clone)]
pub(crate) struct Joins {
    pub(crate) node: String,
    pub(crate) authority: Arc<Authority>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) directory: Arc<NodeDirectory>,
    pub(crate) tasks: TaskTracker,
    /// Counters of signalling relayed to and from other nodes.
    pub(crate) streams: Arc<SignalCounters>,
    /// The clients whose signalling is relayed to other nodes.
    pub(crate) relayed: Arc<RelayedClients>,
    /// Signs the participants' tickets.
    pub(crate) tickets: Arc<TicketIssuer>,
    /// Changes when policy changes.
    pub(crate) policy_changes: watch::Receiver<u64>,
}

impl Joins {
    /// Joins a participant to the room of its grants.
    pub(crate) async fn join(&self, joiner: Joiner) -> Result<SignalPipe, Refusal> {
        self.join_within(JOIN_TIMEOUT, joiner).await
    }

    pub(crate) async fn join_within(&self, limit: Duration, joiner: Joiner) -> Result<SignalPipe, Refusal> {
        let institution = joiner.grants.institution.clone();
        let placed = with_time_limit(limit, self.place(joiner)).await;
        if let Err(refusal) = &placed
            && [Reason::JoinTimeout, Reason::NoRoomKey].contains(&refusal.reason)
        {
            // Nothing was decided about a room.
            let decided = DecidedAction::of_participant(DecidedAt::Placement, Action::Join, &institution);
            self.authority.journal_institution(&decided, &institution, &placed);
        }
        match placed {
            Ok((pipe, reason)) => {
                Span::current().record("reason", reason.as_str());
                self.admission.metrics().join_placed(reason);
                Ok(pipe)
            }
            Err(refusal) => {
                let code = refusal.reason.as_str();
                Span::current().record("reason", code);
                self.admission.metrics().join_refused(refusal.reason);
                tracing::info!(code, why = refusal.sentence, "a join was refused");
                Err(refusal)
            }
        }
    }

    async fn place(&self, joiner: Joiner) -> Result<(SignalPipe, Reason), Refusal> {
        let seat = self.seat(&joiner.grants).await?;
        let (reason, node, room) = (seat.reason, seat.node.clone(), seat.assignment.room.clone());
        let connected = self.connect(joiner, seat).await;
        if connected.is_err() {
            let role = self.assignments.role(&room, &node).unwrap_or(MediaRole::Spill);
            let decided = DecidedAction::of_node(DecidedAt::Session, role.into(), &node);
            self.authority.journal(&decided, &room, &connected);
        }
        Ok((connected?, reason))
    }

    /// Connects a participant to its seat, which is released if this fails or is cancelled.
    async fn connect(&self, joiner: Joiner, seat: ReservedSeat) -> Result<SignalPipe, Refusal> {
        let ticket = self.ticket(&joiner.grants, &seat).await?;
        if seat.node == self.node {
            self.join_here(joiner, seat, ticket).await
        } else {
            let relaying = tracing::error_span!("relay-signal", node = seat.node);
            self.join_there(joiner, seat, ticket).instrument(relaying).await
        }
    }

    /// A seat in the room of this name.
    async fn seat(&self, grants: &Grants) -> Result<ReservedSeat, Refusal> {
        let look_up = || self.admission.room(&grants.institution, &grants.room);
        let demand = Demand { view_only: !grants.can_publish };
        let room = look_up()?;
        match self.seat_in(&room, grants, &demand).await {
            // While the institution changes its room key, another gateway may have created the room under the other key.
            Err(refusal) => match look_up()? {
                found if found != room => self.seat_in(&found, grants, &demand).await,
                _ => Err(refusal),
            },
            seat => seat,
        }
    }

    async fn seat_in(
        &self,
        room: &RoomId,
        grants: &Grants,
        demand: &Demand,
    ) -> Result<ReservedSeat, Refusal> {
        let elsewhere = self.known(room, &grants.identity).await.elsewhere;
        self.admission.admit(room, grants, demand, elsewhere).await
    }

    /// The participant's ticket. Its join number is above that of the identity's last join, as far as this node's room and
    /// the media node know.
    async fn ticket(&self, grants: &Grants, seat: &ReservedSeat) -> Result<SignedTicket, Refusal> {
        let known = self.known(&seat.assignment.room, &grants.identity).await;
        let last = known.last_join.max(seat.last_join);
        self.tickets.issue(&seat.assignment, &seat.node, grants, last).map_err(|error| {
            tracing::warn!(%error, "a ticket cannot be issued");
            let sentence = "This server cannot issue a ticket for your token: a name in it is not allowed.";
            Refusal::new(Reason::TicketMalformed, sentence)
        })
    }

    async fn join_here(
        &self,
        joiner: Joiner,
        seat: ReservedSeat,
        ticket: SignedTicket,
    ) -> Result<SignalPipe, Refusal> {
        let (to_media, from_client) = mpsc::channel(signal_pump::QUEUE);
        let (to_client, from_media) = mpsc::channel(signal_pump::QUEUE);
        let arrival = Box::new(ParticipantArrival {
            join_id: seat.join_id,
            grants: joiner.grants,
            client: joiner.client,
            auto_subscribe: joiner.auto_subscribe,
            signal: SignalChannels { from_client, tickets: self.tickets.renew(&ticket), to_client },
            ticket,
            span: trace::session(&self.node, &trace::traceparent()),
        });
        self.rooms.arrive(&seat.assignment, arrival).await.map_err(media_node_lost)?;
        seat.guard.keep();
        Ok(SignalPipe { to_media, from_media })
    }

    async fn join_there(
        &self,
        joiner: Joiner,
        seat: ReservedSeat,
        ticket: SignedTicket,
    ) -> Result<SignalPipe, Refusal> {
        let claims_json = serde_json::to_string(&joiner.grants).map_err(|error| {
            media_node_lost(format!("Your grants cannot be sent to the server that carries you ({error})."))
        })?;
        let auto_subscribe = if joiner.auto_subscribe { "1" } else { "0" };
        let room = seat.assignment.room.clone();
        let start = SignalStart {
            room: room.key(),
            join_id: seat.join_id,
            claims_json,
            client_info: joiner.client.encode_to_vec().into(),
            query: HashMap::from([("auto_subscribe".to_owned(), auto_subscribe.to_owned())]),
            grant: seat.assignment.grant.clone(),
            resume_sid: String::new(),
            traceparent: trace::traceparent(),
            ticket: ticket.note().clone(),
        };
        // Policy may have changed since the seat was reserved.
        self.admission.may_relay_to(&room, &seat.node)?;
        let stream = self.directory.signal(&seat.node, start).await.map_err(|error| {
            tracing::warn!(node = seat.node, %error, "signalling cannot be relayed");
            match error {
                CallError::Refused(_) => Refusal::new(
                    Reason::ApprovedUnavailable,
                    "The server that reserved a place for you refused to accept you. Join again.",
                ),
                _ => media_node_lost("The server that reserved a place for you does not answer. Join again."),
            }
        })?;
        let relayed = seat.guard.keep();
        let (to_media, from_client) = mpsc::channel(signal_pump::QUEUE);
        let (to_client, from_media) = mpsc::channel(signal_pump::QUEUE);
        let local = signal_pump::LocalSide {
            reason: SignalEndReason::ClientGone,
            text: "the client's WebSocket closed",
            // The client reconnects at once and gets another media node.
            on_lost: Some(leave_and_reconnect(DisconnectReason::StateMismatch)),
            ends_with_receiver: true,
            most_entries: MAX_RESPONSE_ENTRIES,
            tickets: Tickets::Send(self.tickets.renew(&ticket)),
        };
        let (counters, open) = (self.streams.clone(), self.streams.opened());
        let (client, last) = (self.relayed.add(room.clone()), to_client.clone());
        let lost_role = self.clone().lost_role(room, seat.node, to_client.clone());
        let relay = signal_pump::run(stream, from_client, to_client, local, counters, open);
        self.tasks.spawn(async move {
            let _relayed = relayed;
            tokio::select! {
                () = relay => {}
                () = lost_role => {}
                () = client.asked() => {
                    // If the queue is full, the end of the stream asks the same.
                    let _ = last.try_send(leave_and_reconnect(DisconnectReason::Migration));
                }
            }
        });
        Ok(SignalPipe { to_media, from_media })
    }

    /// Waits until policy, or the room's grant, no longer allows this gateway to send the room's signalling to the media
    /// node; the client is then asked to reconnect, and finds another node. The media node asks its own policy too.
    async fn lost_role(
        mut self,
        room: RoomId,
        media_node: String,
        to_client: mpsc::Sender<Box<SignalResponse>>,
    ) {
        let grant = self.assignments.registry().watch_room(&room);
        loop {
            // Before the question, so that no later change is missed.
            grant.mark_read();
            if let Err(refusal) = self.admission.may_relay_to(&room, &media_node) {
                tracing::info!(
                    media_node,
                    why = refusal.sentence,
                    "a participant's signalling is relayed no longer; the client is asked to reconnect"
                );
                let decided = DecidedAction::of_node(DecidedAt::Standing, Action::RelaySignal, &self.node);
                self.authority.journal(&decided, &room, &Err::<(), _>(refusal));
                // If the queue is full, the end of the stream asks the same.
                let _ = to_client.try_send(leave_and_reconnect(DisconnectReason::StateMismatch));
                return;
            }
            tokio::select! {
                () = grant.changed() => {}
                Ok(()) = self.policy_changes.changed() => {}
            }
        }
    }

    /// What this node's room, if it carries the room, knows of the identity.
    pub(crate) async fn known(&self, room: &RoomId, identity: &str) -> KnownIdentity {
        self.rooms.identity(room, identity, IDENTITY_TIMEOUT).await
    }
}

fn media_node_lost(sentence: impl Into<String>) -> Refusal {
    Refusal::new(Reason::MediaNodeLost, sentence)
}

fn leave_and_reconnect(reason: DisconnectReason) -> Box<SignalResponse> {
    use livekit_protocol::{LeaveRequest, leave_request, signal_response};
    #[allow(deprecated)]
    let leave = LeaveRequest {
        can_reconnect: true,
        reason: reason as i32,
        action: leave_request::Action::Reconnect as i32,
        ..Default::default()
    };
    Box::new(SignalResponse { message: Some(signal_response::Message::Leave(leave)) })
}
