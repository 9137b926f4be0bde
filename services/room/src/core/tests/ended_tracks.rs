//! Tracks of another node that end.

use prost::Message as _;
use systir_rtp::packet::LayerSet;

use super::*;

const HOME: usize = 0;
const OTHER: usize = 1;
const SID: &str = "TR_anna";

/// Anna's node writes which tracks she has.
fn anna_has(network: &mut Network, tracks: Vec<proto::TrackInfo>) {
    let participant = network.nodes[HOME].core.replica.by_identity("anna").unwrap();
    let mut info = proto::ParticipantInfo::decode(participant.body).unwrap();
    info.tracks = tracks;
    info.version += 1;
    let (sid, body) = (participant.sid, info.encode_to_vec().into());
    let (update, _) = network.nodes[HOME].core.replica.local_update(&sid, body).unwrap();
    network.nodes[HOME].core.replicate(&update);
    network.settle();
}

/// Its node keeps a flow for each subscription until that ends or the room closes.
#[test]
fn a_track_that_ends_is_unsubscribed_at_its_node() {
    let mut network = Network::new(62);
    for (index, identity) in [(HOME, "anna"), (OTHER, "bob")] {
        network.arrive(index, "cph-1", grants(identity));
    }
    network.settle();
    let track =
        proto::TrackInfo { sid: SID.to_owned(), mime_type: "audio/opus".to_owned(), ..Default::default() };
    anna_has(&mut network, vec![track]);
    let now = network.now;
    let core = &mut network.nodes[OTHER].core;
    let key = core.tracks.of_node(NODES[HOME]).next().unwrap().key;
    let layers = LayerSet::NONE.with(Layer(0));
    core.handle(RoomInput::Worker(WorkerEvent::Wanted { track: key, layers }), now);
    let anna = network.nodes[HOME].core.replica.by_identity("anna").unwrap();
    let mut info = proto::ParticipantInfo::decode(anna.body).unwrap();
    info.tracks.clear();
    let core = &mut network.nodes[OTHER].core;
    core.add_tracks(NODES[HOME], &info);
    let mut sent = Vec::new();
    core.flush_to_peers(|to, body| {
        match body {
            Message::Subscribe(wanted) => sent.push((to.to_owned(), "subscribe", wanted.track_sid)),
            Message::Unsubscribe(ended) => sent.push((to.to_owned(), "unsubscribe", ended.track_sid)),
            _ => {}
        }
        Ok(())
    });
    // The queue keeps the last word on a layer.
    assert_eq!(sent, [(NODES[HOME].to_owned(), "unsubscribe", SID.to_owned())]);
}
