//! Handles the control messages of a link.

use super::established::{EstablishedLink, lock};
use super::link_rooms::{LinkRooms, RoomChange};
use super::runtime::LinkRuntime;
use super::text_limits::{self, has_short_grant, is_key};
use crate::event::{DownReason, LinkEvent, LinkRoomKey};
use crate::handler::HANDLER_TIMEOUT;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{
    CloseRoom, Goodbye, OpenRoom, RoomMessage, RoomOpened, RoomRefused, SessionMessage,
};
use systir_reason::{Reason, Refusal};
use tracing::info;

/// The link ends when the node does not accept an event within this time.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// This node's decision about a room that the peer requested.
pub(super) struct RoomDecision {
    key: LinkRoomKey,
    number: u64,
    result: Result<(), Refusal>,
}

/// Asks this node's own policy about a room that the peer requests. None when the request is invalid
/// and refused.
pub(super) fn decide_room(
    runtime: &Arc<LinkRuntime>,
    link: &Arc<EstablishedLink>,
    open: OpenRoom,
) -> Option<impl Future<Output = RoomDecision> + use<>> {
    if !is_key(&open.room) {
        link.closed_room_messages.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let pending = if has_short_grant(&open) { lock(&link.rooms).begin_decision(&open.room) } else { None };
    let Some((key, number)) = pending else {
        let reason = "the grant is too long, or there are too many rooms on the link".to_owned();
        link.send(Body::RoomRefused(RoomRefused { room: open.room, reason, rules: Vec::new() }));
        return None;
    };
    let (runtime, peer) = (runtime.clone(), link.connection.peer());
    Some(async move {
        let result = tokio::time::timeout(HANDLER_TIMEOUT, runtime.handler.open_room(&peer, &open))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Reason::NoAnswer, "the node did not decide within 2 s")));
        RoomDecision { key, number, result }
    })
}

/// Opens or refuses the room, and notifies the peer and the node.
pub(super) async fn apply_decision(
    runtime: &Arc<LinkRuntime>,
    link: &EstablishedLink,
    decision: RoomDecision,
) -> Result<(), DownReason> {
    let RoomDecision { key, number, result } = decision;
    match result {
        Ok(()) => {
            let change = {
                // Held while sending: no message about the room may be queued before RoomOpened.
                let mut rooms = lock(&link.rooms);
                let Some(change) = rooms.allow(&key, number) else { return Ok(()) };
                link.send(Body::RoomOpened(RoomOpened { room: key.to_string() }));
                change
            };
            match change {
                RoomChange::Opened => notify(runtime, opened(link, key)).await,
                _ => Ok(()),
            }
        }
        Err(refusal) => refuse(runtime, link, &key, refusal, |rooms| rooms.is_current(&key, number)).await,
    }
}

/// Refuses a room that may be open, unless the refusal is void by now. Notifies the peer, and the node if the room was open
/// or requested here.
async fn refuse(
    runtime: &LinkRuntime,
    link: &EstablishedLink,
    key: &LinkRoomKey,
    refusal: Refusal,
    counts: impl FnOnce(&LinkRooms) -> bool,
) -> Result<(), DownReason> {
    let Refusal { sentence: reason, rules, .. } = refusal;
    let change = {
        let mut rooms = lock(&link.rooms);
        if !counts(&rooms) {
            return Ok(());
        }
        let change = rooms.close(key);
        let refused = RoomRefused { room: key.to_string(), reason: reason.clone(), rules: rules.clone() };
        link.send(Body::RoomRefused(refused));
        change
    };
    remove_need(runtime, link, key);
    match change {
        // The room was open or requested here, and this node's policy does not allow it, or no longer.
        RoomChange::Closed => notify(runtime, refused(link, key.clone(), true, reason, rules)).await,
        _ => Ok(()),
    }
}

/// The peer opened a room. That counts only if this node requested it, and allows it to the identity that the peer proved.
async fn peer_opened(runtime: &LinkRuntime, link: &EstablishedLink, room: String) -> Result<(), DownReason> {
    let key: LinkRoomKey = room.into();
    // Held while sending, so that messages about the room are queued in the order of its changes.
    let close = || link.send(Body::CloseRoom(CloseRoom { room: key.to_string() }));
    {
        let rooms = lock(&link.rooms);
        if !rooms.is_requested(&key) {
            close();
            return Ok(());
        }
    }
    // Not while the rooms are locked: the handler may ask whether a link is up.
    if let Err(refusal) = runtime.handler.may_open(&link.connection.peer(), &key) {
        return refuse(runtime, link, &key, refusal, |rooms| rooms.is_requested(&key)).await;
    }
    let change = {
        let mut rooms = lock(&link.rooms);
        let change = rooms.peer_opened(&key);
        // Closed since.
        if change == RoomChange::NotRequested {
            close();
        }
        change
    };
    if change == RoomChange::Opened { notify(runtime, opened(link, key)).await } else { Ok(()) }
}

/// Closes the rooms that may be open no longer, and notifies the peer and the node.
pub(super) async fn close_ended_rooms(
    runtime: &Arc<LinkRuntime>,
    link: &EstablishedLink,
) -> Result<(), DownReason> {
    let open = lock(&link.rooms).open();
    for room in open.into_iter().filter(|room| !runtime.handler.may_be_open(room)) {
        {
            let mut rooms = lock(&link.rooms);
            if rooms.close(&room) != RoomChange::Closed {
                continue;
            }
            link.send(Body::CloseRoom(CloseRoom { room: room.to_string() }));
        }
        // The need stays: once the grant is renewed, the link requests the room again.
        info!(peer = %link.peer, link = link.number, "a room is closed on a link, because its grant has ended");
        let reason = "the room's grant has ended, and its home does not renew it".to_owned();
        notify(runtime, refused(link, room, true, reason, Vec::new())).await?;
    }
    Ok(())
}

/// Handles a message of the peer other than `OpenRoom` and `Documents`.
pub(super) async fn receive(
    runtime: &Arc<LinkRuntime>,
    link: &EstablishedLink,
    message: SessionMessage,
) -> Result<(), DownReason> {
    match message.body {
        Some(Body::Room(RoomMessage { room, body })) => {
            let key = lock(&link.rooms).receive(&room, body.as_ref());
            match (key, body) {
                (Some(room), Some(body)) => {
                    let (peer, link) = (link.peer.clone(), link.number);
                    notify(runtime, LinkEvent::Message { peer, link, room, body }).await
                }
                // A message type of a newer version.
                (Some(_), None) => Ok(()),
                (None, _) => {
                    link.closed_room_messages.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            }
        }
        // It would be sent back.
        Some(Body::RoomOpened(RoomOpened { room })) if !is_key(&room) => {
            link.closed_room_messages.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Some(Body::RoomOpened(RoomOpened { room })) => peer_opened(runtime, link, room).await,
        Some(Body::RoomRefused(RoomRefused { room, reason, rules })) => {
            if lock(&link.rooms).close(&room) == RoomChange::Closed {
                remove_need(runtime, link, &room);
                let (reason, rules) = (text_limits::reason(reason), text_limits::rules(rules));
                notify(runtime, refused(link, room.into(), false, reason, rules)).await
            } else {
                Ok(())
            }
        }
        Some(Body::CloseRoom(CloseRoom { room })) => {
            if lock(&link.rooms).close(&room) == RoomChange::Closed {
                remove_need(runtime, link, &room);
                let (peer, link) = (link.peer.clone(), link.number);
                notify(runtime, LinkEvent::RoomClosed { peer, link, room: room.into() }).await
            } else {
                Ok(())
            }
        }
        Some(Body::Goodbye(Goodbye { reason })) => Err(DownReason::Goodbye(text_limits::reason(reason))),
        Some(Body::Hello(_)) => Err(DownReason::Protocol("a second Hello".to_owned())),
        // The caller handles `OpenRoom` and `Documents`; `None` is a message type of a newer version.
        Some(Body::OpenRoom(_) | Body::Documents(_)) | None => Ok(()),
    }
}

/// The room no longer needs a link with the peer.
fn remove_need(runtime: &LinkRuntime, link: &EstablishedLink, room: &str) {
    runtime.table.with_peer(&link.peer, |peer| peer.needed_rooms.remove(room));
}

fn opened(link: &EstablishedLink, room: LinkRoomKey) -> LinkEvent {
    LinkEvent::RoomOpened { peer: link.peer.clone(), link: link.number, room }
}

fn refused(
    link: &EstablishedLink,
    room: LinkRoomKey,
    by_us: bool,
    reason: String,
    rules: Vec<String>,
) -> LinkEvent {
    LinkEvent::RoomRefused { peer: link.peer.clone(), link: link.number, room, by_us, reason, rules }
}

/// Reports an event to the node.
pub(super) async fn notify(runtime: &LinkRuntime, event: LinkEvent) -> Result<(), DownReason> {
    runtime.events.send_timeout(event, EVENT_TIMEOUT).await.map_err(|_| DownReason::Overrun)
}
