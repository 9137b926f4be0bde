//! The forwarding core, sans-IO: normalised packets come in, each subscriber's and each
//! downstream's packets go out. It knows codecs, layers, sequence numbers and key frames; it
//! knows nothing of sockets, clocks, SDP, encryption, rooms or people.

pub mod batch;
pub mod packet;
pub mod rtp;

mod core;
pub use self::core::{Core, SubscriptionId, TrackId};

mod egress;
pub use egress::{Egress, Forward};

mod speaker;
pub use speaker::Speaker;

mod stats;
pub use stats::{LayerStats, SenderInfo, SubscriptionStats, TrackStats};
