//! Counters of the core.

use systir_rtp::packet::{Layer, LayerSet};

/// Content of an RTCP sender report to a subscriber (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The requested instant on the publisher's NTP clock, 32.32 fixed point.
    pub ntp: u64,
    /// The same instant in the subscriber's RTP timestamps.
    pub timestamp: u32,
    /// Packets sent so far, without retransmissions; wraps.
    pub packets: u32,
    /// Payload octets sent so far, without retransmissions; wraps.
    pub octets: u32,
}

/// What was sent to one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionStats {
    /// Packets, without retransmissions.
    pub packets: u64,
    /// Their payload octets.
    pub octets: u64,
    /// Packets retransmitted after a NACK.
    pub retransmitted_packets: u64,
    /// Their payload octets.
    pub retransmitted_octets: u64,
    /// Packets that were queued for so long that the cache does not have them any more.
    pub expired: u64,
    /// The requested layer; none while paused.
    pub target: Option<Layer>,
    /// The layer that is sent; none before the first key frame and while paused.
    pub current: Option<Layer>,
    /// How often a layer started.
    pub switches: u64,
}

/// What arrived of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerStats {
    /// Packets, without duplicates.
    pub packets: u64,
    /// Their payload octets.
    pub octets: u64,
    /// Packets that were duplicates or too late to be used.
    pub duplicates: u64,
    /// Sequence numbers that were skipped; some of their packets may have arrived later.
    pub missing: u64,
    /// Packets with a malformed payload descriptor.
    pub malformed: u64,
    /// Key frames.
    pub key_frames: u64,
}

/// What arrived of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrackStats {
    /// Per layer, lowest first.
    pub layers: [LayerStats; Layer::MAX],
    /// Layers that currently arrive.
    pub live: LayerSet,
    /// Local subscriptions.
    pub subscriptions: usize,
    /// Downstreams, counted once per layer.
    pub feeds: usize,
}
