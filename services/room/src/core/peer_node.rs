//! The room's state of one peer.

use std::collections::BTreeMap;

use super::peer_queue::PeerQueue;
use crate::NodeAddress;

/// A peer: another node of the room.
#[derive(Debug, Default)]
pub(super) struct PeerNode {
    /// Address and epoch with which the room was last opened to the node. None before that, after a refusal,
    /// and while policy denies the node.
    pub needed: Option<(NodeAddress, u64)>,
    /// The link's number while the room is open on it.
    pub link: Option<u32>,
    /// May it have the room's state and media? See [`super::shown_tickets`].
    pub gets_state: bool,
    /// Its subscriptions were ended here, and it does not know that.
    pub feeds_lost: bool,
    /// The node's report of its own links, by node: is the room open on it? Cleared when the room closes.
    pub links: BTreeMap<String, bool>,
    /// Its readers of reliable data are slow.
    pub readers_slow: bool,
    /// The last message to it said that this node's readers are slow.
    pub told_slow: bool,
    /// Messages that wait for the link.
    pub queue: PeerQueue,
}
