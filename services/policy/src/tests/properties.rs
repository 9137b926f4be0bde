//! Properties that hold for all claims and all policy texts.

use proptest::prelude::*;

use super::*;

fn claims() -> impl Strategy<Value = Claims> {
    (any::<bool>(), any::<Option<u8>>()).prop_map(|(e2ee, load_percent)| Claims { e2ee, load_percent })
}

fn room() -> impl Strategy<Value = RoomAttributes> {
    any::<bool>().prop_map(|confidential| if confidential { CONFIDENTIAL } else { RoomAttributes::default() })
}

/// Fragments of policies, so that some random texts parse.
const FRAGMENTS: [&str; 40] = [
    "@id(\"a\")",
    "@why(\"{host}\")",
    "@tier(\"1\")",
    "permit",
    "forbid",
    "(",
    ")",
    "principal",
    "action",
    "resource",
    ",",
    ";",
    "when",
    "unless",
    "{",
    "}",
    "==",
    "in",
    "has",
    "like",
    "is",
    "&&",
    "||",
    "!",
    "[",
    "]",
    ".",
    "context",
    "Institution::\"ku.dk\"",
    "Action::\"spill\"",
    "Action::\"on-node\"",
    "Zone::\"EEA\"",
    "Country::\"DK\"",
    "country",
    "own_machine",
    "e2ee",
    "?principal",
    "\"",
    "//",
    "-9223372036854775808",
];

fn random_policy() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(FRAGMENTS.as_slice()), 0..60)
        .prop_map(|fragments| fragments.join(" "))
}

/// The demo's policy with a part removed or repeated.
fn mutated_policy() -> impl Strategy<Value = String> {
    (0..demo::KU_DK.len(), 0..demo::KU_DK.len(), random_policy()).prop_map(|(a, b, inserted)| {
        let before = demo::KU_DK.get(..a).unwrap_or_default();
        let after = demo::KU_DK.get(b..).unwrap_or_default();
        format!("{before}{inserted}{after}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_claim_allows_a_node_that_is_not_approved(claims in claims(), room in room(), which in 0..Action::ALL.len()) {
        let nodes = demo_nodes();
        let engine = ENGINE.with(std::rc::Rc::clone);
        let request = on_node(Action::ALL[which], nodes.evidence("aws-sto-1", IdentityProof::Planned));
        let decision = engine.decide(&Request { claims, room, ..request });
        prop_assert!(!decision.allowed, "{:?}", decision);
        prop_assert!(!decision.why.is_empty());
    }

    #[test]
    fn only_own_machines_in_nordic_countries_are_approved(
        country in "[A-Z]{2}", control in "[A-Z]{2}", own_machine: bool, claims in claims(), room in room(),
    ) {
        let mut facts = own_node("x-1", &country);
        if !own_machine {
            facts.host = "hosting".into();
            facts.host_controlled_from = control;
        }
        let Ok(nodes) = Nodes::new(vec![facts, own_node("cph-1", "DK")], Default::default()) else { return Ok(()) };
        let engine = demo::engine(&nodes).unwrap();
        for action in Action::ALL {
            let request = on_node(action, nodes.evidence("x-1", IdentityProof::Planned));
            let decision = engine.decide(&Request { claims, room, ..request });
            let nordic = ["DK", "FI", "IS", "NO", "SE"].contains(&country.as_str());
            prop_assert!(!decision.allowed || (nordic && own_machine), "{} {}: {:?}", action, country, decision);
        }
    }

    #[test]
    fn no_text_panics_the_loader(text in any::<String>()) {
        let nodes = demo_nodes();
        let _ = load(&text, "", &nodes);
        let _ = load("", &text, &nodes);
        let _ = Zones::parse(&text);
        let _ = Nodes::parse(&text);
    }

    #[test]
    fn no_policy_text_panics_the_loader_or_allows_an_unknown_node(text in prop_oneof![random_policy(), mutated_policy()]) {
        let nodes = demo_nodes();
        let _ = load(&text, "", &nodes);
        if let Ok(engine) = load("", &text, &nodes) {
            for rule in engine.rules("ku.dk") {
                prop_assert!(!rule.id.as_str().is_empty());
            }
            prop_assert!(!decide_planned(&engine, &nodes, Action::Spill, "unknown-1").allowed);
        }
    }

    #[test]
    fn zone_expansion_is_idempotent_and_keeps_lines(text in prop_oneof![random_policy(), mutated_policy(), any::<String>()]) {
        let zones = Zones::parse(demo::ZONES).unwrap();
        if let Ok(once) = zones.expand(&text) {
            prop_assert_eq!(zones.expand(&once), Ok(once.clone()));
            prop_assert_eq!(once.matches('\n').count(), text.matches('\n').count());
        }
    }
}

thread_local! {
    static ENGINE: std::rc::Rc<PolicyEngine> = std::rc::Rc::new(demo::engine(&demo_nodes()).unwrap());
}
