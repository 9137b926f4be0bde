//! One room on one of its nodes, as a core without I/O. Time, randomness and all events are arguments; what
//! is to be done is returned as data. It holds the room's replicated state and the LiveKit sessions of the
//! participants whose media is on this node. It has no clock, no sockets, no registry, no channels and no
//! runtime: `systir-room-runtime` drives it.
//!
//! - [`RoomCore`]: the room. It handles a [`RoomInput`] and returns [`RoomEffect`]s, [`WorkerRequest`]s and
//!   messages to other nodes.
//! - [`RoomState`]: one node's replica of the room's state. Nodes send each other [`Update`]s; applying one
//!   returns the [`Change`]s. Only a participant's media node (its owner) writes its state, and only over its
//!   own authenticated link: any other write is a [`MergeError`]. Updates may be reordered, repeated and
//!   lost; [`RoomState::snapshot`], which nodes send whenever the room opens on a link, repairs a loss. Replicas that
//!   applied the same snapshots are equal. A [`ParticipantVersion`], (join number, counter), never decreases for one
//!   participant id.
//! - [`SignedTicket`]: a gateway's statement about one participant. The core accepts a participant of another node only
//!   with a valid one.
//! - [`LinkEventQueue`]: link events that wait for a room. [`wire`]: the encoding of updates on links.
//! - [`Residency`]: the answer to "where is my data".
//!
//! `examples/two_nodes.rs` runs a room on two nodes.

// Tests read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod body;
mod check;
mod core;
mod effect;
mod error;
mod input;
mod limits;
mod link_queue;
mod metadata;
mod metrics;
mod owned_records;
mod replica_totals;
mod residency;
mod state;
mod ticket;
mod update;
mod version;
pub mod wire;

pub use core::{FlowAllocator, RoomConfig, RoomCore, WorkerRequest, residency_of};
pub use effect::RoomEffect;
pub use error::{LocalError, MergeError};
pub use input::{Arrival, ClusterView, NodeAddress, Now, RoomInput};
pub use limits::{MAX_BODY, MAX_OWNED_BYTES, MAX_OWNED_BYTES_OF_ALL_ROOMS, MAX_PARTICIPANTS, MAX_TOMBSTONES};
pub use link_queue::{LinkEventQueue, Queued, RoomLinkEvent};
pub use metrics::RoomMetrics;
pub use replica_totals::ReplicaTotals;
pub use residency::{
    RESIDENCY_TOPIC, Residency, ResidencyGrant, ResidencyLink, ResidencyNode, ResidencyPolicy,
};
pub use state::RoomState;
pub use ticket::{SignedTicket, TicketFacts, TicketProblem, check_grants, check_place, new_ticket};
pub use update::{Applied, Change, Participant, ParticipantRecord, RecordState, Update};
pub use version::{MetadataVersion, ParticipantVersion};

/// Name of a node.
pub type NodeName = String;
/// Participant id, `PA_...`. Its gateway makes a new one for each join.
pub type Sid = String;
/// Identity from a participant's token. A room has at most one participant of each identity.
pub type Identity = String;

// The example runs as a unit test. It names this crate as any other program does.
#[cfg(test)]
extern crate self as systir_room;
#[cfg(test)]
#[path = "../examples/two_nodes.rs"]
mod example;
