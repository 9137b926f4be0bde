//! What a subscriber asks for of a track.

use systir_rtp::packet::Layer;

/// What a subscriber asks for of a track, whatever its bandwidth allows (LiveKit's `UpdateTrackSettings`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackDemand {
    /// The highest layer; none while the subscriber has disabled the track.
    pub layer: Option<Layer>,
    /// Pixels at which the track is shown; 0 if unknown.
    pub pixels: u32,
    /// Which tracks get bandwidth first: 1, then 2, and so on; 0, the last, says nothing.
    pub priority: u32,
}

impl TrackDemand {
    /// What is sent to a subscriber that has not asked for anything.
    pub const HIGHEST: Self = Self { layer: Some(Layer(Layer::MAX as u8 - 1)), pixels: 0, priority: 0 };
}
