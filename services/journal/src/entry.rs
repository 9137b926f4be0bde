//! One outcome.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::placement::JournalPlacement;

/// Takes the outcomes of one node's decisions.
pub trait Journal: Send + Sync + std::fmt::Debug {
    /// Takes an outcome, at the present time. Never waits; one that cannot be taken is counted as missing.
    fn record(&self, entry: JournalEntry);
}

/// Where in the node it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedAt {
    /// A join, at its gateway.
    Placement,
    /// A gateway asked this node for a seat.
    Seat,
    /// A participant arrived at its media node with its ticket, or was not connected to the one that had a seat for it.
    Session,
    /// Another node asked for a room's grant.
    Grant,
    /// A grant of another node, or of the registry's record, was followed or refused.
    GrantOffer,
    /// This node was to be home of a room.
    Home,
    /// A room was to be opened on a link.
    RoomOpening,
    /// Another node subscribed to a track.
    Subscription,
    /// A participant of another node was to be shown in the room, by its ticket.
    Ticket,
    /// What stood in a room was decided again, and ended.
    Standing,
    /// A request of an operator or an institution, or one for a guest's token.
    Api,
    /// This node was asked to be a gateway of an institution.
    Gateway,
    /// A signed document was taken or refused.
    Document,
    /// A place that this version does not know.
    #[serde(other)]
    Other,
}

impl DecidedAt {
    /// The word in a line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::Seat => "seat",
            Self::Session => "session",
            Self::Grant => "grant",
            Self::GrantOffer => "grant-offer",
            Self::Home => "home",
            Self::RoomOpening => "room-opening",
            Self::Subscription => "subscription",
            Self::Ticket => "ticket",
            Self::Standing => "standing",
            Self::Api => "api",
            Self::Gateway => "gateway",
            Self::Document => "document",
            Self::Other => "other",
        }
    }
}

/// Was it let in?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalOutcome {
    /// It was let in.
    Allowed,
    /// It was kept out, or ended.
    Refused,
}

impl JournalOutcome {
    /// The word in a line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
        }
    }
}

/// What was decided about. Participants have no names here: only the institution of their token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedAbout {
    /// The node with this id.
    Node(String),
    /// A holder of a token of this institution.
    Institution(String),
    /// A signed document: kind, owner, version.
    Document(String),
}

impl std::fmt::Display for DecidedAbout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) | Self::Document(name) => f.write_str(name),
            Self::Institution(name) => write!(f, "a participant of {name}"),
        }
    }
}

/// What a room was taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRoom {
    /// The name of its class.
    pub class: String,
    /// Must its media be end-to-end encrypted?
    pub e2ee: bool,
}

/// The versions of the documents that decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalDocuments {
    /// The institution's bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<u64>,
    /// The operator's floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u64>,
    /// The first digits of the SHA-256 of all that decided: schema, floor, bundle, directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The directories, by operator.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub directories: BTreeMap<String, u64>,
}

/// One outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Where it was decided.
    pub at: DecidedAt,
    /// Was it let in?
    pub outcome: JournalOutcome,
    /// The reason code; of a document's refusal, one of `systir_documents_refused`.
    pub reason: String,
    /// Ids of the policy rules that decided, the decisive one first. Empty when policy did not decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The policy action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Who would do the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<DecidedAbout>,
    /// The node that asked, if it was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// Owner of the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub institution: Option<String>,
    /// The room's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// What the room was taken for: allowed only if allowed for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub room_is: Vec<JournalRoom>,
    /// The documents that decided.
    #[serde(default)]
    pub documents: JournalDocuments,
    /// Of a join: what the ladder was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<JournalPlacement>,
}

impl JournalEntry {
    /// An outcome without a room.
    #[must_use]
    pub fn new(at: DecidedAt, outcome: JournalOutcome, reason: &str) -> Self {
        Self {
            at,
            outcome,
            reason: reason.to_owned(),
            rules: Vec::new(),
            action: None,
            about: None,
            asked_by: None,
            institution: None,
            room: None,
            room_is: Vec::new(),
            documents: JournalDocuments::default(),
            placement: None,
        }
    }
}
