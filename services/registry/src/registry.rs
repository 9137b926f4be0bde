//! The trait, and what can go wrong.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::lease::{Lease, Load};
use crate::view::View;
use systir_assignment::{Assignment, RoomId, Versioned};

/// The store does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It does not answer. Reads go on from the last known copy; so do media and joins to rooms
    /// that are assigned already.
    #[error(
        "the registry does not answer ({0}); running rooms go on, new rooms and new spill nodes must wait"
    )]
    Unavailable(String),
    /// It answered with something else than was asked for.
    #[error("the registry refuses ({0}); check the node's role and certificate there")]
    Refused(String),
}

/// Why a room could not be assigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// Another node was faster: this is its assignment.
    #[error("the room is assigned already, to {}", .0.value.home)]
    AlreadyAssigned(Box<Versioned<Assignment>>),
    /// The store.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Why an assignment could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// It was changed since it was read: this is what it is now.
    #[error("the assignment changed meanwhile")]
    Conflict(Box<Versioned<Assignment>>),
    /// It is gone.
    #[error("the room is no longer assigned")]
    Gone,
    /// The change comes from an epoch that has been overtaken.
    #[error(
        "the epoch {offered} has been overtaken by {current}: this node was away while another took over"
    )]
    StaleEpoch {
        /// The epoch of the change.
        offered: u64,
        /// The epoch that holds.
        current: u64,
    },
    /// The store.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Node leases and room assignments. Reads are answered from the last known copy and never wait;
/// writes go to the store and fail with a clear error when it is away.
pub trait Registry: Send + Sync + std::fmt::Debug {
    /// The last known copy.
    fn view(&self) -> Arc<View>;

    /// Changes each time the copy does.
    fn watch(&self) -> watch::Receiver<Arc<View>>;

    /// A room's assignment in the last known copy.
    fn assignment(&self, room: &RoomId) -> Option<Versioned<Assignment>> {
        self.view().room(room).cloned()
    }

    /// Says that this node lives, until [`Registry::retire`] or until the node falls silent for the
    /// lease's time. Retried by itself while the store is away.
    fn announce(&self, lease: Lease);

    /// A new load for the lease of this node.
    fn report(&self, load: Load, draining: bool);

    /// Takes this node's lease back.
    fn retire(&self) -> BoxFuture<'_, ()>;

    /// Assigns a room that has no assignment. Of two who try at once, one wins.
    fn create(&self, assignment: Assignment) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>>;

    /// Replaces what was read by `wanted`.
    fn update<'a>(
        &'a self,
        read: &'a Versioned<Assignment>,
        wanted: Assignment,
    ) -> BoxFuture<'a, Result<Versioned<Assignment>, UpdateError>>;

    /// Ends a room's assignment.
    fn delete<'a>(&'a self, read: &'a Versioned<Assignment>) -> BoxFuture<'a, Result<(), UpdateError>>;
}
