//! A hostile home that policy approves, against whole honest nodes.

use systir_cascade::{CallError, LinkEvent};
use systir_proto::cluster::v1::GrantPurpose as Purpose;

use super::hostile_node::HostileNode;
use super::hostile_node_tests::{counted, home_of};
use super::*;

impl TestParticipant {
    /// Answers the offer of its media node with a description like that node's own. Its session then waits longer for a
    /// connection.
    async fn answer_offer(&mut self) {
        let is_offer = |message: &&ServerMessage| matches!(message, ServerMessage::Offer(_));
        if !self.received.iter().any(|message| is_offer(&message)) {
            self.until("the offer", |message| is_offer(&message)).await;
        }
        let Some(ServerMessage::Offer(offer)) = self.received.iter().find(is_offer) else { unreachable!() };
        let answer = livekit_protocol::SessionDescription {
            r#type: "answer".to_owned(),
            sdp: offer.sdp.replace("a=setup:actpass", "a=setup:active"),
            ..offer.clone()
        };
        self.send(ClientMessage::Answer(answer)).await;
    }
}

/// How the home cph-1 is revoked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Revoked {
    /// The institution's policy denies it.
    ByPolicy,
    /// The operator's directory lists it no more.
    ByDirectory,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_home_is_replaced_whatever_epoch_it_signed() {
    use systir_assignment::LAST_EPOCH;
    let cases =
        [(1 << 20, Revoked::ByPolicy), (LAST_EPOCH, Revoked::ByPolicy), (LAST_EPOCH, Revoked::ByDirectory)];
    for (epoch, revoked) in cases {
        let cluster = TestCluster::new();
        cluster.allow_any_nordic_home();
        let successor = cluster.node("sto-1", 5).await;
        let hostile = HostileNode::start(&cluster, "cph-1").await;
        let record = cluster.granted_with("cph-1", epoch, |grant| grant.successor_of = None);
        hostile.tell(&record.grant);
        cluster.store.registry().create(record.clone()).await.unwrap();
        hostile.ask_grant("sto-1", Purpose::Held, &record.grant).await.unwrap();
        assert_eq!(home_of(&successor), ("cph-1".to_owned(), "RM_x".to_owned()));
        let note = match revoked {
            Revoked::ByPolicy => cluster.documents.bundle(2, |bundle| {
                let (denmark, sweden) =
                    (r#"resource.country == Country::"DK""#, r#"resource.country == Country::"SE""#);
                bundle.policy = bundle.policy.replace(denmark, sweden);
            }),
            Revoked::ByDirectory => {
                cluster.documents.directory(2, |directory| directory.nodes.retain(|node| node.id != "cph-1"))
            }
        };
        let _ = successor.parts.documents.take(&note.unwrap()).unwrap();
        let mut anna = TestParticipant::join(&successor, "anna").await;
        assert_eq!(home_of(&successor), ("sto-1".to_owned(), "RM_x".to_owned()), "{revoked:?}");
        let written = cluster.record().unwrap();
        assert_eq!(nodes(Some(&written)), ["sto-1"]);
        assert!(written.epoch <= LAST_EPOCH, "each node reads the record: {}", written.epoch);
        // It does not come back.
        let denied = counted(&successor, "grants_refused", Reason::PolicyDenied);
        let later = cluster.granted_with("cph-1", LAST_EPOCH, |grant| grant.serial = 7).grant;
        let answer = hostile.ask_grant("sto-1", Purpose::Held, &later).await;
        if revoked == Revoked::ByPolicy {
            assert_eq!(cluster.read(&answer.unwrap().grant).home, "sto-1");
            assert_eq!(counted(&successor, "grants_refused", Reason::PolicyDenied), denied + 1);
        } else {
            answer.expect_err("it gets no connection");
        }
        assert_eq!(home_of(&successor).0, "sto-1");
        anna.saw_only(&[]);
        successor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_lists_a_denied_node_opens_nothing_to_it() {
    let cluster = TestCluster::new();
    let sister = cluster.node("sto-1", 5).await;
    let mut hostile = HostileNode::start(&cluster, "cph-1").await;
    let mut denied = HostileNode::start(&cluster, "aws-sto-1").await;
    let record = cluster.granted_with("cph-1", 1, |grant| {
        grant.terms.spill.insert("aws-sto-1".to_owned());
        grant.terms.gateways.insert("aws-sto-1".to_owned());
    });
    hostile.tell(&record.grant);
    hostile.refuses_seats();
    cluster.store.registry().create(record.clone()).await.unwrap();
    let mut anna = TestParticipant::join(&sister, "anna").await;
    assert_eq!(sister.parts.local_load.load().participants, 1);
    hostile.opens_room("sto-1", &record.grant).await;
    hostile.send_assignment("sto-1", &record.grant);
    let named = async {
        while sister.parts.assignments.get(&room()).is_none_or(|known| !known.has("aws-sto-1")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, named).await.expect("the home names the denied node");
    let mut bob = TestParticipant::join(&sister, "bob").await;
    denied.is_refused_room("sto-1", &record.grant).await;
    assert_eq!(denied.reserve("sto-1", &record.grant).await, Err((Reason::PolicyDenied, None)));
    let refused = denied.ask_grant("sto-1", Purpose::Held, &record.grant).await.unwrap_err();
    assert_eq!(refused.reason, Reason::PolicyDenied);
    let eve = grants("eve");
    let ticket = sister.parts.joins.tickets.issue(&record, "sto-1", &eve, 0).unwrap();
    let refused = denied.signal("sto-1", &record.grant, &ticket, &eve).await.err();
    assert!(matches!(refused, Some(CallError::Refused(_))), "{refused:?}");
    assert_eq!((denied.asked(), denied.messages()), (Vec::new(), 0));
    anna.saw_only(&["bob"]);
    bob.saw_only(&["anna"]);
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_the_home_states_forbids_and_never_allows() {
    let cluster = TestCluster::new();
    let sister = cluster.node("sto-1", 5).await;
    let hostile = HostileNode::start(&cluster, "cph-1").await;
    hostile.refuses_seats();
    // By their names the first room is confidential and the second one standard. Only a standard room admits hidden
    // participants.
    for (name, stated) in [("exam-1", "standard"), ("seminar", "confidential")] {
        let room = test_keys::room(name);
        let mut record = cluster.granted_with("cph-1", 1, |grant| {
            grant.room = room.key();
            grant.terms.class = stated.to_owned();
        });
        record.room = room;
        cluster.store.registry().create(record).await.unwrap();
        let join = |hidden| {
            let grants = Grants { hidden, room: name.to_owned(), ..grants("anna") };
            TestParticipant::try_join(&sister, grants)
        };
        assert_eq!(join(true).await.err().map(|refusal| refusal.reason), Some(Reason::NoRule), "{name}");
        join(false).await.unwrap();
    }
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_grants_of_a_home_with_one_number_bind_nobody_to_the_second() {
    let cluster = TestCluster::new();
    let sister = cluster.node("sto-1", 5).await;
    let hostile = HostileNode::start(&cluster, "cph-1").await;
    let first = cluster.granted("cph-1", 1).grant;
    hostile.ask_grant("sto-1", Purpose::Held, &first).await.unwrap();
    let second = cluster.granted_with("cph-1", 1, |grant| grant.terms.gateways.clear()).grant;
    let told = hostile.ask_grant("sto-1", Purpose::Held, &second).await.unwrap().grant;
    assert_eq!(told, first);
    assert_eq!(counted(&sister, "grants_refused", Reason::GrantInvalid), 1);
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_stays_linked_and_does_not_renew_ends_the_room_at_a_spill_node() {
    let cluster = TestCluster::new();
    let mut config = cluster.config("sto-1", 5);
    // The shorter they live, the more often a node looks at the grants that it holds.
    config.policy.grant_seconds = 10;
    let sister = Node::start(config, Arc::new(cluster.store.registry())).await.unwrap();
    let mut hostile = HostileNode::start(&cluster, "cph-1").await;
    hostile.refuses_seats();
    let granted = |serial, life_ms| {
        cluster.granted_with("cph-1", 1, |grant| {
            (grant.serial, grant.not_after_ms) = (serial, grant.issued_ms + life_ms);
        })
    };
    let record = granted(1, MAX_GRANT_LIFE_MS);
    hostile.tell(&record.grant);
    cluster.store.registry().create(record.clone()).await.unwrap();
    let mut anna = TestParticipant::join(&sister, "anna").await;
    let mut bob = TestParticipant::join(&sister, "bob").await;
    anna.until_sees("bob").await;
    for participant in [&mut anna, &mut bob] {
        participant.answer_offer().await;
    }
    hostile.opens_room("sto-1", &record.grant).await;
    assert!(sister.directory.is_up("cph-1"));
    // The last renewal, which ends soon.
    hostile.ask_grant("sto-1", Purpose::Held, &granted(2, 1_000).grant).await.unwrap();
    for participant in [&mut anna, &mut bob] {
        let left = participant.until_leave().await;
        assert_eq!(left, (LeaveAction::Reconnect, DisconnectReason::Migration));
    }
    let closed = |event: &LinkEvent| matches!(event, LinkEvent::RoomClosed { .. });
    if !hostile.receive_all().iter().any(closed) {
        hostile.until("the room closes on the link", closed).await;
    }
    assert!(!hostile.seen.iter().any(|event| matches!(event, LinkEvent::Down { .. })), "it stayed linked");
    // They cannot join again while their home does not renew the grant.
    let refused = TestParticipant::try_join(&sister, grants("anna")).await.err().unwrap();
    assert_eq!(refused.reason, Reason::ApprovedUnavailable, "{refused}");
    let renewed = granted(3, MAX_GRANT_LIFE_MS).grant;
    hostile.ask_grant("sto-1", Purpose::Held, &renewed).await.unwrap();
    let _anna = TestParticipant::join(&sister, "anna").await;
    sister.stop().await;
}
