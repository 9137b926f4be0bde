//! Replicated participants, on any node: changes of the state are passed to local sessions, and tracks of
//! remote participants are added to this node's worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use livekit_protocol::{self as proto, DisconnectReason, ParticipantInfo, TrackInfo};
use prost::Message as _;
use systir_livekit::sdp::codecs;
use systir_livekit::{RemoteParticipant, RemoteTrack, RoomEvent};
use systir_media_control::{TrackKey, TrackSource, TrackSpec, WorkerCommand};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_rtp::packet::{Layer, LayerSet};

use super::RoomCore;
use super::tracks::TrackEntry;
use crate::{Change, MergeError, Participant, Sid, Update};

/// Most tracks of one remote participant that are added here: as many as a participant may publish.
const MAX_TRACKS: usize = 32;

impl RoomCore {
    /// Sends a write of this node to all peers.
    pub(super) fn replicate(&mut self, update: &Update) {
        let updates = vec![crate::wire::encode(update)];
        self.send_to_peers(&Body::StateUpdate(wire::StateUpdate { updates, snapshot: false }));
    }

    /// Applies the writes of another node, then shows what they changed: a message may write one participant many times, and
    /// each state that is shown is copied for all participants here.
    pub(super) fn merge(&mut self, node: &str, updates: &[bytes::Bytes]) {
        let mut changes = Vec::new();
        for bytes in updates {
            let Some(update) = crate::wire::decode(bytes) else {
                tracing::warn!(
                    node,
                    "an update of the room's state cannot be decoded; the node may run another version"
                );
                continue;
            };
            let Some(update) = self.with_valid_tickets(node, update) else { continue };
            let candidates = self.may_leave(node, &update);
            match self.replica.apply(node, update, self.now.unix_ms) {
                Ok(applied) => {
                    for error in &applied.refused {
                        self.write_refused(node, error);
                    }
                    self.end_tickets(node, candidates);
                    changes.extend(applied.changes);
                }
                Err(error) => self.write_refused(node, &error),
            }
        }
        self.notify_changes(newest(changes));
        self.give_state_by_ticket(node);
        self.residency_changed();
    }

    pub(super) fn write_refused(&self, node: &str, error: &MergeError) {
        tracing::warn!(node, %error, "a write of the room's state was refused");
        self.config.metrics.link_refusals.get_or_create(&error.reason().into()).inc();
    }

    /// Passes changes of the state to the local sessions.
    pub(super) fn notify_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Joined(participant) | Change::Updated(participant) => {
                    self.update_participant(&participant)
                }
                Change::Left { sid, .. } => {
                    self.shown.remove(&sid);
                    self.remove_tracks_of(&sid);
                    let reason = DisconnectReason::ClientInitiated;
                    self.notify_all_but(self.local_by_sid(&sid), &RoomEvent::Left { sid, reason });
                }
                Change::Evicted { sid, tombstone, .. } => {
                    self.shown.remove(&sid);
                    self.replicate(&tombstone);
                    if let Some(participant) = self.local_by_sid(&sid) {
                        self.notify(participant, RoomEvent::Remove(DisconnectReason::DuplicateIdentity));
                    }
                }
                // No node writes metadata yet.
                Change::Metadata(_) => {}
            }
        }
    }

    fn update_participant(&mut self, participant: &Participant) {
        let Some(remote) = self.remote(participant) else { return };
        let own = self.local_by_sid(&participant.sid);
        self.notify_all_but(own, &RoomEvent::Participants(vec![remote]));
    }

    /// A participant as local sessions see it; none for a hidden or malformed one. Tracks of a remote
    /// participant are added to the worker.
    fn remote(&mut self, participant: &Participant) -> Option<Arc<RemoteParticipant>> {
        let mut info = ParticipantInfo::decode(participant.body.clone()).ok()?;
        if info.sid != participant.sid || info.identity != participant.identity {
            tracing::warn!("a participant is left out: its ParticipantInfo names another participant");
            return None;
        }
        // Nodes replicate hidden participants for their data messages and identities; participants do not see
        // them.
        if is_hidden(&info) {
            return None;
        }
        if participant.owner != self.config.node {
            self.set_location(&participant.owner, &mut info);
            self.add_tracks(&participant.owner, &info);
        }
        let tracks = info.tracks.iter().filter_map(|track| {
            let entry = self.tracks.get(&info.sid, &track.sid)?;
            Some(RemoteTrack { sid: track.sid.as_str().into(), key: entry.key, codec: entry.spec.codec })
        });
        let tracks = tracks.collect();
        Some(self.shared(RemoteParticipant { info, tracks }))
    }

    /// The record of a participant that the sessions share: one who joins gets the same as the others have.
    fn shared(&mut self, remote: RemoteParticipant) -> Arc<RemoteParticipant> {
        match self.shown.get(&remote.info.sid) {
            Some(known) if **known == remote => known.clone(),
            _ => {
                let sid = remote.info.sid.clone();
                let remote = Arc::new(remote);
                // It may have left in the meantime: an eviction ends a session before later changes are shown.
                if self.replica.by_sid(&sid).is_some() {
                    self.shown.insert(sid, remote.clone());
                }
                remote
            }
        }
    }

    /// Sets the location attributes from the directory that lists the node, not from what the node wrote.
    fn set_location(&self, node: &str, info: &mut ParticipantInfo) {
        info.attributes.retain(|name, _| !name.starts_with("systir."));
        self.set_gateway(node, info);
        let Some(facts) = self.config.authority.facts(node) else { return };
        for (name, value) in
            [("systir.node", &facts.id), ("systir.region", &facts.region), ("systir.country", &facts.country)]
        {
            info.attributes.insert(name.to_owned(), value.clone());
        }
    }

    /// Sets the attribute of the gateway from the participant's ticket.
    fn set_gateway(&self, node: &str, info: &mut ParticipantInfo) {
        if let Some(gateway) = self.gateway_of(node, &info.sid) {
            info.attributes.insert("systir.gateway".to_owned(), gateway.to_owned());
        }
    }

    /// Brings the tracks of a remote participant at the worker in line with its info. They exist here only
    /// while the room is open on the link to its node.
    pub(super) fn add_tracks(&mut self, node: &str, info: &ParticipantInfo) {
        let open = self.peers.get(node).is_some_and(|peer| peer.link.is_some());
        let is_listed = |entry: &&TrackEntry| info.tracks.iter().any(|track| track.sid == entry.sid);
        let obsolete: Vec<TrackKey> = self
            .tracks
            .of_publisher(&info.sid)
            .filter(|entry| !open || entry.node != node || !is_listed(entry))
            .map(|entry| entry.key)
            .collect();
        for key in obsolete {
            self.remove_track(key);
        }
        let Some(link) = self.peers.get(node).and_then(|peer| peer.link) else { return };
        for track in info.tracks.iter().take(MAX_TRACKS) {
            let Some(spec) = spec_of(track) else { continue };
            // Its media node should have refused it.
            if self.attributes.e2ee && track.encryption == proto::encryption::Type::None as i32 {
                tracing::warn!(
                    node,
                    "an unencrypted track is left out: the room requires end-to-end encryption"
                );
                continue;
            }
            match self.tracks.get(&info.sid, &track.sid) {
                Some(known) if known.spec == spec => continue,
                Some(known) => self.remove_track(known.key),
                None => {}
            }
            let Some(flows) = self.config.flows.flows(node, self.config.worker_index) else { continue };
            let key = self.config.keys.track();
            self.tracks.insert(TrackEntry {
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
            self.command(WorkerCommand::AddTrack {
                room: self.config.key,
                track: key,
                spec,
                source,
                publisher,
            });
        }
    }

    /// Removes a track, and unsubscribes from it at its node, which keeps the flows of what is subscribed.
    fn remove_track(&mut self, key: TrackKey) {
        self.wanted_changed(key, LayerSet::NONE);
        if let Some(entry) = self.tracks.remove(key)
            && entry.node != self.config.node
        {
            self.command(WorkerCommand::RemoveTrack { track: key });
        }
    }

    /// Removes all remote tracks.
    pub(super) fn remove_remote_tracks(&mut self) {
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        let remote: Vec<TrackKey> =
            nodes.iter().flat_map(|node| self.tracks.of_node(node)).map(|entry| entry.key).collect();
        for key in remote {
            self.remove_track(key);
        }
    }

    fn remove_tracks_of(&mut self, publisher: &str) {
        let keys: Vec<TrackKey> = self.tracks.of_publisher(publisher).map(|entry| entry.key).collect();
        for key in keys {
            self.remove_track(key);
        }
    }

    /// Shows the participants of a node again, with the tracks that are available now. Called when the room
    /// opened or closed on the link to it.
    pub(super) fn update_participants_of(&mut self, node: &str) {
        let participants: Vec<Participant> =
            self.replica.participants().filter(|participant| participant.owner == node).collect();
        for participant in participants {
            self.update_participant(&participant);
        }
    }

    /// Removes the participants of a node that no longer carries the room.
    pub(super) fn remove_node(&mut self, node: &str) {
        let changes = self.replica.lose_node(node);
        self.notify_changes(changes);
        self.residency_changed();
    }

    /// All participants but one, for the session that starts.
    pub(super) fn all_but(&mut self, sid: &str) -> Vec<Arc<RemoteParticipant>> {
        let participants: Vec<Participant> =
            self.replica.participants().filter(|participant| participant.sid != sid).collect();
        participants.iter().filter_map(|participant| self.remote(participant)).collect()
    }

    /// `ParticipantInfo` of the participants on other nodes.
    pub(super) fn remote_infos(&self) -> impl Iterator<Item = ParticipantInfo> {
        self.replica.participants().filter(|participant| participant.owner != self.config.node).filter_map(
            |participant| {
                let mut info = ParticipantInfo::decode(participant.body).ok()?;
                self.set_gateway(&participant.owner, &mut info);
                Some(info)
            },
        )
    }
}

/// The changes with the newest state of each participant only, between two that end something.
fn newest(changes: Vec<Change>) -> Vec<Change> {
    let mut newest: Vec<Change> = Vec::new();
    let mut places: BTreeMap<Sid, usize> = BTreeMap::new();
    for change in changes {
        if let Change::Joined(participant) | Change::Updated(participant) = &change {
            if let Some(earlier) = places.get(&participant.sid).and_then(|place| newest.get_mut(*place)) {
                *earlier = change;
                continue;
            }
            places.insert(participant.sid.clone(), newest.len());
        } else {
            places.clear();
        }
        newest.push(change);
    }
    newest
}

/// Is the participant hidden from other participants?
pub(super) fn is_hidden(info: &ParticipantInfo) -> bool {
    info.permission.as_ref().is_some_and(|permission| permission.hidden)
}

/// The media specification of a track; none when its codec is unknown or not set yet.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParticipantVersion;

    #[test]
    fn a_participant_is_shown_in_its_newest_state_and_what_ends_stays_in_its_place() {
        let state = |sid: &str, counter: u32| Participant {
            sid: sid.to_owned(),
            identity: sid.to_owned(),
            owner: "sto-1".to_owned(),
            version: ParticipantVersion { epoch: 1, counter },
            body: Default::default(),
        };
        let joined = |sid, counter| Change::Joined(state(sid, counter));
        let updated = |sid, counter| Change::Updated(state(sid, counter));
        let left = || Change::Left { sid: "PA_bob".to_owned(), identity: "bob".to_owned() };
        let changes = vec![
            joined("PA_anna", 0),
            updated("PA_bob", 1),
            updated("PA_anna", 1),
            updated("PA_anna", 2),
            left(),
            updated("PA_anna", 3),
            updated("PA_anna", 4),
        ];
        let kept = [updated("PA_anna", 2), updated("PA_bob", 1), left(), updated("PA_anna", 4)];
        assert_eq!(newest(changes), kept);
        assert_eq!(newest(Vec::new()), []);
    }
}
