//! What a subscriber's `UpdateTrackSettings` asks for.

use livekit_protocol::{TrackInfo, UpdateTrackSettings, VideoLayer, VideoQuality};
use systir_media_control::TrackDemand;
use systir_rtp::packet::Layer;

/// A layer of at least this part of the window's height is good enough.
const TOLERANCE: f32 = 0.9;

/// What the settings ask for.
pub(super) fn demand(settings: &UpdateTrackSettings, track: &TrackInfo) -> TrackDemand {
    TrackDemand {
        layer: highest_layer(settings, track),
        pixels: settings.width.saturating_mul(settings.height),
        priority: settings.priority,
    }
}

/// The highest layer wanted; `None` pauses the track.
fn highest_layer(settings: &UpdateTrackSettings, track: &TrackInfo) -> Option<Layer> {
    if settings.disabled {
        return None;
    }
    if settings.width > 0 && settings.height > 0 {
        return Some(layer_for_dimensions(settings.width, settings.height, track));
    }
    layer_for_quality(settings.quality)
}

/// The layer of a `VideoQuality`: `None` for `OFF`, the highest for an unknown value.
#[must_use]
pub fn layer_for_quality(quality: i32) -> Option<Layer> {
    match VideoQuality::try_from(quality) {
        Ok(VideoQuality::Low) => Some(Layer(0)),
        Ok(VideoQuality::Medium) => Some(Layer(1)),
        Ok(VideoQuality::High) | Err(_) => Some(Layer(2)),
        Ok(VideoQuality::Off) => None,
    }
}

/// The smallest layer that fills a window of this size, in pixels.
#[must_use]
#[allow(deprecated)]
pub fn layer_for_dimensions(width: u32, height: u32, track: &TrackInfo) -> Layer {
    if track.height == 0 {
        return Layer(2);
    }
    let heights_of = |layers: &[VideoLayer]| -> Vec<u32> {
        layers.iter().map(|layer| layer.height).filter(|height| *height > 0).collect()
    };
    let mut layers = track.layers.as_slice();
    if heights_of(layers).is_empty() {
        layers = track.codecs.first().map(|codec| codec.layers.as_slice()).unwrap_or_default();
    }
    let heights = heights_of(layers);
    let portrait = track.width < track.height;
    let (mut sizes, wanted) = if heights.is_empty() {
        // Clients that do not name their layers use LiveKit's default ones.
        let full = if portrait { track.width } else { track.height };
        (vec![180, 360, full], if portrait { width } else { height })
    } else {
        (heights, height)
    };
    sizes.sort_unstable();
    let wanted = (wanted as f32 * TOLERANCE) as u32;
    let fits =
        sizes.iter().zip(sizes.iter().skip(1)).position(|(size, next)| *size >= wanted && size != next);
    let index = fits.unwrap_or(sizes.len().saturating_sub(1)).min(Layer::MAX - 1);
    // A publisher may omit a layer, and use the lowest and the highest, for example.
    let named = layers.iter().filter(|layer| !layer.rid.is_empty());
    let named =
        named.filter(|layer| sizes.get(index) == Some(&layer.height)).map(|layer| layer.spatial_layer);
    let spatial = named
        .max()
        .and_then(|spatial| u8::try_from(spatial).ok())
        .filter(|spatial| usize::from(*spatial) < Layer::MAX);
    Layer(spatial.unwrap_or(u8::try_from(index).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(deprecated)]
    fn track(heights: &[u32]) -> TrackInfo {
        let layers =
            heights.iter().map(|height| VideoLayer { height: *height, ..Default::default() }).collect();
        TrackInfo { width: 1280, height: 720, layers, ..Default::default() }
    }

    #[test]
    fn window_gets_the_smallest_layer_that_fills_it() {
        let three = track(&[180, 360, 720]);
        for (height, layer) in [(90, 0), (180, 0), (201, 0), (202, 1), (360, 1), (500, 2), (1080, 2)] {
            assert_eq!(layer_for_dimensions(height * 16 / 9, height, &three), Layer(layer), "{height}");
        }
        assert_eq!(layer_for_dimensions(320, 180, &track(&[])), Layer(0));
        assert_eq!(layer_for_dimensions(320, 180, &TrackInfo::default()), Layer(2));
        assert_eq!(layer_for_dimensions(u32::MAX, u32::MAX, &track(&[720])), Layer(0));
    }

    #[test]
    #[allow(deprecated)]
    fn layer_that_a_publisher_omits_is_never_chosen() {
        let mut info = track(&[180, 720]);
        for (layer, (rid, spatial)) in info.layers.iter_mut().zip([("q", 0), ("f", 2)]) {
            (layer.rid, layer.spatial_layer) = (rid.to_owned(), spatial);
        }
        assert_eq!(layer_for_dimensions(320, 180, &info), Layer(0));
        assert_eq!(layer_for_dimensions(640, 360, &info), Layer(2));
    }

    #[test]
    fn disabled_track_is_paused_whatever_the_quality() {
        let settings = UpdateTrackSettings { disabled: true, quality: 2, ..Default::default() };
        assert_eq!(demand(&settings, &track(&[])).layer, None);
        let settings = UpdateTrackSettings { quality: 1, ..Default::default() };
        assert_eq!(demand(&settings, &track(&[])).layer, Some(Layer(1)));
    }

    #[test]
    fn size_frame_rate_and_priority_are_passed_on() {
        let settings =
            UpdateTrackSettings { width: 640, height: 360, fps: 15, priority: 1, ..Default::default() };
        let asked = TrackDemand { layer: Some(Layer(1)), pixels: 230_400, priority: 1 };
        assert_eq!(demand(&settings, &track(&[180, 360, 720])), asked);
        let huge = UpdateTrackSettings { width: u32::MAX, height: u32::MAX, ..Default::default() };
        assert_eq!(demand(&huge, &track(&[])).pixels, u32::MAX);
    }
}
