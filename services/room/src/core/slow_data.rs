//! Back-pressure of reliable data. While a reader on this node is slow, all nodes of the room read data slowly from
//! their participants; so does this node while readers on another one, or the way to it, are slow.

use systir_livekit::MediaEvent;
use systir_media_control::{ParticipantKey, Side, WorkerCommand};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_reason::Reason;

use super::RoomCore;

/// What the room knows of slow readers.
#[derive(Debug, Default)]
pub(super) struct SlowReaders {
    /// Readers on this node are slow.
    pub(super) here: bool,
    /// The last command to the worker said that readers elsewhere are slow.
    told_worker: bool,
}

impl RoomCore {
    /// A participant did not take its reliable data, and gets none any more: it joins again, so that it knows.
    pub(super) fn reader_ended(&mut self, participant: ParticipantKey) {
        self.config.metrics.overloads.get_or_create(&Reason::SlowReader.into()).inc();
        tracing::warn!(
            ?participant,
            reason = Reason::SlowReader.as_str(),
            "a participant does not take its reliable data; it has to join again"
        );
        self.media_event(participant, MediaEvent::Closed(Side::Subscriber));
    }

    /// Another node's readers are slow, or have caught up.
    pub(super) fn slow_data_of(&mut self, node: &str, slow: bool) {
        if let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.link.is_some()) {
            peer.readers_slow = slow;
        }
    }

    /// Tells peers and the worker what has changed.
    pub(super) fn tell_slow_data(&mut self) {
        let here = self.slow_readers.here;
        let untold =
            |peer: &super::PeerNode| peer.link.is_some() && peer.gets_state && peer.told_slow != here;
        let nodes: Vec<String> =
            self.peers.iter().filter(|(_, peer)| untold(peer)).map(|(node, _)| node.clone()).collect();
        for node in nodes {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.told_slow = here;
            }
            self.send_to_peer(&node, Body::SlowData(wire::SlowData { slow: here }));
        }
        let told = self.slow_readers.told_worker;
        let is_slow = |peer: &super::PeerNode| {
            peer.readers_slow || peer.queue.is_long() || (told && !peer.queue.is_short())
        };
        let slow = self.peers.values().any(is_slow);
        if slow != told {
            self.slow_readers.told_worker = slow;
            self.command(WorkerCommand::SlowData { room: self.config.key, slow });
        }
    }
}
