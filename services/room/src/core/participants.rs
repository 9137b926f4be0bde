//! Everybody as the replica knows them, on whatever node: what changed is told to the people here,
//! and the tracks of distant people are brought to this node's worker.

use livekit_protocol::{self as proto, DisconnectReason, ParticipantInfo, TrackInfo};
use prost::Message as _;
use systir_livekit::sdp::codecs;
use systir_livekit::{RemoteParticipant, RemoteTrack, RoomEvent};
use systir_media_control::{Command, TrackSource, TrackSpec};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_room::{Change, Participant, Update};
use systir_rtp::packet::{Layer, LayerSet};

use super::actor::Actor;
use super::tracks::Entry;
use crate::reason::Reason;

/// Tracks of one distant participant that are brought here, as many as one may publish.
const MAX_TRACKS: usize = 32;

impl Actor {
    /// Sends a write of this node to the room's other nodes.
    pub(super) fn replicate(&mut self, update: &Update) {
        let updates = vec![super::replica::encode(update)];
        self.tell_all(&Body::StateUpdate(wire::StateUpdate { updates, snapshot: false }));
    }

    /// Another node's writes.
    pub(super) fn merge(&mut self, node: &str, updates: &[bytes::Bytes]) {
        for bytes in updates {
            let Some(update) = super::replica::decode(bytes) else {
                tracing::warn!(
                    node,
                    "an update of the room's state cannot be read; the other node speaks another version"
                );
                continue;
            };
            match self.replica.apply(node, update, crate::ids::unix_ms()) {
                Ok(changes) => self.changed(changes),
                Err(error) => {
                    tracing::warn!(node, %error, "an update of the room's state is refused");
                    self.shared.metrics.link_refusals.get_or_create(&Reason::from(&error).into()).inc();
                }
            }
        }
        self.where_changed();
    }

    /// What became different, whoever wrote it.
    pub(super) fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Joined(participant) | Change::Updated(participant) => self.seen(&participant),
                Change::Left { sid, .. } => {
                    self.forget_tracks_of(&sid);
                    let reason = DisconnectReason::ClientInitiated;
                    self.tell_members_but(self.member_of(&sid), &RoomEvent::Left { sid, reason });
                }
                Change::Evicted { sid, tombstone, .. } => {
                    self.replicate(&tombstone);
                    if let Some(participant) = self.member_of(&sid) {
                        self.tell_member(participant, RoomEvent::Remove(DisconnectReason::DuplicateIdentity));
                    }
                }
                // No node writes it yet.
                Change::Metadata(_) => {}
            }
        }
    }

    fn seen(&mut self, participant: &Participant) {
        let Some(remote) = self.remote(participant) else { return };
        let himself = self.member_of(&participant.sid);
        self.tell_members_but(himself, &RoomEvent::Participants(vec![remote]));
    }

    /// A participant as sessions are told of it; distant tracks come to the worker on the way.
    fn remote(&mut self, participant: &Participant) -> Option<RemoteParticipant> {
        let mut info = ParticipantInfo::decode(participant.body.clone()).ok()?;
        if info.sid != participant.sid || info.identity != participant.identity {
            tracing::warn!("a participant's description is of somebody else and is left out");
            return None;
        }
        // Hidden people are known to nodes, for their messages and identities, and shown to nobody.
        if is_hidden(&info) {
            return None;
        }
        if participant.owner != self.shared.name {
            self.place(&participant.owner, &mut info);
            self.bring(&participant.owner, &info);
        }
        let tracks = info
            .tracks
            .iter()
            .filter_map(|track| {
                let entry = self.tracks.get(&track.sid)?;
                Some(RemoteTrack { sid: track.sid.clone(), key: entry.key, codec: entry.spec.codec })
            })
            .collect();
        Some(RemoteParticipant { info, tracks })
    }

    // Where somebody's media is, the operator's own file says, not the other node.
    fn place(&self, node: &str, info: &mut ParticipantInfo) {
        info.attributes.retain(|name, _| !name.starts_with("systir.") || name == "systir.front_door");
        let Some(facts) = self.shared.authority.facts(node) else { return };
        for (name, value) in
            [("systir.node", &facts.id), ("systir.region", &facts.region), ("systir.country", &facts.country)]
        {
            info.attributes.insert(name.to_owned(), value.clone());
        }
    }

    // Tracks of distant people exist here while the room is open on the link to their node.
    fn bring(&mut self, node: &str, info: &ParticipantInfo) {
        let open = self.peers.get(node).is_some_and(|peer| peer.link.is_some());
        let gone: Vec<String> = self
            .tracks
            .of_publisher(&info.sid)
            .filter(|entry| !open || !info.tracks.iter().any(|track| track.sid == entry.sid))
            .map(|entry| entry.sid.clone())
            .collect();
        for sid in gone {
            self.drop_track(&sid);
        }
        let Some(link) = self.peers.get(node).and_then(|peer| peer.link) else { return };
        for track in info.tracks.iter().take(MAX_TRACKS) {
            let Some(spec) = spec_of(track) else { continue };
            match self.tracks.get(&track.sid) {
                Some(known) if known.spec == spec && known.node == node && known.publisher == info.sid => {
                    continue;
                }
                Some(known) if known.node != node || known.publisher != info.sid => {
                    tracing::warn!(node, "a track id belongs to somebody else and is left out");
                    continue;
                }
                Some(_) => self.drop_track(&track.sid),
                None => {}
            }
            let Some(flows) = self.shared.flows(self.worker_index, node) else { continue };
            let key = self.shared.keys_of_media.track();
            self.tracks.insert(Entry {
                key,
                sid: track.sid.clone(),
                publisher: info.sid.clone(),
                node: node.to_owned(),
                spec,
                flows: Some(flows),
                wanted: LayerSet::NONE,
            });
            let source = TrackSource::Link { peer: link, flows };
            let publisher = info.sid.as_str().into();
            self.command(Command::AddTrack { room: self.key, track: key, spec, source, publisher });
        }
    }

    fn drop_track(&mut self, sid: &str) {
        if let Some(entry) = self.tracks.remove(sid)
            && entry.node != self.shared.name
        {
            self.command(Command::RemoveTrack { track: entry.key });
        }
    }

    /// The worker is told of all distant tracks afresh; nobody here wants any of them now.
    pub(super) fn forget_distant_tracks(&mut self) {
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        let distant: Vec<Entry> = nodes.iter().flat_map(|node| self.tracks.of_node(node)).cloned().collect();
        for entry in distant {
            self.wanted_changed(entry.key, LayerSet::NONE);
            self.drop_track(&entry.sid);
        }
    }

    fn forget_tracks_of(&mut self, publisher: &str) {
        let sids: Vec<String> = self.tracks.of_publisher(publisher).map(|entry| entry.sid.clone()).collect();
        for sid in sids {
            self.drop_track(&sid);
        }
    }

    /// The link to a node came or went: its people are shown with the tracks that can be had now.
    pub(super) fn show_again(&mut self, node: &str) {
        let people: Vec<Participant> =
            self.replica.participants().filter(|participant| participant.owner == node).collect();
        for participant in people {
            self.seen(&participant);
        }
    }

    /// A node carries the room no longer: its people are out.
    pub(super) fn node_is_gone(&mut self, node: &str) {
        let changes = self.replica.node_gone(node);
        self.changed(changes);
        self.where_changed();
    }

    /// Everybody else, for a session that begins.
    pub(super) fn everyone_but(&mut self, sid: &str) -> Vec<RemoteParticipant> {
        let people: Vec<Participant> =
            self.replica.participants().filter(|participant| participant.sid != sid).collect();
        people.iter().filter_map(|participant| self.remote(participant)).collect()
    }

    /// Descriptions of people on other nodes.
    pub(super) fn others_known(&self) -> impl Iterator<Item = ParticipantInfo> {
        self.replica
            .participants()
            .filter(|participant| participant.owner != self.shared.name)
            .filter_map(|participant| ParticipantInfo::decode(participant.body).ok())
    }
}

/// Is this participant not to be seen by the others?
pub(super) fn is_hidden(info: &ParticipantInfo) -> bool {
    info.permission.as_ref().is_some_and(|permission| permission.hidden)
}

/// What a described track is to the core; none for one that no packet can belong to yet.
#[allow(deprecated)]
fn spec_of(track: &TrackInfo) -> Option<TrackSpec> {
    let codec = codecs::from_mime(&track.mime_type)?;
    let count = match track.r#type() {
        proto::TrackType::Video if track.simulcast => track.layers.len().clamp(1, Layer::MAX),
        _ => 1,
    };
    let layers = (0..count as u8).map(Layer).fold(LayerSet::NONE, LayerSet::with);
    Some(TrackSpec { kind: codec.kind(), codec, layers })
}
