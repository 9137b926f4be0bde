//! Updates between replicas, and the changes that result from them.

use bytes::Bytes;

use crate::error::MergeError;
use crate::version::{MetadataVersion, ParticipantVersion};
use crate::{Identity, NodeName, Sid};

/// A participant as this replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// Participant id.
    pub sid: Sid,
    /// Identity from its token.
    pub identity: Identity,
    /// Its media node, the only one that writes it.
    pub owner: NodeName,
    /// Version of the body.
    pub version: ParticipantVersion,
    /// Encoded `ParticipantInfo`; opaque here.
    pub body: Bytes,
}

/// A participant or a tombstone, as written by its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantRecord {
    /// Participant id.
    pub sid: Sid,
    /// Identity from its token.
    pub identity: Identity,
    /// Version of the state.
    pub version: ParticipantVersion,
    /// Live, or removed.
    pub state: RecordState,
    /// The note of its ticket; opaque to the replica. None in writes that do not change it.
    pub ticket: Option<Bytes>,
}

/// Is a participant in the room?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// Yes; with its encoded body.
    Live(Bytes),
    /// It has left. The tombstone is kept so that a late update does not restore it.
    Removed,
    /// The record, which is listed in a snapshot, was refused: what the replica holds stays.
    Refused,
}

/// One message between replicas. `incarnation` is another random number at each start of a node in the room.
/// `seq` counts the owner's writes in its incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// One participant was written.
    Participant {
        /// The node that wrote it.
        owner: NodeName,
        /// The owner's incarnation.
        incarnation: u64,
        /// Number of this write.
        seq: u64,
        /// The written record.
        record: ParticipantRecord,
    },
    /// All records of an owner after write `seq`. Participants that it does not list were removed.
    Snapshot {
        /// The node that owns the participants.
        owner: NodeName,
        /// The owner's incarnation.
        incarnation: u64,
        /// Number of the last write included.
        seq: u64,
        /// All participants and tombstones of the owner.
        records: Vec<ParticipantRecord>,
    },
    /// The home node wrote the room's metadata.
    Metadata {
        /// The home node that wrote it.
        home: NodeName,
        /// Version of the value.
        version: MetadataVersion,
        /// The metadata; opaque here.
        value: Bytes,
    },
}

/// What an update from another node did.
#[derive(Debug, Default)]
pub struct Applied {
    /// The changes of the replica.
    pub changes: Vec<Change>,
    /// Why records of a snapshot were refused, one entry for each.
    pub refused: Vec<MergeError>,
}

impl From<Vec<Change>> for Applied {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes, refused: Vec::new() }
    }
}

/// A change of the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A participant joined.
    Joined(Participant),
    /// A participant has a newer state.
    Updated(Participant),
    /// A participant left.
    Left {
        /// Participant id.
        sid: Sid,
        /// Its identity.
        identity: Identity,
    },
    /// A newer join of the same identity replaced a participant of this node: close its connection and send
    /// the tombstone to all other nodes of the room.
    Evicted {
        /// Participant id.
        sid: Sid,
        /// Its identity.
        identity: Identity,
        /// Participant id of the newer join.
        winner: Sid,
        /// The update to send.
        tombstone: Update,
    },
    /// The room's metadata changed.
    Metadata(Bytes),
}
