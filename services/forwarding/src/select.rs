//! Selection of the layer that a subscriber receives, by the layers that arrive.
//!
//! Congestion control comes before this: the worker calls `Core::set_target` with the lower of the
//! layer that the subscriber requested and the one that fits (or with none to pause).

use crate::source::LayerState;
use systir_rtp::packet::{Layer, LayerSet};

/// The layers that may be sent for a target: those up to it, or the lowest one when all are higher.
pub(crate) fn eligible(target: u8, declared: LayerSet) -> LayerSet {
    let mut set = LayerSet::NONE;
    for layer in declared.iter().filter(|layer| layer.0 <= target) {
        set = set.with(layer);
    }
    if set.is_empty() { declared.iter().next().map_or(set, |lowest| set.with(lowest)) } else { set }
}

/// The layer to send: the highest eligible one that arrives. While none arrives: the current one, because it
/// may continue without a key frame; else the highest that may still arrive.
pub(crate) fn select(
    target: u8,
    declared: LayerSet,
    state_of: impl Fn(u8) -> LayerState,
    current: Option<u8>,
) -> Option<u8> {
    let eligible = eligible(target, declared);
    let highest = |fits: &dyn Fn(LayerState) -> bool| {
        eligible.iter().map(|layer| layer.0).filter(|layer| fits(state_of(*layer))).last()
    };
    highest(&|state| state == LayerState::Live)
        .or(current.filter(|current| eligible.contains(Layer(*current))))
        .or_else(|| highest(&|state| state != LayerState::Ended))
        .or_else(|| highest(&|_| true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use LayerState::{Awaited, Ended, Live};

    fn choose(target: u8, states: [LayerState; 3], current: Option<u8>) -> Option<u8> {
        select(target, LayerSet(0b111), |layer| states[usize::from(layer)], current)
    }

    #[test]
    fn the_highest_live_layer_up_to_the_target_is_selected() {
        assert_eq!(choose(2, [Live, Live, Live], Some(0)), Some(2));
        assert_eq!(choose(1, [Live, Live, Live], Some(2)), Some(1));
        assert_eq!(choose(2, [Live, Live, Ended], Some(2)), Some(1));
        assert_eq!(choose(2, [Live, Awaited(None), Awaited(None)], None), Some(0));
    }

    #[test]
    fn the_current_layer_stays_while_no_layer_arrives() {
        assert_eq!(choose(2, [Ended, Ended, Ended], Some(1)), Some(1));
        assert_eq!(choose(2, [Ended, Awaited(None), Ended], None), Some(1));
        assert_eq!(choose(2, [Ended, Ended, Ended], None), Some(2));
    }

    #[test]
    fn a_target_outside_the_declared_layers_selects_the_nearest_one() {
        assert_eq!(select(2, LayerSet(0b001), |_| Awaited(None), None), Some(0));
        assert_eq!(select(0, LayerSet(0b100), |_| Live, None), Some(2));
        assert_eq!(select(0, LayerSet::NONE, |_| Live, None), None);
    }
}
