//! The way of a packet through the core.

use std::time::Instant;

use super::Core;
use crate::batch::Priority;
use crate::rewrite::Beginning;
use crate::source::{Arrival, Source};
use crate::subscription::Subscription;
use crate::track::Track;
use crate::{Egress, SubscriptionId, TrackId};
use systir_rtp::packet::{Kind, Layer, Packet, SenderReport};

/// A key frame whose first packet comes when more than this many later ones are there already is not
/// made up for from the cache.
const CATCH_UP: u64 = 256;

impl Core {
    /// A packet of a layer from its source. Its number is the publisher's, extended such that it only
    /// ever grows ([`systir_rtp::ExtendedSeq`]); padding has been taken off, so that a packet of
    /// padding only has an empty payload. Packets of layers that were not declared, of another video
    /// codec than the track's and of muted tracks are dropped.
    pub fn ingest(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: Layer,
        packet: &Packet<'_>,
        egress: &mut impl Egress,
    ) {
        self.clock = Some(now);
        let Some(arrival) = self.accept(now, track, layer, packet) else { return };
        if arrival.revived || arrival.restarted {
            if arrival.restarted {
                self.stop(track, layer);
            }
            let waiting = self.choose(now, track);
            // For this layer the key frame is here.
            for other in waiting.iter().filter(|other| !(arrival.key && *other == layer)) {
                self.want_key_frame(now, track, other.0, egress);
            }
        }
        let Some(state) = self.tracks.get(track.0) else { return };
        let Some(source) = state.source(layer.0) else { return };
        let priority = state.priority(layer.0);
        let packet = if arrival.empty { &Packet { payload: &[], ..*packet } } else { packet };
        for feed in state.feeds.iter().filter(|feed| feed.layer == layer.0) {
            egress.feed(feed.peer, feed.flow, priority, packet);
        }
        let path = Path { now, state, source, layer: layer.0, packet, arrival, priority };
        let (mut began, mut unserved) = (false, false);
        for id in &state.subs {
            if let Some(sub) = self.subs.get_mut(id.0) {
                began |= path.deliver(*id, sub, egress);
                unserved |= arrival.key && sub.waits_for(layer.0);
            }
        }
        if began {
            self.touch(track);
        }
        if unserved {
            self.want_key_frame(now, track, layer.0, egress);
        }
    }

    fn accept(&mut self, now: Instant, track: TrackId, layer: Layer, packet: &Packet<'_>) -> Option<Arrival> {
        let state = self.tracks.get_mut(track.0)?;
        let fits = match state.kind {
            // RED and plain Opus alternate on one stream.
            Kind::Audio => packet.codec.kind() == Kind::Audio,
            Kind::Video => packet.codec == state.codec,
        };
        // Extended numbers cannot come near this; arithmetic on them never overflows.
        if state.muted || !fits || packet.seq >> 62 != 0 {
            return None;
        }
        let source = state.sources.get_mut(usize::from(layer.0))?.as_deref_mut()?;
        let arrival = source.accept(now, packet)?;
        if arrival.key {
            source.request.settle();
        }
        if let Some(next) = source.losses.next() {
            self.timers.wake(track.index(), next);
        }
        if let (Kind::Audio, Some(level)) = (state.kind, packet.ext.audio_level) {
            state.loudness.observe(now, level.level, packet.timestamp, packet.codec.clock_rate());
        }
        Some(arrival)
    }

    /// What subscribers get of the layer ends here; they go on where it begins again.
    fn stop(&mut self, track: TrackId, layer: Layer) {
        let Some(state) = self.tracks.get(track.0) else { return };
        for id in &state.subs {
            if let Some(sub) = self.subs.get_mut(id.0)
                && sub.current == Some(layer.0)
            {
                sub.current = None;
            }
        }
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
        self.clock = Some(now);
        let Some(state) = self.tracks.get_mut(track.0) else { return };
        let Some(source) = state.source_mut(layer.0) else { return };
        source.report(now, report);
        for feed in state.feeds.iter().filter(|feed| feed.layer == layer.0) {
            egress.feed_report(feed.peer, feed.flow, report);
        }
    }
}

/// What is the same for all subscribers of one packet.
struct Path<'a> {
    now: Instant,
    state: &'a Track,
    source: &'a Source,
    layer: u8,
    packet: &'a Packet<'a>,
    arrival: Arrival,
    priority: Priority,
}

impl Path<'_> {
    /// True when the layer began for this subscriber.
    fn deliver(&self, id: SubscriptionId, sub: &mut Subscription, egress: &mut impl Egress) -> bool {
        let Path { now, layer, packet, arrival, priority, .. } = *self;
        if sub.waits_for(layer) && self.may_begin() && !sub.rewrite.has_passed(layer, packet.seq) {
            self.begin(sub);
            sub.switches += 1;
            self.send(id, sub, egress);
            self.catch_up(id, sub, egress);
            return true;
        }
        let is_current = sub.current == Some(layer);
        // A late packet may still have a place among those of a layer that was sent before.
        if !is_current && (!arrival.late || sub.current.is_none()) {
            return false;
        }
        if arrival.empty && sub.rewrite.skip(layer, packet.seq) {
            return false;
        }
        if let Some(place) = sub.rewrite.map(layer, packet.seq) {
            sub.send(now, id, packet, &arrival.content, place, (priority, false), egress);
        }
        false
    }

    fn send(&self, id: SubscriptionId, sub: &mut Subscription, egress: &mut impl Egress) {
        if let Some(place) = sub.rewrite.map(self.layer, self.packet.seq) {
            let how = (self.priority, false);
            sub.send(self.now, id, self.packet, &self.arrival.content, place, how, egress);
        }
    }

    /// Sound begins anywhere, a picture at a key frame.
    fn may_begin(&self) -> bool {
        if self.arrival.empty {
            return false;
        }
        match self.state.kind {
            Kind::Audio => !self.arrival.late,
            Kind::Video => self.arrival.key && self.later() <= CATCH_UP,
        }
    }

    /// Numbers of packets that came before this one and belong behind it.
    fn later(&self) -> u64 {
        self.source.highest.map_or(0, |highest| highest.saturating_sub(self.packet.seq))
    }

    fn begin(&self, sub: &mut Subscription) {
        let rate = self.packet.codec.clock_rate();
        let steps_per_second = if self.state.kind == Kind::Audio { 50 } else { 30 };
        let beginning = Beginning {
            layer: self.layer,
            seq: self.packet.seq,
            timestamp: self.packet.timestamp,
            content: &self.arrival.content,
            clock: self.source.clock(),
            step: rate / steps_per_second,
            rate,
        };
        let anchored = sub.rewrite.anchor_layer().and_then(|layer| self.state.source(layer));
        sub.rewrite.begin(self.now, &beginning, anchored.map(Source::clock));
        sub.current = Some(self.layer);
    }

    /// Sends what overtook the first packet of the key frame.
    fn catch_up(&self, id: SubscriptionId, sub: &mut Subscription, egress: &mut impl Egress) {
        for seq in self.packet.seq + 1..=self.packet.seq + self.later() {
            let Some((packet, content)) = self.source.cache.get(seq) else { continue };
            if packet.payload.is_empty() && sub.rewrite.skip(self.layer, seq) {
                continue;
            }
            if let Some(place) = sub.rewrite.map(self.layer, seq) {
                sub.send(self.now, id, &packet, content, place, (self.priority, false), egress);
            }
        }
    }
}
