//! Versions in the room's state.

/// Version of a participant's state. The join number orders the joins of one identity, the counter the writes of
/// one join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantVersion {
    /// Join number, from the participant's ticket.
    pub epoch: u64,
    /// Writes since the join, from 0.
    pub counter: u32,
}

/// Version of the room's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MetadataVersion {
    /// Epoch of the assignment.
    pub epoch: u64,
    /// Incarnation of the home node, because a home node that restarts within its epoch counts from 0 again.
    pub incarnation: u64,
    /// Writes in this incarnation, from 0.
    pub counter: u64,
}

impl MetadataVersion {
    /// Is this version newer than another one that the same home node wrote? Incarnations have no order: a
    /// node ignores updates that are not of the home's present incarnation, so that another one is newer.
    pub(crate) fn is_newer_than(&self, known: &Self) -> bool {
        if self.epoch != known.epoch {
            self.epoch > known.epoch
        } else {
            self.incarnation != known.incarnation || self.counter > known.counter
        }
    }
}
