//! The registry inside one process: one machine, demonstrations, tests. Nodes of the process share
//! one [`LocalStore`]; each has its own [`LocalRegistry`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::assignment::{Assignment, NodeId, RoomId, Versioned};
use crate::lease::{Lease, Load};
use crate::registry::{CreateError, Registry, UpdateError};
use crate::view::View;

#[derive(Debug, Default)]
struct Records {
    revision: u64,
    view: View,
}

/// What the nodes of one process share.
#[derive(Debug, Clone)]
pub struct LocalStore {
    records: Arc<Mutex<Records>>,
    changed: watch::Sender<Arc<View>>,
}

impl Default for LocalStore {
    fn default() -> Self {
        Self { records: Arc::default(), changed: watch::Sender::new(Arc::default()) }
    }
}

impl LocalStore {
    /// One node's access.
    #[must_use]
    pub fn registry(&self) -> LocalRegistry {
        LocalRegistry { store: self.clone(), me: Arc::default() }
    }

    /// Ends a node's lease, as time does where there is a clock.
    pub fn expire(&self, node: &NodeId) {
        let mut records = self.lock();
        records.view.nodes.remove(node);
        self.publish(&records);
    }

    // A panic elsewhere cannot leave a record half written: each is replaced whole.
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, records: &Records) {
        self.changed.send_replace(Arc::new(records.view.clone()));
    }
}

/// One node's access to a [`LocalStore`].
#[derive(Debug)]
pub struct LocalRegistry {
    store: LocalStore,
    me: Arc<Mutex<Option<NodeId>>>,
}

impl LocalRegistry {
    fn me(&self) -> Option<NodeId> {
        self.me.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn checked(records: &Records, read: &Versioned<Assignment>, epoch: u64) -> Result<(), UpdateError> {
        let Some(current) = records.view.rooms.get(&read.value.room) else { return Err(UpdateError::Gone) };
        if epoch < current.value.epoch {
            return Err(UpdateError::StaleEpoch { offered: epoch, current: current.value.epoch });
        }
        if current.revision != read.revision {
            return Err(UpdateError::Conflict(Box::new(current.clone())));
        }
        Ok(())
    }

    fn put(&self, mut records: MutexGuard<'_, Records>, assignment: Assignment) -> Versioned<Assignment> {
        records.revision += 1;
        let room: RoomId = assignment.room.clone();
        let record = Versioned { value: assignment, revision: records.revision };
        records.view.rooms.insert(room, record.clone());
        self.store.publish(&records);
        record
    }
}

impl Registry for LocalRegistry {
    fn view(&self) -> Arc<View> {
        self.store.changed.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.store.changed.subscribe()
    }

    fn announce(&self, lease: Lease) {
        *self.me.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease.node.clone());
        let mut records = self.store.lock();
        records.view.nodes.insert(lease.node.clone(), lease);
        self.store.publish(&records);
    }

    fn report(&self, load: Load, draining: bool) {
        let Some(me) = self.me() else { return };
        let mut records = self.store.lock();
        if let Some(lease) = records.view.nodes.get_mut(&me) {
            lease.load = load;
            lease.draining = draining;
            self.store.publish(&records);
        }
    }

    fn retire(&self) -> BoxFuture<'_, ()> {
        if let Some(me) = self.me() {
            self.store.expire(&me);
        }
        futures::future::ready(()).boxed()
    }

    fn create(&self, assignment: Assignment) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        let records = self.store.lock();
        let result = match records.view.rooms.get(&assignment.room) {
            Some(existing) => Err(CreateError::AlreadyAssigned(Box::new(existing.clone()))),
            None => Ok(self.put(records, assignment)),
        };
        futures::future::ready(result).boxed()
    }

    fn update<'a>(
        &'a self,
        read: &'a Versioned<Assignment>,
        wanted: Assignment,
    ) -> BoxFuture<'a, Result<Versioned<Assignment>, UpdateError>> {
        let records = self.store.lock();
        let result = Self::checked(&records, read, wanted.epoch).map(|()| self.put(records, wanted));
        futures::future::ready(result).boxed()
    }

    fn delete<'a>(&'a self, read: &'a Versioned<Assignment>) -> BoxFuture<'a, Result<(), UpdateError>> {
        let mut records = self.store.lock();
        let result = Self::checked(&records, read, read.value.epoch).map(|()| {
            records.revision += 1;
            records.view.rooms.remove(&read.value.room);
            self.store.publish(&records);
        });
        futures::future::ready(result).boxed()
    }
}
