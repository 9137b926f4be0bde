//! Loads the demo's policy and decides whether `ku.dk`'s rooms may spill to two nodes of one site: `sto-1`, on the
//! operator's own machine, and `aws-sto-1`, on a machine of a company that is controlled from the US. Prints each
//! decision with its rules and its sentence.
//!
//! `cargo run -p systir-policy --example decide_and_explain`

use std::error::Error;
use std::io::Write as _;

use systir_policy::{
    Action, Claims, Decision, IdentityProof, InstitutionPolicy, Nodes, PolicyEngine, Request, RoomAttributes,
    Sources, Subject, Zones,
};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let nodes = Nodes::parse(include_str!("../policies/nodes.toml"))?;
    let engine = PolicyEngine::load(&Sources {
        floor: include_str!("../policies/floor.cedar"),
        institutions: &[InstitutionPolicy {
            institution: "ku.dk",
            version: 1,
            text: include_str!("../policies/ku.dk.cedar"),
        }],
        zones: &Zones::parse(include_str!("../policies/zones.toml"))?,
        nodes: &nodes,
    })?;

    let approved = decide_spill(&engine, &nodes, "sto-1");
    print("sto-1", &approved)?;
    assert!(approved.allowed);
    assert_eq!(rules(&approved), "ku-spill-nordic");
    assert_eq!(approved.tier, Some(1));

    let denied = decide_spill(&engine, &nodes, "aws-sto-1");
    print("aws-sto-1", &denied)?;
    assert!(!denied.allowed);
    assert_eq!(rules(&denied), "ku-host-controlled-from-eea");
    assert!(denied.why.contains("controlled from US"));
    Ok(())
}

/// Whether a room of `ku.dk` may spill to `node`. The node is named in a plan here; before a room opens on a link,
/// policy is asked again with the identity that TLS proved.
fn decide_spill(engine: &PolicyEngine, nodes: &Nodes, node: &str) -> Decision {
    engine.decide(&Request {
        institution: "ku.dk",
        action: Action::Spill,
        subject: Subject::Node(nodes.evidence(node, IdentityProof::Planned)),
        room: RoomAttributes::default(),
        claims: Claims::default(),
    })
}

fn rules(decision: &Decision) -> String {
    let rules: Vec<_> = decision.rules.iter().map(|rule| rule.as_str()).collect();
    rules.join(", ")
}

fn print(node: &str, decision: &Decision) -> std::io::Result<()> {
    let result = if decision.allowed { "allow" } else { "deny" };
    writeln!(
        std::io::stdout(),
        "spill to {node}: {result} [{}]\n  rules: {}\n  {}",
        decision.reason,
        rules(decision),
        decision.why
    )
}
