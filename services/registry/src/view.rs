//! The last known copy of the registry: the source of all reads, whether or not the store answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
    /// Last leases of nodes that have none now.
    pub(crate) ended: BTreeMap<NodeId, Lease>,
    /// How often the store was restored or replaced.
    pub(crate) replaced: u64,
    /// The institutions whose rooms are followed. None: all, because the store is inside this process.
    pub(crate) followed: Option<Arc<BTreeSet<String>>>,
    /// Followed institutions whose rooms are not in the copy.
    pub(crate) unread: BTreeMap<String, UnreadRooms>,
}

/// The rooms of an institution could not be read so far, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnreadRooms {
    pub(crate) since: Instant,
    /// Did the store refuse them? Otherwise they were not asked for yet.
    pub(crate) refused: bool,
}

/// Most ended leases that are kept: a hostile store can name any number of nodes.
const MAX_ENDED: usize = 256;

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

    /// A node's lease, or its last one if that has ended. The node may still run at that address: it may have
    /// lost the store only, or its lease was deleted.
    #[must_use]
    pub fn last_lease(&self, name: &str) -> Option<&Lease> {
        let node = NodeId::from(name);
        self.nodes.get(&node).or_else(|| self.ended.get(&node))
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

    /// Since when nothing new is known of the institution's rooms: the store does not answer, or refuses them, or
    /// has not been asked for them yet. None while they are up to date.
    #[must_use]
    pub fn rooms_unavailable_since(&self, institution: &str) -> Option<Instant> {
        self.unavailable_since.or_else(|| self.unread.get(institution).map(|unread| unread.since))
    }

    /// Does the store answer, and was it asked for the rooms of all followed institutions?
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.unavailable_since.is_none() && self.unread.values().all(|unread| unread.refused)
    }

    /// The institutions whose rooms the store refuses to this node, although it follows them.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        self.unread.iter().filter(|(_, unread)| unread.refused).map(|(institution, _)| institution.as_str())
    }

    /// Are the institution's rooms followed?
    pub(crate) fn follows(&self, institution: &str) -> bool {
        self.followed.as_ref().is_none_or(|followed| followed.contains(institution))
    }

    /// Number of records read so far that were unreadable.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// How often the store was restored from a backup or replaced by another one since this node started.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    pub(crate) fn insert_lease(&mut self, node: NodeId, lease: Lease) {
        self.ended.remove(&node);
        self.nodes.insert(node, lease);
    }

    /// Removes a lease and keeps it as an ended one. False when there was none.
    pub(crate) fn remove_lease(&mut self, node: &NodeId) -> bool {
        let Some(lease) = self.nodes.remove(node) else { return false };
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_first();
        }
        self.ended.insert(node.clone(), lease);
        true
    }

    /// Keeps the leases of an earlier copy that are no longer valid as ended ones.
    pub(crate) fn keep_ended_leases(&mut self, before: &Self) {
        let ended = before.ended.iter().chain(&before.nodes);
        for (node, lease) in ended.filter(|(node, _)| !self.nodes.contains_key(*node)) {
            self.ended.insert(node.clone(), lease.clone());
        }
        while self.ended.len() > MAX_ENDED {
            self.ended.pop_first();
        }
    }
}
