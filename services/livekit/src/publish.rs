//! Tracks that the client publishes: announced by `AddTrackRequest`, then bound to an m-line of an offer.

use livekit_protocol::{
    self as proto, AudioTrackFeature, TrackSource, request_response as rr, signal_response::Message,
};
use systir_rtp::packet::{Codec, Kind};

use super::dynacast::Dynacast;
use super::event::{LeaveReason, Output};
use super::session::Session;
use super::sid::mint_sid;
use super::track::{self, OwnTrack};
use crate::sdp::{Offer, Origin, ReceiveOptions, SdpError, Section, SectionKind};
use systir_media_control::{ReceiveSection, Side, TrackKey, WorkerCommand};

impl Session {
    pub(super) fn add_track(&mut self, request: proto::AddTrackRequest) {
        let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
        let of = |request| Some(rr::Request::AddTrack(request));
        if !self.config.grants.may_publish(source) {
            let text = "the token does not allow to publish this source";
            return self.refuse(0, rr::Reason::NotAllowed, text, of(request));
        }
        if !self.is_encrypted_enough(request.encryption) {
            let text = "this room requires end-to-end encryption: turn it on, then publish again";
            return self.refuse(0, rr::Reason::NotAllowed, text, of(request));
        }
        let (Some(kind), true) = (track::kind(&request), request.sid.is_empty()) else {
            let text = "only audio and video tracks can be published, each in one codec";
            return self.refuse(0, rr::Reason::UnsupportedType, text, of(request));
        };
        if request.cid.len() > track::MAX_TEXT {
            let text = "the cid of the track is longer than 1,024 bytes";
            return self.refuse(0, rr::Reason::LimitExceeded, text, of(request));
        }
        // Announced again before it was bound: the same track.
        let same = self.tracks.iter().find(|track| track.bound.is_none() && track.cid == request.cid);
        if let Some(same) = same.filter(|same| same.kind == kind) {
            let message = published(&request.cid, same.info.clone());
            return self.signal(message);
        }
        if self.tracks.len() >= self.config.limits.tracks && !self.drop_oldest_announced() {
            let text = "too many published tracks: unpublish one first";
            return self.refuse(0, rr::Reason::LimitExceeded, text, of(request));
        }
        let sid = mint_sid(track::sid_prefix(kind, source), &mut self.rng);
        let info = track::info(&request, sid, kind, self.clock.micros(self.now));
        let message = published(&request.cid, info.clone());
        let key = self.config.keys.track();
        self.tracks.push(OwnTrack {
            key,
            info,
            cid: request.cid,
            kind,
            announced_at: self.now,
            bound: None,
            subscribed: false,
            dynacast: Dynacast::default(),
        });
        self.signal(message);
        self.bind_unbound_section(key);
    }

    /// May a track with this `Encryption.Type` be published? An unknown type counts as none.
    pub(super) fn is_encrypted_enough(&self, encryption: i32) -> bool {
        let encryption =
            proto::encryption::Type::try_from(encryption).unwrap_or(proto::encryption::Type::None);
        !self.config.encrypted_only || encryption != proto::encryption::Type::None
    }

    /// Binds a new track to an m-line that was offered before the track was announced.
    fn bind_unbound_section(&mut self, key: TrackKey) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.key == key) else { return };
        let fits = |section: &Section| {
            let same_cid = section.track.as_deref().is_none_or(|cid| cid == track.cid);
            same_cid && section.kind == SectionKind::Media(track.kind)
        };
        let Some(index) = self.unbound_sections.iter().position(fits) else { return };
        let section = self.unbound_sections.swap_remove(index);
        // The answer has put the client's preferred codec first.
        let Some(codec) = section.first_codec(None, false) else { return };
        track.bind(&section, codec);
        for received in self.sections.iter_mut().filter(|received| received.mid == section.mid) {
            received.track = Some(key);
        }
        let sections = self.sections.clone();
        self.start_own(key, &sections);
        self.media(WorkerCommand::Receive { participant: self.config.participant, sections });
        self.own_changed(false);
    }

    /// Removes the oldest track that was announced and never bound: a client does not cancel such a track.
    /// False when all tracks are bound.
    fn drop_oldest_announced(&mut self) -> bool {
        let oldest = self.tracks.iter().position(|track| track.bound.is_none());
        oldest.map(|index| self.tracks.remove(index)).is_some()
    }

    pub(super) fn publisher_offer(&mut self, description: &proto::SessionDescription) {
        let offer = match Offer::parse(&description.sdp) {
            Ok(offer) if description.r#type == "offer" || description.r#type.is_empty() => offer,
            Ok(_) => return self.refuse_malformed("the publisher's description is not an offer"),
            // Offers grow with each published track. A client whose offer became too long joins again, which
            // starts with a short one.
            Err(SdpError::TooLong { .. } | SdpError::TooManySections { .. }) if self.answers > 0 => {
                return self.reconnect(LeaveReason::StateMismatch);
            }
            Err(error) => {
                return self.refuse_malformed(&format!("the publisher's offer cannot be used: {error}"));
            }
        };
        let ended = self.unbind_stopped(&offer);
        let added = self.bind_sections(&offer);

        self.answers += 1;
        let origin = Origin { session: self.description_id, version: self.answers };
        let answer = offer.answer(Self::local_transport(&self.config, Side::Publisher), origin, |section| {
            self.options(section, self.config.red)
        });

        for track in &ended {
            self.unpublish(track);
        }
        for key in &added {
            self.start_own(*key, &answer.receive);
        }
        self.sections = answer.receive.clone();
        let is_unbound = |section: &&Section| {
            answer.receive.iter().any(|received| received.mid == section.mid && received.track.is_none())
        };
        let unbound = offer.sending_sections().filter(is_unbound).take(self.config.limits.tracks);
        self.unbound_sections = unbound.cloned().collect();
        self.media(WorkerCommand::Receive { participant: self.config.participant, sections: answer.receive });
        self.set_remote(Side::Publisher, offer.remote().clone());
        self.signal(Message::Answer(proto::SessionDescription {
            r#type: "answer".into(),
            sdp: answer.sdp,
            id: description.id,
            mid_to_track_id: Default::default(),
        }));
        if !ended.is_empty() || !added.is_empty() {
            self.own_changed(false);
        }
    }

    /// Removes the tracks whose m-line no longer sends them.
    fn unbind_stopped(&mut self, offer: &Offer) -> Vec<OwnTrack> {
        // An m-line with the cid of an announced track now carries that track.
        let announced: Vec<String> =
            self.tracks.iter().filter(|track| track.bound.is_none()).map(|track| track.cid.clone()).collect();
        let continues = |track: &mut OwnTrack| {
            let Some(bound) = &track.bound else { return true };
            let reassigned = |section: &Section| {
                section.track.as_ref().is_some_and(|cid| *cid != track.cid && announced.contains(cid))
            };
            offer.sending_sections().any(|section| section.mid == bound.mid && !reassigned(section))
        };
        let mut ended = Vec::new();
        let mut kept = Vec::new();
        for mut track in std::mem::take(&mut self.tracks) {
            if continues(&mut track) { kept.push(track) } else { ended.push(track) }
        }
        self.tracks = kept;
        ended
    }

    /// Binds each new m-line to an announced track.
    fn bind_sections(&mut self, offer: &Offer) -> Vec<TrackKey> {
        let mut added = Vec::new();
        for section in offer.sending_sections() {
            let SectionKind::Media(kind) = section.kind else { continue };
            let mid_taken =
                |track: &OwnTrack| track.bound.as_ref().is_some_and(|bound| bound.mid == section.mid);
            if self.tracks.iter().any(mid_taken) {
                continue;
            }
            let Some(index) = self.announced(section, kind) else { continue };
            let red = self.config.red;
            let Some(track) = self.tracks.get_mut(index) else { continue };
            let wanted = options(track, red);
            let Some(codec) = section.first_codec(wanted.codec, wanted.red) else { continue };
            track.bind(section, codec);
            added.push(track.key);
        }
        added
    }

    /// Index of the announced track for an m-line: the one with its `cid`, else the first of its kind,
    /// because a client may change the `cid`.
    fn announced(&self, section: &Section, kind: Kind) -> Option<usize> {
        let candidate = |track: &OwnTrack| track.bound.is_none() && track.kind == kind;
        let cid = section.track.as_deref();
        let named = self.tracks.iter().position(|track| candidate(track) && Some(track.cid.as_str()) == cid);
        named.or_else(|| self.tracks.iter().position(candidate))
    }

    fn options(&self, section: &Section, red: bool) -> Option<ReceiveOptions> {
        let bound = |track: &&OwnTrack| track.bound.as_ref().is_some_and(|bound| bound.mid == section.mid);
        match self.tracks.iter().find(bound) {
            Some(track) => Some(options(track, red)),
            // The track may be announced later; until then its packets are dropped.
            None if self.config.grants.can_publish => {
                Some(ReceiveOptions { track: None, codec: None, red: false, stereo: false, dtx: true })
            }
            None => None,
        }
    }

    fn start_own(&mut self, key: TrackKey, sections: &[ReceiveSection]) {
        let now = self.now;
        let Some(track) = self.tracks.iter_mut().find(|track| track.key == key) else { return };
        track.dynacast.begin(now);
        let Some(bound) = &track.bound else { return };
        if !sections.iter().any(|section| section.track == Some(key)) {
            return;
        }
        let (spec, sid, muted) = (bound.spec, track.info.sid.clone(), track.info.muted);
        self.outputs.push_back(Output::Published { sid, key, spec });
        self.media(WorkerCommand::AddTrack {
            room: self.config.room_key,
            track: key,
            spec,
            source: systir_media_control::TrackSource::Participant(self.config.participant),
            publisher: self.config.sid.as_str().into(),
        });
        if muted {
            self.media(WorkerCommand::Mute { track: key, muted });
        }
    }

    /// Removes a track from the room and the worker.
    pub(super) fn unpublish(&mut self, track: &OwnTrack) {
        if track.bound.is_some() {
            self.media(WorkerCommand::RemoveTrack { track: track.key });
            self.outputs.push_back(Output::Unpublished { sid: track.info.sid.clone(), key: track.key });
        }
    }

    pub(super) fn mute(&mut self, request: proto::MuteTrackRequest) {
        if self.set_muted(&request.sid, request.muted).is_none() {
            let text = "you publish no track with this sid";
            self.refuse(0, rr::Reason::NotFound, text, Some(rr::Request::Mute(request)));
        }
    }

    /// `None` when there is no such track, else whether anything changed.
    pub(super) fn set_muted(&mut self, sid: &str, muted: bool) -> Option<bool> {
        let track = self.tracks.iter_mut().find(|track| track.info.sid == sid)?;
        if track.info.muted == muted {
            return Some(false);
        }
        track.info.muted = muted;
        if track.bound.is_some() {
            let track = track.key;
            self.media(WorkerCommand::Mute { track, muted });
            if !muted {
                self.repeat_layers(track);
            }
            self.own_changed(false);
        }
        Some(true)
    }

    pub(super) fn update_audio_track(&mut self, request: proto::UpdateLocalAudioTrack) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.info.sid == request.track_sid) else {
            let of = rr::Request::UpdateAudioTrack(request);
            return self.refuse(0, rr::Reason::NotFound, "you publish no track with this sid", Some(of));
        };
        track.info.audio_features = request.features.into_iter().take(8).collect();
        self.own_changed(false);
    }

    pub(super) fn update_video_track(&mut self, request: proto::UpdateLocalVideoTrack) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.info.sid == request.track_sid) else {
            let of = rr::Request::UpdateVideoTrack(request);
            return self.refuse(0, rr::Reason::NotFound, "you publish no track with this sid", Some(of));
        };
        (track.info.width, track.info.height) = (request.width, request.height);
        self.own_changed(false);
    }

    /// The client did not name its codec, and its packets have another one than was assumed. For the worker
    /// and for subscribers this is another track with the same sid.
    pub(super) fn codec_found(&mut self, key: TrackKey, codec: Codec) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.key == key) else { return };
        let is_other =
            |bound: &track::BoundSection| bound.spec.codec != codec && bound.spec.kind == codec.kind();
        if !track.bound.as_ref().is_some_and(is_other) {
            return;
        }
        track.set_codec(codec);
        let (sid, old, new) = (track.info.sid.clone(), track.key, self.config.keys.track());
        track.key = new;
        for section in self.sections.iter_mut().filter(|section| section.track == Some(old)) {
            section.track = Some(new);
        }
        let sections = self.sections.clone();
        self.media(WorkerCommand::RemoveTrack { track: old });
        self.outputs.push_back(Output::Unpublished { sid, key: old });
        self.start_own(new, &sections);
        self.media(WorkerCommand::Receive { participant: self.config.participant, sections });
        self.own_changed(false);
    }

    pub(super) fn refuse_malformed(&mut self, text: &str) {
        self.counts.malformed += 1;
        self.signal(super::reply::request_response(0, rr::Reason::InvalidRequest, text, None));
    }
}

fn options(track: &OwnTrack, red: bool) -> ReceiveOptions {
    ReceiveOptions {
        track: Some(track.key),
        codec: track.announced_codec(),
        red: red && track.kind == Kind::Audio && !track.info.disable_red,
        stereo: track.feature(AudioTrackFeature::TfStereo),
        dtx: !track.feature(AudioTrackFeature::TfNoDtx),
    }
}

fn published(cid: &str, info: proto::TrackInfo) -> Message {
    Message::TrackPublished(proto::TrackPublishedResponse { cid: cid.to_owned(), track: Some(info) })
}
