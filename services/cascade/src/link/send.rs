//! Messages about open rooms.

use super::established::lock;
use super::runtime::LinkRuntime;
use super::table::LinkState;
use crate::event::RoomBody;
use crate::frame;
use prost::Message as _;
use std::sync::atomic::Ordering;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::RoomMessage;
use systir_proto::cluster::v1::session_message::Body;

/// Lossy messages up to this size go as datagrams: two of the smallest hold them.
const MAX_DATA_MESSAGE: usize = 2000;

/// A message was not sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SendError {
    /// No link stands with the peer.
    #[error("there is no link with the peer; it is made when a room needs it")]
    NoLink,
    /// The room is not open on the link.
    #[error("the room is not open on the link with the peer")]
    RoomNotOpen,
    /// The peer does not read fast enough. Lossy data is lost, anything else comes back
    /// to be tried again soon. When the peer takes nothing for 5 s of such trying, the link ends.
    #[error("the peer does not read its control messages")]
    Full(Option<Box<RoomBody>>),
}

pub(crate) fn send(
    runtime: &LinkRuntime,
    id: &SpiffeId,
    room: &str,
    body: RoomBody,
) -> Result<(), SendError> {
    let link = match runtime.table.peers().get(id).map(|peer| &peer.state) {
        Some(LinkState::Up(link)) => link.clone(),
        _ => return Err(SendError::NoLink),
    };
    let rooms = lock(&link.rooms);
    if !rooms.is_open(room) {
        return Err(SendError::RoomNotOpen);
    }
    let lossy = matches!(body, RoomBody::LossyData(_));
    let message = RoomMessage { room: room.to_owned(), body: Some(body) };
    // Lossy messages overtake the others, as media does; long ones would only be lost.
    let sent = if lossy && message.encoded_len() < MAX_DATA_MESSAGE {
        runtime.quic.send_data_message(link.number, frame::message(&message))
    } else if link.has_capacity() {
        link.send(Body::Room(message))
    } else if lossy {
        false
    } else {
        return Err(SendError::Full(message.body.map(Box::new)));
    };
    if sent {
        return Ok(());
    }
    link.control_dropped.fetch_add(1, Ordering::Relaxed);
    Err(SendError::Full(None))
}
