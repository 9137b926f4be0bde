//! The rooms that this node carries, and how they are found.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// How long a record may be without a room before it counts as forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What crashes leave in the registry: spill nodes that are gone from rooms of this home, and rooms
/// that this node is assigned to and nobody is in. Checked now and then, changed only if nothing changed meanwhile.
pub(crate) async fn tidy(shared: Arc<Shared>) {
    let mut gone: HashMap<(RoomId, String), Instant> = HashMap::new();
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let view = shared.registry.view();
        // Without the store's word, silence proves nothing.
        if view.away_since().is_some() {
            gone.clear();
            continue;
        }
        let mut seen = Vec::new();
        for assignment in view.rooms().filter(|assignment| assignment.has(&shared.name)) {
            let room = &assignment.room;
            let home = assignment.home == *shared.name;
            let idle = shared.rooms.get(room).is_none() && !shared.has_seats(room);
            if idle && (!home || assignment.spill.is_empty()) {
                seen.push((room.clone(), String::new()));
            }
            if !home {
                continue;
            }
            for node in assignment.spill.iter().filter(|node| view.node(node.as_str()).is_none()) {
                seen.push((room.clone(), node.to_string()));
            }
        }
        gone.retain(|key, _| seen.contains(key));
        for key in seen {
            let since = *gone.entry(key.clone()).or_insert_with(Instant::now);
            if since.elapsed() < FORGOTTEN {
                continue;
            }
            gone.remove(&key);
            let (room, node) = key;
            if node.is_empty() {
                leave_assignment(&shared, &room).await;
            } else if let Some(known) = shared.registry.assignment(&room) {
                let mut wanted = known.value.clone();
                wanted.remove_spill(&node);
                match shared.registry.update(&known, wanted).await {
                    Ok(_) => tracing::info!(node, "a node that is gone was taken out of an assignment"),
                    Err(error) => tracing::debug!(%error, "an assignment is tidied another time"),
                }
            }
        }
    }
}

/// This node no longer carries the room: it takes itself out of the assignment, or ends it when
/// nobody else is left.
pub(crate) async fn leave_assignment(shared: &Arc<Shared>, room: &RoomId) {
    for _ in 0..5 {
        if shared.rooms.get(room).is_some() || shared.has_seats(room) {
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
