//! Subscriptions: tracks of other participants, offered on the subscriber connection.

use std::collections::{BTreeSet, HashSet};

use livekit_protocol::{self as proto, SubscriptionError, leave_request::Action, signal_response::Message};
use systir_rtp::packet::Kind;

use super::event::{LeaveReason, Output};
use super::session::Session;
use super::visible::{VisibleTrack, VisibleTrackId};
use super::{reply, track};
use crate::sdp::OfferedTrack;
use systir_media_control::{Side, TrackDemand, TrackKey, WorkerCommand};

/// Sids of one request that are read, at most.
const MAX_SIDS: usize = 10_000;
/// Unknown sids of one request that are answered, at most: the answer is longer than the sid.
const MAX_UNKNOWN_ANSWERED: usize = 64;

impl Session {
    fn wants(&self, visible: &VisibleTrack) -> bool {
        self.config.grants.can_subscribe
            && !visible.unsupported
            && visible.requested.unwrap_or(self.config.auto_subscribe)
    }

    /// Subscribes to every wanted track and unsubscribes from the others.
    pub(super) fn update_all_subscriptions(&mut self) {
        let ids: Vec<VisibleTrackId> = self.visible.keys().cloned().collect();
        for id in ids {
            self.update_one_subscription(&id);
        }
    }

    /// Subscribes to a track or unsubscribes from it, as wanted.
    pub(super) fn update_one_subscription(&mut self, id: &VisibleTrackId) {
        let Some(visible) = self.visible.get(id) else { return };
        let (sid, key) = (&*id.track_sid, visible.track.key);
        let Some(info) = visible.info() else { return };
        match (self.wants(visible), self.subscriber.contains(key)) {
            (true, false) => {
                let wanted = OfferedTrack {
                    track: key,
                    sid: sid.to_owned(),
                    stream: track::stream_id(&id.participant_sid, info),
                    codec: visible.track.codec,
                    source: track::capture_source(info, visible.track.codec.kind()),
                };
                let has_room = self.subscriber.len() < self.config.limits.subscriptions;
                if !has_room || !self.subscriber.add(wanted, &mut self.rng) {
                    self.counts.refused += 1;
                    return self.signal(reply::subscription_failed(sid, SubscriptionError::SeUnknown));
                }
                self.outputs.push_back(Output::Subscribed { track_sid: sid.to_owned(), key });
                self.offer_soon();
            }
            (false, true) => self.drop_subscription(id),
            _ => {}
        }
    }

    pub(super) fn drop_subscription(&mut self, id: &VisibleTrackId) {
        let Some(key) = self.visible.get(id).map(|visible| visible.track.key) else { return };
        if self.subscriber.remove(key) {
            self.media(WorkerCommand::Unsubscribe { participant: self.config.participant, track: key });
            self.outputs.push_back(Output::Unsubscribed { track_sid: String::from(&*id.track_sid), key });
            self.offer_soon();
        }
    }

    /// Removes a track of another participant.
    pub(super) fn remove_visible(&mut self, id: &VisibleTrackId) {
        self.drop_subscription(id);
        self.visible.remove(id);
    }

    pub(super) fn update_subscription(&mut self, request: &proto::UpdateSubscription) {
        let nested = request.participant_tracks.iter().flat_map(|one| &one.track_sids);
        self.request_subscriptions(request.track_sids.iter().chain(nested), request.subscribe);
    }

    /// Handles a request of the client or the server API for tracks: for each one with one of these sids.
    pub(super) fn request_subscriptions<'a>(
        &mut self,
        sids: impl IntoIterator<Item = &'a String>,
        subscribe: bool,
    ) {
        let sids = distinct(sids);
        // A client sees a track as soon as it is published, and can receive it a moment later.
        let announced = self.announced_with(&sids);
        let mut answered = 0;
        for sid in sids {
            let visible = self.visible_with(sid);
            let early = announced.range(VisibleTrackId::new(sid, "")..);
            let early = early.take_while(|id| *id.track_sid == *sid).filter(|id| !visible.contains(id));
            let mut found = !visible.is_empty();
            for id in early {
                if self.early_requests.len() < self.config.limits.subscriptions {
                    self.early_requests.insert(id.clone(), subscribe);
                    found = true;
                }
            }
            if !found && subscribe {
                self.counts.refused += 1;
                if answered < MAX_UNKNOWN_ANSWERED {
                    answered += 1;
                    self.signal(reply::subscription_failed(sid, SubscriptionError::SeTrackNotfound));
                }
            }
            for id in visible {
                self.request_visible(&id, subscribe);
            }
        }
    }

    /// The tracks with these sids that other participants announce, whether they can be received yet or not.
    fn announced_with(&self, sids: &[&str]) -> BTreeSet<VisibleTrackId> {
        let wanted: HashSet<&str> = sids.iter().copied().collect();
        let announced = self.others.iter().flat_map(|(publisher, other)| {
            let tracks = other.info.tracks.iter().filter(|track| wanted.contains(track.sid.as_str()));
            tracks.map(|track| VisibleTrackId::new(&track.sid, publisher))
        });
        announced.collect()
    }

    fn request_visible(&mut self, id: &VisibleTrackId, subscribe: bool) {
        let Some(visible) = self.visible.get_mut(id) else { return };
        let sid = &*id.track_sid;
        visible.requested = Some(subscribe);
        if subscribe && !self.config.grants.can_subscribe {
            self.counts.refused += 1;
            return self.signal(reply::subscription_permission(&id.participant_sid, sid, false));
        }
        if subscribe && visible.unsupported {
            self.counts.refused += 1;
            return self.signal(reply::subscription_failed(sid, SubscriptionError::SeCodecUnsupported));
        }
        self.update_one_subscription(id);
    }

    pub(super) fn track_setting(&mut self, mut settings: proto::UpdateTrackSettings) {
        // Without the sids, so that each track keeps little.
        let sids = std::mem::take(&mut settings.track_sids);
        for sid in distinct(&sids) {
            let ids = self.visible_with(sid);
            if ids.is_empty() {
                self.counts.ignored += 1;
            }
            for id in ids {
                let Some(visible) = self.visible.get_mut(&id) else { continue };
                visible.settings = Some(Box::new(settings.clone()));
                let (track, demand) = (visible.track.key, visible.demand(&settings));
                if self.subscriber.contains(track) {
                    self.media(WorkerCommand::Demand { participant: self.config.participant, track, demand });
                }
            }
        }
    }

    /// Schedules an offer, which collects further changes.
    fn offer_soon(&mut self) {
        self.changed_at.get_or_insert(self.now);
    }

    pub(super) fn send_offer(&mut self) {
        self.changed_at = None;
        self.offered_at = Some(self.now);
        self.last_offer = self.last_offer.wrapping_add(1).max(1);
        let offer = self.subscriber.offer(Self::local_transport(&self.config, Side::Subscriber));
        self.signal(Message::Offer(proto::SessionDescription {
            r#type: "offer".into(),
            sdp: offer.sdp,
            id: self.last_offer,
            mid_to_track_id: offer.tracks,
        }));
    }

    pub(super) fn subscriber_answer(&mut self, description: &proto::SessionDescription) {
        // Older clients answer without an id.
        let is_current = description.id == 0 || description.id == self.last_offer;
        if self.offered_at.is_none() || !is_current {
            self.counts.ignored += 1;
            return;
        }
        let answered = match self.subscriber.answer(&description.sdp) {
            Ok(answered) => answered,
            Err(error) => {
                return self.refuse_malformed(&format!("the subscriber's answer cannot be used: {error}"));
            }
        };
        self.offered_at = None;
        self.set_remote(Side::Subscriber, answered.remote);
        for wanted in answered.refused {
            self.mark_unsupported(&wanted);
        }
        for downtrack in answered.accepted {
            self.start_downtrack(downtrack);
        }
    }

    fn start_downtrack(&mut self, downtrack: systir_media_control::Downtrack) {
        let (participant, key) = (self.config.participant, downtrack.track);
        let Some(visible) = self.visible.values().find(|visible| visible.track.key == key) else { return };
        let demand =
            visible.settings.as_ref().map_or(TrackDemand::HIGHEST, |settings| visible.demand(settings));
        let has_demand = visible.settings.is_some() || visible.track.codec.kind() == Kind::Video;
        self.media(WorkerCommand::Subscribe { participant, downtrack });
        if has_demand {
            self.media(WorkerCommand::Demand { participant, track: key, demand });
        }
    }

    /// Tracks were paused for lack of bandwidth, or go on: the client is told.
    pub(super) fn stream_states(&mut self, changes: &[(TrackKey, bool)]) {
        let infos = changes.iter().filter_map(|(key, paused)| {
            let (id, _) = self.visible.iter().find(|(_, visible)| visible.track.key == *key)?;
            let state = if *paused { proto::StreamState::Paused } else { proto::StreamState::Active };
            Some(proto::StreamStateInfo {
                participant_sid: id.participant_sid.to_string(),
                track_sid: id.track_sid.to_string(),
                state: state as i32,
            })
        });
        let stream_states: Vec<proto::StreamStateInfo> = infos.collect();
        if !stream_states.is_empty() {
            self.signal(Message::StreamStateUpdate(proto::StreamStateUpdate { stream_states }));
        }
    }

    /// The client answered that it lacks the codec.
    fn mark_unsupported(&mut self, refused: &OfferedTrack) {
        let (sid, key) = (refused.sid.as_str(), refused.track);
        let Some(visible) = self.visible.values_mut().find(|visible| visible.track.key == key) else {
            return;
        };
        visible.unsupported = true;
        self.counts.refused += 1;
        self.media(WorkerCommand::Unsubscribe { participant: self.config.participant, track: key });
        self.outputs.push_back(Output::Unsubscribed { track_sid: sid.to_owned(), key });
        self.signal(reply::subscription_failed(sid, SubscriptionError::SeCodecUnsupported));
    }

    /// Ends the session and asks the client to reconnect.
    pub(super) fn reconnect(&mut self, reason: LeaveReason) {
        self.end(Action::Reconnect, reason);
    }
}

/// The sids of a request, each once, in their order: a client may repeat one as often as its message is long.
fn distinct<'a>(sids: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let first = sids.into_iter().take(MAX_SIDS).map(String::as_str);
    first.filter(|sid| seen.insert(*sid)).collect()
}
