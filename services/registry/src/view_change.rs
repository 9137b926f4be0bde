//! Changes of the copy, and what of it each change concerns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::lease::{Lease, UnsupportedLease};
use crate::view::{UnreadRooms, View};
use systir_assignment::{Assignment, NodeId, RoomId, Versioned};

/// What of a copy has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ViewChanges {
    /// Rooms whose record changed.
    pub rooms: BTreeSet<RoomId>,
    /// Nodes whose lease began, ended or has another address.
    pub nodes: BTreeSet<NodeId>,
    /// Whether the store answers, or gives the rooms of an institution, has changed.
    pub availability: bool,
    /// Something else changed, such as the load of a node.
    pub other: bool,
}

impl ViewChanges {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What differs between two copies.
    pub(crate) fn between(before: &View, after: &View) -> Self {
        let mut changes = Self { other: true, ..Self::default() };
        let rooms = before.rooms.keys().chain(after.rooms.keys());
        changes.rooms =
            rooms.filter(|room| before.rooms.get(*room) != after.rooms.get(*room)).cloned().collect();
        let moved = |node: &&NodeId| match (before.nodes.get(*node), after.nodes.get(*node)) {
            (Some(before), Some(after)) => !before.same_address(after),
            (before, after) => before.is_some() != after.is_some(),
        };
        changes.nodes = before.nodes.keys().chain(after.nodes.keys()).filter(moved).cloned().collect();
        changes.availability = before.unavailable_since.is_some() != after.unavailable_since.is_some()
            || before.unread != after.unread;
        changes
    }
}

/// Changes a copy and notes what changed.
#[derive(Debug)]
pub(crate) struct ViewEditor<'a> {
    view: &'a mut View,
    pub changes: ViewChanges,
}

impl<'a> ViewEditor<'a> {
    pub(crate) fn new(view: &'a mut View) -> Self {
        Self { view, changes: ViewChanges::default() }
    }

    /// The copy as it is now.
    pub(crate) fn view(&self) -> &View {
        self.view
    }

    pub(crate) fn insert_room(&mut self, record: Versioned<Assignment>) {
        let room = record.value.room.clone();
        self.changes.rooms.insert(room.clone());
        self.view.rooms.insert(room, record);
    }

    /// Inserts a record unless the copy has a newer one: a write of this node may enter the copy before the
    /// watch reports an older one. Not if its institution's rooms are no longer followed.
    pub(crate) fn insert_newer_room(&mut self, record: Versioned<Assignment>) {
        if !self.view.follows(&record.value.room.institution) {
            return;
        }
        let known = self.view.rooms.get(&record.value.room);
        if known.is_none_or(|known| known.revision < record.revision) {
            self.insert_room(record);
        }
    }

    pub(crate) fn remove_room(&mut self, room: &RoomId) {
        if self.view.rooms.remove(room).is_some() {
            self.changes.rooms.insert(room.clone());
        }
    }

    pub(crate) fn insert_lease(&mut self, lease: Lease) {
        let node = lease.node.clone();
        let known = self.view.nodes.get(&node);
        if known.is_some_and(|known| known.same_address(&lease)) {
            self.changes.other = true;
        } else {
            self.changes.nodes.insert(node.clone());
        }
        self.view.insert_lease(node, lease);
    }

    pub(crate) fn remove_lease(&mut self, node: &NodeId) {
        if self.view.remove_lease(node) {
            self.changes.nodes.insert(node.clone());
        }
    }

    /// Follows the rooms of these institutions and of no others. Those of others leave the copy at once. False when
    /// these are followed already.
    pub(crate) fn follow(&mut self, institutions: BTreeSet<String>) -> bool {
        let before = self.view.followed.clone().unwrap_or_default();
        if *before == institutions {
            return false;
        }
        let lost = self.view.rooms.keys().filter(|room| !institutions.contains(&room.institution));
        for room in lost.cloned().collect::<Vec<_>>() {
            self.remove_room(&room);
        }
        self.view.unread.retain(|institution, _| institutions.contains(institution));
        let unread = UnreadRooms { since: Instant::now(), refused: false };
        let added = institutions.difference(&before).map(|added| (added.clone(), unread));
        self.view.unread.extend(added);
        self.view.followed = Some(Arc::new(institutions));
        self.changes.availability = true;
        true
    }

    /// Keeps the last leases of these nodes and of no others.
    pub(crate) fn remember(&mut self, nodes: BTreeSet<NodeId>) {
        if self.view.remembered.as_deref() != Some(&nodes) {
            self.view.remember(nodes);
            self.changes.other = true;
        }
    }

    /// The store stopped answering; an earlier time is kept.
    pub(crate) fn set_unavailable(&mut self) {
        if self.view.unavailable_since.is_none() {
            self.view.unavailable_since = Some(Instant::now());
            self.changes.availability = true;
        }
    }

    /// A node's lease is of another version.
    pub(crate) fn insert_unsupported_lease(&mut self, node: NodeId, lease: UnsupportedLease) {
        if self.view.remembers(&node) {
            self.view.unsupported_leases.insert(node, lease);
            self.changes.other = true;
        }
    }

    /// A record cannot be read, perhaps because it is of another version.
    pub(crate) fn count_unreadable(&mut self, unsupported: bool) {
        self.view.unreadable += 1;
        self.view.unsupported += u64::from(unsupported);
        self.changes.other = true;
    }
}
