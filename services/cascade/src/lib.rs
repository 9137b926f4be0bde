//! Links between nodes. A link is one gRPC session for control messages and 1 to 8 QUIC connections
//! for media (RTP over QUIC datagrams). Both use mutual TLS, each followed by node key proofs, and name
//! the same random link id. A link is up only while both are. It exists while a room needs it, and it
//! carries only rooms that the policies of both nodes allow.
//!
//! This crate does not place rooms, evaluate policy, read signed documents or know clients. The node
//! does: it reads [`LinkEvent`]s, and answers peers through [`Handler`]. A peer is always the identity
//! that it proved, never what a message says, and [`ListedNodes`] lists it.
//!
//! A connection ends when the first of its two certificates expires. The node that dialled it extends
//! it before, once both nodes have renewed certificates: rooms and signalling continue. It ends at once
//! when the node calls [`Links::end_unaccepted`] and the peer is not accepted any more.
//!
//! - [`Links`] opens and closes rooms on links, sends room messages and calls other nodes.
//! - [`SignalStream`] is one participant's signalling, relayed between gateway and media node.
//! - [`WorkerPort`] connects a media worker with the QUIC thread.
//! - [`LinkInfo`] and [`LinkStats`] describe a link that is up; [`LinkMetrics`] are the metrics of all.
//! - [`PeerProbe`] asks other nodes without links: for operators.
//! - [`HeldDocument`]: links tell which signed documents each node holds; [`Links`] fetches them.
//!
//! # Layers
//!
//! A module uses only modules of lower layers:
//!
//! 1. `links`: the facade. It starts all parts and is the only one that knows them all. `metrics`
//!    and `link_totals` read what it lists. `probe` dials without it.
//! 2. `server`: the gRPC service that other nodes call.
//! 3. `link`: dialling, accepting, the session of a link and the rooms on it.
//! 4. [`handler`], [`signal`], `documents`: what the node implements, relayed signalling, and calls about
//!    signed documents.
//! 5. `grpc`: connections, clients, heartbeats of media nodes. `quic`: the thread that moves media.
//! 6. `authenticator`: proves this node's identity and verifies that of peers.
//! 7. [`event`], [`flow`], [`frame`], [`queue`], [`congestion`], [`stats`], `nack`, `peer_address`,
//!    `listed_nodes`, `identity_counters`, `message_limits`, `open_flows`, `unproven`: data and algorithms without I/O.
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

mod authenticator;
pub mod congestion;
mod documents;
pub mod event;
pub mod flow;
pub mod frame;
mod grpc;
pub mod handler;
mod identity_counters;
mod link;
mod link_totals;
mod links;
mod links_config;
mod listed_nodes;
mod message_limits;
mod metrics;
mod nack;
mod open_flows;
mod peer_address;
mod probe;
pub mod queue;
mod quic;
mod server;
pub mod signal;
pub mod stats;
mod unproven;

pub use documents::HeldDocument;
pub use event::{DownReason, LinkEvent, LinkNumber, LinkRoomKey, RoomBody};
pub use flow::{FlowId, FlowNumbers, Parity};
pub use grpc::call_error::CallError;
pub use handler::{BoxFuture, Handler};
pub use identity_counters::IdentityCounts;
pub use link::info::LinkInfo;
pub use link::send::RoomSendError;
pub use links::Links;
pub use links_config::{LinksConfig, StartError};
pub use listed_nodes::ListedNodes;
pub use metrics::{LinkMetrics, NamedLinks};
pub use peer_address::PeerAddress;
pub use probe::PeerProbe;
pub use quic::WorkerPort;
pub use signal::{SignalError, SignalEvent, SignalReceiver, SignalSender, SignalStream};
pub use stats::LinkStats;

/// Server name in TLS handshakes. Verification ignores it and checks the SPIFFE id.
pub(crate) const SERVER_NAME: &str = "relay.systir";

/// Entry points for the fuzz targets; not part of the API.
#[cfg(feature = "fuzzing")]
pub mod fuzz {
    use prost::Message as _;
    use systir_proto::cluster::v1::{
        DocumentList, FetchDocumentRequest, ReleaseRequest, RenewRequest, SignalMessage, session_message,
    };

    /// The request that binds a QUIC connection to a link.
    pub fn bind_request(bytes: &[u8]) {
        crate::quic::fuzz_bind_request(bytes);
    }

    /// A message of a session or of signalling, a list of documents, and short calls; and what begins a session, which has a
    /// header before its message.
    pub fn messages(bytes: &[u8]) {
        crate::grpc::fuzz_session_start(bytes);
        let message = crate::grpc::fuzz_session_message(bytes);
        if let Some(session_message::Body::Hello(hello)) = message.and_then(|message| message.body) {
            crate::link::fuzz_hello(&hello);
        }
        let _ = SignalMessage::decode(bytes);
        let _ = (RenewRequest::decode(bytes), ReleaseRequest::decode(bytes));
        if let Ok(request) = FetchDocumentRequest::decode(bytes) {
            let _ = crate::documents::id_of(request.kind, request.owner);
        }
        if let Ok(list) = DocumentList::decode(bytes) {
            let _ = crate::documents::decode(list);
        }
    }
}
