//! A hostile spill node on the open link of a room that it carries: what it writes of participants, and what it gets when
//! it lost its role.

use systir_cascade::{LinkEvent, RoomBody, SignalEvent};
use systir_proto::cluster::v1::{GrantPurpose as Purpose, SignalEndReason};
use systir_room::{ParticipantRecord, ParticipantVersion, RecordState, SignedTicket, Update};
use systir_room_tag::test_keys;

use super::hostile_node::HostileNode;
use super::hostile_node_tests::until_counted;
use super::*;

/// A room with anna and chen in Copenhagen, and bob and dora on the hostile node sto-1.
struct HostileSpill {
    home: Node,
    hostile: HostileNode,
    held: String,
    anna: TestParticipant,
    chen: TestParticipant,
    bob: SignedTicket,
    dora: SignedTicket,
    /// The clients of bob and dora.
    pipes: Vec<SignalPipe>,
    /// Writes of dora.
    written: u32,
}

fn info(ticket: &SignedTicket) -> livekit_protocol::ParticipantInfo {
    let ticket = ticket.ticket();
    livekit_protocol::ParticipantInfo {
        sid: ticket.participant_sid.clone(),
        identity: ticket.identity.clone(),
        permission: Some(grants(&ticket.identity).permission()),
        ..Default::default()
    }
}

/// The record of the participant of a ticket.
pub(super) fn record(ticket: &SignedTicket, counter: u32) -> ParticipantRecord {
    let said = ticket.ticket();
    ParticipantRecord {
        sid: said.participant_sid.clone(),
        identity: said.identity.clone(),
        version: ParticipantVersion { epoch: said.join_number, counter },
        state: RecordState::Live(info(ticket).encode_to_vec().into()),
        ticket: Some(ticket.note().clone()),
    }
}

impl HostileSpill {
    async fn new(cluster: &TestCluster) -> Self {
        let home = cluster.node("cph-1", 2).await;
        let (mut anna, chen) =
            (TestParticipant::join(&home, "anna").await, TestParticipant::join(&home, "chen").await);
        anna.until_sees("chen").await;
        let mut hostile = HostileNode::start(cluster, "sto-1").await;
        let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
        hostile.tell(&held);
        let mut pipes = Vec::new();
        for identity in ["bob", "dora"] {
            let joiner =
                Joiner { grants: grants(identity), client: Default::default(), auto_subscribe: true };
            pipes.push(home.parts.joins.join(joiner).await.unwrap());
        }
        let (bob, dora) = (hostile.ticket_of("bob").await, hostile.ticket_of("dora").await);
        hostile.opens_room("cph-1", &held).await;
        for ticket in [&bob, &dora] {
            hostile.write("cph-1", "sto-1", record(ticket, 1));
        }
        let mut room = Self { home, hostile, held, anna, chen, bob, dora, pipes, written: 1 };
        for participant in [&mut room.anna, &mut room.chen] {
            participant.until_sees("bob").await;
            participant.until_sees("dora").await;
        }
        room
    }

    /// Writes dora again, and waits until anna and chen see that: what was sent before is handled.
    async fn until_handled(&mut self) {
        self.written += 1;
        let metadata = self.written.to_string();
        let mut written = record(&self.dora, self.written);
        let info = livekit_protocol::ParticipantInfo { metadata: metadata.clone(), ..info(&self.dora) };
        written.state = RecordState::Live(info.encode_to_vec().into());
        self.hostile.write("cph-1", "sto-1", written);
        for participant in [&mut self.anna, &mut self.chen] {
            let last = |message: &ServerMessage| match message {
                ServerMessage::Update(update) => {
                    update.participants.iter().any(|one| one.metadata == metadata)
                }
                _ => false,
            };
            participant.until("dora's last update", last).await;
        }
    }

    fn tickets_refused(&self, reason: Reason) -> u64 {
        self.home.parts.metrics.rooms.ticket_refusals.get_or_create(&reason.into()).get()
    }

    fn refused(&self, reason: Reason) -> u64 {
        self.home.parts.metrics.rooms.link_refusals.get_or_create(&reason.into()).get()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spill_node_can_show_only_the_participants_that_a_gateway_gave_it() {
    let cluster = TestCluster::new();
    cluster.deny_gateways_outside_denmark();
    let mut room = HostileSpill::new(&cluster).await;
    let assignment = room.home.parts.assignments.get(&super::room()).unwrap();
    let own = cluster.issuer_of("sto-1");
    let of_own = own.issue(&assignment, "sto-1", &grants("eve"), 0).unwrap();
    let annas = room.hostile.ticket_in_state_of("anna").await;
    // Bob's ticket with another participant in it.
    let note = String::from_utf8(room.bob.note().to_vec()).unwrap();
    let sid = room.bob.ticket().participant_sid.clone();
    let altered = note.replace(&sid, "PA_eve").replace(" bob\n", " eve\n");
    let eve = ParticipantRecord {
        sid: "PA_eve".to_owned(),
        identity: "eve".to_owned(),
        state: RecordState::Live(
            livekit_protocol::ParticipantInfo {
                sid: "PA_eve".to_owned(),
                identity: "eve".to_owned(),
                ..info(&room.bob)
            }
            .encode_to_vec()
            .into(),
        ),
        ..record(&room.bob, 1)
    };
    let renamed = ParticipantRecord { identity: "anna".to_owned(), ..record(&room.bob, 5) };
    let shown_as_other = ParticipantRecord {
        state: RecordState::Live(
            livekit_protocol::ParticipantInfo { identity: "anna".to_owned(), ..info(&room.bob) }
                .encode_to_vec()
                .into(),
        ),
        ..record(&room.bob, 6)
    };
    let with_more = ParticipantRecord {
        state: RecordState::Live(
            livekit_protocol::ParticipantInfo {
                permission: Some(livekit_protocol::ParticipantPermission {
                    hidden: true,
                    ..grants("bob").permission()
                }),
                ..info(&room.bob)
            }
            .encode_to_vec()
            .into(),
        ),
        ..record(&room.bob, 7)
    };
    let refused = [
        (ParticipantRecord { ticket: None, ..eve.clone() }, Reason::TicketMissing),
        (record(&of_own, 1), Reason::TicketGateway),
        (record(&annas, u32::MAX), Reason::TicketMismatch),
        (ParticipantRecord { ticket: Some(room.bob.note().clone()), ..eve.clone() }, Reason::TicketMismatch),
        (ParticipantRecord { ticket: Some(altered.into()), ..eve }, Reason::TicketSignature),
        (renamed, Reason::TicketMismatch),
        (shown_as_other, Reason::TicketMismatch),
        (with_more, Reason::TicketExceeded),
    ];
    for (record, reason) in refused {
        let before = room.tickets_refused(reason);
        room.hostile.write("cph-1", "sto-1", record.clone());
        room.until_handled().await;
        assert_eq!(room.tickets_refused(reason), before + 1, "{reason}: {record:?}");
    }
    // In the name of the home.
    for state in [RecordState::Removed, record(&annas, 9).state] {
        let before = room.refused(Reason::StateOwnNode);
        room.hostile.write("cph-1", "cph-1", ParticipantRecord { state, ..record(&annas, 9) });
        room.until_handled().await;
        assert_eq!(room.refused(Reason::StateOwnNode), before + 1);
    }
    for (participant, other) in [(&mut room.anna, "chen"), (&mut room.chen, "anna")] {
        participant.saw_only(&[other, "bob", "dora"]);
    }
    room.home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_left_is_not_shown_again_with_its_real_ticket() {
    let cluster = TestCluster::new();
    let mut room = HostileSpill::new(&cluster).await;
    let bob = room.bob.clone();
    let left = ParticipantRecord { state: RecordState::Removed, ticket: None, ..record(&bob, 2) };
    room.hostile.write("cph-1", "sto-1", left);
    room.until_handled().await;
    room.anna.received.clear();
    let before = room.tickets_refused(Reason::TicketReplayed);
    room.hostile.write("cph-1", "sto-1", record(&bob, 3));
    room.until_handled().await;
    // After the room opened anew, too.
    let held = room.held.clone();
    room.hostile.close_room("cph-1");
    room.hostile.opens_room("cph-1", &held).await;
    room.hostile.write("cph-1", "sto-1", record(&bob, 4));
    room.written += 10;
    room.until_handled().await;
    assert_eq!(room.tickets_refused(Reason::TicketReplayed), before + 2);
    assert!(!room.anna.identities_seen().contains("bob"), "{:?}", room.anna.received);
    room.home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_node_is_told_that_the_client_left_its_gateway() {
    let cluster = TestCluster::new();
    let mut room = HostileSpill::new(&cluster).await;
    let clients = std::mem::take(&mut room.pipes).len();
    let (_, ends) = room.hostile.signalling_until_its_end().await;
    let left = SignalEvent::End {
        reason: SignalEndReason::ClientGone,
        detail: "the client's WebSocket closed".to_owned(),
    };
    assert_eq!(ends, vec![left; clients]);
    assert!(clients > 0);
    room.home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spill_node_that_lost_its_role_gets_and_gives_nothing_more() {
    let cluster = TestCluster::new();
    let mut room = HostileSpill::new(&cluster).await;
    // Only Denmark is left for spill nodes.
    cluster.publish_rules(2, |rules| {
        rules.replacen(r#"resource.country in Zone::"Nordic""#, r#"resource.country == Country::"DK""#, 1)
    });
    let closed = |event: &LinkEvent| {
        matches!(event, LinkEvent::RoomClosed { .. } | LinkEvent::RoomRefused { .. } | LinkEvent::Down { .. })
    };
    room.hostile.until("the room closes", closed).await;
    let before = room.hostile.messages();
    // The gateway asks its clients to reconnect, and sends nothing more of their signalling.
    for pipe in &mut room.pipes {
        let last = tokio::time::timeout(TIMEOUT, pipe.from_media.recv()).await.unwrap();
        let Some(ServerMessage::Leave(leave)) = last.and_then(|response| response.message) else {
            panic!("the gateway sent no leave")
        };
        assert_eq!(leave.action(), LeaveAction::Reconnect);
        // The client has not read that yet.
        let more = ClientMessage::UpdateMetadata(livekit_protocol::UpdateParticipantMetadata {
            metadata: "after the change".to_owned(),
            ..Default::default()
        });
        let _ = pipe.to_media.send(Box::new(SignalRequest { message: Some(more) })).await;
    }
    let (sent, _) = room.hostile.signalling_until_its_end().await;
    assert_eq!(sent, [], "signalling to a node that policy denies");
    // It asks again, with the grant of before.
    let held = room.held.clone();
    room.hostile.is_refused_room("cph-1", &held).await;
    let mut eve = TestParticipant::try_join(&room.home, grants("chen")).await.unwrap();
    room.anna.received.clear();
    let metadata = "after the change".to_owned();
    eve.send(ClientMessage::UpdateMetadata(livekit_protocol::UpdateParticipantMetadata {
        metadata: metadata.clone(),
        ..Default::default()
    }))
    .await;
    let sees = |message: &ServerMessage| match message {
        ServerMessage::Update(update) => update.participants.iter().any(|one| one.metadata == metadata),
        _ => false,
    };
    room.anna.until("the update", sees).await;
    room.hostile.is_refused_room("cph-1", &held).await;
    assert_eq!(room.hostile.messages(), before, "nothing of the room was sent");
    eve.until_sees("anna").await;
    assert!(!eve.identities_seen().contains("bob"), "{:?}", eve.received);
    let assignment = room.home.parts.assignments.get(&super::room()).unwrap();
    assert_eq!(nodes(Some(&assignment)), ["cph-1"]);
    room.home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_does_not_exist_is_not_opened_nor_one_with_the_grant_of_another_room() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 5).await;
    let mut hostile = HostileNode::start(&cluster, "sto-1").await;
    let reason = hostile.is_refused_room("cph-1", "").await;
    assert!(reason.contains("does not list"), "a room that does not exist: {reason}");
    let mut anna = TestParticipant::join(&home, "anna").await;
    let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
    let grant = cluster.read(&held);
    let other = cluster.granted_with("cph-1", 9, |other| {
        other.room = test_keys::room("seminar").key();
        other.sid.clone_from(&grant.sid);
    });
    let reason = hostile.is_refused_room("cph-1", &other.grant).await;
    assert!(reason.contains("another room"), "{reason}");
    assert_eq!(hostile.messages(), 0);
    anna.saw_only(&[]);
    assert!(!home.directory.links().unwrap().list().iter().any(|link| !link.rooms.is_empty()));
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_node_that_carries_nobody_gets_nothing_of_a_room() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 5).await;
    let (mut anna, chen) =
        (TestParticipant::join(&home, "anna").await, TestParticipant::join(&home, "chen").await);
    anna.until_sees("chen").await;
    let mut hostile = HostileNode::start(&cluster, "sto-1").await;
    let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
    hostile.opens_room("cph-1", &held).await;
    hostile.send("cph-1", RoomBody::Ticket("no ticket".into()));
    until_counted(&home, "ticket_refusals", Reason::TicketMalformed, 0).await;
    chen.send(ClientMessage::UpdateMetadata(livekit_protocol::UpdateParticipantMetadata {
        metadata: "new".to_owned(),
        ..Default::default()
    }))
    .await;
    let sees = |message: &ServerMessage| match message {
        ServerMessage::Update(update) => update.participants.iter().any(|one| one.metadata == "new"),
        _ => false,
    };
    anna.until("the update", sees).await;
    // With the ticket of a participant that a gateway placed there, it gets the room.
    let assignment = home.parts.assignments.get(&room()).unwrap();
    let bob = home.parts.joins.tickets.issue(&assignment, "sto-1", &grants("bob"), 0).unwrap();
    hostile.send("cph-1", RoomBody::Ticket(bob.note().clone()));
    hostile.ticket_in_state_of("anna").await;
    // The messages of a link are in order: the first one about participants is the snapshot after the ticket.
    let first = hostile.seen.iter().find_map(|event| match event {
        LinkEvent::Message { body: RoomBody::Assignment(_) | RoomBody::Links(_), .. } => None,
        LinkEvent::Message { body, .. } => Some(body.clone()),
        _ => None,
    });
    let Some(RoomBody::StateUpdate(first)) = first else { panic!("{first:?}") };
    let records = first.updates.iter().flat_map(|update| match systir_room::wire::decode(update) {
        Some(Update::Snapshot { records, .. }) => records,
        other => panic!("no snapshot: {other:?}"),
    });
    let metadata = records.filter_map(|record| match record.state {
        RecordState::Live(body) => {
            livekit_protocol::ParticipantInfo::decode(body).ok().map(|info| info.metadata)
        }
        _ => None,
    });
    assert!(
        metadata.into_iter().any(|metadata| metadata == "new"),
        "it got the room before it showed a ticket"
    );
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_that_changes_after_the_reservation_sends_no_participant_to_a_denied_node() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 1).await;
    let _anna = TestParticipant::join(&home, "anna").await;
    let hostile = HostileNode::start(&cluster, "sto-1").await;
    let answer = hostile.answers_later();
    let joins = home.parts.joins.clone();
    let mut changes = joins.policy_changes.clone();
    let bob = tokio::spawn(async move {
        let joiner = Joiner { grants: grants("bob"), client: Default::default(), auto_subscribe: true };
        joins.join(joiner).await.map(drop)
    });
    hostile.until_asked("reserve").await;
    cluster.publish_rules(2, |rules| {
        rules.replacen(r#"resource.country in Zone::"Nordic""#, r#"resource.country == Country::"DK""#, 1)
    });
    tokio::time::timeout(TIMEOUT, changes.changed()).await.unwrap().unwrap();
    answer.send(()).unwrap();
    let refused = bob.await.unwrap().unwrap_err();
    let denied = refused.reason == Reason::PolicyDenied || refused.reason.is_policy_denial();
    assert!(denied || refused.reason.is_about_a_grant(), "{refused:?}");
    assert!(!hostile.asked().contains(&"signal"), "{:?}", hostile.asked());
    home.stop().await;
}
