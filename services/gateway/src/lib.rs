//! The gateway: HTTP and WebSocket routes where clients' signalling ends. It checks tokens, asks
//! [`JoinHandler::admit`] for a seat, and then carries messages between the socket and the participant's
//! session, on this node or another one. It knows no policy, no placement and no other node. It never logs
//! a URL: tokens are in them.
//!
//! [`router`] serves the routes, [`JoinHandler`] is what it asks the node, [`respond`] turns a refusal
//! into an answer.

mod answer;
mod counters;
mod frame;
mod params;
mod routes;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use livekit_protocol::{ClientInfo, SignalRequest, SignalResponse};
use tokio::sync::mpsc;

use systir_livekit::token::{Grants, KeyRing};
use systir_reason::Refusal;

pub use answer::{respond, status_of};
pub use counters::{OpenConnection, SignalCounters};
pub use routes::{cors, router};
pub use socket::Limits;

/// A join with a valid token.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// What the token allows.
    pub grants: Grants,
    /// What the client says of itself.
    pub client: ClientInfo,
    /// Subscribe to all tracks without being asked.
    pub auto_subscribe: bool,
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

/// What the gateway asks the rest of the node.
pub trait JoinHandler: Send + Sync + 'static {
    /// API keys in force; asked at each request.
    fn keys(&self) -> Arc<KeyRing>;

    /// May this node see signalling of the institution's rooms at all? Asked before a client is told
    /// anything; [`JoinHandler::admit`] and [`JoinHandler::validate`] ask it by themselves.
    ///
    /// # Errors
    /// With the reason when it may not.
    fn may_signal(&self, institution: &str) -> Result<(), Refusal>;

    /// Finds a seat and begins a session there. The first message of the pipe is `join`.
    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<SignalPipe, Refusal>>;

    /// Would [`JoinHandler::admit`] find a seat? A browser cannot read why a WebSocket was refused, so
    /// clients ask here for the reason: it must be the same.
    fn validate(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), Refusal>>;

    /// A join was refused before [`JoinHandler::admit`] was asked: its query or its token is invalid.
    fn rejected(&self, refusal: &Refusal);

    /// Where sockets and their messages are counted.
    fn counters(&self) -> Arc<SignalCounters>;
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
