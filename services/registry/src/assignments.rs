//! Changes of room assignments, each by compare-and-swap. This is the only place that writes an
//! assignment. It decides nothing about nodes: the caller passes its policy check.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as Metrics;
use systir_assignment::{Assignment, RoomId, Versioned};

use crate::registry::{CreateError, Registry, RegistryError, UpdateError};

/// How often a lost race for a record is run again.
const RACES: usize = 5;

/// Milliseconds since 1970, for the registry's records. Nothing is decided by it.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as u64).unwrap_or_default()
}

/// What a node would be in an assignment, for the caller's policy check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignedRole {
    /// The room's home.
    Home,
    /// A spill node of the room.
    Spill,
}

/// The assignment that a join goes by.
#[derive(Debug, Clone)]
pub enum JoinAssignment {
    /// None is written; this is what would be.
    New(Assignment),
    /// As this node's copy of the registry has it.
    Written(Versioned<Assignment>),
}

impl JoinAssignment {
    /// The assignment.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        match self {
            Self::New(assignment) => assignment,
            Self::Written(known) => &known.value,
        }
    }

    /// The epoch that other nodes are told; 0 while nothing is written.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        match self {
            Self::New(_) => 0,
            Self::Written(known) => known.value.epoch,
        }
    }

    /// Is that node in the written record, so that no write is needed?
    #[must_use]
    pub fn has(&self, node: &str) -> bool {
        matches!(self, Self::Written(known) if known.value.has(node))
    }
}

/// Why a node is not in the room's record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// Another node changed the record: placement must be asked again.
    #[error("the room's record was changed meanwhile")]
    Overtaken,
    /// The store.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The assignments of all rooms, as one node reads and writes them.
#[derive(Debug)]
pub struct Assignments {
    registry: Arc<dyn Registry>,
    node: String,
    restored: Counter,
    takeovers: Counter,
}

impl Assignments {
    /// As node `node` writes them.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, node: &str) -> Self {
        Self { registry, node: node.to_owned(), restored: Counter::default(), takeovers: Counter::default() }
    }

    /// Puts the counters into a registry of metrics.
    pub fn register(&self, metrics: &mut Metrics) {
        metrics.register("restored_records", "Missing records of rooms written again", self.restored.clone());
        metrics.register("takeovers", "Rooms that got another home", self.takeovers.clone());
    }

    /// Where the records are read from.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// The room's record in the last known copy.
    #[must_use]
    pub fn get(&self, room: &RoomId) -> Option<Versioned<Assignment>> {
        self.registry.assignment(room)
    }

    /// Writes a node into the room's record, which begins with that if there is none: before a participant
    /// is sent there. Of two gateways that create a record at once one wins, and the other goes on with
    /// the winner's record.
    ///
    /// # Errors
    /// [`NotWritten::Overtaken`] when the home changed, on which the approval of the node rests.
    pub async fn add_node(
        &self,
        join: &JoinAssignment,
        node: &str,
    ) -> Result<Versioned<Assignment>, NotWritten> {
        let home = &join.assignment().home;
        let with_node = |assignment: &Assignment| {
            let mut wanted = assignment.clone();
            wanted.add_spill(node.into(), unix_ms());
            wanted
        };
        let mut known = match join {
            JoinAssignment::Written(known) => known.clone(),
            JoinAssignment::New(assignment) => match self.registry.create(with_node(assignment)).await {
                Ok(created) => return Ok(created),
                Err(CreateError::AlreadyAssigned(existing)) => *existing,
                Err(CreateError::Registry(error)) => return Err(error.into()),
            },
        };
        for _ in 0..RACES {
            if known.value.home != *home {
                return Err(NotWritten::Overtaken);
            }
            if known.value.has(node) {
                return Ok(known);
            }
            match self.registry.update(&known, with_node(&known.value)).await {
                Ok(written) => return Ok(written),
                Err(UpdateError::Conflict(current)) => known = *current,
                Err(UpdateError::Gone | UpdateError::StaleEpoch { .. }) => return Err(NotWritten::Overtaken),
                Err(UpdateError::Registry(error)) => return Err(error.into()),
            }
        }
        Err(NotWritten::Overtaken)
    }

    /// Another node, which the caller has approved, becomes home, because the present one is offline or
    /// denied by policy. Nothing that the
    /// old home still writes counts in the newer epoch; if it lives and has participants, it returns as a
    /// spill node. Returns the record that holds afterwards.
    pub async fn take_over(
        &self,
        known: Versioned<Assignment>,
        successor: &str,
        approves_spill: impl Fn(&str) -> bool,
    ) -> Versioned<Assignment> {
        let home = known.value.home.as_str();
        // While the store does not answer, a missing lease proves nothing.
        if successor == home || self.registry.view().away_since().is_some() {
            return known;
        }
        let mut wanted = known.value.clone();
        if let Err(error) = wanted.take_over(successor.into(), unix_ms()) {
            tracing::warn!(%error, "a room's home is offline, and no other can be written");
            return known;
        }
        wanted.spill.retain(|node| approves_spill(node.as_str()));
        match self.registry.update(&known, wanted).await {
            Ok(written) => {
                self.takeovers.inc();
                tracing::warn!(
                    from = home,
                    to = successor,
                    "a room's home is offline, and another node takes over"
                );
                written
            }
            Err(UpdateError::Conflict(current)) => *current,
            Err(error) => {
                tracing::warn!(%error, "a room's home is offline, and no other can be written");
                known
            }
        }
    }

    /// This node no longer carries the room: it removes itself from the record, or deletes the record when
    /// no other node is left. False when the room must stay: a seat is held, or home is needed.
    pub async fn leave(&self, room: &RoomId, seats_held: impl Fn() -> bool) -> bool {
        for _ in 0..RACES {
            if seats_held() {
                return false;
            }
            let Some(known) = self.registry.assignment(room) else { return true };
            let result = if known.value.home == *self.node.as_str() {
                if !known.value.spill.is_empty() {
                    // Home orders the room while others carry it.
                    return false;
                }
                self.registry.delete(&known).await
            } else if known.value.has(&self.node) {
                let mut wanted = known.value.clone();
                wanted.remove_spill(&self.node);
                self.registry.update(&known, wanted).await.map(|_| ())
            } else {
                return true;
            };
            match result {
                Ok(()) | Err(UpdateError::Gone | UpdateError::StaleEpoch { .. }) => return true,
                Err(UpdateError::Conflict(_)) => {}
                Err(UpdateError::Registry(error)) => {
                    tracing::info!(%error, "an empty room stays in the registry; its next participant takes it over");
                    return true;
                }
            }
        }
        false
    }

    /// Removes a spill node that is gone from a record.
    pub async fn remove_spill(&self, room: &RoomId, node: &str) {
        let Some(known) = self.registry.assignment(room) else { return };
        let mut wanted = known.value.clone();
        wanted.remove_spill(node);
        match self.registry.update(&known, wanted).await {
            Ok(_) => tracing::info!(node, "a node that is gone was removed from an assignment"),
            Err(error) => {
                tracing::debug!(%error, "a node that is gone stays in an assignment; tried again later")
            }
        }
    }

    /// The room's record is gone, or does not name this node any more, while participants are here: it is
    /// written again from what was last known. Only nodes that `approves` allows get into it.
    pub async fn restore(&self, last: &Assignment, approves: impl Fn(AssignedRole, &str) -> bool) {
        let me = self.node.as_str();
        if !approves(AssignedRole::Home, me) && !approves(AssignedRole::Spill, me) {
            return;
        }
        let mut known = self.registry.assignment(&last.room);
        for _ in 0..RACES {
            let result = match &known {
                Some(known) if known.value.has(me) && known.value.epoch >= last.epoch => return,
                Some(known) => {
                    let mut wanted = known.value.clone();
                    if wanted.epoch < last.epoch {
                        // The store was set back; the later takeover is kept.
                        let Some(restored) = self.approved(last, &approves) else { return };
                        wanted = restored;
                    }
                    wanted.add_spill(me.into(), unix_ms());
                    self.registry.update(known, wanted).await
                }
                None => {
                    let Some(restored) = self.approved(last, &approves) else {
                        tracing::warn!("a room's record is gone, and no approved node may be its home");
                        return;
                    };
                    match self.registry.create(restored).await {
                        Ok(written) => Ok(written),
                        Err(CreateError::AlreadyAssigned(other)) => Err(UpdateError::Conflict(other)),
                        Err(CreateError::Registry(error)) => Err(UpdateError::Registry(error)),
                    }
                }
            };
            match result {
                Ok(_) => {
                    tracing::warn!(
                        "a room with participants was missing in the registry and is written again"
                    );
                    self.restored.inc();
                    return;
                }
                Err(UpdateError::Conflict(other)) => known = Some(*other),
                Err(UpdateError::Gone) => known = None,
                Err(error) => {
                    tracing::info!(%error, "a room's record cannot be written now; tried again later");
                    return;
                }
            }
        }
    }

    /// What was last known, without nodes that are not approved for their role, and with this node. None
    /// when no node that is left may be home.
    fn approved(
        &self,
        last: &Assignment,
        approves: &impl Fn(AssignedRole, &str) -> bool,
    ) -> Option<Assignment> {
        let mut wanted = last.clone();
        if !approves(AssignedRole::Home, last.home.as_str()) {
            if !approves(AssignedRole::Home, &self.node) {
                return None;
            }
            wanted.home = self.node.as_str().into();
        }
        let home = wanted.home.clone();
        wanted.spill.retain(|node| *node != home && approves(AssignedRole::Spill, node.as_str()));
        wanted.add_spill(self.node.as_str().into(), unix_ms());
        let nodes: Vec<_> = wanted.nodes().cloned().collect();
        wanted.since_ms.retain(|node, _| nodes.contains(node));
        Some(wanted)
    }
}
