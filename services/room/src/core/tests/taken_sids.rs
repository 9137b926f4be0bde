//! A hostile gateway mints a ticket with the participant sid of another node's participant, for a node that does not carry
//! the room yet. Only the participants with that sid are not shown.

use super::*;

const HOME: usize = 0;
const OTHER: usize = 1;

fn seen(network: &Network, index: usize) -> BTreeMap<String, String> {
    participants(&network.nodes[index])
        .into_iter()
        .map(|(identity, (_, owner, _))| (identity, owner))
        .collect()
}

fn expected<const N: usize>(participants: [(&str, &str); N]) -> BTreeMap<String, String> {
    participants.map(|(identity, owner)| (identity.to_owned(), owner.to_owned())).into()
}

/// Records of other nodes that a node refused because of their sid.
fn refused(network: &Network, index: usize) -> u64 {
    let metrics = &network.nodes[index].core.config.metrics;
    metrics.link_refusals.get_or_create(&Reason::StateSidTaken.into()).get()
}

/// Anna and bob are at the home. At a node that knows nothing of them, eve has arrived with anna's sid.
fn lecture() -> Network {
    let mut network = Network::new(71);
    network.nodes[OTHER].wanted.clear();
    for other in [HOME, 2] {
        network.close(OTHER, other);
    }
    network.arrive(HOME, "cph-1", grants("anna"));
    network.arrive(HOME, "cph-1", grants("bob"));
    network.settle();
    let participant_sid = participants(&network.nodes[HOME])["anna"].0.clone();
    let ticket = network.ticket(OTHER, "osl-1", &grants("eve"));
    network.arrive_with(OTHER, grants("eve"), Ticket { participant_sid, ..ticket });
    assert_eq!(seen(&network, OTHER), expected([("eve", "sto-1")]));
    network
}

fn open(network: &mut Network) {
    for index in [HOME, 2] {
        network.nodes[OTHER].wanted.insert(NODES[index].to_owned());
    }
    network.open_wanted();
    network.settle();
}

#[test]
fn a_gateway_that_gives_a_sid_twice_hides_no_other_participant() {
    let mut network = lecture();
    network.arrive(OTHER, "cph-1", grants("dina"));
    open(&mut network);
    let home = [("anna", "cph-1"), ("bob", "cph-1"), ("dina", "sto-1")];
    assert_eq!(seen(&network, HOME), expected(home));
    let other = [("bob", "cph-1"), ("dina", "sto-1"), ("eve", "sto-1")];
    assert_eq!(seen(&network, OTHER), expected(other));
    assert!(refused(&network, HOME) > 0 && refused(&network, OTHER) > 0);
}

#[test]
fn nor_after_the_participant_with_the_sid_has_left() {
    let mut network = lecture();
    network.arrive(OTHER, "cph-1", grants("dina"));
    let eve = *network.nodes[OTHER].clients.iter().find(|(_, client)| client.identity == "eve").unwrap().0;
    network.input(OTHER, RoomInput::SignalClosed(eve));
    open(&mut network);
    let home = [("anna", "cph-1"), ("bob", "cph-1"), ("dina", "sto-1")];
    assert_eq!(seen(&network, HOME), expected(home));
    assert_eq!(seen(&network, OTHER), expected([("bob", "cph-1"), ("dina", "sto-1")]));
}
