//! What the class of a room, the quota of its institution and an overdue bundle refuse, on whole nodes.

use livekit_protocol::encryption::Type;
use livekit_protocol::request_response::Reason as RequestReason;
use systir_documents::Validity;
use systir_policy::demo::INSTITUTION;

use super::admission::used;
use super::documents::until_in_use;
use super::*;

fn in_room(room: &str, identity: &str) -> Grants {
    Grants { room: room.to_owned(), ..grants(identity) }
}

async fn join(node: &Node, room: &str, identity: &str) -> TestParticipant {
    TestParticipant::try_join(node, in_room(room, identity)).await.unwrap()
}

async fn refusal(node: &Node, room: &str, identity: &str) -> Refusal {
    TestParticipant::try_join(node, in_room(room, identity)).await.err().expect("the join succeeded")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leased_machine_that_policy_approves_carries_standard_rooms_and_no_confidential_one() {
    let cluster = TestCluster::new();
    // The institution approves leased machines as spill nodes, and says nothing of classes there: the floor does.
    cluster.publish_rules(1, |rules| {
        rules
            .replacen("resource.own_machine &&\n  resource.country in", "\n  resource.country in", 1)
            .replace(
                r#"resource.host_controlled_from in Zone::"EEA""#,
                r#"resource.host_controlled_from == Country::"US" || resource.host_controlled_from in Zone::"EEA""#,
            )
    });
    let (home, leased) = (cluster.node("cph-1", 2).await, cluster.node("aws-sto-1", 5).await);
    let _dora = join(&home, "exam-1", "dora").await;
    let mut anna = join(&home, "lecture", "anna").await;
    let _bob = join(&home, "lecture", "bob").await;
    anna.until_sees("bob").await;
    assert_eq!((used(&home), used(&leased)), (2, 1));
    let refused = refusal(&home, "exam-1", "chen").await;
    assert_eq!(status_and_code(&refused), (403, "approved-full"), "{refused}");
    assert_eq!((used(&home), used(&leased)), (2, 1));
    // It refuses a seat itself, whatever the grant lists.
    let exam = home.parts.assignments.get(&test_keys::room("exam-1")).unwrap();
    let listing = cluster.granted_with("cph-1", exam.epoch, |grant| {
        grant.room = exam.room.key();
        (grant.sid, grant.serial) = (exam.sid.clone(), 99);
        grant.terms.class = "confidential".to_owned();
        grant.terms.spill.insert("aws-sto-1".to_owned());
    });
    let request = systir_admission::ReservationRequest {
        room: exam.room.clone(),
        identity: "eve".to_owned(),
        join_id: Some("eve".to_owned()),
        grant: listing.grant,
    };
    let refused = home.directory.reserve("aws-sto-1", request).await.unwrap_err().refusal;
    assert_eq!(refused.reason, Reason::PolicyDenied, "{refused}");
    assert!(refused.rules.iter().any(|rule| rule == "floor-confidential-on-own-machines"), "{refused:?}");
    assert_eq!((used(&home), used(&leased)), (2, 1));
    home.stop().await;
    leased.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_requires_encryption_takes_no_unencrypted_track_on_any_node() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let mut anna = join(&home, "e2ee-thesis", "anna").await;
    let mut bob = join(&home, "e2ee-thesis", "bob").await;
    assert_eq!(used(&sister), 1);
    anna.until_sees("bob").await;
    let announce = |encryption| {
        let cid = "mic".to_owned();
        ClientMessage::AddTrack(livekit_protocol::AddTrackRequest { cid, encryption, ..Default::default() })
    };
    for participant in [&mut anna, &mut bob] {
        participant.send(announce(Type::None as i32)).await;
        let answered = |message: &ServerMessage| {
            matches!(message, ServerMessage::RequestResponse(_) | ServerMessage::TrackPublished(_))
        };
        participant.until("the refusal", answered).await;
        match participant.received.last() {
            Some(ServerMessage::RequestResponse(response)) => {
                assert_eq!(response.reason(), RequestReason::NotAllowed, "{response:?}");
            }
            other => panic!("{other:?}"),
        }
        participant.send(announce(Type::Gcm as i32)).await;
        participant.until("its track", |message| matches!(message, ServerMessage::TrackPublished(_))).await;
    }
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_institution_gets_no_more_seats_than_its_configured_quota() {
    let cluster = TestCluster::new();
    let mut config = cluster.config("cph-1", 5);
    config.policy.institutions.get_mut(INSTITUTION).unwrap().seats = Some(1);
    let home = Node::start(config, Arc::new(cluster.store.registry())).await.unwrap();
    let anna = join(&home, "lecture", "anna").await;
    for room in ["lecture", "seminar"] {
        let refused = refusal(&home, room, "bob").await;
        assert_eq!(refused.reason, Reason::InstitutionQuota, "{refused}");
        assert!(refused.sentence.contains(INSTITUTION), "{refused}");
    }
    assert_eq!(used(&home), 1);
    drop(anna);
    super::admission::until_used(&home, 0).await;
    let _bob = join(&home, "seminar", "bob").await;
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_bundle_adds_no_node_to_a_room_and_keeps_those_that_carry_it() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 2).await, cluster.node("sto-1", 5).await);
    let _anna = join(&home, "lecture", "anna").await;
    let mut chen = join(&home, "seminar", "chen").await;
    let _dora = join(&home, "seminar", "dora").await;
    chen.until_sees("dora").await;
    assert_eq!((used(&home), used(&sister)), (2, 1));
    let now = crate::documents::store::unix_seconds();
    let note = cluster.documents.bundle(2, |bundle| {
        bundle.lifetime.issued = now.max(bundle.lifetime.issued);
        bundle.lifetime.renew_by = bundle.lifetime.issued;
    });
    let note = note.unwrap();
    for node in [&home, &sister] {
        let _ = node.parts.documents.take(&note).unwrap();
        until_in_use(node, Validity::RenewalOverdue).await;
    }
    // The home is full, and the sister carries only the seminar.
    let refused = refusal(&home, "lecture", "bob").await;
    assert_eq!(status_and_code(&refused), (403, "approved-full"), "{refused}");
    assert_eq!((used(&home), used(&sister)), (2, 1));
    let why = "the renewal of the bundle of ku.dk is overdue";
    let explained = home.parts.admission.explain(&room());
    let rows = explained["candidates"].as_array().unwrap();
    let row = rows.iter().find(|row| row["node"] == "sto-1").unwrap().to_string();
    assert!(row.contains(why), "{row}");
    // The sister refuses itself, too.
    let request = systir_admission::ReservationRequest {
        room: room(),
        identity: "bob".to_owned(),
        join_id: Some("bob".to_owned()),
        grant: home.parts.assignments.note(&room()),
    };
    let refused = home.directory.reserve("sto-1", request).await.unwrap_err().refusal;
    assert!(refused.sentence.contains(why), "{refused}");
    assert_eq!((used(&home), used(&sister)), (2, 1));
    let _erik = join(&home, "seminar", "erik").await;
    assert_eq!((used(&home), used(&sister)), (2, 2));
    chen.until_sees("erik").await;
    // Its renewal opens everything again.
    let renewed = cluster.documents.bundle(3, |bundle| bundle.lifetime.issued = now).unwrap();
    for node in [&home, &sister] {
        let _ = node.parts.documents.take(&renewed).unwrap();
    }
    let _bob = join(&home, "lecture", "bob").await;
    assert_eq!(used(&sister), 3);
    home.stop().await;
    sister.stop().await;
}
