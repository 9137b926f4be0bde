//! The input of a decision.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use systir_identity::ProvenIdentity;

use crate::action::Action;

/// One request. It has no room name: rules read the room's class, and names stay out of reasons and logs.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The room's institution: the one that the API key belongs to.
    pub institution: &'a str,
    /// The action to decide on.
    pub action: Action,
    /// The node or participant that would do it.
    pub subject: Subject<'a>,
    /// What the institution's bundle says of the room: see [`crate::PolicyEngine::room`].
    pub room: RoomAttributes,
    /// Untrusted claims.
    pub claims: Claims,
}

/// The node or participant that would do the action. Its attributes come from the directories alone, never from a
/// lease or from the node itself.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The node with this id: this process, or a node in a plan. Before a room opens on a link, policy decides again on
    /// the proven identity.
    Node(&'a str),
    /// The node that proved this identity.
    Peer {
        /// What TLS and the proof of its node key proved.
        identity: &'a ProvenIdentity,
        /// The time at which its certificate must still be valid.
        now: SystemTime,
    },
    /// The holder of a verified token of this institution (found by its API key).
    Participant {
        /// Institution whose key signed the token.
        institution: &'a str,
    },
}

/// What an institution's bundle says of a room, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RoomAttributes {
    /// Its confidentiality class.
    pub class: RoomClass,
    /// Must its media be end-to-end encrypted?
    pub e2ee: bool,
}

impl RoomAttributes {
    /// All that a room can be, the strictest last.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let classes = RoomClass::ALL.into_iter();
        classes.flat_map(|class| [false, true].map(|e2ee| Self { class, e2ee }))
    }

    /// The stricter value of each.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self { class: self.class.max(other.class), e2ee: self.e2ee || other.e2ee }
    }
}

/// Confidentiality class of a room. The strictest one is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// The class with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// The name in Cedar text, bundles and JSON.
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
