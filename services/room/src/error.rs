//! Why a write of the room's state is refused.

use systir_reason::Reason;
use thiserror::Error;

use crate::limits::{MAX_BODY, MAX_PARTICIPANTS};
use crate::{NodeId, Sid};

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
