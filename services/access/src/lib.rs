//! Clients: the LiveKit signalling protocol, SDP, tokens, the front door's HTTP and WebSocket
//! routes, and the media workers whose sockets face clients. It decides nothing about placement
//! or policy and knows no other node.

pub mod allowance;
pub mod door;
pub mod extension_table;
pub mod livekit;
pub mod sdp;
pub mod tcp;
pub mod token;
pub mod worker;

/// Entrances for the fuzzers; not part of the interface.
#[doc(hidden)]
pub mod fuzz {
    use livekit_protocol::SignalRequest;

    /// Sorts a datagram.
    pub fn demux(bytes: &[u8]) {
        crate::worker::fuzz(bytes);
    }

    /// A request as protobuf.
    pub fn request_in_bytes(bytes: &[u8]) -> Option<SignalRequest> {
        crate::door::fuzz(&axum::extract::ws::Message::Binary(bytes.to_vec().into()))
    }

    /// A request as JSON.
    pub fn request_in_text(text: &str) -> Option<SignalRequest> {
        crate::door::fuzz(&axum::extract::ws::Message::Text(text.into()))
    }
}
