//! What travels between copies, and what the application is told.

use bytes::Bytes;

use crate::version::{MetadataVersion, ParticipantVersion};
use crate::{Identity, NodeId, Sid};

/// A participant as this copy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// Id of the stay.
    pub sid: Sid,
    /// Who it is.
    pub identity: Identity,
    /// Its media node, the only one that writes it.
    pub owner: NodeId,
    /// Age of the body.
    pub version: ParticipantVersion,
    /// Encoded participant; opaque here.
    pub body: Bytes,
}

/// A participant or its tombstone, as written by its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantRecord {
    /// Id of the stay.
    pub sid: Sid,
    /// Who it is.
    pub identity: Identity,
    /// Age of the state.
    pub version: ParticipantVersion,
    /// In the room, or gone.
    pub state: RecordState,
}

/// Is a participant in the room?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// Yes, and this is its encoded body.
    Live(Bytes),
    /// It has left; kept so that a late update does not bring it back.
    Removed,
}

/// One message between copies. `incarnation` is new with each start of a node in the room and
/// only grows (its start time will do); `seq` counts the owner's writes in this incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// One participant was written.
    Participant {
        /// Who wrote it.
        owner: NodeId,
        /// The owner's incarnation.
        incarnation: u64,
        /// Number of this write.
        seq: u64,
        /// What was written.
        record: ParticipantRecord,
    },
    /// All that an owner holds after write `seq`. What it does not list is gone.
    Snapshot {
        /// Whose participants.
        owner: NodeId,
        /// The owner's incarnation.
        incarnation: u64,
        /// Number of the last write included.
        seq: u64,
        /// Every participant and tombstone that the owner holds.
        records: Vec<ParticipantRecord>,
    },
    /// Home wrote the room's metadata.
    Metadata {
        /// Who wrote it.
        home: NodeId,
        /// Age of the value.
        version: MetadataVersion,
        /// Opaque here.
        value: Bytes,
    },
}

impl Update {
    /// The latest time that it bears: incarnations and join epochs are milliseconds since 1970.
    pub(crate) fn latest(&self) -> u64 {
        match self {
            Self::Participant { incarnation, record, .. } => record.version.epoch.max(*incarnation),
            Self::Snapshot { incarnation, records, .. } => {
                records.iter().map(|record| record.version.epoch).fold(*incarnation, u64::max)
            }
            Self::Metadata { version, .. } => version.incarnation,
        }
    }
}

/// What became different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Somebody is in the room.
    Joined(Participant),
    /// Somebody's state is newer.
    Updated(Participant),
    /// Somebody is no longer in the room.
    Left {
        /// Id of the stay.
        sid: Sid,
        /// Who it was.
        identity: Identity,
    },
    /// A participant of this node lost against a newer join of its identity: close its connection
    /// and send the tombstone to every other node.
    Evicted {
        /// Id of the stay that ended.
        sid: Sid,
        /// Who it was.
        identity: Identity,
        /// Id of the stay that goes on.
        winner: Sid,
        /// For every other node of the room.
        tombstone: Update,
    },
    /// The room's metadata is different.
    Metadata(Bytes),
}
