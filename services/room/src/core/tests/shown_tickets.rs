//! A node gets the room's state and media only while it carries a participant. The home gets them by the grant.

use systir_media_control::WorkerCommand;
use systir_proto::cluster::v1 as wire;

use super::*;

const HOME: usize = 0;
const SPILL: usize = 1;

impl Network {
    /// How many messages of this kind one node sent to another.
    fn sent(&self, from: usize, to: usize, body: &Message) -> usize {
        let line = format!("{} {} {:?} ", NODES[from], to, std::mem::discriminant(body));
        self.trace.iter().filter(|sent| sent.starts_with(&line)).count()
    }

    fn states_sent(&self, from: usize, to: usize) -> usize {
        self.sent(from, to, &Message::StateUpdate(wire::StateUpdate::default()))
    }

    /// Delivers all messages, of a room too that is opened again so that subscriptions are made again.
    fn settle_reopened(&mut self) {
        self.settle();
        self.advance(2_000);
        self.settle();
    }

    fn message(&mut self, from: usize, to: usize, body: Message) {
        self.input(to, RoomInput::Link(RoomLinkEvent::Message { node: NODES[from].to_owned(), body }));
    }

    /// A ticket of a participant at sto-1, that cph-1 as its gateway issued.
    fn note_of(&mut self, identity: &str) -> Ticket {
        self.ticket(SPILL, "cph-1", &grants(identity))
    }

    fn show(&mut self, ticket: Ticket) {
        let note = signed(ticket).note().clone();
        self.message(SPILL, HOME, Message::Ticket(note));
    }

    /// The spill node subscribes to a track that anna publishes at the home. Is it fed?
    fn subscribe(&mut self, flow: u32) -> bool {
        let core = &mut self.nodes[HOME].core;
        let anna = core.local_participants.values().next().unwrap().sid.clone();
        let key = core.config.keys.track();
        let spec = systir_media_control::TrackSpec {
            kind: systir_rtp::packet::Kind::Audio,
            codec: systir_rtp::packet::Codec::Opus,
            layers: systir_rtp::packet::LayerSet::NONE.with(Layer(0)),
        };
        core.tracks.insert(tracks::TrackEntry {
            key,
            sid: "TR_anna".to_owned(),
            publisher: anna,
            node: NODES[HOME].to_owned(),
            spec,
            flows: None,
            wanted: Default::default(),
        });
        let wanted = wire::Subscribe { track_sid: "TR_anna".to_owned(), layer: 0, flow };
        let (now, mut fed) = (self.now, false);
        let core = &mut self.nodes[HOME].core;
        let body = Message::Subscribe(wanted);
        core.handle(RoomInput::Link(RoomLinkEvent::Message { node: NODES[SPILL].to_owned(), body }), now);
        core.flush_to_worker(|request| {
            fed |= matches!(
                request,
                WorkerRequest::Command(WorkerCommand::Feed { flow: Some(asked), .. }) if asked == flow
            );
            Ok(())
        });
        fed
    }
}

/// Anna is at the home; nobody is at the spill nodes, to which the room is open.
fn lecture() -> Network {
    let mut network = Network::new(51);
    network.arrive(HOME, "cph-1", grants("anna"));
    network.settle();
    network
}

#[test]
fn a_spill_node_without_participants_gets_neither_state_nor_media() {
    let mut network = lecture();
    assert_eq!(network.states_sent(HOME, SPILL), 0);
    assert!(!network.subscribe(7));
    assert_eq!(network.refusals_at(HOME, Reason::TicketMissing), 1);
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle_reopened();
    assert!(network.states_sent(HOME, SPILL) > 0);
    assert!(participants(&network.nodes[SPILL]).contains_key("anna"));
    assert!(network.subscribe(8));
}

#[test]
fn only_a_valid_ticket_of_its_own_participant_entitles_a_spill_node() {
    let mut network = lecture();
    let with = |network: &mut Network, change: &dyn Fn(&mut Ticket)| {
        let mut ticket = network.note_of("eve");
        change(&mut ticket);
        network.show(ticket);
    };
    let exam = test_keys::room("exam").key();
    with(&mut network, &|ticket| ticket.room = exam.clone());
    with(&mut network, &|ticket| ticket.media_node = "osl-1".to_owned());
    assert_eq!(network.refusals_at(HOME, Reason::TicketMismatch), 2);
    with(&mut network, &|ticket| ticket.gateway = "aws-sto-1".to_owned());
    assert_eq!(network.refusals_at(HOME, Reason::TicketGateway), 1);
    let now = network.now.unix_ms;
    with(&mut network, &|ticket| {
        (ticket.issued_ms, ticket.not_after_ms, ticket.join_number) = (now - 10, now, now - 10);
    });
    assert_eq!(network.refusals_at(HOME, Reason::TicketExpired), 1);
    let forged = SignedTicket::issue(network.note_of("eve"), &key_of("sto-1")).unwrap();
    network.message(SPILL, HOME, Message::Ticket(forged.note().clone()));
    assert_eq!(network.refusals_at(HOME, Reason::TicketSignature), 1);
    network.message(SPILL, HOME, Message::Ticket("no ticket".into()));
    assert_eq!(network.refusals_at(HOME, Reason::TicketMalformed), 1);
    assert_eq!(network.states_sent(HOME, SPILL), 0);
    with(&mut network, &|_| ());
    assert_eq!(network.states_sent(HOME, SPILL), 1);
}

#[test]
fn a_spill_node_whose_last_participant_left_gets_no_more_and_forgets_the_others() {
    let mut network = lecture();
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle();
    let bob = *network.nodes[SPILL].clients.keys().next().unwrap();
    network.input(SPILL, RoomInput::SignalClosed(bob));
    network.settle();
    assert!(participants(&network.nodes[SPILL]).is_empty());
    let sent = network.states_sent(HOME, SPILL);
    network.arrive(HOME, "cph-1", grants("chen"));
    network.settle();
    assert_eq!(network.states_sent(HOME, SPILL), sent);
    assert!(!network.subscribe(7));
    network.arrive(SPILL, "cph-1", grants("dina"));
    network.settle_reopened();
    let known = participants(&network.nodes[SPILL]);
    assert_eq!(known.keys().collect::<Vec<_>>(), ["anna", "chen", "dina"]);
    assert!(network.subscribe(8));
}

#[test]
fn a_spill_node_that_says_nothing_gets_the_room_no_longer_than_its_tickets_last() {
    let mut network = lecture();
    let mut ticket = network.note_of("eve");
    ticket.not_after_ms = ticket.issued_ms + 5_000;
    network.show(ticket.clone());
    assert!(network.subscribe(7));
    network.advance(6_000);
    let sent = network.states_sent(HOME, SPILL);
    network.arrive(HOME, "cph-1", grants("chen"));
    network.settle();
    assert_eq!(network.states_sent(HOME, SPILL), sent);
    assert!(!network.subscribe(8));
    network.show(ticket);
    assert_eq!(network.states_sent(HOME, SPILL), sent);
}

#[test]
fn a_node_that_says_it_carries_nobody_cannot_keep_participants_in_the_room() {
    let mut network = lecture();
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle();
    assert!(participants(&network.nodes[HOME]).contains_key("bob"));
    network.message(SPILL, HOME, Message::Ticket(bytes::Bytes::new()));
    assert!(!participants(&network.nodes[HOME]).contains_key("bob"));
    assert!(!network.subscribe(7));
}

#[test]
fn a_spill_node_gets_the_room_again_with_a_renewed_ticket_and_its_feeds_too() {
    let mut network = lecture();
    let mut ticket = network.ticket(SPILL, "cph-1", &grants("bob"));
    ticket.not_after_ms = ticket.issued_ms + 5_000;
    network.arrive_with(SPILL, grants("bob"), ticket.clone());
    network.settle();
    // The home does not get the renewed ticket in time.
    network.now.instant += Duration::from_secs(6);
    network.now.unix_ms += 6_000;
    network.run_effects(HOME);
    assert!(!participants(&network.nodes[HOME]).contains_key("bob"));
    let issued_ms = network.now.unix_ms;
    let renewed = Ticket { issued_ms, not_after_ms: issued_ms + 600_000, ..ticket };
    let (participant, note) =
        (*network.nodes[SPILL].clients.keys().next().unwrap(), signed(renewed).note().clone());
    network.input(SPILL, RoomInput::Ticket { participant, note });
    network.settle_reopened();
    assert!(participants(&network.nodes[HOME]).contains_key("bob"));
    assert!(participants(&network.nodes[SPILL]).contains_key("anna"));
    assert!(network.subscribe(9));
}

#[test]
fn the_home_gets_the_room_without_a_ticket_and_shows_none() {
    let mut network = Network::new(52);
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle();
    assert!(participants(&network.nodes[HOME]).contains_key("bob"));
    let ticket = Message::Ticket(bytes::Bytes::new());
    assert_eq!(network.sent(HOME, SPILL, &ticket), 0);
    // One that says "nobody" when the room opened, and bob's.
    assert_eq!(network.sent(SPILL, HOME, &ticket), 2);
}

#[test]
fn two_spill_nodes_that_carry_participants_get_each_others_state() {
    let mut network = Network::new(53);
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle();
    assert_eq!(network.states_sent(SPILL, 2), 0, "osl-1 carries nobody");
    network.arrive(2, "cph-1", grants("chen"));
    network.settle();
    for index in [SPILL, 2] {
        assert_eq!(participants(&network.nodes[index]).keys().collect::<Vec<_>>(), ["bob", "chen"]);
    }
}

#[test]
fn a_flood_of_messages_that_it_carries_nobody_costs_the_worker_nothing() {
    let mut network = lecture();
    let mut commands = 0;
    for _ in 0..1_000 {
        let now = network.now;
        let core = &mut network.nodes[HOME].core;
        let body = Message::Ticket(bytes::Bytes::new());
        core.handle(RoomInput::Link(RoomLinkEvent::Message { node: NODES[SPILL].to_owned(), body }), now);
        core.flush_to_worker(|_| {
            commands += 1;
            Ok(())
        });
    }
    assert_eq!(commands, 0);
    assert_eq!(network.states_sent(HOME, SPILL), 0);
}

#[test]
fn a_home_that_says_it_carries_nobody_gets_one_snapshot_a_second_at_most() {
    let mut network = Network::new(54);
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle();
    let sent = network.states_sent(SPILL, HOME);
    for _ in 0..100 {
        network.message(HOME, SPILL, Message::Ticket(bytes::Bytes::new()));
        network.message(HOME, SPILL, Message::StateUpdate(wire::StateUpdate::default()));
    }
    assert_eq!(network.states_sent(SPILL, HOME), sent);
    network.advance(1_100);
    assert_eq!(network.states_sent(SPILL, HOME), sent + 1, "a home gets the room by the grant");
}

#[test]
fn a_subscription_before_a_ticket_is_made_again_once_the_node_gets_the_room() {
    let mut network = lecture();
    assert!(!network.subscribe(7));
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle_reopened();
    assert!(participants(&network.nodes[SPILL]).contains_key("anna"));
    let peer = &network.nodes[HOME].core.peers[NODES[SPILL]];
    assert!(peer.gets_state && !peer.feeds_lost);
}

#[test]
fn a_node_whose_first_ticket_is_refused_gets_the_room_with_the_next_one() {
    let mut network = lecture();
    network.replace_policy(HOME, &with_rule(policy_changes::NO_GATEWAY_IN_SWEDEN));
    network.arrive(SPILL, "sto-1", grants("bob"));
    network.settle();
    assert_eq!(network.states_sent(HOME, SPILL), 0);
    assert!(network.refusals_at(HOME, Reason::TicketGateway) > 0);
    network.arrive(SPILL, "cph-1", grants("chen"));
    network.settle();
    assert!(participants(&network.nodes[SPILL]).contains_key("anna"));
}

#[test]
fn participants_of_a_room_that_its_home_made_anew_join_again() {
    let mut network = lecture();
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle();
    network.input(SPILL, RoomInput::Cluster(view_of(made_anew())));
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["bob".to_owned()]));
}
