//! A link that stands: its control messages, until it ends.

use super::link_rooms::{Rooms, Turn};
use super::table::{Inner, Link, Out, State, lock};
use crate::event::{DownReason, LinkEvent, LinkNumber, RoomBody, RoomKey};
use crate::flow::Parity;
use crate::quic::Command;
use crate::server::ANSWER;
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
use systir_proto::cluster::v1::{
    CloseRoom, Goodbye, OpenRoom, RoomMessage, RoomOpened, RoomRefused, SessionMessage,
};
use systir_reason::{Reason, Refusal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{info, warn};

/// The node takes an event within this time, or the link ends.
const DELIVER: Duration = Duration::from_secs(5);
/// The end of a link is told even to a slow node.
const DELIVER_END: Duration = Duration::from_secs(30);
/// Questions for the gate at one time, per link.
const QUESTIONS: usize = 64;

/// Messages from datagrams that wait, at most; more are lost.
pub(super) const DATAGRAMS: usize = 256;

/// Both halves of a link, joined.
pub(super) struct Incoming {
    pub(super) number: LinkNumber,
    pub(super) peer: SpiffeId,
    pub(super) parity: Parity,
    pub(super) outgoing: bool,
    pub(super) out: Out,
    pub(super) stream: Streaming<SessionMessage>,
    pub(super) datagrams: mpsc::Receiver<Bytes>,
    pub(super) ended: oneshot::Receiver<DownReason>,
    pub(super) stats: Arc<Mutex<LinkStats>>,
}

/// Enters the link into the table, unless something else came there meanwhile, and runs it to its
/// end.
pub(super) async fn establish(inner: &Arc<Inner>, made: Incoming) {
    let Incoming { number, peer, parity, outgoing, out, stream, datagrams, ended, stats } = made;
    let link = Arc::new(Link {
        number,
        peer,
        parity,
        outgoing,
        rooms: Mutex::new(Rooms::default()),
        out,
        stats,
        closed_room_messages: AtomicU64::new(0),
        control_dropped: AtomicU64::new(0),
        full: Mutex::default(),
        close: inner.cancel.child_token(),
        reason: Mutex::default(),
        done: CancellationToken::new(),
    });
    let entered = inner.with_peer(&link.peer, |peer| {
        let ours = match &peer.state {
            State::Dialling(current, _) | State::Accepting(current) => *current == number,
            _ => false,
        };
        if ours {
            peer.state = State::Up(link.clone());
        }
        ours
    });
    if !entered {
        inner.quic.ask(Command::Close(number));
        return;
    }
    info!(peer = %link.peer, link = number, "a link is up");
    let reason = live(inner, &link, stream, datagrams, ended).await;
    finish(inner, &link, reason).await;
}

async fn finish(inner: &Arc<Inner>, link: &Arc<Link>, reason: DownReason) {
    let number = link.number;
    inner.with_peer(&link.peer, |peer| {
        if matches!(&peer.state, State::Up(current) if current.number == number) {
            peer.state = State::Ending(number, link.done.clone());
        }
    });
    if matches!(reason, DownReason::Idle | DownReason::Shutdown | DownReason::Overrun) {
        link.out.put(Body::Goodbye(Goodbye { reason: reason.to_string() }));
    }
    *lock(&link.rooms) = Rooms::default();
    inner.quic.ask(Command::Close(number));
    info!(peer = %link.peer, link = number, %reason, "a link is down");
    let down = LinkEvent::Down { peer: link.peer.clone(), link: number, reason };
    if inner.events.send_timeout(down, DELIVER_END).await.is_err() && !inner.cancel.is_cancelled() {
        warn!(peer = %link.peer, "the node does not read its link events; the end of a link went untold");
    }
    link.done.cancel();
    inner.settle(&link.peer, number);
}

async fn live(
    inner: &Arc<Inner>,
    link: &Arc<Link>,
    mut stream: Streaming<SessionMessage>,
    mut datagrams: mpsc::Receiver<Bytes>,
    mut ended: oneshot::Receiver<DownReason>,
) -> DownReason {
    let up = LinkEvent::Up { peer: link.peer.clone(), link: link.number, parity: link.parity };
    if let Err(reason) = tell(inner, up).await {
        return reason;
    }
    let needs = inner.with_peer(&link.peer, |peer| peer.needs.clone());
    for (room, need) in needs {
        link.ask(&room, need);
    }
    let mut questions = FuturesUnordered::new();
    let mut linger = tokio::time::interval((inner.linger / 4).max(Duration::from_millis(10)));
    let mut idle_since = Instant::now();
    loop {
        let outcome = tokio::select! {
            biased;
            () = link.close.cancelled() => {
                return lock(&link.reason).take().unwrap_or(DownReason::Shutdown);
            }
            reason = &mut ended => {
                return reason.unwrap_or_else(|_| DownReason::Quic("the QUIC thread let it go".to_owned()));
            }
            Some(answer) = questions.next(), if !questions.is_empty() => {
                answered(inner, link, answer).await
            }
            message = stream.message(), if questions.len() < QUESTIONS => match message {
                Ok(Some(SessionMessage { body: Some(Body::OpenRoom(open)) })) => {
                    if let Some(question) = ask_gate(inner, link, open) {
                        questions.push(question);
                    }
                    Ok(())
                }
                Ok(Some(message)) => heard(inner, link, message).await,
                Ok(None) => Err(DownReason::Session("the peer closed it".to_owned())),
                Err(status) => Err(DownReason::Session(status.message().to_owned())),
            },
            Some(message) = datagrams.recv() => match RoomMessage::decode(message) {
                Ok(RoomMessage { room, body: Some(body @ RoomBody::LossyData(_)) }) => {
                    let message = RoomMessage { room, body: Some(body) };
                    heard(inner, link, SessionMessage { body: Some(Body::Room(message)) }).await
                }
                // Only what may be lost comes this way.
                _ => {
                    link.closed_room_messages.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            },
            _ = linger.tick() => {
                let needed = inner.with_peer(&link.peer, |peer| !peer.needs.is_empty());
                if needed || !lock(&link.rooms).is_empty() {
                    idle_since = Instant::now();
                    Ok(())
                } else if idle_since.elapsed() >= inner.linger {
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

struct Answer {
    key: RoomKey,
    question: u64,
    verdict: Result<(), Refusal>,
}

/// Asks this node's own policy about a room that the peer wants to open.
fn ask_gate(
    inner: &Arc<Inner>,
    link: &Arc<Link>,
    open: OpenRoom,
) -> Option<impl Future<Output = Answer> + use<>> {
    let asked = lock(&link.rooms).question(&open.room);
    let Some((key, question)) = asked else {
        let reason = "the room's key is no key, or there are too many rooms on the link".to_owned();
        link.put(Body::RoomRefused(RoomRefused { room: open.room, reason, rules: Vec::new() }));
        return None;
    };
    let (inner, peer) = (inner.clone(), link.peer.clone());
    Some(async move {
        let verdict = tokio::time::timeout(ANSWER, inner.handler.open_room(&peer, &open))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Reason::NoAnswer, "the node did not decide within 2 s")));
        Answer { key, question, verdict }
    })
}

async fn answered(inner: &Arc<Inner>, link: &Link, answer: Answer) -> Result<(), DownReason> {
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
                Turn::Opened => tell(inner, opened(link, key)).await,
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
            forget(inner, link, &key);
            match turn {
                // We had it open, or wanted it ourselves, against our own gate.
                Turn::Closed => tell(inner, refused(link, key, true, reason, rules)).await,
                _ => Ok(()),
            }
        }
    }
}

async fn heard(inner: &Arc<Inner>, link: &Link, message: SessionMessage) -> Result<(), DownReason> {
    match message.body {
        Some(Body::Room(RoomMessage { room, body })) => {
            let key = lock(&link.rooms).open_key(&room);
            match (key, body) {
                (Some(room), Some(body)) => {
                    let (peer, link) = (link.peer.clone(), link.number);
                    tell(inner, LinkEvent::Message { peer, link, room, body }).await
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
            if turn == Turn::Opened { tell(inner, opened(link, room.into())).await } else { Ok(()) }
        }
        Some(Body::RoomRefused(RoomRefused { room, reason, rules })) => {
            if lock(&link.rooms).close(&room) == Turn::Closed {
                forget(inner, link, &room);
                tell(inner, refused(link, room.into(), false, reason, rules)).await
            } else {
                Ok(())
            }
        }
        Some(Body::CloseRoom(CloseRoom { room })) => {
            if lock(&link.rooms).close(&room) == Turn::Closed {
                forget(inner, link, &room);
                let (peer, link) = (link.peer.clone(), link.number);
                tell(inner, LinkEvent::RoomClosed { peer, link, room: room.into() }).await
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
fn forget(inner: &Inner, link: &Link, room: &str) {
    inner.with_peer(&link.peer, |peer| peer.needs.remove(room));
}

fn opened(link: &Link, room: RoomKey) -> LinkEvent {
    LinkEvent::RoomOpened { peer: link.peer.clone(), link: link.number, room }
}

fn refused(link: &Link, room: RoomKey, by_us: bool, reason: String, rules: Vec<String>) -> LinkEvent {
    LinkEvent::RoomRefused { peer: link.peer.clone(), link: link.number, room, by_us, reason, rules }
}

async fn tell(inner: &Inner, event: LinkEvent) -> Result<(), DownReason> {
    inner.events.send_timeout(event, DELIVER).await.map_err(|_| DownReason::Overrun)
}
