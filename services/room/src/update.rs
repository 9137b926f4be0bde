//! What travels between copies, and what the application is told.

use bytes::Bytes;
use thiserror::Error;

use systir_reason::Reason;

use crate::limits::{MAX_BODY, MAX_PARTICIPANTS};
use crate::metadata::MetadataVersion;
use crate::{Identity, NodeId, Sid};

/// Age of a participant's state. The epoch orders joins of one identity, the counter the writes
/// of one join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Join epoch, from [`RoomState::next_epoch`](crate::RoomState::next_epoch).
    pub epoch: u64,
    /// Writes since the join, from 0; also the participant's `version` towards clients.
    pub counter: u32,
}

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
    pub version: Version,
    /// Encoded participant; opaque here.
    pub body: Bytes,
}

/// A participant or its tombstone, as written by its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Id of the stay.
    pub sid: Sid,
    /// Who it is.
    pub identity: Identity,
    /// Age of the state.
    pub version: Version,
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
        record: Record,
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
        records: Vec<Record>,
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

/// An update that was not applied because it breaks a rule. Old and repeated updates are not
/// refused: they change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// Only a participant's media node writes its state.
    #[error("node {from} wrote in the name of {owner}; only the owner's own updates count")]
    NotOwner {
        /// Who sent it.
        from: NodeId,
        /// Whose name it bears.
        owner: NodeId,
    },
    /// This node's own state came back.
    #[error("an update in this node's own name came from {from}")]
    OwnName {
        /// Who sent it.
        from: NodeId,
    },
    /// The id belongs to a participant of another node.
    #[error("{from} wrote participant {sid}, which belongs to {owner}")]
    SidTaken {
        /// Who sent it.
        from: NodeId,
        /// The id.
        sid: Sid,
        /// Its owner.
        owner: NodeId,
    },
    /// One id is one stay of one identity.
    #[error("{from} gave participant {sid} another identity or join epoch; a new stay needs a new id")]
    Rewritten {
        /// Who sent it.
        from: NodeId,
        /// The id.
        sid: Sid,
    },
    /// Only home writes metadata, and this one is not home in this epoch.
    #[error("{from} wrote room metadata in epoch {epoch} but is not home; ask it to read the assignment")]
    NotHome {
        /// Who sent it.
        from: NodeId,
        /// The epoch it claims.
        epoch: u64,
    },
    /// The sender missed a takeover.
    #[error("{from} wrote room metadata in epoch {epoch}, but the room is in epoch {known}")]
    OldEpoch {
        /// Who sent it.
        from: NodeId,
        /// The epoch it claims.
        epoch: u64,
        /// The current one.
        known: u64,
    },
    /// This node missed a takeover, or there was none.
    #[error("{from} wrote room metadata in epoch {epoch}, newer than known here; read the assignment")]
    UnknownEpoch {
        /// Who sent it.
        from: NodeId,
        /// The epoch it claims.
        epoch: u64,
    },
    /// A body or metadata is too large.
    #[error("a body of {bytes} bytes; at most {MAX_BODY} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// One node claims too many participants.
    #[error("{from} has more than {MAX_PARTICIPANTS} participants in one room")]
    TooMany {
        /// Who sent it.
        from: NodeId,
    },
    /// It bears a time that has not come yet.
    #[error("{from} wrote a time that is more than a minute ahead; set the clocks of both nodes")]
    FromTheFuture {
        /// Who sent it.
        from: NodeId,
    },
    /// Nonsense.
    #[error("{0}")]
    Malformed(&'static str),
}

impl MergeError {
    /// The reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotOwner { .. } => Reason::StateNotOwner,
            Self::OwnName { .. } => Reason::StateOwnName,
            Self::SidTaken { .. } => Reason::StateSidTaken,
            Self::Rewritten { .. } => Reason::StateRewritten,
            Self::NotHome { .. } => Reason::StateNotHome,
            Self::OldEpoch { .. } => Reason::StateOldEpoch,
            Self::UnknownEpoch { .. } => Reason::StateUnknownEpoch,
            Self::TooLarge { .. } => Reason::StateTooLarge,
            Self::TooMany { .. } => Reason::StateTooMany,
            Self::FromTheFuture { .. } => Reason::StateFromTheFuture,
            Self::Malformed(_) => Reason::StateMalformed,
        }
    }
}

/// A local write that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LocalError {
    /// No live participant of this node has the id.
    #[error("participant {0} is not on this node; it may have left")]
    NotHere(Sid),
    /// The id was used before.
    #[error("participant id {0} was used before; mint a new one")]
    SidTaken(Sid),
    /// Another node is home, or none.
    #[error("this node is not the room's home and may not write its metadata; ask home")]
    NotHome,
    /// It breaks a limit that every other node would enforce.
    #[error(transparent)]
    Limit(#[from] MergeError),
}
