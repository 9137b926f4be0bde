//! The last known copy of the registry: the source of all reads, whether or not the store answers.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::lease::Lease;
use systir_assignment::{Assignment, NodeId, RoomId, Versioned};

/// A copy of all leases and assignments.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub(crate) nodes: BTreeMap<NodeId, Lease>,
    pub(crate) rooms: BTreeMap<RoomId, Versioned<Assignment>>,
    pub(crate) unavailable_since: Option<Instant>,
    pub(crate) unreadable: u64,
}

impl View {
    /// A node's lease.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Lease> {
        self.nodes.get(&NodeId::from(name))
    }

    /// All valid leases.
    pub fn nodes(&self) -> impl Iterator<Item = &Lease> {
        self.nodes.values()
    }

    /// A room's assignment.
    #[must_use]
    pub fn room(&self, room: &RoomId) -> Option<&Versioned<Assignment>> {
        self.rooms.get(room)
    }

    /// All assigned rooms.
    pub fn rooms(&self) -> impl Iterator<Item = &Assignment> {
        self.rooms.values().map(|record| &record.value)
    }

    /// Since when the store has not answered; none while it does.
    #[must_use]
    pub fn unavailable_since(&self) -> Option<Instant> {
        self.unavailable_since
    }

    /// Number of records read so far that were unreadable.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}
