//! What a publisher is told to send, and what a subscriber is told of its streams, over nodes and gateways.

use systir_rtp::packet::{Kind, LayerSet};

use super::*;

const HOME: usize = 0;
const SPILL: usize = 1;

const OFFER: &str = include_str!("../../../../livekit/golden/offer-chrome.sdp");

impl Network {
    pub(super) fn client(&self, index: usize, identity: &str) -> (ParticipantKey, &ClientView) {
        let mut clients = self.nodes[index].clients.iter();
        clients.find(|(_, client)| client.identity == identity).map(|(key, client)| (*key, client)).unwrap()
    }

    fn request(&mut self, index: usize, participant: ParticipantKey, message: signal_request::Message) {
        let request = Box::new(proto::SignalRequest { message: Some(message) });
        self.input(index, RoomInput::Request { participant, request });
    }

    /// A participant publishes a camera with three layers.
    fn publish(&mut self, index: usize, identity: &str) {
        let (participant, _) = self.client(index, identity);
        let add = proto::AddTrackRequest {
            cid: "0a9b8c7d-cam".to_owned(),
            r#type: proto::TrackType::Video as i32,
            source: proto::TrackSource::Camera as i32,
            width: 1280,
            height: 720,
            ..Default::default()
        };
        self.request(index, participant, signal_request::Message::AddTrack(add));
        let (r#type, sdp) = ("offer".to_owned(), OFFER.to_owned());
        let offer = proto::SessionDescription { r#type, sdp, id: 1, ..Default::default() };
        self.request(index, participant, signal_request::Message::Offer(offer));
        self.settle();
    }

    /// Key and sid of the camera at this node, which is published at the home.
    fn camera(&self, index: usize) -> (TrackKey, String) {
        let mut tracks = self.nodes[index].core.tracks.of_node(NODES[HOME]);
        let camera = tracks.find(|entry| entry.spec.kind == Kind::Video).unwrap();
        (camera.key, camera.sid.clone())
    }

    /// The worker of a node reports which layers of the camera are wanted: by its own participants, and by what it
    /// feeds to others.
    fn want(&mut self, index: usize, own: &[u8]) {
        let (track, _) = self.camera(index);
        let own = own.iter().copied().map(Layer);
        let fed =
            self.nodes[index].fed.iter().filter(|(fed, _, _)| *fed == track).map(|(_, _, layer)| *layer);
        let layers = own.chain(fed).fold(LayerSet::NONE, LayerSet::with);
        self.input(index, RoomInput::Worker(WorkerEvent::Wanted { track, layers }));
        while !self.in_flight.is_empty() {
            self.deliver(0);
        }
    }

    /// What anna was told to send since the last call.
    fn told_to_anna(&mut self) -> Vec<Vec<bool>> {
        let (_, sid) = self.camera(HOME);
        let (key, _) = self.client(HOME, "anna");
        let told = std::mem::take(&mut self.nodes[HOME].clients.get_mut(&key).unwrap().qualities);
        assert!(told.iter().all(|(track, _)| *track == sid));
        told.into_iter().map(|(_, qualities)| qualities).collect()
    }
}

/// Anna at the home with her camera, bob at the spill node. Both signal through the home. Their clients answer no offer,
/// so that the meeting lasts 15 seconds.
fn meeting() -> Network {
    let mut network = Network::new(63);
    network.arrive(HOME, "cph-1", grants("anna"));
    network.arrive(SPILL, "cph-1", grants("bob"));
    network.settle();
    network.publish(HOME, "anna");
    network
}

#[test]
fn a_layer_that_nobody_wants_is_turned_off_at_its_publisher_and_returns() {
    let mut network = meeting();
    network.want(HOME, &[2]);
    network.advance(1_000);
    network.want(HOME, &[1]);
    network.advance(4_000);
    assert!(network.told_to_anna().is_empty());
    network.advance(1_000);
    assert_eq!(network.told_to_anna(), [[true, true, false]]);
    network.want(HOME, &[2]);
    assert_eq!(network.told_to_anna(), [[true; 3]], "at once");
}

#[test]
fn what_other_nodes_want_is_on_too() {
    let mut network = meeting();
    network.want(SPILL, &[2]);
    network.want(HOME, &[0]);
    network.advance(5_000);
    assert!(network.told_to_anna().is_empty(), "the spill node wants all");
    network.want(SPILL, &[1]);
    network.want(HOME, &[0]);
    network.advance(5_000);
    assert_eq!(network.told_to_anna(), [[true, true, false]]);
    network.want(SPILL, &[2]);
    network.want(HOME, &[0]);
    assert_eq!(network.told_to_anna(), [[true; 3]], "at once");
}

#[test]
fn a_node_whose_link_is_down_wants_nothing() {
    let mut network = meeting();
    network.want(SPILL, &[2]);
    network.want(HOME, &[]);
    network.nodes[SPILL].wanted.remove(NODES[HOME]);
    network.close(HOME, SPILL);
    network.want(HOME, &[]);
    network.advance(5_000);
    network.advance(5_000);
    assert_eq!(network.told_to_anna(), [[false; 3]]);
}

#[test]
fn a_subscriber_behind_another_gateway_is_told_that_a_stream_is_paused() {
    let mut network = meeting();
    let (track, sid) = network.camera(SPILL);
    let anna = network.nodes[HOME].core.replica.by_identity("anna").unwrap().sid;
    let (participant, _) = network.client(SPILL, "bob");
    for paused in [true, false] {
        let changes = vec![(track, paused)];
        network.input(SPILL, RoomInput::Worker(WorkerEvent::StreamState { participant, changes }));
    }
    let states = [true, false].map(|paused| (anna.clone(), sid.clone(), paused));
    assert_eq!(network.client(SPILL, "bob").1.stream_states, states);
}
