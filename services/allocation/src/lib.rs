//! Divides the bandwidth of one subscriber's connection among its video tracks: which layer and how many
//! temporal layers of each, or none. It decides only: it has no I/O and no clock, does not estimate bandwidth,
//! and neither sees nor sends packets. Audio is not its business: it is subtracted before.
//!
//! [`Allocator::allocate`] gets the budget and a [`VideoDemand`] for each track, and returns a [`Rung`] for each:
//! what to send, or none while the track is paused.
//!
//! # Rules
//! * Every track gets its lowest rung before one is raised. If not all lowest rungs fit, the least important
//!   tracks are paused. No track that is less important than a paused one is sent above its lowest rung.
//! * More important are: a screen share than a camera, then by [`Importance`], then by the size at which the
//!   track is shown. Of equal tracks none is raised by two rungs before all were raised by one.
//! * Raised is one track per call, the most important one first. If its next rung does not fit, what is left is
//!   kept for it, and less important tracks give way to it.
//! * A screen share keeps its layer and loses temporal layers first: readable rather than fluent. A camera keeps its
//!   frame rate and goes to a lower layer; only of the lowest one it loses temporal layers.
//! * Down at once, up with room only: see [`KEEP_PERCENT`] and [`ROOM_PERCENT`]. If the budget drops soon after a
//!   track was raised, the next one waits, longer each time.
//! * Once the budget was too small, it is not believed: before a track is raised, padding is sent in the place of the
//!   higher layer ([`Outcome::trial`]). A raise that the path does not carry costs padding then, not the picture.
//!
//! # Example
//!
//! ```
//! use std::time::Instant;
//! use systir_allocation::{Allocator, VideoDemand, Importance, LayerRates, VideoSource};
//! use systir_rtp::packet::{Layer, LayerSet};
//!
//! let all = LayerSet(0b111);
//! let camera = VideoDemand {
//!     source: VideoSource::Camera,
//!     wanted: Some(Layer(2)),
//!     shown_pixels: 1280 * 720,
//!     importance: Importance::Ordinary,
//!     rates: LayerRates([[150_000; 4], [500_000; 4], [1_700_000; 4]]),
//!     declared: all,
//!     live: all,
//!     current: None,
//! };
//! let (mut allocator, mut out) = (Allocator::new(), Vec::new());
//! let now = Instant::now();
//! for _ in 0..3 {
//!     allocator.allocate(now, 700_000, &[(1, camera)], &mut out);
//! }
//! assert_eq!(out[0].1.map(|rung| rung.layer), Some(Layer(1)));
//! // Little is left for video: it is paused, and audio goes on.
//! allocator.allocate(now, 64_000, &[(1, camera)], &mut out);
//! assert_eq!(out[0].1, None);
//! ```

// Tests read the clock for a start time.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod allocator;
mod demand;
mod ladder;
mod track_state;

pub use allocator::{Allocator, FLOOR, KEEP_PERCENT, Outcome, ROOM_PERCENT};
pub use demand::{Importance, LayerRates, Rung, VideoDemand, VideoSource};
