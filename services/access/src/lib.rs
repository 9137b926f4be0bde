//! Clients: the LiveKit signalling protocol, SDP, tokens, the front door's HTTP and WebSocket
//! routes, and the media workers whose sockets face clients. It decides nothing about placement
//! or policy and knows no other node.

pub mod door;
pub mod extension_table;
pub mod livekit;
pub mod sdp;
pub mod token;
pub mod worker;
