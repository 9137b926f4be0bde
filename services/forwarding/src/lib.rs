//! The forwarding core, sans-IO: normalised packets come in, each subscriber's and each
//! downstream's packets go out. It knows codecs, layers, sequence numbers and key frames; it
//! knows nothing of sockets, clocks, SDP, encryption, rooms or people.
//!
//! [`Core`] holds it all; what it sends goes to an [`Egress`]. A packet that arrives
//! ([`Core::ingest`]) is counted, cached and read as far as its descriptor ([`codec`]), then copied to
//! each downstream as it is and to each subscriber in that subscriber's own numbering. Requests for
//! key frames and lost packets are merged and go to the source of the track.

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod batch;
pub mod codec;

mod core;
pub use self::core::Core;

mod id;
pub use id::{SubscriptionId, TrackId};

mod egress;
pub use egress::{Egress, Forward};

mod loudness;
pub use loudness::TrackLoudness;

mod stats;
pub use stats::{LayerStats, SenderInfo, SubscriptionStats, TrackStats};

mod cache;
mod nack;
mod notifier;
pub use notifier::ThreadNotifier;
mod request;
mod rewrite;
mod rtp_clock;
mod select;
mod slots;
mod source;
mod subscription;
mod throttle;
mod timers;
mod track;
