//! WebSocket frames: binary is protobuf, text is its JSON form.

use axum::extract::ws::Message;
use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message as _;

/// How a client speaks; the server answers as it was last spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    #[default]
    Binary,
    Json,
}

impl Encoding {
    pub(super) fn encode(self, response: &SignalResponse) -> Message {
        match self {
            Self::Binary => Message::Binary(response.encode_to_vec().into()),
            // All messages of the protocol have a JSON form; binary is understood by all.
            Self::Json => serde_json::to_string(response)
                .map_or_else(|_| Self::Binary.encode(response), |text| Message::Text(text.into())),
        }
    }
}

/// A request and how it was spoken; none for one that is garbled.
pub(super) fn decode(message: &Message) -> Option<(Option<SignalRequest>, Encoding)> {
    match message {
        Message::Binary(bytes) => Some((SignalRequest::decode(bytes.clone()).ok(), Encoding::Binary)),
        Message::Text(text) => Some((serde_json::from_str(text).ok(), Encoding::Json)),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
    }
}
