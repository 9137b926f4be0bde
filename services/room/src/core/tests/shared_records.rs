//! What sessions know of other participants is in memory once.

use super::*;

#[test]
fn all_sessions_of_a_node_share_one_record_of_each_participant() {
    let mut network = Network::new(1);
    for identity in ["anna", "bo", "carla"] {
        network.join_as(0, identity);
    }
    network.join_as(1, "dina");
    network.settle();
    // The last one joins after the others were shown.
    network.join_as(0, "emil");
    network.settle();
    let core = &network.nodes[0].core;
    assert_eq!(core.shown.len(), 5);
    for (sid, record) in &core.shown {
        let sessions = if core.local_by_sid(sid).is_some() { 3 } else { 4 };
        assert_eq!(Arc::strong_count(record), 1 + sessions, "{}", record.info.identity);
    }
    let left: Vec<ParticipantKey> = network.nodes[0].clients.keys().copied().collect();
    for participant in left {
        network.input(0, RoomInput::SignalClosed(participant));
    }
    network.settle();
    let known: Vec<&str> =
        network.nodes[0].core.shown.values().map(|record| record.info.identity.as_str()).collect();
    assert_eq!(known, ["dina"]);
}
