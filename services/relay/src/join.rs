//! A participant's signalling, from its WebSocket at this front door to its room: here, or on
//! another node over its link's gRPC.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::{ClientInfo, SignalRequest, SignalResponse};
use prost::Message as _;
use systir_assignment::RoomId;
use systir_cascade::{CallError, SignalEvent, SignalStream};
use systir_gateway::{Open, Tally};
use systir_livekit::token::Grants;
use systir_placement::{Demand, ReasonCode};
use systir_proto::cluster::v1::{SignalEndReason, SignalStart};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span};

use crate::admit::{self, NotAdmitted, Seat};
use crate::linkside::SIGNALS;
use crate::node::Shared;
use crate::reason::Reason;
use crate::room::{Arrival, Message, SignalEnds};
use crate::trace;

/// Both directions of a participant's signalling, as the front door sees them.
pub(crate) struct Pipe {
    pub to_room: mpsc::Sender<SignalRequest>,
    pub from_room: mpsc::Receiver<SignalResponse>,
}

/// What the front door knows of who joins; the token was verified.
pub(crate) struct Joiner {
    pub grants: Grants,
    pub client: ClientInfo,
    pub auto_subscribe: bool,
}

/// Brings somebody into the room of its grants.
pub(crate) async fn join(shared: &Arc<Shared>, joiner: Joiner) -> Result<Pipe, NotAdmitted> {
    join_within(admit::WAIT, shared, joiner).await
}

pub(crate) async fn join_within(
    limit: Duration,
    shared: &Arc<Shared>,
    joiner: Joiner,
) -> Result<Pipe, NotAdmitted> {
    match admit::within(limit, place(shared, joiner)).await {
        Ok((pipe, reason)) => {
            Span::current().record("reason", reason.as_str());
            shared.metrics.join("placed", reason.into());
            Ok(pipe)
        }
        Err(refused) => {
            Span::current().record("reason", refused.code.as_str());
            shared.metrics.join("refused", refused.code);
            tracing::info!(code = refused.code.as_str(), why = refused.sentence, "a join was refused");
            Err(refused)
        }
    }
}

async fn place(shared: &Arc<Shared>, joiner: Joiner) -> Result<(Pipe, ReasonCode), NotAdmitted> {
    let room = RoomId::new(&joiner.grants.institution, &joiner.grants.room);
    let demand = Demand { view_only: !joiner.grants.can_publish };
    let seat = admit::admit(shared, &room, &joiner.grants.identity, &demand).await?;
    let (node, join_id, reason) = (seat.node.clone(), seat.join_id.clone(), seat.reason);
    let pipe = if node == shared.name {
        here(shared, joiner, seat).await
    } else {
        let relaying = tracing::error_span!("relay-signal", node);
        there(shared, joiner, seat).instrument(relaying).await
    };
    if pipe.is_err() {
        admit::release(shared, &room, &node, &join_id).await;
    }
    Ok((pipe?, reason))
}

fn broken(sentence: &str) -> NotAdmitted {
    NotAdmitted::unavailable(Reason::MediaNodeLost, sentence)
}

async fn here(shared: &Arc<Shared>, joiner: Joiner, seat: Seat) -> Result<Pipe, NotAdmitted> {
    let (to_room, from_client) = mpsc::channel(SIGNALS);
    let (to_client, from_room) = mpsc::channel(SIGNALS);
    let arrival = Box::new(Arrival {
        join_id: seat.join_id,
        grants: joiner.grants,
        client: joiner.client,
        auto_subscribe: joiner.auto_subscribe,
        front_door: shared.name.clone(),
        // The room here knows by itself.
        after: 0,
        signal: SignalEnds { from_client, to_client },
        span: trace::session(&shared.name, &trace::traceparent()),
    });
    shared.rooms.arrive(shared, &seat.assignment, arrival).await.map_err(broken)?;
    Ok(Pipe { to_room, from_room })
}

async fn there(shared: &Arc<Shared>, joiner: Joiner, seat: Seat) -> Result<Pipe, NotAdmitted> {
    let Some(address) = shared.address_of(&seat.node) else {
        return Err(broken("The server that was to carry you is gone. Join again."));
    };
    let claims_json = serde_json::to_string(&joiner.grants)
        .map_err(|error| broken(&format!("Your grants cannot be passed on ({error}).")))?;
    let mut query = HashMap::new();
    query.insert("auto_subscribe".to_owned(), if joiner.auto_subscribe { "1" } else { "0" }.to_owned());
    let start = SignalStart {
        room: seat.assignment.room.key(),
        join_id: seat.join_id,
        identity: joiner.grants.identity.clone(),
        claims_json,
        client_info: joiner.client.encode_to_vec().into(),
        query,
        epoch: seat.assignment.epoch,
        policy_version: seat.assignment.policy_number(),
        resume_sid: String::new(),
        traceparent: trace::traceparent(),
        joined_after: last_join(shared, &seat.assignment.room, &joiner.grants.identity).await,
    };
    let stream = shared.links().signal(&address, start).await.map_err(|error| {
        tracing::warn!(node = seat.node, %error, "signalling cannot be relayed");
        match error {
            CallError::Refused(_) => NotAdmitted::unavailable(
                Reason::ApprovedUnavailable,
                "The server that was to carry you could not take you in after all. Join again.",
            ),
            _ => broken("The server that was to carry you does not answer. Join again."),
        }
    })?;
    let (to_room, from_client) = mpsc::channel(SIGNALS);
    let (to_client, from_room) = mpsc::channel(SIGNALS);
    let open = shared.metrics.streams.opened();
    shared.tasks.spawn(relay(stream, from_client, to_client, shared.metrics.streams.clone(), open));
    Ok(Pipe { to_room, from_room })
}

/// The last join of this identity that this node knows of. The room may be too busy to tell; then the
/// clocks decide.
async fn last_join(shared: &Shared, room: &RoomId, identity: &str) -> u64 {
    let Some(handle) = shared.rooms.get(room) else { return 0 };
    let (ask, answer) = oneshot::channel();
    let asked = async {
        handle.messages.send(Message::LastJoin(identity.to_owned(), ask)).await.ok()?;
        answer.await.ok()
    };
    tokio::time::timeout(Duration::from_millis(500), asked).await.ok().flatten().unwrap_or_default()
}

/// Relays one participant's signalling to its media node, until either side ends. Each way waits for
/// itself alone: a room that takes no requests for a moment is still heard.
async fn relay(
    stream: SignalStream,
    mut from_client: mpsc::Receiver<SignalRequest>,
    to_client: mpsc::Sender<SignalResponse>,
    tally: Arc<Tally>,
    _open: Open,
) {
    let SignalStream { mut tx, mut rx } = stream;
    let there = async {
        while let Some(request) = from_client.recv().await {
            if tx.ready().await.is_err() {
                tracing::warn!("a media node does not read what somebody asks of it; their signalling ends");
                return false;
            }
            tally.sent();
            if tx.send(request.encode_to_vec().into()).is_err() {
                return false;
            }
        }
        true
    };
    let back = async {
        loop {
            match rx.recv().await {
                SignalEvent::Payload(payload) => {
                    tally.received();
                    match SignalResponse::decode(payload) {
                        Ok(response) => {
                            if to_client.send(response).await.is_err() {
                                return true;
                            }
                        }
                        Err(error) => tracing::warn!(%error, "a relayed message cannot be read"),
                    }
                }
                SignalEvent::End { .. } => return false,
                // The media node is lost: the client comes back at once, to another one.
                SignalEvent::Lost(why) => {
                    tracing::warn!(why, "a media node's signalling is lost");
                    let _ = to_client.try_send(leave_and_come_back());
                    return false;
                }
            }
        }
    };
    let client_is_gone = tokio::select! {
        gone = there => gone,
        gone = back => gone,
        () = to_client.closed() => true,
    };
    if client_is_gone {
        tx.end(SignalEndReason::ClientGone, "the client's WebSocket closed");
    }
}

fn leave_and_come_back() -> SignalResponse {
    use livekit_protocol::{DisconnectReason, LeaveRequest, leave_request, signal_response};
    #[allow(deprecated)]
    let leave = LeaveRequest {
        can_reconnect: true,
        reason: DisconnectReason::StateMismatch as i32,
        action: leave_request::Action::Reconnect as i32,
        ..Default::default()
    };
    SignalResponse { message: Some(signal_response::Message::Leave(leave)) }
}
