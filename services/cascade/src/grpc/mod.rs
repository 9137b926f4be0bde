//! gRPC over mutual TLS: connections, clients of other nodes, and heartbeats of media nodes.

pub(crate) mod call_error;
pub(crate) mod client;
pub(crate) mod heartbeat;
pub(crate) mod tls;
