//! The rooms that this node carries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use systir_assignment::{Assignment, MediaRole, RoomId};
use systir_media_control::{KeyAllocator, RoomNumber};
use systir_placement::Seats;
use systir_policy::Authority;
use systir_reason::Reason;
use systir_registry::{Assignments, Occupied};
use systir_room::{
    FlowAllocator, Queued, ReplicaTotals, Residency, RoomLinkEvent, RoomMetrics, residency_of,
};
use systir_worker::WorkerPool;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::PeerLinks;
use crate::handle::{KnownIdentity, ParticipantArrival, RoomHandle, TaskMessage};
use crate::task;

/// How long an arriving participant waits for a busy room task.
const ARRIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a residency request waits for a busy room task before it is answered from the registry's copy.
const RESIDENCY_TIMEOUT: Duration = Duration::from_secs(2);

/// When the registry is cleaned up after crashes.
#[derive(Debug, Clone, Copy)]
pub struct CleanUp {
    /// How often stale assignments are searched.
    pub interval: Duration,
    /// How long an assignment may be without a room here, or name a spill node that is offline or denied by
    /// policy.
    pub stale_after: Duration,
}

impl Default for CleanUp {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), stale_after: Duration::from_secs(60) }
    }
}

/// What rooms need from the rest of the node.
#[derive(Debug, Clone)]
pub struct RoomDependencies {
    /// This node's name.
    pub node: String,
    /// This node's view of policy.
    pub authority: Arc<Authority>,
    /// Changes each time the engine of `authority` was replaced.
    pub policy_changes: watch::Receiver<u64>,
    /// The assignments in the registry.
    pub assignments: Arc<Assignments>,
    /// This node's seat book.
    pub seats: Arc<Seats>,
    /// The links to other nodes.
    pub links: Arc<dyn PeerLinks>,
    /// Allocates flow numbers on links.
    pub flows: Arc<dyn FlowAllocator>,
    /// The media workers.
    pub workers: WorkerPool,
    /// Makes keys of participants and tracks.
    pub keys: Arc<KeyAllocator>,
    /// The metrics of all rooms.
    pub metrics: Arc<RoomMetrics>,
    /// Tracks the tasks of rooms.
    pub tasks: TaskTracker,
    /// Stops the tasks of rooms.
    pub stop: CancellationToken,
}

impl RoomDependencies {
    /// The policy check for nodes that are in a room's assignment.
    pub(crate) fn approves<'a>(&'a self, room: &'a RoomId) -> impl Fn(MediaRole, &str) -> bool + 'a {
        |role, node| self.authority.node(role.into(), room, node).allowed
    }
}

/// The rooms that this node carries, by id.
#[derive(Debug)]
pub struct Rooms {
    dependencies: RoomDependencies,
    open: Mutex<HashMap<RoomId, RoomHandle>>,
    replicas: Arc<ReplicaTotals>,
    next: AtomicU32,
}

impl Rooms {
    /// No rooms.
    #[must_use]
    pub fn new(dependencies: RoomDependencies) -> Self {
        Self { dependencies, open: Mutex::default(), replicas: Arc::default(), next: AtomicU32::new(1) }
    }

    pub(crate) fn dependencies(&self) -> &RoomDependencies {
        &self.dependencies
    }

    pub(crate) fn replicas(&self) -> &Arc<ReplicaTotals> {
        &self.replicas
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, RoomHandle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of a room; none when this node does not carry it.
    #[must_use]
    pub fn get(&self, room: &RoomId) -> Option<RoomHandle> {
        self.lock().get(room).cloned()
    }

    /// The handles of all rooms.
    #[must_use]
    pub fn all(&self) -> Vec<RoomHandle> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn remove(&self, room: &RoomId, key: RoomNumber) {
        let mut open = self.lock();
        if open.get(room).is_some_and(|handle| handle.key == key) {
            open.remove(room);
        }
    }

    /// The handle of a room, whose task is started if necessary. The caller must have checked that policy
    /// allows this node to carry the room.
    pub fn open(self: &Arc<Self>, assignment: &Assignment) -> RoomHandle {
        let mut open = self.lock();
        if let Some(handle) = open.get(&assignment.room)
            && !handle.messages.is_closed()
        {
            return handle.clone();
        }
        let key = RoomNumber(self.next.fetch_add(1, Ordering::Relaxed));
        let handle = task::spawn(self, key, assignment.clone());
        open.insert(assignment.room.clone(), handle.clone());
        handle
    }

    /// Counts a participant that was refused for its ticket.
    pub fn ticket_refused(&self, reason: Reason) {
        self.dependencies.metrics.ticket_refusals.get_or_create(&reason.into()).inc();
    }

    /// Sends an arriving participant to the room's task. A room that is just ending is opened again.
    ///
    /// # Errors
    /// When the room cannot accept the participant now. The text is for the participant.
    pub async fn arrive(
        self: &Arc<Self>,
        assignment: &Assignment,
        arrival: Box<ParticipantArrival>,
    ) -> Result<(), &'static str> {
        let mut message = TaskMessage::Arrive(arrival);
        for _ in 0..3 {
            let handle = self.open(assignment);
            match handle.messages.send_timeout(message, ARRIVE_TIMEOUT).await {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(_)) => {
                    return Err("The room is too busy to accept you now. Join again in a moment.");
                }
                Err(SendTimeoutError::Closed(back)) => message = back,
            }
        }
        Err("The room closed at this moment. Join again to open it.")
    }

    /// Queues a link event for a room, without waiting. When this node does not carry the room, an opened
    /// room is closed on the link, where it would stay open otherwise.
    pub fn link_event(&self, key: &str, event: RoomLinkEvent) {
        let Some(id) = RoomId::from_key(key) else { return };
        let opened = match &event {
            RoomLinkEvent::Opened { node, .. } => Some(node.clone()),
            _ => None,
        };
        match self.get(&id).map_or(Queued::Ended, |handle| handle.link_event(event)) {
            Queued::Kept => {}
            Queued::Dropped => {
                self.dependencies.metrics.overloads.get_or_create(&Reason::LinkEventQueue.into()).inc();
            }
            Queued::Ended => {
                if let Some(node) = opened {
                    self.dependencies.links.close_room(key, &node);
                }
            }
        }
    }

    /// Notifies all rooms that the link to a node is down.
    pub fn link_down(&self, node: &str) {
        for room in self.all() {
            room.link_event(RoomLinkEvent::Down { node: node.to_owned() });
        }
    }

    /// What the room, if this node carries it, knows of an identity. Nothing when a busy room does not answer within `limit`:
    /// then clocks alone order the identity's joins, and its connections on other nodes do not count for the quota.
    pub async fn identity(&self, room: &RoomId, identity: &str, limit: Duration) -> KnownIdentity {
        let Some(handle) = self.get(room) else { return KnownIdentity::default() };
        let known = tokio::time::timeout(limit, handle.identity(identity)).await;
        known.ok().flatten().unwrap_or_default()
    }

    /// Residency of a room, from the registry's copy when this node does not carry it. None for an unknown
    /// room.
    pub async fn residency(&self, room: &RoomId) -> Option<Residency> {
        if let Some(handle) = self.get(room)
            && let Ok(Some(residency)) = tokio::time::timeout(RESIDENCY_TIMEOUT, handle.residency()).await
        {
            return Some(residency);
        }
        let known = self.dependencies.assignments.get(room)?;
        Some(residency_of(&known, &self.dependencies.node, &self.dependencies.authority))
    }

    /// Cleans up the registry: removes spill nodes that are offline or denied by policy from rooms whose home
    /// is this node, and removes this node from rooms without participants. Runs until it is dropped.
    pub async fn clean_up(self: Arc<Self>, when: CleanUp) {
        let mut found: HashMap<(RoomId, Option<String>), Instant> = HashMap::new();
        loop {
            tokio::time::sleep(when.interval).await;
            let seen = self.stale();
            found.retain(|key, _| seen.contains(key));
            for key in seen {
                let since = *found.entry(key.clone()).or_insert_with(Instant::now);
                if since.elapsed() < when.stale_after {
                    continue;
                }
                found.remove(&key);
                match key {
                    (room, Some(node)) => self.dependencies.assignments.remove_spill(&room, &node),
                    (room, None) => {
                        if self.get(&room).is_none() {
                            self.leave(&room).await;
                        }
                    }
                }
            }
        }
    }

    /// Removes this node from the room's assignment. False when the room must continue.
    pub(crate) async fn leave(&self, room: &RoomId) -> bool {
        let key = room.key();
        let seats = &self.dependencies.seats;
        self.dependencies.assignments.leave(room, || seats.are_held_by(&key)).await
    }

    /// Rooms of this node, as home, without participants (none), and spill nodes that are offline or denied by policy in
    /// rooms whose home is this node.
    fn stale(&self) -> Vec<(RoomId, Option<String>)> {
        let view = self.dependencies.assignments.registry().view();
        let mut stale = Vec::new();
        for assignment in self.dependencies.assignments.own_rooms() {
            let room = &assignment.room;
            // While the registry does not answer, a missing lease proves nothing.
            if view.rooms_unavailable_since(&room.institution).is_some() {
                continue;
            }
            if !self.is_occupied(room) {
                // A spill node that carried the room would have opened it here.
                let spill = assignment.spill.iter().map(|node| Some(node.to_string()));
                let nobody = assignment.spill.is_empty().then_some(None);
                stale.extend(spill.chain(nobody).map(|node| (room.clone(), node)));
                continue;
            }
            let approves = self.dependencies.approves(room);
            // A node whose link stands is alive: its lease may have lapsed or been deleted.
            let alive = |node: &str| view.node(node).is_some() || self.dependencies.links.has_link(node);
            let spill = assignment.spill.iter().map(AsRef::as_ref);
            let gone = spill.filter(|node| !alive(node) || !approves(MediaRole::Spill, node));
            stale.extend(gone.map(|node| (room.clone(), Some(node.to_owned()))));
        }
        // Records of this node, as home, from before a restart.
        let me = self.dependencies.node.as_str();
        for record in view.rooms().filter(|record| record.home == *me) {
            if !self.is_occupied(&record.room) {
                // From now on it is one of this node's rooms.
                let _ = self.dependencies.assignments.get(&record.room);
            }
        }
        stale
    }
}

impl Occupied for Rooms {
    fn is_occupied(&self, room: &RoomId) -> bool {
        self.get(room).is_some() || self.has_participants(room)
    }

    fn has_participants(&self, room: &RoomId) -> bool {
        self.dependencies.seats.are_held_by(&room.key())
    }
}
