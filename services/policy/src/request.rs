//! What a gate is asked.

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::evidence::Evidence;

/// One question. Rooms have no name here: policy is the institution's, and names stay out of reasons and logs.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Owner of the room: the institution to which the API key belongs.
    pub institution: &'a str,
    /// What is asked for.
    pub action: Action,
    /// Who or what would do it.
    pub subject: Subject<'a>,
    /// What the institution itself says of the room.
    pub room: RoomFacts,
    /// What others merely say.
    pub claims: Claims,
}

/// Who or what would do it.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A machine, for the actions of which [`Action::is_on_node`] holds.
    Node(Evidence<'a>),
    /// The holder of a verified token of this institution (known by its API key), for the others.
    Participant {
        /// Institution whose key signed the token.
        institution: &'a str,
    },
}

/// What the room's institution states of the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomFacts {
    /// How delicate it is.
    pub class: RoomClass,
}

/// How delicate a room is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoomClass {
    /// An ordinary room.
    #[default]
    Standard,
    /// Only on machines that the operator owns.
    Confidential,
}

impl RoomClass {
    pub(crate) const ALL: [Self; 2] = [Self::Standard, Self::Confidential];

    /// The name in Cedar text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Confidential => "confidential",
        }
    }
}

/// Hearsay. No permit can read it, so whatever is claimed, no node is allowed that would not be allowed anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The participants say that they encrypt end to end.
    pub e2ee: bool,
    /// The node says how loaded it is, percent.
    pub load_percent: Option<u8>,
}
