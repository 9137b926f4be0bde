//! The handle by which the rest of the node reaches a room's task.

use std::sync::Arc;

use bytes::Bytes;
use livekit_protocol::{SignalRequest, SignalResponse};
use systir_livekit::token::Grants;
use systir_media_control::RoomNumber;
use systir_room::{Queued, Residency, RoomLinkEvent, SignedTicket};
use tokio::sync::{mpsc, oneshot};

use crate::link_events::SharedLinkEventQueue;

/// The channels of a participant's signalling.
#[derive(Debug)]
pub struct SignalChannels {
    /// Requests of the client. The signalling has ended when the channel closes.
    pub from_client: mpsc::Receiver<Box<SignalRequest>>,
    /// Notes of the participant's renewed tickets, from its gateway.
    pub tickets: mpsc::Receiver<Bytes>,
    /// Responses to the client. When the channel is full, the participant is removed.
    pub to_client: mpsc::Sender<Box<SignalResponse>>,
}

/// A participant that arrives with a reservation.
#[derive(Debug)]
pub struct ParticipantArrival {
    /// Id of the reservation.
    pub join_id: String,
    /// What the token allows.
    pub grants: Grants,
    /// What the client reports about itself.
    pub client: livekit_protocol::ClientInfo,
    /// Is it subscribed to all tracks automatically?
    pub auto_subscribe: bool,
    /// Its ticket.
    pub ticket: SignedTicket,
    /// Its signalling.
    pub signal: SignalChannels,
    /// Trace span of the join.
    pub span: tracing::Span,
}

/// A message to a room's task.
#[derive(Debug)]
pub(crate) enum TaskMessage {
    /// A participant arrives.
    Arrive(Box<ParticipantArrival>),
    /// This node left the assignment, or could not: may the room end?
    AssignmentLeft(bool),
    /// This node drains: so many participants are asked to reconnect.
    AskToReconnect(u32),
    /// Requests the room's residency.
    Residency(oneshot::Sender<Residency>),
    /// Requests what the room knows of an identity.
    Identity(String, oneshot::Sender<KnownIdentity>),
}

/// Reaches the task of one room.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    /// Bounded: a sender waits, or gives up after a timeout.
    pub(crate) messages: mpsc::Sender<TaskMessage>,
    pub(crate) link_events: Arc<SharedLinkEventQueue>,
    pub(crate) key: RoomNumber,
}

/// What a room on this node knows of an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownIdentity {
    /// Join number of its last join; 0 for none.
    pub last_join: u64,
    /// Connections of the same token on other nodes, without one that a join of this identity would replace.
    pub elsewhere: u32,
}

impl RoomHandle {
    /// Queues a link event for the room. Never waits.
    pub fn link_event(&self, event: RoomLinkEvent) -> Queued {
        self.link_events.push(event)
    }

    /// Asks so many participants to reconnect, because this node drains. False when a busy room did not take the message.
    #[must_use]
    pub fn ask_to_reconnect(&self, count: u32) -> bool {
        self.messages.try_send(TaskMessage::AskToReconnect(count)).is_ok()
    }

    /// The room's residency; none when the room has ended.
    pub async fn residency(&self) -> Option<Residency> {
        let (reply, response) = oneshot::channel();
        self.messages.send(TaskMessage::Residency(reply)).await.ok()?;
        response.await.ok()
    }

    /// What the room knows of an identity. None when the room has ended.
    pub async fn identity(&self, identity: &str) -> Option<KnownIdentity> {
        let (reply, response) = oneshot::channel();
        self.messages.send(TaskMessage::Identity(identity.to_owned(), reply)).await.ok()?;
        response.await.ok()
    }
}
