//! The rooms that this node carries, and how they are found.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use systir_access::worker::command::RoomKey;
use systir_registry::{Assignment, RoomId, UpdateError};

use crate::node::Shared;
use crate::room::{Handle, Start, spawn};

/// Rooms by id.
#[derive(Debug, Default)]
pub struct Rooms {
    open: Mutex<HashMap<RoomId, Handle>>,
    next: AtomicU32,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room, if this node carries it now.
    pub(crate) fn get(&self, room: &RoomId) -> Option<Handle> {
        self.lock().get(room).cloned()
    }

    /// The room's task is over.
    pub(crate) fn remove(&self, room: &RoomId, key: RoomKey) {
        let mut open = self.lock();
        if open.get(room).is_some_and(|handle| handle.key == key) {
            open.remove(room);
        }
    }

    /// All rooms.
    pub(crate) fn all(&self) -> Vec<Handle> {
        self.lock().values().cloned().collect()
    }

    /// The room's task, started when there is none. The caller has asked policy whether this node
    /// may carry the room.
    pub(crate) fn open(&self, shared: &Arc<Shared>, assignment: &Assignment) -> Handle {
        let mut open = self.lock();
        if let Some(handle) = open.get(&assignment.room)
            && !handle.messages.is_closed()
        {
            return handle.clone();
        }
        let key = RoomKey(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let (worker_index, commands) = shared.worker_for(key);
        let start =
            Start { shared: shared.clone(), key, worker_index, commands, assignment: assignment.clone() };
        let handle = spawn(start);
        open.insert(assignment.room.clone(), handle.clone());
        handle
    }
}

/// This node no longer carries the room: it takes itself out of the assignment, or ends it when
/// nobody else is left.
pub(crate) async fn leave_assignment(shared: &Arc<Shared>, room: &RoomId) {
    for _ in 0..5 {
        if shared.rooms.get(room).is_some() {
            return;
        }
        let Some(known) = shared.registry.assignment(room) else { return };
        let result = if known.value.home == *shared.name.as_str() {
            if !known.value.spill.is_empty() {
                // Home orders the room while others carry it.
                return;
            }
            shared.registry.delete(&known).await
        } else if known.value.has(&shared.name) {
            let mut wanted = known.value.clone();
            wanted.remove_spill(&shared.name);
            shared.registry.update(&known, wanted).await.map(|_| ())
        } else {
            return;
        };
        match result {
            Ok(()) | Err(UpdateError::Gone | UpdateError::StaleEpoch { .. }) => return,
            Err(UpdateError::Conflict(_)) => {}
            Err(UpdateError::Registry(error)) => {
                tracing::info!(%error, "an empty room stays in the registry; its next visitor takes it over");
                return;
            }
        }
    }
}
