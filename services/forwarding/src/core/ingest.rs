//! Packets and sender reports from the source of a track, to its feeds and to the queues of its subscribers.

use std::time::Instant;

use super::Core;
use crate::batch::Priority;
use crate::codec::PayloadInfo;
use crate::request::Receiver;
use crate::rewrite::LayerStart;
use crate::source::{AcceptedPacket, LayerSource};
use crate::subscription::{Sending, Subscription};
use crate::temporal::Fate;
use crate::track::Track;
use crate::{Egress, SubscriptionId, TrackId};
use systir_rtp::packet::{Kind, Layer, Packet, SenderReport};

/// When the first packet of a key frame is late, the packets that overtook it are sent from the cache, if
/// they are no more than this.
const MAX_CATCH_UP: u64 = 256;

impl Core {
    /// Takes a packet of a layer from its source, forwards it to the feeds and queues it for the subscribers. Its
    /// sequence number is the publisher's, extended ([`systir_rtp::ExtendedSeq`]). Its padding is removed, so a
    /// padding packet has an empty payload. Packets of undeclared layers, of another video codec than the track's, and of muted tracks
    /// are dropped.
    pub fn ingest(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: Layer,
        packet: &Packet<'_>,
        egress: &mut impl Egress,
    ) {
        self.clock = Some(now);
        let Some(accepted) = self.accept(now, track, layer, packet) else { return };
        if accepted.layer_started || accepted.restarted {
            if accepted.restarted {
                self.stop(track, layer);
            }
            let waiting = self.choose(now, track);
            // This packet starts the key frame of its own layer.
            for other in waiting.layers.iter().filter(|other| !(accepted.key_frame && *other == layer)) {
                // After a restart, a picture is still shown.
                let receiver = if accepted.restarted { Receiver::Other } else { waiting.receiver(other) };
                self.request_key_frame(now, track, other.0, receiver, egress);
            }
        }
        let Some(state) = self.tracks.get(track.0) else { return };
        let Some(source) = state.source(layer.0) else { return };
        let priority = state.priority(layer.0);
        let packet = if accepted.empty { &Packet { payload: &[], ..*packet } } else { packet };
        for feed in state.feeds.iter().filter(|feed| feed.layer == layer.0) {
            egress.feed(feed.peer, feed.flow, priority, packet);
        }
        let delivery = PacketDelivery { now, state, source, layer: layer.0, packet, accepted, priority };
        let (mut started, mut unserved) = (false, false);
        for id in &state.subs {
            if let Some(sub) = self.subs.get_mut(id.0) {
                started |= delivery.deliver(*id, sub, egress);
                unserved |= accepted.key_frame && sub.waits_for(layer.0);
            }
        }
        if started {
            self.queue_wanted_check(track);
        }
        if unserved {
            self.request_key_frame(now, track, layer.0, Receiver::Other, egress);
        }
    }

    fn accept(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: Layer,
        packet: &Packet<'_>,
    ) -> Option<AcceptedPacket> {
        let state = self.tracks.get_mut(track.0)?;
        let fits = match state.kind {
            // RED and plain Opus alternate on one stream.
            Kind::Audio => packet.codec.kind() == Kind::Audio,
            Kind::Video => packet.codec == state.codec,
        };
        // Real extended numbers stay far below this limit, so arithmetic on them cannot overflow.
        if state.muted || !fits || packet.seq >> 62 != 0 {
            return None;
        }
        let source = state.sources.get_mut(usize::from(layer.0))?.as_deref_mut()?;
        // What is wanted may have changed, where that is not looked at yet.
        let is_wanted = state.wanted_check_queued || state.reported_wanted.contains(layer);
        let accepted = source.accept(now, &mut state.arrival, packet, is_wanted)?;
        if accepted.key_frame {
            source.key_frame_request.cancel();
        }
        if let Some(next) = source.nacks.next_due() {
            self.timers.schedule(track.index(), next);
        }
        if let (Kind::Audio, Some(level)) = (state.kind, packet.ext.audio_level) {
            state.loudness.observe(now, level.level, packet.timestamp, packet.codec.clock_rate());
            if !state.heard_listed && state.loudness.is_heard() {
                state.heard_listed = true;
                self.heard.push(track);
            }
        }
        Some(accepted)
    }

    /// Stops the layer for its subscribers. They continue where it starts again.
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

    /// Takes a sender report of a layer from its source.
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

/// What all subscribers of one packet share.
struct PacketDelivery<'a> {
    now: Instant,
    state: &'a Track,
    source: &'a LayerSource,
    layer: u8,
    packet: &'a Packet<'a>,
    accepted: AcceptedPacket,
    priority: Priority,
}

impl PacketDelivery<'_> {
    /// Queues the packet for one subscriber, if it is due. True when the layer started for this subscriber.
    fn deliver(&self, id: SubscriptionId, sub: &mut Subscription, egress: &mut impl Egress) -> bool {
        let PacketDelivery { layer, packet, accepted, .. } = *self;
        if sub.waits_for(layer) && self.may_start() && !sub.rewriter.has_passed(layer, packet.seq) {
            self.start_layer(sub);
            sub.switches += 1;
            self.queue(id, sub, packet, (&accepted.info, false), egress);
            self.catch_up(id, sub, egress);
            return true;
        }
        let is_current = sub.current == Some(layer);
        // A late packet may belong to a layer that the subscriber received before.
        if !is_current && (!accepted.late || sub.current.is_none()) {
            return false;
        }
        if accepted.empty && sub.rewriter.skip(layer, packet.seq, false) {
            return false;
        }
        self.queue(id, sub, packet, (&accepted.info, accepted.late), egress);
        false
    }

    /// Queues a packet, unless its temporal layer is dropped. `late`: a later one was queued before it.
    fn queue(
        &self,
        id: SubscriptionId,
        sub: &mut Subscription,
        packet: &Packet<'_>,
        (info, late): (&PayloadInfo, bool),
        egress: &mut impl Egress,
    ) {
        if let Fate::Drop { new_frame } = sub.temporal.decide(info.vp8.as_ref(), packet.timestamp, late) {
            // A number between others that were sent is used by padding.
            if !sub.rewriter.skip(self.layer, packet.seq, new_frame)
                && let Some(mapped) = sub.rewriter.map(self.layer, packet.seq)
            {
                let padding = Packet { payload: &[], ..*packet };
                let sending =
                    Sending { layer: self.layer, priority: self.priority, retransmission: false, padding: 0 };
                sub.send(id, &padding, &PayloadInfo::default(), mapped, sending, egress);
            }
            return;
        }
        if let Some(mapped) = sub.rewriter.map(self.layer, packet.seq) {
            sub.queue(self.now, id, self.layer, packet, info, mapped, egress);
        }
    }

    /// May a layer start at this packet? Audio starts at any packet, video at a key frame.
    fn may_start(&self) -> bool {
        if self.accepted.empty {
            return false;
        }
        match self.state.kind {
            Kind::Audio => !self.accepted.late,
            Kind::Video => self.accepted.key_frame && self.overtaken_by() <= MAX_CATCH_UP,
        }
    }

    /// How far the highest sequence number is ahead of this packet's.
    fn overtaken_by(&self) -> u64 {
        self.source.highest.map_or(0, |highest| highest.saturating_sub(self.packet.seq))
    }

    fn start_layer(&self, sub: &mut Subscription) {
        let rate = self.packet.codec.clock_rate();
        let steps_per_second = if self.state.kind == Kind::Audio { 50 } else { 30 };
        let start = LayerStart {
            layer: self.layer,
            seq: self.packet.seq,
            timestamp: self.packet.timestamp,
            info: &self.accepted.info,
            clock: self.source.clock(),
            step: rate / steps_per_second,
            rate,
        };
        let anchored = sub.rewriter.anchor_layer().and_then(|layer| self.state.source(layer));
        sub.rewriter.start_layer(self.now, &start, anchored.map(LayerSource::clock));
        sub.temporal.restart();
        sub.current = Some(self.layer);
    }

    /// Queues the packets that overtook the first packet of the key frame.
    fn catch_up(&self, id: SubscriptionId, sub: &mut Subscription, egress: &mut impl Egress) {
        for seq in self.packet.seq + 1..=self.packet.seq + self.overtaken_by() {
            let Some((packet, info)) = self.source.cache.get(seq) else { continue };
            if packet.payload.is_empty() && sub.rewriter.skip(self.layer, seq, false) {
                continue;
            }
            self.queue(id, sub, &packet, (info, false), egress);
        }
    }
}
