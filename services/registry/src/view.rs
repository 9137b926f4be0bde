//! The last known copy of the registry: the source of all reads, whether or not the store answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::lease::{Lease, UnsupportedLease};
use systir_assignment::{Assignment, NodeId, RoomId, Versioned};

/// A copy of all leases and assignments.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub(crate) nodes: BTreeMap<NodeId, Lease>,
    pub(crate) rooms: BTreeMap<RoomId, Versioned<Assignment>>,
    pub(crate) unavailable_since: Option<Instant>,
    pub(crate) unreadable: u64,
    /// How many of the unreadable records are of another version.
    pub(crate) unsupported: u64,
    /// Leases of nodes that have no version in common with this one.
    pub(crate) unsupported_leases: BTreeMap<NodeId, UnsupportedLease>,
    /// Last leases of nodes that have none now.
    pub(crate) ended: BTreeMap<NodeId, Lease>,
    /// The nodes whose last leases are kept. None: all, because the store is inside this process.
    pub(crate) remembered: Option<Arc<BTreeSet<NodeId>>>,
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

impl View {
    /// A node's lease.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Lease> {
        self.nodes.get(&NodeId::from(name))
    }

    /// The lease of a node that has no version in common with this one. Such a node counts as one without a lease.
    #[must_use]
    pub fn unsupported_lease(&self, name: &str) -> Option<&UnsupportedLease> {
        self.unsupported_leases.get(&NodeId::from(name))
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

    /// Number of records read so far of versions that this node does not work with.
    #[must_use]
    pub fn unsupported(&self) -> u64 {
        self.unsupported
    }

    /// How often the store was restored from a backup or replaced by another one since this node started.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    pub(crate) fn insert_lease(&mut self, node: NodeId, lease: Lease) {
        self.ended.remove(&node);
        self.unsupported_leases.remove(&node);
        self.nodes.insert(node, lease);
    }

    /// Removes a lease and keeps it as an ended one. False when there was none.
    pub(crate) fn remove_lease(&mut self, node: &NodeId) -> bool {
        self.unsupported_leases.remove(node);
        let Some(lease) = self.nodes.remove(node) else { return false };
        if self.remembers(node) {
            self.ended.insert(node.clone(), lease);
        }
        true
    }

    /// Is the node's last lease kept? A hostile store can name any number of nodes.
    pub(crate) fn remembers(&self, node: &NodeId) -> bool {
        self.remembered.as_ref().is_none_or(|nodes| nodes.contains(node))
    }

    /// Keeps the last leases of these nodes and of no others.
    pub(crate) fn remember(&mut self, nodes: BTreeSet<NodeId>) {
        self.ended.retain(|node, _| nodes.contains(node));
        self.unsupported_leases.retain(|node, _| nodes.contains(node));
        self.remembered = Some(Arc::new(nodes));
    }

    /// Keeps the leases of an earlier copy that are no longer valid as ended ones.
    pub(crate) fn keep_ended_leases(&mut self, before: &Self) {
        self.remembered.clone_from(&before.remembered);
        if let Some(nodes) = &self.remembered {
            self.unsupported_leases.retain(|node, _| nodes.contains(node));
        }
        let ended = before.ended.iter().chain(&before.nodes);
        for (node, lease) in ended {
            if !self.nodes.contains_key(node) && self.remembers(node) {
                self.ended.insert(node.clone(), lease.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::NodeLoad;
    use systir_version::VersionRange;

    fn lease(node: &NodeId) -> Lease {
        Lease {
            node: node.clone(),
            grpc: String::new(),
            quic: String::new(),
            load: NodeLoad::default(),
            draining: false,
            version: String::new(),
            versions: VersionRange::OWN,
        }
    }

    #[test]
    fn any_number_of_forged_leases_leaves_the_last_leases_of_listed_nodes() {
        let mut view = View::default();
        view.remember(["cph-1".into(), "sto-1".into()].into());
        let forged: Vec<NodeId> = (0..1_000).map(|count| format!("none-{count}").as_str().into()).collect();
        for node in [NodeId::from("cph-1"), "sto-1".into()].iter().chain(&forged) {
            view.insert_lease(node.clone(), lease(node));
        }
        view.remove_lease(&"cph-1".into());
        assert!(forged.iter().all(|node| view.remove_lease(node)));
        // A full read finds nothing.
        let mut fresh = View::default();
        fresh.keep_ended_leases(&view);
        for node in ["cph-1", "sto-1"] {
            assert!(fresh.last_lease(node).is_some(), "{node}");
        }
        assert_eq!(fresh.ended.len(), 2);
        // A directory lists one of them no longer.
        fresh.remember(["sto-1".into()].into());
        assert!(fresh.last_lease("cph-1").is_none() && fresh.last_lease("sto-1").is_some());
    }
}
