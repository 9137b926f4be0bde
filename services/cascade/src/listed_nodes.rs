//! What links ask about the nodes that directories list.

use std::net::IpAddr;
use systir_documents::PublicKey;
use systir_identity::SpiffeId;

/// The nodes that directories list. Asked on the thread of each connection, so it must answer at once.
pub trait ListedNodes: Send + Sync + 'static {
    /// The node keys that the directory lists for a node. None: no directory lists the node, and it is refused.
    fn node_keys(&self, node: &SpiffeId) -> Vec<PublicKey>;

    /// Does the address lie in a prefix that the directory lists for the node? False without prefixes.
    fn may_dial(&self, node: &SpiffeId, address: IpAddr) -> bool;

    /// Does the address lie in a prefix that a directory lists for any node?
    fn is_node_address(&self, address: IpAddr) -> bool;
}
