//! Room classes, as the bundle's patterns of names give them.

use systir_documents::{Document, RoomClassRule};
use systir_reason::Reason;

use super::*;

#[test]
fn ku_dk_keeps_exams_on_its_operators_own_machines_however_they_are_written() {
    let mut documents = with_nodes([own_node("cph-1", "DK"), leased_node("hel-1", "FI", "upcloud", "FI")]);
    documents.bundle.policy = "@id(\"any\") @why(\"any node\") @tier(\"1\") permit (principal in \
                               Institution::\"ku.dk\", action == Action::\"spill\", resource);"
        .to_owned();
    let engine = load(&documents).unwrap();
    let spill_of = |name: &str, node| {
        let room = engine.room("ku.dk", name);
        engine.decide(&Request { room, ..request(Action::Spill, Subject::Node(node)) })
    };
    for name in ["exam-1", "Exam-1", "\u{ff25}\u{ff38}\u{ff21}\u{ff2d}-1", "ex\u{200b}am-1"] {
        assert_eq!(rules_of(&spill_of(name, "hel-1")), ["floor-confidential-on-own-machines"], "{name}");
        assert!(spill_of(name, "cph-1").allowed, "{name}");
    }
    assert!(spill_of("lecture", "hel-1").allowed);
}

#[test]
fn ku_dk_requires_encryption_in_rooms_that_are_named_so() {
    let engine = demo_engine();
    assert_eq!(engine.room("ku.dk", "E2EE-board"), ENCRYPTED);
    assert_eq!(engine.room("ku.dk", "lecture"), RoomAttributes::default());
    assert_eq!(engine.room("dtu.dk", "e2ee-board"), RoomAttributes::default(), "it has no bundle");
    let record = Request { room: ENCRYPTED, ..request(Action::Record, Subject::Node("cph-1")) };
    let decision = engine.decide(&record);
    assert_eq!(decision.reason, Reason::Forbidden);
    assert!(decision.why.starts_with("the room is end-to-end encrypted"));
}

#[test]
fn an_institution_approves_a_node_if_it_may_have_a_role_in_any_room() {
    let engine = demo_engine();
    for node in ["cph-1", "sto-1"] {
        assert_eq!(engine.approving(node).into_iter().collect::<Vec<_>>(), ["ku.dk"], "{node}");
    }
    for node in ["aws-sto-1", "no-such-node"] {
        assert!(engine.approving(node).is_empty(), "{node}");
    }
    // Rules that allow one role, in one kind of room.
    for (action, when) in [
        ("home", "principal.class == RoomClass::\"confidential\""),
        ("spill", "principal.e2ee"),
        ("relay-signal", "principal.class == RoomClass::\"confidential\" && principal.e2ee"),
        ("transit", "true"),
    ] {
        let tier = if action == "spill" { "@tier(\"1\")" } else { "" };
        let rule = format!(
            "@id(\"one\") @why(\"one\") {tier} permit (principal in Institution::\"ku.dk\", action == \
             Action::\"{action}\", resource) when {{ {when} }};"
        );
        let engine = load(&with_policy(&rule)).unwrap();
        assert_eq!(!engine.approving("cph-1").is_empty(), action != "transit", "{action}");
    }
}

#[test]
fn a_bundle_with_an_unknown_class_is_refused() {
    let mut documents = demo_documents();
    let rule = RoomClassRule { pattern: "board-*".into(), class: "secret".into(), e2ee: false };
    documents.bundle.classes.push(rule);
    for error in [
        load(&documents).unwrap_err(),
        PolicyEngine::check(&Document::Bundle(documents.bundle.clone())).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("\"board-*\" names the class \"secret\""), "{error}");
    }
}
