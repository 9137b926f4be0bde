//! A node that drains, among whole nodes.

use serde_json::Value;
use systir_drain::{DrainProgress, DrainState};

use super::admission::used;
use super::api::request;
use super::*;

/// Waits until the progress of a node's drain matches.
async fn until_progress(node: &Node, what: &str, matches: impl Fn(&DrainProgress) -> bool) {
    let found = async {
        while !node.drain.progress().is_some_and(|(progress, _)| matches(&progress)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(TIMEOUT, found).await;
    assert!(found.is_ok(), "{what}: {:?}", node.drain.progress());
}

const ASKED: (LeaveAction, DisconnectReason) = (LeaveAction::Reconnect, DisconnectReason::Migration);

fn in_room(room: &str, identity: &str) -> Grants {
    Grants { room: room.to_owned(), ..grants(identity) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_home_hands_its_rooms_over_and_its_participants_reconnect_elsewhere() {
    let cluster = TestCluster::new();
    cluster.allow_any_nordic_home();
    let (cph, sto) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    let first = TestParticipant::join(&cph, "anna").await;
    let before = cluster.record().unwrap();
    // Either may be the room's home.
    let (home, sister) = if before.home == *"cph-1" { (cph, sto) } else { (sto, cph) };
    // One through each gateway.
    let mut anna = TestParticipant::join(&home, "anna").await;
    let mut bob = TestParticipant::join(&sister, "bob").await;
    anna.until_sees("bob").await;
    drop(first);
    assert_eq!((used(&home), used(&sister)), (2, 0));

    home.drain.begin(None, false);
    assert_eq!((anna.until_leave().await, bob.until_leave().await), (ASKED, ASKED));
    drop((anna, bob));
    let after = |known: Option<&Assignment>| known.is_some_and(|known| known.home == *sister.name.as_str());
    cluster.until_record("the new home", after).await;
    let record = cluster.record().unwrap();
    assert_eq!((&record.sid, record.epoch), (&before.sid, before.epoch + 1), "the same room goes on");
    // Whether they come through the other gateway or through this one.
    let mut bob = TestParticipant::join(&sister, "bob").await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    anna.until_sees("bob").await;
    bob.until_sees("anna").await;
    assert_eq!((used(&home), used(&sister)), (0, 2));
    until_progress(&home, "anna came back to this gateway", |progress| progress.came_back == 1).await;
    // A new room finds another home.
    let _chen = TestParticipant::try_join(&home, in_room("new", "chen")).await.unwrap();
    assert_eq!((used(&home), used(&sister)), (0, 3));
    assert!(home.registry.view().node(&home.name).unwrap().draining, "its lease says so");

    home.drain.undo().unwrap();
    assert_eq!(home.drain.progress(), None);
    let dina = SeatApplicant { identity: "dina", elsewhere: 0, join_id: "dina" };
    home.parts.admission.reserve_here(&room(), dina).expect("it gives seats again");
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_whose_signalling_a_draining_gateway_relays_are_asked_to_reconnect() {
    let cluster = TestCluster::new();
    let (home, gateway) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    let mut anna = TestParticipant::join(&home, "anna").await;
    let mut bob = TestParticipant::join(&gateway, "bob").await;
    anna.until_sees("bob").await;
    assert_eq!((used(&home), used(&gateway)), (2, 0));
    gateway.drain.begin(None, true);
    assert_eq!(bob.until_leave().await, ASKED);
    drop(bob);
    tokio::time::timeout(TIMEOUT, gateway.drain.finished()).await.expect("nobody is left");
    let (progress, stops) = gateway.drain.progress().unwrap();
    assert_eq!((progress.state, progress.asked_clients, stops), (DrainState::Drained, 1, true));
    assert!(gateway.drain.undo().is_err(), "the process ends after this drain");
    assert!(!anna.received.iter().any(|message| matches!(message, ServerMessage::Leave(_))));
    home.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_seat_elsewhere_participants_stay_until_the_deadline() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 1).await);
    let mut anna = TestParticipant::join(&home, "anna").await;
    let _bob = TestParticipant::join(&sister, "bob").await;
    anna.until_sees("bob").await;
    assert_eq!((used(&home), used(&sister)), (1, 1));
    let full = |view: &Arc<systir_registry::View>| {
        view.node("sto-1").is_some_and(|lease| lease.load.participants == 1)
    };
    tokio::time::timeout(TIMEOUT, home.registry.watch().wait_for(full)).await.unwrap().unwrap();
    home.drain.begin(None, false);
    until_progress(&home, "anna waits", |progress| progress.wait_for_seats == 1).await;
    assert_eq!(home.drain.progress().unwrap().0.asked_participants, 0);
    let refused = TestParticipant::try_join(&home, grants("chen")).await.err().unwrap();
    assert_eq!(status_and_code(&refused), (403, "approved-full"));
    // No other node may be home: the room keeps it.
    until_progress(&home, "the home role stays", |progress| progress.homes_kept == 1).await;
    home.drain.begin(Some(Duration::ZERO), false);
    assert_eq!(anna.until_leave().await, ASKED);
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_becomes_home_of_no_room_whatever_the_registry_says() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    // The lease does not say it yet.
    home.parts.seats.set_draining(true);
    let refused = TestParticipant::try_join(&sister, grants("anna")).await.err().unwrap();
    assert_eq!(status_and_code(&refused), (503, "no-home"), "only cph-1 may be home");
    let refused = home.parts.admission.become_home(&room(), systir_registry::GrantPurpose::Create).await;
    assert_eq!(refused.unwrap_err().reason, Reason::Draining);
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operators_key_drains_a_node_and_only_the_named_one() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let drain = "POST /systir/v1/drain";
    let (status, why) = request(&node, drain, br#"{"node": "sto-1"}"#).await;
    assert_eq!(status, 421, "{why}");
    for bad in [&b"{}"[..], b"nodes", br#"{"node": "cph-1", "deadline_seconds": 86401}"#] {
        assert_eq!(request(&node, drain, bad).await.0, 400);
    }
    assert_eq!(node.drain.progress(), None);
    let _anna = TestParticipant::join(&node, "anna").await;
    let (status, answer) = request(&node, drain, br#"{"node": "cph-1", "deadline_seconds": 90}"#).await;
    assert_eq!(status, 200, "{answer}");
    until_progress(&node, "it drains", |progress| progress.participants == 1).await;
    let (_, answer) = request(&node, "GET /systir/v1/drain", b"").await;
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&body["node"], &body["stops"]), (&Value::from("cph-1"), &Value::from(false)), "{body}");
    assert!((80..=90).contains(&body["drain"]["seconds_left"].as_u64().unwrap()), "{body}");
    assert_eq!(request(&node, "POST /systir/v1/undrain", br#"{"node": "cph-1"}"#).await.0, 200);
    assert_eq!(node.drain.progress(), None);
    node.stop().await;

    let mut config = cluster.config("sto-1", 5);
    (config.drain.api_key, config.drain.secret) = (Some("ops".to_owned()), Some("a secret".to_owned()));
    let node = Node::start(config, Arc::new(cluster.store.registry())).await.unwrap();
    let (status, why) = request(&node, drain, br#"{"node": "sto-1"}"#).await;
    assert_eq!(status, 401, "a key of an institution: {why}");
    node.stop().await;
    let mut config = cluster.config("aws-sto-1", 5);
    (config.drain.api_key, config.drain.secret) = (None, None);
    let node = Node::start(config, Arc::new(cluster.store.registry())).await.unwrap();
    let (status, why) = request(&node, drain, br#"{"node": "aws-sto-1"}"#).await;
    assert_eq!(status, 403, "{why}");
    node.stop().await;
}
