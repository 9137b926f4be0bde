//! Events of the room: other participants, their tracks, speakers, data messages and permissions.

use std::collections::HashSet;
use std::sync::Arc;

use livekit_protocol::{
    self as proto, leave_request::Action, participant_info::State, request_response as rr,
    signal_response::Message,
};

use super::data::route_data;
use super::event::{LeaveReason, Output, RemoteParticipant, RoomEvent};
use super::reply;
use super::session::Session;
use super::track::OwnTrack;
use super::visible::{VisibleTrack, VisibleTrackId};
use crate::token::Grants;
use systir_media_control::{DataChannel, WorkerCommand};

impl Session {
    pub(super) fn handle_room_event(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Participants(participants) => self.participants(participants),
            RoomEvent::Left { sid, reason } => self.participant_left(&sid, reason),
            RoomEvent::Room(room) => {
                self.config.room = room.clone();
                self.signal(Message::RoomUpdate(proto::RoomUpdate { room: Some(room) }));
            }
            RoomEvent::Speakers(speakers) => self.speakers(speakers),
            RoomEvent::Quality(info) => self.quality_changed(info),
            RoomEvent::Data { channel, packet } => {
                let participant = self.config.participant;
                self.media(WorkerCommand::SendData { participant, channel, data: packet });
            }
            RoomEvent::TrackSubscribed { track_sid } => self.track_subscribed(track_sid),
            RoomEvent::Mute { track_sid, muted } => {
                if self.set_muted(&track_sid, muted) == Some(true) {
                    self.signal(Message::Mute(proto::MuteTrackRequest { sid: track_sid, muted }));
                }
            }
            RoomEvent::Subscription { track_sids, subscribe } => {
                self.request_subscriptions(&track_sids, subscribe);
            }
            RoomEvent::Metadata { name, metadata, attributes } => {
                self.apply_metadata(name, metadata, attributes);
            }
            RoomEvent::Permission(grants) => self.permission(*grants),
            RoomEvent::EncryptedOnly(required) => self.encrypted_only(required),
            RoomEvent::Token(token) => self.signal(Message::RefreshToken(token)),
            RoomEvent::Remove(reason) => self.end(Action::Disconnect, reason),
            RoomEvent::Dismiss { why } => {
                // The protocol has no text in `leave`.
                self.signal(reply::request_response(0, rr::Reason::NotAllowed, &why, None));
                self.end(Action::Disconnect, LeaveReason::ParticipantRemoved);
            }
            RoomEvent::Reconnect(reason) => self.reconnect(reason),
        }
    }

    fn participants(&mut self, participants: Vec<Arc<RemoteParticipant>>) {
        let mut changed = Vec::new();
        for participant in &participants {
            if self.store_participant(participant) {
                changed.push(participant.info.clone());
            }
        }
        if !changed.is_empty() {
            self.signal(reply::update(changed));
        }
        // After the update, because a client must know a track before it is offered.
        self.update_all_subscriptions();
    }

    /// Stores the state of another participant. False when the client need not be notified.
    pub(super) fn store_participant(&mut self, participant: &Arc<RemoteParticipant>) -> bool {
        let info = &participant.info;
        let hidden = info.permission.as_ref().is_some_and(|permission| permission.hidden);
        if info.sid == self.own.sid || hidden || !is_sid(&info.sid) {
            return false;
        }
        if info.state == State::Disconnected as i32 {
            self.participant_left(
                &info.sid,
                LeaveReason::try_from(info.disconnect_reason).unwrap_or(LeaveReason::UnknownReason),
            );
            return false;
        }
        if self.others.get(info.sid.as_str()).is_some_and(|known| known.info.version > info.version) {
            return false;
        }
        let sid = match self.others.get_key_value(info.sid.as_str()) {
            Some((sid, _)) => Arc::clone(sid),
            None => {
                let sid: Arc<str> = info.sid.as_str().into();
                self.quality_unsent.insert(Arc::clone(&sid));
                sid
            }
        };
        self.others.insert(Arc::clone(&sid), participant.clone());

        let now: HashSet<&str> = participant.tracks.iter().map(|track| &*track.sid).collect();
        let gone: Vec<VisibleTrackId> = self
            .visible
            .keys()
            .filter(|id| *id.participant_sid == *info.sid && !now.contains(&*id.track_sid))
            .cloned()
            .collect();
        for id in gone {
            self.remove_visible(&id);
        }
        for track in participant.tracks.iter().filter(|track| is_sid(&track.sid)) {
            if !info.tracks.iter().any(|one| *one.sid == *track.sid) {
                continue;
            }
            let id = VisibleTrackId { track_sid: track.sid.clone(), participant_sid: sid.clone() };
            let known = self.visible.get(&id);
            let same = known.is_some_and(|known| known.track == *track);
            let (requested, settings) =
                known.map_or((None, None), |known| (known.requested, known.settings.clone()));
            let requested = self.early_requests.remove(&id).or(requested);
            let unsupported = same && known.is_some_and(|known| known.unsupported);
            if !same {
                // Another codec or source with the same sid needs another m-line.
                self.drop_subscription(&id);
            }
            self.visible.insert(
                id,
                VisibleTrack {
                    track: track.clone(),
                    publisher: participant.clone(),
                    requested,
                    unsupported,
                    settings,
                },
            );
        }
        true
    }

    fn participant_left(&mut self, sid: &str, reason: LeaveReason) {
        let Some(other) = self.others.remove(sid) else { return };
        self.quality_unsent.remove(sid);
        self.qualities.remove(sid);
        let mut info = other.info.clone();
        let tracks: Vec<VisibleTrackId> =
            self.visible.keys().filter(|id| *id.participant_sid == *sid).cloned().collect();
        self.early_requests.retain(|id, _| *id.participant_sid != *sid);
        info.state = State::Disconnected as i32;
        info.disconnect_reason = reason as i32;
        info.version = info.version.saturating_add(1);
        info.tracks.clear();
        self.signal(reply::update(vec![info]));
        for track in tracks {
            self.remove_visible(&track);
        }
    }

    fn speakers(&mut self, mut speakers: Vec<proto::SpeakerInfo>) {
        speakers
            .retain(|speaker| speaker.sid == self.own.sid || self.others.contains_key(speaker.sid.as_str()));
        if !speakers.is_empty() {
            self.signal(Message::SpeakersChanged(proto::SpeakersChanged { speakers }));
        }
    }

    fn track_subscribed(&mut self, track_sid: String) {
        let own = self.tracks.iter_mut().find(|track| track.info.sid == track_sid);
        let Some(track) = own.filter(|track| !track.subscribed) else { return };
        track.subscribed = true;
        self.signal(Message::TrackSubscribed(proto::TrackSubscribed { track_sid }));
    }

    pub(super) fn data(&mut self, channel: DataChannel, packet: &[u8]) {
        match route_data(&self.config.grants, &self.own.sid, packet) {
            Ok(routed) => self.outputs.push_back(Output::Data {
                channel,
                packet: routed.packet,
                destinations: routed.destinations,
            }),
            Err(_) => self.counts.data_dropped += 1,
        }
    }

    /// New permissions; what is no longer allowed ends at once.
    fn permission(&mut self, grants: Grants) {
        let old = &self.config.grants;
        let grants = Grants {
            identity: old.identity.clone(),
            room: old.room.clone(),
            institution: old.institution.clone(),
            ..grants
        };
        self.config.grants = grants;
        self.own.permission = Some(self.config.grants.permission());

        self.unpublish_unless(|session, track| {
            let source =
                proto::TrackSource::try_from(track.info.source).unwrap_or(proto::TrackSource::Unknown);
            session.config.grants.may_publish(source)
        });
        self.own_changed(true);
        self.update_all_subscriptions();
    }

    /// Whether tracks must be end-to-end encrypted changed; those that no longer may be published end at once.
    fn encrypted_only(&mut self, required: bool) {
        if std::mem::replace(&mut self.config.encrypted_only, required) == required {
            return;
        }
        if self.unpublish_unless(|session, track| session.is_encrypted_enough(track.info.encryption)) {
            self.own_changed(true);
        }
    }

    /// Unpublishes the tracks that `may_stay` refuses. True when there were any.
    fn unpublish_unless(&mut self, may_stay: impl Fn(&Self, &OwnTrack) -> bool) -> bool {
        let (kept, revoked): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tracks).into_iter().partition(|track| may_stay(self, track));
        self.tracks = kept;
        for track in &revoked {
            self.unpublish(track);
            let track_sid = track.info.sid.clone();
            self.signal(Message::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid }));
        }
        !revoked.is_empty()
    }
}

/// Is this a valid sid? Checked because sids of other nodes are written into SDP.
fn is_sid(sid: &str) -> bool {
    (4..=64).contains(&sid.len())
        && sid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
