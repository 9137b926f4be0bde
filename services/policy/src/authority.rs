//! Policy of one node: the gate, the pinned facts about nodes, and which of them this node is. Every
//! place that could send media or signalling to another node asks here, and each decision is counted by
//! its rule.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::{
    Action, Claims, Decision, Gate, Identity, NodeFacts, Nodes, ProvenIdentity, Request, RoomFacts, Subject,
};

/// The gate and the facts that it decides on, both from the operator's own files.
#[derive(Debug)]
pub struct Authority {
    gate: Gate,
    nodes: Nodes,
    me: String,
    metrics: Arc<Metrics>,
}

impl Authority {
    /// Decisions of the node `me`.
    #[must_use]
    pub fn new(gate: Gate, nodes: Nodes, me: &str, metrics: Arc<Metrics>) -> Self {
        Self { gate, nodes, me: me.to_owned(), metrics }
    }

    /// What the operator's file says of a node.
    #[must_use]
    pub fn facts(&self, node: &str) -> Option<&NodeFacts> {
        self.nodes.get(node)
    }

    /// All nodes of the operator's file.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeFacts> {
        self.nodes.iter()
    }

    /// The node whose certificate has this id, by the operator's file.
    #[must_use]
    pub fn node_of(&self, spiffe_id: &str) -> Option<&NodeFacts> {
        self.nodes.iter().find(|node| node.spiffe_id == spiffe_id)
    }

    /// May this node of the file do that for the institution's rooms? About other nodes this is a
    /// plan; what opens a link is [`Authority::peer`].
    pub fn node(&self, action: Action, institution: &str, node: &str) -> Decision {
        let identity = if node == self.me { Identity::Local } else { Identity::Planned };
        self.decide(action, institution, Subject::Node(self.nodes.evidence(node, identity)))
    }

    /// May the peer that TLS proved do that?
    pub fn peer(&self, action: Action, institution: &str, peer: &ProvenIdentity) -> Decision {
        self.decide(action, institution, Subject::Node(self.nodes.evidence_of_peer(peer)))
    }

    /// May a node carry the room's media, as home or as spill node?
    pub fn carries(&self, institution: &str, node: &str) -> Decision {
        let home = self.node(Action::Home, institution, node);
        if home.allowed { home } else { self.node(Action::Spill, institution, node) }
    }

    /// The same of a peer that TLS proved.
    pub fn peer_carries(&self, institution: &str, peer: &ProvenIdentity) -> Decision {
        let home = self.peer(Action::Home, institution, peer);
        if home.allowed { home } else { self.peer(Action::Spill, institution, peer) }
    }

    /// May the holder of a token of institution `from` do that in the institution's rooms?
    pub fn participant(&self, action: Action, institution: &str, from: &str) -> Decision {
        self.decide(action, institution, Subject::Participant { institution: from })
    }

    fn decide(&self, action: Action, institution: &str, subject: Subject<'_>) -> Decision {
        let request =
            Request { institution, action, subject, room: RoomFacts::default(), claims: Claims::default() };
        let decision = self.gate.decide(&request);
        self.metrics.decided(action, &decision);
        decision
    }
}
