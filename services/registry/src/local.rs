//! The registry inside one process, for the demo and tests. The nodes of the process share one
//! [`LocalStore`]; each has its own [`LocalRegistry`]. A node's lease is kept while its registry exists and
//! expires a while after that is dropped, also without [`Registry::retire`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::lease::{Lease, NodeLoad};
use crate::registry::{CreateError, Registry, UpdateError};
use crate::room_watch::RoomWatch;
use crate::shared_view::SharedView;
use crate::view::View;
use systir_assignment::{Assignment, NodeId, RoomId, Versioned};

/// Held by each change of the copy, so that changes have one order.
#[derive(Debug, Default)]
struct Records {
    revision: u64,
    /// The announcement that each lease belongs to.
    leases: BTreeMap<NodeId, u64>,
}

/// The store that the nodes of one process share.
#[derive(Debug, Clone)]
pub struct LocalStore {
    records: Arc<Mutex<Records>>,
    shared: SharedView,
    lease: Duration,
}

impl Default for LocalStore {
    /// Leases of 10 s.
    fn default() -> Self {
        Self::with_lease(Duration::from_secs(10))
    }
}

impl LocalStore {
    /// A registry for one node.
    #[must_use]
    pub fn registry(&self) -> LocalRegistry {
        LocalRegistry { store: self.clone(), announced: Arc::default() }
    }

    /// A store in which a lease lasts this long after its node's registry is dropped.
    #[must_use]
    pub fn with_lease(lease: Duration) -> Self {
        Self { records: Arc::default(), shared: SharedView::new(View::default()), lease }
    }

    /// Ends a node's lease, unless it belongs to a later announcement.
    fn end_lease(&self, node: &NodeId, announced: u64) {
        let mut records = self.lock();
        if records.leases.get(node) == Some(&announced) {
            records.leases.remove(node);
            self.shared.modify(|view| view.remove_lease(node));
        }
    }

    // A poisoned lock is safe to use: each record is replaced as a whole.
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does no room watch the store?
    #[cfg(test)]
    pub(crate) fn is_unwatched(&self) -> bool {
        self.shared.is_unwatched()
    }
}

/// One node's access to a [`LocalStore`].
#[derive(Debug)]
pub struct LocalRegistry {
    store: LocalStore,
    announced: Arc<Mutex<Option<Announced>>>,
}

/// A node's announcement. When it is dropped, the lease starts to expire.
#[derive(Debug)]
struct Announced {
    node: NodeId,
    number: u64,
    _expiry_guard: DropGuard,
}

impl LocalRegistry {
    fn announced(&self) -> MutexGuard<'_, Option<Announced>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self, read: &Versioned<Assignment>) -> Result<(), UpdateError> {
        let view = self.store.shared.current();
        let current = view.room(&read.value.room).ok_or(UpdateError::Gone)?;
        if current.revision != read.revision {
            return Err(UpdateError::Conflict(Box::new(current.clone())));
        }
        Ok(())
    }

    fn put(&self, records: &mut Records, assignment: Assignment) -> Versioned<Assignment> {
        records.revision += 1;
        let record = Versioned { value: assignment, revision: records.revision };
        self.store.shared.modify(|view| view.insert_room(record.clone()));
        record
    }
}

impl Registry for LocalRegistry {
    fn view(&self) -> Arc<View> {
        self.store.shared.current()
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.store.shared.watch()
    }

    fn watch_room(&self, room: &RoomId) -> RoomWatch {
        self.store.shared.watch_room(room)
    }

    fn wake_room(&self, room: &RoomId) {
        self.store.shared.wake_room(room);
    }

    fn follow(&self, _institutions: BTreeSet<String>) {}

    fn announce(&self, lease: Lease) {
        let (node, store, dropped) = (lease.node.clone(), self.store.clone(), CancellationToken::new());
        let mut records = store.lock();
        records.revision += 1;
        let number = records.revision;
        records.leases.insert(node.clone(), number);
        store.shared.modify(|view| view.insert_lease(lease));
        drop(records);
        *self.announced() =
            Some(Announced { node: node.clone(), number, _expiry_guard: dropped.clone().drop_guard() });
        tokio::spawn(async move {
            dropped.cancelled_owned().await;
            tokio::time::sleep(store.lease).await;
            store.end_lease(&node, number);
        });
    }

    fn report(&self, load: NodeLoad, draining: bool) {
        let Some(node) = self.announced().as_ref().map(|announced| announced.node.clone()) else { return };
        let _records = self.store.lock();
        if let Some(lease) = self.store.shared.current().node(node.as_str()) {
            self.store.shared.modify(|view| view.insert_lease(Lease { load, draining, ..lease.clone() }));
        }
    }

    fn retire(&self) -> BoxFuture<'_, ()> {
        if let Some(announced) = self.announced().take() {
            self.store.end_lease(&announced.node, announced.number);
        }
        futures::future::ready(()).boxed()
    }

    fn create_unless(
        &self,
        assignment: Assignment,
        others: Vec<(RoomId, u64)>,
    ) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        let mut records = self.store.lock();
        let changed = others
            .iter()
            .find_map(|(room, revision)| self.assignment(room).filter(|record| record.revision != *revision));
        let result = match self.assignment(&assignment.room).or(changed) {
            Some(existing) => Err(CreateError::AlreadyAssigned(Box::new(existing))),
            None => Ok(self.put(&mut records, assignment)),
        };
        futures::future::ready(result).boxed()
    }

    fn update<'a>(
        &'a self,
        read: &'a Versioned<Assignment>,
        wanted: Assignment,
    ) -> BoxFuture<'a, Result<Versioned<Assignment>, UpdateError>> {
        let mut records = self.store.lock();
        let result = self.checked(read).map(|()| self.put(&mut records, wanted));
        futures::future::ready(result).boxed()
    }

    fn delete<'a>(&'a self, read: &'a Versioned<Assignment>) -> BoxFuture<'a, Result<(), UpdateError>> {
        let mut records = self.store.lock();
        let result = self.checked(read).map(|()| {
            records.revision += 1;
            self.store.shared.modify(|view| view.remove_room(&read.value.room));
        });
        futures::future::ready(result).boxed()
    }
}
