//! WebSocket messages: binary ones are protobuf, text ones are JSON.

use axum::extract::ws::Message;
use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message as _;
use systir_livekit::{MAX_REQUEST_ENTRIES, has_few_entries, json_has_few_entries};

/// The encoding of signalling messages. The server uses that of the client's last message.
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
            // Every message has a JSON form. If encoding fails all the same, every client reads protobuf.
            Self::Json => serde_json::to_string(response)
                .map_or_else(|_| Self::Binary.encode(response), |text| Message::Text(text.into())),
        }
    }
}

/// The request of a message and its encoding. The request is `None` when it cannot be decoded or has too many entries, the
/// result when the message is a control frame.
pub(super) fn decode(message: &Message) -> Option<(Option<SignalRequest>, Encoding)> {
    match message {
        Message::Binary(bytes) => {
            let few = has_few_entries(bytes, MAX_REQUEST_ENTRIES);
            Some((few.then(|| SignalRequest::decode(bytes.clone()).ok()).flatten(), Encoding::Binary))
        }
        Message::Text(text) => {
            let few = json_has_few_entries(text, MAX_REQUEST_ENTRIES);
            Some((few.then(|| serde_json::from_str(text).ok()).flatten(), Encoding::Json))
        }
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
    }
}
