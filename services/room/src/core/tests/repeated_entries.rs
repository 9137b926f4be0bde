//! Lists of another node that name a participant many times.

use super::*;

const HOME: usize = 0;
const SPILL: usize = 1;

/// Anna at the home, bob and chen at a spill node.
fn meeting() -> Network {
    let mut network = Network::new(5);
    network.join_as(HOME, "anna");
    network.join_as(SPILL, "bob");
    network.join_as(SPILL, "chen");
    network.settle();
    network
}

impl Network {
    fn sid_of(&self, identity: &str) -> String {
        self.nodes[HOME].core.replica.by_identity(identity).unwrap().sid
    }

    /// The home receives a message of the spill node.
    fn receive(&mut self, body: Message) {
        let node = NODES[SPILL].to_owned();
        self.input(HOME, RoomInput::Link(RoomLinkEvent::Message { node, body }));
    }
}

#[test]
fn a_participant_that_a_node_names_often_among_the_speakers_is_told_to_clients_once_with_its_loudest_track() {
    let mut network = meeting();
    let (bob, chen) = (network.sid_of("bob"), network.sid_of("chen"));
    let speaker = |participant_sid: &str, level: f32, active: bool| wire::Speaker {
        participant_sid: participant_sid.to_owned(),
        track_sid: "TR_x".to_owned(),
        level,
        active,
    };
    let of_bob = [speaker(&bob, 0.25, true), speaker(&bob, 0.5, true), speaker(&bob, 0.75, false)];
    let of_chen = [speaker(&chen, 0.5, false), speaker(&chen, f32::NAN, false)];
    let of_others = [speaker(&network.sid_of("anna"), 1.0, true), speaker("PA_nobody", 1.0, true)];
    let speakers = [vec![of_bob; 4_000].concat(), of_chen.into(), of_others.into()].concat();
    network.receive(Message::Speakers(wire::Speakers { speakers }));
    let (_, anna) = network.client(HOME, "anna");
    let mut told = anna.speakers.concat();
    told.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert_eq!(told, [(bob, 0.5, true), (chen, 0.0, false)]);
}

#[test]
fn a_node_that_floods_with_speakers_quality_and_links_makes_clients_read_a_bounded_number() {
    let mut network = meeting();
    let bob = network.sid_of("bob");
    let speaker = |active: bool| wire::Speaker {
        participant_sid: bob.clone(),
        track_sid: "TR_x".to_owned(),
        level: 0.5,
        active,
    };
    let quality = |quality: u32| wire::Quality { participant_sid: bob.clone(), quality, score: 3.0 };
    let link = |open: bool| wire::RoomLink { node: NODES[HOME].to_owned(), open };
    for number in 0..2_000 {
        let odd = number % 2 == 1;
        network.receive(Message::Speakers(wire::Speakers { speakers: vec![speaker(odd)] }));
        network.receive(Message::Qualities(wire::Qualities { qualities: vec![quality(number % 2)] }));
        network.receive(Message::Links(wire::RoomLinks { links: vec![link(odd)] }));
    }
    let dropped = network.overloads(HOME, Reason::PeerMessages);
    let (_, anna) = network.client(HOME, "anna");
    assert_eq!(anna.speakers.len(), 256);
    assert!(dropped >= 3 * (2_000 - 256), "{dropped}");
    // A second later an honest number of messages is handled again.
    network.now.instant += std::time::Duration::from_secs(1);
    for _ in 0..32 {
        network.receive(Message::Speakers(wire::Speakers { speakers: vec![speaker(true)] }));
    }
    let (_, anna) = network.client(HOME, "anna");
    assert_eq!(anna.speakers.len(), 256 + 32);
    assert_eq!(network.overloads(HOME, Reason::PeerMessages), dropped);
}

#[test]
fn data_for_many_destinations_reaches_each_of_them_once_and_nobody_else() {
    let mut network = meeting();
    network.join_as(HOME, "dina");
    network.settle();
    let (anna, _) = network.client(HOME, "anna");
    let bob = network.sid_of("bob");
    let packet = proto::DataPacket {
        participant_identity: "bob".to_owned(),
        participant_sid: bob.clone(),
        ..Default::default()
    };
    let nobody = (0..10_000).map(|number| format!("nobody-{number}"));
    let destination_identities = nobody.chain(["anna".to_owned(), "anna".to_owned()]).collect();
    let data = wire::ReliableData {
        sender_sid: bob,
        packet: prost::Message::encode_to_vec(&packet).into(),
        destination_identities,
    };
    let now = network.now;
    let body = Message::ReliableData(data);
    let message = RoomLinkEvent::Message { node: NODES[SPILL].to_owned(), body };
    let core = &mut network.nodes[HOME].core;
    core.handle(RoomInput::Link(message), now);
    let mut readers = Vec::new();
    core.flush_to_worker(|request| {
        if let WorkerRequest::Command(WorkerCommand::SendData { participant, .. }) = request {
            readers.push(participant);
        }
        Ok(())
    });
    assert_eq!(readers, [anna]);
}
