//! Hostile nodes that are not approved, not listed, elsewhere, or noisy, against whole honest nodes.

use systir_cascade::{CallError, LinkEvent, NamedLinks as _};
use systir_documents::{DocumentId, Lifetime};
use systir_policy::demo::DemoDocuments;
use systir_proto::cluster::v1::GrantPurpose as Purpose;

use super::hostile_node::HostileNode;
use super::hostile_node_tests::{counted, until_counted};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_unapproved_node_learns_no_grant_and_opens_no_room() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 1).await);
    let mut hostile = HostileNode::start(&cluster, "aws-sto-1").await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    let mut bob = TestParticipant::join(&home, "bob").await;
    anna.until_sees("bob").await;
    // It read the grant in etcd.
    let held = cluster.record().unwrap().grant;
    let forged = cluster.forged("aws-sto-1", &cluster.read(&held), |grant| grant.epoch += 1);
    let eve = grants("eve");
    let ticket = home.parts.joins.tickets.issue(&cluster.record().unwrap(), "sto-1", &eve, 0).unwrap();
    for node in ["cph-1", "sto-1"] {
        for note in ["", &held, &forged] {
            for purpose in [Purpose::Held, Purpose::Create, Purpose::TakeOver] {
                let refused = hostile.ask_grant(node, purpose, note).await.unwrap_err();
                assert_eq!(refused.reason, Reason::PolicyDenied, "{node} {purpose:?}");
            }
            assert_eq!(hostile.reserve(node, note).await, Err((Reason::PolicyDenied, None)), "{node}");
            let refused = hostile.signal(node, note, &ticket, &eve).await.err();
            assert!(matches!(refused, Some(CallError::Refused(_))), "{refused:?}");
            hostile.is_refused_room(node, note).await;
        }
    }
    // Nobody asks it for a seat, although no other is left.
    let refused = TestParticipant::try_join(&home, grants("chen")).await.err().unwrap();
    assert_eq!(status_and_code(&refused), (403, "approved-full"));
    assert_eq!(hostile.asked(), [""; 0]);
    assert_eq!(hostile.messages(), 0);
    anna.saw_only(&["bob"]);
    bob.saw_only(&["anna"]);
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_lease_is_outside_its_listed_addresses_is_never_dialled() {
    let cluster = TestCluster::new();
    let hostile = HostileNode::start(&cluster, "sto-1").await;
    let elsewhere = cluster.documents.directory(1, |directory| {
        for node in directory.nodes.iter_mut().filter(|node| node.id == "sto-1") {
            node.prefixes = vec!["192.0.2.0/24".parse().unwrap()];
        }
    });
    cluster.publish("directory.note", &elsewhere.unwrap());
    let home = cluster.node("cph-1", 1).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    home.parts.assignments.peer_carries(&room(), "sto-1");
    let refused = TestParticipant::try_join(&home, grants("bob")).await.err().unwrap();
    assert_eq!(refused.reason, Reason::ApprovedUnavailable, "{refused}");
    let counts = || home.directory.identity_counts().refused;
    let dialled = async {
        while !counts().contains_key(&Reason::AddressNotListed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, dialled).await.expect("the refusal is counted");
    assert_eq!(hostile.asked(), [""; 0]);
    anna.saw_only(&[]);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_grants_stops_no_join() {
    const NOTES: usize = 2_000;
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 20).await;
    let _anna = TestParticipant::join(&home, "anna").await;
    let hostile = Arc::new(HostileNode::start(&cluster, "sto-1").await);
    let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
    let forged = held.replace("serial 1", "serial 2");
    assert_ne!(forged, held);
    let floods: Vec<_> = (0..8)
        .map(|_| {
            let (hostile, forged) = (hostile.clone(), forged.clone());
            tokio::spawn(async move {
                for number in 0..NOTES / 8 {
                    if number % 2 == 0 {
                        let _ = hostile.ask_grant("cph-1", Purpose::Held, &forged).await;
                    } else {
                        assert_eq!(
                            hostile.reserve("cph-1", &forged).await.unwrap_err().0,
                            Reason::GrantInvalid
                        );
                    }
                }
            })
        })
        .collect();
    let mut guests: Vec<TestParticipant> = Vec::new();
    for number in 0..10 {
        let name = format!("guest-{number}");
        let guest = TestParticipant::join(&home, &name).await;
        if let Some(before) = guests.last_mut() {
            before.until_sees(&name).await;
        }
        guests.push(guest);
    }
    for flood in floods {
        flood.await.unwrap();
    }
    let mut chen = TestParticipant::join(&home, "chen").await;
    let mut dora = TestParticipant::join(&home, "dora").await;
    chen.until_sees("dora").await;
    dora.until_sees("chen").await;
    assert_eq!(counted(&home, "grants_refused", Reason::GrantInvalid), NOTES as u64);
    assert_eq!(home.parts.assignments.note(&room()), held);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_certificate_without_the_node_key_or_of_an_unlisted_node_reaches_nothing() {
    let cluster = TestCluster::new();
    let (home, member) = (cluster.node("cph-1", 5).await, "cph-1");
    let mut anna = TestParticipant::join(&home, "anna").await;
    let held = cluster.record().unwrap().grant;
    let thief = HostileNode::start_with_key_of(&cluster, "sto-1", "aws-sto-1").await;
    let unlisted = HostileNode::start(&cluster, "aws-sto-1").await;
    let note =
        cluster.documents.directory(2, |directory| directory.nodes.retain(|node| node.id != "aws-sto-1"));
    let _ = home.parts.documents.take(&note.unwrap()).unwrap();
    assert_eq!(home.parts.documents.newest(&DocumentId::directory("nordunet")).unwrap().version(), 2);
    for (mut hostile, reason) in [(thief, Reason::WrongNodeKey), (unlisted, Reason::Unlisted)] {
        let refused = hostile.ask_grant(member, Purpose::Held, &held).await.unwrap_err();
        assert!([Reason::NoAnswer, Reason::PolicyDenied].contains(&refused.reason), "{refused}");
        assert!(refused.rules.is_empty(), "policy was not even asked: {refused:?}");
        assert!(hostile.reserve(member, &held).await.is_err());
        hostile.open_room(member, &held);
        hostile.until("no link", |event| matches!(event, LinkEvent::Unreachable { .. })).await;
        assert!(home.directory.identity_counts().refused.get(&reason).copied().unwrap_or_default() >= 2);
        assert!(!hostile.seen.iter().any(|event| matches!(event, LinkEvent::Up { .. })));
    }
    assert_eq!(home.parts.local_load.load().participants, 1);
    anna.saw_only(&[]);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_the_peer_opens_is_open_only_if_the_proven_node_key_is_still_listed() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 5).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    let mut hostile = HostileNode::start(&cluster, "sto-1").await;
    hostile.waits(true);
    home.parts.assignments.peer_carries(&room(), "sto-1");
    hostile.until_asked("open_room").await;
    // A new directory is in use, which lists another key for that name. Links and rooms were not told yet.
    let lifetime = Lifetime { issued: 0, renew_by: 1, not_after: 2 };
    let other_key = DemoDocuments::new(lifetime, "", |node| {
        let key_of = match node {
            "sto-1" => "aws-sto-1",
            "aws-sto-1" => "sto-1",
            other => other,
        };
        (vec![cluster.documents.node_key(key_of).unwrap().public()], vec!["127.0.0.0/8".parse().unwrap()])
    });
    home.parts.authority.replace(other_key.unwrap().engine().unwrap());
    hostile.waits(false);
    let refused = |event: &LinkEvent| matches!(event, LinkEvent::RoomRefused { by_us: false, .. });
    match hostile.until("the home closes the room", refused).await {
        LinkEvent::RoomRefused { reason, .. } => assert!(reason.contains("does not list for it"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(hostile.messages(), 0);
    until_counted(&home, "link_refusals", Reason::RoomRefused, 0).await;
    anna.saw_only(&[]);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_no_institution_approves_is_asked_for_no_document() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 1).await;
    let unapproved = HostileNode::start(&cluster, "aws-sto-1").await;
    let approved = HostileNode::start(&cluster, "sto-1").await;
    unapproved.offer_bundle("cph-1", u64::MAX).await;
    // Stated last, so that what was stated before was handled.
    approved.offer_bundle("cph-1", u64::MAX).await;
    approved.until_asked("document").await;
    assert_eq!(unapproved.asked(), [] as [&str; 0]);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_only_states_another_text_of_a_version_raises_no_alarm() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 1).await;
    let hostile = HostileNode::start(&cluster, "sto-1").await;
    hostile.offer_bundle("cph-1", 1).await;
    hostile.until_asked("document").await;
    assert_eq!(super::documents::refused_for(&home, "conflict"), 0);
    home.stop().await;
}
