//! The rooms that this node carries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use systir_assignment::{Assignment, RoomId};
use systir_media_control::{KeyMint, RoomKey};
use systir_placement::Seats;
use systir_policy::{Action, Authority};
use systir_reason::Reason;
use systir_registry::{AssignedRole, Assignments};
use systir_room::{FlowAllocator, Queued, Residency, RoomLinkEvent, RoomMetrics, residency_of};
use systir_worker::WorkerPool;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::PeerLinks;
use crate::handle::{ParticipantArrival, RoomHandle, TaskMessage};
use crate::task;

/// How long an arriving participant waits for a busy room.
const ARRIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a residency request waits for a busy room before the registry's copy answers.
const RESIDENCY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a record may be without a room, or name a node without a lease, before it is removed.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// How often stale records are looked for.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(10);

/// What rooms use of the rest of the node.
#[derive(Debug, Clone)]
pub struct RoomDependencies {
    /// This node's name.
    pub node: String,
    /// Policy.
    pub authority: Arc<Authority>,
    /// The records of rooms.
    pub assignments: Arc<Assignments>,
    /// This node's seats.
    pub seats: Arc<Seats>,
    /// Links to other nodes.
    pub links: Arc<dyn PeerLinks>,
    /// Flow numbers on links.
    pub flows: Arc<dyn FlowAllocator>,
    /// Media workers.
    pub workers: WorkerPool,
    /// Keys of participants and tracks.
    pub keys: Arc<KeyMint>,
    /// What is counted.
    pub metrics: Arc<RoomMetrics>,
    /// Owns the rooms' tasks.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

impl RoomDependencies {
    /// The policy check that writes of a room's assignment rest on.
    pub(crate) fn approves<'a>(&'a self, room: &'a RoomId) -> impl Fn(AssignedRole, &str) -> bool + 'a {
        |role, node| {
            let action = match role {
                AssignedRole::Home => Action::Home,
                AssignedRole::Spill => Action::Spill,
            };
            self.authority.node(action, &room.institution, node).allowed
        }
    }
}

/// The rooms by id.
#[derive(Debug)]
pub struct Rooms {
    dependencies: RoomDependencies,
    open: Mutex<HashMap<RoomId, RoomHandle>>,
    next: AtomicU32,
}

impl Rooms {
    /// No rooms.
    #[must_use]
    pub fn new(dependencies: RoomDependencies) -> Self {
        Self { dependencies, open: Mutex::default(), next: AtomicU32::new(1) }
    }

    pub(crate) fn dependencies(&self) -> &RoomDependencies {
        &self.dependencies
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, RoomHandle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room, if this node carries it now.
    #[must_use]
    pub fn get(&self, room: &RoomId) -> Option<RoomHandle> {
        self.lock().get(room).cloned()
    }

    /// All rooms.
    #[must_use]
    pub fn all(&self) -> Vec<RoomHandle> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn remove(&self, room: &RoomId, key: RoomKey) {
        let mut open = self.lock();
        if open.get(room).is_some_and(|handle| handle.key == key) {
            open.remove(room);
        }
    }

    /// The room's task, started when there is none. The caller has asked policy whether this node may carry
    /// the room.
    pub fn open(self: &Arc<Self>, assignment: &Assignment) -> RoomHandle {
        let mut open = self.lock();
        if let Some(handle) = open.get(&assignment.room)
            && !handle.messages.is_closed()
        {
            return handle.clone();
        }
        let key = RoomKey(self.next.fetch_add(1, Ordering::Relaxed));
        let handle = task::spawn(self, key, assignment.clone());
        open.insert(assignment.room.clone(), handle.clone());
        handle
    }

    /// Brings a participant to the room's task; a room that ends at this moment is opened again.
    ///
    /// # Errors
    /// When the room takes no participant now; with the sentence for the participant.
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
                    return Err("The meeting is too busy to take you in. Join again in a moment.");
                }
                Err(SendTimeoutError::Closed(back)) => message = back,
            }
        }
        Err("The meeting closed at this moment. Join again to open it.")
    }

    /// Hands a room an event of its links, without waiting. A room that is not carried here is closed on
    /// the link, which would stay open for it otherwise.
    pub fn link_event(&self, key: &str, event: RoomLinkEvent) {
        let Some(id) = RoomId::from_key(key) else { return };
        let opened = match &event {
            RoomLinkEvent::Opened { node, .. } => Some(node.clone()),
            _ => None,
        };
        match self.get(&id).map_or(Queued::Ended, |handle| handle.link_event(event)) {
            Queued::Kept => {}
            Queued::Dropped => {
                self.dependencies.metrics.overloads.get_or_create(&Reason::RoomInbox.into()).inc();
            }
            Queued::Ended => {
                if let Some(node) = opened {
                    self.dependencies.links.close_room(key, &node);
                }
            }
        }
    }

    /// The link to a node is down: every room learns it.
    pub fn link_down(&self, node: &str) {
        for room in self.all() {
            room.link_event(RoomLinkEvent::Down { node: node.to_owned() });
        }
    }

    /// Residency of a room; from the registry's copy when this node does not carry it.
    pub async fn residency(&self, room: &RoomId) -> Option<Residency> {
        if let Some(handle) = self.get(room)
            && let Ok(Some(residency)) = tokio::time::timeout(RESIDENCY_TIMEOUT, handle.residency()).await
        {
            return Some(residency);
        }
        let known = self.dependencies.assignments.get(room)?.value;
        Some(residency_of(&known, &self.dependencies.node, &self.dependencies.authority))
    }

    /// A seat is held here for a participant of a room that this node has just left: it is assigned again,
    /// from its record or else as `fresh`. None when it cannot be.
    pub async fn reassign(&self, room: &RoomId, fresh: impl FnOnce() -> Assignment) -> Option<Assignment> {
        let RoomDependencies { assignments, seats, node, .. } = &self.dependencies;
        if !seats.are_held_by(&room.key()) {
            return None;
        }
        let last = assignments.get(room).map_or_else(fresh, |known| known.value);
        assignments.restore(&last, self.dependencies.approves(room)).await;
        assignments.get(room).map(|known| known.value).filter(|known| known.has(node))
    }

    /// Removes what crashes leave in the registry: spill nodes that are gone from rooms of this home, and
    /// assignments of this node without participants. Runs until it is dropped.
    pub async fn clean_up(self: Arc<Self>) {
        let mut found: HashMap<(RoomId, Option<String>), Instant> = HashMap::new();
        loop {
            tokio::time::sleep(CLEANUP_INTERVAL).await;
            let seen = self.stale();
            found.retain(|key, _| seen.contains(key));
            for key in seen {
                let since = *found.entry(key.clone()).or_insert_with(Instant::now);
                if since.elapsed() < STALE_AFTER {
                    continue;
                }
                found.remove(&key);
                match key {
                    (room, Some(node)) => self.dependencies.assignments.remove_spill(&room, &node).await,
                    (room, None) => {
                        if self.get(&room).is_none() {
                            self.leave(&room).await;
                        }
                    }
                }
            }
        }
    }

    /// This node leaves the room's assignment. False when the room must stay.
    pub(crate) async fn leave(&self, room: &RoomId) -> bool {
        let key = room.key();
        let seats = &self.dependencies.seats;
        self.dependencies.assignments.leave(room, || seats.are_held_by(&key)).await
    }

    /// Rooms of this node without participants, and spill nodes without a lease of rooms of this home.
    fn stale(&self) -> Vec<(RoomId, Option<String>)> {
        let me = self.dependencies.node.as_str();
        let view = self.dependencies.assignments.registry().view();
        let mut stale = Vec::new();
        // While the store does not answer, a missing record proves nothing.
        if view.away_since().is_some() {
            return stale;
        }
        for assignment in view.rooms().filter(|assignment| assignment.has(me)) {
            let room = &assignment.room;
            let home = assignment.home == *me;
            let idle = self.get(room).is_none() && !self.dependencies.seats.are_held_by(&room.key());
            if idle && (!home || assignment.spill.is_empty()) {
                stale.push((room.clone(), None));
            }
            if home {
                let gone = assignment.spill.iter().filter(|node| view.node(node.as_str()).is_none());
                stale.extend(gone.map(|node| (room.clone(), Some(node.to_string()))));
            }
        }
        stale
    }
}
