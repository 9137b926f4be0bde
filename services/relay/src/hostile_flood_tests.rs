//! A hostile spill node that floods a home with forged tickets.

use std::sync::atomic::{AtomicBool, Ordering};

use systir_documents::{SigningKey, Ticket};
use systir_proto::cluster::v1::GrantPurpose as Purpose;
use systir_room::SignedTicket;

use super::hostile_node::HostileNode;
use super::hostile_state::record;
use super::*;

/// Tickets that a key outside the directory signed, each for a participant of its own.
fn forged(ticket: &SignedTicket, gateway: &str, media_node: &str, number: usize) -> SignedTicket {
    let key = SigningKey::from_seed(gateway, [7; 32]).unwrap();
    let said = Ticket {
        gateway: gateway.to_owned(),
        media_node: media_node.to_owned(),
        identity: format!("eve-{number}"),
        participant_sid: format!("PA_eve{number}"),
        ..ticket.ticket().clone()
    };
    SignedTicket::issue(said, &key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_tickets_stops_no_join_and_no_control_of_media() {
    const IN_STATE: usize = 2_000;
    const IN_SIGNALLING: usize = 500;
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 30).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    let mut hostile = HostileNode::start(&cluster, "sto-1").await;
    let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
    hostile.opens_room("cph-1", &held).await;
    let assignment = home.parts.assignments.get(&room()).unwrap();
    let real = home.parts.joins.tickets.issue(&assignment, "sto-1", &grants("eve"), 0).unwrap();
    let hostile = Arc::new(hostile);
    // Both go on until all guests have joined. Each returns how many forged tickets it sent.
    let joined = Arc::new(AtomicBool::new(false));
    let in_state = {
        let (hostile, real, joined) = (hostile.clone(), real.clone(), joined.clone());
        tokio::spawn(async move {
            let mut sent = 0;
            while sent < IN_STATE || !joined.load(Ordering::Relaxed) {
                let forged = record(&forged(&real, "cph-1", "sto-1", sent), 1);
                sent += 1;
                hostile.write_when_possible("cph-1", sent as u64, forged).await;
            }
            // A real one: once the home shows it, all before it are handled.
            hostile.write_when_possible("cph-1", sent as u64 + 1, record(&real, 1)).await;
            sent
        })
    };
    let in_signalling = {
        let (hostile, held, joined) = (hostile.clone(), held.clone(), joined.clone());
        tokio::spawn(async move {
            let mut sent = 0;
            while sent < IN_SIGNALLING || !joined.load(Ordering::Relaxed) {
                let number = sent;
                sent += 1;
                let ticket = forged(&real, "sto-1", "cph-1", number);
                let claims = grants(&ticket.ticket().identity);
                assert!(hostile.signal("cph-1", &held, &ticket, &claims).await.is_err());
            }
            sent
        })
    };
    let mut guests: Vec<TestParticipant> = Vec::new();
    for number in 0..10 {
        let name = format!("guest-{number}");
        let mut guest = TestParticipant::join(&home, &name).await;
        let track =
            livekit_protocol::AddTrackRequest { cid: "mic".to_owned(), muted: true, ..Default::default() };
        guest.send(ClientMessage::AddTrack(track)).await;
        guest.until("its track", |message| matches!(message, ServerMessage::TrackPublished(_))).await;
        if let Some(before) = guests.last_mut() {
            before.until_sees(&name).await;
        }
        guests.push(guest);
    }
    joined.store(true, Ordering::Relaxed);
    let sent = in_state.await.unwrap() + in_signalling.await.unwrap();
    anna.until_sees("eve").await;
    let refusals = &home.parts.metrics.rooms.ticket_refusals;
    let refused = refusals.get_or_create(&Reason::TicketSignature.into()).get();
    assert_eq!(refused, sent as u64);
    let mut expected: Vec<String> = (0..10).map(|number| format!("guest-{number}")).collect();
    expected.push("eve".to_owned());
    anna.until_sees("guest-9").await;
    anna.saw_only(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    home.stop().await;
}
