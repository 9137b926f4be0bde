//! The core itself: tracks, their subscriptions and feeds, and the packets between them.

use std::time::Instant;

use crate::packet::{Codec, Kind, Layer, LayerSet, Packet, SenderReport};
use crate::{Egress, SenderInfo, Speaker, SubscriptionStats, TrackStats};

/// A track of this core. An id is not used again for a long time after the track is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(u32);

/// One subscriber of one track of this core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(u32);

impl TrackId {
    /// Small number, unique among the tracks that exist now: an index for tables beside the core.
    #[must_use]
    pub fn index(self) -> usize {
        (self.0 & 0xF_FFFF) as usize
    }
}

impl SubscriptionId {
    /// Small number, unique among the subscriptions that exist now: an index for tables beside the core.
    #[must_use]
    pub fn index(self) -> usize {
        (self.0 & 0xF_FFFF) as usize
    }
}

/// Forwards packets of tracks to subscribers and downstreams. Single-threaded; every method that
/// may send takes the [`Egress`] to send with.
#[derive(Debug)]
pub struct Core {}

impl Core {
    /// An empty core. `seed` decides the first numbers that subscribers see.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let _ = seed;
        Self {}
    }

    /// Adds a track. `group` comes back in [`Speaker`]; `layers` are those that the publisher declared.
    pub fn add_track(&mut self, group: u32, kind: Kind, codec: Codec, layers: LayerSet) -> TrackId {
        let _ = (group, kind, codec, layers);
        TrackId(0)
    }

    /// Removes a track; its subscriptions and feeds end.
    pub fn remove_track(&mut self, track: TrackId) {
        let _ = track;
    }

    /// A muted track sends nothing. Unmuted, video goes on at the next key frame.
    pub fn set_muted(&mut self, track: TrackId, muted: bool) {
        let _ = (track, muted);
    }

    /// Adds a local subscriber, paused: [`Core::set_target`] starts it. None when there is no such track.
    pub fn subscribe(&mut self, track: TrackId) -> Option<SubscriptionId> {
        let _ = track;
        None
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, sub: SubscriptionId) {
        let _ = sub;
    }

    /// The highest layer that the subscriber shall get (any for audio), or none to pause.
    pub fn set_target(
        &mut self,
        now: Instant,
        sub: SubscriptionId,
        target: Option<Layer>,
        egress: &mut impl Egress,
    ) {
        let _ = (now, sub, target, egress);
    }

    /// From now on the layer goes to the downstream `peer` as flow `flow`, as it is. Idempotent.
    pub fn feed(&mut self, track: TrackId, layer: Layer, peer: u32, flow: u32) {
        let _ = (track, layer, peer, flow);
    }

    /// Ends a feed.
    pub fn unfeed(&mut self, track: TrackId, layer: Layer, peer: u32) {
        let _ = (track, layer, peer);
    }

    /// A packet of a layer from its source.
    pub fn ingest(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: Layer,
        packet: &Packet<'_>,
        egress: &mut impl Egress,
    ) {
        let _ = (now, track, layer, packet, egress);
    }

    /// A sender report of a layer from its source.
    pub fn sender_report(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: Layer,
        report: SenderReport,
        egress: &mut impl Egress,
    ) {
        let _ = (now, track, layer, report, egress);
    }

    /// A subscriber lacks packets (in its own numbering).
    pub fn nack(
        &mut self,
        now: Instant,
        sub: SubscriptionId,
        seqs: impl Iterator<Item = u16>,
        egress: &mut impl Egress,
    ) {
        let _ = (now, sub, seqs, egress);
    }

    /// A downstream lacks packets of a flow (in the publisher's numbering).
    pub fn feed_nack(
        &mut self,
        now: Instant,
        peer: u32,
        flow: u32,
        seqs: impl Iterator<Item = u16>,
        egress: &mut impl Egress,
    ) {
        let _ = (now, peer, flow, seqs, egress);
    }

    /// A subscriber needs a key frame (PLI or FIR).
    pub fn key_frame_wanted(&mut self, now: Instant, sub: SubscriptionId, egress: &mut impl Egress) {
        let _ = (now, sub, egress);
    }

    /// A downstream needs a key frame of a layer.
    pub fn feed_key_frame_wanted(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: Layer,
        egress: &mut impl Egress,
    ) {
        let _ = (now, track, layer, egress);
    }

    /// When [`Core::handle_timeout`] is due at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Asks sources again for what is missing, notices layers that ended.
    pub fn handle_timeout(&mut self, now: Instant, egress: &mut impl Egress) {
        let _ = (now, egress);
    }

    /// The layers that somebody wants of a track: subscriptions (what they ask for and what they
    /// still get) and feeds together.
    #[must_use]
    pub fn wanted(&self, track: TrackId) -> LayerSet {
        let _ = track;
        LayerSet::NONE
    }

    /// The next track whose [`Core::wanted`] differs from what this said last (at first: nothing).
    /// Call until it gives none, after every batch.
    pub fn poll_wanted(&mut self) -> Option<(TrackId, LayerSet)> {
        None
    }

    /// Counters of a subscription.
    #[must_use]
    pub fn subscription_stats(&self, sub: SubscriptionId) -> Option<SubscriptionStats> {
        let _ = sub;
        None
    }

    /// Counters of a track.
    #[must_use]
    pub fn track_stats(&self, track: TrackId) -> Option<TrackStats> {
        let _ = track;
        None
    }

    /// What a sender report to the subscriber says at `now`. None while nothing is sent or the
    /// publisher has not reported yet.
    #[must_use]
    pub fn sender_info(&self, now: Instant, sub: SubscriptionId) -> Option<SenderInfo> {
        let _ = (now, sub);
        None
    }

    /// The tracks whose loudness changed since the last call. Call every 500 ms.
    pub fn speakers(&mut self, now: Instant) -> Vec<Speaker> {
        let _ = now;
        Vec::new()
    }
}
