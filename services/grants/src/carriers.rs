//! The spill nodes that carry a room, as this node knows them.

use std::collections::BTreeMap;

use systir_assignment::NodeId;

/// The spill nodes that carry a room, in the order in which they were added, and since when, Unix milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Carriers(Vec<(NodeId, u64)>);

impl Carriers {
    /// Adds a node. True when it is new.
    pub(crate) fn add(&mut self, node: &str, since_ms: u64) -> bool {
        let new = !self.has(node);
        if new {
            self.0.push((node.into(), since_ms));
        }
        new
    }

    /// Removes a node. True when it was there.
    pub(crate) fn remove(&mut self, node: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _)| known != node);
        self.0.len() != before
    }

    pub(crate) fn has(&self, node: &str) -> bool {
        self.0.iter().any(|(known, _)| known == node)
    }

    /// Replaces the nodes by those that the home names. This node (`me`) stays if it carries the room: the home may not
    /// know yet. True when something changed.
    pub(crate) fn replace(&mut self, named: &[(String, u64)], me: &str) -> bool {
        let mut replaced = Self::default();
        for (node, since_ms) in named {
            replaced.add(node, *since_ms);
        }
        if let Some((_, since_ms)) = self.0.iter().find(|(known, _)| known == me) {
            replaced.add(me, *since_ms);
        }
        let changed = *self != replaced;
        *self = replaced;
        changed
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.0.iter().map(|(node, _)| node)
    }

    pub(crate) fn since_ms(&self) -> BTreeMap<NodeId, u64> {
        self.0.iter().cloned().collect()
    }
}
