//! What an allocator remembers of a track: the rates that it counts with, and layers that did not come.

use std::time::{Duration, Instant};

use systir_rtp::packet::{Layer, LayerSet};

use crate::demand::{Rung, TEMPORAL, VideoDemand, VideoSource};

/// Rates that a layer is taken to have before it was measured, bits per second.
const DEFAULT_RATES: [u32; Layer::MAX] = [150_000, 500_000, 1_700_000];

/// How long a layer whose rate fell counts with the rate that it had before: a screen share may show a still picture, and
/// an encoder saves for a second after a key frame.
const STILL: Duration = Duration::from_secs(10);
const SAVING: Duration = Duration::from_secs(4);

/// A layer that was chosen and has not come for so long is not chosen again for [`RETRY`].
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(30);

/// One track.
#[derive(Debug, Clone)]
pub(crate) struct TrackState<K> {
    pub(crate) key: K,
    /// What was allocated last.
    pub(crate) rung: Option<Rung>,
    pub(crate) raised_at: Option<Instant>,
    /// The rates that count: never less than the measured ones. They sink only when those are clearly lower, so that
    /// a rate that wobbles moves nothing.
    rates: [[u32; TEMPORAL]; Layer::MAX],
    rates_at: [Option<Instant>; Layer::MAX],
    /// The chosen layer that does not arrive, and since when.
    awaited: Option<(Layer, Instant)>,
    /// Layers that did not come, and when they are tried again.
    missing: LayerSet,
    retry_at: Option<Instant>,
    /// Was it in the last call? Others are forgotten.
    pub(crate) seen: bool,
}

impl<K> TrackState<K> {
    pub(crate) fn new(key: K, demand: &VideoDemand) -> Self {
        Self {
            key,
            rung: demand.current,
            raised_at: None,
            rates: [[0; TEMPORAL]; Layer::MAX],
            rates_at: [None; Layer::MAX],
            awaited: None,
            missing: LayerSet::NONE,
            retry_at: None,
            seen: true,
        }
    }

    /// Takes the measured rates and the layers that arrive.
    pub(crate) fn observe(&mut self, now: Instant, demand: &VideoDemand) {
        let layers = self.rates.iter_mut().zip(&mut self.rates_at).zip(&demand.rates.0);
        for ((rates, at), measured) in layers {
            if measured.iter().all(|rate| *rate == 0) {
                continue;
            }
            let clearly_lower = |(rate, new): (&u32, &u32)| u64::from(*new) * 5 < u64::from(*rate) * 4;
            let hold = match demand.source {
                VideoSource::ScreenShare => STILL,
                VideoSource::Camera => SAVING,
            };
            let is_held = at.is_some_and(|at| now.saturating_duration_since(at) < hold)
                && rates.iter().zip(measured).all(clearly_lower);
            if is_held {
                continue;
            }
            for (rate, new) in rates.iter_mut().zip(measured).filter(|(_, new)| **new > 0) {
                if new > rate || clearly_lower((rate, new)) {
                    *rate = *new;
                }
            }
            *at = Some(now);
        }
        self.note_missing(now, demand.live);
    }

    fn note_missing(&mut self, now: Instant, live: LayerSet) {
        if self.retry_at.is_some_and(|at| now >= at) {
            (self.missing, self.retry_at) = (LayerSet::NONE, None);
        }
        self.missing = without(self.missing, live);
        let chosen = self.rung.map(|rung| rung.layer).filter(|layer| !live.contains(*layer));
        let Some(layer) = chosen else {
            self.awaited = None;
            return;
        };
        match self.awaited {
            Some((awaited, since)) if awaited == layer => {
                if now.saturating_duration_since(since) >= PATIENCE && !live.is_empty() {
                    self.missing = self.missing.with(layer);
                    self.retry_at = Some(now + RETRY);
                }
            }
            _ => self.awaited = Some((layer, now)),
        }
    }

    /// The rate of a rung.
    pub(crate) fn rate(&self, layer: Layer, temporal: usize) -> u32 {
        let index = usize::from(layer.0);
        let known = self.rates.get(index).and_then(|rates| rates.get(temporal)).copied().unwrap_or(0);
        if known > 0 { known } else { DEFAULT_RATES.get(index).copied().unwrap_or(u32::MAX) }
    }

    /// The layers to choose from: those that the subscriber wants and that arrive, and lower ones, which arrive
    /// once they are chosen. When none arrives, the lowest one.
    pub(crate) fn layers(&self, demand: &VideoDemand) -> LayerSet {
        let Some(wanted) = demand.wanted else { return LayerSet::NONE };
        let declared = demand.declared.union(demand.live);
        let up_to = |limit: Layer| {
            declared.iter().filter(|layer| *layer <= limit).fold(LayerSet::NONE, LayerSet::with)
        };
        let lowest = declared.iter().next().map_or(LayerSet::NONE, |layer| LayerSet::NONE.with(layer));
        let eligible = up_to(wanted);
        let eligible = if eligible.is_empty() { lowest } else { eligible };
        match eligible.iter().filter(|layer| demand.live.contains(*layer)).last() {
            Some(highest) => {
                let others = without(eligible, self.missing);
                others.iter().filter(|layer| *layer <= highest).fold(LayerSet::NONE, LayerSet::with)
            }
            None => eligible.iter().next().map_or(LayerSet::NONE, |layer| LayerSet::NONE.with(layer)),
        }
    }
}

fn without(set: LayerSet, others: LayerSet) -> LayerSet {
    LayerSet(set.0 & !others.0)
}
