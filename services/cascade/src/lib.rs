//! Links between nodes: media as RTP over QUIC datagrams, control over gRPC, both with mutual TLS
//! and bound to one link. A link stands while a room needs it, and carries only rooms that the
//! gates of both nodes let through. It decides nothing about placement or policy, and knows no
//! client; who the other node is, TLS proved.
//!
//! [`Links::start`] makes the two halves: a thread for QUIC that talks to media workers in batches,
//! and tasks on the caller's runtime for gRPC. The node hears of links by [`LinkEvent`] and is
//! asked by peers through [`Handler`].

pub mod congestion;
pub mod event;
pub mod flow;
pub mod frame;
mod grpc;
pub mod handler;
mod link;
mod links;
mod nack;
mod peer_address;
pub mod queue;
mod quic;
mod server;
pub mod signal;
pub mod stats;

pub use event::{DownReason, LinkEvent, LinkNumber, RoomBody, RoomKey};
pub use flow::{FlowId, FlowNumbers, Parity};
pub use grpc::call_error::CallError;
pub use grpc::tls::ProvenPeer;
pub use handler::{BoxFuture, Handler};
pub use link::info::LinkInfo;
pub use link::send::SendError;
pub use links::{Links, LinksConfig, StartError};
pub use peer_address::PeerAddress;
pub use quic::WorkerPort;
pub use signal::{SignalError, SignalEvent, SignalReceiver, SignalSender, SignalStream};
pub use stats::LinkStats;

/// The name that TLS is asked for. It means nothing: the SPIFFE id is what is checked.
pub(crate) const SERVER_NAME: &str = "relay.systir";
