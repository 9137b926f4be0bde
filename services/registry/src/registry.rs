//! The trait and its errors.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::lease::{Lease, NodeLoad};
use crate::room_watch::RoomWatch;
use crate::view::View;
use systir_assignment::{Assignment, NodeId, RoomId, Versioned};
use systir_version::UnsupportedVersion;

/// The store failed or refused a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It does not answer. Reads continue from the last known copy; media and joins to assigned rooms
    /// continue too.
    #[error(
        "the registry does not answer ({0}); running rooms continue and may use further nodes, new rooms must wait"
    )]
    Unavailable(String),
    /// It refused the request.
    #[error(
        "the registry refused the request ({0}); check the node's certificate and its role in etcd (systirctl etcd roles)"
    )]
    Refused(String),
    /// The record is of another version. It is neither read nor replaced.
    #[error("the room's record cannot be read, so it is not replaced: {0}")]
    UnsupportedVersion(#[from] UnsupportedVersion),
}

impl RegistryError {
    /// What went wrong, without what follows from it.
    #[must_use]
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) => reason.into(),
            Self::UnsupportedVersion(error) => error.to_string().into(),
        }
    }
}

/// Why a room could not be assigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The room has this assignment already.
    #[error("the room is assigned already, to {}", .0.value.home)]
    AlreadyAssigned(Box<Versioned<Assignment>>),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Why an assignment could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// It changed since it was read; this is its current state.
    #[error("the assignment changed meanwhile")]
    Conflict(Box<Versioned<Assignment>>),
    /// It was deleted.
    #[error("the room is no longer assigned")]
    Gone,
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Node leases and records of rooms. Reads come from the last known copy and never wait; writes go to
/// the store and fail with a clear error when it does not answer.
pub trait Registry: Send + Sync + std::fmt::Debug {
    /// The last known copy.
    fn view(&self) -> Arc<View>;

    /// Changes each time the copy does.
    fn watch(&self) -> watch::Receiver<Arc<View>>;

    /// Changes when the copy does in what concerns the room: its record, the leases of its nodes without their
    /// load, or whether the store answers.
    fn watch_room(&self, room: &RoomId) -> RoomWatch;

    /// Wakes the watches of a room: something beside the copy changed that concerns it.
    fn wake_room(&self, room: &RoomId);

    /// A room's record in the last known copy.
    fn assignment(&self, room: &RoomId) -> Option<Versioned<Assignment>> {
        self.view().room(room).cloned()
    }

    /// Follows the rooms of these institutions and of no others: a node reads and writes only rooms of
    /// institutions that approve it. Those of others leave the copy at once, and the store refuses to write them.
    /// Without a call none are followed. A store inside one process has one copy for all and does nothing.
    fn follow(&self, institutions: BTreeSet<String>);

    /// Keeps the last leases of these nodes and of no others: those that directories list. The store may name any
    /// number of others. A store inside one process does nothing.
    fn remember(&self, _nodes: BTreeSet<NodeId>) {}

    /// Publishes this node's lease, until [`Registry::retire`] or until the lease expires because the node
    /// no longer keeps it. Retried while the store does not answer.
    fn announce(&self, lease: Lease);

    /// Updates load and draining in this node's lease.
    fn report(&self, load: NodeLoad, draining: bool);

    /// Removes this node's lease.
    fn retire(&self) -> BoxFuture<'_, ()>;

    /// Assigns a room that has no assignment, or whose record is malformed. A record of a version that this node does not work
    /// with is refused and stays. Of two concurrent calls one wins.
    fn create(&self, assignment: Assignment) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        self.create_unless(assignment, Vec::new())
    }

    /// The same, unless one of the other rooms has another record than the one of this revision (0: none): then nothing is
    /// written, and that record is returned as [`CreateError::AlreadyAssigned`]. They are the ids that a room of the same
    /// name has under other room keys.
    fn create_unless(
        &self,
        assignment: Assignment,
        others: Vec<(RoomId, u64)>,
    ) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>>;

    /// Replaces `read` by `wanted`, unless it has changed.
    fn update<'a>(
        &'a self,
        read: &'a Versioned<Assignment>,
        wanted: Assignment,
    ) -> BoxFuture<'a, Result<Versioned<Assignment>, UpdateError>>;

    /// Deletes a room's assignment, unless it has changed.
    fn delete<'a>(&'a self, read: &'a Versioned<Assignment>) -> BoxFuture<'a, Result<(), UpdateError>>;
}
