//! Tickets between a gateway and a media node of one cluster.

use systir_cascade::{CallError, SignalStream};
use systir_documents::{SigningKey, Ticket};
use systir_placement::Demand;
use systir_proto::cluster::v1::SignalStart;
use systir_room::SignedTicket;

use super::*;

/// A cluster whose room cph-1 and sto-1 carry, and its assignment.
async fn carried_room(cluster: &TestCluster) -> Assignment {
    let mut record = cluster.granted("cph-1", 1);
    record.add_spill("sto-1".into(), 1);
    cluster.store.registry().create(record.clone()).await.unwrap();
    record
}

/// cph-1 relays a participant's signalling to sto-1.
async fn relay(home: &Node, ticket: &SignedTicket, claims: &Grants) -> Result<SignalStream, CallError> {
    let start = SignalStart {
        room: room().key(),
        join_id: "anna".to_owned(),
        claims_json: serde_json::to_string(claims).unwrap(),
        grant: home.parts.assignments.get(&room()).unwrap().grant,
        ticket: ticket.note().clone(),
        ..SignalStart::default()
    };
    home.directory.signal("sto-1", start).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_node_admits_only_the_participant_of_a_ticket_that_the_calling_gateway_signed() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    let record = carried_room(&cluster).await;
    let issuer = &home.parts.joins.tickets;
    let anna = grants("anna");
    let ticket = issuer.issue(&record, "sto-1", &anna, 0).unwrap();
    let other_key = SigningKey::from_seed("cph-1", [7; 32]).unwrap();
    let changed = |change: fn(&mut Ticket)| {
        let mut changed = ticket.ticket().clone();
        change(&mut changed);
        SignedTicket::issue(changed, &issuer.key.current()).unwrap()
    };
    let hidden = Grants { hidden: true, ..anna.clone() };
    let admin = Grants { room_admin: true, ..anna.clone() };
    let refused = [
        ("the calling gateway", sister.parts.joins.tickets.issue(&record, "sto-1", &anna, 0).unwrap(), &anna),
        ("its key", SignedTicket::issue(ticket.ticket().clone(), &other_key).unwrap(), &anna),
        ("this media node", issuer.issue(&record, "cph-1", &anna, 0).unwrap(), &anna),
        ("this room", changed(|ticket| ticket.room_sid = "RM_y".to_owned()), &anna),
        (
            "this time",
            changed(|ticket| (ticket.issued_ms, ticket.not_after_ms, ticket.join_number) = (1, 2, 1)),
            &anna,
        ),
        ("this identity", issuer.issue(&record, "sto-1", &grants("eve"), 0).unwrap(), &anna),
        ("these claims", ticket.clone(), &hidden),
        ("these permissions", ticket.clone(), &admin),
    ];
    for (what, ticket, claims) in &refused {
        let refusal = relay(&home, ticket, claims).await.err();
        assert!(matches!(&refusal, Some(CallError::Refused(_))), "not for {what}: {refusal:?}");
    }
    let reasons =
        [Reason::TicketMismatch, Reason::TicketSignature, Reason::TicketNotCurrent, Reason::TicketExceeded];
    let refusals = &sister.parts.metrics.rooms.ticket_refusals;
    let counted: Vec<u64> =
        reasons.iter().map(|reason| refusals.get_or_create(&(*reason).into()).get()).collect();
    assert_eq!(counted, [4, 1, 1, 2]);
    relay(&home, &ticket, &anna).await.unwrap();
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_join_has_a_greater_number_whatever_the_gateways_clock_shows() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 0).await;
    let sister = cluster.node("sto-1", 5).await;
    let _anna = TestParticipant::join(&home, "anna").await;
    let demand = Demand { view_only: false };
    // The media node tells the gateway, whose own room may not know the join.
    let seat = home.parts.admission.admit(&room(), &grants("anna"), &demand, 0).await.unwrap();
    assert_eq!(seat.node, "sto-1");
    let handle = sister.parts.rooms.get(&room()).unwrap();
    assert_eq!(Some(seat.last_join), handle.identity("anna").await.map(|known| known.last_join));
    let ticket = home.parts.joins.tickets.issue(&seat.assignment, "sto-1", &grants("anna"), seat.last_join);
    assert!(ticket.unwrap().ticket().join_number > seat.last_join && seat.last_join > 0);
    home.stop().await;
    sister.stop().await;
}
