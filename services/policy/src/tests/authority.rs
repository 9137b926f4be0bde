//! The policy of a running node.

use std::sync::Arc;

use systir_assignment::RoomId;
use systir_identity::ProvenIdentity;
use systir_reason::Reason;

use super::*;
use crate::{Authority, ParticipantRoles};

fn authority() -> Authority {
    Authority::new(demo_engine(), "cph-1", Arc::default())
}

#[test]
fn a_replaced_engine_decides_at_once_and_returned_values_stay() {
    let authority = authority();
    let room = RoomId::new("ku.dk", "lecture");
    let (before, facts) = (authority.engine(), authority.facts("sto-1").unwrap());
    assert!(authority.node(Action::Spill, &room, "sto-1").allowed);

    let mut documents = demo_documents();
    documents.directory.version = 2;
    documents.directory.nodes.retain(|node| node.id != "sto-1");
    authority.replace(load(&documents).unwrap());
    assert_eq!(authority.node(Action::Spill, &room, "sto-1").reason, Reason::UnknownNode);
    assert!(authority.facts("sto-1").is_none());
    assert!(authority.node_of("spiffe://nordu.net/relay/sto-1").is_none());
    assert_eq!(authority.nodes().len(), 2);

    assert_eq!(facts.site, "Stockholm");
    assert!(before.decide(&request(Action::Spill, Subject::Node("sto-1"))).allowed);
}

#[test]
fn a_decision_about_a_room_reads_the_rooms_class() {
    let mut documents = with_nodes([own_node("cph-1", "DK"), leased_node("hel-1", "FI", "upcloud", "FI")]);
    documents.bundle.policy = "@id(\"any\") @why(\"any node\") @tier(\"1\") permit (principal in \
                               Institution::\"ku.dk\", action in [Action::\"spill\", Action::\"relay-signal\"], \
                               resource);"
        .to_owned();
    let authority = Authority::new(load(&documents).unwrap(), "cph-1", Arc::default());
    let (exam, lecture) = (RoomId::new("ku.dk", "exam-1"), RoomId::new("ku.dk", "lecture"));
    assert!(authority.node(Action::Spill, &lecture, "hel-1").allowed);
    assert!(!authority.node(Action::Spill, &exam, "hel-1").allowed);
    let peer =
        ProvenIdentity::for_tests("spiffe://nordu.net/relay/hel-1".parse().unwrap(), key_of("hel-1"), now());
    assert!(authority.peer(Action::RelaySignal, &lecture, &peer, now()).allowed);
    assert!(!authority.peer(Action::RelaySignal, &exam, &peer, now()).allowed);
    assert!(authority.institution_node(Action::RelaySignal, "ku.dk", "hel-1").allowed);
    assert_eq!(authority.room(&exam), CONFIDENTIAL);
}

#[test]
fn participants_are_decided_for_a_room_or_for_the_institution() {
    let authority = authority();
    let (exam, lecture) = (RoomId::new("ku.dk", "exam-1"), RoomId::new("ku.dk", "lecture"));
    assert!(authority.participant(Action::JoinHidden, &lecture, "ku.dk").allowed);
    assert!(!authority.participant(Action::JoinHidden, &exam, "ku.dk").allowed);
    let join = |room, hidden, recorder| {
        let decisions = authority.join(room, "ku.dk", ParticipantRoles { hidden, recorder });
        decisions.iter().map(|(action, decision)| (*action, decision.allowed)).collect::<Vec<_>>()
    };
    assert_eq!(join(&lecture, false, false), [(Action::Join, true)]);
    assert_eq!(
        join(&lecture, true, true),
        [(Action::Join, true), (Action::JoinHidden, true), (Action::JoinRecorder, false)]
    );
    assert_eq!(join(&exam, true, true), [(Action::Join, true), (Action::JoinHidden, false)]);
    assert!(authority.institution_participant(Action::Administer, "ku.dk", "ku.dk").allowed);
    assert_eq!(authority.institutions(), ["ku.dk"]);
    assert_eq!(authority.own_id(), "cph-1");
}
