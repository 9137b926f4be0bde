//! What holds whatever is claimed and whatever is written.

use proptest::prelude::*;

use super::*;

fn claims() -> impl Strategy<Value = Claims> {
    (any::<bool>(), any::<Option<u8>>()).prop_map(|(e2ee, load_percent)| Claims { e2ee, load_percent })
}

fn room() -> impl Strategy<Value = RoomFacts> {
    any::<bool>().prop_map(|confidential| if confidential { CONFIDENTIAL } else { RoomFacts::default() })
}

/// Pieces that policies are made of, so that random texts get past the parser now and then.
const PIECES: [&str; 40] = [
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

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES.as_slice()), 0..60).prop_map(|pieces| pieces.join(" "))
}

/// The demo's policy with some of it cut out or doubled.
fn mangled() -> impl Strategy<Value = String> {
    (0..demo::KU_DK.len(), 0..demo::KU_DK.len(), soup()).prop_map(|(a, b, soup)| {
        let before = demo::KU_DK.get(..a).unwrap_or_default();
        let after = demo::KU_DK.get(b..).unwrap_or_default();
        format!("{before}{soup}{after}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_claim_opens_a_node_that_is_not_approved(claims in claims(), room in room(), which in 0..Action::ALL.len()) {
        let nodes = demo_nodes();
        let gate = GATE.with(std::rc::Rc::clone);
        let request = on_node(Action::ALL[which], nodes.evidence("aws-sto-1", Identity::Planned));
        let decision = gate.decide(&Request { claims, room, ..request });
        prop_assert!(!decision.allowed, "{:?}", decision);
        prop_assert!(!decision.why.is_empty());
    }

    #[test]
    fn no_country_outside_the_eea_and_no_foreign_machine_is_ever_approved(
        country in "[A-Z]{2}", control in "[A-Z]{2}", own_machine: bool, claims in claims(), room in room(),
    ) {
        let mut facts = own("x-1", &country);
        if !own_machine {
            facts.host = "somebody".into();
            facts.host_controlled_from = control;
        }
        let Ok(nodes) = Nodes::new(vec![facts, own("cph-1", "DK")], Default::default()) else { return Ok(()) };
        let gate = demo::gate(&nodes).unwrap();
        for action in Action::ALL {
            let request = on_node(action, nodes.evidence("x-1", Identity::Planned));
            let decision = gate.decide(&Request { claims, room, ..request });
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
    fn no_soup_of_policy_panics_the_loader_or_opens_the_cloud(text in prop_oneof![soup(), mangled()]) {
        let nodes = demo_nodes();
        let _ = load(&text, "", &nodes);
        if let Ok(gate) = load("", &text, &nodes) {
            for rule in gate.rules("ku.dk") {
                prop_assert!(!rule.id.as_str().is_empty());
            }
            prop_assert!(!planned(&gate, &nodes, Action::Spill, "ghost").allowed);
        }
    }

    #[test]
    fn expansion_is_stable_and_keeps_lines(text in prop_oneof![soup(), mangled(), any::<String>()]) {
        let zones = Zones::parse(demo::ZONES).unwrap();
        if let Ok(once) = zones.expand(&text) {
            prop_assert_eq!(zones.expand(&once), Ok(once.clone()));
            prop_assert_eq!(once.matches('\n').count(), text.matches('\n').count());
        }
    }
}

thread_local! {
    static GATE: std::rc::Rc<Gate> = std::rc::Rc::new(demo::gate(&demo_nodes()).unwrap());
}
