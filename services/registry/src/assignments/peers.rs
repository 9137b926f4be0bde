//! What assignments need from the other nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use systir_assignment::RoomId;
use systir_reason::Refusal;

/// A room's grant and who carries the room, as another node told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldAssignment {
    /// The grant: a signed note.
    pub grant: String,
    /// The spill nodes that carry the room, and since when, Unix milliseconds.
    pub spill: Vec<(String, u64)>,
    /// When the room was created, Unix milliseconds.
    pub created_ms: u64,
}

/// What a node is asked about a room's grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantPurpose {
    /// The grant that it holds.
    Held,
    /// The grant that it holds; if none exists, it becomes home of the new room.
    Create,
    /// It becomes home after the home of this node's grant.
    TakeOver,
    /// It becomes home after this node, the home, which hands the role over.
    HandOver,
}

/// The other nodes, by name.
pub trait GrantPeers: Send + Sync + std::fmt::Debug {
    /// Since when the link to that node is up; none while there is none.
    fn link_since(&self, node: &str) -> Option<Instant>;

    /// Is the link to that node up?
    fn has_link(&self, node: &str) -> bool {
        self.link_since(node).is_some()
    }

    /// Asks a node for a room's grant. `grant` is the one that this node holds; empty for none.
    ///
    /// # Errors
    /// The node's refusal, or [`Reason::NoAnswer`](systir_reason::Reason::NoAnswer) when it does not answer within
    /// `limit`.
    fn ask_grant<'a>(
        &'a self,
        node: &'a str,
        room: &'a RoomId,
        grant: String,
        purpose: GrantPurpose,
        limit: Duration,
    ) -> BoxFuture<'a, Result<ToldAssignment, Refusal>>;
}

/// Tells whether this node uses a room.
pub trait Occupied: Send + Sync + std::fmt::Debug {
    /// Is the room open on this node, or are seats held for it?
    fn is_occupied(&self, room: &RoomId) -> bool;

    /// Has this node participants of the room, or seats for them?
    fn has_participants(&self, room: &RoomId) -> bool;
}

impl<T: Occupied> Occupied for Arc<T> {
    fn is_occupied(&self, room: &RoomId) -> bool {
        T::is_occupied(self, room)
    }

    fn has_participants(&self, room: &RoomId) -> bool {
        T::has_participants(self, room)
    }
}
