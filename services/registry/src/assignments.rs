//! Changes of room assignments, each by compare-and-swap. No other code writes assignments. Which nodes
//! are approved is decided by the caller, which passes its policy check.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as Metrics;
use systir_assignment::{Assignment, MediaRole, RoomId, Versioned, is_newer_epoch};

use crate::registry::{CreateError, Registry, RegistryError, UpdateError};

/// Attempts at one change while other nodes change the same record.
const MAX_ATTEMPTS: usize = 5;

/// Unix time in milliseconds, for the registry's records.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as u64).unwrap_or_default()
}

/// The assignment that a join is based on.
#[derive(Debug, Clone)]
pub enum JoinAssignment {
    /// The room has none yet; this one would be written.
    New(Assignment),
    /// The record in this node's copy of the registry.
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

    /// The epoch to send to other nodes; 0 while nothing is written.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        match self {
            Self::New(_) => 0,
            Self::Written(known) => known.value.epoch,
        }
    }

    /// Is the node in the written record, so that no write is needed?
    #[must_use]
    pub fn has(&self, node: &str) -> bool {
        matches!(self, Self::Written(known) if known.value.has(node))
    }
}

/// Why a node could not be written into the room's record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// Another node changed the record: run placement again.
    #[error("the room's record was changed meanwhile")]
    Overtaken,
    /// The registry failed.
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
    /// For the node `node`.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, node: &str) -> Self {
        Self { registry, node: node.to_owned(), restored: Counter::default(), takeovers: Counter::default() }
    }

    /// Registers the metrics.
    pub fn register(&self, metrics: &mut Metrics) {
        metrics.register("restored_records", "Missing records of rooms written again", self.restored.clone());
        metrics.register("takeovers", "Rooms that got another home", self.takeovers.clone());
    }

    /// The registry that the records are in.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// The room's record in the local copy.
    #[must_use]
    pub fn get(&self, room: &RoomId) -> Option<Versioned<Assignment>> {
        self.registry.assignment(room)
    }

    /// Writes a node into the room's record, and creates the record if there is none. Call it before a
    /// participant is sent to the node. Of two gateways that create a record at once one wins; the other
    /// continues with the winner's record.
    ///
    /// # Errors
    /// [`NotWritten::Overtaken`] when the home changed or the record was deleted meanwhile, or when all
    /// attempts met a change by another node.
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
        for _ in 0..MAX_ATTEMPTS {
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

    /// Makes `successor` home, because the present home is offline or denied by policy. The caller has
    /// checked that policy approves the successor. The epoch increases, so later writes of the old home are
    /// refused; an old home that still has participants can return as a spill node. Returns the record that
    /// is valid afterwards.
    pub async fn take_over(
        &self,
        known: Versioned<Assignment>,
        successor: &str,
        approves_spill: impl Fn(&str) -> bool,
    ) -> Versioned<Assignment> {
        let home = known.value.home.as_str();
        // While the registry does not answer, a missing lease does not show that a node is offline.
        if successor == home || self.registry.view().unavailable_since().is_some() {
            return known;
        }
        let mut wanted = known.value.clone();
        wanted.take_over(successor.into(), unix_ms());
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
                tracing::warn!(%error, "a room's home is offline, but the takeover could not be written");
                known
            }
        }
    }

    /// Removes this node, which no longer carries the room, from the record; deletes the record when no
    /// other node is left. False when the node must stay: a seat is held, or it is home of a room that spill
    /// nodes carry.
    pub async fn leave(&self, room: &RoomId, seats_held: impl Fn() -> bool) -> bool {
        for _ in 0..MAX_ATTEMPTS {
            if seats_held() {
                return false;
            }
            let Some(known) = self.registry.assignment(room) else { return true };
            let result = if known.value.home == *self.node.as_str() {
                if !known.value.spill.is_empty() {
                    // Home stays while spill nodes carry the room.
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
                    tracing::info!(%error, "the record of an empty room could not be removed; the next join uses it");
                    return true;
                }
            }
        }
        false
    }

    /// Removes a spill node that no longer carries the room from its record.
    pub async fn remove_spill(&self, room: &RoomId, node: &str) {
        let Some(known) = self.registry.assignment(room) else { return };
        let mut wanted = known.value.clone();
        wanted.remove_spill(node);
        match self.registry.update(&known, wanted).await {
            Ok(_) => tracing::info!(node, "removed a spill node from an assignment"),
            Err(error) => {
                tracing::debug!(%error, "could not remove a spill node from an assignment; will try again")
            }
        }
    }

    /// Writes the room's record again from its last known state: it is missing, no longer has this node, is of
    /// an older epoch, or names a home that policy denies, although participants are here. Only nodes that
    /// `approves` allows are written.
    pub async fn restore(&self, last: &Assignment, approves: impl Fn(MediaRole, &str) -> bool) {
        let own_name = self.node.as_str();
        if !approves(MediaRole::Home, own_name) && !approves(MediaRole::Spill, own_name) {
            return;
        }
        let mut known = self.registry.assignment(&last.room);
        for _ in 0..MAX_ATTEMPTS {
            let result = match &known {
                Some(known) => {
                    let Some(corrected) = self.corrected(&known.value, last, &approves) else { return };
                    self.registry.update(known, corrected).await
                }
                None => {
                    let Some(restored) = self.approved(last, &approves) else {
                        tracing::warn!("a room's record is missing, and no approved node may be its home");
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
                        "the record of a room with participants was missing or wrong in the registry; written again"
                    );
                    self.restored.inc();
                    return;
                }
                Err(UpdateError::Conflict(other)) => known = Some(*other),
                Err(UpdateError::Gone) => known = None,
                Err(error) => {
                    tracing::info!(%error, "a room's record could not be written; will try again");
                    return;
                }
            }
        }
    }

    /// The record that should replace `known`; none when that is valid and has this node, or when policy
    /// allows no better one.
    fn corrected(
        &self,
        known: &Assignment,
        last: &Assignment,
        approves: &impl Fn(MediaRole, &str) -> bool,
    ) -> Option<Assignment> {
        // The registry was restored from an older state, or someone forged a high epoch: keep the room's own.
        if is_newer_epoch(last.epoch, known.epoch) {
            return self.approved(last, approves);
        }
        // Someone forged the home. The next epoch, because other nodes may follow the forged record.
        if known.home != last.home && !approves(MediaRole::Home, known.home.as_str()) {
            let mut corrected = self.approved(last, approves)?;
            corrected.epoch = known.next_epoch();
            return Some(corrected);
        }
        // Another node took over: this node may return as a spill node only.
        if known.has(&self.node) || !approves(MediaRole::Spill, &self.node) {
            return None;
        }
        let mut corrected = known.clone();
        corrected.add_spill(self.node.as_str().into(), unix_ms());
        Some(corrected)
    }

    /// The last known assignment, without nodes that are not approved for their role, and with this node.
    /// None when neither its home nor this node may be home, or this node may not be in it.
    fn approved(&self, last: &Assignment, approves: &impl Fn(MediaRole, &str) -> bool) -> Option<Assignment> {
        let mut wanted = last.clone();
        if !approves(MediaRole::Home, last.home.as_str()) {
            if !approves(MediaRole::Home, &self.node) {
                return None;
            }
            wanted.home = self.node.as_str().into();
        }
        let home = wanted.home.clone();
        wanted.spill.retain(|node| *node != home && approves(MediaRole::Spill, node.as_str()));
        if !wanted.has(&self.node) {
            if !approves(MediaRole::Spill, &self.node) {
                return None;
            }
            wanted.add_spill(self.node.as_str().into(), unix_ms());
        }
        let nodes: Vec<_> = wanted.nodes().cloned().collect();
        wanted.since_ms.retain(|node, _| nodes.contains(node));
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalStore;

    fn assignment(home: &str) -> Assignment {
        Assignment::new(RoomId::new("ku.dk", "lecture"), "RM_x".to_owned(), home.into(), "1".to_owned(), 1)
    }

    #[tokio::test]
    async fn a_replaced_home_returns_as_a_spill_node_only_if_it_is_approved_as_one() {
        let store = LocalStore::default();
        let assignments = Assignments::new(Arc::new(store.registry()), "cph-1");
        let last = assignment("cph-1");
        let mut taken_over = last.clone();
        taken_over.take_over("sto-1".into(), 2);
        let room = taken_over.room.clone();
        store.registry().create(taken_over).await.unwrap();

        assignments.restore(&last, |role, _| role == MediaRole::Home).await;
        assert!(!assignments.get(&room).unwrap().value.has("cph-1"), "it is approved as home only");

        assignments.restore(&last, |role, node| (role == MediaRole::Home) == (node == "sto-1")).await;
        assert_eq!(assignments.get(&room).unwrap().value.role_of("cph-1"), Some(MediaRole::Spill));
    }

    #[tokio::test]
    async fn a_missing_record_is_restored_with_approved_nodes_in_their_roles_only() {
        let store = LocalStore::default();
        let assignments = Assignments::new(Arc::new(store.registry()), "sto-1");
        let mut last = assignment("cph-1");
        last.add_spill("sto-1".into(), 1);
        last.add_spill("aws-sto-1".into(), 1);

        assignments.restore(&last, |role, node| role == MediaRole::Home && node != "aws-sto-1").await;
        assert!(assignments.get(&last.room).is_none(), "this node is approved as home only, and is not home");

        assignments
            .restore(&last, |role, node| match role {
                MediaRole::Home => node == "cph-1",
                MediaRole::Spill => node == "sto-1",
            })
            .await;
        let restored = assignments.get(&last.room).unwrap().value;
        assert_eq!(restored.nodes().map(AsRef::as_ref).collect::<Vec<&str>>(), ["cph-1", "sto-1"]);
    }

    /// Writes a record as an attacker would, then restores it from `last` on cph-1. In the policy cph-1 may be
    /// home, and sto-1 a spill node.
    async fn restored_after(last: &Assignment, forged: Assignment) -> Assignment {
        let store = LocalStore::default();
        let registry = Arc::new(store.registry());
        registry.create(forged).await.unwrap();
        let assignments = Assignments::new(registry, "cph-1");
        assignments
            .restore(last, |role, node| match role {
                MediaRole::Home => node == "cph-1",
                MediaRole::Spill => node == "sto-1" || node == "cph-1",
            })
            .await;
        assignments.get(&last.room).unwrap().value
    }

    #[tokio::test]
    async fn a_forged_home_is_replaced_in_the_next_epoch_and_a_forged_epoch_by_the_true_one() {
        let mut last = assignment("cph-1");
        last.add_spill("sto-1".into(), 1);
        let mut forged = last.clone();
        forged.take_over("aws-sto-1".into(), 2);
        forged.add_spill("cph-1".into(), 2);
        let restored = restored_after(&last, forged.clone()).await;
        assert_eq!(restored, Assignment { epoch: 3, ..last.clone() });
        forged.epoch = systir_assignment::LAST_EPOCH;
        assert_eq!(restored_after(&last, forged).await, last);
        // An old value of the record, from before a takeover.
        let mut later = last.clone();
        later.take_over("cph-1".into(), 2);
        assert_eq!(restored_after(&later, last).await, later);
    }

    #[tokio::test]
    async fn a_takeover_by_an_approved_home_is_kept() {
        let last = assignment("cph-2");
        let mut taken_over = last.clone();
        taken_over.take_over("cph-1".into(), 2);
        assert_eq!(restored_after(&last, taken_over.clone()).await, taken_over);
    }
}
