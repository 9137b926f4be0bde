//! Links between nodes. A link is one gRPC session for control messages and 1 to 8 QUIC connections
//! for media (RTP over QUIC datagrams). Both use mutual TLS and name the same random link id. A link
//! is up only while both are. It exists while a room needs it, and it carries only rooms that the
//! policies of both nodes allow.
//!
//! This crate does not place rooms, evaluate policy or know clients. The node does: it reads
//! [`LinkEvent`]s, and answers peers through [`Handler`]. A peer is always the SPIFFE id that TLS
//! proved, never what a message says.
//!
//! - [`Links`] opens and closes rooms on links, sends room messages and calls other nodes.
//! - [`SignalStream`] is one participant's signalling, relayed between gateway and media node.
//! - [`WorkerPort`] connects a media worker with the QUIC thread.
//! - [`LinkInfo`] and [`LinkStats`] describe a link that is up; [`LinkMetrics`] are its metrics.
//!
//! # Layers
//!
//! A module uses only modules of lower layers:
//!
//! 1. `links`: the facade. It starts all parts and is the only one that knows them all. `metrics`
//!    and `link_totals` read what it lists.
//! 2. `server`: the gRPC service that other nodes call.
//! 3. `link`: dialling, accepting, the session of a link and the rooms on it.
//! 4. [`handler`], [`signal`]: what the node implements, and relayed signalling.
//! 5. `grpc`: TLS, clients, heartbeats of media nodes. `quic`: the thread that moves media.
//! 6. [`event`], [`flow`], [`frame`], [`queue`], [`congestion`], [`stats`], `nack`, `peer_address`:
//!    data and algorithms without I/O.
//!
//! # Example
//!
//! ```
//! use systir_cascade::{FlowNumbers, Parity};
//!
//! // The receiving node chooses flow ids; a flow id names the worker that the media is for.
//! let mut flows = FlowNumbers::new(Parity::Smaller);
//! let flow = flows.allocate(3).expect("numbers are left");
//! assert_eq!((flow.worker(), flow.parity()), (3, Parity::Smaller));
//! ```

pub mod congestion;
pub mod event;
pub mod flow;
pub mod frame;
mod grpc;
pub mod handler;
mod link;
mod link_totals;
mod links;
mod metrics;
mod nack;
mod peer_address;
pub mod queue;
mod quic;
mod server;
pub mod signal;
pub mod stats;

pub use event::{DownReason, LinkEvent, LinkNumber, LinkRoomKey, RoomBody};
pub use flow::{FlowId, FlowNumbers, Parity};
pub use grpc::call_error::CallError;
pub use grpc::tls::ProvenPeer;
pub use handler::{BoxFuture, Handler};
pub use link::info::LinkInfo;
pub use link::send::RoomSendError;
pub use links::{Links, LinksConfig, StartError};
pub use metrics::{LinkMetrics, NamedLinks};
pub use peer_address::PeerAddress;
pub use quic::WorkerPort;
pub use signal::{SignalError, SignalEvent, SignalReceiver, SignalSender, SignalStream};
pub use stats::LinkStats;

/// Server name in TLS handshakes. Verification ignores it and checks the SPIFFE id.
pub(crate) const SERVER_NAME: &str = "relay.systir";
