//! Sending what is queued for a subscriber.

use std::time::Instant;

use super::Core;
use crate::subscription::Sending;
use crate::{Egress, SubscriptionId};

impl Core {
    /// Sends the next packet that is queued for the subscriber. False: none is queued. Packets that have left the cache
    /// meanwhile, after about a second, are counted and never sent: a key frame is requested in their place.
    pub fn pull(&mut self, sub: SubscriptionId, egress: &mut impl Egress) -> bool {
        let is_sent = self.pull_next(sub, egress);
        if let Some(state) = self.subs.get_mut(sub.0).filter(|state| state.newly_expired > 0) {
            self.expired += std::mem::take(&mut state.newly_expired);
            if let (Some(now), true) = (self.clock, std::mem::take(&mut state.lacks_packets)) {
                self.key_frame_wanted(now, sub, egress);
            }
        }
        is_sent
    }

    fn pull_next(&mut self, sub: SubscriptionId, egress: &mut impl Egress) -> bool {
        let Some(state) = self.subs.get_mut(sub.0) else { return false };
        let Some(track) = self.tracks.get(state.track.0) else { return false };
        while let Some((layer, seq)) = state.pending.pop() {
            let source = track.source(layer);
            let cached = source.and_then(|source| Some((&source.newest_frame, source.cache.get(seq)?)));
            let Some(((frame, (packet, info)), mapped)) = cached.zip(state.rewriter.map(layer, seq)) else {
                state.expire(layer, source.is_some_and(|source| source.is_needed(seq)));
                continue;
            };
            // Audio is no part of a frame, so it gets none.
            let padding = frame.padding(&packet);
            let sending = Sending { layer, priority: track.priority(layer), retransmission: false, padding };
            state.newest_sent = state.newest_sent.max(mapped.0);
            state.send(sub, &packet, info, mapped, sending, egress);
            return true;
        }
        false
    }

    /// Is anything queued for the subscriber?
    #[must_use]
    pub fn has_pending(&self, sub: SubscriptionId) -> bool {
        self.subs.get(sub.0).is_some_and(|state| !state.pending.is_empty())
    }

    /// When the packet arrived that is sent to the subscriber next. None: none is queued, or it has left the cache.
    #[must_use]
    pub fn next_arrived(&self, sub: SubscriptionId) -> Option<Instant> {
        let state = self.subs.get(sub.0)?;
        let (layer, seq) = state.pending.first()?;
        self.tracks.get(state.track.0)?.source(layer)?.cache.inserted_at(seq)
    }

    /// Sends again the packet that was sent `back` packets before the newest one. It measures whether the network carries
    /// more, and may replace a lost one. False: it is not in the cache.
    pub fn resend(&mut self, sub: SubscriptionId, back: u64, egress: &mut impl Egress) -> bool {
        let Some(state) = self.subs.get_mut(sub.0) else { return false };
        let Some(track) = self.tracks.get(state.track.0).filter(|track| !track.muted) else { return false };
        let Some(out) = state.newest_sent.checked_sub(back) else { return false };
        let Some((layer, packet, info, mapped)) = state.sent_packet(track, out as u16) else { return false };
        let sending = Sending { layer, priority: track.priority(layer), retransmission: true, padding: 0 };
        state.send(sub, &packet, info, mapped, sending, egress);
        true
    }
}
