//! A hostile spill node gives the track of its participant the sid of a track of the home. A third node must never show the
//! media of one as that of the other.

use prost::Message as _;

use super::*;
use crate::{RecordState, Update};

const HOME: usize = 0;
const HOSTILE: usize = 1;
const THIRD: usize = 2;

/// The sid of anna's track.
const SID: &str = "TR_anna";

fn track() -> proto::TrackInfo {
    proto::TrackInfo { sid: SID.to_owned(), mime_type: "audio/opus".to_owned(), ..Default::default() }
}

impl Network {
    /// The participant of a node, with one more track.
    fn with_track(&self, index: usize, identity: &str) -> (String, bytes::Bytes) {
        let participant = self.nodes[index].core.replica.by_identity(identity).unwrap();
        let mut info = proto::ParticipantInfo::decode(participant.body).unwrap();
        info.tracks.push(track());
        info.version += 1;
        (participant.sid, info.encode_to_vec().into())
    }

    /// Anna publishes at the home: it writes that in its state, and sends it where the room is open.
    fn anna_publishes(&mut self) {
        let (sid, body) = self.with_track(HOME, "anna");
        let (update, _) = self.nodes[HOME].core.replica.local_update(&sid, body).unwrap();
        self.nodes[HOME].core.replicate(&update);
        self.settle();
    }

    /// The hostile node writes to the third node that eve publishes a track with the sid of anna's.
    fn eve_publishes(&mut self) {
        let (sid, body) = self.with_track(HOSTILE, "eve");
        let (update, _) = self.nodes[HOSTILE].core.replica.local_update(&sid, body).unwrap();
        assert!(
            matches!(&update, Update::Participant { record, .. } if matches!(record.state, RecordState::Live(_)))
        );
        let updates = vec![crate::wire::encode(&update)];
        let body = Message::StateUpdate(wire::StateUpdate { updates, snapshot: false });
        self.input(THIRD, RoomInput::Link(RoomLinkEvent::Message { node: "sto-1".to_owned(), body }));
        self.settle();
    }

    /// The room closes on the link of the home and the third node, until [`Network::open_wanted`].
    fn lose_home(&mut self) {
        self.nodes[THIRD].wanted.remove(NODES[HOME]);
        self.close(HOME, THIRD);
    }

    fn find_home(&mut self) {
        self.nodes[THIRD].wanted.insert(NODES[HOME].to_owned());
        self.open_wanted();
        self.settle();
    }

    /// For the tracks that the third node shows: the identity under which it is shown, and the node and the participant
    /// whose media it is.
    fn shown(&mut self) -> BTreeSet<(String, String, String)> {
        let core = &mut self.nodes[THIRD].core;
        let others = core.all_but("");
        let shown = others.iter().flat_map(|other| other.tracks.iter().map(move |track| (other, track)));
        shown
            .map(|(other, track)| {
                let entry = core.tracks.by_key(track.key).unwrap();
                let publisher = core.replica.by_sid(&entry.publisher).unwrap();
                (other.info.identity.clone(), entry.node.clone(), publisher.identity)
            })
            .collect()
    }

    fn assert_each_is_shown_as_its_own(&mut self) {
        let own = |identity: &str, node: &str| (identity.to_owned(), node.to_owned(), identity.to_owned());
        assert_eq!(self.shown(), [own("anna", "cph-1"), own("eve", "sto-1")].into());
    }
}

/// Anna at the home, eve at the hostile node, chen at the third one.
fn lecture() -> Network {
    let mut network = Network::new(61);
    for (index, identity) in [(HOME, "anna"), (HOSTILE, "eve"), (THIRD, "chen")] {
        network.arrive(index, "cph-1", grants(identity));
    }
    network.settle();
    network
}

#[test]
fn it_takes_over_no_track_that_the_third_node_knows() {
    let mut network = lecture();
    network.anna_publishes();
    network.eve_publishes();
    network.assert_each_is_shown_as_its_own();
}

#[test]
fn it_takes_over_no_track_of_which_the_third_node_has_not_heard_yet() {
    let mut network = lecture();
    network.lose_home();
    network.anna_publishes();
    network.eve_publishes();
    network.find_home();
    network.assert_each_is_shown_as_its_own();
}

#[test]
fn it_takes_over_no_track_while_the_link_to_the_home_is_lost() {
    let mut network = lecture();
    network.anna_publishes();
    network.lose_home();
    network.eve_publishes();
    let eve = ("eve".to_owned(), "sto-1".to_owned(), "eve".to_owned());
    assert_eq!(network.shown(), [eve].into(), "anna is shown without her track");
    network.find_home();
    network.assert_each_is_shown_as_its_own();
}

#[test]
fn the_third_node_asks_each_node_for_its_own_track() {
    let mut network = lecture();
    network.lose_home();
    network.anna_publishes();
    network.eve_publishes();
    network.find_home();
    let core = &network.nodes[THIRD].core;
    let keys: Vec<_> = NODES[..2].iter().map(|node| core.tracks.of_node(node).next().unwrap().key).collect();
    for (key, node) in keys.into_iter().zip(NODES) {
        let layers = systir_rtp::packet::LayerSet::NONE.with(Layer(0));
        let core = &mut network.nodes[THIRD].core;
        core.handle(RoomInput::Worker(WorkerEvent::Wanted { track: key, layers }), network.now);
        let mut asked = BTreeSet::new();
        core.flush_to_peers(|to, body| {
            if let Message::Subscribe(wanted) = body {
                asked.insert((to.to_owned(), wanted.track_sid));
            }
            Ok(())
        });
        assert_eq!(asked, [(node.to_owned(), SID.to_owned())].into());
    }
}
