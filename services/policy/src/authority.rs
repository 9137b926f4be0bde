//! The one door to policy on this node: every place that could let media or signalling out asks
//! here, and each decision is counted by its rule.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use systir_policy::{
    Action, Claims, Decision, Gate, Identity, InstitutionPolicy, LoadError, NodeFacts, Nodes, ProvenIdentity,
    Request, RoomFacts, Sources, Subject, Zones,
};

use crate::config::{self, Fault};
use crate::metrics::Metrics;

/// Each fault of the texts with its file and line.
fn told(policy: &config::Policy, error: &LoadError) -> anyhow::Error {
    let file = |place: &str| match place {
        "nodes" => Some(&policy.nodes),
        "zones" => Some(&policy.zones),
        "floor" => Some(&policy.floor),
        institution => policy.institutions.get(institution).map(|institution| &institution.file),
    };
    let lines = error.problems.iter().map(|problem| {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        match file(&problem.place) {
            Some(file) => format!("{}{line}: {}", file.display(), problem.fault()),
            None => problem.to_string(),
        }
    });
    anyhow::anyhow!("policy refused: {}", lines.collect::<Vec<_>>().join("; "))
}

/// Policy and the facts that it decides on, both from the operator's own files.
#[derive(Debug)]
pub struct Authority {
    gate: Gate,
    nodes: Nodes,
    me: String,
    metrics: Arc<Metrics>,
    gaps: Vec<String>,
}

/// What the entries of the nodes file lack, by node and with the line.
fn gaps(nodes: &Nodes, file: &Path, text: &str) -> BTreeMap<String, String> {
    let mut lacking = BTreeMap::<&str, Vec<&str>>::new();
    for (facts, attribute) in nodes.incomplete() {
        lacking.entry(&facts.id).or_default().push(attribute.as_str());
    }
    let told = lacking.into_iter().map(|(node, attributes)| {
        let line =
            config::line_of_entry(text, "node", node).map(|line| format!(":{line}")).unwrap_or_default();
        let (file, attributes) = (file.display(), attributes.join(", "));
        let said = format!(
            "{file}{line}: node {node} lacks {attributes}: it is denied everything until that is stated"
        );
        (node.to_owned(), said)
    });
    told.collect()
}

impl Authority {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// When one cannot be read or has a fault; all faults are told.
    pub fn load(policy: &config::Policy, me: &str, metrics: Arc<Metrics>) -> Result<Self> {
        let read = |field: String, path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|error| Fault::new(field, format!("{} cannot be read: {error}", path.display())))
        };
        let told = |error| told(policy, &error);
        let described = read("policy.nodes".to_owned(), &policy.nodes)?;
        let nodes = Nodes::parse(&described).map_err(told)?;
        let zones = Zones::parse(&read("policy.zones".to_owned(), &policy.zones)?).map_err(told)?;
        let floor = read("policy.floor".to_owned(), &policy.floor)?;
        let mut texts = Vec::new();
        for (name, institution) in &policy.institutions {
            let text = read(format!("policy.institutions.{name}.file"), &institution.file)?;
            texts.push((name.as_str(), institution.version, text));
        }
        let institutions: Vec<_> = texts
            .iter()
            .map(|(institution, version, text)| InstitutionPolicy { institution, version: *version, text })
            .collect();
        let gate =
            Gate::load(&Sources { floor: &floor, institutions: &institutions, zones: &zones, nodes: &nodes })
                .map_err(told)?;
        anyhow::ensure!(
            nodes.get(me).is_some(),
            "{} has no node {me}: a node that is not described is denied everything",
            policy.nodes.display()
        );
        let mut gaps = gaps(&nodes, &policy.nodes, &described);
        if let Some(mine) = gaps.remove(me) {
            anyhow::bail!("{mine}; this is the node itself");
        }
        let gaps = gaps.into_values().collect();
        Ok(Self { gate, nodes, me: me.to_owned(), metrics, gaps })
    }

    /// Other nodes whose entry lacks something, which is no fault of this node: a line for each.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
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

    /// The node whose certificate bears this id, by the operator's file.
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

    /// May a node carry the room's media at all, be it as home or as sister?
    pub fn carries(&self, institution: &str, node: &str) -> Decision {
        let home = self.node(Action::Home, institution, node);
        if home.allowed { home } else { self.node(Action::Spill, institution, node) }
    }

    /// The same of a peer that TLS proved.
    pub fn peer_carries(&self, institution: &str, peer: &ProvenIdentity) -> Decision {
        let home = self.peer(Action::Home, institution, peer);
        if home.allowed { home } else { self.peer(Action::Spill, institution, peer) }
    }

    /// May the holder of a token do that in the institution's rooms?
    pub fn person(&self, action: Action, institution: &str, from: &str) -> Decision {
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
