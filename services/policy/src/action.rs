//! The actions of the schema.

use serde::{Deserialize, Serialize};
use systir_assignment::MediaRole;

/// An action that policy decides on. The wire and Cedar name is [`Action::as_str`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Be the room's home node: order identities, metadata and membership.
    Home,
    /// Carry media of the room for participants placed there.
    Spill,
    /// Forward media between two other nodes.
    Transit,
    /// Be the client's gateway: see its signalling and token.
    RelaySignal,
    /// Record the room.
    Record,
    /// Transcribe the room.
    Transcribe,
    /// Relay a client's packets as a TURN server.
    Turn,
    /// Receive traces or metrics about the room.
    Telemetry,
    /// Receive the room's webhooks.
    Webhook,
    /// Join the room.
    Join,
    /// Join the room unseen by other participants (`hidden`); asked in addition to `join`.
    JoinHidden,
    /// Join the room as a recorder (`recorder`); asked in addition to `join`.
    JoinRecorder,
    /// Join the room as a guest, with a token that anyone gets from the meeting page; asked in addition to `join`.
    JoinGuest,
    /// Change or end the room through the server API.
    Administer,
}

impl From<MediaRole> for Action {
    fn from(role: MediaRole) -> Self {
        match role {
            MediaRole::Home => Self::Home,
            MediaRole::Spill => Self::Spill,
        }
    }
}

/// The name is not one of [`Action::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no action {0:?}; the actions are home, spill, transit, relay-signal, record, transcribe, turn, telemetry, webhook, join, join-hidden, join-recorder, join-guest, administer"
)]
pub struct UnknownAction(pub String);

impl Action {
    /// Every action, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::Home,
        Self::Spill,
        Self::Transit,
        Self::RelaySignal,
        Self::Record,
        Self::Transcribe,
        Self::Turn,
        Self::Telemetry,
        Self::Webhook,
        Self::Join,
        Self::JoinHidden,
        Self::JoinRecorder,
        Self::JoinGuest,
        Self::Administer,
    ];

    /// The name in Cedar text, metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Spill => "spill",
            Self::Transit => "transit",
            Self::RelaySignal => "relay-signal",
            Self::Record => "record",
            Self::Transcribe => "transcribe",
            Self::Turn => "turn",
            Self::Telemetry => "telemetry",
            Self::Webhook => "webhook",
            Self::Join => "join",
            Self::JoinHidden => "join-hidden",
            Self::JoinRecorder => "join-recorder",
            Self::JoinGuest => "join-guest",
            Self::Administer => "administer",
        }
    }

    /// Whether the resource is a node (room -> node); otherwise it is a room (participant -> room).
    #[must_use]
    pub const fn is_on_node(self) -> bool {
        !matches!(
            self,
            Self::Join | Self::JoinHidden | Self::JoinRecorder | Self::JoinGuest | Self::Administer
        )
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Action {
    type Err = UnknownAction;

    fn from_str(name: &str) -> Result<Self, UnknownAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == name)
            .ok_or_else(|| UnknownAction(name.to_owned()))
    }
}
