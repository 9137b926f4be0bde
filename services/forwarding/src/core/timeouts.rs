//! Timeouts, and the selection of layers that depends on them.

use std::time::{Duration, Instant};

use super::Core;
use crate::nack::MAX_MISSING;
use crate::request::Receiver;
use crate::select::select;
use crate::source::LayerState;
use crate::{Egress, TrackId};
use systir_rtp::packet::{Kind, Layer, LayerSet};

/// How often a track with several layers is checked for layers that ended.
pub(super) const LAYER_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Layers that subscribers wait for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waiting {
    pub(super) layers: LayerSet,
    /// Those that a subscriber waits for that receives no other layer meanwhile.
    by_new: LayerSet,
}

impl Waiting {
    pub(super) fn receiver(&self, layer: Layer) -> Receiver {
        if self.by_new.contains(layer) { Receiver::New } else { Receiver::Other }
    }
}

impl Core {
    /// When [`Core::handle_timeout`] is next due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Requests missing packets and key frames, again if necessary, and detects layers that ended.
    pub fn handle_timeout(&mut self, now: Instant, egress: &mut impl Egress) {
        self.clock = Some(now);
        // First all are taken: a track whose next deadline is near is not visited again.
        let mut due = std::mem::take(&mut self.due);
        self.timers.take_due(now, &mut due);
        for index in due.drain(..) {
            if let Some(id) = self.tracks.id_at(index) {
                self.handle_track_timeout(now, TrackId(id), egress);
            }
        }
        self.due = due;
    }

    fn handle_track_timeout(&mut self, now: Instant, track: TrackId, egress: &mut impl Egress) {
        let wanted = self.known_wanted(track);
        let jitter = self.random.u64(..);
        let Some(state) = self.tracks.get_mut(track.0) else { return };
        let (mut ended, arrival) = (false, state.arrival.passed());
        let mut next: Option<Instant> = None;
        for layer in state.layers.iter() {
            let muted = state.muted;
            let repeats = state.source(layer.0).is_some_and(|source| source.key_frame_request.is_due(now));
            // All subscribers are looked at only to repeat a request.
            let waiting = repeats
                && state.subs.iter().any(|id| self.subs.get(id.0).is_some_and(|sub| sub.waits_for(layer.0)));
            let Some(source) = state.source_mut(layer.0) else { continue };
            if muted || !wanted.contains(layer) {
                source.nacks.clear();
                source.key_frame_request.cancel();
                continue;
            }
            let mut seqs = [0; MAX_MISSING];
            let count = source.nacks.due(now, &mut seqs);
            if let Some(seqs) = seqs.get(..count).filter(|seqs| !seqs.is_empty()) {
                egress.request_retransmission(track, layer, seqs);
            }
            let given_up =
                source.nacks.take_given_up() && source.key_frame_request.request(now, Receiver::Other);
            if given_up || source.key_frame_request.repeat(now, waiting, jitter) {
                egress.request_key_frame(track, layer);
            }
            ended |= source.check_timeout(now, arrival);
            for at in [source.nacks.next_due(), source.key_frame_request.next_due()].into_iter().flatten() {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        if state.has_choice() && !state.muted && !state.subs.is_empty() {
            let check = now + LAYER_CHECK_INTERVAL;
            next = Some(next.map_or(check, |next| next.min(check)));
        }
        if let Some(next) = next {
            self.timers.schedule(track.index(), next);
        }
        if ended {
            self.reselect(now, track, egress);
        }
    }

    /// [`Core::wanted`], without looking at all subscribers where nothing changed since the last look.
    fn known_wanted(&self, track: TrackId) -> LayerSet {
        match self.tracks.get(track.0) {
            Some(state) if !state.wanted_check_queued => state.reported_wanted,
            _ => self.wanted(track),
        }
    }

    /// Selects a layer for each subscriber of the track, and requests the key frames that are needed.
    pub(super) fn reselect(&mut self, now: Instant, track: TrackId, egress: &mut impl Egress) {
        let waiting = self.choose(now, track);
        for layer in waiting.layers.iter() {
            self.request_key_frame(now, track, layer.0, waiting.receiver(layer), egress);
        }
    }

    /// Selects a layer for each subscriber of the track. Returns the layers that a subscriber waits for.
    pub(super) fn choose(&mut self, now: Instant, track: TrackId) -> Waiting {
        let mut waiting = Waiting::default();
        let Some(state) = self.tracks.get(track.0) else { return waiting };
        let states =
            state.sources.each_ref().map(|source| source.as_ref().map_or(LayerState::Ended, |s| s.state));
        let state_of = |layer: u8| states.get(usize::from(layer)).copied().unwrap_or(LayerState::Ended);
        for id in &state.subs {
            let Some(sub) = self.subs.get_mut(id.0) else { continue };
            let Some(target) = sub.target else { continue };
            sub.selected = select(target, state.layers, state_of, sub.current);
            if let Some(selected) = sub.selected
                && sub.waits_for(selected)
            {
                waiting.layers = waiting.layers.with(Layer(selected));
                if sub.current.is_none() {
                    waiting.by_new = waiting.by_new.with(Layer(selected));
                }
            }
        }
        let check = state.kind == Kind::Video && state.has_choice() && !state.subs.is_empty();
        if check {
            self.timers.schedule(track.index(), now + LAYER_CHECK_INTERVAL);
        }
        self.queue_wanted_check(track);
        waiting
    }
}
