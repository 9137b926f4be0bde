//! Control messages of a link.

use super::established::{Link, lock};
use super::link_rooms::Turn;
use super::runtime::LinkRuntime;
use crate::event::{DownReason, LinkEvent, RoomKey};
use crate::handler::ANSWER;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{
    CloseRoom, Goodbye, OpenRoom, RoomMessage, RoomOpened, RoomRefused, SessionMessage,
};
use systir_reason::{Reason, Refusal};

/// The node takes an event within this time, or the link ends.
const DELIVER: Duration = Duration::from_secs(5);

pub(super) struct Answer {
    key: RoomKey,
    question: u64,
    verdict: Result<(), Refusal>,
}

/// Asks this node's own policy about a room that the peer wants to open.
pub(super) fn ask_gate(
    runtime: &Arc<LinkRuntime>,
    link: &Arc<Link>,
    open: OpenRoom,
) -> Option<impl Future<Output = Answer> + use<>> {
    let asked = lock(&link.rooms).question(&open.room);
    let Some((key, question)) = asked else {
        let reason = "the room's key is no key, or there are too many rooms on the link".to_owned();
        link.put(Body::RoomRefused(RoomRefused { room: open.room, reason, rules: Vec::new() }));
        return None;
    };
    let (runtime, peer) = (runtime.clone(), link.peer.clone());
    Some(async move {
        let verdict = tokio::time::timeout(ANSWER, runtime.handler.open_room(&peer, &open))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Reason::NoAnswer, "the node did not decide within 2 s")));
        Answer { key, question, verdict }
    })
}

pub(super) async fn answered(
    runtime: &Arc<LinkRuntime>,
    link: &Link,
    answer: Answer,
) -> Result<(), DownReason> {
    let Answer { key, question, verdict } = answer;
    match verdict {
        Ok(()) => {
            let turn = {
                // Held until the answer is queued: no message about the room goes before it.
                let mut rooms = lock(&link.rooms);
                let Some(turn) = rooms.admitted(&key, question) else { return Ok(()) };
                link.put(Body::RoomOpened(RoomOpened { room: key.to_string() }));
                turn
            };
            match turn {
                Turn::Opened => tell(runtime, opened(link, key)).await,
                _ => Ok(()),
            }
        }
        Err(Refusal { sentence: reason, rules, .. }) => {
            let turn = {
                let mut rooms = lock(&link.rooms);
                if !rooms.is_current(&key, question) {
                    return Ok(());
                }
                let turn = rooms.close(&key);
                let refused =
                    RoomRefused { room: key.to_string(), reason: reason.clone(), rules: rules.clone() };
                link.put(Body::RoomRefused(refused));
                turn
            };
            forget(runtime, link, &key);
            match turn {
                // We had it open, or wanted it ourselves, against our own gate.
                Turn::Closed => tell(runtime, refused(link, key, true, reason, rules)).await,
                _ => Ok(()),
            }
        }
    }
}

pub(super) async fn heard(
    runtime: &Arc<LinkRuntime>,
    link: &Link,
    message: SessionMessage,
) -> Result<(), DownReason> {
    match message.body {
        Some(Body::Room(RoomMessage { room, body })) => {
            let key = lock(&link.rooms).open_key(&room);
            match (key, body) {
                (Some(room), Some(body)) => {
                    let (peer, link) = (link.peer.clone(), link.number);
                    tell(runtime, LinkEvent::Message { peer, link, room, body }).await
                }
                // A newer peer may say what we do not know.
                (Some(_), None) => Ok(()),
                (None, _) => {
                    link.closed_room_messages.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            }
        }
        Some(Body::RoomOpened(RoomOpened { room })) => {
            let turn = {
                let mut rooms = lock(&link.rooms);
                let turn = rooms.agreed(&room);
                if turn == Turn::Unasked {
                    link.put(Body::CloseRoom(CloseRoom { room: room.clone() }));
                }
                turn
            };
            if turn == Turn::Opened { tell(runtime, opened(link, room.into())).await } else { Ok(()) }
        }
        Some(Body::RoomRefused(RoomRefused { room, reason, rules })) => {
            if lock(&link.rooms).close(&room) == Turn::Closed {
                forget(runtime, link, &room);
                tell(runtime, refused(link, room.into(), false, reason, rules)).await
            } else {
                Ok(())
            }
        }
        Some(Body::CloseRoom(CloseRoom { room })) => {
            if lock(&link.rooms).close(&room) == Turn::Closed {
                forget(runtime, link, &room);
                let (peer, link) = (link.peer.clone(), link.number);
                tell(runtime, LinkEvent::RoomClosed { peer, link, room: room.into() }).await
            } else {
                Ok(())
            }
        }
        Some(Body::Goodbye(Goodbye { reason })) => Err(DownReason::Goodbye(reason)),
        Some(Body::Hello(_)) => Err(DownReason::Protocol("a second Hello".to_owned())),
        // OpenRoom was taken before; the rest is what a newer peer may say.
        Some(Body::OpenRoom(_)) | None => Ok(()),
    }
}

/// The room is not needed of the peer any more.
fn forget(runtime: &LinkRuntime, link: &Link, room: &str) {
    runtime.table.with_peer(&link.peer, |peer| peer.needs.remove(room));
}

fn opened(link: &Link, room: RoomKey) -> LinkEvent {
    LinkEvent::RoomOpened { peer: link.peer.clone(), link: link.number, room }
}

fn refused(link: &Link, room: RoomKey, by_us: bool, reason: String, rules: Vec<String>) -> LinkEvent {
    LinkEvent::RoomRefused { peer: link.peer.clone(), link: link.number, room, by_us, reason, rules }
}

pub(super) async fn tell(runtime: &LinkRuntime, event: LinkEvent) -> Result<(), DownReason> {
    runtime.events.send_timeout(event, DELIVER).await.map_err(|_| DownReason::Overrun)
}
