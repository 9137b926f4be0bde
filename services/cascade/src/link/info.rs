//! A link that stands, as the node sees it.

use crate::event::{LinkNumber, RoomKey};
use crate::flow::Parity;
use crate::stats::LinkStats;
use systir_identity::SpiffeId;

/// A link that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The other node.
    pub peer: SpiffeId,
    /// The link.
    pub link: LinkNumber,
    /// This node's parity on it.
    pub parity: Parity,
    /// Rooms that are open on it.
    pub rooms: Vec<RoomKey>,
    /// What it has carried.
    pub stats: LinkStats,
}
