//! Runs a link from the moment it is up until its end.

use super::control::{apply_decision, close_ended_rooms, decide_room, notify, receive};
use super::documents::{self, Offers};
use super::established::{EstablishedLink, lock};
use super::link_rooms::LinkRooms;
use super::runtime::LinkRuntime;
use super::session_queue::SessionSender;
use super::state_pace::StatePace;
use super::table::LinkState;
use crate::event::{DownReason, LinkEvent, LinkNumber, RoomBody};
use crate::flow::Parity;
use crate::grpc::connection::NodeConnection;
use crate::open_flows::LinkFlows;
use crate::quic::QuicCommand;
use crate::stats::LinkStats;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prost::Message as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{Goodbye, RoomMessage, SessionMessage};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{info, warn};

/// How long the node may take to accept a `Down` event. Longer than for other events: without it the
/// node would believe that the link is up.
const DOWN_EVENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a link asks whether its rooms may stay open.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pending policy decisions per link, at most.
const MAX_DECISIONS: usize = 64;

/// Lossy data messages queued between the QUIC thread and the session; more are dropped.
pub(super) const DATA_MESSAGE_QUEUE: usize = 256;

/// A link whose session and QUIC connections are both up.
pub(super) struct NewLink {
    pub(super) number: LinkNumber,
    pub(super) connection: Arc<NodeConnection>,
    pub(super) peer: SpiffeId,
    pub(super) parity: Parity,
    pub(super) outgoing: bool,
    pub(super) out: SessionSender,
    pub(super) stream: Streaming<SessionMessage>,
    pub(super) data_messages: mpsc::Receiver<Bytes>,
    pub(super) flows: LinkFlows,
    pub(super) ended: oneshot::Receiver<DownReason>,
    pub(super) stats: Arc<Mutex<LinkStats>>,
}

/// Enters the link in the table and runs it until it ends. False when the table no longer expects
/// this link.
pub(super) async fn run_link(runtime: &Arc<LinkRuntime>, new_link: NewLink) -> bool {
    let NewLink {
        number,
        connection,
        peer,
        parity,
        outgoing,
        out,
        stream,
        data_messages,
        flows,
        ended,
        stats,
    } = new_link;
    let link = Arc::new(EstablishedLink {
        number,
        since: Instant::now(),
        peer,
        parity,
        outgoing,
        connection,
        rooms: Mutex::new(LinkRooms::new(parity, flows)),
        out,
        stats,
        closed_room_messages: AtomicU64::new(0),
        control_dropped: AtomicU64::new(0),
        rejected: Mutex::default(),
        close: runtime.cancel.child_token(),
        reason: Mutex::default(),
        done: CancellationToken::new(),
    });
    let entered = runtime.table.with_peer(&link.peer, |peer| {
        let is_current = match &peer.state {
            LinkState::Dialling(current, _) | LinkState::Accepting(current) => *current == number,
            _ => false,
        };
        if is_current {
            peer.state = LinkState::Up(link.clone());
        }
        is_current
    });
    if !entered {
        runtime.quic.send(QuicCommand::Close(number));
        return false;
    }
    // A new directory may have ended the peer's links before this one was in the table.
    if !runtime.authenticator.accepts(&link.connection.peer()) {
        link.end(DownReason::Unlisted);
    }
    info!(peer = %link.peer, link = number, "a link is up");
    let reason = process(runtime, &link, stream, data_messages, ended).await;
    finish(runtime, &link, reason).await;
    true
}

async fn finish(runtime: &Arc<LinkRuntime>, link: &Arc<EstablishedLink>, reason: DownReason) {
    let number = link.number;
    runtime.table.with_peer(&link.peer, |peer| {
        if matches!(&peer.state, LinkState::Up(current) if current.number == number) {
            peer.state = LinkState::Ending(number, link.done.clone());
        }
    });
    if matches!(reason, DownReason::Idle | DownReason::Shutdown | DownReason::Overrun) {
        link.out.send(Body::Goodbye(Goodbye { reason: reason.to_string() }));
    }
    if reason == DownReason::CertificateExpired {
        runtime.authenticator.counters.link_expired();
    }
    lock(&link.rooms).close_all();
    runtime.quic.send(QuicCommand::Close(number));
    info!(peer = %link.peer, link = number, %reason, "a link is down");
    let down = LinkEvent::Down { peer: link.peer.clone(), link: number, reason };
    if runtime.events.send_timeout(down, DOWN_EVENT_TIMEOUT).await.is_err() && !runtime.cancel.is_cancelled()
    {
        warn!(peer = %link.peer, "the node does not read its link events; a Down event was lost");
    }
    link.done.cancel();
}

/// Requests the rooms that this node needs on the link, has not requested yet, and that may be open.
fn request_needed_rooms(runtime: &LinkRuntime, link: &EstablishedLink) {
    let needed: Vec<_> = runtime.table.with_peer(&link.peer, |peer| {
        let rooms = lock(&link.rooms);
        let needed = peer.needed_rooms.iter().map(|(room, version)| (room.clone(), *version));
        needed.filter(|(room, version)| rooms.must_request(room, *version)).collect()
    });
    for (room, version) in needed.into_iter().filter(|(room, _)| runtime.handler.may_be_open(room)) {
        link.request_room(&room, version, runtime.handler.grant(&room));
    }
}

async fn process(
    runtime: &Arc<LinkRuntime>,
    link: &Arc<EstablishedLink>,
    mut stream: Streaming<SessionMessage>,
    mut data_messages: mpsc::Receiver<Bytes>,
    mut ended: oneshot::Receiver<DownReason>,
) -> DownReason {
    let up = LinkEvent::Up { peer: link.peer.clone(), link: link.number, parity: link.parity };
    if let Err(reason) = notify(runtime, up).await {
        return reason;
    }
    request_needed_rooms(runtime, link);
    documents::announce(runtime, link);
    let mut offers = Offers::default();
    let mut decisions = FuturesUnordered::new();
    let mut linger = tokio::time::interval((runtime.linger / 4).max(Duration::from_millis(10)));
    let mut idle_since = Instant::now();
    let pace = runtime.paces.of(&link.peer, idle_since);
    let mut open_rooms = tokio::time::interval(ROOM_CHECK_INTERVAL);
    open_rooms.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (reads, ready_at) = {
            let pace = lock(&pace);
            (pace.is_ready(Instant::now()), pace.ready_at())
        };
        let outcome = tokio::select! {
            biased;
            () = link.close.cancelled() => {
                return lock(&link.reason).take().unwrap_or(DownReason::Shutdown);
            }
            reason = link.connection.ended_by_this_node() => return reason,
            reason = &mut ended => {
                return reason.unwrap_or_else(|_| DownReason::Quic("the QUIC thread dropped the link".to_owned()));
            }
            Some(decision) = decisions.next(), if !decisions.is_empty() => {
                apply_decision(runtime, link, decision).await
            }
            // Before what a peer sends, so that a flood keeps no room open.
            _ = open_rooms.tick() => {
                let closed = close_ended_rooms(runtime, link).await;
                request_needed_rooms(runtime, link);
                closed
            }
            () = tokio::time::sleep_until(ready_at.into()), if !reads => Ok(()),
            message = stream.message(), if reads && decisions.len() < MAX_DECISIONS => match StatePace::read(&pace, message, Instant::now()) {
                Ok(Some(SessionMessage { body: Some(Body::OpenRoom(open)) })) => {
                    if let Some(decision) = decide_room(runtime, link, open) {
                        decisions.push(decision);
                    }
                    Ok(())
                }
                Ok(Some(SessionMessage { body: Some(Body::Documents(list)) })) => offers.receive(list),
                Ok(Some(message)) => receive(runtime, link, message).await,
                Ok(None) => Err(DownReason::Session("the peer closed it".to_owned())),
                Err(status) => Err(DownReason::Session(status.message().to_owned())),
            },
            Some(message) = data_messages.recv() => match RoomMessage::decode(&message[..]) {
                Ok(RoomMessage { room, body: Some(body @ RoomBody::LossyData(_)) }) => {
                    let message = RoomMessage { room, body: Some(body) };
                    receive(runtime, link, SessionMessage { body: Some(Body::Room(message)) }).await
                }
                // Only lossy data messages are sent as datagrams.
                _ => {
                    link.closed_room_messages.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            },
            () = offers.due(), if offers.is_waiting() => {
                offers.pass_on(runtime, link);
                Ok(())
            }
            _ = linger.tick() => {
                let needed = runtime.table.with_peer(&link.peer, |peer| !peer.needed_rooms.is_empty());
                if needed || !lock(&link.rooms).is_empty() {
                    idle_since = Instant::now();
                    Ok(())
                } else if idle_since.elapsed() >= runtime.linger {
                    Err(DownReason::Idle)
                } else {
                    Ok(())
                }
            }
        };
        if let Err(reason) = outcome {
            return reason;
        }
    }
}
