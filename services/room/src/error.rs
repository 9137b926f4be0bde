//! Why a write of the room's state was refused.

use systir_reason::Reason;
use thiserror::Error;

use crate::limits::{MAX_BODY, MAX_OWNED_BYTES, MAX_PARTICIPANTS};
use crate::{NodeName, Sid};

/// Why an update, or one record of a snapshot, was refused. Old and repeated updates are not refused: they change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// Only a participant's media node may write its state.
    #[error("node {from} sent an update of participants that {owner} owns; only the owner may send it")]
    NotOwner {
        /// The sending node.
        from: NodeName,
        /// The owner that the update names.
        owner: NodeName,
    },
    /// Another node sent an update that names this node as its owner.
    #[error("node {from} sent an update of participants that this node owns")]
    OwnName {
        /// The sending node.
        from: NodeName,
    },
    /// The participant id belongs to another node.
    #[error("node {from} wrote participant {sid}, which {owner} owns")]
    SidTaken {
        /// The sending node.
        from: NodeName,
        /// The participant id.
        sid: Sid,
        /// Its owner.
        owner: NodeName,
    },
    /// A participant id belongs to one join of one identity.
    #[error("node {from} gave participant {sid} another identity or join number; a new join needs a new id")]
    Rewritten {
        /// The sending node.
        from: NodeName,
        /// The participant id.
        sid: Sid,
    },
    /// Only the home node writes metadata, and the sender is not home in this epoch.
    #[error("node {from} wrote room metadata in epoch {epoch}, in which it is not the home node")]
    NotHome {
        /// The sending node.
        from: NodeName,
        /// The update's epoch.
        epoch: u64,
    },
    /// The sender missed a takeover.
    #[error("node {from} wrote room metadata in epoch {epoch}; the room is in epoch {known}")]
    OldEpoch {
        /// The sending node.
        from: NodeName,
        /// The update's epoch.
        epoch: u64,
        /// The current epoch.
        known: u64,
    },
    /// This node missed a takeover, or none happened.
    #[error("node {from} wrote room metadata in epoch {epoch}, which this node does not know yet")]
    UnknownEpoch {
        /// The sending node.
        from: NodeName,
        /// The update's epoch.
        epoch: u64,
    },
    /// A participant body or the metadata is too large.
    #[error("a body of {bytes} bytes; the limit is {MAX_BODY}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A participant body is small, and what is decoded from it is not.
    #[error("a body of {bytes} bytes with too many tracks, layers, codecs or attributes")]
    TooManyEntries {
        /// Its size.
        bytes: usize,
    },
    /// The records of the node are too large together.
    #[error("node {from} has more than {MAX_OWNED_BYTES} bytes of participants in the room")]
    TooMuch {
        /// The sending node.
        from: NodeName,
    },
    /// The node owns too many participants.
    #[error("node {from} has more than {MAX_PARTICIPANTS} participants in the room")]
    TooMany {
        /// The sending node.
        from: NodeName,
    },
    /// The update contains a time in the future.
    #[error(
        "node {from} sent a join number more than 10 min in the future; synchronise the clocks of both nodes"
    )]
    FromTheFuture {
        /// The sending node.
        from: NodeName,
    },
    /// The update is malformed.
    #[error("{0}")]
    Malformed(&'static str),
}

impl MergeError {
    /// The reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotOwner { .. } => Reason::StateNotOwner,
            Self::OwnName { .. } => Reason::StateOwnNode,
            Self::SidTaken { .. } => Reason::StateSidTaken,
            Self::Rewritten { .. } => Reason::StateRewritten,
            Self::NotHome { .. } => Reason::StateNotHome,
            Self::OldEpoch { .. } => Reason::StateOldEpoch,
            Self::UnknownEpoch { .. } => Reason::StateUnknownEpoch,
            Self::TooLarge { .. } | Self::TooManyEntries { .. } | Self::TooMuch { .. } => {
                Reason::StateTooLarge
            }
            Self::TooMany { .. } => Reason::StateTooMany,
            Self::FromTheFuture { .. } => Reason::StateFutureTime,
            Self::Malformed(_) => Reason::StateMalformed,
        }
    }
}

/// Why a local write was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LocalError {
    /// No live participant of this node has the id.
    #[error("participant {0} is not on this node, or has left")]
    NotHere(Sid),
    /// The participant id was used before.
    #[error("participant id {0} was used before; make a new one")]
    SidTaken(Sid),
    /// This node is not the home node.
    #[error("only the room's home node may write its metadata")]
    NotHome,
    /// A limit that the other nodes enforce too.
    #[error(transparent)]
    Limit(#[from] MergeError),
}
