//! Loads a bundle, a floor and a directory, and decides whether `ku.dk`'s rooms may spill to two nodes of one site:
//! `sto-1`, on the operator's own machine, and `aws-sto-1`, on a machine of a company that is controlled from the US. Prints
//! each decision with its rules and its sentence. A node takes the documents from `systir_documents::Pins::verify`.
//!
//! `cargo run -p systir-policy --example decide_and_explain`

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write as _;

use systir_documents::{
    Bundle, Directory, DirectoryNode, DocumentHash, Floor, Lifetime, RoomClassRule, SigningKey, Validity,
    Vocabulary,
};
use systir_policy::{Action, Claims, Decision, PolicyEngine, Request, SourceDocument, Sources, Subject};

const LIFETIME: Lifetime =
    Lifetime { issued: 1_800_000_000, renew_by: 1_802_592_000, not_after: 1_807_776_000 };

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let engine = PolicyEngine::load(&Sources {
        floor: valid(&floor()),
        bundles: &[valid(&bundle())],
        directories: &[valid(&directory()?)],
    })?;

    let approved = decide_spill(&engine, "lecture", "sto-1");
    print("sto-1", &approved)?;
    assert!(approved.allowed);
    assert_eq!(rules(&approved), "ku-spill-nordic");
    assert_eq!(approved.tier, Some(1));

    let denied = decide_spill(&engine, "lecture", "aws-sto-1");
    print("aws-sto-1", &denied)?;
    assert!(!denied.allowed);
    assert_eq!(rules(&denied), "ku-host-controlled-from-eea");
    assert!(denied.why.contains("controlled from US"));
    Ok(())
}

fn bundle() -> Bundle {
    Bundle {
        institution: "ku.dk".to_owned(),
        version: 1,
        lifetime: LIFETIME,
        vocabulary: Vocabulary {
            operators: names(["nordunet"]),
            hosts: names(["nordunet", "amazon"]),
            ..Vocabulary::default()
        },
        zones: BTreeMap::from([zone("Nordic", "DK FI IS NO SE"), zone("EEA", "DK FI IS NO SE DE FR NL")]),
        classes: vec![RoomClassRule {
            pattern: "exam-*".to_owned(),
            class: "confidential".to_owned(),
            e2ee: false,
        }],
        guarantees: Vec::new(),
        policy: include_str!("../policies/ku.dk.cedar").to_owned(),
    }
}

fn floor() -> Floor {
    Floor {
        operator: "nordunet".to_owned(),
        version: 1,
        lifetime: LIFETIME,
        vocabulary: Vocabulary::default(),
        zones: BTreeMap::new(),
        guarantees: Vec::new(),
        policy: include_str!("../policies/floor.cedar").to_owned(),
    }
}

fn directory() -> Result<Directory, Box<dyn Error>> {
    Ok(Directory {
        operator: "nordunet".to_owned(),
        trust_domain: "nordu.net".to_owned(),
        controlled_from: "DK".to_owned(),
        version: 1,
        lifetime: LIFETIME,
        roots: String::new(),
        nodes: vec![node("sto-1", "nordunet", "DK")?, node("aws-sto-1", "amazon", "US")?],
    })
}

fn node(id: &str, host: &str, host_controlled_from: &str) -> Result<DirectoryNode, Box<dyn Error>> {
    Ok(DirectoryNode {
        id: id.to_owned(),
        spiffe_id: format!("spiffe://nordu.net/relay/{id}"),
        keys: vec![SigningKey::from_seed(id, [1; 32])?.public()],
        prefixes: vec!["192.0.2.0/24".parse()?],
        site: "Stockholm".to_owned(),
        region: "se-stockholm".to_owned(),
        country: "SE".to_owned(),
        host: host.to_owned(),
        host_controlled_from: host_controlled_from.to_owned(),
    })
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn zone(name: &str, countries: &str) -> (String, Vec<String>) {
    (name.to_owned(), countries.split(' ').map(str::to_owned).collect())
}

/// As if the document had been verified: its hash is the one of its note.
fn valid<D: std::fmt::Debug>(document: &D) -> SourceDocument<'_, D> {
    let hash = DocumentHash::of(&format!("{document:?}"));
    SourceDocument { document, hash, validity: Validity::Valid, signers: &[] }
}

/// Whether this room of `ku.dk` may spill to `node`. The node is named in a plan here; before a room opens on a link,
/// policy is asked again with the identity that the node proved.
fn decide_spill(engine: &PolicyEngine, room: &str, node: &str) -> Decision {
    engine.decide(&Request {
        institution: "ku.dk",
        action: Action::Spill,
        subject: Subject::Node(node),
        room: engine.room("ku.dk", room),
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
