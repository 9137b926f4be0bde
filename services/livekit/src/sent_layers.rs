//! Tells the client which layers of its published video to send.

use std::time::Instant;

use livekit_protocol::{self as proto, signal_response::Message};
use systir_rtp::packet::{Kind, LayerSet};

use super::session::Session;
use super::track::OwnTrack;
use crate::sdp::codecs;
use systir_media_control::TrackKey;

impl OwnTrack {
    /// When a layer is to be turned off.
    pub(super) fn unwanted_at(&self) -> Option<Instant> {
        let is_published = self.bound.is_some() && self.kind == Kind::Video;
        if is_published { self.dynacast.due() } else { None }
    }
}

impl Session {
    /// The layers that anybody wants of a published track changed.
    pub(super) fn layers_wanted(&mut self, key: TrackKey, wanted: LayerSet) {
        let now = self.now;
        let Some(track) = self.tracks.iter_mut().find(|track| track.key == key) else { return };
        let Some(bound) = track.bound.as_ref().filter(|_| track.kind == Kind::Video) else { return };
        if track.dynacast.wanted(now, wanted, bound.spec.layers) {
            self.tell_layers(key);
        }
    }

    /// Turns off the layers that nobody has wanted for long enough.
    pub(super) fn turn_off_unwanted(&mut self) {
        let now = self.now;
        let published =
            self.tracks.iter_mut().filter(|track| track.unwanted_at().is_some_and(|at| at <= now));
        let changed: Vec<TrackKey> =
            published.filter_map(|track| track.dynacast.turn_off(now).then_some(track.key)).collect();
        for key in changed {
            self.tell_layers(key);
        }
    }

    /// Tells a client again which layers are on: it may start its encoder anew, with all of them.
    pub(super) fn repeat_layers(&mut self, key: TrackKey) {
        let track = self.tracks.iter().find(|track| track.key == key);
        if track.is_some_and(|track| !track.dynacast.is_all_on()) {
            self.tell_layers(key);
        }
    }

    #[allow(deprecated)]
    fn tell_layers(&mut self, key: TrackKey) {
        let Some(track) = self.tracks.iter().find(|track| track.key == key) else { return };
        let Some(bound) = &track.bound else { return };
        let qualities = track.dynacast.qualities();
        // Clients compare it with the name that they publish under, such as `vp8`.
        let codec = codecs::mime(bound.spec.codec).trim_start_matches("video/").to_lowercase();
        let update = proto::SubscribedQualityUpdate {
            track_sid: track.info.sid.clone(),
            // Read by clients that know of one codec only.
            subscribed_qualities: qualities.clone(),
            subscribed_codecs: vec![proto::SubscribedCodec { codec, qualities }],
        };
        self.signal(Message::SubscribedQualityUpdate(update));
    }
}
