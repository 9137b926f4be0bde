//! The rungs of one track, lowest first, and what each costs.

use systir_rtp::packet::Layer;

use crate::demand::{Rung, TEMPORAL, VideoDemand, VideoSource};
use crate::track_state::TrackState;

const MAX_RUNGS: usize = Layer::MAX * TEMPORAL;

/// A rung that costs less than this much more than the one below is not worth one of its own: the temporal layers
/// are not used, or hold nothing now. Percent.
const WORTH: u64 = 110;

/// The rungs of a track. Each is higher and costs more than the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ladder {
    rungs: [(Rung, u32); MAX_RUNGS],
    len: usize,
}

impl Ladder {
    /// The rungs that a track may get; none if it is disabled or has no layer.
    pub(crate) fn new<K>(state: &TrackState<K>, demand: &VideoDemand) -> Self {
        let none = (Rung { layer: Layer(0), temporal: 0 }, 0);
        let mut ladder = Self { rungs: [none; MAX_RUNGS], len: 0 };
        let layers = state.layers(demand);
        for layer in layers.iter() {
            let is_lowest = layers.iter().next() == Some(layer);
            let from = ladder.len;
            for temporal in 0..TEMPORAL {
                let rung = Rung { layer, temporal: temporal as u8 };
                ladder.push_temporal(from, rung, state.rate(layer, temporal));
            }
            // A camera with some of its frames looks worse than the layer below with all of them.
            if demand.source == VideoSource::Camera && !is_lowest && ladder.len - from > 1 {
                ladder.rungs.copy_within(ladder.len - 1..ladder.len, from);
                ladder.len = from + 1;
            }
        }
        ladder.drop_dear();
        ladder
    }

    fn push_temporal(&mut self, from: usize, rung: Rung, cost: u32) {
        let last = (self.len > from).then(|| self.len - 1).and_then(|last| self.rungs.get_mut(last));
        match last {
            Some(last) if u64::from(cost) * 100 < u64::from(last.1) * WORTH => {
                *last = (rung, cost.max(last.1));
            }
            _ => {
                if let Some(slot) = self.rungs.get_mut(self.len) {
                    *slot = (rung, cost);
                    self.len += 1;
                }
            }
        }
    }

    /// Removes rungs that cost as much as a higher one.
    fn drop_dear(&mut self) {
        let mut kept = 0;
        for index in 0..self.len {
            let Some(one) = self.rungs.get(index).copied() else { continue };
            let dear = self.rungs.iter().take(self.len).skip(index + 1).any(|higher| higher.1 <= one.1);
            if !dear && let Some(slot) = self.rungs.get_mut(kept) {
                *slot = one;
                kept += 1;
            }
        }
        self.len = kept;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Index of the highest rung.
    pub(crate) fn top(&self) -> usize {
        self.len.saturating_sub(1)
    }

    pub(crate) fn get(&self, index: usize) -> Option<Rung> {
        self.rungs.iter().take(self.len).nth(index).map(|(rung, _)| *rung)
    }

    /// Cost of a rung; 0 above the highest one.
    pub(crate) fn cost(&self, index: usize) -> u64 {
        self.rungs.iter().take(self.len).nth(index).map_or(0, |(_, cost)| u64::from(*cost))
    }

    /// The rung for what was allocated before: in the same layer the one that includes its temporal layers, else the
    /// highest one below, else the lowest one.
    pub(crate) fn position(&self, before: Rung) -> usize {
        let rungs = || self.rungs.iter().take(self.len).map(|(rung, _)| *rung);
        let same = rungs().position(|rung| rung.layer == before.layer && rung.temporal >= before.temporal);
        same.or_else(|| rungs().filter(|rung| *rung <= before).count().checked_sub(1)).unwrap_or(0)
    }
}
