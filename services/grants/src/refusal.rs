//! Why a grant does not count, or does not allow something.

use systir_reason::{Reason, Refusal};

use crate::role::GrantRole;

/// Why a grant does not count, or does not allow something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefusal {
    /// This node holds no grant of the room.
    #[error("this node holds no grant of the room")]
    None,
    /// The grant has ended.
    #[error("the room's grant has ended, and its home has not renewed it")]
    Ended,
    /// The grant does not list the node in that role.
    #[error("the room's grant does not list {node} as {role}")]
    NotListed {
        /// The node.
        node: String,
        /// The role.
        role: GrantRole,
    },
    /// It is a grant of another room.
    #[error("it is a grant of another room")]
    OtherRoom,
    /// Policy does not approve its home as home.
    #[error("policy does not approve {0}, which signed it, as home of the room")]
    HomeDenied(String),
    /// A newer one is held.
    #[error("a newer grant is held, of epoch {epoch}, by {home}")]
    Older {
        /// The epoch of the newer one.
        epoch: u64,
        /// Its home.
        home: String,
    },
    /// The home that it replaces can be reached, and did not say that it is replaced.
    #[error("{home} is home of the room and can be reached; it did not say that another node is home")]
    HomeAlive {
        /// The home.
        home: String,
    },
    /// The grant that is held does not list its home as a possible home, or it does not follow on the one that is held.
    #[error("it does not follow on the grant that is held, of epoch {epoch}, by {home}")]
    NotASuccessor {
        /// The epoch of the grant that is held.
        epoch: u64,
        /// Its home.
        home: String,
    },
    /// Its home signed two grants with one epoch and one serial.
    #[error("{0} signed two different grants with one number; the first one counts")]
    Conflict(String),
    /// No room has so many homes.
    #[error("its epoch is higher than any that a room has")]
    Epoch,
    /// Too many rooms.
    #[error("this node holds as many grants as it can")]
    TooMany,
}

impl GrantRefusal {
    /// The reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::None => Reason::GrantMissing,
            Self::Ended => Reason::GrantEnded,
            Self::NotListed { .. } => Reason::GrantNotListed,
            Self::Older { .. } => Reason::EpochOvertaken,
            Self::HomeDenied(_) => Reason::PolicyDenied,
            Self::OtherRoom | Self::NotASuccessor { .. } | Self::Conflict(_) | Self::Epoch => {
                Reason::GrantInvalid
            }
            Self::HomeAlive { .. } => Reason::GrantHomeAlive,
            Self::TooMany => Reason::Internal,
        }
    }
}

impl From<GrantRefusal> for Refusal {
    fn from(refusal: GrantRefusal) -> Self {
        Self::new(refusal.reason(), refusal.to_string())
    }
}
