//! Sends messages about open rooms.

use super::established::lock;
use super::runtime::LinkRuntime;
use crate::event::RoomBody;
use crate::frame;
use prost::Message as _;
use std::sync::atomic::Ordering;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::RoomMessage;
use systir_proto::cluster::v1::session_message::Body;

/// Lossy data messages below this size are sent as datagrams: they fit into two of the smallest MTU.
const MAX_DATA_MESSAGE: usize = 2000;

/// Why a room message was not sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RoomSendError {
    /// No link with the peer is up.
    #[error("no link with the peer is up")]
    NoLink,
    /// The room is not open on the link.
    #[error("the room is not open on the link with the peer")]
    RoomNotOpen,
    /// The peer does not read fast enough. A lossy message is dropped; any other is handed back, to be
    /// sent again within 1 s. The link ends when no room message fits for 5 s of such retries.
    #[error("the peer does not read its control messages")]
    Full(Option<Box<RoomBody>>),
}

/// Sends a message about a room that is open on the link with the peer.
pub(crate) fn send(
    runtime: &LinkRuntime,
    id: &SpiffeId,
    room: &str,
    body: RoomBody,
) -> Result<(), RoomSendError> {
    let link = runtime.table.up(id).ok_or(RoomSendError::NoLink)?;
    let mut rooms = lock(&link.rooms);
    if !rooms.is_open(room) {
        return Err(RoomSendError::RoomNotOpen);
    }
    // Before the peer can know. A message that is handed back is sent again.
    match &body {
        RoomBody::Subscribe(subscribe) => rooms.subscribe_self(room, subscribe),
        RoomBody::Unsubscribe(unsubscribe) => rooms.unsubscribe_self(room, unsubscribe),
        _ => {}
    }
    let lossy = matches!(body, RoomBody::LossyData(_));
    let message = RoomMessage { room: room.to_owned(), body: Some(body) };
    // Long lossy messages use the session: in many datagrams they would hardly arrive whole.
    let sent = if lossy && message.encoded_len() < MAX_DATA_MESSAGE {
        runtime.quic.send_data_message(link.number, frame::message(&message))
    } else if link.has_capacity() {
        link.send(Body::Room(message))
    } else if lossy {
        false
    } else {
        return Err(RoomSendError::Full(message.body.map(Box::new)));
    };
    if sent {
        return Ok(());
    }
    link.control_dropped.fetch_add(1, Ordering::Relaxed);
    Err(RoomSendError::Full(None))
}
