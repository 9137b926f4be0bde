//! The input of a decision.

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::evidence::Evidence;

/// One request. It has no room name: rules apply to all rooms of an institution, and names stay out of reasons and logs.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The room's institution: the one that the API key belongs to.
    pub institution: &'a str,
    /// The action to decide on.
    pub action: Action,
    /// The node or participant that would do it.
    pub subject: Subject<'a>,
    /// Attributes of the room that the institution sets.
    pub room: RoomAttributes,
    /// Untrusted claims.
    pub claims: Claims,
}

/// The node or participant that would do the action.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A node, for actions where [`Action::is_on_node`] is true.
    Node(Evidence<'a>),
    /// The holder of a verified token of this institution (found by its API key), for the other actions.
    Participant {
        /// Institution whose key signed the token.
        institution: &'a str,
    },
}

/// Attributes of the room that its institution sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomAttributes {
    /// Its confidentiality class.
    pub class: RoomClass,
}

/// Confidentiality class of a room.
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

/// Untrusted claims; permit rules cannot use them, so a claim never allows what no permit rule allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Participants claim end-to-end encryption.
    pub e2ee: bool,
    /// Load that the node reports, percent.
    pub load_percent: Option<u8>,
}
