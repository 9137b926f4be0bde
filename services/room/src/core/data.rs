//! Data messages, active speakers, key frame requests and residency, to participants and to other nodes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message as _;
use systir_livekit::{MAX_DATA_BYTES, MediaEvent, RoomEvent, speaker_infos};
use systir_media_control::{DataChannel, ParticipantKey, Speaker, TrackKey};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_reason::Reason;
use systir_rtp::packet::Layer;

use super::RoomCore;
use crate::residency::{RESIDENCY_TOPIC, Residency};

impl RoomCore {
    /// Passes a data message from the worker to the session of its sender, which checks it.
    pub(super) fn data_received(
        &mut self,
        participant: ParticipantKey,
        channel: DataChannel,
        packet: &Bytes,
    ) {
        self.media_event(participant, MediaEvent::Data { channel, packet: packet.clone() });
    }

    /// Sends a data message of a local participant, checked and stamped by its session, to local participants
    /// and to peers.
    pub(super) fn send_data(
        &mut self,
        participant: ParticipantKey,
        channel: DataChannel,
        packet: &Bytes,
        destinations: &[String],
    ) {
        let Some(local) = self.local_participants.get(&participant) else { return };
        let (sender_sid, identity) = (local.sid.clone(), local.identity.clone());
        if !is_stamped_by(packet, &identity, &sender_sid) {
            tracing::debug!("a data message is dropped: its topic is reserved for the server");
            return;
        }
        self.deliver(Some(participant), channel, packet, destinations);
        // A message with destinations goes only to the nodes that carry them.
        let nodes: Option<BTreeSet<String>> = (!destinations.is_empty()).then(|| {
            let owners = destinations.iter().filter_map(|identity| self.replica.by_identity(identity));
            owners.map(|participant| participant.owner).filter(|node| *node != self.config.node).collect()
        });
        let (packet, destination_identities) = (packet.clone(), destinations.to_vec());
        let body = match channel {
            DataChannel::Reliable => {
                Body::ReliableData(wire::ReliableData { sender_sid, packet, destination_identities })
            }
            DataChannel::Lossy => {
                Body::LossyData(wire::LossyData { sender_sid, packet, destination_identities })
            }
        };
        match nodes {
            None => self.send_to_peers(&body),
            Some(nodes) => nodes.iter().for_each(|node| self.send_to_peer(node, body.clone())),
        }
    }

    /// Handles a data message from a peer. Its sender must be a participant of that node.
    pub(super) fn data_from_peer(
        &mut self,
        node: &str,
        sender_sid: &str,
        packet: &Bytes,
        destinations: &[String],
        channel: DataChannel,
    ) {
        let sender = self.replica.by_sid(sender_sid).filter(|participant| participant.owner == node);
        let fits = packet.len() <= MAX_DATA_BYTES + 1024;
        if !fits || !sender.is_some_and(|sender| is_stamped_by(packet, &sender.identity, sender_sid)) {
            self.config.metrics.link_refusals.get_or_create(&Reason::Data.into()).inc();
            return;
        }
        self.deliver(None, channel, packet, destinations);
    }

    fn deliver(
        &mut self,
        sender: Option<ParticipantKey>,
        channel: DataChannel,
        packet: &Bytes,
        destinations: &[String],
    ) {
        let named: BTreeSet<&str> = destinations.iter().map(String::as_str).collect();
        let to: Vec<ParticipantKey> = self
            .local_participants
            .iter()
            .filter(|(key, _)| Some(**key) != sender)
            .filter(|(_, local)| named.is_empty() || named.contains(local.identity.as_str()))
            .map(|(key, _)| *key)
            .collect();
        for participant in to {
            self.notify(participant, RoomEvent::Data { channel, packet: packet.clone() });
        }
    }

    /// Handles speaker changes from the worker. Only those of local publishers count: other nodes measure
    /// their own.
    pub(super) fn speakers_here(&mut self, changed: &[Speaker]) {
        let own: Vec<Speaker> = changed
            .iter()
            .copied()
            .filter(|speaker| {
                self.tracks.by_key(speaker.track).is_some_and(|entry| entry.node == self.config.node)
            })
            .collect();
        if own.is_empty() {
            return;
        }
        let speakers = own
            .iter()
            .filter_map(|speaker| {
                let entry = self.tracks.by_key(speaker.track)?;
                Some(wire::Speaker {
                    participant_sid: entry.publisher.clone(),
                    track_sid: entry.sid.clone(),
                    level: speaker.level,
                    active: speaker.active,
                })
            })
            .collect();
        self.send_to_peers(&Body::Speakers(wire::Speakers { speakers }));
        let infos = speaker_infos(&own, |track: TrackKey| {
            self.tracks.by_key(track).map(|entry| entry.publisher.clone())
        });
        self.notify_all_but(None, &RoomEvent::Speakers(infos));
    }

    /// Handles speaker changes from a peer. Only those of its own participants count; of each its loudest track, as of local
    /// ones, however often the peer names it.
    pub(super) fn speakers_from_peer(&mut self, node: &str, speakers: wire::Speakers) {
        let mut loudest: BTreeMap<String, (f32, bool)> = BTreeMap::new();
        for wire::Speaker { participant_sid, level, active, .. } in speakers.speakers {
            let level = if active && !level.is_nan() { level.clamp(0.0, 1.0) } else { 0.0 };
            let known = loudest.entry(participant_sid).or_default();
            *known = (known.0.max(level), known.1 | active);
        }
        let is_own =
            |sid: &str| self.replica.by_sid(sid).is_some_and(|participant| participant.owner == node);
        let own = loudest.into_iter().filter(|(sid, _)| is_own(sid));
        let infos: Vec<proto::SpeakerInfo> =
            own.map(|(sid, (level, active))| proto::SpeakerInfo { sid, level, active }).collect();
        if !infos.is_empty() {
            self.notify_all_but(None, &RoomEvent::Speakers(infos));
        }
    }

    /// Requests a key frame of a remote track from its node.
    pub(super) fn key_frame_needed(&mut self, track: TrackKey, layer: Layer) {
        let Some(entry) = self.tracks.by_key(track) else { return };
        let body = Body::KeyFrame(wire::KeyFrame { track_sid: entry.sid.clone(), layer: u32::from(layer.0) });
        let node = entry.node.clone();
        self.send_to_peer(&node, body);
    }

    /// Sends residency to the local participants, when it differs from what they last received.
    pub(super) fn send_residency(&mut self) {
        let residency = self.residency();
        if self.sent_residency.as_ref() == Some(&residency) {
            return;
        }
        let Some(packet) = residency_packet(&residency) else { return };
        self.sent_residency = Some(residency);
        self.notify_all_but(None, &RoomEvent::Data { channel: DataChannel::Reliable, packet });
    }

    /// Sends residency to a participant that just connected.
    pub(super) fn send_residency_to(&mut self, participant: ParticipantKey) {
        if let Some(packet) = residency_packet(&self.residency()) {
            self.notify(participant, RoomEvent::Data { channel: DataChannel::Reliable, packet });
        }
    }
}

/// Is the data message stamped with this sender, and not on a topic that is reserved for the server?
#[allow(deprecated)]
fn is_stamped_by(packet: &Bytes, identity: &str, sid: &str) -> bool {
    let Ok(packet) = proto::DataPacket::decode(packet.clone()) else { return false };
    let own_topic = matches!(
        &packet.value,
        Some(proto::data_packet::Value::User(user)) if user.topic().starts_with("systir.")
    );
    !own_topic && packet.participant_identity == identity && packet.participant_sid == sid
}

#[allow(deprecated)]
fn residency_packet(residency: &Residency) -> Option<Bytes> {
    let user = proto::UserPacket {
        payload: serde_json::to_vec(residency).ok()?,
        topic: Some(RESIDENCY_TOPIC.to_owned()),
        ..Default::default()
    };
    let packet = proto::DataPacket {
        kind: proto::data_packet::Kind::Reliable as i32,
        value: Some(proto::data_packet::Value::User(user)),
        ..Default::default()
    };
    Some(packet.encode_to_vec().into())
}
