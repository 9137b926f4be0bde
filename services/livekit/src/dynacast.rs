//! Dynacast: layers of published video that nobody wants are turned off at the client. LiveKit's browser client does so
//! if its option `dynacast` is on, its Go SDK always; other clients ignore the message.
//!
//! As in LiveKit, all layers up to the highest one that someone asked for are on, and none is if nobody did.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use systir_rtp::packet::{Layer, LayerSet};

/// A layer is turned off when nobody has wanted it for so long: a subscriber that hides a video often shows it again soon.
const PAUSE_DELAY: Duration = Duration::from_secs(5);

/// The same after the track was published: subscribers are still on their way.
const INITIAL_DELAY: Duration = Duration::from_secs(10);

/// A layer of a published track.
#[derive(Debug, Clone, Copy)]
struct LayerSwitch {
    /// Does the client send it, as far as it was told?
    on: bool,
    /// When it is turned off; none while it is wanted or off.
    off_at: Option<Instant>,
}

/// The layers of a published track. A client sends all until it is told otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dynacast {
    layers: [LayerSwitch; Layer::MAX],
}

impl Default for Dynacast {
    fn default() -> Self {
        Self { layers: [LayerSwitch { on: true, off_at: None }; Layer::MAX] }
    }
}

impl Dynacast {
    /// The track was published, and nobody wants it yet.
    pub(super) fn begin(&mut self, now: Instant) {
        for layer in self.layers.iter_mut().filter(|layer| layer.on) {
            layer.off_at = Some(now + INITIAL_DELAY);
        }
    }

    /// These layers of the declared ones are wanted. True when the client must be told.
    pub(super) fn wanted(&mut self, now: Instant, wanted: LayerSet, declared: LayerSet) -> bool {
        let highest = wanted.iter().last();
        // Clients without simulcast, or with two layers, name their highest one differently.
        let all = highest.is_some() && highest >= declared.iter().last();
        let mut changed = false;
        for (index, layer) in (0..).map(Layer).zip(&mut self.layers) {
            if all || highest.is_some_and(|highest| index <= highest) {
                layer.off_at = None;
                changed |= !std::mem::replace(&mut layer.on, true);
            } else if layer.on {
                layer.off_at.get_or_insert(now + PAUSE_DELAY);
            }
        }
        changed
    }

    /// When [`Dynacast::turn_off`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        // A layer is not turned off before the higher ones.
        self.layers.iter().rev().find(|layer| layer.on).and_then(|layer| layer.off_at)
    }

    /// Turns off what nobody has wanted for long enough. True when the client must be told.
    pub(super) fn turn_off(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for layer in self.layers.iter_mut().rev().filter(|layer| layer.on) {
            if layer.off_at.is_none_or(|at| at > now) {
                break;
            }
            *layer = LayerSwitch { on: false, off_at: None };
            changed = true;
        }
        changed
    }

    /// For each of LiveKit's qualities, low to high: is it on?
    pub(super) fn qualities(&self) -> Vec<proto::SubscribedQuality> {
        let layers = (0..).zip(&self.layers);
        layers.map(|(quality, layer)| proto::SubscribedQuality { quality, enabled: layer.on }).collect()
    }

    pub(super) fn is_all_on(&self) -> bool {
        self.layers.iter().all(|layer| layer.on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: LayerSet = LayerSet(0b111);

    fn layers(of: &[u8]) -> LayerSet {
        of.iter().copied().map(Layer).fold(LayerSet::NONE, LayerSet::with)
    }

    fn on(dynacast: &Dynacast) -> Vec<bool> {
        dynacast.layers.iter().map(|layer| layer.on).collect()
    }

    #[test]
    fn a_layer_goes_off_late_and_comes_back_at_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dynacast = Dynacast::default();
        dynacast.begin(start);
        assert!(!dynacast.wanted(at(1), layers(&[2]), ALL), "they are on");
        assert_eq!(dynacast.due(), None);
        dynacast.wanted(at(20), layers(&[1]), ALL);
        assert_eq!(dynacast.due(), Some(at(25)));
        assert!(!dynacast.turn_off(at(24)));
        assert!(dynacast.turn_off(at(25)));
        assert_eq!(on(&dynacast), [true, true, false]);
        assert!(dynacast.wanted(at(26), layers(&[2]), ALL));
        assert_eq!(on(&dynacast), [true; 3]);
    }

    #[test]
    fn a_layer_that_is_wanted_again_within_the_delay_stays_on() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dynacast = Dynacast::default();
        dynacast.wanted(at(0), layers(&[2]), ALL);
        for seconds in (10..60).step_by(10) {
            dynacast.wanted(at(seconds), layers(&[0]), ALL);
            assert!(!dynacast.turn_off(at(seconds + 4)));
            assert!(!dynacast.wanted(at(seconds + 4), layers(&[2]), ALL));
            assert_eq!(dynacast.due(), None);
        }
    }

    #[test]
    fn without_subscribers_all_go_off_after_a_longer_delay_at_first() {
        let start = Instant::now();
        let mut dynacast = Dynacast::default();
        dynacast.begin(start);
        assert_eq!(dynacast.due(), Some(start + INITIAL_DELAY));
        // A subscriber that comes and goes.
        dynacast.wanted(start, layers(&[0]), ALL);
        dynacast.wanted(start, LayerSet::NONE, ALL);
        assert!(!dynacast.turn_off(start + PAUSE_DELAY), "no lower layer before the higher ones");
        assert!(dynacast.turn_off(start + INITIAL_DELAY));
        assert_eq!(on(&dynacast), [false; 3]);
        assert_eq!(dynacast.due(), None);
    }

    #[test]
    fn the_highest_declared_layer_is_every_quality() {
        let start = Instant::now();
        let mut dynacast = Dynacast::default();
        dynacast.begin(start);
        dynacast.wanted(start, layers(&[0]), layers(&[0]));
        assert_eq!(dynacast.due(), None, "a track without simulcast");
        dynacast.wanted(start, layers(&[1]), layers(&[0, 1]));
        assert_eq!(dynacast.due(), None);
        dynacast.wanted(start, layers(&[0]), layers(&[0, 1]));
        assert_eq!(dynacast.due(), Some(start + PAUSE_DELAY));
    }
}
