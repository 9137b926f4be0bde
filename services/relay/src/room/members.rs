//! People whose media is on this node: they arrive, their sessions speak, they leave. And people of
//! the room's other nodes, as the replica knows them.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use livekit_protocol::{DisconnectReason, ParticipantInfo, SignalRequest, SignalResponse};
use prost::Message as _;
use systir_access::livekit::{Leave, Output, RemoteTrack, RoomEvent, Session, SessionConfig};
use systir_access::worker::command::{Command, ParticipantKey, Side, TrackKey};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_room::{Change, Update};
use tokio::sync::mpsc;

use super::actor::Actor;
use super::tracks::Entry;
use super::{Arrival, Message};

/// Both directions of a participant's signalling, as the room sees them.
#[derive(Debug)]
pub(crate) struct SignalEnds {
    /// What the client says; its end means that the signalling is gone.
    pub from_client: mpsc::Receiver<SignalRequest>,
    /// What the client is told; bounded, and a client that does not read is let go.
    pub to_client: mpsc::Sender<SignalResponse>,
}

/// One participant here.
pub(super) struct Member {
    pub session: Session,
    pub sid: String,
    pub identity: String,
    pub join_id: String,
    pub front_door: String,
    pub hidden: bool,
    pub to_client: mpsc::Sender<SignalResponse>,
    pub pump: tokio::task::AbortHandle,
}

impl Member {
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }
}

/// An update of the replica, as it travels.
pub(super) fn encode_update(update: &Update) -> Vec<u8> {
    update.encode()
}
