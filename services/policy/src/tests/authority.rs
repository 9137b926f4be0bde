//! The policy of a running node.

use std::sync::Arc;

use systir_identity::ProvenIdentity;
use systir_reason::Reason;
use systir_room_tag::test_keys::{keys, room};

use super::*;
use crate::demo::DemoDocuments;
use crate::{Authority, ParticipantRoles, PolicyEngine, RoomAttributes, RoomClass};

/// A node that can read the names of rooms.
fn gateway(engine: PolicyEngine) -> Authority {
    let authority = Authority::new(engine, "cph-1", Arc::default());
    authority.use_room_keys(keys());
    authority
}

fn authority() -> Authority {
    gateway(demo_engine())
}

/// Documents by which a leased machine may carry rooms, but no confidential one.
fn leased_for_standard_rooms() -> DemoDocuments {
    let mut documents = with_nodes([own_node("cph-1", "DK"), leased_node("hel-1", "FI", "upcloud", "FI")]);
    documents.bundle.policy = "@id(\"any\") @why(\"any node\") @tier(\"1\") permit (principal in \
                               Institution::\"ku.dk\", action in [Action::\"spill\", Action::\"relay-signal\"], \
                               resource);"
        .to_owned();
    documents
}

#[test]
fn a_replaced_engine_decides_at_once_and_returned_values_stay() {
    let authority = authority();
    let room = room("lecture");
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
fn a_repeated_question_has_the_same_answer_until_the_engine_is_replaced() {
    let documents = leased_for_standard_rooms();
    let authority = gateway(load(&documents).unwrap());
    let rooms = [room("lecture"), room("exam-1"), room("e2ee-board")];
    let nodes = ["cph-1", "hel-1", "nowhere-1", "ku.dk"];
    let ask_all = || {
        let mut answers = Vec::new();
        for (action, room) in
            Action::ALL.into_iter().flat_map(|action| rooms.iter().map(move |room| (action, room)))
        {
            answers.extend(nodes.map(|node| authority.node(action, room, node)));
            answers
                .extend(["ku.dk", "uio.no", "cph-1"].map(|from| authority.participant(action, room, from)));
        }
        answers
    };
    let first = ask_all();
    assert!(first.iter().any(|decision| decision.allowed) && first.iter().any(|decision| !decision.allowed));
    assert_eq!(ask_all(), first);
    let engine = authority.engine();
    for (room, decided) in rooms.iter().zip(first.chunks(nodes.len() + 3)) {
        for (node, decided) in nodes.iter().zip(decided) {
            let room = authority.room(room);
            let anew = Request { room, ..request(Action::ALL[0], Subject::Node(node)) };
            assert_eq!(engine.decide(&Request { claims: Claims::default(), ..anew }), *decided, "{node}");
        }
    }
    authority.replace(demo_engine());
    assert_ne!(ask_all(), first);
}

#[test]
fn a_decision_about_a_room_reads_the_rooms_class() {
    let authority = gateway(load(&leased_for_standard_rooms()).unwrap());
    let (exam, lecture) = (room("exam-1"), room("lecture"));
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
    let (exam, lecture) = (room("exam-1"), room("lecture"));
    assert!(authority.participant(Action::JoinHidden, &lecture, "ku.dk").allowed);
    assert!(!authority.participant(Action::JoinHidden, &exam, "ku.dk").allowed);
    let join = |room, hidden, recorder| {
        let decisions = authority.join(room, "ku.dk", ParticipantRoles { hidden, recorder, guest: false });
        decisions.iter().map(|(action, decision)| (*action, decision.allowed)).collect::<Vec<_>>()
    };
    assert_eq!(join(&lecture, false, false), [(Action::Join, true)]);
    assert_eq!(
        join(&lecture, true, true),
        [(Action::Join, true), (Action::JoinHidden, true), (Action::JoinRecorder, false)]
    );
    assert_eq!(join(&exam, true, true), [(Action::Join, true), (Action::JoinHidden, false)]);
    let as_guest = |room| {
        let decisions = authority.join(room, "ku.dk", ParticipantRoles { guest: true, ..Default::default() });
        decisions.iter().map(|(action, decision)| (*action, decision.allowed)).collect::<Vec<_>>()
    };
    assert_eq!(as_guest(&lecture), [(Action::Join, true), (Action::JoinGuest, true)]);
    assert_eq!(as_guest(&exam), [(Action::Join, true), (Action::JoinGuest, false)]);
    assert!(authority.institution_participant(Action::Administer, "ku.dk", "ku.dk").allowed);
    assert_eq!(authority.institutions(), ["ku.dk"]);
    assert_eq!(authority.own_id(), "cph-1");
}

#[test]
fn a_node_without_the_room_key_goes_by_the_grant_and_without_one_by_every_class() {
    let authority = Authority::new(load(&leased_for_standard_rooms()).unwrap(), "hel-1", Arc::default());
    let (lecture, exam) = (room("lecture"), room("exam-1"));
    let spills = |room| authority.node(Action::Spill, room, "hel-1").allowed;
    let strictest = RoomAttributes { class: RoomClass::Confidential, e2ee: true };
    assert_eq!((authority.room_by_name(&lecture), authority.room(&lecture)), (None, strictest));
    assert!(!spills(&lecture), "it may be a confidential room");
    assert!(authority.node(Action::Spill, &lecture, "cph-1").allowed, "a room of any class may use it");
    assert!(authority.node_if(Action::Spill, &lecture, Some(STANDARD), "hel-1").allowed, "as offered");

    authority.note_granted(&lecture, Some(STANDARD));
    authority.note_granted(&exam, Some(CONFIDENTIAL));
    assert!(spills(&lecture) && !spills(&exam));
    let offered = authority.node_if(Action::Spill, &exam, Some(STANDARD), "hel-1");
    assert!(!offered.allowed, "a grant that is offered does not loosen the one that is held");
    assert_eq!((authority.room(&lecture), authority.room(&exam)), (STANDARD, CONFIDENTIAL));
    authority.note_granted(&lecture, None);
    assert!(!spills(&lecture));
}

#[test]
fn both_the_name_and_the_grant_must_allow() {
    let authority = gateway(load(&leased_for_standard_rooms()).unwrap());
    let (lecture, exam) = (room("lecture"), room("exam-1"));
    let spills = |room| authority.node(Action::Spill, room, "hel-1").allowed;
    authority.note_granted(&exam, Some(STANDARD));
    assert!(!spills(&exam), "a home cannot loosen the class of a room whose name is known");
    assert!(!authority.node_if(Action::Spill, &exam, Some(STANDARD), "hel-1").allowed);
    assert!(spills(&lecture));
    authority.note_granted(&lecture, Some(CONFIDENTIAL));
    assert!(!spills(&lecture), "the class of an earlier bundle counts until the home signs anew");
    assert_eq!((authority.room(&exam), authority.room_by_name(&exam)), (CONFIDENTIAL, Some(CONFIDENTIAL)));
}
