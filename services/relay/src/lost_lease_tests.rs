//! A node that runs and has links, but whose lease lapsed or was deleted.

use systir_placement::Demand;
use systir_room_runtime::{CleanUp, PeerLinks};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_spill_node_without_a_lease_stays_in_the_record_while_its_link_stands() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let mut anna = TestParticipant::join(&home, "anna").await;
    let _bob = TestParticipant::join(&home, "bob").await;
    anna.until_sees("bob").await;
    assert!(PeerLinks::has_link(&*home.directory, "sto-1"));
    let both = |known: Option<&Assignment>| nodes(known) == ["cph-1", "sto-1"];
    cluster.until_record("the record with both nodes", both).await;
    sister.registry.retire().await;
    // Spill nodes that are offline, or that an attacker added, are removed.
    let registry = cluster.store.registry();
    let known = registry.assignment(&room()).unwrap();
    let mut wanted = known.value.clone();
    for node in ["gone-1", "aws-sto-1"] {
        wanted.add_spill(node.into(), 2);
    }
    let node = cluster.node("aws-sto-1", 5).await;
    registry.update(&known, wanted).await.unwrap();
    let when = CleanUp { interval: Duration::from_millis(20), stale_after: Duration::from_millis(200) };
    let cleaning = tokio::spawn(home.parts.rooms.clone().clean_up(when));
    let cleaned =
        |known: Option<&Assignment>| !nodes(known).iter().any(|node| ["gone-1", "aws-sto-1"].contains(node));
    cluster.until_record("the record without them", cleaned).await;
    tokio::time::sleep(2 * when.stale_after).await;
    assert_eq!(nodes(cluster.record().as_ref()), ["cph-1", "sto-1"]);
    cleaning.abort();
    for node in [home, sister, node] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_asks_a_home_without_a_lease_before_it_lets_another_node_take_over() {
    let cluster = TestCluster::new();
    cluster.allow_any_nordic_home();
    let home = cluster.node("cph-1", 5).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    // It never had a link to the home.
    let gateway = cluster.node("sto-1", 5).await;
    home.registry.retire().await;
    let before = cluster.record().unwrap();
    assert_eq!(nodes(Some(&before)), ["cph-1"]);
    let validated = gateway.parts.admission.would_admit(&room(), &grants("bob"), &Demand::default(), 0).await;
    validated.expect("/rtc/validate asks the home too");
    let mut bob = TestParticipant::join(&gateway, "bob").await;
    anna.until_sees("bob").await;
    bob.until_sees("anna").await;
    assert_eq!(cluster.record(), Some(before), "nobody took over");
    home.stop().await;
    gateway.stop().await;
}
