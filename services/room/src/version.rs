//! Ages of what the room's state holds.

/// Age of a participant's state. The epoch orders joins of one identity, the counter the writes
/// of one join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantVersion {
    /// Join epoch, from [`RoomState::next_epoch`](crate::RoomState::next_epoch).
    pub epoch: u64,
    /// Writes since the join, from 0; also the participant's `version` towards clients.
    pub counter: u32,
}

/// Age of the metadata: (epoch of the assignment, incarnation of its home, writes of that).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetadataVersion {
    /// Epoch of the assignment.
    pub epoch: u64,
    /// Incarnation of home: one that started afresh in its epoch has lost count.
    pub incarnation: u64,
    /// Writes within it, from 0.
    pub counter: u64,
}
