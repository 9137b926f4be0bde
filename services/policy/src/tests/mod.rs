//! Tests of the engine, with the demo's policy and with policies and nodes that try to bypass it.

mod decisions;
mod properties;
mod refusals;

use crate::{
    Action, Claims, Decision, Evidence, IdentityProof, InstitutionPolicy, LoadError, NodeFacts, Nodes,
    PolicyEngine, Request, RoomAttributes, RoomClass, Sources, Subject, Zones, demo,
};

/// A node of nordunet in `country`, on nordunet's own machine.
fn own_node(id: &str, country: &str) -> NodeFacts {
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

/// A node of nordunet on a machine of `host`, which is controlled from `from`.
fn leased_node(id: &str, country: &str, host: &str, from: &str) -> NodeFacts {
    NodeFacts { host: host.into(), host_controlled_from: from.into(), ..own_node(id, country) }
}

fn nodes_file(nodes: impl IntoIterator<Item = NodeFacts>) -> Nodes {
    Nodes::new(nodes.into_iter().collect(), Default::default()).unwrap()
}

fn demo_nodes() -> Nodes {
    Nodes::parse(demo::NODES).unwrap()
}

/// A engine with ku.dk's policy `text` and `floor`.
fn load(floor: &str, text: &str, nodes: &Nodes) -> Result<PolicyEngine, LoadError> {
    PolicyEngine::load(&Sources {
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
        room: RoomAttributes::default(),
        claims: Claims::default(),
    }
}

fn by_participant(action: Action, institution: &str) -> Request<'_> {
    Request {
        institution: "ku.dk",
        action,
        subject: Subject::Participant { institution },
        room: RoomAttributes::default(),
        claims: Claims::default(),
    }
}

/// The decision on a plan that names the node `id`.
fn decide_planned(engine: &PolicyEngine, nodes: &Nodes, action: Action, id: &str) -> Decision {
    engine.decide(&on_node(action, nodes.evidence(id, IdentityProof::Planned)))
}

const CONFIDENTIAL: RoomAttributes = RoomAttributes { class: RoomClass::Confidential };
