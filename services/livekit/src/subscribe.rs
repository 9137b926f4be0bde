//! What the client receives: tracks of others, offered on the subscriber's connection.

use std::time::Instant;

use livekit_protocol::{self as proto, SubscriptionError, leave_request::Action, signal_response::Message};
use systir_rtp::packet::Kind;

use super::event::{LeaveReason, Output};
use super::session::Session;
use super::visible::Visible;
use super::{quality, reply, track};
use crate::sdp::Wanted;
use systir_media_control::{Command, Side};

impl Session {
    fn wants(&self, visible: &Visible) -> bool {
        self.config.grants.can_subscribe
            && !visible.unsupported
            && visible.asked.unwrap_or(self.config.auto_subscribe)
    }

    /// Brings every subscription in line with what is wanted.
    pub(super) fn subscribe_to_all(&mut self) {
        let sids: Vec<String> = self.visible.keys().cloned().collect();
        for sid in sids {
            self.reconcile(&sid);
        }
    }

    /// Brings one subscription in line with what is wanted.
    pub(super) fn reconcile(&mut self, sid: &str) {
        let Some(visible) = self.visible.get(sid) else { return };
        let key = visible.track.key;
        match (self.wants(visible), self.subscriber.contains(key)) {
            (true, false) => {
                let wanted = Wanted {
                    track: key,
                    sid: sid.to_owned(),
                    stream: track::stream_id(&visible.participant_sid, &visible.info),
                    codec: visible.track.codec,
                };
                let room = self.subscriber.len() < self.config.limits.subscriptions;
                if !room || !self.subscriber.add(wanted, &mut self.rng) {
                    self.counts.refused += 1;
                    return self.signal(reply::subscription_failed(sid, SubscriptionError::SeUnknown));
                }
                self.outputs.push_back(Output::Subscribed { track_sid: sid.to_owned(), key });
                self.offer_soon();
            }
            (false, true) => self.drop_subscription(sid),
            _ => {}
        }
    }

    pub(super) fn drop_subscription(&mut self, sid: &str) {
        let Some(key) = self.visible.get(sid).map(|visible| visible.track.key) else { return };
        if self.subscriber.remove(key) {
            self.media(Command::Unsubscribe { participant: self.config.participant, track: key });
            self.outputs.push_back(Output::Unsubscribed { track_sid: sid.to_owned(), key });
            self.offer_soon();
        }
    }

    /// The end of a track for this participant.
    pub(super) fn forget_visible(&mut self, sid: &str) {
        self.drop_subscription(sid);
        self.visible.remove(sid);
    }

    pub(super) fn update_subscription(&mut self, request: &proto::UpdateSubscription) {
        let nested = request.participant_tracks.iter().flat_map(|one| &one.track_sids);
        let sids: Vec<&String> = request.track_sids.iter().chain(nested).take(10_000).collect();
        for sid in sids {
            self.ask(sid, request.subscribe);
        }
    }

    pub(super) fn ask(&mut self, sid: &str, subscribe: bool) {
        let allowed = self.config.grants.can_subscribe;
        let Some(visible) = self.visible.get_mut(sid) else {
            // A track is shown as soon as it is heard of, and can be received a moment later.
            let shown = self.others.values().any(|other| other.tracks.iter().any(|track| track.sid == *sid));
            if shown && self.early.len() < self.config.limits.subscriptions {
                self.early.insert(sid.to_owned(), subscribe);
            } else if subscribe {
                self.counts.refused += 1;
                self.signal(reply::subscription_failed(sid, SubscriptionError::SeTrackNotfound));
            }
            return;
        };
        visible.asked = Some(subscribe);
        if subscribe && !allowed {
            let participant = visible.participant_sid.clone();
            self.counts.refused += 1;
            return self.signal(reply::subscription_permission(&participant, sid, false));
        }
        if subscribe && visible.unsupported {
            self.counts.refused += 1;
            return self.signal(reply::subscription_failed(sid, SubscriptionError::SeCodecUnsupported));
        }
        self.reconcile(sid);
    }

    pub(super) fn track_setting(&mut self, settings: &proto::UpdateTrackSettings) {
        for sid in settings.track_sids.iter().take(10_000) {
            let Some(visible) = self.visible.get_mut(sid) else {
                self.counts.ignored += 1;
                continue;
            };
            visible.settings =
                Some(proto::UpdateTrackSettings { track_sids: Vec::new(), ..settings.clone() });
            let (key, layer) = (visible.track.key, quality::target(settings, &visible.info));
            if self.subscriber.contains(key) {
                self.media(Command::Target { participant: self.config.participant, track: key, layer });
            }
        }
    }

    /// Something to offer: soon, together with what else changes.
    fn offer_soon(&mut self) {
        self.changed.get_or_insert(self.now);
    }

    pub(super) fn send_offer(&mut self) {
        self.changed = None;
        self.waiting = Some(self.now);
        self.last_offer = self.last_offer.wrapping_add(1).max(1);
        let offer = self.subscriber.offer(Self::host(&self.config, Side::Subscriber));
        self.signal(Message::Offer(proto::SessionDescription {
            r#type: "offer".into(),
            sdp: offer.sdp,
            id: self.last_offer,
            mid_to_track_id: offer.tracks,
        }));
    }

    pub(super) fn subscriber_answer(&mut self, description: &proto::SessionDescription) {
        // Older clients answer without an id.
        let fits = description.id == 0 || description.id == self.last_offer;
        if self.waiting.is_none() || !fits {
            self.counts.ignored += 1;
            return;
        }
        let answered = match self.subscriber.answer(&description.sdp) {
            Ok(answered) => answered,
            Err(error) => return self.garbled(&format!("the subscriber's answer cannot be used: {error}")),
        };
        self.waiting = None;
        self.remote(Side::Subscriber, answered.remote);
        for wanted in answered.refused {
            self.unsupported(&wanted.sid);
        }
        for downtrack in answered.accepted {
            self.accepted(downtrack);
        }
    }

    fn accepted(&mut self, downtrack: systir_media_control::Downtrack) {
        let (participant, key) = (self.config.participant, downtrack.track);
        let Some(visible) = self.visible.values().find(|visible| visible.track.key == key) else { return };
        let target = match &visible.settings {
            Some(settings) => quality::target(settings, &visible.info),
            None => quality::layer_for_quality(proto::VideoQuality::High as i32),
        };
        let says = visible.settings.is_some() || visible.track.codec.kind() == Kind::Video;
        self.media(Command::Subscribe { participant, downtrack });
        if says {
            self.media(Command::Target { participant, track: key, layer: target });
        }
    }

    /// The client answered that it lacks the codec.
    fn unsupported(&mut self, sid: &str) {
        let Some(visible) = self.visible.get_mut(sid) else { return };
        visible.unsupported = true;
        let key = visible.track.key;
        self.counts.refused += 1;
        self.media(Command::Unsubscribe { participant: self.config.participant, track: key });
        self.outputs.push_back(Output::Unsubscribed { track_sid: sid.to_owned(), key });
        self.signal(reply::subscription_failed(sid, SubscriptionError::SeCodecUnsupported));
    }

    /// The client is to come back.
    pub(super) fn reconnect(&mut self, reason: LeaveReason) {
        self.end(Action::Reconnect, reason);
    }

    /// When the offer in waiting was sent.
    #[must_use]
    pub fn offer_outstanding_since(&self) -> Option<Instant> {
        self.waiting
    }
}
