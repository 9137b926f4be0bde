//! Properties that hold for all claims and all policy texts.

use proptest::prelude::*;

use super::*;
use crate::caseless::caseless;
use crate::zone::Zones;

fn claims() -> impl Strategy<Value = Claims> {
    (any::<bool>(), any::<Option<u8>>()).prop_map(|(e2ee, load_percent)| Claims { e2ee, load_percent })
}

fn room() -> impl Strategy<Value = RoomAttributes> {
    (any::<bool>(), any::<bool>()).prop_map(|(confidential, e2ee)| {
        let class = if confidential { RoomClass::Confidential } else { RoomClass::Standard };
        RoomAttributes { class, e2ee }
    })
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
        let engine = ENGINE.with(std::rc::Rc::clone);
        let request = request(Action::ALL[which], Subject::Node("aws-sto-1"));
        let decision = engine.decide(&Request { claims, room, ..request });
        prop_assert!(!decision.allowed, "{:?}", decision);
        prop_assert!(!decision.why.is_empty());
    }

    #[test]
    fn only_own_machines_in_nordic_countries_are_approved(
        country in "[A-Z]{2}", control in "[A-Z]{2}", own_machine: bool, claims in claims(), room in room(),
    ) {
        let mut node = own_node("x-1", &country);
        if !own_machine {
            node.host = "hosting".into();
            node.host_controlled_from = control;
        }
        let Ok(engine) = load(&with_nodes([node, own_node("cph-1", "DK")])) else { return Ok(()) };
        for action in Action::ALL {
            let decision = engine.decide(&Request { claims, room, ..request(action, Subject::Node("x-1")) });
            let nordic = ["DK", "FI", "IS", "NO", "SE"].contains(&country.as_str());
            prop_assert!(!decision.allowed || (nordic && own_machine), "{} {}: {:?}", action, country, decision);
        }
    }

    #[test]
    fn no_text_panics_the_loader(text in any::<String>()) {
        let mut documents = with_policy(&text);
        documents.bundle.zones.insert(text.clone(), vec![text.clone()]);
        documents.directory.nodes.push(own_node(&text, &text));
        prop_assert!(load(&documents).is_err());
        let mut documents = demo_documents();
        documents.floor.policy = text;
        let _ = load(&documents);
    }

    #[test]
    fn no_policy_text_panics_the_loader_or_allows_an_unknown_node(text in prop_oneof![random_policy(), mutated_policy()]) {
        let mut documents = with_policy(&text);
        documents.floor.policy = String::new();
        if let Ok(engine) = load(&documents) {
            for rule in engine.rules("ku.dk") {
                prop_assert!(!rule.id.as_str().is_empty());
            }
            prop_assert!(!decide_planned(&engine, Action::Spill, "unknown-1").allowed);
        }
        documents.floor.policy = text;
        let _ = load(&documents);
    }

    #[test]
    fn zone_expansion_is_idempotent_and_keeps_lines(text in prop_oneof![random_policy(), mutated_policy(), any::<String>()]) {
        let zones = Zones::new("bundle of ku.dk", &demo_documents().bundle.zones).unwrap();
        if let Ok(once) = zones.expand(&text) {
            prop_assert_eq!(zones.expand(&once), Ok(once.clone()));
            prop_assert_eq!(once.matches('\n').count(), text.matches('\n').count());
        }
    }

    #[test]
    fn the_class_of_a_room_is_that_of_its_caseless_name(name in "\\PC{0,30}") {
        let engine = ENGINE.with(std::rc::Rc::clone);
        let exam = format!("eXam-{name}");
        prop_assert_eq!(engine.room("ku.dk", &exam).class, RoomClass::Confidential);
        prop_assert_eq!(engine.room("ku.dk", &name), engine.room("ku.dk", &caseless(&name)));
    }
}

thread_local! {
    static ENGINE: std::rc::Rc<PolicyEngine> = std::rc::Rc::new(demo_engine());
}
