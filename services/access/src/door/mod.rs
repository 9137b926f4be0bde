//! The front door: HTTP and WebSocket routes on which LiveKit clients arrive. It checks tokens,
//! asks [`Door::admit`] for a place, and then carries messages between the socket and whoever
//! keeps the participant's session, near or far. It never logs a URL: tokens are in them.

mod frame;
mod params;
mod pump;
mod routes;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use livekit_protocol::{ClientInfo, SignalRequest, SignalResponse};
use tokio::sync::mpsc;

use crate::token::{Grants, KeyRing};

pub use pump::Limits;
pub use routes::{cors, router};

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
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
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

    /// Finds a place and begins a session there. The first message of the pipe is `join`.
    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<SignalPipe, Refusal>>;

    /// Would [`Door::admit`] find a place? A browser cannot read why a WebSocket was refused, so
    /// clients ask here for the reason: it must be the same.
    fn validate(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Somebody who wanted to join came no further than the token; `code` is a stable word.
    fn turned_away(&self, code: &'static str) {
        let _ = code;
    }
}
