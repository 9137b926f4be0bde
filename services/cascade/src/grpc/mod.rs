//! The control half of links, on the wire: a gRPC server and its clients, over mutual TLS.

pub(crate) mod call_error;
pub(crate) mod client;
pub(crate) mod heartbeat;
pub(crate) mod tls;
