//! Nodes that cannot be reached: each is logged once, and its further attempts are counted.

use std::collections::HashMap;

use systir_identity::SpiffeId;

/// Attempts that failed, by node, since its last link.
#[derive(Debug, Default)]
pub(crate) struct UnreachableNodes(HashMap<SpiffeId, u64>);

impl UnreachableNodes {
    /// A node could not be reached. True for the first time since its last link.
    pub(crate) fn failed(&mut self, node: &SpiffeId) -> bool {
        if let Some(attempts) = self.0.get_mut(node) {
            *attempts += 1;
            return false;
        }
        self.0.insert(node.clone(), 1);
        true
    }

    /// A link with the node is up. Returns how many attempts had failed.
    pub(crate) fn reached(&mut self, node: &SpiffeId) -> u64 {
        self.0.remove(node).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_node_is_logged_once_until_it_is_reached_again() {
        let node = |name: &str| format!("spiffe://ku.dk/relay/{name}").parse::<SpiffeId>().unwrap();
        let (dead, other) = (node("sto-1"), node("osl-1"));
        let mut nodes = UnreachableNodes::default();
        let logged = (0..100).filter(|_| nodes.failed(&dead)).count();
        assert_eq!(logged, 1);
        assert!(nodes.failed(&other), "each node for itself");
        assert_eq!(nodes.reached(&dead), 100);
        assert_eq!(nodes.reached(&dead), 0);
        assert!(nodes.failed(&dead));
    }
}
