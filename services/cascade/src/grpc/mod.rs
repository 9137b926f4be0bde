//! The control half of links, on the wire: a gRPC server and its clients, over mutual TLS.

pub(crate) mod client;
pub(crate) mod pulse;
pub(crate) mod server;
pub(crate) mod tls;
