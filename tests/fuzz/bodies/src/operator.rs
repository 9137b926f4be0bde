//! Input from operators and institutions: policies, node and zone files, configuration. They are
//! trusted, but a mistake must lead to an error message and never to a panic.

use systir_policy::{InstitutionPolicy, Nodes, PolicyEngine, Sources, Zones, demo};

/// An institution's policy and an operator's floor, with the nodes and zones of the demo.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (Ok(nodes), Ok(zones)) = (Nodes::parse(demo::NODES), Zones::parse(demo::ZONES)) else { return };
    for (floor, text) in [(demo::FLOOR, text), (text, demo::KU_DK)] {
        let institutions = [InstitutionPolicy { institution: demo::INSTITUTION, version: 1, text }];
        let sources = Sources { floor, institutions: &institutions, zones: &zones, nodes: &nodes };
        if let Err(error) = PolicyEngine::load(&sources) {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// The node and zone files.
pub fn facts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Nodes::parse(text);
    let _ = Zones::parse(text);
}

/// A relay's configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = systir_relay::fuzz::config(text) {
        assert!(!error.is_empty());
    }
}
