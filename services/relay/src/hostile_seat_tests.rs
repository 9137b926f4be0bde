//! A hostile node that is asked for a seat before others, or knows the id of a join: it takes and releases no seat that an
//! honest gateway reserved elsewhere, and keeps no participant from the next node.

use systir_admission::ReservationRequest;
use systir_cascade::SignalEvent;
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::SignalStart;

use super::admission::{until_used, used};
use super::hostile_node::HostileNode;
use super::*;

const JOIN: &str = "the id of a join";

/// cph-1 reserves a seat at sto-1 for anna. Returns the room's record.
async fn reserved(cluster: &TestCluster, home: &Node) -> Assignment {
    let record = cluster.granted_with("cph-1", 1, |grant| {
        for listed in [&mut grant.terms.spill, &mut grant.terms.gateways] {
            listed.insert("aws-sto-1".to_owned());
        }
    });
    let request = ReservationRequest {
        room: room(),
        identity: "anna".to_owned(),
        join_id: Some(JOIN.to_owned()),
        grant: record.grant.clone(),
    };
    home.directory.reserve("sto-1", request).await.unwrap();
    record
}

fn start(record: &Assignment, ticket: &systir_room::SignedTicket, claims: &Grants) -> SignalStart {
    SignalStart {
        room: room().key(),
        join_id: JOIN.to_owned(),
        claims_json: serde_json::to_string(claims).unwrap(),
        grant: record.grant.clone(),
        ticket: ticket.note().clone(),
        ..SignalStart::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_released_and_taken_only_by_the_gateway_that_reserved_it() {
    let cluster = TestCluster::new();
    cluster.approve_third_node();
    let (home, sister) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    let mut hostile = HostileNode::start(&cluster, "aws-sto-1").await;
    JOIN.clone_into(&mut hostile.join_id);
    let record = reserved(&cluster, &home).await;
    assert_eq!(used(&sister), 1);
    let sister_address = hostile.address_of("sto-1");
    let release = || wire::ReleaseRequest { room: room().key(), join_id: JOIN.to_owned() };
    hostile.links.release(&sister_address, release()).await.unwrap();
    assert_eq!(used(&sister), 1, "released by another node");
    // Signalling that is refused releases the seat of the caller only, and one that is accepted takes only such a seat.
    let (eve, issuer) = (grants("eve"), cluster.issuer_of("aws-sto-1"));
    let ticket = issuer.issue(&record, "sto-1", &eve, 0).unwrap();
    let other = Grants { hidden: true, ..eve.clone() };
    assert!(hostile.signal("sto-1", &record.grant, &ticket, &other).await.is_err());
    assert_eq!(used(&sister), 1, "released by another node's signalling");
    let _stream = hostile.signal("sto-1", &record.grant, &ticket, &eve).await;
    // A seat of its own with the same id is another one.
    hostile.reserve("sto-1", &record.grant).await.unwrap();
    assert_eq!(used(&sister), 2);
    hostile.links.release(&sister_address, release()).await.unwrap();
    assert_eq!(used(&sister), 1);
    let anna = grants("anna");
    let ticket = home.parts.joins.tickets.issue(&record, "sto-1", &anna, 0).unwrap();
    let mut stream = home.directory.signal("sto-1", start(&record, &ticket, &anna)).await.unwrap();
    let first = tokio::time::timeout(TIMEOUT, stream.rx.recv()).await.unwrap();
    assert!(matches!(first, SignalEvent::Payload(_)), "anna has her seat: {first:?}");
    home.directory.release("sto-1", &room(), JOIN).await;
    assert_eq!(used(&sister), 1, "a seat that is taken is not released by its gateway");
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_releases_the_seat_that_it_reserved() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    reserved(&cluster, &home).await;
    assert_eq!(used(&sister), 1);
    home.directory.release("sto-1", &room(), JOIN).await;
    until_used(&sister, 0).await;
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spill_node_that_says_a_token_has_all_its_connections_keeps_nobody_from_the_next_node() {
    let cluster = TestCluster::new();
    cluster.approve_third_node();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 50).await);
    let mut anna = TestParticipant::join(&home, "anna").await;
    let hostile = HostileNode::start(&cluster, "aws-sto-1").await;
    hostile.refuses_seats_with(wire::RefusalCode::IdentityQuota);
    until_listed(&home, "aws-sto-1").await;
    // Which of two spill nodes is asked first depends on the room's name and on how full they are.
    let mut joined = Vec::new();
    for number in 0..50 {
        let bob = format!("bob-{number}");
        joined.push(TestParticipant::join(&home, &bob).await);
        anna.until_sees(&bob).await;
        if hostile.asked().contains(&"reserve") {
            break;
        }
    }
    assert!(hostile.asked().contains(&"reserve"), "the hostile node was not asked");
    assert_eq!(used(&sister) as usize, joined.len());
    home.stop().await;
    sister.stop().await;
}

/// Waits until a node has read the lease of another one.
async fn until_listed(node: &Node, other: &str) {
    let mut view = node.parts.assignments.registry().watch();
    let listed = view.wait_for(|view| view.node(other).is_some());
    assert!(tokio::time::timeout(TIMEOUT, listed).await.is_ok_and(|listed| listed.is_ok()));
}
