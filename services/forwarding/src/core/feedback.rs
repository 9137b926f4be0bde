//! Feedback of subscribers and downstreams: NACK and key frame requests.

use std::time::{Duration, Instant};

use super::Core;
use crate::request::Receiver;
use crate::subscription::Sending;
use crate::{Egress, SubscriptionId, TrackId};
use systir_rtp::packet::{Kind, Layer};

/// Sequence numbers that one NACK may request; the rest is left to the next one.
const MAX_SEQS: usize = 256;

impl Core {
    /// NACK of a subscriber, in the subscriber's own sequence numbers. Cached packets are retransmitted,
    /// except those retransmitted within the last `round_trip`, the time to the subscriber and back (20 ms for
    /// audio, and when it is not known). For video that the cache does not have any more, a key frame is requested.
    pub fn nack(
        &mut self,
        now: Instant,
        sub: SubscriptionId,
        seqs: impl Iterator<Item = u16>,
        round_trip: Option<Duration>,
        egress: &mut impl Egress,
    ) {
        self.clock = Some(now);
        let Some(state) = self.subs.get_mut(sub.0) else { return };
        let Some(track) = self.tracks.get(state.track.0) else { return };
        if track.muted || state.target.is_none() {
            return;
        }
        // Audio is small and urgent: it is sent again at each request.
        let round_trip = round_trip.filter(|_| track.kind == Kind::Video);
        let mut lacks_packets = false;
        for seq in seqs.take(MAX_SEQS) {
            let Some((layer, packet, info, mapped)) = state.sent_packet(track, seq) else {
                lacks_packets |= state.lacks(track, seq);
                continue;
            };
            if state.resend_throttle.admit(now, seq, round_trip) {
                let sending =
                    Sending { layer, priority: track.priority(layer), retransmission: true, padding: 0 };
                state.send(sub, &packet, info, mapped, sending, egress);
            }
        }
        if lacks_packets {
            self.key_frame_wanted(now, sub, egress);
        }
    }

    /// NACK of a downstream for a flow, in the publisher's sequence numbers. A downstream spaces its NACKs by
    /// the round trip itself.
    pub fn feed_nack(
        &mut self,
        now: Instant,
        peer: u32,
        flow: u32,
        seqs: impl Iterator<Item = u16>,
        egress: &mut impl Egress,
    ) {
        self.clock = Some(now);
        let Some((track, layer)) = self.feeds.get(&(peer, flow)) else { return };
        let Some(track) = self.tracks.get_mut(track.0).filter(|track| !track.muted) else { return };
        let priority = track.priority(layer.0);
        let Some(source) = track.sources.get(usize::from(layer.0)).and_then(Option::as_deref) else { return };
        let Some(highest) = source.highest else { return };
        let Some(feed) = track.feeds.iter_mut().find(|feed| feed.peer == peer && feed.flow == flow) else {
            return;
        };
        for seq in seqs.take(MAX_SEQS) {
            let behind = u64::from((highest as u16).wrapping_sub(seq));
            let Some((packet, _)) = highest.checked_sub(behind).and_then(|seq| source.cache.get(seq)) else {
                continue;
            };
            if feed.resend_throttle.admit(now, seq, None) {
                egress.feed(peer, flow, priority, &packet);
            }
        }
    }

    /// Key frame request of a subscriber (PLI or FIR).
    pub fn key_frame_wanted(&mut self, now: Instant, sub: SubscriptionId, egress: &mut impl Egress) {
        self.clock = Some(now);
        let Some(state) = self.subs.get(sub.0) else { return };
        // Both layers: the key frame of an awaited layer would help too, but may come late.
        let layers = [state.current, state.selected.filter(|layer| state.waits_for(*layer))];
        let track = state.track;
        for layer in layers.into_iter().flatten() {
            self.request_key_frame(now, track, layer, Receiver::Other, egress);
        }
    }

    /// Key frame request of a downstream.
    pub fn feed_key_frame_wanted(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: Layer,
        egress: &mut impl Egress,
    ) {
        self.clock = Some(now);
        self.request_key_frame(now, track, layer.0, Receiver::Other, egress);
    }

    pub(super) fn request_key_frame(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: u8,
        receiver: Receiver,
        egress: &mut impl Egress,
    ) {
        let Some(state) = self.tracks.get_mut(track.0) else { return };
        if state.muted || state.kind == Kind::Audio {
            return;
        }
        let Some(source) = state.source_mut(layer) else { return };
        if source.key_frame_request.request(now, receiver) {
            egress.request_key_frame(track, Layer(layer));
        }
        if let Some(due) = source.key_frame_request.next_due() {
            self.timers.schedule(track.index(), due);
        }
    }
}
