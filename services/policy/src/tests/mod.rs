//! The promises of the gate, told on the demo's texts and on texts that try to get past it.

mod decisions;
mod properties;
mod refusals;

use crate::{
    Action, Claims, Decision, Evidence, Gate, Identity, InstitutionPolicy, LoadError, NodeFacts, Nodes,
    Request, RoomClass, RoomFacts, Sources, Subject, Zones, demo,
};

/// A node of nordunet's, its own machine, in `country`.
fn own(id: &str, country: &str) -> NodeFacts {
    NodeFacts {
        id: id.into(),
        spiffe_id: format!("spiffe://nordu.net/relay/{id}"),
        site: "Somewhere".into(),
        region: "xx-somewhere".into(),
        country: country.into(),
        operator: "nordunet".into(),
        operator_controlled_from: "DK".into(),
        host: "nordunet".into(),
        host_controlled_from: "DK".into(),
        declared_by: "nordunet".into(),
    }
}

/// A node of nordunet's on a machine of `host`.
fn leased(id: &str, country: &str, host: &str, from: &str) -> NodeFacts {
    NodeFacts { host: host.into(), host_controlled_from: from.into(), ..own(id, country) }
}

fn pinned(nodes: impl IntoIterator<Item = NodeFacts>) -> Nodes {
    Nodes::new(nodes.into_iter().collect(), Default::default()).unwrap()
}

fn demo_nodes() -> Nodes {
    Nodes::parse(demo::NODES).unwrap()
}

/// A gate of ku.dk's policy in `text` over `floor`.
fn load(floor: &str, text: &str, nodes: &Nodes) -> Result<Gate, LoadError> {
    Gate::load(&Sources {
        floor,
        institutions: &[InstitutionPolicy { institution: "ku.dk", version: 3, text }],
        zones: &Zones::parse(demo::ZONES).unwrap(),
        nodes,
    })
}

fn on_node(action: Action, evidence: Evidence<'_>) -> Request<'_> {
    Request {
        institution: "ku.dk",
        action,
        subject: Subject::Node(evidence),
        room: RoomFacts::default(),
        claims: Claims::default(),
    }
}

fn by(action: Action, institution: &str) -> Request<'_> {
    Request {
        institution: "ku.dk",
        action,
        subject: Subject::Participant { institution },
        room: RoomFacts::default(),
        claims: Claims::default(),
    }
}

/// What `gate` says to a plan that names the node `id`.
fn planned(gate: &Gate, nodes: &Nodes, action: Action, id: &str) -> Decision {
    gate.decide(&on_node(action, nodes.evidence(id, Identity::Planned)))
}

const CONFIDENTIAL: RoomFacts = RoomFacts { class: RoomClass::Confidential };
