//! One room on one of its nodes, without I/O, without a clock and without a runtime: time, randomness and
//! everything that happens are arguments, and what is to be done comes back as data. It holds the room's
//! replicated state and the LiveKit sessions of the participants here. It knows no sockets, no registry and
//! no channel; `systir-room-runtime` drives it.
//!
//! - [`RoomCore`]: the room. It takes [`RoomInput`]s and answers with [`RoomEffect`]s, [`WorkerRequest`]s and
//!   messages to other nodes.
//! - [`RoomState`]: one node's copy of the room's state; [`Update`] is what nodes send each other, [`Change`]
//!   what differs after one. A participant is written by its media node alone; the others hold copies. A
//!   node's writes come from that node itself, over an authenticated link; any other write is a
//!   [`MergeError`]. Updates may be reordered, repeated and lost; [`RoomState::snapshot`] repairs what was
//!   lost, and [`RoomState::digest`] shows whether anything was. Copies that saw the same snapshots are
//!   equal. [`ParticipantVersion`] is (join epoch, counter), which never falls for one participant id.
//! - [`LinkEventQueue`]: link events that wait for a room; [`wire`]: updates as they are sent on links.
//! - [`Residency`]: the answer to "where is my data".

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod check;
mod core;
mod digest;
mod effect;
mod error;
mod input;
mod limits;
mod link_queue;
mod metadata;
mod metrics;
mod owned_records;
mod residency;
mod state;
mod update;
mod version;
pub mod wire;

pub use core::{FlowAllocator, RoomConfig, RoomCore, WorkerRequest, residency_of};
pub use digest::{OwnerDigest, StateDigest};
pub use effect::RoomEffect;
pub use error::{LocalError, MergeError};
pub use input::{Arrival, ClusterView, NodeAddress, Now, RoomInput};
pub use limits::{MAX_BODY, MAX_PARTICIPANTS, MAX_TOMBSTONES};
pub use link_queue::{LinkEventQueue, Queued, RoomLinkEvent};
pub use metrics::RoomMetrics;
pub use residency::{RESIDENCY_TOPIC, Residency, ResidencyLink, ResidencyNode};
pub use state::RoomState;
pub use update::{Change, Participant, ParticipantRecord, RecordState, Update};
pub use version::{MetadataVersion, ParticipantVersion};

/// Name of a node.
pub type NodeId = String;
/// Id of one participant's stay, `PA_...`, minted by its media node.
pub type Sid = String;
/// The identity that a participant's token names; one of each is in a room.
pub type Identity = String;
