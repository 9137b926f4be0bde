//! Connection quality of participants at other nodes.

use systir_media_control::{MediaQuality, Side};

use super::*;

const HOME: usize = 0;
const SPILL: usize = 1;

impl Network {
    fn quality(&mut self, index: usize, identity: &str, quality: MediaQuality) {
        let (participant, _) = self.client(index, identity);
        self.input(index, RoomInput::Worker(WorkerEvent::Quality { participant, quality, score: 2.5 }));
    }

    /// The last quality of a participant that a client was told.
    fn told(&self, index: usize, identity: &str, of: &str) -> Option<proto::ConnectionQuality> {
        let sid = self.nodes[index].core.replica.by_identity(of)?.sid;
        let told = self.client(index, identity).1.connection_qualities.get(&*sid)?;
        proto::ConnectionQuality::try_from(*told).ok()
    }

    fn messages_about_quality(&self) -> usize {
        self.in_flight.iter().filter(|(_, _, body)| matches!(body, Message::Qualities(_))).count()
    }

    /// Clients are told of quality every five seconds. They answer no offer, so a test takes less than fifteen.
    fn settle_quality(&mut self) {
        for _ in 0..11 {
            self.settle();
        }
    }
}

/// Anna and bob at the home, chen at a spill node.
fn meeting() -> Network {
    let mut network = Network::new(1);
    network.join_as(HOME, "anna");
    network.join_as(HOME, "bob");
    network.join_as(SPILL, "chen");
    network.settle();
    for (index, name) in [(HOME, "anna"), (HOME, "bob"), (SPILL, "chen")] {
        let (participant, _) = network.client(index, name);
        let connected = WorkerEvent::Connected { participant, side: Side::Subscriber };
        network.input(index, RoomInput::Worker(connected));
    }
    network.settle();
    network
}

#[test]
fn poor_quality_of_a_participant_is_shown_at_other_nodes() {
    let mut network = meeting();
    assert_eq!(network.told(SPILL, "chen", "anna"), Some(proto::ConnectionQuality::Excellent));
    network.quality(HOME, "anna", MediaQuality::Poor);
    network.settle_quality();
    assert_eq!(network.told(HOME, "bob", "anna"), Some(proto::ConnectionQuality::Poor));
    assert_eq!(network.told(SPILL, "chen", "anna"), Some(proto::ConnectionQuality::Poor));
    network.quality(HOME, "anna", MediaQuality::Good);
    network.settle_quality();
    assert_eq!(network.told(SPILL, "chen", "anna"), Some(proto::ConnectionQuality::Good));
}

#[test]
fn quality_that_changes_often_costs_a_link_one_message_in_five_seconds() {
    let mut network = meeting();
    let mut messages = 0;
    for round in 0..100 {
        for name in ["anna", "bob"] {
            let quality = if round % 2 == 0 { MediaQuality::Poor } else { MediaQuality::Good };
            network.quality(HOME, name, quality);
        }
        network.advance(100);
        messages += network.messages_about_quality();
        network.settle_in_flight();
    }
    assert!((1..=3).contains(&messages), "{messages}");
}

#[test]
fn node_that_gets_the_state_later_is_told_what_changed_before() {
    let mut network = meeting();
    network.quality(HOME, "anna", MediaQuality::Poor);
    network.settle();
    network.nodes[SPILL].core.qualities.elsewhere.clear();
    network.close(HOME, SPILL);
    network.settle_quality();
    let known = network.nodes[SPILL].core.known_qualities();
    assert!(known.iter().any(|info| info.quality == proto::ConnectionQuality::Poor as i32), "{known:?}");
}

#[test]
fn node_tells_the_quality_of_its_own_participants_only() {
    let mut network = meeting();
    let sid = network.nodes[HOME].core.replica.by_identity("bob").unwrap().sid.to_string();
    let lie = wire::Quality { participant_sid: sid, quality: 0, score: f32::NAN };
    let unknown = wire::Quality { participant_sid: "PA_nobody".to_owned(), ..Default::default() };
    let body = Message::Qualities(wire::Qualities { qualities: vec![lie, unknown] });
    let message = RoomLinkEvent::Message { node: NODES[SPILL].to_owned(), body };
    network.input(HOME, RoomInput::Link(message));
    network.settle_quality();
    assert_eq!(network.told(HOME, "anna", "bob"), Some(proto::ConnectionQuality::Excellent));
    assert!(network.nodes[HOME].core.known_qualities().is_empty());
}
