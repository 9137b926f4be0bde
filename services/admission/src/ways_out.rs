//! Where participants of a room, and its home role, can go if this node drains.

use std::cmp::Reverse;

use systir_assignment::MediaRole;
use systir_placement::NodeCandidate;

/// Where participants of a room, and its home role, can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaysOut {
    /// Nodes that policy approves for the room's participants, each with its free seats by its last report.
    pub media_nodes: Vec<(String, u32)>,
    /// Nodes that may be home, those that carry the room first, then those with more free seats.
    pub successors: Vec<String>,
    /// Is there another gateway?
    pub other_gateway: bool,
    /// May this node be a spill node of the room, once another node is home?
    pub stays_as_spill: bool,
}

impl WaysOut {
    /// Chooses among other nodes that are alive and do not drain. `listed`: those that the room's grant lists as possible
    /// homes.
    pub(crate) fn new<'a>(
        others: impl Iterator<Item = &'a NodeCandidate>,
        listed: &[String],
        role_of: impl Fn(&str) -> Option<MediaRole>,
        is_gateway: impl Fn(&str) -> bool,
        stays_as_spill: bool,
    ) -> Self {
        let (mut media_nodes, mut homes, mut other_gateway) = (Vec::new(), Vec::new(), false);
        for node in others {
            let free = node.load.capacity.saturating_sub(node.load.participants);
            let role = role_of(&node.node);
            if node.spill.allowed || (node.home.allowed && role == Some(MediaRole::Home)) {
                media_nodes.push((node.node.clone(), free));
            }
            if node.home.allowed && listed.contains(&node.node) {
                homes.push((Reverse(role.is_some()), Reverse(free), node.node.clone()));
            }
            other_gateway |= is_gateway(&node.node);
        }
        homes.sort();
        let successors = homes.into_iter().map(|(_, _, node)| node).collect();
        Self { media_nodes, successors, other_gateway, stays_as_spill }
    }
}

#[cfg(test)]
mod tests {
    use systir_placement::{LoadReport, RoleDecision};

    use super::*;

    fn node(name: &str, home: bool, spill: bool, free: u32) -> NodeCandidate {
        let decision = |allowed| RoleDecision { allowed, ..RoleDecision::default() };
        let load = LoadReport { participants: 1, capacity: free + 1, ..LoadReport::default() };
        let (home, spill) = (decision(home), decision(spill));
        NodeCandidate { node: name.to_owned(), load, draining: false, alive: true, home, spill }
    }

    #[test]
    fn the_home_role_goes_to_a_listed_node_that_carries_the_room_before_others() {
        let nodes = [
            node("aws-sto-1", false, false, 9),
            node("hel-1", true, true, 9),
            node("osl-1", true, true, 1),
            node("sto-1", false, true, 5),
            node("tmp-1", true, false, 9),
        ];
        let listed = ["hel-1", "osl-1", "sto-1"].map(str::to_owned);
        let role_of = |node: &str| (node == "osl-1").then_some(MediaRole::Spill);
        let ways = WaysOut::new(nodes.iter(), &listed, role_of, |node| node == "sto-1", true);
        assert_eq!(ways.successors, ["osl-1", "hel-1"]);
        let expected = [("hel-1", 9), ("osl-1", 1), ("sto-1", 5)];
        assert_eq!(ways.media_nodes, expected.map(|(node, free)| (node.to_owned(), free)));
        assert!(ways.other_gateway);
        let none = WaysOut::new([].iter(), &listed, |_| None, |_| true, true);
        assert!(none.successors.is_empty() && none.media_nodes.is_empty() && !none.other_gateway);
    }
}
