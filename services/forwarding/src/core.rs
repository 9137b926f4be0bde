//! The core: tracks, their subscriptions and their feeds.

mod feedback;
mod ingest;
mod pull;
mod timeouts;

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::slots::Slots;
use crate::source::LayerState;
use crate::subscription::Subscription;
use crate::throttle::ResendThrottle;
use crate::timers::Timers;
use crate::track::{Feed, Track};
use crate::{
    Egress, SenderInfo, SubscriptionId, SubscriptionStats, TEMPORAL_LAYERS, TrackId, TrackLoudness,
    TrackStats,
};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

/// Forwards packets of tracks to local subscribers and to downstreams. A downstream is another node that
/// receives a copy of a layer over a link: a *feed*, identified by `peer` (the link's number) and `flow`
/// (its number on that link).
///
/// Single-threaded. Each method that may send takes the [`Egress`] to send with. An id of a removed track
/// or subscription is not an error: a method then does nothing, or returns none.
#[derive(Debug)]
pub struct Core {
    tracks: Slots<Track>,
    subs: Slots<Subscription>,
    /// Track and layer of a feed, by peer and flow.
    feeds: FxHashMap<(u32, u32), (TrackId, Layer)>,
    timers: Timers,
    /// Indices of tracks whose deadlines are due; empty between calls.
    due: Vec<usize>,
    /// Audio tracks that are not silent, for [`Core::loudness_changes`].
    heard: Vec<TrackId>,
    /// For first sequence numbers and jitter; not for secrets.
    random: fastrand::Rng,
    /// Tracks whose wanted layers may have changed.
    wanted_checks: Vec<TrackId>,
    /// Time of the latest call.
    clock: Option<Instant>,
    /// Packets that left the cache before they were sent.
    expired: u64,
}

impl Core {
    /// An empty core. `seed` determines the first sequence numbers and timestamps of subscribers, and jitter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            tracks: Slots::new(),
            subs: Slots::new(),
            feeds: FxHashMap::default(),
            timers: Timers::default(),
            due: Vec::new(),
            heard: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            wanted_checks: Vec::new(),
            clock: None,
            expired: 0,
        }
    }

    /// Adds a track. `group` is returned in [`TrackLoudness`]; a caller may use it for the room. `layers` are
    /// those that the publisher declared: packets of other layers are dropped. A track without simulcast has
    /// layer 0.
    pub fn add_track(&mut self, group: u32, kind: Kind, codec: Codec, layers: LayerSet) -> TrackId {
        TrackId(self.tracks.insert(Track::new(group, kind, codec, layers)))
    }

    /// Removes a track with its subscriptions and feeds.
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

    /// Mutes or unmutes a track. A muted track sends nothing. After unmuting, audio continues at once and
    /// video at the next key frame, which is requested.
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

    /// Adds a local subscriber, paused: [`Core::set_target`] starts it. None when the track does not exist.
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

    /// Sets the highest layer that the subscriber receives (any layer for audio), or pauses it (none). The
    /// current layer continues until a key frame of the new layer arrives.
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

    /// Sets the highest temporal layer that the subscriber receives, 0 to 3: of the layer that it receives now, and of
    /// the one that starts next. A lower one applies from the next frame on, a higher one where it can start. Streams
    /// without temporal layers are sent whole.
    pub fn set_temporal_target(&mut self, sub: SubscriptionId, now: u8, next: u8) {
        if let Some(state) = self.subs.get_mut(sub.0) {
            state.temporal.set_target(now, next);
        }
    }

    /// The layer that the subscriber receives; none before its first key frame and while paused.
    #[must_use]
    pub fn current_layer(&self, sub: SubscriptionId) -> Option<Layer> {
        self.subs.get(sub.0)?.current.map(Layer)
    }

    /// The layers of a track that currently arrive.
    #[must_use]
    pub fn live_layers(&self, track: TrackId) -> LayerSet {
        let sources = self.tracks.get(track.0).map(|state| state.sources.iter().enumerate());
        let live = sources
            .into_iter()
            .flatten()
            .filter(|(_, source)| source.as_ref().is_some_and(|source| source.state == LayerState::Live));
        live.fold(LayerSet::NONE, |set, (layer, _)| set.with(Layer(layer as u8)))
    }

    /// What arrives of each layer: bits per second of each temporal layer together with those below it, as sent to a
    /// subscriber. Zero for a layer that does not arrive, or not long enough.
    #[must_use]
    pub fn layer_rates(&self, now: Instant, track: TrackId) -> [[u32; TEMPORAL_LAYERS]; Layer::MAX] {
        let mut rates = [[0; TEMPORAL_LAYERS]; Layer::MAX];
        if let Some(state) = self.tracks.get(track.0) {
            for (rates, source) in rates.iter_mut().zip(&state.sources) {
                *rates = source.as_ref().map_or(*rates, |source| source.rates.rates(now));
            }
        }
        rates
    }

    /// Feeds the layer, with the publisher's sequence numbers and timestamps, to the downstream `peer` as
    /// flow `flow`. Idempotent. Another flow for the same layer and peer replaces the first. The downstream
    /// requests its key frame itself.
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
        if let Some(source) = state.source_mut(layer.0) {
            source.key_frame_request.downstream_added();
        }
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

    /// The round-trip time to the source of a track, as RTCP measured it. Missing packets are requested again
    /// after that time. Answers to requests measure it too, and better.
    pub fn set_round_trip(&mut self, track: TrackId, round_trip: Duration) {
        let Some(state) = self.tracks.get_mut(track.0) else { return };
        for source in state.sources.iter_mut().flatten() {
            source.nacks.set_round_trip(round_trip);
        }
    }

    /// The layers of a track that its subscriptions and feeds need. For a subscription: its target, the layer
    /// selected for it, and the layer that it still receives.
    #[must_use]
    pub fn wanted(&self, track: TrackId) -> LayerSet {
        let Some(state) = self.tracks.get(track.0) else { return LayerSet::NONE };
        let layer_state = |layer: u8| state.source(layer).map_or(LayerState::Ended, |source| source.state);
        let feeds = state.feeds.iter().fold(LayerSet::NONE, |set, feed| set.with(Layer(feed.layer)));
        let subs = state.subs.iter().filter_map(|id| self.subs.get(id.0));
        subs.fold(feeds, |set, sub| set.union(sub.wanted(state.layers, layer_state)))
    }

    /// The next track whose [`Core::wanted`] differs from what this method last returned for it (initially no
    /// layers). Call it until it returns none, after each batch of other calls.
    pub fn poll_wanted(&mut self) -> Option<(TrackId, LayerSet)> {
        while let Some(track) = self.wanted_checks.pop() {
            let wanted = self.wanted(track);
            let Some(state) = self.tracks.get_mut(track.0) else { continue };
            state.wanted_check_queued = false;
            if state.reported_wanted != wanted {
                let before = state.reported_wanted;
                for layer in wanted.iter().filter(|layer| !before.contains(*layer)) {
                    if let (Some(now), Some(source)) = (self.clock, state.source_mut(layer.0)) {
                        source.wanted_again(now);
                    }
                }
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
            expired: sub.expired,
            target: sub.target.map(Layer),
            current: sub.current.map(Layer),
            switches: sub.switches,
        })
    }

    /// Packets for all subscribers that were queued for so long that they were never sent.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Counters of a track.
    #[must_use]
    pub fn track_stats(&self, track: TrackId) -> Option<TrackStats> {
        let state = self.tracks.get(track.0)?;
        let mut stats =
            TrackStats { subscriptions: state.subs.len(), feeds: state.feeds.len(), ..TrackStats::default() };
        stats.live = self.live_layers(track);
        for (source, counters) in state.sources.iter().zip(&mut stats.layers) {
            *counters = source.as_ref().map_or(*counters, |source| source.stats);
        }
        Some(stats)
    }

    /// Content of a sender report to the subscriber at `now`: the publisher's NTP time, and the same instant
    /// in the subscriber's RTP timestamps. None while nothing is sent, and before the publisher's first
    /// sender report.
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

    /// The tracks whose loudness changed since the last call, including those that became silent. Call it
    /// every 500 ms.
    pub fn loudness_changes(&mut self, now: Instant) -> Vec<TrackLoudness> {
        let mut changed = Vec::new();
        let tracks = &mut self.tracks;
        self.heard.retain(|track| {
            let Some(state) = tracks.get_mut(track.0) else { return false };
            if let Some((level, active)) = state.loudness.poll_change(now) {
                changed.push(TrackLoudness { group: state.group, track: *track, level, active });
            }
            state.heard_listed = state.loudness.is_heard();
            state.heard_listed
        });
        changed
    }
}
