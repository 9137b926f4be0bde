//! The state of one room on one of its nodes, replicated without I/O and without a clock: who is
//! in it, which of two participants with one identity stays, and the room's metadata (nobody writes
//! it yet: that is for the server API). It knows nothing of LiveKit's messages (a participant is an
//! opaque body to it), of policy or of links.
//!
//! Each participant is written by its media node alone; the others hold copies. A node's writes
//! come from that node itself, over an authenticated link: what another says in its name is
//! [`Refused`]. Updates may be reordered, repeated and lost; [`RoomState::snapshot`] heals what was
//! lost, and [`RoomState::digest`] tells whether anything was. Copies that saw the same snapshots
//! are equal.
//!
//! - [`RoomState`]: one node's copy; local writes, [`RoomState::apply`], views.
//! - [`Update`]: what travels; [`Change`]: what the application is told.
//! - [`Version`]: (join epoch, counter), which never falls for one participant id.

mod digest;
mod limits;
mod metadata;
mod owner;
mod state;
mod update;

pub use digest::{Digest, OwnerDigest};
pub use limits::{MAX_BODY, MAX_PARTICIPANTS, MAX_TOMBSTONES};
pub use metadata::MetadataVersion;
pub use state::RoomState;
pub use update::{Change, LocalError, Participant, Record, RecordState, Refused, Update, Version};

/// Name of a node.
pub type NodeId = String;
/// Id of one participant's stay, `PA_...`, minted by its media node.
pub type Sid = String;
/// Who a participant says to be in its token; one of each is in a room.
pub type Identity = String;
