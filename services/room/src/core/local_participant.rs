//! The room's state of one local participant.

use std::time::Instant;

use livekit_protocol as proto;
use systir_livekit::Session;
use systir_livekit::rate_limit::RateLimiter;
use systir_policy::ParticipantRoles;

use crate::SignedTicket;

/// A participant whose media is on this node.
#[derive(Debug)]
pub(super) struct LocalParticipant {
    pub session: Session,
    pub sid: String,
    pub identity: String,
    /// The institution of its token.
    pub institution: String,
    /// What its token makes of it beyond an ordinary participant.
    pub roles: ParticipantRoles,
    pub join_id: String,
    pub gateway: String,
    /// Its newest state; none before its session reported one.
    pub info: Option<proto::ParticipantInfo>,
    /// Was its join written to the room's state?
    pub known: bool,
    /// Is its newest state still to be written?
    pub unsent: bool,
    /// Was its state too much for the room? It is written once there is space.
    pub too_much: bool,
    /// Limits how often its state is written.
    pub updates: RateLimiter,
    /// Its newest ticket.
    pub ticket: SignedTicket,
    /// When the ticket expires.
    pub ticket_ends: Instant,
    /// Is a renewed ticket still to be written?
    pub ticket_unsent: bool,
    /// Limits how often renewed tickets are verified.
    pub renewals: RateLimiter,
    /// Its connection quality; none until it changed first.
    pub quality: Option<proto::ConnectionQualityInfo>,
    /// Trace span of its join, until the join message is sent.
    pub joining: Option<tracing::Span>,
}

impl LocalParticipant {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let unsent = self.unsent.then(|| self.updates.ready_at());
        self.session.poll_timeout().into_iter().chain(unsent).min()
    }
}
