//! What the room keeps of one participant whose media is on this node.

use std::time::Instant;

use livekit_protocol as proto;
use systir_livekit::Session;
use systir_livekit::rate_limit::RateLimiter;

/// One participant here.
#[derive(Debug)]
pub(super) struct LocalParticipant {
    pub session: Session,
    pub sid: String,
    pub identity: String,
    pub join_id: String,
    pub gateway: String,
    /// Its own newest state; none before its session reported one.
    pub info: Option<proto::ParticipantInfo>,
    /// Do others know of it at all?
    pub known: bool,
    /// Others do not know its newest state yet.
    pub unsent: bool,
    /// How often others receive its state.
    pub updates: RateLimiter,
    /// Join number of the last join of its identity that its gateway knows.
    pub joined_after: u64,
    /// The trace of its join, until the join message is sent.
    pub joining: Option<tracing::Span>,
}

impl LocalParticipant {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let unsent = self.unsent.then(|| self.updates.ready_at());
        self.session.poll_timeout().into_iter().chain(unsent).min()
    }
}
