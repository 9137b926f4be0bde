//! What the room keeps of one other node.

use std::collections::BTreeMap;

use super::peer_queue::PeerQueue;
use crate::NodeAddress;

/// Another node of the room.
#[derive(Debug, Default)]
pub(super) struct PeerNode {
    /// Where the room was asked to be opened, and in which epoch; none before, or when it was refused.
    pub needed: Option<(NodeAddress, u64)>,
    /// The link's number while the room is open on it.
    pub link: Option<u32>,
    /// What it reports of its own links: on which of them the room is open. Forgotten with the link.
    pub links: BTreeMap<String, bool>,
    /// What waits for the link.
    pub queue: PeerQueue,
}
