//! The life of tickets between honest nodes: renewal, expiry, and gateways that lose their right.

use systir_documents::{TICKET_RENEWAL_MS, Ticket};

use super::*;

impl Network {
    /// A participant with a ticket of so many milliseconds joins at a node through cph-1. Returns the ticket.
    fn arrive_for(&mut self, index: usize, identity: &str, life_ms: u64) -> Ticket {
        let mut ticket = self.ticket(index, "cph-1", &grants(identity));
        ticket.not_after_ms = ticket.issued_ms + life_ms;
        self.arrive_with(index, grants(identity), ticket.clone());
        self.settle();
        ticket
    }

    fn key_at(&self, index: usize) -> ParticipantKey {
        *self.nodes[index].clients.keys().next().unwrap()
    }

    fn renew(&mut self, index: usize, ticket: &Ticket) {
        let (participant, note) = (self.key_at(index), signed(ticket.clone()).note().clone());
        self.input(index, RoomInput::Ticket { participant, note });
        self.settle();
    }

    fn sees(&self, index: usize, identity: &str) -> bool {
        participants(&self.nodes[index]).contains_key(identity)
    }
}

/// The ticket, issued again now.
fn renewed(network: &Network, ticket: &Ticket, life_ms: u64) -> Ticket {
    let issued_ms = network.now.unix_ms;
    Ticket { issued_ms, not_after_ms: issued_ms + life_ms, ..ticket.clone() }
}

#[test]
fn a_participant_whose_ticket_is_not_renewed_leaves() {
    let mut network = Network::new(31);
    network.arrive_for(1, "bob", 5_000);
    assert!(network.sees(0, "bob"));
    // Its media node is late: the other one does not wait for it.
    network.now.instant += Duration::from_secs(6);
    network.now.unix_ms += 6_000;
    network.run_effects(0);
    assert!(!network.sees(0, "bob") && network.sees(1, "bob"));
    assert_eq!(network.refusals_at(0, Reason::TicketExpired), 1);
    network.run_effects(1);
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["bob".to_owned()]));
    assert!(!network.sees(1, "bob"));
}

#[test]
fn a_renewed_ticket_keeps_a_participant_on_all_nodes() {
    let mut network = Network::new(32);
    network.arrive(2, "cph-1", grants("chen"));
    let ticket = network.arrive_for(1, "bob", 5_000);
    network.advance(3_000);
    let written = network.trace.len();
    let next = renewed(&network, &ticket, 5_000);
    network.renew(1, &next);
    assert!(network.trace.len() > written, "the renewed ticket is sent to other nodes");
    network.advance(3_000);
    for (index, node) in NODES.iter().enumerate() {
        assert!(network.sees(index, "bob"), "{node}");
    }
    // One that did not get it in time shows the participant again once it gets one.
    network.now.instant += Duration::from_secs(3);
    network.now.unix_ms += 3_000;
    network.run_effects(0);
    assert!(!network.sees(0, "bob"));
    let next = renewed(&network, &ticket, 5_000);
    network.renew(1, &next);
    assert!(network.sees(0, "bob"));
}

#[test]
fn a_node_that_comes_late_sees_participants_of_a_gateway_whose_clock_is_almost_5_min_off() {
    const OFF_MS: u64 = 290_000;
    let mut network = Network::new(38);
    let now = network.now.unix_ms;
    // By a clock that is behind, and seen just before it is renewed; and by a clock that is ahead.
    let issued = [("anna", now - OFF_MS - TICKET_RENEWAL_MS.end + 1_000), ("bob", now + OFF_MS)];
    for (identity, issued_ms) in issued {
        let ticket = network.ticket(1, "cph-1", &grants(identity));
        let ticket =
            Ticket { issued_ms, not_after_ms: issued_ms + 600_000, join_number: issued_ms, ..ticket };
        network.arrive_with(1, grants(identity), ticket);
    }
    network.settle();
    network.arrive(2, "osl-1", grants("chen"));
    network.settle();
    for (index, node) in NODES.iter().enumerate() {
        for identity in ["anna", "bob", "chen"] {
            assert!(network.sees(index, identity), "{node} does not see {identity}");
        }
    }
}

#[test]
fn a_renewed_ticket_that_says_something_else_is_refused() {
    let mut network = Network::new(33);
    let ticket = network.arrive_for(1, "bob", 5_000);
    network.advance(1_000);
    network.renew(1, &Ticket { hidden: true, ..renewed(&network, &ticket, 600_000) });
    assert_eq!(network.refusals_at(1, Reason::TicketChanged), 1);
    // Not signed by its gateway.
    let note = SignedTicket::issue(renewed(&network, &ticket, 600_000), &key_of("sto-1")).unwrap();
    let participant = network.key_at(1);
    network.input(1, RoomInput::Ticket { participant, note: note.note().clone() });
    assert_eq!(network.refusals_at(1, Reason::TicketSignature), 1);
    network.advance(5_000);
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["bob".to_owned()]));
}

#[test]
fn a_ticket_for_another_node_or_of_an_earlier_join_admits_nobody() {
    let mut network = Network::new(34);
    let ticket = network.arrive_for(1, "bob", 600_000);
    let key = network.key_at(1);
    network.arrive_with(0, grants("bob"), ticket.clone());
    network.arrive_with(1, grants("eve"), ticket.clone());
    assert_eq!(network.refusals_at(0, Reason::TicketMismatch), 1);
    assert_eq!(network.refusals_at(1, Reason::TicketMismatch), 1);
    network.arrive_with(1, grants("bob"), ticket.clone());
    network.input(1, RoomInput::SignalClosed(key));
    network.arrive_with(1, grants("bob"), ticket);
    assert_eq!(network.refusals_at(1, Reason::TicketReplayed), 2);
    network.settle();
    assert!(!network.sees(1, "bob") && network.nodes[1].clients.is_empty());
}

#[test]
fn participants_of_a_gateway_whose_key_is_not_listed_any_more_are_lost() {
    let mut network = Network::new(35);
    network.arrive(2, "osl-1", grants("chen"));
    network.arrive_for(1, "bob", 600_000);
    let mut revoked = documents();
    for node in revoked.directory.nodes.iter_mut().filter(|node| node.id == "cph-1") {
        node.keys = vec![key_of("new-1").public()];
    }
    network.replace_policy(2, &revoked);
    assert!(!network.sees(2, "bob"));
    assert_eq!(network.refusals_at(2, Reason::TicketSignature), 1);
    assert!(network.sees(0, "bob"), "cph-1 does not have the new directory");
}

#[test]
fn the_gateway_that_others_see_is_the_one_that_signed_the_ticket() {
    let mut network = Network::new(36);
    network.arrive_for(1, "bob", 600_000);
    let info = network.nodes[0].core.remote_infos().next().unwrap();
    assert_eq!(info.attributes["systir.gateway"], "cph-1");
    assert_eq!(network.nodes[0].core.current_gateways().keys().collect::<Vec<_>>(), ["cph-1"]);
}

#[test]
fn a_ticket_is_verified_once() {
    let mut network = Network::new(37);
    network.arrive_for(1, "bob", 600_000);
    let held = |network: &Network| {
        let (_, held) = network.nodes[0].core.tickets.all().next().unwrap();
        held.signed.note().as_ptr()
    };
    let first = held(&network);
    network.close(0, 1);
    network.open_wanted();
    network.settle();
    assert!(network.sees(0, "bob"));
    assert_eq!(held(&network), first, "the snapshot's ticket was taken again");
}

#[test]
fn a_participant_that_was_refused_by_an_older_policy_is_shown_after_its_replacement() {
    let mut network = Network::new(38);
    network.replace_policy(0, &with_rule(policy_changes::NO_GATEWAY_IN_SWEDEN));
    network.arrive(1, "sto-1", grants("bob"));
    network.arrive(2, "sto-1", grants("chen"));
    network.settle();
    assert!(network.sees(1, "chen") && !network.sees(0, "chen"));
    network.replace_policy(0, &documents());
    network.advance(1_100);
    network.settle();
    assert!(network.sees(0, "chen"));
}

#[test]
fn a_participant_of_a_room_with_another_sid_is_shown_once_this_node_follows_that_one() {
    let mut network = Network::new(39);
    network.settle();
    let view = view_of(made_anew());
    network.input(1, RoomInput::Cluster(view.clone()));
    let ticket = network.ticket(1, "cph-1", &grants("bob"));
    network.arrive_with(1, grants("bob"), Ticket { room_sid: "RM_anew".to_owned(), ..ticket });
    network.settle();
    assert!(network.sees(1, "bob") && !network.sees(0, "bob"));
    // The ticket that sto-1 showed, and the one in bob's record.
    assert_eq!(network.refusals_at(0, Reason::TicketMismatch), 2);
    network.input(0, RoomInput::Cluster(view));
    network.advance(1_100);
    network.settle();
    assert!(network.sees(0, "bob"));
}
