//! Counters of the core, as plain copies.

use systir_rtp::packet::{Layer, LayerSet};

/// What an RTCP sender report to a subscriber says (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The instant asked for, on the publisher's NTP clock, 32.32 fixed point.
    pub ntp: u64,
    /// The same instant in the subscriber's RTP timestamps.
    pub timestamp: u32,
    /// Packets sent so far, without retransmissions; wraps.
    pub packets: u32,
    /// Payload octets sent so far, without retransmissions; wraps.
    pub octets: u32,
}

/// What one subscriber was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionStats {
    /// Packets sent, without retransmissions.
    pub packets: u64,
    /// Their payload octets.
    pub octets: u64,
    /// Packets sent again after a NACK.
    pub retransmitted_packets: u64,
    /// Their payload octets.
    pub retransmitted_octets: u64,
    /// The layer that was asked for; none while paused.
    pub target: Option<Layer>,
    /// The layer that is being sent; none until the first key frame and while paused.
    pub current: Option<Layer>,
    /// How often another layer than before began.
    pub switches: u64,
}

/// What arrived of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerStats {
    /// Packets, without duplicates.
    pub packets: u64,
    /// Their payload octets.
    pub octets: u64,
    /// Packets that were already there, or that came too late to be of use.
    pub duplicates: u64,
    /// Numbers that were skipped at first (some of them may have come later).
    pub missing: u64,
    /// Packets whose payload descriptor could not be read.
    pub malformed: u64,
    /// Key frames.
    pub key_frames: u64,
}

/// What arrived of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrackStats {
    /// Per layer, lowest first.
    pub layers: [LayerStats; Layer::MAX],
    /// Layers that arrive now.
    pub live: LayerSet,
    /// Local subscriptions.
    pub subscriptions: usize,
    /// Downstreams, counted once per layer.
    pub feeds: usize,
}
