//! The inputs of a room core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use systir_assignment::Assignment;
use systir_livekit::token::Grants;
use systir_media_control::{ParticipantKey, WorkerEvent};

use crate::{RoomLinkEvent, SignedTicket};

/// The time of an input, because a core has no clock.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall clock time, Unix milliseconds.
    pub unix_ms: u64,
}

impl Now {
    /// The wall clock time.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}

/// A participant that arrives, after its reservation became a seat.
#[derive(Debug)]
pub struct Arrival {
    /// Its key on this node.
    pub participant: ParticipantKey,
    /// Id of the reservation.
    pub join_id: String,
    /// What its token allows.
    pub grants: Grants,
    /// What its client reports about itself.
    pub client: livekit_protocol::ClientInfo,
    /// Is it subscribed to all tracks automatically?
    pub auto_subscribe: bool,
    /// Its ticket, whose signature was verified or made by this node.
    pub ticket: SignedTicket,
    /// Trace span of the join.
    pub span: tracing::Span,
}

/// The addresses of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAddress {
    /// gRPC (TCP).
    pub grpc: SocketAddr,
    /// QUIC (UDP).
    pub quic: SocketAddr,
}

/// What this node knows about the room's nodes.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// The room's assignment, by the grant that this node holds; none without one.
    pub assignment: Option<Assignment>,
    /// Of the nodes that the room asks for, those that this grant lists as home or spill node.
    pub media_nodes: BTreeSet<String>,
    /// Has the grant ended, although the room's home can be reached?
    pub grant_ended: bool,
    /// Is the registry's record as the room's home would write it?
    pub recorded: bool,
    /// The registry does not answer.
    pub registry_unavailable: bool,
    /// The room's nodes that have a lease, with their address if it is usable.
    pub nodes: BTreeMap<String, Option<NodeAddress>>,
}

/// One input.
#[derive(Debug)]
pub enum RoomInput {
    /// A participant arrives.
    Arrive(Box<Arrival>),
    /// A client's signal request.
    Request {
        /// The client's participant.
        participant: ParticipantKey,
        /// The request.
        request: Box<livekit_protocol::SignalRequest>,
    },
    /// The gateway of a participant sent a renewed ticket.
    Ticket {
        /// The participant.
        participant: ParticipantKey,
        /// The ticket's note.
        note: Bytes,
    },
    /// A client's signalling ended.
    SignalClosed(ParticipantKey),
    /// A client does not read its signalling.
    SignalFull(ParticipantKey),
    /// An event of the room on a link.
    Link(RoomLinkEvent),
    /// An event from the worker.
    Worker(WorkerEvent),
    /// The local copy of the registry changed.
    Cluster(ClusterView),
    /// This node drains: so many participants are asked to reconnect, those who joined first.
    AskToReconnect(u32),
    /// This node's policy was replaced: all decisions are made again.
    PolicyChanged,
    /// [`crate::RoomEffect::LeaveAssignment`] was done: may the room end?
    AssignmentLeft(bool),
}
