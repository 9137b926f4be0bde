//! Data messages, speakers, and the word of where the room is: what goes from people to people.

use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message as _;
use systir_access::livekit::{MAX_DATA_BYTES, MediaEvent, RoomEvent, speaker_infos};
use systir_access::worker::command::{DataChannel, ParticipantKey, Speaker, TrackKey};
use systir_media::packet::Layer;
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;

use super::actor::Actor;
use crate::whereabouts::TOPIC;

impl Actor {
    pub(super) fn data_from_member(
        &mut self,
        participant: ParticipantKey,
        channel: DataChannel,
        packet: &Bytes,
    ) {
        self.media_event(participant, MediaEvent::Data { channel, packet: packet.clone() });
    }

    /// A checked and stamped message of somebody here: to people here, and to the other nodes.
    pub(super) fn data_of_member(
        &mut self,
        participant: ParticipantKey,
        channel: DataChannel,
        packet: &Bytes,
        destinations: &[String],
    ) {
        let Some(sender_sid) = self.members.get(&participant).map(|member| member.sid.clone()) else {
            return;
        };
        self.deliver(Some(participant), channel, packet, destinations);
        let (packet, destination_identities) = (packet.clone(), destinations.to_vec());
        let body = match channel {
            DataChannel::Reliable => {
                Body::ReliableData(wire::ReliableData { sender_sid, packet, destination_identities })
            }
            DataChannel::Lossy => {
                Body::LossyData(wire::LossyData { sender_sid, packet, destination_identities })
            }
        };
        self.tell_all(&body);
    }

    /// A message of somebody on another node: it speaks for its own people only.
    pub(super) fn data_from_node(
        &mut self,
        node: &str,
        sender_sid: &str,
        packet: &Bytes,
        destinations: &[String],
        channel: DataChannel,
    ) {
        let owner = self.replica.by_sid(sender_sid).map(|participant| participant.owner);
        if owner.is_none_or(|owner| owner != node) || packet.len() > MAX_DATA_BYTES + 1024 {
            self.shared.metrics.link_refusals.get_or_create(&"data".into()).inc();
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
        let to: Vec<ParticipantKey> = self
            .members
            .iter()
            .filter(|(key, _)| Some(**key) != sender)
            .filter(|(_, member)| destinations.is_empty() || destinations.contains(&member.identity))
            .map(|(key, _)| *key)
            .collect();
        for participant in to {
            self.tell_member(participant, RoomEvent::Data { channel, packet: packet.clone() });
        }
    }

    /// The worker hears everybody; of those whose media is here this node tells the others too.
    pub(super) fn speakers_here(&mut self, changed: &[Speaker]) {
        let own: Vec<Speaker> = changed
            .iter()
            .copied()
            .filter(|speaker| {
                self.tracks.by_key(speaker.track).is_some_and(|entry| entry.node == self.shared.name)
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
        self.tell_all(&Body::Speakers(wire::Speakers { speakers }));
        let infos = speaker_infos(&own, |track: TrackKey| {
            self.tracks.by_key(track).map(|entry| entry.publisher.clone())
        });
        self.tell_members_but(None, &RoomEvent::Speakers(infos));
    }

    pub(super) fn speakers_from_node(&mut self, node: &str, speakers: wire::Speakers) {
        let infos: Vec<proto::SpeakerInfo> = speakers
            .speakers
            .into_iter()
            .filter(|speaker| {
                self.replica
                    .by_sid(&speaker.participant_sid)
                    .is_some_and(|participant| participant.owner == node)
            })
            .map(|speaker| proto::SpeakerInfo {
                sid: speaker.participant_sid,
                level: speaker.level.clamp(0.0, 1.0),
                active: speaker.active,
            })
            .collect();
        if !infos.is_empty() {
            self.tell_members_but(None, &RoomEvent::Speakers(infos));
        }
    }

    pub(super) fn key_frame_needed(&mut self, track: TrackKey, layer: Layer) {
        let Some(entry) = self.tracks.by_key(track) else { return };
        let body = Body::KeyFrame(wire::KeyFrame { track_sid: entry.sid.clone(), layer: u32::from(layer.0) });
        self.tell(&entry.node, body);
    }

    /// Tells the people here where the room is, when it is not what they were last told.
    pub(super) fn tell_where(&mut self) {
        let now = self.whereabouts();
        if self.told.as_ref() == Some(&now) {
            return;
        }
        let Some(packet) = where_packet(&now) else { return };
        self.told = Some(now);
        self.tell_members_but(None, &RoomEvent::Data { channel: DataChannel::Reliable, packet });
    }

    /// Tells one who has just come.
    pub(super) fn tell_where_to(&mut self, participant: ParticipantKey) {
        if let Some(packet) = where_packet(&self.whereabouts()) {
            self.tell_member(participant, RoomEvent::Data { channel: DataChannel::Reliable, packet });
        }
    }
}

#[allow(deprecated)]
fn where_packet(whereabouts: &crate::whereabouts::Whereabouts) -> Option<Bytes> {
    let user = proto::UserPacket {
        payload: serde_json::to_vec(whereabouts).ok()?,
        topic: Some(TOPIC.to_owned()),
        ..Default::default()
    };
    let packet = proto::DataPacket {
        kind: proto::data_packet::Kind::Reliable as i32,
        value: Some(proto::data_packet::Value::User(user)),
        ..Default::default()
    };
    Some(packet.encode_to_vec().into())
}
