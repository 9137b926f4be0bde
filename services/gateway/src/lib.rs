//! The front door: HTTP and WebSocket routes on which LiveKit clients arrive. It checks tokens,
//! asks [`Door::admit`] for a place, and then carries messages between the socket and whoever
//! keeps the participant's session, near or far. It never logs a URL: tokens are in them.

mod frame;
mod params;
mod pump;
mod routes;
mod tally;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use livekit_protocol::{ClientInfo, SignalRequest, SignalResponse};
use tokio::sync::mpsc;

use systir_livekit::token::{Grants, KeyRing, TokenError};

pub use pump::Limits;
pub use routes::{cors, router};
pub use tally::{Open, Tally};

/// Somebody who wants in, with a token that holds.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// What the token allows.
    pub grants: Grants,
    /// What the client says of itself.
    pub client: ClientInfo,
    /// Subscribe to all tracks without being asked.
    pub auto_subscribe: bool,
    /// The client will say which sizes it shows.
    pub adaptive_stream: bool,
    /// The client asks for a full ICE agent.
    pub disable_ice_lite: bool,
    /// Where the WebSocket comes from, when the server knows.
    pub peer: Option<SocketAddr>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// What happened and what to do, for the person who reads it.
    pub sentence: String,
    /// Why, as a stable word, and the rules that decided, if it was policy.
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, sentence: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), reason: reason.into() }
    }

    /// What the client is answered: the sentence, and the reason in brackets.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{} [{}]", self.sentence, self.reason)
    }
}

/// Why somebody who wanted to join came no further than the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// The query cannot be read.
    BadQuery,
    /// The token does not hold, or grants no join.
    Token(TokenError),
}

impl TurnedAway {
    /// A stable word for metrics, traces and the answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadQuery => "bad-query",
            Self::Token(error) => error.code(),
        }
    }
}

impl From<TurnedAway> for Refusal {
    fn from(turned_away: TurnedAway) -> Self {
        let (status, sentence) = match turned_away {
            TurnedAway::BadQuery => (400, "the query cannot be read".to_owned()),
            TurnedAway::Token(error) => (error.status(), error.to_string()),
        };
        Self::new(status, sentence, turned_away.as_str())
    }
}

/// Both ends of a participant's signalling. Dropping it ends the session's connection; the other
/// side dropping its end closes the socket.
#[derive(Debug)]
pub struct SignalPipe {
    /// From the client.
    pub to_media: mpsc::Sender<SignalRequest>,
    /// To the client.
    pub from_media: mpsc::Receiver<SignalResponse>,
}

/// What the front door asks the rest of the node.
pub trait Door: Send + Sync + 'static {
    /// API keys in force; asked at each request.
    fn keys(&self) -> Arc<KeyRing>;

    /// May this node see signalling of the institution's rooms at all? Asked before anybody is told
    /// more than no; [`Door::admit`] and [`Door::validate`] ask it by themselves.
    ///
    /// # Errors
    /// With the reason when it may not.
    fn may_signal(&self, institution: &str) -> Result<(), Refusal>;

    /// Finds a place and begins a session there. The first message of the pipe is `join`.
    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<SignalPipe, Refusal>>;

    /// Would [`Door::admit`] find a place? A browser cannot read why a WebSocket was refused, so
    /// clients ask here for the reason: it must be the same.
    fn validate(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Somebody who wanted to join came no further than the token.
    fn turned_away(&self, why: TurnedAway) {
        let _ = why;
    }

    /// Where sockets and their messages are counted.
    fn tally(&self) -> Arc<Tally> {
        Arc::default()
    }
}

/// Entrances for the fuzzers; not part of the interface.
#[cfg(feature = "fuzzing")]
pub mod fuzz {
    use axum::extract::ws::Message;
    use livekit_protocol::SignalRequest;

    /// A request as protobuf.
    pub fn request_in_bytes(bytes: &[u8]) -> Option<SignalRequest> {
        crate::frame::decode(&Message::Binary(bytes.to_vec().into()))?.0
    }

    /// A request as JSON.
    pub fn request_in_text(text: &str) -> Option<SignalRequest> {
        crate::frame::decode(&Message::Text(text.into()))?.0
    }
}
