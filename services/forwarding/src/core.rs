//! The core itself: tracks, their subscriptions and feeds, and the packets between them.

mod feedback;
mod ingest;
mod timeouts;

use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::slots::Slots;
use crate::source::LayerState;
use crate::subscription::Subscription;
use crate::throttle::ResendThrottle;
use crate::timers::Timers;
use crate::track::{Feed, Track};
use crate::{Egress, SenderInfo, SubscriptionId, SubscriptionStats, TrackId, TrackLoudness, TrackStats};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

/// Forwards packets of tracks to subscribers and downstreams. Single-threaded; every method that
/// may send takes the [`Egress`] to send with. An id of something that is gone is no error: a
/// method then does nothing, a question has no answer.
#[derive(Debug)]
pub struct Core {
    tracks: Slots<Track>,
    subs: Slots<Subscription>,
    /// Whose flow this is, by peer and flow.
    feeds: FxHashMap<(u32, u32), (TrackId, Layer)>,
    timers: Timers,
    /// First numbers and jitter; nothing secret depends on it.
    random: fastrand::Rng,
    /// Tracks whose wanted layers may have changed.
    wanted_checks: Vec<TrackId>,
    /// The latest time that a caller has given.
    clock: Option<Instant>,
}

impl Core {
    /// An empty core. `seed` decides the first numbers that subscribers see, and jitter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            tracks: Slots::new(),
            subs: Slots::new(),
            feeds: FxHashMap::default(),
            timers: Timers::default(),
            random: fastrand::Rng::with_seed(seed),
            wanted_checks: Vec::new(),
            clock: None,
        }
    }

    /// Adds a track. `group` comes back in [`TrackLoudness`] (one room, say); `layers` are those that the
    /// publisher declared: no other layer is taken, and a track without simulcast has layer 0.
    pub fn add_track(&mut self, group: u32, kind: Kind, codec: Codec, layers: LayerSet) -> TrackId {
        TrackId(self.tracks.insert(Track::new(group, kind, codec, layers)))
    }

    /// Removes a track; its subscriptions and feeds end.
    pub fn remove_track(&mut self, track: TrackId) {
        let Some(state) = self.tracks.remove(track.0) else { return };
        for id in &state.subs {
            self.subs.remove(id.0);
        }
        for feed in &state.feeds {
            self.feeds.remove(&(feed.peer, feed.flow));
        }
        self.timers.clear(track.index());
    }

    /// A muted track sends nothing. Unmuted, sound goes on at once and video at the next key frame,
    /// which is asked for.
    pub fn set_muted(&mut self, track: TrackId, muted: bool) {
        let Some(state) = self.tracks.get_mut(track.0).filter(|state| state.muted != muted) else { return };
        state.muted = muted;
        for id in &state.subs {
            if let Some(sub) = self.subs.get_mut(id.0) {
                sub.current = None;
            }
        }
        let Some(now) = self.clock else { return };
        for source in state.sources.iter_mut().flatten() {
            source.refresh(now);
            source.key_frame_request.cancel();
            if !muted && state.kind == Kind::Video {
                source.key_frame_request.schedule(now);
            }
        }
        self.timers.schedule(track.index(), now);
        self.queue_wanted_check(track);
    }

    /// Adds a local subscriber, paused: [`Core::set_target`] starts it. None when there is no such track.
    pub fn subscribe(&mut self, track: TrackId) -> Option<SubscriptionId> {
        let state = self.tracks.get_mut(track.0)?;
        let id = self.subs.insert(Subscription::new(track, self.random.u64(..)));
        if id == Slots::<Subscription>::NO_ID {
            return None;
        }
        state.subs.push(SubscriptionId(id));
        Some(SubscriptionId(id))
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, sub: SubscriptionId) {
        let Some(state) = self.subs.remove(sub.0) else { return };
        if let Some(track) = self.tracks.get_mut(state.track.0)
            && let Some(index) = track.subs.iter().position(|other| *other == sub)
        {
            track.subs.swap_remove(index);
        }
        self.queue_wanted_check(state.track);
    }

    /// The highest layer that the subscriber shall get (any for audio), or none to pause. While another
    /// layer is awaited, the present one goes on.
    pub fn set_target(
        &mut self,
        now: Instant,
        sub: SubscriptionId,
        target: Option<Layer>,
        egress: &mut impl Egress,
    ) {
        self.clock = Some(now);
        let Some(state) = self.subs.get_mut(sub.0) else { return };
        let target = target.map(|layer| layer.0.min(Layer::MAX as u8 - 1));
        if state.target == target {
            return;
        }
        let track = state.track;
        state.target = target;
        if target.is_none() {
            state.selected = None;
            state.current = None;
            self.queue_wanted_check(track);
            return;
        }
        let before = self.tracks.get(track.0).map_or(LayerSet::NONE, |track| track.reported_wanted);
        let wanted = self.wanted(track);
        if let Some(track) = self.tracks.get_mut(track.0) {
            for layer in wanted.iter().filter(|layer| !before.contains(*layer)) {
                if let Some(source) = track.source_mut(layer.0) {
                    source.await_layer(now);
                }
            }
        }
        self.reselect(now, track, egress);
    }

    /// From now on the layer goes to the downstream `peer` as flow `flow`, as it is. Idempotent; another
    /// flow for the same layer and peer replaces the first. The downstream asks for its key frame itself.
    pub fn feed(&mut self, track: TrackId, layer: Layer, peer: u32, flow: u32) {
        if self.feeds.get(&(peer, flow)) == Some(&(track, layer)) {
            return;
        }
        if self.tracks.get(track.0).is_none_or(|state| state.source(layer.0).is_none()) {
            return;
        }
        self.unfeed(track, layer, peer);
        if let Some((other, layer)) = self.feeds.get(&(peer, flow)).copied() {
            self.unfeed(other, layer, peer);
        }
        let Some(state) = self.tracks.get_mut(track.0) else { return };
        state.feeds.push(Feed { layer: layer.0, peer, flow, resend_throttle: ResendThrottle::default() });
        self.feeds.insert((peer, flow), (track, layer));
        self.queue_wanted_check(track);
    }

    /// Ends a feed.
    pub fn unfeed(&mut self, track: TrackId, layer: Layer, peer: u32) {
        let Some(state) = self.tracks.get_mut(track.0) else { return };
        let Some(index) = state.feeds.iter().position(|feed| feed.layer == layer.0 && feed.peer == peer)
        else {
            return;
        };
        let feed = state.feeds.swap_remove(index);
        self.feeds.remove(&(feed.peer, feed.flow));
        self.queue_wanted_check(track);
    }

    /// The layers that somebody wants of a track: subscriptions (what they ask for and what they
    /// still get) and feeds together.
    #[must_use]
    pub fn wanted(&self, track: TrackId) -> LayerSet {
        let Some(state) = self.tracks.get(track.0) else { return LayerSet::NONE };
        let layer_state = |layer: u8| state.source(layer).map_or(LayerState::Ended, |source| source.state);
        let feeds = state.feeds.iter().fold(LayerSet::NONE, |set, feed| set.with(Layer(feed.layer)));
        let subs = state.subs.iter().filter_map(|id| self.subs.get(id.0));
        subs.fold(feeds, |set, sub| set.union(sub.wanted(state.layers, layer_state)))
    }

    /// The next track whose [`Core::wanted`] differs from what this said last (at first: nothing).
    /// Call until it gives none, after every batch of calls.
    pub fn poll_wanted(&mut self) -> Option<(TrackId, LayerSet)> {
        while let Some(track) = self.wanted_checks.pop() {
            let wanted = self.wanted(track);
            let Some(state) = self.tracks.get_mut(track.0) else { continue };
            state.wanted_check_queued = false;
            if state.reported_wanted != wanted {
                state.reported_wanted = wanted;
                return Some((track, wanted));
            }
        }
        None
    }

    fn queue_wanted_check(&mut self, track: TrackId) {
        if let Some(state) = self.tracks.get_mut(track.0)
            && !state.wanted_check_queued
        {
            state.wanted_check_queued = true;
            self.wanted_checks.push(track);
        }
    }

    /// Counters of a subscription.
    #[must_use]
    pub fn subscription_stats(&self, sub: SubscriptionId) -> Option<SubscriptionStats> {
        let sub = self.subs.get(sub.0)?;
        Some(SubscriptionStats {
            packets: sub.packets,
            octets: sub.octets,
            retransmitted_packets: sub.retransmitted_packets,
            retransmitted_octets: sub.retransmitted_octets,
            target: sub.target.map(Layer),
            current: sub.current.map(Layer),
            switches: sub.switches,
        })
    }

    /// Counters of a track.
    #[must_use]
    pub fn track_stats(&self, track: TrackId) -> Option<TrackStats> {
        let state = self.tracks.get(track.0)?;
        let mut stats =
            TrackStats { subscriptions: state.subs.len(), feeds: state.feeds.len(), ..TrackStats::default() };
        for (layer, (source, counters)) in state.sources.iter().zip(&mut stats.layers).enumerate() {
            let Some(source) = source else { continue };
            *counters = source.stats;
            if source.state == LayerState::Live {
                stats.live = stats.live.with(Layer(layer as u8));
            }
        }
        Some(stats)
    }

    /// What a sender report to the subscriber says at `now`: the publisher's NTP clock, and the same
    /// instant in the subscriber's timestamps. None while nothing is sent or the publisher has not
    /// reported yet.
    #[must_use]
    pub fn sender_info(&self, now: Instant, sub: SubscriptionId) -> Option<SenderInfo> {
        let sub = self.subs.get(sub.0)?;
        let source = self.tracks.get(sub.track.0)?.source(sub.current?)?;
        let instant = source.instant(now)?;
        Some(SenderInfo {
            ntp: instant.ntp,
            timestamp: instant.timestamp.wrapping_add(sub.rewriter.timestamp_shift()),
            packets: sub.packets as u32,
            octets: sub.octets as u32,
        })
    }

    /// The tracks whose loudness changed since the last call, those that fell silent included. Call
    /// every 500 ms.
    pub fn loudness_changes(&mut self, now: Instant) -> Vec<TrackLoudness> {
        let mut changed = Vec::new();
        for (id, state) in self.tracks.iter_mut().filter(|(_, state)| state.kind == Kind::Audio) {
            if let Some((level, active)) = state.loudness.poll_change(now) {
                changed.push(TrackLoudness { group: state.group, track: TrackId(id), level, active });
            }
        }
        changed
    }
}
