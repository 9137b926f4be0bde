//! The forwarding core of an SFU, without I/O: it takes the packets of tracks and sends each subscriber's
//! copy. It handles codecs, simulcast layers, sequence numbers, NACK and key frames. It knows no sockets,
//! no clock (time is an argument), no SDP, no encryption, no rooms and no participants.
//!
//! - [`Core`]: tracks, subscriptions and feeds. A packet that arrives ([`Core::ingest`]) is counted, cached
//!   and parsed up to its payload descriptor ([`codec`]). Each downstream node receives one copy with the
//!   publisher's sequence numbers and timestamps at once. For each subscriber the packet is queued, by its number
//!   only; [`Core::pull`] writes the next one with the subscriber's own continuous numbers, when the subscriber's
//!   connection may send.
//! - [`Egress`]: what the core sends with. Requests of many subscribers for one key frame or one missing
//!   packet become one request to the source of the track.
//! - [`batch`]: packets passed between threads; [`ThreadNotifier`] wakes the receiving thread.
//!
//! `examples/one_to_two.rs` forwards one publisher to two subscribers.

// Tests read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod batch;
mod byte_ring;
mod cache;
pub mod codec;
mod core;
mod egress;
mod frame;
mod id;
mod loudness;
mod nack;
mod notifier;
mod pending;
mod rate;
mod request;
mod rewrite;
mod rtp_clock;
mod select;
mod slots;
mod source;
mod stats;
mod subscription;
mod temporal;
mod throttle;
mod timers;
mod track;

pub use self::core::Core;
pub use egress::{Egress, Forward};
pub use frame::MAX_PADDING;
pub use id::{SubscriptionId, TrackId};
pub use loudness::TrackLoudness;
pub use notifier::ThreadNotifier;
pub use rate::{PACKET_OVERHEAD, TEMPORAL_LAYERS};
pub use stats::{LayerStats, SenderInfo, SubscriptionStats, TrackStats};

// The example runs as a unit test. It names this crate as any other program does.
#[cfg(test)]
extern crate self as systir_forwarding;
#[cfg(test)]
#[path = "../examples/one_to_two.rs"]
mod example;
