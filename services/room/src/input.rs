//! What a room core is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use systir_assignment::Assignment;
use systir_livekit::token::Grants;
use systir_media_control::{Event, ParticipantKey};

use crate::RoomLinkEvent;

/// The time of an input. A core has no clock of its own.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall clock, Unix milliseconds.
    pub unix_ms: u64,
}

impl Now {
    /// The wall clock.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}

/// A participant whose seat was taken and who now arrives.
#[derive(Debug)]
pub struct Arrival {
    /// Its key on this node.
    pub participant: ParticipantKey,
    /// Id of the reservation.
    pub join_id: String,
    /// What its token allows.
    pub grants: Grants,
    /// What its client says of itself.
    pub client: livekit_protocol::ClientInfo,
    /// Does it subscribe to every track without asking?
    pub auto_subscribe: bool,
    /// Name of the node where its signalling ends.
    pub gateway: String,
    /// Join number of the last join of its identity that the gateway knows; 0 for none.
    pub joined_after: u64,
    /// Its part of the join's trace.
    pub span: tracing::Span,
}

/// Where another node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAddress {
    /// gRPC, TCP.
    pub grpc: SocketAddr,
    /// QUIC, UDP.
    pub quic: SocketAddr,
}

/// What the registry's copy says about the room and its nodes.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// The room's assignment; none when there is no record.
    pub assignment: Option<Assignment>,
    /// The registry does not answer, so that a missing record proves nothing.
    pub registry_away: bool,
    /// The room's nodes that have a lease, with their address when it is usable.
    pub nodes: BTreeMap<String, Option<NodeAddress>>,
}

/// One input.
#[derive(Debug)]
pub enum RoomInput {
    /// A participant arrives.
    Arrive(Box<Arrival>),
    /// A client's request.
    Request {
        /// Its participant.
        participant: ParticipantKey,
        /// The request.
        request: Box<livekit_protocol::SignalRequest>,
    },
    /// A client's signalling ended.
    SignalClosed(ParticipantKey),
    /// A client does not read its signalling.
    SignalFull(ParticipantKey),
    /// Something happened on a link.
    Link(RoomLinkEvent),
    /// Something happened at the worker.
    Worker(Event),
    /// The registry's copy changed.
    Cluster(ClusterView),
    /// [`crate::RoomEffect::LeaveAssignment`] is done: may the room end?
    AssignmentLeft(bool),
}
