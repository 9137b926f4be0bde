//! What is known of a video track of a subscriber, and what it may get.

use std::cmp::Ordering;

use systir_rtp::packet::{Layer, LayerSet};

/// Number of temporal layers that rates are measured for.
pub(crate) const TEMPORAL: usize = 4;

/// What a video track shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoSource {
    /// A camera, or anything else that moves.
    Camera,
    /// A screen.
    ScreenShare,
}

/// How much a track matters to the subscriber, beyond its source and the size at which it is shown. The least is
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Importance {
    /// No reason to prefer it.
    Ordinary,
    /// Its participant speaks.
    Speaking,
    /// The subscriber asked for it first. A higher number goes before a lower one.
    Pinned(u32),
}

/// Rates of a track, bits per second: by layer, then by highest temporal layer sent. A rate includes the temporal
/// layers below. A stream without temporal layers has one rate four times. 0: not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerRates(pub [[u32; TEMPORAL]; Layer::MAX]);

/// What is sent of a track: a layer, up to a temporal layer. Higher layers are greater, then higher temporal layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rung {
    /// The layer.
    pub layer: Layer,
    /// Its highest temporal layer that is sent: 3 for all.
    pub temporal: u8,
}

impl Rung {
    /// All of a layer.
    #[must_use]
    pub fn all_of(layer: Layer) -> Self {
        Self { layer, temporal: TEMPORAL as u8 - 1 }
    }

    /// What to send of the layer `current` until a key frame of this rung's layer arrives: of a layer that is too
    /// high, only the lowest temporal layer, which takes effect at once. In the same layer, this rung.
    #[must_use]
    pub fn until_key_frame(self, current: Self) -> Self {
        match current.layer.cmp(&self.layer) {
            Ordering::Less => current,
            Ordering::Equal => self,
            Ordering::Greater => Self { temporal: 0, ..current },
        }
    }
}

/// A video track of the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoDemand {
    /// What it shows.
    pub source: VideoSource,
    /// The highest layer that the subscriber asked for; none if it disabled the track.
    pub wanted: Option<Layer>,
    /// Pixels at which it is shown; 0 if unknown.
    pub shown_pixels: u32,
    /// How much it matters.
    pub importance: Importance,
    /// Its measured rates.
    pub rates: LayerRates,
    /// The layers that it may have.
    pub declared: LayerSet,
    /// The layers that arrive.
    pub live: LayerSet,
    /// What is sent now. Read only when the allocator sees the track for the first time.
    pub current: Option<Rung>,
}
