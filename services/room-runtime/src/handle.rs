//! How the rest of the node reaches a room's task.

use std::sync::Arc;

use livekit_protocol::{SignalRequest, SignalResponse};
use systir_livekit::token::Grants;
use systir_media_control::RoomKey;
use systir_room::{Queued, Residency, RoomLinkEvent};
use tokio::sync::{mpsc, oneshot};

use crate::link_events::SharedLinkEventQueue;

/// Both directions of a participant's signalling, as the room sees them.
#[derive(Debug)]
pub struct SignalChannels {
    /// From the client; its end means that the signalling has ended.
    pub from_client: mpsc::Receiver<SignalRequest>,
    /// To the client; bounded, and a client that does not read is removed.
    pub to_client: mpsc::Sender<SignalResponse>,
}

/// A participant whose seat was reserved and who now arrives.
#[derive(Debug)]
pub struct ParticipantArrival {
    /// Id of the reservation.
    pub join_id: String,
    /// What the token allows.
    pub grants: Grants,
    /// What the client says of itself.
    pub client: livekit_protocol::ClientInfo,
    /// Does it subscribe to every track without asking?
    pub auto_subscribe: bool,
    /// Name of the node where its signalling ends.
    pub gateway: String,
    /// Join number of the last join of its identity that the gateway knows; 0 for none.
    pub joined_after: u64,
    /// Its signalling.
    pub signal: SignalChannels,
    /// Its part of the join's trace.
    pub span: tracing::Span,
}

/// A message to a room's task.
#[derive(Debug)]
pub(crate) enum TaskMessage {
    /// A participant arrives.
    Arrive(Box<ParticipantArrival>),
    /// This node was taken out of the assignment, or not: may the room end?
    AssignmentLeft(bool),
    /// Asks for the room's residency.
    Residency(oneshot::Sender<Residency>),
    /// Asks for the last join of an identity.
    LastJoin(String, oneshot::Sender<u64>),
}

/// Reaches one room's task.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    /// Bounded: a sender that cannot wait gives up.
    pub(crate) messages: mpsc::Sender<TaskMessage>,
    pub(crate) link_events: Arc<SharedLinkEventQueue>,
    pub(crate) key: RoomKey,
}

impl RoomHandle {
    /// Hands the room a link event; never waits.
    pub fn link_event(&self, event: RoomLinkEvent) -> Queued {
        self.link_events.push(event)
    }

    /// The room's residency; none when the room has ended.
    pub async fn residency(&self) -> Option<Residency> {
        let (ask, answer) = oneshot::channel();
        self.messages.send(TaskMessage::Residency(ask)).await.ok()?;
        answer.await.ok()
    }

    /// Join number of the last join of an identity that the room knows; none when the room has ended.
    pub async fn last_join(&self, identity: &str) -> Option<u64> {
        let (ask, answer) = oneshot::channel();
        self.messages.send(TaskMessage::LastJoin(identity.to_owned(), ask)).await.ok()?;
        answer.await.ok()
    }
}
