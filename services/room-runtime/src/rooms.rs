//! The rooms that this node carries, and how they are found.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use systir_assignment::{Assignment, RoomId, Versioned};
use systir_media_control::RoomKey;
use systir_policy::Action;
use systir_registry::{CreateError, UpdateError};
use tokio::sync::mpsc::error::SendTimeoutError;

use crate::node::Shared;
use crate::reason::Reason;
use crate::room::{Arrival, FromLinks, Handle, Message, Posted, Start, spawn};

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

    /// Brings somebody to the room's task; a room that closes at this moment is opened anew.
    ///
    /// # Errors
    /// When the room takes nobody now; with the sentence for the person.
    pub(crate) async fn arrive(
        &self,
        shared: &Arc<Shared>,
        assignment: &Assignment,
        arrival: Box<Arrival>,
    ) -> Result<(), &'static str> {
        let mut message = Message::Arrive(arrival);
        for _ in 0..3 {
            let handle = self.open(shared, assignment);
            match handle.messages.send_timeout(message, PATIENCE).await {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(_)) => {
                    return Err("The meeting is too busy to take you in. Join again in a moment.");
                }
                Err(SendTimeoutError::Closed(back)) => message = back,
            }
        }
        Err("The meeting closed at this moment. Join again to open it.")
    }

    /// Hands a room what links tell of it, without waiting. What would open a room that is not
    /// carried here is answered by closing it: else it would keep the link for ever.
    pub(crate) fn link_says(&self, shared: &Shared, key: &str, event: FromLinks) {
        let Some(id) = RoomId::from_key(key) else { return };
        let opens = match &event {
            FromLinks::Opened { node, .. } => Some(node.clone()),
            _ => None,
        };
        match self.get(&id).map_or(Posted::Over, |handle| handle.links.post(event)) {
            Posted::Kept => {}
            Posted::Dropped => {
                shared.metrics.overloads.get_or_create(&Reason::RoomInbox.into()).inc();
            }
            Posted::Over => {
                if let Some(node) = opens {
                    shared.links().drop_room(key, &node);
                }
            }
        }
    }
}

/// How long somebody who arrives waits for a busy room.
const PATIENCE: Duration = Duration::from_secs(5);

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
                if shared.rooms.get(&room).is_none() {
                    leave_assignment(&shared, &room).await;
                }
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

/// How often a lost race for a record is run again.
const RACES: usize = 5;

/// This node no longer carries the room: it takes itself out of the assignment, or ends it when
/// nobody else is left. False when the room must stay: somebody is about to come, or home is needed.
pub(crate) async fn leave_assignment(shared: &Arc<Shared>, room: &RoomId) -> bool {
    for _ in 0..RACES {
        if shared.has_seats(room) {
            return false;
        }
        let Some(known) = shared.registry.assignment(room) else { return true };
        let result = if known.value.home == *shared.name.as_str() {
            if !known.value.spill.is_empty() {
                // Home orders the room while others carry it.
                return false;
            }
            shared.registry.delete(&known).await
        } else if known.value.has(&shared.name) {
            let mut wanted = known.value.clone();
            wanted.remove_spill(&shared.name);
            shared.registry.update(&known, wanted).await.map(|_| ())
        } else {
            return true;
        };
        match result {
            Ok(()) | Err(UpdateError::Gone | UpdateError::StaleEpoch { .. }) => return true,
            Err(UpdateError::Conflict(_)) => {}
            Err(UpdateError::Registry(error)) => {
                tracing::info!(%error, "an empty room stays in the registry; its next visitor takes it over");
                return true;
            }
        }
    }
    false
}

/// The room's record is gone, or does not name this node any more, while people are here: it is
/// written again from what was last known. Only nodes that policy approves get into it.
pub(crate) async fn assign_again(shared: &Arc<Shared>, last: Assignment) {
    if !shared.authority.carries(&last.room.institution, &shared.name).allowed {
        return;
    }
    let mut known = shared.registry.assignment(&last.room);
    for _ in 0..RACES {
        let result = match &known {
            Some(known) if known.value.has(&shared.name) && known.value.epoch >= last.epoch => return,
            Some(known) => {
                let mut wanted = known.value.clone();
                if wanted.epoch < last.epoch {
                    // The store was set back; who took over meanwhile is not forgotten.
                    let Some(restored) = approved(shared, &last) else { return };
                    wanted = restored;
                }
                wanted.add_spill(shared.name.as_str().into(), crate::ids::unix_ms());
                shared.registry.update(known, wanted).await
            }
            None => {
                let Some(restored) = approved(shared, &last) else {
                    tracing::warn!("a room's record is gone, and no approved node is known to lead it");
                    return;
                };
                match shared.registry.create(restored).await {
                    Ok(written) => Ok(written),
                    Err(CreateError::AlreadyAssigned(other)) => Err(UpdateError::Conflict(other)),
                    Err(CreateError::Registry(error)) => Err(UpdateError::Registry(error)),
                }
            }
        };
        match result {
            Ok(_) => {
                tracing::warn!("a room with people in it was missing in the registry and is written again");
                shared.metrics.restored.inc();
                return;
            }
            Err(UpdateError::Conflict(other)) => known = Some(*other),
            Err(UpdateError::Gone) => known = None,
            Err(error) => {
                tracing::info!(%error, "a room's record cannot be written now; tried again");
                return;
            }
        }
    }
}

/// What was last known, without nodes that policy does not approve for their place, and with this
/// node. None when nobody that is left may lead the room.
fn approved(shared: &Shared, last: &Assignment) -> Option<Assignment> {
    let may = |action, node: &str| shared.authority.node(action, &last.room.institution, node).allowed;
    let mut wanted = last.clone();
    if !may(Action::Home, last.home.as_str()) {
        if !may(Action::Home, &shared.name) {
            return None;
        }
        wanted.home = shared.name.as_str().into();
    }
    let home = wanted.home.clone();
    wanted.spill.retain(|node| *node != home && may(Action::Spill, node.as_str()));
    wanted.add_spill(shared.name.as_str().into(), crate::ids::unix_ms());
    let nodes: Vec<_> = wanted.nodes().cloned().collect();
    wanted.since_ms.retain(|node, _| nodes.contains(node));
    Some(wanted)
}

/// A seat is held here for somebody of a room that this node has just left: it is assigned again.
/// None when it cannot be.
pub(crate) async fn claim(shared: &Arc<Shared>, room: &RoomId) -> Option<Assignment> {
    if !shared.has_seats(room) {
        return None;
    }
    let known: Option<Versioned<Assignment>> = shared.registry.assignment(room);
    let last = known.map(|known| known.value).unwrap_or_else(|| {
        let sid = crate::ids::room_sid(&mut rand::rng());
        let decision = shared.authority.node(Action::Home, &room.institution, &shared.name);
        let version = decision.policy_version.map(|version| version.to_string()).unwrap_or_default();
        Assignment::new(room.clone(), sid, shared.name.as_str().into(), version, crate::ids::unix_ms())
    });
    assign_again(shared, last).await;
    shared.registry.assignment(room).map(|known| known.value).filter(|known| known.has(&shared.name))
}
