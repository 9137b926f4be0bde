//! Policy on one node: the engine, the nodes file, and which entry this node is. Every place that could
//! send media or signalling to another node asks here first. Each decision is counted by its rule.

use std::sync::Arc;

use crate::metrics::PolicyMetrics;
use crate::{
    Action, Claims, Decision, IdentityProof, NodeFacts, Nodes, PolicyEngine, ProvenIdentity, Request,
    RoomAttributes, Subject,
};

/// The engine and the nodes file, both from the operator's own files.
#[derive(Debug)]
pub struct Authority {
    engine: PolicyEngine,
    nodes: Nodes,
    own_id: String,
    metrics: Arc<PolicyMetrics>,
}

impl Authority {
    /// Decisions made on the node `own_id`.
    #[must_use]
    pub fn new(engine: PolicyEngine, nodes: Nodes, own_id: &str, metrics: Arc<PolicyMetrics>) -> Self {
        Self { engine, nodes, own_id: own_id.to_owned(), metrics }
    }

    /// A node's entry in the nodes file.
    #[must_use]
    pub fn facts(&self, node: &str) -> Option<&NodeFacts> {
        self.nodes.get(node)
    }

    /// All nodes of the nodes file.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeFacts> {
        self.nodes.iter()
    }

    /// The node that has this SPIFFE id in the nodes file.
    #[must_use]
    pub fn node_of(&self, spiffe_id: &str) -> Option<&NodeFacts> {
        self.nodes.iter().find(|node| node.spiffe_id == spiffe_id)
    }

    /// May this node do `action` for the institution's rooms? For another node this is a plan, not yet
    /// checked against TLS: before a room opens on a link, ask [`Authority::peer`].
    pub fn node(&self, action: Action, institution: &str, node: &str) -> Decision {
        let identity = if node == self.own_id { IdentityProof::Local } else { IdentityProof::Planned };
        self.decide(action, institution, Subject::Node(self.nodes.evidence(node, identity)))
    }

    /// May the peer, whose identity TLS proved, do `action`?
    pub fn peer(&self, action: Action, institution: &str, peer: &ProvenIdentity) -> Decision {
        self.decide(action, institution, Subject::Node(self.nodes.evidence_of_peer(peer)))
    }

    /// May the holder of a token of institution `from` do `action` in rooms of `institution`?
    pub fn participant(&self, action: Action, institution: &str, from: &str) -> Decision {
        self.decide(action, institution, Subject::Participant { institution: from })
    }

    fn decide(&self, action: Action, institution: &str, subject: Subject<'_>) -> Decision {
        let request = Request {
            institution,
            action,
            subject,
            room: RoomAttributes::default(),
            claims: Claims::default(),
        };
        let decision = self.engine.decide(&request);
        self.metrics.decided(action, &decision);
        decision
    }
}
