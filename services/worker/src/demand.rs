//! The layers that subscribers ask for of a track.

use systir_rtp::packet::{Layer, LayerSet};

/// The layers that the downtracks of a track ask for.
#[derive(Debug, Default)]
pub(super) struct DemandedLayers {
    /// Downtracks by the highest layer that they ask for.
    downtracks: [u32; Layer::MAX],
    /// What the room was last told.
    pub(super) told: LayerSet,
    /// Is the track in the list of those to check?
    pub(super) queued: bool,
}

impl DemandedLayers {
    pub(super) fn change(&mut self, before: Option<Layer>, now: Option<Layer>) {
        if let Some(count) = before.and_then(|layer| self.downtracks.get_mut(usize::from(layer.0))) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = now.and_then(|layer| self.downtracks.get_mut(usize::from(layer.0))) {
            *count += 1;
        }
    }

    pub(super) fn layers(&self) -> LayerSet {
        let demanded = (0..).map(Layer).zip(self.downtracks).filter(|(_, count)| *count > 0);
        demanded.fold(LayerSet::NONE, |set, (layer, _)| set.with(layer))
    }
}

/// The layer to send for the highest one that was asked for: the highest declared one up to it, else the lowest.
pub(super) fn declared_layer(asked: Layer, declared: LayerSet) -> Option<Layer> {
    declared.iter().filter(|layer| *layer <= asked).last().or_else(|| declared.iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_demanded_while_a_downtrack_asks_for_it() {
        let mut demanded = DemandedLayers::default();
        demanded.change(None, Some(Layer(2)));
        demanded.change(None, Some(Layer(2)));
        demanded.change(None, Some(Layer(0)));
        assert_eq!(demanded.layers(), LayerSet(0b101));
        demanded.change(Some(Layer(2)), Some(Layer(1)));
        assert_eq!(demanded.layers(), LayerSet(0b111));
        demanded.change(Some(Layer(2)), None);
        assert_eq!(demanded.layers(), LayerSet(0b011));
    }

    #[test]
    fn the_nearest_declared_layer_is_demanded() {
        assert_eq!(declared_layer(Layer(2), LayerSet(0b001)), Some(Layer(0)));
        assert_eq!(declared_layer(Layer(1), LayerSet(0b101)), Some(Layer(0)));
        assert_eq!(declared_layer(Layer(0), LayerSet(0b100)), Some(Layer(2)));
        assert_eq!(declared_layer(Layer(0), LayerSet::NONE), None);
    }
}
