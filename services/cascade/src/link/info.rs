//! The public description of a link.

use crate::event::{LinkNumber, LinkRoomKey};
use crate::flow::Parity;
use crate::stats::LinkStats;
use systir_identity::SpiffeId;

/// A link that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The other node.
    pub peer: SpiffeId,
    /// The link.
    pub link: LinkNumber,
    /// This node's parity on the link.
    pub parity: Parity,
    /// Rooms that are open on it.
    pub rooms: Vec<LinkRoomKey>,
    /// Its counters.
    pub stats: LinkStats,
}
