//! The room's record on a join's way: what it is or would be, and how the node that gave a seat
//! comes to be in it. Nothing is written before somebody has a seat, so that who is refused leaves
//! nothing behind.

use std::sync::Arc;

use systir_assignment::{Assignment, RoomId, Versioned};
use systir_placement::Proposal;
use systir_policy::Action;
use systir_registry::{CreateError, RegistryError, UpdateError};

use crate::node::Shared;

/// How often a lost race for the record is run again.
const RACES: usize = 5;

/// The record that a join goes by.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// None is written; this is how it would begin.
    New(Assignment),
    /// As this node's copy of the registry has it.
    Written(Versioned<Assignment>),
}

impl Record {
    /// How the record of a room begins that nobody is in.
    pub(crate) fn new(shared: &Shared, room: &RoomId, home: &str) -> Self {
        let policy_version = shared
            .authority
            .node(Action::Home, &room.institution, home)
            .policy_version
            .map(|version| version.to_string())
            .unwrap_or_default();
        let sid = crate::ids::room_sid(&mut rand::rng());
        Self::New(Assignment::new(room.clone(), sid, home.into(), policy_version, crate::ids::unix_ms()))
    }

    pub(crate) fn assignment(&self) -> &Assignment {
        match self {
            Self::New(assignment) => assignment,
            Self::Written(known) => &known.value,
        }
    }

    /// What nodes are told; 0 while nothing is written.
    pub(crate) fn epoch(&self) -> u64 {
        match self {
            Self::New(_) => 0,
            Self::Written(known) => known.value.epoch,
        }
    }

    /// Is that node in the record, so that it needs no write?
    pub(crate) fn has(&self, node: &str) -> bool {
        matches!(self, Self::Written(known) if known.value.has(node))
    }
}

/// Why a node is not in the room's record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotWritten {
    /// Others changed the record so that it must be thought over whom to ask.
    #[error("the room's record was changed meanwhile")]
    Overtaken,
    /// The store.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Writes a node into the record, which begins with that if there is none: before anyone is sent
/// there. Of two front doors that begin a room at once one wins, and the other goes on with the
/// winner's record.
pub(crate) async fn write_down(
    shared: &Arc<Shared>,
    record: &Record,
    node: &str,
) -> Result<Versioned<Assignment>, NotWritten> {
    let home = &record.assignment().home;
    let with_node = |assignment: &Assignment| {
        let mut wanted = assignment.clone();
        wanted.add_spill(node.into(), crate::ids::unix_ms());
        wanted
    };
    let mut known = match record {
        Record::Written(known) => known.clone(),
        Record::New(assignment) => match shared.registry.create(with_node(assignment)).await {
            Ok(created) => return Ok(created),
            Err(CreateError::AlreadyAssigned(existing)) => *existing,
            Err(CreateError::Registry(error)) => return Err(error.into()),
        },
    };
    for _ in 0..RACES {
        // What the node was approved for rests on who leads.
        if known.value.home != *home {
            return Err(NotWritten::Overtaken);
        }
        if known.value.has(node) {
            return Ok(known);
        }
        match shared.registry.update(&known, with_node(&known.value)).await {
            Ok(written) => return Ok(written),
            Err(UpdateError::Conflict(current)) => known = *current,
            Err(UpdateError::Gone | UpdateError::StaleEpoch { .. }) => return Err(NotWritten::Overtaken),
            Err(UpdateError::Registry(error)) => return Err(error.into()),
        }
    }
    Err(NotWritten::Overtaken)
}

/// A home that is away, or that policy denies, is replaced by the one that was proposed. In the
/// newer epoch nothing counts that the old one may still write; should it live and have people, it
/// comes back as a spill node.
pub(crate) async fn succeed(
    shared: &Arc<Shared>,
    known: Versioned<Assignment>,
    proposal: &Proposal,
) -> Versioned<Assignment> {
    let home = known.value.home.as_str();
    let Some(successor) = proposal.home.as_deref().filter(|successor| *successor != home) else {
        return known;
    };
    // Without the store's word a missing lease proves nothing.
    if shared.registry.view().away_since().is_some() {
        return known;
    }
    let institution = &known.value.room.institution;
    let mut wanted = known.value.clone();
    if let Err(error) = wanted.take_over(successor.into(), crate::ids::unix_ms()) {
        tracing::warn!(%error, "a room's home is away, and no other can be written down");
        return known;
    }
    wanted.spill.retain(|node| shared.authority.node(Action::Spill, institution, node.as_str()).allowed);
    match shared.registry.update(&known, wanted).await {
        Ok(written) => {
            shared.metrics.takeovers.inc();
            tracing::warn!(from = home, to = successor, "a room's home is away, and another node takes over");
            written
        }
        Err(UpdateError::Conflict(current)) => *current,
        Err(error) => {
            tracing::warn!(%error, "a room's home is away, and no other can be written down");
            known
        }
    }
}
