//! Wakes the task of a room for changes that concern the room, and for no others: a node's load report
//! wakes none.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::view_change::ViewChanges;
use systir_assignment::{NodeId, RoomId};

/// One watch's state.
#[derive(Debug, Default)]
struct Wake {
    /// Has something changed since the watch was last read?
    pending: AtomicBool,
    notify: Notify,
}

impl Wake {
    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }
}

type Watches = Vec<Weak<Wake>>;

#[derive(Debug, Default)]
struct Watched {
    rooms: HashMap<RoomId, Watches>,
    nodes: HashMap<NodeId, Watches>,
}

impl Watched {
    fn remove(watches: &mut Watches, wake: &Arc<Wake>) -> bool {
        watches.retain(|known| known.as_ptr() != Arc::as_ptr(wake));
        watches.is_empty()
    }

    fn remove_node(&mut self, node: &NodeId, wake: &Arc<Wake>) {
        if self.nodes.get_mut(node).is_some_and(|watches| Self::remove(watches, wake)) {
            self.nodes.remove(node);
        }
    }
}

/// All watches on one copy.
#[derive(Debug, Default)]
pub(crate) struct RoomWatches(Mutex<Watched>);

impl RoomWatches {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches that a change concerns. Call it after the copy was changed.
    pub(crate) fn wake(&self, changes: &ViewChanges) {
        let watched = self.lock();
        let wake =
            |watches: &Watches| watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.wake());
        if changes.availability {
            watched.rooms.values().for_each(wake);
            return;
        }
        changes.rooms.iter().filter_map(|room| watched.rooms.get(room)).for_each(wake);
        changes.nodes.iter().filter_map(|node| watched.nodes.get(node)).for_each(wake);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let watched = self.lock();
        watched.rooms.is_empty() && watched.nodes.is_empty()
    }

    pub(crate) fn watch(self: &Arc<Self>, room: &RoomId) -> RoomWatch {
        let wake = Arc::new(Wake::default());
        self.lock().rooms.entry(room.clone()).or_default().push(Arc::downgrade(&wake));
        RoomWatch { watches: self.clone(), wake, room: room.clone(), nodes: BTreeSet::new() }
    }
}

/// Watches the registry's copy for one room: its record, the leases of its nodes without their load, and
/// whether the store answers.
#[derive(Debug)]
pub struct RoomWatch {
    watches: Arc<RoomWatches>,
    wake: Arc<Wake>,
    room: RoomId,
    nodes: BTreeSet<NodeId>,
}

impl RoomWatch {
    /// Sets the nodes whose leases are watched. A node that was not watched before may have changed, so that
    /// the watch is then changed.
    pub fn set_nodes<'a>(&mut self, nodes: impl Iterator<Item = &'a str>) {
        let nodes: BTreeSet<NodeId> = nodes.map(NodeId::from).collect();
        if nodes == self.nodes {
            return;
        }
        let mut watched = self.watches.lock();
        for node in self.nodes.difference(&nodes) {
            watched.remove_node(node, &self.wake);
        }
        let mut added = false;
        for node in nodes.difference(&self.nodes) {
            watched.nodes.entry(node.clone()).or_default().push(Arc::downgrade(&self.wake));
            added = true;
        }
        drop(watched);
        self.nodes = nodes;
        if added {
            self.wake.wake();
        }
    }

    /// Waits until something has changed since [`RoomWatch::mark_read`]. Cancel safe.
    pub async fn changed(&self) {
        while !self.has_changed() {
            self.wake.notify.notified().await;
        }
    }

    /// Has something changed since [`RoomWatch::mark_read`]?
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.wake.pending.load(Ordering::Acquire)
    }

    /// Call it before the copy is read.
    pub fn mark_read(&self) {
        self.wake.pending.store(false, Ordering::Release);
    }
}

impl Drop for RoomWatch {
    fn drop(&mut self) {
        let mut watched = self.watches.lock();
        for node in &self.nodes {
            watched.remove_node(node, &self.wake);
        }
        if watched.rooms.get_mut(&self.room).is_some_and(|watches| Watched::remove(watches, &self.wake)) {
            watched.rooms.remove(&self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lease, LocalStore, NodeLoad, Registry};
    use systir_assignment::Assignment;

    const NODES: [&str; 3] = ["cph-1", "sto-1", "osl-1"];

    fn lease(node: &str, port: u16) -> Lease {
        Lease {
            versions: systir_version::VersionRange::OWN,
            node: node.into(),
            grpc: format!("192.0.2.1:{port}"),
            quic: format!("192.0.2.1:{port}"),
            load: NodeLoad::default(),
            draining: false,
            version: String::new(),
        }
    }

    fn assignment(name: &str) -> Assignment {
        Assignment::new(RoomId::new("ku.dk", name), "RM_x".to_owned(), "cph-1".into(), "1".to_owned(), 1)
    }

    /// Counts how often the watch of a room has changed.
    fn wakes(watch: &RoomWatch) -> usize {
        let woken = watch.has_changed();
        watch.mark_read();
        usize::from(woken)
    }

    #[tokio::test]
    async fn only_changes_of_its_record_and_its_nodes_wake_a_room() {
        let store = LocalStore::default();
        let nodes = NODES.map(|name| {
            let registry = store.registry();
            registry.announce(lease(name, 1));
            registry
        });
        let registry = store.registry();
        let lecture = registry.create(assignment("lecture")).await.unwrap();
        let mut watch = registry.watch_room(&lecture.value.room);
        watch.set_nodes(["cph-1", "sto-1"].into_iter());
        assert!(watch.has_changed(), "the nodes may have changed before they were watched");
        watch.mark_read();
        let mut whole = registry.watch();
        whole.mark_unchanged();

        let (mut of_room, mut of_view) = (0, 0);
        let mut count = |watch: &RoomWatch| {
            of_room += wakes(watch);
            of_view += usize::from(whole.has_changed().unwrap());
            whole.mark_unchanged();
        };
        for participants in 0..100 {
            for node in &nodes {
                node.report(NodeLoad { participants, ..NodeLoad::default() }, false);
                count(&watch);
            }
            registry.create(assignment(&participants.to_string())).await.unwrap();
            count(&watch);
        }
        // A node that the room does not use moves.
        nodes[2].announce(lease("osl-1", 2));
        count(&watch);
        assert_eq!((of_room, of_view), (0, 401), "wakes by the whole copy are as many as its changes");

        let mut spilled = lecture.value.clone();
        spilled.add_spill("sto-1".into(), 1);
        let spilled = registry.update(&lecture, spilled).await.unwrap();
        assert_eq!(wakes(&watch), 1, "its record");
        nodes[1].announce(lease("sto-1", 2));
        assert_eq!(wakes(&watch), 1, "another address of its spill node");
        nodes[1].retire().await;
        assert_eq!(wakes(&watch), 1, "the end of its spill node's lease");
        registry.delete(&spilled).await.unwrap();
        assert_eq!(wakes(&watch), 1, "the end of its record");
    }

    #[tokio::test]
    async fn a_change_before_the_wait_ends_the_wait_and_no_watch_is_left_behind() {
        let store = LocalStore::default();
        let registry = store.registry();
        let id = RoomId::new("ku.dk", "lecture");
        let mut watch = registry.watch_room(&id);
        registry.create(assignment("lecture")).await.unwrap();
        watch.changed().await;
        watch.mark_read();
        watch.set_nodes(NODES.into_iter());
        watch.changed().await;
        watch.mark_read();
        watch.set_nodes(NODES.into_iter());
        watch.set_nodes(["cph-1"].into_iter());
        assert!(!watch.has_changed(), "no node was added");
        let waiting = tokio::spawn(async move { watch.changed().await });
        tokio::task::yield_now().await;
        registry.announce(lease("sto-1", 1));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "it is no longer watched");
        registry.announce(lease("cph-1", 1));
        waiting.await.unwrap();
        assert!(store.is_unwatched());
    }
}
