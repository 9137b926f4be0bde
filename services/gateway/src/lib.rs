//! The gateway: the HTTP and WebSocket routes where clients' signalling ends. It checks tokens, asks
//! [`JoinHandler::admit`] for a session, and then relays messages between the socket and the session, which
//! may be on another node. It contains no policy, no placement and no connections to other nodes. It never
//! logs a URL, because URLs contain tokens.
//!
//! [`router`] serves the routes, the node implements [`JoinHandler`], and [`respond`] turns a refusal into
//! an HTTP response.
//!
//! # Example
//!
//! ```
//! use systir_gateway::status_of;
//! use systir_reason::Reason;
//!
//! // Browsers show the text of a 403, and try again after a 503.
//! assert_eq!(status_of(Reason::ApprovedFull).as_u16(), 403);
//! assert_eq!(status_of(Reason::RegistryUnavailable).as_u16(), 503);
//! ```

mod answer;
mod counters;
mod frame;
mod join_limits;
mod metrics;
mod params;
mod room_name;
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
pub use join_limits::JoinLimits;
pub use metrics::SignalMetrics;
pub use routes::{cors, router};
pub use socket::SocketLimits;

/// A join with a valid token.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// What the token allows.
    pub grants: Grants,
    /// The client's description of itself.
    pub client: ClientInfo,
    /// Subscribe to all tracks without a request.
    pub auto_subscribe: bool,
}

/// The gateway's end of a participant's signalling. Dropping it signals the session that the client is gone.
/// When the session drops its end, the socket is closed.
#[derive(Debug)]
pub struct SignalPipe {
    /// From the client. Boxed, because a queue keeps room for 32 messages even when it is empty.
    pub to_media: mpsc::Sender<Box<SignalRequest>>,
    /// To the client.
    pub from_media: mpsc::Receiver<Box<SignalResponse>>,
}

/// What the gateway needs from the node.
pub trait JoinHandler: Send + Sync + 'static {
    /// The API keys in force; read for each request.
    fn keys(&self) -> Arc<KeyRing>;

    /// May this node see the signalling of the institution's rooms? [`JoinHandler::admit`] and
    /// [`JoinHandler::validate`] include this check; every other answer to a client with a valid token needs
    /// it first.
    ///
    /// # Errors
    /// The refusal, when policy denies.
    fn may_signal(&self, institution: &str) -> Result<(), Refusal>;

    /// Finds a seat and begins a session there. The session's first message is `join`. The gateway writes the room's name
    /// into its messages.
    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<SignalPipe, Refusal>>;

    /// Would [`JoinHandler::admit`] find a seat? A browser cannot read why a WebSocket was refused, so
    /// clients ask `/rtc/validate` for the reason. It must be the one that `admit` gives.
    fn validate(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Counts a join that was refused before [`JoinHandler::admit`]: its query or its token is invalid.
    fn rejected(&self, refusal: &Refusal);

    /// The counters of client sockets and their messages.
    fn counters(&self) -> Arc<SignalCounters>;
}

/// Entry points for the fuzzers; not part of the API.
#[cfg(feature = "fuzzing")]
pub mod fuzz {
    use axum::extract::ws::Message;
    use livekit_protocol::SignalRequest;

    /// Decodes a binary frame: protobuf.
    pub fn request_in_bytes(bytes: &[u8]) -> Option<SignalRequest> {
        crate::frame::decode(&Message::Binary(bytes.to_vec().into()))?.0
    }

    /// Reads the query of a request.
    pub fn query(text: &str) {
        let Ok(uri) = format!("/rtc?{text}").parse::<http::Uri>() else { return };
        if let Ok(axum::extract::Query(pairs)) =
            axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
        {
            let _ = crate::params::Params::read(&pairs);
        }
    }

    /// Decodes a text frame: JSON.
    pub fn request_in_text(text: &str) -> Option<SignalRequest> {
        crate::frame::decode(&Message::Text(text.into()))?.0
    }
}
