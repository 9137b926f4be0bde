//! gRPC over mutual TLS: connections with proven identities, clients of other nodes, heartbeats of media nodes.

pub(crate) mod call_error;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod dialler;
mod first_message;
pub(crate) mod heartbeat;
mod lifetime;
pub(crate) mod listener;
pub(crate) mod open_connections;
mod proof;
mod session_codec;
pub(crate) mod sessions;

#[cfg(feature = "fuzzing")]
pub(crate) use session_codec::fuzz as fuzz_session_message;
#[cfg(feature = "fuzzing")]
pub(crate) use sessions::fuzz as fuzz_session_start;
